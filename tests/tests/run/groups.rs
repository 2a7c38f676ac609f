//! Models of all tags of a device together: an anomaly that no single tag shows, and runs that are killed.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use windrow_incidents::Rules;
use windrow_tests::{Draws, Plant, windrow};

use super::text;

/// Scores the day of a plant.
fn run(plant: &Plant, store: &Path, more: &[&str]) -> windrow_tests::Program {
    let day = plant.day();
    let words = ["run", "--source", &day, "--store", text(store), "--window", "10s"];
    let more_words = [&["--interval", "1m", "--until-caught-up"][..], more].concat();
    windrow(&[&words[..], &more_words].concat())
}

/// Returns the predictions of a sensor, or of all sensors with this tag.
fn rows(store: &Path, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut rows = windrow_tests::rows(text(store));
    rows.retain(wanted);
    rows
}

fn is_group(row: &Value) -> bool {
    row["tag"] == "(group)"
}

#[test]
fn an_anomaly_that_no_single_tag_shows_is_found_named_and_told_by_all_tags_together() {
    let plant = Plant::new();
    let store = plant.path("store");
    let trained = plant.train(text(&store));
    assert_eq!(
        (&trained["models"], &trained["groups"]["models"]),
        (&10.into(), &2.into()),
        "{trained}"
    );
    let shown = windrow(&["models", "show", "pump-1/(group)", "--store", text(&store)]).json();
    assert_eq!(shown["tags"].as_array().unwrap().len(), Plant::TAGS.len());
    assert_eq!(shown["metadata"]["training"]["parameters"]["smoothing"], "20");

    let ran = run(&plant, &store, &[]).json();
    let scored = rows(&store, is_group);
    // The first nine windows of each pump have less than half of what their rows are means of.
    assert_eq!(scored.len(), 2 * (Plant::WINDOWS as usize - 9), "{ran}");
    assert_eq!(ran["group_windows"].as_u64(), Some(scored.len() as u64), "{ran}");
    assert!(
        scored[0]["mean"].is_null() && scored[0]["count"].as_u64() == Some(5 * 10),
        "{}",
        scored[0]
    );

    let csv = super::exported(text(&store));
    let line = csv
        .lines()
        .find(|line| line.starts_with("pump-1,(group),"))
        .unwrap();
    assert!(line.contains(",10000,50,,,,,,,"), "{line}");

    let usual = Rules::default().threshold;
    let incident = |row: &Value| row["score"].as_f64() > row["threshold"].as_f64().or(Some(usual));
    let stretch = rows(&store, |row| {
        let start = row["window_start"].as_str().unwrap();
        row["device"] == "pump-1" && ("2026-03-02T05:34:00Z".."2026-03-02T05:53:20Z").contains(&start)
    });
    let (together, alone): (Vec<&Value>, Vec<&Value>) = stretch.iter().partition(|row| is_group(row));
    let found = together.iter().filter(|row| incident(row)).count();
    assert!(found * 10 > together.len() * 7, "{found} of {}", together.len());
    let flagged = alone.iter().filter(|row| incident(row)).count();
    assert!(flagged * 20 < alone.len(), "{flagged} of {}", alone.len());
    let named = together.iter().filter(|row| row["cause"] == "power.mean").count();
    assert!(named * 2 > found, "{named} of {found}");

    // A group is no sensor: its windows are none that are missed.
    let report = windrow(&["fleet", "report", "--store", text(&store)]).json();
    assert_eq!(report["sensors"], 10, "{report}");

    let incidents = windrow(&["incidents", "list", "--store", text(&store)]).json();
    let of_group = |incident: &&Value| incident.to_string().contains("(group)");
    let told: Vec<&Value> = incidents.as_array().unwrap().iter().filter(of_group).collect();
    assert!(
        told.iter()
            .any(|incident| incident.to_string().contains("power.mean")),
        "{told:?}"
    );
    assert!(
        told.iter().all(|incident| incident["kind"] == "anomaly"),
        "{told:?}"
    );
    let words = [
        "retrain",
        "--store",
        text(&store),
        "--least",
        "100",
        "--budget",
        "1000 per sensor-day",
    ];
    let retrained = windrow(&words).json();
    assert_eq!(retrained["models"], 12, "{retrained}");
    let again = windrow(&["models", "show", "pump-1/(group)", "--store", text(&store)]).json();
    assert_eq!(again["history"][1]["by"], "retrain", "{again}");
    assert_eq!(again["tags"], shown["tags"]);
    assert_eq!(again["metadata"]["training"]["rows"], Plant::WINDOWS - 9);
    // What a producer dispatched, and what follows from it.
    let audit = windrow(&["audit", "--store", text(&store)]).json();
    assert_eq!(audit["all"]["unexpected"], 0);
    let (groups, scored) = (&audit["groups"], scored.len());
    assert_eq!(
        (&groups["expected"], &groups["predicted"]),
        (&scored.into(), &scored.into()),
        "{groups}"
    );
}

#[test]
fn kills_change_nothing_in_what_the_tags_have_together() {
    let plant = Plant::new();
    let (quiet, killed) = (plant.path("quiet"), plant.path("killed"));
    for store in [&quiet, &killed] {
        plant.train(text(store));
    }
    run(&plant, &quiet, &[]).output();
    let mut draws = Draws(7);
    for kill in 0..6 {
        // At this speed the day lasts longer than all runs.
        let mut child = run(&plant, &killed, &["--speed", "600"]).start();
        std::thread::sleep(Duration::from_millis(500 + draws.below(3_000)));
        assert!(
            child.try_wait().unwrap().is_none(),
            "run {kill} ended before it was killed"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(&plant, &killed, &[]).output();
    let (left, right) = (rows(&quiet, is_group), rows(&killed, is_group));
    assert!(left.len() > 1_700, "{}", left.len());
    assert_eq!(left, right);
}
