//! Scores a micro-batch of messages with their models: CPU work, on a blocking thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use windrow_common::{Cause, Prediction, ScoringTask, Shadow};
use windrow_model::{Contribution, Scores, Scratch, is_anomaly};
use windrow_queue::{Announcement, Message, Receipt};

use crate::cache::LoadedModel;
use crate::stats::{CANNOT_SCORE, PANICKED, Stats};
use crate::{group, sensor};

/// A message with everything needed to score it.
#[derive(Debug)]
pub(crate) struct Scorable {
    pub(crate) unsettled: Unsettled,
    pub(crate) task: ScoringTask,
    pub(crate) model: Arc<LoadedModel>,
}

/// A message as delivered, with the receipt that settles it.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) message: Arc<Message>,
    pub(crate) receipt: Receipt,
}

/// A message that cannot be scored.
#[derive(Debug)]
pub(crate) struct Unscorable {
    pub(crate) unsettled: Unsettled,
    /// A short reason code, which is counted.
    pub(crate) code: &'static str,
    /// The explanation for a person.
    pub(crate) detail: String,
}

impl Unscorable {
    /// Creates it, and logs why the message cannot be scored.
    pub(crate) fn logged(unsettled: Unsettled, code: &'static str, detail: String) -> Self {
        tracing::warn!(
            id = unsettled.message.id,
            trace_id = unsettled.message.trace_id(),
            reason = code,
            detail,
            "cannot score the message"
        );
        Self {
            unsettled,
            code,
            detail,
        }
    }
}

/// The results of scoring a micro-batch, or of all messages that a worker gathers before it writes.
#[derive(Debug, Default)]
pub(crate) struct Scored {
    pub(crate) predictions: Vec<Prediction>,
    /// Messages whose predictions are all in `predictions`.
    pub(crate) done: Vec<Unsettled>,
    pub(crate) unscorable: Vec<Unscorable>,
    pub(crate) announcements: Vec<Announcement>,
}

impl Scored {
    /// Returns the number of messages in it.
    pub(crate) fn messages(&self) -> usize {
        self.done.len() + self.unscorable.len()
    }

    /// Returns one of its messages, to name the batch in logs.
    pub(crate) fn any(&self) -> Option<&Message> {
        let dead = self.unscorable.iter().map(|dead| &dead.unsettled);
        self.done
            .iter()
            .chain(dead)
            .map(|unsettled| &*unsettled.message)
            .next()
    }

    /// Adds the results of another micro-batch.
    pub(crate) fn extend(&mut self, other: Self) {
        self.predictions.extend(other.predictions);
        self.done.extend(other.done);
        self.unscorable.extend(other.unscorable);
        self.announcements.extend(other.announcements);
    }
}

/// The body of the announcement of a message with anomalies.
#[derive(Serialize)]
struct Anomalies<'a> {
    device: &'a str,
    tag: &'a str,
    message: &'a str,
    model_version: &'a str,
    window_ms: i64,
    windows: Vec<AnomalousWindow>,
}

#[derive(Serialize)]
struct AnomalousWindow {
    start: String,
    decision: f64,
    score: Option<f64>,
    /// For people.
    cause: Option<String>,
    count: u64,
    mean: f64,
    std: f64,
    min: f64,
    max: f64,
}

/// What scoring reuses from message to message.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) scratch: Scratch,
    pub(crate) scores: Scores,
    pub(crate) of_shadow: Scores,
}

/// Scores every message, or records why it cannot. With `announce`, also creates announcements of anomalies.
pub(crate) fn score(batch: Vec<Scorable>, announce: bool, stats: &Stats) -> Scored {
    let mut scored = Scored::default();
    let mut buffers = Buffers::default();
    for Scorable {
        unsettled,
        task,
        model,
    } in batch
    {
        let first = scored.predictions.len();
        // The kernel is not known to panic. If one message makes it panic, only that message becomes a dead letter.
        let decided = catch_unwind(AssertUnwindSafe(|| match &task {
            ScoringTask::Sensor(message) => {
                sensor::score(message, &model, &mut buffers, &mut scored.predictions, stats)
            }
            ScoringTask::Group(message) => {
                group::score(message, &model, &mut buffers, &mut scored.predictions, stats)
            }
        }));
        let (code, why) = match decided {
            Ok(Ok(())) => {
                if announce {
                    let id = &unsettled.message.id;
                    match announcement(id, &scored.predictions[first..]) {
                        Ok(announcement) => scored.announcements.extend(announcement),
                        Err(error) => {
                            stats.dropped_announcements.inc();
                            tracing::warn!(id, %error, "cannot encode the announcement of anomalies");
                        }
                    }
                }
                scored.done.push(unsettled);
                continue;
            }
            Ok(Err(error)) => (CANNOT_SCORE, error.to_string()),
            Err(_) => {
                buffers = Buffers::default();
                (
                    PANICKED,
                    "scoring panicked; the worker's log says where".to_owned(),
                )
            }
        };
        // The panic may have left some of the message's predictions.
        scored.predictions.truncate(first);
        let detail = format!("model {} of {}: {why}", model.version, task.sensor());
        scored
            .unscorable
            .push(Unscorable::logged(unsettled, code, detail));
    }
    scored
}

/// Returns a shadow version's result for one window.
pub(crate) fn beside(version: &Arc<str>, scores: &Scores, at: usize) -> Shadow {
    Shadow {
        version: Arc::clone(version),
        decision: scores.decisions[at],
        score: scores.scores[at],
    }
}

/// Returns the feature that makes a window an anomaly; `None` if it is normal or has no reason. If `explain` panics,
/// the window only lacks its cause: its score stands, and a retry would panic again.
pub(crate) fn cause(
    decision: f64,
    explain: impl FnOnce() -> Vec<Contribution>,
    stats: &Stats,
) -> Option<Cause> {
    if !is_anomaly(decision) {
        return None;
    }
    let Ok(reasons) = catch_unwind(AssertUnwindSafe(explain)) else {
        stats.unexplained.inc();
        return None;
    };
    let reason = reasons.into_iter().next()?;
    Some(Cause {
        feature: reason.name(),
        value: reason.value,
        normal: reason.band.map(|band| (band.low, band.high)),
        share: reason.share,
    })
}

/// Creates one announcement for all anomalies of a message, so that an hour of anomalies notifies once.
fn announcement(
    message: &str,
    predictions: &[Prediction],
) -> Result<Option<Announcement>, serde_json::Error> {
    let windows: Vec<_> = predictions
        .iter()
        .filter(|prediction| prediction.anomaly)
        .map(
            |Prediction {
                 aggregate,
                 decision,
                 score,
                 cause,
                 ..
             }| AnomalousWindow {
                start: aggregate.window_start.to_string(),
                decision: *decision,
                score: *score,
                cause: cause.as_ref().map(ToString::to_string),
                count: aggregate.count,
                mean: aggregate.mean,
                std: aggregate.std,
                min: aggregate.min,
                max: aggregate.max,
            },
        )
        .collect();
    let Some(first) = predictions.first().filter(|_| !windows.is_empty()) else {
        return Ok(None);
    };
    let body = serde_json::to_vec(&Anomalies {
        device: &first.sensor.device,
        tag: &first.sensor.tag,
        message,
        model_version: &first.model_version,
        window_ms: first.window_length.as_millis(),
        windows,
    })?;
    Ok(Some(Announcement {
        topic: first.sensor.topic(),
        body: body.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{Aggregate, EventTime, Length, SensorId};

    #[test]
    fn an_explanation_that_panics_costs_the_cause_alone() {
        let stats = Stats::default();
        let reason = |share| Contribution {
            tag: None,
            feature: windrow_model::Feature::Mean,
            value: 2.5,
            band: None,
            share,
        };
        let told = cause(-0.5, || vec![reason(0.75), reason(0.25)], &stats).unwrap();
        assert_eq!((&*told.feature, told.share), ("mean", 0.75));
        assert_eq!(
            cause(0.5, || panic!("a normal window is not explained"), &stats),
            None
        );
        assert_eq!(stats.unexplained.get(), 0);
        assert_eq!(cause(-0.5, || panic!("no such feature"), &stats), None);
        assert_eq!(stats.unexplained.get(), 1);
    }

    #[test]
    fn anomalies_of_a_message_are_announced_together_and_calm_ones_not() {
        let prediction = |minute: i64, anomaly| Prediction {
            sensor: SensorId::new("pump.7", "t").unwrap(),
            window_length: Length::from_millis(60_000),
            aggregate: Aggregate {
                window_start: EventTime::from_millis(minute * 60_000),
                count: 1,
                mean: 2.5,
                std: 0.0,
                min: 2.5,
                max: 2.5,
                first: 2.5,
                last: 2.5,
            },
            decision: -0.5,
            score: Some(0.75),
            anomaly,
            model_version: "v".into(),
            shadow: None,
            threshold: None,
            cause: None,
        };
        assert_eq!(announcement("m", &[prediction(0, false)]).unwrap(), None);
        let announced = announcement(
            "m",
            &[prediction(0, true), prediction(1, false), prediction(2, true)],
        );
        let announced = announced.unwrap().unwrap();
        assert_eq!(announced.topic, "pump%2E7.t");
        let body: serde_json::Value = serde_json::from_slice(&announced.body).unwrap();
        assert_eq!(body["windows"].as_array().unwrap().len(), 2);
        assert_eq!(body["windows"][1]["start"], "1970-01-01T00:02:00Z");
        assert_eq!(body["windows"][1]["score"], 0.75);
    }
}
