//! What the driver exchanges with the handles of its session: one lock in, one lock out, and a last one at the end.

use std::collections::VecDeque;
use std::task::{Context, Waker};
use std::time::Instant;

use crate::frame::{Body, Close, CloseCode, Role, Seq};
use crate::session::{Event, SendError as Refused, Undelivered};

use super::super::shared::{Incoming, Outgoing, Wakers};
use super::super::waiters::Waiter;
use super::{Driver, State};

impl Driver {
    /// Takes over what the handles left: one lock.
    pub(super) fn collect(&mut self, now: Instant) {
        let mut inner = self.shared.lock();
        let commands = inner.begin_turn();
        std::mem::swap(&mut self.outgoing, &mut inner.outgoing);
        // Counted as held until `publish` counts anew.
        inner.held.0 += self.outgoing.len();
        let bytes = std::mem::take(&mut inner.queued_bytes);
        inner.held.1 = inner.held.1.saturating_add(bytes);
        inner.history.counts.count_sent(self.outgoing.len(), bytes);
        let close = if self.session.is_open() { inner.close.clone() } else { None };
        drop(inner);
        if self.outgoing.capacity() > 0 {
            let mut queue = std::mem::take(&mut self.outgoing);
            queue.drain(..).for_each(|outgoing| self.send(now, outgoing));
            // An idle session keeps no room for bursts.
            self.outgoing = if queue.capacity() <= 64 { queue } else { VecDeque::new() };
        }
        let taken = self.shared.collect_taken();
        if taken > 0 {
            let stale = taken.min(self.stale);
            self.stale -= stale;
            self.handed = self.handed.saturating_sub(taken);
            self.session.acknowledge(now, u64::from(taken - stale));
        }
        if let Some(close) = close {
            self.session.close(now, close);
        }
        for command in commands {
            self.obey(now, command);
        }
        self.drain_events(now);
    }

    pub(super) fn send(&mut self, now: Instant, outgoing: Outgoing) {
        let Outgoing { kind, body, waiter } = outgoing;
        if body.len() as u64 > self.session.max_message_bytes() {
            // The peer takes less than was known when the message was accepted.
            let reason = "a message that was accepted is larger than the peer takes";
            self.session.abort(now, Close::new(CloseCode::TooLarge, reason));
            self.drain_events(now);
        }
        // A message that was accepted while the session ended is reported like the others that were not sent.
        if let Some(ended) = &mut self.ended {
            ended.undelivered.push(Undelivered::unsent(kind, body));
            return waiter.into_iter().for_each(|waiter| waiter.refuse(Refused::Closed));
        }
        match (self.session.send(kind, body), waiter) {
            (Ok(ticket), Some(waiter)) => {
                if matches!(waiter, Waiter::Receipt(_)) {
                    self.session.await_receipt(ticket);
                }
                self.waiters.add(ticket, waiter);
            }
            (Err(refused), Some(waiter)) => waiter.refuse(refused),
            (_, None) => {}
        }
    }

    /// Hands over to the handles: one lock. Says whether there is something to collect already; if not, the waker
    /// is registered.
    pub(super) fn publish(&mut self, cx: &mut Context<'_>) -> bool {
        self.waiters.settle(self.session.acked_ticket());
        let held = self.session.held();
        let (mut receiver, mut senders) = (None, Wakers::default());
        let mut inner = self.shared.lock();
        if inner.abandoned {
            // Nobody receives: what still comes counts as taken.
            for incoming in &self.incoming {
                self.shared.count_taken(u32::from(matches!(incoming, Incoming::Message(_))));
            }
            self.incoming.clear();
        } else if !self.incoming.is_empty() {
            for incoming in &self.incoming {
                if let Incoming::Message(message) = incoming {
                    inner.history.counts.count_received(message.body.len());
                }
            }
            if inner.incoming.is_empty() {
                std::mem::swap(&mut inner.incoming, &mut self.incoming);
            } else {
                inner.incoming.append(&mut self.incoming);
            }
            receiver = inner.receiver.take();
        }
        if held.0 < inner.held.0 || held.1 < inner.held.1 {
            senders = inner.senders.take();
        }
        inner.held = held;
        let taken = self.shared.press(self.session.is_pressing());
        inner.max_message = self.session.max_message_bytes();
        if self.session.role() == Role::Client {
            inner.id = self.session.id();
        }
        if let Some(ended) = self.ended.take() {
            inner.keep_end(ended);
            receiver = receiver.or_else(|| inner.receiver.take());
            senders = inner.senders.take();
        }
        let watchers = inner.set_state(&self.state);
        let asked = inner.close.is_some() && self.session.is_open();
        let waiting = inner.end_turn(cx.waker(), taken || asked);
        drop(inner);
        receiver.into_iter().for_each(Waker::wake);
        senders.wake();
        watchers.wake();
        waiting
    }

    /// Tells those who watch that a message failed that nobody waits for.
    pub(super) fn note_failed(&self, seq: Seq, failure: &Body) {
        let session = self.session.id();
        tracing::debug!(%session, %seq, "the peer says that a message failed");
        let mut inner = self.shared.lock();
        let told = inner.misfits.as_mut().is_some_and(|told| told.take(session, seq, failure));
        let watchers = if told { inner.state_wakers.take() } else { Wakers::default() };
        drop(inner);
        watchers.wake();
    }

    fn finish(&mut self) {
        let mut inner = self.shared.lock();
        let commands = inner.finish();
        inner.incoming.append(&mut self.incoming);
        if let Some(ended) = self.ended.take() {
            inner.keep_end(ended);
        }
        let (receiver, senders) = (inner.receiver.take(), inner.senders.take());
        let watchers = inner.set_state(&self.state);
        drop(inner);
        drop(commands);
        receiver.into_iter().for_each(Waker::wake);
        senders.wake();
        watchers.wake();
    }
}

impl Drop for Driver {
    /// However it ends, nobody waits for ever.
    fn drop(&mut self) {
        let now = tokio::time::Instant::now().into_std();
        if !self.session.is_ended() {
            self.session.abort(now, Close::new(CloseCode::InternalError, "the driver was dropped"));
        }
        while let Some(event) = self.session.poll_event() {
            if let Event::Ended(ended) = event {
                self.waiters.fail(&ended);
                self.state = State::Closed { close: ended.close.clone() };
                self.ended = Some(Box::new(ended));
            }
        }
        self.finish();
    }
}
