//! A server behind TLS, which says what it saw.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper::{Method, Request, Version};
use hyper_util::rt::TokioIo;
use throughline::server::Service;
use throughline::{Hub, Server, Socket};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;

/// A file of `tests/certificates`.
pub(crate) fn certificate(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "certificates", name].iter().collect()
}

/// The certificate of a name, and its key.
pub(crate) fn identity(name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(certificate(&format!("{name}.pem"))).unwrap();
    (
        chain.map(Result::unwrap).collect(),
        PrivateKeyDer::from_pem_file(certificate(&format!("{name}.key"))).unwrap(),
    )
}

/// Ends TLS with the certificate and key of a name, and agrees on one of these protocols.
pub(crate) fn acceptor(name: &str, alpn: &[&str]) -> TlsAcceptor {
    acceptor_for(name, alpn, WebPkiClientVerifier::no_client_auth())
}

/// The same, with a view on who the client is.
pub(crate) fn acceptor_for(name: &str, alpn: &[&str], clients: Arc<dyn ClientCertVerifier>) -> TlsAcceptor {
    let (chain, key) = identity(name);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers each message by itself.
pub(crate) fn echo() -> Server {
    let handler = async |mut socket: Socket, _: Hub| {
        while let Ok(message) = socket.recv().await {
            if socket.send(message.body).await.is_err() {
                return;
            }
        }
    };
    Server::builder().serve(handler).unwrap()
}

/// What a server is asked for over TLS.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    connections: AtomicUsize,
    open: watch::Sender<usize>,
    requests: Mutex<Vec<(Method, Version)>>,
}

/// A connection that is open; it is counted while this lives.
struct Open(Arc<Seen>);

impl Open {
    fn count(seen: &Arc<Seen>) -> Self {
        seen.open.send_modify(|open| *open += 1);
        Self(Arc::clone(seen))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// A server behind TLS; it ends when dropped.
pub(crate) struct Secure {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _accepting: JoinSet<()>,
}

impl Secure {
    /// With the certificate of a name; over HTTP/2 WebSockets are taken if `connect` says so.
    pub(crate) async fn new(name: &str, alpn: &[&str], connect: bool) -> Self {
        Self::serving(&echo(), name, alpn, connect).await
    }

    /// The same for any server.
    pub(crate) async fn serving(server: &Server, name: &str, alpn: &[&str], connect: bool) -> Self {
        Self::behind(acceptor(name, alpn), server, connect).await
    }

    /// The same behind any TLS.
    pub(crate) async fn behind(tls: TlsAcceptor, server: &Server, connect: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, tls, server.service(), connect, Arc::clone(&seen)));
        Self { address, seen, _accepting: accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/live", self.address.port())
    }

    /// How many connections came so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    /// Waits until nobody is connected.
    pub(crate) async fn alone(&self) {
        let mut open = self.seen.open.subscribe();
        open.wait_for(|open| *open == 0).await.unwrap();
    }

    /// What was asked for so far, and over which HTTP.
    pub(crate) fn requests(&self) -> Vec<(Method, Version)> {
        self.seen.requests.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, service: Service, connect: bool, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        seen.connections.fetch_add(1, SeqCst);
        let (tls, service, seen) = (tls.clone(), service.clone(), Arc::clone(&seen));
        connections.spawn(async move {
            let _open = Open::count(&seen);
            let Ok(stream) = tls.accept(stream).await else { return };
            let speaks_2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(move |request: Request<Incoming>| {
                seen.requests.lock().unwrap().push((request.method().clone(), request.version()));
                service.call(request)
            });
            if speaks_2 { two(stream, service, connect).await } else { one(stream, service).await }
        });
        while connections.try_join_next().is_some() {}
    }
}

type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

async fn one<S>(stream: Io, service: S)
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = hyper::Response<throughline::server::AnswerBody>,
            Error = Infallible,
        > + Send,
    S::Future: Send,
{
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.with_upgrades().await;
}

#[cfg(not(feature = "http2"))]
async fn two<S>(_: Io, _: S, _: bool) {}

#[cfg(feature = "http2")]
async fn two<S>(stream: Io, service: S, connect: bool)
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = hyper::Response<throughline::server::AnswerBody>,
            Error = Infallible,
        > + Send,
    S::Future: Send + 'static,
{
    let mut http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    if connect {
        http.enable_connect_protocol();
    }
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
