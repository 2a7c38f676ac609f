use super::*;
use crate::tests::{model, repository};

fn recorded(registry: &Registry) -> Vec<(&str, Option<&str>, PromotedBy)> {
    let history = registry.history.iter();
    history
        .map(|one| (&*one.version, one.replaced.as_deref(), one.by))
        .collect()
}

async fn candidate(repository: &ModelRepository, sensor: &SensorId, intercept: f64) -> String {
    let released = repository
        .release(
            sensor,
            &model(intercept),
            None,
            PromotedBy::Train,
            Release::Candidate,
        )
        .await
        .unwrap();
    assert_eq!(released.promoted, None);
    released.version
}

#[tokio::test]
async fn a_candidate_is_promoted_and_rolled_back() {
    let (repository, _, sensor) = repository();
    let first = repository.put(&sensor, &model(0.5)).await.unwrap();
    let second = candidate(&repository, &sensor, 0.25).await;
    assert_eq!(
        repository.current(&sensor).await.unwrap().as_deref(),
        Some(&*first)
    );
    let registry = repository.registry(&sensor).await.unwrap();
    assert_eq!(registry.candidate.as_deref(), Some(&*second));

    let promoted = repository.promote(&sensor, &second, Pins::Respect).await.unwrap();
    assert_eq!(
        promoted,
        Promoted::Now {
            replaced: Some(first.clone())
        }
    );
    let again = repository.promote(&sensor, &second, Pins::Respect).await.unwrap();
    assert_eq!(again, Promoted::Already);
    let back = repository.roll_back(&sensor, Back::Previous, Pins::Respect).await;
    let right = RolledBack::To {
        version: first.clone(),
        replaced: second.clone(),
    };
    assert_eq!(back.unwrap(), right);
    assert_eq!(
        repository.current(&sensor).await.unwrap().as_deref(),
        Some(&*first)
    );
    let registry = repository.registry(&sensor).await.unwrap();
    assert_eq!(registry.candidate, None);
    assert_eq!(
        recorded(&registry),
        [
            (&*first, None, PromotedBy::Put),
            (&*second, Some(&*first), PromotedBy::Promote),
            (&*first, Some(&*second), PromotedBy::Rollback),
        ]
    );
    let back = repository.roll_back(&sensor, Back::Previous, Pins::Respect).await;
    assert_eq!(back.unwrap(), RolledBack::Nothing);

    let absent = repository
        .promote(&sensor, "0123456789abcdef", Pins::Respect)
        .await;
    assert!(matches!(absent, Err(RepositoryError::Missing { .. })));
}

#[tokio::test]
async fn a_rollback_to_a_time_undoes_all_that_came_after_it() {
    let (repository, store, sensor) = repository();
    let mut all = Vec::new();
    for intercept in [0.1, 0.2, 0.3] {
        all.push(repository.put(&sensor, &model(intercept)).await.unwrap());
    }
    // The second and the third were promoted today, the first one last year.
    let mut registry = repository.registry(&sensor).await.unwrap();
    registry.history[0].at = "2025-01-01T00:00:00Z".parse().unwrap();
    let bytes = serde_json::to_vec(&registry).unwrap();
    store.put(&registry_path(&sensor), bytes).await.unwrap();
    let since = |time: &str| Back::Before(time.parse().unwrap());
    let back = |back| repository.roll_back(&sensor, back, Pins::Respect);
    assert_eq!(
        back(since("2099-01-01T00:00:00Z")).await.unwrap(),
        RolledBack::Nothing
    );
    assert_eq!(
        back(since("2024-01-01T00:00:00Z")).await.unwrap(),
        RolledBack::Nothing
    );
    let to = back(since("2026-01-01T00:00:00Z")).await.unwrap();
    let right = RolledBack::To {
        version: all[0].clone(),
        replaced: all[2].clone(),
    };
    assert_eq!(to, right);
}

#[tokio::test]
async fn a_pinned_sensor_keeps_its_version_and_new_models_wait() {
    let (repository, _, sensor) = repository();
    assert_eq!(repository.pin(&sensor).await.unwrap(), None);
    let first = repository.put(&sensor, &model(0.1)).await.unwrap();
    let second = repository.put(&sensor, &model(0.2)).await.unwrap();
    assert_eq!(repository.pin(&sensor).await.unwrap(), Some(second.clone()));
    let error = repository.put(&sensor, &model(0.3)).await.unwrap_err();
    assert!(error.to_string().contains("pump-7%2Fa/temp is pinned"), "{error}");
    let third = repository
        .registry(&sensor)
        .await
        .unwrap()
        .candidate
        .expect("what was refused waits");
    assert_eq!(repository.load(&sensor, &third).await.unwrap(), model(0.3));
    let promoted = repository.promote(&sensor, &first, Pins::Respect).await.unwrap();
    assert_eq!(promoted, Promoted::Pinned);
    let back = repository.roll_back(&sensor, Back::Previous, Pins::Respect).await;
    assert_eq!(back.unwrap(), RolledBack::Pinned);
    assert_eq!(repository.current(&sensor).await.unwrap(), Some(second.clone()));

    let forced = repository.promote(&sensor, &third, Pins::Override).await.unwrap();
    let right = Promoted::Now {
        replaced: Some(second),
    };
    assert_eq!(forced, right);
    assert!(
        repository.registry(&sensor).await.unwrap().pinned.is_some(),
        "to the new version"
    );
    assert!(repository.unpin(&sensor).await.unwrap());
    assert!(!repository.unpin(&sensor).await.unwrap());
    repository.put(&sensor, &model(0.4)).await.unwrap();
}

#[tokio::test]
async fn a_promotion_that_was_not_recorded_is_recorded_by_the_next_command() {
    let (repository, store, sensor) = repository();
    let first = repository.put(&sensor, &model(0.1)).await.unwrap();
    let second = candidate(&repository, &sensor, 0.2).await;
    // The command was killed between its two writes.
    let (path, line) = (current_path(&sensor), format!("{second}\n"));
    let crash = || store.put(&path, line.clone());
    crash().await.unwrap();
    let again = repository.promote(&sensor, &second, Pins::Respect).await.unwrap();
    assert_eq!(again, Promoted::Already);
    let registry = repository.registry(&sensor).await.unwrap();
    let right = [
        (&*first, None, PromotedBy::Put),
        (&*second, Some(&*first), PromotedBy::Unrecorded),
    ];
    assert_eq!(recorded(&registry), right);
    assert_eq!(registry.candidate, None);

    // And if the next command is a rollback, it goes back from what was not recorded.
    repository.put(&sensor, &model(0.1)).await.unwrap();
    crash().await.unwrap();
    let back = repository.roll_back(&sensor, Back::Previous, Pins::Respect).await;
    let right = RolledBack::To {
        version: first.clone(),
        replaced: second,
    };
    assert_eq!(back.unwrap(), right);
}

#[tokio::test]
async fn models_of_a_store_without_records_are_promoted_and_rolled_back() {
    let (repository, store, sensor) = repository();
    let first = repository.put(&sensor, &model(0.1)).await.unwrap();
    store.delete(&registry_path(&sensor)).await.unwrap();
    let second = repository.put(&sensor, &model(0.2)).await.unwrap();
    let back = repository.roll_back(&sensor, Back::Previous, Pins::Respect).await;
    let right = RolledBack::To {
        version: first,
        replaced: second,
    };
    assert_eq!(back.unwrap(), right);

    store.put(&registry_path(&sensor), "{").await.unwrap();
    let error = repository.put(&sensor, &model(0.3)).await.unwrap_err();
    let named = error.to_string().contains("models/pump-7%2Fa/temp/registry.json");
    assert!(named && error.is_of_one_model(), "{error}");
}

#[tokio::test]
async fn a_promotion_that_was_decided_on_what_is_no_longer_current_is_decided_again() {
    let (repository, _, sensor) = repository();
    repository.put(&sensor, &model(0.1)).await.unwrap();
    let second = candidate(&repository, &sensor, 0.2).await;
    let third = candidate(&repository, &sensor, 0.3).await;
    let stale = || repository.state(&sensor);
    let (before, pinned_later) = (stale().await.unwrap(), stale().await.unwrap());
    repository.promote(&sensor, &second, Pins::Respect).await.unwrap();
    let promoted = repository
        .replace(&sensor, &third, PromotedBy::Promote, Pins::Respect, before)
        .await
        .unwrap();
    let right = Promoted::Now {
        replaced: Some(second.clone()),
    };
    assert_eq!(
        promoted, right,
        "not the first one, which another command has replaced"
    );
    // A rollback is refused: it would go back from a version that it has not seen.
    let (stale, back) = (repository.state(&sensor).await.unwrap(), Back::Previous);
    let fourth = candidate(&repository, &sensor, 0.4).await;
    repository.promote(&sensor, &fourth, Pins::Respect).await.unwrap();
    let refused = repository
        .roll_back_from(&sensor, back, Pins::Respect, stale)
        .await;
    assert!(
        matches!(refused, Err(RepositoryError::Changed { .. })),
        "{refused:?}"
    );
    assert_eq!(repository.current(&sensor).await.unwrap(), Some(fourth.clone()));
    // And whether it may be promoted at all is decided again too.
    repository.pin(&sensor).await.unwrap();
    let promoted = repository
        .replace(&sensor, &second, PromotedBy::Promote, Pins::Respect, pinned_later)
        .await
        .unwrap();
    assert_eq!(promoted, Promoted::Pinned);
    assert_eq!(repository.current(&sensor).await.unwrap(), Some(fourth));
}

#[tokio::test(flavor = "multi_thread")]
async fn promotions_at_the_same_time_replace_each_other_and_are_all_recorded() {
    let folder = tempfile::tempdir().unwrap();
    for url in [folder.path().to_str().unwrap(), "memory:///"] {
        let store = windrow_store::Store::create(url).unwrap();
        let repository = ModelRepository::new(store);
        let sensor = SensorId::new("d", "t").unwrap();
        let first = repository.put(&sensor, &model(0.5)).await.unwrap();
        let mut versions = Vec::new();
        for nth in 0..8_u32 {
            versions.push(candidate(&repository, &sensor, f64::from(nth)).await);
        }
        let all_at_once = std::sync::Arc::new(tokio::sync::Barrier::new(versions.len()));
        let tasks = versions.into_iter().map(|version| {
            let (repository, sensor) = (repository.clone(), sensor.clone());
            let all_at_once = std::sync::Arc::clone(&all_at_once);
            tokio::spawn(async move {
                all_at_once.wait().await;
                let promoted = repository
                    .promote(&sensor, &version, Pins::Respect)
                    .await
                    .unwrap();
                let Promoted::Now {
                    replaced: Some(replaced),
                } = promoted
                else {
                    panic!("{promoted:?}");
                };
                (version, replaced)
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut said = Vec::new();
        for task in tasks {
            said.push(task.await.unwrap());
        }
        let registry = repository.registry(&sensor).await.unwrap();
        let history = recorded(&registry);
        assert_eq!(history.len(), 9, "{history:?}");
        let current = repository.current(&sensor).await.unwrap();
        assert_eq!(current.as_deref(), Some(history[8].0));
        assert_eq!(history[0].0, first);
        for (at, (version, replaced, by)) in history.iter().enumerate().skip(1) {
            assert_eq!((*replaced, *by), (Some(history[at - 1].0), PromotedBy::Promote));
            let told = (
                (*version).to_owned(),
                replaced.map(str::to_owned).unwrap_or_default(),
            );
            assert!(said.contains(&told), "each command says what it replaced");
        }
    }
}
