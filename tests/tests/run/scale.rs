//! `windrow scale simulate` and `windrow cost`, as programs: what they print, and what they refuse.

use windrow_tests::windrow;

use super::text;

/// Runs a command that has to be refused, and returns what it says.
fn refused(words: &[&str]) -> String {
    let (code, output, error) = windrow(words).end();
    assert_eq!((code, output.as_str()), (2, ""), "{words:?}: {error}");
    error
}

#[test]
fn a_trace_of_a_file_is_replayed_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, chart) = (folder.path().join("mine.csv"), folder.path().join("chart.html"));
    std::fs::write(&trace, "seconds,messages\n0,100\n3600,200000\n7200,200000\n").unwrap();
    let words = [
        "scale",
        "simulate",
        "--trace",
        text(&trace),
        "--price-hour",
        "0.1",
        "--chart",
        text(&chart),
    ];
    let said = windrow(&words).json();
    let traces = said["traces"].as_array().unwrap();
    assert_eq!(traces.len(), 1);
    assert_eq!(
        (&traces[0]["trace"], &traces[0]["messages"]),
        (&"mine".into(), &400_100.0.into())
    );
    let outcomes = traces[0]["outcomes"].as_array().unwrap();
    let names: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome["contender"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["windrow", "keda", "fixed", "hindsight"]);
    for outcome in outcomes {
        let (hours, cost) = (
            outcome["worker_hours"].as_f64().unwrap(),
            outcome["cost"].as_f64().unwrap(),
        );
        assert!((cost - 0.1 * hours).abs() < 1e-9 && hours > 0.2, "{outcome}");
        assert_eq!(outcome["left"], 0.0);
    }
    // Someone who knows what comes is never beaten by someone who does not.
    let losses = said["losses"].as_array().unwrap();
    assert!(
        losses
            .iter()
            .any(|loss| loss.as_str().unwrap().contains("hindsight")),
        "{losses:?}"
    );
    let page = std::fs::read_to_string(&chart).unwrap();
    assert!(page.contains("Where Windrow loses") && page.contains("mine"));
}

#[test]
fn a_trace_that_cannot_be_read_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("bad.csv");
    std::fs::write(&trace, "seconds,messages\n0,1\n5,many\n").unwrap();
    let error = refused(&["scale", "simulate", "--trace", text(&trace)]);
    assert!(
        error.contains("bad.csv") && error.contains("line 3: `5,many`"),
        "{error}"
    );
    let error = refused(&["scale", "simulate", "--trace", "nothing"]);
    assert!(error.contains("hourly-burst"), "{error}");
    let error = refused(&["scale", "simulate", "--rate", "0"]);
    assert!(error.contains("--rate 0"), "{error}");
    let error = refused(&["scale", "simulate", "--min-workers", "5", "--max-workers", "2"]);
    assert!(error.contains("--min-workers 5"), "{error}");
}

#[test]
fn a_bill_adds_up_and_names_date_and_source_of_each_price() {
    let said = windrow(&["cost", "--sensors", "1000000", "--region", "westeurope"]).json();
    let lines = said["bill"]["lines"].as_array().unwrap();
    let sum: f64 = lines.iter().map(|line| line["usd"].as_f64().unwrap()).sum();
    assert!((sum - said["bill"]["total_usd"].as_f64().unwrap()).abs() < 1e-6);
    for line in lines {
        let price = &line["price"];
        assert_eq!(price["region"], "westeurope");
        assert!(price["date"].as_str().unwrap().starts_with("2026-"), "{price}");
        assert!(
            price["source"].as_str().unwrap().starts_with("https://"),
            "{price}"
        );
    }
}

#[test]
fn a_bill_of_nonsense_is_refused() {
    for (words, said) in [
        (&["--sensors", "0"][..], "--sensors 0"),
        (
            &["--interval", "90s"],
            "--interval 1m30s is not a whole number of windows of 1m",
        ),
        (&["--region", "mars"], "eastus"),
        (&["--prices", "/nowhere.csv"], "/nowhere.csv"),
    ] {
        let error = refused(&[&["cost"], words].concat());
        assert!(error.contains(said), "{words:?}: {error}");
    }
}
