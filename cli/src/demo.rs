//! `windrow demo`: the whole main job on a simulated fleet, which knows the truth.

mod detection;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use windrow_common::service::stop_on_signals;
use windrow_common::store::Store;
use windrow_common::{Shutdown, format_duration, parse_duration};
use windrow_model::{Features, Gamma, ModelRepository, TrainOptions};
use windrow_producer::args::WindowArgs;
use windrow_producer::source::Until;
use windrow_producer::source::simulator::{Simulator, SimulatorConfig};
use windrow_producer::{AtEnd, Input, ProducerOptions};

use crate::args::{Output, OutputArg};
use crate::audit::{Audit, audit};
use crate::error::CliError;
use crate::pipeline::{Counts, Pipeline};
use crate::progress::RunBar;
use crate::run::cores;
use crate::show;
use crate::train::{Trained, Whose, train_fleet};
use detection::Detected;

/// Marks a folder as one that a demo made, so that the next may empty it.
const MARKER: &str = ".windrow-demo";

#[derive(Args, Debug)]
#[command(after_help = "\
Example: ten times the fleet
  windrow demo --devices 1000")]
pub(crate) struct DemoArgs {
    /// Devices of the simulated fleet
    #[arg(long, value_name = "N", default_value_t = 100, env = "WINDROW_DEVICES")]
    devices: u32,
    /// Sensors of each device
    #[arg(long, value_name = "N", default_value_t = 5, env = "WINDROW_TAGS")]
    tags: u32,
    /// How much time is scored
    #[arg(long, value_name = "DURATION", default_value = "1d", env = "WINDROW_DURATION", value_parser = parse_duration)]
    duration: Duration,
    /// How much time before that is learnt from; the fleet was well then
    #[arg(long, value_name = "DURATION", default_value = "7d", env = "WINDROW_HISTORY", value_parser = parse_duration)]
    history: Duration,
    /// Another seed is another fleet
    #[arg(long, value_name = "N", default_value_t = 1, env = "WINDROW_SEED")]
    seed: u64,
    /// What the models look at: of mean, std, min, max, first, last and count
    #[arg(
        long,
        value_name = "LIST",
        default_value = "mean,std,min,max",
        env = "WINDROW_FEATURES"
    )]
    features: Features,
    /// About the share of clean windows that a model may flag, between 0 and 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0005, env = "WINDROW_NU")]
    nu: f64,
    /// The kernel's gamma: scale, auto (as in scikit-learn) or a number; smaller ones draw wider, rounder borders
    #[arg(long, default_value = "0.02", env = "WINDROW_GAMMA")]
    gamma: Gamma,
    /// At most this many windows of a sensor are learnt from
    #[arg(long, value_name = "N", default_value_t = 800, env = "WINDROW_MAX_ROWS")]
    max_rows: usize,
    /// Where the store and the report go; emptied first if an earlier demo made it
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "windrow-demo",
        env = "WINDROW_FOLDER"
    )]
    folder: PathBuf,
    #[command(flatten)]
    windows: WindowArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// Everything a demo found.
struct Outcome {
    trained: Trained,
    counts: Counts,
    audit: Audit,
    detected: Detected,
    report: PathBuf,
}

impl DemoArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let windowing = self.windows.windowing()?;
        let options = TrainOptions {
            nu: self.nu,
            gamma: self.gamma,
            max_rows: self.max_rows,
            ..TrainOptions::default()
        };
        options
            .check()
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let day = SimulatorConfig {
            devices: self.devices,
            tags: self.tags,
            duration: Some(self.duration),
            seed: self.seed,
            ..SimulatorConfig::default()
        };
        let before = SimulatorConfig {
            start: day.start.saturating_sub(self.history),
            duration: Some(self.history),
            anomalies: 0.0,
            ..day.clone()
        };
        let (before, day) = (
            Simulator::new(before, Until::CaughtUp)?,
            Simulator::new(day, Until::CaughtUp)?,
        );
        make_folder(&self.folder)?;
        let store = Store::create(&self.folder.join("store").to_string_lossy())?;
        let (trigger, shutdown) = Shutdown::new();
        stop_on_signals(Arc::new(trigger)).map_err(CliError::Signals)?;

        self.say(&format!(
            "1/3  learning from {} of history of {} sensors",
            format_duration(self.history),
            show::count(u64::from(self.devices) * u64::from(self.tags))
        ));
        let repository = ModelRepository::new(store.clone());
        let trained = train_fleet(
            Box::new(before),
            windowing,
            &self.features,
            &options,
            &repository,
            Whose::All,
        )
        .await?;
        self.say(&format!(
            "2/3  scoring the next {}",
            format_duration(self.duration)
        ));
        let labels = day.labels();
        let counts = self.score(day, store.clone(), shutdown).await?;
        self.say("3/3  auditing and writing the report");
        let audit = audit(&store, &store.dead_letters().await?, None, None).await?;
        let detected = detection::detect(&store, labels).await?;
        let report = self.folder.join("report.html");
        let outcome = Outcome {
            trained,
            counts,
            audit,
            detected,
            report,
        };
        self.write_report(&store, &outcome).await?;
        self.summarise(&outcome)
    }

    /// What is going on; not part of the result.
    fn say(&self, what: &str) {
        if self.output.output == Output::Table {
            eprintln!("{what}");
        }
    }

    async fn score(&self, day: Simulator, store: Store, shutdown: Shutdown) -> Result<Counts, CliError> {
        let bar = RunBar::new("scoring");
        let pipeline = Pipeline {
            source: Input::Own(Box::new(day)),
            windowing: self.windows.windowing()?,
            store,
            workers: cores(),
            producer: ProducerOptions {
                source_name: "demo".to_owned(),
                at_end: AtEnd::Dispatch,
                speed: None,
            },
        };
        let counts = pipeline.run(shutdown, |counts| bar.show(counts)).await;
        bar.finish();
        counts
    }

    async fn write_report(&self, store: &Store, outcome: &Outcome) -> Result<(), CliError> {
        let report = page::report(self, store, outcome).await?;
        let path = &outcome.report;
        fs::write(path, crate::report::render(&report)).map_err(|source| CliError::Write {
            path: path.clone(),
            source,
        })
    }

    fn summarise(&self, outcome: &Outcome) -> Result<(), CliError> {
        let Counts {
            produced,
            worked,
            elapsed,
        } = &outcome.counts;
        let Outcome {
            trained,
            audit,
            detected,
            ..
        } = outcome;
        if self.output.output == Output::Json {
            show::json(&json!({
                "models": trained.models, "history_readings": trained.history.readings,
                "readings": produced.accepted, "windows": produced.windows, "messages": produced.messages,
                "predictions": worked.predictions, "anomalies": worked.anomalies,
                "precision": detected.precision(), "recall": detected.recall(),
                "seconds": elapsed.as_secs_f64(), "audit": audit.all,
                "folder": self.folder, "report": outcome.report,
            }))?;
        } else {
            show::facts(&[
                ("models trained", show::count(trained.models)),
                ("readings", show::rated(produced.accepted, *elapsed, "readings/s")),
                ("windows", show::count(produced.windows)),
                ("messages", show::rated(produced.messages, *elapsed, "messages/s")),
                ("predictions", show::count(worked.predictions)),
                ("anomalies", show::share(worked.anomalies, worked.predictions)),
                (
                    "precision",
                    format!(
                        "{} flagged windows were truly anomalous",
                        show::share(detected.right, detected.flagged)
                    ),
                ),
                (
                    "recall",
                    format!(
                        "{} of {} true anomalies were noticed",
                        show::share(detected.noticed(), detected.episodes()),
                        show::count(detected.episodes())
                    ),
                ),
                ("audit", audit.all.verdict()),
                ("store", self.folder.join("store").display().to_string()),
                ("report", outcome.report.display().to_string()),
            ])?;
        }
        if audit.all.is_clean() {
            Ok(())
        } else {
            Err(CliError::Lost(format!(
                "the audit failed: {}",
                audit.all.verdict()
            )))
        }
    }
}

/// Makes the folder, or empties it if an earlier demo made it; someone else's is left alone.
fn make_folder(folder: &Path) -> Result<(), CliError> {
    let unusable = |error: std::io::Error| CliError::Usage(format!("--folder {}: {error}", folder.display()));
    if folder.exists() {
        let empty = fs::read_dir(folder).map_err(unusable)?.next().is_none();
        if !empty && !folder.join(MARKER).exists() {
            return Err(CliError::Usage(format!(
                "--folder {} holds something that no demo made: name another folder",
                folder.display()
            )));
        }
        match fs::remove_dir_all(folder.join("store")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(error)),
            _ => {}
        }
    }
    fs::create_dir_all(folder).map_err(unusable)?;
    fs::write(folder.join(MARKER), "").map_err(unusable)
}
