//! `windrow run`: the whole job in one process.

use std::num::NonZeroUsize;

use clap::Args;
use serde_json::json;
use windrow_common::Shutdown;
use windrow_producer::quarantine::QuarantineReason;
use windrow_producer::source::Until;
use windrow_producer::{AtEnd, ProducerOptions};

use crate::args::{Output, OutputArg, SourceArgs, StoreArg, WindowArgs};
use crate::error::CliError;
use crate::pipeline::{Counts, Pipeline, stop_on_signals};
use crate::progress::RunBar;
use crate::show;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: score a folder of history with one-minute windows, then stop
  windrow run --source history/ --store ./store --until-caught-up")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    windows: WindowArgs,
    /// Stop at the end the source has now, instead of following it
    #[arg(long, env = "WINDROW_UNTIL_CAUGHT_UP")]
    until_caught_up: bool,
    /// With --until-caught-up: what becomes of windows that are still open at the end
    #[arg(long, value_enum, default_value = "dispatch", env = "WINDROW_AT_END")]
    at_end: AtEndArg,
    /// Workers in this process [default: one a core]
    #[arg(long, value_name = "N", env = "WINDROW_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// Replay at this multiple of real time [default: as fast as possible]
    #[arg(long, value_name = "FACTOR", env = "WINDROW_SPEED", value_parser = speed)]
    speed: Option<f64>,
    /// The name checkpoints are kept under [default: the last part of the source's path]
    #[arg(long, value_name = "NAME", env = "WINDROW_SOURCE_NAME", value_parser = source_name)]
    source_name: Option<String>,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AtEndArg {
    /// Score them: nothing more will come
    Dispatch,
    /// Leave them to the next run, which reads their readings again
    Keep,
}

fn speed(text: &str) -> Result<f64, String> {
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

/// How many cores there are; the default number of workers.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl RunArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let windowing = self.windows.windowing()?;
        let until = if self.until_caught_up {
            Until::CaughtUp
        } else {
            Until::Stopped
        };
        let source = self.source.open(until)?;
        let store = self.store.open()?;
        if !store.any("models").await? {
            return Err(CliError::Usage(format!(
                "{} holds no models, so nothing could be scored: add some with `windrow models train` or `windrow \
                 models import`",
                store.url()
            )));
        }
        let (trigger, shutdown) = Shutdown::new();
        stop_on_signals(trigger)?;
        let bar = RunBar::new("reading");
        let pipeline = Pipeline {
            source,
            windowing,
            store,
            workers: self.workers.map_or_else(cores, NonZeroUsize::get),
            producer: ProducerOptions {
                source_name: self.source_name.unwrap_or_else(|| self.source.default_name()),
                at_end: match self.at_end {
                    AtEndArg::Dispatch => AtEnd::Dispatch,
                    AtEndArg::Keep => AtEnd::Keep,
                },
                speed: self.speed,
            },
        };
        let counts = pipeline.run(shutdown, |counts| bar.show(counts)).await;
        bar.finish();
        summarise(&counts?, self.output.output)
    }
}

fn summarise(counts: &Counts, output: Output) -> Result<(), CliError> {
    let Counts {
        produced,
        worked,
        elapsed,
    } = counts;
    let quarantined = QuarantineReason::ALL
        .into_iter()
        .zip(produced.quarantined)
        .filter(|(_, count)| *count > 0);
    if output == Output::Json {
        let by_reason: serde_json::Map<_, _> = quarantined
            .map(|(reason, count)| (reason.to_string(), count.into()))
            .collect();
        return show::json(&json!({
            "readings": produced.accepted,
            "replayed": produced.replayed,
            "quarantined": by_reason,
            "windows": produced.windows,
            "messages": produced.messages,
            "predictions": worked.predictions,
            "anomalies": worked.anomalies,
            "dead_letters": worked.dead_letters,
            "models_loaded": worked.models_loaded,
            "seconds": elapsed.as_secs_f64(),
        }));
    }
    let mut rows = vec![
        ("readings", show::rated(produced.accepted, *elapsed, "readings/s")),
        ("windows", show::rated(produced.windows, *elapsed, "windows/s")),
        ("messages", show::count(produced.messages)),
        ("predictions", show::count(worked.predictions)),
        ("anomalies", show::share(worked.anomalies, worked.predictions)),
        ("dead letters", show::count(worked.dead_letters)),
        ("quarantined", {
            let by_reason: Vec<_> = quarantined
                .map(|(reason, count)| format!("{} {reason}", show::count(count)))
                .collect();
            if by_reason.is_empty() {
                "0".to_owned()
            } else {
                by_reason.join(", ")
            }
        }),
    ];
    if produced.replayed > 0 {
        rows.push(("read again", show::count(produced.replayed)));
    }
    show::facts(&rows)
}
