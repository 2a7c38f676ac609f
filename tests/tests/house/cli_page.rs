//! docs/cli.md holds the `--help` of every program and command.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;

use windrow_tests::built;

use super::{page_is, repository};

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

/// Every variable that the page names.
fn variables(page: &str) -> BTreeSet<&str> {
    let named = page.split("[env: ").skip(1);
    named.filter_map(|after| after.split(['=', ']']).next()).collect()
}

#[test]
fn a_variable_that_is_set_to_nothing_counts_as_not_set() {
    let page = std::fs::read_to_string(repository("docs/cli.md")).unwrap();
    let variables = variables(&page);
    assert!(variables.len() > 100, "{variables:?}");
    // Each ends at once, for want of an option.
    for words in [
        &["windrow", "incidents", "update"][..],
        &["windrow", "run"],
        &["windrow", "send"],
        &["windrow-producer"],
        &["windrow-worker"],
        &["windrow-scaler", "run"],
        &["windrow-alerter"],
        &["windrow-grouper"],
    ] {
        let end = |value: Option<&str>| {
            let mut process = Command::new(built(words[0]));
            process.args(&words[1..]);
            for variable in &variables {
                match value {
                    Some(value) => process.env(variable, value),
                    None => process.env_remove(variable),
                };
            }
            let output = process.output().unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stdout).unwrap(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        assert_eq!(end(Some("")), end(None), "{words:?}");
    }
}
