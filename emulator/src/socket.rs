//! A client's socket, which acknowledges data at once and rewrites frames.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::frames::{Incoming, Outgoing, Passed};

/// Bytes that may wait to be written before the library has to wait, too.
const MOST_WAITING: usize = 256 << 10;
/// Bytes to read at a time.
const READ_BYTES: usize = 16 << 10;
/// Longest time that the end of a session waits for the answers to its `detach` frames, and how often they are looked for.
const END_WAITS: Duration = Duration::from_secs(1);
const END_CHECK: Duration = Duration::from_millis(1);

/// A client's socket that acknowledges data as soon as it is read, and carries frames as official clients expect them.
///
/// The official client leaves Nagle's algorithm on, so each small frame waits until the one before is acknowledged. The
/// kernel delays that acknowledgement by some 40 ms if it has nothing to send. Every opening would take three such
/// waits, and reading would take one for each refill of link credit.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    socket: TcpStream,
    incoming: Incoming,
    /// Bytes for the library.
    read: BytesMut,
    /// Since when the end of a session waits, and the next look.
    end_waits: Option<(Instant, Pin<Box<Sleep>>)>,
    outgoing: Outgoing,
    /// Bytes for the socket.
    waiting: BytesMut,
    /// Whether the client has sent anything.
    heard: bool,
}

impl ClientSocket {
    /// Wraps a socket on which nothing has been read or written.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            incoming: Incoming::default(),
            read: BytesMut::new(),
            end_waits: None,
            outgoing: Outgoing::default(),
            waiting: BytesMut::new(),
            heard: false,
        }
    }

    /// Reads from the socket itself.
    fn poll_socket(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if buffer.filled().len() > before {
            // The kernel resets this option on its own (tcp(7)), so every read sets it. Without it, everything works
            // but slower.
            #[cfg(target_os = "linux")]
            let _ = self.socket.set_quickack(true);
            if !self.heard {
                self.heard = true;
                // The rest follows with the library's next flush.
                let _ = self.poll_waiting(context)?;
            }
        }
        read
    }

    /// Waits a moment for the answers to `detach` frames.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (since, next) = self
            .end_waits
            .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(END_CHECK))));
        ready!(next.as_mut().poll(context));
        next.as_mut().reset(Instant::now() + END_CHECK);
        if since.elapsed() > END_WAITS {
            self.incoming.give_up();
        }
        Poll::Ready(())
    }

    /// Writes what waits.
    ///
    /// The client speaks first, as with the service; the library would send its header at once. The Python client, once
    /// connected, writes back the segment size that it reads. Any packet may raise the size above what may be written.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.heard {
            return Poll::Ready(Ok(()));
        }
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let passed = this.incoming.pass(&this.outgoing, &mut this.read);
            if !this.read.is_empty() {
                let bytes = this.read.len().min(buffer.remaining());
                buffer.put_slice(&this.read.split_to(bytes));
                return Poll::Ready(Ok(()));
            }
            match passed {
                Passed::UpToEnd => ready!(this.poll_end(context)),
                Passed::All => {
                    this.end_waits = None;
                    let mut bytes = [0; READ_BYTES];
                    let mut bytes = ReadBuf::new(&mut bytes);
                    ready!(this.poll_socket(context, &mut bytes))?;
                    if bytes.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    this.incoming.push(bytes.filled());
                }
            }
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.waiting.len() >= MOST_WAITING {
            ready!(this.poll_waiting(context))?;
        }
        this.outgoing.push(bytes, &mut this.waiting);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
