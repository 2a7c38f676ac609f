//! The wire format of protocol buffers, as far as ONNX uses it.
//!
//! Everything is borrowed from the file: a length that is wrong costs no memory.

use super::super::ImportError;

/// A field of a message: its number and its value.
pub(super) type Field<'a> = (u64, Wire<'a>);

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    /// A whole number, in two's complement.
    Number(u64),
    /// A 64-bit float, or whatever has eight bytes.
    Eight([u8; 8]),
    /// Text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// A 32-bit float, or whatever has four bytes.
    Four([u8; 4]),
}

/// The fields of a message, in order.
pub(super) struct Fields<'a>(&'a [u8]);

const CUT: ImportError = ImportError::Protobuf("it ends in the middle of a field; copy it again");

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<Field<'a>, ImportError> {
        let key = number(&mut self.0)?;
        let value = match key & 7 {
            0 => Wire::Number(number(&mut self.0)?),
            1 => Wire::Eight(array(&mut self.0)?),
            2 => {
                let length = number(&mut self.0)?;
                // A length past usize is past the end too.
                let (bytes, rest) = usize::try_from(length)
                    .ok()
                    .and_then(|length| self.0.split_at_checked(length))
                    .ok_or(CUT)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Four(array(&mut self.0)?),
            _ => return Err(ImportError::Protobuf("a field has an unknown type")),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Reads a whole number of a variable number of bytes.
fn number(bytes: &mut &[u8]) -> Result<u64, ImportError> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first().ok_or(CUT)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ImportError::Protobuf("a number is too long"))
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], ImportError> {
    let (array, rest) = bytes.split_first_chunk().ok_or(CUT)?;
    *bytes = rest;
    Ok(*array)
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], ImportError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(ImportError::Protobuf(
                "a field that should be text or a message is a number",
            )),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, ImportError> {
        str::from_utf8(self.bytes()?).map_err(|_| ImportError::Protobuf("a name is not UTF-8"))
    }

    /// Adds a whole number, or packed ones.
    pub(super) fn whole(self, into: &mut Vec<f64>) -> Result<(), ImportError> {
        // Indices and sizes, far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        let float = |number: u64| number.cast_signed() as f64;
        match self {
            Self::Number(number) => into.push(float(number)),
            Self::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    into.push(float(number(&mut bytes)?));
                }
            }
            _ => return Err(ImportError::Protobuf("a whole number has the type of a float")),
        }
        Ok(())
    }

    /// Adds a float, or packed 32-bit ones.
    pub(super) fn floats(self, into: &mut Vec<f64>) -> Result<(), ImportError> {
        match self {
            Self::Four(bytes) => into.push(f32::from_le_bytes(bytes).into()),
            Self::Bytes(bytes) => {
                let (floats, _) = bytes.as_chunks();
                into.extend(floats.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))));
            }
            _ => return Err(ImportError::Protobuf("a float has the type of a whole number")),
        }
        Ok(())
    }

    /// Adds a 64-bit float, or packed ones.
    pub(super) fn doubles(self, into: &mut Vec<f64>) -> Result<(), ImportError> {
        match self {
            Self::Eight(bytes) => into.push(f64::from_le_bytes(bytes)),
            Self::Bytes(bytes) => {
                let (floats, _) = bytes.as_chunks();
                into.extend(floats.iter().map(|bytes| f64::from_le_bytes(*bytes)));
            }
            _ => return Err(ImportError::Protobuf("a float has the type of a whole number")),
        }
        Ok(())
    }
}
