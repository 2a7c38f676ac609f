//! How many workers there should be: a pure function of what was observed, without I/O and without a clock.
//!
//! Four things decide, and the largest number of workers wins:
//!
//! | what | workers |
//! |---|---|
//! | the backlog | as many as score every message before its deadline (`drain.rs`) |
//! | a batch that is known to come | as many as score it before its deadline, started in time (`batch.rs`) |
//! | work | as many as there are, as long as each of them has work: ending one would save nothing |
//! | idleness | the most that had work within the time that a new start is worth (`idle.rs`) |
//!
//! If something cannot be observed, the size stays as it is.

mod backlog;
mod batch;
mod boots;
mod decision;
mod drain;
mod flow;
mod idle;
mod learned;
mod options;
mod rates;
mod schedule;

use jiff::Timestamp;
use serde::Serialize;

pub use decision::{Decision, DecisionReason};
pub use learned::Learned;
pub use options::{PolicyOptions, PolicyOptionsError};
pub use schedule::Schedule;

use crate::fleet::Capacity;
use backlog::Backlog;
use batch::NextBatch;
use boots::Boots;
use drain::Worker;
use flow::{Flow, Step};
use idle::Needs;

/// Workers count as busy while the messages left take them at least this long, in seconds.
const QUIET: f64 = 5.0;
/// A fleet of at least this size is not enlarged by a tenth or less.
const TOLERANT_FROM: u32 = 10;
/// More messages than any queue holds. A larger number is an error of the broker.
const MOST_MESSAGES: u64 = 1 << 50;

/// What was seen at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// When.
    pub at: Timestamp,
    /// The queue; `None` if it could not be observed.
    pub load: Option<Load>,
    /// The fleet; `None` if it could not be observed.
    pub capacity: Option<Capacity>,
}

/// The messages of the scoring queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Messages that wait for a worker.
    pub ready: u64,
    /// Messages that workers hold; `None` if the broker does not say.
    pub unacked: Option<u64>,
    /// Messages that were published since the broker began to count.
    pub published: Option<u64>,
    /// Messages that were acked since the broker began to count.
    pub acked: Option<u64>,
}

impl Load {
    fn total(&self) -> f64 {
        self.ready.saturating_add(self.unacked.unwrap_or(0)) as f64
    }

    fn is_plausible(&self) -> bool {
        self.ready <= MOST_MESSAGES && self.unacked.unwrap_or(0) <= MOST_MESSAGES
    }
}

/// Decides how many workers there should be.
#[derive(Clone, Debug)]
pub struct Policy {
    options: PolicyOptions,
    learned: Learned,
    flow: Flow,
    backlog: Backlog,
    boots: Boots,
    needs: Needs,
    batch: NextBatch,
    wanted: Option<u32>,
}

/// What one decision is made of.
struct Scene {
    at: Timestamp,
    now: f64,
    step: Step,
    capacity: Capacity,
    worker: Worker,
    knows_unacked: bool,
}

impl Policy {
    /// Creates a policy that knows what an earlier one has `learned`.
    pub fn new(options: PolicyOptions, learned: Learned) -> Result<Self, PolicyOptionsError> {
        options.validate()?;
        Ok(Self {
            options,
            learned,
            flow: Flow::default(),
            backlog: Backlog::default(),
            boots: Boots::default(),
            needs: Needs::default(),
            batch: NextBatch::default(),
            wanted: None,
        })
    }

    /// Continues from what an earlier policy has decided, so that it is held if nothing can be seen.
    pub fn resume(&mut self, wanted: u32) {
        self.wanted = Some(wanted.clamp(self.options.min, self.options.max));
    }

    /// Returns what was measured up to now.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Decides from the next observation. Call it in the order of the observations' times.
    pub fn decide(&mut self, seen: &Observation) -> Decision {
        let decision = self.look_at(seen);
        let wanted = decision.wanted.clamp(self.options.min, self.options.max);
        self.wanted = Some(wanted);
        Decision { wanted, ..decision }
    }

    fn look_at(&mut self, seen: &Observation) -> Decision {
        let load = seen.load.filter(Load::is_plausible);
        let capacity = seen
            .capacity
            .filter(|capacity| capacity.requested >= capacity.booting);
        let (load, capacity) = match (load, capacity) {
            (Some(load), Some(capacity)) => (load, capacity),
            (None, capacity) => return self.hold(capacity, "the queue"),
            (_, None) => return self.hold(None, "the fleet"),
        };
        let now = seconds(seen.at);
        let Some(step) = self.flow.step(now, load) else {
            self.forget_times(now, load);
            return self.hold(Some(capacity), "the time that has passed");
        };
        self.backlog.observe(now, step.arrived, step.total);
        self.measure(now, &step, capacity);
        let scene = Scene {
            at: seen.at,
            now,
            step,
            capacity,
            worker: self.worker(capacity.ready),
            knows_unacked: load.unacked.is_some(),
        };
        let up = self.scale_out(&scene);
        let down = self.scale_in(&scene);
        match up {
            Some(up) if up.wanted > down.wanted => up,
            _ => down,
        }
    }

    /// Keeps the size that was last decided, or else the fleet's present size. An unknown size never counts as zero.
    fn hold(&self, capacity: Option<Capacity>, unseen: &'static str) -> Decision {
        let there = capacity.map(|capacity| capacity.requested);
        let wanted = self.wanted.or(there).unwrap_or(self.options.min.max(1));
        Decision {
            wanted,
            reason: DecisionReason::Hold { unseen },
        }
    }

    fn forget_times(&mut self, now: f64, load: Load) {
        self.backlog = Backlog::default();
        self.backlog.observe(now, 0.0, load.total());
        self.boots.restart(now);
        self.needs.restart();
        self.batch = NextBatch::default();
    }

    /// Learns the rate of a worker and its start-up time.
    fn measure(&mut self, now: f64, step: &Step, capacity: Capacity) {
        let booted = self.boots.observe(now, capacity);
        for took in booted {
            self.learned.booted_in(took);
        }
        if self.boots.is_steady() && step.is_saturated && step.seconds > 0.0 && capacity.ready > 0 {
            let rate = step.done / step.seconds / f64::from(capacity.ready);
            self.learned
                .rates
                .observe(now, capacity.ready, rate, step.seconds);
        }
    }

    fn worker(&self, ready: u32) -> Worker {
        let boot = self.learned.boot_seconds;
        Worker {
            rate: self.learned.rate(ready).unwrap_or(self.options.first_rate),
            boot: boot.unwrap_or(self.options.first_boot.as_secs_f64()),
        }
    }

    /// Returns a larger size, if the backlog or the next batch needs it.
    fn scale_out(&mut self, scene: &Scene) -> Option<Decision> {
        let Scene {
            now,
            worker,
            capacity,
            ..
        } = *scene;
        let target = self.options.drain_target.as_secs_f64();
        let need = drain::drain(now, &self.backlog, capacity.ready, &self.boots, worker, target);
        let drain = self
            .at_most_the_ceiling(now, capacity.requested, need.extra)
            .map(|wanted| Decision {
                wanted,
                reason: DecisionReason::Drain {
                    backlog: self.backlog.total() as u64,
                    due_seconds: need.due,
                    rate: worker.rate,
                },
            });
        let batch = self.next_batch(scene, target);
        drain
            .into_iter()
            .chain(batch)
            .max_by_key(|decision| decision.wanted)
    }

    /// Adds `extra` workers, unless that is hardly more than there are, or further workers would score no more.
    fn at_most_the_ceiling(&self, now: f64, requested: u32, extra: f64) -> Option<u32> {
        // Saturates.
        let extra = extra.ceil() as u32;
        let is_small = requested >= TOLERANT_FROM && f64::from(extra) <= 0.1 * f64::from(requested);
        if extra == 0 || is_small {
            return None;
        }
        let ceiling = self.learned.rates.ceiling(now).unwrap_or(u32::MAX).max(requested);
        Some(requested.saturating_add(extra).min(ceiling))
    }

    fn next_batch(&mut self, scene: &Scene, target: f64) -> Option<Decision> {
        let Scene {
            at,
            now,
            worker,
            step,
            ..
        } = *scene;
        let next = NextBatch::in_seconds(self.options.schedule.as_ref(), at);
        if let Some(messages) = self.batch.observe(now, next, worker.boot, step.arrived, target) {
            self.learned.batch_had(messages);
        }
        let in_seconds = self.batch.awaited(now)?;
        let messages = self.learned.batch_messages?;
        let aim = drain::aim(target, worker.boot);
        Some(Decision {
            wanted: drain::for_batch(messages, worker, aim),
            reason: DecisionReason::Batch {
                in_seconds,
                messages: messages as u64,
            },
        })
    }

    /// Returns the size that is enough for what is there: as it is while there is work, smaller if there is none.
    fn scale_in(&mut self, scene: &Scene) -> Decision {
        let Scene {
            now,
            step,
            capacity,
            worker,
            ..
        } = *scene;
        let requested = capacity.requested;
        let break_even = worker.boot.max(self.options.minimum_billed.as_secs_f64());
        let is_empty = step.total <= 0.0 && step.arrived <= 0.0;
        if !is_empty && let Some(gap) = self.needs.was_empty_for(now) {
            self.learned.gap_was(gap);
        }
        let idle = self.needs.empty_for(now, is_empty && scene.knows_unacked);
        if let Some(idle) = idle {
            self.needs.observe(now, 0, break_even);
            return self.without_work(scene, idle, break_even);
        }
        let is_quiet = step.total <= worker.rate * QUIET * f64::from(capacity.ready);
        let enough = match is_quiet {
            // Messages arrive, or messages may be in flight.
            true => idle::for_flow(self.flow.arrivals, worker.rate).max(1),
            false => requested,
        };
        let most = self.needs.observe(now, enough.min(requested), break_even);
        match most.filter(|most| *most < requested) {
            Some(most) => Decision {
                wanted: self.needs.step_down(now, requested, most),
                reason: DecisionReason::Flow {
                    arrivals: self.flow.arrivals,
                    rate: worker.rate,
                },
            },
            None => Decision {
                wanted: requested,
                reason: DecisionReason::Busy {
                    backlog: step.total as u64,
                },
            },
        }
    }

    /// Decides for an empty queue.
    fn without_work(&self, scene: &Scene, idle: f64, break_even: f64) -> Decision {
        let next = NextBatch::in_seconds(self.options.schedule.as_ref(), scene.at);
        let gaps_are_long = self.learned.gaps_are_longer_than(break_even);
        let until = idle::linger(break_even, next, gaps_are_long);
        match until {
            Some(until) if idle >= until => Decision {
                wanted: self.options.min,
                reason: DecisionReason::Idle,
            },
            _ => Decision {
                wanted: scene.capacity.requested,
                reason: DecisionReason::Linger {
                    idle_seconds: idle,
                    until_seconds: until.or(next).unwrap_or(break_even),
                },
            },
        }
    }
}

/// Returns a time in seconds since 1970.
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

#[cfg(test)]
mod tests;
