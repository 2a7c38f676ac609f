//! `windrow run`: the whole pipeline in one process.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use windrow_alerter::{Alerter, AlerterError};
use windrow_common::parse_duration;
use windrow_producer::args::{ReadArgs, WindowArgs};
use windrow_producer::quarantine::QuarantineReason;
use windrow_producer::source::Until;
use windrow_service::{Shutdown, stop_on_signals};
use windrow_store::{StoreArg, StoreError};

use crate::error::CliError;
use crate::incidents::{AlertArgs, Found, update};
use crate::input::InputArgs;
use crate::output::{OutputArg, OutputFormat};
use crate::pipeline::{Counts, Ran, Run, Work, within};
use crate::progress::RunBar;
use crate::retrain::retrain_every;
use crate::show;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: score a folder of history with one-minute windows, then stop
  windrow run --source history/ --store ./store --until-caught-up")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    windows: WindowArgs,
    #[command(flatten)]
    read: ReadArgs,
    /// Number of workers in this process [default: one per CPU core]
    #[arg(long, value_name = "N", env = "WINDROW_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// How long a stop may take before unfinished work is left to the next run
    #[arg(long, value_name = "DURATION", default_value = "25s", env = "WINDROW_DRAIN_TIMEOUT", value_parser = parse_duration)]
    drain_timeout: Duration,
    /// Do not look for incidents in the predictions
    #[arg(long, env = "WINDROW_NO_INCIDENTS")]
    no_incidents: bool,
    /// Train the models again this often, such as 1d, on the last windows of their sensors, as `windrow retrain` does
    #[arg(long, value_name = "DURATION", env = "WINDROW_RETRAIN", value_parser = parse_duration)]
    retrain: Option<Duration>,
    #[command(flatten)]
    alerts: AlertArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// Returns the number of CPU cores: the default number of workers.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl RunArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let windowing = self.windows.windowing()?;
        let until = self.read.until();
        let source = self.input.open(until)?;
        let store = self.store.open()?;
        store.check_file_system().await?;
        if !store.any("models").await? {
            return Err(CliError::Usage(format!(
                "{} holds no models, so nothing can be scored: add some with `windrow models train` or `windrow \
                 models import`",
                store.url()
            )));
        }
        let alerter = self.alerts.alerter(&store)?;
        let (trigger, shutdown) = Shutdown::new();
        stop_on_signals(Arc::new(trigger)).map_err(CliError::Signals)?;
        let bar = RunBar::new("reading");
        let run = Run {
            work: Work::Run(source),
            windowing,
            store: store.clone(),
            workers: self.workers.map_or_else(cores, NonZeroUsize::get),
            producer: self.read.options(&self.input.source),
        };
        let running = run.run(shutdown.clone(), |counts| bar.show(counts));
        let follows = until == Until::Stopped && !self.no_incidents;
        let (alerter, following) = match follows {
            true => (None, Some(tokio::spawn(follow(alerter, shutdown.clone())))),
            false => (Some(alerter).filter(|_| !self.no_incidents), None),
        };
        let rules = self.alerts.rules()?;
        let retraining = self.retrain.map(|every| {
            let again = retrain_every(every, store.clone(), rules, shutdown.clone());
            tokio::spawn(again)
        });
        let ran = within(self.drain_timeout, shutdown.clone(), &store, running).await;
        if let Some(retraining) = retraining {
            retraining.abort();
        }
        bar.finish();
        let Ran { counts, usable } = ran?;
        if let Some(following) = following {
            following
                .await
                .map_err(|error| CliError::Panicked(error.to_string()))??;
        }
        let found = match alerter {
            Some(alerter) => match within(self.drain_timeout, shutdown, &store, update(alerter)).await {
                Err(CliError::Alerter(AlerterError::Other { leader })) => {
                    tracing::info!(
                        leader,
                        "another alerter keeps the incidents of this store up to date"
                    );
                    None
                }
                found => Some(found?),
            },
            None => None,
        };
        summarise(&counts, found.as_ref(), self.output.output)?;
        match until {
            Until::CaughtUp => Ok(usable?),
            Until::Stopped => Ok(()),
        }
    }
}

/// Keeps the incidents up to date beside the run.
async fn follow(alerter: Alerter, shutdown: Shutdown) -> Result<(), StoreError> {
    let ended = alerter.run(shutdown).await;
    if let Err(error) = &ended {
        tracing::error!(%error, "incidents are no longer looked for; scoring goes on");
    }
    ended
}

/// Prints what a run did.
pub(crate) fn summarise(
    counts: &Counts,
    found: Option<&Found>,
    output: OutputFormat,
) -> Result<(), CliError> {
    let Counts {
        produced,
        worked,
        grouped,
        elapsed,
    } = counts;
    let quarantined = QuarantineReason::ALL
        .into_iter()
        .zip(produced.quarantined)
        .filter(|(_, count)| *count > 0);
    if output == OutputFormat::Json {
        let by_reason: serde_json::Map<_, _> = quarantined
            .map(|(reason, count)| (reason.to_string(), count.into()))
            .collect();
        return show::json(&json!({
            "readings": produced.accepted,
            "replayed": produced.replayed,
            "left_out": produced.left_out,
            "quarantined": by_reason,
            "windows": produced.windows,
            "left_open": produced.left_open,
            "missed_files": produced.missed_partitions,
            "messages": produced.messages,
            "predictions": worked.predictions,
            "group_windows": grouped,
            "anomalies": worked.anomalies,
            "dead_letters": worked.dead_letters,
            "models_loaded": worked.models_loaded,
            "incidents": found.map(Found::json),
            "seconds": elapsed.as_secs_f64(),
        }));
    }
    let mut rows = vec![
        ("readings", show::rated(produced.accepted, *elapsed, "readings/s")),
        ("windows", show::rated(produced.windows, *elapsed, "windows/s")),
        ("messages", show::count(produced.messages)),
        ("predictions", show::count(worked.predictions)),
        ("anomalies", show::share(worked.anomalies, worked.predictions)),
        (
            "incidents",
            found.map_or_else(|| "not looked for here".to_owned(), Found::text),
        ),
        ("dead letters", show::count(worked.dead_letters)),
        ("quarantined", {
            let by_reason: Vec<_> = quarantined
                .map(|(reason, count)| format!("{} {reason}", show::count(count)))
                .collect();
            let share = show::share(produced.quarantined_in_all(), produced.read());
            if by_reason.is_empty() {
                "0".to_owned()
            } else {
                format!("{share}: {}", by_reason.join(", "))
            }
        }),
    ];
    if *grouped > 0 {
        rows.push((
            "tags together",
            format!("{} windows, among the predictions", show::count(*grouped)),
        ));
    }
    if produced.left_out > 0 {
        rows.push((
            "left out",
            format!("{} rows by --where", show::count(produced.left_out)),
        ));
    }
    if produced.left_open > 0 {
        let left = show::count(produced.left_open);
        let why = "the readings end before these windows do; the next run goes on with them";
        rows.push((
            "left open",
            format!("{left} ({why}; --at-end dispatch scores them)"),
        ));
    }
    if produced.missed_partitions > 0 {
        let missed = show::count(produced.missed_partitions);
        rows.push((
            "missed files",
            format!("{missed} (gone, although open windows needed their rows)"),
        ));
    }
    if produced.replayed > 0 {
        rows.push(("read again", show::count(produced.replayed)));
    }
    show::facts(&rows)
}
