//! Runs Microsoft's own client against these tests' ARM, so that the emulation does not only match Windrow's
//! expectations.

use std::path::Path;
use std::process::Command;

use windrow_tests::arm::{Arm, Mode, RESOURCE_GROUP, SCALE_SET, SUBSCRIPTION, Settings};

#[test]
fn microsofts_client_drives_the_same_arm() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../target/arm/bin/python");
    assert!(
        python.exists(),
        "azure-mgmt-compute is not installed: run `make target/arm/.installed`"
    );
    for (mode, name) in [(Mode::Uniform, "Uniform"), (Mode::Flexible, "Flexible")] {
        let arm = Arm::start(Settings {
            mode,
            capacity: 2,
            ..Settings::default()
        });
        arm.accept("static");
        let output = Command::new(&python)
            .arg(root.join("tests/vmss/cross_check.py"))
            .args([arm.url(), SUBSCRIPTION, RESOURCE_GROUP, SCALE_SET, name])
            .output()
            .unwrap();
        let (said, error) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success() && said.ends_with("agrees\n"),
            "{mode:?}: {said}{error}"
        );
        let left = arm.set(|set| set.instances().len());
        assert_eq!(left, 3, "{mode:?}");
    }
}
