//! Observes the queue, through RabbitMQ's management API or, without it, over AMQP.

use std::time::Duration;

use tokio::time::timeout;
use windrow_queue::{Amqp, AmqpError, Management, ManagementError};

use crate::policy::Load;

/// How long a look may take: longer than the API's own limit, whose error says more.
const PATIENCE: Duration = Duration::from_secs(12);

/// A queue that is observed.
#[derive(Clone)]
pub enum Broker {
    /// Through the management API, which knows how many messages are unacked, and how many have ever passed.
    Management {
        /// The API.
        api: Box<Management>,
        /// The queue's name.
        queue: String,
    },
    /// Over AMQP, which only tells how many messages are ready.
    Amqp {
        /// The client. It must not wait for a broker that is unavailable.
        amqp: Box<Amqp>,
    },
}

/// The observed state of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its messages.
    pub load: Load,
    /// How many consumers it has.
    pub consumers: u32,
    /// Whether the queue exists. A worker that has connected has declared it.
    pub exists: bool,
}

impl Broker {
    /// Looks at the queue. A queue that does not exist yet is empty.
    pub async fn look(&self) -> Result<Seen, String> {
        match timeout(PATIENCE, self.ask()).await {
            Ok(seen) => seen,
            Err(_) => Err(format!("RabbitMQ has not answered for {PATIENCE:?}")),
        }
    }

    async fn ask(&self) -> Result<Seen, String> {
        match self {
            Self::Management { api, queue } => match api.queue(queue).await {
                Ok(state) if !state.is_counted => Err("RabbitMQ has no figures of the queue yet".to_owned()),
                Ok(state) => Ok(Seen {
                    load: Load {
                        ready: state.ready,
                        unacked: Some(state.unacked),
                        published: state.published,
                        acked: state.acked,
                    },
                    consumers: u32::try_from(state.consumers).unwrap_or(u32::MAX),
                    exists: true,
                }),
                Err(ManagementError::NoQueue { .. }) => Ok(Seen {
                    load: Load {
                        unacked: Some(0),
                        ..Load::default()
                    },
                    consumers: 0,
                    exists: false,
                }),
                Err(error) => Err(error.to_string()),
            },
            Self::Amqp { amqp } => {
                let look = match amqp.look_at(&amqp.names().score).await {
                    Ok(look) => look,
                    Err(AmqpError::NoQueue { .. }) => {
                        return Ok(Seen {
                            load: Load::default(),
                            consumers: 0,
                            exists: false,
                        });
                    }
                    Err(error) => return Err(error.to_string()),
                };
                Ok(Seen {
                    load: Load {
                        ready: look.ready,
                        ..Load::default()
                    },
                    consumers: u32::try_from(look.consumers).unwrap_or(u32::MAX),
                    exists: true,
                })
            }
        }
    }
}
