//! A proxy as offices have them: tunnels, whole requests, SOCKS 5, with or without a user, and what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// `me:secret`, which is asked for where somebody is.
const BASIC: &str = "Basic bWU6c2VjcmV0";

/// The rules of an office.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Who asks must be `me`, with the password `secret`.
    pub wants_user: bool,
    /// Tunnels are refused.
    pub no_tunnels: bool,
    /// Clients speak TLS with the proxy.
    pub tls: bool,
}

/// What a proxy was asked, in its own words: `CONNECT host:port`, `POST http://…`, `socks host:port`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn any(&self, part: &str) -> bool {
        self.all().iter().any(|asked| asked.contains(part))
    }
}

/// A proxy on a free port of the loopback; it ends when dropped. Every name leads to the loopback.
pub(crate) struct Office {
    pub address: SocketAddr,
    pub asked: Asked,
    _accepting: JoinSet<()>,
}

impl Office {
    pub(crate) async fn new(rules: Rules) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), rules)
    }

    pub(crate) fn on(listener: TcpListener, rules: Rules) -> Self {
        let (address, asked) = (listener.local_addr().unwrap(), Asked::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, rules, asked.clone()));
        Self { address, asked, _accepting: accepting }
    }

    /// Its URL, with a scheme and a user.
    pub(crate) fn url(&self, scheme: &str, user: &str) -> String {
        format!("{scheme}://{user}localhost:{}", self.address.port())
    }
}

async fn accept(listener: TcpListener, rules: Rules, asked: Asked) {
    let mut connections = JoinSet::new();
    let tls: Option<TlsAcceptor> = rules.tls.then(|| crate::secure::acceptor("server", &[]));
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let (tls, asked) = (tls.clone(), asked.clone());
        connections.spawn(async move {
            let mut first = [0];
            if let Some(tls) = tls {
                if let Ok(stream) = tls.accept(stream).await {
                    http(stream, rules, asked).await;
                }
            } else if stream.peek(&mut first).await.is_ok_and(|count| count == 1 && first == [5]) {
                let _ = socks(stream, rules, asked).await;
            } else {
                http(stream, rules, asked).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

fn empty(status: u16) -> Response<Body> {
    let body = Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

async fn http(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, rules: Rules, asked: Asked) {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let service = service_fn(move |request| {
        let (client, asked) = (client.clone(), asked.clone());
        async move { Ok::<_, Infallible>(answer(request, rules, client, asked).await) }
    });
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

async fn answer(
    mut request: Request<Incoming>,
    rules: Rules,
    client: Client<HttpConnector, Incoming>,
    asked: Asked,
) -> Response<Body> {
    asked.note(format!("{} {}", request.method(), request.uri()));
    let user = request.headers_mut().remove(PROXY_AUTHORIZATION);
    if rules.wants_user && user.is_none_or(|user| user.as_bytes() != BASIC.as_bytes()) {
        let mut answer = empty(407);
        answer.headers_mut().insert(PROXY_AUTHENTICATE, "Basic realm=\"the office\"".parse().unwrap());
        return answer;
    }
    if request.method() != Method::CONNECT {
        return match client.request(request).await {
            Ok(answer) => answer.map(|body| body.boxed_unsync()),
            Err(_) => empty(502),
        };
    }
    if rules.no_tunnels {
        return empty(403);
    }
    let port = request.uri().port_u16().unwrap();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return empty(503) };
    tokio::spawn(async move {
        let Ok(client) = hyper::upgrade::on(request).await else { return };
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut server).await;
    });
    empty(200)
}

async fn socks(mut client: TcpStream, rules: Rules, asked: Asked) -> std::io::Result<()> {
    client.read_u8().await?;
    let mut methods = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut methods).await?;
    let wanted = if rules.wants_user { 2 } else { 0 };
    if !methods.contains(&wanted) {
        asked.note("socks without a user".to_owned());
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, wanted]).await?;
    if rules.wants_user {
        let mut told = vec![client.read_u8().await?];
        for _ in 0..2 {
            let mut part = vec![0; usize::from(client.read_u8().await?)];
            client.read_exact(&mut part).await?;
            told.push(b':');
            told.extend(part);
        }
        let fits = told == b"\x01:me:secret";
        client.write_all(&[1, u8::from(!fits)]).await?;
        if !fits {
            return Ok(());
        }
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    let length = match head[3] {
        1 => 4,
        4 => 16,
        _ => usize::from(client.read_u8().await?),
    };
    let mut address = vec![0; length];
    client.read_exact(&mut address).await?;
    let port = client.read_u16().await?;
    let host =
        if head[3] == 3 { String::from_utf8_lossy(&address).into_owned() } else { format!("{address:?}") };
    asked.note(format!("socks {host}:{port}"));
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}
