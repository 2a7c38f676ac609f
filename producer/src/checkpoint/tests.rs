//! Tests of the promises of checkpoints.

use super::*;
use crate::sensors::SensorIndex;
use crate::source::decode::ColumnMapping;
use crate::window::{Judged, WindowConfig};
use windrow_common::{HasRemedy, Remedy};

const HUB: &str = "eventhubs://fleet.example/readings";

fn opening(source: &str) -> Opening {
    Opening {
        source_name: "s".to_owned(),
        origin: Origin {
            source: source.to_owned(),
            columns: ColumnMapping::default(),
        },
        restart: false,
    }
}

fn position(resume: u64) -> Position {
    Position {
        dispatched_through: EventTime::from_millis(60_000),
        dispatched: Arc::default(),
        claimed: None,
        partitions: vec![PartitionPosition {
            resume: Offset(resume),
            judged: Offset(resume + 5),
            set_aside: "7-9 12.1".to_owned().try_into().unwrap(),
            claim: None,
            content: serde_json::from_str(r#"{"bytes":5,"head":"f0","tail":"ffffffffffffffff"}"#).unwrap(),
            counts: Judged {
                windowed: 40,
                quarantined: 2,
                is_partial: false,
            },
        }],
        ledger: Ledger {
            dispatched: [
                (EventTime::from_millis(0), 30),
                (EventTime::from_millis(86_400_000), 4),
            ]
            .into(),
            open: 6,
        },
    }
}

#[tokio::test]
async fn a_saved_position_comes_back_and_an_old_owner_cannot_move_it() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let names = ["a".to_owned()];
    let mut first = Checkpoint::open(&store, &opening(HUB), &Group::Whole, windowing)
        .await
        .unwrap();
    assert_eq!(first.position(&names).dispatched_through, EventTime::MIN);
    first.save(&names, &position(1)).await.unwrap();
    let mut second = Checkpoint::open(&store, &opening(HUB), &Group::Whole, windowing)
        .await
        .unwrap();
    assert_eq!(second.position(&names), position(1));
    second.save(&names, &position(2)).await.unwrap();
    let error = first.save(&names, &position(3)).await.unwrap_err();
    assert!(matches!(error, CheckpointError::TakenOver { .. }));
    let third = Checkpoint::open(&store, &opening(HUB), &Group::Whole, windowing)
        .await
        .unwrap();
    assert_eq!(third.position(&names), position(2));

    // The audit reads what is saved.
    let accounts = accounts(&store).await.unwrap();
    assert_eq!(accounts.len(), 1);
    let account = &accounts[0];
    assert_eq!(
        (account.source.as_str(), account.origin.source.as_str()),
        ("s", HUB)
    );
    assert_eq!(account.partitions["a"], position(2).partitions[0].counts);
    assert_eq!(account.ledger, position(2).ledger);
    assert!(account.quarantined_since.is_some() && !account.is_partial());

    // No window has a length of 0; dividing by it would end the audit.
    let path = &account.path;
    let text = store.get(path).await.unwrap().unwrap();
    let damaged = String::from_utf8(text.to_vec())
        .unwrap()
        .replace("\"interval_ms\":", "\"interval_ms\":0,\"was\":");
    store.put(path, damaged).await.unwrap();
    let error = super::accounts(&store).await.unwrap_err().to_string();
    assert!(error.contains("has no length"), "{error}");
}

#[tokio::test]
async fn other_windows_and_damage_are_refused_with_what_to_do() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    Checkpoint::open(&store, &opening(HUB), &Group::Whole, windowing)
        .await
        .unwrap()
        .save(&[], &position(1))
        .await
        .unwrap();
    let other = WindowConfig {
        window: std::time::Duration::from_secs(5),
        ..WindowConfig::default()
    };
    let error = Checkpoint::open(&store, &opening(HUB), &Group::Whole, other.validate().unwrap())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("windows of 1m and intervals of 1m; this run has windows of 5s"),
        "{error}"
    );
    store.put("checkpoints/s/all.json", "{").await.unwrap();
    let error = Checkpoint::open(&store, &opening(HUB), &Group::Whole, windowing)
        .await
        .unwrap_err();
    assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_partition_is_taken_over_by_opening_it() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let group = Group::Partition {
        name: "3".to_owned(),
        start: Some(Offset(40)),
        oldest: Offset(0),
    };
    let names = ["3".to_owned()];
    let mut stale = Checkpoint::open(&store, &opening(HUB), &group, windowing)
        .await
        .unwrap();
    assert_eq!(
        stale.partition("3").resume,
        Offset(40),
        "it begins at the given start"
    );
    stale.save(&names, &position(50)).await.unwrap();
    let mut owner = Checkpoint::open(&store, &opening(HUB), &group, windowing)
        .await
        .unwrap();
    assert_eq!(owner.position(&names), position(50));
    let error = stale.save(&names, &position(60)).await.unwrap_err();
    assert!(matches!(error, CheckpointError::TakenOver { .. }));
    owner.save(&names, &position(55)).await.unwrap();
    let resumes = Checkpoint::resumes(&store, &opening(HUB)).await.unwrap();
    let resumes: Vec<_> = resumes.iter().map(|it| (it.partition.as_str(), it.at)).collect();
    assert_eq!(resumes, [("3", Offset(55))]);
}

#[tokio::test]
async fn a_hub_of_the_same_name_is_refused() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let group = Group::Partition {
        name: "3".to_owned(),
        start: Some(Offset(40)),
        oldest: Offset(0),
    };
    let open = async |hub: &str| Checkpoint::open(&store, &opening(hub), &group, windowing).await;
    open(HUB).await.unwrap();
    open(HUB).await.unwrap();
    let other = "eventhubs://test.example/readings";
    for error in [
        open(other).await.unwrap_err(),
        Checkpoint::resumes(&store, &opening(other)).await.unwrap_err(),
    ] {
        assert!(error.remedy() == Remedy::FixConfig);
        let text = error.to_string();
        assert!(text.contains(HUB) && text.contains(other), "{text}");
    }
}

#[tokio::test]
async fn a_beginning_that_nothing_was_read_from_stays_the_beginning() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let group = Group::Partition {
        name: "3".to_owned(),
        start: None,
        oldest: Offset(900),
    };
    let names = ["3".to_owned()];
    let mut checkpoint = Checkpoint::open(&store, &opening(HUB), &group, windowing)
        .await
        .unwrap();
    assert_eq!(checkpoint.expired(&group), 0, "nothing was read yet");
    let nothing_read = checkpoint.position(&names);
    checkpoint.save(&names, &nothing_read).await.unwrap();
    assert_eq!(Checkpoint::resumes(&store, &opening(HUB)).await.unwrap(), []);
    checkpoint.save(&names, &position(850)).await.unwrap();
    let checkpoint = Checkpoint::open(&store, &opening(HUB), &group, windowing)
        .await
        .unwrap();
    assert_eq!(checkpoint.expired(&group), 50);
}

#[tokio::test]
async fn a_checkpoint_belongs_to_the_source_and_the_columns_that_it_was_read_with() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let open = async |opening: &Opening| Checkpoint::open(&store, opening, &Group::Whole, windowing).await;
    let plant_a = opening("/plantA/readings");
    let mut other_columns = plant_a.clone();
    other_columns.origin.columns.timestamp = Some("stamp".to_owned());

    // A run that read nothing binds nothing: the next one may have the right options.
    open(&plant_a)
        .await
        .unwrap()
        .save(&[], &position(1))
        .await
        .unwrap();
    open(&other_columns).await.unwrap();

    let names = ["a".to_owned()];
    let mut checkpoint = open(&plant_a).await.unwrap();
    checkpoint.save(&names, &position(1)).await.unwrap();
    let plant_b = opening("/plantB/readings");
    for (opening, expected) in [
        (
            &plant_b,
            "reads /plantA/readings; this one reads /plantB/readings",
        ),
        (
            &other_columns,
            "no column options; this run has --column-time stamp",
        ),
    ] {
        let error = open(opening).await.unwrap_err();
        assert!(error.remedy() == Remedy::FixConfig);
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("--restart"), "{text}");
    }
    let restarted = Opening {
        restart: true,
        ..plant_b
    };
    let mut restarted = open(&restarted).await.unwrap();
    assert_eq!(restarted.position(&names), Position::start(1));
    restarted.save(&names, &position(2)).await.unwrap();
    assert_eq!(
        open(&opening("/plantB/readings")).await.unwrap().position(&names),
        position(2)
    );
}

#[tokio::test]
async fn a_checkpoint_of_an_older_version_belongs_to_any_source_and_all_sensors() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let old = r#"{"window_ms":60000,"interval_ms":60000,"dispatched_through":"1970-01-01T00:01:00Z",
        "partitions":{"a":{"resume":1,"judged":6}},"owner":"1-a"}"#;
    store.put("checkpoints/s/all.json", old).await.unwrap();
    let opening = opening("/readings");
    for _ in 0..2 {
        let checkpoint = Checkpoint::open(&store, &opening, &Group::Whole, windowing);
        let mut checkpoint = checkpoint.await.unwrap();
        assert_eq!(checkpoint.partition("a").judged, Offset(6));
        assert!(checkpoint.partition("a").counts.is_partial, "it did not count");
        let position = checkpoint.position(&["a".to_owned()]);
        let end = position.dispatched.through(SensorIndex(7));
        assert_eq!(end, EventTime::from_millis(60_000));
        // It stays so once this version has saved it.
        checkpoint.save(&["a".to_owned()], &position).await.unwrap();
    }
}

#[tokio::test]
async fn a_checkpoint_knows_how_far_each_sensor_is_dispatched() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let opening = opening("/readings");
    let open = async || {
        Checkpoint::open(&store, &opening, &Group::Whole, windowing)
            .await
            .unwrap()
    };
    let minute = |minute: i64| EventTime::from_millis(minute * 60_000);
    let sensor = |device, tag| SensorId::new(device, tag).unwrap();
    // Nothing is dispatched of the second one.
    let ends = [minute(2), EventTime::MIN, minute(1), minute(2)];
    let mut saved = position(1);
    saved.dispatched = Arc::new(DispatchedThrough::new(ends.to_vec(), EventTime::MIN));
    let mut checkpoint = open().await;
    checkpoint.add_sensors(vec![
        sensor("b", "1"),
        sensor("b", "2"),
        sensor("a", "1"),
        sensor("a", "ä b"),
    ]);
    checkpoint.save(&["a".to_owned()], &saved).await.unwrap();

    let check = |checkpoint: &Checkpoint| {
        let mut sensors = checkpoint.sensors().unwrap();
        let dispatched = checkpoint.position(&[]).dispatched;
        let through = [("b", "1"), ("b", "2"), ("a", "1"), ("a", "ä b"), ("c", "1")]
            .map(|(device, tag)| dispatched.through(sensors.intern(device, tag).unwrap()));
        assert_eq!(
            through,
            [minute(2), EventTime::MIN, minute(1), minute(2), EventTime::MIN]
        );
    };
    let mut checkpoint = open().await;
    check(&checkpoint);
    // The next run numbers the sensors in its own order.
    let again = checkpoint.position(&["a".to_owned()]);
    checkpoint.save(&["a".to_owned()], &again).await.unwrap();
    check(&open().await);
}
