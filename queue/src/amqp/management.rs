//! RabbitMQ's management API: what the protocol itself does not tell.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::AmqpUrl;
use windrow_common::{HasRemedy, Remedy};
use windrow_store::choose_tls;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The management API of a broker.
#[derive(Clone, Debug)]
pub struct Management {
    client: reqwest::Client,
    /// `http://host:15672`.
    base: String,
    broker: AmqpUrl,
}

/// A queue as the management API sees it; it looks every five seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueState {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages with a consumer, not settled.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u64,
    /// Messages published a second.
    pub published_per_second: f64,
    /// Messages delivered a second.
    pub delivered_per_second: f64,
    /// Messages acked a second.
    pub acked_per_second: f64,
    /// Messages delivered again since the queue was made.
    pub redelivered: u64,
}

/// What can go wrong with the management API.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// It cannot be asked.
    #[error("the management API at {base} cannot be asked: {why} (--management-url says where it is)")]
    Away {
        /// Where.
        base: String,
        /// What happened.
        why: String,
    },
    /// It does not answer our user.
    #[error("the management API at {base} refuses user `{user}`: it needs the tag `monitoring`")]
    Refused {
        /// Where.
        base: String,
        /// Who.
        user: String,
    },
    /// There is no such queue.
    #[error("RabbitMQ has no queue `{queue}` in vhost `{vhost}`: no producer or worker has been here yet")]
    NoQueue {
        /// The queue.
        queue: String,
        /// The virtual host.
        vhost: String,
    },
}

impl HasRemedy for ManagementError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Away { .. } => Remedy::Wait,
            Self::Refused { .. } | Self::NoQueue { .. } => Remedy::GiveUp,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    // All absent for a queue that has just been made.
    #[serde(default)]
    messages_ready: u64,
    #[serde(default)]
    messages_unacknowledged: u64,
    #[serde(default)]
    consumers: u64,
    #[serde(default)]
    message_stats: Stats,
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
}

#[derive(Default, Deserialize)]
struct Rate {
    rate: f64,
}

impl Management {
    /// The management API of `broker`, at `base` or where it is by default: port 15672, or 15671 of an encrypted one.
    pub fn new(broker: &AmqpUrl, base: Option<&str>) -> Result<Self, ManagementError> {
        let default = || match broker.is_encrypted() {
            true => format!("https://{}:15671", broker.host()),
            false => format!("http://{}:15672", broker.host()),
        };
        let base = base.map_or_else(default, |base| base.trim_end_matches('/').to_owned());
        choose_tls();
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        Ok(Self {
            client: client.map_err(|error| away(&base, &error))?,
            base,
            broker: broker.clone(),
        })
    }

    /// The state of a queue.
    pub async fn queue(&self, queue: &str) -> Result<QueueState, ManagementError> {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let url = format!(
            "{}/api/queues/{}/{}",
            self.base,
            encode(self.broker.vhost()),
            encode(queue)
        );
        let request = self
            .client
            .get(url)
            .basic_auth(self.broker.user(), Some(self.broker.password()));
        let failed = |error: reqwest::Error| away(&self.base, &error.without_url());
        let response = request.send().await.map_err(failed)?;
        match response.status().as_u16() {
            401 | 403 => {
                return Err(ManagementError::Refused {
                    base: self.base.clone(),
                    user: self.broker.user().to_owned(),
                });
            }
            404 => {
                return Err(ManagementError::NoQueue {
                    queue: queue.to_owned(),
                    vhost: self.broker.vhost().to_owned(),
                });
            }
            _ => {}
        }
        let answer: Answer = response
            .error_for_status()
            .map_err(failed)?
            .json()
            .await
            .map_err(failed)?;
        Ok(QueueState {
            ready: answer.messages_ready,
            unacked: answer.messages_unacknowledged,
            consumers: answer.consumers,
            published_per_second: answer.message_stats.publish_details.rate,
            delivered_per_second: answer.message_stats.deliver_get_details.rate,
            acked_per_second: answer.message_stats.ack_details.rate,
            redelivered: answer.message_stats.redeliver,
        })
    }
}

fn away(base: &str, error: &reqwest::Error) -> ManagementError {
    ManagementError::Away {
        base: base.to_owned(),
        why: windrow_common::sentence(error),
    }
}
