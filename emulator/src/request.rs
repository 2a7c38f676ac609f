//! The nodes that answer requests: `$cbs` and `$management`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fe2o3_amqp::types::messaging::{AmqpValue, ApplicationProperties, Body, Properties};
use fe2o3_amqp::types::primitives::{OrderedMap, SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sender};
use tokio::sync::mpsc;

use crate::event::AnyMessage;
use crate::intake::SETTLE_AFTER;
use crate::management;
use crate::state::{State, Token};

/// Replies that may be in flight to a client, which sends one request at a time.
const REPLIES: usize = 16;

/// A node that answers requests.
#[derive(Clone, Copy, Debug)]
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

/// A table of the links that carry a session's answers, by the address that the client gave them.
#[derive(Clone, Default)]
pub(crate) struct ReplyLinks {
    by_address: Arc<Mutex<HashMap<String, mpsc::Sender<AnyMessage>>>>,
}

impl ReplyLinks {
    /// Opens a channel to the link with this address, in place of an older one.
    pub(crate) fn open(&self, address: String) -> mpsc::Receiver<AnyMessage> {
        let (replies, receiver) = mpsc::channel(REPLIES);
        self.lock().insert(address, replies);
        receiver
    }

    fn find(&self, address: &str) -> Option<mpsc::Sender<AnyMessage>> {
        self.lock().get(address).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<AnyMessage>>> {
        // The map is consistent between any two statements, so a panic cannot leave it broken.
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
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
        match reply_links.find(reply_to.unwrap_or_default()) {
            // A full or closed channel means that the client does not read its answers, so this one is dropped.
            Some(replies) => drop(replies.try_send(address(answer, &request))),
            None => tracing::debug!(?node, reply_to, "a request without a reply link"),
        }
    }
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
                // Another link took the address.
                None => break,
            }
        }
    }
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
