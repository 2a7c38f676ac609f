//! Waits for the end of an outage of a dependency.

use std::time::Duration;

use windrow_common::{Backoff, HasRemedy, Remedy};

/// Waits between attempts: short at first, then long enough not to burden a store that recovers.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Runs `operation` until it succeeds or fails with an error that waiting does not cure. Logs an outage when it
/// begins and when it ends, not on each attempt. To stop waiting, drop the future.
pub async fn wait_out<T, E: HasRemedy, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut operation: impl FnMut() -> F,
) -> Result<T, E> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        match operation().await {
            Ok(done) => {
                if backoff.attempts() > 0 {
                    tracing::info!(what, tries = backoff.attempts() + 1, "works again");
                }
                return Ok(done);
            }
            Err(error) if error.remedy() == Remedy::Wait => {
                if backoff.attempts() == 0 {
                    tracing::warn!(what, %error, "failed; retrying until it works");
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(error) => return Err(error),
        }
    }
}
