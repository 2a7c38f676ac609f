//! Measures how many readings a second one core decodes from files and puts into windows:
//! `cargo bench -p windrow-producer --bench decode`.
//!
//! It measures the same readings in two orders. In step (every sensor, then the next second), the timestamps and the
//! order of the sensors repeat; shuffled, nothing repeats. The wide files hold as many readings, eight to a row. For
//! comparison, it reads the long files into rows of strings and a number with the `csv` and `serde_json` crates, as most
//! programs do.
//!
//! `-- FOLDER` keeps the files there, and `-- FOLDER 'in step/r.csv'` only decodes this one of them, once: for programs that
//! count instructions, such as callgrind.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::Deserialize;
use windrow_common::EventTime;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::decode::ColumnMapping;
use windrow_producer::source::file::FileSource;
use windrow_producer::source::{Batch, Read, Source, Until};
use windrow_producer::window::{Emitted, Position, WindowConfig, Windower};

const READINGS: usize = 2_000_000;
const DEVICES: usize = 100;
const TAGS: [&str; 5] = ["temperature", "pressure", "vibration", "flow", "current"];
/// Measurements in a wide row.
const WIDE: usize = 8;
/// Odd, so that the median is one of the measurements.
const ROUNDS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Row {
    time: i64,
    device: String,
    tag: &'static str,
    /// As written, with two decimals.
    value: String,
}

fn main() -> Result<()> {
    let told: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    if let [folder, file] = &told[..] {
        return decode(&Path::new(folder).join(file));
    }
    let temporary = tempfile::tempdir()?;
    let folder = told.first().map_or(temporary.path(), Path::new);
    println!(
        "{READINGS} readings of {} sensors, M readings/s, median of {ROUNDS} rounds\n",
        DEVICES * TAGS.len()
    );
    println!(
        "{:<10} {:<14} {:>7} {:>8} {:>16} {:>10} {:>8}",
        "order", "file", "MB", "decode", "decode + window", "the crate", "ratio"
    );
    let mut rows = in_step();
    for order in ["in step", "shuffled"] {
        for file in write_all(&folder.join(order), &rows)? {
            let decoded = rate(median(|| decode(&file))?);
            let windowed = rate(median(|| window(&file))?);
            let crates = match file.extension().and_then(|ending| ending.to_str()) {
                _ if is_wide(&file) => None,
                Some("csv") => Some(rate(median(|| with_csv(&file))?)),
                Some("ndjson") => Some(rate(median(|| with_serde_json(&file))?)),
                _ => None,
            };
            println!(
                "{order:<10} {:<14} {:>7.1} {decoded:>8.2} {windowed:>16.2} {:>10} {:>8}",
                file.file_name().unwrap_or_default().to_string_lossy(),
                fs::metadata(&file)?.len() as f64 / 1e6,
                crates.map_or_else(String::new, |rate| format!("{rate:.2}")),
                crates.map_or_else(String::new, |rate| format!("{:.1} x", decoded / rate)),
            );
        }
        rows.shuffle(&mut Pcg64Mcg::seed_from_u64(2));
        for (at, row) in rows.iter_mut().enumerate() {
            row.time = 1_767_225_600_000 + at as i64;
        }
    }
    Ok(())
}

/// Returns whether a file has several measurements in a row.
fn is_wide(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem == "wide")
}

/// Returns the options for a file.
fn mapping_of(file: &Path) -> Result<ColumnMapping> {
    let tags = if is_wide(file) {
        vec!["*".parse()?]
    } else {
        Vec::new()
    };
    Ok(ColumnMapping {
        tags,
        ..ColumnMapping::default()
    })
}

/// Reads a file to its end.
fn decode(file: &Path) -> Result<()> {
    let mut source = FileSource::open(file, &mapping_of(file)?, Until::Stopped)?;
    let (mut sensors, mut batch, mut readings) = (SensorTable::new(), Batch::default(), 0);
    while source.read(&mut sensors, &mut batch)? == Read::Batch {
        readings += batch.readings.len();
    }
    assert_eq!(readings, READINGS, "{}", file.display());
    Ok(())
}

/// Reads a file to its end and cuts it into one-minute windows, as the producer's ingest thread does.
fn window(file: &Path) -> Result<()> {
    let mut source = FileSource::open(file, &mapping_of(file)?, Until::Stopped)?;
    let windowing = WindowConfig::default().validate()?;
    let mut windower = Windower::of_source(windowing, &Position::start(1), &source, Instant::now());
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let (mut out, mut aggregated) = (Emitted::default(), 0);
    while source.read(&mut sensors, &mut batch)? == Read::Batch {
        windower.take(&mut batch, &sensors, Instant::now(), &mut out);
        aggregated += out.messages.drain(..).map(|message| count(&message)).sum::<u64>();
    }
    windower.close_all(&sensors, &mut out);
    aggregated += out.messages.iter().map(count).sum::<u64>();
    assert_eq!((aggregated, out.quarantined.len()), (READINGS as u64, 0));
    Ok(())
}

fn count(message: &windrow_common::ScoringMessage) -> u64 {
    message.aggregates.iter().map(|aggregate| aggregate.count).sum()
}

/// A row as the `csv` and `serde_json` crates read it. The sensor is looked up and the time parsed, as in our decoder.
#[derive(Deserialize)]
struct PlainRow<'a> {
    ts: &'a str,
    device: &'a str,
    tag: &'a str,
    value: f64,
}

impl PlainRow<'_> {
    fn take(&self, sensors: &mut SensorTable) -> Result<f64> {
        let time = EventTime::parse(self.ts.as_bytes())?;
        let sensor = sensors.intern(self.device, self.tag)?;
        Ok(time.as_millis() as f64 + sensor.as_usize() as f64 + self.value)
    }
}

fn with_csv(file: &Path) -> Result<()> {
    let mut reader = csv::Reader::from_reader(File::open(file)?);
    let headers = reader.byte_headers()?.clone();
    let (mut record, mut sensors, mut sum) = (csv::ByteRecord::new(), SensorTable::new(), 0.0);
    while reader.read_byte_record(&mut record)? {
        let row: PlainRow<'_> = record.deserialize(Some(&headers))?;
        sum += row.take(&mut sensors)?;
    }
    std::hint::black_box(sum);
    Ok(())
}

fn with_serde_json(file: &Path) -> Result<()> {
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(file)?);
    let (mut line, mut sensors, mut sum) = (Vec::new(), SensorTable::new(), 0.0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        sum += serde_json::from_slice::<PlainRow<'_>>(&line)?.take(&mut sensors)?;
        line.clear();
    }
    std::hint::black_box(sum);
    Ok(())
}

/// Returns millions of readings a second.
fn rate(time: Duration) -> f64 {
    READINGS as f64 / time.as_secs_f64() / 1e6
}

/// Returns the median time of a few runs, after one run that warms the caches.
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
    files.extend(write_wide(folder, rows)?);
    // A compressed file that was written just now is decompressed once before it is read, to see whether it is whole.
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    for file in &files {
        File::options().write(true).open(file)?.set_modified(long_ago)?;
    }
    Ok(files)
}

/// Writes the values again, eight to a row: the time and the device of each row are those of its first reading.
fn write_wide(folder: &Path, rows: &[Row]) -> Result<[PathBuf; 2]> {
    let tags: Vec<String> = (0..WIDE).map(|tag| format!("tag_{tag}")).collect();
    let mut csv = format!("ts,device,{}\n", tags.join(",")).into_bytes();
    for row in rows.chunks(WIDE) {
        write!(csv, "{},{}", EventTime::from_millis(row[0].time), row[0].device)?;
        for cell in row {
            write!(csv, ",{}", cell.value)?;
        }
        csv.push(b'\n');
    }
    let text = folder.join("wide.csv");
    fs::write(&text, csv)?;
    let firsts = || rows.chunks(WIDE).map(|row| &row[0]);
    let mut columns: Vec<(String, ArrayRef)> = vec![
        (
            "ts".to_owned(),
            Arc::new(TimestampMillisecondArray::from_iter_values(
                firsts().map(|row| row.time),
            )),
        ),
        (
            "device".to_owned(),
            Arc::new(StringArray::from_iter_values(firsts().map(|row| &row.device))),
        ),
    ];
    for (at, tag) in tags.into_iter().enumerate() {
        let values = rows.chunks(WIDE).map(|row| row[at].value.parse());
        let values: std::result::Result<Vec<f64>, _> = values.collect();
        columns.push((tag, Arc::new(Float64Array::from(values?))));
    }
    let batch = RecordBatch::try_from_iter(columns)?;
    let path = folder.join("wide.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok([text, path])
}
