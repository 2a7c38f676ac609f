//! The state of a queue, as RabbitMQ's management API tells it.

use serde::Deserialize;

use super::policies::{self, EffectivePolicy};

/// The state of a queue. The management API updates it every five seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueState {
    /// Whether the broker has counted the queue's messages. If not, `ready` and `unacked` may be 0 without meaning that
    /// the queue is empty: just after the broker started or the queue was created, or while the queue has no leader.
    pub is_counted: bool,
    /// Number of messages that wait for a consumer.
    pub ready: u64,
    /// Number of messages delivered and not yet settled.
    pub unacked: u64,
    /// Number of consumers.
    pub consumers: u64,
    /// Messages published per second.
    pub published_per_second: f64,
    /// Messages delivered per second.
    pub delivered_per_second: f64,
    /// Messages acked per second.
    pub acked_per_second: f64,
    /// Number of messages redelivered since the queue was created.
    pub redelivered: u64,
    /// Number of messages published since the broker began to count; `None` before it has.
    pub published: Option<u64>,
    /// Number of messages acked since the broker began to count; `None` before it has.
    pub acked: Option<u64>,
    /// The nodes that keep a copy of the queue.
    pub members: Vec<String>,
    /// Those of them that are online.
    pub online: Vec<String>,
    /// The policies that apply to the queue.
    pub policy: EffectivePolicy,
}

impl QueueState {
    /// Returns which nodes are away, if the queue has no majority: it then takes and delivers nothing.
    pub fn no_majority(&self) -> Option<String> {
        let away = self.members.iter().filter(|node| !self.online.contains(node));
        let away: Vec<_> = away.map(String::as_str).collect();
        (away.len() * 2 >= self.members.len() && !away.is_empty()).then(|| {
            format!(
                "the queue has no majority: of its {} nodes, {} away ({})",
                self.members.len(),
                match away.len() {
                    1 => "1 is".to_owned(),
                    count => format!("{count} are"),
                },
                away.join(", ")
            )
        })
    }
}

/// The management API's answer.
#[derive(Deserialize)]
pub(super) struct Answer {
    // All are absent for a queue that has just been created.
    messages_ready: Option<u64>,
    messages_unacknowledged: Option<u64>,
    #[serde(default)]
    consumers: u64,
    #[serde(default)]
    message_stats: Stats,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default)]
    online: Vec<String>,
    #[serde(flatten)]
    policy: policies::Answer,
}

impl From<Answer> for QueueState {
    fn from(answer: Answer) -> Self {
        Self {
            is_counted: answer.messages_ready.is_some() && answer.messages_unacknowledged.is_some(),
            ready: answer.messages_ready.unwrap_or(0),
            unacked: answer.messages_unacknowledged.unwrap_or(0),
            consumers: answer.consumers,
            published_per_second: answer.message_stats.publish_details.rate,
            delivered_per_second: answer.message_stats.deliver_get_details.rate,
            acked_per_second: answer.message_stats.ack_details.rate,
            redelivered: answer.message_stats.redeliver,
            published: answer.message_stats.publish,
            acked: answer.message_stats.ack,
            members: answer.members,
            online: answer.online,
            policy: answer.policy.into(),
        }
    }
}

#[derive(Default, Deserialize)]
struct Stats {
    #[serde(default)]
    publish_details: Rate,
    #[serde(default)]
    deliver_get_details: Rate,
    #[serde(default)]
    ack_details: Rate,
    #[serde(default)]
    redeliver: u64,
    publish: Option<u64>,
    ack: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Rate {
    rate: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_without_most_of_its_nodes_is_told() {
        let state = |members: &[&str], online: &[&str]| {
            let nodes = |nodes: &[&str]| serde_json::json!(nodes);
            let answer = serde_json::json!({ "members": nodes(members), "online": nodes(online) });
            QueueState::from(serde_json::from_value::<Answer>(answer).unwrap()).no_majority()
        };
        assert_eq!(
            state(&["a", "b"], &["a"]).unwrap(),
            "the queue has no majority: of its 2 nodes, 1 is away (b)"
        );
        assert_eq!(
            state(&["a", "b", "c"], &["b"]).unwrap(),
            "the queue has no majority: of its 3 nodes, 2 are away (a, c)"
        );
        for (members, online) in [
            (&["a", "b", "c"][..], &["b", "c"][..]),
            (&["a"], &["a"]),
            (&[], &[]),
        ] {
            assert_eq!(state(members, online), None, "{members:?}");
        }
    }
}
