//! Computes the share of labelled incidents that were true.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use windrow_common::{EventTime, Incident, IncidentKind};

use crate::label::{IncidentLabels, IncidentVerdict};

/// Counts of incidents by label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Labelled {
    /// Something was wrong.
    #[serde(rename = "true")]
    pub(super) right: u64,
    /// Nothing was wrong.
    #[serde(rename = "false")]
    pub(super) wrong: u64,
    /// People worked on the machine: neither a true nor a false alarm.
    pub(super) maintenance: u64,
    /// Nobody has said anything.
    pub(super) unlabelled: u64,
    /// Labels whose incident is no longer in the table, because late windows undid it.
    pub(super) withdrawn: u64,
}

impl Labelled {
    /// Sorts the incidents that opened `from` a time on and before another, by kind.
    pub(super) fn by_kind(
        incidents: &[Incident],
        labels: &IncidentLabels,
        (from, to): (Option<EventTime>, Option<EventTime>),
    ) -> BTreeMap<IncidentKind, Self> {
        let is_between =
            |opened: EventTime| from.is_none_or(|from| opened >= from) && to.is_none_or(|to| opened < to);
        let (mut kinds, mut found) = (BTreeMap::<_, Self>::new(), HashSet::new());
        for incident in incidents {
            if !is_between(incident.course.opened) {
                continue;
            }
            let id = incident.id();
            let counts = kinds.entry(incident.course.kind).or_default();
            *match labels.labels.get(&id).map(|label| label.verdict) {
                Some(IncidentVerdict::True) => &mut counts.right,
                Some(IncidentVerdict::False) => &mut counts.wrong,
                Some(IncidentVerdict::Maintenance) => &mut counts.maintenance,
                None => &mut counts.unlabelled,
            } += 1;
            if labels.labels.contains_key(&id) {
                found.insert(id);
            }
        }
        for (id, label) in &labels.labels {
            if is_between(label.from) && !found.contains(id) {
                kinds.entry(label.kind).or_default().withdrawn += 1;
            }
        }
        kinds
    }

    /// Returns the part of the incidents labelled true or false that was true; `None` if there are none.
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    pub(super) fn precision(&self) -> Option<f64> {
        let judged = self.right + self.wrong;
        (judged > 0).then(|| self.right as f64 / judged as f64)
    }

    /// Returns the sum of several.
    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            right: sum.right + one.right,
            wrong: sum.wrong + one.wrong,
            maintenance: sum.maintenance + one.maintenance,
            unlabelled: sum.unlabelled + one.unlabelled,
            withdrawn: sum.withdrawn + one.withdrawn,
        })
    }

    /// Returns whether people have said anything.
    pub(super) fn any_label(&self) -> bool {
        self.right + self.wrong + self.maintenance + self.withdrawn > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::IncidentLabel;
    use windrow_common::{Course, Length, SensorId};

    fn incident(kind: IncidentKind, opened: i64) -> Incident {
        let time = EventTime::from_millis(opened);
        Incident {
            sensor: SensorId::new("d", "t").unwrap(),
            window_length: Length::from_millis(60_000),
            course: Course::begun(kind, time, time),
        }
    }

    #[test]
    fn precision_is_of_true_and_false_alone_and_by_kind() {
        use IncidentKind::{Anomaly, Silent, Stuck};
        use IncidentVerdict::{False, Maintenance, True};
        let all = [
            (Anomaly, 100, Some(True)),
            (Anomaly, 200, Some(True)),
            (Anomaly, 300, Some(True)),
            (Anomaly, 400, Some(False)),
            (Anomaly, 500, Some(Maintenance)),
            (Anomaly, 600, None),
            (Silent, 300, None),
            // Before and after the stretch that is asked for.
            (Anomaly, 99, Some(False)),
            (Silent, 700, Some(False)),
        ];
        let now = EventTime::from_millis(0);
        let incidents: Vec<_> = all.iter().map(|(kind, at, _)| incident(*kind, *at)).collect();
        let mut labels = IncidentLabels::default();
        let mut label = |incident: &Incident, verdict| {
            let label = IncidentLabel::of(incident, verdict, None, now);
            labels.labels.insert(incident.id(), label);
        };
        for (incident, (_, _, verdict)) in incidents.iter().zip(&all) {
            if let Some(verdict) = verdict {
                label(incident, *verdict);
            }
        }
        label(&incident(Stuck, 400), False);
        let stretch = (
            Some(EventTime::from_millis(100)),
            Some(EventTime::from_millis(700)),
        );
        let kinds = Labelled::by_kind(&incidents, &labels, stretch);
        let anomalies = Labelled {
            right: 3,
            wrong: 1,
            maintenance: 1,
            unlabelled: 1,
            withdrawn: 0,
        };
        let (silences, stuck) = (
            Labelled {
                unlabelled: 1,
                ..Labelled::default()
            },
            Labelled {
                withdrawn: 1,
                ..Labelled::default()
            },
        );
        let right = [(Anomaly, anomalies), (Silent, silences), (Stuck, stuck)];
        assert_eq!(kinds.clone().into_iter().collect::<Vec<_>>(), right);
        assert_eq!(anomalies.precision(), Some(0.75));
        assert_eq!((silences.precision(), stuck.precision()), (None, None));
        assert!(!silences.any_label() && stuck.any_label());
        let sum = Labelled::sum(kinds.values());
        assert_eq!((sum.right, sum.unlabelled, sum.withdrawn), (3, 2, 1));
    }
}
