//! Whether a new model may replace the present one: it must not raise more alarms on its own past than was promised.

use std::time::Duration;

use windrow_common::{EventTime, Length};
use windrow_incidents::Rules;
use windrow_model::{Model, Scores, Scratch};
use windrow_tuning::raised;

use crate::budget::MONTH;
use crate::train::Sample;

/// The incidents that a new model and the present one raise on the training windows of the new one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gate {
    /// Incidents of the new model.
    pub(super) new: usize,
    /// Incidents of the present model; `None` if it cannot score these windows.
    pub(super) present: Option<usize>,
    /// How many are allowed: the budget of that time, and at least one.
    pub(super) allowed: f64,
}

impl Gate {
    /// Compares two models on the windows of a sample.
    pub(super) fn of(
        new: &Model,
        present: Option<&Model>,
        sample: &Sample,
        rules: &Rules,
        budget: f64,
    ) -> Self {
        let of_present = present
            .filter(|present| present.features() == new.features())
            .and_then(|present| incidents(present, sample, rules));
        Self::between(incidents(new, sample, rules), of_present, sample.span, budget)
    }

    /// Compares the incidents of two models in a span of time; `None` are those of a model that cannot score it.
    pub(super) fn between(
        new: Option<usize>,
        present: Option<usize>,
        span: Option<(EventTime, EventTime)>,
        budget: f64,
    ) -> Self {
        let span = span.map_or(Duration::ZERO, |(from, to)| {
            Duration::from_millis(u64::try_from(to.as_millis() - from.as_millis()).unwrap_or(0))
        });
        Self {
            // A model that cannot score its own past is refused.
            new: new.unwrap_or(usize::MAX),
            present,
            allowed: (budget * span.as_secs_f64() / MONTH.as_secs_f64()).max(1.0),
        }
    }

    /// Returns whether the new model may replace the present one. It may even raise more incidents than allowed if the
    /// present model raises more still: a sensor that has changed permanently is better off with it.
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    pub(super) fn is_open(&self) -> bool {
        self.new as f64 <= self.allowed || self.present.is_some_and(|present| self.new < present)
    }
}

/// Counts the anomaly incidents that a model raises, without silence and stuck values.
fn incidents(model: &Model, sample: &Sample, rules: &Rules) -> Option<usize> {
    let mut scores = Scores::default();
    model
        .score_windows(sample.windows(), &mut Scratch::default(), &mut scores)
        .ok()?;
    let rules = Rules {
        threshold: model.threshold().unwrap_or(rules.threshold),
        ..*rules
    };
    Some(opened(
        &sample.starts,
        &scores.scores,
        sample.window_length,
        &rules,
    ))
}

/// Counts the incidents that windows with these scores open, by the alerter's rules for anomalies.
pub(super) fn opened(starts: &[EventTime], scores: &[f64], length: Length, rules: &Rules) -> usize {
    raised(starts.iter().copied(), scores, length, rules).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_model::{TrainOptions, train_windows};

    /// An hour of windows around `level`, with `steps` that last five minutes each.
    fn sample(level: f64, steps: &[usize]) -> Sample {
        let starts: Vec<EventTime> = (0..600).map(|at| EventTime::from_millis(at * 60_000)).collect();
        let values = (0..600).map(|at| {
            let step = if steps.iter().any(|step| (*step..step + 5).contains(&at)) {
                50.0
            } else {
                0.0
            };
            #[allow(clippy::cast_precision_loss)]
            let noise = ((at * 7_919) % 1_000) as f64 / 1_000.0;
            level + step + noise
        });
        let values = values.collect();
        Sample::of_all(starts, values, Length::from_millis(60_000))
    }

    fn model(sample: &Sample) -> Model {
        let options = TrainOptions::default();
        train_windows(sample.windows(), "mean".parse().unwrap(), &options)
            .unwrap()
            .0
    }

    #[test]
    fn a_model_that_raises_more_than_its_budget_stays_out_unless_the_present_one_is_worse() {
        let rules = Rules {
            quiet: 10,
            ..Rules::default()
        };
        let calm = sample(20.0, &[]);
        let of_calm = model(&calm);
        let gate = |new: &Model, present: Option<&Model>, sample: &Sample, budget| {
            Gate::of(new, present, sample, &rules, budget)
        };
        let open = gate(&of_calm, None, &calm, 1.0);
        assert!(open.new <= 1 && open.is_open(), "{open:?}");
        // Four steps that it does not know are four incidents.
        let stepped = sample(20.0, &[100, 200, 300, 400]);
        let closed = gate(&of_calm, None, &stepped, 1.0);
        assert_eq!((closed.new, closed.allowed), (4, 1.0));
        assert!(!closed.is_open());
        assert!(gate(&of_calm, None, &stepped, 300.0).is_open());
        // The present one stems from another level, where everything is one long incident: not worse than four.
        let elsewhere = model(&sample(500.0, &[]));
        assert!(!gate(&of_calm, Some(&elsewhere), &stepped, 1.0).is_open());
        let of_more = Rules { quiet: 1, ..rules };
        let strict = Gate {
            present: Some(9),
            ..Gate::of(&of_calm, None, &stepped, &of_more, 1.0)
        };
        assert!(strict.is_open());
    }
}
