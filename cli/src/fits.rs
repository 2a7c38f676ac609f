//! Fits on all cores, while other sensors are read and stored.
//!
//! A task for each sensor reads what it needs, [runs its fit](Fits::run) and stores the result. So neither the cores wait for the
//! store nor the store for them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::CliError;
use crate::run::cores;

/// Number of sensors that are read or stored at once, beside those that are fitted.
const READ_OR_STORED: usize = 16;

/// Fits that run at once for each core. A fit may take less time than it takes a thread to wake, so a second one fills the gap.
const FOR_EACH_CORE: usize = 2;

/// The room for fits.
#[derive(Clone, Debug)]
pub(crate) struct Fits(Arc<Semaphore>);

impl Fits {
    pub(crate) fn on_all_cores() -> Self {
        Self(Arc::new(Semaphore::new(FOR_EACH_CORE * cores())))
    }

    /// Returns how many sensors are worked on at once.
    pub(crate) fn most_sensors() -> usize {
        READ_OR_STORED + FOR_EACH_CORE * cores()
    }

    /// Runs a fit in a thread of its own, as soon as there is room.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        fit: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CliError> {
        let slot = Arc::clone(&self.0).acquire_owned().await;
        let fit = move || {
            // Free at the end of the fit, and not when somebody looks at its result.
            let _slot = slot;
            fit()
        };
        let fitted = tokio::task::spawn_blocking(fit).await;
        fitted.map_err(|error| CliError::Panicked(error.to_string()))
    }
}
