//! The table of incidents: `incidents/date=YYYY-MM-DD/hour=HH/incidents.parquet`, by the time at which they opened.
//!
//! Unlike other tables it has one file for each hour, which is replaced when an incident of that hour changes. What is in
//! it follows from the predictions alone, so the same predictions always make the same bytes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::predictions::Causes;
use super::table::{self, TableError, integers, strings, times};
use super::{Store, StoreError, Version, run_blocking};
use windrow_common::{Breach, Cause, Course, EventTime, Incident, IncidentKind, Length, Peak, SensorId};

const TABLE: &str = "incidents";

/// Number of hours that are read concurrently.
const READS_IN_FLIGHT: usize = 8;

/// The incidents that opened in one hour, ordered by sensor, window length, time and kind.
#[derive(Clone, Debug, Default)]
pub struct HourOfIncidents {
    /// The incidents.
    pub incidents: Vec<Incident>,
    /// The version to pass to [`Store::put_incidents`]; `None` if the hour has none yet.
    pub version: Option<Version>,
}

impl Store {
    /// Reads the incidents that opened in the hour of `time`.
    pub async fn incidents_of(&self, time: EventTime) -> Result<HourOfIncidents, StoreError> {
        let path = path(time);
        let Some((bytes, version)) = self.get_versioned(&path).await? else {
            return Ok(HourOfIncidents::default());
        };
        Ok(HourOfIncidents {
            incidents: decoded(path, bytes).await?,
            version: Some(version),
        })
    }

    /// Replaces the incidents that opened in the hour of `time`, if they still have the version `expected`. An hour that
    /// has none keeps an empty file.
    pub async fn put_incidents(
        &self,
        time: EventTime,
        incidents: Vec<Incident>,
        expected: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let path = path(time);
        let encoded = run_blocking(move || encode(&incidents)).await;
        let unencodable = |source| StoreError::Unencodable {
            path: path.clone(),
            source,
        };
        let bytes = encoded
            .map_err(|panic| unencodable(panic.into()))?
            .map_err(|error| unencodable(error.into()))?;
        self.put_if(&path, bytes, expected).await
    }

    /// Reads the incidents that opened from `from` on and before `to`, ordered by hour, then by sensor.
    pub async fn incidents(
        &self,
        from: Option<EventTime>,
        to: Option<EventTime>,
    ) -> Result<Vec<Incident>, StoreError> {
        let hours = self.hours(TABLE, from, to).await?;
        // Collected and boxed: see `Store::read_parts`.
        let reads: Vec<_> = hours
            .into_iter()
            .map(|hour| async move {
                let path = format!("{TABLE}/{}/incidents.parquet", hour.name);
                match self.get(&path).await? {
                    Some(bytes) => decoded(path, bytes).await,
                    None => Ok(Vec::new()),
                }
            })
            .collect();
        let reads = futures::stream::iter(reads).buffered(READS_IN_FLIGHT).boxed();
        let mut all: Vec<Incident> = reads.try_concat().await?;
        let wanted = |incident: &Incident| {
            let opened = incident.course.opened;
            from.is_none_or(|from| opened >= from) && to.is_none_or(|to| opened < to)
        };
        all.retain(wanted);
        Ok(all)
    }
}

fn path(time: EventTime) -> String {
    format!("{TABLE}/{}/incidents.parquet", time.hive_partition())
}

async fn decoded(path: String, bytes: Bytes) -> Result<Vec<Incident>, StoreError> {
    let decoded = run_blocking(move || decode(bytes)).await;
    let damaged = |why| StoreError::Damaged { path, why };
    match decoded {
        Ok(Ok(incidents)) => Ok(incidents),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(panic) => Err(damaged(panic)),
    }
}

fn schema() -> Arc<Schema> {
    let (text, time) = (DataType::Utf8, table::timestamp_type());
    let always = |name, kind: &DataType| Field::new(name, kind.clone(), false);
    let perhaps = |name, kind: &DataType| Field::new(name, kind.clone(), true);
    Arc::new(Schema::new(vec![
        always("device", &text),
        always("tag", &text),
        always("window_ms", &DataType::Int64),
        always("kind", &text),
        always("severity", &text),
        always("opened", &time),
        always("noticed", &time),
        perhaps("escalated", &time),
        always("until", &time),
        perhaps("closed", &time),
        always("windows", &DataType::Int64),
        perhaps("peak_score", &DataType::Float64),
        perhaps("peak_at", &time),
        perhaps("value", &DataType::Float64),
        perhaps("value_limit", &DataType::Float64),
        perhaps("value_at", &time),
        perhaps("muted_until", &time),
        perhaps("cause", &text),
        perhaps("cause_value", &DataType::Float64),
        perhaps("cause_low", &DataType::Float64),
        perhaps("cause_high", &DataType::Float64),
        perhaps("cause_share", &DataType::Float64),
    ]))
}

pub(super) fn encode(incidents: &[Incident]) -> Result<Bytes, TableError> {
    let text = |of: fn(&Incident) -> &str| -> ArrayRef {
        Arc::new(
            incidents
                .iter()
                .map(|incident| Some(of(incident)))
                .collect::<StringArray>(),
        )
    };
    let integer = |of: fn(&Incident) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(incidents.iter().map(of)))
    };
    let time = |of: fn(&Course) -> Option<EventTime>| -> ArrayRef {
        let times = incidents
            .iter()
            .map(|incident| of(&incident.course).map(EventTime::as_millis));
        Arc::new(times.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
    };
    let number = |of: fn(&Course) -> Option<f64>| -> ArrayRef {
        let numbers = incidents.iter().map(|incident| of(&incident.course));
        Arc::new(numbers.collect::<Float64Array>())
    };
    let of_cause = |of: fn(&Cause) -> Option<f64>| -> ArrayRef {
        let numbers = incidents.iter().map(|incident| of(incident.course.cause()?));
        Arc::new(numbers.collect::<Float64Array>())
    };
    let causes = incidents.iter().map(|incident| incident.course.cause());
    let features: StringArray = causes.map(|cause| Some(&*cause?.feature)).collect();
    let columns: Vec<ArrayRef> = vec![
        text(|incident| &incident.sensor.device),
        text(|incident| &incident.sensor.tag),
        integer(|incident| incident.window_length.as_millis()),
        text(|incident| incident.course.kind.name()),
        text(|incident| incident.course.severity().name()),
        time(|course| Some(course.opened)),
        time(|course| Some(course.noticed)),
        time(|course| course.escalated),
        time(|course| Some(course.until)),
        time(|course| course.closed),
        integer(|incident| i64::try_from(incident.course.windows).unwrap_or(i64::MAX)),
        number(|course| course.peak.as_ref().map(|peak| peak.score)),
        time(|course| course.peak.as_ref().map(|peak| peak.at)),
        number(|course| course.breach.map(|breach| breach.value)),
        number(|course| course.breach.map(|breach| breach.limit)),
        time(|course| course.breach.map(|breach| breach.at)),
        time(|course| course.muted_until),
        Arc::new(features),
        of_cause(|cause| Some(cause.value)),
        of_cause(|cause| cause.normal.map(|(low, _)| low)),
        of_cause(|cause| cause.normal.map(|(_, high)| high)),
        of_cause(|cause| Some(cause.share)),
    ];
    table::write(&RecordBatch::try_new(schema(), columns)?)
}

pub(super) fn decode(bytes: Bytes) -> Result<Vec<Incident>, TableError> {
    let mut incidents = Vec::new();
    for batch in table::read(bytes)? {
        let (devices, tags, kinds) = (
            strings(&batch, "device")?,
            strings(&batch, "tag")?,
            strings(&batch, "kind")?,
        );
        let (lengths, windows) = (integers(&batch, "window_ms")?, integers(&batch, "windows")?);
        let (opened, noticed) = (times(&batch, "opened")?, times(&batch, "noticed")?);
        let until = times(&batch, "until")?;
        let (escalated, closed) = (perhaps(&batch, "escalated")?, perhaps(&batch, "closed")?);
        let peak_at = perhaps(&batch, "peak_at")?;
        let scores = batch
            .column_by_name("peak_score")
            .and_then(|column| column.as_primitive_opt::<Float64Type>())
            .ok_or(TableError::Column("peak_score"))?;
        let breaches = Breaches::of(&batch)?;
        let causes = Causes::of(&batch)?;
        let muted = table::newer::<TimestampMillisecondType>(&batch, "muted_until")?;
        let muted = |row: usize| {
            let muted = muted.filter(|muted| muted.is_valid(row))?;
            Some(EventTime::from_millis(muted.value(row)))
        };
        for row in 0..batch.num_rows() {
            let wrong = |why: String| TableError::Row { row, why };
            let sensor = SensorId::new(devices.value(row), tags.value(row))
                .map_err(|error| wrong(error.to_string()))?;
            let kind: IncidentKind = kinds.value(row).parse().map_err(wrong)?;
            let score = scores.is_valid(row).then(|| scores.value(row));
            let score = score.and_then(table::finite);
            let peak = peak_at(row).zip(score).map(|(at, score)| Peak {
                score,
                at,
                cause: causes.as_ref().and_then(|causes| causes.row(row)).map(Arc::new),
            });
            incidents.push(Incident {
                sensor,
                window_length: Length::from_millis(lengths(row)),
                course: Course {
                    kind,
                    opened: opened(row),
                    noticed: noticed(row),
                    escalated: escalated(row),
                    until: until(row),
                    closed: closed(row),
                    windows: u64::try_from(windows(row)).unwrap_or_default(),
                    peak,
                    breach: breaches.as_ref().and_then(|breaches| breaches.row(row)),
                    muted_until: muted(row),
                },
            });
        }
    }
    Ok(incidents)
}

/// The columns of what was beyond a limit.
struct Breaches<'a> {
    values: &'a Float64Array,
    limits: &'a Float64Array,
    times: &'a TimestampMillisecondArray,
}

impl<'a> Breaches<'a> {
    /// Returns the columns; `None` in files of versions that had none.
    fn of(batch: &'a RecordBatch) -> Result<Option<Self>, TableError> {
        let Some(values) = table::newer::<Float64Type>(batch, "value")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            values,
            limits: table::primitive::<Float64Type>(batch, "value_limit")?,
            times: table::primitive::<TimestampMillisecondType>(batch, "value_at")?,
        }))
    }

    fn row(&self, row: usize) -> Option<Breach> {
        let number = |column: &Float64Array| {
            let number = column.is_valid(row).then(|| column.value(row));
            number.and_then(table::finite)
        };
        let at = self.times.is_valid(row).then(|| self.times.value(row))?;
        Some(Breach {
            value: number(self.values)?,
            limit: number(self.limits)?,
            at: EventTime::from_millis(at),
        })
    }
}

/// Returns the times of a column that may be empty.
fn perhaps<'a>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<impl Fn(usize) -> Option<EventTime> + 'a, TableError> {
    let column = table::primitive::<TimestampMillisecondType>(batch, name)?;
    Ok(|row| {
        column
            .is_valid(row)
            .then(|| EventTime::from_millis(column.value(row)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a cause, of which every other tells no band.
    fn cause(number: i64) -> Cause {
        Cause {
            feature: "mean".into(),
            value: 84.2,
            normal: (number % 2 == 0).then_some((61.25, -0.1)),
            share: 0.9,
        }
    }

    fn incident(tag: &str, opened: i64, closed: Option<i64>) -> Incident {
        let time = EventTime::from_millis;
        Incident {
            sensor: SensorId::new("pump/7", tag).unwrap(),
            window_length: Length::from_millis(60_000),
            course: Course {
                kind: IncidentKind::Anomaly,
                opened: time(opened),
                noticed: time(opened + 60_000),
                escalated: closed.map(time),
                until: time(opened + 120_000),
                closed: closed.map(time),
                windows: 2,
                peak: closed.map(|at| Peak {
                    score: 0.1 + 0.2,
                    at: time(at),
                    cause: Some(Arc::new(cause(opened))),
                }),
                breach: closed.map(|at| Breach {
                    value: -0.1,
                    limit: 0.2,
                    at: time(at),
                }),
                muted_until: closed.map(time),
            },
        }
    }

    #[tokio::test]
    async fn incidents_read_back_and_the_second_writer_is_refused() {
        let store = Store::create("memory:///").unwrap();
        let hour = EventTime::from_millis(7_200_000);
        assert!(store.incidents_of(hour).await.unwrap().incidents.is_empty());
        let open = vec![
            incident("a", 7_200_000, None),
            incident("b", 7_260_000, Some(7_300_000)),
        ];
        let version = store.put_incidents(hour, open.clone(), None).await.unwrap();
        let read = store.incidents_of(hour).await.unwrap();
        assert_eq!(
            (read.incidents, read.version),
            (open.clone(), Some(version.clone()))
        );
        let closed = vec![incident("a", 7_200_000, Some(7_400_000))];
        let late = store.put_incidents(hour, closed.clone(), None).await;
        assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
        store
            .put_incidents(hour, closed.clone(), Some(&version))
            .await
            .unwrap();
        let later = incident("a", 10_800_000, None);
        let next = EventTime::from_millis(10_800_000);
        store
            .put_incidents(next, vec![later.clone()], None)
            .await
            .unwrap();
        let all = store.incidents(None, None).await.unwrap();
        assert_eq!(all, [&closed[..], &[later]].concat());
        let first = store.incidents(None, Some(next)).await.unwrap();
        assert_eq!(first, closed);
    }

    #[test]
    fn a_file_of_a_version_without_limits_mutes_and_causes_is_read_without_them() {
        let now = [
            incident("a", 0, None),
            incident("b", 1, Some(2)),
            incident("c", 2, Some(3)),
        ];
        let batch = table::read(encode(&now).unwrap()).unwrap().remove(0);
        let oldest = |columns: usize| {
            let columns: Vec<usize> = (0..columns).collect();
            decode(table::write(&batch.project(&columns).unwrap()).unwrap()).unwrap()
        };
        assert_eq!(oldest(batch.num_columns()), now);
        let mut without = now;
        for incident in &mut without {
            if let Some(peak) = &mut incident.course.peak {
                peak.cause = None;
            }
        }
        assert_eq!(oldest(17), without);
        for incident in &mut without {
            (incident.course.breach, incident.course.muted_until) = (None, None);
        }
        assert_eq!(oldest(13), without);
    }

    #[test]
    fn no_flipped_bit_makes_the_library_panic() {
        let bytes = encode(&[incident("a", 0, None), incident("b", 1, Some(2))]).unwrap();
        assert_eq!(decode(bytes.clone()).unwrap().len(), 2);
        let mut refused = 0;
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            refused += u32::from(decode(damaged.into()).is_err());
        }
        assert!(refused > 20, "{refused}");
    }
}
