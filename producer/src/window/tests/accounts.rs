//! The accounts: every reading that was judged is in a dispatched window, in an open one or in quarantine.

use super::*;

/// Expects the readings that were put in windows to be in dispatched and open ones.
pub(super) fn check(position: &Position) {
    let windowed: u64 = position.partitions.iter().map(|p| p.counts.windowed).sum();
    let Ledger { open, .. } = position.ledger;
    assert_eq!(
        windowed,
        position.ledger.readings_dispatched() + open,
        "{position:?}"
    );
}

fn counts(position: &Position) -> [u64; 4] {
    let Judged {
        windowed,
        quarantined,
        ..
    } = position.partitions[0].counts;
    let ledger = &position.ledger;
    [windowed, quarantined, ledger.readings_dispatched(), ledger.open]
}

const READINGS: [(i64, f64); 6] = [
    (1, 1.0),
    (11, 1.0),
    (3, 9.0),
    (12, f64::NAN),
    (13, 1.0),
    (14, 1.0),
];

fn readings() -> Vec<Reading> {
    let readings = READINGS.iter().zip(0..);
    readings
        .map(|((second, value), offset)| reading(0, *second, *value, offset))
        .collect()
}

#[test]
fn each_reading_counts_once_however_often_it_is_read() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    run.feed(0, &readings()[..5], false);
    // The reading at 1 s is dispatched, 3 s is late, NaN is useless, 11 s and 13 s are in an open window.
    let position = run.windower.position();
    assert_eq!(counts(&position), [3, 2, 1, 2]);
    let mut again = Run::new(windowing(10, 10, 0, 0), &position);
    assert_eq!(
        counts(&again.windower.position()),
        [3, 2, 1, 2],
        "before it has read anything"
    );
    again.feed(0, &readings()[1..2], false);
    assert_eq!(
        counts(&again.windower.position()),
        [3, 2, 1, 2],
        "while it reads again"
    );
    again.feed(0, &readings()[2..], false);
    assert_eq!(counts(&again.windower.position()), [4, 2, 1, 3]);
    again.finish();
    assert_eq!(counts(&again.windower.position()), [4, 2, 4, 0]);
}

#[test]
fn a_reading_that_is_gone_when_it_has_to_be_read_again_is_missed() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    run.feed(0, &readings()[..5], false);
    let mut again = Run::new(windowing(10, 10, 0, 0), &run.windower.position());
    // The readings at 11 s and 13 s have expired.
    again.feed(0, &readings()[5..], false);
    assert_eq!(counts(&again.windower.position()), [4, 2, 1, 1]);
    again.finish();
    assert_eq!(
        counts(&again.windower.position()),
        [4, 2, 2, 0],
        "2 of 4 are nowhere"
    );
}

#[test]
fn days_are_kept_apart() {
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    let day = 86_400;
    let seconds = [1, day - 1, day, day + 1, 3 * day];
    let readings: Vec<_> = seconds
        .iter()
        .zip(0..)
        .map(|(second, offset)| reading(0, *second, 1.0, offset))
        .collect();
    let late = EventTime::from_millis(NOW_MS);
    assert!(readings.iter().all(|reading| reading.time < late));
    run.feed(0, &readings, true);
    run.finish();
    let by_day: Vec<_> = run.windower.position().ledger.dispatched.into_iter().collect();
    let start = |day: i64| EventTime::from_millis(day * 86_400_000);
    assert_eq!(by_day, [(start(0), 2), (start(1), 2), (start(3), 1)]);
}

#[test]
fn an_item_of_many_readings_counts_as_many_wherever_it_is_counted() {
    let take = |run: &mut Run| {
        let mut item = Unreadable::new(Offset(1), None, String::new(), Raw::default());
        item.readings = 10;
        let mut batch = Batch {
            readings: vec![reading(0, 1, 1.0, 0)],
            unreadable: vec![item],
            next: Offset(2),
            ..Batch::default()
        };
        run.windower.take(&mut batch, &run.table, run.now, &mut run.out);
        let quarantined = run.out.quarantined.iter();
        let readings: u64 = quarantined.map(|item| item.record.readings).sum();
        let position = run.windower.position();
        assert_eq!((position.partitions[0].counts.quarantined, readings), (10, 10));
        position
    };
    let mut run = Run::new(windowing(10, 10, 0, 0), &start(1));
    let ahead = take(&mut run);
    // A crash after the claim: the next run sets it aside again, and counts the same.
    let claimed = start(1).claiming(&ahead, &run.windower.take_news());
    let mut again = Run::new(windowing(10, 10, 0, 0), &claimed);
    assert_eq!(take(&mut again), ahead);
}
