//! One worker process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::command::WorkerCommand;
use super::patience::LONG_LIFE;

/// Size limit of a worker's metrics, in bytes. They have a few thousand.
const MAX_METRICS: usize = 1 << 20;
/// The metric that says how many messages a worker holds.
const HELD: &str = "windrow_worker_held_messages ";
/// The metric that says which of its dependencies a worker can use.
const UP: &str = "windrow_dependency_up{";

/// A worker process.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    process: std::process::Child,
    /// Closing it asks the worker to drain.
    stdin: Option<ChildStdin>,
    address: SocketAddr,
    pub(super) started: Instant,
    /// When it will be killed; `None` until it is asked to drain.
    drain_by: Option<Instant>,
    is_killed: bool,
    is_ready: bool,
    /// What it holds; `None` if it did not answer.
    held: Option<u64>,
    lives_long: bool,
}

/// How a worker has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to drain.
    Asked {
        /// Whether it has finished everything.
        has_drained: bool,
    },
    /// Nobody had asked it.
    Unasked {
        /// The program and how it ended.
        why: String,
        /// How long it lived.
        lived: Duration,
    },
}

impl Child {
    /// Starts the `number`-th worker.
    pub(super) fn start(command: &WorkerCommand, number: u64) -> Result<Self, String> {
        let program = command.program.display();
        let failed = |error: std::io::Error| {
            format!("cannot start {program}: {error}; --worker-program names the worker")
        };
        // If another program takes the port in between, the worker ends, and its successor gets another port.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| format!("no free port for a worker: {error}"))?;
        let mut process = command
            .command(number, &address.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let name = format!("{}-{number}", command.name);
        tracing::info!(worker = name, pid = process.id(), "started a worker");
        Ok(Self {
            name,
            stdin: process.stdin.take(),
            process,
            address,
            started: Instant::now(),
            drain_by: None,
            is_killed: false,
            is_ready: false,
            held: None,
            lives_long: false,
        })
    }

    /// Asks it to take no further messages and to end when it has finished those in hand, within `deadline`.
    pub(super) fn drain(&mut self, deadline: Duration) {
        if self.drain_by.is_none() {
            tracing::info!(worker = self.name, held = self.held, "a worker is to drain");
            self.drain_by = Some(Instant::now() + deadline);
            self.stdin = None;
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain_by.is_some()
    }

    /// Returns whether it takes messages. Once it has, an outage of the broker does not make it a new one.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Returns the number of messages that it holds. A ready worker that does not answer, or one that drains, counts as
    /// holding at least one, because nobody can be certain.
    pub(super) fn in_hand(&self) -> u64 {
        let least = u64::from(self.is_draining());
        match (self.held, self.is_ready) {
            (Some(held), _) => held.max(least),
            (None, true) => 1,
            (None, false) => least,
        }
    }

    /// Returns whether it has just lived long enough to have started well.
    pub(super) fn lives_since(&mut self, now: Instant) -> bool {
        let before = self.lives_long;
        self.lives_long = now.duration_since(self.started) >= LONG_LIFE;
        self.lives_long && !before
    }

    /// Returns how it has ended, if it has. Kills it if it has not drained in time.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        if !self.is_killed && self.drain_by.is_some_and(|by| Instant::now() >= by) {
            self.is_killed = true;
            tracing::warn!(
                worker = self.name,
                "a worker did not drain in time and is killed; its messages are delivered again"
            );
            // An error means that it has already ended.
            _ = self.process.kill();
        }
        let (status, has_succeeded) = match self.process.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => (status.to_string(), status.success()),
            Err(error) => (error.to_string(), false),
        };
        let (name, pid) = (&self.name, self.process.id());
        match (self.is_draining(), has_succeeded) {
            (true, true) => {
                tracing::info!(worker = name, pid, status, "a worker has drained");
                return Some(Ended::Asked { has_drained: true });
            }
            (true, false) => {
                tracing::warn!(
                    worker = name,
                    pid,
                    status,
                    "a worker ended before it had drained; its messages are delivered again"
                );
                return Some(Ended::Asked { has_drained: false });
            }
            (false, _) => {}
        }
        tracing::error!(
            worker = name,
            pid,
            status,
            "a worker ended, though nobody had asked it to; another takes its place"
        );
        Some(Ended::Unasked {
            why: format!("a worker ended soon after its start ({status}); its own log says why"),
            lived: self.started.elapsed(),
        })
    }

    /// Asks it whether it takes messages, and how many it holds.
    pub(super) async fn ask(&mut self, client: &reqwest::Client) {
        let metrics = metrics(client, self.address).await;
        if let Err(error) = &metrics {
            tracing::debug!(worker = self.name, %error, "a worker does not answer");
        }
        let metrics = metrics.unwrap_or_default();
        self.held = held(&metrics);
        self.is_ready |= takes_messages(&metrics);
    }
}

async fn metrics(client: &reqwest::Client, address: SocketAddr) -> Result<String, reqwest::Error> {
    let request = client.get(format!("http://{address}/metrics")).send();
    let mut answer = request.await?.error_for_status()?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await?
        && text.len() < MAX_METRICS
    {
        text.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn held(metrics: &str) -> Option<u64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(HELD))?;
    line.trim().parse().ok()
}

/// Returns whether the worker can use everything that it needs.
fn takes_messages(metrics: &str) -> bool {
    let mut dependencies = metrics.lines().filter(|line| line.starts_with(UP)).peekable();
    dependencies.peek().is_some() && dependencies.all(|line| line.ends_with(" 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_metrics_say_what_it_holds_and_whether_it_is_ready() {
        let metrics = "# TYPE windrow_worker_held_messages gauge\nwindrow_worker_held_messages 12\n\
            windrow_dependency_up{dependency=\"rabbitmq\"} 1\nwindrow_dependency_up{dependency=\"store\"} 1\n";
        assert_eq!(held(metrics), Some(12));
        assert!(takes_messages(metrics));
        assert!(!takes_messages(&metrics.replace("\"} 1", "\"} 0")));
        assert_eq!(held(""), None);
        assert!(!takes_messages(""));
    }
}
