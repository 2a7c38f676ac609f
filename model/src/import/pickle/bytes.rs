//! Arguments of instructions, read from the file.

use std::borrow::Cow;

use super::super::ImportError;
use super::super::value::Value;
use super::Machine;

impl<'a> Machine<'a> {
    /// Returns the next `count` bytes without copying them, so that a wrong count costs no memory.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ImportError> {
        let taken = self.bytes[self.at..].get(..count);
        let taken = taken.ok_or(ImportError::CutOff(self.bytes.len()))?;
        self.at += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let taken = self.take(N)?.first_chunk();
        taken.copied().ok_or(ImportError::CutOff(self.bytes.len()))
    }

    pub(super) fn byte(&mut self) -> Result<u8, ImportError> {
        self.array().map(|[byte]| byte)
    }

    /// Returns the bytes up to the next line feed, and skips the line feed.
    pub(super) fn line(&mut self) -> Result<&'a [u8], ImportError> {
        let end = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or(ImportError::CutOff(self.bytes.len()))?)?;
        self.at += 1;
        Ok(line)
    }

    pub(super) fn name(&mut self) -> Result<&'a str, ImportError> {
        let line = self.line()?;
        str::from_utf8(line).map_err(|_| self.malformed("a class whose name is not text"))
    }

    pub(super) fn counted(&mut self, length: u64) -> Result<&'a [u8], ImportError> {
        // A length past usize is past the end too.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(super) fn push_int(&mut self, digits: &[u8]) -> Result<(), ImportError> {
        let number = parse(digits).ok_or_else(|| self.malformed("an integer that does not fit 64 bits"))?;
        self.push(Value::Int(number));
        Ok(())
    }

    pub(super) fn push_text(&mut self, length: u64) -> Result<(), ImportError> {
        let text = str::from_utf8(self.counted(length)?);
        let text = text.map_err(|_| self.malformed("text that is not UTF-8"))?;
        self.push(Value::Text(Cow::Borrowed(text)));
        Ok(())
    }

    pub(super) fn push_bytes(&mut self, length: u64) -> Result<(), ImportError> {
        let bytes = self.counted(length)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    /// Reads a LONG1: two's complement, little endian, in as few bytes as possible.
    pub(super) fn long(&mut self) -> Result<(), ImportError> {
        let length = self.byte()?;
        let bytes = self.take(length.into())?;
        let sign = bytes.last().is_some_and(|last| *last >= 0x80);
        let mut filled = [if sign { 0xff } else { 0 }; 8];
        let Some(low) = filled.get_mut(..bytes.len()) else {
            // The state of a random generator, which no model needs; a float is near enough to be called a number.
            let magnitude = bytes
                .iter()
                .rev()
                .fold(0.0, |number, byte| number * 256.0 + f64::from(*byte));
            self.push(Value::Float(magnitude));
            return Ok(());
        };
        low.copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(filled)));
        Ok(())
    }
}

pub(super) fn parse<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Decodes Python's `raw_unicode_escape`: each byte is a character, except in the escapes `\u` with 4
/// hexadecimal digits and `\U` with 8.
pub(super) fn raw_unicode_escape(line: &[u8]) -> Option<Cow<'_, str>> {
    if let Ok(text) = str::from_utf8(line)
        && line.is_ascii()
        && !line.contains(&b'\\')
    {
        return Some(Cow::Borrowed(text));
    }
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let [byte, after @ ..] = rest {
        let digits = match rest {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => {
                text.push(char::from(*byte));
                rest = after;
                continue;
            }
        };
        let code = str::from_utf8(rest.get(2..2 + digits)?).ok()?;
        text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        rest = &rest[2 + digits..];
    }
    Some(Cow::Owned(text))
}
