//! What joblib writes between the instructions of a pickle: the bytes of arrays, each behind its description.

use super::super::ImportError;
use super::super::numpy::{self, Joblib};
use super::super::value::{Global, Id, Value};
use super::Machine;

/// How deep arrays of objects may hold such arrays.
const MAX_DEPTH: usize = 8;

impl Machine<'_> {
    /// Reads the contents that joblib writes behind the description of an array: plain bytes, or a pickle of objects.
    /// They become the only argument of the description.
    pub(super) fn joblib_array(&mut self) -> Result<(), ImportError> {
        let top = self.top()?;
        if !matches!(self.values.get(top), Value::Object(object) if object.called == Global::JoblibArray) {
            return Ok(());
        }
        let description = numpy::joblib(&self.values, top);
        let contents = match description.map_err(|problem| self.malformed(problem))? {
            Joblib::Objects => self.inner_pickle()?,
            Joblib::Bytes { length, padded } => {
                if padded {
                    let padding = self.byte()?;
                    self.take(padding.into())?;
                }
                let bytes = self.counted(length)?;
                self.values.add(Value::Bytes(bytes))
            }
        };
        let arguments = self.values.add(Value::Tuple(vec![contents]));
        if let Value::Object(object) = self.values.get_mut(top) {
            object.arguments = arguments;
        }
        Ok(())
    }

    /// Reads a pickle inside this one, with a stack and a memo of its own.
    fn inner_pickle(&mut self) -> Result<Id, ImportError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.malformed("pickles too deep inside each other"));
        }
        let outer = (
            std::mem::take(&mut self.stack),
            std::mem::take(&mut self.marks),
            std::mem::take(&mut self.memo),
        );
        self.depth += 1;
        self.follow_all()?;
        let contents = self.pop()?;
        self.depth -= 1;
        (self.stack, self.marks, self.memo) = outer;
        Ok(contents)
    }
}
