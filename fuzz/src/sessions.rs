//! Two ends of a session under arbitrary calls, in any order and with any arguments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use throughline::frame::{
    Attachment, Body, Close, CloseCode, DecodeError, Epoch, Frame, Json, MAX_NUMBER, MessageKind, Move, Role,
    Seq, SessionId, SessionKey, TransportKind, Window,
};
use throughline::session::{Config, Event, Greeting, Intent, Receipts, Session, Via};

use super::frames;

/// One end, and what must hold of it.
struct End {
    session: Session,
    config: Arc<Config>,
    accepted: u64,
    acked: u64,
    /// The latest message that was delivered here.
    delivered: u64,
    closed: bool,
    ended: bool,
    /// The lowest message that was reported as never sent.
    unsent_from: u64,
}

/// A frame that was lent and may arrive: late, often, or never.
struct Flight {
    to: usize,
    attachment: Attachment,
    via: Via,
    frame: Frame,
}

struct World<'a> {
    data: Unstructured<'a>,
    ends: [End; 2],
    flights: Vec<Flight>,
    now: Instant,
    /// No end says what the session did not.
    honest: bool,
}

fn config(data: &mut Unstructured<'_>, honest: bool) -> Result<Arc<Config>> {
    let mut config = Config::default();
    let window = |data: &mut Unstructured<'_>| -> Result<Window> {
        Ok(Window { messages: data.int_in_range(0..=8)?, bytes: data.int_in_range(0..=64)? })
    };
    (config.window, config.send_buffer) = (window(data)?, window(data)?);
    config.early_window = Window { messages: 4, bytes: 32 };
    config.limits.max_message_bytes = data.int_in_range(1..=40)?;
    config.max_requests = data.int_in_range(0..=3)?;
    config.ack_delay = Duration::from_millis(data.int_in_range(0..=50)?);
    config.light_ack_delay = Duration::from_millis(data.int_in_range(0..=2_000)?);
    config.heartbeat = Duration::from_millis(data.int_in_range(0..=20_000)?);
    config.hold = Duration::from_millis(data.int_in_range(0..=10_000)?);
    if data.arbitrary()? {
        config.attach_within = Duration::ZERO;
        config.resume_window = Duration::MAX;
        config.close_timeout = Duration::from_millis(data.int_in_range(0..=10)?);
    }
    if !honest && data.arbitrary()? {
        config.receipts = Receipts::Absent;
    }
    Ok(Arc::new(config))
}

impl End {
    fn new(session: Session, config: Arc<Config>) -> Self {
        Self {
            session,
            config,
            accepted: 0,
            acked: 0,
            delivered: 0,
            closed: false,
            ended: false,
            unsent_from: u64::MAX,
        }
    }

    /// Drains the events and checks what must hold after any call.
    fn check(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.ended, "an event after the end");
            match event {
                Event::Message(message) => {
                    assert!(!self.closed, "a message after close");
                    assert!(message.seq.value() > self.delivered, "repeated or reordered");
                    self.delivered = message.seq.value();
                }
                Event::Ended(ended) => {
                    self.ended = true;
                    let reported = ended.undelivered.iter().map(|message| message.ticket.value());
                    let acked = self.session.acked_ticket().value();
                    assert!(reported.eq(acked + 1..=self.accepted), "accepted is acknowledged or reported");
                    let unsent = ended.undelivered.iter().find(|message| message.seq.is_none());
                    self.unsent_from = unsent.map_or(u64::MAX, |message| message.ticket.value());
                }
                _ => {}
            }
        }
        assert_eq!(self.ended, self.session.is_ended());
        let acked = self.session.acked_ticket().value();
        assert!(self.acked <= acked && acked <= self.accepted, "receipts only rise");
        self.acked = acked;
        let (bound, (count, bytes)) = (self.config.send_buffer, self.session.held());
        assert!(count <= 1 || (count <= bound.messages as usize && bytes <= bound.bytes), "send buffer");
        let receipt = self.session.receipt();
        let bound = self.config.window.messages.max(self.config.early_window.messages).max(1);
        assert!(receipt.received.since(receipt.taken) <= u64::from(bound), "receive buffer");
        assert!(receipt.received.value() >= self.delivered);
        assert!(!self.ended || self.session.poll_timeout().is_none());
    }
}

impl World<'_> {
    fn time(&mut self) -> Result<Instant> {
        let step = Duration::from_millis(self.data.int_in_range(0..=40_000)?);
        if self.data.ratio(1, 8)? {
            // An earlier one, as clocks that are read out of order give it.
            return Ok(self.now.checked_sub(step).unwrap_or(self.now));
        }
        if self.data.ratio(1, 4)? {
            self.now += step;
        }
        Ok(self.now)
    }

    fn attachment(&mut self) -> Result<Attachment> {
        let number = if self.data.ratio(1, 16)? { MAX_NUMBER } else { self.data.int_in_range(1..=8)? };
        Ok(Attachment::new(number).unwrap_or(Attachment::FIRST))
    }

    fn send(&mut self, at: usize) -> Result<()> {
        let kind = match self.data.int_in_range(0..=3)? {
            0 => MessageKind::Request,
            1 => MessageKind::Reply(Seq::new(self.data.int_in_range(0..=4)?).unwrap_or(Seq::MAX)),
            _ => MessageKind::Plain,
        };
        // A genuine end answers only what it was asked.
        let genuine = !matches!(kind, MessageKind::Reply(to) if to.value() > self.ends[at].delivered);
        let kind = if genuine || !self.honest { kind } else { MessageKind::Plain };
        let body = Body::from(vec![0; self.data.int_in_range(0..=50)?]);
        let end = &mut self.ends[at];
        if let Ok(ticket) = end.session.send(kind, body) {
            assert!(!end.closed && !end.ended, "accepted after close");
            end.accepted += 1;
            assert_eq!(ticket.value(), end.accepted);
        }
        Ok(())
    }

    /// Lends some frames and sets them on their way.
    fn lend(&mut self, at: usize) -> Result<()> {
        let (attachment, via) = (self.attachment()?, self.via()?);
        for _ in 0..self.data.int_in_range(1..=6)? {
            let session = &mut self.ends[at].session;
            let first = if self.data.ratio(1, 8)? { session.poll_request(attachment) } else { None };
            let frame = match first.cloned() {
                Some(frame) => Some(frame),
                None => session.poll_transmit(attachment).cloned(),
            };
            let Some(frame) = frame else { break };
            assert!(frame.is_sent_by(session.role()));
            if let Frame::Message(message) = &frame {
                assert!(message.seq.value() > self.ends[at].acked || self.ends[at].ended);
            }
            self.flights.push(Flight { to: 1 - at, attachment, via, frame });
        }
        Ok(())
    }

    fn via(&mut self) -> Result<Via> {
        Ok(if self.data.arbitrary()? { Via::Carrier } else { Via::Push })
    }

    /// A frame arrives: mostly the oldest, mostly once.
    fn arrive(&mut self) -> Result<()> {
        if self.flights.is_empty() {
            return Ok(());
        }
        let at = if self.data.ratio(1, 4)? { self.data.choose_index(self.flights.len())? } else { 0 };
        let again = self.data.ratio(1, 8)?;
        let now = self.time()?;
        let (flight, frame) = if again {
            let flight = &self.flights[at];
            ((flight.to, flight.attachment, flight.via), flight.frame.clone())
        } else {
            let flight = self.flights.remove(at);
            ((flight.to, flight.attachment, flight.via), flight.frame)
        };
        self.hand_over(now, flight, frame);
        Ok(())
    }

    fn hand_over(&mut self, now: Instant, (to, attachment, via): (usize, Attachment, Via), frame: Frame) {
        let session = &mut self.ends[to].session;
        let greeting = match &frame {
            Frame::Hello(hello) if to == 1 => session.handle_hello(now, hello),
            Frame::Poll(poll) if to == 1 => session.handle_poll(now, poll),
            _ => return session.handle_frame(now, attachment, via, frame),
        };
        let frame = match greeting {
            Greeting::Bound(bound) => return assert!(bound.value() >= attachment.value() || !self.honest),
            Greeting::Refused(close) => Frame::Close(close),
        };
        self.flights.push(Flight { to: 0, attachment, via: Via::Carrier, frame });
    }

    fn step(&mut self) -> Result<()> {
        let at = usize::from(self.data.arbitrary::<bool>()?);
        let op = self.data.int_in_range(0..=24)?;
        match op {
            0..=2 => return self.send(at),
            3..=6 => return self.lend(at),
            7..=11 => return self.arrive(),
            _ => {}
        }
        let (now, attachment) = (self.time()?, self.attachment()?);
        let close = Close::new(CloseCode::Normal, "done");
        let end = &mut self.ends[at];
        let session = &mut end.session;
        match op {
            12 => session.acknowledge(now, self.data.int_in_range(0..=5)?),
            13 => session.handle_detach(now, attachment),
            14..=16 => {
                let intent = if self.data.arbitrary()? { Intent::Attach } else { Intent::Candidate };
                let kind = *self.data.choose(&TransportKind::ALL)?;
                self.ends[0].session.introduce(now, kind, intent, None);
            }
            17 | 18 => {
                session.handle_timeout(now);
                // An earlier `now` counts as the latest seen, which nobody tells: ask again with a later one.
                session.handle_timeout(self.now);
                let due = session.poll_timeout();
                assert!(due.is_none_or(|due| due > self.now), "a deadline on which nobody can act");
            }
            19 => session.handle_push_ended(now, attachment, self.data.arbitrary()?),
            20 => session.handle_poll_ended(now, attachment),
            21 if self.data.ratio(1, 4)? => {
                end.closed = true;
                if self.data.arbitrary()? { session.close(now, close) } else { session.abort(now, close) }
            }
            22 => {
                let frame = Frame::Ack(self.ends[1].session.push_answer(attachment));
                self.flights.push(Flight { to: 0, attachment, via: Via::Push, frame });
            }
            23 => self.odd(at, now)?,
            _ => self.hostile(at, now, attachment)?,
        }
        Ok(())
    }

    /// Calls that are rare.
    fn odd(&mut self, at: usize, now: Instant) -> Result<()> {
        let session = &mut self.ends[at].session;
        let token = Json::of("token").unwrap_or_else(|_| unreachable!("a string is JSON"));
        match self.data.int_in_range(0..=4)? {
            0 => session.shrink(),
            1 => session.refresh_auth(token),
            2 => session.accept_auth(now, self.data.int_in_range(0..=5000)?),
            3 => session.ask_move(Move { transport: None, within_ms: 0 }),
            _ => session.grant(now, Some(Duration::from_millis(self.data.int_in_range(0..=5000)?))),
        }
        Ok(())
    }

    /// What only a liar, a broken box or a confused driver does.
    fn hostile(&mut self, at: usize, now: Instant, attachment: Attachment) -> Result<()> {
        if self.honest {
            return Ok(());
        }
        let via = self.via()?;
        let session = &mut self.ends[at].session;
        match self.data.int_in_range(0..=9)? {
            0 => session.handle_malformed(now, attachment, &DecodeError::Truncated),
            1 => {
                drop(session.handle_return(now, Seq::new(self.data.int_in_range(0..=6)?).unwrap_or(Seq::MAX)))
            }
            _ => {
                let from = if self.data.ratio(1, 8)? { session.role() } else { session.role().peer() };
                let frame = frames::frame(&mut self.data, from)?;
                self.hand_over(now, (at, attachment, via), frame);
            }
        }
        Ok(())
    }

    fn check(&mut self) {
        self.ends.iter_mut().for_each(End::check);
        if self.honest {
            for (from, to) in [(0, 1), (1, 0)] {
                let received = self.ends[to].session.receipt().received.value();
                assert!(self.ends[from].acked <= received, "acknowledged and never received");
                assert!(received < self.ends[from].unsent_from, "reported as not sent, and received");
            }
        }
    }
}

/// Any calls on both ends of a session: the invariants that are written on the type hold after each.
///
/// With honest ends every frame is one that the other has lent: it may come late, twice, or never. Otherwise made up
/// ones come as well.
pub fn session_ops(data: &[u8]) {
    let _ = run(Unstructured::new(data));
}

fn run(mut data: Unstructured<'_>) -> Result<()> {
    let (now, honest) = (Instant::now(), data.arbitrary()?);
    let (id, key) = (SessionId::from_bytes([1; 16]), SessionKey::from_bytes([2; 32]));
    let (of_client, of_server) = (config(&mut data, honest)?, config(&mut data, honest)?);
    let client = Session::client(Arc::clone(&of_client), id, key, now);
    let server = Session::server(Arc::clone(&of_server), id, Epoch::from_bytes([3; 8]), now);
    assert_eq!((client.role(), server.role()), (Role::Client, Role::Server));
    let ends = [End::new(client, of_client), End::new(server, of_server)];
    let mut world = World { data, ends, flights: Vec::new(), now, honest };
    for _ in 0..2000 {
        if world.data.is_empty() {
            break;
        }
        world.step()?;
        world.check();
        if world.flights.len() > 256 {
            world.flights.remove(0);
        }
    }
    Ok(())
}
