//! Attaching of links: which node a link names, whether the link is allowed, and which task serves it.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::acceptor::error::AcceptorAttachError;
use fe2o3_amqp::acceptor::{LinkAcceptor, LinkEndpoint, ListenerSessionHandle, SupportedReceiverSettleModes};
use fe2o3_amqp::types::definitions::{Error, ReceiverSettleMode, Role};
use fe2o3_amqp::types::messaging::TargetArchetype;
use fe2o3_amqp::types::performatives::Attach;
use fe2o3_amqp::types::primitives::Value;

use crate::address::Node;
use crate::delivery::{self, Reader};
use crate::intake::{self, Destination};
use crate::request::{self, ReplyLinks, RequestNode};
use crate::start_at::StartAt;
use crate::state::{MAX_MESSAGE_BYTES, State};
use crate::{conditions, consumers};

/// Longest time a client may take to answer a detach.
const DETACH_TIMEOUT: Duration = Duration::from_secs(10);

/// A service that a link gets.
enum Service {
    Requests(RequestNode),
    Replies(RequestNode),
    Intake(Destination),
    Delivery(Reader),
}

/// Attaches a link and starts its task; attaches a refused link too, and detaches it at once with the reason.
pub(crate) async fn accept(
    state: &Arc<State>,
    reply_links: &ReplyLinks,
    mut attach: Attach,
    session: &mut ListenerSessionHandle,
) -> Result<(), AcceptorAttachError> {
    match decide(state, &attach) {
        Ok(Service::Replies(node)) => {
            // Open the reply link before the client learns that it is attached: the reply to its first request needs
            // it.
            let address = attach.target.as_deref().and_then(target_address);
            let replies = reply_links.open(node, address, &attach.name);
            if let LinkEndpoint::Sender(sender) =
                acceptor(None).accept_incoming_attach(attach, session).await?
            {
                tokio::spawn(request::send_replies(sender, replies));
            }
        }
        Ok(Service::Delivery(reader)) => {
            if let LinkEndpoint::Sender(sender) =
                acceptor(None).accept_incoming_attach(attach, session).await?
            {
                tokio::spawn(delivery::run(Arc::clone(state), sender, reader));
            }
        }
        Ok(Service::Requests(node)) => {
            let acceptor = acceptor(Some(MAX_MESSAGE_BYTES));
            if let LinkEndpoint::Receiver(receiver) = acceptor.accept_incoming_attach(attach, session).await?
            {
                tokio::spawn(request::serve(
                    Arc::clone(state),
                    receiver,
                    node,
                    reply_links.clone(),
                ));
            }
        }
        Ok(Service::Intake(destination)) => {
            let acceptor = acceptor(Some(MAX_MESSAGE_BYTES));
            if let LinkEndpoint::Receiver(receiver) = acceptor.accept_incoming_attach(attach, session).await?
            {
                tokio::spawn(intake::run(Arc::clone(state), receiver, destination));
            }
        }
        Err(error) => {
            tracing::info!(link = attach.name, %error, "link refused");
            // A null source or target tells the client that a detach follows (AMQP 1.0, section 2.6.3).
            match attach.role {
                Role::Sender => attach.target = None,
                Role::Receiver => attach.source = None,
            }
            let endpoint = acceptor(None).accept_incoming_attach(attach, session).await?;
            tokio::spawn(detach(endpoint, error));
        }
    }
    Ok(())
}

/// Returns the service that the link gets, or the reason to refuse the link.
fn decide(state: &State, attach: &Attach) -> Result<Service, Error> {
    let address = match attach.role {
        Role::Sender => attach.target.as_deref().and_then(target_address),
        Role::Receiver => attach
            .source
            .as_ref()
            .and_then(|source| source.address.as_deref()),
    };
    let node = Node::parse(address.unwrap_or_default())
        .ok_or_else(|| conditions::not_found(format!("The address {address:?} does not name a node.")))?;
    match (&attach.role, node) {
        (Role::Sender, Node::Cbs) => Ok(Service::Requests(RequestNode::Cbs)),
        (Role::Sender, Node::Management) => Ok(Service::Requests(RequestNode::Management)),
        (Role::Receiver, Node::Cbs) => Ok(Service::Replies(RequestNode::Cbs)),
        (Role::Receiver, Node::Management) => Ok(Service::Replies(RequestNode::Management)),
        (_, _) if state.faults.busy() => Err(conditions::server_busy()),
        (Role::Sender, Node::Hub { hub }) => {
            state.check_name(&hub)?;
            Ok(Service::Intake(Destination::ByKey))
        }
        (Role::Sender, Node::Partition { hub, partition }) => state
            .find(&hub, &partition)
            .map(|number| Service::Intake(Destination::Partition(number))),
        (
            Role::Receiver,
            Node::Consumer {
                hub,
                group,
                partition,
            },
        ) => reader(state, attach, &hub, &group, &partition).map(Service::Delivery),
        (Role::Sender, Node::Consumer { .. }) => {
            Err(conditions::not_found("A consumer group does not accept events."))
        }
        (Role::Receiver, Node::Hub { .. } | Node::Partition { .. }) => Err(conditions::not_found(
            "Events are read from the partitions of a consumer group.",
        )),
    }
}

fn reader(state: &State, attach: &Attach, hub: &str, group: &str, partition: &str) -> Result<Reader, Error> {
    let number = state.find(hub, partition)?;
    state.check_group(group)?;
    let partition = state
        .partition(number)
        .ok_or_else(|| conditions::not_found("The partition does not exist."))?;
    let position = match &attach.source {
        Some(source) => StartAt::of_source(source)
            .map_err(|expression| conditions::argument(format!("Cannot read the filter '{expression}'.")))?,
        None => StartAt::Earliest,
    };
    let next = partition.locate(&position).map_err(conditions::argument)?;
    // Claim last: a claim displaces other receivers.
    let claim: consumers::Claim = state.consumers.claim(group, number, epoch(attach)?)?;
    Ok(Reader {
        partition: number,
        next,
        claim,
    })
}

/// Returns the epoch that a receiver asks for; the client calls it the owner level.
fn epoch(attach: &Attach) -> Result<Option<i64>, Error> {
    let properties = attach.properties.iter().flat_map(|properties| properties.iter());
    for (name, value) in properties {
        if name.as_str() == "com.microsoft:epoch" {
            return match value {
                Value::Long(epoch) => Ok(Some(*epoch)),
                Value::Int(epoch) => Ok(Some(i64::from(*epoch))),
                other => Err(conditions::argument(format!("{other:?} is not an epoch."))),
            };
        }
    }
    Ok(None)
}

fn target_address(target: &TargetArchetype) -> Option<&str> {
    match target {
        TargetArchetype::Target(target) => target.address.as_deref(),
        // Exists only with the library's transactions. They are off here, but another crate may turn them on.
        #[allow(unreachable_patterns)]
        _ => None,
    }
}

type AnyLinkAcceptor = LinkAcceptor<
    fn(fe2o3_amqp::types::messaging::Source) -> Option<fe2o3_amqp::types::messaging::Source>,
    fn(fe2o3_amqp::types::messaging::Target) -> Option<fe2o3_amqp::types::messaging::Target>,
>;

/// Returns an acceptor of links.
///
/// The limit is for links that send events here. On a link that delivers, the library would split messages into pieces
/// of that size.
fn acceptor(max_message_bytes: Option<usize>) -> AnyLinkAcceptor {
    // The service settles what it accepts at once. The Python client asks to settle second, and then never does.
    let builder = LinkAcceptor::builder()
        .supported_receiver_settle_modes(SupportedReceiverSettleModes::First)
        .fallback_receiver_settle_mode(ReceiverSettleMode::First);
    match max_message_bytes.and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) => builder.max_message_size(bytes).build(),
        None => builder.build(),
    }
}

/// Detaches a link for good, and waits a limited time for the client's answer.
pub(crate) async fn detach(endpoint: LinkEndpoint, error: Error) {
    let detached = async {
        match endpoint {
            LinkEndpoint::Sender(sender) => sender.close_with_error(error).await,
            LinkEndpoint::Receiver(receiver) => receiver.close_with_error(error).await,
        }
    };
    match tokio::time::timeout(DETACH_TIMEOUT, detached).await {
        Ok(Ok(())) => {}
        // The session may have ended by now, and the link with it.
        Ok(Err(error)) => tracing::debug!(%error, "link not detached cleanly"),
        Err(_) => tracing::debug!("the client did not answer a detach"),
    }
}
