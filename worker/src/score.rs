//! A micro-batch of messages and their models to predictions: CPU work, on a blocking thread.

use std::sync::Arc;

use windrow_common::queue::Receipt;
use windrow_common::{Prediction, ScoringMessage};
use windrow_model::{Scratch, is_anomaly};

use crate::models::LoadedModel;

/// A message with what is needed to score it.
#[derive(Debug)]
pub(crate) struct Scorable {
    pub(crate) id: String,
    pub(crate) receipt: Receipt,
    pub(crate) message: ScoringMessage,
    pub(crate) model: Arc<LoadedModel>,
}

/// A message that cannot be scored.
#[derive(Debug)]
pub(crate) struct Unscorable {
    pub(crate) id: String,
    pub(crate) receipt: Receipt,
    /// A short, countable name.
    pub(crate) code: &'static str,
    /// What a person needs to know.
    pub(crate) detail: String,
}

/// What scoring a micro-batch gave.
#[derive(Debug, Default)]
pub(crate) struct Scored {
    pub(crate) predictions: Vec<Prediction>,
    /// Of the messages all of whose predictions are there.
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) unscorable: Vec<Unscorable>,
}

/// Scores every message, or says why it cannot be.
pub(crate) fn score(batch: Vec<Scorable>) -> Scored {
    let mut scored = Scored::default();
    let mut scratch = Scratch::default();
    let mut decisions = Vec::new();
    for Scorable {
        id,
        receipt,
        message,
        model,
    } in batch
    {
        decisions.clear();
        if let Err(error) = model
            .model
            .decide(&message.aggregates, &mut scratch, &mut decisions)
        {
            let detail = format!("model {} of {}: {error}", model.version, message.sensor);
            scored.unscorable.push(Unscorable {
                id,
                receipt,
                code: "cannot-score",
                detail,
            });
            continue;
        }
        let of_windows = message.aggregates.iter().zip(&decisions);
        scored
            .predictions
            .extend(of_windows.map(|(aggregate, &decision)| Prediction {
                sensor: message.sensor.clone(),
                window_ms: message.window_ms,
                aggregate: *aggregate,
                decision,
                anomaly: is_anomaly(decision),
                model_version: Arc::clone(&model.version),
            }));
        scored.receipts.push(receipt);
    }
    scored
}
