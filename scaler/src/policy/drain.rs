//! How many workers the backlog needs.
//!
//! Each message is due a fixed time after its arrival. By every deadline, the workers must be able to score all messages
//! that are due by then. A ready worker scores from now on, a booting one once it is ready. This is the
//! lowest speed that meets all deadlines, as in "Optimal Available" (F. Yao, A. Demers, S. Shenker: A scheduling model for
//! reduced CPU energy, FOCS 1995), for workers that take time to start.

use super::backlog::Backlog;
use super::boots::Boots;

/// The share of the measured rate that is counted on.
const UTILISATION: f64 = 0.9;
/// Share of the target to aim for if workers start quickly.
const AIM: f64 = 0.5;
/// The deadline is at least this many start-up times after the arrival, if the target allows. A fleet that works for
/// little longer than it takes to start costs mostly start-up time.
const BOOTS: f64 = 8.0;
/// Messages that are already too late are scored within this share of the target after the workers have started.
const CATCH_UP: f64 = 0.25;

/// What a worker of this fleet can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    /// Messages per second.
    pub(super) rate: f64,
    /// Seconds from asking for it until it scores.
    pub(super) boot: f64,
}

/// How many more workers are needed, and for which deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Drain {
    pub(super) extra: f64,
    /// In seconds from now.
    pub(super) due: f64,
}

/// Returns the time from arrival to deadline that is aimed at, in seconds.
pub(super) fn aim(target: f64, boot: f64) -> f64 {
    (AIM * target).max((BOOTS * boot).min(target))
}

/// Returns how many workers score `messages` within `aim` seconds of their arrival, if the workers are ready by then.
pub(super) fn for_batch(messages: f64, worker: Worker, aim: f64) -> u32 {
    (messages / (UTILISATION * worker.rate * aim)).ceil() as u32
}

/// Returns how many workers are needed besides the `ready` and the booting ones.
pub(super) fn drain(
    now: f64,
    backlog: &Backlog,
    ready: u32,
    boots: &Boots,
    worker: Worker,
    target: f64,
) -> Drain {
    let Worker { rate, boot } = worker;
    let (aim, rate) = (aim(target, boot), UTILISATION * rate);
    let done_by = |left: f64| {
        let booting = boots
            .due(now, boot)
            .map(|(starts, count)| (left - starts).max(0.0) * f64::from(count));
        rate * (f64::from(ready) * left + booting.sum::<f64>())
    };
    let mut most = Drain::default();
    for (arrived, messages) in backlog.due() {
        let due = arrived + aim - now;
        if messages <= done_by(due.max(0.0)) {
            continue;
        }
        let left = due.max(boot + CATCH_UP * target);
        let extra = (messages - done_by(left)) / (rate * (left - boot));
        if extra > most.extra {
            most = Drain { extra, due };
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: Worker = Worker {
        rate: 100.0,
        boot: 60.0,
    };

    fn backlog(arrivals: &[(f64, f64)]) -> Backlog {
        let mut backlog = Backlog::default();
        let mut total = 0.0;
        for (at, messages) in arrivals {
            total += messages;
            backlog.observe(*at, *messages, total);
        }
        backlog
    }

    #[test]
    fn a_deadline_is_aimed_at_with_time_to_start() {
        assert_eq!(
            [10.0, 25.0, 120.0, 600.0].map(|boot| aim(300.0, boot)),
            [150.0, 200.0, 300.0, 300.0]
        );
    }

    #[test]
    fn workers_are_added_until_all_that_is_due_fits() {
        let boots = Boots::default();
        // 300 s are left, of which a new worker works for 240 s at 90 messages a second.
        let one = backlog(&[(0.0, 21_600.0)]);
        let need = drain(0.0, &one, 0, &boots, WORKER, 300.0);
        assert_eq!((need.extra, need.due), (1.0, 300.0));
        assert_eq!(drain(0.0, &one, 1, &boots, WORKER, 300.0), Drain::default());
        // The second deadline is the harder one.
        let two = backlog(&[(0.0, 100.0), (10.0, 100_000.0)]);
        assert_eq!(drain(10.0, &two, 1, &boots, WORKER, 300.0).due, 300.0);
    }

    #[test]
    fn what_is_late_is_caught_up_with_and_not_given_up() {
        let late = backlog(&[(0.0, 9_000.0)]);
        let need = drain(10_000.0, &late, 0, &Boots::default(), WORKER, 300.0);
        assert!((need.extra - 9_000.0 / (90.0 * 75.0)).abs() < 1e-9, "{need:?}");
    }
}
