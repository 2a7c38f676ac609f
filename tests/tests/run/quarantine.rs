//! What is set aside is seen, counted once, brought back exactly, and deleted only when someone says so.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use windrow_tests::{built, fleet, models_for, windrow, write_csv};

use super::{text, to_the_end};

/// Rows that are not usable: two are late, two have no time, one is no text, and one has no value.
const BAD: [&[u8]; 6] = [
    b"1767571200000,d0,temp,1",
    b"1767571330000,d1,temp,2",
    b"noon,d0,temp,1",
    b"evening,d0,temp,1",
    b" 1767571800000,\xff\xfe\x80,temp,1",
    b"1767571800000,d0,temp,NaN",
];

/// Scores two devices, then reads [`BAD`] in a second file, twice because nothing of it is usable. Returns the store and
/// what the last run wrote to standard error.
fn set_aside(folder: &Path) -> (String, String) {
    let (readings, store) = (folder.join("readings"), folder.join("store"));
    fs::create_dir(&readings).unwrap();
    write_csv(&readings.join("a.csv"), &fleet(2, 600, 6));
    models_for(text(&readings), text(&store));
    let run = [
        &to_the_end(text(&readings), text(&store))[..],
        &["--at-end", "dispatch"],
    ]
    .concat();
    windrow(&run).output();
    let rows = BAD.map(|row| [row, b"\n"].concat()).concat();
    fs::write(
        readings.join("b.csv"),
        [b"ts,device,tag,value\n", &rows[..]].concat(),
    )
    .unwrap();
    let mut said = String::new();
    for _ in 0..2 {
        let (code, _, error) = windrow(&run).end();
        assert_eq!(code, 2, "{error}");
        said = error;
    }
    (text(&store).to_owned(), said)
}

fn quarantine(store: &str, words: &[&str]) -> Value {
    windrow(&[&["quarantine", words[0], "--store", store][..], &words[1..]].concat()).json()
}

/// Returns how many readings `list` shows for each reason.
fn by_reason(store: &str) -> Value {
    let mut counts = json!({});
    for group in quarantine(store, &["list"])["groups"].as_array().unwrap() {
        let reason = group["reason"].as_str().unwrap();
        let before = counts[reason].as_u64().unwrap_or(0);
        counts[reason] = (before + group["readings"].as_u64().unwrap()).into();
    }
    counts
}

#[test]
fn what_is_set_aside_is_said_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, said) = set_aside(folder.path());
    let line = said
        .lines()
        .find(|line| line.contains("set aside since the start"));
    let line = line.unwrap_or_else(|| panic!("no summary in {said}"));
    for part in ["readings=6", "100.00 %", "3 unreadable, 1 non-finite, 2 late"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let once = json!({"unreadable": 3, "non-finite": 1, "late": 2});
    assert_eq!(by_reason(&store), once);
    assert_eq!(windrow(&["audit", "--store", &store]).json()["quarantined"], once);
    let audit = windrow(&["audit", "--store", &store]).output();
    assert!(
        audit.contains("quarantined: 3 unreadable, 1 non-finite, 2 late\n"),
        "{audit}"
    );
}

#[test]
fn a_list_groups_by_kind_and_ends_with_how_to_replay_what_was_late() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = set_aside(folder.path());
    let list = quarantine(&store, &["list", "--reason", "unreadable"]);
    let groups = list["groups"].as_array().unwrap();
    let readings: Vec<_> = groups
        .iter()
        .map(|group| group["readings"].as_u64().unwrap())
        .collect();
    assert_eq!(readings.iter().sum::<u64>(), 3);
    assert_eq!(groups.len(), 2, "{list}");
    assert_eq!(
        (&groups[0]["source"], &groups[0]["partition"]),
        (&"readings".into(), &"b.csv".into())
    );
    assert!(groups.iter().any(|group| {
        group["example"]
            .as_str()
            .unwrap()
            .starts_with("b.csv, line 4: column ts: `noon`")
    }));
    assert_eq!(list["late"], json!([]));
    for (words, records) in [
        (&["--device", "d1"][..], 1),
        (&["--partition", "b.csv"], 6),
        (&["--partition", "a.csv"], 0),
        (&["--source-name", "other"], 0),
        (&["--from", "2026-01-05T00:00:00Z"], 6),
        (&["--to", "2026-01-05T00:00:00Z"], 0),
    ] {
        let list = quarantine(&store, &[&["list"], words].concat());
        let groups = list["groups"].as_array().unwrap();
        let found: u64 = groups
            .iter()
            .map(|group| group["records"].as_u64().unwrap())
            .sum();
        assert_eq!(found, records, "{words:?}");
    }
    let shown = windrow(&["quarantine", "list", "--store", &store]).output();
    let last = shown.lines().last().unwrap();
    let source = folder.path().join("readings").canonicalize().unwrap();
    let command = format!(
        "windrow replay {} --store {store} --source-name readings ",
        text(&source)
    );
    assert!(last.starts_with(&command), "{last}");
    assert!(
        last.ends_with(" --from 2026-01-05T00:00:00Z --to 2026-01-05T00:03:00Z"),
        "{last}"
    );
}

#[test]
fn what_was_set_aside_comes_back_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = set_aside(folder.path());
    let shown = quarantine(&store, &["show", "--reason", "unreadable"]);
    let raw: Vec<_> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record["raw"])
        .collect();
    assert_eq!(
        raw,
        [
            &json!("noon,d0,temp,1"),
            &json!("evening,d0,temp,1"),
            &Value::Null
        ]
    );
    assert_eq!(shown[2]["raw_base64"], "IDE3Njc1NzE4MDAwMDAs//6ALHRlbXAsMQ==");

    let to = folder.path().join("raw");
    let words = ["quarantine", "show", "--store", &store, "--raw", text(&to)];
    let said = windrow(&words).output();
    assert!(said.starts_with("3 files and 3 readings are in "), "{said}");
    let mut offset = "ts,device,tag,value\n".len();
    for (number, row) in BAD.iter().enumerate() {
        if (2..5).contains(&number) {
            let path = to.join(format!("readings/b.csv/{offset}.0.raw"));
            assert_eq!(fs::read(&path).unwrap(), *row, "{}", path.display());
        }
        offset += row.len() + 1;
    }
    // The others can be read as they are.
    let readings = fs::read_to_string(to.join("readings.ndjson")).unwrap();
    let first = r#"{"device":"d0","tag":"temp","ts":"2026-01-05T00:00:00Z","value":1.0}"#;
    assert_eq!(readings.lines().next(), Some(first));
    let (code, _, error) = windrow(&words).end();
    assert!(code == 2 && error.contains("it is not empty"), "{error}");

    let output = Command::new(built("windrow"))
        .args([
            "quarantine",
            "show",
            "--store",
            &store,
            "--reason",
            "unreadable",
            "--raw",
        ])
        .output()
        .unwrap();
    assert_eq!(output.stdout, BAD[2..5].join(&b'\n'));
}

#[test]
fn a_purge_asks_for_a_filter_and_removes_what_it_selects() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = set_aside(folder.path());
    let purge = |more: &[&str]| windrow(&[&["quarantine", "purge", "--store", &store], more].concat()).end();
    let (code, _, error) = purge(&["--yes"]);
    assert!(code == 2 && error.contains("--reason"), "{error}");
    let late_of_d0 = ["--reason", "late", "--device", "d0"];
    let (code, said, _) = purge(&late_of_d0);
    assert_eq!(
        (code, &*said),
        (
            0,
            "would delete 1 records with 1 readings; --yes deletes them for good\n"
        )
    );
    assert_eq!(by_reason(&store)["late"], 2);
    let (code, said, _) = purge(&[&late_of_d0[..], &["--yes"]].concat());
    assert_eq!((code, &*said), (0, "deleted 1 records with 1 readings\n"));
    assert_eq!(
        by_reason(&store),
        json!({"unreadable": 3, "non-finite": 1, "late": 1})
    );
    let late = quarantine(&store, &["list"])["late"].clone();
    assert_eq!(late[0]["from"], "2026-01-05T00:02:00Z");
    let (code, _, _) = purge(&["--source-name", "readings", "--yes"]);
    assert_eq!((code, by_reason(&store)), (0, json!({})));
    let shown = windrow(&["quarantine", "list", "--store", &store]).output();
    assert_eq!(shown, "nothing is in quarantine\n");
}
