//! Input files of every format.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::write::GzEncoder;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::decode::ColumnMapping;
use windrow_producer::source::file::FileSource;
use windrow_producer::source::{Batch, Offset, Read, Source, SourceError, Until};

/// What a file holds at an offset: a reading, or the reason why it is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Reading {
        device: String,
        tag: String,
        millis: i64,
        /// As bits, because NaN equals nothing.
        value: u64,
    },
    Unreadable(String),
}

/// What a file holds, by offset.
pub(crate) type Items = Vec<(u64, Item)>;

/// Returns the items of a batch, by offset.
pub(crate) fn items_of(batch: &Batch, sensors: &SensorTable) -> Items {
    let readings = batch.readings.iter().map(|reading| {
        let sensor = sensors.id(reading.sensor);
        let item = Item::Reading {
            device: sensor.device.to_string(),
            tag: sensor.tag.to_string(),
            millis: reading.time.as_millis(),
            value: reading.value.to_bits(),
        };
        (reading.offset.0, item)
    });
    let unreadable = batch
        .unreadable
        .iter()
        .map(|bad| (bad.offset.0, Item::Unreadable(bad.detail.clone())));
    let mut items: Items = readings.chain(unreadable).collect();
    items.sort_by_key(|(offset, _)| *offset);
    items
}

/// Returns the readings among the items, without their offsets.
pub(crate) fn readings(items: Items) -> Vec<Item> {
    let items = items.into_iter().map(|(_, item)| item);
    items
        .filter(|item| matches!(item, Item::Reading { .. }))
        .collect()
}

/// CSV: the same rows in one piece, from any row on, and compressed.
pub(crate) fn csv(bytes: &[u8]) {
    text("f.csv", bytes);
}

/// NDJSON: as CSV. An event with the same lines holds the same readings.
pub(crate) fn ndjson(bytes: &[u8]) {
    let Some(items) = text("f.ndjson", bytes) else {
        return;
    };
    if crate::hub::reads_line_by_line(bytes) && !is_routed(bytes) {
        let event = readings(crate::hub::read(bytes));
        assert_eq!(readings(items), event, "the file and the event differ");
    }
}

/// NDJSON of IoT Hub's routing: as CSV.
pub(crate) fn routed(bytes: &[u8]) {
    text("f.json", bytes);
}

/// Returns whether the lines may be events with bodies, and not readings.
fn is_routed(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"\"EnqueuedTimeUtc\"";
    bytes.windows(MARK.len()).any(|window| window == MARK)
}

/// Avro: the same events in one piece and from any event on.
pub(crate) fn avro(bytes: &[u8]) {
    let folder = Folder::new();
    let file = folder.write("f.avro", bytes);
    if let Ok(items) = read(&file, None)
        && !items.iter().any(|(_, item)| matches!(item, Item::Unreadable(_)))
    {
        resumes(&file, &items);
    }
}

/// Parquet: the same rows in one piece and from any row on, unless something in it is damaged: the library then takes
/// another way to a row than through all rows before it.
pub(crate) fn parquet(bytes: &[u8]) {
    let folder = Folder::new();
    let file = folder.write("f.parquet", bytes);
    let is_whole = |items: &Items| {
        let mut items = items.iter();
        items.all(|(_, item)| matches!(item, Item::Reading { .. }))
    };
    if let Ok(items) = read(&file, None)
        && let Some(&(from, _)) = items.get(items.len() / 2)
        && let Ok(rest) = read(&file, Some(from))
        && is_whole(&items)
        && is_whole(&rest)
    {
        assert_eq!(rest, items[items.len() / 2..], "read from {from} on");
    }
}

fn text(name: &str, bytes: &[u8]) -> Option<Items> {
    let folder = Folder::new();
    let file = folder.write(name, bytes);
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    let packed = folder.write(&format!("{name}.gz"), &packed.finish().unwrap());
    let whole = read(&file, None);
    let unpacked = read(&packed, None);
    match (whole, unpacked) {
        (Ok(items), Ok(unpacked)) => {
            assert_eq!(items, unpacked, "the plain and the compressed file differ");
            resumes(&file, &items);
            Some(items)
        }
        (Err(_), Err(_)) => None,
        (whole, unpacked) => panic!("only one can be read: {whole:?}, compressed {unpacked:?}"),
    }
}

/// Checks that the file read from one of its items on holds the same items.
fn resumes(file: &Path, items: &Items) {
    // Any item will do, as long as the choice depends on the input alone.
    let Some(&(from, _)) = items.get(items.len() / 2) else {
        return;
    };
    let rest = read(file, Some(from)).expect("a file that was read whole is read from a row on");
    let expected = &items[items.partition_point(|(offset, _)| *offset < from)..];
    assert_eq!(rest, expected, "read from {from} on");
}

/// Reads a file to its end, from an offset on.
fn read(path: &Path, from: Option<u64>) -> Result<Items, SourceError> {
    let mut source = FileSource::open(path, &ColumnMapping::default(), Until::CaughtUp)?;
    if let Some(from) = from {
        source.seek(0, Offset(from))?;
    }
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let (mut items, mut next) = (Items::new(), 0);
    while source.read(&mut sensors, &mut batch)? == Read::Batch {
        assert!(batch.next.0 >= next, "the file goes backwards");
        next = batch.next.0;
        items.extend(items_of(&batch, &sensors));
    }
    let is_sorted = items.is_sorted_by_key(|(offset, _)| *offset);
    assert!(is_sorted, "offsets fall: {items:?}");
    Ok(items)
}

/// A folder of its own for each input, in memory where there is such a file system.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let in_memory = Path::new("/dev/shm");
        let folder = match in_memory.is_dir() {
            true => tempfile::tempdir_in(in_memory),
            false => tempfile::tempdir(),
        };
        Self(folder.unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}
