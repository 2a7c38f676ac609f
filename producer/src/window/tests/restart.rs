//! Restarts: what was judged stays judged, and nothing is lost or repeated.

use super::*;

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
    let unreadable = Unreadable::new(Offset(2), None, String::new(), Raw::default());
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

proptest! {
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
        let accounts = second.windower.position().ledger;
        prop_assert_eq!((accounts.readings_dispatched(), accounts.open), (in_windows, 0));
    }
}
