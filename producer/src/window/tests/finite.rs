//! Sources that end and know their contents.

use super::*;

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
        accounts::check(&run.windower.position());
    }
    saved
}

proptest! {
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
        run.windower.windowing.max_open = max_open;
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
        first.windower.windowing.max_open = max_open.0;
        let mut saved = vec![origin.clone()];
        saved.extend(feed_finite(&mut first, &streams, &origin, &lengths, crash_after));
        let position = &saved[kept.index(saved.len())];
        let mut second = Run::new(windowing, position);
        second.windower.windowing.max_open = max_open.1;
        feed_finite(&mut second, &streams, position, &other, usize::MAX);
        let mut together = first.by_id();
        for (id, message) in second.by_id() {
            let before = together.insert(id, message.clone());
            prop_assert!(before.is_none_or(|before| before == message), "a message was rebuilt differently");
        }
        prop_assert_eq!(together, quiet.by_id());
        prop_assert_eq!((first.reasons(), second.reasons()), (vec![], vec![]));
    }
}

#[test]
fn what_was_set_aside_before_another_pass_is_claimed_after_it() {
    let windowing = Windowing {
        max_open: 0,
        ..windowing(10, 10, 0, 0)
    };
    let mut run = Run::new(windowing, &start(1));
    let far = Reading {
        time: EventTime::from_millis(2 * NOW_MS),
        ..reading(0, 0, 1.0, 2)
    };
    let mut batch = Batch {
        readings: vec![reading(0, 1, 1.0, 0), reading(0, 11, 1.0, 1), far],
        next: Offset(3),
        ended: true,
        complete_before: Some(EventTime::MIN),
        ..Batch::default()
    };
    run.windower.take(&mut batch, &run.table, run.now, &mut run.out);
    let resume = run.windower.next_pass(&run.table, run.now, &mut run.out);
    assert_eq!(resume, Some(vec![Offset(1)]));
    assert_eq!(run.windower.position().partitions[0].judged, Offset(3));
    let news = serde_json::to_value(&run.windower.take_news()[0]).unwrap();
    assert_eq!(news["far_future"], "2");
}
