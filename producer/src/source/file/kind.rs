//! What a file is, by its name, and which files a folder offers.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::source::SourceError;

/// How a file's rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Delimited text with a header.
    Csv { delimiter: u8 },
    /// A JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

/// What a text file's bytes went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The endings known, for messages.
pub(super) const ENDINGS: &str =
    ".csv, .tsv, .ndjson, .jsonl, .json (each also with .gz or .zst behind it) or .parquet";

/// A file to be read as one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    /// The partition's name: the path below the folder given, or the file's own name.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) compression: Compression,
}

impl InputFile {
    /// The file at `path` under `name`, if its ending is a known one.
    fn known(path: PathBuf, name: String) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let (stem, compression) = if let Some(stem) = lower.strip_suffix(".gz") {
            (stem, Compression::Gzip)
        } else if let Some(stem) = lower.strip_suffix(".zst") {
            (stem, Compression::Zstd)
        } else {
            (&*lower, Compression::None)
        };
        let kind = match stem.rsplit_once('.')?.1 {
            "csv" => Kind::Csv { delimiter: b',' },
            "tsv" => Kind::Csv { delimiter: b'\t' },
            "ndjson" | "jsonl" | "json" => Kind::Ndjson,
            "parquet" if compression == Compression::None => Kind::Parquet,
            _ => return None,
        };
        Some(Self {
            path,
            name,
            kind,
            compression,
        })
    }

    /// Whether what is appended can be read on: text as it is, which needs no end to be complete.
    pub(super) fn can_grow(&self) -> bool {
        self.kind != Kind::Parquet && self.compression == Compression::None
    }
}

/// The one file at `path`.
pub(super) fn single(path: &Path) -> Result<InputFile, SourceError> {
    let name = utf8_name(path)?;
    InputFile::known(path.to_owned(), name).ok_or_else(|| SourceError::NoInput {
        path: path.to_owned(),
        why: format!("a file to read is named {ENDINGS}"),
    })
}

/// The files of known kinds below `folder`, by name. Hidden ones are left alone: they are being written, or no data.
pub(super) fn list(folder: &Path) -> Result<Vec<InputFile>, SourceError> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let unreadable = |source| SourceError::Read {
            path: folder.clone(),
            offset: 0,
            source,
        };
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let is_folder = entry.file_type().map_err(unreadable)?.is_dir();
            let shown = path.to_string_lossy().into_owned();
            if !is_folder && InputFile::known(path.clone(), shown).is_none() {
                continue;
            }
            let name = format!("{prefix}{}", utf8_name(&path)?);
            // Linked files are followed, linked folders are not: they could lead in a circle.
            if is_folder {
                folders.push((path, format!("{name}/")));
            } else if let Some(file) = InputFile::known(path, name)
                && fs::metadata(&file.path).is_ok_and(|metadata| metadata.is_file())
            {
                files.push(file);
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// A partition's checkpoint goes by its name, so two files must not end up under one by replacing bytes.
fn utf8_name(path: &Path) -> Result<String, SourceError> {
    let name = path.file_name().unwrap_or_default();
    name.to_str().map(str::to_owned).ok_or_else(|| SourceError::Read {
        path: path.to_owned(),
        offset: 0,
        source: io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8 text"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<(Kind, Compression)> {
        InputFile::known(name.into(), name.into()).map(|file| (file.kind, file.compression))
    }

    #[test]
    fn the_ending_tells_the_kind_in_any_case() {
        let csv = Kind::Csv { delimiter: b',' };
        assert_eq!(known("a.csv"), Some((csv, Compression::None)));
        assert_eq!(known("A.CSV.GZ"), Some((csv, Compression::Gzip)));
        assert_eq!(
            known("a.tsv.zst"),
            Some((Kind::Csv { delimiter: b'\t' }, Compression::Zstd))
        );
        assert_eq!(known("a.b.jsonl"), Some((Kind::Ndjson, Compression::None)));
        assert_eq!(known("a.Parquet"), Some((Kind::Parquet, Compression::None)));
        for other in ["a.parquet.gz", "a.txt", "csv", "a.gz", "a.csv.bz2", ""] {
            assert_eq!(known(other), None, "{other}");
        }
    }

    #[test]
    fn a_folder_is_listed_by_name_all_the_way_down() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/deep")).unwrap();
        fs::create_dir_all(folder.path().join("dir.csv")).unwrap();
        fs::create_dir_all(folder.path().join(".hidden")).unwrap();
        for name in [
            "c.csv",
            "b/deep/x.json",
            "a.csv.gz",
            "README.md",
            ".d.csv",
            ".hidden/e.csv",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = list(folder.path())
            .unwrap()
            .into_iter()
            .map(|file| file.name)
            .collect();
        assert_eq!(names, ["a.csv.gz", "b/deep/x.json", "c.csv"]);
    }
}
