//! Options that say which source is read and how its windows are cut, and what they become.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use windrow_common::parse_duration;

use crate::ProducerOptions;
use crate::ingest::AtEnd;
use crate::source::decode::ColumnMapping;
use crate::source::file::FileSource;
use crate::source::simulator::{Simulator, SimulatorConfig};
use crate::source::{EVENT_HUBS, Source, SourceError, Until};
use crate::window::{WindowConfig, WindowConfigError, Windowing};

/// Which source.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Source")]
pub struct SourceArgs {
    /// Where readings come from: a CSV, NDJSON or Parquet file (plain, .gz or .zst), a folder of them, or a simulated
    /// fleet such as sim:devices=100,tags=5,duration=1d. Programs that know Event Hubs also read
    /// eventhubs://NAMESPACE.servicebus.windows.net/HUB
    #[arg(long, value_name = "SOURCE", env = "WINDROW_SOURCE")]
    pub source: String,
    /// Column or field with the time [default: ts, timestamp, time, event_time or datetime]
    #[arg(long, value_name = "NAME", env = "WINDROW_COLUMN_TIME")]
    column_time: Option<String>,
    /// Column or field with the device [default: device, device_id or deviceid]
    #[arg(long, value_name = "NAME", env = "WINDROW_COLUMN_DEVICE")]
    column_device: Option<String>,
    /// Column or field with the tag [default: tag, sensor or metric]
    #[arg(long, value_name = "NAME", env = "WINDROW_COLUMN_TAG")]
    column_tag: Option<String>,
    /// Column or field with the value [default: value or reading]
    #[arg(long, value_name = "NAME", env = "WINDROW_COLUMN_VALUE")]
    column_value: Option<String>,
}

impl SourceArgs {
    /// Whether it names an Event Hub, which other code opens.
    pub fn is_event_hub(&self) -> bool {
        self.source.starts_with(EVENT_HUBS)
    }

    /// Which columns or fields hold what.
    pub fn mapping(&self) -> ColumnMapping {
        ColumnMapping {
            timestamp: self.column_time.clone(),
            device: self.column_device.clone(),
            tag: self.column_tag.clone(),
            value: self.column_value.clone(),
        }
    }

    /// Opens a source that is read by this process alone: files or a simulated fleet.
    pub fn open(&self, until: Until) -> Result<Box<dyn Source>, SourceError> {
        if self.is_event_hub() {
            return Err(SourceError::Spec {
                spec: self.source.clone(),
                why: "an Event Hub cannot be read here; name files or a simulated fleet".to_owned(),
            });
        }
        if self.source.starts_with("sim:") {
            let config: SimulatorConfig = self.source.parse()?;
            return Ok(Box::new(Simulator::new(config, until)?));
        }
        Ok(Box::new(FileSource::open(
            Path::new(&self.source),
            &self.mapping(),
            until,
        )?))
    }

    /// A file is all there is; a hub goes on.
    fn usual_end(&self) -> AtEnd {
        match self.is_event_hub() {
            true => AtEnd::Keep,
            false => AtEnd::Dispatch,
        }
    }

    /// The name checkpoints are kept under when none is given: the file's or folder's, or `sim`.
    pub fn default_name(&self) -> String {
        if self.source.starts_with("sim:") {
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

/// How windows are cut.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Windows")]
pub struct WindowArgs {
    /// Length of a window: the stretch of time that becomes one row to score
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_WINDOW", value_parser = parse_duration)]
    pub window: Duration,
    /// Dispatch interval, a whole number of windows; a sensor gets one message for each [default: the window]
    #[arg(long, value_name = "DURATION", env = "WINDROW_INTERVAL", value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// How much older than its partition's newest reading a reading may come
    #[arg(long, value_name = "DURATION", default_value = "5s", env = "WINDROW_OUT_OF_ORDERNESS", value_parser = parse_duration)]
    pub out_of_orderness: Duration,
    /// How much longer an interval waits for stragglers
    #[arg(long, value_name = "DURATION", default_value = "0s", env = "WINDROW_ALLOWED_LATENESS", value_parser = parse_duration)]
    pub allowed_lateness: Duration,
    /// How far a reading's time may be ahead of its arrival before it is quarantined
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "WINDROW_MAX_SKEW", value_parser = parse_duration)]
    pub max_skew: Duration,
    /// How long a partition may be silent (by the clock on the wall) before the others no longer wait for it, and before
    /// time goes on without readings in one of an Event Hub, so that its last windows close
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_IDLE_AFTER", value_parser = parse_duration)]
    pub idle_after: Duration,
}

impl WindowArgs {
    /// The windows, checked.
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

/// How a source is read: how far, how fast, and under which name.
#[derive(Args, Clone, Debug)]
pub struct ReadArgs {
    /// Stop at the end the source has now, instead of following it
    #[arg(long, env = "WINDROW_UNTIL_CAUGHT_UP")]
    pub until_caught_up: bool,
    /// With --until-caught-up: what becomes of windows that are still open at the end [default: dispatch, of an Event
    /// Hub keep]
    #[arg(long, value_enum, value_name = "WHAT", env = "WINDROW_AT_END")]
    pub at_end: Option<AtEnd>,
    /// Replay at this multiple of real time [default: as fast as possible]
    #[arg(long, value_name = "FACTOR", env = "WINDROW_SPEED", value_parser = speed)]
    pub speed: Option<f64>,
    /// The name checkpoints are kept under [default: the last part of the source's path]
    #[arg(long, value_name = "NAME", env = "WINDROW_SOURCE_NAME", value_parser = source_name)]
    pub source_name: Option<String>,
}

impl ReadArgs {
    /// How far the source is read.
    pub fn until(&self) -> Until {
        if self.until_caught_up {
            Until::CaughtUp
        } else {
            Until::Stopped
        }
    }

    /// What the producer of `source` is told.
    pub fn options(&self, source: &SourceArgs) -> ProducerOptions {
        ProducerOptions {
            source_name: self.source_name.clone().unwrap_or_else(|| source.default_name()),
            at_end: self.at_end.unwrap_or_else(|| source.usual_end()),
            speed: self.speed,
        }
    }
}

/// A `--speed`.
pub fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if speed > 0.0 && f64::is_finite(speed) => Ok(speed),
        _ => Err("write a number above 0, such as 60 for an hour a minute".to_owned()),
    }
}

fn source_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("the name is empty".to_owned()),
        1..=60 => Ok(text.to_owned()),
        bytes => Err(format!("the name has {bytes} bytes; at most 60 are allowed")),
    }
}
