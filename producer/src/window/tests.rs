//! Tests of the promises of the windower, mostly as properties over random streams.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use windrow_common::{EventTime, ScoringMessage};

use super::*;
use crate::quarantine::QuarantineReason;
use crate::sensors::{SensorIndex, SensorTable};
use crate::source::Unreadable;

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
            .map(|quarantined| quarantined.reason)
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
fn a_clock_that_is_ahead_makes_nobody_late() {
    for kept in [true, false] {
        let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
        if kept {
            run.arrivals = Arrivals::OfSource;
        }
        let arrived = |sensor, second: i64, ahead: i64, offset| Reading {
            arrival: EventTime::from_millis(second * 1_000),
            ..reading(sensor, second + ahead, 1.0, offset)
        };
        let readings = [
            arrived(0, 1, 0, 0),
            arrived(1, 2, 60, 1),
            arrived(0, 3, 0, 2),
            arrived(0, 11, 0, 3),
        ];
        run.feed(0, &readings, false);
        assert_eq!(run.reasons(), []);
        assert_eq!(run.out.messages.len(), 1);
        assert_eq!(run.out.messages[0].aggregates[0].count, 2);
    }
}

/// Its gateway was offline, and sends what it has stored.
#[test]
fn a_sensor_that_is_delayed_is_late_only_for_the_window_that_its_silence_closed() {
    let windowing = windowing(10, 10, 0, 0);
    let mut run = Run::new(windowing, &start(1));
    let mut offset = 0..;
    let mut at = |sensor, second| reading(sensor, second, 1.0, offset.next().unwrap());
    let idle = i64::try_from(windowing.idle_after.as_secs()).unwrap();
    run.feed(0, &[at(0, 1), at(1, 1), at(0, 4)], false);
    // Sensor 1 goes on, and its windows close as before.
    for second in 2..200 {
        run.feed(0, &[at(1, second)], false);
        let closed = run
            .out
            .messages
            .iter()
            .filter(|message| *message.sensor.tag == *"1")
            .count();
        assert_eq!(closed as i64, second / 10, "{second}");
        let closed = run.out.messages.iter().any(|message| *message.sensor.tag == *"0");
        // The window of sensor 0 waits until it is silent, which is looked for four times as often.
        assert!(!closed || second >= 4 + idle, "{second}");
        assert!(closed || second < 4 + idle + idle / 4 + 1, "{second}");
    }
    let backlog: Vec<_> = (5..200).map(|second| at(0, second)).collect();
    for readings in backlog.chunks(7) {
        run.feed(0, readings, false);
    }
    assert_eq!(run.reasons(), [QuarantineReason::Late; 5], "5 s to 9 s");
    run.finish();
    let of_sensor = run
        .out
        .messages
        .iter()
        .filter(|message| *message.sensor.tag == *"0");
    let counts: Vec<_> = of_sensor.map(|message| message.aggregates[0].count).collect();
    assert_eq!(counts[0], 2);
    assert_eq!(counts[1..], [10; 19]);
}

/// Whatever other partitions do meanwhile: the interval of a sensor that fell silent counts as closed, dispatched or not.
#[test]
fn what_silence_has_closed_stays_closed_when_the_sensor_comes_back() {
    for other_partition_is_read in [true, false] {
        let mut run = Run::new(with_silence(windowing(10, 10, 5, 2)), &start(2));
        if other_partition_is_read {
            run.feed(1, &[reading(4, 500, 1.0, 0)], false);
        }
        let mut offset = 0..;
        let mut at = |sensor, second| reading(sensor, second, 1.0, offset.next().unwrap());
        run.feed(0, &[at(0, 1)], false);
        for second in 2..30 {
            run.feed(0, &[at(2, second)], false);
        }
        run.feed(0, &[at(0, 12), at(0, 5)], false);
        assert_eq!(
            run.reasons(),
            [QuarantineReason::Late],
            "{other_partition_is_read}"
        );
    }
}

#[test]
fn a_reading_dated_days_ahead_makes_no_other_sensor_late() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    let ahead = 10 * 86_400;
    let readings: Vec<_> = (0..100)
        .map(|at| match at {
            31 => reading(1, ahead, 1.0, at),
            _ => reading(u32::from(at % 10 == 1) * 2, at as i64, 1.0, at),
        })
        .collect();
    for readings in readings.chunks(7) {
        run.feed(0, readings, false);
    }
    assert_eq!(run.reasons(), []);
    run.finish();
    let counts: u64 = run
        .out
        .messages
        .iter()
        .flat_map(|m| &m.aggregates)
        .map(|a| a.count)
        .sum();
    assert_eq!(counts, 100);
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
fn what_was_judged_before_a_stop_is_not_judged_again() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    let readings = [
        reading(0, 1, 1.0, 0),
        reading(0, 11, 2.0, 1),
        reading(0, 3, 9.0, 2),
    ];
    run.feed(0, &readings, false);
    let position = run.windower.position();
    let PartitionPosition { resume, judged, .. } = position.partitions[0];
    assert_eq!((resume, judged), (Offset(1), Offset(3)));
    let mut again = Run::new(windowing(10, 10, 0, 0), &position);
    again.feed(0, &readings[1..], false);
    let unreadable = Unreadable {
        offset: Offset(2),
        line: None,
        detail: String::new(),
        raw: String::new(),
    };
    let mut batch = Batch {
        next: Offset(3),
        unreadable: vec![unreadable],
        ..Batch::default()
    };
    again
        .windower
        .take(&mut batch, &again.table, again.now, &mut again.out);
    assert_eq!(
        (again.out.quarantined.len(), again.windower.tally().replayed),
        (0, 2)
    );
    again.feed(0, &[reading(0, 4, 9.0, 3)], false);
    assert_eq!(again.reasons(), [QuarantineReason::Late], "new since the stop");
}

#[test]
fn a_partition_of_which_nothing_could_be_used_is_read_again() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(2));
    run.feed(
        0,
        &[reading(0, 1, f64::NAN, 0), reading(0, 2, f64::NAN, 1)],
        false,
    );
    run.feed(1, &[reading(0, 1, f64::NAN, 0), reading(0, 2, 1.0, 1)], false);
    let [unusable, usable] = &run.windower.position().partitions[..] else {
        panic!("two partitions");
    };
    assert_eq!(*unusable, PartitionPosition::default());
    assert_eq!((usable.resume, usable.judged), (Offset(1), Offset(2)));
    run.feed(0, &[reading(0, 3, 1.0, 2)], false);
    assert_eq!(run.windower.position().partitions[0].judged, Offset(3));
    let mut again = Run::new(windowing(10, 10, 0, 0), &run.windower.position());
    again.feed(0, &[reading(0, 3, 1.0, 2), reading(0, 4, f64::NAN, 3)], false);
    assert_eq!(
        again.windower.position().partitions[0].judged,
        Offset(4),
        "it was of use before"
    );
}

#[test]
fn a_device_whose_file_comes_after_the_others_were_scored_is_not_late() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    run.feed(0, &[reading(0, 1, 1.0, 0), reading(0, 12, 1.0, 1)], true);
    run.finish();
    let mut position = run.windower.position();
    position.partitions.push(PartitionPosition::default());
    let mut again = Run::new(windowing(10, 10, 0, 0), &position);
    // Sensor 1 is new; sensor 0 has windows dispatched.
    again.feed(
        1,
        &[
            reading(1, 2, 1.0, 0),
            reading(0, 3, 1.0, 1),
            reading(1, 13, 1.0, 2),
        ],
        true,
    );
    again.finish();
    assert_eq!(again.reasons(), [QuarantineReason::Late]);
    let ids: Vec<_> = again.by_id().into_keys().collect();
    assert_eq!(
        ids,
        [
            "d/1@1970-01-01T00:00:00Z+10s/10s",
            "d/1@1970-01-01T00:00:10Z+10s/10s"
        ]
    );
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

/// The clock of a replay is ahead of the first run's, and the file keeps no arrival times.
#[test]
fn a_reading_that_was_far_in_the_future_stays_in_quarantine_when_it_is_read_again() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    let ahead = NOW_MS / 1_000 + 301;
    // Both readings at offset 2 belong to one event.
    let readings = [
        reading(0, 1, 1.0, 0),
        reading(0, 12, 1.0, 1),
        reading(1, 13, 1.0, 2),
        reading(0, ahead, 1.0, 2),
        reading(0, 14, 1.0, 3),
    ];
    run.feed(0, &readings, false);
    assert_eq!(run.reasons(), [QuarantineReason::FarFuture]);
    let position = run.windower.position();
    assert_eq!(position.partitions[0].resume, Offset(1));
    let later = |reading: &Reading| Reading {
        arrival: EventTime::from_millis(2 * NOW_MS),
        ..*reading
    };
    let mut again = Run::new(windowing(10, 10, 0, 0), &position);
    let readings: Vec<_> = readings[1..].iter().map(later).collect();
    again.feed(0, &readings, false);
    let more = [reading(0, 21, 1.0, 4), reading(1, 21, 1.0, 5)];
    again.feed(0, &more.map(|reading| later(&reading)), false);
    assert_eq!(again.reasons(), []);
    let counts: Vec<_> = again.out.messages.iter().map(|m| m.aggregates[0].count).collect();
    assert_eq!(counts, [2, 1], "all of the window that was open");
    // The first run would have gone on with the same watermark.
    run.feed(0, &more, false);
    assert_eq!(run.windower.position(), again.windower.position());
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
    }
    saved
}

/// Feeds the partitions of a source that ends and knows its contents, from `position` on, in at most `steps` runs of the
/// given lengths. Returns the position after each of them.
fn feed_finite(
    run: &mut Run,
    streams: &[Vec<Reading>],
    position: &Position,
    lengths: &[usize],
    steps: usize,
) -> Vec<Position> {
    let mut next: Vec<usize> = position.partitions.iter().map(|p| p.resume.0 as usize).collect();
    let mut saved = Vec::new();
    for step in 0..steps {
        let rest = |next: &[usize]| -> Vec<usize> {
            (0..streams.len())
                .filter(|p| next[*p] < streams[*p].len())
                .collect()
        };
        let Some(partition) = rest(&next)
            .get(lengths[step % lengths.len()] % rest(&next).len().max(1))
            .copied()
        else {
            match run.windower.next_pass(&run.table, run.now, &mut run.out) {
                Some(resume) => next = resume.iter().map(|offset| offset.0 as usize).collect(),
                None => {
                    run.finish();
                    saved.push(run.windower.position());
                    break;
                }
            }
            continue;
        };
        let end =
            (next[partition] + 1 + lengths[(step * 7) % lengths.len()] % 9).min(streams[partition].len());
        let readings = streams[partition][next[partition]..end].to_vec();
        next[partition] = end;
        let ahead = (0..streams.len()).flat_map(|p| &streams[p][next[p]..]);
        let mut batch = Batch {
            partition,
            readings,
            next: Offset(end as u64),
            ended: end == streams[partition].len(),
            complete_before: Some(ahead.map(|reading| reading.time).min().unwrap_or(EventTime::MIN)),
            ..Batch::default()
        };
        run.windower.take(&mut batch, &run.table, run.now, &mut run.out);
        saved.push(run.windower.position());
    }
    saved
}

fn quarantine_keys(run: &Run) -> BTreeMap<(usize, String), QuarantineReason> {
    run.out
        .quarantined
        .iter()
        .map(|q| ((q.partition, q.to_string()), q.reason))
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
    fn a_replay_from_any_checkpoint_rebuilds_the_same_messages(
        streams in streams(),
        lengths in proptest::collection::vec(0_usize..50, 5),
        other in proptest::collection::vec(0_usize..50, 7),
        crash_after in 0_usize..60,
        kept in any::<prop::sample::Index>(),
    ) {
        let windowing = with_silence(windowing(5, 10, 5, 2));
        let origin = start(streams.len());
        let mut quiet = Run::new(windowing, &origin);
        feed_all(&mut quiet, &streams, &origin, &lengths, usize::MAX);

        let mut first = Run::new(windowing, &origin);
        let mut saved = vec![origin.clone()];
        saved.extend(feed_all(&mut first, &streams, &origin, &lengths, crash_after));
        // The crash may happen before the newest checkpoints are saved.
        let position = &saved[kept.index(saved.len())];
        let mut second = Run::new(windowing, position);
        feed_all(&mut second, &streams, position, &other, usize::MAX);

        let mut together = first.by_id();
        for (id, message) in second.by_id() {
            let before = together.insert(id, message.clone());
            prop_assert!(before.is_none_or(|before| before == message), "a message was rebuilt differently");
        }
        prop_assert_eq!(together, quiet.by_id());
        let mut quarantined = quarantine_keys(&first);
        quarantined.extend(quarantine_keys(&second));
        prop_assert_eq!(quarantined, quarantine_keys(&quiet));
    }

    #[test]
    fn a_finite_input_gives_the_same_windows_in_any_order_and_memory(
        streams in streams(),
        lengths in proptest::collection::vec(0_usize..50, 5),
        shuffled in any::<u64>(),
        max_open in 0_usize..40,
    ) {
        let windowing = windowing(5, 10, 0, 0);
        // The clock of every reading above 700 is wrong.
        let streams: Vec<Vec<Reading>> = streams.iter().map(|readings| readings.iter().map(|reading| match reading.value {
            700.0.. => Reading { time: EventTime::from_millis(2 * NOW_MS), ..*reading },
            _ => *reading,
        }).collect()).collect();
        let mut all: Vec<Reading> = streams.iter().flatten().copied().collect();
        let wrong = all.iter().filter(|reading| reading.value >= 700.0).count();
        all.sort_by_key(|reading| reading.time);
        let number = |readings: Vec<Reading>| -> Vec<Reading> {
            (0..).zip(readings).map(|(at, reading)| Reading { offset: Offset(at), ..reading }).collect()
        };
        let all = [number(all)];
        let mut sorted = Run::new(windowing, &start(1));
        feed_finite(&mut sorted, &all, &start(1), &lengths, usize::MAX);
        let accepted = (all[0].len() - wrong) as u64;
        prop_assert_eq!(sorted.windower.tally(), Tally { accepted, ..Tally::default() });

        let shuffled: Vec<Vec<Reading>> = streams.iter().map(|readings| {
            let mut readings = readings.clone();
            readings.sort_by_key(|reading| (reading.offset.0 + 1).wrapping_mul(shuffled | 1));
            number(readings)
        }).collect();
        let origin = start(shuffled.len());
        let mut run = Run::new(windowing, &origin);
        run.windower.max_open = max_open;
        feed_finite(&mut run, &shuffled, &origin, &lengths, usize::MAX);
        prop_assert_eq!(run.by_id(), sorted.by_id());
        prop_assert_eq!(run.out.messages.len(), sorted.out.messages.len(), "a message came twice");
        prop_assert_eq!(run.reasons(), vec![QuarantineReason::FarFuture; wrong]);
        let tally = run.windower.tally();
        prop_assert_eq!((tally.accepted, tally.replayed), (accepted, 0));
    }

    #[test]
    fn a_replay_of_a_finite_input_rebuilds_the_same_messages(
        streams in streams(),
        lengths in proptest::collection::vec(0_usize..50, 5),
        other in proptest::collection::vec(0_usize..50, 7),
        crash_after in 0_usize..60,
        kept in any::<prop::sample::Index>(),
        max_open in (0_usize..40, 0_usize..40),
    ) {
        let windowing = windowing(5, 10, 0, 0);
        let origin = start(streams.len());
        let mut quiet = Run::new(windowing, &origin);
        feed_finite(&mut quiet, &streams, &origin, &lengths, usize::MAX);
        let mut first = Run::new(windowing, &origin);
        first.windower.max_open = max_open.0;
        let mut saved = vec![origin.clone()];
        saved.extend(feed_finite(&mut first, &streams, &origin, &lengths, crash_after));
        let position = &saved[kept.index(saved.len())];
        let mut second = Run::new(windowing, position);
        second.windower.max_open = max_open.1;
        feed_finite(&mut second, &streams, position, &other, usize::MAX);
        let mut together = first.by_id();
        for (id, message) in second.by_id() {
            let before = together.insert(id, message.clone());
            prop_assert!(before.is_none_or(|before| before == message), "a message was rebuilt differently");
        }
        prop_assert_eq!(together, quiet.by_id());
        prop_assert_eq!((first.reasons(), second.reasons()), (vec![], vec![]));
    }

    #[test]
    fn a_restart_with_other_options_loses_and_repeats_nothing(
        streams in streams(),
        lengths in proptest::collection::vec(0_usize..50, 5),
        other in proptest::collection::vec(0_usize..50, 7),
        stop_after in 0_usize..60,
        bounds in (0_u64..8, 0_u64..8),
        lateness in (0_u64..8, 0_u64..8),
        skew in (0_u64..60, 0_u64..60),
    ) {
        let windowing = |bound, lateness, skew| Windowing {
            max_skew: Duration::from_secs(skew),
            ..windowing(5, 10, bound, lateness)
        };
        // The clock stands at 60 s in the first run and at 90 s in the second, so the allowed skew decides too.
        let at = |second: i64| -> Vec<Vec<Reading>> {
            let arrival = EventTime::from_millis(second * 1_000);
            let arrived = |readings: &Vec<Reading>| readings.iter().map(|r| Reading { arrival, ..*r }).collect();
            streams.iter().map(arrived).collect()
        };
        let origin = start(streams.len());
        let mut first = Run::new(windowing(bounds.0, lateness.0, skew.0), &origin);
        feed_all(&mut first, &at(60), &origin, &lengths, stop_after);
        let position = first.windower.position();
        let mut second = Run::new(windowing(bounds.1, lateness.1, skew.1), &position);
        feed_all(&mut second, &at(90), &position, &other, usize::MAX);

        let ids = |run: &Run| run.by_id().into_keys().collect::<std::collections::BTreeSet<_>>();
        prop_assert!(ids(&first).is_disjoint(&ids(&second)));
        let messages = first.out.messages.iter().chain(&second.out.messages);
        let in_windows: u64 = messages.flat_map(|m| &m.aggregates).map(|a| a.count).sum();
        let quarantined = first.out.quarantined.len() + second.out.quarantined.len();
        prop_assert_eq!(in_windows as usize + quarantined, streams.iter().map(Vec::len).sum::<usize>());
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
