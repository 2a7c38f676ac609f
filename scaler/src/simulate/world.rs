//! A queue and a fleet that behave as measured ones do, on a simulated clock.

use std::collections::VecDeque;

use super::trace::STEP_SECONDS;
use crate::fleet::Capacity;
use crate::policy::Load;

/// What is simulated of workers and broker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machines {
    /// Messages that a busy worker scores in a second.
    pub rate: f64,
    /// Seconds from asking for a worker until it scores; they are paid.
    pub boot_seconds: f64,
    /// Messages per second that the broker delivers at most.
    pub broker_rate: f64,
    /// Messages that a worker holds at most.
    pub prefetch: f64,
}

impl Default for Machines {
    /// A worker that loads a model from the store for each message, on a virtual machine that boots.
    fn default() -> Self {
        Self {
            rate: 500.0,
            boot_seconds: 90.0,
            broker_rate: 25_000.0,
            prefetch: 1_000.0,
        }
    }
}

/// How long a worker holds a message at least: predictions are gathered for a second before they are written.
const HOLD_SECONDS: f64 = 1.0;

/// The state at one time.
#[derive(Clone, Debug)]
pub(super) struct World {
    machines: Machines,
    /// The shortest time that is billed for a worker, in seconds.
    minimum_billed: f64,
    pub(super) now: f64,
    /// When the workers that are ready were asked for.
    ready: VecDeque<f64>,
    /// When the workers that boot were asked for.
    booting: VecDeque<f64>,
    /// The messages that are left, with the time they arrived.
    queue: VecDeque<(f64, f64)>,
    published: f64,
    done: f64,
    /// Messages per second of the last step.
    arriving: f64,
    pub(super) worker_seconds: f64,
    pub(super) starts: u32,
    /// How long messages took, in seconds, and how many of them.
    pub(super) waits: Vec<(f64, f64)>,
}

impl World {
    pub(super) fn new(machines: Machines, minimum_billed: f64, workers: u32) -> Self {
        Self {
            machines,
            minimum_billed,
            now: 0.0,
            ready: (0..workers).map(|_| 0.0).collect(),
            booting: VecDeque::new(),
            queue: VecDeque::new(),
            published: 0.0,
            done: 0.0,
            arriving: 0.0,
            worker_seconds: 0.0,
            starts: 0,
            waits: Vec::new(),
        }
    }

    /// Returns the number of unacked messages: the waiting ones, and as many of the newest as workers still hold.
    pub(super) fn backlog(&self) -> f64 {
        (self.published - self.done).max(self.arriving * HOLD_SECONDS)
    }

    pub(super) fn load(&self) -> Load {
        let left = self.backlog();
        let unacked = left.min(self.ready.len() as f64 * self.machines.prefetch);
        Load {
            ready: (left - unacked).round() as u64,
            unacked: Some(unacked.ceil() as u64),
            published: Some(self.published.round() as u64),
            acked: Some(self.done.round() as u64),
        }
    }

    pub(super) fn capacity(&self) -> Capacity {
        let (ready, booting) = (self.ready.len() as u32, self.booting.len() as u32);
        Capacity {
            requested: ready + booting,
            booting,
            ready,
            draining: 0,
        }
    }

    /// Starts or ends workers. Those that boot are the first to end, then those that have run for the longest time.
    pub(super) fn resize(&mut self, wanted: u32) {
        let there = self.capacity().requested;
        for _ in there..wanted {
            self.booting.push_back(self.now);
            self.starts += 1;
        }
        for _ in wanted..there {
            self.end_one();
        }
    }

    /// Makes exactly `wanted` workers ready now, as if the new ones had been started in time.
    pub(super) fn have_ready(&mut self, wanted: u32) {
        let there = self.ready.len() as u32;
        for _ in there..wanted {
            self.ready.push_back(self.now - self.machines.boot_seconds);
            self.starts += 1;
            self.worker_seconds += self.machines.boot_seconds;
        }
        for _ in wanted..there {
            self.end_one();
        }
    }

    /// Ends a worker, and bills it for at least the minimum billed time.
    fn end_one(&mut self) {
        if let Some(since) = self.booting.pop_back().or_else(|| self.ready.pop_front()) {
            self.worker_seconds += f64::max(0.0, self.minimum_billed - (self.now - since));
        }
    }

    /// Lets a step pass, in which `arrived` messages come.
    pub(super) fn pass(&mut self, arrived: f64) {
        let requested = self.capacity().requested;
        self.worker_seconds += f64::from(requested) * STEP_SECONDS;
        self.arriving = arrived / STEP_SECONDS;
        if arrived > 0.0 {
            self.queue.push_back((self.now, arrived));
            self.published += arrived;
        }
        self.now += STEP_SECONDS;
        while let Some(since) = self.booting.front()
            && since + self.machines.boot_seconds <= self.now
        {
            self.ready.extend(self.booting.pop_front());
        }
        let rate = (self.ready.len() as f64 * self.machines.rate).min(self.machines.broker_rate);
        let mut can = rate * STEP_SECONDS;
        while can > 0.0 {
            let Some((since, left)) = self.queue.front_mut() else {
                break;
            };
            let done = left.min(can);
            self.waits.push((self.now - *since, done));
            self.done += done;
            can -= done;
            *left -= done;
            if *left <= 0.0 {
                self.queue.pop_front();
            }
        }
        if self.queue.is_empty() {
            // The sums of both have rounding errors.
            self.done = self.published;
        }
    }

    /// Returns the waits that these shares of the messages do not exceed, in seconds. What is left counts as it is now.
    pub(super) fn percentiles<const N: usize>(&mut self, shares: [f64; N]) -> [f64; N] {
        let left: Vec<_> = self
            .queue
            .iter()
            .map(|(since, left)| (self.now - since, *left))
            .collect();
        self.waits.extend(left);
        self.waits.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = self.waits.iter().map(|(_, messages)| messages).sum();
        shares.map(|share| {
            let mut sum = 0.0;
            let found = self.waits.iter().find(|(_, messages)| {
                sum += messages;
                sum >= share * total
            });
            found.map_or(0.0, |(wait, _)| *wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_boots_scores_and_is_paid() {
        let mut world = World::new(Machines::default(), 0.0, 0);
        world.resize(2);
        for _ in 0..18 {
            world.pass(1_000.0);
        }
        // Ready within the last of these steps.
        assert_eq!((world.capacity().ready, world.starts), (2, 2));
        assert_eq!(world.worker_seconds, 180.0);
        assert_eq!(world.backlog(), 18_000.0 - 5_000.0);
        assert_eq!((world.load().unacked, world.load().ready), (Some(2_000), 11_000));
        world.pass(0.0);
        world.pass(0.0);
        world.pass(0.0);
        assert_eq!(world.backlog(), 0.0);
        let [median, most] = world.percentiles([0.5, 1.0]);
        assert_eq!((median, most), (50.0, 90.0));
        world.resize(0);
        assert_eq!(world.capacity(), Capacity::default());
    }

    #[test]
    fn a_worker_is_billed_for_the_shortest_time_at_least() {
        let machines = Machines {
            boot_seconds: 10.0,
            ..Machines::default()
        };
        let mut world = World::new(machines, 60.0, 0);
        world.resize(2);
        for _ in 0..5 {
            world.pass(0.0);
        }
        // 25 s each so far.
        assert_eq!(world.worker_seconds, 50.0);
        world.resize(1);
        assert_eq!(world.worker_seconds, 50.0 + 35.0);
        for _ in 0..10 {
            world.pass(0.0);
        }
        world.resize(0);
        // The second one has run for longer than the shortest time.
        assert_eq!(world.worker_seconds, 50.0 + 35.0 + 50.0);
    }
}
