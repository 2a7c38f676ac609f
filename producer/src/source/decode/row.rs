//! The readings in a row of a table, by a plan.

use crate::source::{Offset, Raw, Reading, Unreadable};

use super::cells::{CellError, Cells, trim};
use super::mapping::Role;
use super::pattern::segment;
use super::plan::{Device, Plan, Values};
use super::sink::RowSink;

/// A reader of the rows of one table.
pub(super) struct RowReader {
    plan: Plan,
    /// A date and a time of the day, put together.
    joined: Vec<u8>,
}

/// Why a row gives no reading, and how many it would have given.
pub(super) struct Refused {
    pub(super) error: CellError,
    pub(super) readings: u64,
    /// Whether other readings of it were read.
    pub(super) is_partial: bool,
}

impl Refused {
    pub(super) fn one(error: CellError) -> Self {
        Self {
            error,
            readings: 1,
            is_partial: false,
        }
    }

    /// Returns whether its time is what is wrong.
    pub(super) fn is_time(&self) -> bool {
        matches!(self.error, CellError::Cell(Role::Timestamp, _))
    }
}

impl RowReader {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            joined: Vec::new(),
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Appends the readings of a row to `out`. If the row has several measurements, an empty cell is not a reading.
    /// Returns an error if no reading, or not every reading, could be read.
    #[inline]
    pub(super) fn read<'c, F: Fn(usize) -> &'c [u8]>(
        &mut self,
        cell: F,
        offset: u64,
        cells: &mut Cells,
        out: &mut RowSink<'_>,
    ) -> Result<(), Refused> {
        let cell = |place: usize| trim(cell(place));
        if self
            .plan
            .conditions
            .iter()
            .any(|(place, condition)| !condition.holds(cell(*place)))
        {
            out.batch.left_out += 1;
            return Ok(());
        }
        let refused = |error: CellError| Refused {
            error,
            readings: self.plan.values.count(&cell),
            is_partial: false,
        };
        let time = match self.plan.time_of_day {
            None => cells.time(cell(self.plan.time)),
            Some(time_of_day) => {
                self.joined.clear();
                self.joined.extend_from_slice(cell(self.plan.time));
                self.joined.push(b' ');
                self.joined.extend_from_slice(cell(time_of_day));
                cells.time(&self.joined)
            }
        };
        let time = time.map_err(refused)?;
        let device = match &self.plan.device {
            Device::Column(place) => cell(*place),
            Device::Fixed(name) => name.as_bytes(),
            Device::Segment(place, part) => {
                let text = cell(*place);
                segment(text.split(|&byte| byte == b'/'), *part).ok_or_else(|| {
                    let why = format!("\"{}\" has no part {part}", super::sink::shown(text));
                    refused(CellError::Cell(Role::Device, why))
                })?
            }
        };
        let reading = |sensor, value| Reading {
            sensor,
            time,
            arrival: out.arrival,
            value,
            offset: Offset(offset),
        };
        match &self.plan.values {
            Values::Long { tag, value } => {
                let sensor = cells.sensor(device, cell(*tag), out.sensors).map_err(refused)?;
                let value = cells.value(cell(*value)).map_err(refused)?;
                out.batch.readings.push(reading(sensor, value));
                Ok(())
            }
            Values::Wide(columns) => {
                let (mut wrong, before): (Option<Refused>, _) = (None, out.batch.readings.len());
                for (place, tag) in columns {
                    let text = cell(*place);
                    if text.is_empty() {
                        continue;
                    }
                    let read = cells.value(text).map_err(|error| named(error, tag));
                    let read = read.and_then(|value| {
                        let sensor = cells.sensor(device, tag.as_bytes(), out.sensors)?;
                        Ok(reading(sensor, value))
                    });
                    match (read, &mut wrong) {
                        (Ok(reading), _) => out.batch.readings.push(reading),
                        (Err(_), Some(wrong)) => wrong.readings += 1,
                        (Err(error), None) => wrong = Some(Refused::one(error)),
                    }
                }
                let is_partial = out.batch.readings.len() > before;
                wrong.map_or(Ok(()), |wrong| Err(Refused { is_partial, ..wrong }))
            }
        }
    }
}

/// Says which column a wrong measurement is in.
#[cold]
pub(super) fn named(error: CellError, tag: &str) -> CellError {
    match error {
        CellError::Cell(_, why) => CellError::Row(format!(
            "column {}: {why}; a column that is no measurement is left out with --ignore",
            super::sink::shown(tag.as_bytes())
        )),
        other => other,
    }
}

impl Values {
    /// Returns how many readings a row has.
    fn count<'c>(&self, cell: &impl Fn(usize) -> &'c [u8]) -> u64 {
        match self {
            Self::Long { .. } => 1,
            Self::Wide(columns) => {
                let full = columns.iter().filter(|(place, _)| !cell(*place).is_empty());
                (full.count() as u64).max(1)
            }
        }
    }
}

impl RowSink<'_> {
    /// Sets aside a row that holds this many readings.
    #[cold]
    pub(super) fn refuse_row(
        &mut self,
        offset: u64,
        line: Option<u64>,
        readings: u64,
        detail: String,
        raw: &[u8],
    ) {
        self.set_aside(Unreadable {
            readings,
            ..Unreadable::new(Offset(offset), line, detail, Raw::of(raw))
        });
    }
}
