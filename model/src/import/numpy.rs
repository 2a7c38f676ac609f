//! Arrays and scalars as numpy pickles them.
//!
//! | protocol | an array is |
//! |---|---|
//! | 0 to 4 | `_reconstruct(ndarray, (0,), b'b')` with the state `(1, shape, dtype, is_fortran, data)` |
//! | 5 | `_frombuffer(data, dtype, shape, 'C' or 'F')` |
//! | joblib | `NumpyArrayWrapper()` with the state `{shape, order, dtype, ...}`, and the data behind it |
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
    I1,
    I2,
    I4,
    I8,
    U1,
    U2,
    U4,
    U8,
}

/// An array of records with named numbers, such as the nodes of a tree.
#[derive(Debug)]
pub(super) struct Records<'v> {
    values: &'v Values<'v>,
    /// The dict of names and, for each, the type and the offset.
    fields: Id,
    size: usize,
    data: Cow<'v, [u8]>,
}

/// What joblib writes behind the description of an array.
pub(super) enum Joblib {
    /// A pickle with the list of the objects.
    Objects,
    /// The plain bytes, after padding if there is any.
    Bytes { length: u64, padded: bool },
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
const NO_RECORDS: Problem = "is not an array of the records that scikit-learn writes";
const NO_NUMBER: Problem = "is not a number";
const DAMAGED: Problem = "is an array whose size does not match its contents: the file is damaged";
const WRONG_TYPE: Problem = "does not hold numbers of a plain type, such as f8 or i4";

impl Array {
    /// Reads an array of one or two dimensions.
    pub(super) fn read(values: &Values<'_>, id: Id) -> Result<Self, Problem> {
        let parts = parts(values, id).ok_or(NO_ARRAY)?;
        let data = data(values, parts.data).ok_or(WRONG_TYPE)?;
        let element = Element::read(values, parts.dtype)?;
        let shape = shape(values, parts.shape).ok_or(DAMAGED)?;
        if bytes_of(&shape, element.size()) != Some(data.len()) {
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

impl<'v> Records<'v> {
    /// Reads an array of records of one dimension.
    pub(super) fn read(values: &'v Values<'v>, id: Id) -> Result<Self, Problem> {
        let parts = parts(values, id).ok_or(NO_ARRAY)?;
        let (_, state) = values.call(parts.dtype, Global::Dtype).ok_or(NO_RECORDS)?;
        let state = state.and_then(|state| values.tuple(state)).ok_or(NO_RECORDS)?;
        let (Some(fields), Some(size)) = (state.get(4), state.get(5)) else {
            return Err(NO_RECORDS);
        };
        let size = match values.get(*size) {
            Value::Int(size @ 1..=1_024) => usize::try_from(*size).map_err(|_| NO_RECORDS)?,
            _ => return Err(NO_RECORDS),
        };
        let data = data(values, parts.data).ok_or(NO_RECORDS)?;
        match shape(values, parts.shape).as_deref() {
            Some([count]) if count.checked_mul(size) == Some(data.len()) => {}
            _ => return Err(DAMAGED),
        }
        Ok(Self {
            values,
            fields: *fields,
            size,
            data,
        })
    }

    /// Reads the numbers of one name.
    pub(super) fn column(&self, name: &str) -> Result<Vec<f64>, Problem> {
        let fields = self.values.entries(self.fields).ok_or(NO_RECORDS)?;
        let field = fields
            .iter()
            .find(|(field, _)| *field == name)
            .ok_or(NO_RECORDS)?;
        let Some([dtype, offset, ..]) = self.values.tuple(field.1) else {
            return Err(NO_RECORDS);
        };
        let element = Element::read(self.values, *dtype)?;
        let offset = match self.values.get(*offset) {
            Value::Int(offset) => usize::try_from(*offset).map_err(|_| DAMAGED)?,
            _ => return Err(NO_RECORDS),
        };
        let end = offset
            .checked_add(element.size())
            .filter(|end| *end <= self.size)
            .ok_or(DAMAGED)?;
        let numbers = self
            .data
            .chunks_exact(self.size)
            .flat_map(|record| element.numbers(&record[offset..end]));
        Ok(numbers.collect())
    }
}

/// Reads what joblib's description of an array says about the contents behind it.
pub(super) fn joblib(values: &Values<'_>, id: Id) -> Result<Joblib, Problem> {
    let (Some(dtype), Some(lengths)) = (values.attribute(id, "dtype"), values.attribute(id, "shape")) else {
        return Err("an array of joblib without a type or a shape");
    };
    let (arguments, state) = values.call(dtype, Global::Dtype).ok_or(NO_ARRAY)?;
    let name = arguments
        .first()
        .and_then(|name| values.text(*name))
        .ok_or(NO_ARRAY)?;
    if name.starts_with('O') {
        return Ok(Joblib::Objects);
    }
    let size = match Element::read(values, dtype) {
        Ok(element) => element.size(),
        // The names of record and text types contain their size, which is enough to skip the elements.
        Err(_) => size_in(name, state.is_some()).ok_or("an array of joblib with a type of unknown size")?,
    };
    let lengths = shape(values, lengths).ok_or(DAMAGED)?;
    let length = bytes_of(&lengths, size).ok_or(DAMAGED)?;
    let padding = values.attribute(id, "numpy_array_alignment_bytes");
    let padded = padding.is_some_and(|padding| !matches!(values.get(padding), Value::None));
    Ok(Joblib::Bytes {
        length: length as u64,
        padded,
    })
}

/// Returns the size of an element whose type is not a number: `V64`, `U7` (four bytes each), `S3`, `b1`, `c16`, `M8`.
fn size_in(name: &str, has_state: bool) -> Option<usize> {
    let (kind, digits) = name.split_at_checked(1)?;
    let size: usize = digits.parse().ok()?;
    match kind {
        "U" => size.checked_mul(4),
        _ if has_state || size > 0 => Some(size),
        _ => None,
    }
}

fn bytes_of(shape: &[usize], size: usize) -> Option<usize> {
    shape
        .iter()
        .try_fold(size, |all, length| all.checked_mul(*length))
}

/// Reads a Python or numpy number.
pub(super) fn number(values: &Values<'_>, id: Id) -> Result<f64, Problem> {
    match values.get(id) {
        Value::Float(number) => Ok(*number),
        #[allow(clippy::cast_precision_loss)] // Parameters are far below 2^53.
        Value::Int(number) => Ok(*number as f64),
        _ => {
            let Some(([dtype, bytes], _)) = values.call(id, Global::Scalar) else {
                // skops saves a numpy number as an array.
                return match Array::read(values, id).as_ref().map(|array| &array.numbers[..]) {
                    Ok([number]) => Ok(*number),
                    _ => Err(NO_NUMBER),
                };
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
    // joblib pickles an array of objects as one, inside its own description.
    let data = parts(values, id)?.data;
    let data = parts(values, data).map_or(data, |inner| inner.data);
    let items = values.items(data)?;
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
    if let Some((&[data], Some(_))) = values.call(id, Global::JoblibArray) {
        let attribute = |name| values.attribute(id, name);
        let fortran = attribute("order").and_then(|order| values.text(order)) == Some("F");
        return Some(Parts {
            data,
            dtype: attribute("dtype")?,
            shape: attribute("shape")?,
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
            Some("i1") => Kind::I1,
            Some("i2") => Kind::I2,
            Some("i4") => Kind::I4,
            Some("i8") => Kind::I8,
            Some("u1" | "b1") => Kind::U1,
            Some("u2") => Kind::U2,
            Some("u4") => Kind::U4,
            Some("u8") => Kind::U8,
            _ => return Err(WRONG_TYPE),
        };
        let order = state.and_then(|state| values.tuple(state)?.get(1).copied());
        let big_endian = match order.and_then(|order| values.text(order)) {
            Some("<") => false,
            Some(">") => true,
            Some("|") if matches!(kind, Kind::I1 | Kind::U1) => false,
            _ => return Err("does not say in which order the bytes of its numbers are"),
        };
        Ok(Self { kind, big_endian })
    }

    fn size(self) -> usize {
        match self.kind {
            Kind::I1 | Kind::U1 => 1,
            Kind::I2 | Kind::U2 => 2,
            Kind::F4 | Kind::I4 | Kind::U4 => 4,
            Kind::F8 | Kind::I8 | Kind::U8 => 8,
        }
    }

    fn numbers(self, bytes: &[u8]) -> Vec<f64> {
        match self.kind {
            Kind::F4 => self.each(bytes, |bytes| f32::from_be_bytes(bytes).into()),
            Kind::F8 => self.each(bytes, f64::from_be_bytes),
            Kind::I1 => self.each(bytes, |bytes| i8::from_be_bytes(bytes).into()),
            Kind::I2 => self.each(bytes, |bytes| i16::from_be_bytes(bytes).into()),
            Kind::I4 => self.each(bytes, |bytes| i32::from_be_bytes(bytes).into()),
            Kind::U1 => self.each(bytes, |bytes| u8::from_be_bytes(bytes).into()),
            Kind::U2 => self.each(bytes, |bytes| u16::from_be_bytes(bytes).into()),
            Kind::U4 => self.each(bytes, |bytes| u32::from_be_bytes(bytes).into()),
            #[allow(clippy::cast_precision_loss)] // As numpy converts them in arithmetic.
            Kind::I8 => self.each(bytes, |bytes| i64::from_be_bytes(bytes) as f64),
            #[allow(clippy::cast_precision_loss)] // As above.
            Kind::U8 => self.each(bytes, |bytes| u64::from_be_bytes(bytes) as f64),
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
