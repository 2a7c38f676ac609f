//! What a message, a window and a model need, as measured or assumed. The bill names each of these figures.

use serde::Serialize;

/// Windows of a message, and messages per second on two cores that also run the producer and RabbitMQ.
const SCORED: [(f64, f64); 3] = [(1.0, 30_800.0), (12.0, 21_600.0), (60.0, 12_500.0)];
/// Cores that these rates need.
const SCORED_ON: f64 = 2.0;
/// Bytes of a prediction in the store.
pub(super) const PREDICTION_BYTES: f64 = 36.0;
/// Bytes of a dispatched window in the store.
pub(super) const DISPATCHED_BYTES: f64 = 1.0;
/// Bytes of a model in the store.
pub(super) const MODEL_BYTES: f64 = 5_300.0;
/// Bytes of a producer's memory for an open window, with a quarter to spare.
pub(super) const OPEN_WINDOW_BYTES: f64 = 150.0 * 1.25;
/// Memory for models in a worker process, in bytes.
pub(super) const MODEL_CACHE_BYTES: f64 = 512.0 * 1024.0 * 1024.0;
/// Predictions of a part, and windows of a part of `dispatched/`.
pub(super) const PREDICTIONS_PER_PART: f64 = 100_000.0;
pub(super) const DISPATCHED_PER_PART: f64 = 200_000.0;
/// Messages per second that one queue was measured to carry at most.
pub(super) const BROKER_RATE: f64 = SCORED[0].1;

/// A figure that the bill rests on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct UnitCost {
    pub(super) what: &'static str,
    pub(super) value: String,
    /// Where it comes from: a table of measurements, an option, or an assumption.
    pub(super) from: &'static str,
}

/// Returns the seconds of a core that a message of so many windows takes to be produced, carried and scored. Between
/// two measured sizes, and beyond the largest, it follows a straight line.
pub(super) fn message_core_seconds(windows: f64) -> f64 {
    let at = |(windows, rate): (f64, f64)| (windows, SCORED_ON / rate);
    let (from, to) = match windows {
        few if few <= SCORED[1].0 => (at(SCORED[0]), at(SCORED[1])),
        _ => (at(SCORED[1]), at(SCORED[2])),
    };
    from.1 + (to.1 - from.1) * (windows - from.0) / (to.0 - from.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_rates_are_met_and_more_windows_never_take_less() {
        for (windows, rate) in SCORED {
            assert!((message_core_seconds(windows) * rate - SCORED_ON).abs() < 1e-9);
        }
        // 40 windows: 92.6 µs and 28/48 of the way to 160 µs.
        assert!((message_core_seconds(40.0) - 131.9e-6).abs() < 0.1e-6);
        let seconds: Vec<f64> = (1..500)
            .map(|windows| message_core_seconds(windows.into()))
            .collect();
        assert!(seconds.is_sorted());
    }

    #[test]
    fn the_page_of_measurements_has_these_figures() {
        let page = include_str!("../../../docs/performance.md");
        for figure in ["30.8 k / 21.6 k / 12.5 k messages/s", "36 bytes", "5.3 kB"] {
            assert!(
                page.contains(figure),
                "docs/performance.md does not say `{figure}`"
            );
        }
    }
}
