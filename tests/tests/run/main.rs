//! `windrow run` as a person meets it: killed, fed in disorder, fed rubbish, and on the reference's own data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod dead_letters;
mod input;
mod order;
mod reference;

use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All predictions of a store, each once, as CSV.
fn exported(store: &str) -> String {
    windrow_tests::windrow(&["predictions", "export", "--store", store, "--format", "csv"]).output()
}

/// The audit of a store, which has to be clean.
fn audited(store: &str) -> serde_json::Value {
    windrow_tests::windrow(&["audit", "--store", store]).json()["all"].clone()
}
