//! What the server writes to, and by what it knows that a stream lives.

use std::time::Instant;

use throughline::frame::{Attachment, Close, Frame, TransportKind};

use super::network::{LinkId, Network};

/// One response that can be written to, or one WebSocket.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) link: LinkId,
    pub(crate) kind: TransportKind,
    pub(crate) no: u64,
    pub(crate) response: u64,
    /// What is written to it is lost.
    pub(crate) deaf: bool,
    pub(crate) attachment: Attachment,
    pub(crate) proof: Proof,
}

/// By what a stream is known to live, reckoned anew here: the pong to its latest ping, once, and nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    pub(crate) at: Instant,
    pub(crate) pinged: u64,
    pub(crate) ponged: u64,
}

impl Proof {
    pub(crate) fn new(at: Instant) -> Self {
        Self { at, pinged: 0, ponged: 0 }
    }

    pub(crate) fn hear(&mut self, number: u64, now: Instant) {
        if number == self.pinged && number > self.ponged {
            (self.ponged, self.at) = (number, now);
        }
    }
}

impl Carrier {
    pub(crate) fn write(&self, net: &mut Network, frames: Vec<Frame>, refused: bool) {
        if self.deaf || (frames.is_empty() && self.kind != TransportKind::LongPolling) {
            return;
        }
        match self.kind {
            TransportKind::LongPolling => net.answer(self.link, self.no, frames, refused),
            _ => net.stream_down(self.link, self.response, frames),
        }
    }

    /// Ends it, with a last word or without.
    pub(crate) fn end(&self, net: &mut Network, close: Option<Close>) {
        let refused = close.is_some();
        self.write(net, close.map(Frame::Close).into_iter().collect(), refused);
        if self.kind != TransportKind::LongPolling && !self.deaf {
            net.end_down(self.link, self.response);
        }
    }
}
