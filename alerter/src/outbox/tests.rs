use windrow_common::{Course, IncidentKind, Length, SensorId};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn event(stage: Stage) -> Event {
    let now = EventTime::now();
    let incident = Incident {
        sensor: SensorId::new("pump-7", "temp").unwrap(),
        window_length: Length::from_millis(60_000),
        course: Course {
            closed: (stage == Stage::Closed).then_some(now),
            ..Course::begun(IncidentKind::Silent, EventTime::from_millis(0), now)
        },
    };
    Event::new(&incident, stage)
}

async fn outbox() -> Outbox {
    let mut outbox = Outbox::open(Store::create("memory:///").unwrap()).await.unwrap();
    outbox.set_receivers(&["pager".to_owned()]);
    outbox
}

#[tokio::test]
async fn what_is_over_before_it_may_be_sent_is_never_sent() {
    let hour = std::time::Duration::from_secs(3_600);
    let (past, later) = (
        EventTime::now().saturating_sub(hour),
        EventTime::now().saturating_add(hour),
    );
    for over in [Stage::Withdrawn, Stage::Closed] {
        let mut early = outbox().await;
        assert!(early.add(event(Stage::Opened), Some(later)));
        assert!(early.waiting("pager", EventTime::now(), 9).is_empty());
        assert!(early.told_open().is_empty());
        assert!(!early.add(event(over), None));
        assert_eq!(early.len(), 0);
        let mut due = outbox().await;
        due.add(event(Stage::Opened), Some(past));
        assert_eq!(due.told_open().len(), 1);
        assert!(due.add(event(over), None));
        assert_eq!(due.waiting("pager", EventTime::now(), 9).len(), 2);
        assert!(due.told_open().is_empty());
    }
}

#[tokio::test]
async fn who_was_not_told_that_it_is_open_is_not_told_that_it_is_over() {
    for over in [Stage::Withdrawn, Stage::Closed] {
        let mut outbox = outbox().await;
        assert!(!outbox.add(event(over), None));
        outbox.add(event(Stage::Opened), Some(EventTime::MAX));
        // A crash after the first of these makes a second one.
        assert!(!outbox.add(event(over), None));
        assert!(!outbox.add(event(over), None));
        assert_eq!(outbox.len(), 0);
    }
}

#[tokio::test]
async fn what_nobody_takes_is_dropped_after_its_time_and_counted() {
    let mut outbox = outbox().await;
    outbox.add(event(Stage::Opened), None);
    let mut of_retired = event(Stage::Opened);
    of_retired.id.push('2');
    of_retired.course.muted_until = Some(EventTime::MAX);
    outbox.add(of_retired, None);
    assert_eq!(outbox.expire(EventTime::from_millis(0), DAY), Expired::default());
    let all = Expired {
        untaken: 1,
        retired: 1,
    };
    assert_eq!(outbox.expire(EventTime::MAX, DAY), all);
    assert_eq!(outbox.len(), 0);
}

#[tokio::test]
async fn the_ids_of_an_incident_that_is_open_do_not_return_however_old_its_last_event_is() {
    let mut outbox = outbox().await;
    let add = |outbox: &mut Outbox, stage| {
        outbox.add(event(stage), None);
        let waiting = outbox.waiting("pager", EventTime::MAX, 9);
        outbox.taken("pager", &waiting);
        waiting.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    let first = add(&mut outbox, Stage::Opened);
    let over = add(&mut outbox, Stage::Withdrawn);
    let again = add(&mut outbox, Stage::Opened);
    assert_eq!(again, [format!("{}/2", first[0])]);
    outbox.expire(EventTime::MAX, DAY);
    assert_eq!(
        add(&mut outbox, Stage::Withdrawn),
        [format!("{}/2", over[0])],
        "a receiver took this id for a repeat"
    );
    // Windows that come late may open it again.
    let last = outbox.kept.again.values().map(|again| again.at).max().unwrap();
    outbox.expire(last.saturating_add(DAY), DAY);
    assert_eq!(add(&mut outbox, Stage::Opened), [format!("{}/3", first[0])]);
    add(&mut outbox, Stage::Withdrawn);
    outbox.expire(last.saturating_add(3 * DAY), DAY);
    assert_eq!(outbox.kept.again.len(), 0);
}
