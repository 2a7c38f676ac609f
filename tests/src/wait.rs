//! Waits for conditions instead of sleeping.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// Calls `ask` until it returns a value; panics with `what` if it does not do so in time.
pub fn eventually<T>(within: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(50));
    }
}

/// The ports for servers. They lie below Linux's default range of ports for outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Returns a port of this machine on which nobody listens. No two calls of a process return the same one.
///
/// Until this process ends the port stays reserved by a socket that does not listen. Servers may listen on it all the same, because
/// they set `SO_REUSEADDR` as the reservation does; but the kernel gives it to no outgoing connection, and to no server that asks for
/// any port.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    // Processes that run at once begin at different places.
    let first = std::process::id().wrapping_mul(7_919);
    let mut ports = (0..PORTS.len()).map(|_| {
        let number = first.wrapping_add(TAKEN.fetch_add(1, Relaxed)) % PORTS.len() as u32;
        PORTS.start + u16::try_from(number).unwrap()
    });
    let free = ports.find_map(|port| Some((port, reserved(port).ok()?)));
    let (port, socket) = free.expect("one of 20,000 ports is free");
    RESERVED.lock().unwrap().push(socket);
    port
}

/// Reserves a port; an error if somebody listens on it or has reserved it.
fn reserved(port: u16) -> io::Result<Socket> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let bound = |reuse| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(reuse)?;
        socket.bind(&address.into())?;
        io::Result::Ok(socket)
    };
    // Another test's reservation refuses the first, and would allow the second.
    bound(false)?;
    bound(true)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{free_port, reserved};

    #[test]
    fn a_free_port_is_reserved_for_one_server() {
        let port = free_port();
        let connect = || TcpStream::connect(("127.0.0.1", port));
        assert!(connect().is_err(), "somebody listens");
        assert!(reserved(port).is_err(), "two tests have the same port");
        let server = TcpListener::bind(("127.0.0.1", port)).unwrap();
        connect().unwrap();
        drop(server);
        assert!(connect().is_err());
    }
}
