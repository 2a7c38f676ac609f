//! Links that receive events from a client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fe2o3_amqp::Receiver;
use fe2o3_amqp::acceptor::LinkEndpoint;
use fe2o3_amqp::link::RecvError;
use fe2o3_amqp::types::definitions::Error;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::primitives::Value;

use crate::attach;
use crate::conditions;
use crate::event::{self, AnyMessage};
use crate::state::{MAX_MESSAGE_BYTES, State};

/// Message format of a batch: each data section of the message holds another, encoded message.
const BATCH_FORMAT: u32 = 0x8001_3700;

/// Transfers that a sender may have in flight.
const CREDIT: u32 = 200;
/// Interval at which an idle link grants its credit again. The library's sender (0.16) first checks its credit and then
/// waits for more: credit that arrives between the two steps does not wake it, and it would sleep forever.
const CREDIT_REMINDER: Duration = Duration::from_millis(50);

/// Delay before the answer to a transfer, about as long as the service takes. The library's sender (0.16) starts to
/// listen for the answer only after it has sent, and would wait forever for one that was faster.
pub(crate) const SETTLE_AFTER: Duration = Duration::from_millis(5);

/// Delay before the answer to a `detach`, about as long as the service takes. The official client for Rust forgets a link
/// that it drops at once, and its session a moment later. Its library ends the connection over an answer in between.
pub(crate) const DETACH_AFTER: Duration = Duration::from_millis(5);

/// A destination of a link's events.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Destination {
    /// The partition that their key selects.
    ByKey,
    /// This partition.
    Partition(u16),
}

/// Stores each message and only then accepts it, until the client ends the link.
pub(crate) async fn run(state: Arc<State>, mut receiver: Receiver, destination: Destination) {
    loop {
        let received = tokio::select! {
            received = receiver.recv::<Body<Value>>() => received,
            () = tokio::time::sleep(CREDIT_REMINDER) => {
                if receiver.set_credit(CREDIT).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let (delivery, outcome) = match received {
            Ok(delivery) => {
                let batch = *delivery.message_format() == Some(BATCH_FORMAT);
                let (delivery, message) = delivery.into_parts();
                (delivery, store(&state, destination, batch, message))
            }
            Err(RecvError::MessageDecode(error)) => {
                let why = conditions::undecodable(error.source.to_string());
                (error.info, Err(why))
            }
            // The official client's library splits a message above the link's limit into transfers with inconsistent
            // fields.
            Err(RecvError::InconsistentFieldInMultiFrameDelivery) => {
                let why = conditions::error(
                    "amqp:link:message-size-exceeded",
                    format!(
                        "A message exceeds the limit ({MAX_MESSAGE_BYTES} bytes) currently allowed on the link."
                    ),
                );
                return attach::detach(LinkEndpoint::Receiver(receiver), why).await;
            }
            Err(error) => {
                tracing::debug!(%error, "sender's link ended");
                // Dropping the link answers its end.
                tokio::time::sleep(DETACH_AFTER).await;
                return;
            }
        };
        tokio::time::sleep(SETTLE_AFTER).await;
        let settled = match outcome {
            Ok(()) => receiver.accept(delivery).await,
            Err(error) => {
                tracing::info!(%error, "events refused");
                receiver.reject(delivery, error).await
            }
        };
        if let Err(error) = settled {
            tracing::debug!(%error, "sender's link ended before its events were settled");
            return;
        }
    }
}

fn store(state: &State, destination: Destination, batch: bool, message: AnyMessage) -> Result<(), Error> {
    if state.faults.busy() {
        return Err(conditions::server_busy());
    }
    let partition = match destination {
        Destination::ByKey => state.route(event::partition_key(&message)),
        Destination::Partition(number) => state
            .partition(number)
            .ok_or_else(|| conditions::not_found(format!("There is no partition '{number}'.")))?,
    };
    let events = if batch {
        unpack(message)?
    } else {
        vec![encode(&message)?]
    };
    let size = events.iter().map(Bytes::len).sum();
    if size > MAX_MESSAGE_BYTES {
        return Err(conditions::too_large(size, MAX_MESSAGE_BYTES));
    }
    if !events.is_empty() {
        partition.append(events);
    }
    Ok(())
}

/// Returns the events of a batch; each must be a message.
fn unpack(batch: AnyMessage) -> Result<Vec<Bytes>, Error> {
    let sections = batch
        .body
        .try_into_data()
        .map_err(|_| conditions::undecodable("A batch must hold data sections."))?;
    sections
        .map(|section| {
            event::decode(&section).map_err(|error| conditions::undecodable(error.to_string()))?;
            Ok(Bytes::from(section.into_vec()))
        })
        .collect()
}

fn encode(message: &AnyMessage) -> Result<Bytes, Error> {
    event::encode(message)
        .map(Bytes::from)
        .map_err(|error| conditions::undecodable(error.to_string()))
}
