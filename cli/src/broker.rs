//! The broker that a command may be given: RabbitMQ, in builds that know it.

#[cfg(feature = "cluster")]
pub(crate) use amqp::{Broker, BrokerArgs, BrokerError};
#[cfg(not(feature = "cluster"))]
pub(crate) use none::{Broker, BrokerArgs, BrokerError};

#[cfg(feature = "cluster")]
mod amqp {
    use clap::Args;
    use windrow_common::{HasRemedy, Remedy};
    use windrow_queue::{Amqp, AmqpArgs, AmqpArgsError, AmqpError, DeadLetter, ManagementError, Reconnect};

    /// The options that name a broker.
    #[derive(Args, Debug)]
    pub(crate) struct BrokerArgs {
        #[command(flatten)]
        amqp: AmqpArgs,
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
            if !self.amqp.is_given() {
                return Ok(None);
            }
            let queue = self.amqp.queue(client, Reconnect::Never)?;
            Ok(Some(Broker { queue }))
        }
    }

    impl Broker {
        pub(crate) async fn list(self) -> Result<Vec<DeadLetter>, BrokerError> {
            let dead_letters = self.queue.dead_letters().list(usize::MAX).await?;
            self.queue.close().await;
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
    use windrow_queue::DeadLetter;

    #[derive(Args, Debug)]
    pub(crate) struct BrokerArgs {}

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

    impl Broker {
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
