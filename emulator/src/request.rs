//! The nodes that answer requests: `$cbs` and `$management`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fe2o3_amqp::types::messaging::{AmqpValue, ApplicationProperties, Body, Properties};
use fe2o3_amqp::types::primitives::{OrderedMap, SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sender};
use tokio::sync::mpsc;

use crate::event::AnyMessage;
use crate::intake::{DETACH_AFTER, SETTLE_AFTER};
use crate::management;
use crate::state::{State, Token};

/// Replies that may be in flight to a client, which sends one request at a time.
const REPLIES: usize = 16;

/// A node that answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestNode {
    /// Accepts any token.
    Cbs,
    /// Returns properties.
    Management,
}

/// An answer that has no address yet.
pub(crate) struct Answer {
    /// The HTTP status code.
    pub(crate) status: i32,
    /// What the status means.
    pub(crate) description: String,
    /// The properties asked for.
    pub(crate) body: Value,
}

/// The links that carry a session's answers.
#[derive(Clone, Default)]
pub(crate) struct ReplyLinks {
    open: Arc<Mutex<Vec<ReplyLink>>>,
}

/// The names of a link for answers, and the channel to its task.
struct ReplyLink {
    node: RequestNode,
    /// The address that the client gave to its end, if any.
    address: Option<String>,
    name: String,
    replies: mpsc::Sender<AnyMessage>,
}

impl ReplyLinks {
    /// Opens a channel to a link, in place of an older one with the same address or name.
    pub(crate) fn open(
        &self,
        node: RequestNode,
        address: Option<&str>,
        name: &str,
    ) -> mpsc::Receiver<AnyMessage> {
        let (replies, receiver) = mpsc::channel(REPLIES);
        let mut open = self.lock();
        open.retain(|link| {
            let replaced = link.name == name || (address.is_some() && link.address.as_deref() == address);
            !replaced && !link.replies.is_closed()
        });
        open.push(ReplyLink {
            node,
            address: address.map(str::to_owned),
            name: name.to_owned(),
            replies,
        });
        receiver
    }

    /// Returns the link for an answer. Rust's client names it by address, and Node's by link name. Python's client
    /// names none and has one link for each node.
    fn find(&self, node: RequestNode, reply_to: Option<&str>) -> Option<mpsc::Sender<AnyMessage>> {
        let open = self.lock();
        let link = open.iter().rev().find(|link| match reply_to {
            Some(name) => link.address.as_deref() == Some(name) || link.name == name,
            None => link.node == node,
        })?;
        Some(link.replies.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ReplyLink>> {
        // The list is consistent between any two statements, so a panic cannot leave it broken.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers requests until the client ends the link.
pub(crate) async fn serve(
    state: Arc<State>,
    mut receiver: Receiver,
    node: RequestNode,
    reply_links: ReplyLinks,
) {
    while let Ok(delivery) = receiver.recv::<Body<Value>>().await {
        let (delivery, request) = delivery.into_parts();
        tokio::time::sleep(SETTLE_AFTER).await;
        if receiver.accept(delivery).await.is_err() {
            return;
        }
        let answer = match node {
            RequestNode::Cbs => {
                let token = token(&request);
                let refused = state.faults.refuses(token.as_ref());
                state.set_last_token(token);
                let (status, description) = match refused {
                    // What the service says of a key that was regenerated.
                    true => (401, "InvalidSignature: The token has an invalid signature."),
                    false => (202, "Accepted"),
                };
                Answer {
                    status,
                    description: description.to_owned(),
                    body: Value::Null,
                }
            }
            RequestNode::Management => {
                let answer = management::answer(&state, &request);
                tokio::time::sleep(state.faults.answer_delay()).await;
                answer
            }
        };
        let reply_to = request.properties.as_ref().and_then(|of| of.reply_to.as_deref());
        match reply_links.find(node, reply_to) {
            // A full or closed channel means that the client does not read its answers, so this one is dropped.
            Some(replies) => drop(replies.try_send(address(answer, &request))),
            None => tracing::debug!(?node, reply_to, "a request without a reply link"),
        }
    }
    // Dropping the link answers its end.
    tokio::time::sleep(DETACH_AFTER).await;
}

/// Returns the token that a client presents, with the kind that it claims.
fn token(request: &AnyMessage) -> Option<Token> {
    let kind = request.application_properties.as_ref()?.get("type")?;
    match (kind, &request.body) {
        (SimpleValue::String(kind), Body::Value(AmqpValue(Value::String(text)))) => Some(Token {
            kind: kind.clone(),
            text: text.clone(),
        }),
        _ => None,
    }
}

/// Sends answers until the client ends the link.
pub(crate) async fn send_replies(mut sender: Sender, mut replies: mpsc::Receiver<AnyMessage>) {
    loop {
        tokio::select! {
            _ = sender.on_detach() => break,
            reply = replies.recv() => match reply {
                Some(reply) => {
                    if sender.send_batchable(reply).await.is_err() {
                        return;
                    }
                }
                // Another link took its address or name.
                None => break,
            }
        }
    }
    tokio::time::sleep(DETACH_AFTER).await;
    // Answers the detach; an error means that the session has ended already.
    let _ = sender.close().await;
}

fn address(answer: Answer, request: &AnyMessage) -> AnyMessage {
    let mut status = OrderedMap::new();
    status.insert("status-code".to_owned(), SimpleValue::Int(answer.status));
    status.insert(
        "status-description".to_owned(),
        SimpleValue::String(answer.description),
    );
    let properties = request.properties.as_ref();
    AnyMessage {
        header: None,
        delivery_annotations: None,
        message_annotations: None,
        properties: Some(Properties {
            correlation_id: properties.and_then(|of| of.message_id.clone()),
            ..Properties::default()
        }),
        application_properties: Some(ApplicationProperties(status)),
        body: Body::Value(AmqpValue(answer.body)),
        footer: None,
    }
}
