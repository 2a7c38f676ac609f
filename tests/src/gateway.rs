//! A gateway in front of an HTTP service. On request it loses its route and answers 404 to everything, as a
//! misconfigured proxy does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

/// What the gateway answers in the service's place: no code of Azure, S3 or Google Cloud.
const ANSWER: &str = "HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\
                      Connection: close\r\n\r\n<h1>404 Not Found</h1>";

/// A gateway on a free port of loopback.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    route: Arc<Route>,
}

#[derive(Debug, Default)]
struct Route {
    is_lost: AtomicBool,
    /// Requests that got the gateway's own answer.
    refused: AtomicU64,
}

impl Gateway {
    /// Starts a gateway to `port` of this machine.
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let route = Arc::new(Route::default());
        let shared = Arc::clone(&route);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(service)) = (client, TcpStream::connect(("127.0.0.1", port))) else {
                    continue;
                };
                let back = (service.try_clone().unwrap(), client.try_clone().unwrap());
                let route = Arc::clone(&shared);
                thread::spawn(move || there(client, service, &route));
                thread::spawn(move || copy(back.0, back.1));
            }
        });
        Self { address, route }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers 404 to every request from now on.
    pub fn lose_its_way(&self) {
        self.route.is_lost.store(true, Relaxed);
    }

    /// Ends [`Gateway::lose_its_way`].
    pub fn find_its_way(&self) {
        self.route.is_lost.store(false, Relaxed);
    }

    /// Returns how many requests got its own answer.
    pub fn refused(&self) -> u64 {
        self.route.refused.load(Relaxed)
    }
}

/// Passes requests on. Its clients send one at a time on a connection, so the answer goes to the request that has come.
fn there(mut client: TcpStream, mut service: TcpStream, route: &Route) {
    let mut buffer = [0; 65_536];
    while let Ok(bytes @ 1..) = client.read(&mut buffer) {
        if route.is_lost.load(Relaxed) {
            route.refused.fetch_add(1, Relaxed);
            _ = client.write_all(ANSWER.as_bytes());
            _ = client.shutdown(Shutdown::Write);
            // A connection that is closed with unread bytes is reset, and the answer with it.
            while let Ok(1..) = client.read(&mut buffer) {}
            break;
        }
        if service.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    _ = service.shutdown(Shutdown::Both);
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    _ = std::io::copy(&mut from, &mut to);
    _ = to.shutdown(Shutdown::Both);
}
