//! A peer that is let in, by whichever way: what it then does is its own affair.

use std::collections::VecDeque;

use bytes::Bytes;
use throughline::frame::event_stream::Parser;
use throughline::frame::{Batch, Close, Encoding, Frame, FrameStream, Limits, Role, TransportKind, Welcome};

use super::http::{Answer, Ask, Head, Wire};
use super::me::{Me, encode};
use super::stage::{Stage, within};
use super::ws::Ws;

/// How frames travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    WebSocket(Encoding),
    /// Server-sent events, with pushes in JSON.
    Events,
    /// A stream of binary frames, with pushes in binary.
    Frames,
    /// A stream of lines, with pushes in JSON.
    Lines,
    Polling(Encoding),
}

impl Way {
    pub(crate) const ALL: [Self; 7] = [
        Self::WebSocket(Encoding::Json),
        Self::WebSocket(Encoding::Binary),
        Self::Events,
        Self::Frames,
        Self::Lines,
        Self::Polling(Encoding::Json),
        Self::Polling(Encoding::Binary),
    ];

    pub(crate) fn encoding(self) -> Encoding {
        match self {
            Self::WebSocket(encoding) | Self::Polling(encoding) => encoding,
            Self::Events | Self::Lines => Encoding::Json,
            Self::Frames => Encoding::Binary,
        }
    }

    pub(crate) fn kind(self) -> TransportKind {
        match self {
            Self::WebSocket(_) => TransportKind::WebSocket,
            Self::Events | Self::Frames | Self::Lines => TransportKind::Sse,
            Self::Polling(_) => TransportKind::LongPolling,
        }
    }

    /// A request whose answer comes by this way.
    pub(crate) fn ask(self, body: Bytes) -> Ask {
        let accept = match self {
            Self::Events => "text/event-stream",
            Self::Frames | Self::Polling(Encoding::Binary) => "application/vnd.throughline",
            _ => "application/x-ndjson",
        };
        Ask::post(self.encoding(), body).header("accept", accept)
    }
}

/// How somebody was turned away, or turned out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) close: Close,
    /// The HTTP status, or the close code of the WebSocket less 4000.
    pub(crate) status: u16,
}

impl End {
    fn of_answer(answer: &Answer) -> Option<Self> {
        Some(Self { close: answer.close()?, status: answer.status() })
    }

    /// The code and the status, which must be the one of the code's row in the table.
    pub(crate) fn code(&self) -> &str {
        assert_eq!(self.status, self.close.code.http_status(), "{:?}", self.close);
        self.close.code.as_str()
    }
}

/// The downlink of a streamed response.
enum Decoder {
    Events(Box<Parser>),
    Frames(FrameStream),
    Lines(Vec<u8>),
}

enum Carrier {
    WebSocket(Ws),
    Stream { wire: Wire, decoder: Decoder, frames: VecDeque<Frame> },
    Polling { frames: VecDeque<Frame> },
}

pub(crate) struct Peer {
    pub(crate) me: Me,
    pub(crate) way: Way,
    pub(crate) welcome: Welcome,
    carrier: Carrier,
}

fn new_decoder(way: Way) -> Decoder {
    match way {
        Way::Events => Decoder::Events(Box::new(Parser::new(1 << 20, 2048))),
        Way::Frames => Decoder::Frames(FrameStream::new(Role::Server, Limits::default())),
        _ => Decoder::Lines(Vec::new()),
    }
}

fn decode(encoding: Encoding, bytes: Bytes) -> Vec<Frame> {
    let batch = Batch::new(bytes, encoding, Role::Server, Limits::default()).unwrap();
    batch.map(Result::unwrap).collect()
}

impl Decoder {
    fn feed(&mut self, chunk: Bytes, frames: &mut VecDeque<Frame>) {
        match self {
            Self::Events(parser) => {
                parser.feed(chunk);
                while let Some(event) = parser.next() {
                    frames.extend(decode(Encoding::Json, event.unwrap().data));
                }
            }
            Self::Frames(stream) => {
                stream.feed(&chunk);
                while let Some(frame) = stream.next() {
                    frames.push_back(frame.unwrap());
                }
            }
            Self::Lines(buffer) => {
                buffer.extend_from_slice(&chunk);
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    frames.extend(decode(Encoding::Json, Bytes::copy_from_slice(&line[..end])));
                }
            }
        }
    }
}

impl Peer {
    /// Comes in; fails the scene if it is not let in.
    pub(crate) async fn enter(stage: &Stage, way: Way) -> Self {
        Self::enter_as(stage, way, Me::new()).await
    }

    pub(crate) async fn enter_as(stage: &Stage, way: Way, me: Me) -> Self {
        let hello = me.hello_frame(way.kind());
        match Self::knock(stage, way, me, &[hello]).await {
            Ok(peer) => peer,
            Err(end) => panic!("{way:?} was not let in: {end:?}"),
        }
    }

    /// Says these frames first, whatever they are.
    pub(crate) async fn knock(stage: &Stage, way: Way, me: Me, frames: &[Frame]) -> Result<Self, End> {
        Self::knock_raw(stage, way, me, encode(way.encoding(), frames)).await
    }

    /// Says these bytes first.
    pub(crate) async fn knock_raw(stage: &Stage, way: Way, me: Me, batch: Bytes) -> Result<Self, End> {
        let knocking = async {
            let wire = stage.wire().await;
            match way {
                Way::WebSocket(encoding) => {
                    let mut ws = Ws::open(wire, encoding).await;
                    ws.batch(&batch).await;
                    Self::greet_websocket(ws, way, me).await
                }
                Way::Polling(_) => Self::greet_polling(wire, way, me, batch).await,
                _ => Self::greet_stream(wire, way, me, batch).await,
            }
        };
        within(&format!("an answer to hello by {way:?}"), knocking).await
    }

    pub(crate) async fn greet_websocket(mut ws: Ws, way: Way, me: Me) -> Result<Self, End> {
        match ws.try_frame().await {
            Ok(Frame::Welcome(welcome)) => Ok(Self::welcomed(me, way, *welcome, Carrier::WebSocket(ws))),
            Ok(Frame::Close(close)) => {
                let code = ws.ended().await.code.expect("a close code");
                Err(End { close, status: code - 4000 })
            }
            other => panic!("neither welcome nor close: {other:?}"),
        }
    }

    async fn greet_polling(mut wire: Wire, way: Way, me: Me, batch: Bytes) -> Result<Self, End> {
        let answer = wire.ask(&way.ask(batch)).await.expect("an answer");
        if let Some(end) = End::of_answer(&answer) {
            return Err(end);
        }
        let mut frames = VecDeque::from(answer.frames());
        match frames.pop_front() {
            Some(Frame::Welcome(welcome)) => {
                Ok(Self::welcomed(me, way, *welcome, Carrier::Polling { frames }))
            }
            other => panic!("neither welcome nor close: {other:?} in {}", answer.text()),
        }
    }

    async fn greet_stream(mut wire: Wire, way: Way, me: Me, batch: Bytes) -> Result<Self, End> {
        assert!(wire.write(&way.ask(batch).bytes()).await);
        let head = wire.head().await.expect("an answer");
        let (mut decoder, mut frames) = (new_decoder(way), VecDeque::new());
        let first = match Self::next_of(&mut wire, &mut decoder, &mut frames, &head).await {
            Some(frame) => frame,
            None => panic!("an answer without a frame: {head:?}"),
        };
        match first {
            Frame::Welcome(welcome) => {
                assert_eq!(head.status, 200);
                Ok(Self::welcomed(me, way, *welcome, Carrier::Stream { wire, decoder, frames }))
            }
            Frame::Close(close) => Err(End { close, status: head.status }),
            other => panic!("neither welcome nor close: {other:?}"),
        }
    }

    /// The next frame of a streamed response, or of a single answer in its place.
    async fn next_of(
        wire: &mut Wire,
        decoder: &mut Decoder,
        frames: &mut VecDeque<Frame>,
        head: &Head,
    ) -> Option<Frame> {
        if head.get("content-length").is_some() {
            let answer = Answer { head: head.clone(), body: wire.body(head).await };
            frames.extend(answer.frames());
        }
        while frames.is_empty() {
            decoder.feed(wire.chunk().await?, frames);
        }
        frames.pop_front()
    }

    fn welcomed(mut me: Me, way: Way, welcome: Welcome, carrier: Carrier) -> Self {
        assert_eq!((welcome.session, welcome.attachment.value()), (me.id, me.attachment));
        me.epoch = Some(welcome.epoch);
        Self { me, way, welcome, carrier }
    }

    pub(crate) fn ws(&mut self) -> &mut Ws {
        match &mut self.carrier {
            Carrier::WebSocket(ws) => ws,
            _ => panic!("not a WebSocket"),
        }
    }

    /// The connection of its downlink.
    pub(crate) fn wire(&mut self) -> &mut Wire {
        match &mut self.carrier {
            Carrier::WebSocket(ws) => &mut ws.wire,
            Carrier::Stream { wire, .. } => wire,
            Carrier::Polling { .. } => panic!("polls have no connection of their own"),
        }
    }

    /// Says these frames: in a message, or a push whose answer is returned.
    pub(crate) async fn say(&mut self, stage: &Stage, frames: &[Frame]) -> Option<Answer> {
        self.say_raw(stage, &encode(self.way.encoding(), frames)).await
    }

    /// Says these bytes as a batch, or behind a push.
    pub(crate) async fn say_raw(&mut self, stage: &Stage, batch: &[u8]) -> Option<Answer> {
        let encoding = self.way.encoding();
        if let Carrier::WebSocket(ws) = &mut self.carrier {
            ws.batch(batch).await;
            return None;
        }
        let mut body = encode(encoding, &[Frame::Push(Box::new(self.me.push()))]).to_vec();
        if encoding == Encoding::Json && !batch.is_empty() {
            body.push(b'\n');
        }
        body.extend_from_slice(batch);
        Some(stage.ask(&Ask::post(encoding, body.into())).await)
    }

    /// The next frame, or the status or close code with which it ended. A poll that brings nothing is followed by the next.
    pub(crate) async fn try_frame(&mut self, stage: &Stage) -> Result<Frame, Option<u16>> {
        let (way, me) = (self.way, &self.me);
        match &mut self.carrier {
            Carrier::WebSocket(ws) => ws.try_frame().await,
            Carrier::Stream { wire, decoder, frames } => {
                while frames.is_empty() {
                    match wire.chunk().await {
                        Some(chunk) => decoder.feed(chunk, frames),
                        None => return Err(None),
                    }
                }
                frames.pop_front().ok_or(None)
            }
            Carrier::Polling { frames } => {
                while frames.is_empty() {
                    let poll = Frame::Poll(Box::new(me.poll(20_000)));
                    let answer = stage.ask(&way.ask(encode(way.encoding(), &[poll]))).await;
                    frames.extend(answer.frames());
                    if answer.status() != 200 && frames.is_empty() {
                        return Err(Some(answer.status()));
                    }
                }
                frames.pop_front().ok_or(None)
            }
        }
    }

    /// The next message's body.
    pub(crate) async fn hear(&mut self, stage: &Stage) -> Bytes {
        let hearing = async {
            loop {
                match self.try_frame(stage).await {
                    Ok(Frame::Message(message)) if message.seq.value() == self.me.received + 1 => {
                        self.me.received += 1;
                        return message.body.as_bytes().clone();
                    }
                    Ok(Frame::Close(close)) => panic!("closed: {close}"),
                    Ok(_) => {}
                    Err(code) => panic!("ended with {code:?}"),
                }
            }
        };
        within("a message", hearing).await
    }

    /// Its session works: a message goes there and comes back.
    pub(crate) async fn check(&mut self, stage: &Stage) {
        let message = self.me.message("echo");
        if let Some(answer) = self.say(stage, &[message]).await {
            assert_eq!(answer.status(), 200, "{}", answer.text());
        }
        assert_eq!(self.hear(stage).await, "\"echo\"");
    }

    /// Says bytes that end the session, and returns how it was told so: by the answer to the push where there is
    /// one, and down its transport in any case.
    pub(crate) async fn offend(&mut self, stage: &Stage, batch: &[u8]) -> End {
        let answer = self.say_raw(stage, batch).await;
        let down = self.end(stage).await;
        match answer {
            None => down,
            Some(answer) => {
                let end = End::of_answer(&answer).unwrap_or_else(|| panic!("no close in {}", answer.text()));
                assert_eq!(end.close.code, down.close.code, "told otherwise down the transport");
                end
            }
        }
    }

    /// How its session ends, as its transport says.
    pub(crate) async fn end(&mut self, stage: &Stage) -> End {
        let ending = async {
            if let Carrier::WebSocket(ws) = &mut self.carrier {
                let ended = ws.ended().await;
                let close = ended.close.expect("a close in band");
                return End { close, status: ended.code.expect("a close code") - 4000 };
            }
            loop {
                match self.try_frame(stage).await {
                    Ok(Frame::Close(close)) => {
                        let status = close.code.http_status();
                        return End { close, status };
                    }
                    Ok(_) => {}
                    Err(status) => panic!("ended without a close: {status:?}"),
                }
            }
        };
        within("the end", ending).await
    }

    /// Comes back by another way, with the next attachment.
    pub(crate) async fn resume(mut self, stage: &Stage, way: Way) -> Self {
        self.me.attachment += 1;
        let me = self.me.clone();
        drop(self);
        let peer = Self::enter_as(stage, way, me).await;
        assert!(peer.welcome.resumed);
        peer
    }
}
