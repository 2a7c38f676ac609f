//! The TLS implementation that every client in this process uses.

/// Makes ring the TLS implementation of this process, unless it has one already.
///
/// The dependencies may bring two implementations, and rustls panics rather than choose one. reqwest is built without
/// any.
pub fn choose_tls() {
    // An error means that the process has one already.
    _ = rustls::crypto::ring::default_provider().install_default();
}
