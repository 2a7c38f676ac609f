//! `windrow backtest`: the incidents that another version of the models would have raised, from the stored aggregates.

use std::collections::BTreeMap;

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use windrow_alerter::args::AnomalyArgs;
use windrow_common::{Aggregate, Course, EventTime, Length, Peak, Prediction, SensorId};
use windrow_incidents::{Rules, Track, Window};
use windrow_model::{Model, Scores, Scratch};
use windrow_models::{ModelRepository, SensorModels, Shadows};
use windrow_store::{Hour, Store, StoreArg};

use crate::error::CliError;
use crate::models::Named;
use crate::output::{OutputArg, OutputFormat};
use crate::progress::steps;
use crate::show;

/// Number of sensors whose models are read at once.
const READS_IN_FLIGHT: usize = 16;
/// How many hours of predictions are read unless the caller says which.
const HOURS: usize = 7 * 24;
/// Most incidents to name in a text for people.
const MOST_NAMED: usize = 10;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: would the candidates have raised fewer incidents last week?
  windrow backtest --store ./store --model current --against candidate

Example: the same for three days, with the rules of the alerter
  windrow backtest --store ./store --from 2026-01-05T00:00:00Z --to 2026-01-08T00:00:00Z --open-after 2/3")]
pub(crate) struct BacktestArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Only windows that start at or after this time, such as 2026-01-05T00:00:00Z [default: the last 7 days that have
    /// predictions]
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// Only windows that start before this time, such as 2026-01-06T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: Option<EventTime>,
    /// One version of each sensor's model: current, candidate, shadow or previous
    #[arg(long, value_name = "A", default_value_t = Named::Current, env = "WINDROW_MODEL")]
    model: Named,
    /// The version to compare it with
    #[arg(long, value_name = "B", default_value_t = Named::Candidate, env = "WINDROW_AGAINST_VERSION")]
    against: Named,
    #[command(flatten)]
    rules: AnomalyArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// A version of a sensor's model, and the incidents that it raises.
struct Side {
    model: Model,
    rules: Rules,
    track: Track,
    raised: Vec<Course>,
}

/// A sensor with both versions.
struct Pair {
    a: Side,
    b: Side,
    /// Windows that one of them could not score.
    unscored: u64,
}

/// The incidents that both versions would have raised.
#[derive(Default)]
struct Compared {
    sensors: u64,
    /// Sensors that lack one of the versions.
    without: u64,
    windows: u64,
    unscored: u64,
    a: usize,
    b: usize,
    /// Incidents of one version that overlap none of the other.
    only_a: Vec<(SensorId, Course)>,
    only_b: Vec<(SensorId, Course)>,
}

impl BacktestArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let rules = self
            .rules
            .rules()
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let store = self.store.open()?;
        let repository = ModelRepository::new(store.clone());
        let (pairs, without) = self.pairs(&repository, &rules).await?;
        if pairs.is_empty() {
            return Err(CliError::Usage(format!(
                "no sensor has both a {} and a {} version: train one with `windrow models train --candidate`, or name others",
                self.model, self.against
            )));
        }
        let compared = self.compare(&store, pairs, without).await?;
        match self.output.output {
            OutputFormat::Json => show::json(&compared.json()),
            OutputFormat::Table => self.say(&compared),
        }
    }

    /// Loads both versions of every sensor that has both.
    async fn pairs(
        &self,
        repository: &ModelRepository,
        rules: &Rules,
    ) -> Result<(BTreeMap<SensorId, Pair>, u64), CliError> {
        let shadows = repository.shadows().await?;
        let mut sensors = repository.sensors().await?;
        // A prediction of several tags together does not hold their aggregates.
        sensors.retain(|models| !models.sensor.is_group());
        let loaded = futures::stream::iter(&sensors)
            .map(|models| self.pair(repository, models, &shadows, rules))
            .buffered(READS_IN_FLIGHT);
        let loaded: Vec<Option<Pair>> = loaded.try_collect().await?;
        let pairs: BTreeMap<SensorId, Pair> = (sensors.iter().zip(loaded))
            .filter_map(|(models, pair)| Some((models.sensor.clone(), pair?)))
            .collect();
        let without = (sensors.len() - pairs.len()) as u64;
        Ok((pairs, without))
    }

    async fn pair(
        &self,
        repository: &ModelRepository,
        models: &SensorModels,
        shadows: &Shadows,
        rules: &Rules,
    ) -> Result<Option<Pair>, CliError> {
        let (Ok(a), Ok(b)) = (self.model.of(models, shadows), self.against.of(models, shadows)) else {
            return Ok(None);
        };
        let a = repository.load(&models.sensor, &a).await?;
        let b = repository.load(&models.sensor, &b).await?;
        Ok(Some(Pair {
            a: Side::new(a, rules),
            b: Side::new(b, rules),
            unscored: 0,
        }))
    }

    async fn compare(
        &self,
        store: &Store,
        mut pairs: BTreeMap<SensorId, Pair>,
        without: u64,
    ) -> Result<Compared, CliError> {
        let mut compared = Compared {
            without,
            sensors: pairs.len() as u64,
            ..Compared::default()
        };
        let hours = self.hours(store).await?;
        let bar = steps("scoring hours again", hours.len() as u64);
        for hour in hours {
            let rows = store.predictions(&hour).await?.rows;
            // Scoring is work for a thread of its own.
            let (from, to) = (self.from, self.to);
            let scored = tokio::task::spawn_blocking(move || {
                let windows = take(&mut pairs, &rows, from, to);
                (pairs, windows)
            });
            let windows;
            (pairs, windows) = scored
                .await
                .map_err(|error| CliError::Panicked(error.to_string()))?;
            compared.windows += windows;
            bar.inc(1);
        }
        bar.finish_and_clear();
        for (sensor, pair) in pairs {
            compared.add(&sensor, pair);
        }
        Ok(compared)
    }

    async fn hours(&self, store: &Store) -> Result<Vec<Hour>, CliError> {
        let mut hours = store.hours("predictions", self.from, self.to).await?;
        if self.from.is_none() && self.to.is_none() {
            let extra = hours.len().saturating_sub(HOURS);
            hours.drain(..extra);
        }
        Ok(hours)
    }

    fn say(&self, compared: &Compared) -> Result<(), CliError> {
        let (a, b) = (&self.model, &self.against);
        show::line(&format!(
            "{b} would have raised {} incidents, and {a} {}, on {} windows of {} sensors",
            show::count(compared.b as u64),
            show::count(compared.a as u64),
            show::count(compared.windows),
            show::count(compared.sensors)
        ))?;
        for (incidents, of, other) in [(&compared.only_b, b, a), (&compared.only_a, a, b)] {
            show::line(&format!(
                "{} are of {of} alone",
                show::count(incidents.len() as u64)
            ))?;
            for (sensor, course) in incidents.iter().take(MOST_NAMED) {
                show::line(&format!("  {sensor} {} {}", course.opened, peak(course)))?;
            }
            if let Some(more @ 1..) = incidents.len().checked_sub(MOST_NAMED) {
                show::line(&format!(
                    "  and {more} more that {other} would not have raised; --output json names all"
                ))?;
            }
        }
        if compared.without > 0 {
            let count = show::count(compared.without);
            show::line(&format!(
                "{count} sensors do not have both versions and are left out"
            ))?;
        }
        if compared.unscored > 0 {
            let count = show::count(compared.unscored);
            show::line(&format!(
                "{count} windows cannot be scored by one of the versions and are left out"
            ))?;
        }
        Ok(())
    }
}

/// Scores the windows of an hour, which are ordered by sensor and time. Returns how many there were.
fn take(
    pairs: &mut BTreeMap<SensorId, Pair>,
    rows: &[Prediction],
    from: Option<EventTime>,
    to: Option<EventTime>,
) -> u64 {
    let (mut scratch, mut scores) = (Scratch::default(), [Scores::default(), Scores::default()]);
    let mut windows = 0;
    let same = |a: &Prediction, b: &Prediction| a.sensor == b.sensor && a.window_length == b.window_length;
    for rows in rows.chunk_by(same) {
        let Some(pair) = pairs.get_mut(&rows[0].sensor) else {
            continue;
        };
        let within =
            |start: EventTime| from.is_none_or(|from| start >= from) && to.is_none_or(|to| start < to);
        let aggregates: Vec<Aggregate> = (rows.iter().map(|row| row.aggregate))
            .filter(|aggregate| within(aggregate.window_start))
            .collect();
        windows += aggregates.len() as u64;
        let length = rows[0].window_length;
        // Windows that one of them cannot score would count for the other alone.
        let of_a = pair.a.model.score(&aggregates, &mut scratch, &mut scores[0]);
        let of_b = pair.b.model.score(&aggregates, &mut scratch, &mut scores[1]);
        if of_a.is_err() || of_b.is_err() {
            pair.unscored += aggregates.len() as u64;
            continue;
        }
        for (side, scores) in [&mut pair.a, &mut pair.b].into_iter().zip(&scores) {
            side.take(&aggregates, length, &scores.scores);
        }
    }
    windows
}

impl Side {
    fn new(model: Model, rules: &Rules) -> Self {
        let rules = Rules {
            threshold: model.threshold().unwrap_or(rules.threshold),
            ..*rules
        };
        Self {
            model,
            rules,
            track: Track::default(),
            raised: Vec::new(),
        }
    }

    /// Takes the next windows with their scores.
    fn take(&mut self, aggregates: &[Aggregate], length: Length, scores: &[f64]) {
        for (aggregate, score) in aggregates.iter().zip(scores) {
            let window = Window::of(aggregate, length, *score);
            self.track.take(&window, &self.rules, &mut self.raised);
        }
    }

    /// Returns all that it raised, in order of time.
    fn raised(mut self) -> Vec<Course> {
        self.raised.extend(self.track.open(EventTime::MAX, &self.rules));
        self.raised
    }
}

impl Compared {
    fn add(&mut self, sensor: &SensorId, pair: Pair) {
        self.unscored += pair.unscored;
        let (a, b) = (pair.a.raised(), pair.b.raised());
        self.a += a.len();
        self.b += b.len();
        self.only_a
            .extend(alone(&a, &b).map(|course| (sensor.clone(), course)));
        self.only_b
            .extend(alone(&b, &a).map(|course| (sensor.clone(), course)));
    }

    fn json(&self) -> Value {
        let list = |incidents: &[(SensorId, Course)]| -> Vec<Value> {
            let incidents = incidents.iter();
            incidents
                .map(|(sensor, course)| {
                    json!({
                        "sensor": sensor.to_string(), "opened": course.opened.to_string(),
                        "until": course.until.to_string(), "windows": course.windows,
                        "peak_score": course.peak.as_ref().map(|peak| peak.score),
                    })
                })
                .collect()
        };
        json!({
            "sensors": self.sensors, "without": self.without, "windows": self.windows, "unscored": self.unscored,
            "a": self.a, "b": self.b, "only_a": list(&self.only_a), "only_b": list(&self.only_b),
        })
    }
}

/// Returns the incidents that overlap none of the others.
fn alone<'a>(courses: &'a [Course], others: &'a [Course]) -> impl Iterator<Item = Course> + 'a {
    let overlap = |a: &Course, b: &Course| a.opened < b.until && b.opened < a.until;
    let courses = courses.iter();
    courses
        .filter(move |course| !others.iter().any(|other| overlap(course, other)))
        .cloned()
}

fn peak(course: &Course) -> String {
    let score = course.peak.as_ref().map(Peak::score_text).unwrap_or_default();
    format!("score {score}, {} windows", course.windows)
}
