//! docs/cli.md holds the `--help` of every program and command.

use std::fmt::Write;
use std::process::Command;

use windrow_tests::built;

use super::page_is;

const PROGRAMS: [&str; 7] = [
    "windrow",
    "windrow-producer",
    "windrow-worker",
    "windrow-scaler",
    "windrow-alerter",
    "windrow-grouper",
    "windrow-test-hub",
];

fn help(program: &str, command: &[&str]) -> String {
    let mut process = Command::new(built(program));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WINDROW_")) {
        process.env_remove(name);
    }
    // Without a terminal, the width is this.
    let output = process.args(command).arg("--help").env("COLUMNS", "110").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{program} {command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names below `Commands:` in a help text.
fn commands(help: &str) -> Vec<String> {
    let Some((_, commands)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn append(page: &mut String, program: &str, command: &[&str]) {
    let help = help(program, command);
    let title = [&[program], command].concat().join(" ");
    let level = if command.is_empty() { "##" } else { "###" };
    let text = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    write!(page, "\n{level} {title}\n\n```text\n{text}\n```\n").unwrap();
    for name in commands(&help) {
        append(page, program, &[command, &[&name]].concat());
    }
}

#[test]
fn every_option_is_on_the_page() {
    let mut page = "# Commands and options\n\nThe `--help` of every program. Written by `UPDATE_DOCS=1 cargo test --workspace \
                    --test house`, which otherwise\nchecks that this page is up to date.\n"
        .to_owned();
    for program in PROGRAMS {
        append(&mut page, program, &[]);
    }
    page_is("docs/cli.md", &page);
}
