//! Sockets, connections and sessions: from a listener down to links.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::acceptor::sasl_acceptor::SaslServerFrame;
use fe2o3_amqp::acceptor::{ConnectionAcceptor, ListenerSessionHandle, SaslAcceptor, SessionAcceptor};
use fe2o3_amqp::types::primitives::{Array, Symbol};
use fe2o3_amqp::types::sasl::{SaslCode, SaslInit, SaslOutcome, SaslResponse};
use tokio::net::{TcpListener, TcpStream};

use crate::attach;
use crate::request::ReplyLinks;
use crate::socket::ClientSocket;
use crate::state::State;

/// Largest frame, as in the service and the official client.
const MAX_FRAME_BYTES: u32 = 64 << 10;
/// Most sessions on a connection, as in the service. The official client opens one per link and one per token.
const MOST_SESSIONS: u16 = 4_999;
/// Highest handle of a link in a session, as in the service.
const MOST_LINKS: u32 = 255;
/// Longest time a client may take to open its connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a connection that cannot be accepted; as a rule, file handles have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until its task is stopped.
pub(crate) async fn serve(state: Arc<State>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    match connection(&state, socket).await {
                        Ok(()) => tracing::debug!(%peer, "connection ended"),
                        Err(why) => tracing::debug!(%peer, why, "connection failed"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(state: &Arc<State>, socket: TcpStream) -> Result<(), String> {
    // Latency matters more than full packets here: a test waits for each small frame.
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let socket = socket.into_std().map_err(|error| error.to_string())?;
    let second_handle = socket.try_clone().map_err(|error| error.to_string())?;
    let socket = TcpStream::from_std(socket).map_err(|error| error.to_string())?;
    let _listed = state.connections.list(second_handle);

    let acceptor = ConnectionAcceptor::builder()
        .container_id("windrow-test-hub")
        .max_frame_size(MAX_FRAME_BYTES)
        .channel_max(MOST_SESSIONS)
        .sasl_acceptor(AnySasl)
        .build();
    let mut connection = tokio::time::timeout(OPEN_TIMEOUT, acceptor.accept(ClientSocket::new(socket)))
        .await
        .map_err(|_| "not opened in time".to_owned())?
        .map_err(|error| error.to_string())?;
    // The client's own windows are as wide as possible; link credit bounds what it sends.
    let sessions = SessionAcceptor::builder()
        .incoming_window(u32::MAX)
        .outgoing_window(u32::MAX)
        // The Python client cannot do without a number.
        .handle_max(MOST_LINKS)
        .build();
    while let Some(incoming) = connection.next_incoming_session().await {
        let session = sessions
            .accept_incoming_session(incoming, &mut connection)
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(session_links(Arc::clone(state), session));
    }
    Ok(())
}

async fn session_links(state: Arc<State>, mut session: ListenerSessionHandle) {
    let reply_links = ReplyLinks::default();
    while let Some(link) = session.next_incoming_attach().await {
        let name = link.name.clone();
        if let Err(error) = attach::accept(&state, &reply_links, link, &mut session).await {
            tracing::debug!(link = name, %error, "link not attached");
        }
    }
}

/// A SASL acceptor that lets every client in.
#[derive(Clone, Debug)]
struct AnySasl;

impl AnySasl {
    fn welcome() -> SaslServerFrame {
        SaslServerFrame::Outcome(SaslOutcome {
            code: SaslCode::Ok,
            additional_data: None,
        })
    }
}

impl SaslAcceptor for AnySasl {
    fn mechanisms(&self) -> Array<Symbol> {
        let names = ["ANONYMOUS", "PLAIN", "EXTERNAL", "MSSBCBS"];
        Array::from(names.map(Symbol::from).to_vec())
    }

    fn on_init(&mut self, _: SaslInit) -> SaslServerFrame {
        Self::welcome()
    }

    fn on_response(&mut self, _: SaslResponse) -> SaslServerFrame {
        Self::welcome()
    }
}
