use super::*;
use windrow_common::{HasRemedy, Remedy};
use windrow_model::{Kernel, OneClassSvm};

pub(crate) fn model(intercept: f64) -> Model {
    let svm = OneClassSvm::new(1, vec![1.0], vec![1.0], intercept, Kernel::Rbf { gamma: 1.0 }).unwrap();
    Model::new("mean".parse().unwrap(), None, svm, "test").unwrap()
}

pub(crate) fn repository() -> (ModelRepository, Store, SensorId) {
    let store = Store::create("memory:///").unwrap();
    (
        ModelRepository::new(store.clone()),
        store,
        SensorId::new("pump-7/a", "temp").unwrap(),
    )
}

#[tokio::test]
async fn the_last_model_put_is_current_and_all_stay_readable() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path().to_str().unwrap()).unwrap();
    let (repository, sensor) = (
        ModelRepository::new(store),
        SensorId::new("pump-7/a", "temp").unwrap(),
    );
    assert_eq!(repository.current(&sensor).await.unwrap(), None);
    let first = repository.put(&sensor, &model(-0.5)).await.unwrap();
    let second = repository.put(&sensor, &model(-0.25)).await.unwrap();
    assert_eq!(repository.current(&sensor).await.unwrap(), Some(second.clone()));
    assert_eq!(repository.load(&sensor, &first).await.unwrap(), model(-0.5));
    assert_eq!(repository.load(&sensor, &second).await.unwrap(), model(-0.25));
    let mut versions = repository.versions(&sensor).await.unwrap();
    versions.sort();
    let mut both = [first, second];
    both.sort();
    assert_eq!(versions, both);
    let current = folder.path().join("models/pump-7%2Fa/temp/current");
    assert_eq!(std::fs::read_to_string(current).unwrap().len(), 17);
}

#[tokio::test]
async fn any_accepted_name_has_models_in_a_folder_and_is_listed_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(folder.path().to_str().unwrap()).unwrap();
    let repository = ModelRepository::new(store.clone());
    // Names that encode to 270 and 384 bytes, and differ in their last character only.
    let long = "泵".repeat(29);
    let names = [
        format!("{long}一"),
        format!("{long}二"),
        "%".repeat(128),
        "p".repeat(128),
    ];
    let mut all = Vec::new();
    for (device, tag) in names
        .iter()
        .flat_map(|device| names.iter().map(move |tag| (device, tag)))
    {
        let sensor = SensorId::new(device, tag).unwrap();
        let first = repository.put(&sensor, &model(-0.5)).await.unwrap();
        let second = repository.put(&sensor, &model(-0.25)).await.unwrap();
        assert_eq!(repository.current(&sensor).await.unwrap(), Some(second.clone()));
        assert_eq!(repository.load(&sensor, &first).await.unwrap(), model(-0.5));
        assert_eq!(repository.versions(&sensor).await.unwrap().len(), 2);
        all.extend([(sensor.clone(), first, false), (sensor, second, true)]);
    }
    all.sort();
    let listed = repository.list().await.unwrap().into_iter();
    let mut listed: Vec<_> = listed
        .map(|entry| (entry.sensor, entry.version, entry.current))
        .collect();
    listed.sort();
    assert_eq!(listed, all);

    let sensor = SensorId::new(&names[0], "t").unwrap();
    repository.put(&sensor, &model(-0.5)).await.unwrap();
    let name = name_path(&super::folder(&sensor));
    store.put(&name, "a/b\n").await.unwrap();
    let error = repository.list().await.unwrap_err().to_string();
    assert!(
        error.contains(&name) && error.contains("train its model again"),
        "{error}"
    );
    repository.put(&sensor, &model(-0.5)).await.unwrap();
    assert_eq!(repository.list().await.unwrap().len(), listed.len() + 1);
}

#[tokio::test]
async fn putting_a_model_twice_is_putting_it_once() {
    let (repository, store, sensor) = repository();
    let first = repository.put(&sensor, &model(-0.5)).await.unwrap();
    let before = store.list("models").await.unwrap();
    let again = repository.put(&sensor, &model(-0.5)).await.unwrap();
    let after = store.list("models").await.unwrap();
    assert_eq!(first, again);
    let stamps = |blobs: &[windrow_store::Blob]| -> Vec<_> {
        blobs
            .iter()
            .map(|blob| (blob.path.clone(), blob.modified))
            .collect()
    };
    assert_eq!(stamps(&before), stamps(&after));
}

#[tokio::test]
async fn the_list_names_every_sensor_and_its_current_version() {
    let (repository, store, sensor) = repository();
    let other = SensorId::new("a", "b").unwrap();
    let first = repository.put(&sensor, &model(-0.5)).await.unwrap();
    let second = repository.put(&sensor, &model(-0.25)).await.unwrap();
    let third = repository.put(&other, &model(-0.125)).await.unwrap();
    store.put("models/README.txt", "not a model").await.unwrap();
    let listed = repository.list().await.unwrap();
    let mut listed: Vec<_> = listed
        .into_iter()
        .map(|entry| (entry.sensor, entry.version, entry.current))
        .collect();
    listed.sort();
    let mut expected = vec![
        (sensor.clone(), first, false),
        (sensor, second, true),
        (other, third, true),
    ];
    expected.sort();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn missing_and_damaged_models_name_the_file() {
    let (repository, store, sensor) = repository();
    let version = repository.put(&sensor, &model(-0.5)).await.unwrap();
    for absent in ["0123456789abcdef", "../../secrets", ""] {
        let error = repository.load(&sensor, absent).await.unwrap_err();
        assert!(matches!(error, RepositoryError::Missing { .. }), "{error}");
    }
    let path = model_path(&sensor, &version);
    store.put(&path, "WNDM?").await.unwrap();
    let error = repository.load(&sensor, &version).await.unwrap_err();
    assert!(
        error.remedy() != Remedy::Wait && error.to_string().contains(&path),
        "{error}"
    );
    store.put(&path, model(-0.75).to_bytes().unwrap()).await.unwrap();
    let error = repository.load(&sensor, &version).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Misnamed { .. }), "{error}");
    store.put(&current_path(&sensor), "latest").await.unwrap();
    let error = repository.current(&sensor).await.unwrap_err();
    assert!(
        error.to_string().contains("models/pump-7%2Fa/temp/current"),
        "{error}"
    );

    repository.put(&sensor, &model(-0.5)).await.unwrap();
    assert_eq!(repository.load(&sensor, &version).await.unwrap(), model(-0.5));
    assert_eq!(repository.current(&sensor).await.unwrap(), Some(version));
}
