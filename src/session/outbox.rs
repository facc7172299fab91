//! The send buffer: numbers messages, keeps them until acknowledged, replays them, stays within bounds.

use std::collections::VecDeque;

use crate::frame::{Ack, Body, Frame, Message, MessageKind, Seq, Window};

use super::event::{Ticket, Undelivered};

/// A message that was accepted and is not acknowledged.
#[derive(Debug)]
struct Held {
    ticket: Ticket,
    /// Always [`Frame::Message`], so that it can be lent to a transport; numbered when first lent.
    frame: Frame,
}

impl Held {
    fn size(&self) -> u64 {
        match &self.frame {
            Frame::Message(message) => message.body.len() as u64,
            _ => 0,
        }
    }
}

/// What is rarely touched stands last.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Outbox {
    /// First the numbered ones, oldest first, then those never put on a transport.
    queue: VecDeque<Held>,
    /// How many of `queue` are numbered.
    numbered: usize,
    /// Which of `queue` is next on the transport that carries now.
    cursor: usize,
    /// All up to here was received by the peer.
    acked: Seq,
    /// All up to here was taken by the peer's application.
    taken: Seq,
    /// Bytes of all after `taken` that are numbered.
    outstanding: u64,
    /// Bytes in `queue`.
    bytes: u64,
    /// How much the peer holds for its application.
    window: Window,
    last_ticket: u64,
    acked_ticket: u64,
    /// The latest message for whose receipt somebody waits.
    awaited: u64,
    /// Up to where the peer was asked what it has received.
    asked: Seq,
    /// Sizes of the messages after `taken` up to `acked`: no longer held, still counted by the window.
    untaken: VecDeque<u64>,
}

/// An acknowledgement of what was never sent, or one whose parts contradict each other.
#[derive(Debug)]
pub(super) struct WrongAck;

impl Outbox {
    pub(super) fn new(window: Window) -> Self {
        Self {
            queue: VecDeque::new(),
            numbered: 0,
            cursor: 0,
            acked: Seq::ZERO,
            taken: Seq::ZERO,
            untaken: VecDeque::new(),
            outstanding: 0,
            bytes: 0,
            window,
            last_ticket: 0,
            acked_ticket: 0,
            awaited: 0,
            asked: Seq::ZERO,
        }
    }

    pub(super) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    pub(super) fn acked(&self) -> Seq {
        self.acked
    }

    pub(super) fn acked_ticket(&self) -> Ticket {
        Ticket(self.acked_ticket)
    }

    /// The highest number given.
    pub(super) fn sent(&self) -> Seq {
        Seq::new(self.acked.value().saturating_add(self.numbered as u64)).unwrap_or(Seq::MAX)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether all that is held was put on the transport that carries now.
    pub(super) fn is_handed_over(&self) -> bool {
        self.cursor == self.queue.len()
    }

    pub(super) fn fits(&self, size: u64, bound: Window) -> bool {
        self.queue.is_empty()
            || (self.queue.len() < bound.messages as usize && self.bytes.saturating_add(size) <= bound.bytes)
    }

    pub(super) fn push(&mut self, kind: MessageKind, body: Body) -> Ticket {
        self.last_ticket = self.last_ticket.saturating_add(1);
        let ticket = Ticket(self.last_ticket);
        let held = Held { ticket, frame: Frame::Message(Message { seq: Seq::ZERO, kind, body }) };
        self.bytes = self.bytes.saturating_add(held.size());
        self.queue.push_back(held);
        ticket
    }

    /// Numbers the newest message at once, though no transport has taken it yet: for a peer that gives no
    /// receipts, whose gaps must show in the numbers.
    pub(super) fn number_newest(&mut self) {
        while self.numbered < self.queue.len() && self.number().is_some() {}
    }

    /// Drops the oldest messages until all fits: for a peer that gives no receipts.
    pub(super) fn drop_oldest(&mut self, bound: Window) {
        while self.queue.len() > 1 && (self.queue.len() > bound.messages as usize || self.bytes > bound.bytes)
        {
            let ack =
                Ack { received: Seq::new(self.acked.value() + 1).unwrap_or(Seq::MAX), taken: self.taken };
            if self.acknowledge(Ack { taken: ack.received, ..ack }).is_err() {
                return;
            }
        }
    }

    fn window_allows(&self, size: u64) -> bool {
        let count = self.sent().since(self.taken);
        count == 0
            || (count < u64::from(self.window.messages)
                && self.outstanding.saturating_add(size) <= self.window.bytes)
    }

    /// Whether `next` would lend a message.
    pub(super) fn has_next(&self) -> bool {
        match self.queue.get(self.cursor) {
            None => false,
            Some(_) if self.cursor < self.numbered => true,
            Some(held) => self.window_allows(held.size()) && self.sent() < Seq::MAX,
        }
    }

    /// Whether the peer's window has no room for the next message.
    pub(super) fn is_held_back(&self) -> bool {
        !self.is_handed_over() && !self.has_next()
    }

    /// Numbers the first message that has no number yet.
    fn number(&mut self) -> Option<()> {
        let seq = self.sent().next()?;
        let held = self.queue.get_mut(self.numbered)?;
        if let Frame::Message(message) = &mut held.frame {
            message.seq = seq;
        }
        let size = held.size();
        self.numbered += 1;
        self.outstanding = self.outstanding.saturating_add(size);
        Some(())
    }

    /// Lends the next message for the transport that carries, and the ticket and number that it has just
    /// been given if it had none.
    pub(super) fn next(&mut self) -> Option<(&Frame, Option<(Ticket, Seq)>)> {
        if !self.has_next() {
            return None;
        }
        let fresh = self.cursor == self.numbered;
        if fresh {
            self.number()?;
        }
        let held = self.queue.get(self.cursor)?;
        self.cursor += 1;
        let named = match &held.frame {
            Frame::Message(message) if fresh => Some((held.ticket, message.seq)),
            _ => None,
        };
        Some((&held.frame, named))
    }

    /// Whether the transport that carries was given anything that is not acknowledged.
    pub(super) fn is_advanced(&self) -> bool {
        self.cursor > 0
    }

    /// Whether the transport that carries was given as many unacknowledged messages, or bytes of them.
    pub(super) fn has_given(&self, messages: usize, bytes: u64) -> bool {
        self.cursor >= messages
            || self.queue.iter().take(self.cursor).map(Held::size).fold(0, u64::saturating_add) >= bytes
    }

    #[inline]
    pub(super) fn next_size(&self) -> u64 {
        self.queue.get(self.cursor).map_or(0, Held::size)
    }

    /// Whether with the next message it would have been given more than so many bytes.
    pub(super) fn would_exceed(&self, bytes: u64) -> bool {
        let sizes = self.queue.iter().take(self.cursor.saturating_add(1)).map(Held::size);
        sizes.fold(0, u64::saturating_add) > bytes
    }

    /// Bytes that were put on a transport and not taken.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Begins again at the oldest unacknowledged message.
    pub(super) fn rewind(&mut self) {
        self.cursor = 0;
        self.asked = Seq::ZERO;
    }

    /// Notes that somebody waits for a receipt.
    pub(super) fn await_receipt(&mut self, ticket: Ticket) {
        self.awaited = self.awaited.max(ticket.0);
    }

    /// Whether to ask the peer what it has received: because somebody waits for that, or half of what may be held is,
    /// and all of it was sent. Not again before what was asked about is acknowledged.
    #[inline]
    pub(super) fn is_asking(&self, closing: bool, bound: Window) -> bool {
        if self.cursor == 0 || self.asked > self.acked {
            return false;
        }
        let full = || {
            let messages = self.queue.len().saturating_mul(2) >= bound.messages as usize;
            self.is_handed_over() && (messages || self.bytes.saturating_mul(2) >= bound.bytes)
        };
        closing || self.awaited > self.acked_ticket || full()
    }

    /// Notes that the peer was asked about all that was put on the transport that carries now. More may have been sent before,
    /// on others: of that this one brings no receipt yet.
    pub(super) fn note_asked(&mut self) {
        let given = self.acked.value().saturating_add(self.cursor as u64);
        self.asked = Seq::new(given).unwrap_or(Seq::MAX);
    }

    /// Whether a receipt says more than those before.
    pub(super) fn is_news(&self, ack: Ack) -> bool {
        ack.received > self.acked || ack.taken > self.taken
    }

    /// Takes a receipt. Receipts never go back: an older one changes nothing.
    pub(super) fn acknowledge(&mut self, ack: Ack) -> Result<(), WrongAck> {
        if ack.received > self.sent() || ack.taken > ack.received {
            return Err(WrongAck);
        }
        // First what was acknowledged before and is taken now.
        while self.taken < ack.taken {
            let (Some(size), Some(next)) = (self.untaken.pop_front(), self.taken.next()) else { break };
            self.taken = next;
            self.outstanding = self.outstanding.saturating_sub(size);
        }
        while self.acked < ack.received {
            let (Some(held), Some(next)) = (self.queue.pop_front(), self.acked.next()) else {
                return Err(WrongAck);
            };
            let size = held.size();
            self.acked = next;
            self.acked_ticket = held.ticket.0;
            self.numbered -= 1;
            self.cursor = self.cursor.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(size);
            // Mostly what is received is taken, too, and need not wait for that.
            if next <= ack.taken {
                self.taken = next;
                self.outstanding = self.outstanding.saturating_sub(size);
            } else {
                self.untaken.push_back(size);
            }
        }
        Ok(())
    }

    /// Takes everything that was accepted and is not acknowledged, oldest first.
    pub(super) fn drain(&mut self) -> Vec<Undelivered> {
        (self.numbered, self.cursor, self.bytes) = (0, 0, 0);
        let held = std::mem::take(&mut self.queue);
        held.into_iter()
            .filter_map(|held| match held.frame {
                Frame::Message(Message { seq, kind, body }) => {
                    let seq = (seq > Seq::ZERO).then_some(seq);
                    Some(Undelivered { ticket: held.ticket, seq, kind, body })
                }
                _ => None,
            })
            .collect()
    }

    /// Gives spare memory back.
    pub(super) fn shrink(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if self.untaken.is_empty() {
            self.untaken = VecDeque::new();
        }
    }
}
