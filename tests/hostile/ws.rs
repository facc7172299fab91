//! WebSocket (RFC 6455) by hand.

use bytes::{Buf as _, Bytes};
use throughline::frame::{Batch, Close, Encoding, Frame, Limits, Role};

use super::http::{Ask, Head, Wire};
use super::me::encode;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A masked frame of a client's.
pub(crate) fn fragment(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![opcode | if last { 0x80 } else { 0 }];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The request that opens a WebSocket.
pub(crate) fn upgrade() -> Ask {
    Ask::new("GET")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "throughline.v1")
}

/// What a WebSocket brings.
#[derive(Debug)]
pub(crate) enum Event {
    Message(u8, Bytes),
    Ping,
    Pong(Bytes),
    /// Its close code, if it has one.
    Close(Option<u16>),
    /// The connection has ended.
    End,
}

pub(crate) struct Ws {
    pub(crate) wire: Wire,
    encoding: Encoding,
    /// Frames that came with the last one that was looked at.
    frames: std::collections::VecDeque<Frame>,
}

/// How a WebSocket ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What was said in band.
    pub(crate) close: Option<Close>,
    /// The close code of the WebSocket.
    pub(crate) code: Option<u16>,
}

impl Ws {
    /// Opens a WebSocket on a fresh connection; the head, if that is not how it is answered.
    pub(crate) async fn try_open(mut wire: Wire, ask: &Ask, encoding: Encoding) -> Result<Self, Head> {
        assert!(wire.write(&ask.bytes()).await);
        let head = wire.head().await.expect("an answer to the opening handshake");
        if head.status != 101 {
            return Err(head);
        }
        assert_eq!(head.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(head.get("sec-websocket-protocol"), Some("throughline.v1"));
        Ok(Self { wire, encoding, frames: std::collections::VecDeque::new() })
    }

    pub(crate) async fn open(wire: Wire, encoding: Encoding) -> Self {
        Self::try_open(wire, &upgrade(), encoding).await.unwrap_or_else(|head| panic!("not opened: {head:?}"))
    }

    /// The opcode of a batch.
    pub(crate) fn opcode(&self) -> u8 {
        match self.encoding {
            Encoding::Json => TEXT,
            Encoding::Binary => BINARY,
        }
    }

    /// Sends bytes as one WebSocket message. False: nobody takes them.
    pub(crate) async fn raw(&mut self, opcode: u8, payload: &[u8]) -> bool {
        self.wire.write(&fragment(opcode, true, payload)).await
    }

    /// Sends bytes as one batch.
    pub(crate) async fn batch(&mut self, payload: &[u8]) -> bool {
        self.raw(self.opcode(), payload).await
    }

    pub(crate) async fn say(&mut self, frames: &[Frame]) -> bool {
        let batch = encode(self.encoding, frames);
        self.batch(&batch).await
    }

    async fn more(&mut self, count: usize) -> bool {
        while self.wire.came.len() < count {
            if !self.wire.fill().await {
                return false;
            }
        }
        true
    }

    async fn piece(&mut self) -> Option<(u8, bool, Bytes)> {
        if !self.more(2).await {
            return None;
        }
        let (first, second) = (self.wire.came[0], self.wire.came[1]);
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        assert_eq!(first & 0x70, 0, "no extension was agreed");
        let (head, length) = match second {
            126 => {
                self.more(4).await.then_some(())?;
                (4, usize::from(u16::from_be_bytes([self.wire.came[2], self.wire.came[3]])))
            }
            127 => {
                self.more(10).await.then_some(())?;
                (10, u64::from_be_bytes(self.wire.came[2..10].try_into().unwrap()) as usize)
            }
            short => (2, usize::from(short)),
        };
        self.more(head + length).await.then_some(())?;
        self.wire.came.advance(head);
        Some((first & 0x0f, first & 0x80 != 0, self.wire.came.split_to(length).freeze()))
    }

    /// The next thing that comes.
    pub(crate) async fn event(&mut self) -> Event {
        let Some((opcode, mut last, payload)) = self.piece().await else { return Event::End };
        match opcode {
            CLOSE if payload.len() >= 2 => {
                return Event::Close(Some(u16::from_be_bytes([payload[0], payload[1]])));
            }
            CLOSE => return Event::Close(None),
            PING => return Event::Ping,
            PONG => return Event::Pong(payload),
            _ => {}
        }
        let mut message = payload.to_vec();
        while !last {
            let Some((CONTINUATION, end, more)) = self.piece().await else { return Event::End };
            message.extend_from_slice(&more);
            last = end;
        }
        Event::Message(opcode, message.into())
    }

    /// The next frame; none once the WebSocket is closed.
    pub(crate) async fn try_frame(&mut self) -> Result<Frame, Option<u16>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(frame);
            }
            match self.event().await {
                Event::Message(opcode, bytes) => {
                    assert_eq!(opcode, self.opcode(), "the server speaks as it was spoken to");
                    let batch = Batch::new(bytes, self.encoding, Role::Server, Limits::default()).unwrap();
                    self.frames.extend(batch.map(Result::unwrap));
                }
                Event::Ping | Event::Pong(_) => {}
                Event::Close(code) => return Err(code),
                Event::End => return Err(None),
            }
        }
    }

    /// The next frame that is asked for.
    pub(crate) async fn hear<T>(&mut self, mut pick: impl FnMut(Frame) -> Option<T>) -> T {
        loop {
            match self.try_frame().await {
                Ok(frame) => {
                    if let Some(picked) = pick(frame) {
                        return picked;
                    }
                }
                Err(code) => panic!("closed with {code:?}"),
            }
        }
    }

    /// How it ends.
    pub(crate) async fn ended(&mut self) -> Ended {
        let mut close = None;
        loop {
            match self.try_frame().await {
                Ok(Frame::Close(said)) => close = Some(said),
                Ok(_) => {}
                Err(code) => {
                    self.raw(CLOSE, &code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec())).await;
                    return Ended { close, code };
                }
            }
        }
    }
}
