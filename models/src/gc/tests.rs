use super::*;
use crate::tests::{model, repository};
use crate::{Pins, Promoted, PromotedBy, Release};

const ALL_BUT_LAST: Keep = Keep {
    last: 1,
    newer_than: Duration::ZERO,
};

/// Makes everything that is recorded of the sensor older than a second.
async fn age(repository: &ModelRepository, sensor: &SensorId) {
    let mut registry = repository.registry(sensor).await.unwrap();
    for promotion in &mut registry.history {
        promotion.at = promotion.at.saturating_sub(Duration::from_secs(10));
    }
    let path = format!("{}/registry.json", crate::folder(sensor));
    let bytes = serde_json::to_vec(&registry).unwrap();
    repository.store.put(&path, bytes).await.unwrap();
}

#[tokio::test]
async fn what_somebody_needs_is_kept_and_the_rest_is_deleted() {
    let (repository, store, sensor) = repository();
    let mut all = Vec::new();
    for intercept in 0..6_u32 {
        all.push(repository.put(&sensor, &model(intercept.into())).await.unwrap());
    }
    let waiting = repository
        .release(&sensor, &model(9.0), None, PromotedBy::Train, Release::Candidate)
        .await
        .unwrap()
        .version;
    let shadow = all[1].clone();
    repository
        .change_shadows(|shadows| shadows.insert(sensor.clone(), shadow.as_str().into()))
        .await
        .unwrap();
    let metadata = metadata_path(&sensor, &all[0]);
    store.put(&metadata, "{}").await.unwrap();
    age(&repository, &sensor).await;
    // Nothing is old enough yet.
    let day = Keep {
        newer_than: Duration::from_secs(86_400),
        ..ALL_BUT_LAST
    };
    let kept = repository.collect(day, false).await.unwrap();
    assert_eq!((kept.versions, kept.kept), (0, 7));
    // The files are older than the next millisecond.
    let stored = EventTime::now();
    while EventTime::now() <= stored {
        tokio::task::yield_now().await;
    }
    let counted = repository.collect(ALL_BUT_LAST, true).await.unwrap();
    assert_eq!(
        repository.versions(&sensor).await.unwrap().len(),
        7,
        "a dry run deletes nothing"
    );
    let collected = repository.collect(ALL_BUT_LAST, false).await.unwrap();
    assert_eq!(collected, counted);
    // The current one, the one before it, the shadow and the candidate.
    assert_eq!((collected.sensors, collected.versions, collected.kept), (1, 3, 4));
    assert!(collected.bytes > 3 * 50, "{collected:?}");
    let mut left = repository.versions(&sensor).await.unwrap();
    left.sort();
    let mut right = vec![all[1].clone(), all[4].clone(), all[5].clone(), waiting];
    right.sort();
    assert_eq!(left, right);
    assert_eq!(store.get(&metadata).await.unwrap(), None);
}

#[test]
fn versions_that_were_current_lately_are_kept_however_old_their_files_are() {
    let names: Vec<String> = (0..6).map(|at| format!("{at:016}")).collect();
    let mut registry = Registry::default();
    for at in 0..6 {
        registry.record(crate::Promotion {
            at: EventTime::from_millis(1_000 * at as i64),
            version: names[at].clone(),
            replaced: at.checked_sub(1).map(|at| names[at].clone()),
            by: PromotedBy::Train,
        });
    }
    let file = |version: &String| crate::fleet::File {
        version: version.clone(),
        bytes: 1,
        modified: EventTime::from_millis(-1_000_000),
    };
    let files = Files {
        models: names.iter().map(file).collect(),
        ..Files::default()
    };
    // The third one was replaced at 3 s, so a worker may have read its name until then.
    let chosen = |since| doomed(&files, &registry, None, 0, EventTime::from_millis(since)).versions;
    assert_eq!(chosen(3_000), names[..2]);
    assert_eq!(chosen(3_001), names[..3]);
    // The current one and the one that a rollback goes back to.
    assert_eq!(chosen(9_000_000), names[..4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_and_a_deletion_at_the_same_time_leave_a_model_that_scores() {
    let (mut promoted, mut refused) = (0, 0);
    for _ in 0..100 {
        // A folder, where each operation lets others run.
        let folder = tempfile::tempdir().unwrap();
        let store = windrow_store::Store::create(folder.path().to_str().unwrap()).unwrap();
        let (repository, sensor) = (ModelRepository::new(store), SensorId::new("d", "t").unwrap());
        let first = repository.put(&sensor, &model(0.0)).await.unwrap();
        for intercept in 1..4_u32 {
            repository.put(&sensor, &model(intercept.into())).await.unwrap();
        }
        let deleting = {
            let (repository, sensor, first) = (repository.clone(), sensor.clone(), first.clone());
            tokio::spawn(async move {
                let doomed = Doomed {
                    versions: vec![first],
                    metadata: Vec::new(),
                    bytes: 0,
                    kept: 0,
                };
                repository.delete(&sensor, &doomed).await.unwrap()
            })
        };
        match repository.promote(&sensor, &first, Pins::Respect).await {
            Ok(_) => promoted += 1,
            // It was deleted before.
            Err(crate::RepositoryError::Missing { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        deleting.await.unwrap();
        let current = repository.current(&sensor).await.unwrap().unwrap();
        repository.load(&sensor, &current).await.unwrap();
    }
    println!("{promoted} promoted, {refused} refused");
}

#[tokio::test]
async fn a_version_that_is_promoted_while_it_is_deleted_is_restored() {
    let (repository, _, sensor) = repository();
    let first = repository.put(&sensor, &model(0.0)).await.unwrap();
    for intercept in 1..6_u32 {
        repository.put(&sensor, &model(intercept.into())).await.unwrap();
    }
    // It was chosen, and then promoted by another command.
    let doomed = Doomed {
        versions: vec![first.clone()],
        metadata: Vec::new(),
        bytes: 0,
        kept: 0,
    };
    let promoted = repository.promote(&sensor, &first, Pins::Respect).await.unwrap();
    assert!(matches!(promoted, Promoted::Now { .. }));
    assert_eq!(repository.delete(&sensor, &doomed).await.unwrap(), 1);
    assert_eq!(repository.load(&sensor, &first).await.unwrap(), model(0.0));
}
