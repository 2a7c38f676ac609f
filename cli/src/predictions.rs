//! `windrow predictions export`: writes the stored predictions in order, one for each window.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use windrow_common::{EventTime, Prediction, SensorId};
use windrow_store::{Row, StoreArg};

use crate::error::CliError;
use crate::show;

/// Maximum number of rows in a table for people.
const TABLE_ROWS: usize = 1_000;

const COLUMNS: [&str; 24] = [
    "device",
    "tag",
    "window_start",
    "window_ms",
    "count",
    "mean",
    "std",
    "min",
    "max",
    "first",
    "last",
    "decision",
    "score",
    "anomaly",
    "model_version",
    "shadow_version",
    "shadow_decision",
    "shadow_score",
    "threshold",
    "cause",
    "cause_value",
    "cause_low",
    "cause_high",
    "cause_share",
];

#[derive(Subcommand, Debug)]
pub(crate) enum PredictionsCommand {
    /// Write predictions as a table, CSV, JSON lines or Parquet: one for each window, always in the same order
    Export(ExportArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example: the anomalies of one sensor, to a CSV file
  windrow predictions export --store ./store --sensor pump-7/temp --anomalies --format csv --to-file anomalies.csv")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Output format; json writes one object per line
    #[arg(long, value_enum, default_value = "table", env = "WINDROW_EXPORT_FORMAT")]
    format: Format,
    /// Only this sensor, as DEVICE/TAG; write a slash inside a name as %2F
    #[arg(long, value_name = "DEVICE/TAG", env = "WINDROW_SENSOR")]
    sensor: Option<SensorId>,
    /// Only windows that start at or after this time, such as 2026-01-05T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// Only windows that start before this time, such as 2026-01-06T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: Option<EventTime>,
    /// Only windows that are anomalies
    #[arg(long, env = "WINDROW_ANOMALIES")]
    anomalies: bool,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE", env = "WINDROW_TO_FILE")]
    to_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
    Parquet,
}

impl PredictionsCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Export(args) => args.run().await,
        }
    }
}

impl ExportArgs {
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let mut sink = Sink::new(self.format, self.to_file.as_deref())?;
        for hour in store.hours("predictions", self.from, self.to).await? {
            let rows = store.predictions(&hour).await?.rows;
            sink.take(rows.into_iter().filter(|row| self.wants(row)))?;
        }
        sink.finish()
    }

    fn wants(&self, row: &Prediction) -> bool {
        let start = row.aggregate.window_start;
        self.sensor.as_ref().is_none_or(|sensor| *sensor == row.sensor)
            && self.from.is_none_or(|from| start >= from)
            && self.to.is_none_or(|to| start < to)
            && (row.anomaly || !self.anomalies)
    }
}

/// An output for rows, written hour by hour where the format allows it, otherwise at the end.
struct Sink {
    format: Format,
    path: PathBuf,
    out: Box<dyn Write>,
    held: Vec<Prediction>,
    rows: usize,
}

impl Sink {
    fn new(format: Format, file: Option<&Path>) -> Result<Self, CliError> {
        let path = file.map_or_else(|| PathBuf::from("standard output"), Path::to_owned);
        let out: Box<dyn Write> = match file {
            None if format == Format::Parquet && std::io::IsTerminal::is_terminal(&std::io::stdout()) => {
                return Err(CliError::Usage(
                    "cannot write Parquet to a terminal: give --to-file, or redirect the output".to_owned(),
                ));
            }
            None => Box::new(BufWriter::new(std::io::stdout())),
            Some(file) => {
                let file = File::create(file)
                    .map_err(|error| CliError::Usage(format!("cannot write {}: {error}", path.display())))?;
                Box::new(BufWriter::new(file))
            }
        };
        let mut sink = Self {
            format,
            path,
            out,
            held: Vec::new(),
            rows: 0,
        };
        if format == Format::Csv {
            sink.line(&COLUMNS.join(","))?;
        }
        Ok(sink)
    }

    fn line(&mut self, line: &str) -> Result<(), CliError> {
        writeln!(self.out, "{line}").map_err(|source| CliError::Write {
            path: self.path.clone(),
            source,
        })
    }

    fn take(&mut self, rows: impl Iterator<Item = Prediction>) -> Result<(), CliError> {
        for row in rows {
            self.rows += 1;
            match self.format {
                Format::Csv => self.line(&csv_line(&row))?,
                Format::Json => self.line(&json_line(&row))?,
                Format::Table if self.rows > TABLE_ROWS => {}
                Format::Table | Format::Parquet => self.held.push(row),
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), CliError> {
        let mut last = Vec::new();
        match self.format {
            Format::Csv | Format::Json => {}
            Format::Parquet => last = Prediction::encode(&self.held)?.to_vec(),
            Format::Table => {
                let rows = self.held.iter().map(table_row).collect();
                let headings = [
                    "sensor", "window", "readings", "mean", "decision", "score", "anomaly", "model", "cause",
                ];
                last = format!("{}\n", show::table_text(&headings, rows)).into_bytes();
                if self.rows > TABLE_ROWS {
                    let more = show::count((self.rows - TABLE_ROWS) as u64);
                    last.extend(format!("… and {more} more; --format csv writes all\n").bytes());
                }
            }
        }
        self.out
            .write_all(&last)
            .and_then(|()| self.out.flush())
            .map_err(|source| CliError::Write {
                path: self.path,
                source,
            })
    }
}

fn table_row(row: &Prediction) -> Vec<String> {
    vec![
        row.sensor.to_string(),
        row.aggregate.window_start.to_string(),
        row.aggregate.count.to_string(),
        known(row.aggregate.mean)
            .map(|mean| format!("{mean:.6}"))
            .unwrap_or_default(),
        format!("{:+.6}", row.decision),
        row.score.map(|score| format!("{score:+.3}")).unwrap_or_default(),
        if row.anomaly { "ANOMALY" } else { "" }.to_owned(),
        row.model_version.to_string(),
        row.cause.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]
}

fn csv_line(row: &Prediction) -> String {
    let a = &row.aggregate;
    // Rust writes the shortest decimal that reads back as the same f64.
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let (shadow, cause) = (row.shadow.as_ref(), row.cause.as_ref());
    let normal = cause.and_then(|cause| cause.normal);
    let scored = format!(
        "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
        csv_cell(&row.sensor.device),
        csv_cell(&row.sensor.tag),
        a.window_start,
        row.window_length.as_millis(),
        a.count,
        number(known(a.mean)),
        number(known(a.std)),
        number(known(a.min)),
        number(known(a.max)),
        number(known(a.first)),
        number(known(a.last)),
        row.decision,
        number(row.score),
        row.anomaly,
        row.model_version,
    );
    format!(
        "{scored},{},{},{},{},{},{},{},{},{}",
        shadow.map_or("", |shadow| &shadow.version),
        number(shadow.map(|shadow| shadow.decision)),
        number(shadow.map(|shadow| shadow.score)),
        number(row.threshold),
        cause.map_or("", |cause| &cause.feature),
        number(cause.map(|cause| cause.value)),
        number(normal.map(|(low, _)| low)),
        number(normal.map(|(_, high)| high)),
        number(cause.map(|cause| cause.share)),
    )
}

/// Returns the number, or `None` for NaN: a window of several tags has no value of its own.
fn known(value: f64) -> Option<f64> {
    Some(value).filter(|value| !value.is_nan())
}

/// Quotes a cell where RFC 4180 requires it.
fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn json_line(row: &Prediction) -> String {
    let a = &row.aggregate;
    json!({
        "device": &*row.sensor.device, "tag": &*row.sensor.tag,
        "window_start": a.window_start.to_string(), "window_ms": row.window_length.as_millis(),
        "count": a.count, "mean": a.mean, "std": a.std, "min": a.min, "max": a.max,
        "first": a.first, "last": a.last,
        "decision": row.decision, "score": row.score, "anomaly": row.anomaly, "model_version": &*row.model_version,
        "shadow_version": row.shadow.as_ref().map(|shadow| &*shadow.version),
        "shadow_decision": row.shadow.as_ref().map(|shadow| shadow.decision),
        "shadow_score": row.shadow.as_ref().map(|shadow| shadow.score),
        "threshold": row.threshold,
        "cause": row.cause.as_ref().map(|cause| &*cause.feature),
        "cause_value": row.cause.as_ref().map(|cause| cause.value),
        "cause_low": row.cause.as_ref().and_then(|cause| cause.normal).map(|(low, _)| low),
        "cause_high": row.cause.as_ref().and_then(|cause| cause.normal).map(|(_, high)| high),
        "cause_share": row.cause.as_ref().map(|cause| cause.share),
    })
    .to_string()
}
