//! A broker that is short of memory: what publishes, waits with the reason or ends with it.

use std::thread;
use std::time::{Duration, Instant};

use windrow_tests::{Broker, Stage, eventually, fleet, models_for, write_csv};

const SOON: Duration = Duration::from_secs(60);
/// Ten seconds, and what a busy machine adds.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn under_a_memory_alarm_commands_that_publish_end_with_the_reason_and_producers_wait() {
    let broker = std::sync::Arc::new(Broker::start());
    let stage = Stage::new(broker, "alarm");
    let (csv, store) = (stage.text("readings.csv"), stage.store());
    let (known, unknown) = (stage.text("known.csv"), stage.text("unknown.csv"));
    write_csv(&stage.path("known.csv"), &fleet(2, 600, 6));
    write_csv(&stage.path("unknown.csv"), &fleet(3, 600, 6));
    write_csv(&stage.path("readings.csv"), &fleet(2, 1_200, 6));
    models_for(&known, &store);
    assert_eq!(stage.producer(&unknown, &[]).wait(SOON), 0);
    let mut worker = stage.worker("worker", &["--flush-age", "100ms"]);
    eventually(SOON, "the sensor without a model has dead letters", || {
        worker
            .metric("windrow_worker_dead_letters_total")
            .filter(|count| *count == 10.0)
    });
    worker.ready();

    stage.broker.control(&["set_vm_memory_high_watermark", "0.00001"]);
    let mut producer = stage.producer(&csv, &["--drain-timeout", "2s"]);
    let takes_nothing = "is out of memory and takes nothing";
    let replay = ["replay", &known, "--store", &store];
    let stretch = ["--from", "2026-01-05T00:00:00Z", "--to", "2026-01-05T00:10:00Z"];
    let replay = [&replay[..], &stretch].concat();
    thread::scope(|scope| {
        for words in [&["dead-letters", "replay"][..], &replay] {
            let stage = &stage;
            scope.spawn(move || {
                let began = Instant::now();
                let (code, output, error) = stage.windrow(words);
                let expected = format!("RabbitMQ at 127.0.0.1:{} {takes_nothing}", stage.broker.port());
                assert!(
                    code == 1 && error.contains(&expected),
                    "{words:?}: {code}: {error}{output}"
                );
                assert!(
                    began.elapsed() < COMMAND_WITHIN,
                    "{words:?}: {:?}",
                    began.elapsed()
                );
            });
        }
    });
    // What does not publish works.
    assert_eq!(stage.dead_letters().len(), 10);
    eventually(SOON, "the producer says why it waits", || {
        assert_eq!(producer.ended(), None, "{}", producer.log());
        let (code, ready) = producer.get("/readyz")?;
        (code == 503 && ready.contains(takes_nothing)).then_some(())
    });
    assert!(
        producer
            .log()
            .contains("RabbitMQ takes no messages; waiting until it does"),
        "{}",
        producer.log()
    );
    producer.signal("TERM");
    assert_eq!(producer.wait(Duration::from_secs(20)), 4, "{}", producer.log());

    stage.broker.control(&["set_vm_memory_high_watermark", "0.8"]);
    assert_eq!(stage.producer(&csv, &[]).wait(SOON), 0);
    let (code, _, error) = stage.windrow(&["dead-letters", "replay"]);
    assert_eq!(code, 0, "{error}");
    worker.signal("TERM");
    assert_eq!(worker.wait(SOON), 0);
}
