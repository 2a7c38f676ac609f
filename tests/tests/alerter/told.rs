use serde_json::Value;
use windrow_tests::{Alertmanager, Service, eventually, fleet, models_for, windrow, write_csv};

use super::webhook::{SECRET, Webhook};
use super::{SOON, Scored};

/// Returns what Alertmanager shows, as `tag severity`, and that nothing is doubled.
fn shown(manager: &Alertmanager) -> Vec<String> {
    let alerts = manager.alerts();
    let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap().to_owned();
    let mut incidents: Vec<String> = alerts.iter().map(|alert| label(alert, "incident")).collect();
    incidents.sort();
    let all = incidents.len();
    incidents.dedup();
    assert_eq!(incidents.len(), all, "an incident is shown twice: {alerts:?}");
    let mut shown: Vec<String> = alerts
        .iter()
        .map(|alert| format!("{} {}", label(alert, "tag"), label(alert, "severity")))
        .collect();
    shown.sort();
    shown
}

fn shows(manager: &Alertmanager, right: &[&str]) {
    let mut last = Vec::new();
    let deadline = std::time::Instant::now() + SOON;
    while std::time::Instant::now() < deadline {
        last = shown(manager);
        if last == right {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("Alertmanager shows {last:?}, not {right:?}");
}

fn alerter(scored: &Scored, manager: &Alertmanager, webhook: &Webhook, log: &str) -> Service {
    let (store, url) = (scored.store(), manager.url());
    let secret = scored.file("secret", SECRET);
    let words = [
        "--store",
        &store,
        "--alertmanager",
        &url,
        "--remind-every",
        "2s",
        "--webhook",
        &webhook.address,
        "--webhook-secret-file",
        &secret,
        "--look-every",
        "500ms",
        "--lease",
        "3s",
        "--quiet",
        "10",
        "--silent-after",
        "2m",
    ];
    Service::start("windrow-alerter", &words, &scored.log(log))
}

fn is_told(webhook: &Webhook, right: &[&str]) {
    let told = || (webhook.told().0 == right).then_some(());
    let what = format!("the webhook is told {right:?}");
    eventually(SOON, &what, told);
}

#[test]
fn what_happens_is_told_once_whatever_is_away_or_killed() {
    let (scored, manager, webhook) = (Scored::new(), Alertmanager::start(), Webhook::start());
    webhook.answers(Some(503));
    let calm = |_| -2.0;
    // One is over, one is open and has become critical, one has been silent, one was never anything.
    scored.write("over", -180, 0, |minute| {
        if (-60..-50).contains(&minute) { 0.8 } else { -2.0 }
    });
    scored.write("open", -180, 0, |minute| {
        if minute > -5 { minute as f64 + 7.0 } else { -2.0 }
    });
    scored.write("silent", -180, -60, calm);
    scored.write("calm", -180, 0, calm);
    let mut first = alerter(&scored, &manager, &webhook, "first.log");
    // An incident that is over before anybody was told is raised, and ends by itself.
    shows(&manager, &["open critical", "over warning"]);
    shows(&manager, &["open critical", "silent warning"]);
    let ready = eventually(SOON, "the webhook is missed", || {
        first.get("/readyz").filter(|(_, text)| text.contains("503"))
    });
    assert_eq!(ready.0, 503, "{}", ready.1);
    webhook.answers(None);
    let so_far = [
        "open escalated",
        "open opened",
        "over closed",
        "over opened",
        "silent opened",
    ];
    is_told(&webhook, &so_far);
    first.ready();

    // Killed, with a second one waiting; Alertmanager is away meanwhile.
    let mut second = alerter(&scored, &manager, &webhook, "second.log");
    second.ready();
    assert_eq!(second.metric("windrow_alerter_leader"), Some(0.0));
    manager.stop();
    first.kill();
    scored.write("open", 0, 12, calm);
    scored.write("silent", 5, 12, calm);
    scored.write("over", 0, 12, calm);
    scored.write("calm", 0, 12, |minute| if minute == 3 { 0.9 } else { -2.0 });
    let now = [
        "calm opened",
        "open closed",
        "open escalated",
        "open opened",
        "over closed",
        "over opened",
        "silent closed",
        "silent opened",
    ];
    is_told(&webhook, &now);
    assert_eq!(second.metric("windrow_alerter_leader"), Some(1.0));
    eventually(SOON, "Alertmanager is missed", || {
        second
            .get("/readyz")
            .filter(|(code, text)| *code == 503 && text.contains("cannot be reached"))
    });
    manager.restart();
    shows(&manager, &["calm warning"]);
    second.ready();
    // A stop leaves the lease, and the next one goes on without telling anything again.
    second.signal("TERM");
    assert_eq!(second.wait(SOON), 0, "{}", second.log());
    scored.write("calm", 12, 20, calm);
    let third = alerter(&scored, &manager, &webhook, "third.log");
    let now = [
        "calm closed",
        "calm opened",
        "open closed",
        "open escalated",
        "open opened",
        "over closed",
        "over opened",
        "silent closed",
        "silent opened",
    ];
    is_told(&webhook, &now);
    shows(&manager, &[]);
    assert_eq!(webhook.told().1, 1, "{}", third.log());
    assert_eq!(webhook.signed(), now.len());
    let listed = windrow(&["incidents", "list", "--store", &scored.store()]).json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 4, "{listed:?}");
    assert!(
        listed.iter().all(|incident| !incident["closed"].is_null()),
        "{listed:?}"
    );
}

#[test]
fn old_incidents_are_written_and_nobody_is_told() {
    let (scored, webhook) = (Scored::new(), Webhook::start());
    scored.write(
        "old",
        -4_000,
        -3_000,
        |minute| if minute == -3_500 { 2.0 } else { -2.0 },
    );
    let store = scored.store();
    let update = [
        "incidents",
        "update",
        "--store",
        &store,
        "--webhook",
        &webhook.address,
        "--tell-within",
        "1h",
        "--silent-after",
        "0s",
    ];
    let found = windrow(&update).json();
    assert_eq!(
        (&found["opened"], &found["told"]),
        (&1.into(), &0.into()),
        "{found}"
    );
    assert_eq!(found["too_old_to_tell"], 2);
    assert!(webhook.told().0.is_empty());
    // Again: nothing is new.
    assert_eq!(windrow(&update).json()["opened"], 0);
}

#[test]
fn a_webhook_that_will_never_accept_an_event_holds_up_no_other() {
    let (scored, webhook) = (Scored::new(), Webhook::start());
    scored.write("a", -100, 0, |minute| if minute == -50 { 2.0 } else { -2.0 });
    webhook.answers(Some(422));
    let store = scored.store();
    let words = [
        "--store",
        &store,
        "--webhook",
        &webhook.address,
        "--look-every",
        "500ms",
    ];
    let alerter = Service::start("windrow-alerter", &words, &scored.log("alerter.log"));
    let refused = "windrow_alerter_refused_events_total{receiver=\"webhook\"}";
    eventually(SOON, "the event is refused", || {
        alerter.metric(refused).filter(|refused| *refused >= 1.0)
    });
    assert!(alerter.log().contains("will never accept"), "{}", alerter.log());
    webhook.answers(None);
    scored.write("b", -100, 0, |minute| if minute == -50 { 2.0 } else { -2.0 });
    eventually(SOON, "the next one is told", || {
        webhook.told().0.contains(&"b opened".to_owned()).then_some(())
    });
}

#[test]
fn a_webhook_that_redirects_has_taken_nothing() {
    let (scored, webhook) = (Scored::new(), Webhook::start());
    scored.write("a", -100, 0, |minute| if minute == -50 { 2.0 } else { -2.0 });
    webhook.answers(Some(302));
    let store = scored.store();
    let update = [
        "incidents",
        "update",
        "--store",
        &store,
        "--webhook",
        &webhook.address,
    ];
    let (code, _, error) = windrow(&update).end();
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("answers 302"), "{error}");
    webhook.answers(None);
    windrow(&update).output();
    assert_eq!(webhook.told().0, ["a opened"]);
}

#[test]
fn what_cannot_be_used_is_said_at_the_start() {
    let scored = Scored::new();
    let store = scored.store();
    for (words, said) in [
        (["--alertmanager", "host:9093"], "--alertmanager"),
        (["--open-after", "3/2"], "3 of 2 windows cannot open an incident"),
        (
            ["--threshold", "5"],
            "the critical score 3 is below the threshold 5",
        ),
        (["--webhook-secret-file", "/nowhere"], "--webhook"),
    ] {
        let words = [&["incidents", "update", "--store", &store][..], &words].concat();
        let (code, _, error) = windrow(&words).end();
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn beside_an_alerter_a_run_leaves_the_incidents_to_it() {
    let scored = Scored::new();
    let (store, source) = (scored.store(), scored.log("readings.csv"));
    write_csv(std::path::Path::new(&source), &fleet(3, 900, 1));
    models_for(&source, &store);
    let words = ["--store", &store, "--look-every", "500ms", "--silent-after", "0s"];
    let alerter = Service::start("windrow-alerter", &words, &scored.log("alerter.log"));
    let leads = || {
        alerter
            .metric("windrow_alerter_leader")
            .filter(|leader| *leader == 1.0)
    };
    eventually(SOON, "it leads", leads);
    let ran = windrow(&["run", "--source", &source, "--store", &store, "--until-caught-up"]).json();
    assert!(ran["incidents"].is_null(), "{ran}");
    let all = ran["predictions"].as_f64().unwrap();
    let follows = || {
        alerter
            .metric("windrow_alerter_windows_total")
            .filter(|windows| *windows == all)
    };
    eventually(SOON, "it has all windows", follows);
}
