//! Other programs read the tables as docs/formats.md says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use windrow_common::{Aggregate, EventTime, Length, Prediction, SensorId, Shadow};
use windrow_store::{PartWriter, Store};
use windrow_tests::{block, windrow};

/// Returns the predictions of one window: with few and many readings, and of several models.
fn rivals(window: i64) -> Vec<Prediction> {
    let row = |count: u64, version: &str, mean: f64, decision: f64| Prediction {
        sensor: SensorId::new("pump-7", "temp").unwrap(),
        window_length: Length::from_millis(60_000),
        aggregate: Aggregate {
            window_start: EventTime::from_millis(1_767_571_200_000 + window * 60_000),
            count,
            mean,
            std: 0.25,
            min: mean - 1.0,
            max: mean + 1.0,
            first: mean,
            last: mean,
        },
        decision,
        score: Some(-decision),
        anomaly: decision <= 0.0,
        model_version: version.into(),
        shadow: None,
        threshold: None,
        cause: None,
    };
    let shadow = |row: Prediction, version: &str, decision| Prediction {
        shadow: Some(Shadow {
            version: version.into(),
            decision,
            score: -decision,
        }),
        ..row
    };
    let all = [
        row(6, "9a", 71.5, 0.5),
        row(6, "f0", 71.5, -0.5),
        row(60, "9a", 70.5, 0.25),
        row(60, "f0", 70.5, 0.125),
        row(60, "f0", 70.5, -0.125),
        shadow(row(60, "f0", 70.5, -0.125), "11", 0.5),
        shadow(row(60, "f0", 70.5, -0.125), "11", 0.25),
        shadow(row(60, "f0", 70.5, -0.125), "22", -0.5),
        row(60, "f0", 70.25, 0.75),
    ];
    // Each window has another choice of them, so that every part of the rule decides somewhere.
    let chosen = all.into_iter().enumerate();
    chosen
        .filter(|(nth, _)| window & (1 << nth) != 0)
        .map(|(_, row)| row)
        .collect()
}

/// Writes predictions with many rows a window, and expects the Python `code` to print what `windrow` exports.
fn counts_the_same(code: &str) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/readers/bin/python");
    assert!(
        python.exists(),
        "DuckDB and pandas are not installed: run `make target/readers/.installed`"
    );
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("store");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::create(url.to_str().unwrap()).unwrap();
        let writer = PartWriter::new(&store, "w");
        // Of every window, each part has some rows, and one part has all of them once more.
        for part in 0..9 {
            let rows = (1..512).filter_map(|window| rivals(window).into_iter().nth(part));
            writer.write_rows(rows.collect()).await.unwrap();
        }
        let all = (1..512).flat_map(rivals).collect();
        writer.write_rows::<Prediction>(all).await.unwrap();
    });
    let words = [
        "predictions",
        "export",
        "--store",
        url.to_str().unwrap(),
        "--format",
        "csv",
    ];
    let exported = windrow(&words).output();
    let right: Vec<String> = exported
        .lines()
        .skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.split(',').collect();
            let wanted = [2, 4, 14, 5, 11, 15, 16].map(|column| match cells[column] {
                "" => "-",
                cell => cell,
            });
            wanted.join(" ")
        })
        .collect();
    assert_eq!(right.len(), 511);
    let ran = Command::new(python)
        .args(["-c", code])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{error}");
    let said = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), right);
}

/// Prints the columns that the test compares.
const PRINT: &str = "
for row in rows:
    # Nothing is equal to NaN, not even itself.
    print(row[0].strftime('%Y-%m-%dT%H:%M:%SZ'), *['-' if cell is None or cell != cell else cell for cell in row[1:]])
";

#[test]
fn the_duckdb_view_has_the_prediction_of_each_window_that_counts() {
    let view = block("docs/formats.md", "one row a window in DuckDB").join("\n");
    counts_the_same(&format!(
        "import duckdb
db = duckdb.connect()
db.execute(\"set timezone = 'UTC'\")
db.execute('''{view}''')
rows = db.execute('''select window_start::timestamp, \"count\", model_version, mean, decision, shadow_version, shadow_decision
    from predictions order by window_start''').fetchall()
{PRINT}"
    ));
}

#[test]
fn the_pandas_rows_are_the_predictions_that_count() {
    let lines = block("docs/formats.md", "one row a window in pandas").join("\n");
    counts_the_same(&format!(
        "{lines}
columns = ['window_start', 'count', 'model_version', 'mean', 'decision', 'shadow_version', 'shadow_decision']
rows = predictions.sort_values('window_start')[columns].itertuples(index=False)
{PRINT}"
    ));
}
