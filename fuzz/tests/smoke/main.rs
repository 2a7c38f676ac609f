//! Every target, on a stable toolchain: its committed inputs, and changes to them for a few seconds.
//!
//! `FUZZ_SECONDS` sets how long, `FUZZ_SEED` where the changes begin. An input that shows a fault is written to
//! `target/fuzz/faults/`; `FUZZ_INPUT` runs one file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod mutate;
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use mutate::Mutator;
use windrow_fuzz::{TARGETS, Target};

/// How long the inputs of each target are changed.
const SECONDS: u64 = 5;
/// How often at most, unless `FUZZ_SECONDS` says how long: a faster machine tries nothing that a slower one has not.
const CHANGES: u64 = 1_000;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}

/// The committed inputs of a target, by file name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = repository("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Checks an input, and keeps it if it shows a fault.
fn check(target: &Target, bytes: &[u8]) {
    let Err(fault) = target.check(bytes) else {
        return;
    };
    let folder = repository("target/fuzz/faults");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{}-{:016x}", target.name, fingerprint(bytes)));
    fs::write(&path, bytes).unwrap();
    panic!(
        "{fault}\n{} shows it, with {} bytes; mend it and move the file to fuzz/corpus/{}/",
        path.display(),
        bytes.len(),
        target.name
    );
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn smoke(name: &str) {
    static QUIET: Once = Once::new();
    QUIET.call_once(windrow_fuzz::keep_quiet);
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    if let Some(input) = std::env::var_os("FUZZ_INPUT") {
        return check(target, &fs::read(input).unwrap());
    }
    let corpus: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
    assert!(!corpus.is_empty(), "{name} has no inputs");
    for bytes in &corpus {
        check(target, bytes);
    }
    let wanted = number("FUZZ_SECONDS");
    let seconds = Duration::from_secs(wanted.unwrap_or(SECONDS));
    let most = wanted.map_or(CHANGES, |_| u64::MAX);
    let mut mutator = Mutator::new(number("FUZZ_SEED").unwrap_or(1), &corpus);
    let (begun, mut tried) = (Instant::now(), 0_u64);
    while begun.elapsed() < seconds && tried < most {
        check(target, mutator.next());
        tried += 1;
    }
    println!("{name}: {} inputs, {tried} changes", corpus.len());
}

macro_rules! smokes {
    ($($name:ident)*) => {
        $(#[test] fn $name() { smoke(stringify!($name)); })*

        #[test]
        fn every_target_has_a_smoke_and_a_libfuzzer_binary() {
            let mut known = vec![$(stringify!($name)),*];
            let mut targets: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            let files = fs::read_dir(repository("fuzz/fuzz_targets")).unwrap();
            let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
            let mut binaries: Vec<_> = files.map(|file| stem(file.unwrap().path())).collect();
            known.sort_unstable();
            targets.sort_unstable();
            binaries.sort_unstable();
            assert_eq!(known, targets);
            assert_eq!(binaries, targets);
        }
    };
}

smokes!(
    csv ndjson wide shapes parquet avro routed hub_body scoring_message model_file pickle joblib skops onnx libsvm
    checkpoint amqp_headers dead_letter tables
);

#[test]
fn the_committed_inputs_are_small() {
    for target in TARGETS {
        for (path, bytes) in corpus(target.name) {
            assert!(
                bytes.len() <= 8 << 10,
                "{} has {} bytes",
                path.display(),
                bytes.len()
            );
        }
    }
}
