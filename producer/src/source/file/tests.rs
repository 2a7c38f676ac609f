//! The file source as its caller sees it: whole files in, readings with offsets out.

mod columnar;
mod events;
mod exactly_once;
mod folder;
mod follow;
mod identity;
mod odd_text;
mod shapes;
mod wide_columns;

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;
use crate::source::Unreadable;
use crate::source::decode::TimeFormat;

const HEADER: &str = "ts,device,tag,value\n";

/// A reading without what differs from run to run, and with the value as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    device: String,
    tag: String,
    millis: i64,
    value: u64,
    offset: u64,
}

/// What was read from one partition.
#[derive(Debug, Default)]
struct Log {
    readings: Vec<Seen>,
    unreadable: Vec<Unreadable>,
    next: u64,
    ended: bool,
}

impl Log {
    fn values(&self) -> Vec<f64> {
        self.readings
            .iter()
            .map(|seen| f64::from_bits(seen.value))
            .collect()
    }

    /// Returns everything by offset; an unreadable item as its reason.
    fn all(&self) -> Vec<(u64, Result<Seen, String>)> {
        let readings = self.readings.iter().map(|seen| (seen.offset, Ok(seen.clone())));
        let unreadable = self
            .unreadable
            .iter()
            .map(|bad| (bad.offset.0, Err(format!("{}: {:?}", bad.detail, bad.raw))));
        let mut all: Vec<_> = readings.chain(unreadable).collect();
        all.sort_by_key(|(offset, _)| *offset);
        all
    }
}

/// Reads until there is nothing more, at least for now; returns one log per partition.
fn drain(source: &mut FileSource) -> Vec<Log> {
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let mut logs: Vec<Log> = Vec::new();
    while source.read(&mut sensors, &mut batch).unwrap() == Read::Batch {
        logs.resize_with(source.partitions().len(), Log::default);
        let log = &mut logs[batch.partition];
        assert!(batch.next.0 >= log.next, "a partition went backwards");
        log.readings.extend(batch.readings.iter().map(|reading| {
            let sensor = sensors.id(reading.sensor);
            Seen {
                device: sensor.device.to_string(),
                tag: sensor.tag.to_string(),
                millis: reading.time.as_millis(),
                value: reading.value.to_bits(),
                offset: reading.offset.0,
            }
        }));
        log.unreadable.append(&mut batch.unreadable);
        (log.next, log.ended) = (batch.next.0, batch.ended);
    }
    logs.resize_with(source.partitions().len(), Log::default);
    logs
}

/// Returns the usual mapping, with which a time may be a small number.
fn any_epoch() -> ColumnMapping {
    ColumnMapping {
        time_format: Some(TimeFormat::AnyEpoch),
        ..ColumnMapping::default()
    }
}

fn open(path: &Path, until: Until) -> FileSource {
    let mut source = FileSource::open(path, &any_epoch(), until).unwrap();
    // Tests poll on every read and do not wait.
    source.poll_every = Duration::ZERO;
    source.folder.scan_every = Duration::ZERO;
    source
}

/// Reads one file from `offset` to its end.
fn read_from(path: &Path, offset: u64) -> Log {
    let mut source = open(path, Until::CaughtUp);
    source.seek(0, Offset(offset)).unwrap();
    drain(&mut source).remove(0)
}

/// Creates a file of these bytes in a folder of its own.
fn file(name: &str, bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Reads a file of these bytes.
fn read(name: &str, bytes: impl AsRef<[u8]>) -> Log {
    let (_folder, path) = file(name, bytes);
    read_from(&path, 0)
}

fn refusal(name: &str, bytes: impl AsRef<[u8]>) -> String {
    let (folder, path) = file(name, bytes);
    let error = FileSource::open(&path, &any_epoch(), Until::CaughtUp)
        .err()
        .unwrap();
    error.to_string().replace(folder.path().to_str().unwrap(), "")
}

fn append(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(bytes.as_ref()).unwrap();
}

/// Makes the file one that nobody writes to any more.
fn written_long_ago(path: &Path) {
    let opened = fs::OpenOptions::new().append(true).open(path).unwrap();
    let long_ago = std::time::SystemTime::now() - whole::SETTLED_AFTER;
    opened.set_modified(long_ago).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Returns rows of one sensor, a second apart from `start` on, with values 0, 1, 2, ...
fn rows(start: i64, count: i64) -> String {
    (0..count)
        .map(|at| format!("{},d,t,{at}\n", EventTime::from_millis((start + at) * 1_000)))
        .collect()
}
