//! A gateway in front of the store loses its way and answers 404, which says nothing about any blob.

use std::sync::Arc;
use std::time::Duration;

use object_store::RetryConfig;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use windrow_common::{HasRemedy, Remedy};
use windrow_store::{Store, StoreError};
use windrow_tests::{Azurite, Bystanders, Gateway, S3Server, eventually, windrow};

use super::blobs::{TRAIN, Variables};
use super::one_blob::{Cloud, OF_ONE, SENSORS, stops};

const SOON: Duration = Duration::from_secs(60);
const MINUTES: Duration = Duration::from_secs(180);
const SAYS: &str = "the answer is a 404 without a code of the service";

/// Returns the variables of a store that is reached through a gateway.
fn through(gateway: &Gateway, azurite: &Azurite) -> Variables {
    let mut variables = azurite.variables().to_vec();
    for (_, value) in &mut variables {
        *value = value.replace(&format!(":{}/", azurite.port()), &format!(":{}/", gateway.port()));
    }
    variables
}

#[test]
fn a_404_of_a_gateway_is_an_outage_and_no_message_is_set_aside_for_it() {
    let cloud = Cloud::new("gateway");
    let gateway = Gateway::start(cloud.azurite.port());
    let through = through(&gateway, &cloud.azurite);
    let behind = |program: &str, words: &[&str], log: &str| {
        let words = [words, &["--drain-timeout", "5s"]].concat();
        cloud.start_with(program, &words, log, &through)
    };
    let mut worker = behind(
        "windrow-worker",
        &["--flush-age", "100ms", "--prefetch", "20"],
        "behind.log",
    );
    worker.ready();
    gateway.lose_its_way();
    let mut direct = cloud.start("windrow-worker", &["--flush-age", "100ms"], "direct.log");
    direct.ready();
    let bystanders = Bystanders::start(&cloud.stage, "d0/temp", 5_000);
    let mut producer = cloud.producer("producer.log");
    assert_eq!(producer.wait(MINUTES), 0, "{}", producer.log());

    let (_, said) = eventually(SOON, "the worker behind the gateway says why it waits", || {
        let held = worker.metric("windrow_worker_held_messages")?;
        worker
            .get("/readyz")
            .filter(|(code, said)| *code == 503 && held > 0.0 && said.contains(SAYS))
    });
    assert!(said.contains("store: cannot read "), "{said}");
    bystanders.are_scored_by(&direct, "a worker holds messages behind the gateway");
    direct.ready();
    // A producer that begins now waits, too, and stops when it is told to.
    let words = [
        "--source",
        &cloud.source,
        "--window",
        "5s",
        "--source-name",
        "again",
    ];
    let late = behind("windrow-producer", &words, "late.log");
    eventually(SOON, "the producer behind the gateway says why it waits", || {
        late.get("/readyz")
            .filter(|(code, said)| *code == 503 && said.contains(SAYS))
    });
    stops(late, &[0, 4]);
    bystanders.are_scored_by(&direct, "nothing behind the gateway goes on");
    assert_eq!(worker.metric("windrow_worker_dead_letters_total"), Some(0.0));
    assert_eq!(worker.ended(), None, "{}", worker.log());
    let log = worker.log();
    assert_eq!(
        log.matches("failed; retrying").count(),
        1,
        "one line an event: {log}"
    );

    gateway.find_its_way();
    worker.ready();
    let published = bystanders.end();
    let all = u64::from(SENSORS) * OF_ONE + published;
    eventually(MINUTES, "everything is scored", || {
        let [behind, direct] =
            [&worker, &direct].map(|worker| worker.metric("windrow_worker_predictions_total"));
        (behind? + direct? >= all as f64).then_some(())
    });
    assert_eq!(cloud.stage.dead_letters().len(), 0);
    gateway.lose_its_way();
    stops(worker, &[0]);
    stops(direct, &[0]);
    let audit = cloud.audit();
    assert_eq!(audit["all"]["predicted"], u64::from(SENSORS) * OF_ONE, "{audit}");
    assert_eq!(audit["all"]["lost"], 0, "{audit}");
}

#[test]
fn no_operation_takes_the_404_of_a_gateway_for_the_service_s() {
    let (azurite, s3) = (Azurite::start(), S3Server::start());
    windrow(&TRAIN).envs(azurite.variables()).output();
    let gateways = [azurite.port(), s3.port()].map(Gateway::start);
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let variables = through(&gateways[0], &azurite);
    let of = |name: &str| {
        let (_, value) = variables.iter().find(|(other, _)| *other == name).unwrap();
        value.clone()
    };
    let in_azure = MicrosoftAzureBuilder::new()
        .with_container_name("windrow")
        .with_account(of("AZURE_STORAGE_ACCOUNT_NAME"))
        .with_access_key(of("AZURE_STORAGE_ACCOUNT_KEY"))
        .with_endpoint(of("AZURE_STORAGE_ENDPOINT"))
        .with_allow_http(true)
        .with_retry(retry.clone())
        .build()
        .unwrap();
    let in_s3 = AmazonS3Builder::new()
        .with_bucket_name(s3.create_bucket("windrow"))
        .with_endpoint(format!("http://127.0.0.1:{}", gateways[1].port()))
        .with_allow_http(true)
        .with_region("eu-central-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_retry(retry)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (store, gateway) in [
        (Store::from_objects(Arc::new(in_azure), "azure"), &gateways[0]),
        (Store::from_objects(Arc::new(in_s3), "s3"), &gateways[1]),
    ] {
        runtime.block_on(waits_for_a_lost_gateway(&store, gateway));
    }
}

async fn waits_for_a_lost_gateway(store: &Store, gateway: &Gateway) {
    let url = store.url();
    let first = store.put_if("there", "1", None).await.unwrap();
    // What the service itself says of a blob that is not there.
    assert_eq!(store.get("absent").await.unwrap(), None, "{url}");
    store.delete("absent").await.unwrap();
    let unseen = store.put_if("absent", "1", Some(&first)).await;
    assert!(
        matches!(unseen, Err(StoreError::Conflict { .. })),
        "{url}: {unseen:?}"
    );

    gateway.lose_its_way();
    let lost: [(&str, Result<(), StoreError>); 9] = [
        ("get", store.get("there").await.map(|_| ())),
        ("get absent", store.get("absent").await.map(|_| ())),
        ("put", store.put("there", "2").await),
        ("create", store.put_if("new", "1", None).await.map(|_| ())),
        (
            "replace",
            store.put_if("there", "2", Some(&first)).await.map(|_| ()),
        ),
        ("delete", store.delete("there").await),
        ("list", store.list("").await.map(|_| ())),
        ("folders", store.folders("models").await.map(|_| ())),
        ("any", store.any("models").await.map(|_| ())),
    ];
    for (operation, lost) in lost {
        let error = lost.expect_err(operation);
        assert!(
            matches!(error, StoreError::NotOfService { .. }),
            "{url} {operation}: {error}"
        );
        assert_eq!(error.remedy(), Remedy::Wait, "{url} {operation}: {error}");
        assert!(!error.is_of_one_blob(), "{url} {operation}: {error}");
    }
    assert!(store.outage().is_some_and(|why| why.contains(SAYS)), "{url}");
    assert!(gateway.refused() >= 9);

    gateway.find_its_way();
    store.put_if("there", "2", Some(&first)).await.unwrap();
    assert_eq!(store.get("there").await.unwrap().unwrap(), "2", "{url}");
    assert_eq!(store.outage(), None, "{url}");
}
