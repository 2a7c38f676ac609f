//! `windrow inspect`: how files are understood, what is in them, and the options that pin it.

use std::collections::HashMap;
use std::path::Path;

use clap::Args;
use serde_json::json;
use windrow_common::{EventTime, format_duration, shell_word};
use windrow_producer::args::{ColumnArgs, SourceArgs};
use windrow_producer::checkpoint::{column_options, column_options_text};
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::decode::ColumnMapping;
use windrow_producer::source::file::FileSource;
use windrow_producer::source::{Batch, Read, Reading, Source, SourceError, Until, suggest};

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

/// How many readings are shown.
const SHOWN_READINGS: usize = 5;
/// How many gaps of a sensor its usual interval is taken from.
const GAPS: usize = 1_001;
/// How many reasons of refused rows are shown.
const SHOWN_REASONS: usize = 5;

/// Options of `windrow inspect`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  windrow inspect readings/
  windrow inspect export.csv --device-from file --timezone Europe/Berlin

The files are read, and nothing is written. Where the options given find no readings, others are tried, and the command
line that works is shown.")]
pub(crate) struct InspectArgs {
    /// A file or a folder
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    columns: ColumnArgs,
    /// How many readings to look at, in the order of their times; 0 for all
    #[arg(
        long,
        value_name = "READINGS",
        default_value_t = 1_000_000,
        env = "WINDROW_INSPECT_LIMIT"
    )]
    limit: u64,
    /// How many sensors to list
    #[arg(
        long,
        value_name = "SENSORS",
        default_value_t = 10,
        env = "WINDROW_INSPECT_SENSORS"
    )]
    sensors: usize,
    #[command(flatten)]
    output: OutputArg,
}

/// What was found.
#[derive(Default)]
struct Found {
    notes: Vec<String>,
    first: Vec<[String; 4]>,
    readings: u64,
    refused: u64,
    reasons: Vec<(u64, String)>,
    left_out: u64,
    /// By their index in `names`; `None` for one of which no value could be read.
    sensors: Vec<Option<Seen>>,
    names: SensorTable,
    is_cut: bool,
}

/// What was seen of a sensor.
#[derive(Clone)]
struct Seen {
    readings: u64,
    first: EventTime,
    last: EventTime,
    previous: EventTime,
    gaps: Vec<i64>,
    longest: (i64, EventTime),
    low: f64,
    high: f64,
}

impl InspectArgs {
    pub(crate) fn run(self) -> Result<(), CliError> {
        let source = SourceArgs::new(self.path.clone(), self.columns.clone());
        let given = source.checked_mapping()?;
        let path = Path::new(&self.path);
        let (mapping, found, why_not) = match look(path, &given, self.limit) {
            Ok(found) if found.readings > 0 => (given.clone(), found, None),
            failed => {
                let why = match failed {
                    Ok(found) => found.reasons.into_iter().next().map(|(_, why)| why),
                    Err(error) => Some(error.to_string()),
                };
                let suggestions = suggest(path, &given)?;
                let Some((best, others)) = suggestions.split_first() else {
                    let why = why.unwrap_or_else(|| format!("{} holds no readings", self.path));
                    return Err(CliError::Usage(format!(
                        "{why}; no other options were found that read it, see docs/inputs.md"
                    )));
                };
                let mut found = look(path, &best.mapping, self.limit)?;
                let other = others.iter().find(|other| best.differs_in_time_only(other));
                if let Some(form) = other.and_then(|other| other.mapping.time_format.as_ref()) {
                    found.notes.push(format!(
                        "These dates could also be read with --time-format '{form}': compare the first readings below"
                    ));
                }
                (best.mapping.clone(), found, why)
            }
        };
        let command = self.command(&mapping, &found);
        match self.output.output {
            OutputFormat::Json => {
                show::json(&found.as_json(&mapping, &command, why_not.as_deref(), self.sensors))
            }
            OutputFormat::Table => {
                found.show(&command, why_not.as_deref(), self.sensors);
                Ok(())
            }
        }
    }

    /// Returns the command that scores the readings, with all that was guessed.
    fn command(&self, mapping: &ColumnMapping, found: &Found) -> String {
        let mut command = format!("windrow run --source {}", shell_word(&self.path));
        let options = column_options_text(mapping);
        if !options.is_empty() {
            command += &format!(" {options}");
        }
        if let Some(window) = found.window() {
            command += &format!(" --window {}", format_duration(window));
        }
        command + " --store ./store --until-caught-up"
    }
}

/// Reads files up to a number of readings.
fn look(path: &Path, mapping: &ColumnMapping, limit: u64) -> Result<Found, SourceError> {
    let mut source = FileSource::open(path, mapping, Until::CaughtUp)?;
    let mut found = Found {
        notes: source.summaries(),
        ..Found::default()
    };
    let mut batch = Batch::default();
    while source.read(&mut found.names, &mut batch)? == Read::Batch {
        found.take(&batch);
        if limit > 0 && found.readings >= limit {
            found.is_cut = true;
            break;
        }
    }
    Ok(found)
}

impl Found {
    fn take(&mut self, batch: &Batch) {
        self.left_out += batch.left_out;
        for item in &batch.unreadable {
            self.refused += item.readings;
            let known = self.reasons.iter().position(|(_, why)| *why == item.detail);
            match known {
                Some(at) => self.reasons[at].0 += item.readings,
                None if self.reasons.len() < SHOWN_REASONS => {
                    self.reasons.push((item.readings, item.detail.clone()));
                }
                None => {}
            }
        }
        for reading in &batch.readings {
            self.readings += 1;
            if self.first.len() < SHOWN_READINGS {
                let id = self.names.id(reading.sensor);
                let [device, tag] = [&id.device, &id.tag].map(ToString::to_string);
                self.first
                    .push([reading.time.to_string(), device, tag, reading.value.to_string()]);
            }
            let at = reading.sensor.as_usize();
            if self.sensors.len() <= at {
                self.sensors.resize(at + 1, None);
            }
            match &mut self.sensors[at] {
                Some(seen) => seen.take(reading),
                none => *none = Some(Seen::of(reading)),
            }
        }
    }

    /// Returns the usual interval between the readings of most sensors.
    fn interval(&self) -> Option<i64> {
        let mut intervals: Vec<_> = self.seen().filter_map(Seen::interval).collect();
        intervals.sort_unstable();
        intervals.get(intervals.len() / 2).copied()
    }

    /// Returns a window of about three readings, of a length that divides an hour or a day.
    fn window(&self) -> Option<std::time::Duration> {
        const SECONDS: [u64; 16] = [
            1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_200, 1_800, 3_600, 86_400,
        ];
        let wanted = u64::try_from(self.interval()?).ok()? * 3;
        let within = SECONDS.into_iter().rfind(|seconds| seconds * 1_000 <= wanted);
        Some(std::time::Duration::from_secs(within.unwrap_or(1)))
    }

    /// Returns the sensors, those with most readings first.
    fn ranked(&self) -> Vec<(String, &Seen)> {
        let sensors = self.sensors.iter().enumerate();
        let mut ranked: Vec<_> = sensors
            .filter_map(|(at, seen)| Some((at, seen.as_ref()?)))
            .collect();
        ranked.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.readings));
        let name = |at: usize| {
            self.names
                .id(windrow_producer::sensors::SensorIndex(at as u32))
                .to_string()
        };
        ranked.into_iter().map(|(at, seen)| (name(at), seen)).collect()
    }

    fn span(&self) -> Option<(EventTime, EventTime)> {
        let first = self.seen().map(|seen| seen.first).min()?;
        Some((first, self.seen().map(|seen| seen.last).max()?))
    }

    fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.sensors.iter().flatten()
    }

    fn show(&self, command: &str, why_not: Option<&str>, sensors: usize) {
        if let Some(why) = why_not {
            println!("As given, it cannot be read: {why}\n");
        }
        for note in &self.notes {
            println!("{note}");
        }
        println!("\nFirst readings");
        for [time, device, tag, value] in &self.first {
            println!("  {time}  {device}  {tag}  {value}");
        }
        let more = if self.is_cut {
            " (more follow; --limit 0 looks at all)"
        } else {
            ""
        };
        println!(
            "\n{} readings of {} sensors{more}",
            show::count(self.readings),
            show::count(self.seen().count() as u64)
        );
        if let Some((first, last)) = self.span() {
            println!("from {first} to {last}");
        }
        if self.left_out > 0 {
            println!("{} rows left out by --where", show::count(self.left_out));
        }
        if self.refused > 0 {
            println!("{} readings cannot be read:", show::count(self.refused));
            for (count, why) in &self.reasons {
                println!("  {}  {why}", show::count(*count));
            }
        }
        println!("\n  readings  interval  longest gap  values              sensor");
        for (name, seen) in self.ranked().into_iter().take(sensors) {
            println!(
                "{:>10}  {:>8}  {:>11}  {:<18}  {name}",
                show::count(seen.readings),
                seen.interval().map_or_else(|| "-".to_owned(), shown_ms),
                shown_ms(seen.longest.0),
                format!("{} to {}", seen.low, seen.high)
            );
        }
        if self.seen().count() > sensors {
            println!(
                "            and {} more (--sensors)",
                self.seen().count() - sensors
            );
        }
        println!("\nThis reads it, with a window of about three readings:\n  {command}");
    }

    fn as_json(
        &self,
        mapping: &ColumnMapping,
        command: &str,
        why_not: Option<&str>,
        sensors: usize,
    ) -> serde_json::Value {
        let ranked = self.ranked().into_iter().take(sensors);
        let reasons: HashMap<_, _> = self.reasons.iter().map(|(count, why)| (why, count)).collect();
        json!({
            "command": command,
            "options": column_options(mapping).collect::<Vec<_>>(),
            "as_given": why_not,
            "notes": self.notes,
            "first_readings": self.first,
            "readings": self.readings,
            "all_read": !self.is_cut,
            "left_out": self.left_out,
            "refused": self.refused,
            "reasons": reasons,
            "sensor_count": self.seen().count(),
            "window_seconds": self.window().map(|window| window.as_secs()),
            "sensors": ranked.map(|(name, seen)| json!({
                "sensor": name,
                "readings": seen.readings,
                "first": seen.first.to_string(),
                "last": seen.last.to_string(),
                "interval_ms": seen.interval(),
                "longest_gap_ms": seen.longest.0,
                "longest_gap_from": seen.longest.1.to_string(),
                "low": seen.low,
                "high": seen.high,
            })).collect::<Vec<_>>(),
        })
    }
}

impl Seen {
    fn of(reading: &Reading) -> Self {
        Self {
            readings: 1,
            first: reading.time,
            last: reading.time,
            previous: reading.time,
            gaps: Vec::new(),
            longest: (0, reading.time),
            low: reading.value,
            high: reading.value,
        }
    }

    fn take(&mut self, reading: &Reading) {
        self.readings += 1;
        self.first = self.first.min(reading.time);
        self.last = self.last.max(reading.time);
        let gap = reading.time.as_millis() - self.previous.as_millis();
        if gap > self.longest.0 {
            self.longest = (gap, self.previous);
        }
        if gap > 0 && self.gaps.len() < GAPS {
            self.gaps.push(gap);
        }
        self.previous = reading.time;
        self.low = self.low.min(reading.value);
        self.high = self.high.max(reading.value);
    }

    /// Returns the median of the gaps between readings, in milliseconds.
    fn interval(&self) -> Option<i64> {
        let mut gaps = self.gaps.clone();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied()
    }
}

fn shown_ms(millis: i64) -> String {
    let millis = u64::try_from(millis).unwrap_or(0);
    format_duration(std::time::Duration::from_millis(millis))
}
