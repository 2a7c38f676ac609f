//! Bad readings go to quarantine with their reason; a bad command line ends at the start with one sentence.

use std::fs;

use windrow_tests::{fleet, models_for, windrow, write_csv};

use super::{audited, text};

#[test]
fn bad_readings_are_quarantined_by_reason_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.csv"), folder.path().join("bad.csv"));
    let store = folder.path().join("store");
    write_csv(&good, &fleet(2, 600, 4));
    let mut lines = fs::read_to_string(&good).unwrap();
    lines.push_str("yesterday,d0,temp,1\n1767571800000,d0,temp,warm\n1767571800000,d0,temp,NaN\n");
    lines.push_str("99999999999999,d0,temp,1\n1767571200000,d1,temp,1\n1767571800000,d0\n");
    fs::write(&bad, lines).unwrap();
    models_for(text(&good), text(&store));
    let words = [
        "run",
        "--source",
        text(&bad),
        "--store",
        text(&store),
        "--until-caught-up",
    ];
    let counts = windrow(&words).json();
    assert_eq!(counts["readings"], 1201, "one is out of order, which is no fault");
    let quarantined = counts["quarantined"].as_object().unwrap();
    let all: u64 = quarantined.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(all, 5, "{quarantined:?}");
    assert_eq!(audited(text(&store))["predicted"], 20);

    let mut kept = String::new();
    let mut folders = vec![store.join("quarantine")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                kept.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    assert_eq!(kept.lines().count(), 5, "{kept}");
    assert!(kept.contains("1202") && kept.contains("yesterday"), "{kept}");
}

#[test]
fn bad_command_lines_end_with_one_sentence_and_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("readings.csv");
    let store = folder.path().join("store");
    write_csv(&csv, &fleet(2, 120, 4));
    models_for(text(&csv), text(&store));
    let (csv, store) = (text(&csv), text(&store));
    let nowhere = format!("{store}/no/such/place");
    let strange = folder.path().join("strange.csv");
    fs::write(&strange, "a,b,c\n1,2,3\n").unwrap();
    for (words, says) in [
        (
            vec!["run", "--source", "/no/such.csv", "--store", store],
            "/no/such.csv",
        ),
        (
            vec!["run", "--source", text(&strange), "--store", store],
            "column",
        ),
        (vec!["run", "--source", csv, "--store", &nowhere], "no/such/place"),
        (
            vec!["run", "--source", csv, "--store", "/proc/windrow"],
            "/proc/windrow",
        ),
        (
            vec!["run", "--source", csv, "--store", store, "--window", "0s"],
            "window",
        ),
        (
            vec!["run", "--source", csv, "--store", store, "--window", "eleven"],
            "eleven",
        ),
        (
            vec![
                "run",
                "--source",
                csv,
                "--store",
                store,
                "--window",
                "7s",
                "--interval",
                "1m",
            ],
            "interval",
        ),
        (
            vec!["run", "--source", csv, "--store", store, "--workers", "0"],
            "workers",
        ),
        (
            vec!["run", "--source", "sim:devices=none", "--store", store],
            "devices",
        ),
        (vec!["run", "--source", csv, "--store", "gopher://x"], "gopher"),
        (
            vec!["models", "train", "--source", csv, "--store", store, "--nu", "2"],
            "nu",
        ),
        (
            vec![
                "models",
                "import",
                "--store",
                store,
                "--name-pattern",
                "{device}",
                csv,
            ],
            "name-pattern",
        ),
        (vec!["audit", "--store", &nowhere], "no/such/place"),
        (vec!["demo", "--folder", store], "--folder"),
        (
            vec!["--log", "loud=nonsense=x", "audit", "--store", store],
            "--log",
        ),
    ] {
        let mut words = words;
        if words[0] == "run" {
            words.push("--until-caught-up");
        }
        let (code, output, error) = windrow(&words).end();
        assert_eq!(code, 2, "{words:?}: {error}{output}");
        assert!(
            error.to_lowercase().contains(&says.to_lowercase()),
            "{words:?}: {error}"
        );
        assert!(
            !error.contains("panicked") && output.is_empty(),
            "{words:?}: {error}{output}"
        );
    }
}
