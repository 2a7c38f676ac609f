//! Producers share a hub, and survive one that misbehaves.

use std::time::{Duration, Instant};

use windrow_tests::{Draws, Service, eventually, exported, fleet};

use super::{EXIT_WITHIN, HubStage, PARTITIONS, SEED, WITHIN, Way};

/// Returns how many partitions each producer reads; 0 for a producer that does not answer.
fn shares(producers: &[&Service]) -> Vec<usize> {
    let share = |producer: &&Service| {
        let (_, metrics) = producer.get("/metrics").unwrap_or_default();
        let lags = metrics
            .lines()
            .filter(|line| line.starts_with("windrow_producer_lag_events{"));
        lags.count()
    };
    producers.iter().map(share).collect()
}

fn everything_is_scored(hub: &HubStage, windows: u64, producers: &mut [Service]) {
    eventually(WITHIN, "every window is dispatched", || {
        (hub.dispatched() >= windows).then_some(())
    });
    hub.stage.drained(WITHIN);
    for producer in producers {
        producer.signal("TERM");
        assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
    }
    let audit = hub.stage.audited();
    println!("{audit}");
    assert_eq!(
        (&audit["predicted"], &audit["lost"]),
        (&windows.into(), &0.into())
    );
    assert!(
        exported(&hub.stage.text("quiet")) == exported(&hub.stage.store()),
        "the predictions differ from those of a quiet run"
    );
}

/// Waits until this many windows of the stream are scored.
fn predictions_reach(worker: &Service, count: f64) {
    eventually(WITHIN, "predictions of the stream", || {
        let predictions = worker.metric("windrow_worker_predictions_total");
        predictions.filter(|predictions| *predictions >= count)
    });
}

#[test]
fn partitions_move_between_producers_and_every_window_is_predicted_once() {
    let hub = HubStage::new("sharing");
    // Slow answers: a partition can move while its producer asks the hub about it, and must then not report its lag.
    hub.hub.delay_answers(Duration::from_millis(40));
    let windows = hub.fleet(400, 60);
    let mut worker = hub.stage.worker("w", &["--flush-age", "300ms"]);
    let (mut first, mut second) = (hub.producer("p1", &[]), hub.producer("p2", &[]));
    eventually(WITHIN, "two producers share the partitions", || {
        (shares(&[&first, &second]) == [4, 4]).then_some(())
    });
    let source = hub.stage.text("readings.csv");
    let third = std::thread::scope(|scope| {
        let sending = scope.spawn(|| hub.send(&source, &["--speed", "1.5"]));
        predictions_reach(&worker, 1_000.0);
        first.kill();
        // After a kill, ownership of the partitions has to expire; a stop releases it.
        eventually(WITHIN, "the second takes over", || {
            (shares(&[&second]) == [usize::from(PARTITIONS)]).then_some(())
        });
        let third = hub.producer("p3", &[]);
        eventually(WITHIN, "the third gets its share", || {
            (shares(&[&second, &third]) == [4, 4]).then_some(())
        });
        second.signal("TERM");
        assert_eq!(second.wait(EXIT_WITHIN), 0, "{}", second.log());
        let given_back = Instant::now();
        eventually(WITHIN, "the third takes over", || {
            (shares(&[&third]) == [usize::from(PARTITIONS)]).then_some(())
        });
        println!("given back and taken over within {:?}", given_back.elapsed());
        sending.join().unwrap();
        third
    });
    hub.end_all_windows(400, Way::Sent);
    everything_is_scored(&hub, windows, &mut [third]);
    worker.signal("TERM");
    assert_eq!(worker.wait(EXIT_WITHIN), 0, "{}", worker.log());
}

/// Freezes a producer with SIGSTOP at a moment when it does not hold the lock of the store's folder.
///
/// A process frozen with the lock would block all other writers until it continues. (A cloud store has no such lock.)
fn freeze(hub: &HubStage, producer: &Service) {
    let lock = std::fs::File::open(hub.stage.path("store").join(".windrow.lock")).unwrap();
    eventually(WITHIN, "a moment without the lock", || {
        producer.signal("STOP");
        let is_free = lock.try_lock().is_ok();
        lock.unlock().unwrap();
        if !is_free {
            producer.signal("CONT");
        }
        is_free.then_some(())
    });
}

/// A virtual machine freezes when it is migrated: its producer wakes without knowing that it lost its partitions.
#[test]
fn a_producer_that_was_frozen_does_no_harm_when_it_thaws() {
    let hub = HubStage::new("frozen");
    let windows = hub.fleet(200, 40);
    let mut worker = hub.stage.worker("w", &["--flush-age", "300ms"]);
    let first = hub.producer("p1", &[]);
    eventually(WITHIN, "the first reads all partitions", || {
        (shares(&[&first]) == [usize::from(PARTITIONS)]).then_some(())
    });
    let second = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            for second in fleet(200, 40, SEED).chunks(200) {
                second.iter().for_each(|row| hub.append(row));
                std::thread::sleep(Duration::from_millis(400));
            }
        });
        predictions_reach(&worker, 200.0);
        freeze(&hub, &first);
        let second = hub.producer("p2", &[]);
        eventually(WITHIN, "the second takes over", || {
            (shares(&[&second]) == [usize::from(PARTITIONS)]).then_some(())
        });
        first.signal("CONT");
        eventually(WITHIN, "they share the partitions", || {
            (shares(&[&first, &second]) == [4, 4]).then_some(())
        });
        sending.join().unwrap();
        second
    });
    let lost = first
        .log()
        .matches("the partition goes to another producer")
        .count();
    // On a busy machine it may hear of the other half only when that comes back to it.
    assert!(lost >= usize::from(PARTITIONS) / 2, "{}", first.log());
    hub.end_all_windows(200, Way::Appended);
    everything_is_scored(&hub, windows, &mut [first, second]);
    worker.signal("TERM");
    assert_eq!(worker.wait(EXIT_WITHIN), 0, "{}", worker.log());
}

#[test]
fn a_hub_that_drops_connections_and_detaches_links_loses_nothing() {
    let hub = HubStage::new("faults");
    let windows = hub.fleet(300, 40);
    let mut worker = hub.stage.worker("w", &["--flush-age", "300ms"]);
    let mut producers = [hub.producer("p1", &[]), hub.producer("p2", &[])];
    let mut draws = Draws(11);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            // Not through the client, whose retries would leave duplicates in the hub.
            for second in fleet(300, 40, SEED).chunks(300) {
                second.iter().for_each(|row| hub.append(row));
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        while !sending.is_finished() {
            std::thread::sleep(Duration::from_millis(1_500 + draws.below(2_500)));
            match draws.below(3) {
                0 => hub.hub.detach_receivers("amqp:link:detach-forced"),
                1 => hub.hub.detach_receivers("com.microsoft:server-busy"),
                _ => hub.hub.drop_connections(),
            }
        }
        sending.join().unwrap();
    });
    hub.end_all_windows(300, Way::Appended);
    everything_is_scored(&hub, windows, &mut producers);
    worker.signal("TERM");
    assert_eq!(worker.wait(EXIT_WITHIN), 0, "{}", worker.log());
}
