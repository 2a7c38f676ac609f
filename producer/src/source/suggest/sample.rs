//! The first rows of a file as named fields with texts, whatever its format.

use std::io;

use serde_json::Value;

use crate::source::decode::{InputFile, Kind, LastLine, Role, first_bytes, first_parquet_rows, split};

/// How much of a file is looked at.
const HEAD_BYTES: usize = 256 << 10;
/// How many rows are looked at.
const MOST_ROWS: usize = 200;
/// How many different fields are looked at.
const MOST_FIELDS: usize = 1_000;
/// How deep a document is looked into.
const MOST_DEPTH: usize = 16;

/// A column, or a field by its path, with its first texts that are not empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    pub(super) path: String,
    pub(super) texts: Vec<String>,
}

/// The first rows of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) fields: Vec<Field>,
    /// Whether the names are paths into documents.
    pub(super) is_json: bool,
}

impl Field {
    /// Returns the last name of the path, without what marks an array.
    pub(super) fn key(&self) -> &str {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        last.trim_end_matches("[]")
    }

    /// Returns the path without its last name; `None` at the top.
    pub(super) fn parent(&self) -> Option<&str> {
        self.path.rsplit_once('.').map(|(parent, _)| parent)
    }

    pub(super) fn is_number(&self) -> bool {
        let is_number = |text: &String| text.trim().replacen(',', ".", 1).parse::<f64>().is_ok();
        !self.texts.is_empty() && self.texts.iter().all(is_number)
    }

    /// Returns how many different texts there are.
    pub(super) fn distinct(&self) -> usize {
        let mut texts: Vec<_> = self.texts.iter().collect();
        texts.sort_unstable();
        texts.dedup();
        texts.len()
    }
}

impl Sample {
    /// Looks at the start of a file; `None` if it holds events, whose bodies may be anything.
    pub(super) fn of(file: &InputFile) -> io::Result<Option<Self>> {
        let head = match file.kind {
            Kind::Csv { .. } | Kind::Ndjson => first_bytes(file, HEAD_BYTES)?,
            Kind::Parquet => return Self::of_columns(file).map(Some),
            Kind::Avro => return Ok(None),
        };
        Ok(Some(match file.kind {
            Kind::Csv { delimiter } => Self::of_table(&head, delimiter),
            _ => Self::of_documents(&head),
        }))
    }

    /// Takes the line for the header below which most lines have as many cells.
    fn of_table(head: &[u8], usual: u8) -> Self {
        let text = String::from_utf8_lossy(head);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .take(MOST_ROWS)
            .collect();
        let mut best: (usize, usize, u8) = (0, 0, usual);
        for delimiter in [usual, b',', b';', b'\t', b'|'] {
            let counts: Vec<_> = lines
                .iter()
                .map(|line| split(line.as_bytes(), delimiter).len())
                .collect();
            for (at, &cells) in counts.iter().enumerate().take(50) {
                let alike = counts[at + 1..].iter().filter(|&&other| other == cells).count();
                let names = split(lines[at].trim_start_matches('#').as_bytes(), delimiter);
                let is_header = (2..=MOST_FIELDS).contains(&cells)
                    && names.iter().all(|name| name.parse::<f64>().is_err());
                let names_time = names.iter().any(|name| {
                    let name = name.to_ascii_lowercase();
                    name == "ts" || ["time", "date", "stamp"].iter().any(|part| name.contains(part))
                });
                // A table of many columns is a better guess than one of many rows, and a time a better one still.
                let weight = match is_header {
                    true => cells * alike.min(20) * if names_time { 8 } else { 1 },
                    false => 0,
                };
                if weight > best.0 {
                    best = (weight, at, delimiter);
                }
            }
        }
        let (weight, header, delimiter) = best;
        if weight == 0 {
            return Self::default();
        }
        let names = split(lines[header].trim_start_matches('#').as_bytes(), delimiter);
        let mut fields: Vec<Field> = names
            .into_iter()
            .map(|path| Field {
                path,
                texts: Vec::new(),
            })
            .collect();
        for line in &lines[header + 1..] {
            let cells = split(line.as_bytes(), delimiter);
            // Rows of units have no digit.
            if cells.len() == fields.len()
                && !line.starts_with('#')
                && line.bytes().any(|byte| byte.is_ascii_digit())
            {
                for (field, cell) in fields.iter_mut().zip(cells) {
                    if !cell.is_empty() {
                        field.texts.push(cell);
                    }
                }
            }
        }
        Self {
            fields,
            is_json: false,
        }
    }

    /// Takes the columns of a Parquet file, and the devices and tags that its path names.
    fn of_columns(file: &InputFile) -> io::Result<Self> {
        let columns = first_parquet_rows(file, MOST_ROWS)?.into_iter().take(MOST_FIELDS);
        let mut fields: Vec<Field> = columns.map(|(path, texts)| Field { path, texts }).collect();
        for (name, value) in file.named_segments() {
            let is_usual = |role: Role| {
                role.usual_names()
                    .iter()
                    .any(|usual| usual.eq_ignore_ascii_case(name))
            };
            let is_new = fields.iter().all(|field| !field.path.eq_ignore_ascii_case(name));
            if is_new && (is_usual(Role::Device) || is_usual(Role::Tag)) {
                fields.push(Field {
                    path: name.to_owned(),
                    texts: Vec::from_iter(value),
                });
            }
        }
        Ok(Self {
            fields,
            is_json: false,
        })
    }

    fn of_documents(head: &[u8]) -> Self {
        let mut sample = Self {
            fields: Vec::new(),
            is_json: true,
        };
        let mut rest = head;
        for _ in 0..MOST_ROWS {
            let between = rest
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace() || b",[]".contains(byte));
            rest = &rest[between.count()..];
            let mut documents = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
            match documents.next() {
                Some(Ok(document)) => {
                    let read = documents.byte_offset();
                    sample.take(&document, String::new(), 0);
                    rest = &rest[read..];
                }
                Some(Err(_)) | None => break,
            }
        }
        sample
    }

    fn take(&mut self, value: &Value, path: String, depth: usize) {
        if depth > MOST_DEPTH {
            return;
        }
        let text = match value {
            Value::Null => return,
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    self.take(value, path, depth + 1);
                }
                return;
            }
            Value::Array(elements) => {
                for element in elements.iter().take(MOST_ROWS) {
                    self.take(element, format!("{path}[]"), depth + 1);
                }
                return;
            }
            Value::String(text) => text.clone(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.to_string(),
        };
        let known = self.fields.iter().position(|field| field.path == path);
        match known {
            Some(at) if self.fields[at].texts.len() < MOST_ROWS => self.fields[at].texts.push(text),
            None if self.fields.len() < MOST_FIELDS => self.fields.push(Field {
                path,
                texts: vec![text],
            }),
            Some(_) | None => {}
        }
    }
}

/// A followed file's last line counts here: nothing is read on.
pub(super) const LAST_LINE: LastLine = LastLine::Counts;
