//! Options that several commands share, and how they become sources, windows and stores.

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use windrow_common::parse_duration;
use windrow_common::store::Store;
use windrow_producer::source::file::{ColumnMapping, FileSource};
use windrow_producer::source::simulator::{Simulator, SimulatorConfig};
use windrow_producer::source::{Source, Until};
use windrow_producer::window::{WindowConfig, Windowing};

use crate::error::CliError;

/// How a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArg {
    /// How to show the result
    #[arg(long, value_enum, default_value = "table", env = "WINDROW_OUTPUT")]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArg {
    /// The store: a folder, or file:///folder
    #[arg(long, value_name = "URL", env = "WINDROW_STORE")]
    pub(crate) store: String,
}

impl StoreArg {
    /// Opens a store that must be there.
    pub(crate) fn open(&self) -> Result<Store, CliError> {
        Ok(Store::open(&self.store)?)
    }

    /// Opens a store to write to, making it if need be.
    pub(crate) fn create(&self) -> Result<Store, CliError> {
        Ok(Store::create(&self.store)?)
    }
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Source")]
pub(crate) struct SourceArgs {
    /// Where readings come from: a CSV, NDJSON or Parquet file (plain, .gz or .zst), a folder of them, or a simulated
    /// fleet such as sim:devices=100,tags=5,duration=1d
    #[arg(long, value_name = "PATH|sim:…", env = "WINDROW_SOURCE")]
    pub(crate) source: String,
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
    /// Opens the source, with columns and files checked.
    pub(crate) fn open(&self, until: Until) -> Result<Box<dyn Source>, CliError> {
        if self.source.starts_with("sim:") {
            let config: SimulatorConfig = self.source.parse()?;
            return Ok(Box::new(Simulator::new(config, until)?));
        }
        let mapping = ColumnMapping {
            timestamp: self.column_time.clone(),
            device: self.column_device.clone(),
            tag: self.column_tag.clone(),
            value: self.column_value.clone(),
        };
        Ok(Box::new(FileSource::open(
            Path::new(&self.source),
            &mapping,
            until,
        )?))
    }

    /// The name checkpoints are kept under when none is given: the file's or folder's, or `sim`.
    pub(crate) fn default_name(&self) -> String {
        if self.source.starts_with("sim:") {
            return "sim".to_owned();
        }
        let path = Path::new(&self.source);
        // `.` and `/` have no name of their own.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        path.file_name()
            .map_or_else(|| "source".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Windows")]
pub(crate) struct WindowArgs {
    /// Length of a window: the stretch of time that becomes one row to score
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_WINDOW", value_parser = duration)]
    pub(crate) window: Duration,
    /// Dispatch interval, a whole number of windows; a sensor gets one message for each [default: the window]
    #[arg(long, value_name = "DURATION", env = "WINDROW_INTERVAL", value_parser = duration)]
    pub(crate) interval: Option<Duration>,
    /// How much older than its partition's newest reading a reading may come
    #[arg(long, value_name = "DURATION", default_value = "5s", env = "WINDROW_OUT_OF_ORDERNESS", value_parser = duration)]
    pub(crate) out_of_orderness: Duration,
    /// How much longer an interval waits for stragglers
    #[arg(long, value_name = "DURATION", default_value = "0s", env = "WINDROW_ALLOWED_LATENESS", value_parser = duration)]
    pub(crate) allowed_lateness: Duration,
    /// How far a reading's time may be ahead of its arrival before it is quarantined
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "WINDROW_MAX_SKEW", value_parser = duration)]
    pub(crate) max_skew: Duration,
    /// How long a partition may be silent (by the clock on the wall) before the others no longer wait for it
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_IDLE_AFTER", value_parser = duration)]
    pub(crate) idle_after: Duration,
}

impl WindowArgs {
    /// The windows, checked.
    pub(crate) fn windowing(&self) -> Result<Windowing, CliError> {
        let config = WindowConfig {
            window: self.window,
            interval: self.interval,
            out_of_orderness: self.out_of_orderness,
            allowed_lateness: self.allowed_lateness,
            max_skew: self.max_skew,
            idle_after: self.idle_after,
        };
        config
            .validate()
            .map_err(|error| CliError::Usage(error.to_string()))
    }
}

/// For clap.
pub(crate) fn duration(text: &str) -> Result<Duration, windrow_common::TimeError> {
    parse_duration(text)
}
