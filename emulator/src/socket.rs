//! A client's socket that acknowledges data at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A client's socket that acknowledges data as soon as it is read.
///
/// The official client leaves Nagle's algorithm on, so each small frame waits until the one before is acknowledged. The
/// kernel delays that acknowledgement by some 40 ms if it has nothing to send. Every opening would take three such
/// waits, and reading would take one for each refill of link credit.
#[derive(Debug)]
pub(crate) struct PromptSocket(pub(crate) TcpStream);

impl AsyncRead for PromptSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        // The kernel resets this option on its own (tcp(7)), so every read sets it. Without it, everything works but
        // slower.
        #[cfg(target_os = "linux")]
        let _ = self.0.set_quickack(true);
        read
    }
}

impl AsyncWrite for PromptSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
