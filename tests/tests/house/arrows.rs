//! The crates depend on each other in one direction.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::repository;

/// Which crates of the workspace each may depend on. Tests may depend on all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("windrow-common", &[]),
    ("windrow-identity", &[]),
    ("windrow-model", &["windrow-common"]),
    ("windrow-service", &["windrow-common"]),
    ("windrow-store", &["windrow-common"]),
    ("windrow-queue", &["windrow-common", "windrow-store"]),
    (
        "windrow-models",
        &["windrow-common", "windrow-model", "windrow-store"],
    ),
    (
        "windrow-producer",
        &[
            "windrow-common",
            "windrow-queue",
            "windrow-service",
            "windrow-store",
        ],
    ),
    (
        "windrow-worker",
        &[
            "windrow-common",
            "windrow-model",
            "windrow-models",
            "windrow-queue",
            "windrow-service",
            "windrow-store",
        ],
    ),
    (
        "windrow-eventhubs",
        &[
            "windrow-common",
            "windrow-identity",
            "windrow-producer",
            "windrow-queue",
            "windrow-service",
            "windrow-store",
        ],
    ),
    (
        "windrow-producer-service",
        &[
            "windrow-common",
            "windrow-eventhubs",
            "windrow-producer",
            "windrow-queue",
            "windrow-service",
            "windrow-store",
        ],
    ),
    (
        "windrow-scaler",
        &[
            "windrow-common",
            "windrow-identity",
            "windrow-queue",
            "windrow-service",
            "windrow-store",
        ],
    ),
    ("windrow-incidents", &["windrow-common"]),
    (
        "windrow-alerter",
        &[
            "windrow-common",
            "windrow-incidents",
            "windrow-service",
            "windrow-store",
        ],
    ),
    (
        "windrow-tuning",
        &["windrow-common", "windrow-incidents", "windrow-model"],
    ),
    (
        "windrow-grouper",
        &[
            "windrow-common",
            "windrow-model",
            "windrow-models",
            "windrow-queue",
            "windrow-service",
            "windrow-store",
        ],
    ),
    (
        "windrow",
        &[
            "windrow-alerter",
            "windrow-common",
            "windrow-eventhubs",
            "windrow-grouper",
            "windrow-incidents",
            "windrow-model",
            "windrow-models",
            "windrow-producer",
            "windrow-queue",
            "windrow-scaler",
            "windrow-service",
            "windrow-store",
            "windrow-tuning",
            "windrow-worker",
        ],
    ),
    ("windrow-test-hub", &[]),
];

/// Crates that drag a runtime or a client along.
const HEAVY: &[&str] = &[
    "tokio",
    "lapin",
    "object_store",
    "axum",
    "reqwest",
    "clap",
    "parquet",
];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(repository("."))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Dependencies of the programs and libraries among the workspace's crates; those of tests are left out.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let dependencies = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap();
        let real = all.iter().filter(|dependency| dependency["kind"].is_null());
        real.map(name).filter(|name| ours.contains(name)).collect()
    };
    packages
        .iter()
        .map(|package| (name(package), dependencies(package)))
        .collect()
}

/// The names of all crates that are compiled for a package.
fn compiled(package: &str, more: &[&str]) -> Vec<String> {
    let words = ["tree", "--package", package, "--edges", "normal,build"];
    let format = ["--prefix", "none", "--format", "{p}"];
    let tree = cargo(&[&words[..], &format, more].concat());
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

#[test]
fn no_arrow_climbs() {
    let mut arrows = arrows();
    for for_tests in ["windrow-tests", "windrow-examples", "windrow-fuzz"] {
        assert!(arrows.remove(for_tests).is_some(), "{for_tests} is missing");
    }
    for (from, allowed) in ALLOWED {
        let to = arrows
            .remove(*from)
            .unwrap_or_else(|| panic!("{from} is missing"));
        for to in &to {
            assert!(
                allowed.contains(&to.as_str()),
                "{from} depends on {to}: that arrow climbs; move the code, or argue for the arrow in ARCHITECTURE.md and \
                 add it here"
            );
        }
    }
    assert!(arrows.is_empty(), "crates without a place: {:?}", arrows.keys());
}

#[test]
fn what_is_pure_compiles_no_runtime_and_no_client() {
    for package in [
        "windrow-common",
        "windrow-model",
        "windrow-incidents",
        "windrow-tuning",
    ] {
        for name in compiled(package, &[]) {
            assert!(!HEAVY.contains(&&*name), "{package} compiles {name}");
        }
    }
}

#[test]
fn the_demo_compiles_no_client_of_a_broker_or_a_cloud() {
    for name in compiled("windrow", &["--no-default-features"]) {
        let clients = ["reqwest", "azure_core", "azure_identity", "lapin", "fe2o3-amqp"];
        assert!(
            !clients.contains(&&*name),
            "`make demo` compiles {name}: put it behind a feature"
        );
    }
}
