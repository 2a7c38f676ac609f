//! The windows to tune on: the newest ones of each sensor, from the stored predictions or from a source.

use std::collections::{BTreeMap, HashSet, VecDeque};

use windrow_common::{Aggregate, EventTime, Length, ScoringMessage, SensorId};
use windrow_model::{Feature, Features, Gamma, ProfileChoice, TrainOptions};
use windrow_models::ModelRepository;
use windrow_producer::args::SourceArgs;
use windrow_producer::read_history;
use windrow_producer::source::Until;
use windrow_store::{Hour, Store};
use windrow_tuning::Recipe;

use super::TuneArgs;
use super::outcome::Report;
use crate::error::CliError;
use crate::retrain::{Due, RecentWindows, due, hours};
use crate::train::Sample;

/// The features of which an aggregate consists, in the order of its fields.
const FIELDS: &[Feature] = &[
    Feature::Count,
    Feature::Mean,
    Feature::Std,
    Feature::Min,
    Feature::Max,
    Feature::First,
    Feature::Last,
];

/// A sensor with its newest windows.
pub(super) struct Gathered {
    pub(super) sensor: SensorId,
    /// How its present model is trained, or a new one would be.
    pub(super) present: Recipe,
    /// The version of the present model; `None` if it has none.
    pub(super) version: Option<String>,
    /// The windows, in order of time.
    pub(super) windows: Vec<Aggregate>,
    pub(super) length: Length,
}

/// The sensors, as many at once as fit into the memory.
pub(super) struct Passes {
    /// From a source, all at once.
    ready: Vec<Gathered>,
    /// From predictions.
    due: VecDeque<Due>,
    at_once: usize,
    hours: Vec<Hour>,
    most: usize,
}

impl Passes {
    /// Finds the sensors; reads the source, if there is one.
    pub(super) async fn new(
        args: &TuneArgs,
        repository: &ModelRepository,
        store: &Store,
        report: &mut Report,
    ) -> Result<Self, CliError> {
        let most = args.windows as usize;
        let found = due(repository, |sensor| args.is_wanted(sensor)).await?;
        report.imported = found.imported;
        report.groups = found.of_devices.len() as u64;
        report.failed.extend(found.failed);
        let mut passes = Self {
            ready: Vec::new(),
            due: VecDeque::new(),
            at_once: ((args.memory_mib as usize) << 20)
                .div_euclid(most * size_of::<Aggregate>())
                .max(1),
            hours: Vec::new(),
            most,
        };
        match &args.source {
            None => {
                passes.due = found.due.into();
                passes.hours = hours(store, args.within).await?;
            }
            Some(source) => {
                let with_model = repository.list().await?.into_iter().filter(|entry| entry.current);
                let with_model: HashSet<SensorId> = with_model.map(|entry| entry.sensor).collect();
                passes.ready = of_source(args, source, found.due, &with_model).await?;
            }
        }
        if passes.sensors() == 0 && report.imported == 0 && report.failed.is_empty() {
            return Err(CliError::Usage(
                "there is no such sensor with a model that was trained here: train one with `windrow models train`, or name \
                 others; `windrow models list` shows them"
                    .to_owned(),
            ));
        }
        Ok(passes)
    }

    /// Returns the number of sensors.
    pub(super) fn sensors(&self) -> u64 {
        (self.ready.len() + self.due.len()) as u64
    }

    /// Reads the windows of the next sensors; `None` if there are no more.
    pub(super) async fn next(&mut self, store: &Store) -> Result<Option<Vec<Gathered>>, CliError> {
        if !self.ready.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ready)));
        }
        let due: Vec<Due> = self.due.drain(..self.at_once.min(self.due.len())).collect();
        if due.is_empty() {
            return Ok(None);
        }
        let fields = Features::new(FIELDS).map_err(|error| CliError::Usage(error.to_string()))?;
        let mut recent = RecentWindows::default();
        for due in &due {
            // Windows of labelled incidents are needed, too: a model should find them.
            recent.want(due.sensor.clone(), fields.clone(), self.most, Vec::new());
        }
        recent.read(store, &self.hours).await?;
        let mut samples: BTreeMap<SensorId, Sample> = recent.into_samples().into_iter().collect();
        let gathered = due.into_iter().map(|due| {
            let sample = samples.remove(&due.sensor);
            Gathered {
                windows: sample.as_ref().map(aggregates).unwrap_or_default(),
                length: sample.map_or(Length::from_millis(1), |sample| sample.window_length),
                ..Gathered::of(due)
            }
        });
        Ok(Some(gathered.collect()))
    }
}

impl Gathered {
    fn of(due: Due) -> Self {
        Self {
            sensor: due.sensor,
            present: Recipe {
                features: due.features,
                options: due.options,
            },
            version: Some(due.version),
            windows: Vec::new(),
            length: Length::from_millis(1),
        }
    }
}

/// Returns the aggregates of rows of all fields.
fn aggregates(sample: &Sample) -> Vec<Aggregate> {
    let (rows, _) = sample.values.as_chunks::<{ FIELDS.len() }>();
    let aggregate = |(start, row): (&EventTime, &[f64; FIELDS.len()])| {
        let [count, mean, std, min, max, first, last] = *row;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It was a count.
        let count = count as u64;
        Aggregate {
            window_start: *start,
            count,
            mean,
            std,
            min,
            max,
            first,
            last,
        }
    };
    sample.starts.iter().zip(rows).map(aggregate).collect()
}

/// Reads a source, and returns the newest windows of each sensor. One whose model was imported keeps it.
async fn of_source(
    args: &TuneArgs,
    named: &str,
    due: Vec<Due>,
    with_model: &HashSet<SensorId>,
) -> Result<Vec<Gathered>, CliError> {
    let source = SourceArgs::new(named.to_owned(), args.columns.clone());
    let untrained = untrained(&source)?;
    let windowing = args.window.windowing()?;
    let opened = source.open(Until::CaughtUp)?;
    let (most, patterns) = (args.windows as usize, args.sensors.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let mut newest: BTreeMap<SensorId, (VecDeque<Aggregate>, Length)> = BTreeMap::new();
        let take = |message: ScoringMessage| {
            if !patterns.is_empty() && !patterns.iter().any(|pattern| pattern.matches(&message.sensor)) {
                return;
            }
            let of_sensor = newest.entry(message.sensor.clone());
            let (windows, _) = of_sensor.or_insert_with(|| (VecDeque::new(), message.window_length));
            windows.extend(&message.aggregates);
            windows.drain(..windows.len().saturating_sub(most));
        };
        read_history(opened, windowing, take, |_| {})?;
        Ok::<_, CliError>(newest)
    });
    let newest = reading
        .await
        .map_err(|error| CliError::Panicked(error.to_string()))??;
    let mut due: BTreeMap<SensorId, Due> = due.into_iter().map(|due| (due.sensor.clone(), due)).collect();
    let (mut all, is_empty) = (Vec::new(), newest.is_empty());
    for (sensor, (windows, length)) in newest {
        let gathered = match due.remove(&sensor) {
            Some(due) => Gathered::of(due),
            None if with_model.contains(&sensor) => continue,
            None => Gathered {
                sensor,
                present: untrained.clone(),
                version: None,
                windows: Vec::new(),
                length,
            },
        };
        all.push(Gathered {
            windows: windows.into(),
            length,
            ..gathered
        });
    }
    if is_empty {
        return Err(CliError::Usage(format!(
            "`{named}` has no window of such a sensor: see `windrow inspect`, or name others"
        )));
    }
    // The source has no windows of the remaining sensors, so report them as having too few.
    all.extend(due.into_values().map(Gathered::of));
    Ok(all)
}

/// Returns how `windrow models train` would train a sensor that has no model.
fn untrained(source: &SourceArgs) -> Result<Recipe, CliError> {
    let usage = |error: String| CliError::Usage(error);
    let listed = [Feature::Mean, Feature::Std, Feature::Min, Feature::Max];
    let features = Features::new(&listed).map_err(|error| usage(error.to_string()))?;
    let zone = source.mapping().timezone;
    let profile = ProfileChoice::by_hours_of(zone.as_deref().unwrap_or("UTC"));
    let options = TrainOptions {
        gamma: Gamma::for_features(&features),
        profile: profile.map_err(|error| usage(error.to_string()))?,
        ..TrainOptions::default()
    };
    Ok(Recipe { features, options })
}
