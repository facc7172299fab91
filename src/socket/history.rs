//! Which transports carried a session, or failed to, when, and why each ended.
//!
//! A session that one transport has carried from its begin keeps nothing but a time for this; what more there is to tell is
//! kept from the first change on, the newest only.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frame::{Attachment, TransportKind};

/// How many transports are remembered; one more drops the oldest.
const MAX_PASSAGES: usize = 32;

/// Messages, and the bytes of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// Their bodies.
    pub bytes: u64,
}

/// One transport of a session: that it carried it, or was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Passage {
    /// Its kind.
    pub transport: TransportKind,
    /// Its number; `None` when it never carried the session.
    pub attachment: Option<Attachment>,
    /// When it began to carry the session; of one that never did, when that was known.
    pub began: Instant,
    /// Client: how long before that it was dialled: what it took to be welcomed, or to fail.
    pub opening: Option<Duration>,
    /// How long after `began` it was proved to carry both ways. On a server that is when a receipt, a pong or a poll first
    /// shows that what goes down it arrives: where nothing is said, a heartbeat passes before one is due.
    pub proved_after: Option<Duration>,
    /// When and why it ended; `None` for the one that carries the session now.
    pub ended: Option<Ending>,
    /// What the application gave to be sent meanwhile.
    pub sent: Traffic,
    /// What the application was given meanwhile, the answers to its requests aside.
    pub received: Traffic,
}

/// The end of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ending {
    /// When.
    pub at: Instant,
    /// Why, in a word: the close code, or `ended` (the transport itself did), `superseded` (another took over), `silent`,
    /// `unproved`, `uplink_lost`, `no_welcome`, `gap`, `malformed`, `replaced` (by the same attachment's next),
    /// `failed` for what never opened, and `outrun` for what was tried beside another that was quicker.
    pub code: Arc<str>,
    /// Why, for people.
    pub text: Arc<str>,
}

/// In a line, for people and logs: what it was, how it went, and why it is over.
impl fmt::Display for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.transport)?;
        let begun = if self.attachment.is_some() { "carried the session after" } else { "tried for" };
        match self.opening {
            Some(opening) => write!(f, " {begun} {} ms", opening.as_millis())?,
            None if self.attachment.is_some() => f.write_str(" carried the session")?,
            None => f.write_str(" tried")?,
        }
        if let Some(proved) = self.proved_after {
            write!(f, ", proved {} ms later", proved.as_millis())?;
        }
        if let Some(ended) = &self.ended {
            if self.attachment.is_some() {
                let life = ended.at.saturating_duration_since(self.began);
                write!(f, ", for {} ms", life.as_millis())?;
            }
            write!(f, ": {} ({})", ended.text, ended.code)?;
        }
        Ok(())
    }
}

/// What was counted since the session began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    sent: u32,
    received: u32,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Counts {
    pub(super) fn count_sent(&mut self, messages: usize, bytes: u64) {
        self.sent = self.sent.wrapping_add(u32::try_from(messages).unwrap_or(u32::MAX));
        self.sent_bytes = self.sent_bytes.wrapping_add(bytes);
    }

    pub(super) fn count_received(&mut self, bytes: usize) {
        self.received = self.received.wrapping_add(1);
        self.received_bytes = self.received_bytes.wrapping_add(bytes as u64);
    }

    /// What was sent and received since an earlier count. It may have gone round once.
    fn since(self, earlier: Self) -> (Traffic, Traffic) {
        let traffic = |messages: u32, bytes| Traffic { messages: u64::from(messages), bytes };
        (
            traffic(self.sent.wrapping_sub(earlier.sent), self.sent_bytes.wrapping_sub(earlier.sent_bytes)),
            traffic(
                self.received.wrapping_sub(earlier.received),
                self.received_bytes.wrapping_sub(earlier.received_bytes),
            ),
        )
    }
}

/// The history of a session.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct History {
    /// First: it is all that a turn of the driver touches.
    pub(super) counts: Counts,
    /// Since when the first transport carries the session, while nothing else is to be told.
    fresh_since: Option<Instant>,
    /// After how many microseconds it was proved.
    fresh_proved: Option<u32>,
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    /// Oldest first; the last one may carry the session now.
    passages: VecDeque<Passage>,
    /// What was counted before the last one.
    before: Counts,
}

/// A text that may be a peer's, as it may stand in a log: control characters are escaped.
fn in_one_line(text: &str) -> Arc<str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect::<String>().into()
}

impl History {
    /// A transport carries the session from now on.
    pub(super) fn begin(&mut self, attachment: Attachment, transport: TransportKind, now: Instant) {
        if self.more.is_none() && self.fresh_since.is_none() && attachment == Attachment::FIRST {
            self.fresh_since = Some(now);
            return;
        }
        self.end(None, transport, now, "replaced", "the same attachment came by another transport");
        let counts = self.counts;
        let more = self.more.get_or_insert_default();
        more.before = counts;
        more.push(Passage::new(transport, Some(attachment), now));
    }

    /// What carries the session was proved.
    pub(super) fn prove(&mut self, attachment: Attachment, transport: TransportKind, now: Instant) {
        if let Some(since) = self.fresh_since.filter(|_| attachment == Attachment::FIRST) {
            let micros = now.saturating_duration_since(since).as_micros();
            self.fresh_proved.get_or_insert(u32::try_from(micros).unwrap_or(u32::MAX));
        } else if let Some(current) =
            self.current(transport).filter(|current| current.attachment == Some(attachment))
        {
            current.proved_after.get_or_insert(now.saturating_duration_since(current.began));
        }
    }

    /// What carries the session since just now was dialled so long ago.
    pub(super) fn opened(&mut self, attachment: Attachment, transport: TransportKind, opening: Duration) {
        let current = self.current(transport).filter(|current| current.attachment == Some(attachment));
        current.into_iter().for_each(|current| current.opening = Some(opening));
    }

    /// What carries the session, if it is this one or any, does so no more.
    pub(super) fn end(
        &mut self,
        attachment: Option<Attachment>,
        transport: TransportKind,
        now: Instant,
        code: &str,
        text: &str,
    ) {
        let counts = self.counts;
        let before = self.more.as_ref().map_or_else(Counts::default, |more| more.before);
        let ends = |current: &&mut Passage| attachment.is_none() || current.attachment == attachment;
        if let Some(current) = self.current(transport).filter(ends) {
            current.ended = Some(Ending { at: now, code: code.into(), text: in_one_line(text) });
            (current.sent, current.received) = counts.since(before);
        }
    }

    /// A transport was tried in vain, for so long.
    pub(super) fn fail(
        &mut self,
        transport: TransportKind,
        now: Instant,
        opening: Duration,
        code: &str,
        text: &str,
    ) {
        // What carries the session stands last.
        let current = self.current(transport).is_some();
        let more = self.more.get_or_insert_default();
        let mut failed = Passage::new(transport, None, now);
        failed.opening = Some(opening);
        failed.ended = Some(Ending { at: now, code: code.into(), text: in_one_line(text) });
        let carrier = if current { more.passages.pop_back() } else { None };
        more.push(failed);
        carrier.into_iter().for_each(|carrier| more.push(carrier));
    }

    /// All that is known; `transport` is what carries the session now.
    pub(super) fn all(&self, transport: Option<TransportKind>) -> Vec<Passage> {
        let fresh = self.fresh_since.zip(transport);
        let mut all: Vec<_> = match &self.more {
            Some(more) => more.passages.iter().cloned().collect(),
            None => Vec::from_iter(fresh.map(|(since, kind)| self.fresh(kind, since))),
        };
        if let Some(current) = all.last_mut().filter(|last| last.ended.is_none()) {
            let before = self.more.as_ref().map_or_else(Counts::default, |more| more.before);
            (current.sent, current.received) = self.counts.since(before);
        }
        all
    }

    /// The first transport, of which little is kept.
    fn fresh(&self, transport: TransportKind, since: Instant) -> Passage {
        let proved_after = self.fresh_proved.map(|micros| Duration::from_micros(u64::from(micros)));
        Passage { proved_after, ..Passage::new(transport, Some(Attachment::FIRST), since) }
    }

    /// What carries the session now; from here on it is told in full.
    fn current(&mut self, transport: TransportKind) -> Option<&mut Passage> {
        if let Some(since) = self.fresh_since.take() {
            let passage = self.fresh(transport, since);
            self.more.get_or_insert_default().push(passage);
        }
        self.more.as_mut()?.passages.back_mut().filter(|last| last.ended.is_none())
    }
}

impl More {
    fn push(&mut self, passage: Passage) {
        if self.passages.len() >= MAX_PASSAGES {
            self.passages.pop_front();
        }
        self.passages.push_back(passage);
    }
}

impl Passage {
    fn new(transport: TransportKind, attachment: Option<Attachment>, began: Instant) -> Self {
        let (sent, received) = (Traffic::default(), Traffic::default());
        let (opening, proved_after, ended) = (None, None, None);
        Self { transport, attachment, began, opening, proved_after, ended, sent, received }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TransportKind::{LongPolling, Sse, WebSocket};

    const SECOND: Duration = Duration::from_secs(1);

    fn second() -> Attachment {
        Attachment::FIRST.next().unwrap()
    }

    #[test]
    fn a_fresh_session_keeps_no_more_than_a_time() {
        let (mut history, now) = (History::default(), Instant::now());
        history.begin(Attachment::FIRST, WebSocket, now);
        history.prove(Attachment::FIRST, WebSocket, now + SECOND);
        history.counts.count_sent(2, 20);
        history.counts.count_received(5);
        assert!(history.more.is_none());
        let [passage] = &history.all(Some(WebSocket))[..] else { panic!("one passage") };
        assert_eq!((passage.began, passage.transport, &passage.ended), (now, WebSocket, &None));
        assert_eq!(passage.proved_after, Some(SECOND));
        assert_eq!((passage.sent.messages, passage.sent.bytes), (2, 20));
        assert_eq!((passage.received.messages, passage.received.bytes), (1, 5));
        // What the idle memory of a session has room for.
        assert!(size_of::<History>() <= 56, "{}", size_of::<History>());
    }

    #[test]
    fn each_transport_has_its_end_and_what_passed_meanwhile() {
        let (mut history, now) = (History::default(), Instant::now());
        history.begin(Attachment::FIRST, WebSocket, now);
        history.counts.count_sent(1, 10);
        history.end(Some(Attachment::FIRST), WebSocket, now + SECOND, "ended", "the transport ended");
        history.fail(Sse, now + SECOND, SECOND / 2, "failed", "refused");
        history.begin(second(), LongPolling, now + 2 * SECOND);
        history.opened(second(), LongPolling, SECOND / 4);
        history.prove(second(), LongPolling, now + 3 * SECOND);
        history.counts.count_sent(1, 7);
        let all = history.all(Some(LongPolling));
        let codes: Vec<_> = all.iter().map(|p| p.ended.as_ref().map(|e| e.code.to_string())).collect();
        assert_eq!(codes, [Some("ended".into()), Some("failed".into()), None]);
        assert_eq!(all.iter().map(|p| p.sent.bytes).collect::<Vec<_>>(), [10, 0, 7]);
        assert_eq!(all.iter().map(|p| p.attachment.is_some()).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(all[2].proved_after, Some(SECOND));
        let lines = [
            "websocket carried the session, for 1000 ms: the transport ended (ended)",
            "sse tried for 500 ms: refused (failed)",
            "long-polling carried the session after 250 ms, proved 1000 ms later",
        ];
        assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn the_newest_are_kept_and_what_carries_stands_last() {
        let (mut history, now) = (History::default(), Instant::now());
        history.begin(second(), WebSocket, now);
        for _ in 0..2 * MAX_PASSAGES {
            history.fail(Sse, now, SECOND, "failed", "refused");
        }
        let all = history.all(Some(WebSocket));
        assert_eq!(all.len(), MAX_PASSAGES);
        assert_eq!(all.last().map(|last| last.transport), Some(WebSocket));
    }

    #[test]
    fn what_a_peer_says_of_its_end_stays_in_one_line() {
        let (mut history, now) = (History::default(), Instant::now());
        history.begin(Attachment::FIRST, WebSocket, now);
        history.end(None, WebSocket, now, "normal", "bye\n\u{1b}[31m \"caf\u{e9}\"");
        let all = history.all(None);
        let text = &all[0].ended.as_ref().unwrap().text;
        assert_eq!(&**text, "bye\\n\\u{1b}[31m \"caf\u{e9}\"");
    }
}
