//! Where Windrow's policy loses against another one, and by how much, in words.

use windrow_scaler::simulate::{Contender, Outcome};

/// Smallest difference that counts, as a share.
const LEAST: f64 = 0.0005;

/// Says by how much Windrow's policies cost more, or let messages wait longer, than KEDA and a fixed fleet do; how far
/// they are from hindsight; and who misses the drain target. Returns nothing where Windrow loses nothing.
pub(super) fn losses(trace: &str, outcomes: &[Outcome], drain_target: f64) -> Vec<String> {
    let mut losses = Vec::new();
    let of = |contender| outcomes.iter().find(|outcome| outcome.contender == contender);
    for ours in [Contender::Windrow, Contender::WindrowScheduled]
        .into_iter()
        .filter_map(of)
    {
        let us = ours.contender.title();
        for theirs in [Contender::Keda, Contender::Fixed].into_iter().filter_map(of) {
            let them = theirs.contender.title();
            if let Some(more) = more(ours.cost, theirs.cost) {
                losses.push(format!("on {trace}, {us} costs {more} than {them}"));
            }
            losses.extend(longer_waits(trace, ours, theirs));
        }
        // If the broker is too slow for the target, hindsight's fleet could not run either.
        let best = of(Contender::Hindsight).filter(|best| best.drain_seconds[2] <= drain_target);
        if let Some(best) = best
            && let Some(more) = more(ours.cost, best.cost)
        {
            losses.push(format!(
                "on {trace}, {us} costs {more} than hindsight, which knows what comes"
            ));
        }
        let p99 = ours.drain_seconds[2];
        if p99 > drain_target {
            let nobody = match best {
                Some(_) => "",
                None => {
                    "; no fleet keeps it, because the broker delivers no faster, so hindsight is no measure here"
                }
            };
            losses.push(format!(
                "on {trace}, {us} misses the drain target of {drain_target:.0} s: 1 % of the messages take more than \
                 {p99:.0} s{nobody}"
            ));
        }
        if ours.left > 0.0 {
            losses.push(format!(
                "on {trace}, {us} leaves {:.0} messages at the end; they count as if scored then",
                ours.left
            ));
        }
    }
    losses
}

/// Says how long messages take, if any share of them takes longer.
fn longer_waits(trace: &str, ours: &Outcome, theirs: &Outcome) -> Option<String> {
    let mut pairs = ours.drain_seconds.iter().zip(theirs.drain_seconds);
    pairs
        .any(|(ours, theirs)| more(*ours, theirs).is_some())
        .then(|| {
            let times = |of: &Outcome| {
                let times = of.drain_seconds.map(|seconds| format!("{seconds:.0}"));
                format!("{} s with {}", times.join(" / "), of.contender.title())
            };
            let price = match theirs.cost > ours.cost {
                true => format!(", at {:.1} times the cost", theirs.cost / ours.cost),
                false => String::new(),
            };
            format!(
                "on {trace}, half / 95 % / 99 % of the messages take up to {}, and {}{price}",
                times(ours),
                times(theirs)
            )
        })
}

/// Says what Windrow's policy gains against KEDA.
pub(super) fn against_keda(trace: &str, outcomes: &[Outcome]) -> Option<String> {
    let of = |contender| outcomes.iter().find(|outcome| outcome.contender == contender);
    let (ours, keda) = (of(Contender::Windrow)?, of(Contender::Keda)?);
    let cost = match (more(ours.cost, keda.cost), more(keda.cost, ours.cost)) {
        (Some(more), _) => more,
        (None, Some(_)) => format!("{:.1} % less", (1.0 - ours.cost / keda.cost) * 100.0),
        (None, None) => "as much".to_owned(),
    };
    Some(format!(
        "{trace}: Windrow costs {cost}{} {}, and 95 % of the messages are scored within {:.0} s instead of {:.0} s",
        if cost == "as much" { " as" } else { " than" },
        Contender::Keda.title(),
        ours.drain_seconds[1],
        keda.drain_seconds[1],
    ))
}

/// Returns by how much one number is more than another, or nothing if it is not.
fn more(ours: f64, theirs: f64) -> Option<String> {
    let surplus = ours / theirs - 1.0;
    match theirs > 0.0 {
        true if surplus >= LEAST => Some(format!("{:.1} % more", surplus * 100.0)),
        true => None,
        false => (ours > 0.0).then(|| "infinitely more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(contender: Contender, cost: f64, drain_seconds: [f64; 3]) -> Outcome {
        Outcome {
            contender,
            drain_seconds,
            worker_hours: cost,
            cost,
            starts: 0,
            most_workers: 1,
            left: 0.0,
            points: Vec::new(),
        }
    }

    #[test]
    fn a_loss_is_said_with_its_size_and_a_win_is_none() {
        let outcomes = [
            outcome(Contender::Windrow, 101.4, [10.0, 200.0, 290.0]),
            outcome(Contender::Keda, 100.0, [20.0, 400.0, 500.0]),
            outcome(Contender::Fixed, 150.0, [10.0, 100.0, 300.0]),
            outcome(Contender::Hindsight, 101.4, [10.0, 290.0, 300.0]),
        ];
        assert_eq!(
            losses("outage-backlog", &outcomes, 300.0),
            [
                "on outage-backlog, Windrow costs 1.4 % more than KEDA + HPA",
                "on outage-backlog, half / 95 % / 99 % of the messages take up to 10 / 200 / 290 s with Windrow, and \
                 10 / 100 / 300 s with a fixed fleet, at 1.5 times the cost"
            ]
        );
        assert_eq!(
            against_keda("outage-backlog", &outcomes).unwrap(),
            "outage-backlog: Windrow costs 1.4 % more than KEDA + HPA, and 95 % of the messages are scored within 200 s \
             instead of 400 s"
        );
    }

    #[test]
    fn a_target_that_is_missed_is_said_and_whether_anyone_could_keep_it() {
        let outcomes = [
            outcome(Contender::Windrow, 10.0, [10.0, 200.0, 400.0]),
            outcome(Contender::Hindsight, 10.0, [10.0, 200.0, 250.0]),
        ];
        let said = losses("t", &outcomes, 300.0).join("\n");
        assert!(
            said.contains("more than 400 s") && !said.contains("hindsight"),
            "{said}"
        );
        let outcomes = [
            outcome(Contender::Windrow, 10.0, [10.0, 200.0, 400.0]),
            outcome(Contender::Hindsight, 10.0, [10.0, 200.0, 390.0]),
        ];
        let said = losses("t", &outcomes, 300.0).join("\n");
        assert!(said.contains("no fleet keeps it"), "{said}");
        // Hindsight's fleet leaves messages, so its cost is not held against anyone.
        let outcomes = [
            outcome(Contender::Windrow, 10.0, [10.0, 200.0, 400.0]),
            outcome(Contender::Hindsight, 5.0, [10.0, 200.0, 390.0]),
        ];
        assert_eq!(losses("t", &outcomes, 300.0).len(), 1);
    }
}
