//! The service over HTTP/2, asked without the library's client: prior knowledge, no TLS.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::ext::Protocol;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use throughline::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::secure::echo;
use crate::support::within;

const URL: &str = "http://localhost/live";

const IDENTITY: &str = r#""session":"AAAAAAAAAAAAAAAAAAAAAA","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","attachment":1"#;

/// The first frame of a session on a transport.
fn hello(transport: &str) -> String {
    let rest = r#""received":0,"window":{"messages":100,"bytes":100000}"#;
    format!(r#"["hello",{{"version":1,{IDENTITY},"transport":"{transport}",{rest}}}]"#)
}

/// A client and a server with one connection between them.
struct Wire {
    sender: SendRequest<Full<Bytes>>,
    _tasks: JoinSet<()>,
}

impl Wire {
    async fn new(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, service) = (listener.accept().await.unwrap().0, server.service());
        client.set_nodelay(true).unwrap();
        accepted.set_nodelay(true).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http.enable_connect_protocol();
            let _ = http.serve_connection(TokioIo::new(accepted), service).await;
        });
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        Self { sender, _tasks: tasks }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        within(10, "an answer", self.sender.send_request(request)).await.unwrap()
    }

    async fn post(&mut self, accept: &str, body: String) -> Response<Incoming> {
        let request = Request::post(URL).header("accept", accept).header("content-type", "text/plain");
        self.send(request.body(Full::from(body)).unwrap()).await
    }

    async fn connect(&mut self, protocol: &'static str, version: &str) -> Response<Incoming> {
        let request = Request::builder().method(Method::CONNECT).uri(URL);
        let request = request.header("sec-websocket-version", version);
        let request = request.header("sec-websocket-protocol", "throughline.v1");
        let request = request.extension(Protocol::from_static(protocol));
        self.send(request.body(Full::default()).unwrap()).await
    }
}

/// Reads until a text has come.
async fn until(body: &mut Incoming, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let frame =
            within(10, text, body.frame()).await.unwrap_or_else(|| panic!("it ended: {read}")).unwrap();
        read.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    read
}

/// The epoch of a welcome, as it stands there.
fn epoch(welcome: &str) -> String {
    let (_, rest) = welcome.split_once(r#""epoch":"#).unwrap_or_else(|| panic!("{welcome}"));
    rest.chars().take_while(|c| !matches!(c, ',' | '}')).collect()
}

async fn text(answer: Response<Incoming>) -> String {
    let body = within(10, "the body", answer.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_websocket_is_opened_by_connect_and_carries_frames() {
    let mut wire = Wire::new(&echo()).await;
    let answer = wire.connect("websocket", "13").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers();
    assert_eq!(headers["sec-websocket-protocol"], "throughline.v1");
    for name in ["sec-websocket-accept", "connection", "upgrade"] {
        assert!(!headers.contains_key(name), "{name} is no header of HTTP/2's");
    }
    let mut io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let payload = format!("{}\n[\"msg\",1,\"hi\"]", hello("websocket"));
    let mut message = vec![0x81, 0x80 | 126];
    message.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    // A mask of zeros leaves the payload as it is.
    message.extend([0; 4]);
    message.extend(payload.bytes());
    io.write_all(&message).await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(r#"["msg",1,"hi"]"#) {
        assert_ne!(within(10, "the echo", io.read_buf(&mut read)).await.unwrap(), 0);
    }
    assert!(String::from_utf8_lossy(&read).contains(r#"["welcome","#));
}

#[tokio::test]
async fn a_stream_and_its_pushes_share_a_connection() {
    let mut wire = Wire::new(&echo()).await;
    let answer = wire.post("text/event-stream", hello("sse")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut stream = answer.into_body();
    let epoch = epoch(&until(&mut stream, "welcome").await);
    for number in 1..=20 {
        let push = format!("[\"push\",{{{IDENTITY},\"epoch\":{epoch}}}]\n[\"msg\",{number},\"hi {number}\"]");
        let answer = wire.post("application/x-ndjson", push).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(text(answer).await.contains(&format!("[\"ack\",{number}")));
        until(&mut stream, &format!("hi {number}")).await;
    }
}

#[tokio::test]
async fn a_poll_waits_beside_a_push_on_the_same_connection() {
    let mut wire = Wire::new(&echo()).await;
    let welcome = text(wire.post("application/x-ndjson", hello("long-polling")).await).await;
    let epoch = epoch(&welcome);
    for number in 1..=20 {
        let received = number - 1;
        let poll =
            format!("[\"poll\",{{{IDENTITY},\"epoch\":{epoch},\"received\":{received},\"hold_ms\":10000}}]");
        let mut other = Wire { sender: wire.sender.clone(), _tasks: JoinSet::new() };
        let polling = tokio::spawn(async move { text(other.post("application/x-ndjson", poll).await).await });
        let push = format!("[\"push\",{{{IDENTITY},\"epoch\":{epoch}}}]\n[\"msg\",{number},\"hi {number}\"]");
        assert_eq!(wire.post("application/x-ndjson", push).await.status(), StatusCode::OK);
        let polled = polling.await.unwrap();
        // The receipt may have been sent by itself.
        if !polled.contains(&format!("hi {number}")) {
            let again = format!(
                "[\"poll\",{{{IDENTITY},\"epoch\":{epoch},\"received\":{received},\"hold_ms\":10000}}]"
            );
            let again = text(wire.post("application/x-ndjson", again).await).await;
            assert!(again.contains(&format!("hi {number}")), "{polled} {again}");
        }
    }
}

#[tokio::test]
async fn what_is_no_websocket_of_version_13_is_not_opened() {
    let mut wire = Wire::new(&echo()).await;
    assert_eq!(wire.connect("websocket", "8").await.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(wire.connect("connect-udp", "13").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let foreign =
        Request::builder().method(Method::CONNECT).uri(URL).header("origin", "https://evil.example");
    let foreign = foreign.header("sec-websocket-version", "13").extension(Protocol::from_static("websocket"));
    let answer = wire.send(foreign.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}
