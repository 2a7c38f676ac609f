//! What keeps the house in order: dependencies that point one way, documents that say what the programs do, examples that
//! run. No test here needs a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arrows;
mod cli_page;
mod examples;
mod metrics_page;
mod readme;
mod scaling_page;
mod settings;

use std::path::{Path, PathBuf};

/// Returns the path of a file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(1)
        .unwrap()
        .join(path)
}

/// Checks that a page says what it should. With `UPDATE_DOCS=1` in the environment the page is written instead.
fn page_is(path: &str, expected: &str) {
    let file = repository(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let lines = found.lines().zip(expected.lines()).zip(1..);
    for ((found, expected), number) in lines {
        assert_eq!(found, expected, "{path}:{number} is out of date; {UPDATE}");
    }
    assert_eq!(found.len(), expected.len(), "{path} is out of date; {UPDATE}");
}

const UPDATE: &str = "UPDATE_DOCS=1 cargo test --workspace --test house writes it";
