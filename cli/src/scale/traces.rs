//! Which arrivals are replayed: generated ones, or those of a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use windrow_scaler::simulate::{Generated, Trace};

use super::ScaleError;

/// Largest file that is read. Four weeks with a line a second have about 50 MB.
const MAX_BYTES: u64 = 64 << 20;
/// The name of all generated traces.
pub(super) const ALL: &str = "all";

/// Returns the named traces. A name that is not a generated trace is the path of a file.
pub(super) fn traces(names: &[String], sensors: Option<u64>, seed: u64) -> Result<Vec<Trace>, ScaleError> {
    let mut traces = Vec::new();
    for name in names {
        let named = Generated::ALL
            .into_iter()
            .find(|generated| generated.name() == name);
        match (name.as_str(), named) {
            (ALL, _) => {
                let all = Generated::ALL.into_iter();
                // With a number of sensors, both hourly bursts are the same.
                let wanted = all.filter(|trace| sensors.is_none() || *trace != Generated::SmallHourlyBurst);
                traces.extend(wanted.map(|generated| generated.trace(sensors, seed)));
            }
            (_, Some(generated)) => traces.push(generated.trace(sensors, seed)),
            (file, None) => traces.push(read(Path::new(file))?),
        }
    }
    Ok(traces)
}

fn read(file: &Path) -> Result<Trace, ScaleError> {
    let wrong = |why: String| ScaleError::Trace {
        file: file.to_owned(),
        why,
    };
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| wrong(format!("{error}; {}", names())))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(wrong(
            "it has more than 64 MiB; merge lines of the same second".to_owned(),
        ));
    }
    let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy();
    Trace::parse(&name, &text).map_err(wrong)
}

fn names() -> String {
    let names = Generated::ALL.map(Generated::name).join(", ");
    format!("name a CSV file of seconds,messages, or one of: {ALL}, {names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_the_five_or_four_of_the_same_size() {
        let names = |sensors| -> Vec<String> {
            let traces = traces(&["all".to_owned()], sensors, 1).unwrap();
            traces.iter().map(Trace::title).collect()
        };
        assert_eq!(
            names(None),
            [
                "hourly-burst, 1 M sensors",
                "small-hourly-burst, 10 k sensors",
                "diurnal, 300 k sensors",
                "random-spikes, 500 k sensors",
                "outage-backlog, 100 k sensors"
            ]
        );
        let of_size = names(Some(2_000));
        assert_eq!(of_size.len(), 4);
        assert!(
            of_size.iter().all(|title| title.ends_with("2 k sensors")),
            "{of_size:?}"
        );
    }

    #[test]
    fn what_is_neither_a_name_nor_a_file_is_refused_with_the_names() {
        let error = traces(&["hourly".to_owned()], None, 1).unwrap_err().to_string();
        assert!(
            error.contains("trace hourly") && error.contains("hourly-burst"),
            "{error}"
        );
    }
}
