//! The rules of the session, each by itself. What they come to together is shown by `tests/session_sim`.

mod attachments;
mod bounds;
mod candidates;
mod closing;
mod liveness;
mod numbers;
mod path;
mod receipts;
mod uplink;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::frame::{
    Ack, Attach, Attachment, Body, Close, CloseCode, Epoch, Frame, Hello, Json, Message, MessageKind, Poll,
    Role, Seq, SessionId, SessionKey, TransportKind, Window,
};

use super::{
    Config, DetachReason, Ended, EndedBy, Event, Greeting, Intent, Receipts, SendError, Session, Via,
};

use TransportKind::{LongPolling, Sse, WebSocket};

/// So many milliseconds after the beginning of time.
fn at(millis: u64) -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_millis(millis)
}

fn number(value: u64) -> Attachment {
    Attachment::new(value).unwrap()
}

fn seq(value: u64) -> Seq {
    Seq::new(value).unwrap()
}

fn ack(received: u64, taken: u64) -> Frame {
    Frame::Ack(Ack { received: seq(received), taken: seq(taken) })
}

fn message(value: u64) -> Frame {
    Frame::Message(Message { seq: seq(value), kind: MessageKind::Plain, body: Body::from("m") })
}

fn normal() -> Close {
    Close::new(CloseCode::Normal, "done")
}

fn window(messages: u32) -> Window {
    Window { messages, bytes: 1 << 20 }
}

/// Everything that may be written to an attachment now.
fn lend(session: &mut Session, attachment: Attachment) -> Vec<Frame> {
    std::iter::from_fn(|| session.poll_transmit(attachment).cloned()).collect()
}

/// Lets time pass without a look at what falls due meanwhile. Who looks late judges nothing at first: that is over then.
fn leap(session: &mut Session, to: Instant) {
    session.handle_timeout(to - Duration::from_secs(2));
    session.handle_timeout(to);
}

fn tags(frames: &[Frame]) -> Vec<&'static str> {
    frames.iter().map(Frame::tag).collect()
}

/// The numbers of the messages among the frames.
fn seqs(frames: &[Frame]) -> Vec<u64> {
    let of = |frame: &Frame| match frame {
        Frame::Message(message) => Some(message.seq.value()),
        _ => None,
    };
    frames.iter().filter_map(of).collect()
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// The numbers of the messages that were delivered, other events passed over.
fn delivered(session: &mut Session) -> Vec<u64> {
    let of = |event: Event| match event {
        Event::Message(message) => Some(message.seq.value()),
        _ => None,
    };
    events(session).into_iter().filter_map(of).collect()
}

fn ended(session: &mut Session) -> Option<Ended> {
    events(session).into_iter().find_map(|event| match event {
        Event::Ended(ended) => Some(ended),
        _ => None,
    })
}

fn detached(session: &mut Session) -> Vec<(u64, DetachReason)> {
    let of = |event: Event| match event {
        Event::Detached { attachment, reason, .. } => Some((attachment.value(), reason)),
        _ => None,
    };
    events(session).into_iter().filter_map(of).collect()
}

fn hello_of(frames: &[Frame]) -> Hello {
    match frames.first() {
        Some(Frame::Hello(hello)) => (**hello).clone(),
        other => panic!("hello comes first, not {other:?}"),
    }
}

fn poll_of(frames: &[Frame]) -> Poll {
    match frames.last() {
        Some(Frame::Poll(poll)) => (**poll).clone(),
        other => panic!("a poll, not {other:?}"),
    }
}

fn refused(greeting: Greeting) -> Close {
    match greeting {
        Greeting::Refused(close) => close,
        Greeting::Bound(attachment) => panic!("bound to {attachment}"),
    }
}

fn bound(greeting: Greeting) -> Attachment {
    match greeting {
        Greeting::Bound(attachment) => attachment,
        Greeting::Refused(close) => panic!("refused: {close}"),
    }
}

/// Both ends of a session, and the time.
struct Ends {
    client: Session,
    server: Session,
    now: Instant,
}

impl Ends {
    fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    fn with(client: impl FnOnce(&mut Config), server: impl FnOnce(&mut Config)) -> Self {
        // Most tests are about what receipts say, and wait no longer than they must.
        let config = Config { light_ack_delay: Duration::from_millis(50), ..Config::default() };
        let (mut of_client, mut of_server) = (config.clone(), config);
        client(&mut of_client);
        server(&mut of_server);
        let (id, key) = (SessionId::from_bytes([1; 16]), SessionKey::from_bytes([2; 32]));
        Self {
            client: Session::client(Arc::new(of_client), id, key, at(0)),
            server: Session::server(Arc::new(of_server), id, Epoch::from_bytes([3; 8]), at(0)),
            now: at(0),
        }
    }

    /// Ends that have met on a transport of this kind; what they said is forgotten.
    fn met(kind: TransportKind) -> Self {
        let mut ends = Self::new();
        ends.meet(kind, Intent::Attach);
        ends
    }

    fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        for session in [&mut self.client, &mut self.server] {
            leap(session, self.now);
            assert!(session.poll_timeout().is_none_or(|due| due > self.now));
        }
    }

    /// Binds a transport at the client's end.
    fn introduce(&mut self, kind: TransportKind, intent: Intent) -> Attachment {
        self.client.introduce(self.now, kind, intent, None).unwrap()
    }

    /// Hands `hello` and what is behind it over.
    fn say_hello(&mut self, attachment: Attachment) -> Hello {
        let frames = lend(&mut self.client, attachment);
        let hello = hello_of(&frames);
        bound(self.server.handle_hello(self.now, &hello));
        for frame in frames.into_iter().skip(1) {
            self.server.handle_frame(self.now, attachment, Via::Carrier, frame);
        }
        hello
    }

    fn meet(&mut self, kind: TransportKind, intent: Intent) -> Attachment {
        let attachment = self.introduce(kind, intent);
        self.say_hello(attachment);
        self.down(attachment);
        if kind == LongPolling {
            self.server.handle_detach(self.now, attachment);
        }
        self.settle(attachment, kind);
        events(&mut self.client);
        events(&mut self.server);
        attachment
    }

    /// All frames down.
    fn down(&mut self, attachment: Attachment) -> Vec<Frame> {
        let frames = lend(&mut self.server, attachment);
        for frame in frames.clone() {
            self.client.handle_frame(self.now, attachment, Via::Carrier, frame);
        }
        frames
    }

    /// All frames up: on the carrier, or by push and poll, whose answers come back.
    fn up(&mut self, attachment: Attachment, kind: TransportKind) -> Vec<Frame> {
        let frames = lend(&mut self.client, attachment);
        let via = if kind == WebSocket { Via::Carrier } else { Via::Push };
        let mut pushed = false;
        for frame in frames.clone() {
            if let Frame::Poll(poll) = frame {
                bound(self.server.handle_poll(self.now, &poll));
            } else {
                pushed |= via == Via::Push;
                self.server.handle_frame(self.now, attachment, via, frame);
            }
        }
        if pushed {
            let answer = Frame::Ack(self.server.push_answer(attachment));
            self.client.handle_frame(self.now, attachment, Via::Push, answer);
            self.client.handle_push_ended(self.now, attachment, true);
        }
        frames
    }

    /// Frames both ways until both are quiet.
    fn settle(&mut self, attachment: Attachment, kind: TransportKind) {
        for _ in 0..20 {
            let mut quiet = self.up(attachment, kind).is_empty();
            let answer = self.down(attachment);
            if kind == LongPolling && !answer.is_empty() {
                self.server.handle_detach(self.now, attachment);
                self.client.handle_poll_ended(self.now, attachment);
                quiet = false;
            }
            if quiet && answer.is_empty() {
                return;
            }
        }
        panic!("they never become quiet");
    }

    /// The client's poll ends and the next arrives.
    fn repoll(&mut self) -> Poll {
        self.client.handle_poll_ended(self.now, number(1));
        self.client.handle_timeout(self.now + Duration::from_millis(500));
        let Some(Frame::Poll(poll)) = self.client.poll_request(number(1)).cloned() else { panic!("no poll") };
        bound(self.server.handle_poll(self.now, &poll));
        *poll
    }

    fn send_both(&mut self, count: usize) {
        for _ in 0..count {
            self.client.send(MessageKind::Plain, Body::from("up")).unwrap();
            self.server.send(MessageKind::Plain, Body::from("down")).unwrap();
        }
    }
}
