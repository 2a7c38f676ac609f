//! Readings out of order within the bound change nothing; readings beyond it are late, and counted.

use windrow_tests::{Draws, Row, fleet, models_for, windrow, write_csv};

use super::{audited, exported, text};

/// Returns the rows in order of arrival when each is delayed by a random time below `most_ms`.
fn delayed(rows: &[Row], most_ms: u64) -> Vec<Row> {
    let mut draws = Draws(5);
    let mut arriving: Vec<(i64, Row)> = rows
        .iter()
        .map(|row| (row.time_ms + i64::try_from(draws.below(most_ms)).unwrap(), *row))
        .collect();
    arriving.sort_by_key(|(arrival, _)| *arrival);
    arriving.into_iter().map(|(_, row)| row).collect()
}

#[test]
fn disorder_within_the_bound_changes_nothing_and_beyond_it_is_late() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let rows = fleet(10, 1800, 3);
    write_csv(&path("ordered.csv"), &rows);
    write_csv(&path("within.csv"), &delayed(&rows, 5_000));
    write_csv(&path("beyond.csv"), &delayed(&rows, 40_000));
    let run = |name: &str| {
        let (source, store) = (path(&format!("{name}.csv")), path(name));
        models_for(text(&path("ordered.csv")), text(&store));
        let words = [
            "run",
            "--source",
            text(&source),
            "--store",
            text(&store),
            "--until-caught-up",
        ];
        let counts = windrow(&words).json();
        (counts, exported(text(&store)), audited(text(&store)))
    };
    let (ordered, right, _) = run("ordered");
    assert_eq!(ordered["readings"], 18_000);
    assert_eq!(ordered["predictions"], 300);

    let (within, same, _) = run("within");
    assert_eq!(within["quarantined"], serde_json::json!({}));
    assert!(same == right, "disorder within the bound changed predictions");

    let (beyond, other, audit) = run("beyond");
    let late = beyond["quarantined"]["late"].as_u64().unwrap();
    assert!(late > 1000 && other != right, "{beyond}");
    assert_eq!(beyond["readings"].as_u64().unwrap() + late, 18_000);
    assert_eq!(audit["lost"], 0);
}
