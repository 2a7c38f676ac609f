//! Arrays and scalars as numpy pickles them.
//!
//! | protocol | an array is |
//! |---|---|
//! | 0 to 4 | `_reconstruct(ndarray, (0,), b'b')` with the state `(1, shape, dtype, is_fortran, data)` |
//! | 5 | `_frombuffer(data, dtype, shape, 'C' or 'F')` |
//!
//! A numpy number is `scalar(dtype, data)`. The data are plain bytes; protocols below 3 have no bytes and use
//! `_codecs.encode(text, 'latin1')`.

use std::borrow::Cow;

use super::value::{Global, Id, Value, Values};

/// An array of numbers, converted to f64 and stored row by row.
#[derive(Debug, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Vec<f64>,
}

/// The type and byte order of an array's numbers.
#[derive(Clone, Copy)]
struct Element {
    kind: Kind,
    big_endian: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    F4,
    F8,
    I4,
    I8,
}

/// The parts of a pickled array.
struct Parts {
    data: Id,
    dtype: Id,
    shape: Id,
    fortran: bool,
}

/// The reason why a value cannot be read, as the end of a sentence that begins with the attribute.
type Problem = &'static str;

const NO_ARRAY: Problem = "is not an array that numpy wrote";
const NO_NUMBER: Problem = "is not a number";
const DAMAGED: Problem = "is an array whose size does not match its contents: the file is damaged";
const WRONG_TYPE: Problem = "does not hold numbers of type f4, f8, i4 or i8";

impl Array {
    /// Reads an array of one or two dimensions.
    pub(super) fn read(values: &Values<'_>, id: Id) -> Result<Self, Problem> {
        let parts = parts(values, id).ok_or(NO_ARRAY)?;
        let data = data(values, parts.data).ok_or(WRONG_TYPE)?;
        let element = Element::read(values, parts.dtype)?;
        let shape = shape(values, parts.shape).ok_or(DAMAGED)?;
        let count = shape
            .iter()
            .try_fold(1_usize, |all, length| all.checked_mul(*length));
        if count.and_then(|count| count.checked_mul(element.size())) != Some(data.len()) {
            return Err(DAMAGED);
        }
        let numbers = element.numbers(&data);
        let numbers = match *shape {
            [rows, columns] if parts.fortran => (0..rows)
                .flat_map(|row| (0..columns).map(move |column| column * rows + row))
                .map(|at| numbers[at])
                .collect(),
            [_] | [_, _] => numbers,
            _ => return Err("has more than two dimensions, or none"),
        };
        Ok(Self { shape, numbers })
    }
}

/// Reads a Python or numpy number.
pub(super) fn number(values: &Values<'_>, id: Id) -> Result<f64, Problem> {
    match values.get(id) {
        Value::Float(number) => Ok(*number),
        #[allow(clippy::cast_precision_loss)] // Parameters are far below 2^53.
        Value::Int(number) => Ok(*number as f64),
        _ => {
            let Some(([dtype, bytes], _)) = values.call(id, Global::Scalar) else {
                return Err(NO_NUMBER);
            };
            let element = Element::read(values, *dtype)?;
            let bytes = data(values, *bytes).ok_or(NO_NUMBER)?;
            match *element.numbers(&bytes) {
                [number] if bytes.len() == element.size() => Ok(number),
                _ => Err(NO_NUMBER),
            }
        }
    }
}

/// Reads an array of texts, such as the column names of a table.
pub(super) fn texts<'v>(values: &'v Values<'_>, id: Id) -> Option<Vec<&'v str>> {
    let items = values.items(parts(values, id)?.data)?;
    items.iter().map(|item| values.text(*item)).collect()
}

fn parts(values: &Values<'_>, id: Id) -> Option<Parts> {
    if let Some((&[data, dtype, shape, order], _)) = values.call(id, Global::FromBuffer) {
        let fortran = match values.text(order)? {
            "C" => false,
            "F" => true,
            _ => return None,
        };
        return Some(Parts {
            data,
            dtype,
            shape,
            fortran,
        });
    }
    let (arguments, state) = values.call(id, Global::Reconstruct)?;
    let Value::Global(Global::Ndarray) = values.get(*arguments.first()?) else {
        return None;
    };
    let [_version, shape, dtype, fortran, data] = *values.tuple(state?)? else {
        return None;
    };
    let Value::Bool(fortran) = *values.get(fortran) else {
        return None;
    };
    Some(Parts {
        data,
        dtype,
        shape,
        fortran,
    })
}

/// Returns the bytes that a value stands for.
fn data<'v>(values: &'v Values<'_>, id: Id) -> Option<Cow<'v, [u8]>> {
    if let Value::Bytes(bytes) = values.get(id) {
        return Some(Cow::Borrowed(bytes));
    }
    if let Some(([], _)) = values.call(id, Global::NoBytes) {
        return Some(Cow::Borrowed(&[]));
    }
    let Some(([text, encoding], _)) = values.call(id, Global::Encode) else {
        return None;
    };
    if !matches!(values.text(*encoding)?, "latin1" | "latin-1") {
        return None;
    }
    let bytes: Option<Vec<u8>> = values
        .text(*text)?
        .chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect();
    bytes.map(Cow::Owned)
}

fn shape(values: &Values<'_>, id: Id) -> Option<Vec<usize>> {
    let lengths = values.tuple(id)?.iter().map(|length| match values.get(*length) {
        Value::Int(length) => usize::try_from(*length).ok(),
        _ => None,
    });
    lengths.collect()
}

impl Element {
    /// Reads `dtype('f8', False, True)` with the state `(3, '<', ...)`.
    fn read(values: &Values<'_>, id: Id) -> Result<Self, Problem> {
        let (arguments, state) = values.call(id, Global::Dtype).ok_or(WRONG_TYPE)?;
        let name = arguments.first().and_then(|name| values.text(*name));
        let kind = match name {
            Some("f4") => Kind::F4,
            Some("f8") => Kind::F8,
            Some("i4") => Kind::I4,
            Some("i8") => Kind::I8,
            _ => return Err(WRONG_TYPE),
        };
        let order = state.and_then(|state| values.tuple(state)?.get(1).copied());
        let big_endian = match order.and_then(|order| values.text(order)) {
            Some("<") => false,
            Some(">") => true,
            _ => return Err("does not say in which order the bytes of its numbers are"),
        };
        Ok(Self { kind, big_endian })
    }

    fn size(self) -> usize {
        match self.kind {
            Kind::F4 | Kind::I4 => 4,
            Kind::F8 | Kind::I8 => 8,
        }
    }

    fn numbers(self, bytes: &[u8]) -> Vec<f64> {
        match self.kind {
            Kind::F4 => self.each(bytes, |bytes| f32::from_be_bytes(bytes).into()),
            Kind::F8 => self.each(bytes, f64::from_be_bytes),
            Kind::I4 => self.each(bytes, |bytes| i32::from_be_bytes(bytes).into()),
            #[allow(clippy::cast_precision_loss)] // As numpy converts them in arithmetic.
            Kind::I8 => self.each(bytes, |bytes| i64::from_be_bytes(bytes) as f64),
        }
    }

    fn each<const N: usize>(self, bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        let (elements, _) = bytes.as_chunks::<N>();
        let in_order = elements.iter().map(|element| {
            let mut element = *element;
            if !self.big_endian {
                element.reverse();
            }
            number(element)
        });
        in_order.collect()
    }
}
