//! The incidents of scored windows.

use windrow_common::{Course, EventTime, Length};
use windrow_incidents::{Rules, Track, Window};

/// Returns the incidents that windows with these scores open, by the alerter's rules for anomalies. Silence and stuck
/// values do not depend on the model.
pub fn raised(
    starts: impl Iterator<Item = EventTime>,
    scores: &[f64],
    length: Length,
    rules: &Rules,
) -> Vec<Course> {
    let rules = rules.for_anomalies_alone();
    let (mut track, mut ended) = (Track::default(), Vec::new());
    for (start, score) in starts.zip(scores) {
        let window = Window {
            start,
            end: start.saturating_add(length.as_duration()),
            score: *score,
            threshold: None,
            value: None,
            count: 1,
            breach: None,
            cause: None,
        };
        track.take(&window, &rules, &mut ended);
    }
    ended.extend(track.open(EventTime::MAX, &rules));
    ended
}
