//! What compose file, manifests and templates set is what programs read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::repository;

/// Where variables are set.
const PLACES: [&str; 3] = ["docker-compose.yml", "k8s", "azure"];
/// Read by the compose file itself: which images it runs.
const COMPOSES_OWN: &str = "WINDROW_IMAGE_TAG";

/// Adds the variables that the files below `path` name.
fn variables(path: &Path, found: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            variables(&entry.unwrap().path(), found);
        }
        return;
    }
    let is_settings = |ending: &std::ffi::OsStr| {
        ["yml", "yaml", "env", "service"]
            .iter()
            .any(|known| ending == *known)
    };
    if !path.extension().is_some_and(is_settings) {
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    for after in text.split("WINDROW_").skip(1) {
        let length = after
            .find(|letter: char| !letter.is_ascii_uppercase() && letter != '_')
            .unwrap_or(after.len());
        // Comments speak of WINDROW_* as well.
        if length > 0 {
            found.insert(format!("WINDROW_{}", &after[..length]));
        }
    }
}

#[test]
fn every_variable_that_is_set_belongs_to_an_option() {
    let mut found = BTreeSet::new();
    for place in PLACES {
        variables(&repository(place), &mut found);
    }
    assert!(found.len() > 25, "{found:?}");
    let page = std::fs::read_to_string(repository("docs/cli.md")).unwrap();
    let unknown: Vec<_> = found
        .iter()
        .filter(|variable| {
            ["=", "]"]
                .iter()
                .all(|end| !page.contains(&format!("[env: {variable}{end}")))
        })
        .filter(|variable| *variable != COMPOSES_OWN)
        .collect();
    assert!(unknown.is_empty(), "no program reads {unknown:?}");
}

/// An option as a program's `--help` shows it.
struct Shown<'a> {
    program: &'a str,
    value_name: &'a str,
    variable: &'a str,
    default: Option<&'a str>,
}

/// Returns the options of all programs with a value, from the page of their help texts.
fn shown(page: &str) -> Vec<Shown<'_>> {
    let (mut program, mut value_name) = ("", "");
    let mut options: Vec<Shown> = Vec::new();
    let mut is_of_option = false;
    for line in page.lines() {
        let text = line.trim();
        let follows_variable = std::mem::take(&mut is_of_option);
        if let Some(heading) = line.strip_prefix("### ").or_else(|| line.strip_prefix("## ")) {
            program = heading;
        } else if line.len() - text.len() <= 6 && (text.starts_with(['<', '-']) || text.starts_with("[<")) {
            value_name = text.split_once('<').map_or("", |(_, name)| name);
        } else if let Some(variable) = text.strip_prefix("[env: ") {
            options.push(Shown {
                program,
                value_name,
                variable: variable.split('=').next().unwrap(),
                default: None,
            });
            is_of_option = true;
        } else if let Some(default) = text.strip_prefix("[default: ")
            && follows_variable
        {
            options.last_mut().unwrap().default = Some(default);
        }
    }
    options.retain(|option| !option.value_name.is_empty());
    options
}

/// Programs share the variables of one file (`.env`, `/etc/windrow.env`), so a value that is right for one program must not be
/// wrong for another one.
#[test]
fn one_variable_means_one_thing() {
    let page = std::fs::read_to_string(repository("docs/cli.md")).unwrap();
    let options = shown(&page);
    assert!(options.len() > 500, "{}", options.len());
    for (at, option) in options.iter().enumerate() {
        for other in &options[..at] {
            if option.variable != other.variable {
                continue;
            }
            let (here, there) = (option.program, other.program);
            assert_eq!(
                option.value_name, other.value_name,
                "{} of {here} and {there}",
                option.variable
            );
            let is_service = |program: &str| program.starts_with("windrow-") && program != "windrow-test-hub";
            if is_service(here) && is_service(there) {
                assert_eq!(
                    option.default, other.default,
                    "{} of {here} and {there}",
                    option.variable
                );
            }
        }
    }
}

/// A log line in JSON has its text under `message`, so a field of that name would be there twice.
#[test]
fn no_field_of_a_log_line_is_named_message() {
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("target") || path.ends_with(".git") => {}
                true => sources(&path, found),
                false if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
                false => {}
            }
        }
    }
    let mut files = Vec::new();
    sources(&repository("."), &mut files);
    let mut lines = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for level in ["trace", "debug", "info", "warn", "error"] {
            for call in text.split(&format!("tracing::{level}!(")).skip(1) {
                let fields = call.split('"').next().unwrap();
                let is_named = fields.split([' ', '(', ',', '\n']).any(|word| word == "message");
                assert!(!is_named, "{}: {fields}", file.display());
                lines += 1;
            }
        }
    }
    assert!(lines > 100, "{lines}");
}

/// An image that lacks a package cannot be built, which only the long form of the container test would show.
#[test]
fn images_are_built_from_all_packages() {
    let manifest = std::fs::read_to_string(repository("Cargo.toml")).unwrap();
    let members = manifest
        .split_once("members = [")
        .unwrap()
        .1
        .split_once(']')
        .unwrap()
        .0;
    let copied = std::fs::read_to_string(repository(".dockerignore")).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        let folder = member.split('/').next().unwrap();
        assert!(
            copied.lines().any(|line| line == format!("!{folder}")),
            ".dockerignore keeps out {member}"
        );
    }
}
