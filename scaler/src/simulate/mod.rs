//! Replays a day of arrivals against scaling policies, in less than a second: what each costs, and how long messages take.

mod hindsight;
mod keda;
mod trace;
mod world;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

pub use trace::{Generated, STEP_SECONDS, Trace};
pub use world::Machines;

use crate::policy::{Learned, Observation, Policy, PolicyOptions, PolicyOptionsError, Schedule};
use keda::Keda;
use world::World;

/// When every simulated day begins: 2026-01-05T00:00:00Z.
const MIDNIGHT_MS: i64 = 1_767_571_200_000;
/// Steps without arrivals that follow a trace: half an hour, to finish every backlog.
const AFTER: usize = 360;
/// How often a point is kept for the chart, in steps: a minute.
const POINT_STEPS: usize = 12;
/// The largest fleet that is simulated.
pub const MOST_WORKERS: u32 = 10_000;

/// What is simulated besides the arrivals.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Workers and broker.
    pub machines: Machines,
    /// Bounds and aim of the fleet. Without a schedule, that of a generated trace of batches is used.
    pub options: PolicyOptions,
    /// Price of a worker-hour.
    pub price_per_hour: f64,
}

/// Why something cannot be simulated.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SimulationError {
    /// The options of the fleet contradict each other.
    #[error(transparent)]
    Options(#[from] PolicyOptionsError),
    /// The fleet would be too large.
    #[error(
        "cannot simulate {trace}: {messages:.0} messages arrive within {STEP_SECONDS:.0} s, which is more than \
         {MOST_WORKERS} workers score in that time; raise --rate, or shorten the trace's bursts"
    )]
    TooManyWorkers {
        /// The trace.
        trace: String,
        /// The messages of its largest step.
        messages: f64,
    },
}

/// What decides about the size of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Windrow's policy.
    Windrow,
    /// Windrow's policy, told when batches are due.
    WindrowScheduled,
    /// KEDA and the horizontal pod autoscaler with their defaults, one worker for what it scores within the drain target.
    Keda,
    /// As many workers as hindsight ever needs, all the time.
    Fixed,
    /// The cheapest fleet that keeps the drain target, for someone who knows the trace.
    Hindsight,
}

impl Contender {
    /// Returns its name for a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::Windrow => "Windrow",
            Self::WindrowScheduled => "Windrow with the schedule",
            Self::Keda => "KEDA + HPA",
            Self::Fixed => "a fixed fleet",
            Self::Hindsight => "hindsight",
        }
    }
}

/// The result of one trace under one policy.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Who decided.
    pub contender: Contender,
    /// Half, 95 % and 99 % of the messages were scored within these times after their arrival, in seconds.
    pub drain_seconds: [f64; 3],
    /// Hours that workers were paid for, start-up included.
    pub worker_hours: f64,
    /// What these cost.
    pub cost: f64,
    /// Workers started.
    pub starts: u32,
    /// Most workers at a time.
    pub most_workers: u32,
    /// Messages not scored at the end.
    pub left: f64,
    /// Minute by minute, for a chart: messages that wait, and workers.
    #[serde(skip)]
    pub points: Vec<(f64, u32)>,
}

/// Replays a trace against every contender.
pub fn simulate(trace: &Trace, setting: &Setting) -> Result<Vec<Outcome>, SimulationError> {
    setting.options.validate()?;
    let largest = trace.arrivals.iter().copied().fold(0.0, f64::max);
    if largest > f64::from(MOST_WORKERS) * setting.machines.rate * STEP_SECONDS {
        return Err(SimulationError::TooManyWorkers {
            trace: trace.name.clone(),
            messages: largest,
        });
    }
    let Setting {
        machines, options, ..
    } = setting;
    let target = options.drain_target.as_secs_f64();
    let rate = machines.rate * STEP_SECONDS;
    let mut trace = trace.clone();
    trace.arrivals.extend([0.0; AFTER]);
    let trace = &trace;
    let best = hindsight::plan(
        &trace.arrivals,
        rate,
        hindsight::steps(target),
        hindsight::steps(machines.boot_seconds.max(options.minimum_billed.as_secs_f64())),
    );
    let peak = best.iter().copied().max().unwrap_or(0).max(1);

    let mut outcomes = vec![replay_policy(trace, setting, None, Contender::Windrow)?];
    let own = || Some(Schedule::Every(Duration::from_secs_f64(trace.batch_every?)));
    if let Some(schedule) = options.schedule.clone().or_else(own) {
        outcomes.push(replay_policy(
            trace,
            setting,
            Some(schedule),
            Contender::WindrowScheduled,
        )?);
    }
    let mut keda = Keda::new(machines.rate * target, options.max);
    outcomes.push(replay(trace, setting, 0, Contender::Keda, |world, _| {
        let wanted = keda.decide(world.now, world.backlog(), world.capacity().requested);
        world.resize(wanted.clamp(options.min, options.max));
    }));
    outcomes.push(replay(trace, setting, peak, Contender::Fixed, |_, _| {}));
    outcomes.push(replay(trace, setting, 0, Contender::Hindsight, |world, step| {
        world.have_ready(best[step]);
    }));
    Ok(outcomes)
}

fn replay_policy(
    trace: &Trace,
    setting: &Setting,
    schedule: Option<Schedule>,
    contender: Contender,
) -> Result<Outcome, PolicyOptionsError> {
    let options = PolicyOptions {
        schedule,
        ..setting.options.clone()
    };
    let mut policy = Policy::new(options, Learned::default())?;
    Ok(replay(trace, setting, 0, contender, |world, _| {
        let at = Timestamp::from_millisecond(MIDNIGHT_MS + (world.now * 1e3) as i64);
        let decision = policy.decide(&Observation {
            at: at.unwrap_or(Timestamp::UNIX_EPOCH),
            load: Some(world.load()),
            capacity: Some(world.capacity()),
        });
        world.resize(decision.wanted);
    }))
}

/// Replays a trace; `decide` resizes the fleet before every step.
fn replay(
    trace: &Trace,
    setting: &Setting,
    workers: u32,
    contender: Contender,
    mut decide: impl FnMut(&mut World, usize),
) -> Outcome {
    let minimum_billed = setting.options.minimum_billed.as_secs_f64();
    let mut world = World::new(setting.machines, minimum_billed, workers);
    let (mut points, mut most_workers) = (Vec::new(), 0);
    for (step, arrived) in trace.arrivals.iter().enumerate() {
        decide(&mut world, step);
        world.pass(*arrived);
        let workers = world.capacity().requested;
        most_workers = most_workers.max(workers);
        if step.is_multiple_of(POINT_STEPS) {
            points.push((world.backlog(), workers));
        }
    }
    let worker_hours = world.worker_seconds / 3_600.0;
    Outcome {
        contender,
        left: world.backlog(),
        drain_seconds: world.percentiles([0.5, 0.95, 0.99]),
        worker_hours,
        cost: worker_hours * setting.price_per_hour,
        starts: world.starts,
        most_workers,
        points,
    }
}

#[cfg(test)]
mod tests;
