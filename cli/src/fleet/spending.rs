//! Whether the promised rate of false incidents is kept, and which sensors use most of it.

use std::collections::HashMap;

use windrow_common::{EventTime, Incident, IncidentKind, SensorId};

use crate::label::{IncidentLabels, IncidentVerdict};

/// The normal deviate of a range that holds 95 % of what chance may do.
const DEVIATE: f64 = 1.959_964;

/// The incidents of a stretch of time that count against the budget.
///
/// These are the anomalies of single sensors that are labelled false or not labelled. Not counted are incidents
/// labelled true or maintenance, which were worth reporting; incidents muted by a maintenance, which nobody saw; and
/// incidents of several tags together, for which there is no budget.
#[derive(Clone, Debug, Default)]
pub(super) struct Spending {
    pub(super) incidents: u64,
    by_sensor: HashMap<SensorId, u64>,
}

/// A rate of incidents, with its 95 % confidence limits for random incidents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub(super) rate: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Whether a promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The rate is not above it.
    Kept,
    /// The rate is above it, but chance may explain that.
    Unclear,
    /// The rate is above it, by more than chance explains.
    Exceeded,
}

impl Spending {
    /// Sorts the incidents that opened `from` a time on and before another.
    pub(super) fn of(
        incidents: &[Incident],
        labels: &IncidentLabels,
        (from, to): (Option<EventTime>, Option<EventTime>),
    ) -> Self {
        let mut spending = Self::default();
        for incident in incidents {
            let course = &incident.course;
            let is_between =
                from.is_none_or(|from| course.opened >= from) && to.is_none_or(|to| course.opened < to);
            let verdict = || labels.labels.get(&incident.id()).map(|label| label.verdict);
            if course.kind == IncidentKind::Anomaly
                && !incident.sensor.is_group()
                && is_between
                && !course.is_hushed()
                && matches!(verdict(), None | Some(IncidentVerdict::False))
            {
                spending.incidents += 1;
                *spending.by_sensor.entry(incident.sensor.clone()).or_default() += 1;
            }
        }
        spending
    }

    /// Returns the sensors that use most of the budget, and how many incidents each has.
    pub(super) fn most(&self, most: usize) -> Vec<(&SensorId, u64)> {
        let mut sensors: Vec<_> = self
            .by_sensor
            .iter()
            .map(|(sensor, count)| (sensor, *count))
            .collect();
        sensors.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        sensors.truncate(most);
        sensors
    }

    /// Returns the share of all incidents that a number of them is.
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    pub(super) fn share(&self, incidents: u64) -> f64 {
        incidents as f64 / self.incidents.max(1) as f64
    }

    /// Returns the incidents a month, over so many months of sensors; `None` without any.
    pub(super) fn rate(&self, months: f64) -> Option<Rate> {
        (months > 0.0).then(|| Rate::of(self.incidents, months))
    }
}

impl Rate {
    /// Returns the rate of a count, with Byar's approximation of the exact Poisson limits (Breslow and Day, "Statistical methods
    /// in cancer research", volume 2, 1987, section 2.3).
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    fn of(count: u64, months: f64) -> Self {
        let limit = |count: f64, deviate: f64| {
            let root = 1.0 - 1.0 / (9.0 * count) + deviate / (3.0 * count.sqrt());
            count * root.max(0.0).powi(3)
        };
        let counted = count as f64;
        Self {
            rate: counted / months,
            low: if count == 0 {
                0.0
            } else {
                limit(counted, -DEVIATE) / months
            },
            high: limit(counted + 1.0, DEVIATE) / months,
        }
    }

    /// Judges the rate by what was promised a month.
    pub(super) fn verdict(&self, promised: f64) -> Verdict {
        match () {
            () if self.rate <= promised => Verdict::Kept,
            () if self.low <= promised => Verdict::Unclear,
            () => Verdict::Exceeded,
        }
    }
}

impl Verdict {
    /// Returns its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Unclear => "unclear",
            Self::Exceeded => "exceeded",
        }
    }

    /// Returns what it means, for people.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Kept => "the budget is kept",
            Self::Unclear => "above the budget, as it may be by chance",
            Self::Exceeded => "the budget is exceeded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::IncidentLabel;
    use windrow_common::{Course, GROUP_TAG, Length};

    fn incident(tag: &str, kind: IncidentKind, opened: i64) -> Incident {
        let time = EventTime::from_millis(opened);
        Incident {
            sensor: SensorId {
                device: "d".into(),
                tag: tag.into(),
            },
            window_length: Length::from_millis(60_000),
            course: Course::begun(kind, time, time),
        }
    }

    #[test]
    fn what_is_false_or_unlabelled_counts_and_nothing_that_nobody_heard_of() {
        use IncidentKind::{Anomaly, Range};
        use IncidentVerdict::{False, Maintenance, True};
        let mut all = vec![
            incident("a", Range, 100),
            // All tags of the device together.
            incident(GROUP_TAG, Anomaly, 120),
            // Before and after.
            incident("a", Anomaly, 99),
            incident("a", Anomaly, 200),
        ];
        let mut hushed = incident("a", Anomaly, 100);
        hushed.course.closed = Some(EventTime::from_millis(150));
        hushed.course.muted_until = hushed.course.closed;
        all.push(hushed);
        let mut labels = IncidentLabels::default();
        let verdicts = [("a", True), ("a", Maintenance), ("b", False), ("c", False)];
        for (at, (tag, verdict)) in (110..).zip(verdicts) {
            let incident = incident(tag, Anomaly, at);
            let label = IncidentLabel::of(&incident, verdict, None, EventTime::from_millis(0));
            labels.labels.insert(incident.id(), label);
            all.push(incident);
        }
        all.push(incident("c", Anomaly, 120));
        let time = |time| Some(EventTime::from_millis(time));
        let spending = Spending::of(&all, &labels, (time(100), time(200)));
        let most: Vec<_> = spending
            .most(9)
            .iter()
            .map(|(sensor, count)| (sensor.tag.to_string(), *count))
            .collect();
        assert_eq!(spending.incidents, 3);
        assert_eq!(most, [("c".to_owned(), 2), ("b".to_owned(), 1)]);
        assert!((spending.share(2) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(spending.rate(0.0), None);
    }

    #[test]
    fn limits_are_those_of_the_poisson_distribution() {
        // Exact limits, from quantiles of the chi-square distribution.
        for (count, low, high) in [
            (0, 0.0, 3.688_879),
            (1, 0.025_318, 5.571_643),
            (10, 4.795_389, 18.390_36),
            (100, 81.363_99, 121.626_9),
        ] {
            let rate = Rate::of(count, 1.0);
            assert!((rate.low - low).abs() <= 0.005 * low + 0.015, "{count}: {rate:?}");
            assert!((rate.high - high).abs() <= 0.01 * high, "{count}: {rate:?}");
        }
    }

    #[test]
    fn a_budget_is_exceeded_when_chance_does_not_explain_it() {
        let verdict = |count, promised| Rate::of(count, 10.0).verdict(promised);
        assert_eq!(verdict(10, 1.0), Verdict::Kept);
        assert_eq!(verdict(14, 1.0), Verdict::Unclear);
        assert_eq!(verdict(30, 1.0), Verdict::Exceeded);
        assert_eq!(verdict(0, 0.001), Verdict::Kept);
    }
}
