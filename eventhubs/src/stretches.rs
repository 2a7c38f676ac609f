//! The parts of a body that are set aside: single objects, or stretches of many.

use windrow_producer::source::decode::RowSink;
use windrow_producer::source::{Raw, Unreadable};

use crate::event::Event;

/// Number of unreadable objects of a body that become one item each. Beyond it, adjacent ones share an item, because a
/// body of a few kilobytes may unpack to millions of bad lines.
const ONE_BY_ONE: usize = 1_000;
/// Maximum number of items of a body. Beyond it, the last item also covers the objects that were read in between,
/// because good and bad ones may alternate.
const MOST: usize = 10_000;

/// The unreadable stretches of the text of one body, in order.
pub(crate) struct Stretches<'a> {
    text: &'a [u8],
    done: Vec<Stretch>,
    /// Whether the next unreadable object adjoins the last stretch.
    adjoins: bool,
}

struct Stretch {
    /// Where it begins and ends in the text.
    place: (usize, usize),
    readings: u64,
    line: Option<u64>,
    detail: String,
    /// Whether it also covers objects that were read.
    holds_good_ones: bool,
}

impl<'a> Stretches<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            done: Vec::new(),
            adjoins: false,
        }
    }

    /// Returns where `part`, which is a slice of the text, begins and ends in it.
    pub(crate) fn place(&self, part: &[u8]) -> (usize, usize) {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        (start, start + part.len())
    }

    /// Adds `part`, which is a slice of the text after those that were added before.
    pub(crate) fn add(&mut self, part: &[u8], readings: u64, line: Option<u64>, detail: String) {
        let place = self.place(part);
        let readings = readings.max(1);
        let (count, adjoins) = (self.done.len(), self.adjoins);
        match self.done.last_mut() {
            Some(last) if count >= MOST || (count >= ONE_BY_ONE && adjoins) => {
                last.place.1 = place.1;
                last.readings += readings;
                last.holds_good_ones |= !adjoins;
            }
            _ => self.done.push(Stretch {
                place,
                readings,
                line,
                detail,
                holds_good_ones: false,
            }),
        }
        self.adjoins = true;
    }

    /// Notes that the next object is a reading.
    pub(crate) fn interrupt(&mut self) {
        self.adjoins = false;
    }

    /// Sets everything aside. The first unreadable item of an event carries the event's envelope.
    pub(crate) fn end(self, event: &Event, out: &mut RowSink<'_>) {
        for stretch in self.done {
            let last = out.batch.unreadable.last();
            let is_first = last.is_none_or(|last| last.offset != event.offset);
            let (start, end) = stretch.place;
            let raw = Raw::of(self.text.get(start..end).unwrap_or_default());
            let mut detail = match stretch.readings {
                many if many > 1 && stretch.line.is_some() => {
                    format!("{}; and {} more lines", stretch.detail, many - 1)
                }
                _ => stretch.detail,
            };
            if stretch.holds_good_ones {
                detail += "; the bytes also hold readings that were used";
            }
            out.set_aside(Unreadable {
                readings: stretch.readings,
                envelope: is_first.then(|| Box::new(event.envelope())),
                ..Unreadable::new(event.offset, stretch.line, detail, raw)
            });
        }
    }
}
