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

/// Replies on the way to a client, which asks one thing at a time.
const REPLIES: usize = 16;

/// A node that answers requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestNode {
    /// Takes tokens, any of them.
    Cbs,
    /// Tells properties.
    Management,
}

/// An answer, before it is addressed.
pub(crate) struct Answer {
    /// The status of HTTP.
    pub(crate) status: i32,
    /// What is wrong, or `OK`.
    pub(crate) description: String,
    /// The properties asked for.
    pub(crate) body: Value,
}

/// The links of a session that carry answers, by the address the client gave them.
#[derive(Clone, Default)]
pub(crate) struct ReplyLinks {
    by_address: Arc<Mutex<HashMap<String, mpsc::Sender<AnyMessage>>>>,
}

impl ReplyLinks {
    /// Opens the way back to this address, in place of an older one.
    pub(crate) fn open(&self, address: String) -> mpsc::Receiver<AnyMessage> {
        let (replies, receiver) = mpsc::channel(REPLIES);
        self.lock().insert(address, replies);
        receiver
    }

    fn find(&self, address: &str) -> Option<mpsc::Sender<AnyMessage>> {
        self.lock().get(address).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<AnyMessage>>> {
        // A map is whole between any two statements, so one left by a panic is as good as any.
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
                state.set_last_token(token(&request));
                Answer {
                    status: 202,
                    description: "Accepted".to_owned(),
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
            // A client that does not take its answers needs no more of them.
            Some(replies) => drop(replies.try_send(address(answer, &request))),
            None => tracing::debug!(?node, reply_to, "a request without a way back"),
        }
    }
}

/// What a client showed, and of which kind it said that is.
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
    // Answers the detach; if the session went first there is nobody to answer.
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
