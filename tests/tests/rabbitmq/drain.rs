//! Stops workers: by a signal, by an Azure notice, by a second signal, and during an outage of the store.

use std::fs;
use std::time::Duration;

use windrow_tests::{Broker, MetadataService, Stage, eventually, fleet, windrow, write_csv};

const SOON: Duration = Duration::from_secs(60);
const MINUTES: Duration = Duration::from_secs(180);

/// Creates a stage with `devices` sensors, their models, and `seconds` / 5 messages of each in the queue.
fn with_backlog(prefix: &str, devices: u32, seconds: u32) -> Stage {
    let stage = Stage::new(Broker::shared(), prefix);
    let source = stage.text("readings.csv");
    write_csv(&stage.path("readings.csv"), &fleet(devices, seconds, 7));
    let store = stage.store();
    let train = [
        "models", "train", "--source", &source, "--store", &store, "--window", "5s", "--nu", "0.1",
    ];
    windrow(&train).output();
    let mut producer = stage.producer(&source, &["--window", "5s"]);
    assert_eq!(producer.wait(MINUTES), 0, "{}", producer.log());
    stage
}

#[test]
fn a_busy_worker_that_is_stopped_leaves_nothing_to_be_delivered_again() {
    let stage = with_backlog("scale_in", 500, 300);
    let small = ["--prefetch", "400", "--flush-age", "100ms"];
    let mut workers: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|name| stage.worker(name, &small))
        .collect();
    for worker in &workers {
        eventually(SOON, "every worker has persisted something", || {
            worker
                .metric("windrow_worker_predictions_total")
                .filter(|count| *count > 0.0)
        });
    }
    let mut leaving = workers.remove(1);
    eventually(SOON, "it is busy", || {
        let held = leaving.metric("windrow_worker_held_messages");
        held.filter(|held| *held > 0.0)
    });
    leaving.signal("TERM");
    assert_eq!(leaving.wait(SOON), 0, "{}", leaving.log());
    stage.drained(MINUTES);
    for worker in &mut workers {
        assert_eq!(worker.metric("windrow_worker_redelivered_total"), Some(0.0));
        worker.signal("INT");
        assert_eq!(worker.wait(SOON), 0, "{}", worker.log());
    }
    assert_eq!(stage.queue()["redelivered"], 0);
    let audit = stage.audited();
    assert_eq!(
        (&audit["predicted"], &audit["repeats"]),
        (&30_000.into(), &0.into())
    );
}

#[test]
fn azures_notice_drains_the_worker_and_is_acknowledged_after() {
    let stage = with_backlog("notice", 20, 60);
    let azure = MetadataService::start();
    // It would flush only after ten minutes, so it still holds everything when the notice comes.
    let words = ["--scheduled-events", azure.url(), "--flush-age", "10m"];
    let mut worker = stage.worker("fleet", &words);
    azure.announce("A1", "Reboot", "fleet_7");
    azure.announce("A2", "Terminate", "fleet_8");
    eventually(SOON, "it holds the messages", || {
        let held = worker.metric("windrow_worker_held_messages");
        held.filter(|held| *held == 240.0)
    });
    let listed = azure.listed();
    eventually(SOON, "it has seen both notices", || {
        (azure.listed() > listed + 1).then_some(())
    });
    assert_eq!(
        worker.ended(),
        None,
        "a notice that does not concern it stopped it: {}",
        worker.log()
    );
    // Without the store it cannot finish its drain.
    fs::rename(stage.path("store"), stage.path("away")).unwrap();
    fs::write(stage.path("store"), "").unwrap();
    azure.announce("A3", "Preempt", "fleet_7");
    eventually(SOON, "it is draining", || {
        let (_, body) = worker.get("/readyz")?;
        body.contains("stopping").then_some(())
    });
    eventually(SOON, "it tries to write and cannot", || {
        worker.log().contains("retrying until it works").then_some(())
    });
    assert_eq!(azure.acknowledged(), [""; 0], "before the work is finished");
    fs::remove_file(stage.path("store")).unwrap();
    fs::rename(stage.path("away"), stage.path("store")).unwrap();
    eventually(SOON, "the notice is acknowledged", || {
        (!azure.acknowledged().is_empty()).then_some(())
    });
    assert_eq!(stage.audited()["predicted"], 240);
    // A supervisor would start it again, and it would take messages with it when the machine ends.
    let listed = azure.listed();
    eventually(SOON, "it waits for the end of the machine", || {
        (azure.listed() > listed + 1).then_some(())
    });
    assert_eq!(worker.ended(), None, "{}", worker.log());
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0, "{}", worker.log());
    assert_eq!(azure.acknowledged(), ["A3"]);
}

#[test]
fn an_outage_of_the_store_is_waited_for_and_spends_no_deliveries() {
    let stage = with_backlog("outage", 50, 300);
    let mut worker = stage.worker("waits", &["--prefetch", "300", "--flush-age", "100ms"]);
    eventually(SOON, "something is persisted", || {
        worker
            .metric("windrow_worker_predictions_total")
            .filter(|count| *count > 0.0)
    });
    // An empty folder takes its place, as after an unmount.
    fs::rename(stage.path("store"), stage.path("away")).unwrap();
    fs::create_dir(stage.path("store")).unwrap();
    // On a busy machine the broker may be what it waits for at first.
    eventually(SOON, "the worker is not ready for want of the store", || {
        let (code, body) = worker.get("/readyz")?;
        (code == 503 && body.contains("store")).then_some(())
    });
    assert_eq!(
        worker.get("/healthz").unwrap().0,
        200,
        "an outage is no reason to be restarted"
    );
    let held = eventually(SOON, "it has stopped pulling", || {
        let held = worker.metric("windrow_worker_held_messages");
        std::thread::sleep(Duration::from_secs(1));
        held.filter(|held| Some(*held) == worker.metric("windrow_worker_held_messages"))
    });
    assert!(held <= 300.0, "{held}");

    fs::remove_dir_all(stage.path("store")).unwrap();
    fs::rename(stage.path("away"), stage.path("store")).unwrap();
    worker.ready();
    stage.drained(MINUTES);
    assert_eq!(worker.metric("windrow_worker_redelivered_total"), Some(0.0));
    assert_eq!(stage.dead_letters().len(), 0);
    assert_eq!(stage.audited()["predicted"], 3_000);
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);
}

#[test]
fn a_drain_that_cannot_finish_ends_in_time_and_a_second_signal_ends_it_at_once() {
    let stage = with_backlog("overdue", 10, 60);
    // It would flush only after ten minutes, so it still holds everything when the stop comes.
    let holding = |timeout| {
        let worker = stage.worker("holding", &["--flush-age", "10m", "--drain-timeout", timeout]);
        eventually(SOON, "it holds the messages", || {
            worker
                .metric("windrow_worker_held_messages")
                .filter(|held| *held == 120.0)
        });
        worker
    };
    let break_store = || {
        fs::rename(stage.path("store"), stage.path("away")).unwrap();
        fs::write(stage.path("store"), "").unwrap();
    };
    let mend_store = || {
        fs::remove_file(stage.path("store")).unwrap();
        fs::rename(stage.path("away"), stage.path("store")).unwrap();
    };
    let mut overdue = holding("2s");
    break_store();
    overdue.signal("TERM");
    assert_eq!(overdue.wait(SOON), 4, "{}", overdue.log());
    assert!(overdue.log().contains("will be delivered again"));
    mend_store();

    let mut hurried = holding("10m");
    break_store();
    hurried.signal("TERM");
    eventually(SOON, "it is draining", || {
        hurried
            .get("/readyz")
            .filter(|(_, body)| body.contains("stopping"))
    });
    hurried.signal("TERM");
    assert_eq!(hurried.wait(Duration::from_secs(5)), 143);
    mend_store();

    let mut last = holding("30s");
    last.signal("TERM");
    assert_eq!(last.wait(SOON), 0, "{}", last.log());
    assert_eq!(stage.audited()["predicted"], 120);
    assert_eq!(stage.dead_letters().len(), 0);
}
