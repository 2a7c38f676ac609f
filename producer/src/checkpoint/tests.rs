//! Tests of the promises of checkpoints.

use super::*;
use crate::window::WindowConfig;
use windrow_common::{HasRemedy, Remedy};

const HUB: &str = "eventhubs://fleet.example/readings";

fn position(resume: u64) -> Position {
    Position {
        dispatched_through: EventTime::from_millis(60_000),
        partitions: vec![PartitionPosition {
            resume: Offset(resume),
            judged: Offset(resume + 5),
            set_aside: "7-9 12.1".to_owned().try_into().unwrap(),
        }],
    }
}

#[tokio::test]
async fn a_saved_position_comes_back_and_an_old_owner_cannot_move_it() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let names = ["a".to_owned()];
    let mut first = Checkpoint::open(&store, "s", &Group::Whole, windowing)
        .await
        .unwrap();
    assert_eq!(first.position(&names).dispatched_through, EventTime::MIN);
    first.save(&names, &position(1)).await.unwrap();
    let mut second = Checkpoint::open(&store, "s", &Group::Whole, windowing)
        .await
        .unwrap();
    assert_eq!(second.position(&names), position(1));
    second.save(&names, &position(2)).await.unwrap();
    let error = first.save(&names, &position(3)).await.unwrap_err();
    assert!(matches!(error, CheckpointError::TakenOver { .. }));
    let third = Checkpoint::open(&store, "s", &Group::Whole, windowing)
        .await
        .unwrap();
    assert_eq!(third.position(&names), position(2));
}

#[tokio::test]
async fn other_windows_and_damage_are_refused_with_what_to_do() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    Checkpoint::open(&store, "s", &Group::Whole, windowing)
        .await
        .unwrap()
        .save(&[], &position(1))
        .await
        .unwrap();
    let other = WindowConfig {
        window: std::time::Duration::from_secs(5),
        ..WindowConfig::default()
    };
    let error = Checkpoint::open(&store, "s", &Group::Whole, other.validate().unwrap())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("windows of 1m and intervals of 1m; this run has windows of 5s"),
        "{error}"
    );
    store.put("checkpoints/s/all.json", "{").await.unwrap();
    let error = Checkpoint::open(&store, "s", &Group::Whole, windowing)
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
        hub: HUB.to_owned(),
        start: Some(Offset(40)),
        oldest: Offset(0),
    };
    let names = ["3".to_owned()];
    let mut stale = Checkpoint::open(&store, "s", &group, windowing).await.unwrap();
    assert_eq!(
        stale.partition("3").resume,
        Offset(40),
        "it begins at the given start"
    );
    stale.save(&names, &position(50)).await.unwrap();
    let mut owner = Checkpoint::open(&store, "s", &group, windowing).await.unwrap();
    assert_eq!(owner.position(&names), position(50));
    let error = stale.save(&names, &position(60)).await.unwrap_err();
    assert!(matches!(error, CheckpointError::TakenOver { .. }));
    owner.save(&names, &position(55)).await.unwrap();
    let resumes = Checkpoint::resumes(&store, "s", HUB).await.unwrap();
    let resumes: Vec<_> = resumes.iter().map(|it| (it.partition.as_str(), it.at)).collect();
    assert_eq!(resumes, [("3", Offset(55))]);
}

#[tokio::test]
async fn a_hub_of_the_same_name_is_refused() {
    let store = Store::create("memory:///").unwrap();
    let windowing = WindowConfig::default().validate().unwrap();
    let group = |hub: &str| Group::Partition {
        name: "3".to_owned(),
        hub: hub.to_owned(),
        start: None,
        oldest: Offset(0),
    };
    let open = async |hub: &str| Checkpoint::open(&store, "s", &group(hub), windowing).await;
    open(HUB).await.unwrap();
    open(HUB).await.unwrap();
    let other = "eventhubs://test.example/readings";
    for error in [
        open(other).await.unwrap_err(),
        Checkpoint::resumes(&store, "s", other).await.unwrap_err(),
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
        hub: HUB.to_owned(),
        start: None,
        oldest: Offset(900),
    };
    let names = ["3".to_owned()];
    let mut checkpoint = Checkpoint::open(&store, "s", &group, windowing).await.unwrap();
    assert_eq!(checkpoint.expired(&group), 0, "nothing was read yet");
    let nothing_read = checkpoint.position(&names);
    checkpoint.save(&names, &nothing_read).await.unwrap();
    assert_eq!(Checkpoint::resumes(&store, "s", HUB).await.unwrap(), []);
    checkpoint.save(&names, &position(850)).await.unwrap();
    let checkpoint = Checkpoint::open(&store, "s", &group, windowing).await.unwrap();
    assert_eq!(checkpoint.expired(&group), 50);
}
