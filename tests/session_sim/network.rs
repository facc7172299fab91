//! The wire between the ends: links that delay, lose, cut and repeat, and the queue of what is to come.
//!
//! A link is one transport as the client dialled it. What goes over a stream (a WebSocket both ways, the response
//! of SSE) arrives in order or not at all; requests beside it and their answers go each their own way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use throughline::frame::{Batch, BatchWriter, Encoding, Frame, Limits, Poll, Push, Role};

use super::rng::Rng;

pub(crate) type LinkId = usize;

/// No network holds a packet for longer; a session's id is remembered for longer than that.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(8);

/// How long a client waits for the answer to a push.
pub(crate) const PUSH_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Hello(Vec<Frame>),
    Poll(Box<Poll>),
    Push(Box<Push>, Vec<Frame>),
}

#[derive(Debug)]
pub(crate) enum Packet {
    /// A WebSocket batch of the client's.
    Pipe { link: LinkId, frames: Vec<Frame> },
    /// An HTTP request. To a deaf one every answer is lost.
    Request { link: LinkId, no: u64, deaf: bool, asked: Asked },
    /// A batch down a WebSocket or an SSE response. A request that arrived twice has two responses; the client
    /// hears the one that comes first.
    Stream { link: LinkId, response: u64, frames: Vec<Frame> },
    /// A whole answer; a refusal is one under an error status.
    Answer { link: LinkId, no: u64, frames: Vec<Frame>, refused: bool },
    /// The downlink's end, behind all that was written.
    Ended { link: LinkId, response: u64 },
    /// An end learns that the link is gone.
    Lost { link: LinkId, at: Role },
}

#[derive(Debug)]
pub(crate) enum Event {
    Packet { sent: Instant, packet: Packet },
    PushTimeout { link: LinkId, no: u64 },
    Redial,
    App(Role),
    Fault,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    latency: Duration,
    /// Half open: what is sent vanishes.
    blocked: bool,
    /// When the last of what is in flight in order arrives.
    last: Instant,
}

#[derive(Debug)]
pub(crate) struct Link {
    up: Path,
    down: Path,
    /// What is in flight is lost as well.
    void: bool,
    /// Which response the client hears.
    response: Option<u64>,
}

pub(crate) struct Network {
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    /// When time last jumped.
    pub(crate) jumped_at: Instant,
    start: Instant,
    pub(crate) trace: bool,
    links: Vec<Link>,
    queue: BTreeMap<(Instant, u64), Event>,
    count: u64,
    requests: u64,
    /// Whether it still does harm.
    pub(crate) faulty: bool,
    /// All frames go through an encoding and back.
    encoding: Option<Encoding>,
    pub(crate) max_batch: u64,
}

impl Network {
    pub(crate) fn new(mut rng: Rng, start: Instant, trace: bool) -> Self {
        let encoding = match rng.below(10) {
            0 => Some(Encoding::Json),
            1 => Some(Encoding::Binary),
            _ => None,
        };
        let max_batch = if rng.chance(300) { rng.range(2, 4) } else { 1000 };
        Self {
            rng,
            now: start,
            jumped_at: start,
            start,
            trace,
            links: Vec::new(),
            queue: BTreeMap::new(),
            count: 0,
            requests: 0,
            faulty: true,
            encoding,
            max_batch,
        }
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>9.3} {}", (self.now - self.start).as_secs_f64(), text());
        }
    }

    /// The time as an end may read it: now, or earlier where clocks are read out of order.
    pub(crate) fn clock(&mut self) -> Instant {
        if self.rng.chance(20) {
            self.now - self.rng.millis(0, 100).min(self.now - self.start)
        } else {
            self.now
        }
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_first().map(|(_, event)| event)
    }

    pub(crate) fn schedule(&mut self, wait: Duration, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + wait, self.count), event);
    }

    fn post(&mut self, at: Instant, packet: Packet) {
        self.count += 1;
        self.queue.insert((at, self.count), Event::Packet { sent: self.now, packet });
    }

    pub(crate) fn dial(&mut self) -> LinkId {
        let slow = self.faulty && self.rng.chance(150);
        let (now, high) = (self.now, if slow { 3000 } else { 80 });
        let mut path = || Path { latency: self.rng.millis(0, high), blocked: false, last: now };
        let link = Link { up: path(), down: path(), void: false, response: None };
        self.links.push(link);
        let id = self.links.len() - 1;
        if self.faulty && self.rng.chance(80) {
            self.hurt(id);
        }
        id
    }

    fn path(&mut self, link: LinkId, from: Role) -> &mut Path {
        let link = &mut self.links[link];
        if from == Role::Client { &mut link.up } else { &mut link.down }
    }

    /// Sends in order. False: it vanished.
    fn send_in_order(&mut self, link: LinkId, from: Role, packet: Packet) {
        let now = self.now;
        let path = self.path(link, from);
        if path.blocked {
            return;
        }
        path.last = path.last.max(now + path.latency);
        let at = path.last;
        self.post(at, packet);
    }

    /// Sends by itself: overtaking, late, lost.
    fn send_alone(&mut self, link: LinkId, from: Role, packet: Packet) {
        let path = *self.path(link, from);
        if path.blocked || (self.faulty && self.rng.chance(30)) {
            return;
        }
        let tail = if self.faulty && self.rng.chance(60) { 4000 } else { 20 };
        let at = self.now + path.latency + self.rng.millis(0, tail);
        self.post(at, packet);
    }

    pub(crate) fn pipe_up(&mut self, link: LinkId, frames: Vec<Frame>) {
        self.log(|| format!("link {link} ^ {}", brief(&frames)));
        let frames = self.recode(frames, Role::Client);
        self.send_in_order(link, Role::Client, Packet::Pipe { link, frames });
    }

    pub(crate) fn stream_down(&mut self, link: LinkId, response: u64, frames: Vec<Frame>) {
        self.log(|| format!("link {link}           v {}", brief(&frames)));
        let frames = self.recode(frames, Role::Server);
        self.send_in_order(link, Role::Server, Packet::Stream { link, response, frames });
    }

    /// A response as the server begins it.
    pub(crate) fn respond(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    pub(crate) fn end_down(&mut self, link: LinkId, response: u64) {
        self.send_in_order(link, Role::Server, Packet::Ended { link, response });
    }

    /// Sends a request, perhaps twice, and gives its number.
    pub(crate) fn request(&mut self, link: LinkId, asked: Asked) -> u64 {
        self.requests += 1;
        let no = self.requests;
        self.log(|| match &asked {
            Asked::Hello(frames) => format!("link {link} ^ POST {no} {}", brief(frames)),
            Asked::Push(push, frames) => {
                format!("link {link} ^ POST {no} push({}) {}", push.attachment, brief(frames))
            }
            Asked::Poll(poll) => {
                format!("link {link} ^ POST {no} poll({}, {})", poll.attachment, poll.received)
            }
        });
        let asked = match asked {
            Asked::Hello(frames) => Asked::Hello(self.recode(frames, Role::Client)),
            Asked::Push(push, frames) => Asked::Push(push, self.recode(frames, Role::Client)),
            poll => poll,
        };
        if self.faulty && self.rng.chance(60) {
            let (path, wait) = (*self.path(link, Role::Client), self.rng.millis(0, 6000));
            if !path.blocked {
                let deaf = self.rng.chance(500);
                self.post(self.now + wait, Packet::Request { link, no, deaf, asked: asked.clone() });
            }
        }
        let deaf = self.faulty && self.rng.chance(40);
        self.send_alone(link, Role::Client, Packet::Request { link, no, deaf, asked });
        no
    }

    pub(crate) fn answer(&mut self, link: LinkId, no: u64, frames: Vec<Frame>, refused: bool) {
        self.log(|| format!("link {link}           v answer {no} {}", brief(&frames)));
        let frames = self.recode(frames, Role::Server);
        self.send_alone(link, Role::Server, Packet::Answer { link, no, frames, refused });
    }

    fn recode(&self, frames: Vec<Frame>, from: Role) -> Vec<Frame> {
        let Some(encoding) = self.encoding else { return frames };
        let mut writer = BatchWriter::new(encoding);
        frames.iter().for_each(|frame| writer.push(frame));
        let limits = Limits { max_batch_frames: 100_000, ..Limits::default() };
        let batch = Batch::new(writer.take(), encoding, from, limits).expect("within limits");
        let decoded: Vec<Frame> = batch.map(|frame| frame.expect("what was encoded")).collect();
        assert_eq!(decoded, frames, "encoding and decoding is not the identity");
        decoded
    }

    /// Whether a packet still arrives.
    pub(crate) fn arrives(&mut self, sent: Instant, packet: &Packet) -> bool {
        if let Packet::Stream { link, response, .. } | Packet::Ended { link, response } = packet {
            if self.links[*link].response.get_or_insert(*response) != response {
                return false;
            }
        }
        let link = match packet {
            Packet::Lost { .. } => return true,
            Packet::Pipe { link, .. }
            | Packet::Request { link, .. }
            | Packet::Stream { link, .. }
            | Packet::Answer { link, .. }
            | Packet::Ended { link, .. } => *link,
        };
        if self.now - sent > MAX_AGE {
            // A stream with a hole is no stream: both paths are dead from here on.
            self.block(link, true, true, true);
        }
        !self.links[link].void
    }

    fn block(&mut self, link: LinkId, up: bool, down: bool, void: bool) {
        let link = &mut self.links[link];
        link.up.blocked |= up;
        link.down.blocked |= down;
        link.void |= void;
    }

    /// Does no harm any more; what is broken stays broken.
    pub(crate) fn calm(&mut self) {
        self.faulty = false;
        for link in &mut self.links {
            link.up.latency = link.up.latency.min(Duration::from_millis(80));
            link.down.latency = link.down.latency.min(Duration::from_millis(80));
        }
    }

    /// Harms a link: cut with or without what is in flight, told to either end or not, half open, slow.
    pub(crate) fn hurt(&mut self, link: LinkId) {
        let harm = self.rng.below(6);
        self.log(|| format!("link {link} harm {harm}"));
        match harm {
            0 => self.block(link, true, false, false),
            1 => self.block(link, false, true, false),
            2 => self.links[link].down.latency = self.rng.millis(500, 5000),
            3 => self.links[link].up.latency = self.rng.millis(500, 5000),
            _ => {
                let void = self.rng.chance(500);
                self.block(link, true, true, void);
                for at in [Role::Client, Role::Server] {
                    if self.rng.chance(700) {
                        let wait = self.rng.millis(0, 3000);
                        self.post(self.now + wait, Packet::Lost { link, at });
                    }
                }
            }
        }
    }
}

pub(crate) fn brief(frames: &[Frame]) -> String {
    let one = |frame: &Frame| match frame {
        Frame::Message(m) => format!("{}{}", frame.tag(), m.seq),
        Frame::Ack(a) => format!("ack{}/{}", a.received, a.taken),
        Frame::Hello(h) => format!(
            "hello#{}{}{} rcv{}",
            h.attachment,
            if h.candidate { "?" } else { "" },
            if h.epoch.is_some() { "e" } else { "" },
            h.received
        ),
        Frame::Welcome(w) => format!("welcome#{} rcv{} {}", w.attachment, w.received, w.resumed),
        Frame::Close(c) => format!("close {} {:?}", c.code, c.detail.received.map(|r| r.value())),
        Frame::Ping(n) => format!("ping{}", n.unwrap_or(0)),
        Frame::Pong(n) => format!("pong{}", n.unwrap_or(0)),
        Frame::Poll(p) => format!("poll#{}", p.attachment),
        other => other.tag().to_owned(),
    };
    let mut text: Vec<String> = frames.iter().take(12).map(one).collect();
    if frames.len() > 12 {
        text.push(format!("+{}", frames.len() - 12));
    }
    text.join(" ")
}
