//! What asks a program to stop: SIGINT, SIGTERM, or the end of its standard input.

#[cfg(feature = "server")]
use std::io::Read;
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

/// Turns the end of standard input into a stop. What is read from it is ignored.
///
/// The kernel closes a pipe when the program at its other end exits, for whatever reason. So a program does not outlive
/// the one that started it.
#[cfg(feature = "server")]
pub(crate) fn stop_on_eof(trigger: Arc<ShutdownTrigger>) -> std::io::Result<()> {
    let wait = move || {
        let mut ignored = [0; 64];
        loop {
            match std::io::stdin().read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        trigger.stop();
    };
    // The thread waits for as long as the program runs.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(wait)
        .map(drop)
}
