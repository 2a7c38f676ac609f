//! Tests of the promises of the windower, mostly as properties over random streams.

mod accounts;
mod finite;
mod restart;
mod sensors;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use windrow_common::{EventTime, ScoringMessage};

use super::*;
use crate::quarantine::QuarantineReason;
use crate::sensors::{SensorIndex, SensorTable};
use crate::source::{Arrivals, Raw, Reading, Unreadable};

const NOW_MS: i64 = 1_000_000_000;

fn sensors() -> SensorTable {
    let mut table = SensorTable::new();
    for tag in 0..6 {
        table.intern("d", &tag.to_string()).unwrap();
    }
    table
}

fn windowing(window_s: u64, interval_s: u64, bound_s: u64, lateness_s: u64) -> Windowing {
    let config = WindowConfig {
        window: Duration::from_secs(window_s),
        interval: Some(Duration::from_secs(interval_s)),
        out_of_orderness: Duration::from_secs(bound_s),
        allowed_lateness: Duration::from_secs(lateness_s),
        ..WindowConfig::default()
    };
    config.validate().unwrap()
}

fn reading(sensor: u32, second: i64, value: f64, offset: u64) -> Reading {
    Reading {
        sensor: SensorIndex(sensor),
        time: EventTime::from_millis(second * 1_000),
        arrival: EventTime::from_millis(NOW_MS),
        value,
        offset: Offset(offset),
    }
}

fn start(partitions: usize) -> Position {
    Position::start(partitions)
}

/// A windower with everything that it has emitted.
struct Run {
    windower: Windower,
    table: SensorTable,
    now: Instant,
    arrivals: Arrivals,
    out: Emitted,
}

impl Run {
    fn new(windowing: Windowing, position: &Position) -> Self {
        let now = Instant::now();
        let windower = Windower::new(windowing, position, now);
        Self {
            windower,
            table: sensors(),
            now,
            arrivals: Arrivals::OfReader,
            out: Emitted::default(),
        }
    }

    /// Takes a batch of readings. Returns whether an interval closed.
    fn feed(&mut self, partition: usize, readings: &[Reading], ended: bool) -> bool {
        let mut batch = Batch {
            partition,
            readings: readings.to_vec(),
            next: readings
                .last()
                .map_or(Offset(0), |last| Offset(last.offset.0 + 1)),
            ended,
            arrivals: self.arrivals,
            ..Batch::default()
        };
        let before = self.out.messages.len();
        self.windower
            .take(&mut batch, &self.table, self.now, &mut self.out);
        self.out.messages.len() > before
    }

    /// Lets time pass without readings. Returns whether an interval closed.
    fn idle(&mut self, complete_until: Option<EventTime>) -> bool {
        let before = self.out.messages.len();
        self.windower
            .idle(complete_until, &self.table, self.now, &mut self.out);
        self.out.messages.len() > before
    }

    fn finish(&mut self) {
        self.windower.close_all(&self.table, &mut self.out);
    }

    fn by_id(&self) -> BTreeMap<String, ScoringMessage> {
        self.out
            .messages
            .iter()
            .map(|message| (message.id(), message.clone()))
            .collect()
    }

    fn reasons(&self) -> Vec<QuarantineReason> {
        self.out
            .quarantined
            .iter()
            .map(|quarantined| quarantined.record.reason)
            .collect()
    }
}

#[test]
fn an_interval_closes_when_the_watermark_passes_its_end_and_the_lateness() {
    let mut run = Run::new(windowing(10, 20, 5, 3), &start(1));
    assert!(!run.feed(
        0,
        &[
            reading(0, 1, 1.0, 0),
            reading(0, 15, 2.0, 1),
            reading(1, 27, 9.0, 2)
        ],
        false
    ));
    assert!(run.feed(0, &[reading(0, 28, 3.0, 3)], false));
    let closed = &run.out.messages;
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].id(), "d/0@1970-01-01T00:00:00Z+20s/10s");
    let windows: Vec<i64> = closed[0]
        .aggregates
        .iter()
        .map(|a| a.window_start.as_millis())
        .collect();
    assert_eq!(windows, [0, 10_000]);
    assert_eq!(run.windower.open_windows(), 2);
}

#[test]
fn a_reading_behind_a_dispatched_interval_is_late() {
    let mut run = Run::new(windowing(10, 10, 5, 0), &start(1));
    run.feed(
        0,
        &[
            reading(0, 1, 1.0, 0),
            reading(0, 15, 2.0, 1),
            reading(0, 9, 2.0, 2),
        ],
        false,
    );
    assert_eq!(run.reasons(), [QuarantineReason::Late]);
}

#[test]
fn a_partition_not_begun_holds_back_only_what_it_can_touch() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    let next_time = Some(EventTime::from_millis(25_000));
    run.windower
        .add_partition(PartitionPosition::default(), next_time, run.now);
    run.feed(
        0,
        &[
            reading(0, 1, 1.0, 0),
            reading(0, 22, 1.0, 1),
            reading(0, 40, 1.0, 2),
        ],
        false,
    );
    assert_eq!(run.out.messages.len(), 1);
}

#[test]
fn a_wrong_clock_moves_nobodys_watermark() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    let year_2100 = 4_102_444_800;
    run.feed(
        0,
        &[
            reading(0, 1, 1.0, 0),
            reading(1, year_2100, 1.0, 1),
            reading(0, 2, 1.0, 2),
        ],
        false,
    );
    assert_eq!(run.reasons(), [QuarantineReason::FarFuture]);
    assert!(run.out.messages.is_empty());
}

#[test]
fn a_silent_partition_s_last_windows_close_when_nothing_more_has_arrived() {
    let windowing = windowing(10, 10, 2, 3);
    let idle_after = i64::try_from(windowing.idle_after.as_millis()).unwrap();
    let mut run = Run::new(windowing, &start(1));
    run.feed(0, &[reading(0, 1, 1.0, 0), reading(0, 4, 1.0, 1)], false);
    run.now += 10 * windowing.idle_after;
    let closes = |run: &mut Run, silence_ms| {
        let at = EventTime::from_millis(NOW_MS + silence_ms);
        run.idle(Some(at))
    };
    // Silence closes nothing unless it is known that nothing has arrived.
    assert!(!run.idle(None));
    // The interval ends 6 s after the last reading; the out-of-orderness adds 2 s and the allowed lateness 3 s.
    assert!(!closes(&mut run, idle_after + 6_000 + 2_000 + 3_000 - 1));
    assert!(closes(&mut run, idle_after + 6_000 + 2_000 + 3_000));
    assert_eq!(run.out.messages.len(), 1);
    assert_eq!(run.windower.open_windows(), 0);
    let position = run.windower.position();
    assert_eq!(position.dispatched_through, EventTime::from_millis(10_000));
    assert_eq!(
        position.partitions[0].resume,
        Offset(2),
        "nothing is needed again"
    );
    // The partition comes back. However long its silence is then, its readings for later intervals are accepted.
    run.feed(0, &[reading(0, 5, 1.0, 2), reading(0, 12, 1.0, 3)], false);
    assert_eq!(run.reasons(), [QuarantineReason::Late]);
    assert_eq!(run.windower.open_windows(), 1);
    assert!(!run.idle(None));
    assert!(closes(&mut run, 1_000 * idle_after));
    run.feed(0, &[reading(0, 22, 1.0, 4)], false);
    assert_eq!(run.reasons().len(), 1);
    assert_eq!(run.windower.open_windows(), 1);
}

#[test]
fn values_that_cannot_be_aggregated_are_quarantined() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    let values = [f64::NAN, f64::INFINITY, -1e200, 5.0];
    let readings: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(i, v)| reading(0, 1, *v, i as u64))
        .collect();
    run.feed(0, &readings, false);
    run.finish();
    use QuarantineReason::{NonFinite, OutOfRange};
    assert_eq!(run.reasons(), [NonFinite, NonFinite, OutOfRange]);
    assert_eq!(run.out.messages[0].aggregates[0].count, 1);
}

#[test]
fn the_slowest_partition_holds_the_watermark_until_it_ends_or_falls_idle() {
    let windowing = windowing(10, 10, 0, 0);
    let mut run = Run::new(windowing, &start(2));
    assert!(!run.feed(0, &[reading(0, 1, 1.0, 0), reading(0, 30, 1.0, 1)], false));
    assert!(run.feed(1, &[reading(1, 2, 1.0, 0), reading(1, 11, 1.0, 1)], false));
    assert_eq!(run.out.messages.len(), 2);
    run.now += windowing.idle_after / 2;
    assert!(!run.feed(0, &[reading(0, 31, 1.0, 2)], false));
    run.now += windowing.idle_after / 2;
    assert!(run.idle(None), "partition 1 is idle");
    let mut run = Run::new(windowing, &start(2));
    run.feed(0, &[reading(0, 1, 1.0, 0), reading(0, 30, 1.0, 1)], false);
    assert!(run.feed(1, &[], true), "partition 1 has ended");
}

#[test]
fn the_last_interval_is_complete_if_no_further_reading_would_have_been_in_it() {
    // Sensor 1 has a reading an interval; the steps of sensor 0 are 3 s.
    for (end_s, reached) in [(14, false), (17, false), (19, true)] {
        let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
        let readings: Vec<_> = (0..end_s)
            .filter(|second| second % 3 == 0)
            .map(|second| reading(0, second, 1.0, second as u64))
            .collect();
        run.feed(0, &readings, true);
        run.windower.close_reached(&run.table, &mut run.out);
        assert_eq!(run.out.messages.len(), 1 + usize::from(reached), "{end_s}");
        assert_eq!(run.windower.open_windows(), usize::from(!reached));
    }
    for (last_s, reached) in [(11, true), (4, false)] {
        let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
        run.feed(0, &[reading(1, 1, 1.0, 0), reading(1, last_s, 1.0, 1)], true);
        run.windower.close_reached(&run.table, &mut run.out);
        assert_eq!(run.windower.open_windows() == 0, reached, "{last_s}");
    }
}

/// Generates streams of two or three partitions. Their times rise with a jitter of up to 12 s, so with an
/// out-of-orderness of 5 s some readings are late. Every sensor may be in every partition.
fn mixed_streams() -> impl Strategy<Value = Vec<Vec<Reading>>> {
    let stream = proptest::collection::vec((0_u32..2, 0_i64..12, -1e3_f64..1e3), 1..80).prop_map(|raw| {
        let timed = raw.into_iter().enumerate();
        timed
            .map(|(i, (sensor, jitter, value))| reading(sensor, i as i64 * 2 + jitter, value, i as u64))
            .collect()
    });
    proptest::collection::vec(stream, 2..4)
}

/// Returns the windowing with so short a silence that it occurs in the streams.
fn with_silence(windowing: Windowing) -> Windowing {
    Windowing {
        idle_after: Duration::from_secs(8),
        ..windowing
    }
}

/// Generates such streams in which each sensor stays in its partition.
fn streams() -> impl Strategy<Value = Vec<Vec<Reading>>> {
    mixed_streams().prop_map(|mut streams| {
        for (partition, stream) in (0..).zip(&mut streams) {
            for reading in stream {
                reading.sensor.0 += 2 * partition;
            }
        }
        streams
    })
}

/// Feeds the partitions from `position` on, in at most `steps` runs of the given lengths. Returns the position after
/// each close, as a checkpoint would save it.
fn feed_all(
    run: &mut Run,
    streams: &[Vec<Reading>],
    position: &Position,
    lengths: &[usize],
    steps: usize,
) -> Vec<Position> {
    let mut next: Vec<usize> = position.partitions.iter().map(|p| p.resume.0 as usize).collect();
    let mut saved = Vec::new();
    for step in 0..steps {
        let left: Vec<usize> = (0..streams.len())
            .filter(|p| next[*p] < streams[*p].len())
            .collect();
        if left.is_empty() {
            run.finish();
            saved.push(run.windower.position());
            break;
        }
        let partition = left[lengths[step % lengths.len()] % left.len()];
        let end =
            (next[partition] + 1 + lengths[(step * 7) % lengths.len()] % 9).min(streams[partition].len());
        let readings = &streams[partition][next[partition]..end];
        next[partition] = end;
        if run.feed(partition, readings, end == streams[partition].len()) {
            saved.push(run.windower.position());
        }
        accounts::check(&run.windower.position());
    }
    saved
}

fn quarantine_keys(run: &Run) -> BTreeMap<(usize, String), QuarantineReason> {
    run.out
        .quarantined
        .iter()
        .map(|q| ((q.partition, q.to_string()), q.record.reason))
        .collect()
}

proptest! {
    #[test]
    fn interleaving_does_not_show_in_what_is_dispatched(
        streams in streams(), one in proptest::collection::vec(0_usize..50, 5), two in proptest::collection::vec(0_usize..50, 7),
    ) {
        let windowing = with_silence(windowing(5, 10, 5, 2));
        let run = |lengths: &[usize]| {
            let mut run = Run::new(windowing, &start(streams.len()));
            feed_all(&mut run, &streams, &start(streams.len()), lengths, usize::MAX);
            (run.by_id(), quarantine_keys(&run))
        };
        prop_assert_eq!(run(&one), run(&two));
    }

    #[test]
    fn shuffling_within_the_bound_changes_nothing(
        values in proptest::collection::vec((0_u32..4, -1e3_f64..1e3), 1..100), jitter in proptest::collection::vec(0_i64..=5, 100),
    ) {
        let ordered: Vec<Reading> =
            values.iter().enumerate().map(|(i, (sensor, value))| reading(*sensor, i as i64, *value, i as u64)).collect();
        // A delay of at most 5 s puts no reading more than 5 s behind the latest one before it.
        let mut arrivals: Vec<(i64, Reading)> =
            ordered.iter().zip(&jitter).map(|(r, j)| (r.time.as_millis() + j * 1_000, *r)).collect();
        arrivals.sort_by_key(|(arrival, _)| *arrival);
        let shuffled: Vec<Reading> = arrivals.into_iter().map(|(_, reading)| reading).collect();
        let run = |readings: &[Reading]| {
            let mut run = Run::new(windowing(5, 10, 5, 0), &start(1));
            readings.chunks(7).for_each(|chunk| { run.feed(0, chunk, false); });
            run.finish();
            (run.by_id(), run.out.quarantined.len())
        };
        prop_assert_eq!(run(&shuffled), run(&ordered));
    }

    #[test]
    fn every_reading_is_accepted_or_quarantined(streams in mixed_streams(), lengths in proptest::collection::vec(0_usize..50, 5)) {
        let mut run = Run::new(windowing(5, 20, 5, 0), &start(streams.len()));
        feed_all(&mut run, &streams, &start(streams.len()), &lengths, usize::MAX);
        let in_messages: u64 = run.out.messages.iter().flat_map(|m| &m.aggregates).map(|a| a.count).sum();
        let read: usize = streams.iter().map(Vec::len).sum();
        prop_assert_eq!(in_messages, run.windower.tally().accepted);
        prop_assert_eq!(in_messages as usize + run.out.quarantined.len(), read);
        for message in &run.out.messages {
            prop_assert!(ScoringMessage::decode(&message.encode().unwrap()).is_ok());
        }
    }
}
