//! Who a raw peer is, and the frames it would say if it kept to the protocol.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use throughline::Body;
use throughline::frame::{
    Ack, Attachment, BatchWriter, Encoding, Epoch, Frame, Hello, Json, Message, MessageKind, Poll, Push, Seq,
    SessionId, SessionKey, TransportKind, Window,
};

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

pub(crate) fn number(number: u64) -> Attachment {
    Attachment::new(number).unwrap()
}

/// The identity of a session as its client holds it.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    pub(crate) id: SessionId,
    pub(crate) key: SessionKey,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) attachment: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// What it says that it has taken, if not all.
    pub(crate) taken: Option<u64>,
    pub(crate) token: Option<&'static str>,
}

impl Me {
    /// Somebody nobody has seen before.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let [mut id, mut key] = [[0; 32]; 2];
        let next = NEXT.fetch_add(1, SeqCst).to_be_bytes();
        id[..8].copy_from_slice(&next);
        key[8..16].copy_from_slice(&next);
        key[31] = 7;
        let id = SessionId::from_bytes(id[..16].try_into().unwrap());
        let key = SessionKey::from_bytes(key);
        Self { id, key, epoch: None, attachment: 1, received: 0, sent: 0, taken: None, token: None }
    }

    pub(crate) fn hello(&self, transport: TransportKind) -> Hello {
        Hello {
            epoch: self.epoch,
            attachment: number(self.attachment),
            received: seq(self.received),
            taken: self.taken.map(seq),
            auth: self.token.map(|token| Json::of(token).unwrap()),
            ..Hello::new(self.id, self.key.clone(), transport, Window { messages: 64, bytes: 1 << 20 })
        }
    }

    pub(crate) fn hello_frame(&self, transport: TransportKind) -> Frame {
        Frame::Hello(Box::new(self.hello(transport)))
    }

    pub(crate) fn push(&self) -> Push {
        Push {
            session: self.id,
            key: self.key.clone(),
            epoch: self.epoch.unwrap_or(Epoch::from_bytes([0; 8])),
            attachment: number(self.attachment),
        }
    }

    pub(crate) fn poll(&self, hold_ms: u64) -> Poll {
        let Push { session, key, epoch, attachment } = self.push();
        Poll {
            session,
            key,
            epoch,
            attachment,
            received: seq(self.received),
            taken: self.taken.map(seq),
            hold_ms,
        }
    }

    /// The next message.
    pub(crate) fn message(&mut self, body: impl Into<Body>) -> Frame {
        self.sent += 1;
        message(self.sent, body)
    }
}

pub(crate) fn message(number: u64, body: impl Into<Body>) -> Frame {
    Frame::Message(Message { seq: seq(number), kind: MessageKind::Plain, body: body.into() })
}

pub(crate) fn ack(received: u64, taken: u64) -> Frame {
    Frame::Ack(Ack { received: seq(received), taken: seq(taken) })
}

pub(crate) fn encode(encoding: Encoding, frames: &[Frame]) -> Bytes {
    let mut writer = BatchWriter::new(encoding);
    frames.iter().for_each(|frame| writer.push(frame));
    writer.take()
}
