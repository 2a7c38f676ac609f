//! Kills and stops everything in an order drawn from a seed; every window is still predicted exactly once.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use windrow_common::SensorId;
use windrow_queue::Queue;
use windrow_tests::{
    Alertmanager, Broker, Draws, Service, Stage, copy_models, eventually, exported, fleet, windrow, write_csv,
};

use super::{message, scoring_message};

const DEVICES: u32 = 2_000;
const SECONDS: u32 = 100;
const WORKERS: usize = 3;
const POISON: usize = 20;
/// A threshold so low that healthy sensors have incidents.
const LOW: &str = "-0.1";
/// How long faults are injected.
const TROUBLE: Duration = Duration::from_secs(75);
const QUIET_WITHIN: Duration = Duration::from_secs(180);
const EXIT_WITHIN: Duration = Duration::from_secs(60);

/// A fault that the test injects.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillWorker(usize),
    KillProducer,
    KillAlerter,
    StopAlertmanager,
    StoreOutage,
    KillBroker,
    StopBroker,
    CutConnections,
}

fn faults(draws: &mut Draws) -> Vec<Fault> {
    // Every kind of fault, the quick ones several times, in random order.
    let mut faults = vec![
        Fault::KillBroker,
        Fault::StopBroker,
        Fault::StoreOutage,
        Fault::StoreOutage,
        Fault::CutConnections,
        Fault::KillProducer,
        Fault::KillProducer,
        Fault::KillProducer,
        Fault::KillAlerter,
        Fault::KillAlerter,
        Fault::StopAlertmanager,
        Fault::StopAlertmanager,
    ];
    faults.extend((0..5).map(|_| Fault::KillWorker(draws.below(WORKERS as u64) as usize)));
    for at in (1..faults.len()).rev() {
        faults.swap(at, draws.below(at as u64 + 1) as usize);
    }
    faults
}

struct Fleet<'a> {
    stage: &'a Stage,
    source: String,
    producer: Service,
    workers: Vec<Service>,
    alerter: Service,
    alertmanager: Alertmanager,
}

impl Fleet<'_> {
    fn start_alerter(stage: &Stage, alertmanager: &Alertmanager) -> Service {
        let (store, url) = (stage.store(), alertmanager.url());
        let words = [
            "--store",
            &store,
            "--threshold",
            LOW,
            "--alertmanager",
            &url,
            "--remind-every",
            "5s",
            // The readings are of long ago.
            "--tell-within",
            "9999d",
        ];
        Service::start("windrow-alerter", &words, &stage.text("alerter.log"))
    }

    fn start_worker(stage: &Stage, number: usize) -> Service {
        stage.worker(
            &format!("w{number}"),
            &["--prefetch", "500", "--flush-age", "300ms"],
        )
    }

    fn start_producer(stage: &Stage, source: &str) -> Service {
        // Paced, so that it keeps working while faults are injected.
        stage.producer(source, &["--window", "5s", "--speed", "1.6"])
    }

    /// Waits until everything runs: a service that starts without its store ends, and here nobody starts it again.
    fn all_ready(&mut self) {
        for service in self.workers.iter_mut().chain([&mut self.alerter]) {
            service.ready();
        }
        // It may have read everything by now.
        eventually(EXIT_WITHIN, "the producer is ready, or has ended", || {
            let ready = self.producer.get("/readyz").filter(|(code, _)| *code == 200);
            (self.producer.ended().is_some() || ready.is_some()).then_some(())
        });
    }

    /// Returns the incidents that Alertmanager shows, sorted.
    fn shown(&self) -> Vec<String> {
        let alerts = self.alertmanager.alerts();
        let of = |alert: &Value| alert["labels"]["incident"].as_str().unwrap().to_owned();
        let mut shown: Vec<String> = alerts.iter().map(of).collect();
        shown.sort();
        shown
    }

    fn suffer(&mut self, fault: Fault, draws: &mut Draws) {
        let stage = self.stage;
        match fault {
            Fault::KillWorker(number) => {
                self.workers[number].kill();
                self.workers[number] = Self::start_worker(stage, number);
            }
            Fault::KillProducer => {
                if self.producer.ended().is_none() {
                    self.producer.kill();
                    self.producer = Self::start_producer(stage, &self.source);
                }
            }
            Fault::KillAlerter => {
                self.alerter.kill();
                self.alerter = Self::start_alerter(stage, &self.alertmanager);
            }
            Fault::StopAlertmanager => {
                self.alertmanager.stop();
                pause(draws);
                self.alertmanager.restart();
            }
            Fault::StoreOutage => {
                self.all_ready();
                fs::rename(stage.path("store"), stage.path("away")).unwrap();
                fs::write(stage.path("store"), "").unwrap();
                pause(draws);
                fs::remove_file(stage.path("store")).unwrap();
                fs::rename(stage.path("away"), stage.path("store")).unwrap();
            }
            Fault::KillBroker => {
                stage.broker.kill();
                pause(draws);
                stage.broker.restart();
            }
            Fault::StopBroker => {
                stage.broker.stop();
                pause(draws);
                stage.broker.restart();
            }
            Fault::CutConnections => stage.broker.control(&["close_all_connections", "chaos"]),
        }
    }
}

/// Returns the ids of the incidents that are open, sorted.
fn open_incidents(store: &str) -> Vec<String> {
    let listed = windrow(&["incidents", "list", "--store", store]).json();
    let open = listed.as_array().unwrap().iter();
    let open = open.filter(|incident| incident["closed"].is_null());
    let mut ids: Vec<String> = open
        .map(|incident| incident["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

fn pause(draws: &mut Draws) {
    std::thread::sleep(Duration::from_millis(200 + draws.below(2_000)));
}

#[test]
fn whatever_dies_every_window_is_predicted_once() {
    let seed = std::env::var("CHAOS_SEED").map_or(20_261_124, |seed| seed.parse().unwrap());
    println!("CHAOS_SEED={seed}");
    let mut draws = Draws(seed);
    let stage = Stage::new(Broker::start().into(), "chaos");
    let (source, store) = (stage.text("readings.csv"), stage.store());
    write_csv(&stage.path("readings.csv"), &fleet(DEVICES, SECONDS, 9));
    let train = [
        "models", "train", "--source", &source, "--store", &store, "--window", "5s", "--nu", "0.1",
    ];
    windrow(&train).output();
    let quiet = stage.text("quiet");
    copy_models(&stage.path("store"), &stage.path("quiet"));
    let run = [
        "run",
        "--source",
        &source,
        "--store",
        &quiet,
        "--window",
        "5s",
        "--until-caught-up",
        "--threshold",
        LOW,
    ];
    let windows = windrow(&run).json()["predictions"].as_u64().unwrap();
    assert!(windows >= 40_000, "{windows}");

    // Creates the queues first, so that every message confirmed from here on is safe (see `SETTLING` in
    // queue/src/amqp/connection.rs).
    let mut poison = publish_poison(&stage);
    let alertmanager = Alertmanager::start();
    let mut fleet = Fleet {
        stage: &stage,
        producer: Fleet::start_producer(&stage, &source),
        workers: (0..WORKERS)
            .map(|number| Fleet::start_worker(&stage, number))
            .collect(),
        alerter: Fleet::start_alerter(&stage, &alertmanager),
        alertmanager,
        source,
    };
    let began = Instant::now();
    for fault in faults(&mut draws) {
        println!("{:>6.1} s  {fault:?}", began.elapsed().as_secs_f64());
        fleet.suffer(fault, &mut draws);
        pause(&mut draws);
    }
    let left = TROUBLE.saturating_sub(began.elapsed()) + EXIT_WITHIN;
    assert_eq!(fleet.producer.wait(left), 0, "{}", fleet.producer.log());
    stage.drained(QUIET_WITHIN);
    eventually(QUIET_WITHIN, "Alertmanager shows each open incident once", || {
        let shown = fleet.shown();
        (shown.len() > 10 && shown == open_incidents(&store)).then_some(())
    });
    for service in fleet.workers.iter_mut().chain([&mut fleet.alerter]) {
        service.signal("TERM");
        assert_eq!(service.wait(EXIT_WITHIN), 0, "{}", service.log());
    }

    let audit = stage.audited();
    println!("{audit}");
    assert_eq!(
        (&audit["predicted"], &audit["lost"]),
        (&windows.into(), &0.into())
    );
    assert!(
        exported(&quiet) == exported(&store),
        "the predictions differ from those of a quiet run"
    );
    windrow(&["incidents", "update", "--store", &store, "--threshold", LOW]).output();
    let incidents = |store| windrow(&["incidents", "list", "--store", store, "--output", "json"]).output();
    assert!(incidents(&quiet).contains("\"anomaly\""));
    assert!(
        incidents(&quiet) == incidents(&store),
        "the incidents differ from those of a quiet run"
    );
    // A worker killed between publishing a dead letter and acking the message publishes it twice.
    let mut dead: Vec<String> = stage
        .dead_letters()
        .iter()
        .map(|letter| letter["id"].as_str().unwrap().to_owned())
        .collect();
    dead.sort();
    dead.dedup();
    poison.sort();
    assert_eq!(dead, poison);
}

/// Publishes messages that no worker can score, half of them undecodable, half without a model; returns their ids.
fn publish_poison(stage: &Stage) -> Vec<String> {
    let queue = stage.queue_of_its_own();
    let messages = (0..POISON).map(|number| {
        if number % 2 == 0 {
            return message(&format!("poison {number}"));
        }
        let stranger = SensorId::new("stranger", &number.to_string()).unwrap();
        scoring_message(stranger, 1_767_571_200_000, 5_000)
    });
    let messages: Vec<_> = messages.collect();
    let ids = messages.iter().map(|message| message.id.clone()).collect();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for message in messages {
            queue.publish(message).await.unwrap().wait().await.unwrap();
        }
        queue.close().await;
    });
    ids
}
