//! The stack machine: the instructions of pickle protocols 0 to 5 that scikit-learn's models need, and no others.

mod bytes;
mod joblib;
mod stack;

use std::collections::HashMap;

use bytes::{parse, raw_unicode_escape};

use super::value::{Id, Value, Values};
use super::{ImportError, MAX_INSTRUCTIONS};

/// Newest pickle protocol.
const PROTOCOL: u8 = 5;

struct Machine<'a> {
    bytes: &'a [u8],
    /// Position of the next byte.
    at: usize,
    /// Position of the current instruction, for errors.
    instruction: usize,
    values: Values<'a>,
    stack: Vec<Id>,
    /// Height of the stack at each open `MARK`.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Instructions that may still be followed.
    budget: usize,
    /// Number of pickles that this one is inside of.
    depth: usize,
}

/// Reads a pickle into values.
pub(super) fn read(bytes: &[u8]) -> Result<Values<'_>, ImportError> {
    let mut machine = Machine {
        bytes,
        at: 0,
        instruction: 0,
        values: Values::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        budget: MAX_INSTRUCTIONS,
        depth: 0,
    };
    machine.follow_all()?;
    machine.end()
}

impl<'a> Machine<'a> {
    /// Follows the instructions up to the last one, `STOP`.
    fn follow_all(&mut self) -> Result<(), ImportError> {
        while let Some(left) = self.budget.checked_sub(1) {
            self.budget = left;
            self.instruction = self.at;
            match self.byte()? {
                b'.' => return Ok(()),
                code => self.follow(code)?,
            }
        }
        Err(ImportError::TooLong)
    }

    /// Follows one instruction.
    fn follow(&mut self, code: u8) -> Result<(), ImportError> {
        match code {
            0x80 => {
                let version = self.byte()?;
                if version > PROTOCOL {
                    return Err(ImportError::Protocol(version));
                }
            }
            // FRAME: how much to read ahead; the whole file is in memory already.
            0x95 => {
                self.take(8)?;
            }

            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'I' => match self.line()? {
                b"00" => self.push(Value::Bool(false)),
                b"01" => self.push(Value::Bool(true)),
                digits => self.push_int(digits)?,
            },
            b'L' => {
                let line = self.line()?;
                self.push_int(line.strip_suffix(b"L").unwrap_or(line))?;
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            b'K' => {
                let number = self.byte()?;
                self.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            0x8a => self.long()?,
            b'F' => {
                let number = parse(self.line()?);
                let number = number.ok_or_else(|| self.malformed("a float that is not a number"))?;
                self.push(Value::Float(number));
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(number));
            }

            b'V' => {
                let text = raw_unicode_escape(self.line()?);
                let text = text.ok_or_else(|| self.malformed("text with an invalid escape"))?;
                self.push(Value::Text(text));
            }
            0x8c => {
                let length = self.byte()?;
                self.push_text(length.into())?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.push_text(length.into())?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                self.push_text(length)?;
            }
            b'C' => {
                let length = self.byte()?;
                self.push_bytes(length.into())?;
            }
            b'B' => {
                let length = u32::from_le_bytes(self.array()?);
                self.push_bytes(length.into())?;
            }
            // BINBYTES8 and BYTEARRAY8 differ only in whether Python may change the bytes.
            0x8e | 0x96 => {
                let length = u64::from_le_bytes(self.array()?);
                self.push_bytes(length)?;
            }
            b'S' | b'T' | b'U' => return Err(ImportError::Python2),

            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.set(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(&items)?;
            }

            b'p' => {
                let place = parse(self.line()?);
                let place = place.ok_or_else(|| self.malformed("an invalid memo number"))?;
                self.memorise(place)?;
            }
            b'q' => {
                let place = self.byte()?;
                self.memorise(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.array()?);
                self.memorise(place.into())?;
            }
            0x94 => self.memorise(self.memo.len() as u64)?,
            b'g' => {
                let place = parse(self.line()?);
                let place = place.ok_or_else(|| self.malformed("an invalid memo number"))?;
                self.recall(place)?;
            }
            b'h' => {
                let place = self.byte()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place.into())?;
            }

            b'c' => {
                let (module, name) = (self.name()?, self.name()?);
                let global = self.values.global(module, name)?;
                self.push(Value::Global(global));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.values.text(module), self.values.text(name)) else {
                    return Err(self.malformed("a class whose name is not text"));
                };
                let (module, name) = (module.to_owned(), name.to_owned());
                let global = self.values.global(&module, &name)?;
                self.push(Value::Global(global));
            }
            // REDUCE and NEWOBJ: the call is recorded, not made.
            b'R' | 0x81 => self.note_call()?,
            b'b' => {
                self.note_state()?;
                self.joblib_array()?;
            }
            // INST names the class it would run, so the error can name it too.
            b'i' => {
                let (module, name) = (self.name()?, self.name()?);
                self.values.global(module, name)?;
                return Err(self.unknown(code));
            }
            _ if self.instruction == 0 => return Err(ImportError::NotAPickle),
            _ => return Err(self.unknown(code)),
        }
        Ok(())
    }

    fn end(mut self) -> Result<Values<'a>, ImportError> {
        self.values.root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.malformed("an end with values left over"));
        }
        if self.at < self.bytes.len() {
            return Err(ImportError::Trailing {
                end: self.at,
                bytes: self.bytes.len(),
            });
        }
        Ok(self.values)
    }

    fn malformed(&self, problem: &'static str) -> ImportError {
        let at = self.instruction;
        ImportError::Malformed { at, problem }
    }

    fn unknown(&self, code: u8) -> ImportError {
        let at = self.instruction;
        ImportError::Instruction { code, at }
    }
}
