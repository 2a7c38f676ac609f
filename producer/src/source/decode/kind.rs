//! Finds the kind of a file by its name, and lists the files of a folder.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use percent_encoding::percent_decode_str;

use crate::source::SourceError;

use super::avro::AVRO_MARK;
use super::decoder::first_bytes;
use super::dialect::split;
use super::envelope::{MARKED_WITHIN, is_envelope};

/// The format of a file's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Kind {
    /// Delimited text with a header.
    Csv { delimiter: u8 },
    /// One JSON object per line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Events in Avro, as Event Hubs Capture writes them.
    Avro,
}

/// The compression of a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The known file name endings, for messages.
pub(in crate::source) const ENDINGS: &str =
    ".csv, .tsv, .ndjson, .jsonl, .json (each also with .gz or .zst appended), .parquet or .avro";

/// How much of a file of another ending is looked at.
const SNIFFED_BYTES: usize = 64 << 10;
const SNIFFED_LINES: usize = 200;

/// A file that is read as one partition.
#[derive(Clone, Debug)]
pub(in crate::source) struct InputFile {
    pub(in crate::source) path: PathBuf,
    /// The partition's name: the path below the given folder, or the file's own name.
    pub(in crate::source) name: String,
    /// The path by which its readings' device is named: the one that it had first.
    pub(in crate::source) first_name: String,
    pub(in crate::source) kind: Kind,
    pub(in crate::source) compression: Compression,
    /// The open file, if it is kept so that it can be read to its end after another has taken its path.
    pub(in crate::source) handle: Option<Arc<File>>,
}

impl InputFile {
    /// Returns the file at `path` under `name`, if its ending is known.
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
            "avro" if compression == Compression::None => Kind::Avro,
            _ => return None,
        };
        Some(Self {
            path,
            first_name: name.clone(),
            name,
            kind,
            compression,
            handle: None,
        })
    }

    /// Returns the file at `path` under `name`, if its ending is known, or if it has none and begins like a file of events:
    /// IoT Hub's routing names files `00/2026/01/05/00/00`.
    fn recognised(path: PathBuf, name: String) -> Option<Self> {
        let own = name.rsplit('/').next().unwrap_or_default();
        if own.contains('.') {
            return Self::known(path, name);
        }
        // A pipe would lose what is read here.
        if !fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            return None;
        }
        let mut start = Vec::new();
        // One that cannot be read is none of them.
        File::open(&path)
            .and_then(|file| file.take(MARKED_WITHIN as u64).read_to_end(&mut start))
            .ok()?;
        let kind = match () {
            () if start.starts_with(AVRO_MARK) => Kind::Avro,
            () if is_envelope(&start) => Kind::Ndjson,
            () => return None,
        };
        Some(Self {
            path,
            first_name: name.clone(),
            name,
            kind,
            compression: Compression::None,
            handle: None,
        })
    }

    /// Returns the file at `path` under `name` if it holds text that may be read, whatever its ending.
    fn text(path: PathBuf, name: String) -> Option<Self> {
        if !fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            return None;
        }
        let lower = name.to_ascii_lowercase();
        let compression = match lower.rsplit_once('.') {
            Some((_, "gz")) => Compression::Gzip,
            Some((_, "zst")) => Compression::Zstd,
            _ => Compression::None,
        };
        let mut file = Self {
            path,
            first_name: name.clone(),
            name,
            kind: Kind::Ndjson,
            compression,
            handle: None,
        };
        // One that cannot be read holds no text.
        let head = first_bytes(&file, SNIFFED_BYTES).ok()?;
        // A character may be cut at the end.
        let is_text = std::str::from_utf8(&head).map_or_else(|error| error.error_len().is_none(), |_| true);
        let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
        if !is_text || head.iter().any(is_control) {
            return None;
        }
        match head.trim_ascii_start() {
            [b'{', ..] => {}
            [b'[', rest @ ..] if rest.trim_ascii_start().starts_with(b"{") => {}
            _ if is_delimited(&head) => file.kind = Kind::Csv { delimiter: b',' },
            _ => return None,
        }
        Some(file)
    }

    /// Returns the `name=value` segments of the path below the given folder, as Hive, Spark and Delta write them. A value is
    /// `None` where they write a null.
    pub(in crate::source) fn named_segments(&self) -> impl Iterator<Item = (&str, Option<String>)> {
        let folders = self.name.rsplit_once('/').map_or("", |(folders, _)| folders);
        folders.split('/').filter_map(|segment| {
            let (name, value) = segment.split_once('=')?;
            let value = (value != "__HIVE_DEFAULT_PARTITION__")
                .then(|| percent_decode_str(value).decode_utf8_lossy().into_owned());
            Some((name, value))
        })
    }

    /// Opens the file. The position of its cursor is undefined: all handles of one file share it.
    pub(in crate::source) fn open(&self) -> io::Result<File> {
        match &self.handle {
            Some(handle) => handle.try_clone(),
            None => File::open(&self.path),
        }
    }

    /// Returns the metadata of the file that [`InputFile::open`] opens.
    pub(in crate::source) fn metadata(&self) -> io::Result<fs::Metadata> {
        match &self.handle {
            Some(handle) => handle.metadata(),
            None => fs::metadata(&self.path),
        }
    }

    /// Returns whether the file can be read only once its end is there.
    pub(in crate::source) fn has_footer(&self) -> bool {
        matches!(self.kind, Kind::Parquet | Kind::Avro)
    }

    /// Returns whether appended rows can be read. Only uncompressed text allows it, because it needs no end to be
    /// complete.
    pub(in crate::source) fn can_grow(&self) -> bool {
        !self.has_footer() && self.compression == Compression::None
    }
}

/// Returns the file at `path`. Reads a file with another ending if it holds delimited text or JSON, because naming a
/// single file is deliberate.
pub(in crate::source) fn single(path: &Path) -> Result<InputFile, SourceError> {
    let name = utf8_name(path)?;
    let found = InputFile::recognised(path.to_owned(), name.clone());
    found
        .or_else(|| InputFile::text(path.to_owned(), name))
        .ok_or_else(|| SourceError::NoInput {
            path: path.to_owned(),
            why: format!(
                "unknown file name ending; a file to read is named {ENDINGS}, or holds delimited text"
            ),
        })
}

/// Returns whether a text begins as a table: two lines one after the other have as many cells, and more than one.
fn is_delimited(head: &[u8]) -> bool {
    let lines = head.split(|&byte| byte == b'\n').take(SNIFFED_LINES);
    let lines: Vec<_> = lines.filter(|line| !line.trim_ascii().is_empty()).collect();
    [b',', b';', b'\t', b'|'].into_iter().any(|delimiter| {
        let cells: Vec<_> = lines.iter().map(|line| split(line, delimiter).len()).collect();
        cells.windows(2).any(|pair| pair[0] > 1 && pair[0] == pair[1])
    })
}

/// What is in a folder.
#[derive(Debug, Default)]
pub(in crate::source) struct Listing {
    /// The files to read, sorted by name.
    pub(in crate::source) files: Vec<InputFile>,
    /// The names of the files that are left out for their ending.
    pub(in crate::source) skipped: Vec<String>,
}

/// Lists what is below `folder`. Leaves out what begins with a dot or an underscore: it is still being written, or holds
/// no data.
pub(in crate::source) fn list(folder: &Path) -> Result<Listing, SourceError> {
    let mut listing = Listing::default();
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
            let is_folder = entry.file_type().map_err(unreadable)?.is_dir();
            if is_folder && let Some(format) = table_format(&path) {
                return Err(refused_table(&folder, format));
            }
            if let [b'.' | b'_', ..] = entry.file_name().as_encoded_bytes() {
                continue;
            }
            // Links to files are followed. Links to folders are not, because they could form a cycle.
            if is_folder {
                let name = utf8_name(&path)?;
                folders.push((path, format!("{prefix}{name}/")));
                continue;
            }
            if !fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            let shown = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match InputFile::recognised(path.clone(), shown.clone()) {
                Some(mut file) => {
                    file.name = format!("{prefix}{}", utf8_name(&path)?);
                    listing.files.push(file);
                }
                None => listing.skipped.push(shown),
            }
        }
    }
    listing.files.sort_by(|a, b| a.name.cmp(&b.name));
    listing.skipped.sort();
    Ok(listing)
}

/// Returns the table format that keeps its log in a folder at this path. Only the log says which files of such a table
/// count: the others hold rows that were deleted or changed.
fn table_format(path: &Path) -> Option<&'static str> {
    match path.file_name()?.to_str()? {
        "_delta_log" => Some("Delta"),
        ".hoodie" => Some("Hudi"),
        "metadata" => {
            let mut names = fs::read_dir(path).ok()?.flatten().map(|entry| entry.file_name());
            names
                .any(|name| name.to_string_lossy().contains(".metadata.json"))
                .then_some("Iceberg")
        }
        _ => None,
    }
}

fn refused_table(path: &Path, format: &str) -> SourceError {
    let shown = path.display();
    let copy = match format {
        "Delta" => format!("`duckdb -c \"copy (from delta_scan('{shown}')) to 'readings.parquet'\"`"),
        "Iceberg" => format!("`duckdb -c \"copy (from iceberg_scan('{shown}')) to 'readings.parquet'\"`"),
        _ => "the engine that writes it".to_owned(),
    };
    let article = if format == "Iceberg" { "an" } else { "a" };
    SourceError::NoInput {
        path: path.to_owned(),
        why: format!(
            "it is {article} {format} table, and only the table's log says which of its files count; export its rows with {copy} and \
             read that file"
        ),
    }
}

/// Returns the name of the file at `path`, which must be UTF-8.
///
/// A checkpoint is stored under the partition's name. Replacing invalid bytes could give two files the same name.
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
            "_SUCCESS",
            "_temporary.csv",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let listing = list(folder.path()).unwrap();
        let names: Vec<_> = listing.files.iter().map(|file| &file.name).collect();
        assert_eq!(names, ["a.csv.gz", "b/deep/x.json", "c.csv"]);
        assert_eq!(listing.skipped, ["README.md"]);
    }

    #[test]
    fn a_folder_that_is_a_table_is_refused_with_the_command_that_exports_it() {
        for (log, expected) in [
            ("_delta_log/00000000000000000000.json", "is a Delta table"),
            ("metadata/v1.metadata.json", "is an Iceberg table"),
            (".hoodie/hoodie.properties", "is a Hudi table"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let log = folder.path().join("readings").join(log);
            fs::create_dir_all(log.parent().unwrap()).unwrap();
            fs::write(log, "").unwrap();
            fs::write(folder.path().join("readings/part-0.parquet"), "").unwrap();
            let refused = list(folder.path()).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
            let path = folder.path().join("readings");
            assert!(refused.contains(path.to_str().unwrap()), "{refused}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("metadata")).unwrap();
        fs::write(folder.path().join("metadata/sensors.csv"), "").unwrap();
        assert_eq!(list(folder.path()).unwrap().files.len(), 1);
    }

    #[test]
    fn the_named_segments_of_a_path_are_those_of_its_folders() {
        let named = |name: &str| {
            let file = InputFile::known(name.into(), name.into()).unwrap();
            let segments = file.named_segments();
            segments
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Vec<_>>()
        };
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(
            named("plant/device=pump%2F7/date=2026-01-05/x=1.parquet"),
            [
                ("device".to_owned(), text("pump/7")),
                ("date".to_owned(), text("2026-01-05"))
            ]
        );
        assert_eq!(
            named("device=__HIVE_DEFAULT_PARTITION__/x.parquet"),
            [("device".to_owned(), None)]
        );
        assert_eq!(named("device=1.parquet"), []);
    }
}
