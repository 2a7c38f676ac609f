//! TLS for every client of this process.

/// Makes ring the TLS implementation of this process, unless it has chosen one. Among all dependencies there may be two,
/// between which rustls does not choose but panics, and reqwest is built with none.
pub fn choose_tls() {
    // An error says that there is one already.
    _ = rustls::crypto::ring::default_provider().install_default();
}
