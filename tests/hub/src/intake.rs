//! Links that take events from a client.

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

/// Says that each data section of a message holds another message, encoded.
const BATCH_FORMAT: u32 = 0x8001_3700;

/// Transfers a sender may have on the way.
const CREDIT: u32 = 200;
/// How often an idle link says again how many transfers it takes. A sender of the library (0.16) checks its credit and
/// then waits for more in two steps, and sleeps for ever on what is granted in between.
const CREDIT_REMINDER: Duration = Duration::from_millis(50);

/// How long an answer to a transfer is held back, about as long as the service takes. A sender of the library (0.16)
/// starts to listen for the answer only after it has sent, and waits for ever for one that was faster.
pub(crate) const SETTLE_AFTER: Duration = Duration::from_millis(5);

/// Where a link's events go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Destination {
    /// To the partition their key leads to.
    ByKey,
    /// To this partition.
    Partition(u16),
}

/// Stores what arrives and only then accepts it, until the client ends the link.
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
            // The library of the official client cuts what exceeds the link's limit into transfers that do not belong
            // together.
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
                tracing::debug!(%error, "link of a sender ended");
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
            tracing::debug!(%error, "sender gone before its events were settled");
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

/// The events of a batch, each of which must be a message.
fn unpack(batch: AnyMessage) -> Result<Vec<Bytes>, Error> {
    let sections = batch
        .body
        .try_into_data()
        .map_err(|_| conditions::undecodable("A batch holds data sections."))?;
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
