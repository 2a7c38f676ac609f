use windrow_common::EventTime;
use windrow_tests::windrow;

use super::webhook::Webhook;
use super::{Scored, WINDOW};

fn time(scored: &Scored, number: i64) -> String {
    EventTime::from_millis(scored.end + number * WINDOW).to_string()
}

#[test]
fn a_value_out_of_range_is_told_with_its_limit_once_its_sensor_is_not_muted() {
    let (scored, webhook) = (Scored::new(), Webhook::start());
    scored.write("a", -100, 0, |_| -2.0);
    // The largest value of a window is one more than its number.
    let limit = scored.end / WINDOW - 20;
    let ranges = scored.file("ranges.csv", &format!("device,tag,low,high\npump-*,a,,{limit}\n"));
    let (store, from) = (scored.store(), time(&scored, -100));
    let mute = [
        "mute",
        "add",
        "--store",
        &store,
        "pump-7/*",
        "--from",
        &from,
        "--for",
        "1d",
        "--reason",
        "new bearings",
    ];
    windrow(&mute).output();
    let update = [
        "incidents",
        "update",
        "--store",
        &store,
        "--webhook",
        &webhook.address,
        "--ranges",
        &ranges,
        "--silent-after",
        "0s",
    ];
    assert_eq!(windrow(&update).json()["open"], 1);
    assert!(webhook.told().0.is_empty(), "{:?}", webhook.told());
    let listed = windrow(&["incidents", "list", "--store", &store, "--kind", "range"]).json();
    assert_eq!(listed[0]["opened"], time(&scored, -20));
    assert_eq!(listed[0]["value_limit"].as_f64(), Some(limit as f64));
    assert_eq!(listed[0]["value"].as_f64(), Some((limit + 20) as f64));
    assert!(!listed[0]["muted_until"].is_null(), "{listed}");
    let mutes = windrow(&["mute", "list", "--store", &store]).json();
    assert_eq!(mutes[0]["reason"], "new bearings");
    windrow(&[
        "mute",
        "remove",
        "--store",
        &store,
        mutes[0]["id"].as_str().unwrap(),
    ])
    .output();
    windrow(&update).output();
    assert_eq!(webhook.told().0, ["a opened"]);
    let (code, _, error) = windrow(&["mute", "remove", "--store", &store, "nothing"]).end();
    assert_eq!(code, 2, "{error}");
    let report = windrow(&["fleet", "report", "--store", &store]).json();
    assert_eq!(report["open"][0]["kind"], "range");
    let sum = |column: &str| -> u64 {
        let days = report["windows"].as_array().unwrap();
        days.iter().map(|day| day[column].as_u64().unwrap()).sum()
    };
    assert_eq!(
        (sum("scored"), sum("expected"), sum("unexplained")),
        (100, 100, 0)
    );
}

#[test]
fn maintenance_is_read_from_a_calendar_in_place_of_what_was_read_before() {
    let scored = Scored::new();
    let store = scored.store();
    let calendar = |events: &[(&str, &str)]| {
        let events = events.iter().map(|(summary, rule)| {
            format!(
                "BEGIN:VEVENT\r\nUID:{summary}\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:{summary}\r\n\
                 DTSTART;TZID=Europe/Berlin:20260105T080000\r\nDTEND;TZID=Europe/Berlin:20260105T100000\r\n\
                 RRULE:FREQ={rule}\r\nEND:VEVENT\r\n"
            )
        });
        let events: String = events.collect();
        let text = format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:plant\r\n{events}END:VCALENDAR\r\n");
        scored.file("plant.ics", &text)
    };
    let import = |events: &[(&str, &str)]| {
        let file = calendar(events);
        windrow(&["mute", "import", "--store", &store, &file, "--for", "28d"]).json()
    };
    let first = import(&[
        ("pump-7/*", "WEEKLY"),
        ("pump-8/temp", "DAILY"),
        ("a meeting", "DAILY"),
    ]);
    assert_eq!(
        (&first["events"], &first["skipped"]),
        (&2.into(), &1.into()),
        "{first}"
    );
    assert!(first["times"].as_u64().unwrap() > 60, "{first}");
    let again = import(&[("pump-7/*", "WEEKLY")]);
    assert_eq!(
        (&again["events"], &again["replaced"]),
        (&1.into(), &2.into()),
        "{again}"
    );
    let mutes = windrow(&["mute", "list", "--store", &store]).json();
    assert_eq!(mutes.as_array().unwrap().len(), 1, "{mutes}");
    assert_eq!(mutes[0]["sensors"][0], "pump-7/*");
    let broken = calendar(&[("pump-7/*", "NEVER")]);
    let (code, _, error) = windrow(&["mute", "import", "--store", &store, &broken]).end();
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("event `pump-7/*`"), "{error}");
}
