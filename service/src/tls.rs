//! TLS for the clients of this crate.

/// Makes ring the TLS implementation of this process, unless it has one already. (reqwest is built with none and panics
/// without, even where it speaks plain HTTP.)
pub(crate) fn choose_tls() {
    // An error says that there is one already.
    _ = rustls::crypto::ring::default_provider().install_default();
}
