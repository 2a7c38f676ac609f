//! Command-line options for the source, its windows and how it is read, and their conversion into typed settings.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use windrow_common::parse_duration;

use crate::ProducerOptions;
use crate::checkpoint::{Opening, Origin};
use crate::ingest::AtEnd;
use crate::source::decode::{
    self, ColumnMapping, Condition, DeviceFrom, FieldSource, Preset, TagPattern, TimeFormat,
};
use crate::source::file::FileSource;
use crate::source::simulator::{Simulator, SimulatorConfig};
use crate::source::{EVENT_HUBS, Source, SourceError, Until};
use crate::window::{WindowConfig, WindowConfigError, Windowing};

/// The scheme that starts the specification of a simulated fleet.
const SIMULATED: &str = "sim:";

/// Options that name a source.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Source")]
pub struct SourceArgs {
    /// Where readings come from: a CSV, NDJSON or Parquet file (plain, .gz or .zst), a folder of them, or a simulated
    /// fleet such as sim:devices=100,tags=5,duration=1d (docs/inputs.md has all its keys). Programs with Event Hubs
    /// support also read eventhubs://NAMESPACE.servicebus.windows.net/HUB
    #[arg(long, value_name = "SOURCE", env = "WINDROW_SOURCE")]
    pub source: String,
    #[command(flatten)]
    columns: ColumnArgs,
}

/// Options that say how readings are found in a source.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Source")]
pub struct ColumnArgs {
    /// Preset of options for the output of a common program; options that are given explicitly win
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        env = "WINDROW_FORMAT",
        hide_possible_values = true
    )]
    format: Option<Preset>,
    /// Column or field with the time, DATE+TIME for two columns, or a path into JSON such as body.time
    /// [default: ts, timestamp, time, event_time or datetime, or date and time]
    #[arg(long, value_name = "NAME", env = "WINDROW_COLUMN_TIME")]
    column_time: Option<String>,
    /// Column or field with the device [default: device, device_id or deviceid]
    #[arg(long, value_name = "NAME", env = "WINDROW_COLUMN_DEVICE")]
    column_device: Option<String>,
    /// Column or field with the tag; in JSON also a path such as metrics[].name [default: tag, sensor or metric]
    #[arg(long, value_name = "NAME", env = "WINDROW_COLUMN_TAG")]
    column_tag: Option<String>,
    /// Column or field with the value [default: value or reading]
    #[arg(long, value_name = "NAME", env = "WINDROW_COLUMN_VALUE")]
    column_value: Option<String>,
    /// Columns or fields that hold one measurement each: names, patterns such as 'temp_*', paths such as 'body.*', or
    /// TAG=COLUMN, separated by commas. The name of the column is the tag; an empty cell is no reading
    #[arg(long, value_name = "COLUMNS", env = "WINDROW_TAGS", value_delimiter = ',')]
    tags: Vec<TagPattern>,
    /// Columns that a pattern of --tags leaves out, separated by commas; in JSON, by the last part of their path
    #[arg(long, value_name = "COLUMNS", env = "WINDROW_IGNORE", value_delimiter = ',', value_parser = trimmed)]
    ignore: Vec<String>,
    /// Where the device is named, if no column names it: file (the file's name), path:N (a part of its path below the
    /// source, from 1, or -1 for the last), const:NAME, segment:FIELD:N (a part of a topic), or, of an event,
    /// property:NAME or annotation:NAME such as annotation:iothub-connection-device-id
    #[arg(long, value_name = "WHERE", env = "WINDROW_DEVICE_FROM")]
    device_from: Option<DeviceFrom>,
    /// Read only rows with this value in a column: COLUMN=VALUE or COLUMN!=VALUE. Several, separated by commas, must all
    /// hold
    #[arg(
        long = "where",
        value_name = "CONDITION",
        env = "WINDROW_WHERE",
        value_delimiter = ','
    )]
    conditions: Vec<Condition>,
    /// Form of the times: a pattern such as '%d/%m/%Y %H:%M:%S', or epoch (numbers since 1970, also before 1980),
    /// epoch-s, epoch-ms, epoch-us, epoch-ns, excel, datenum, labview, filetime or ticks
    /// [default: RFC 3339 and the like, or a number since 1970]
    #[arg(long, value_name = "FORM", env = "WINDROW_TIME_FORMAT")]
    time_format: Option<TimeFormat>,
    /// Time zone of times without one, such as Europe/Berlin. If a time occurs twice because clocks are put back, the
    /// first is used [default: UTC]
    #[arg(long, value_name = "ZONE", env = "WINDROW_TIMEZONE", value_parser = timezone)]
    timezone: Option<String>,
    /// Separator of the cells of a text file: a character, or tab [default: detected from its first lines]
    #[arg(long, value_name = "CHAR", env = "WINDROW_DELIMITER", value_parser = delimiter)]
    delimiter: Option<char>,
    /// Line of a text file that names the columns, from 1 [default: the first that names those needed]
    #[arg(long, value_name = "LINE", env = "WINDROW_HEADER_LINE", value_parser = clap::value_parser!(u64).range(1..))]
    header_line: Option<u64>,
    /// Where an event's time is instead of in its body: property:NAME or annotation:NAME, such as
    /// annotation:iothub-enqueuedtime
    #[arg(
        long,
        value_name = "PLACE",
        env = "WINDROW_TIME_FROM",
        conflicts_with = "column_time"
    )]
    time_from: Option<FieldSource>,
}

impl SourceArgs {
    /// Names a source whose columns or fields are those of `columns`.
    pub fn new(source: String, columns: ColumnArgs) -> Self {
        Self { source, columns }
    }

    /// Returns whether the source is an Event Hub, which [`SourceArgs::open`] cannot open.
    pub fn is_event_hub(&self) -> bool {
        self.source.starts_with(EVENT_HUBS)
    }

    /// Returns how readings are found in it.
    pub fn mapping(&self) -> ColumnMapping {
        let columns = self.columns.clone();
        let given = ColumnMapping {
            timestamp: columns.column_time,
            device: columns.column_device,
            tag: columns.column_tag,
            value: columns.column_value,
            tags: columns.tags,
            ignore: columns.ignore,
            device_from: columns.device_from,
            time_from: columns.time_from,
            conditions: columns.conditions,
            time_format: columns.time_format,
            timezone: columns.timezone,
            delimiter: columns.delimiter,
            header_line: columns.header_line,
        };
        match columns.format {
            Some(preset) => preset.complete(given),
            None => given,
        }
    }

    /// Returns how readings are found in it, if the options agree with one another.
    pub fn checked_mapping(&self) -> Result<ColumnMapping, SourceError> {
        let mapping = self.mapping();
        mapping.check().map_err(|why| SourceError::Spec {
            spec: self.source.clone(),
            why,
        })?;
        Ok(mapping)
    }

    /// Opens a source that this process reads alone: files or a simulated fleet.
    pub fn open(&self, until: Until) -> Result<Box<dyn Source>, SourceError> {
        if self.is_event_hub() {
            return Err(SourceError::Spec {
                spec: self.source.clone(),
                why: "this command cannot read an Event Hub; name files or a simulated fleet".to_owned(),
            });
        }
        if self.source.starts_with(SIMULATED) {
            let config: SimulatorConfig = self.source.parse()?;
            return Ok(Box::new(Simulator::new(config, until)?));
        }
        let source = FileSource::open(Path::new(&self.source), &self.checked_mapping()?, until)?;
        Ok(Box::new(source.explain()))
    }

    /// Returns what the source's checkpoints belong to.
    pub fn origin(&self) -> Origin {
        let path = Path::new(&self.source);
        let source = if self.source.starts_with(SIMULATED) {
            // The names of its partitions tell one fleet from another, and a longer run may continue a shorter one.
            SIMULATED.to_owned()
        } else if self.is_event_hub() {
            self.source.clone()
        } else {
            let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            path.to_string_lossy().into_owned()
        };
        Origin {
            source,
            columns: self.mapping(),
        }
    }

    /// Returns the default `--at-end`. A file may grow until the next run; more events follow in a hub at any time.
    fn default_end(&self) -> AtEnd {
        match self.is_event_hub() {
            true => AtEnd::Keep,
            false => AtEnd::Reached,
        }
    }

    /// Returns the default name for checkpoints: that of the file, folder or hub, or `sim`.
    pub fn default_name(&self) -> String {
        if self.source.starts_with(SIMULATED) {
            return "sim".to_owned();
        }
        if self.is_event_hub() {
            return self.source.rsplit('/').next().unwrap_or("eventhub").to_owned();
        }
        let path = Path::new(&self.source);
        // `.` and `/` have no name of their own.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        path.file_name()
            .map_or_else(|| "source".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

/// Options that say how to cut windows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Windows")]
pub struct WindowArgs {
    /// Length of a window: the readings of a sensor in it become one row to score
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_WINDOW", value_parser = parse_duration)]
    pub window: Duration,
    /// Dispatch interval, a whole number of windows; each sensor gets one message per interval [default: the window]
    #[arg(long, value_name = "DURATION", env = "WINDROW_INTERVAL", value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// How far a reading's time may lie behind the newest reading of its sensor. Files that are read to their end may
    /// be in any order
    #[arg(long, value_name = "DURATION", default_value = "5s", env = "WINDROW_OUT_OF_ORDERNESS", value_parser = parse_duration)]
    pub out_of_orderness: Duration,
    /// How much longer an interval waits for delayed readings
    #[arg(long, value_name = "DURATION", default_value = "0s", env = "WINDROW_ALLOWED_LATENESS", value_parser = parse_duration)]
    pub allowed_lateness: Duration,
    /// How far a reading's time may lie ahead of its arrival before it is quarantined
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "WINDROW_MAX_SKEW", value_parser = parse_duration)]
    pub max_skew: Duration,
    /// How long a partition may be silent, in wall-clock time, before the others stop waiting for it. The event time of
    /// an Event Hub's partition then advances without readings, so that its last windows close. A sensor's windows stop
    /// waiting for it once its partition has advanced by this much event time without a reading of that sensor
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_IDLE_AFTER", value_parser = parse_duration)]
    pub idle_after: Duration,
}

impl WindowArgs {
    /// Checks the options and returns the windowing.
    pub fn windowing(&self) -> Result<Windowing, WindowConfigError> {
        let config = WindowConfig {
            window: self.window,
            interval: self.interval,
            out_of_orderness: self.out_of_orderness,
            allowed_lateness: self.allowed_lateness,
            max_skew: self.max_skew,
            idle_after: self.idle_after,
        };
        config.validate()
    }
}

/// Options that say how to read a source: how far, how fast, and under which name.
#[derive(Args, Clone, Debug)]
pub struct ReadArgs {
    /// Stop at the current end of the source instead of following it
    #[arg(long, env = "WINDROW_UNTIL_CAUGHT_UP")]
    pub until_caught_up: bool,
    /// With --until-caught-up: what to do with windows still open at the end [default: keep for an Event Hub, otherwise
    /// reached]
    #[arg(long, value_enum, value_name = "WHAT", env = "WINDROW_AT_END")]
    pub at_end: Option<AtEnd>,
    /// Replay at this multiple of real time [default: as fast as possible]
    #[arg(long, value_name = "FACTOR", env = "WINDROW_SPEED", value_parser = speed)]
    pub speed: Option<f64>,
    /// Name for the source's checkpoints [default: the last part of the source's path]
    #[arg(long, value_name = "NAME", env = "WINDROW_SOURCE_NAME", value_parser = source_name)]
    pub source_name: Option<String>,
    /// Read the source from its start, whatever an earlier run has read. Its windows are scored again, with the same
    /// results. Not for an Event Hub, and not for a service that may be started again
    #[arg(long, env = "WINDROW_RESTART")]
    pub restart: bool,
}

impl ReadArgs {
    /// Returns how far to read the source.
    pub fn until(&self) -> Until {
        if self.until_caught_up {
            Until::CaughtUp
        } else {
            Until::Stopped
        }
    }

    /// Returns the options for the producer of `source`.
    pub fn options(&self, source: &SourceArgs) -> ProducerOptions {
        ProducerOptions {
            opening: Opening {
                source_name: self.source_name.clone().unwrap_or_else(|| source.default_name()),
                origin: source.origin(),
                restart: self.restart,
            },
            at_end: self.at_end.unwrap_or_else(|| source.default_end()),
            speed: self.speed,
        }
    }
}

fn trimmed(text: &str) -> Result<String, String> {
    Ok(text.trim().to_owned())
}

fn timezone(text: &str) -> Result<String, String> {
    decode::zone(text).map(|_| text.to_owned())
}

/// Parses a `--delimiter`.
fn delimiter(text: &str) -> Result<char, String> {
    match text {
        "tab" | "\\t" | "\t" => Ok('\t'),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(char::from(*byte)),
            _ => Err("write one character such as ; or |, or tab".to_owned()),
        },
    }
}

/// Parses a `--speed`.
pub fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if speed > 0.0 && f64::is_finite(speed) => Ok(speed),
        _ => Err("write a number above 0, such as 60 for one hour per minute".to_owned()),
    }
}

/// Checks a `--source-name`.
pub fn source_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("the name is empty".to_owned()),
        1..=60 => Ok(text.to_owned()),
        bytes => Err(format!("the name has {bytes} bytes; at most 60 are allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        windows: WindowArgs,
    }

    #[test]
    fn the_options_have_the_defaults_of_the_windower() {
        let windows = windrow_service::defaults::<Program>().windows.windowing();
        assert_eq!(
            format!("{windows:?}"),
            format!("{:?}", WindowConfig::default().validate())
        );
    }
}
