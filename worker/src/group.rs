//! Scores several tags of a device together.

use windrow_common::{Aggregate, GroupMessage, Prediction};
use windrow_model::{CodePath, GroupRows, Model, ScoreError, Scratch, is_anomaly};

use crate::cache::LoadedModel;
use crate::score::{Buffers, beside, cause};
use crate::shadows;
use crate::stats::Stats;

/// Adds a prediction for each window of a group's message. Windows that lack too many tags have none, and are counted.
pub(crate) fn score(
    message: &GroupMessage,
    model: &LoadedModel,
    Buffers {
        scratch,
        scores,
        of_shadow,
    }: &mut Buffers,
    predictions: &mut Vec<Prediction>,
    stats: &Stats,
) -> Result<(), ScoreError> {
    let rows = rows(&model.model, message)?;
    stats.unscored_group_windows.inc_by(rows.unscored);
    let path = CodePath::best();
    model.model.score_rows_on(path, &rows.values, scratch, scores)?;
    let shadow = shadows::score(model, &message.sensor, of_shadow, stats, |shadow, scores| {
        let of_shadow = self::rows(shadow, message)?;
        // A shadow is compared window by window, so it is skipped unless it scores the same windows as the current
        // version.
        if of_shadow.starts == rows.starts {
            shadow.score_rows_on(path, &of_shadow.values, &mut Scratch::default(), scores)?;
        } else {
            scores.decisions.clear();
        }
        Ok(rows.starts.len())
    });
    let columns = model.model.columns();
    let windows = rows
        .starts
        .iter()
        .zip(&rows.counts)
        .zip(rows.values.chunks_exact(columns));
    let scored = scores.decisions.iter().zip(&scores.scores);
    predictions.extend(windows.zip(scored).enumerate().map(
        |(at, (((start, count), row), (&decision, &score)))| Prediction {
            sensor: message.sensor.clone(),
            window_length: message.window_length,
            aggregate: Aggregate::without_value(*start, *count),
            decision,
            score: Some(score),
            threshold: model.model.threshold(),
            anomaly: is_anomaly(decision),
            model_version: model.version.clone(),
            cause: cause(decision, || model.model.explain_row(row), stats),
            shadow: shadow.map(|version| beside(version, of_shadow, at)),
        },
    ));
    Ok(())
}

/// Returns the rows of a message's windows. The model's tags are looked up by name; those that the message lacks are missing.
fn rows(model: &Model, message: &GroupMessage) -> Result<GroupRows, ScoreError> {
    let group = model.group().ok_or(ScoreError::NotOfGroup)?;
    if message.window_length != group.window_length() {
        return Err(ScoreError::WindowLength {
            of_model: group.window_length(),
            given: message.window_length,
        });
    }
    let of_tag = |tag| message.series.binary_search_by(|series| series.tag.cmp(tag)).ok();
    let series: Vec<&[Aggregate]> = (group.tags().iter())
        .map(|tag| of_tag(tag).map_or(&[][..], |at| &message.series[at].aggregates))
        .collect();
    let interval = message.interval.start..message.interval.end();
    model.group_rows(&series, interval)
}
