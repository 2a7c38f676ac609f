//! `windrow demo`: trains, scores and audits a simulated fleet whose true anomalies are known.

mod detection;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use windrow_alerter::args::RulesArgs;
use windrow_alerter::{Watch, WatchOptions};
use windrow_common::{format_duration, parse_duration};
use windrow_model::{Features, Gamma, TrainOptions};
use windrow_models::{ModelRepository, Pins, Release};
use windrow_producer::args::WindowArgs;
use windrow_producer::checkpoint::{Opening, Origin};
use windrow_producer::source::Until;
use windrow_producer::source::simulator::{Simulator, SimulatorConfig};
use windrow_producer::{AtEnd, ProducerOptions};
use windrow_queue::StoredDeadLetters;
use windrow_service::{Shutdown, stop_on_signals};
use windrow_store::Store;

use crate::audit::{Audit, Scope};
use crate::error::CliError;
use crate::input::Input;
use crate::output::{OutputArg, OutputFormat};
use crate::pipeline::{Counts, Run, Work};
use crate::progress::RunBar;
use crate::run::cores;
use crate::show;
use crate::train::{Plan, Trained, Whose, train_fleet};
use detection::Detected;

/// Marks a folder as created by a demo, so that the next demo may replace its store.
const MARKER: &str = ".windrow-demo";

#[derive(Args, Debug)]
#[command(after_help = "\
Example: simulate 1000 devices
  windrow demo --devices 1000")]
pub(crate) struct DemoArgs {
    /// Number of devices in the simulated fleet
    #[arg(long, value_name = "N", default_value_t = 100, env = "WINDROW_DEVICES")]
    devices: u32,
    /// Number of sensors of each device
    #[arg(long, value_name = "N", default_value_t = 5, env = "WINDROW_TAGS_PER_DEVICE")]
    tags: u32,
    /// Length of time to score, such as 12h or 1d
    #[arg(long, value_name = "DURATION", default_value = "1d", env = "WINDROW_DURATION", value_parser = parse_duration)]
    duration: Duration,
    /// Length of the history to train on, just before the scored time; it has no anomalies
    #[arg(long, value_name = "DURATION", default_value = "7d", env = "WINDROW_HISTORY", value_parser = parse_duration)]
    history: Duration,
    /// Simulate a fleet that stays as it is: no rest at weekends and on holidays, no changes of regime, no sensors that die or
    /// drift for days
    #[arg(long, env = "WINDROW_STEADY")]
    steady: bool,
    /// Seed of the simulation; each seed simulates a different fleet
    #[arg(long, value_name = "N", default_value_t = 1, env = "WINDROW_SEED")]
    seed: u64,
    /// Features of a window that the models use, separated by commas: mean, std, min, max, first, last, count,
    /// std_sample (pandas' std), rms, range
    #[arg(
        long,
        value_name = "LIST",
        default_value = "mean,std,min,max",
        env = "WINDROW_FEATURES"
    )]
    features: Features,
    /// Approximate share of normal windows that a model may flag, between 0 and 1 (nu of the one-class SVM)
    #[arg(long, value_name = "SHARE", default_value_t = 0.005, env = "WINDROW_NU")]
    nu: f64,
    /// Gamma of the rbf kernel: scale or auto (as in scikit-learn), a number above 0, or such a number per feature, as in
    /// 3/d; a smaller gamma draws a wider, smoother boundary [default: 3/d with one feature, 0.3/d with several]
    #[arg(long, env = "WINDROW_GAMMA")]
    gamma: Option<Gamma>,
    /// Maximum number of windows per sensor to train on, spread evenly over the history
    #[arg(long, value_name = "N", default_value_t = 5_000, env = "WINDROW_MAX_ROWS")]
    max_rows: usize,
    /// Folder for the store and the report; the demo replaces those of an earlier demo
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
    rules: RulesArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// The results of a demo.
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
        let rules = self
            .rules
            .rules()
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let ranges = self
            .rules
            .ranges()
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let options = TrainOptions {
            nu: self.nu,
            gamma: self.gamma.unwrap_or_else(|| Gamma::for_features(&self.features)),
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
            ..if self.steady {
                SimulatorConfig::default()
            } else {
                SimulatorConfig::eventful()
            }
        };
        let before = SimulatorConfig {
            start: day.start.saturating_sub(self.history),
            duration: Some(self.history),
            anomalies: 0.0,
            ..day.clone()
        };
        let since = day.start.saturating_add(day.period);
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
            &repository,
            Plan {
                features: &self.features,
                options: &options,
                groups: None,
                whose: Whose::All,
                release: Release::Promote(Pins::Respect),
            },
        )
        .await?;
        self.say(&format!(
            "2/3  scoring the next {}",
            format_duration(self.duration)
        ));
        let labels = day.labels();
        let counts = self.score(day, store.clone(), shutdown).await?;
        self.say("3/3  auditing and writing the report");
        let scope = Scope::begin(&store, None, None).await?;
        let audit = scope.audit(&StoredDeadLetters::of(&store).list().await?).await?;
        let options = WatchOptions {
            rules,
            ranges,
            ..WatchOptions::default()
        };
        Watch::open(store.clone(), options).await?.catch_up().await?;
        let detected = detection::detect(&store, labels, since).await?;
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

    fn false_per_sensor_month(&self, detected: &Detected) -> f64 {
        let sensors = u64::from(self.devices) * u64::from(self.tags);
        let days = self.duration.as_secs_f64() / 86_400.0;
        detected.false_per_sensor_month(sensors, days)
    }

    /// Prints progress for people; it is not part of the result.
    fn say(&self, what: &str) {
        if self.output.output == OutputFormat::Table {
            eprintln!("{what}");
        }
    }

    async fn score(&self, day: Simulator, store: Store, shutdown: Shutdown) -> Result<Counts, CliError> {
        let bar = RunBar::new("scoring");
        let run = Run {
            work: Work::Run(Input::Own(Box::new(day))),
            windowing: self.windows.windowing()?,
            store,
            workers: cores(),
            producer: ProducerOptions {
                opening: Opening {
                    source_name: "demo".to_owned(),
                    origin: Origin::default(),
                    restart: false,
                },
                at_end: AtEnd::Dispatch,
                speed: None,
            },
        };
        let ran = run.run(shutdown, |counts| bar.show(counts)).await;
        bar.finish();
        Ok(ran?.counts)
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
            ..
        } = &outcome.counts;
        let Outcome {
            trained,
            audit,
            detected,
            ..
        } = outcome;
        if self.output.output == OutputFormat::Json {
            show::json(&json!({
                "models": trained.models, "history_readings": trained.history.readings,
                "readings": produced.accepted, "windows": produced.windows, "messages": produced.messages,
                "predictions": worked.predictions, "anomalies": worked.anomalies,
                "right_anomalies": detected.right, "incidents": detected.incidents.len(),
                "right_incidents": detected.right_incidents(), "precision": detected.precision(),
                "true_anomalies": detected.episodes(), "true_anomalies_found": detected.found(),
                "recall": detected.recall(),
                "by_kind": detected.by_kind().map(|(kind, episodes, found)| json!({
                    "kind": kind.name(), "true_anomalies": episodes, "true_anomalies_found": found,
                })).collect::<Vec<_>>(),
                "false_incidents_per_sensor_month": self.false_per_sensor_month(detected),
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
                    "incidents",
                    format!(
                        "{}; {} of them met a true anomaly, {:.1} false ones a sensor and month",
                        show::count(detected.incidents.len() as u64),
                        show::share(detected.right_incidents(), detected.incidents.len() as u64),
                        self.false_per_sensor_month(detected)
                    ),
                ),
                (
                    "found",
                    format!(
                        "{} of {} true anomalies are in an incident",
                        show::share(detected.found(), detected.episodes()),
                        show::count(detected.episodes())
                    ),
                ),
                ("audit", audit.all.verdict()),
                ("store", self.folder.join("store").display().to_string()),
                ("report", outcome.report.display().to_string()),
            ])?;
        }
        audit.outcome().into_result()
    }
}

/// Creates the folder, or deletes the store in the folder of an earlier demo. Refuses any other folder that is not
/// empty.
fn make_folder(folder: &Path) -> Result<(), CliError> {
    let unusable = |error: std::io::Error| CliError::Usage(format!("--folder {}: {error}", folder.display()));
    if folder.exists() {
        let empty = fs::read_dir(folder).map_err(unusable)?.next().is_none();
        if !empty && !folder.join(MARKER).exists() {
            return Err(CliError::Usage(format!(
                "--folder {} is not empty and was not created by a demo: name another folder",
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
