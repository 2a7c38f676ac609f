//! `windrow replay`: reads a stretch of a source again and dispatches its windows.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::Args;
use windrow_common::{EventTime, Length, SensorId};
use windrow_producer::args::{ColumnArgs, SourceArgs, WindowArgs, source_name};
use windrow_producer::checkpoint::Opening;
use windrow_producer::source::{Selected, Selection, Until};
use windrow_producer::window::Windowing;
use windrow_producer::{AtEnd, Pipeline, ProducerOptions, Stats};
use windrow_service::{Shutdown, stop_on_signals};
use windrow_store::{Store, StoreArg};

use crate::broker::BrokerArgs;
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::pipeline::{Ran, Run, Work, within};
use crate::progress::RunBar;
use crate::run::{cores, summarise};
use crate::show;

/// How long a stop may take before unfinished work is given up.
const DRAIN_WITHIN: Duration = Duration::from_secs(25);

#[derive(Args, Debug)]
#[command(after_help = "\
In a replay no reading is late, and for each window the prediction with the most readings counts. So a replay
recovers lost windows and late readings. It neither uses nor moves the source's checkpoint.
Give the window, the interval and the --source-name of the run.
Without a broker it scores the windows itself; with --amqp-url or --amqp-url-file it publishes them for workers.
Example: score an hour of a folder once more
  windrow replay readings/ --store ./store --from 2026-01-05T07:00:00Z --to 2026-01-05T08:00:00Z")]
pub(crate) struct ReplayArgs {
    /// What to read again: files or a simulated fleet, as for `windrow run --source`
    #[arg(value_name = "SOURCE", env = "WINDROW_SOURCE")]
    source: String,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    windows: WindowArgs,
    /// Start of the stretch, such as 2026-01-05T07:00:00Z; moved back to the start of its interval
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: EventTime,
    /// End of the stretch (exclusive), such as 2026-01-05T08:00:00Z; moved on to the end of its interval
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: EventTime,
    /// Only this sensor, as DEVICE/TAG; write a slash inside a name as %2F
    #[arg(long, value_name = "DEVICE/TAG", env = "WINDROW_SENSOR")]
    sensor: Option<SensorId>,
    /// Name of the source in the store [default: the last part of the source's path]
    #[arg(long, value_name = "NAME", env = "WINDROW_SOURCE_NAME", value_parser = source_name)]
    source_name: Option<String>,
    /// Number of workers in this process, without a broker [default: one per CPU core]
    #[arg(long, value_name = "N", env = "WINDROW_WORKERS")]
    workers: Option<NonZeroUsize>,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    output: OutputArg,
}

impl ReplayArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let windowing = self.windows.windowing()?;
        let (from, to) = self.span(windowing.interval())?;
        let source = SourceArgs::new(self.source.clone(), self.columns.clone());
        let selection = Selection {
            from,
            to,
            sensor: self.sensor.clone(),
        };
        let selected = Box::new(Selected::new(source.open(Until::CaughtUp)?, selection));
        let unreadable = selected.unreadable();
        let store = self.store.open()?;
        store.check_file_system().await?;
        let producer = ProducerOptions {
            opening: Opening {
                source_name: self.source_name.clone().unwrap_or_else(|| source.default_name()),
                origin: source.origin(),
                restart: false,
            },
            at_end: AtEnd::Dispatch,
            speed: None,
        };
        let (trigger, shutdown) = Shutdown::new();
        let stopped = shutdown.clone();
        stop_on_signals(Arc::new(trigger)).map_err(CliError::Signals)?;
        if self.output.output == OutputFormat::Table {
            show::line(&format!("replaying the windows from {from} to {to}"))?;
        }
        let windows = match self.broker.publisher("windrow replay").await? {
            Some(queue) => {
                let stats = Arc::new(Stats::default());
                let pipeline = Pipeline {
                    windowing,
                    queue,
                    store: store.clone(),
                    options: producer,
                    stats: Arc::clone(&stats),
                };
                let replaying = Work::Replay(selected).run(pipeline, shutdown.clone());
                let replaying = async { Ok(replaying.await?) };
                within(DRAIN_WITHIN, shutdown, &store, replaying).await?;
                let counts = stats.counts();
                self.say_published(counts.windows, counts.messages)?;
                counts.windows
            }
            None => self.score(selected, windowing, store, producer, shutdown).await?,
        };
        match windows {
            _ if stopped.is_stopping() => Err(CliError::Partial(
                "the replay was stopped before its end; run it again".to_owned(),
            )),
            0 => Err(CliError::Partial(format!(
                "{} has no readings to replay from {from} to {to} ({} items could not be read); check --from, --to, --sensor \
                 and the column options",
                self.source,
                show::count(unreadable.load(Relaxed))
            ))),
            _ => Ok(()),
        }
    }

    /// Scores the windows in this process. Returns their number.
    async fn score(
        &self,
        source: Box<Selected>,
        windowing: Windowing,
        store: Store,
        producer: ProducerOptions,
        shutdown: Shutdown,
    ) -> Result<u64, CliError> {
        let bar = RunBar::new("reading");
        let run = Run {
            work: Work::Replay(source),
            windowing,
            store: store.clone(),
            workers: self.workers.map_or_else(cores, NonZeroUsize::get),
            producer,
        };
        let running = run.run(shutdown.clone(), |counts| bar.show(counts));
        let ran = within(DRAIN_WITHIN, shutdown, &store, running).await;
        bar.finish();
        let Ran { counts, .. } = ran?;
        summarise(&counts, None, self.output.output)?;
        Ok(counts.produced.windows)
    }

    fn say_published(&self, windows: u64, messages: u64) -> Result<(), CliError> {
        if self.output.output == OutputFormat::Json {
            return show::json(&serde_json::json!({ "windows": windows, "messages": messages }));
        }
        show::line(&format!(
            "published {} messages with {} windows: they are in the scoring queue",
            show::count(messages),
            show::count(windows)
        ))
    }

    /// Returns the stretch, in whole intervals: an interval is dispatched as a whole.
    fn span(&self, interval: Length) -> Result<(EventTime, EventTime), CliError> {
        if self.from >= self.to {
            return Err(CliError::Usage(format!(
                "--from {} is not before --to {}",
                self.from, self.to
            )));
        }
        let end = self.to.floor(interval);
        let to = match end == self.to {
            true => end,
            false => end.saturating_add(interval.as_duration()),
        };
        Ok((self.from.floor(interval), to))
    }
}
