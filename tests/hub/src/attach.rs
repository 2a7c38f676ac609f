//! Links as they attach: which node one names, whether it may have it, and the task that then serves it.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::acceptor::error::AcceptorAttachError;
use fe2o3_amqp::acceptor::{LinkAcceptor, LinkEndpoint, ListenerSessionHandle};
use fe2o3_amqp::types::definitions::{Error, Role};
use fe2o3_amqp::types::messaging::TargetArchetype;
use fe2o3_amqp::types::performatives::Attach;
use fe2o3_amqp::types::primitives::Value;

use crate::address::Node;
use crate::delivery::{self, Reader};
use crate::intake::{self, Destination};
use crate::position::Position;
use crate::request::{self, ReplyLinks, RequestNode};
use crate::state::{MAX_MESSAGE_BYTES, State};
use crate::{conditions, consumers};

/// Longest a client may take to answer a detach.
const DETACH_TIMEOUT: Duration = Duration::from_secs(10);

/// What a link is let do.
enum Service {
    Requests(RequestNode),
    Replies(String),
    Intake(Destination),
    Delivery(Reader),
}

/// Attaches a link and starts its task, or attaches and detaches it at once with the reason.
pub(crate) async fn accept(
    state: &Arc<State>,
    reply_links: &ReplyLinks,
    mut attach: Attach,
    session: &mut ListenerSessionHandle,
) -> Result<(), AcceptorAttachError> {
    match decide(state, &attach) {
        Ok(Service::Replies(address)) => {
            // Before the client can know that the link is attached, or its first request might find no way back.
            let replies = reply_links.open(address);
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
            // A link whose own end is null is about to be detached: so says the protocol, and so does the client read it.
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

/// Which node the link names and what it is let do there, or why not.
fn decide(state: &State, attach: &Attach) -> Result<Service, Error> {
    let address = match attach.role {
        Role::Sender => attach.target.as_deref().and_then(target_address),
        Role::Receiver => attach
            .source
            .as_ref()
            .and_then(|source| source.address.as_deref()),
    };
    let node = Node::parse(address.unwrap_or_default())
        .ok_or_else(|| conditions::not_found(format!("The address {address:?} names nothing.")))?;
    match (&attach.role, node) {
        (Role::Sender, Node::Cbs) => Ok(Service::Requests(RequestNode::Cbs)),
        (Role::Sender, Node::Management) => Ok(Service::Requests(RequestNode::Management)),
        (Role::Receiver, Node::Cbs | Node::Management) => {
            let reply_to = attach.target.as_deref().and_then(target_address);
            Ok(Service::Replies(reply_to.unwrap_or_default().to_owned()))
        }
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
            Err(conditions::not_found("A consumer group takes no events."))
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
        .ok_or_else(|| conditions::not_found("The partition is gone."))?;
    let position = match &attach.source {
        Some(source) => Position::of_source(source)
            .map_err(|expression| conditions::argument(format!("Cannot read the filter '{expression}'.")))?,
        None => Position::Earliest,
    };
    let next = partition.locate(&position).map_err(conditions::argument)?;
    // Last of all, for it displaces others.
    let claim: consumers::Claim = state.consumers.claim(group, number, epoch(attach)?)?;
    Ok(Reader {
        partition: number,
        next,
        claim,
    })
}

/// The epoch a receiver asks for: what the client calls its owner level.
fn epoch(attach: &Attach) -> Result<Option<i64>, Error> {
    let properties = attach.properties.iter().flat_map(|properties| properties.iter());
    for (name, value) in properties {
        if name.as_str() == "com.microsoft:epoch" {
            return match value {
                Value::Long(epoch) => Ok(Some(*epoch)),
                Value::Int(epoch) => Ok(Some(i64::from(*epoch))),
                other => Err(conditions::argument(format!("{other:?} is no epoch."))),
            };
        }
    }
    Ok(None)
}

fn target_address(target: &TargetArchetype) -> Option<&str> {
    match target {
        TargetArchetype::Target(target) => target.address.as_deref(),
        // Exists only with the library's transactions, which are not compiled in here but may be by others.
        #[allow(unreachable_patterns)]
        _ => None,
    }
}

type AnyLinkAcceptor = LinkAcceptor<
    fn(fe2o3_amqp::types::messaging::Source) -> Option<fe2o3_amqp::types::messaging::Source>,
    fn(fe2o3_amqp::types::messaging::Target) -> Option<fe2o3_amqp::types::messaging::Target>,
>;

/// Accepts a link. The limit is for links that send events here: on those that deliver, the library would cut
/// messages in pieces of that size.
fn acceptor(max_message_bytes: Option<usize>) -> AnyLinkAcceptor {
    let builder = LinkAcceptor::builder();
    match max_message_bytes.and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) => builder.max_message_size(bytes).build(),
        None => builder.build(),
    }
}

/// Detaches a link for good and waits for the client to agree, but not for ever.
pub(crate) async fn detach(endpoint: LinkEndpoint, error: Error) {
    let detached = async {
        match endpoint {
            LinkEndpoint::Sender(sender) => sender.close_with_error(error).await,
            LinkEndpoint::Receiver(receiver) => receiver.close_with_error(error).await,
        }
    };
    match tokio::time::timeout(DETACH_TIMEOUT, detached).await {
        Ok(Ok(())) => {}
        // The session may be gone by now, and the link with it.
        Ok(Err(error)) => tracing::debug!(%error, "link not detached cleanly"),
        Err(_) => tracing::debug!("the client did not answer a detach"),
    }
}
