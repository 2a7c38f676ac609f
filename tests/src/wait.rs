//! Waits for conditions instead of sleeping.

use std::net::TcpListener;
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

/// Returns a port of this machine on which nobody listens at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
