//! Decides how many workers the next scheduled batch needs.

use jiff::Timestamp;

use super::{Schedule, seconds};

/// How much earlier than a start-up time workers are asked for, in seconds.
const EARLY: f64 = 15.0;
/// How long workers wait for a batch that is late, in seconds.
const LATE: f64 = 60.0;

/// The batch that is due soon or is arriving.
#[derive(Clone, Debug, Default)]
pub(super) struct NextBatch {
    /// When it is due, in seconds.
    due: Option<f64>,
    /// How many messages have arrived of it.
    messages: f64,
}

impl NextBatch {
    /// Returns in how many seconds the next batch is due, if there is a schedule.
    pub(super) fn in_seconds(schedule: Option<&Schedule>, at: Timestamp) -> Option<f64> {
        let next = schedule?.next(at)?;
        Some(seconds(next) - seconds(at))
    }

    /// Takes in that the next batch is due in `next` seconds, and that messages arrived. Returns the number of messages of
    /// a batch that has arrived as a whole, `counted_for` seconds after it was due.
    pub(super) fn observe(
        &mut self,
        now: f64,
        next: Option<f64>,
        boot: f64,
        arrived: f64,
        counted_for: f64,
    ) -> Option<f64> {
        let mut whole = None;
        if let Some(due) = self.due {
            self.messages += arrived;
            if now - due >= counted_for {
                whole = Some(self.messages).filter(|messages| *messages > 0.0);
                *self = Self::default();
            }
        }
        if self.due.is_none() && next.is_some_and(|next| next <= boot + EARLY) {
            self.due = next.map(|next| now + next);
        }
        whole
    }

    /// Returns in how many seconds the batch is due that workers wait for; negative if it is late.
    pub(super) fn awaited(&self, now: f64) -> Option<f64> {
        self.due.map(|due| due - now).filter(|left| *left >= -LATE)
    }
}
