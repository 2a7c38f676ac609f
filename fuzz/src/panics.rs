//! Panics while an input is checked.

use std::cell::{Cell, RefCell};
use std::panic::{set_hook, take_hook};

thread_local! {
    static CHECKING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics quiet while an input is checked. Those of libraries are caught by our own code, thousands a minute.
pub fn keep_quiet() {
    let before = take_hook();
    set_hook(Box::new(move |panic| match CHECKING.get() {
        true => LAST.with_borrow_mut(|last| *last = panic.to_string()),
        false => before(panic),
    }));
}

/// Runs `check` and returns its panic as an error, with its place if [`keep_quiet`] was called.
pub(crate) fn caught(check: impl FnOnce()) -> Result<(), String> {
    CHECKING.set(true);
    let checked = windrow_common::caught(check);
    CHECKING.set(false);
    checked.map_err(|panicked| {
        let at = LAST.take();
        match at.is_empty() {
            true => panicked.text().to_owned(),
            false => at,
        }
    })
}
