//! Requests made of arbitrary bytes: some are of this protocol, all can arrive.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri};
use throughline::frame::{
    Attachment, BatchWriter, Body, Encoding, Epoch, Frame, Hello, Message, MessageKind, Poll as PollFrame,
    Push, Role, Seq, SessionId, SessionKey, TransportKind, VERSION, Window,
};

use super::super::frames;

/// Somebody who asks, and what it knows of its session.
#[derive(Clone)]
pub(super) struct Me {
    pub(super) session: SessionId,
    pub(super) key: SessionKey,
    pub(super) epoch: Option<Epoch>,
    pub(super) sent: u64,
}

/// A body that comes in pieces, with pauses, and may break off.
pub(super) struct Pieces {
    pieces: VecDeque<Piece>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

pub(super) enum Piece {
    Bytes(Bytes),
    Pause(Duration),
    Break,
}

impl Pieces {
    pub(super) fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        Self { pieces: pieces.into_iter().collect(), pause: None }
    }
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

/// A request, and which of the people makes it.
pub(super) fn request(data: &mut Unstructured<'_>, people: &mut [Me]) -> Result<(usize, Request<Pieces>)> {
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
    Ok(Pieces::new(pieces))
}

/// Whether to go on: never once the bytes are used up.
fn more(data: &mut Unstructured<'_>, of: u8, all: u8) -> Result<bool> {
    Ok(!data.is_empty() && data.ratio(of, all)?)
}
