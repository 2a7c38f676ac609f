//! A simulated fleet, for demonstrations, tests and measurements: `sim:devices=100,tags=5,…`.
//!
//! The seed fixes one endless signal: a reading is a pure function of seed, sensor and time step, and `start` and
//! `duration` only cut a slice of it. Therefore:
//!
//! - Reading again from any offset returns the same readings.
//! - The day before a slice is history of the same sensors.
//! - The same slice with `anomalies=0` is the fleet without short anomalies: gaps, noise and delays stay the same.
//! - What an option adds changes nothing else: with `deaths` a fleet drifts where it did without.

mod config;
mod delivery;
mod draws;
mod episodes;
mod life;
mod signal;
mod truth;

use windrow_common::EventTime;

pub use config::SimulatorConfig;
pub use episodes::AnomalyKind;
pub use truth::{Anomaly, Benign, BenignKind, meets};

use self::delivery::{Partition, Setting};
use self::draws::derive;
use self::episodes::Rates;
use self::life::Odds;
use self::signal::{Grid, Sensor, device_name, tag_name};
use super::{Batch, Offset, PartitionIndex, Progress, Read, Source, SourceError, Until};
use crate::sensors::{SensorError, SensorTable};

/// A source that reads from a simulated fleet.
#[derive(Debug)]
pub struct Simulator {
    config: SimulatorConfig,
    until: Until,
    setting: Setting,
    names: Vec<String>,
    partitions: Vec<Partition>,
}

impl Simulator {
    /// Creates the fleet that `config` describes.
    ///
    /// The readings end after the configured duration. With [`Until::Stopped`], the source is then idle instead of at
    /// its end. It creates readings as fast as the caller asks for them; the caller does the pacing.
    pub fn new(config: SimulatorConfig, until: Until) -> Result<Self, SourceError> {
        let wrong = |why: String| SourceError::Spec {
            spec: config.to_string(),
            why,
        };
        config.check().map_err(wrong)?;
        if until == Until::CaughtUp && config.duration.is_none() {
            return Err(wrong(
                "duration=forever has no end to read to; set a duration such as 1d".to_owned(),
            ));
        }
        let grid = Grid::new(config.period.as_millis() as i64);
        // Steps are whole periods since the epoch, so that adjacent slices neither overlap nor leave out a step.
        let step_from = |time: EventTime| {
            time.as_millis().div_euclid(grid.period_ms)
                + i64::from(time.as_millis().rem_euclid(grid.period_ms) > 0)
        };
        let end = config
            .duration
            .map_or(EventTime::MAX, |duration| config.start.saturating_add(duration));
        let setting = Setting {
            grid,
            steps: step_from(config.start)..step_from(end),
            disorder_ms: config.disorder.as_millis() as u64,
            rates: Rates::new(config.anomalies, config.gaps),
        };
        let odds = Odds {
            weekly: config.weekly,
            holidays: config.holidays,
            regimes: config.regimes,
            deaths: config.deaths,
            drifts: config.drifts,
        };
        let partitions = (0..config.partitions)
            .map(|partition| {
                let sensors = (partition..config.devices)
                    .step_by(config.partitions as usize)
                    .flat_map(|device| {
                        (0..config.tags).map(move |tag| {
                            Sensor::new(config.seed, device, tag, &grid).with_life(config.seed, &odds)
                        })
                    })
                    .collect();
                Partition::new(setting.clone(), sensors)
            })
            .collect();
        Ok(Self {
            names: partition_names(&config),
            config,
            until,
            setting,
            partitions,
        })
    }
}

/// Returns names that differ where the readings do: a checkpoint of one fleet must not make another fleet skip its
/// start. The names leave out the duration, so a longer run continues where a shorter one ended.
fn partition_names(config: &SimulatorConfig) -> Vec<String> {
    /// Changes when the same configuration yields other readings.
    const FORMULA: u64 = 1;
    let without_end = SimulatorConfig {
        duration: None,
        ..config.clone()
    };
    let identity = without_end
        .to_string()
        .bytes()
        .fold(FORMULA, |hash, byte| derive(hash, u64::from(byte)));
    (0..config.partitions)
        .map(|partition| format!("{partition}-{:08x}", identity >> 32))
        .collect()
}

impl Source for Simulator {
    fn partitions(&self) -> &[String] {
        &self.names
    }

    fn seek(&mut self, partition: PartitionIndex, to: Offset) -> Result<(), SourceError> {
        self.partitions[partition].seek(to.0);
        Ok(())
    }

    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError> {
        let behind = self
            .partitions
            .iter()
            .enumerate()
            .filter(|(_, partition)| !partition.end_told)
            .min_by_key(|(_, partition)| partition.frame());
        let Some((index, _)) = behind else {
            return Ok(match self.until {
                Until::CaughtUp => Read::End { complete_until: None },
                Until::Stopped => Read::Idle { complete_until: None },
            });
        };
        let partition = &mut self.partitions[index];
        if partition.indices.is_empty() {
            partition.indices = partition
                .sensors()
                .iter()
                .map(|sensor| sensors.intern(&device_name(sensor.device), &tag_name(sensor.tag)))
                .collect::<Result<_, SensorError>>()
                .map_err(|error| SourceError::Spec {
                    spec: self.config.to_string(),
                    why: error.to_string(),
                })?;
        }
        batch.clear(index);
        batch.next = Offset(partition.next());
        if !partition.ended() {
            partition.read(batch);
        }
        partition.end_told = partition.ended();
        batch.ended = partition.end_told && self.until == Until::CaughtUp;
        let waiting = self.partitions.iter().map(|partition| !partition.ended());
        batch.waiting.extend(waiting);
        if self.until == Until::CaughtUp {
            let ahead = self.partitions.iter().filter(|partition| !partition.ended());
            let earliest = ahead.map(Partition::earliest).min();
            batch.complete_before = Some(earliest.unwrap_or(EventTime::MIN));
        }
        Ok(Read::Batch)
    }

    fn progress(&self) -> Progress {
        let sum = |of: fn(&Partition) -> u64| self.partitions.iter().map(of).fold(0, u64::saturating_add);
        Progress {
            done: sum(|partition| partition.next().min(partition.total())),
            total: self.config.duration.map(|_| sum(Partition::total)),
        }
    }
}

#[cfg(test)]
mod tests;
