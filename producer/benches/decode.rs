//! How many readings a second come out of files, on one core: `cargo bench -p windrow-producer --bench decode`.
//!
//! Two orders of the same readings are measured: as a fleet reports in step (every sensor, then the next second), where
//! timestamps and the succession of sensors repeat, and shuffled, where nothing does.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use windrow_common::EventTime;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::file::{ColumnMapping, FileSource};
use windrow_producer::source::{Batch, Read, Source, Until};

const READINGS: usize = 2_000_000;
const DEVICES: usize = 100;
const TAGS: [&str; 5] = ["temperature", "pressure", "vibration", "flow", "current"];
/// Odd, so that the median is one of the measurements.
const ROUNDS: usize = 7;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Row {
    time: i64,
    device: String,
    tag: &'static str,
    /// As written, with two decimals.
    value: String,
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    println!(
        "{READINGS} readings of {} sensors, median of {ROUNDS} rounds\n",
        DEVICES * TAGS.len()
    );
    println!(
        "{:<12} {:<20} {:>9} {:>14} {:>9}",
        "order", "file", "MB", "readings/s", "ns each"
    );
    let mut rows = in_step();
    for order in ["in step", "shuffled"] {
        for file in write_all(&folder.path().join(order), &rows)? {
            let seconds = median(|| decode(&file, |_, _| ()))?.as_secs_f64();
            println!(
                "{order:<12} {:<20} {:>9.1} {:>14.0} {:>9.1}",
                file.file_name().unwrap_or_default().to_string_lossy(),
                fs::metadata(&file)?.len() as f64 / 1e6,
                READINGS as f64 / seconds,
                seconds * 1e9 / READINGS as f64,
            );
        }
        rows.shuffle(&mut Pcg64Mcg::seed_from_u64(2));
        for (at, row) in rows.iter_mut().enumerate() {
            row.time = 1_767_225_600_000 + at as i64;
        }
    }
    Ok(())
}

/// Reads a file to its end, handing each batch to `sink`.
fn decode(file: &Path, mut sink: impl FnMut(&Batch, &SensorTable)) -> Result<()> {
    let mut source = FileSource::open(file, &ColumnMapping::default(), Until::CaughtUp)?;
    let (mut sensors, mut batch, mut readings) = (SensorTable::new(), Batch::default(), 0);
    while source.read(&mut sensors, &mut batch)? != Read::End {
        readings += batch.readings.len();
        sink(&batch, &sensors);
    }
    assert_eq!(readings, READINGS, "{}", file.display());
    Ok(())
}

/// The median time of a few runs, after one that warms the caches.
fn median(mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    run()?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

fn in_step() -> Vec<Row> {
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let sensors: Vec<_> = (0..DEVICES)
        .flat_map(|device| TAGS.map(|tag| (device, tag)))
        .collect();
    (0..READINGS)
        .map(|at| {
            let (device, tag) = sensors[at % sensors.len()];
            Row {
                time: 1_767_225_600_000 + (at / sensors.len()) as i64 * 1_000,
                device: format!("pump-{device:03}"),
                tag,
                value: format!("{:.2}", random.random_range(0.0..100.0)),
            }
        })
        .collect()
}

fn write_all(folder: &Path, rows: &[Row]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let mut csv = b"ts,device,tag,value\n".to_vec();
    let mut ndjson = Vec::new();
    for row in rows {
        let (time, device, tag, value) = (EventTime::from_millis(row.time), &row.device, row.tag, &row.value);
        writeln!(csv, "{time},{device},{tag},{value}")?;
        writeln!(
            ndjson,
            r#"{{"ts":"{time}","device":"{device}","tag":"{tag}","value":{value}}}"#
        )?;
    }
    let mut files = Vec::new();
    for (name, text) in [("r.csv", csv), ("r.ndjson", ndjson)] {
        let path = folder.join(name);
        fs::write(&path, &text)?;
        let gz = folder.join(format!("{name}.gz"));
        let mut encoder = GzEncoder::new(BufWriter::new(File::create(&gz)?), flate2::Compression::default());
        encoder.write_all(&text)?;
        encoder.finish()?.flush()?;
        let zst = folder.join(format!("{name}.zst"));
        fs::write(&zst, zstd::encode_all(&*text, 3)?)?;
        files.extend([path, gz, zst]);
    }
    let path = folder.join("r.parquet");
    let batch = RecordBatch::try_from_iter([
        (
            "ts",
            Arc::new(TimestampMillisecondArray::from_iter_values(
                rows.iter().map(|row| row.time),
            )) as _,
        ),
        (
            "device",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.device))) as _,
        ),
        (
            "tag",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.tag))) as _,
        ),
        (
            "value",
            Arc::new(Float64Array::from(
                rows.iter()
                    .map(|row| row.value.parse())
                    .collect::<std::result::Result<Vec<f64>, _>>()?,
            )) as _,
        ),
    ])?;
    let mut writer = ArrowWriter::try_new(File::create(&path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    files.push(path);
    Ok(files)
}
