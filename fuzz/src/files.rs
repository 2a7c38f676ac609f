//! Input files of every format.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::write::GzEncoder;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::decode::ColumnMapping;
use windrow_producer::source::file::FileSource;
use windrow_producer::source::{Batch, Offset, Read, Source, SourceError, Until, suggest};

/// An item of a file at an offset: a reading, or the reason why it is not a reading.
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
    text("f.csv", bytes, &ColumnMapping::default());
}

/// CSV with several measurements in a row: the checks of CSV, and that suggested options find readings.
pub(crate) fn wide(bytes: &[u8]) {
    let mapping = ColumnMapping {
        tags: vec!["*".parse().unwrap()],
        device_from: "file".parse().ok(),
        conditions: vec!["quality!=Bad".parse().unwrap()],
        timezone: Some("Europe/Berlin".to_owned()),
        ..ColumnMapping::default()
    };
    text("f.csv", bytes, &mapping);
    text(
        "f.csv",
        bytes,
        &ColumnMapping {
            conditions: Vec::new(),
            ..mapping
        },
    );
    suggested("f.csv", bytes);
}

/// JSON of any shape: as CSV, with paths.
pub(crate) fn shapes(bytes: &[u8]) {
    let given = |options: [&str; 4]| ColumnMapping {
        timestamp: Some(options[0].to_owned()),
        tag: Some(options[1].to_owned()),
        value: Some(options[2].to_owned()),
        device_from: options[3].parse().ok(),
        ..ColumnMapping::default()
    };
    for mapping in [
        given(["ts", "metrics[].name", "metrics[].value", "segment:topic:-1"]),
        given(["date+time", "a.b.c", "[].x", "const:d"]),
        ColumnMapping {
            tags: vec![
                "*".parse().unwrap(),
                "fields.*".parse().unwrap(),
                "m[].*.v".parse().unwrap(),
            ],
            ignore: vec!["s*".to_owned()],
            ..ColumnMapping::default()
        },
    ] {
        text("f.json", bytes, &mapping);
    }
    suggested("f.json", bytes);
}

/// Checks that options that are suggested find readings.
fn suggested(name: &str, bytes: &[u8]) {
    let folder = Folder::new();
    let file = folder.write(name, bytes);
    let Ok(suggestions) = suggest(&file, &ColumnMapping::default()) else {
        return;
    };
    for suggestion in suggestions.iter().take(2) {
        let items = read(&file, None, &suggestion.mapping).expect("what was suggested can be opened");
        let is_reading = |(_, item): &(u64, Item)| matches!(item, Item::Reading { .. });
        assert!(items.iter().any(is_reading), "{suggestion:?}");
    }
}

/// NDJSON: as CSV. An event with the same lines holds the same readings.
pub(crate) fn ndjson(bytes: &[u8]) {
    let Some(items) = text("f.ndjson", bytes, &ColumnMapping::default()) else {
        return;
    };
    if crate::hub::reads_line_by_line(bytes) && !is_routed(bytes) {
        let event = readings(crate::hub::read(bytes));
        assert_eq!(readings(items), event, "the file and the event differ");
    }
}

/// NDJSON of IoT Hub's routing: as CSV.
pub(crate) fn routed(bytes: &[u8]) {
    text("f.json", bytes, &ColumnMapping::default());
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
    if let Ok(items) = read(&file, None, &ColumnMapping::default())
        && !items.iter().any(|(_, item)| matches!(item, Item::Unreadable(_)))
    {
        resumes(&file, &items, &ColumnMapping::default());
    }
}

/// Parquet: the same rows in one piece and from any row on. A damaged file is exempt, because the library may then
/// reach a row without reading all rows before it.
pub(crate) fn parquet(bytes: &[u8]) {
    let folder = Folder::new();
    let file = folder.write("f.parquet", bytes);
    let is_whole = |items: &Items| {
        let mut items = items.iter();
        items.all(|(_, item)| matches!(item, Item::Reading { .. }))
    };
    if let Ok(items) = read(&file, None, &ColumnMapping::default())
        && let Some(&(from, _)) = items.get(items.len() / 2)
        && let Ok(rest) = read(&file, Some(from), &ColumnMapping::default())
        && is_whole(&items)
        && is_whole(&rest)
    {
        assert_eq!(rest, items[items.len() / 2..], "read from {from} on");
    }
}

fn text(name: &str, bytes: &[u8], mapping: &ColumnMapping) -> Option<Items> {
    let folder = Folder::new();
    let file = folder.write(name, bytes);
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    let packed = folder.write(&format!("{name}.gz"), &packed.finish().unwrap());
    let whole = read(&file, None, mapping);
    let unpacked = read(&packed, None, mapping);
    match (whole, unpacked) {
        (Ok(items), Ok(unpacked)) => {
            assert_eq!(items, unpacked, "the plain and the compressed file differ");
            resumes(&file, &items, mapping);
            Some(items)
        }
        (Err(_), Err(_)) => None,
        (whole, unpacked) => panic!("only one can be read: {whole:?}, compressed {unpacked:?}"),
    }
}

/// Checks that the file read from one of its items on holds the same items.
fn resumes(file: &Path, items: &Items, mapping: &ColumnMapping) {
    // Any item will do, as long as the choice depends on the input alone.
    let Some(&(from, _)) = items.get(items.len() / 2) else {
        return;
    };
    let rest = read(file, Some(from), mapping).expect("a file that was read whole is read from a row on");
    let expected = &items[items.partition_point(|(offset, _)| *offset < from)..];
    assert_eq!(rest, expected, "read from {from} on");
}

/// Reads a file to its end, from an offset on.
fn read(path: &Path, from: Option<u64>, mapping: &ColumnMapping) -> Result<Items, SourceError> {
    let mut source = FileSource::open(path, mapping, Until::CaughtUp)?;
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
