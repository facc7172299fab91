//! The client ends of SSE and long-polling against the server's end, by hand: over loopback, and without a
//! network where time is paused.

mod boxes;

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::testing::{
    feed, flush, has_received, hello, is_ready, message, recv, recv_frame, watchdog, welcome,
};
use super::*;
use crate::frame::{
    Ack, Attachment, Batch, Close, CloseCode, Encoding, Epoch, Limits, Poll as PollFrame, Role, Seq,
    SessionId, SessionKey,
};

/// A request as the test's server sees it, and what answers it.
struct Asked {
    uri: Uri,
    headers: HeaderMap,
    frames: Vec<Frame>,
    answer: ResponseTransport,
}

/// Answers a request the way a server would: the first frame says what it is.
async fn serve<B: HttpBody<Error: std::fmt::Debug>>(
    to: mpsc::Sender<Asked>,
    request: Request<B>,
) -> Response<ResponseBody> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let encoding = match media::content_type(&head.headers).as_str() {
        media::TEXT => Encoding::Json,
        media::BINARY => Encoding::Binary,
        other => panic!("a request of type {other}"),
    };
    let frames = Batch::new(body, encoding, Role::Client, Limits::default()).unwrap();
    let frames: Vec<_> = frames.map(Result::unwrap).collect();
    let form = match head.headers["accept"].to_str().unwrap() {
        media::EVENT_STREAM => Form::EventStream,
        media::BINARY => Form::Frames,
        media::LINES => Form::Lines,
        other => panic!("accepts {other}"),
    };
    let (kind, extent) = match &frames[0] {
        Frame::Hello(hello) if hello.transport == TransportKind::Sse => (TransportKind::Sse, Extent::Stream),
        _ => (TransportKind::LongPolling, Extent::Answer),
    };
    let content_type = form.content_type();
    let (answer, start) = response(kind, form, extent, Limits::default());
    to.send(Asked { uri: head.uri, headers: head.headers, frames, answer }).await.ok().unwrap();
    let start = start.await;
    let status = start.close.map_or(200, |close| close.code.http_status());
    Response::builder().status(status).header("content-type", content_type).body(start.body).unwrap()
}

/// Hands requests to the test without a network.
struct Direct(mpsc::Sender<Asked>);

#[async_trait]
impl Exchange for Direct {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        let response = serve(self.0.clone(), request).await;
        Ok(response.map(|body| ExchangeBody::new(body.map_err(|never| match never {}))))
    }
}

/// A plain HTTP client.
struct Hyper(Client<HttpConnector, Full<Bytes>>);

impl Hyper {
    fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

#[async_trait]
impl Exchange for Hyper {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        let response = self.0.request(request).await?;
        Ok(response.map(|body| ExchangeBody::new(body.map_err(BoxError::from))))
    }
}

/// An endpoint whose requests come out of the receiver, over loopback.
async fn loopback(encoding: Encoding) -> (Endpoint, mpsc::Receiver<Asked>) {
    let (to, asked) = mpsc::channel(8);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/live?tenant=7", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let to = to.clone();
            let service = service_fn(move |request| {
                let to = to.clone();
                async move { Ok::<_, Infallible>(serve(to, request).await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service),
            );
        }
    });
    (Endpoint::new(Arc::new(Hyper::new()), uri.parse().unwrap()).encoding(encoding), asked)
}

fn direct() -> (Endpoint, mpsc::Receiver<Asked>) {
    let (to, asked) = mpsc::channel(8);
    (Endpoint::new(Arc::new(Direct(to)), Uri::from_static("http://host/live")), asked)
}

fn poll_frame(received: u64) -> Frame {
    Frame::Poll(Box::new(PollFrame {
        session: SessionId::from_bytes([1; 16]),
        key: SessionKey::from_bytes([2; 32]),
        epoch: Epoch::from_bytes([3; 8]),
        attachment: Attachment::FIRST,
        received: Seq::new(received).unwrap(),
        taken: None,
        hold_ms: 10_000,
    }))
}

fn ack(received: u64) -> Frame {
    let received = Seq::new(received).unwrap();
    Frame::Ack(Ack { received, taken: received })
}

/// Waits for the next request while the transport is driven and brings nothing.
async fn next(asked: &mut mpsc::Receiver<Asked>, client: &mut impl Transport) -> Asked {
    watchdog(async {
        tokio::select! {
            request = asked.recv() => request.unwrap(),
            received = recv(client) => panic!("received {received:?}"),
        }
    })
    .await
}

/// Says `hello` and is welcomed.
async fn greet<T: Transport>(client: &mut T, asked: &mut mpsc::Receiver<Asked>) -> ResponseTransport {
    greet_after(Duration::ZERO, client, asked).await
}

/// The same, where the welcome takes so long.
async fn greet_after<T: Transport>(
    trip: Duration,
    client: &mut T,
    asked: &mut mpsc::Receiver<Asked>,
) -> ResponseTransport {
    let greeting = hello(client.kind());
    feed(client, std::slice::from_ref(&greeting)).await;
    let mut request = next(asked, client).await;
    assert_eq!(request.frames, [greeting]);
    tokio::time::sleep(trip).await;
    feed(&mut request.answer, &[welcome()]).await;
    assert_eq!(watchdog(recv_frame(client)).await, welcome());
    request.answer
}

async fn received(client: &mut impl Transport) -> Received {
    watchdog(recv(client)).await.unwrap()
}

async fn close(client: &mut impl Transport) -> Result<(), TransportError> {
    watchdog(poll_fn(|cx| client.poll_close(cx))).await
}

#[tokio::test]
async fn a_stream_opens_with_hello_and_goes_on_with_pushes_beside_it() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let (endpoint, mut asked) = loopback(encoding).await;
        let mut client = Streaming::new(endpoint);
        feed(&mut client, &[hello(TransportKind::Sse), message(1, "early")]).await;
        assert!(!is_ready(&mut client).await);
        let mut opening = next(&mut asked, &mut client).await;
        assert_eq!(opening.frames, [hello(TransportKind::Sse), message(1, "early")]);
        let query = format!("tenant=7&session={}", SessionId::from_bytes([1; 16]));
        assert_eq!(opening.uri.query(), Some(query.as_str()));
        feed(&mut opening.answer, &[welcome(), message(1, vec![7])]).await;
        assert!(!is_ready(&mut client).await);
        assert_eq!(watchdog(recv_frame(&mut client)).await, welcome());
        assert_eq!(watchdog(recv_frame(&mut client)).await, message(1, vec![7]));

        feed(&mut client, &[message(2, "a"), Frame::Ping(None)]).await;
        assert!(!is_ready(&mut client).await);
        let mut push = next(&mut asked, &mut client).await;
        let Frame::Push(head) = &push.frames[0] else { panic!("{:?}", push.frames) };
        assert_eq!((head.epoch, head.attachment), (Epoch::from_bytes([3; 8]), Attachment::FIRST));
        assert_eq!(head.key, SessionKey::from_bytes([2; 32]));
        assert_eq!(push.frames[1..], [message(2, "a"), Frame::Ping(None)]);
        assert_eq!(push.uri.query(), Some(query.as_str()));
        feed(&mut opening.answer, &[Frame::Pong(None)]).await;
        assert_eq!(watchdog(recv_frame(&mut client)).await, Frame::Pong(None));
        feed(&mut push.answer, &[ack(2)]).await;
        assert!(matches!(received(&mut client).await, Received::Answer(frame) if frame == ack(2)));
        assert!(!is_ready(&mut client).await);
        assert!(matches!(received(&mut client).await, Received::PushEnded { answered: true }));
        assert!(is_ready(&mut client).await);

        drop(client);
        assert!(matches!(watchdog(recv(&mut opening.answer)).await, Err(TransportError::Ended)));
    }
}

#[tokio::test]
async fn polls_are_held_and_pushes_go_beside_them() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let (endpoint, mut asked) = loopback(encoding).await;
        let mut client = Polling::new(endpoint);
        greet(&mut client, &mut asked).await;

        feed(&mut client, &[message(1, "a")]).await;
        assert!(!is_ready(&mut client).await);
        client.start_send(&poll_frame(0));
        flush(&mut client).await.unwrap();
        let one = next(&mut asked, &mut client).await;
        let other = next(&mut asked, &mut client).await;
        let push_is_first = matches!(one.frames[0], Frame::Push(_));
        let (mut push, mut poll) = if push_is_first { (one, other) } else { (other, one) };
        assert_eq!(push.frames[1..], [message(1, "a")]);
        assert_eq!(poll.frames, [poll_frame(0)]);

        feed(&mut push.answer, &[ack(1)]).await;
        assert!(matches!(received(&mut client).await, Received::Answer(frame) if frame == ack(1)));
        assert!(matches!(received(&mut client).await, Received::PushEnded { answered: true }));
        assert!(is_ready(&mut client).await);
        feed(&mut poll.answer, &[message(1, "b"), message(2, "c")]).await;
        assert_eq!(watchdog(recv_frame(&mut client)).await, message(1, "b"));
        assert_eq!(watchdog(recv_frame(&mut client)).await, message(2, "c"));
        assert!(matches!(received(&mut client).await, Received::PollEnded));

        feed(&mut client, &[poll_frame(2)]).await;
        let mut poll = next(&mut asked, &mut client).await;
        poll_fn(|cx| poll.answer.poll_close(cx)).await.unwrap();
        assert!(matches!(received(&mut client).await, Received::PollEnded));
    }
}

#[tokio::test]
async fn a_newer_poll_takes_the_place_of_the_older() {
    let (endpoint, mut asked) = loopback(Encoding::Json).await;
    let mut client = Polling::new(endpoint);
    greet(&mut client, &mut asked).await;
    feed(&mut client, &[poll_frame(0)]).await;
    let mut older = next(&mut asked, &mut client).await;
    feed(&mut client, &[poll_frame(1)]).await;
    let mut newer = next(&mut asked, &mut client).await;
    assert!(matches!(watchdog(recv(&mut older.answer)).await, Err(TransportError::Ended)));
    feed(&mut newer.answer, &[message(2, "b")]).await;
    assert_eq!(watchdog(recv_frame(&mut client)).await, message(2, "b"));
}

#[tokio::test]
async fn a_refusal_is_a_close_and_then_the_end() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let close = Frame::Close(Close::superseded(Attachment::FIRST));
        let (endpoint, mut asked) = loopback(encoding).await;
        let clients: [Box<dyn Transport>; 2] =
            [Box::new(Streaming::new(endpoint.clone())), Box::new(Polling::new(endpoint.clone()))];
        for mut client in clients {
            let greeting = hello(client.kind());
            feed(&mut client, &[greeting]).await;
            let mut request = next(&mut asked, &mut client).await;
            feed(&mut request.answer, std::slice::from_ref(&close)).await;
            drop(request);
            assert_eq!(watchdog(recv_frame(&mut client)).await, close);
            assert!(matches!(watchdog(recv(&mut client)).await, Err(TransportError::Ended)));
            assert!(flush(&mut client).await.is_err());
        }
        let mut client = Streaming::new(endpoint.clone());
        let _stream = greet(&mut client, &mut asked).await;
        feed(&mut client, &[message(1, "a")]).await;
        let mut push = next(&mut asked, &mut client).await;
        feed(&mut push.answer, std::slice::from_ref(&close)).await;
        assert!(matches!(received(&mut client).await, Received::Answer(frame) if frame == close));
        assert!(matches!(received(&mut client).await, Received::PushEnded { answered: true }));
        assert!(is_ready(&mut client).await);

        let mut client = Polling::new(endpoint);
        greet(&mut client, &mut asked).await;
        feed(&mut client, &[poll_frame(0)]).await;
        let mut poll = next(&mut asked, &mut client).await;
        feed(&mut poll.answer, std::slice::from_ref(&close)).await;
        assert_eq!(watchdog(recv_frame(&mut client)).await, close);
        assert!(matches!(watchdog(recv(&mut client)).await, Err(TransportError::Ended)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_unanswered_for_a_second_is_given_up() {
    let (endpoint, mut asked) = direct();
    let clients: [Box<dyn Transport>; 2] =
        [Box::new(Streaming::new(endpoint.clone())), Box::new(Polling::new(endpoint))];
    for mut client in clients {
        let mut stream = greet(&mut client, &mut asked).await;
        let begun = tokio::time::Instant::now();
        feed(&mut client, &[message(1, "a")]).await;
        let mut silent = next(&mut asked, &mut client).await;
        assert!(matches!(received(&mut client).await, Received::PushEnded { answered: false }));
        // A second, and what so few bytes take on a slow path.
        assert_eq!(begun.elapsed().as_secs(), 1);
        assert!(matches!(recv(&mut silent.answer).await, Err(TransportError::Ended)));
        // Nothing of it is left behind: the session decides anew what goes.
        feed(&mut client, &[message(1, "a"), message(2, "b")]).await;
        let again = next(&mut asked, &mut client).await;
        assert_eq!(again.frames[1..], [message(1, "a"), message(2, "b")]);
        if client.kind() == TransportKind::Sse {
            feed(&mut stream, &[Frame::Ping(None)]).await;
            assert_eq!(recv_frame(&mut client).await, Frame::Ping(None));
        }
    }
}

/// Three of the shorter of two round trips, where that is longer than 3 s: what took long alone had waited in a queue.
#[tokio::test(start_paused = true)]
async fn a_push_has_longer_where_a_round_trip_takes_seconds_but_not_for_one_that_waited() {
    let seconds = Duration::from_secs;
    for (trips, patience) in [(&[2, 2][..], 6), (&[2, 1], 3), (&[1, 7], 3)] {
        let (endpoint, mut asked) = direct();
        let [first, second] = [trips[0], trips[1]].map(seconds);
        greet_after(first, &mut Streaming::new(endpoint.clone()), &mut asked).await;
        let mut client = Streaming::new(endpoint);
        let _stream = greet_after(second, &mut client, &mut asked).await;
        let begun = tokio::time::Instant::now();
        feed(&mut client, &[message(1, "a")]).await;
        let _silent = next(&mut asked, &mut client).await;
        assert!(matches!(received(&mut client).await, Received::PushEnded { answered: false }));
        assert_eq!(begun.elapsed().as_secs(), patience, "{trips:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_to_send_is_woken_by_the_welcome_and_by_the_end_of_a_push() {
    let (endpoint, mut asked) = direct();
    let mut client = Streaming::new(endpoint);
    feed(&mut client, &[hello(TransportKind::Sse)]).await;
    let mut request = next(&mut asked, &mut client).await;
    let mut ready = woken();
    assert!(client.poll_ready(&mut ready.context()).is_pending());
    feed(&mut request.answer, &[welcome()]).await;
    recv_frame(&mut client).await;
    assert!(ready.was_woken());
    assert!(client.poll_ready(&mut ready.context()).is_ready());

    // The flush has whoever receives drive the push, though it was polled by another task.
    let mut reader = woken();
    assert!(client.poll_recv(&mut reader.context()).is_pending());
    feed(&mut client, &[message(1, "a")]).await;
    assert!(reader.was_woken());
    assert!(client.poll_ready(&mut ready.context()).is_pending());
    let mut push = next(&mut asked, &mut client).await;
    feed(&mut push.answer, &[ack(1)]).await;
    received(&mut client).await;
    received(&mut client).await;
    assert!(ready.was_woken());
}

#[derive(Default)]
struct Flag(std::sync::atomic::AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A waker that tells whether it was woken.
struct Woken(Arc<Flag>, Waker);

fn woken() -> Woken {
    let flag = Arc::new(Flag::default());
    Woken(Arc::clone(&flag), Waker::from(flag))
}

impl Woken {
    fn context(&mut self) -> Context<'_> {
        Context::from_waker(&self.1)
    }

    fn was_woken(&self) -> bool {
        self.0.0.swap(false, std::sync::atomic::Ordering::SeqCst)
    }
}

#[tokio::test]
async fn closing_pushes_what_was_fed_and_waits_for_the_answer() {
    let close_frame = Frame::Close(Close::new(CloseCode::Normal, ""));
    let (endpoint, mut asked) = loopback(Encoding::Binary).await;
    let clients: [Box<dyn Transport>; 2] =
        [Box::new(Streaming::new(endpoint.clone())), Box::new(Polling::new(endpoint))];
    for mut client in clients {
        let _stream = greet(&mut client, &mut asked).await;
        client.start_send(&close_frame);
        let answering = async {
            let mut push = asked.recv().await.unwrap();
            assert_eq!(&push.frames[1..], std::slice::from_ref(&close_frame));
            feed(&mut push.answer, &[ack(0)]).await;
        };
        let (closed, ()) = tokio::join!(close(&mut client), watchdog(answering));
        closed.unwrap();
        assert!(recv(&mut client).await.is_err());
    }
}

#[tokio::test]
async fn what_is_fed_before_hello_is_an_error_of_the_callers() {
    let (endpoint, _asked) = direct();
    let clients: [Box<dyn Transport>; 2] =
        [Box::new(Streaming::new(endpoint.clone())), Box::new(Polling::new(endpoint))];
    for mut client in clients {
        client.start_send(&Frame::Ping(None));
        assert!(matches!(flush(&mut client).await, Err(TransportError::NoHello)));
        assert!(flush(&mut client).await.is_err());
        assert!(recv(&mut client).await.is_err());
    }
}

#[tokio::test]
async fn no_transport_shows_what_it_holds() {
    let key = serde_json::to_value(SessionKey::from_bytes([2; 32])).unwrap();
    let shows = |debug: String| debug.contains(key.as_str().unwrap()) || debug.contains("AgIC");
    assert!(shows(format!("{key}")));
    let (near, _far) = tokio::io::duplex(1 << 16);
    let mut websocket = WebSocket::client(near, Encoding::Json, Limits::default()).await;
    websocket.start_send(&hello(TransportKind::WebSocket));
    let mut streaming = Streaming::new(direct().0);
    streaming.start_send(&hello(TransportKind::Sse));
    let mut polling = Polling::new(direct().0);
    polling.start_send(&hello(TransportKind::LongPolling));
    let limits = Limits::default();
    let form = Form::PlainEvents(PlainEvents::new("AgIC", Seq::ZERO));
    let (mut plain, head) = response(TransportKind::Sse, form, Extent::Stream, limits);
    feed(&mut plain, &[welcome()]).await;
    let all = format!("{websocket:?}{streaming:?}{polling:?}{plain:?}{:?}", head.await);
    assert!(!shows(all));
}

#[tokio::test]
async fn requests_bear_the_endpoints_headers_and_show_no_secret() {
    let (endpoint, mut asked) = direct();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer secret".parse().unwrap());
    let endpoint = endpoint.headers(headers);
    assert!(!format!("{endpoint:?}").contains("secret"));
    let mut client = Streaming::new(endpoint);
    feed(&mut client, &[hello(TransportKind::Sse)]).await;
    let request = next(&mut asked, &mut client).await;
    assert_eq!(request.headers["authorization"], "Bearer secret");
    assert_eq!(request.headers["content-type"], media::TEXT);
    assert_eq!(
        request.uri.to_string(),
        format!("http://host/live?session={}", SessionId::from_bytes([1; 16]))
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_begins_brings_nothing_and_no_push() {
    struct Silent;
    #[async_trait]
    impl Exchange for Silent {
        async fn exchange(&self, _: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
            pending().await
        }
    }
    let mut client = Streaming::new(Endpoint::new(Arc::new(Silent), Uri::from_static("http://host/")));
    feed(&mut client, &[hello(TransportKind::Sse)]).await;
    assert!(!has_received(&mut client).await);
    client.start_send(&message(1, "a"));
    flush(&mut client).await.unwrap();
    assert!(close(&mut client).await.is_err());
}
