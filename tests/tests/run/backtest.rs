//! Two versions of the models on the same stored windows: what each would have raised.

use serde_json::{Value, json};
use windrow_tests::windrow;

use super::registry::{DEVICES, Plant, string};
use super::to_the_end;

#[test]
fn a_version_is_judged_by_the_incidents_that_it_would_have_raised() {
    let plant = Plant::new();
    plant.train("0.05", &[]);
    let (readings, store) = (plant.path("readings.csv"), plant.store());
    windrow(&[&to_the_end(&readings, &store)[..], &["--window", "10s"]].concat()).output();
    let words = |more: &str| -> Vec<String> {
        let rules = "--threshold 0 --quiet 2"
            .split(' ')
            .chain(more.split_whitespace());
        ["backtest", "--store", &store]
            .into_iter()
            .chain(rules)
            .map(str::to_owned)
            .collect()
    };
    let run = |more: &str| {
        let words = words(more);
        windrow(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (code, _, refused) = run("").end();
    assert_eq!(code, 2);
    assert!(
        refused.contains("no sensor has both a current and a candidate version"),
        "{refused}"
    );

    // A version is no better and no worse than itself.
    let same = run("--against current").json();
    assert_eq!(
        (&same["sensors"], &same["windows"]),
        (&json!(DEVICES), &json!(2_400))
    );
    assert_eq!(
        (&same["a"], &same["only_a"], &same["only_b"]),
        (&same["b"], &json!([]), &json!([]))
    );

    // One for which two fifths of the windows are outliers raises more, and says which.
    plant.train("0.4", &["--candidate"]);
    let compared = run("").json();
    let count = |of: &Value| of.as_u64().unwrap();
    assert_eq!(compared["a"], same["a"]);
    assert!(count(&compared["b"]) > count(&compared["a"]), "{compared}");
    let new = compared["only_b"].as_array().unwrap();
    assert!(!new.is_empty());
    // Backwards, what was new is gone.
    let backwards = run("--model candidate --against current").json();
    assert_eq!(
        (&backwards["a"], &backwards["only_a"]),
        (&compared["b"], &compared["only_b"])
    );
    let said = run("").output();
    assert!(said.contains("candidate would have raised"), "{said}");
    assert!(said.contains(&string(&new[0]["sensor"])), "{said}");

    // Of a sensor that lacks a candidate, nothing is compared.
    let one = string(&new[0]["sensor"]);
    plant.models(&["promote", &one]);
    let without = run("").json();
    assert_eq!(
        (&without["sensors"], &without["without"]),
        (&json!(DEVICES - 1), &json!(1))
    );
    // Half of the time.
    let rows = windrow(&[
        "predictions",
        "export",
        "--store",
        &store,
        "--sensor",
        &one,
        "--format",
        "json",
    ])
    .output();
    let middle: Value = serde_json::from_str(rows.lines().nth(30).unwrap()).unwrap();
    let half = run(&format!("--from {}", string(&middle["window_start"]))).json();
    assert_eq!(count(&half["windows"]), u64::from(DEVICES - 1) * 30);
}
