//! The stack and the memo.

use super::super::ImportError;
use super::super::value::{Global, Id, Object, Value};
use super::Machine;

impl<'a> Machine<'a> {
    pub(super) fn push(&mut self, value: Value<'a>) {
        let id = self.values.add(value);
        self.stack.push(id);
    }

    /// Pops the top of the stack, but not past a mark.
    pub(super) fn pop(&mut self) -> Result<Id, ImportError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.malformed("too little on the stack"));
        }
        self.stack
            .pop()
            .ok_or_else(|| self.malformed("too little on the stack"))
    }

    /// Pops all values above the last mark, and the mark.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<Id>, ImportError> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    /// Returns the top of the stack and leaves it there.
    pub(super) fn top(&mut self) -> Result<Id, ImportError> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    pub(super) fn tuple(&mut self, count: usize) -> Result<(), ImportError> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    pub(super) fn append(&mut self, items: Vec<Id>) -> Result<(), ImportError> {
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

    pub(super) fn set(&mut self, items: &[Id]) -> Result<(), ImportError> {
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

    pub(super) fn memorise(&mut self, place: u64) -> Result<(), ImportError> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    pub(super) fn recall(&mut self, place: u64) -> Result<(), ImportError> {
        let id = self.memo.get(&place).copied();
        let id = id.ok_or_else(|| self.malformed("a memo that was never written"))?;
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn note_call(&mut self) -> Result<(), ImportError> {
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

    pub(super) fn note_state(&mut self) -> Result<(), ImportError> {
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
