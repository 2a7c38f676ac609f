//! Waiting for conditions, not for time.

use std::net::TcpListener;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks until `what` is there; panics when it is not there in time.
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

/// A port of this machine that nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
