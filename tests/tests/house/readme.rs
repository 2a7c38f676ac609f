//! Commands of the pages, typed literally: README's own, and those of docs/models.md.

use std::process::Command;

use windrow_tests::{block, built, fleet, write_csv};

/// Runs the commands of a page in a folder with `history/` and `readings/`, and returns what they print.
fn run(page: &str, name: &str) -> String {
    let commands = block(page, name);
    let folder = tempfile::tempdir().unwrap();
    for name in ["history", "readings"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        write_csv(&folder.path().join(name).join("day.csv"), &fleet(2, 7_200, 60));
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
    output
}

#[test]
fn your_own_data_in_five_commands() {
    let output = run("README.md", "your own data");
    assert!(output.contains(" 0 lost"), "{output}");
}

#[test]
fn models_from_training_to_rollback() {
    let output = run("docs/models.md", "models from training to rollback");
    for says in [
        "they are candidates",
        "of 120 scored windows",
        "(promote)",
        "rolled back: 1 sensor",
    ] {
        assert!(output.contains(says), "{says}: {output}");
    }
}
