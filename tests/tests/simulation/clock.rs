//! The simulated clock: Tokio's, paused, so that it jumps to the next thing that is due.

use tokio::time::Instant;

use windrow_common::EventTime;

use crate::plan::event_time;

/// The time since the simulation began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_ms(self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }

    pub(crate) fn now(self) -> EventTime {
        event_time(self.now_ms())
    }
}
