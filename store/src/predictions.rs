//! The table of predictions: `predictions/date=YYYY-MM-DD/hour=HH/<part>.parquet`, by window start.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow_schema::DataType;
use bytes::Bytes;

use super::Row;
use super::table::{self, TableError, integers, primitive, strings, times};
use windrow_common::{Aggregate, Cause, EventTime, Length, Prediction, SensorId, Shadow};

/// The columns that may be null. A window of several tags together has no value of its own, so that these are null for it.
const NULLABLE: [&str; 16] = [
    "mean",
    "std",
    "min",
    "max",
    "first",
    "last",
    "score",
    "shadow_version",
    "shadow_decision",
    "shadow_score",
    "threshold",
    "cause",
    "cause_value",
    "cause_low",
    "cause_high",
    "cause_share",
];

impl Row for Prediction {
    const TABLE: &'static str = "predictions";

    fn window_start(&self) -> EventTime {
        self.aggregate.window_start
    }

    fn encode(rows: &[Self]) -> Result<Bytes, TableError> {
        encode(rows)
    }
}

fn encode(predictions: &[Prediction]) -> Result<Bytes, TableError> {
    let float = DataType::Float64;
    let columns = [
        ("device", DataType::Utf8),
        ("tag", DataType::Utf8),
        ("window_start", table::timestamp_type()),
        ("window_ms", DataType::Int64),
        ("count", DataType::Int64),
        ("mean", float.clone()),
        ("std", float.clone()),
        ("min", float.clone()),
        ("max", float.clone()),
        ("first", float.clone()),
        ("last", float.clone()),
        ("decision", float.clone()),
        ("score", float.clone()),
        ("anomaly", DataType::Boolean),
        ("model_version", DataType::Utf8),
        ("shadow_version", DataType::Utf8),
        ("shadow_decision", float.clone()),
        ("shadow_score", float.clone()),
        ("threshold", float.clone()),
        ("cause", DataType::Utf8),
        ("cause_value", float.clone()),
        ("cause_low", float.clone()),
        ("cause_high", float.clone()),
        ("cause_share", float),
    ];
    let schema = table::schema(&columns, &NULLABLE);
    let text = |of: fn(&Prediction) -> &str| -> ArrayRef {
        Arc::new(predictions.iter().map(|p| Some(of(p))).collect::<StringArray>())
    };
    let float = |of: fn(&Prediction) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(predictions.iter().map(of)))
    };
    let is_group = predictions.iter().any(|p| p.sensor.is_group());
    let value = |of: fn(&Prediction) -> f64| -> ArrayRef {
        if !is_group {
            return float(of);
        }
        let known = |p: &Prediction| Some(of(p)).filter(|value| !value.is_nan());
        Arc::new(predictions.iter().map(known).collect::<Float64Array>())
    };
    let maybe = |of: fn(&Prediction) -> Option<f64>| -> ArrayRef {
        Arc::new(predictions.iter().map(of).collect::<Float64Array>())
    };
    let maybe_text = |of: fn(&Prediction) -> Option<&str>| -> ArrayRef {
        Arc::new(predictions.iter().map(of).collect::<StringArray>())
    };
    let integer = |of: fn(&Prediction) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(predictions.iter().map(of)))
    };
    let starts = predictions.iter().map(|p| p.aggregate.window_start.as_millis());
    let columns: Vec<ArrayRef> = vec![
        text(|p| &p.sensor.device),
        text(|p| &p.sensor.tag),
        Arc::new(TimestampMillisecondArray::from_iter_values(starts).with_timezone("UTC")),
        integer(|p| p.window_length.as_millis()),
        integer(|p| i64::try_from(p.aggregate.count).unwrap_or(i64::MAX)),
        value(|p| p.aggregate.mean),
        value(|p| p.aggregate.std),
        value(|p| p.aggregate.min),
        value(|p| p.aggregate.max),
        value(|p| p.aggregate.first),
        value(|p| p.aggregate.last),
        float(|p| p.decision),
        maybe(|p| p.score),
        Arc::new(
            predictions
                .iter()
                .map(|p| Some(p.anomaly))
                .collect::<BooleanArray>(),
        ),
        text(|p| &p.model_version),
        maybe_text(|p| p.shadow.as_ref().map(|shadow| &*shadow.version)),
        maybe(|p| p.shadow.as_ref().map(|shadow| shadow.decision)),
        maybe(|p| p.shadow.as_ref().map(|shadow| shadow.score)),
        maybe(|p| p.threshold),
        maybe_text(|p| p.cause.as_ref().map(|cause| &*cause.feature)),
        maybe(|p| p.cause.as_ref().map(|cause| cause.value)),
        maybe(|p| {
            p.cause
                .as_ref()
                .and_then(|cause| cause.normal)
                .map(|(low, _)| low)
        }),
        maybe(|p| {
            p.cause
                .as_ref()
                .and_then(|cause| cause.normal)
                .map(|(_, high)| high)
        }),
        maybe(|p| p.cause.as_ref().map(|cause| cause.share)),
    ];
    table::write(&RecordBatch::try_new(schema, columns)?)
}

/// Decodes the predictions of one Parquet file.
pub(super) fn decode(bytes: Bytes) -> Result<Vec<Prediction>, TableError> {
    let mut predictions = Vec::new();
    for batch in table::read(bytes)? {
        let (devices, tags) = (strings(&batch, "device")?, strings(&batch, "tag")?);
        let versions = strings(&batch, "model_version")?;
        let (starts, window_ms) = (times(&batch, "window_start")?, integers(&batch, "window_ms")?);
        let counts = integers(&batch, "count")?;
        let float = |name| primitive::<Float64Type>(&batch, name);
        let (mean, std, min, max) = (float("mean")?, float("std")?, float("min")?, float("max")?);
        let (first, last, decision) = (float("first")?, float("last")?, float("decision")?);
        let score = table::newer::<Float64Type>(&batch, "score")?;
        let anomaly = batch
            .column_by_name("anomaly")
            .and_then(|column| column.as_boolean_opt());
        let anomaly = anomaly.ok_or(TableError::Column("anomaly"))?;
        let threshold = table::newer::<Float64Type>(&batch, "threshold")?;
        let causes = Causes::of(&batch)?;
        let shadows = Shadows::of(&batch)?;
        // Rows of one sensor are adjacent, so they share its names and version instead of copying them.
        let mut previous: Option<(SensorId, Arc<str>)> = None;
        let mut shadow: Option<Shadow> = None;
        for row in 0..batch.num_rows() {
            let same = previous.take().filter(|(sensor, version)| {
                *sensor.device == *devices.value(row)
                    && *sensor.tag == *tags.value(row)
                    && **version == *versions.value(row)
            });
            let (sensor, model_version) = match same {
                Some(same) => same,
                None => {
                    let sensor = SensorId::new(devices.value(row), tags.value(row)).map_err(|error| {
                        TableError::Row {
                            row,
                            why: error.to_string(),
                        }
                    })?;
                    (sensor, Arc::from(versions.value(row)))
                }
            };
            previous = Some((sensor.clone(), Arc::clone(&model_version)));
            shadow = shadows
                .as_ref()
                .and_then(|shadows| shadows.row(row, shadow.take()));
            predictions.push(Prediction {
                sensor,
                window_length: Length::from_millis(window_ms(row)),
                aggregate: Aggregate {
                    window_start: starts(row),
                    count: u64::try_from(counts(row)).unwrap_or_default(),
                    mean: known(mean, row),
                    std: known(std, row),
                    min: known(min, row),
                    max: known(max, row),
                    first: known(first, row),
                    last: known(last, row),
                },
                decision: decision.value(row),
                score: score.and_then(|score| valid(score, row)).and_then(table::finite),
                // No score, or every score, is above an infinite threshold.
                threshold: threshold
                    .and_then(|threshold| valid(threshold, row))
                    .filter(|own| own.is_finite()),
                anomaly: anomaly.value(row),
                model_version,
                cause: causes.as_ref().and_then(|causes| causes.row(row)),
                shadow: shadow.clone(),
            });
        }
    }
    Ok(predictions)
}

/// Returns a number, or `None` if it is null.
fn valid(column: &Float64Array, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| column.value(row))
}

/// Returns a number, or NaN if it is null.
fn known(column: &Float64Array, row: usize) -> f64 {
    valid(column, row).unwrap_or(f64::NAN)
}

/// The columns of the causes of anomalies.
pub(super) struct Causes<'a> {
    features: &'a StringArray,
    values: &'a Float64Array,
    lows: &'a Float64Array,
    highs: &'a Float64Array,
    shares: &'a Float64Array,
}

impl<'a> Causes<'a> {
    /// Returns the columns; `None` in files of versions that had none.
    pub(super) fn of(batch: &'a RecordBatch) -> Result<Option<Self>, TableError> {
        if batch.column_by_name("cause").is_none() {
            return Ok(None);
        }
        let float = |name| primitive::<Float64Type>(batch, name);
        Ok(Some(Self {
            features: strings(batch, "cause")?,
            values: float("cause_value")?,
            lows: float("cause_low")?,
            highs: float("cause_high")?,
            shares: float("cause_share")?,
        }))
    }

    pub(super) fn row(&self, row: usize) -> Option<Cause> {
        if self.features.is_null(row) {
            return None;
        }
        // A cause whose value or share is not finite is dropped.
        let number = |column| valid(column, row).filter(|number: &f64| number.is_finite());
        Some(Cause {
            feature: Arc::from(self.features.value(row)),
            value: number(self.values)?,
            normal: number(self.lows).zip(number(self.highs)),
            share: number(self.shares)?,
        })
    }
}

/// The columns of the shadow versions.
struct Shadows<'a> {
    versions: &'a StringArray,
    decisions: &'a Float64Array,
    scores: &'a Float64Array,
}

impl<'a> Shadows<'a> {
    /// Returns the columns; `None` in parts of versions that had none.
    fn of(batch: &'a RecordBatch) -> Result<Option<Self>, TableError> {
        if batch.column_by_name("shadow_version").is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            versions: strings(batch, "shadow_version")?,
            decisions: primitive::<Float64Type>(batch, "shadow_decision")?,
            scores: primitive::<Float64Type>(batch, "shadow_score")?,
        }))
    }

    /// Returns a row's shadow. Rows of one version share its name.
    fn row(&self, row: usize, previous: Option<Shadow>) -> Option<Shadow> {
        if self.versions.is_null(row) || self.decisions.is_null(row) || self.scores.is_null(row) {
            return None;
        }
        let name = self.versions.value(row);
        let score = table::finite(self.scores.value(row))?;
        let same = previous.filter(|shadow| *shadow.version == *name);
        Some(Shadow {
            version: same.map_or_else(|| Arc::from(name), |shadow| shadow.version),
            decision: self.decisions.value(row),
            score,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction() -> Prediction {
        Prediction {
            sensor: SensorId::new("d", "t").unwrap(),
            window_length: Length::from_millis(60_000),
            aggregate: Aggregate {
                window_start: EventTime::from_millis(0),
                count: 1,
                mean: 1.0,
                std: 0.0,
                min: 1.0,
                max: 1.0,
                first: 1.0,
                last: 1.0,
            },
            decision: 1.0,
            score: Some(-0.5),
            threshold: None,
            anomaly: false,
            model_version: "v1".into(),
            cause: None,
            shadow: None,
        }
    }

    #[test]
    fn predictions_read_back_bit_for_bit_and_bad_bytes_are_an_error() {
        let predictions: Vec<Prediction> = (0..100)
            .map(|i| Prediction {
                sensor: SensorId::new(&format!("d{}", i / 10), "t").unwrap(),
                window_length: Length::from_millis(60_000),
                aggregate: Aggregate {
                    window_start: EventTime::from_millis(i * 60_000),
                    count: i as u64 + 1,
                    mean: 0.1 * i as f64,
                    std: 0.0,
                    min: -0.0,
                    max: f64::MAX,
                    first: f64::MIN_POSITIVE,
                    last: 1e-310,
                },
                decision: 1.0 / (i as f64 + 1.0),
                score: (i % 7 != 0).then_some(-0.3 * i as f64),
                threshold: (i % 5 != 0).then_some(0.3 + i as f64),
                anomaly: i % 3 == 0,
                model_version: "v1".into(),
                cause: (i % 3 == 0).then(|| Cause {
                    feature: "std".into(),
                    value: 0.5 * i as f64,
                    normal: (i % 2 == 0).then_some((-1.0, i as f64)),
                    share: 0.75,
                }),
                shadow: (i % 4 != 0).then(|| Shadow {
                    version: format!("s{}", i / 20).into(),
                    decision: -0.1 * i as f64,
                    score: 0.1 * i as f64,
                }),
            })
            .collect();
        let bytes = encode(&predictions).unwrap();
        assert_eq!(decode(bytes.clone()).unwrap(), predictions);
        // Parts of versions without causes, or without shadows, have no columns for them.
        let batch = table::read(bytes.clone()).unwrap().remove(0);
        let oldest = |newer: usize| {
            let old: Vec<usize> = (0..batch.num_columns() - newer).collect();
            decode(table::write(&batch.project(&old).unwrap()).unwrap()).unwrap()
        };
        let without_causes = predictions.iter().cloned().map(|prediction| Prediction {
            threshold: None,
            cause: None,
            ..prediction
        });
        let without_causes: Vec<Prediction> = without_causes.collect();
        assert_eq!(oldest(6), without_causes);
        let without_shadows = without_causes.into_iter().map(|prediction| Prediction {
            shadow: None,
            ..prediction
        });
        assert_eq!(oldest(9), without_shadows.collect::<Vec<_>>());
        assert!(decode(bytes.slice(..bytes.len() / 2)).is_err());
        assert!(decode(Bytes::from_static(b"not parquet at all")).is_err());
    }

    #[test]
    fn a_window_of_several_tags_has_no_value_and_reads_back_so() {
        let group = Prediction {
            sensor: SensorId::of_group(&"d".into()),
            aggregate: Aggregate::without_value(EventTime::from_millis(60_000), 160),
            ..prediction()
        };
        let batch = table::read(encode(&[prediction(), group.clone()]).unwrap())
            .unwrap()
            .remove(0);
        for name in ["mean", "std", "min", "max", "first", "last"] {
            assert_eq!(batch.column_by_name(name).unwrap().null_count(), 1, "{name}");
        }
        let back = decode(table::write(&batch).unwrap()).unwrap();
        assert_eq!(back[0], prediction());
        assert_eq!((&back[1].sensor, back[1].aggregate.count), (&group.sensor, 160));
        assert!(back[1].aggregate.mean.is_nan() && back[1].aggregate.last.is_nan());
    }

    #[test]
    fn a_part_of_a_version_without_scores_is_read_without_them() {
        let with_score = [prediction()];
        let batch = table::read(encode(&with_score).unwrap()).unwrap().remove(0);
        let columns: Vec<usize> = (0..batch.num_columns())
            .filter(|at| batch.schema().field(*at).name() != "score")
            .collect();
        let older = table::write(&batch.project(&columns).unwrap()).unwrap();
        let [with_score] = with_score;
        let without = Prediction {
            score: None,
            ..with_score
        };
        assert_eq!(decode(older).unwrap(), [without]);
    }

    #[test]
    fn no_flipped_bit_makes_the_library_panic() {
        let bytes = encode(&[prediction()]).unwrap();
        let mut refused = 0;
        // The sign of a number is the lowest bit of its first byte, in the file's footer as elsewhere.
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            refused += u32::from(decode(damaged.into()).is_err());
        }
        assert!(refused > 20, "{refused}");
    }
}
