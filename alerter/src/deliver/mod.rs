//! Delivery: each event is sent to every receiver, and stays in the outbox until that receiver has taken it.

#[cfg(feature = "deliver")]
mod alertmanager;
#[cfg(feature = "deliver")]
mod http;
#[cfg(feature = "deliver")]
mod webhook;

use std::time::Duration;

use async_trait::async_trait;

use crate::Event;

#[cfg(feature = "deliver")]
pub use alertmanager::Alertmanager;
#[cfg(feature = "deliver")]
pub use http::AddressError;
#[cfg(feature = "deliver")]
pub use webhook::Webhook;

/// A destination of events.
#[async_trait]
pub trait Receiver: Send + Sync {
    /// Returns its name, which tells its events in the outbox from those of others.
    fn name(&self) -> &str;

    /// Sends `events`, oldest first, and the `open` incidents to receivers that have to be reminded of them. Events that
    /// were taken before an error stay taken.
    async fn tell(&self, events: &[Event], open: &[Event]) -> Told;

    /// Returns how often it wants to be reminded of what is open, if at all.
    fn reminds_every(&self) -> Option<Duration>;
}

/// What became of the events for a receiver.
#[derive(Debug, Default)]
pub struct Told {
    /// How many of the events were taken, from the first on.
    pub taken: usize,
    /// How many of these the receiver will never accept, so that they were dropped.
    pub refused: usize,
    /// Why the rest was not taken.
    pub failure: Option<DeliveryError>,
}

/// An event that could not be told.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The receiver did not answer.
    #[error("{receiver} cannot be reached: {why}")]
    Away {
        /// The receiver's address.
        receiver: String,
        /// What happened.
        why: String,
    },
    /// The receiver answered with an error.
    #[error("{receiver} answers {status}: {text}")]
    Refused {
        /// The receiver's address.
        receiver: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of its answer.
        text: String,
    },
    /// The secret of the receiver cannot be read.
    #[error(transparent)]
    Secret(#[from] windrow_store::SecretFileError),
}
