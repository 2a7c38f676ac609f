//! Reduces a sensor's windows to what is drawn: few enough points, in runs without gaps.

use super::{ChartPoint, SensorChart, TruthSpan};
use windrow_common::Length;

/// Maximum number of points in a line, and of marked flags: more than a screen has pixels to show them.
pub(super) const MAX_POINTS: usize = 1_500;

/// A flagged window, and whether it touches a true anomaly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flag {
    pub(super) point: ChartPoint,
    /// Index in [`SensorChart::truth`].
    pub(super) truth: Option<usize>,
}

/// A sensor's windows, ready to draw.
#[derive(Debug)]
pub(super) struct Series {
    /// Runs of points without a gap inside.
    pub(super) runs: Vec<Vec<ChartPoint>>,
    /// The flagged windows: all of them, or an even selection of at most [`MAX_POINTS`].
    pub(super) flags: Vec<Flag>,
    /// Number of flagged windows, and of those outside every true anomaly.
    pub(super) flagged: usize,
    pub(super) outside: usize,
    /// For each true anomaly, whether a window that touches it was flagged.
    pub(super) noticed: Vec<bool>,
}

impl Series {
    pub(super) fn new(chart: &SensorChart, window: Length) -> Self {
        let drawable = |point: &&ChartPoint| {
            [point.mean, point.min, point.max, point.decision]
                .iter()
                .all(|value| value.is_finite())
        };
        let points: Vec<ChartPoint> = chart.windows.iter().filter(drawable).copied().collect();
        let mut noticed = vec![false; chart.truth.len()];
        let mut flags = Vec::new();
        for point in points.iter().filter(|point| point.anomaly) {
            let mut truth = None;
            for (index, span) in chart.truth.iter().enumerate() {
                if touches(point, span, window) {
                    noticed[index] = true;
                    truth = truth.or(Some(index));
                }
            }
            flags.push(Flag { point: *point, truth });
        }
        let flagged = flags.len();
        let outside = flags.iter().filter(|flag| flag.truth.is_none()).count();
        let every = flagged.div_ceil(MAX_POINTS).max(1);
        Self {
            runs: runs(&points),
            flags: flags.into_iter().step_by(every).collect(),
            flagged,
            outside,
            noticed,
        }
    }

    pub(super) fn points(&self) -> impl Iterator<Item = &ChartPoint> {
        self.runs.iter().flatten()
    }
}

fn touches(point: &ChartPoint, span: &TruthSpan, window: Length) -> bool {
    let start = point.time.as_millis();
    start < span.to.as_millis() && span.from.as_millis() < start.saturating_add(window.as_millis().max(1))
}

/// Splits the points where windows are missing, and merges neighbours down to at most [`MAX_POINTS`].
fn runs(points: &[ChartPoint]) -> Vec<Vec<ChartPoint>> {
    let mut distances: Vec<i64> = points
        .windows(2)
        .map(|pair| pair[1].time.as_millis() - pair[0].time.as_millis())
        .collect();
    distances.sort_unstable();
    let usual = distances.get(distances.len() / 2).copied().unwrap_or(1);
    let merge = points.len().div_ceil(MAX_POINTS).max(1);
    let hole = |a: &ChartPoint, b: &ChartPoint| {
        b.time.as_millis() - a.time.as_millis() > usual * merge as i64 * 3 / 2
    };
    let merged: Vec<ChartPoint> = points.chunks(merge).map(merged).collect();
    merged.chunk_by(|a, b| !hole(a, b)).map(<[_]>::to_vec).collect()
}

/// Merges several points into one that keeps their extremes and their lowest decision.
fn merged(points: &[ChartPoint]) -> ChartPoint {
    let mut whole = points[0];
    for point in &points[1..] {
        whole.min = whole.min.min(point.min);
        whole.max = whole.max.max(point.max);
        whole.decision = whole.decision.min(point.decision);
        whole.anomaly |= point.anomaly;
    }
    whole.mean = points.iter().map(|point| point.mean).sum::<f64>() / points.len() as f64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Length = Length::from_millis(60_000);
    use windrow_common::EventTime;

    fn chart(count: i64, flagged: impl Fn(i64) -> bool) -> SensorChart {
        let point = |i: i64| ChartPoint {
            time: EventTime::from_millis(i * 60_000),
            mean: 1.0,
            min: 0.0,
            max: i as f64,
            decision: 1.0,
            anomaly: flagged(i),
        };
        SensorChart {
            sensor: "a/b".into(),
            windows: (0..count).map(point).collect(),
            truth: vec![TruthSpan {
                from: EventTime::from_millis(119_999),
                to: EventTime::from_millis(180_000),
                kind: "spike".into(),
            }],
        }
    }

    #[test]
    fn a_long_series_keeps_its_extremes_and_its_flags() {
        let series = Series::new(&chart(100_000, |i| i % 1_000 == 7), MINUTE);
        assert!(series.points().count() <= MAX_POINTS);
        assert_eq!(
            series.points().map(|point| point.max).fold(0.0, f64::max),
            99_999.0
        );
        assert_eq!((series.flags.len(), series.flagged), (100, 100));
        let all = Series::new(&chart(100_000, |_| true), MINUTE);
        assert!(all.flags.len() <= MAX_POINTS);
        assert_eq!(all.flagged, 100_000);
    }

    #[test]
    fn the_line_breaks_where_windows_are_missing() {
        let mut chart = chart(100, |_| false);
        chart.windows.remove(50);
        chart.windows[20].mean = f64::NAN;
        let series = Series::new(&chart, MINUTE);
        assert_eq!(series.runs.iter().map(Vec::len).collect::<Vec<_>>(), [20, 29, 49]);
    }

    #[test]
    fn a_flag_counts_for_the_truth_that_its_window_touches() {
        for (at, inside) in [(0, false), (1, true), (2, true), (3, false)] {
            let series = Series::new(&chart(10, |i| i == at), MINUTE);
            assert_eq!(series.noticed, [inside], "{at}");
            assert_eq!(series.outside, usize::from(!inside), "{at}");
        }
    }
}
