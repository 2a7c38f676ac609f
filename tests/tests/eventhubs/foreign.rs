//! A program that is none of the producers reads their consumer group with a higher epoch.

use std::time::Instant;

use windrow_tests::{Service, eventually, fleet};

use super::{EXIT_WITHIN, HubStage, PARTITIONS, SEED, WITHIN, Way};

/// The partition that the other program reads; devices 3, 11, … are in it.
const STOLEN: u16 = 3;
const DEVICES: u32 = 16;
const SECONDS: u32 = 40;

fn lag_of_the_stolen(producer: &Service) -> Option<f64> {
    let (_, metrics) = producer.get("/metrics")?;
    let name = format!("windrow_producer_lag_events{{partition=\"{STOLEN}\"}} ");
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(&name)?.parse().ok())
}

#[test]
fn a_foreign_reader_is_named_and_the_other_partitions_are_read() {
    let hub = HubStage::new("foreign");
    let windows = hub.fleet(DEVICES, SECONDS);
    let mut worker = hub.stage.worker("w", &["--flush-age", "100ms"]);
    let mut producer = hub.producer("p", &["--log", "info,windrow_eventhubs=debug"]);
    producer.ready();
    let begun = Instant::now();
    let foreign = hub.hub.read_elsewhere("$Default", STOLEN, 5).unwrap();
    fleet(DEVICES, SECONDS, SEED)
        .iter()
        .for_each(|row| hub.append(row));

    let (_, said) = eventually(WITHIN, "the producer is not ready and names the reader", || {
        producer
            .get("/readyz")
            .filter(|(code, text)| *code == 503 && text.contains("stolen"))
    });
    assert!(
        said.contains("source: partition 3 is stolen repeatedly"),
        "{said}"
    );
    assert!(
        said.contains("epoch of '5'") && said.contains("a consumer group other than $Default"),
        "{said}"
    );
    // All but the last two windows of each device that is in another partition.
    let others = u64::from(DEVICES - DEVICES / u32::from(PARTITIONS)) * (u64::from(SECONDS) / 5 - 2);
    eventually(WITHIN, "the other partitions are scored", || {
        let predictions = worker.metric("windrow_worker_predictions_total")?;
        (predictions as u64 >= others).then_some(())
    });
    let behind = f64::from(DEVICES / u32::from(PARTITIONS) * SECONDS);
    eventually(WITHIN, "the lag of the stolen partition is kept", || {
        (lag_of_the_stolen(&producer) == Some(behind)).then_some(())
    });
    let thefts = |log: &str| {
        log.lines()
            .filter(|line| line.contains("reading the stolen partition again") && line.contains("\"3\""))
            .count()
    };
    eventually(WITHIN, "it has tried several times", || {
        (thefts(&producer.log()) >= 4).then_some(())
    });
    let log = producer.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert!(warnings[0].contains("is stolen repeatedly"), "{warnings:?}");
    assert!(
        warnings.len() as u64 <= 1 + begun.elapsed().as_secs() / 60,
        "{warnings:?}"
    );
    assert!(!log.contains("goes to another producer"), "{log}");

    // A producer that is stopped now stops.
    let second = hub.producer("stopped", &[]);
    eventually(WITHIN, "it shares the hub", || second.get("/readyz"));
    let (asked, mut second) = (Instant::now(), second);
    second.signal("TERM");
    assert_eq!(second.wait(EXIT_WITHIN), 0, "{}", second.log());
    assert!(asked.elapsed() < EXIT_WITHIN / 2, "{:?}", asked.elapsed());

    drop(foreign);
    producer.ready();
    hub.end_all_windows(DEVICES, Way::Appended);
    eventually(WITHIN, "every window is dispatched", || {
        (hub.dispatched() >= windows).then_some(())
    });
    hub.stage.drained(WITHIN);
    producer.signal("TERM");
    assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
    let audit = hub.stage.audited();
    assert_eq!(
        (&audit["predicted"], &audit["lost"]),
        (&windows.into(), &0.into()),
        "{audit}"
    );
    worker.signal("TERM");
    assert_eq!(worker.wait(EXIT_WITHIN), 0, "{}", worker.log());
}
