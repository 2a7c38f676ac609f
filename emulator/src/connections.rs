//! The open connections, kept so that a test can cut them.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A list of the open connections, kept so that a test can cut them.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    sockets: HashMap<u64, TcpStream>,
}

/// An entry of a connection in the list; dropping it removes the connection.
pub(crate) struct Entry {
    connections: Connections,
    id: u64,
}

impl Connections {
    /// Adds a connection to the list, through a second handle of its socket.
    pub(crate) fn list(&self, socket: TcpStream) -> Entry {
        let mut open = self.lock();
        let id = open.next_id;
        open.next_id += 1;
        open.sockets.insert(id, socket);
        Entry {
            connections: self.clone(),
            id,
        }
    }

    /// Cuts every connection without an AMQP close, as a failing network or host does.
    pub(crate) fn cut_all(&self) {
        for (_, socket) in self.lock().sockets.drain() {
            // An error means that the socket is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Returns the number of open connections.
    pub(crate) fn count(&self) -> usize {
        self.lock().sockets.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The list is consistent between any two statements, so a panic cannot leave it broken.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock().sockets.remove(&self.id);
    }
}
