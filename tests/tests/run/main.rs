//! Tests `windrow run`: killed, on readings out of order, on bad input, and on the reference architecture's own data. Also the
//! commands that need no store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backtest;
mod checkpoint;
mod counting;
mod crash;
mod dead_letters;
mod groups;
mod input;
mod labels;
mod mlflow;
mod models;
mod order;
mod places;
mod quarantine;
mod readings;
mod reference;
mod registry;
mod retrain;
mod scale;
mod shapes;
mod stop;
mod tune;

use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Returns the command that scores a source to its end.
fn to_the_end<'a>(source: &'a str, store: &'a str) -> [&'a str; 6] {
    ["run", "--source", source, "--store", store, "--until-caught-up"]
}

/// Returns all predictions of a store as CSV, one for each window.
fn exported(store: &str) -> String {
    windrow_tests::windrow(&["predictions", "export", "--store", store, "--format", "csv"]).output()
}

/// Runs the audit of a store, expects it to be clean and returns its totals.
fn audited(store: &str) -> serde_json::Value {
    windrow_tests::windrow(&["audit", "--store", store]).json()["all"].clone()
}
