//! CPU-bound work, such as encoding a part.

use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::Span;

/// Runs `work` on a thread for such work, so that it does not hold up the runtime's tasks. On a
/// single-threaded runtime it runs on that thread, so the order of events depends on no other thread. Its log lines are in the
/// caller's span. Returns the message of a panic.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return windrow_common::caught(work).map_err(|panicked| panicked.text().to_owned());
    }
    let span = Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.map_err(|error| error.to_string())
}
