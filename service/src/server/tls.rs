//! TLS for the clients of this crate.

/// Makes ring the TLS implementation of this process, unless it has one already. reqwest is built without one, and then
/// panics even for plain HTTP.
pub(super) fn choose_tls() {
    // An error means that the process has one already.
    _ = rustls::crypto::ring::default_provider().install_default();
}
