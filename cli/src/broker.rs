//! The broker that a command may be given: RabbitMQ, in builds that know it.

#[cfg(feature = "cluster")]
pub(crate) use amqp::{Broker, BrokerArgs, BrokerError, WatchArgs};
#[cfg(not(feature = "cluster"))]
pub(crate) use none::{Broker, BrokerArgs, BrokerError, WatchArgs};

#[cfg(feature = "cluster")]
mod amqp {
    use clap::Args;
    use windrow_common::{HasRemedy, Remedy};
    use windrow_queue::{
        Amqp, AmqpArgs, AmqpArgsError, AmqpError, DeadLetter, ManagementError, QueueState, Reconnect,
    };

    use crate::audit::Waiting;

    /// The options that name a broker.
    #[derive(Args, Debug)]
    pub(crate) struct BrokerArgs {
        #[command(flatten)]
        amqp: AmqpArgs,
    }

    /// The options that name a broker and its management API.
    #[derive(Args, Debug)]
    pub(crate) struct WatchArgs {
        #[command(flatten)]
        broker: BrokerArgs,
    }

    /// An error of the broker, or in its options.
    #[derive(Debug, thiserror::Error)]
    pub(crate) enum BrokerError {
        /// The RabbitMQ options are invalid.
        #[error(transparent)]
        Args(#[from] AmqpArgsError),
        /// RabbitMQ failed.
        #[error(transparent)]
        Amqp(#[from] AmqpError),
        /// RabbitMQ's management API failed.
        #[error(transparent)]
        Management(#[from] ManagementError),
    }

    impl HasRemedy for BrokerError {
        fn remedy(&self) -> Remedy {
            match self {
                Self::Args(error) => error.remedy(),
                Self::Amqp(error) => error.remedy(),
                Self::Management(error) => error.remedy(),
            }
        }
    }

    /// The dead letters of a broker.
    pub(crate) struct Broker {
        queue: Amqp,
    }

    impl BrokerArgs {
        /// Returns the broker if one is named. `client` is its name in the broker's list of connections.
        pub(crate) fn broker(&self, client: &str) -> Result<Option<Broker>, BrokerError> {
            Ok(self.queue(client)?.map(|queue| Broker { queue }))
        }

        /// Returns the broker to publish to, if one is named. Connects to it and makes sure that the scoring queue
        /// exists, so that no window is recorded as dispatched without being published.
        pub(crate) async fn publisher(&self, client: &str) -> Result<Option<Amqp>, BrokerError> {
            let queue = self.queue(client)?;
            if let Some(queue) = &queue {
                queue.connect().await?;
            }
            Ok(queue)
        }

        fn queue(&self, client: &str) -> Result<Option<Amqp>, BrokerError> {
            if !self.amqp.is_given() {
                return Ok(None);
            }
            Ok(Some(self.amqp.queue(client, Reconnect::Never)?))
        }
    }

    impl WatchArgs {
        /// Returns the broker if one is named.
        pub(crate) fn broker(&self, client: &str) -> Result<Option<Broker>, BrokerError> {
            self.broker.broker(client)
        }

        /// Returns what waits in the queues of `broker`.
        pub(crate) async fn waiting(&self, broker: &Broker) -> Result<Waiting, BrokerError> {
            let names = broker.queue.names();
            let score = broker.queue.look_at(&names.score).await?;
            let dead = broker.queue.look_at(&names.dead).await?;
            // Without a consumer, no message is unacked.
            if score.consumers == 0 && dead.consumers == 0 {
                return Ok(Waiting {
                    ready: score.ready,
                    ..Waiting::default()
                });
            }
            Ok(match self.sampled(broker).await {
                // Take both figures from one sample. Otherwise a message that moves between the queues would be counted
                // in neither.
                Ok((score, dead)) => Waiting {
                    ready: score.ready,
                    unacked: score.unacked,
                    held: dead.unacked,
                    sampled: true,
                    unseen: None,
                },
                Err(error) => Waiting {
                    ready: score.ready,
                    unseen: Some(error.to_string()),
                    ..Waiting::default()
                },
            })
        }

        /// Returns the state of the scoring queue and of the dead letters, at most five seconds old.
        async fn sampled(&self, broker: &Broker) -> Result<(QueueState, QueueState), BrokerError> {
            let management = self.broker.amqp.management()?;
            let names = broker.queue.names();
            Ok((
                management.queue(&names.score).await?,
                management.queue(&names.dead).await?,
            ))
        }
    }

    impl Broker {
        /// Returns the dead letters.
        pub(crate) async fn dead_letters(&self) -> Result<Vec<DeadLetter>, BrokerError> {
            Ok(self.queue.dead_letters().list(usize::MAX).await?)
        }

        /// Closes the connections.
        pub(crate) async fn close(self) {
            self.queue.close().await;
        }

        pub(crate) async fn list(self) -> Result<Vec<DeadLetter>, BrokerError> {
            let dead_letters = self.dead_letters().await?;
            self.close().await;
            Ok(dead_letters)
        }

        pub(crate) async fn replay(self, selects: impl Fn(&DeadLetter) -> bool) -> Result<u64, BrokerError> {
            let replayed = self.queue.dead_letters().replay(selects).await?;
            self.queue.close().await;
            Ok(replayed)
        }

        pub(crate) async fn purge(self, selects: impl Fn(&DeadLetter) -> bool) -> Result<u64, BrokerError> {
            let purged = self.queue.dead_letters().purge(selects).await?;
            self.queue.close().await;
            Ok(purged)
        }
    }
}

/// In a build without brokers, none can be named.
#[cfg(not(feature = "cluster"))]
mod none {
    use clap::Args;
    use windrow_common::{HasRemedy, Remedy};
    use windrow_queue::{DeadLetter, Memory};

    use crate::audit::Waiting;

    #[derive(Args, Debug)]
    pub(crate) struct BrokerArgs {}

    #[derive(Args, Debug)]
    pub(crate) struct WatchArgs {}

    #[derive(Debug, thiserror::Error)]
    pub(crate) enum BrokerError {}

    impl HasRemedy for BrokerError {
        fn remedy(&self) -> Remedy {
            match *self {}
        }
    }

    pub(crate) enum Broker {}

    impl BrokerArgs {
        #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // As where there are brokers.
        pub(crate) fn broker(&self, _: &str) -> Result<Option<Broker>, BrokerError> {
            Ok(None)
        }
    }

    impl BrokerArgs {
        #[allow(clippy::unused_async, clippy::unused_self)] // As where there are brokers.
        pub(crate) async fn publisher(&self, _: &str) -> Result<Option<Memory>, BrokerError> {
            Ok(None)
        }
    }

    impl WatchArgs {
        #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // As where there are brokers.
        pub(crate) fn broker(&self, _: &str) -> Result<Option<Broker>, BrokerError> {
            Ok(None)
        }

        #[allow(clippy::unused_async)] // As where there are brokers.
        pub(crate) async fn waiting(&self, broker: &Broker) -> Result<Waiting, BrokerError> {
            match *broker {}
        }
    }

    impl Broker {
        pub(crate) async fn dead_letters(&self) -> Result<Vec<DeadLetter>, BrokerError> {
            match *self {}
        }

        pub(crate) async fn close(self) {
            match self {}
        }

        pub(crate) async fn list(self) -> Result<Vec<DeadLetter>, BrokerError> {
            match self {}
        }

        pub(crate) async fn replay(self, _: impl Fn(&DeadLetter) -> bool) -> Result<u64, BrokerError> {
            match self {}
        }

        pub(crate) async fn purge(self, _: impl Fn(&DeadLetter) -> bool) -> Result<u64, BrokerError> {
            match self {}
        }
    }
}
