//! Measures how long `windrow retrain` takes for a fleet, and how much memory, beside scikit-learn with joblib.
//!
//! ```text
//! cargo bench -p windrow-tests --bench retrain -- --sensors 10000 --features mean
//! cargo bench -p windrow-tests --bench retrain -- --sensors 1000 --python PYTHON
//! ```
//!
//! A simulated fleet is trained on a day and scored for so many windows of a minute that every sensor has enough. Then it is
//! trained again, each time in as much memory as its windows may take. `PYTHON` needs scikit-learn, joblib and
//! pyarrow; it reads the same predictions, and fits the same number of rows with the same options on all cores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use windrow_tests::built;

#[derive(Parser, Debug)]
struct Args {
    /// Sensors in the fleet, a multiple of five.
    #[arg(long, default_value_t = 1_000)]
    sensors: u32,
    /// Windows to train each of them on.
    #[arg(long, default_value_t = 3_000)]
    windows: u32,
    /// Features of a model.
    #[arg(long, default_value = "mean")]
    features: String,
    /// Memory for windows, in MiB.
    #[arg(long, default_value_t = 1_024)]
    memory_mib: u32,
    /// Folder for the store, which is kept, and used again if it is there; by default a temporary one.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// A Python with scikit-learn, joblib and pyarrow.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a process took.
struct Cost {
    time: Duration,
    /// Of all its threads, without what it took after the last look.
    processor: Duration,
    /// Largest resident size, in MiB.
    memory_mib: u64,
    output: String,
}

fn main() {
    let args = Args::parse();
    let temporary = tempfile::tempdir().unwrap();
    let folder = args.folder.as_deref().unwrap_or(temporary.path());
    let store = folder.join("store");
    if !store.join("predictions").exists() {
        fs::create_dir_all(folder).unwrap();
        score(&args, &store);
    }
    println!(
        "{} sensors, {} windows of each, features {}\n",
        args.sensors, args.windows, args.features
    );
    let (windows, memory) = (args.windows.to_string(), args.memory_mib.to_string());
    let words = [
        "retrain",
        "--store",
        store.to_str().unwrap(),
        "--windows",
        &windows,
        "--memory-mib",
        &memory,
        "--dry-run",
        "--output",
        "json",
    ];
    let ours = measured(Command::new(built("windrow")).args(words));
    println!("windrow retrain        {}", ours.line());
    println!("                       {}", ours.output.trim());
    if let Some(python) = &args.python {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/retrain_peer.py");
        let theirs = measured(
            Command::new(python)
                .arg(script)
                .arg(store.join("predictions"))
                .args([&windows, &args.features]),
        );
        println!("scikit-learn, joblib   {}", theirs.line());
        println!("                       {}", theirs.output.trim());
        println!(
            "windrow takes {:.3} of the time",
            ours.time.as_secs_f64() / theirs.time.as_secs_f64()
        );
    }
}

/// Trains the fleet and scores it, through the product itself.
fn score(args: &Args, store: &Path) {
    assert!(args.sensors.is_multiple_of(5), "--sensors: a multiple of five");
    let fleet = |start: &str, minutes: u32| {
        format!(
            "sim:devices={},tags=5,period=20s,disorder=0s,anomalies=0,start={start},duration={minutes}m",
            args.sensors / 5
        )
    };
    let store = store.to_str().unwrap();
    let source = fleet("2026-01-04T00:00:00Z", 360);
    let features = ["--features", &args.features, "--store", store];
    let words = ["models", "train", "--source", &source];
    measured(Command::new(built("windrow")).args(words).args(features));
    let source = fleet("2026-01-05T00:00:00Z", args.windows + 60);
    let words = [
        "run",
        "--source",
        &source,
        "--store",
        store,
        "--interval",
        "1h",
        "--until-caught-up",
    ];
    println!(
        "scored: {}",
        measured(Command::new(built("windrow")).args(words)).line()
    );
}

impl Cost {
    fn line(&self) -> String {
        format!(
            "{:>8.1} s, {:>8.1} s of processor time, {:>6} MiB",
            self.time.as_secs_f64(),
            self.processor.as_secs_f64(),
            self.memory_mib
        )
    }
}

/// Runs a command that has to succeed.
fn measured(command: &mut Command) -> Cost {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    });
    let (mut processor, mut memory_mib) = (Duration::ZERO, 0);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        processor = processor_time(child.id()).unwrap_or(processor);
        memory_mib = peak_mib(child.id()).unwrap_or(memory_mib);
        std::thread::sleep(Duration::from_millis(50));
    };
    let time = began.elapsed();
    let output = reader.join().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{output}");
    Cost {
        time,
        processor,
        memory_mib,
        output,
    }
}

/// Returns the time that a process and its children took, by `/proc` in ticks of 10 ms.
fn processor_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let ticks = after_name.split_whitespace().skip(11).take(4);
    let sum: u64 = ticks.filter_map(|number| number.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(sum * 10))
}

fn peak_mib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1_024)
}
