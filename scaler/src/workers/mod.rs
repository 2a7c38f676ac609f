//! Worker processes on this machine: started, watched, drained and replaced.
//!
//! Each worker's standard input is a pipe from this program. Closing the pipe asks the worker to drain. The kernel closes it
//! when this program has ended, so no worker is left behind that nobody watches.

mod child;
mod command;
mod patience;

use std::time::Duration;

use tokio::time::Instant;

use child::{Child, Ended};
use patience::Patience;

pub use command::{WorkerCommand, environment_of};

/// How long a worker may take to say what it holds.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The worker processes of this machine.
#[derive(Debug)]
pub struct Workers {
    command: WorkerCommand,
    children: Vec<Child>,
    client: reqwest::Client,
    /// How many have been started.
    started: u64,
    /// How many have ended although nobody had asked them to, or without having drained.
    lost: u64,
    patience: Patience,
}

/// What the workers of a machine do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Workers that are to take messages and do not yet.
    pub booting: u32,
    /// Workers that take messages.
    pub ready: u32,
    /// Workers that take no further messages and are about to end.
    pub draining: u32,
    /// Messages that they hold. One that cannot be asked counts as holding one, and so does one that is draining.
    pub in_hand: u64,
}

impl Workers {
    /// Creates an empty set of workers.
    pub fn new(command: WorkerCommand) -> Result<Self, String> {
        windrow_store::choose_tls();
        // Never through a proxy: the workers are on this machine.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            .build();
        Ok(Self {
            command,
            children: Vec::new(),
            client: client.map_err(|error| windrow_common::sentence(&error))?,
            started: 0,
            lost: 0,
            patience: Patience::default(),
        })
    }

    /// Returns how many have ended although nobody had asked them to, or without having drained.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Removes the workers that have ended, and asks the others for their state.
    pub async fn look(&mut self) -> Census {
        self.reap();
        let client = &self.client;
        let asking = self.children.iter_mut().map(|child| child.ask(client));
        futures::future::join_all(asking).await;
        let mut census = Census::default();
        for child in &self.children {
            census.in_hand += child.in_hand();
            match (child.is_draining(), child.is_ready()) {
                (true, _) => census.draining += 1,
                (false, true) => census.ready += 1,
                (false, false) => census.booting += 1,
            }
        }
        census
    }

    /// Starts workers, or asks some to drain, so that `wanted` are left. Those with the fewest messages drain first.
    ///
    /// An error says why workers cannot be started, or end soon after they were.
    pub fn resize(&mut self, wanted: u32) -> Result<(), String> {
        self.reap();
        let mut staying: Vec<&mut Child> = self
            .children
            .iter_mut()
            .filter(|child| !child.is_draining())
            .collect();
        let surplus = staying.len().saturating_sub(wanted as usize);
        // Of those with equally many, the youngest.
        staying.sort_by_key(|child| (child.in_hand(), std::cmp::Reverse(child.started)));
        let deadline = self.command.drain_deadline();
        for child in staying.into_iter().take(surplus) {
            child.drain(deadline);
        }
        self.start_up_to(wanted)
    }

    /// Asks all workers to drain, and waits until they have ended. Those that take too long are killed.
    pub async fn end(&mut self) {
        // Nothing is started, so nothing fails.
        _ = self.resize(0);
        while !self.children.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.reap();
        }
    }

    fn start_up_to(&mut self, wanted: u32) -> Result<(), String> {
        let staying = self.children.iter().filter(|child| !child.is_draining()).count();
        for _ in staying..wanted as usize {
            if self.patience.waits(Instant::now()) {
                break;
            }
            let child = Child::start(&self.command, self.started)?;
            self.started += 1;
            self.children.push(child);
        }
        match self.patience.outage() {
            Some(why) if wanted > 0 => Err(why.to_owned()),
            _ => Ok(()),
        }
    }

    /// Forgets the workers that have ended.
    fn reap(&mut self) {
        let now = Instant::now();
        let (patience, lost) = (&mut self.patience, &mut self.lost);
        self.children.retain_mut(|child| match child.ended() {
            None => {
                if child.lives_since(now) {
                    patience.note_life();
                }
                true
            }
            Some(Ended::Asked { has_drained }) => {
                *lost += u64::from(!has_drained);
                false
            }
            Some(Ended::Unasked { why, lived }) => {
                *lost += 1;
                patience.note_end(now, why, lived);
                false
            }
        });
    }
}
