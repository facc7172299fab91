//! Any sequence of requests to the service, in paused time and without a socket.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri};
use http_body::Body as _;
use throughline::frame::{
    Attachment, BatchWriter, Body, Encoding, Epoch, Frame, Hello, Limits, Message, MessageKind,
    Poll as PollFrame, Push, Role, Seq, SessionId, SessionKey, TransportKind, VERSION, Window,
};
use throughline::server::{Attempt, Denied, Grant};
use throughline::{Hub, Server, Socket};
use tokio::task::JoinHandle;
use tower_service::Service as _;

use super::frames;

const MAX_SESSIONS: usize = 6;
const PLACES: usize = 4;
const BODY_DEADLINE: Duration = Duration::from_secs(2);

/// Longer than all that a session waits for, one thing after the other.
const WINDOWS: Duration = Duration::from_secs(60);

/// What an answer may say: the statuses of the table of close codes, and those of HTTP itself.
const STATUSES: [u16; 19] =
    [200, 204, 400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 415, 421, 426, 429, 500, 501, 503];

thread_local! {
    /// Panics of this thread: those of tasks would go unseen.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

/// Somebody who asks, and what it knows of its session.
#[derive(Clone)]
struct Me {
    session: SessionId,
    key: SessionKey,
    epoch: Option<Epoch>,
    sent: u64,
}

type People = Arc<Mutex<Vec<Me>>>;

/// A body that comes in pieces, with pauses, and may break off.
struct Pieces {
    pieces: VecDeque<Piece>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

enum Piece {
    Bytes(Bytes),
    Pause(Duration),
    Break,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<http_body::Frame<Bytes>, &'static str>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.pieces.pop_front() {
                Some(Piece::Bytes(bytes)) => return Poll::Ready(Some(Ok(http_body::Frame::data(bytes)))),
                Some(Piece::Pause(time)) => self.pause = Some(Box::pin(tokio::time::sleep(time))),
                Some(Piece::Break) => return Poll::Ready(Some(Err("broken off"))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Any requests, some of them of this protocol: nothing panics, every answer has a status of ours, sessions stay
/// within their number, and when all have gone nothing is left.
pub fn http_request(data: &[u8]) {
    watch_panics();
    PANICS.set(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let world = World::new();
        // When the bytes are used up the play is over.
        let _ = world.play(&mut Unstructured::new(data)).await;
    });
    drop(runtime);
    assert_eq!(PANICS.get(), 0, "a task panicked");
}

struct World {
    server: Server,
    handlers: Arc<AtomicUsize>,
    people: People,
}

async fn echo(mut socket: Socket, running: Arc<AtomicUsize>) {
    while let Ok(message) = socket.recv().await {
        let order = message.body.to::<String>().unwrap_or_default();
        match order.as_str() {
            "leave" => break,
            "sleep" => drop(socket.closed().await),
            _ if socket.send(message.body).await.is_err() => break,
            _ => {}
        }
    }
    running.fetch_sub(1, SeqCst);
}

impl World {
    fn new() -> Self {
        let handlers = Arc::new(AtomicUsize::new(0));
        let running = Arc::clone(&handlers);
        let limits = Limits { max_message_bytes: 1024, max_batch_bytes: 8192, max_batch_frames: 16 };
        let server = Server::builder()
            .limits(limits)
            .window(Window { messages: 64, bytes: 64 << 10 })
            .send_buffer(Window { messages: 16, bytes: 8 << 10 })
            .send_patience(Duration::from_secs(3))
            .max_sessions(MAX_SESSIONS)
            .max_ended(64)
            .max_unattached(PLACES)
            .heartbeat(Duration::from_secs(1))
            .resume_window(Duration::from_secs(5))
            .max_hold(Duration::from_secs(2))
            .body_deadline(BODY_DEADLINE)
            .auth_deadline(Duration::from_secs(2))
            .allow_origin("https://app.example")
            .authenticator(|attempt: &Attempt<'_>| {
                let token = attempt.auth().and_then(|auth| auth.to::<String>().ok()).unwrap_or_default();
                async move {
                    match token.as_str() {
                        "no" => Err(Denied::Unauthorized("no".into())),
                        "never" => std::future::pending().await,
                        "slow" => {
                            tokio::time::sleep(Duration::from_millis(500)).await;
                            Ok(Grant::anonymous())
                        }
                        "short" => Ok(Grant::anonymous().expires_in(Duration::from_millis(700))),
                        "alice" => Ok(Grant::to("alice")),
                        _ => Ok(Grant::anonymous()),
                    }
                }
            })
            .serve(move |socket: Socket, _: Hub| {
                running.fetch_add(1, SeqCst);
                echo(socket, Arc::clone(&running))
            });
        let server = server.unwrap_or_else(|error| unreachable!("{error}"));
        let people = (1..=4).map(|index| Me {
            session: SessionId::from_bytes([index; 16]),
            key: SessionKey::from_bytes([index; 32]),
            epoch: None,
            sent: 0,
        });
        Self { server, handlers, people: Arc::new(Mutex::new(people.collect())) }
    }

    async fn play(&self, data: &mut Unstructured<'_>) -> Result<()> {
        let mut open: VecDeque<(Method, JoinHandle<()>)> = VecDeque::new();
        let mut steps = 0;
        while !data.is_empty() && steps < 48 {
            steps += 1;
            match data.int_in_range(0..=7)? {
                0 => tokio::time::sleep(Duration::from_millis(data.int_in_range(0..=4000)?)).await,
                1 if !open.is_empty() => {
                    let at = data.choose_index(open.len())?;
                    if let Some((_, gone)) = open.remove(at) {
                        gone.abort();
                    }
                }
                _ => {
                    let Ok((who, request)) = self.request(data) else { break };
                    open.push_back((request.method().clone(), self.ask(who, request)));
                }
            }
            tokio::task::yield_now().await;
            assert!(self.server.sessions() <= MAX_SESSIONS, "{} sessions", self.server.sessions());
        }
        // Either all have hung up, or all is answered; only a plain stream of events goes on while somebody reads.
        let hung_up = data.arbitrary().unwrap_or(false);
        if !hung_up {
            tokio::time::sleep(WINDOWS).await;
        }
        for (method, answer) in open {
            assert!(hung_up || method == Method::GET || answer.is_finished(), "an answer that never ends");
            answer.abort();
            if let Err(error) = answer.await {
                assert!(error.is_cancelled(), "{error}");
            }
        }
        tokio::time::sleep(WINDOWS).await;
        self.check_empty().await;
        Ok(())
    }

    async fn check_empty(&self) {
        assert_eq!(self.server.sessions(), 0, "sessions are left");
        assert_eq!(self.handlers.load(SeqCst), 0, "handlers are left");
        // Every place is free.
        let waiting: Vec<_> = (0..PLACES)
            .map(|_| {
                let pieces = VecDeque::from([Piece::Pause(BODY_DEADLINE * 2)]);
                let mut request = Request::new(Pieces { pieces, pause: None });
                *request.method_mut() = Method::POST;
                let answering = self.server.service().call(request);
                tokio::spawn(async move {
                    let Ok(answer) = answering.await;
                    answer.status().as_u16()
                })
            })
            .collect();
        for status in waiting {
            assert_eq!(status.await.unwrap_or(0), 408, "a place is not given back");
        }
    }

    /// Asks, reads the whole answer, and learns of it.
    fn ask(&self, who: usize, request: Request<Pieces>) -> JoinHandle<()> {
        let (mut service, people) = (self.server.service(), Arc::clone(&self.people));
        tokio::spawn(async move {
            let Ok(answer) = service.call(request).await;
            let (head, body) = answer.into_parts();
            assert!(STATUSES.contains(&head.status.as_u16()), "{}", head.status);
            let mut body = std::pin::pin!(body);
            while let Some(piece) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                let Ok(piece) = piece;
                if let Ok(bytes) = piece.into_data() {
                    learn(&people, who, &bytes);
                }
            }
        })
    }

    fn request(&self, data: &mut Unstructured<'_>) -> Result<(usize, Request<Pieces>)> {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let who = data.choose_index(people.len())?;
        let mut me = people[who].clone();
        let encoding = if data.ratio(1, 3)? { Encoding::Binary } else { Encoding::Json };
        let methods = [Method::POST, Method::GET, Method::OPTIONS, Method::HEAD, Method::PUT];
        let method = if data.ratio(7, 8)? { Method::POST } else { data.choose(&methods)?.clone() };
        let bytes = match data.int_in_range(0..=9)? {
            0 => Bytes::copy_from_slice(data.arbitrary::<&[u8]>()?),
            1 => Bytes::new(),
            _ => batch(data, &mut me, encoding)?,
        };
        people[who].sent = me.sent;
        let uri = match data.int_in_range(0..=7)? {
            0 => format!("/live?session={}", me.session),
            1 => "/?session=AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            2 => "/?plain&session".to_owned(),
            _ => "/live".to_owned(),
        };
        let mut request = Request::new(pieces(data, bytes)?);
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse::<Uri>().unwrap_or_default();
        let media = match encoding {
            Encoding::Json => "text/plain",
            Encoding::Binary => "application/vnd.throughline",
        };
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static(media));
        headers.insert("host", HeaderValue::from_static("live.example"));
        while more(data, 1, 3)? {
            let (name, value) = *data.choose(&HEADERS)?;
            let value = HeaderValue::from_static(value);
            if data.ratio(1, 4)? {
                headers.append(name, value);
            } else {
                headers.insert(name, value);
            }
        }
        if data.ratio(1, 16)? {
            if let Ok(value) = HeaderValue::from_bytes(data.arbitrary()?) {
                headers.insert(data.choose(&HEADERS)?.0, value);
            }
        }
        Ok((who, request))
    }
}

const HEADERS: [(&str, &str); 28] = [
    ("accept", "text/event-stream"),
    ("accept", "application/vnd.throughline"),
    ("accept", "application/x-ndjson"),
    ("accept", "*/*"),
    ("accept", "image/png"),
    ("accept", "text/event-stream;q=0"),
    ("content-type", "application/x-ndjson"),
    ("content-type", "application/vnd.throughline"),
    ("content-type", "text/plain;charset=utf-8"),
    ("content-type", "application/json"),
    ("origin", "https://app.example"),
    ("origin", "http://live.example"),
    ("origin", "https://evil.example"),
    ("origin", "null"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-site", "cross-site"),
    ("cookie", "a=b"),
    ("authorization", "Basic dTpw"),
    ("last-event-id", ""),
    ("last-event-id", "17"),
    ("last-event-id", "AQEBAQEBAQEBAQEBAQEBAQ.AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE.1"),
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "throughline.v1"),
    ("x-forwarded-host", "live.example"),
    ("access-control-request-method", "POST"),
];

/// Remembers the epoch that a welcome tells.
fn learn(people: &People, who: usize, bytes: &[u8]) {
    const BEFORE: &[u8] = b"\"epoch\":\"";
    let Some(at) = bytes.windows(BEFORE.len()).position(|window| window == BEFORE) else { return };
    let text = bytes.get(at + BEFORE.len()..).and_then(|rest| rest.get(..11));
    let epoch = text.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
    if let (Some(epoch), Some(me)) =
        (epoch, people.lock().unwrap_or_else(PoisonError::into_inner).get_mut(who))
    {
        me.epoch = Some(epoch);
    }
}

/// A batch that begins as a request does, mostly.
fn batch(data: &mut Unstructured<'_>, me: &mut Me, encoding: Encoding) -> Result<Bytes> {
    if data.ratio(1, 8)? {
        me.epoch = None;
    }
    let attachment = Attachment::new(data.int_in_range(1..=6)?).unwrap_or(Attachment::FIRST);
    let epoch = me.epoch.unwrap_or(Epoch::from_bytes([0; 8]));
    let (session, key) = (me.session, me.key.clone());
    let received = Seq::new(data.int_in_range(0..=2)?).unwrap_or(Seq::ZERO);
    let mut writer = BatchWriter::new(encoding);
    writer.push(&match data.int_in_range(0..=9)? {
        0..=3 => Frame::Hello(Box::new(Hello {
            version: VERSION,
            session,
            key,
            epoch: me.epoch,
            attachment,
            transport: *data.choose(&TransportKind::ALL)?,
            received: if data.ratio(3, 4)? { Seq::ZERO } else { received },
            taken: None,
            window: Window { messages: data.int_in_range(0..=9)?, bytes: data.int_in_range(0..=9000)? },
            candidate: data.ratio(1, 3)?,
            auth: match data.int_in_range(0..=15)? {
                0 => token("no"),
                1 => token("never"),
                2 => token("slow"),
                3 => token("short"),
                4 => token("alice"),
                _ => None,
            },
            client: None,
        })),
        4..=5 => {
            let hold_ms = data.int_in_range(0..=4000)?;
            Frame::Poll(Box::new(PollFrame {
                session,
                key,
                epoch,
                attachment,
                received,
                taken: None,
                hold_ms,
            }))
        }
        6..=8 => Frame::Push(Box::new(Push { session, key, epoch, attachment })),
        _ => frames::frame(data, Role::Client)?,
    });
    while more(data, 1, 2)? {
        let frame = match data.int_in_range(0..=3)? {
            0 => frames::frame(data, Role::Client)?,
            _ => {
                me.sent += 1;
                let words = ["leave", "sleep", "echo", "echo", "echo", "echo"];
                let body = if data.ratio(1, 8)? {
                    Body::from(vec![0; data.int_in_range(0..=1100)?])
                } else {
                    Body::from(*data.choose(&words)?)
                };
                let seq = Seq::new(me.sent).unwrap_or(Seq::MAX);
                Frame::Message(Message { seq, kind: MessageKind::Plain, body })
            }
        };
        writer.push(&frame);
    }
    let mut bytes = writer.take().to_vec();
    if data.ratio(1, 8)? && !bytes.is_empty() {
        let at = data.choose_index(bytes.len())?;
        if data.arbitrary()? { bytes.truncate(at) } else { bytes[at] ^= data.arbitrary::<u8>()? }
    }
    Ok(bytes.into())
}

fn token(word: &str) -> Option<throughline::frame::Json> {
    throughline::frame::Json::of(word).ok()
}

fn pieces(data: &mut Unstructured<'_>, mut bytes: Bytes) -> Result<Pieces> {
    let mut pieces = VecDeque::new();
    while more(data, 1, 8)? && !bytes.is_empty() {
        pieces.push_back(Piece::Bytes(bytes.split_to(data.choose_index(bytes.len())?)));
        match data.int_in_range(0..=7)? {
            0 => pieces.push_back(Piece::Break),
            1 => pieces.push_back(Piece::Pause(Duration::from_millis(data.int_in_range(1..=3000)?))),
            _ => {}
        }
    }
    pieces.push_back(Piece::Bytes(bytes));
    Ok(Pieces { pieces, pause: None })
}

/// Whether to go on: never once the bytes are used up.
fn more(data: &mut Unstructured<'_>, of: u8, all: u8) -> Result<bool> {
    Ok(!data.is_empty() && data.ratio(of, all)?)
}
