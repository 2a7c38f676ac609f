//! Policies of the broker that apply to our queues, and what each of them can lose.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AmqpConfig, Management, QueueNames};

/// How often to ask for the policies of a queue that has just been created: the API learns them within five seconds.
const TRIES: u32 = 6;
const TRY_EVERY: Duration = Duration::from_secs(3);

/// The policies that apply to a queue, together with its arguments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EffectivePolicy {
    /// The user's policy and the operator's, as far as there are any.
    names: Vec<String>,
    /// Absent while the broker has not collected it.
    definition: Option<BTreeMap<String, Value>>,
    /// The queue's argument `x-overflow`, which a policy does not change.
    overflow: Option<String>,
}

/// A policy that can lose messages of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Risk {
    /// The queue.
    pub queue: String,
    /// The policies that apply to it: a user's, an operator's, or both.
    pub policy: String,
    /// The key in the policy's definition.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it does to messages.
    pub effect: String,
}

/// What the management API says about the policies of a queue.
#[derive(Deserialize)]
pub(super) struct Answer {
    policy: Option<String>,
    operator_policy: Option<String>,
    /// An object, or an empty array if there is nothing in it.
    effective_policy_definition: Option<Value>,
    #[serde(default)]
    arguments: Value,
}

impl From<Answer> for EffectivePolicy {
    fn from(answer: Answer) -> Self {
        let named = |kind: &str, name: Option<String>| {
            let name = name.filter(|name| !name.is_empty())?;
            Some(format!("{kind} `{name}`"))
        };
        let names = [
            named("policy", answer.policy),
            named("operator policy", answer.operator_policy),
        ];
        let overflow = answer.arguments.get("x-overflow").and_then(Value::as_str);
        Self {
            names: names.into_iter().flatten().collect(),
            definition: answer
                .effective_policy_definition
                .map(|definition| match definition {
                    Value::Object(keys) => keys.into_iter().collect(),
                    _ => BTreeMap::new(),
                }),
            overflow: overflow.map(str::to_owned),
        }
    }
}

impl EffectivePolicy {
    /// Returns whether the broker has collected it.
    pub fn is_known(&self) -> bool {
        self.definition.is_some()
    }

    /// Returns what can lose messages of `queue`.
    pub fn risks(&self, queue: &str, names: &QueueNames) -> Vec<Risk> {
        let is_dead = queue == names.dead;
        let keys = self.definition.iter().flatten();
        let risks = keys.filter_map(|(key, value)| {
            let effect = match key.as_str() {
                "expires" if is_dead => {
                    "deletes the queue with all dead letters when nobody has read it for that many milliseconds"
                }
                "expires" => {
                    "deletes the queue with all messages when it has had no worker for that many milliseconds"
                }
                "message-ttl" if is_dead => "deletes each dead letter after that many milliseconds",
                "message-ttl" => "turns each message that has waited for that many milliseconds into a dead letter",
                "delivery-limit" if is_dead => {
                    "deletes a dead letter that has been listed that many times: each listing is a delivery"
                }
                "max-length" | "max-length-bytes" if self.drops() => {
                    "drops the oldest messages of a full queue"
                }
                // For the scoring queue, the declared arguments take precedence.
                "dead-letter-exchange" if is_dead => {
                    "moves dead letters that expire or are dropped to another exchange"
                }
                _ => return None,
            };
            Some(Risk {
                queue: queue.to_owned(),
                policy: self.names.join(" and "),
                key: key.clone(),
                value: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                effect: effect.to_owned(),
            })
        });
        risks.collect()
    }

    /// Returns whether the queue drops messages when it is full. The default is to drop them.
    fn drops(&self) -> bool {
        let of_policy = self.definition.as_ref().and_then(|keys| keys.get("overflow"));
        let overflow = self.overflow.as_deref().or(of_policy.and_then(Value::as_str));
        !overflow.is_some_and(|overflow| overflow.starts_with("reject-publish"))
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            queue,
            policy,
            key,
            value,
            effect,
        } = self;
        write!(
            f,
            "{policy} sets {key}={value} on queue `{queue}`: it {effect}; leave the queue out of the policy's pattern, or give \
             it a policy of its own with a higher priority"
        )
    }
}

/// Warns about policies that can lose messages, if the management API can be reached. The API is optional.
pub(super) async fn warn_of_risks(config: AmqpConfig) {
    let management = match Management::new(config.access.clone(), config.management_url.as_deref()) {
        Ok(management) => management,
        Err(error) => return tracing::warn!(%error, "the policies of the queues are not checked"),
    };
    for queue in [&config.names.score, &config.names.dead] {
        for _ in 0..TRIES {
            let policy = match management.queue(queue).await {
                Ok(state) => state.policy,
                Err(error) => return tracing::debug!(%error, "the policies of the queues are not checked"),
            };
            if policy.is_known() {
                for risk in policy.risks(queue, &config.names) {
                    tracing::warn!(%risk, "a policy can lose messages");
                }
                break;
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn risks(queue: &str, answer: &str) -> Vec<String> {
        let policy = EffectivePolicy::from(serde_json::from_str::<Answer>(answer).unwrap());
        assert_eq!(policy.is_known(), answer.contains("effective"), "{answer}");
        let risks = policy.risks(queue, &QueueNames::under("windrow"));
        risks
            .iter()
            .map(|risk| format!("{} {}={}", risk.policy, risk.key, risk.value))
            .collect()
    }

    #[test]
    fn every_key_that_can_lose_messages_is_a_risk_and_no_other_is() {
        let all = r#""policy": "all", "operator_policy": null, "effective_policy_definition": {"max-length": 9,
            "message-ttl": 60000, "expires": 5, "delivery-limit": 3, "dead-letter-exchange": "x", "ha-mode": "all"}"#;
        let refuses = r#", "arguments": {"x-overflow": "reject-publish"}"#;
        let ours = format!("{{{all}{refuses}}}");
        assert_eq!(
            risks("windrow.score", &ours),
            ["policy `all` expires=5", "policy `all` message-ttl=60000"]
        );
        assert_eq!(
            risks("windrow.dead", &ours),
            [
                "policy `all` dead-letter-exchange=x",
                "policy `all` delivery-limit=3",
                "policy `all` expires=5",
                "policy `all` message-ttl=60000"
            ]
        );
        let earlier = format!("{{{all}}}");
        assert!(risks("windrow.dead", &earlier).contains(&"policy `all` max-length=9".to_owned()));
        let both = r#"{"policy": "a", "operator_policy": "b",
            "effective_policy_definition": {"max-length-bytes": 9, "overflow": "drop-head"}}"#;
        assert_eq!(
            risks("windrow.dead", both),
            ["policy `a` and operator policy `b` max-length-bytes=9"]
        );
        let harmless = both.replace("drop-head", "reject-publish");
        for harmless in [
            harmless.as_str(),
            r#"{"effective_policy_definition": []}"#,
            r#"{"effective_policy_definition": {}, "policy": ""}"#,
            "{}",
        ] {
            assert_eq!(risks("windrow.dead", harmless), [""; 0], "{harmless}");
        }
    }
}
