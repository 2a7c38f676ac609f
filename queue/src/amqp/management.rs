//! RabbitMQ's management API, for numbers that AMQP itself does not provide.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::AmqpUrl;
use windrow_common::{HasRemedy, Remedy};
use windrow_store::choose_tls;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of a broker's management API.
#[derive(Clone, Debug)]
pub struct Management {
    client: reqwest::Client,
    /// `http://host:15672`.
    base: String,
    broker: AmqpUrl,
}

/// The state of a queue. The management API updates it every five seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueState {
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
}

/// An error of the management API.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The API cannot be queried.
    #[error("cannot query the management API at {base}: {why}; --management-url sets its address")]
    Away {
        /// The API's address.
        base: String,
        /// What happened.
        why: String,
    },
    /// The certificate of the authority cannot be used.
    #[error("--amqp-ca holds no certificate of an authority in PEM: {0}")]
    Authority(String),
    /// The API refuses the user.
    #[error("the management API at {base} refuses user `{user}`: the user needs the tag `monitoring`")]
    Refused {
        /// The API's address.
        base: String,
        /// The user.
        user: String,
    },
    /// The queue does not exist.
    #[error("RabbitMQ has no queue `{queue}` in vhost `{vhost}`: no producer or worker has connected yet")]
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
            Self::Authority(_) => Remedy::FixConfig,
            Self::Refused { .. } | Self::NoQueue { .. } => Remedy::GiveUp,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    // All are absent for a queue that has just been created.
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
    publish: Option<u64>,
    ack: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Rate {
    rate: f64,
}

impl Management {
    /// Creates a client of the management API of `broker`, at `base` or at the default port: 15672, or 15671 if the
    /// broker's connection is encrypted. `authority` is the certificate (PEM) of the only authority to trust; without it,
    /// the system's are trusted.
    pub fn new(
        broker: &AmqpUrl,
        base: Option<&str>,
        authority: Option<&str>,
    ) -> Result<Self, ManagementError> {
        let default = || match broker.is_encrypted() {
            true => format!("https://{}:15671", broker.host()),
            false => format!("http://{}:15672", broker.host()),
        };
        let base = base.map_or_else(default, |base| base.trim_end_matches('/').to_owned());
        choose_tls();
        let mut client = reqwest::Client::builder().timeout(TIMEOUT);
        if let Some(authority) = authority {
            let wrong = |error: reqwest::Error| ManagementError::Authority(windrow_common::sentence(&error));
            let authorities = reqwest::Certificate::from_pem_bundle(authority.as_bytes()).map_err(wrong)?;
            if authorities.is_empty() {
                return Err(ManagementError::Authority("it has none".to_owned()));
            }
            client = client.tls_certs_only(authorities);
        }
        Ok(Self {
            client: client.build().map_err(|error| away(&base, &error))?,
            base,
            broker: broker.clone(),
        })
    }

    /// Returns the state of a queue.
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
            published: answer.message_stats.publish,
            acked: answer.message_stats.ack,
        })
    }
}

fn away(base: &str, error: &reqwest::Error) -> ManagementError {
    ManagementError::Away {
        base: base.to_owned(),
        why: windrow_common::sentence(error),
    }
}
