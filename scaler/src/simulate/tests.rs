use super::*;

fn setting(boot_seconds: f64, rate: f64, target: u64) -> Setting {
    Setting {
        machines: Machines {
            boot_seconds,
            rate,
            ..Machines::default()
        },
        options: PolicyOptions {
            max: 100,
            drain_target: Duration::from_secs(target),
            ..PolicyOptions::default()
        },
        price_per_hour: 0.086,
    }
}

fn of(outcomes: &[Outcome], contender: Contender) -> &Outcome {
    outcomes
        .iter()
        .find(|outcome| outcome.contender == contender)
        .unwrap()
}

/// Checks that on every trace `contender` costs at most 5 % more than KEDA and keeps messages waiting for less time.
fn beats_keda(setting: &Setting) {
    for trace in Trace::standard() {
        let outcomes = simulate(&trace, setting).unwrap();
        let (ours, keda) = (of(&outcomes, Contender::Windrow), of(&outcomes, Contender::Keda));
        let (cost, wait) = (
            ours.cost / keda.cost,
            [ours.drain_seconds[1], keda.drain_seconds[1]],
        );
        assert!(
            cost <= 1.05 && wait[0] < wait[1],
            "{}: {cost} of the cost, {wait:?} s",
            trace.name
        );
        for outcome in &outcomes {
            assert_eq!(outcome.left, 0.0, "{}: {:?}", trace.name, outcome.contender);
        }
    }
}

#[test]
fn virtual_machines_drain_sooner_than_with_keda_for_no_more_money() {
    beats_keda(&setting(90.0, 500.0, 300));
}

#[test]
fn pods_drain_sooner_than_with_keda_for_no_more_money() {
    beats_keda(&setting(10.0, 500.0, 300));
}

#[test]
fn slow_workers_drain_sooner_than_with_keda_for_no_more_money() {
    beats_keda(&setting(90.0, 200.0, 600));
}

#[test]
fn an_hourly_batch_costs_little_more_than_in_hindsight() {
    let outcomes = simulate(&Trace::hourly(1_000_000), &setting(90.0, 500.0, 300)).unwrap();
    let best = of(&outcomes, Contender::Hindsight).cost;
    let costs = [Contender::Windrow, Contender::WindrowScheduled]
        .map(|contender| of(&outcomes, contender).cost / best);
    assert!(costs[0] <= 1.3 && costs[1] <= 1.2, "{costs:?}");
    assert!(of(&outcomes, Contender::Windrow).drain_seconds[1] <= 300.0);
    let waits = of(&outcomes, Contender::WindrowScheduled).drain_seconds[1];
    assert!(
        waits < of(&outcomes, Contender::Windrow).drain_seconds[1],
        "{waits}"
    );
}

#[test]
fn nobody_who_keeps_the_target_costs_less_than_hindsight() {
    for trace in Trace::standard() {
        let outcomes = simulate(&trace, &setting(90.0, 500.0, 300)).unwrap();
        let best = of(&outcomes, Contender::Hindsight);
        assert!(
            best.drain_seconds[2] <= 300.0,
            "{}: {:?}",
            trace.name,
            best.drain_seconds
        );
        for outcome in outcomes
            .iter()
            .filter(|outcome| outcome.drain_seconds[2] <= 300.0)
        {
            // It rounds to whole workers in a few ways, not in all.
            assert!(
                outcome.cost > 0.99 * best.cost,
                "{}: {:?}",
                trace.name,
                outcome.contender
            );
        }
    }
}

#[test]
fn a_schedule_of_the_setting_is_told_to_one_policy_with_any_trace() {
    let trace = Trace::parse("mine", "0,1000\n3600,50000\n7200,50000\n10800,50000\n").unwrap();
    let without = simulate(&trace, &setting(90.0, 500.0, 300)).unwrap();
    assert!(
        !without
            .iter()
            .any(|outcome| outcome.contender == Contender::WindrowScheduled)
    );
    let mut told = setting(90.0, 500.0, 300);
    told.options.schedule = Some("1h".parse().unwrap());
    let outcomes = simulate(&trace, &told).unwrap();
    let (scheduled, unscheduled) = (
        of(&outcomes, Contender::WindrowScheduled),
        of(&outcomes, Contender::Windrow),
    );
    assert!(scheduled.drain_seconds[1] < unscheduled.drain_seconds[1]);
}

#[test]
fn the_shortest_billed_time_is_paid() {
    let trace = Trace::parse("one", "0,100\n").unwrap();
    let mut billed = setting(90.0, 500.0, 300);
    let hours = |setting: &Setting| of(&simulate(&trace, setting).unwrap(), Contender::Keda).worker_hours;
    let short = hours(&billed);
    assert!((0.1..0.2).contains(&short), "{short}");
    billed.options.minimum_billed = Duration::from_secs(3_600);
    assert!((hours(&billed) - 1.0).abs() < 1e-9, "{}", hours(&billed));
}

#[test]
fn more_workers_than_can_be_simulated_are_refused() {
    let trace = Trace::parse("flood", "0,1e12\n").unwrap();
    let error = simulate(&trace, &setting(90.0, 500.0, 300))
        .unwrap_err()
        .to_string();
    assert!(error.contains("flood") && error.contains("--rate"), "{error}");
}

#[test]
fn weeks_of_bursts_that_need_thousands_of_workers_are_replayed_too() {
    // A burst that needs thousands of workers, every hour of four weeks.
    let mut text = String::new();
    for hour in 0..28 * 24 {
        text += &format!("{},1000000\n", hour * 3_600);
    }
    let trace = Trace::parse("weeks", &text).unwrap();
    let mut slow = setting(90.0, 50.0, 10);
    slow.options.max = 1_000;
    let outcomes = simulate(&trace, &slow).unwrap();
    let most = of(&outcomes, Contender::Hindsight).most_workers;
    assert!((2_000..=4_000).contains(&most), "{most}");
}
