//! Suggests the options with which a file can be read, by a look at its first rows and by trying them.

mod infer;
mod sample;
#[cfg(test)]
mod tests;

use std::path::Path;

use windrow_common::EventTime;

use crate::checkpoint::column_options_text;
use crate::sensors::SensorTable;
use crate::source::decode::{self, ColumnMapping, Decoder, End, InputFile, RowPosition, RowSink};
use crate::source::{Batch, SourceError};

use sample::{LAST_LINE, Sample};

/// How many rows a suggestion is tried on.
const TRIED_ROWS: usize = 200;
/// How many suggestions are tried at most.
const MOST_TRIED: usize = 60;

/// A mapping that finds readings in a file.
#[derive(Clone, Debug)]
pub struct Suggestion {
    /// The options.
    pub mapping: ColumnMapping,
    /// Readings in the first rows.
    pub readings: usize,
    /// Readings in the first rows that could not be read.
    pub refused: u64,
    /// Sensors in the first rows.
    pub sensors: usize,
}

/// Returns mappings with which the file at `path`, or the first that can be read in the folder there, gives readings; the
/// best first. What `given` says is kept.
pub fn suggest(path: &Path, given: &ColumnMapping) -> Result<Vec<Suggestion>, SourceError> {
    let files = match path.is_dir() {
        true => decode::list(path)?.files,
        false => vec![decode::single(path)?],
    };
    let is_filled = |file: &&InputFile| file.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let Some(file) = files.iter().find(is_filled) else {
        return Ok(Vec::new());
    };
    let sample = Sample::of(file).map_err(|source| SourceError::Read {
        path: file.path.clone(),
        offset: 0,
        source,
    })?;
    let Some(sample) = sample else {
        return Ok(Vec::new());
    };
    let candidates = infer::mappings(&sample, given).into_iter().take(MOST_TRIED);
    let mut suggestions: Vec<_> = candidates.filter_map(|mapping| attempt(file, mapping)).collect();
    // A tag and a value by name say more than columns of numbers. All else being equal, the first is the likeliest.
    suggestions.sort_by_key(|suggestion| {
        let is_wide = !suggestion.mapping.tags.is_empty();
        (
            suggestion.refused > 0,
            is_wide,
            std::cmp::Reverse(suggestion.weight()),
        )
    });
    Ok(suggestions)
}

/// Adds a suggestion to an error about options that do not fit, if other options do.
pub(super) fn with_suggestion(error: SourceError, path: &Path, given: &ColumnMapping) -> SourceError {
    let is_unfit = matches!(
        error,
        SourceError::MissingColumn { .. } | SourceError::TwoColumns { .. } | SourceError::Options { .. }
    );
    if !is_unfit {
        return error;
    }
    let suggestions = suggest(path, given).unwrap_or_default();
    let Some((best, others)) = suggestions.split_first() else {
        return error;
    };
    let mut options = column_options_text(&best.mapping);
    if let Some(other) = others.iter().find(|other| best.differs_in_time_only(other)) {
        options = format!("{options}, or {}", column_options_text(&other.mapping));
    }
    SourceError::Suggested {
        error: Box::new(error),
        options,
    }
}

impl Suggestion {
    /// Returns whether another suggestion reads the same with another form of time, as with the day or the month first.
    pub fn differs_in_time_only(&self, other: &Self) -> bool {
        let with_this_time = ColumnMapping {
            time_format: self.mapping.time_format.clone(),
            ..other.mapping.clone()
        };
        self.mapping.time_format != other.mapping.time_format && with_this_time == self.mapping
    }

    /// More sensors mean that no distinction is lost, up to as many as a plant has in a few rows.
    fn weight(&self) -> usize {
        self.readings.min(TRIED_ROWS) + 4 * self.sensors.min(50)
    }
}

/// Reads the first rows with a mapping; `None` if that gives nothing.
fn attempt(file: &InputFile, mapping: ColumnMapping) -> Option<Suggestion> {
    mapping.check().ok()?;
    let size = file.metadata().ok()?.len();
    let end = End {
        size: Some(size),
        last_line: LAST_LINE,
    };
    let mut decoder = Decoder::open(file, RowPosition::default(), end, &mapping).ok()??;
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let mut out = RowSink {
        sensors: &mut sensors,
        batch: &mut batch,
        arrival: EventTime::now(),
        limit: TRIED_ROWS,
    };
    decoder.decode(&mut out).ok()?;
    let refused = batch.unreadable.iter().map(|item| item.readings).sum();
    let is_usable = !batch.readings.is_empty() && refused <= batch.readings.len() as u64;
    is_usable.then_some(Suggestion {
        mapping,
        readings: batch.readings.len(),
        refused,
        sensors: sensors.len(),
    })
}
