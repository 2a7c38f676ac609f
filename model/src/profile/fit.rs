//! Finds the profile of a sensor in its history, if it has one.
//!
//! A profile is fitted to the older half of the history and judged by the newer half. A profile that only repeats past
//! noise predicts nothing, and would add that noise to every window.

use jiff::tz::TimeZone;
use windrow_common::EventTime;

use super::{Clock, HOURS, Profile, Season};
use crate::median::median;

/// A profile must leave at most this share of the mean absolute error that one level for all times leaves.
const WORTH_A_PROFILE: f64 = 0.8;

/// A finer profile must leave at most this share of the error of the coarser one.
const WORTH_A_FINER_ONE: f64 = 0.97;

/// An hour with fewer windows has the level of the coarser season.
const FEWEST_WINDOWS: usize = 2;

const HOURS_OF_WEEK: usize = 7 * HOURS;

/// The hour of the week of a window, and its level.
type Level = (usize, f64);

/// A level for each hour of the week.
type Table = [f64; HOURS_OF_WEEK];

/// Finds the profile of windows with these starts and levels; `None` if none is worth it.
pub(crate) fn fit(
    starts: &[EventTime],
    levels: impl Iterator<Item = f64>,
    zone: &TimeZone,
) -> Option<Profile> {
    let mut windows: Vec<(EventTime, f64)> = starts.iter().copied().zip(levels).collect();
    // Windows that came late are behind newer ones.
    windows.sort_by_key(|(start, _)| *start);
    let mut clock = Clock::new(zone);
    let windows: Vec<Level> = windows
        .into_iter()
        .map(|(start, level)| (clock.hour_of_week(start), level))
        .collect();
    let (older, newer) = windows.split_at(windows.len() / 2);
    let one_level = one_level(older)?;
    let mut most = WORTH_A_PROFILE * mean_error(newer, &one_level);
    let mut chosen = None;
    let mut table = one_level;
    for season in Season::ALL {
        refine(&mut table, older, season);
        let error = mean_error(newer, &table);
        // The comparison is strict: a sensor that never varied has two errors of 0, and needs no profile.
        if error < most {
            chosen = Some(season);
            most = WORTH_A_FINER_ONE * error;
        }
    }
    of_all(&windows, chosen?, zone)
}

/// Returns the profile of all windows; `None` if there is no window.
fn of_all(windows: &[Level], season: Season, zone: &TimeZone) -> Option<Profile> {
    let mut table = one_level(windows)?;
    for finer in Season::ALL.into_iter().filter(|finer| *finer <= season) {
        refine(&mut table, windows, finer);
    }
    let mut levels = vec![0.0; season.levels()];
    for (hour, level) in table.into_iter().enumerate() {
        levels[season.bin(hour)] = level;
    }
    Some(Profile {
        season,
        zone: zone.clone(),
        levels: levels.into(),
    })
}

/// Returns the median of all windows for every hour; `None` if there is no window.
fn one_level(windows: &[Level]) -> Option<Table> {
    let mut levels: Vec<f64> = windows.iter().map(|(_, level)| *level).collect();
    (!levels.is_empty()).then(|| [median(&mut levels); HOURS_OF_WEEK])
}

/// Replaces the level of each hour that has enough windows of this season.
fn refine(table: &mut Table, windows: &[Level], season: Season) {
    let mut bins = vec![Vec::new(); season.levels()];
    for (hour, level) in windows {
        bins[season.bin(*hour)].push(*level);
    }
    let medians: Vec<Option<f64>> = bins
        .iter_mut()
        .map(|levels| (levels.len() >= FEWEST_WINDOWS).then(|| median(levels)))
        .collect();
    for (hour, level) in table.iter_mut().enumerate() {
        *level = medians[season.bin(hour)].unwrap_or(*level);
    }
}

fn mean_error(windows: &[Level], table: &Table) -> f64 {
    let errors = windows.iter().map(|(hour, level)| (level - table[*hour]).abs());
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    let count = windows.len() as f64;
    errors.sum::<f64>() / count
}
