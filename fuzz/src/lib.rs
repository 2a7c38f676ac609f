//! Fuzz targets: feed untrusted bytes to every decoder.
//!
//! A target is a function of bytes that panics if it finds a fault. `make fuzz` runs the targets under libFuzzer, which
//! sees the code that an input reaches and changes it accordingly. `tests/smoke/` runs the same functions on a stable
//! toolchain, with the committed inputs of `corpus/` and changes to them. A fault that was found is kept as an input.
//!
//! No target may panic, or allocate more than the limit for the size of its input ([`memory`]). Most targets check
//! more: written data reads back the same, and two ways to read the same input agree.
//!
//! Everything here is for tests, so code that finds a fault panics and says why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod checkpoint;
mod files;
mod hub;
pub mod memory;
mod models;
mod panics;
mod queue;
mod tables;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its corpus and of its libFuzzer binary.
    pub name: &'static str,
    /// Panics if the bytes show a fault.
    check: fn(&[u8]),
    /// How many bytes it may allocate at once, apart from the input's share.
    most: usize,
    /// How many bytes more it may allocate for each byte of its input.
    per_byte: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// All targets.
pub const TARGETS: [Target; 19] = [
    target("csv", files::csv, 8 * MIB, 64),
    target("ndjson", files::ndjson, 8 * MIB, 64),
    // Each attempt at options rereads the first rows.
    target("wide", files::wide, 16 * MIB, 256),
    target("shapes", files::shapes, 16 * MIB, 256),
    // A page is unpacked whole, and its header says how large it is.
    target("parquet", files::parquet, 256 * MIB, KIB),
    // A block is unpacked whole, and the decoder's limit is 64 MiB.
    target("avro", files::avro, 256 * MIB, KIB),
    target("routed", files::routed, 64 * MIB, 64),
    // A gzip body unpacks to at most 16 MiB, and a buffer grows by doubling.
    target("hub_body", hub::body, 64 * MIB, 64),
    target("scoring_message", queue::scoring_message, 16 * MIB, 16),
    // A text is given the room that its length asks for, up to the codec's limit.
    target(
        "model_file",
        models::file,
        windrow_model::MAX_MODEL_BYTES + MIB,
        16,
    ),
    target("pickle", models::import_file, 4 * MIB, KIB),
    // What is compressed unpacks to at most 64 MiB, in a buffer that grows by doubling.
    target("joblib", models::import_file, 256 * MIB, KIB),
    target("skops", models::import_file, 256 * MIB, KIB),
    target("onnx", models::import_file, 4 * MIB, KIB),
    target("libsvm", models::import_file, 4 * MIB, KIB),
    target("checkpoint", checkpoint::loaded, MIB, 64),
    target("amqp_headers", queue::headers, MIB, 64),
    target("dead_letter", queue::stored_dead_letter, MIB, 64),
    target("tables", tables::parts, 256 * MIB, KIB),
];

const fn target(name: &'static str, check: fn(&[u8]), most: usize, per_byte: usize) -> Target {
    Target {
        name,
        check,
        most,
        per_byte,
    }
}

impl Target {
    /// Checks an input; returns what is wrong as an error.
    pub fn check(&self, bytes: &[u8]) -> Result<(), String> {
        panics::caught(|| self.check_or_panic(bytes))
    }

    fn check_or_panic(&self, bytes: &[u8]) {
        let ((), peak) = memory::peak_of(|| (self.check)(bytes));
        let most = self.most + self.per_byte * bytes.len();
        assert!(
            peak <= most,
            "{} allocated {peak} bytes at once for {} bytes of input; {most} are allowed",
            self.name,
            bytes.len()
        );
    }
}

/// Checks an input of the target `name`, and ends the process if it shows a fault, as libFuzzer expects.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    if let Err(fault) = target.expect("a target of this name").check(bytes) {
        eprintln!("{fault}");
        std::process::abort();
    }
}

/// To be called first: libFuzzer's own hook ends the process at every panic, also where it is caught.
pub use panics::keep_quiet;

/// Runs asynchronous code of the store in memory, which never has to wait.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime without I/O").block_on(future)
}
