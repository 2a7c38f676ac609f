//! Waits for conditions instead of sleeping.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

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

/// The ports for servers. They lie below the range from which the kernel takes ports for outgoing connections: a port of that range
/// may be taken by another process in the seconds before the server listens.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Returns a port of this machine on which nobody listens at the moment. No two calls of a process return the same one.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Processes that run at once begin at different places.
    let first = std::process::id().wrapping_mul(7_919);
    let mut ports = (0..PORTS.len()).map(|_| {
        let number = first.wrapping_add(TAKEN.fetch_add(1, Relaxed)) % PORTS.len() as u32;
        PORTS.start + u16::try_from(number).unwrap()
    });
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("one of 20,000 ports is free")
}
