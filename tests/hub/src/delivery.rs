//! Links that deliver events to a client.

use std::sync::Arc;
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
use crate::partition::Partition;
use crate::state::State;

/// Events taken from the log at once: enough to spare its lock, few enough to let go of early.
const BURST: usize = 256;

/// How often to look for link credit. The library (0.16) checks and then waits in two steps, and would sleep for ever on
/// what is granted in between.
const CREDIT_CHECK: Duration = Duration::from_millis(50);

/// What a receiver reads.
pub(crate) struct Reader {
    /// Number of the partition.
    pub(crate) partition: u16,
    /// Sequence number to deliver next.
    pub(crate) next: i64,
    /// Its place among the receivers.
    pub(crate) claim: Claim,
}

/// Why a link ends.
enum End {
    /// The client detached it, or it is gone with its session.
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
                // Its other half lives as long as the state does.
                _ = end_of_log.changed() => {}
            }
        } else if let Err(end) = deliver(&state, &partition, &mut sender, &mut reader, &burst).await {
            break end;
        }
    };
    // Leave the place before saying so: whoever reacts to the detach may want it.
    drop(reader);
    match end {
        End::ByHub(error) => attach::detach(LinkEndpoint::Sender(sender), error).await,
        End::ByClient => {
            // Answers the detach; if the session went first there is nobody to answer.
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
        let message = event.to_message().map_err(|error| {
            // Every event was read when it came, so this says that reading and writing disagree.
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
            // The outcome does not matter: an event stays whatever a receiver makes of it.
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
        // The place was given up without a word, which the table of consumers never does.
        Err(_) => End::ByHub(conditions::stolen("The receiver lost its place.")),
    }
}
