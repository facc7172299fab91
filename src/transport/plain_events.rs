//! Server-sent events with nothing but payloads: for `curl -N` and a browser's own `EventSource`.
//!
//! It implements the writing side of `docs/PROTOCOL.md`, "Plain SSE". What it writes can be resumed by the
//! header `Last-Event-ID`, which a browser sends by itself.

use std::fmt;

use bytes::Bytes;

use crate::frame::event_stream::Writer;
use crate::frame::{Body, Frame, Seq};

/// Turns frames into events for clients without a library.
///
/// | frame | event |
/// |---|---|
/// | message | `id: <token>.<seq>`, `data:` the JSON text, or the base64 of a binary body |
/// | ping | a comment, `:` |
/// | close | `event: close`, `data:` code and reason |
/// | all others | none |
///
/// Before the first of these stands `id: <token>.<from>` without data, which an `EventSource` remembers without
/// telling the page, so that even a stream cut before its first message is resumed; on a stream that begins anew
/// because the old place is lost, an `event: lost` with empty data goes with it.
pub struct PlainEvents {
    /// The token and a full stop, before the number of each event.
    token: Box<str>,
    /// What stands before all else, until it was written.
    prelude: Option<Prelude>,
    writer: Writer,
    ping: Option<Option<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Prelude {
    from: Seq,
    lost: bool,
}

impl PlainEvents {
    /// A stream that begins behind message `from`, which is zero for a new one.
    ///
    /// The token is a secret.
    pub fn new(token: impl Into<String>, from: Seq) -> Self {
        let prelude = Some(Prelude { from, lost: false });
        let mut token = token.into();
        // What an id cannot bear.
        token.retain(|c| !matches!(c, '\0' | '\r' | '\n'));
        token.push('.');
        Self { token: token.into(), prelude, writer: Writer::new(), ping: None }
    }

    /// The same, telling the client that what it wanted to go on from is lost.
    #[must_use]
    pub fn lost(mut self) -> Self {
        self.prelude = self.prelude.map(|prelude| Prelude { lost: true, ..prelude });
        self
    }

    pub(super) fn push(&mut self, frame: &Frame) {
        if let Some(prelude) = self.prelude.take() {
            let (name, data) = if prelude.lost { (Some("lost"), Some("")) } else { (None, None) };
            self.writer.event(Some(&format!("{}{}", self.token, prelude.from)), name, data);
        }
        match frame {
            Frame::Message(message) => match &message.body {
                Body::Json(json) => self.writer.numbered(&self.token, message.seq.value(), json.as_str()),
                Body::Binary(bytes) => {
                    let text = data_encoding::BASE64.encode(bytes);
                    self.writer.numbered(&self.token, message.seq.value(), &text);
                }
            },
            Frame::Ping(number) => {
                self.writer.comment("");
                self.ping = Some(*number);
            }
            Frame::Close(close) => self.writer.event(None, Some("close"), Some(&close.to_string())),
            _ => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        self.writer.len()
    }

    /// Takes what is to be written now, if anything.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.writer.is_empty() { None } else { Some(self.writer.take()) }
    }

    /// Takes the latest ping that was written.
    pub(super) fn take_ping(&mut self) -> Option<Option<u64>> {
        self.ping.take()
    }

    pub(super) fn shrink(&mut self) {
        self.writer.shrink();
    }
}

/// Its token and what it holds are secret, so they are not shown.
impl fmt::Debug for PlainEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainEvents").field("bytes", &self.writer.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Close, CloseCode, Message, MessageKind};

    fn message(seq: u64, body: Body) -> Frame {
        Frame::Message(Message { seq: Seq::new(seq).unwrap(), kind: MessageKind::Plain, body })
    }

    fn written(events: &mut PlainEvents) -> String {
        String::from_utf8(events.take().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn the_place_comes_first_then_payloads_alone() {
        let mut events = PlainEvents::new("to\nken", Seq::ZERO);
        events.push(&Frame::AuthOk(0));
        assert_eq!(written(&mut events), "id: token.0\n\n");
        events.push(&message(1, Body::from("a")));
        events.push(&message(2, Body::from(vec![0, 1, 2])));
        events.push(&Frame::Ping(Some(7)));
        assert_eq!(written(&mut events), "id: token.1\ndata: \"a\"\n\nid: token.2\ndata: AAEC\n\n: \n\n");
        assert_eq!(events.take_ping(), Some(Some(7)));
        assert!(events.take().is_none());
        assert_eq!(events.len(), 0);
    }

    #[test]
    fn a_lost_place_is_told_by_an_event() {
        let mut events = PlainEvents::new("t", Seq::ZERO).lost();
        events.push(&message(1, Body::from("a")));
        assert_eq!(written(&mut events), "id: t.0\nevent: lost\ndata: \n\nid: t.1\ndata: \"a\"\n\n");
    }

    #[test]
    fn a_close_is_an_event_and_cannot_bring_fields_of_its_own() {
        let mut events = PlainEvents::new("t", Seq::new(5).unwrap());
        events.push(&Frame::Close(Close::new(CloseCode::Normal, "bye\nid: x")));
        assert_eq!(written(&mut events), "id: t.5\n\nevent: close\ndata: normal: bye\ndata: id: x\n\n");
    }
}
