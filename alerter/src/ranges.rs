//! The physical ranges of sensors, from a file that people write.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use windrow_common::{SensorId, SensorPattern};

use windrow_incidents::Limits;

/// Largest file that is read.
const MAX_BYTES: u64 = 64 << 20;

const COLUMNS: [&str; 4] = ["device", "tag", "low", "high"];

/// The physical ranges of a fleet's sensors.
///
/// The file is CSV with the columns `device,tag,low,high`. `*` in a name stands for any text, an empty limit is none, and
/// the first line that names a sensor holds for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges {
    /// Lines that name one sensor, with their numbers.
    exact: HashMap<SensorId, (u64, Limits)>,
    /// Lines that name several, in the order of the file.
    patterns: Vec<(u64, SensorPattern, Limits)>,
}

/// Why ranges cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--ranges {}: {why}", file.display())]
pub struct RangesError {
    file: PathBuf,
    why: String,
}

impl Ranges {
    /// Reads a file, and checks every line of it.
    pub fn read(file: &Path) -> Result<Self, RangesError> {
        let wrong = |why: String| RangesError {
            file: file.to_owned(),
            why,
        };
        let mut text = String::new();
        File::open(file)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .map_err(|error| wrong(error.to_string()))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("it has more than {} MiB", MAX_BYTES >> 20)));
        }
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| error.to_string())?;
        if header.iter().ne(COLUMNS) {
            return Err(format!("its first line has to be {}", COLUMNS.join(",")));
        }
        let mut ranges = Self::default();
        for record in reader.records() {
            let record = record.map_err(|error| error.to_string())?;
            let line = record.position().map_or(0, csv::Position::line);
            ranges
                .add(line, &record)
                .map_err(|why| format!("line {line}: {why}"))?;
        }
        Ok(ranges)
    }

    fn add(&mut self, line: u64, record: &csv::StringRecord) -> Result<(), String> {
        let cell = |at: usize| record.get(at).unwrap_or_default();
        let pattern = SensorPattern::new(cell(0), cell(1)).map_err(|error| error.to_string())?;
        let low = limit("low", cell(2))?.unwrap_or(f64::NEG_INFINITY);
        let high = limit("high", cell(3))?.unwrap_or(f64::INFINITY);
        if low > high {
            return Err(format!("the low limit {low} is above the high limit {high}"));
        }
        let limits = Limits { low, high };
        match pattern.only() {
            Some(sensor) => {
                self.exact.entry(sensor).or_insert((line, limits));
            }
            None => self.patterns.push((line, pattern, limits)),
        }
        Ok(())
    }

    /// Returns the limits of a sensor; those of one that no line names are infinite.
    pub(crate) fn of(&self, sensor: &SensorId) -> Limits {
        let exact = self.exact.get(sensor);
        let before = |line: u64| exact.is_none_or(|(exact, _)| line < *exact);
        let mut earlier = self.patterns.iter().take_while(|(line, ..)| before(*line));
        match earlier.find(|(_, pattern, _)| pattern.matches(sensor)) {
            Some((.., limits)) => *limits,
            None => exact.map(|(_, limits)| *limits).unwrap_or_default(),
        }
    }
}

fn limit(what: &str, text: &str) -> Result<Option<f64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let number: Option<f64> = text.parse().ok();
    match number.filter(|number| number.is_finite()) {
        Some(number) => Ok(Some(number)),
        None => Err(format!(
            "`{text}` is no {what} limit: write a number such as -40.5, or nothing"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_names_a_sensor_holds_for_it() {
        let text = "device,tag,low,high\n\
                    # Spare parts have no range.\n\
                    spare-*,*,,\n\
                    pump-7,temp,-40,125.5\n\
                    pump-*,temp,-20,80\n\
                    pump-8,temp,0,1\n\
                    *,level,0,\n";
        let ranges = Ranges::parse(text).unwrap();
        let of = |device: &str, tag: &str| {
            let limits = ranges.of(&SensorId::new(device, tag).unwrap());
            (limits.low, limits.high)
        };
        assert_eq!(of("pump-7", "temp"), (-40.0, 125.5));
        assert_eq!(of("pump-8", "temp"), (-20.0, 80.0));
        assert_eq!(of("tank", "level"), (0.0, f64::INFINITY));
        assert_eq!(of("spare-1", "level"), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(of("pump-7", "press"), (f64::NEG_INFINITY, f64::INFINITY));
    }

    #[test]
    fn every_line_is_checked_and_named() {
        for (lines, why) in [
            ("", "its first line has to be device,tag,low,high"),
            ("device;tag;low;high\n", "its first line has to be"),
            (
                "device,tag,low,high\na,b,1,2\na,,1,2\n",
                "line 3: the tag is empty",
            ),
            (
                "device,tag,low,high\na,b,2,1\n",
                "line 2: the low limit 2 is above the high limit 1",
            ),
            ("device,tag,low,high\na,b,NaN,1\n", "`NaN` is no low limit"),
            ("device,tag,low,high\na,b,1,1e999\n", "`1e999` is no high limit"),
            ("device,tag,low,high\na,b,1\n", "found record with 3 fields"),
        ] {
            let error = Ranges::parse(lines).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
