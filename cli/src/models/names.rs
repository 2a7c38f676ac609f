//! Patterns of file names that tell which sensor a model is of.

use std::path::{Path, PathBuf};

use windrow_common::SensorId;

use crate::error::CliError;

/// Endings of models' files that are no part of a name, in any case.
const FORMATS: [&str; 13] = [
    "pkl", "pickle", "joblib", "sav", "p", "pk", "jl", "onnx", "skops", "model", "libsvm", "svm", "dump",
];

/// Endings of compressed files, which come after those.
const COMPRESSIONS: [&str; 8] = ["gz", "z", "zlib", "lz4", "xz", "bz2", "lzma", "zst"];

/// A pattern such as `model_{device}_{tag}` or `models/{device}/{tag}`, for the last parts of a path.
#[derive(Debug)]
pub(crate) struct NamePattern {
    text: String,
    /// The pieces of each part of the path.
    parts: Vec<Vec<Piece>>,
    device: Option<String>,
    tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Device,
    Tag,
}

/// What a path says about its sensor: for each way to read it, the device and the tag.
type Readings = Vec<(Option<String>, Option<String>)>;

impl NamePattern {
    /// Parses a pattern. It may contain `{device}` and `{tag}` once each; a name that it does not contain must be given
    /// instead.
    pub(crate) fn new(
        option: &str,
        pattern: &str,
        device: Option<&str>,
        tag: Option<&str>,
    ) -> Result<Self, CliError> {
        let wrong = |why: String| Err(CliError::Usage(format!("{option} `{pattern}` is invalid: {why}")));
        let mut parts = Vec::new();
        let names: Vec<&str> = pattern
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        for (at, part) in names.iter().enumerate() {
            let part = if at + 1 == names.len() { stem(part) } else { part };
            match pieces(part) {
                Some(pieces) => parts.push(pieces),
                None => {
                    return wrong(format!(
                        "in `{part}`, use only {{device}} and {{tag}}, with text between them"
                    ));
                }
            }
        }
        for (name, piece, given) in [("device", Piece::Device, device), ("tag", Piece::Tag, tag)] {
            let count = parts.iter().flatten().filter(|other| **other == piece).count();
            match (count, given) {
                (0, None) => return wrong(format!("it has no {{{name}}}: add it, or give --{name}")),
                (1, Some(_)) => {
                    return wrong(format!(
                        "it has {{{name}}}, and --{name} gives the {name} too: give one of them"
                    ));
                }
                (0 | 1, _) => {}
                _ => return wrong(format!("it has {{{name}}} twice")),
            }
        }
        Ok(Self {
            text: pattern.to_owned(),
            parts,
            device: device.map(str::to_owned),
            tag: tag.map(str::to_owned),
        })
    }

    /// Returns every sensor that the path may be of.
    pub(crate) fn readings(&self, path: &Path) -> Result<Vec<SensorId>, String> {
        let names: Vec<&str> = path.iter().filter_map(|name| name.to_str()).collect();
        let Some(first) = names.len().checked_sub(self.parts.len()) else {
            return Ok(Vec::new());
        };
        let mut readings: Readings = vec![(self.device.clone(), self.tag.clone())];
        for (at, (part, name)) in self.parts.iter().zip(&names[first..]).enumerate() {
            let name = if at + 1 == self.parts.len() {
                stem(name)
            } else {
                name
            };
            let mut longer = Readings::new();
            for reading in readings {
                read(part, name, reading, &mut longer);
            }
            readings = longer;
        }
        let sensor = |(device, tag): (Option<String>, Option<String>)| {
            SensorId::new(&device.unwrap_or_default(), &tag.unwrap_or_default())
        };
        let sensors: Result<Vec<SensorId>, _> = readings.into_iter().map(sensor).collect();
        sensors.map_err(|error| error.to_string())
    }

    /// Returns the one sensor that the path is of.
    ///
    /// If there are several ways to read the path, exactly one of them must be a sensor for which `known` returns true.
    pub(crate) fn sensor_of(
        &self,
        path: &Path,
        known: impl Fn(&SensorId) -> bool,
    ) -> Result<SensorId, String> {
        let mut readings = self.readings(path)?;
        if readings.len() > 1 {
            let of_source: Vec<&SensorId> = readings.iter().filter(|sensor| known(sensor)).collect();
            if let [sensor] = of_source[..] {
                readings = vec![sensor.clone()];
            }
        }
        match &readings[..] {
            [sensor] => Ok(sensor.clone()),
            [] => Err(format!("its name does not match --name-pattern {}", self.text)),
            _ => {
                let named: Vec<String> = readings.iter().map(ToString::to_string).collect();
                // Suggest the middle one as an example; the first and the last are seldom right.
                let device = readings[readings.len() / 2].device.as_ref();
                Err(format!(
                    "its name fits --name-pattern {} in {} ways ({}); import it alone with its device, such as \
                     `--device {device} --name-pattern '{}'`, or let readings decide with --against SOURCE",
                    self.text,
                    named.len(),
                    named.join(", "),
                    self.text.replace("{device}", device),
                ))
            }
        }
    }

    /// Returns how many characters of the pattern are plain text.
    pub(crate) fn literal_length(&self) -> usize {
        let pieces = self.parts.iter().flatten();
        pieces
            .map(|piece| match piece {
                Piece::Text(text) => text.len(),
                Piece::Device | Piece::Tag => 0,
            })
            .sum()
    }

    /// Returns the possible paths of a sensor's file by this pattern, in the folder tree of `other`, a file that
    /// matches `pattern`.
    pub(crate) fn beside(&self, other: &Path, pattern: &Self, sensor: &SensorId) -> Vec<PathBuf> {
        let mut folder = other.to_owned();
        for _ in &pattern.parts {
            folder.pop();
        }
        for part in &self.parts {
            let pieces = part.iter().map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Device => sensor.device.as_ref(),
                Piece::Tag => sensor.tag.as_ref(),
            });
            folder.push(pieces.collect::<String>());
        }
        let with = |ending: &str| {
            let mut path = folder.clone().into_os_string();
            path.push(ending);
            PathBuf::from(path)
        };
        let ending = other.file_name().and_then(|name| name.to_str());
        let own = ending.map(|name| name[stem(name).len()..].to_owned());
        let plain = FORMATS
            .iter()
            .flat_map(|ending| [format!(".{ending}"), format!(".{}", ending.to_uppercase())]);
        let endings = own.into_iter().chain([String::new()]).chain(plain);
        endings.map(|ending| with(&ending)).collect()
    }
}

/// Returns a file's name without the endings of models' files.
fn stem(name: &str) -> &str {
    strip(strip(name, &COMPRESSIONS), &FORMATS)
}

fn strip<'a>(name: &'a str, endings: &[&str]) -> &'a str {
    match name.rsplit_once('.') {
        Some((stem, ending))
            if !stem.is_empty() && endings.iter().any(|known| known.eq_ignore_ascii_case(ending)) =>
        {
            stem
        }
        _ => name,
    }
}

/// Splits a part of a pattern; `None` if two names touch each other, or a brace is something else.
fn pieces(part: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = part;
    while !rest.is_empty() {
        let named = [("{device}", Piece::Device), ("{tag}", Piece::Tag)];
        let name = named.into_iter().find(|(name, _)| rest.starts_with(name));
        if let Some((name, piece)) = name {
            if matches!(pieces.last(), Some(Piece::Device | Piece::Tag)) {
                return None;
            }
            pieces.push(piece);
            rest = &rest[name.len()..];
            continue;
        }
        let end = rest.find('{').unwrap_or(rest.len());
        let (text, after) = rest.split_at(end);
        if text.is_empty() || text.contains('}') {
            return None;
        }
        pieces.push(Piece::Text(text.to_owned()));
        rest = after;
    }
    Some(pieces)
}

/// Adds every way to read `name` by the pieces to `readings`.
fn read(pieces: &[Piece], name: &str, so_far: (Option<String>, Option<String>), readings: &mut Readings) {
    let Some((piece, rest)) = pieces.split_first() else {
        if name.is_empty() {
            readings.push(so_far);
        }
        return;
    };
    if let Piece::Text(text) = piece {
        if let Some(name) = name.strip_prefix(text.as_str()) {
            read(rest, name, so_far, readings);
        }
        return;
    }
    for (end, character) in name.char_indices() {
        let (own, after) = name.split_at(end + character.len_utf8());
        let mut longer = so_far.clone();
        match piece {
            Piece::Device => longer.0 = Some(own.to_owned()),
            _ => longer.1 = Some(own.to_owned()),
        }
        read(rest, after, longer, readings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str, file: &str) -> Vec<String> {
        let pattern = NamePattern::new("--name-pattern", pattern, None, None).unwrap();
        let sensors = pattern.readings(Path::new(file)).unwrap();
        sensors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pattern_tells_the_sensor() {
        assert_eq!(of("model_{device}_{tag}", "x/model_3_4"), ["3/4"]);
        assert_eq!(of("{tag}@{device}", "temp@pump-7.pkl"), ["pump-7/temp"]);
        assert_eq!(
            of("models/{device}/{tag}.pkl", "/data/models/pump-7/temp.pkl"),
            ["pump-7/temp"]
        );
        assert_eq!(
            of("{device}/v1/model-{tag}", "pump-7/v1/model-a_b.joblib"),
            ["pump-7/a_b"]
        );
        assert_eq!(of("model_{device}_{tag}", "model_3"), [""; 0]);
        assert_eq!(of("model_{device}_{tag}", "scaler_3_4"), [""; 0]);
        assert_eq!(of("models/{device}/{tag}", "temp.pkl"), [""; 0]);
        assert_eq!(of("models/{device}/{tag}", "other/pump-7/temp.pkl"), [""; 0]);
    }

    #[test]
    fn endings_are_no_part_of_a_name_in_any_case() {
        for ending in [
            ".sav",
            ".PKL",
            ".Pickle",
            ".joblib",
            ".onnx",
            ".skops",
            ".pkl.gz",
            ".joblib.z",
            ".JOBLIB.LZ4",
            ".gz",
            "",
        ] {
            assert_eq!(
                of("model_{device}_{tag}", &format!("model_pump-7_temp{ending}")),
                ["pump-7/temp"],
                "{ending}"
            );
            let pattern = format!("model_{{device}}_{{tag}}{ending}");
            assert_eq!(of(&pattern, "model_pump-7_temp.pkl"), ["pump-7/temp"], "{ending}");
        }
        assert_eq!(of("{device}_{tag}", "pump_7.5"), ["pump/7.5"]);
        assert_eq!(of("{device}_{tag}", "pump_v1.2.pkl"), ["pump/v1.2"]);
    }

    #[test]
    fn several_readings_are_an_error_that_shows_them() {
        let pattern = NamePattern::new("--name-pattern", "model_{device}_{tag}", None, None).unwrap();
        let file = Path::new("model_boiler_01_flow_rate.pkl");
        let error = pattern.sensor_of(file, |_| false).unwrap_err();
        assert!(
            error.contains("3 ways (boiler/01_flow_rate, boiler_01/flow_rate, boiler_01_flow/rate)"),
            "{error}"
        );
        assert!(
            error.contains("--device boiler_01 --name-pattern 'model_boiler_01_{tag}'"),
            "{error}"
        );
        // What the readings know decides, if they know one only.
        let known = |names: &[&str]| {
            let names: Vec<SensorId> = names.iter().map(|name| name.parse().unwrap()).collect();
            pattern
                .sensor_of(file, |sensor| names.contains(sensor))
                .map(|sensor| sensor.to_string())
        };
        assert_eq!(
            known(&["boiler_01/flow_rate", "x/y"]),
            Ok("boiler_01/flow_rate".into())
        );
        assert!(known(&["boiler_01/flow_rate", "boiler/01_flow_rate"]).is_err());
    }

    #[test]
    fn one_name_may_be_given() {
        let of = |pattern: &str, device, tag, file: &str| {
            let pattern = NamePattern::new("--name-pattern", pattern, device, tag);
            let sensors = pattern
                .map_err(|error| error.to_string())?
                .readings(Path::new(file))?;
            Ok::<_, String>(sensors.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let boiler = of(
            "model_boiler_01_{tag}",
            Some("boiler_01"),
            None,
            "model_boiler_01_flow_rate.pkl",
        );
        assert_eq!(boiler, Ok(vec!["boiler_01/flow_rate".to_owned()]));
        assert_eq!(
            of("{device}", None, Some("temp"), "a/pump_7.sav"),
            Ok(vec!["pump_7/temp".to_owned()])
        );
        assert_eq!(
            of("final", Some("a"), Some("b"), "final.pkl"),
            Ok(vec!["a/b".to_owned()])
        );
        for (pattern, device, says) in [
            (
                "model_{tag}",
                None,
                "it has no {device}: add it, or give --device",
            ),
            ("{device}_{tag}", Some("a"), "--device gives the device too"),
            ("{device}_{device}_{tag}", None, "{device} twice"),
            ("{device}{tag}", None, "with text between them"),
            ("{device}_{sensor}", None, "use only {device} and {tag}"),
            ("{device}_}{tag}", None, "use only {device} and {tag}"),
        ] {
            let error = of(pattern, device, None, "x").unwrap_err();
            assert!(error.contains(says), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_scaler_is_beside_its_model() {
        let model = NamePattern::new("--name-pattern", "models/{device}/{tag}.pkl", None, None).unwrap();
        let scaler = NamePattern::new("--scaler-pattern", "scalers/{device}_{tag}", None, None).unwrap();
        let sensor: SensorId = "pump-7/temp".parse().unwrap();
        let paths = scaler.beside(Path::new("/data/models/pump-7/temp.sav"), &model, &sensor);
        assert_eq!(paths[0], Path::new("/data/scalers/pump-7_temp.sav"));
        assert!(paths.contains(&PathBuf::from("/data/scalers/pump-7_temp.joblib")));
    }
}
