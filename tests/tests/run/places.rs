//! Names and folders that a file system does not take as they are.

use std::path::Path;
use std::process::Command;

use windrow_tests::{built, models_for, windrow};

use super::{audited, exported, text, to_the_end};

/// A device of 30 characters of three bytes: 270 bytes once percent-encoded, where file systems take 255.
fn long(end: char) -> String {
    "泵".repeat(29) + &end.to_string()
}

#[test]
fn devices_tags_and_files_of_long_names_are_trained_scored_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    // The file is named like a device, and names the source.
    let (source, store) = (
        folder.path().join(long('一') + ".csv"),
        folder.path().join("store"),
    );
    let devices = [long('一'), long('二'), "d0".to_owned()];
    let write = |devices: &[String]| {
        let mut rows = "ts,device,tag,value\n".to_owned();
        for second in 0..300 {
            for device in devices {
                rows += &format!(
                    "{},{device},{device},{}\n",
                    1_767_571_200 + second,
                    20 + second % 7
                );
            }
        }
        std::fs::write(&source, rows).unwrap();
    };
    write(&devices[..1]);
    models_for(text(&source), text(&store));
    write(&devices[2..]);
    models_for(text(&source), text(&store));
    write(&devices);
    let counts = windrow(&to_the_end(text(&source), text(&store))).json();
    assert_eq!(
        (&counts["predictions"], &counts["dead_letters"]),
        (&10.into(), &5.into()),
        "the second device has no model: {counts}"
    );
    let audit = windrow(&["audit", "--store", text(&store)]).json();
    assert_eq!(
        (&audit["all"]["dead_lettered"], &audit["all"]["lost"]),
        (&5.into(), &0.into())
    );
    let encoded = |name: &str| windrow_common::encode_name(name);
    let named = &audit["sources"][encoded(&(long('一') + ".csv"))];
    assert_eq!(named["dispatched"], 900, "{audit}");

    // It continues where it was, and replays what got its model since.
    let again = windrow(&to_the_end(text(&source), text(&store))).json();
    assert_eq!(again["predictions"], 0, "{again}");
    models_for(text(&source), text(&store));
    let replay = ["dead-letters", "replay", "--store", text(&store)];
    assert_eq!(windrow(&replay).output(), "replayed 5: 5 scored, 0 dead again\n");
    assert_eq!(audited(text(&store))["predicted"], 15);
    let exported = exported(text(&store));
    let models = windrow(&["models", "list", "--store", text(&store)]).json();
    for device in &devices {
        assert!(exported.contains(device.as_str()), "{exported}");
        let name = format!("{}/{}", encoded(device), encoded(device));
        let of = models
            .as_array()
            .unwrap()
            .iter()
            .filter(|model| model["sensor"] == name);
        assert!(of.count() > 0, "{name}: {models}");
        windrow(&["models", "show", "--store", text(&store), &name]).json();
    }
}

/// Runs a program as on a file system that refuses these system calls; returns the exit code and what it said.
fn refused(calls: &[&str], program: &str, words: &[&str]) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/without_syscalls.py");
    let output = Command::new("python3")
        .arg(script)
        .args(calls)
        .arg("--")
        .arg(built(program))
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

#[test]
fn a_file_system_without_hard_links_or_locks_is_refused_in_one_sentence_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (source, store) = (folder.path().join("readings.csv"), folder.path().join("store"));
    windrow_tests::write_csv(&source, &windrow_tests::fleet(2, 300, 1));
    models_for(text(&source), text(&store));
    let run = to_the_end(text(&source), text(&store));
    let worker = ["--store", text(&store), "--amqp-url", "amqp://127.0.0.1:1"];
    let train = [
        "models",
        "train",
        "--source",
        text(&source),
        "--store",
        text(&store),
    ];
    let folder = format!(
        "the folder {} cannot be a store: ",
        store.canonicalize().unwrap().display()
    );
    for (calls, lacks) in [
        (
            ["link=EPERM"],
            "its file system has no hard links (Operation not permitted",
        ),
        (
            ["link=EOPNOTSUPP"],
            "its file system has no hard links (Operation not supported",
        ),
        (
            ["flock=ENOLCK"],
            "its file system cannot lock .windrow.lock (No locks available",
        ),
    ] {
        for (program, words) in [
            ("windrow", &run[..]),
            ("windrow", &train),
            ("windrow-worker", &worker),
        ] {
            let (code, said) = refused(&calls, program, words);
            let said: Vec<&str> = said.lines().filter(|line| !line.starts_with('{')).collect();
            assert_eq!(code, 2, "{program} {calls:?}: {said:?}");
            assert!(
                said.len() == 1 && said[0].contains(&folder) && said[0].contains(lacks),
                "{said:?}"
            );
            assert!(said[0].contains("or use a cloud store"), "{said:?}");
        }
    }
    // Reading needs neither.
    let (code, said) = refused(
        &["link=EPERM", "flock=ENOLCK"],
        "windrow",
        &["models", "list", "--store", text(&store)],
    );
    assert_eq!(code, 0, "{said}");
    let (code, said) = refused(&[], "windrow", &run);
    assert_eq!(code, 0, "{said}");
}
