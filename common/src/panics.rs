//! Libraries that panic on malformed input.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A library's panic.
#[derive(Debug, thiserror::Error)]
#[error("the library that reads it gave up: {0}")]
pub struct Panicked(String);

impl Panicked {
    /// Returns the panic's text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Runs `work`, which passes untrusted input to a library, and returns the library's panic as an error.
///
/// Only for libraries that are known to panic: our own code returns errors. What `work` changes must not be used after a
/// panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Panicked(text_of(&*panic)))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_text() {
        assert_eq!(caught(|| 7).unwrap(), 7);
        let error = caught(|| panic!("length {} is negative", -1)).unwrap_err();
        assert!(error.to_string().ends_with(": length -1 is negative"), "{error}");
        let error = caught(|| panic!("no")).unwrap_err();
        assert!(error.to_string().ends_with(": no"), "{error}");
    }
}
