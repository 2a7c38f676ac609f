//! One sensor's clock or delay makes no other sensor late.

use super::*;

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
