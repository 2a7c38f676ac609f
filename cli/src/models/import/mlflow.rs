//! Model directories of MLflow: a folder with a file `MLmodel` that tells where the model is.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// The file that makes a folder a model directory.
const DESCRIPTION: &str = "MLmodel";

/// Longest description that is read, in bytes. MLflow writes a few kilobytes, more with a long signature.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Description {
    flavors: Flavors,
}

#[derive(Deserialize)]
struct Flavors {
    sklearn: Option<Sklearn>,
    onnx: Option<Onnx>,
}

#[derive(Deserialize)]
struct Sklearn {
    pickled_model: Option<String>,
}

#[derive(Deserialize)]
struct Onnx {
    data: Option<String>,
}

/// Returns the model directory that `path` is, or whose description it is.
pub(super) fn directory(path: &Path) -> Option<&Path> {
    if path.file_name().is_some_and(|name| name == DESCRIPTION) {
        return path.parent().filter(|parent| parent.file_name().is_some());
    }
    path.join(DESCRIPTION).is_file().then_some(path)
}

/// Returns the file of the model in a model directory.
pub(super) fn model_in(directory: &Path) -> Result<PathBuf, String> {
    let description = directory.join(DESCRIPTION);
    let failed = |why: String| format!("cannot read {}: {why}", description.display());
    let bytes = description
        .metadata()
        .map_err(|error| failed(error.to_string()))?
        .len();
    if bytes > MAX_BYTES {
        return Err(failed(format!("it has {bytes} bytes; the limit is {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(&description).map_err(|error| failed(error.to_string()))?;
    let name = named_in(&text).map_err(failed)?;
    // The description names the file and is not trusted, so the file must be below this folder.
    let path = Path::new(&name);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    match inside {
        true => Ok(directory.join(path)),
        false => Err(failed(format!(
            "it names the file {name}, which is not in its folder"
        ))),
    }
}

/// Returns the name of the model's file.
fn named_in(text: &str) -> Result<String, String> {
    let description: Description = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let Flavors { sklearn, onnx } = description.flavors;
    match (sklearn, onnx) {
        (Some(Sklearn { pickled_model }), _) => {
            pickled_model.ok_or_else(|| "its flavor sklearn names no pickled_model".to_owned())
        }
        (None, Some(Onnx { data })) => data.ok_or_else(|| "its flavor onnx names no data".to_owned()),
        (None, None) => Err(
            "it has neither the flavor sklearn nor onnx: log the model with mlflow.sklearn or mlflow.onnx"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_the_models_file() {
        let sklearn = "artifact_path: model\nflavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    \
                       model_path: model.pkl\n  sklearn:\n    code: null\n    pickled_model: model.pkl\n    \
                       serialization_format: cloudpickle\nmlflow_version: 2.17.0\n";
        assert_eq!(named_in(sklearn), Ok("model.pkl".to_owned()));
        let onnx = "flavors:\n  onnx:\n    code: null\n    data: model.onnx\n    onnx_version: 1.17.0\n";
        assert_eq!(named_in(onnx), Ok("model.onnx".to_owned()));
        for (text, says) in [
            (
                "flavors:\n  pytorch:\n    model_data: data\n",
                "neither the flavor",
            ),
            ("flavors:\n  sklearn:\n    code: null\n", "names no pickled_model"),
            ("artifact_path: model\n", "flavors"),
            ("flavors: [", ""),
        ] {
            let error = named_in(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_outside_of_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../model.pkl", "/etc/passwd", "a/../../b"] {
            let text = format!("flavors:\n  sklearn:\n    pickled_model: {name}\n");
            std::fs::write(folder.path().join(DESCRIPTION), text).unwrap();
            let error = model_in(folder.path()).unwrap_err();
            assert!(error.contains("not in its folder"), "{error}");
        }
        assert_eq!(directory(&folder.path().join(DESCRIPTION)), Some(folder.path()));
        assert_eq!(directory(folder.path()), Some(folder.path()));
        assert_eq!(directory(Path::new(DESCRIPTION)), None);
    }
}
