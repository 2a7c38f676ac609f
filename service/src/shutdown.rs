//! Stopping in two steps: first intake, then work.

use tokio::sync::watch;

/// Seen by everything that can wait: resolves once the program should take in no more work.
///
/// A stop asked for is for good. Work in hand goes on; only intake looks at this.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stopping: watch::Receiver<bool>,
}

/// Asks every clone of its [`Shutdown`] to stop.
#[derive(Debug)]
pub struct ShutdownTrigger {
    stopping: watch::Sender<bool>,
}

impl Shutdown {
    /// A trigger and what it triggers.
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger { stopping: sender }, Self { stopping: receiver })
    }

    /// Whether the stop has been asked for.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves once the stop has been asked for; never, when the trigger is gone without asking.
    pub async fn stopping(&mut self) {
        if self.stopping.wait_for(|stopping| *stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl ShutdownTrigger {
    /// Asks for the stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}
