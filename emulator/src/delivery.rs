//! Links that deliver events to a client.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fe2o3_amqp::Sender;
use fe2o3_amqp::acceptor::LinkEndpoint;
use fe2o3_amqp::link::delivery::Sendable;
use fe2o3_amqp::types::definitions::Error;
use fe2o3_amqp::types::messaging::{Body, MESSAGE_FORMAT};
use fe2o3_amqp::types::primitives::Value;
use tokio::sync::oneshot;

use crate::attach;
use crate::conditions;
use crate::consumers::Claim;
use crate::event::StoredEvent;
use crate::intake::DETACH_AFTER;
use crate::partition::Partition;
use crate::state::State;

/// Events to read from the log at once: many enough to spare its lock, few enough to be released early.
const BURST: usize = 256;

/// Interval between checks for link credit. The library (0.16) first checks for credit and then waits for it: credit
/// that arrives between the two steps does not wake it, and it would sleep forever.
const CREDIT_CHECK: Duration = Duration::from_millis(50);

/// A reader of a partition on behalf of one receiver.
pub(crate) struct Reader {
    /// Number of the partition.
    pub(crate) partition: u16,
    /// Sequence number to deliver next.
    pub(crate) next: i64,
    /// The receiver's claim to the partition.
    pub(crate) claim: Claim,
}

/// A reason for a link to end.
enum End {
    /// The client detached it, or its session ended.
    ByClient,
    /// The hub detaches it.
    ByHub(Error),
}

/// Delivers events until the client or the hub ends the link.
pub(crate) async fn run(state: Arc<State>, mut sender: Sender, mut reader: Reader) {
    let Some(partition) = state.partition(reader.partition) else {
        return;
    };
    let mut end_of_log = partition.watch_end();
    let end = loop {
        end_of_log.mark_unchanged();
        let burst = partition.read(reader.next, BURST);
        if burst.is_empty() {
            tokio::select! {
                end = detached(&mut reader.claim.detached) => break end,
                _ = sender.on_detach() => break End::ByClient,
                // This never fails: the sending half lives as long as the state.
                _ = end_of_log.changed() => {}
            }
        } else if let Err(end) = deliver(&state, &partition, &mut sender, &mut reader, &burst).await {
            break end;
        }
    };
    // Release the place before the detach: the client may react by claiming it again.
    drop(reader);
    match end {
        End::ByHub(error) => attach::detach(LinkEndpoint::Sender(sender), error).await,
        End::ByClient => {
            // Answers the detach; an error means that the session has ended already.
            tokio::time::sleep(DETACH_AFTER).await;
            let _ = sender.close().await;
        }
    }
}

async fn deliver(
    state: &State,
    partition: &Partition,
    sender: &mut Sender,
    reader: &mut Reader,
    burst: &[StoredEvent],
) -> Result<(), End> {
    let delay = state.faults.delay();
    if !delay.is_zero() {
        tokio::select! {
            end = detached(&mut reader.claim.detached) => return Err(end),
            _ = sender.on_detach() => return Err(End::ByClient),
            () = tokio::time::sleep(delay) => {}
        }
    }
    for event in burst {
        let message = match partition.unnumbered.load(Ordering::Relaxed) {
            true => event.to_unnumbered_message(),
            false => event.to_message(),
        };
        let message = message.map_err(|error| {
            // Every event was decoded when it arrived, so an error here means that encoder and decoder disagree.
            End::ByHub(conditions::undecodable(error.to_string()))
        })?;
        let sendable = Sendable {
            message,
            message_format: MESSAGE_FORMAT,
            settled: None,
        };
        send(sender, &mut reader.claim.detached, &sendable).await?;
        partition.count_delivered();
        reader.next = event.sequence + 1;
    }
    Ok(())
}

/// Sends an event once there is link credit.
async fn send(
    sender: &mut Sender,
    detached_by_hub: &mut oneshot::Receiver<Error>,
    event: &Sendable<Body<Value>>,
) -> Result<(), End> {
    loop {
        tokio::select! {
            biased;
            end = detached(detached_by_hub) => return Err(end),
            // The outcome does not matter: the partition keeps the event whatever the receiver does with it.
            sent = sender.send_batchable_ref(event) => {
                return sent.map(drop).map_err(|_| End::ByClient);
            }
            () = tokio::time::sleep(CREDIT_CHECK) => {}
        }
    }
}

async fn detached(detached: &mut oneshot::Receiver<Error>) -> End {
    match detached.await {
        Ok(error) => End::ByHub(error),
        // The claim ended without an error, which the table of consumers never allows.
        Err(_) => End::ByHub(conditions::stolen("The receiver lost its place.")),
    }
}
