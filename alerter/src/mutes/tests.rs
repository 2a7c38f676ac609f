use windrow_store::Store;

use super::*;

fn hour(number: i64) -> EventTime {
    EventTime::from_millis(number * 3_600_000)
}

fn mute(sensors: &str, times: &[(i64, Option<i64>)]) -> Mute {
    Mute {
        id: sensors.to_owned(),
        sensors: vec![sensors.parse().unwrap()],
        times: times
            .iter()
            .map(|(from, to)| Stretch {
                from: hour(*from),
                to: to.map(hour),
            })
            .collect(),
        retired: false,
        reason: "new bearings".to_owned(),
        added: hour(0),
        calendar: None,
    }
}

fn pump() -> SensorId {
    SensorId::new("pump-7", "temp").unwrap()
}

#[test]
fn what_overlaps_or_touches_is_muted_as_one() {
    let mutes = Mutes {
        mutes: vec![
            mute("pump-*/temp", &[(10, Some(12)), (20, Some(21))]),
            mute("pump-7/*", &[(4, Some(5)), (12, Some(14)), (11, Some(13))]),
            mute("pump-8/*", &[(0, None)]),
        ],
    };
    let until = |at: i64| mutes.until(&pump(), hour(at));
    assert_eq!(until(9), None);
    assert_eq!(until(10), Some(hour(14)));
    assert_eq!(until(13), Some(hour(14)));
    assert_eq!(until(14), None);
    assert_eq!(until(20), Some(hour(21)));
    assert_eq!(
        mutes.until(&SensorId::new("pump-8", "x").unwrap(), hour(3)),
        Some(EventTime::MAX)
    );
}

#[test]
fn a_sensor_out_of_service_is_not_missed_and_has_nothing_open() {
    let retired = Mute {
        retired: true,
        ..mute("pump-7/*", &[(10, None)])
    };
    let mutes = Mutes { mutes: vec![retired] };
    let of = |kind, noticed| Course::begun(kind, hour(noticed - 1), hour(noticed));
    let all = [
        of(IncidentKind::Silent, 5),
        of(IncidentKind::Anomaly, 6),
        of(IncidentKind::Silent, 12),
        of(IncidentKind::Anomaly, 13),
    ];
    let judged = |now: i64| {
        let mut courses = all.to_vec();
        mutes.judge(&pump(), hour(now), &mut courses);
        courses
    };
    // Not yet.
    assert!(judged(9)[..2].iter().all(|course| course.closed.is_none()));
    let found = judged(20);
    let closed: Vec<_> = found.iter().map(|course| (course.kind, course.closed)).collect();
    let right = [
        (IncidentKind::Silent, Some(hour(10))),
        (IncidentKind::Anomaly, Some(hour(10))),
        (IncidentKind::Anomaly, None),
    ];
    assert_eq!(closed, right);
    assert_eq!(found[2].muted_until, Some(EventTime::MAX));
    assert_eq!(found[0].muted_until, None);
}

#[tokio::test]
async fn two_who_change_the_mutes_at_once_both_have_their_way() {
    let store = Store::create("memory:///").unwrap();
    let other = store.clone();
    let add = |sensors: &'static str| {
        move |mutes: &mut Mutes| {
            mutes.mutes.push(mute(sensors, &[(1, Some(2))]));
            Ok(())
        }
    };
    // Another one writes between the reading and the writing of this one.
    let (first, second) = tokio::join!(
        StoredMutes::change(&store, add("a/*")),
        StoredMutes::change(&other, add("b/*")),
    );
    first.unwrap();
    second.unwrap();
    let read = StoredMutes::read(&store).await.unwrap();
    assert_eq!(read.mutes.mutes.len(), 2);
    let mut seen = StoredMutes::default();
    assert!(seen.refresh(&store).await.unwrap());
    assert!(!seen.refresh(&store).await.unwrap());
    let refused = StoredMutes::change(&store, |_| Err::<(), _>("no".to_owned())).await;
    assert!(matches!(refused, Err(MutesError::Refused(_))));
    store.put("alerting/mutes.json", "{").await.unwrap();
    let error = StoredMutes::read(&store).await.unwrap_err();
    assert!(error.to_string().contains("mend or delete it"), "{error}");
}
