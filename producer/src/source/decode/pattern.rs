//! Names and patterns of columns and fields, as options give them.

use std::fmt;
use std::str::FromStr;

use windrow_common::matches_wildcard;

use super::field_source::FieldSource;

/// One step of a path into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) enum Step {
    /// The field whose name this is; a `*` in it stands for any text.
    Field(String),
    /// Every element of an array.
    Each,
}

/// Splits `messages[].payload.*` into its steps. Any text is a path: at worst, one that leads nowhere.
pub(in crate::source) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let name = part.trim_end_matches("[]");
        let arrays = (part.len() - name.len()) / 2;
        if !name.is_empty() || arrays == 0 {
            steps.push(Step::Field(name.to_owned()));
        }
        steps.extend((0..arrays).map(|_| Step::Each));
    }
    steps
}

/// Returns whether `name` matches `pattern`, in which `*` stands for any text. Ignores ASCII case.
pub(in crate::source) fn matches(pattern: &str, name: &str) -> bool {
    matches_wildcard(pattern, name, |a, b| a.eq_ignore_ascii_case(&b))
}

/// Columns or fields that hold one measurement each: `PATTERN`, or `NAME=COLUMN` for a tag of another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPattern {
    /// The tag, unless it is the column's own name.
    pub name: Option<String>,
    /// The column or path; `*` stands for any text.
    pub pattern: String,
}

impl FromStr for TagPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pattern) = match text.split_once('=') {
            Some((name, pattern)) => (Some(name.trim().to_owned()), pattern.trim()),
            None => (None, text.trim()),
        };
        if pattern.is_empty() || name.as_ref().is_some_and(String::is_empty) {
            return Err(format!(
                "`{text}` is no column: write a name, a pattern such as temp_*, or TAG=COLUMN"
            ));
        }
        if name.is_some() && pattern.contains('*') {
            return Err(format!(
                "`{text}` would give every column that matches the same tag"
            ));
        }
        Ok(Self {
            name,
            pattern: pattern.to_owned(),
        })
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        f.write_str(&self.pattern)
    }
}

/// What a row must hold to be read: `COLUMN=VALUE` or `COLUMN!=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The column or path.
    pub column: String,
    /// Whether the cell has to differ from the value.
    pub differs: bool,
    /// The value.
    pub value: String,
}

impl Condition {
    /// Returns whether a cell has the value, as text or as a number.
    pub(in crate::source) fn holds(&self, cell: &[u8]) -> bool {
        let is_same = cell.eq_ignore_ascii_case(self.value.as_bytes())
            || std::str::from_utf8(cell)
                .ok()
                .and_then(|cell| Some(cell.parse::<f64>().ok()? == self.value.parse::<f64>().ok()?))
                .unwrap_or(false);
        is_same != self.differs
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is no condition: write COLUMN=VALUE or COLUMN!=VALUE"))?;
        let differs = column.ends_with('!');
        let column = column.trim_end_matches('!').trim();
        if column.is_empty() {
            return Err(format!(
                "`{text}` names no column: write COLUMN=VALUE or COLUMN!=VALUE"
            ));
        }
        Ok(Self {
            column: column.to_owned(),
            differs,
            value: value.trim().to_owned(),
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.differs { "!=" } else { "=" };
        write!(f, "{}{sign}{}", self.column, self.value)
    }
}

/// Where the device's name comes from, if it is in no column or field of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceFrom {
    /// The name of the file, without its ending.
    File,
    /// A part of the file's path below the source, counted from 1, or from the end if negative (-1 is the file's name).
    Path(i32),
    /// Always this name.
    Const(String),
    /// A part of a column or field that holds a path, such as the topic `plant/line/pump-7`; counted alike.
    Segment(String, i32),
    /// A property or an annotation of the event.
    Event(FieldSource),
}

impl DeviceFrom {
    /// Returns the place beside an event's body that it names.
    pub fn of_event(&self) -> Option<&FieldSource> {
        match self {
            Self::Event(source) => Some(source),
            _ => None,
        }
    }

    /// Returns the device of the readings in the file `name` (its path below the source); `None` if each row has its own.
    pub(in crate::source) fn of_file(&self, name: &str) -> Option<Result<String, String>> {
        let part = |index: i32| {
            let mut parts: Vec<&str> = name.split('/').collect();
            if let Some(file) = parts.last_mut() {
                *file = without_ending(file);
            }
            let part = segment(parts.into_iter().map(str::as_bytes), index);
            let part = part.map(|part| String::from_utf8_lossy(part).into_owned());
            part.ok_or_else(|| format!("--device-from {self}: the path `{name}` has no such part"))
        };
        match self {
            Self::File => Some(part(-1)),
            Self::Path(index) => Some(part(*index)),
            Self::Const(name) => Some(Ok(name.clone())),
            Self::Segment(..) | Self::Event(_) => None,
        }
    }
}

/// Returns the part with this index, counted from 1 or, if negative, from the end.
pub(in crate::source) fn segment<'a>(
    parts: impl DoubleEndedIterator<Item = &'a [u8]>,
    index: i32,
) -> Option<&'a [u8]> {
    let mut parts = parts;
    let at = usize::try_from(index.unsigned_abs()).ok()?.checked_sub(1)?;
    match index > 0 {
        true => parts.nth(at),
        false => parts.nth_back(at),
    }
}

/// Returns a file's name without the endings that say how to read it.
fn without_ending(file: &str) -> &str {
    let mut name = file;
    for endings in [
        &["gz", "zst"][..],
        &[
            "csv", "tsv", "txt", "dat", "ndjson", "jsonl", "json", "parquet", "avro",
        ],
    ] {
        if let Some((stem, ending)) = name.rsplit_once('.')
            && endings.iter().any(|known| known.eq_ignore_ascii_case(ending))
        {
            name = stem;
        }
    }
    name
}

impl FromStr for DeviceFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` does not say where the device is: write file, path:N, const:NAME, segment:FIELD:N (N from 1, or -1 \
                 for the last), property:NAME or annotation:NAME"
            )
        };
        let index = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(wrong()),
            Ok(index) => Ok(index),
        };
        match text.split_once(':') {
            None if text == "file" => Ok(Self::File),
            Some(("path", part)) => Ok(Self::Path(index(part)?)),
            Some(("const", name)) if !name.is_empty() => Ok(Self::Const(name.to_owned())),
            Some(("property" | "annotation", _)) => Ok(Self::Event(text.parse()?)),
            Some(("segment", rest)) => {
                let (field, part) = rest.rsplit_once(':').ok_or_else(wrong)?;
                match field.is_empty() {
                    true => Err(wrong()),
                    false => Ok(Self::Segment(field.to_owned(), index(part)?)),
                }
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for DeviceFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Path(part) => write!(f, "path:{part}"),
            Self::Const(name) => write!(f, "const:{name}"),
            Self::Segment(field, part) => write!(f, "segment:{field}:{part}"),
            Self::Event(source) => write!(f, "{source}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "temp"),
            ("temp", "TEMP"),
            ("sensor_*", "sensor_12"),
            ("*_c", "oil_c"),
            ("a*b*c", "a-b-b-c"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("temp", "temp2"),
            ("sensor_*", "sensor"),
            ("a*b", "abc"),
            ("", "x"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_path_is_split_into_steps() {
        let field = |name: &str| Step::Field(name.to_owned());
        assert_eq!(steps("temp"), [field("temp")]);
        assert_eq!(steps("a.b"), [field("a"), field("b")]);
        assert_eq!(steps("m[].p.*"), [field("m"), Step::Each, field("p"), field("*")]);
        assert_eq!(steps("[].x"), [Step::Each, field("x")]);
    }

    #[test]
    fn options_are_read_and_written_alike() {
        for text in [
            "file",
            "path:2",
            "path:-1",
            "const:plant 1",
            "segment:topic:-1",
            "segment:a:b:3",
            "annotation:iothub-connection-device-id",
        ] {
            assert_eq!(text.parse::<DeviceFrom>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "path:0",
            "path:x",
            "const:",
            "segment:topic",
            "segment::1",
            "column:x",
        ] {
            assert!(text.parse::<DeviceFrom>().is_err(), "{text}");
        }
        for text in ["quality=Good", "status!=0"] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        assert!("=x".parse::<Condition>().is_err() && "x".parse::<Condition>().is_err());
        assert!("temp*=a_*".parse::<TagPattern>().is_err());
    }

    #[test]
    fn a_file_names_its_device() {
        let of = |from: &str, name: &str| from.parse::<DeviceFrom>().unwrap().of_file(name).unwrap();
        assert_eq!(of("file", "plant/pump-7.csv.gz").unwrap(), "pump-7");
        assert_eq!(of("file", "pump.7.log").unwrap(), "pump.7.log");
        assert_eq!(of("path:1", "plant/line 2/x.csv").unwrap(), "plant");
        assert_eq!(of("path:-2", "plant/line 2/x.csv").unwrap(), "line 2");
        assert!(of("path:3", "plant/x.csv").unwrap_err().contains("no such part"));
    }

    #[test]
    fn a_condition_compares_text_or_numbers() {
        let holds =
            |condition: &str, cell: &str| condition.parse::<Condition>().unwrap().holds(cell.as_bytes());
        assert!(holds("q=Good", "GOOD") && holds("q=0", "0.0") && holds("q!=Bad", "Good"));
        assert!(!holds("q=Good", "Bad") && !holds("q!=192", "192.0"));
    }
}
