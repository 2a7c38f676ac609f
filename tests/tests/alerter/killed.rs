use std::time::Duration;

use serde_json::Value;
use windrow_common::Prediction;
use windrow_store::{PartWriter, Store};
use windrow_tests::windrow;

use super::prediction;

const LONG: i64 = 600_000;
const DAY: i64 = 144;

/// A folder store that a test writes days of predictions into.
struct Days {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Days {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { Store::create(folder.path().to_str().unwrap()).unwrap() });
        Self { folder, runtime }
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// Writes the days of some sensors. Every day has anomalies, and a sensor that lacks one is silent.
    fn write(&self, sensors: std::ops::Range<i64>, days: &[i64]) {
        let numbers = || days.iter().flat_map(|day| day * DAY..(day + 1) * DAY);
        let of = |sensor: i64, number: i64| -> Prediction {
            let score = if (number + 7 * sensor) % 60 < 3 { 1.0 } else { -1.0 };
            let row = prediction(&format!("t{sensor}"), number * LONG, score);
            Prediction {
                window_length: windrow_common::Length::from_millis(LONG),
                ..row
            }
        };
        let rows = sensors.flat_map(|sensor| numbers().map(move |number| (sensor, number)));
        let rows = rows.map(|(sensor, number)| of(sensor, number)).collect();
        self.runtime.block_on(async {
            let store = Store::open(self.path()).unwrap();
            PartWriter::new(&store, "test").write_rows(rows).await.unwrap();
        });
    }

    fn words(&self) -> [&str; 8] {
        [
            "--log",
            "error",
            "incidents",
            "update",
            "--store",
            self.path(),
            "--quiet",
            "4",
        ]
    }

    fn incidents(&self) -> Value {
        windrow(&["incidents", "list", "--store", self.path()]).json()
    }
}

#[test]
fn a_run_that_is_killed_while_late_days_are_worked_in_loses_nothing() {
    let (quiet, killed) = (Days::new(), Days::new());
    quiet.write(0..8, &[0, 1, 2, 3]);
    windrow(&quiet.words()).output();
    killed.write(0..4, &[0, 1, 2, 3]);
    killed.write(4..8, &[0, 3]);
    windrow(&killed.words()).output();
    let mut kills = 0;
    for missing in [1, 2] {
        killed.write(4..8, &[missing]);
        let mut lives_for = Duration::from_millis(10);
        loop {
            let mut child = windrow(&killed.words()).start();
            std::thread::sleep(lives_for);
            if let Some(ended) = child.try_wait().unwrap() {
                assert!(ended.success(), "{ended}");
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            lives_for += Duration::from_millis(20);
            // The next one would wait until the lease of the dead one is over.
            drop(std::fs::remove_file(
                killed.folder.path().join("alerting/leader.json"),
            ));
        }
    }
    assert!(kills > 5, "{kills}");
    assert_eq!(killed.incidents(), quiet.incidents());
    assert_eq!(windrow(&killed.words()).json()["opened"], 0);
}
