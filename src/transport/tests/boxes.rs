//! What boxes on the way do to pushes and polls: answers that are not the server's, limits, caches, cuts.

use super::*;

/// Answers `hello` properly, and all else with this.
struct Middlebox {
    inner: Direct,
    status: StatusCode,
    content_type: &'static str,
    body: &'static str,
    hello_too: bool,
}

#[async_trait]
impl Exchange for Middlebox {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        let body = request.clone().into_body().collect().await?.to_bytes();
        if !self.hello_too && body.starts_with(b"[\"hello\"") {
            return self.inner.exchange(request).await;
        }
        let body = Full::new(Bytes::from_static(self.body.as_bytes()));
        let response = Response::builder()
            .status(self.status)
            .header("content-type", self.content_type)
            .header("retry-after", "7");
        Ok(response.body(ExchangeBody::new(body.map_err(|never| match never {})))?)
    }
}

fn middlebox(
    status: u16,
    content_type: &'static str,
    body: &'static str,
    hello_too: bool,
) -> (Endpoint, mpsc::Receiver<Asked>) {
    let (to, asked) = mpsc::channel(8);
    let status = StatusCode::from_u16(status).unwrap();
    let exchange = Middlebox { inner: Direct(to), status, content_type, body, hello_too };
    (Endpoint::new(Arc::new(exchange), Uri::from_static("http://host/")), asked)
}

const STRANGE: [(u16, &str, &str); 6] = [
    (200, "text/html", "<h1>Log in to the hotel's network</h1>"),
    (200, "text/plain", "[\"ping\"]"),
    (503, "text/plain", "no healthy upstream"),
    (502, "application/x-ndjson", "{}"),
    (413, "application/vnd.throughline", "no frames"),
    (503, "application/x-ndjson", "[\"ping\"]"),
];

#[tokio::test]
async fn what_is_not_ours_ends_the_transport_with_status_and_retry_after() {
    for (status, content_type, body) in STRANGE {
        let (endpoint, _asked) = middlebox(status, content_type, body, true);
        let clients: [Box<dyn Transport>; 2] =
            [Box::new(Streaming::new(endpoint.clone())), Box::new(Polling::new(endpoint))];
        for mut client in clients {
            let greeting = hello(client.kind());
            feed(&mut client, &[greeting]).await;
            let Err(TransportError::Http { status: said, retry_after }) = recv(&mut client).await else {
                panic!("{status} {body}: no error of HTTP");
            };
            assert_eq!((said, retry_after), (status, Some(Duration::from_secs(7))));
            assert!(matches!(recv(&mut client).await, Err(TransportError::Ended)));
        }
    }
}

#[tokio::test]
async fn a_push_that_is_too_large_for_a_box_is_made_smaller_and_a_message_that_is_ends_the_transport() {
    let (status, content_type, body) = STRANGE.into_iter().find(|(status, ..)| *status == 413).unwrap();
    let (endpoint, mut asked) = middlebox(status, content_type, body, false);
    for attempt in 1..=6 {
        let mut client = Streaming::new(endpoint.clone());
        let _stream = greet(&mut client, &mut asked).await;
        if attempt == 1 {
            feed(&mut client, &[message(1, "a"), message(2, "b")]).await;
            assert!(matches!(received(&mut client).await, Received::PushRefused));
        }
        feed(&mut client, &[message(1, "a")]).await;
        assert!(!is_ready(&mut client).await);
        assert!(matches!(received(&mut client).await, Received::PushEnded { answered: false }));
        match (attempt, watchdog(recv(&mut client)).await) {
            (1..6, Err(TransportError::Http { status: 413, .. })) => {}
            (6, Ok(Received::Frame(Frame::Close(close)))) => assert_eq!(close.code, CloseCode::TooLarge),
            (attempt, other) => panic!("{attempt}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_push_that_is_not_answered_by_ours_ends_and_the_transport_lives_on() {
    for (status, content_type, body) in STRANGE.into_iter().filter(|(status, ..)| *status != 413) {
        let (endpoint, mut asked) = middlebox(status, content_type, body, false);
        let mut client = Streaming::new(endpoint);
        let mut stream = greet(&mut client, &mut asked).await;
        for _ in 0..2 {
            feed(&mut client, &[message(1, "a")]).await;
            assert!(matches!(received(&mut client).await, Received::PushEnded { answered: false }));
        }
        feed(&mut stream, &[message(1, "b")]).await;
        assert_eq!(recv_frame(&mut client).await, message(1, "b"));
    }
}

/// Fails all but the first request.
struct Cut(Direct, std::sync::atomic::AtomicBool);

#[async_trait]
impl Exchange for Cut {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        if self.1.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Err("cut".into());
        }
        self.0.exchange(request).await
    }
}

#[tokio::test]
async fn a_poll_that_is_cut_ends_the_transport_and_a_push_does_not() {
    let (to, mut asked) = mpsc::channel(8);
    let exchange = Arc::new(Cut(Direct(to), false.into()));
    let mut client = Polling::new(Endpoint::new(exchange, Uri::from_static("http://host/live?")));
    greet(&mut client, &mut asked).await;
    feed(&mut client, &[message(1, "a")]).await;
    assert!(matches!(received(&mut client).await, Received::PushEnded { answered: false }));
    feed(&mut client, &[poll_frame(0)]).await;
    assert!(matches!(recv(&mut client).await, Err(TransportError::Network(_))));
    assert!(poll_fn(|cx| client.poll_ready(cx)).await.is_err());
}

/// Answers everything as it answered the first request.
struct Cache(Direct, std::sync::Mutex<Option<Bytes>>);

#[async_trait]
impl Exchange for Cache {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        let kept = self.1.lock().unwrap().clone();
        let body = match kept {
            Some(body) => body,
            None => self.0.exchange(request).await?.into_body().collect().await?.to_bytes(),
        };
        *self.1.lock().unwrap() = Some(body.clone());
        let body = ExchangeBody::new(Full::new(body).map_err(|never| match never {}));
        Ok(Response::builder().header("content-type", media::LINES).body(body)?)
    }
}

#[tokio::test]
async fn a_cache_that_answers_pushes_and_polls_is_not_the_server() {
    let (to, mut asked) = mpsc::channel(8);
    let cache = Arc::new(Cache(Direct(to), std::sync::Mutex::default()));
    let mut client = Polling::new(Endpoint::new(cache, Uri::from_static("http://host/live?")));
    let greeting = hello(TransportKind::LongPolling);
    feed(&mut client, std::slice::from_ref(&greeting)).await;
    let answer = async {
        let mut request = asked.recv().await.unwrap();
        feed(&mut request.answer, &[welcome()]).await;
        close(&mut request.answer).await.unwrap();
    };
    let (frame, ()) = tokio::join!(async { watchdog(recv_frame(&mut client)).await }, answer);
    assert_eq!(frame, welcome());
    feed(&mut client, &[message(1, "a")]).await;
    assert!(matches!(received(&mut client).await, Received::PushEnded { answered: false }));
    feed(&mut client, &[poll_frame(0)]).await;
    assert!(matches!(watchdog(recv(&mut client)).await, Err(TransportError::Network(_))));
}

/// Turns so many requests down for want of room, `hello` excepted, and then passes them on.
struct NoRoom {
    inner: Direct,
    left: std::sync::atomic::AtomicUsize,
    status: u16,
    retry_after: &'static str,
}

#[async_trait]
impl Exchange for NoRoom {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<ExchangeBody>, BoxError> {
        use std::sync::atomic::Ordering::SeqCst;
        let body = request.clone().into_body().collect().await?.to_bytes();
        let less = |left: usize| left.checked_sub(1);
        if body.starts_with(b"[\"hello\"") || self.left.fetch_update(SeqCst, SeqCst, less).is_err() {
            return self.inner.exchange(request).await;
        }
        let body = ExchangeBody::new(Full::default().map_err(|never| match never {}));
        Ok(Response::builder().status(self.status).header("retry-after", self.retry_after).body(body)?)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_turned_down_for_now_is_asked_again() {
    for (status, times, retry_after, passes) in [
        (429, 4, "1", true),
        (429, 5, "0", false),
        (503, 3, "soon", true),
        (503, 4, "0", false),
        (503, 1, "2", false),
        (502, 1, "0", false),
    ] {
        let (to, mut asked) = mpsc::channel(8);
        let exchange = Arc::new(NoRoom { inner: Direct(to), left: times.into(), status, retry_after });
        let mut client = Polling::new(Endpoint::new(exchange, Uri::from_static("http://host/live?")));
        greet(&mut client, &mut asked).await;
        feed(&mut client, &[poll_frame(0)]).await;
        if passes {
            let answer = async {
                let mut poll = asked.recv().await.unwrap();
                feed(&mut poll.answer, &[Frame::Pong(None)]).await;
                close(&mut poll.answer).await.unwrap();
            };
            let (frame, ()) = tokio::join!(recv_frame(&mut client), answer);
            assert_eq!(frame, Frame::Pong(None));
        } else {
            let Err(TransportError::Http { status: said, .. }) = recv(&mut client).await else { panic!() };
            assert_eq!(said, status);
        }
    }
}
