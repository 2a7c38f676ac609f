//! The stack machine: the instructions of pickle protocols 0 to 5 that scikit-learn's models need, and no others.

mod joblib;

use std::borrow::Cow;
use std::collections::HashMap;

use super::value::{Global, Id, Object, Value, Values};
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

    /// Returns the next `count` bytes without copying them, so that a wrong count costs no memory.
    fn take(&mut self, count: usize) -> Result<&'a [u8], ImportError> {
        let taken = self.bytes[self.at..].get(..count);
        let taken = taken.ok_or(ImportError::CutOff(self.bytes.len()))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let taken = self.take(N)?.first_chunk();
        taken.copied().ok_or(ImportError::CutOff(self.bytes.len()))
    }

    fn byte(&mut self) -> Result<u8, ImportError> {
        self.array().map(|[byte]| byte)
    }

    /// Returns the bytes up to the next line feed, and skips the line feed.
    fn line(&mut self) -> Result<&'a [u8], ImportError> {
        let end = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or(ImportError::CutOff(self.bytes.len()))?)?;
        self.at += 1;
        Ok(line)
    }

    fn name(&mut self) -> Result<&'a str, ImportError> {
        let line = self.line()?;
        str::from_utf8(line).map_err(|_| self.malformed("a class whose name is not text"))
    }

    fn counted(&mut self, length: u64) -> Result<&'a [u8], ImportError> {
        // A length past usize is past the end too.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn push(&mut self, value: Value<'a>) {
        let id = self.values.add(value);
        self.stack.push(id);
    }

    fn push_int(&mut self, digits: &[u8]) -> Result<(), ImportError> {
        let number = parse(digits).ok_or_else(|| self.malformed("an integer that does not fit 64 bits"))?;
        self.push(Value::Int(number));
        Ok(())
    }

    fn push_text(&mut self, length: u64) -> Result<(), ImportError> {
        let text = str::from_utf8(self.counted(length)?);
        let text = text.map_err(|_| self.malformed("text that is not UTF-8"))?;
        self.push(Value::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn push_bytes(&mut self, length: u64) -> Result<(), ImportError> {
        let bytes = self.counted(length)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    /// Reads a LONG1: two's complement, little endian, in as few bytes as possible.
    fn long(&mut self) -> Result<(), ImportError> {
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

    /// Pops the top of the stack, but not past a mark.
    fn pop(&mut self) -> Result<Id, ImportError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.malformed("too little on the stack"));
        }
        self.stack
            .pop()
            .ok_or_else(|| self.malformed("too little on the stack"))
    }

    /// Pops all values above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>, ImportError> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    /// Returns the top of the stack and leaves it there.
    fn top(&mut self) -> Result<Id, ImportError> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn tuple(&mut self, count: usize) -> Result<(), ImportError> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), ImportError> {
        let list = self.top()?;
        match self.values.get_mut(list) {
            Value::List(list) => list.extend(items),
            // What is never read needs no items.
            Value::Object(Object {
                called: Global::Other(_),
                ..
            }) => {}
            _ => return Err(self.malformed("items for a value that is not a list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), ImportError> {
        let dict = self.top()?;
        let (pairs, odd) = items.as_chunks::<2>();
        match self.values.get_mut(dict) {
            Value::Dict(dict) if odd.is_empty() => {
                dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
            }
            Value::Object(Object {
                called: Global::Other(_),
                ..
            }) if odd.is_empty() => {}
            _ => return Err(self.malformed("keys and values for a value that is not a dict")),
        }
        Ok(())
    }

    fn memorise(&mut self, place: u64) -> Result<(), ImportError> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Result<(), ImportError> {
        let id = self.memo.get(&place).copied();
        let id = id.ok_or_else(|| self.malformed("a memo that was never written"))?;
        self.stack.push(id);
        Ok(())
    }

    fn note_call(&mut self) -> Result<(), ImportError> {
        let (arguments, called) = (self.pop()?, self.pop()?);
        match (self.values.get(called), self.values.get(arguments)) {
            (Value::Global(called), Value::Tuple(_)) => {
                let called = *called;
                self.push(Value::Object(Object {
                    called,
                    arguments,
                    state: None,
                }));
                Ok(())
            }
            _ => Err(self.malformed("an invalid call")),
        }
    }

    fn note_state(&mut self) -> Result<(), ImportError> {
        let state = self.pop()?;
        let top = self.top()?;
        match self.values.get_mut(top) {
            Value::Object(object) if object.state.is_none() => {
                object.state = Some(state);
                Ok(())
            }
            // NumPy's random generators are a state of a state.
            Value::Object(Object {
                called: Global::Other(_),
                ..
            }) => Ok(()),
            _ => Err(self.malformed("a state for a value that cannot have one")),
        }
    }
}

fn parse<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Decodes Python's `raw_unicode_escape`: each byte is a character, except in escapes: `\u` and 4 hexadecimal digits,
/// or
/// `\U` and 8.
fn raw_unicode_escape(line: &[u8]) -> Option<Cow<'_, str>> {
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
