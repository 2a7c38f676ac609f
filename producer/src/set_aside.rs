//! Says in the log how much of what was read is set aside, and why.

use std::time::{Duration, Instant};

use crate::quarantine::QuarantineReason;
use crate::stats::{Counts, Stats};

/// Shortest time between two lines.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// When the last line was due, and how many readings had been set aside by then.
#[derive(Debug, Default)]
pub(crate) struct LastReport(Option<(Instant, u64)>);

impl LastReport {
    /// Returns whether a line is due: a minute has passed since the last one, and more was set aside in it.
    fn is_due(&mut self, now: Instant, readings: u64) -> bool {
        // The first call only starts the clock.
        let (at, before) = *self.0.get_or_insert((now, 0));
        if now.duration_since(at) < REPORT_EVERY {
            return false;
        }
        self.0 = Some((now, readings));
        readings > before
    }
}

impl Stats {
    /// Logs what was set aside, once a minute as long as there is more of it.
    pub(crate) fn log_set_aside_by_the_minute(&self, now: Instant) {
        let counts = self.counts();
        let is_due = self.last_report().is_due(now, counts.quarantined_in_all());
        if is_due {
            log(&counts);
        }
    }

    /// Logs what was set aside in the whole run, if anything was.
    pub fn log_set_aside(&self) {
        let counts = self.counts();
        if counts.quarantined_in_all() > 0 {
            log(&counts);
        }
    }
}

fn log(counts: &Counts) {
    let readings = counts.quarantined_in_all();
    #[allow(clippy::cast_precision_loss)] // Shown to two digits.
    let percent = readings as f64 / counts.read() as f64 * 100.0;
    let reasons: Vec<String> = QuarantineReason::ALL
        .into_iter()
        .zip(counts.quarantined)
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    tracing::warn!(
        readings,
        share = format!("{percent:.2} %"),
        reasons = reasons.join(", "),
        "set aside since the start; `windrow quarantine list` shows them"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_a_minute_if_more_was_set_aside() {
        let start = Instant::now();
        let mut last = LastReport::default();
        for (second, readings, due) in [
            (0, 5, false),
            (59, 6, false),
            (60, 6, true),
            (61, 900, false),
            (119, 900, false),
            (120, 900, true),
            (180, 900, false),
            (240, 901, true),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(last.is_due(now, readings), due, "at {second} s");
        }
    }
}
