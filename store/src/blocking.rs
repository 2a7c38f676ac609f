//! Work that takes long without waiting for anything, such as encoding a part.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work` on a thread for such work, so that it does not hold up the runtime's tasks. On a runtime with a single
/// thread, it takes its turn among them, so that what happens depends on no other thread. Returns the message of a panic.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic));
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked").to_owned()
}
