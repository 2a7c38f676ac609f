use windrow_tests::windrow;

use super::webhook::Webhook;
use super::{Scored, WINDOW};

#[test]
fn the_cause_of_the_highest_score_is_in_the_list_and_told_to_the_webhook() {
    let (scored, webhook) = (Scored::new(), Webhook::start());
    let score = |number| match number {
        -20 | -18 => 0.5,
        -19 => 0.75,
        _ => -2.0,
    };
    scored.write("a", -100, 0, score);
    let store = scored.store();
    let update = [
        "incidents",
        "update",
        "--store",
        &store,
        "--webhook",
        &webhook.address,
    ];
    assert_eq!(windrow(&update).json()["open"], 1);
    let mean = scored.end / WINDOW - 19;
    let listed = windrow(&["incidents", "list", "--store", &store]).json();
    let columns = ["cause", "cause_value", "cause_low", "cause_high", "cause_share"];
    let found = columns.map(|column| listed[0][column].clone());
    let right = serde_json::json!(["mean", mean as f64, 0.25, 84.5, 0.5]);
    assert_eq!(serde_json::json!(found), right);
    let text = windrow(&["incidents", "list", "--store", &store]).output();
    assert!(
        text.contains("usually 0.25 to 84.5 (50 % of the score)"),
        "{text}"
    );
    let cause = serde_json::json!({
        "feature": "mean", "value": mean as f64, "normal": [0.25, 84.5], "share": 0.5,
    });
    assert_eq!(webhook.courses()[0]["peak"]["cause"], cause);
}
