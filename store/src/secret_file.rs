//! Secrets in files, which keep them out of the environment and the process list.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Size limit of a secret, in bytes. A bundle of all public authorities has 220 kB.
const MAX_BYTES: u64 = 1 << 20;

/// A file that holds a secret. It is read again each time the secret is used, because passwords, keys and certificates
/// are rotated while services run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    option: &'static str,
    path: PathBuf,
}

/// A secret's file cannot be read. The text does not contain the secret.
#[derive(Debug, thiserror::Error)]
#[error("{option}: cannot read {}: {source}", .path.display())]
pub struct SecretFileError {
    /// The option or variable that names the file.
    pub option: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl SecretFile {
    /// Creates the secret in the file `path`, which `option` (or a variable) names. Does not read it.
    pub fn new(option: &'static str, path: &Path) -> Self {
        Self {
            option,
            path: path.to_owned(),
        }
    }

    /// Reads the secret, without the final line break that editors write. Fails if the file is empty or larger than 1
    /// MiB.
    pub fn read(&self) -> Result<String, SecretFileError> {
        let unreadable = |source| SecretFileError {
            option: self.option,
            path: self.path.clone(),
            source,
        };
        let mut text = String::new();
        let file = File::open(&self.path).map_err(unreadable)?;
        file.take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_BYTES {
            let why = format!("it has more than {MAX_BYTES} bytes");
            return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, why)));
        }
        match text.trim_end_matches(['\r', '\n']) {
            // A file that is being replaced may be empty for a moment, too.
            "" => Err(unreadable(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it is empty",
            ))),
            secret => Ok(secret.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_each_time_and_a_file_without_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let secret = SecretFile::new("--key-file", &path);
        let said = || secret.read().unwrap_err().to_string();
        assert!(said().starts_with(&format!("--key-file: cannot read {}", path.display())));
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(secret.read().unwrap(), "first");
        std::fs::write(&path, "second \r\n").unwrap();
        assert_eq!(secret.read().unwrap(), "second ");
        std::fs::write(&path, "\n").unwrap();
        assert!(said().ends_with("it is empty"));
        std::fs::write(&path, "x".repeat((1 << 20) + 1)).unwrap();
        assert!(said().ends_with("more than 1048576 bytes"));
    }
}
