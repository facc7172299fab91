//! A byte stream to a server, whatever lies below it: TCP, a tunnel, TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderValue;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::http2::Tasks;

/// Makes links to a server in place of TCP and proxies.
#[derive(Clone)]
pub(super) struct LinkSource(Arc<dyn Fn() -> Linking + Send + Sync>);

type Linking = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

impl LinkSource {
    pub(super) fn new<F, R, S>(connect: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(Arc::new(move || {
            let connecting = connect();
            Box::pin(async move { Ok(Link::new(connecting.await?, Protocol::Http1)) })
        }))
    }

    pub(super) fn connect(&self) -> Linking {
        (self.0)()
    }
}

/// A connection to a server, as hyper wants it.
pub(super) type Stream = TokioIo<Link>;

/// What a link is made of.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A byte stream to a server, and what was settled about it while it was made.
///
/// A virtual call per read and write is nothing beside the system call below it.
pub(super) struct Link {
    io: Box<dyn Io>,
    protocol: Protocol,
    forward: Option<Forward>,
    /// What else ends with it: dropped last.
    tasks: Option<Tasks>,
}

/// The HTTP that is spoken on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    /// TLS has negotiated it.
    #[cfg_attr(
        not(any(feature = "http2", feature = "tls")),
        expect(dead_code, reason = "only TLS negotiates")
    )]
    Http2,
}

/// A link to a proxy that is sent whole requests, in absolute form (RFC 9112, section 3.2.2).
#[derive(Clone, Debug)]
pub(super) struct Forward {
    /// Its host and port.
    pub(super) proxy: Arc<str>,
    /// What the proxy is to know its user by.
    pub(super) authorization: Option<HeaderValue>,
}

impl Link {
    pub(super) fn new(io: impl Io + 'static, protocol: Protocol) -> Self {
        Self { io: Box::new(io), protocol, forward: None, tasks: None }
    }

    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self::new(stream, Protocol::Http1)
    }

    /// The same, to a proxy that is sent whole requests.
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "only proxies need it"))]
    pub(super) fn forwarding(mut self, forward: Forward) -> Self {
        self.forward = Some(forward);
        self
    }

    /// The same, with tasks that end when it is dropped.
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "only HTTP/2 needs tasks"))]
    pub(super) fn owning(mut self, tasks: Tasks) -> Self {
        self.tasks = Some(tasks);
        self
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn forward(&self) -> Option<&Forward> {
        self.forward.as_ref()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("protocol", &self.protocol)
            .field("forwards", &self.forward.is_some())
            .field("owns_tasks", &self.tasks.is_some())
            .finish_non_exhaustive()
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.forward.is_some());
        match self.protocol {
            Protocol::Http1 => connected,
            Protocol::Http2 => connected.negotiated_h2(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
