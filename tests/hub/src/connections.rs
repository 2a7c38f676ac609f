//! The open connections, so that they can be cut.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The open connections, so that they can be cut.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    sockets: HashMap<u64, TcpStream>,
}

/// A connection's entry; dropping it takes the connection off the list.
pub(crate) struct Entry {
    connections: Connections,
    id: u64,
}

impl Connections {
    /// Lists a connection under a second handle of its socket.
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

    /// Cuts every connection without a word of AMQP, as a network or a dying host does.
    pub(crate) fn cut_all(&self) {
        for (_, socket) in self.lock().sockets.drain() {
            // One that is closed already is cut enough.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// How many connections are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().sockets.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The list is whole between any two statements, so one left by a panic is as good as any.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock().sockets.remove(&self.id);
    }
}
