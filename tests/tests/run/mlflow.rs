//! Model directories as MLflow writes them (tests/fixtures/make_mlflow.py).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use windrow_common::{Aggregate, EventTime, SensorId};
use windrow_model::Scratch;
use windrow_models::{ModelRepository, sha256_of};
use windrow_store::Store;
use windrow_tests::windrow;

use super::text;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mlflow");

fn import(store: &Path, files: &[PathBuf]) -> (i32, Value, String) {
    let words = [
        "models",
        "import",
        "--features",
        "mean,std,min,max",
        "--output",
        "json",
    ];
    let files = files.iter().map(|file| text(file));
    let words: Vec<&str> = words
        .into_iter()
        .chain(["--store", text(store)])
        .chain(files)
        .collect();
    let (code, output, error) = windrow(&words).end();
    (code, serde_json::from_str(&output).unwrap_or_default(), error)
}

#[test]
fn model_directories_are_imported_by_their_own_names_and_decide_as_scikit_learn_does() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("store");
    let at = |name: &str| Path::new(FIXTURES).join(name);
    let files = [
        at("model_pickle_temp"),
        at("model_cloudpickle_temp"),
        at("model_skops_temp"),
        // A shell's pattern may name the description itself.
        at("model_onnx_temp/MLmodel"),
    ];
    let (code, imported, error) = import(&url, &files);
    assert_eq!(code, 0, "{error}");
    assert_eq!(imported["imported"].as_array().unwrap().len(), 4);
    let expected = fs::read_to_string(at("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let numbers = |list: &Value| -> Vec<f64> {
        let list = list.as_array().unwrap().iter();
        list.map(|number| number.as_f64().unwrap()).collect()
    };
    let rows: Vec<Vec<f64>> = expected["rows"].as_array().unwrap().iter().map(numbers).collect();
    let aggregates = rows.iter().map(|row| Aggregate {
        window_start: EventTime::from_millis(0),
        count: 1,
        mean: row[0],
        std: row[1],
        min: row[2],
        max: row[3],
        first: 0.0,
        last: 0.0,
    });
    let aggregates: Vec<Aggregate> = aggregates.collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (form, file, tolerance) in [
        ("pickle", "model.pkl", 1e-12),
        ("cloudpickle", "model.pkl", 1e-12),
        ("skops", "model.skops", 1e-12),
        ("onnx", "model.onnx", 1e-5),
    ] {
        let sensor = SensorId::new(form, "temp").unwrap();
        let (model, metadata) = runtime.block_on(async {
            let repository = ModelRepository::new(Store::create(text(&url)).unwrap());
            let version = repository.current(&sensor).await.unwrap().unwrap();
            let metadata = repository.metadata(&sensor, &version).await.unwrap();
            (
                repository.load(&sensor, &version).await.unwrap(),
                metadata.unwrap(),
            )
        });
        let mut decisions = Vec::new();
        model
            .decide(&aggregates, &mut Scratch::default(), &mut decisions)
            .unwrap();
        for (decision, right) in decisions.iter().zip(numbers(&expected["decisions"])) {
            let off = (decision - right).abs() / right.abs();
            assert!(off < tolerance, "{form}: {decision} is not {right}");
        }
        let source = at(&format!("model_{form}_temp")).join(file);
        assert_eq!(metadata.files.len(), 1);
        assert_eq!(metadata.files[0].path, text(&source));
        assert_eq!(metadata.files[0].sha256, sha256_of(&fs::read(source).unwrap()));
    }
}

#[test]
fn a_directory_that_is_none_of_these_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let directory = |name: &str, description: Option<&str>| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        if let Some(description) = description {
            fs::write(path.join("MLmodel"), description).unwrap();
        }
        path
    };
    let files = [
        directory("model_a_t", None),
        directory("model_b_t", Some("flavors:\n  pytorch:\n    model_data: data\n")),
        directory(
            "model_c_t",
            Some("flavors:\n  sklearn:\n    pickled_model: ../../secret.pkl\n"),
        ),
        directory(
            "model_d_t",
            Some("flavors:\n  sklearn:\n    pickled_model: model.pkl\n"),
        ),
    ];
    let (code, imported, error) = import(&folder.path().join("store"), &files);
    assert_eq!((code, &imported["imported"]), (1, &Value::Array(Vec::new())));
    for says in [
        "model_a_t: it is a folder: name the files in it",
        "model_b_t: cannot read",
        "it has neither the flavor sklearn nor onnx",
        "it names the file ../../secret.pkl, which is not in its folder",
        "model_d_t/model.pkl: No such file",
    ] {
        assert!(error.contains(says), "{says}: {error}");
    }
}
