//! The transports of one session: the bound ones, and those that are being ended in order.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tracing::Span;

use crate::frame::{Attachment, Close, Frame, Role, TransportKind};
use crate::session::Session;
use crate::transport::{Received, Transport, TransportError};

use super::command::MAX_COMMANDS;

/// How long a transport that was given up may take to flush its close.
const LINGER: Duration = Duration::from_secs(2);

/// How many transports linger at once; one more drops the oldest, if it can one that has said its close. All that
/// the commands of one turn refuse or supersede have their say.
const MAX_LEAVING: usize = 2 * MAX_COMMANDS;

/// How often one turn goes back to writing after a flush has made room.
const MAX_FLUSHES: usize = 8;

/// How much is read, unheard, from a transport whose close has no room yet, before others have their turn.
const MAX_UNHEARD: usize = 32;

/// Above so many bytes in a message, the room that it took is given back when it has passed.
const LARGE: usize = 8 << 10;

/// A message of more bytes takes its time: what stands before it does not wait for that.
const APART: u64 = 16 << 10;

/// A transport bound to an attachment.
struct Carrier {
    attachment: Attachment,
    transport: Box<dyn Transport>,
    /// What the transport does and says of itself is told in it, if anybody listens.
    span: Option<Box<Span>>,
    /// Fed, and not flushed to the end yet.
    unflushed: bool,
    /// A large message has passed.
    used: bool,
    /// Its greeting was fed and not flushed yet: most sessions are idle then, and greetings are large.
    greets: bool,
}

/// A transport that was given up: its close is written, then it is dropped.
struct Leaving {
    transport: Box<dyn Transport>,
    span: Option<Box<Span>>,
    close: Option<Close>,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Carriers {
    bound: Vec<Carrier>,
    /// Mostly there is none.
    leaving: Option<Box<Lounge>>,
}

/// The transports that were given up.
#[derive(Default)]
struct Lounge(Vec<Leaving>);

/// What a carrier brought, or how it ended.
pub(super) type Brought = (Attachment, Result<Received, TransportError>);

/// Whether a frame takes so much room that it is not kept for the next one.
fn is_large(frame: &Frame) -> bool {
    matches!(frame, Frame::Message(message) if message.body.len() > LARGE)
}

fn is_greeting(frame: &Frame) -> bool {
    matches!(frame, Frame::Hello(_) | Frame::Welcome(_))
}

fn enter(span: Option<&Span>) -> Option<tracing::span::EnteredSpan> {
    span.cloned().map(Span::entered)
}

impl Carriers {
    /// Binds a transport, in place of any other of the same number.
    pub(super) fn bind(
        &mut self,
        session: &Session,
        attachment: Attachment,
        transport: Box<dyn Transport>,
        now: Instant,
    ) {
        self.leave(attachment, None, now);
        if self.bound.capacity() == 0 {
            self.bound.reserve_exact(1);
        }
        let (id, role, kind) = (session.id(), session.role().as_str(), transport.kind());
        let span = tracing::debug_span!("attachment", session = %id, transport = %kind, role, %attachment);
        let span = (!span.is_disabled()).then(|| Box::new(span));
        self.bound.push(Carrier {
            attachment,
            transport,
            span,
            unflushed: false,
            used: false,
            greets: false,
        });
    }

    /// Gives a bound transport up.
    pub(super) fn leave(&mut self, attachment: Attachment, close: Option<Close>, now: Instant) {
        if let Some(at) = self.bound.iter().position(|carrier| carrier.attachment == attachment) {
            let carrier = self.bound.swap_remove(at);
            self.end(carrier.transport, carrier.span, close, now);
        }
    }

    /// Ends a transport in order that was never bound.
    pub(super) fn dismiss(&mut self, transport: Box<dyn Transport>, close: Option<Close>, now: Instant) {
        self.end(transport, None, close, now);
    }

    fn end(
        &mut self,
        transport: Box<dyn Transport>,
        span: Option<Box<Span>>,
        close: Option<Close>,
        now: Instant,
    ) {
        let Lounge(leaving) = &mut **self.leaving.get_or_insert_default();
        if leaving.len() >= MAX_LEAVING {
            let said = leaving.iter().position(|leaving| leaving.close.is_none());
            drop(leaving.remove(said.unwrap_or(0)));
        }
        leaving.push(Leaving { transport, span, close, until: now + LINGER });
    }

    /// Drops a transport that has ended.
    pub(super) fn remove(&mut self, attachment: Attachment) {
        self.bound.retain(|carrier| carrier.attachment != attachment);
    }

    /// Drops all transports at once, and says which were bound.
    pub(super) fn cut(&mut self) -> Vec<Attachment> {
        self.leaving = None;
        self.bound.drain(..).map(|carrier| carrier.attachment).collect()
    }

    /// How many are bound.
    pub(super) fn len(&self) -> usize {
        self.bound.len()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// When the first of the leaving transports runs out of time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let Lounge(leaving) = &**self.leaving.as_ref()?;
        leaving.iter().map(|leaving| leaving.until).min()
    }

    /// Tells the session of bytes that are no whole frame yet.
    pub(super) fn tell_arrived(&self, session: &mut Session, now: Instant) {
        if let Some(carrier) = session.attachment().and_then(|number| self.of(number)) {
            session.note_arrived(now, carrier.attachment, carrier.transport.arrived());
        }
    }

    fn of(&self, attachment: Attachment) -> Option<&Carrier> {
        self.bound.iter().find(|carrier| carrier.attachment == attachment)
    }

    /// Gives spare memory back.
    pub(super) fn shrink(&mut self) {
        self.bound.iter_mut().for_each(|carrier| carrier.transport.shrink());
    }

    /// Gives back what large messages took that have passed. Says whether there was any: then all is to be read once
    /// more.
    pub(super) fn shrink_used(&mut self) -> bool {
        let mut shrunk = false;
        for carrier in self.bound.iter_mut().filter(|carrier| carrier.used && !carrier.unflushed) {
            carrier.used = false;
            carrier.transport.shrink();
            shrunk = true;
        }
        shrunk
    }

    /// The next thing that the carrier at a position brings; `None` when it has nothing now or is not there.
    pub(super) fn poll_recv(&mut self, at: usize, cx: &mut Context<'_>) -> Option<Brought> {
        let carrier = self.bound.get_mut(at)?;
        let _told = carrier.span.as_deref().map(Span::enter);
        match carrier.transport.poll_recv(cx) {
            Poll::Pending => None,
            Poll::Ready(brought) => {
                carrier.used |= matches!(&brought, Ok(Received::Frame(frame)) if is_large(frame));
                Some((carrier.attachment, brought))
            }
        }
    }

    /// Writes to every carrier what the session has for it, many frames to one flush. Says which have ended, and
    /// whether a close was written.
    pub(super) fn transmit(&mut self, session: &mut Session, cx: &mut Context<'_>) -> Transmitted {
        let mut transmitted = Transmitted::default();
        for carrier in &mut self.bound {
            let _told = enter(carrier.span.as_deref());
            if let Err(error) = carrier.transmit(session, cx, &mut transmitted) {
                transmitted.ended.push((carrier.attachment, error));
            }
        }
        transmitted
    }

    /// Goes on ending the transports that were given up. Says whether a close was written.
    pub(super) fn poll_leaving(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let Some(lounge) = &mut self.leaving else { return false };
        let mut said = false;
        lounge.0.retain_mut(|leaving| {
            let _told = enter(leaving.span.as_deref());
            if let Some(close) = leaving.close.take() {
                match leaving.poll_room(cx) {
                    Poll::Ready(Ok(())) => {
                        leaving.transport.start_send(&Frame::Close(close));
                        said = true;
                    }
                    Poll::Ready(Err(_)) => return false,
                    Poll::Pending => {
                        leaving.close = Some(close);
                        return leaving.until > now;
                    }
                }
            }
            leaving.transport.poll_close(cx).is_pending() && leaving.until > now
        });
        if lounge.0.is_empty() {
            self.leaving = None;
        }
        said
    }

    /// Gives all bound transports up, each with the close if it could not be fed yet: the session is over.
    pub(super) fn leave_all(&mut self, session: &mut Session, now: Instant) {
        while let Some(carrier) = self.bound.pop() {
            let close = match session.poll_transmit(carrier.attachment) {
                Some(Frame::Close(close)) => Some(close.clone()),
                _ => None,
            };
            self.end(carrier.transport, carrier.span, close, now);
        }
    }
}

impl Leaving {
    /// Waits until the close may be fed. What comes meanwhile is unheard, but it must be read: it may be the `welcome`
    /// or the answer to a push, for which a client's transport waits.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        for _ in 0..MAX_UNHEARD {
            if let Poll::Ready(room) = self.transport.poll_ready(cx) {
                return Poll::Ready(room);
            }
            if ready!(self.transport.poll_recv(cx)).is_err() {
                return Poll::Ready(Err(TransportError::Ended));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What came of writing.
#[derive(Default)]
pub(super) struct Transmitted {
    /// Carriers that have ended.
    pub(super) ended: Vec<(Attachment, TransportError)>,
    /// Whether the session's close was fed to one.
    pub(super) said_close: bool,
}

impl Carrier {
    /// Whether what is flushed apart also comes apart, and costs no request of its own.
    fn streams(&self, role: Role) -> bool {
        match self.transport.kind() {
            TransportKind::WebSocket => true,
            TransportKind::Sse => role == Role::Server,
            TransportKind::LongPolling => false,
        }
    }

    fn transmit(
        &mut self,
        session: &mut Session,
        cx: &mut Context<'_>,
        transmitted: &mut Transmitted,
    ) -> Result<(), TransportError> {
        if let Some(request) = session.poll_request(self.attachment) {
            self.greets |= is_greeting(request);
            self.transport.start_send(request);
            self.unflushed = true;
        }
        for _ in 0..MAX_FLUSHES {
            let full = loop {
                match self.transport.poll_ready(cx)? {
                    Poll::Pending => break true,
                    Poll::Ready(()) => {}
                }
                if self.unflushed && session.next_size() > APART && self.streams(session.role()) {
                    break true;
                }
                let Some(frame) = session.poll_transmit(self.attachment) else { break false };
                transmitted.said_close |= matches!(frame, Frame::Close(_));
                self.used |= is_large(frame);
                self.greets |= is_greeting(frame);
                self.transport.start_send(frame);
                self.unflushed = true;
            };
            if self.unflushed {
                match self.transport.poll_flush(cx)? {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(()) => self.unflushed = false,
                }
                if self.greets {
                    (self.greets, self.used) = (false, true);
                    session.shrink();
                }
                if self.transport.kind() == TransportKind::LongPolling {
                    // An answer is over with its flush: that need not be heard of when it was taken.
                    continue;
                }
            } else {
                return Ok(());
            }
            if !full {
                return Ok(());
            }
        }
        // There is room again and more to write: the next turn goes on, after the other carriers.
        cx.waker().wake_by_ref();
        Ok(())
    }
}
