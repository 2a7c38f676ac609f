//! The cheapest fleet for a trace that is known in advance.
//!
//! With every message done before its deadline, the number of messages done by any time lies between those that are due
//! and those that have arrived. The shortest path between the two bounds changes its slope as little as can be (the "taut
//! string"; J. Salehi, Z. Zhang, J. Kurose, D. Towsley: Supporting stored video, SIGMETRICS 1996), so it starts the fewest
//! workers. A worker that is needed again sooner than a start is worth is kept.

use super::trace::STEP_SECONDS;

/// Returns the cheapest number of workers for each step, so that every message is done within `target_steps`.
/// `worker_per_step` is how many messages one scores in a step, and `start` how many steps without work cost as much as a
/// start.
///
/// The path has fractional numbers of workers. Rounding up pays for a worker with little work, so the cheapest of
/// several roundings wins: do the work sooner, or let some of it wait with one worker fewer.
pub(super) fn plan(arrivals: &[f64], worker_per_step: f64, target_steps: usize, start: usize) -> Vec<u32> {
    let sooner = std::iter::successors(Some(target_steps.max(1)), |target| {
        Some(2 * target / 3).filter(|sooner| *sooner > 0)
    });
    let plans = sooner.flat_map(|target| {
        let path = path(arrivals, target);
        let rates: Vec<f64> = path
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) / worker_per_step)
            .collect();
        let most = target_steps - target;
        [0, most / 2, 3 * most / 4, most].map(|wait| bridge(round(&rates, wait), start))
    });
    let in_time = plans.filter(|plan| is_in_time(arrivals, plan, worker_per_step, target_steps));
    in_time.min_by_key(|plan| cost(plan, start)).unwrap_or_default()
}

/// Returns whether a plan does every message within `target_steps`.
fn is_in_time(arrivals: &[f64], plan: &[u32], worker_per_step: f64, target_steps: usize) -> bool {
    let (mut arrived, mut due, mut done) = (0.0, 0.0, 0.0);
    plan.iter().enumerate().all(|(step, workers)| {
        arrived += arrivals[step];
        if let Some(first) = (step + 1).checked_sub(target_steps) {
            due += arrivals[first];
        }
        done = f64::min(arrived, done + f64::from(*workers) * worker_per_step);
        done >= due * (1.0 - 1e-9)
    })
}

/// Returns how many messages are done after each step, if each is done within `target_steps`.
fn path(arrivals: &[f64], target_steps: usize) -> Vec<f64> {
    let mut upper = vec![0.0];
    for arrived in arrivals {
        upper.push(upper[upper.len() - 1] + arrived);
    }
    let last = upper.len() - 1;
    let lower: Vec<f64> = (0..=last)
        .map(|step| match step {
            step if step == last => upper[last],
            // What arrives in a step can be done in the same step.
            step => upper[(step + 1).saturating_sub(target_steps)],
        })
        .collect();
    taut_string(&lower, &upper)
}

/// Rounds numbers of workers up; or down, until as much waits as is due in most of `wait` steps, and then up again.
fn round(rates: &[f64], wait: usize) -> Vec<u32> {
    let (mut behind, mut catches_up, mut due_in_wait) = (0.0, true, 0.0);
    let rounded = rates.iter().enumerate().map(|(step, rate)| {
        due_in_wait += rate - step.checked_sub(wait).map_or(0.0, |first| rates[first]);
        // An extra worker because of a rounding error would cost a start.
        let (fewer, more) = ((rate + 1e-6).floor(), (rate - 1e-6).ceil());
        catches_up = match catches_up {
            true => wait == 0 || behind > 0.0,
            false => behind + rate - fewer > 0.9 * due_in_wait,
        };
        let workers = match catches_up {
            true if behind > 0.0 => f64::max(more, 1.0),
            true => more,
            false => fewer,
        };
        behind = f64::max(0.0, behind + rate - workers);
        workers.max(0.0) as u32
    });
    rounded.collect()
}

/// Returns what a plan costs, in steps of a worker.
fn cost(plan: &[u32], start: usize) -> u64 {
    let mut before = 0;
    plan.iter()
        .map(|workers| {
            let started = workers.saturating_sub(std::mem::replace(&mut before, *workers));
            u64::from(*workers) + u64::from(started) * start as u64
        })
        .sum()
}

/// Keeps workers that are needed again within `break_even` steps.
fn bridge(mut needed: Vec<u32>, break_even: usize) -> Vec<u32> {
    let most = needed.iter().copied().max().unwrap_or(0) as usize;
    // The last step that needed so many workers.
    let mut last_used: Vec<Option<usize>> = vec![None; most + 1];
    let mut before = 0;
    for step in 0..needed.len() {
        let now = needed[step] as usize;
        // Only those that change are looked at: thousands of workers over weeks would take minutes otherwise.
        if now < before {
            last_used[now + 1..=before].fill(Some(step - 1));
        }
        for (level, last) in last_used.iter().enumerate().take(now + 1).skip(before + 1) {
            if let Some(last) = last
                && step - last - 1 <= break_even
            {
                for kept in &mut needed[last + 1..step] {
                    *kept = (*kept).max(level as u32);
                }
            }
        }
        before = now;
    }
    needed
}

type Point = (usize, f64);

fn slope(from: Point, to: Point) -> f64 {
    (to.1 - from.1) / (to.0 - from.0) as f64
}

/// Returns the shortest path from the first to the last of two bounds that meet at both ends, at every index.
fn taut_string(lower: &[f64], upper: &[f64]) -> Vec<f64> {
    let start = (0, lower[0]);
    let mut path = vec![start];
    // Hulls of the bounds, as seen from the last point of the path: the path is above the first and below the second.
    let (mut below, mut above) = (vec![start], vec![start]);
    for index in 1..lower.len() {
        push(&mut below, (index, lower[index]), |new, old| new >= old);
        push(&mut above, (index, upper[index]), |new, old| new <= old);
        while below.len() > 1 && above.len() > 1 && slope(below[0], below[1]) > slope(above[0], above[1]) {
            // The bound that turns first is where the path turns.
            let (turning, other, cuts): (_, _, fn(f64, f64) -> bool) = match below[1].0 < above[1].0 {
                true => (&mut below, &mut above, |new, old| new <= old),
                false => (&mut above, &mut below, |new, old| new >= old),
            };
            turning.remove(0);
            path.push(turning[0]);
            let seen: Vec<Point> = other
                .iter()
                .copied()
                .filter(|point| point.0 > turning[0].0)
                .collect();
            *other = vec![turning[0]];
            for point in seen {
                push(other, point, cuts);
            }
        }
    }
    path.extend(below.into_iter().skip(1));
    interpolate(&path, lower.len())
}

/// Adds a point to a hull, and removes those that it cuts off.
fn push(hull: &mut Vec<Point>, point: Point, cuts: impl Fn(f64, f64) -> bool) {
    while let [.., before, last] = hull[..]
        && cuts(slope(last, point), slope(before, last))
    {
        hull.pop();
    }
    hull.push(point);
}

fn interpolate(path: &[Point], length: usize) -> Vec<f64> {
    let mut values = vec![path[0].1; length];
    for pair in path.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        for (steps, value) in values[from.0..=to.0].iter_mut().enumerate() {
            *value = from.1 + slope(from, to) * steps as f64;
        }
    }
    values
}

/// Returns how many steps a start is worth.
pub(super) fn steps(seconds: f64) -> usize {
    (seconds / STEP_SECONDS).floor().max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_spread_up_to_its_deadline_unless_that_needs_less_than_a_worker() {
        // The last step is a deadline for all.
        let mut arrivals = vec![0.0; 12];
        arrivals[1] = 100.0;
        assert_eq!(
            plan(&arrivals, 1.0, 10, 3),
            [0, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 0]
        );
        arrivals[1] = 2.0;
        assert_eq!(plan(&arrivals, 1.0, 10, 3).iter().sum::<u32>(), 2);
    }

    #[test]
    fn half_a_worker_is_one_for_half_of_the_time() {
        let rounded = round(&[1.5; 100], 4);
        assert!((149..=153).contains(&rounded.iter().sum::<u32>()), "{rounded:?}");
        assert!(rounded.contains(&1) && rounded.contains(&2));
        assert_eq!(round(&[1.5; 4], 0), [2; 4]);
    }

    #[test]
    fn workers_are_kept_over_a_short_gap() {
        assert_eq!(bridge(vec![2, 0, 0, 1, 0, 0, 0, 2], 2), [2, 1, 1, 1, 0, 0, 0, 2]);
        assert_eq!(bridge(vec![2, 0, 0, 1, 0, 0, 0, 2], 3), [2, 1, 1, 1, 1, 1, 1, 2]);
    }

    proptest! {
        #[test]
        fn the_path_stays_within_its_bounds(arrivals in prop::collection::vec(0.0..100.0_f64, 1..60), late in 1_usize..20) {
            let done = path(&arrivals, late);
            let sum = |steps: usize| arrivals[..steps].iter().sum::<f64>();
            for step in 0..arrivals.len() {
                let (least, most) = (sum((step + 1).saturating_sub(late)), sum(step));
                prop_assert!(done[step] >= least - 1e-6 && done[step] <= most + 1e-6, "{step}: {done:?}");
            }
        }
    }
}
