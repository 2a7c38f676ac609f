//! A TCP proxy between a client and a server, which can forget its connections as a NAT does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

/// A proxy on a free port.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// How often it has forgotten its connections.
    forgotten: Arc<AtomicU32>,
}

impl Proxy {
    /// Starts a proxy on a free port of `host`, such as `127.0.0.1` or `[::1]`, to `port` of this machine.
    pub fn start(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind(format!("{host}:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let forgotten = Arc::new(AtomicU32::new(0));
        let times = Arc::clone(&forgotten);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else {
                    continue;
                };
                let ways = [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server, client),
                ];
                for (from, to) in ways {
                    let (times, before) = (Arc::clone(&times), times.load(Relaxed));
                    thread::spawn(move || forward(from, to, || times.load(Relaxed) > before));
                }
            }
        });
        Self { address, forgotten }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Forwards nothing more on the connections that exist, and does not close them.
    pub fn forget_connections(&self) {
        self.forgotten.fetch_add(1, Relaxed);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, is_forgotten: impl Fn() -> bool) {
    let mut buffer = [0; 65_536];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if is_forgotten() {
            // What arrives is swallowed.
            continue;
        }
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    if !is_forgotten() {
        _ = to.shutdown(Shutdown::Both);
    }
}
