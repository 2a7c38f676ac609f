//! Stopping in two steps: first intake, then work.

use tokio::sync::watch;

/// Tells the tasks that take in work to take in no more.
///
/// A requested stop is final. Only intake watches this; work in flight continues.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stopping: watch::Receiver<bool>,
}

/// A trigger that stops every clone of its [`Shutdown`].
#[derive(Debug)]
pub struct ShutdownTrigger {
    stopping: watch::Sender<bool>,
}

impl Shutdown {
    /// Creates a trigger and the shutdown that it triggers.
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger { stopping: sender }, Self { stopping: receiver })
    }

    /// Returns whether a stop has been requested.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until a stop is requested; forever if the trigger is dropped without a request.
    pub async fn stopping(&mut self) {
        if self.stopping.wait_for(|stopping| *stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl ShutdownTrigger {
    /// Requests the stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}
