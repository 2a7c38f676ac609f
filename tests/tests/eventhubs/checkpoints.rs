//! A restarted producer resumes from its checkpoint.

use windrow_tests::{eventually, exported};

use super::{EXIT_WITHIN, HubStage, PARTITIONS, WITHIN, Way};

const DEVICES: u32 = 200;

#[test]
fn a_restart_reads_no_more_than_the_open_windows_again() {
    let hub = HubStage::new("restart");
    let windows = hub.fleet(DEVICES, 60);
    hub.send(&hub.stage.text("readings.csv"), &[]);
    let readings = f64::from(DEVICES) * 60.0;
    let mut worker = hub.stage.worker("w", &["--flush-age", "300ms"]);
    let mut producer = hub.producer("p", &[]);
    eventually(WITHIN, "everything is read", || {
        (producer.metric("windrow_producer_readings_total")? >= readings).then_some(())
    });
    producer.signal("TERM");
    assert_eq!(producer.wait(EXIT_WITHIN), 0, "{}", producer.log());
    let before: u64 = (0..PARTITIONS)
        .map(|partition| hub.hub.delivered(partition))
        .sum();

    hub.end_all_windows(DEVICES, Way::Sent);
    let mut producer = hub.producer("p", &["--until-caught-up", "--at-end", "keep"]);
    assert_eq!(producer.wait(WITHIN), 0, "{}", producer.log());
    let after: u64 = (0..PARTITIONS)
        .map(|partition| hub.hub.delivered(partition))
        .sum();
    let again = after - before - u64::from(DEVICES);
    println!("{before} events at first, {again} again after the restart");
    // Of 60 s, a restart rereads an open window (5 s) and the out-of-orderness (5 s), so less than a quarter.
    assert!(again * 4 <= before, "{again} of {before}");
    hub.stage.drained(WITHIN);
    worker.signal("TERM");
    assert_eq!(worker.wait(EXIT_WITHIN), 0, "{}", worker.log());
    let audit = hub.stage.audited();
    assert_eq!(
        (&audit["predicted"], &audit["lost"]),
        (&windows.into(), &0.into())
    );
    assert!(exported(&hub.stage.text("quiet")) == exported(&hub.stage.store()));
}
