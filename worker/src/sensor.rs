//! Scores the windows of one sensor.

use std::sync::Arc;

use windrow_common::{Prediction, ScoringMessage};
use windrow_model::{ScoreError, Scratch, is_anomaly};

use crate::cache::LoadedModel;
use crate::score::{Buffers, beside, cause};
use crate::shadows;
use crate::stats::Stats;

/// Adds a prediction for each window of a message.
pub(crate) fn score(
    message: &ScoringMessage,
    model: &LoadedModel,
    Buffers {
        scratch,
        scores,
        of_shadow,
    }: &mut Buffers,
    predictions: &mut Vec<Prediction>,
    stats: &Stats,
) -> Result<(), ScoreError> {
    model.model.score(&message.aggregates, scratch, scores)?;
    let shadow = shadows::score(model, &message.sensor, of_shadow, stats, |shadow, scores| {
        shadow.score(&message.aggregates, &mut Scratch::default(), scores)?;
        Ok(message.aggregates.len())
    });
    let scored = scores.decisions.iter().zip(&scores.scores);
    let windows = message.aggregates.iter().zip(scored).enumerate();
    predictions.extend(windows.map(|(at, (aggregate, (&decision, &score)))| Prediction {
        sensor: message.sensor.clone(),
        window_length: message.window_length,
        aggregate: *aggregate,
        decision,
        score: Some(score),
        threshold: model.model.threshold(),
        anomaly: is_anomaly(decision),
        model_version: Arc::clone(&model.version),
        cause: cause(decision, || model.model.explain(aggregate), stats),
        shadow: shadow.map(|version| beside(version, of_shadow, at)),
    }));
    Ok(())
}
