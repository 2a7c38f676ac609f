//! Records in full, and their bytes as they came.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use windrow_common::encode_segment;
use windrow_producer::quarantine::{Content, Stored, read};
use windrow_store::{Store, StoreArg};

use super::Filter;
use super::list::printable;
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

/// The value of `--raw` that means standard output.
const STDOUT: &str = "-";
/// The file that receives the readings.
const READINGS: &str = "readings.ndjson";

#[derive(Args, Debug)]
#[command(after_help = "\
Example: write what could not be decoded to files, to repair them and read them again
  windrow quarantine show --store ./store --reason unreadable --raw set-aside/")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    filter: Filter,
    /// Write the bytes as they came instead: into a new folder, one file an item; without a folder, or with -, to
    /// standard output, with a line end between items. Readings are written as NDJSON
    #[arg(
        long,
        value_name = "FOLDER",
        num_args = 0..=1,
        default_missing_value = STDOUT,
        env = "WINDROW_RAW"
    )]
    raw: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArg,
}

impl ShowArgs {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        match &self.raw {
            None => self.show(&store).await,
            Some(raw) if raw.as_os_str() == STDOUT => self.write(&store, &mut Stdout::default()).await,
            Some(folder) => {
                let mut folder = Folder::create(folder)?;
                self.write(&store, &mut folder).await?;
                show::line(&format!(
                    "{} files and {} readings are in {}",
                    show::count(folder.items),
                    show::count(folder.readings),
                    folder.path.display()
                ))
            }
        }
    }

    /// Shows one record after the other, because all of them may be more than fits in memory.
    async fn show(&self, store: &Store) -> Result<(), CliError> {
        let is_json = self.output.output == OutputFormat::Json;
        let mut records = 0_u64;
        self.each(store, |stored| {
            records += 1;
            match (is_json, records) {
                (true, 1) => show::line(&format!("[\n{}", stored.to_json())),
                (true, _) => show::line(&format!(",{}", stored.to_json())),
                (false, 1) => show::facts(&facts(stored)),
                (false, _) => show::line("").and_then(|()| show::facts(&facts(stored))),
            }
        })
        .await?;
        match (is_json, records) {
            (true, 0) => show::line("[]"),
            (true, _) => show::line("]"),
            (false, 0) => show::line("nothing in quarantine matches"),
            (false, _) => Ok(()),
        }
    }

    async fn write(&self, store: &Store, to: &mut impl Destination) -> Result<(), CliError> {
        let mut cut = 0_u64;
        self.each(store, |stored| {
            cut += u64::from(stored.record.is_cut());
            to.write(stored)
        })
        .await?;
        match cut {
            0 => Ok(()),
            cut => Err(CliError::Partial(format!(
                "{cut} items exceed 16 MiB; only their first 16 MiB were kept and written"
            ))),
        }
    }

    /// Calls `each` with every record that the filter selects, up to the first error.
    async fn each(
        &self,
        store: &Store,
        mut each: impl FnMut(&Stored) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut result = Ok(());
        read(store, self.filter.to, |stored| {
            if result.is_ok() && self.filter.wants(&stored) {
                result = each(&stored);
            }
        })
        .await?;
        result
    }
}

/// Returns a record as labelled facts.
fn facts(stored: &Stored) -> Vec<(&'static str, String)> {
    let record = &stored.record;
    let mut facts = vec![
        ("source", stored.source.clone()),
        ("partition", stored.partition.clone()),
        ("reason", record.reason.to_string()),
        ("set aside", stored.at.to_string()),
        ("detail", record.detail.to_string()),
        ("offset", record.offset.to_string()),
        ("index", record.index.to_string()),
        ("readings", record.readings.to_string()),
    ];
    match &record.content {
        Content::Item { line, raw, envelope } => {
            facts.extend(line.map(|line| ("line", line.to_string())));
            let envelope = envelope
                .as_ref()
                .and_then(|event| serde_json::to_string(event).ok());
            facts.extend(envelope.map(|event| ("event", event)));
            facts.push(("bytes", raw.whole_bytes().to_string()));
            if raw.is_cut() {
                facts.push(("bytes kept", raw.bytes().len().to_string()));
            }
            match std::str::from_utf8(raw.bytes()) {
                Ok(text) => facts.push(("raw", text.to_owned())),
                Err(_) => facts.push(("raw", "not text; --raw writes the bytes".to_owned())),
            }
        }
        Content::Reading {
            sensor, time, value, ..
        } => {
            facts.push(("sensor", sensor.to_string()));
            facts.push(("time", time.to_string()));
            facts.push(("value", value.to_string()));
        }
    }
    for (_, fact) in &mut facts {
        *fact = printable(fact);
    }
    facts
}

/// Where bytes are written to.
trait Destination {
    fn write(&mut self, stored: &Stored) -> Result<(), CliError>;
}

#[derive(Default)]
struct Stdout {
    items: u64,
}

impl Destination for Stdout {
    fn write(&mut self, stored: &Stored) -> Result<(), CliError> {
        if self.items > 0 {
            show::bytes(b"\n")?;
        }
        self.items += 1;
        show::bytes(&stored.to_bytes())
    }
}

/// A folder with a file for each item, and one for all readings.
struct Folder {
    path: PathBuf,
    items: u64,
    readings: u64,
    open: Option<File>,
}

impl Folder {
    /// Creates the folder, which must be new or empty: nothing is overwritten.
    fn create(path: &Path) -> Result<Self, CliError> {
        fs::create_dir_all(path).map_err(failed(path))?;
        if fs::read_dir(path).map_err(failed(path))?.next().is_some() {
            return Err(CliError::Usage(format!(
                "cannot write into {}: it is not empty; name a new folder with --raw",
                path.display()
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            items: 0,
            readings: 0,
            open: None,
        })
    }

    /// Writes an item to `<source>/<partition>/<offset>.<index>.raw`.
    fn write_item(&mut self, stored: &Stored) -> Result<(), CliError> {
        let folder = self
            .path
            .join(encode_segment(&stored.source))
            .join(encode_segment(&stored.partition));
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let place = format!("{}.{}", stored.record.offset, stored.record.index);
        // The same place holds several items if the source was read with different options.
        let mut path = folder.join(format!("{place}.raw"));
        let mut number = 1;
        while path.exists() {
            number += 1;
            path = folder.join(format!("{place}-{number}.raw"));
        }
        self.items += 1;
        fs::write(&path, stored.to_bytes()).map_err(failed(&path))
    }

    fn write_reading(&mut self, stored: &Stored) -> Result<(), CliError> {
        let path = self.path.join(READINGS);
        let mut file = match self.open.take() {
            Some(file) => file,
            None => File::create_new(&path).map_err(failed(&path))?,
        };
        let mut line = stored.to_bytes().into_owned();
        line.push(b'\n');
        file.write_all(&line).map_err(failed(&path))?;
        self.open = Some(file);
        self.readings += 1;
        Ok(())
    }
}

impl Destination for Folder {
    fn write(&mut self, stored: &Stored) -> Result<(), CliError> {
        match stored.record.content {
            Content::Item { .. } => self.write_item(stored),
            Content::Reading { .. } => self.write_reading(stored),
        }
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> CliError {
    let path = path.to_owned();
    move |source| CliError::Write {
        path: path.clone(),
        source,
    }
}
