//! Every kind of file and model decides as scikit-learn does, on 10,000 rows.

use windrow_model::{ImportError, ImportOptions, Imported, Model, import, import_with, is_anomaly};

use crate::fixtures::{Kind, VERSIONS, decide, held_out, kind_file, kinds};

const NEWEST: &str = VERSIONS[1];

fn imported(version: &str, kind: &Kind) -> Result<Imported, ImportError> {
    let scaler = kind.scaler.as_ref().map(|scaler| kind_file(version, scaler));
    let options = ImportOptions {
        features: Some(&kind.features()),
        scaler: scaler.as_deref(),
    };
    import_with(&kind_file(version, &kind.file), &options)
}

fn kind(name: &str) -> Kind {
    kinds(NEWEST).into_iter().find(|kind| kind.name == name).unwrap()
}

#[test]
fn every_kind_decides_as_scikit_learn_did() {
    println!("version  model                  support       bytes   of ours  largest difference of 10,000");
    let mut files = 0;
    for version in VERSIONS {
        for kind in kinds(version) {
            let model = imported(version, &kind)
                .unwrap_or_else(|error| panic!("{version} {}: {error}", kind.name))
                .model;
            assert_eq!(model.features().to_string(), kind.reads, "{}", kind.name);
            let decisions = decide(&model, &held_out(model.features()));
            let labels: Vec<bool> = decisions.iter().map(|decision| is_anomaly(*decision)).collect();
            let right = kind.anomalies();
            assert_eq!((labels.len(), right.len()), (10_000, 10_000));
            let unlike = labels
                .iter()
                .zip(&right)
                .filter(|(label, right)| label != right)
                .count();
            assert_eq!(unlike, 0, "{version} {}: labels that differ", kind.name);
            assert!(right.iter().any(|anomaly| *anomaly), "{}", kind.name);
            let mut largest = 0.0_f64;
            for (decision, right) in decisions.iter().step_by(100).zip(&kind.decisions) {
                let difference = (decision - right).abs() / right.abs().max(1.0);
                largest = largest.max(difference);
                assert!(
                    difference <= kind.close,
                    "{version} {}: {decision} is not {right}",
                    kind.name
                );
            }
            let bytes = model.to_bytes().unwrap();
            assert_eq!(Model::from_bytes(&bytes).unwrap(), model);
            println!(
                "{version:<8} {:<22} {:<20} {:>7} {:>7}  {largest:.1e}",
                kind.name,
                model.detector().name(),
                kind_file(version, &kind.file).len(),
                bytes.len()
            );
            files += 1;
        }
    }
    assert_eq!(files, 64);
}

#[test]
fn one_model_in_any_container_is_the_same_model() {
    let version = |name: &str| imported(NEWEST, &kind(name)).unwrap().model.version().unwrap();
    let plain = version("svm");
    for name in ["joblib-zlib", "joblib-gzip", "joblib-lz4", "pickle-gzip"] {
        assert_eq!(version(name), plain, "{name}");
    }
    assert_eq!(version("two-files"), version("dict"));
    assert_eq!(version("tuple"), version("dict"));
}

#[test]
fn what_is_ignored_or_guessed_is_told() {
    let notes = imported(NEWEST, &kind("dict")).unwrap().notes;
    assert_eq!(notes, ["ignored beside the model: trained, rows"]);
    let notes = imported(NEWEST, &kind("columns-in-order.pkl")).unwrap().notes;
    assert_eq!(
        notes,
        ["its columns value_max,value_mean,value_min,value_std are read as max,mean,min,std"]
    );
}

#[test]
fn files_of_other_kinds_are_named() {
    let features = || "mean,std,min,max".parse().unwrap();
    for (name, says) in [
        ("refused-bz2", "compressed with bz2"),
        ("refused-xz", "compressed with xz"),
        ("refused-lzma", "compressed with lzma"),
        ("scaler.joblib", "a MinMaxScaler without a detector"),
    ] {
        let error = import(&kind_file(NEWEST, name), features())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
    for (bytes, says) in [
        (&b""[..], "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"WNDM", "needs no import"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"PK\x03\x04", "ZIP directory"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x1f\x8b\x08\0", "decompressed as gzip"),
        (b"\x78\x9c\x00", "decompressed as zlib"),
        (b"\x04\x22\x4d\x18\x00", "decompressed as LZ4"),
    ] {
        let error = import(bytes, features()).unwrap_err().to_string();
        assert!(error.contains(says), "{}: {error}", bytes.escape_ascii());
    }
    let model = kind_file(NEWEST, "scaled.joblib");
    let options = ImportOptions {
        features: None,
        scaler: Some(&model),
    };
    assert_eq!(import_with(&model, &options), Err(ImportError::ScalerIsModel));
}
