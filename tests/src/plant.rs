//! Two pumps whose tags follow a load, for models of all tags of a device together.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Draws, windrow};

/// Seconds between two readings of a tag, and length of a window.
const EVERY: i64 = 10;
/// Windows that the models are trained on.
const HISTORY: i64 = 1_500;
/// Windows of the day in which the power no longer follows the load, but stays within its usual range.
const WRONG: Range<i64> = 500..620;

/// A folder with the readings of two pumps: a history, and a day on which the first pump has an anomaly that no single tag shows.
#[derive(Debug)]
pub struct Plant {
    folder: TempDir,
}

impl Plant {
    /// The tags of each pump.
    pub const TAGS: [&str; 5] = ["current", "flow", "power", "speed", "temp"];
    /// Windows of each tag on the day.
    pub const WINDOWS: i64 = 900;

    /// Writes the readings.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_plant(&folder.path().join("history"), 0, HISTORY, &(0..0), 1);
        write_plant(
            &folder.path().join("day"),
            HISTORY * EVERY,
            Self::WINDOWS,
            &WRONG,
            2,
        );
        Self { folder }
    }

    /// Returns a path in the plant's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the source of the day's readings.
    pub fn day(&self) -> String {
        self.path("day").to_str().unwrap().to_owned()
    }

    /// Trains models of the tags, and of each pump; returns what the command says.
    pub fn train(&self, store: &str) -> Value {
        let history = self.path("history");
        let words = [
            "models",
            "train",
            "--source",
            history.to_str().unwrap(),
            "--store",
            store,
            "--window",
            "10s",
            "--group",
            "device",
            "--features",
            "mean",
        ];
        windrow(&words).json()
    }
}

/// Returns a number between −1 and 1.
fn noise(draws: &mut Draws) -> f64 {
    f64::from(u32::try_from(draws.below(2_000_001)).unwrap()) / 1e6 - 1.0
}

/// Writes a file for each tag of two pumps that follow a load, with a little noise of their own. The first one has the anomaly.
fn write_plant(folder: &Path, from: i64, windows: i64, wrong: &Range<i64>, seed: u64) {
    fs::create_dir_all(folder).unwrap();
    let mut draws = Draws(seed);
    for pump in ["pump-1", "pump-2"] {
        let mut texts = vec![String::from("ts,device,tag,value\n"); Plant::TAGS.len()];
        let mut load = 0.0;
        for window in 0..windows {
            load = 0.95 * load + 0.3 * noise(&mut draws);
            let second = from + window * EVERY;
            let at = format!(
                "2026-03-02T{:02}:{:02}:{:02}Z",
                second / 3_600,
                second / 60 % 60,
                second % 60
            );
            for (tag, text) in texts.iter_mut().enumerate() {
                let is_wrong = pump == "pump-1" && Plant::TAGS[tag] == "power" && wrong.contains(&window);
                // As a mirror image, the power is as usual as before.
                let follows = if is_wrong { -load } else { load };
                let value =
                    100.0 * f64::from(u32::try_from(tag).unwrap() + 1) + 10.0 * follows + noise(&mut draws);
                writeln!(text, "{at},{pump},{},{value:.4}", Plant::TAGS[tag]).unwrap();
            }
        }
        for (tag, text) in Plant::TAGS.iter().zip(texts) {
            fs::write(folder.join(format!("{pump}-{tag}.csv")), text).unwrap();
        }
    }
}
