//! Messages that still wait and may hold the windows without a prediction.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use windrow_common::{EventTime, Length, SensorId};
use windrow_store::DispatchedWindow;

use crate::error::CliError;
use crate::show;

/// Messages in RabbitMQ whose windows have no prediction yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Waiting {
    /// Messages on the scoring queue.
    pub(crate) ready: u64,
    /// Messages unacked by workers.
    pub(crate) unacked: u64,
    /// Dead letters held by another consumer, which cannot be listed.
    pub(crate) held: u64,
    /// Whether these are figures of the management API, which are some seconds old.
    #[serde(skip)]
    pub(crate) sampled: bool,
    /// Why the messages held by workers and other readers cannot be counted, although such consumers exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unseen: Option<String>,
}

impl Waiting {
    /// Returns the number of messages that are known to wait.
    pub(super) fn messages(&self) -> u64 {
        self.ready + self.unacked + self.held
    }

    /// Returns a list of where how many messages wait, for people.
    pub(super) fn text(&self) -> String {
        let places = [
            (self.ready, "on the queue"),
            (self.unacked, "unacked by workers"),
            (self.held, "dead letters held by another consumer"),
        ];
        let places = places.into_iter().filter(|(count, _)| *count > 0);
        let places: Vec<_> = places
            .map(|(count, place)| format!("{} {place}", show::count(count)))
            .collect();
        places.join(", ")
    }
}

/// Windows without a prediction, by the message that they were in.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// The longest interval of the sources in this store. Without one, all windows of a sensor count as one message.
    interval: Option<Length>,
    messages: HashSet<(SensorId, Option<EventTime>)>,
    /// For each source and window length, the start of the first window and the end of the last one.
    spans: BTreeMap<(Arc<str>, Length), (EventTime, EventTime)>,
}

impl Missing {
    pub(super) fn new(interval: Option<Length>) -> Self {
        Self {
            interval,
            ..Self::default()
        }
    }

    /// Adds a window that has no prediction, or one with too few readings.
    pub(super) fn add(&mut self, window: &DispatchedWindow) {
        let interval = self.interval.map(|interval| window.window_start.floor(interval));
        self.messages.insert((window.sensor.clone(), interval));
        let (start, length) = (window.window_start, window.window_length);
        let end = start.saturating_add(length.as_duration());
        let span = self.spans.entry((Arc::clone(&window.source), length));
        let (from, to) = span.or_insert((start, end));
        (*from, *to) = (start.min(*from), end.max(*to));
    }

    /// Adds a window of several tags together. All of a device may have been in one message.
    pub(super) fn add_group(&mut self, sensor: &SensorId) {
        self.messages.insert((sensor.clone(), None));
    }

    /// Returns where the windows of each source and window length lie.
    pub(super) fn spans(&self) -> impl Iterator<Item = (&str, Length, EventTime, EventTime)> {
        let spans = self.spans.iter();
        spans.map(|((source, length), (from, to))| (&**source, *length, *from, *to))
    }

    /// Returns the least number of messages that hold all of the windows.
    pub(super) fn messages(&self) -> u64 {
        self.messages.len() as u64
    }
}

/// The verdict of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything is accounted for.
    Clean,
    /// Windows are missing, and everything that is missing may still be waiting.
    Unfinished(String),
    /// Windows are lost for certain, or something contradicts.
    Failed(String),
}

impl Outcome {
    /// Returns an error unless everything is accounted for.
    pub(crate) fn into_result(self) -> Result<(), CliError> {
        match self {
            Self::Clean => Ok(()),
            Self::Unfinished(why) => Err(CliError::Unfinished(why)),
            Self::Failed(why) => Err(CliError::Lost(why)),
        }
    }
}

/// Judges `windows` missing windows, of at least `messages` messages. `waiting` is `None` if no broker was named.
pub(super) fn judge(windows: u64, messages: u64, waiting: Option<&Waiting>) -> Outcome {
    if windows == 0 {
        return Outcome::Clean;
    }
    let missing = format!(
        "{} windows have no prediction of all their readings",
        show::count(windows)
    );
    let Some(waiting) = waiting else {
        return Outcome::Failed(format!(
            "{missing}; what waits in RabbitMQ, or in a `windrow run` that is still running, is not seen here: name the \
             broker with --amqp-url, or audit again after the run"
        ));
    };
    let waits = waiting.messages();
    let places = waiting.text();
    let held = waiting
        .unseen
        .as_ref()
        .map(|why| format!("what workers or other readers hold is not known ({why})"));
    match held {
        None if waits == 0 => Outcome::Failed(format!("{missing}, and no message is waiting")),
        None if messages > waits => Outcome::Failed(format!(
            "{missing}, of at least {} messages; only {} are waiting ({places}), so at least {} messages are lost",
            show::count(messages),
            show::count(waits),
            show::count(messages - waits),
        )),
        None => Outcome::Unfinished(format!(
            "{missing}, and up to {} messages are waiting ({places}): audit again once they are settled",
            show::count(waits),
        )),
        Some(held) if waits == 0 => Outcome::Unfinished(format!("{missing}, and {held}")),
        Some(held) => Outcome::Unfinished(format!(
            "{missing}, and at least {} messages are waiting ({places}); {held}",
            show::count(waits),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(outcome: Outcome) -> String {
        match outcome {
            Outcome::Clean => "clean".to_owned(),
            Outcome::Unfinished(why) => format!("unfinished: {why}"),
            Outcome::Failed(why) => format!("failed: {why}"),
        }
    }

    #[test]
    fn windows_are_lost_only_as_far_as_nothing_that_waits_could_hold_them() {
        let waiting = |ready, unacked, held| Waiting {
            ready,
            unacked,
            held,
            ..Waiting::default()
        };
        assert_eq!(judge(0, 0, Some(&waiting(9, 9, 9))), Outcome::Clean);
        assert_eq!(judge(0, 0, None), Outcome::Clean);
        let says = |messages, waiting: &Waiting| said(judge(60, messages, Some(waiting)));
        let missing = "60 windows have no prediction of all their readings";
        assert_eq!(
            says(1, &waiting(0, 0, 0)),
            format!("failed: {missing}, and no message is waiting")
        );
        assert_eq!(
            says(5, &waiting(2, 1, 2)),
            format!(
                "unfinished: {missing}, and up to 5 messages are waiting (2 on the queue, 1 unacked by workers, 2 dead \
                 letters held by another consumer): audit again once they are settled"
            )
        );
        assert_eq!(
            says(6, &waiting(0, 5, 0)),
            format!(
                "failed: {missing}, of at least 6 messages; only 5 are waiting (5 unacked by workers), so at least 1 \
                 messages are lost"
            )
        );
        let unseen = Waiting {
            unseen: Some("the management API is away".to_owned()),
            ..waiting(1, 0, 0)
        };
        assert_eq!(
            says(6, &unseen),
            format!(
                "unfinished: {missing}, and at least 1 messages are waiting (1 on the queue); what workers or other \
                 readers hold is not known (the management API is away)"
            )
        );
        assert!(said(judge(1, 1, None)).contains("--amqp-url"));
    }

    #[test]
    fn windows_of_one_interval_are_in_one_message() {
        let window = |tag: &str, minute: i64| DispatchedWindow {
            sensor: SensorId::new("d", tag).unwrap(),
            window_start: EventTime::from_millis(minute * 60_000),
            window_length: Length::from_millis(60_000),
            count: 3,
            source: "s".into(),
        };
        for (interval, messages) in [(Some(60_000), 4), (Some(600_000), 3), (None, 2)] {
            let mut missing = Missing::new(interval.map(Length::from_millis));
            for window in [window("a", 0), window("a", 9), window("a", 10), window("b", 0)] {
                missing.add(&window);
            }
            assert_eq!(missing.messages(), messages, "{interval:?}");
        }
    }
}
