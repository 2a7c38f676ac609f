//! NumPy's own file of an array: a header, which is a dict in Python's syntax, and the plain bytes.
//!
//! ```text
//! {'descr': '<f8', 'fortran_order': False, 'shape': (4, 2), }
//! {'descr': [('left_child', '<i8'), ('threshold', '<f8'), ('', '|V7')], 'fortran_order': False, 'shape': (63,), }
//! ```

use std::borrow::Cow;

use super::super::ImportError;
use super::super::value::{Global, Id, Object, Value, Values};

const DAMAGED: ImportError = ImportError::Skops("holds an array that is damaged; copy it again");

/// Adds an array as protocol 5 of pickle has it.
pub(super) fn add<'c>(values: &mut Values<'c>, file: &'c [u8]) -> Result<Id, ImportError> {
    let (header, data) = split(file).ok_or(DAMAGED)?;
    let header = str::from_utf8(header).map_err(|_| DAMAGED)?;
    let after = |name: &str| {
        header
            .split_once(name)
            .map(|(_, rest)| rest.trim_start_matches([':', ' ']))
    };
    let kind = after("'descr'").ok_or(DAMAGED)?;
    let fortran = after("'fortran_order'").ok_or(DAMAGED)?.starts_with("True");
    let shape = after("'shape'")
        .and_then(|rest| rest.strip_prefix('(')?.split_once(')'))
        .ok_or(DAMAGED)?
        .0;
    let dtype = match kind.strip_prefix('[') {
        Some(fields) => records(values, fields.split_once(']').ok_or(DAMAGED)?.0)?,
        None => {
            let name = quoted(kind).ok_or(DAMAGED)?;
            plain(values, name).ok_or(DAMAGED)?
        }
    };
    let mut lengths = Vec::new();
    for length in shape
        .split(',')
        .map(str::trim)
        .filter(|length| !length.is_empty())
    {
        let length = length.parse().map_err(|_| DAMAGED)?;
        lengths.push(values.add(Value::Int(length)));
    }
    // A number alone is an array without dimensions; it is read as one with a single number.
    if lengths.is_empty() {
        lengths.push(values.add(Value::Int(1)));
    }
    let data = values.add(Value::Bytes(data));
    let shape = values.add(Value::Tuple(lengths));
    let order = values.add(Value::Text(Cow::Borrowed(if fortran { "F" } else { "C" })));
    let arguments = values.add(Value::Tuple(vec![data, dtype, shape, order]));
    Ok(object(values, Global::FromBuffer, arguments, None))
}

/// Returns the header and the data.
fn split(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = file.strip_prefix(b"\x93NUMPY")?;
    let ([major, _minor], rest) = rest.split_first_chunk()?;
    let (length, rest) = if *major == 1 {
        let (length, rest) = rest.split_first_chunk()?;
        (usize::from(u16::from_le_bytes(*length)), rest)
    } else {
        let (length, rest) = rest.split_first_chunk()?;
        (usize::try_from(u32::from_le_bytes(*length)).ok()?, rest)
    };
    rest.split_at_checked(length)
}

/// Returns the text in quotes that `text` begins with.
fn quoted(text: &str) -> Option<&str> {
    let rest = text.trim_start().strip_prefix('\'')?;
    Some(rest.split_once('\'')?.0)
}

/// Adds the type `<f8`.
fn plain(values: &mut Values<'_>, name: &str) -> Option<Id> {
    let (order, name) = name.split_at_checked(1)?;
    let name = values.add(Value::Text(Cow::Owned(name.to_owned())));
    let arguments = values.add(Value::Tuple(vec![name]));
    let version = values.add(Value::Int(3));
    let order = values.add(Value::Text(Cow::Owned(order.to_owned())));
    let state = values.add(Value::Tuple(vec![version, order]));
    Some(object(values, Global::Dtype, arguments, Some(state)))
}

/// Adds the type of records: the names, types and offsets of their fields, and their size.
fn records(values: &mut Values<'_>, fields: &str) -> Result<Id, ImportError> {
    let (mut offset, mut pairs) = (0_i64, Vec::new());
    for field in fields.split('(').skip(1) {
        let (name, rest) = field.split_once(',').ok_or(DAMAGED)?;
        let (name, kind) = (quoted(name).ok_or(DAMAGED)?, quoted(rest).ok_or(DAMAGED)?);
        let size: i64 = kind.get(2..).and_then(|size| size.parse().ok()).ok_or(DAMAGED)?;
        let dtype = plain(values, kind).ok_or(DAMAGED)?;
        let at = values.add(Value::Int(offset));
        let pair = values.add(Value::Tuple(vec![dtype, at]));
        let name = values.add(Value::Text(Cow::Owned(name.to_owned())));
        pairs.push((name, pair));
        offset = offset
            .checked_add(size)
            .filter(|_| (1..=1_024).contains(&size))
            .ok_or(DAMAGED)?;
    }
    let none = values.add(Value::None);
    let fields = values.add(Value::Dict(pairs));
    let size = values.add(Value::Int(offset));
    let state = values.add(Value::Tuple(vec![none, none, none, none, fields, size]));
    let arguments = values.add(Value::Tuple(Vec::new()));
    Ok(object(values, Global::Dtype, arguments, Some(state)))
}

fn object(values: &mut Values<'_>, called: Global, arguments: Id, state: Option<Id>) -> Id {
    values.add(Value::Object(Object {
        called,
        arguments,
        state,
    }))
}
