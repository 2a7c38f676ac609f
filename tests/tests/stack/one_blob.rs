//! One blob of a store cannot be used: the messages that need it are set aside or wait, and all others are scored.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use windrow_common::SensorId;
use windrow_tests::{Azurite, Broker, Row, Service, Stage, eventually, fleet, windrow};

use super::blobs::{Variables, service};

const STORE: &str = "az://windrow/of/this/test";
/// The store's place in the account.
const PLACE: &str = "windrow/of/this/test";
const SOON: Duration = Duration::from_secs(60);
const MINUTES: Duration = Duration::from_secs(180);
pub(super) const SENSORS: u32 = 12;
const SECONDS: u32 = 60;
/// Windows of five seconds, and messages, of one sensor.
pub(super) const OF_ONE: u64 = SECONDS as u64 / 5;

/// Azurite, RabbitMQ, and a fleet's readings in `readings.csv`, with a model for each sensor.
pub(super) struct Cloud {
    pub(super) azurite: Azurite,
    pub(super) stage: Stage,
    pub(super) source: String,
}

impl Cloud {
    pub(super) fn new(prefix: &str) -> Self {
        let stage = Stage::new(Broker::shared(), prefix);
        let cloud = Self {
            azurite: Azurite::start(),
            source: stage.text("readings.csv"),
            stage,
        };
        cloud.write(&fleet(SENSORS, SECONDS, 3));
        // Training also creates the container.
        let train = [
            "models",
            "train",
            "--source",
            &cloud.source,
            "--store",
            STORE,
            "--window",
            "5s",
            "--nu",
            "0.1",
        ];
        windrow(&train).envs(cloud.variables()).output();
        cloud
    }

    pub(super) fn variables(&self) -> Variables {
        self.azurite.variables().to_vec()
    }

    /// Writes the readings. The names of the last two devices have 30 characters, encode to 270 bytes and differ only in
    /// the last one.
    fn write(&self, rows: &[Row]) {
        let mut text = "ts,device,tag,value\n".to_owned();
        for row in rows {
            let device = device(row.device);
            text += &format!("{},{device},temp,{:.3}\n", row.time_ms, row.value);
        }
        std::fs::write(&self.source, text).unwrap();
    }

    pub(super) fn start(&self, program: &str, words: &[&str], log: &str) -> Service {
        self.start_with(program, words, log, &self.variables())
    }

    /// Starts a service that reaches the store in another way.
    pub(super) fn start_with(
        &self,
        program: &str,
        words: &[&str],
        log: &str,
        variables: &Variables,
    ) -> Service {
        let mut all = self.stage.broker_words();
        all.extend(
            ["--store", STORE]
                .iter()
                .chain(words)
                .map(|word| (*word).to_owned()),
        );
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        service(program, &all, &self.stage.text(log), variables)
    }

    fn worker(&self) -> Service {
        self.start(
            "windrow-worker",
            &["--flush-age", "100ms", "--model-refresh", "1s"],
            "worker.log",
        )
    }

    pub(super) fn producer(&self, log: &str) -> Service {
        let words = [
            "--source",
            &self.source,
            "--window",
            "5s",
            "--until-caught-up",
            "--drain-timeout",
            "5s",
        ];
        self.start("windrow-producer", &words, log)
    }

    fn windrow(&self, words: &[&str]) -> (i32, String, String) {
        let broker = self.stage.broker_words();
        let broker: Vec<&str> = broker.iter().map(String::as_str).collect();
        windrow(&[words, &broker].concat()).envs(self.variables()).end()
    }

    /// Returns the version of each sensor's model.
    fn models(&self) -> HashMap<String, String> {
        let list = windrow(&["models", "list", "--store", STORE]).envs(self.variables());
        let models = list.json().as_array().unwrap().clone();
        let text = |model: &serde_json::Value, field: &str| model[field].as_str().unwrap().to_owned();
        models
            .iter()
            .map(|model| (text(model, "sensor"), text(model, "version")))
            .collect()
    }

    pub(super) fn audit(&self) -> serde_json::Value {
        let (_, output, error) = self.windrow(&["audit", "--store", STORE, "--output", "json"]);
        serde_json::from_str(&output).unwrap_or_else(|_| panic!("{error}"))
    }
}

fn device(number: u32) -> String {
    let long = "泵".repeat(29);
    match SENSORS - number {
        1 => format!("{long}一"),
        2 => format!("{long}二"),
        _ => format!("d{number}"),
    }
}

/// Stops a service and expects it to end soon, whatever it waits for.
pub(super) fn stops(mut service: Service, codes: &[i32]) {
    let asked = Instant::now();
    service.signal("TERM");
    let code = service.wait(SOON);
    assert!(codes.contains(&code), "{code}: {}", service.log());
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}

#[test]
fn the_messages_of_an_archived_model_are_set_aside_and_all_others_are_scored() {
    let cloud = Cloud::new("archived");
    let long = SensorId::new(&device(SENSORS - 1), "temp").unwrap();
    let models = cloud.models();
    assert_eq!(models.len(), SENSORS as usize, "{models:?}");
    // A lifecycle rule takes the pointer of one sensor, and the model of another, which has a long name.
    let archived = [
        format!("{PLACE}/models/d0/temp/current"),
        format!(
            "{PLACE}/models/{}/{}.model",
            long.path(),
            models[&long.to_string()]
        ),
    ];
    archived
        .iter()
        .for_each(|blob| cloud.azurite.set_tier(blob, "Archive"));

    let mut worker = cloud.worker();
    let mut producer = cloud.producer("producer.log");
    assert_eq!(producer.wait(MINUTES), 0, "{}", producer.log());
    eventually(SOON, "all others are scored", || {
        let scored = worker.metric("windrow_worker_predictions_total")?;
        (scored == (u64::from(SENSORS - 2) * OF_ONE) as f64).then_some(())
    });
    worker.ready();
    eventually(SOON, "the two are set aside", || {
        let (_, metrics) = worker.get("/metrics")?;
        let line = format!(
            "windrow_worker_dead_letters_total{{reason=\"archived-model\"}} {}",
            2 * OF_ONE
        );
        metrics.lines().any(|there| there == line).then_some(())
    });
    let log = worker.log();
    assert!(log.contains("it is archived; move it back to a tier"), "{log}");
    assert!(!log.contains("retrying"), "{log}");
    // They are counted when they are written, and published after that.
    let dead = eventually(SOON, "the dead letters are in the queue", || {
        Some(cloud.stage.dead_letters()).filter(|dead| dead.len() as u64 == 2 * OF_ONE)
    });
    let ids: HashSet<&str> = dead.iter().map(|dead| dead["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len() as u64, 2 * OF_ONE, "each has an id of its own: {ids:?}");
    let audit = cloud.audit();
    assert_eq!(audit["all"]["dead_lettered"], 2 * OF_ONE, "{audit}");
    assert_eq!(audit["all"]["lost"], 0, "{audit}");

    // Brought back, they are replayed.
    archived
        .iter()
        .for_each(|blob| cloud.azurite.set_tier(blob, "Hot"));
    let (code, _, error) = cloud.windrow(&["dead-letters", "replay", "--reason", "archived-model"]);
    assert_eq!(code, 0, "{error}");
    eventually(SOON, "the replayed are scored", || {
        let scored = worker.metric("windrow_worker_predictions_total")?;
        (scored == (u64::from(SENSORS) * OF_ONE) as f64).then_some(())
    });
    stops(worker, &[0]);
}

#[test]
fn a_lease_on_the_checkpoint_is_named_and_waited_for() {
    let cloud = Cloud::new("leased");
    let checkpoint = format!("{PLACE}/checkpoints/readings.csv/all.json");
    let rows = fleet(SENSORS, 2 * SECONDS, 3);
    cloud.write(&rows[..rows.len() / 2]);
    let mut worker = cloud.worker();
    let mut producer = cloud.producer("first.log");
    assert_eq!(producer.wait(MINUTES), 0, "{}", producer.log());

    cloud.write(&rows);
    cloud.azurite.lease(&checkpoint, None);
    let producer = cloud.producer("second.log");
    let (_, said) = eventually(SOON, "the producer names the lease", || {
        producer
            .get("/readyz")
            .filter(|(code, text)| *code == 503 && text.contains("leased"))
    });
    assert!(
        said.contains("cannot write checkpoints/readings.csv/all.json"),
        "{said}"
    );
    assert!(
        said.contains("it is leased by someone until they release it"),
        "{said}"
    );
    let command = format!(
        "az storage blob lease break --account-name devstoreaccount1 --container-name windrow --blob-name '{}'",
        checkpoint.strip_prefix("windrow/").unwrap()
    );
    assert!(said.contains(&command), "{said}");
    // Everybody else goes on.
    eventually(SOON, "the first half is scored", || {
        let scored = worker.metric("windrow_worker_predictions_total")?;
        (scored >= (u64::from(SENSORS) * (OF_ONE - 1)) as f64).then_some(())
    });
    worker.ready();
    stops(producer, &[4, 5]);
    let log = std::fs::read_to_string(cloud.stage.path("second.log")).unwrap();
    assert!(!log.contains("taken over"), "{log}");
    assert_eq!(
        log.matches("leased by someone").count(),
        1,
        "one line an event: {log}"
    );

    cloud.azurite.break_lease(&checkpoint);
    cloud.azurite.lease(&checkpoint, Some(60));
    let mut producer = cloud.producer("third.log");
    eventually(SOON, "the producer names the lease that ends", || {
        let (_, text) = producer.get("/readyz")?;
        text.contains("until a minute has passed in which they do not renew it")
            .then_some(())
    });
    cloud.azurite.break_lease(&checkpoint);
    assert_eq!(producer.wait(MINUTES), 0, "{}", producer.log());
    let whole = u64::from(SENSORS) * 2 * OF_ONE;
    eventually(SOON, "everything is scored", || {
        (cloud.audit()["all"]["predicted"] == whole).then_some(())
    });
    stops(worker, &[0]);
}
