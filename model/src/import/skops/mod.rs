//! Models that skops saved: a ZIP archive with a tree of JSON and arrays of NumPy. They become the values of a pickle.

mod npy;
mod zip;

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value as Json;

use super::value::{Global, Id, Object, Value, Values};
use super::{ImportError, MAX_INSTRUCTIONS, shown};
use zip::Archive;

/// How a ZIP archive begins.
pub(super) const START: &[u8] = b"PK\x03\x04";

/// Largest tree of JSON, in bytes: a forest of 100 trees has some 1.6 MB.
const MAX_SCHEMA_BYTES: usize = 16 << 20;

const SCHEMA: &str = "schema.json";
const ODD: ImportError = ImportError::Skops("holds a node that skops does not write");

/// The contents of an archive, from which values borrow.
pub(super) struct Contents<'a> {
    schema: Json,
    arrays: HashMap<String, Cow<'a, [u8]>>,
}

/// Unpacks an archive.
pub(super) fn unpack(file: &[u8]) -> Result<Contents<'_>, ImportError> {
    let mut archive = Archive::open(file)?;
    let schema = archive.read(SCHEMA, MAX_SCHEMA_BYTES)?;
    let schema = schema.ok_or(ImportError::Skops(
        "is a ZIP archive without a schema.json: save the model with `pickle.dump` or `joblib.dump`",
    ))?;
    let schema: Json = serde_json::from_slice(&schema)
        .map_err(|_| ImportError::Skops("holds a schema.json that is not valid"))?;
    let mut names = Vec::new();
    files(&schema, &mut names);
    let mut arrays = HashMap::new();
    for name in names {
        if !arrays.contains_key(name)
            && let Some(contents) = archive.read(name, usize::MAX)?
        {
            arrays.insert(name.to_owned(), contents);
        }
    }
    Ok(Contents { schema, arrays })
}

/// Collects the names of the files that the tree refers to. JSON is at most 128 levels deep.
fn files<'j>(json: &'j Json, names: &mut Vec<&'j str>) {
    match json {
        Json::Object(fields) => {
            if let Some(Json::String(name)) = fields.get("file") {
                names.push(name);
            }
            fields.values().for_each(|value| files(value, names));
        }
        Json::Array(items) => items.iter().for_each(|item| files(item, names)),
        _ => {}
    }
}

/// Converts the tree to values.
pub(super) fn read<'c>(contents: &'c Contents<'_>) -> Result<Values<'c>, ImportError> {
    let mut reader = Reader {
        contents,
        values: Values::new(),
        seen: HashMap::new(),
        budget: MAX_INSTRUCTIONS,
    };
    reader.values.root = reader.node(&contents.schema)?;
    Ok(reader.values)
}

struct Reader<'c, 'a> {
    contents: &'c Contents<'a>,
    values: Values<'c>,
    /// The nodes so far, by the number that skops gives them: a node that occurs again is only named.
    seen: HashMap<u64, Id>,
    budget: usize,
}

impl<'c> Reader<'c, '_> {
    fn node(&mut self, node: &'c Json) -> Result<Id, ImportError> {
        self.budget = self.budget.checked_sub(1).ok_or(ImportError::TooLong)?;
        let text = |name: &str| node.get(name).and_then(Json::as_str);
        let number = node.get("__id__").and_then(Json::as_u64);
        let loader = text("__loader__").ok_or(ODD)?;
        let id = match loader {
            "CachedNode" => {
                return number
                    .and_then(|number| self.seen.get(&number).copied())
                    .ok_or(ODD);
            }
            "JsonNode" => {
                let json: Json = serde_json::from_str(text("content").ok_or(ODD)?).map_err(|_| ODD)?;
                let value = plain(&json);
                self.values.add(value)
            }
            "ListNode" | "TupleNode" => {
                let items = node.get("content").and_then(Json::as_array).ok_or(ODD)?;
                let items = items
                    .iter()
                    .map(|item| self.node(item))
                    .collect::<Result<Vec<Id>, _>>()?;
                self.values.add(if loader == "ListNode" {
                    Value::List(items)
                } else {
                    Value::Tuple(items)
                })
            }
            "DictNode" => {
                let fields = node.get("content").and_then(Json::as_object).ok_or(ODD)?;
                let mut pairs = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    let name = self.values.add(Value::Text(Cow::Borrowed(name)));
                    pairs.push((name, self.node(value)?));
                }
                self.values.add(Value::Dict(pairs))
            }
            "NdArrayNode" => self.array(node)?,
            _ => {
                let (Some(module), Some(name)) = (text("__module__"), text("__class__")) else {
                    return Err(ODD);
                };
                let called = self.values.global(module, name)?;
                // The state of an object that no model needs is not read: it may hold what has no value here.
                let state = match node.get("content") {
                    Some(content @ Json::Object(_))
                        if !matches!(called, Global::Other(_)) && content.get("__loader__").is_some() =>
                    {
                        Some(self.node(content)?)
                    }
                    _ => None,
                };
                self.object(called, Vec::new(), state)
            }
        };
        if let Some(number) = number {
            self.seen.insert(number, id);
        }
        Ok(id)
    }

    fn object(&mut self, called: Global, arguments: Vec<Id>, state: Option<Id>) -> Id {
        let arguments = self.values.add(Value::Tuple(arguments));
        self.values.add(Value::Object(Object {
            called,
            arguments,
            state,
        }))
    }

    /// Returns an array as protocol 5 of pickle has it, from a file or a list of objects.
    fn array(&mut self, node: &'c Json) -> Result<Id, ImportError> {
        let contents = self.contents;
        let Some(file) = node.get("file").and_then(Json::as_str) else {
            let items = node.get("content").and_then(Json::as_array).ok_or(ODD)?;
            let items = items
                .iter()
                .map(|item| self.node(item))
                .collect::<Result<Vec<Id>, _>>()?;
            let data = self.values.add(Value::List(items));
            let none = self.values.add(Value::None);
            let order = self.values.add(Value::Text(Cow::Borrowed("C")));
            return Ok(self.object(Global::FromBuffer, vec![data, none, none, order], None));
        };
        let bytes = contents.arrays.get(file);
        let bytes = bytes.ok_or(ImportError::Skops(
            "is damaged: a file of an array is missing; copy it again",
        ))?;
        npy::add(&mut self.values, bytes)
    }
}

/// Converts plain JSON.
fn plain(json: &Json) -> Value<'static> {
    match json {
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Float(number),
            (None, None) => Value::None,
        },
        Json::String(text) => Value::Text(Cow::Owned(shown_or(text))),
        Json::Null | Json::Array(_) | Json::Object(_) => Value::None,
    }
}

/// Keeps a text as it is unless it is absurdly long: names are short.
fn shown_or(text: &str) -> String {
    if text.len() <= 4_096 {
        text.to_owned()
    } else {
        shown(text)
    }
}
