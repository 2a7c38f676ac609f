//! Handles SIGINT and SIGTERM.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::ShutdownTrigger;

/// Turns SIGINT and SIGTERM into a stop. A second one ends the process at once, with exit code 128 + its number.
pub fn stop_on_signals(trigger: Arc<ShutdownTrigger>) -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            if asked {
                std::process::exit(code);
            }
            asked = true;
            trigger.stop();
        }
    });
    Ok(())
}
