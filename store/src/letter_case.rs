//! Folders that do not tell upper from lower case, as on Windows and macOS and on some network mounts.
//!
//! There, `models/Pump` and `models/pump` are one folder: the sensor `pump` would be scored with the model of `Pump`,
//! and would replace it. So the second of two such names is refused. Encoding them would keep both, but the stores that
//! exist would lose the models of every name with an upper-case letter.

use std::path::Path;

use super::{Backend, LOCK_FILE, Store, StoreError};

/// The folders whose contents are named after sensors, sources and messages. All other names are our own.
const NAMED_FROM_OUTSIDE: [&str; 3] = ["models", "checkpoints", "dead-letters"];

/// Returns whether the folder of a store finds its marker in upper case too.
pub(super) fn is_ignored(folder: &Path) -> bool {
    folder.join(LOCK_FILE).exists() && folder.join(LOCK_FILE.to_ascii_uppercase()).exists()
}

impl Store {
    /// Fails if the folder already holds this path in another case.
    pub(super) async fn has_no_other_case(&self, path: &str) -> Result<(), StoreError> {
        let Backend::Folder(folder) = &self.backend else {
            return Ok(());
        };
        if !self.ignores_case {
            return Ok(());
        }
        let (folder, wanted) = (folder.clone(), path.to_owned());
        let looked = tokio::task::spawn_blocking(move || other_case(&folder, &wanted)).await;
        match looked {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(there))) => Err(StoreError::OtherCase {
                path: path.to_owned(),
                there,
                url: self.url.clone(),
            }),
            Ok(Err(error)) => Err(self.cannot_look(path, error)),
            Err(panic) => Err(self.cannot_look(path, std::io::Error::other(panic))),
        }
    }

    fn cannot_look(&self, path: &str, error: std::io::Error) -> StoreError {
        let source = object_store::Error::Generic {
            store: "folder",
            source: Box::new(error),
        };
        self.error("look for other spellings of", path, source)
    }
}

/// Returns the start of `path` as it is spelled in the folder, if that differs in case only.
fn other_case(folder: &Path, path: &str) -> std::io::Result<Option<String>> {
    let mut names = path.split('/').peekable();
    let Some(mut so_far) = names.next().map(str::to_owned) else {
        return Ok(None);
    };
    if !NAMED_FROM_OUTSIDE.contains(&so_far.as_str()) {
        return Ok(None);
    }
    while let Some(name) = names.next() {
        let parent = folder.join(&so_far);
        // Most dead letters are new. A name that the folder does not find in any case has no other spelling.
        if names.peek().is_none() && !parent.join(name).exists() {
            return Ok(None);
        }
        let mut other = None;
        let entries = match std::fs::read_dir(&parent) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?.file_name();
            match entry.to_str() {
                Some(entry) if entry == name => {
                    other = None;
                    break;
                }
                Some(entry) if entry.eq_ignore_ascii_case(name) => other = Some(format!("{so_far}/{entry}")),
                _ => {}
            }
        }
        if other.is_some() {
            return Ok(other);
        }
        so_far = format!("{so_far}/{name}");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a folder store that believes that case is ignored: its marker is there in upper case too.
    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().to_str().unwrap().to_owned();
        assert!(!Store::create(&url).unwrap().ignores_case);
        std::fs::write(folder.path().join(".WINDROW.LOCK"), "").unwrap();
        let store = Store::open(&url).unwrap();
        assert!(store.ignores_case);
        (folder, store)
    }

    #[tokio::test]
    async fn where_case_is_ignored_the_second_of_two_names_is_refused() {
        let (_folder, store) = store();
        store.put("models/Pump/Temp/current", "1").await.unwrap();
        let others = [
            "models/pump/Temp/current",
            "models/Pump/temp/current",
            "models/PUMP/x/current",
        ];
        for other in others {
            for refused in [
                store.get(other).await.map(|_| ()),
                store.put(other, "2").await,
                store.put_if(other, "2", None).await.map(|_| ()),
            ] {
                let error = refused.unwrap_err().to_string();
                assert!(error.contains(other) && error.contains("models/Pump"), "{error}");
            }
            // The folder holds another spelling, so the delete does nothing.
            store.delete(other).await.unwrap();
        }
        assert_eq!(store.get("models/Pump/Temp/current").await.unwrap().unwrap(), "1");
        store.put("models/Pump/Temp/current", "3").await.unwrap();
        store.put("models/pump2/Temp/current", "4").await.unwrap();
        // Names of our own need no look.
        store.put("predictions/A", "5").await.unwrap();
        assert_eq!(store.get("predictions/a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn where_case_counts_names_may_differ_in_case_only() {
        let store = Store::create("memory:///").unwrap();
        for name in ["Pump", "pump"] {
            store
                .put(&format!("models/{name}/t/current"), name.to_owned())
                .await
                .unwrap();
        }
        assert_eq!(store.get("models/pump/t/current").await.unwrap().unwrap(), "pump");
        assert_eq!(store.get("models/Pump/t/current").await.unwrap().unwrap(), "Pump");
    }
}
