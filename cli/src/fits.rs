//! Fits on all cores, while other sensors are read and stored.
//!
//! A task for each sensor reads what it needs, [runs its fit](Fits::run) and stores the result. So neither the cores wait for the
//! store nor the store for them.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

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

    /// Runs `work` for each sensor, with enough in flight to keep both cores and store busy. Passes each result to
    /// `note` as it ends; `work` gets the slots for its fit. After a failure it starts no more sensors, waits for those
    /// in flight, notes the results of those that succeed, and returns the first failure.
    pub(crate) async fn for_each<S, W, T>(
        &self,
        sensors: impl IntoIterator<Item = S>,
        mut work: impl FnMut(Self, S) -> W,
        mut note: impl FnMut(T),
    ) -> Result<(), CliError>
    where
        W: Future<Output = Result<T, CliError>> + Send + 'static,
        T: Send + 'static,
    {
        let (mut waiting, mut working) = (sensors.into_iter(), JoinSet::new());
        let mut failed = None;
        loop {
            while failed.is_none()
                && working.len() < most_sensors()
                && let Some(sensor) = waiting.next()
            {
                working.spawn(work(self.clone(), sensor));
            }
            let Some(ended) = working.join_next().await else {
                break;
            };
            match ended.map_err(died).flatten() {
                Ok(done) => note(done),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
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
        tokio::task::spawn_blocking(fit).await.map_err(died)
    }
}

/// Returns how many sensors are worked on at once.
fn most_sensors() -> usize {
    READ_OR_STORED + FOR_EACH_CORE * cores()
}

/// Returns the failure of a thread or a task that panicked.
#[allow(clippy::needless_pass_by_value)] // `map_err` passes the error by value.
pub(crate) fn died(error: JoinError) -> CliError {
    CliError::Panicked(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn all_sensors_are_worked_on_and_not_too_many_at_once() {
        let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut noted = Vec::new();
        let work = |_, sensor: usize| {
            let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
            async move {
                most.fetch_max(at_once.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::task::yield_now().await;
                at_once.fetch_sub(1, Relaxed);
                Ok(sensor)
            }
        };
        let fits = Fits::on_all_cores();
        fits.for_each(0..500, work, |sensor| noted.push(sensor))
            .await
            .unwrap();
        noted.sort_unstable();
        assert_eq!(noted, (0..500).collect::<Vec<_>>());
        assert_eq!(most.load(Relaxed), most_sensors());
    }

    #[tokio::test]
    async fn what_is_in_work_when_another_sensor_fails_is_finished_and_noted() {
        let (fail, failing) = tokio::sync::watch::channel(false);
        let (mut begun, mut noted) = (0, Vec::new());
        let work = |_, sensor: usize| {
            begun += 1;
            if begun == most_sensors() {
                fail.send(true).unwrap();
            }
            let mut failing = failing.clone();
            async move {
                failing.wait_for(|failing| *failing).await.unwrap();
                match sensor {
                    3 => Err(CliError::Partial("the store is away".to_owned())),
                    _ => {
                        // Ends after the failure.
                        tokio::task::yield_now().await;
                        tokio::task::yield_now().await;
                        Ok(sensor)
                    }
                }
            }
        };
        let fits = Fits::on_all_cores();
        let ended = fits.for_each(0..500, work, |sensor| noted.push(sensor)).await;
        assert!(matches!(ended, Err(CliError::Partial(_))), "{ended:?}");
        assert!(!noted.contains(&3));
        assert!(begun < 500 && noted.len() == begun - 1, "{noted:?} of {begun}");
    }
}
