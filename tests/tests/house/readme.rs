//! README's own commands, typed literally.

use std::process::Command;

use windrow_tests::{block, built, fleet, write_csv};

#[test]
fn your_own_data_in_five_commands() {
    let commands = block("README.md", "your own data");
    let folder = tempfile::tempdir().unwrap();
    for (name, seconds) in [("history", 7_200), ("readings", 7_200)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        write_csv(&folder.path().join(name).join("day.csv"), &fleet(2, seconds, 60));
    }
    let programs = built("windrow").parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut output = String::new();
    for command in commands.iter().filter(|line| !line.trim().is_empty()) {
        let ran = Command::new("sh")
            .args(["-c", command])
            .current_dir(folder.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{command}: {error}");
        output += &String::from_utf8_lossy(&ran.stdout);
    }
    assert!(output.contains(" 0 lost"), "{output}");
}
