//! The server's side of the wire: registry, tombstones, carriers, and one driver per session.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use throughline::frame::{
    Attachment, Close, CloseCode, Epoch, Frame, Hello, Poll, Push, Role, SessionId, SessionKey, TransportKind,
};
use throughline::session::{Config, DetachReason, Event, Greeting, Session, Via};

use super::app::{App, fire, fire_if_due};
use super::carrier::{Carrier, Proof};
use super::checks::Ledger;
use super::network::{Asked, LinkId, Network};

/// How many arrivals in a thousand are followed by the repetition of a push.
const REPEATED_PUSHES: u64 = 50;

/// The longest that a session that was held up judges nothing.
const REPRIEVE: Duration = Duration::from_secs(2);

pub(crate) struct Entry {
    pub(crate) session: Session,
    pub(crate) app: App,
    key: SessionKey,
    carriers: Vec<Carrier>,
    /// Attachments of which a push came: each may be repeated.
    pushed: Vec<Attachment>,
    /// What is being heard comes by a push.
    by_push: bool,
    /// When it is forgotten: its end and how to answer until then are kept.
    forget_at: Option<Instant>,
}

pub(crate) struct Server {
    pub(crate) life: u32,
    pub(crate) config: Arc<Config>,
    pub(crate) entries: BTreeMap<SessionId, Entry>,
    /// Whose WebSocket it is, and since when it was given up.
    sockets: BTreeMap<LinkId, (SessionId, Attachment)>,
    hears_stale: bool,
}

fn unknown() -> Close {
    Close::new(CloseCode::UnknownSession, "no such session")
}

impl Server {
    pub(crate) fn new(config: Config, net: &mut Network) -> Self {
        Self {
            life: 1,
            config: Arc::new(config),
            entries: BTreeMap::new(),
            sockets: BTreeMap::new(),
            hears_stale: net.rng.chance(300),
        }
    }

    /// Forgets everything.
    pub(crate) fn restart(&mut self, net: &mut Network) -> Vec<LinkId> {
        self.life += 1;
        net.log(|| format!("server life {} begins", self.life));
        self.sockets.clear();
        let entries = std::mem::take(&mut self.entries);
        entries.into_values().flat_map(|entry| entry.carriers).map(|carrier| carrier.link).collect()
    }

    fn entry(&mut self, id: SessionId, key: &SessionKey) -> Option<&mut Entry> {
        self.entries.get_mut(&id).filter(|entry| entry.key == *key)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = |entry: &Entry| entry.session.poll_timeout().into_iter().chain(entry.forget_at).min();
        self.entries.values().filter_map(due).min()
    }

    pub(crate) fn fire(&mut self, net: &mut Network, ledger: &mut Ledger) {
        self.entries.retain(|_, entry| entry.forget_at.is_none_or(|at| at > net.now));
        for entry in self.entries.values_mut() {
            if entry.session.poll_timeout().is_some_and(|due| due <= net.now) {
                fire(&mut entry.session, net.now);
                entry.pump(net, ledger, &self.config);
            }
        }
        if net.now - net.jumped_at > REPRIEVE {
            self.entries.values().for_each(|entry| entry.check_streams(net.now, self.config.heartbeat));
        }
    }

    pub(crate) fn pump_all(&mut self, net: &mut Network, ledger: &mut Ledger) {
        self.entries.values_mut().for_each(|entry| entry.pump(net, ledger, &self.config));
    }

    pub(crate) fn request(
        &mut self,
        net: &mut Network,
        ledger: &mut Ledger,
        (link, no, deaf): (LinkId, u64, bool),
        asked: Asked,
    ) {
        self.fire(net, ledger);
        match asked {
            Asked::Hello(frames) => self.hello(net, ledger, (link, no, deaf), frames),
            Asked::Poll(poll) => self.poll(net, ledger, (link, no, deaf), &poll),
            Asked::Push(push, frames) => self.push(net, ledger, (link, no, deaf), &push, frames),
        }
    }

    fn hello(
        &mut self,
        net: &mut Network,
        ledger: &mut Ledger,
        (link, no, deaf): (LinkId, u64, bool),
        frames: Vec<Frame>,
    ) {
        let mut frames = frames.into_iter();
        let Some(Frame::Hello(hello)) = frames.next() else { panic!("hello comes first") };
        let kind = hello.transport;
        let (attachment, proof) = (hello.attachment, Proof::new(net.now));
        let carrier = Carrier { link, kind, no, response: net.respond(), deaf, attachment, proof };
        if !self.entries.contains_key(&hello.session) && hello.epoch.is_none() {
            self.create(net, ledger, &hello);
        }
        let config = Arc::clone(&self.config);
        let Some(entry) = self.entry(hello.session, &hello.key) else {
            return carrier.end(net, Some(unknown()));
        };
        let now = net.clock();
        let greeting = entry.session.handle_hello(now, &hello);
        entry.drain(net, ledger, &config);
        match greeting {
            Greeting::Refused(close) => carrier.end(net, Some(close)),
            Greeting::Bound(attachment) => {
                entry.grant(net, false);
                entry.bind(net, carrier, attachment);
                for frame in frames {
                    let now = net.clock();
                    entry.session.handle_frame(now, attachment, Via::Carrier, frame);
                    entry.drain(net, ledger, &config);
                }
                if kind == TransportKind::WebSocket {
                    self.sockets.insert(link, (hello.session, attachment));
                }
            }
        }
        if let Some(entry) = self.entries.get_mut(&hello.session) {
            entry.pump(net, ledger, &config);
        }
    }

    fn create(&mut self, net: &mut Network, ledger: &mut Ledger, hello: &Hello) {
        let who = ledger.open(Role::Server, hello.session, self.life);
        net.log(|| format!("server makes session {who}"));
        let epoch = Epoch::from_bytes(net.rng.bytes());
        let session = Session::server(Arc::clone(&self.config), hello.session, epoch, net.now);
        let app = App::new(who, net.rng.chance(300));
        let entry = Entry {
            session,
            app,
            key: hello.key.clone(),
            carriers: Vec::new(),
            pushed: Vec::new(),
            by_push: false,
            forget_at: None,
        };
        self.entries.insert(hello.session, entry);
    }

    fn poll(
        &mut self,
        net: &mut Network,
        ledger: &mut Ledger,
        (link, no, deaf): (LinkId, u64, bool),
        poll: &Poll,
    ) {
        let (kind, config) = (TransportKind::LongPolling, Arc::clone(&self.config));
        let (attachment, proof) = (poll.attachment, Proof::new(net.now));
        let carrier = Carrier { link, kind, no, response: net.respond(), deaf, attachment, proof };
        let Some(entry) = self.entry(poll.session, &poll.key) else {
            return carrier.end(net, Some(unknown()));
        };
        let now = net.clock();
        let greeting = entry.session.handle_poll(now, poll);
        entry.drain(net, ledger, &config);
        match greeting {
            Greeting::Refused(close) => carrier.end(net, Some(close)),
            Greeting::Bound(attachment) => entry.bind(net, carrier, attachment),
        }
        entry.pump(net, ledger, &config);
    }

    fn push(
        &mut self,
        net: &mut Network,
        ledger: &mut Ledger,
        (link, no, deaf): (LinkId, u64, bool),
        push: &Push,
        frames: Vec<Frame>,
    ) {
        let (kind, config, attachment) =
            (TransportKind::LongPolling, Arc::clone(&self.config), push.attachment);
        let proof = Proof::new(net.now);
        let carrier = Carrier { link, kind, no, response: net.respond(), deaf, attachment, proof };
        let entry = self.entry(push.session, &push.key);
        let Some(entry) = entry.filter(|entry| entry.session.epoch() == Some(push.epoch)) else {
            return carrier.write(net, vec![Frame::Close(unknown())], true);
        };
        if !entry.pushed.contains(&attachment) {
            entry.pushed.push(attachment);
        }
        entry.by_push = true;
        for frame in frames {
            if let (Frame::Pong(Some(number)), Some(carrier)) = (&frame, entry.carrier(attachment)) {
                carrier.proof.hear(*number, net.now);
            }
            let now = net.clock();
            entry.session.handle_frame(now, attachment, Via::Push, frame);
            entry.drain(net, ledger, &config);
        }
        entry.by_push = false;
        let answer = match entry.session.end() {
            Some(close) => Frame::Close(close.clone()),
            None => Frame::Ack(entry.session.push_answer(attachment)),
        };
        carrier.write(net, vec![answer], false);
        entry.repeat_push(net);
        entry.pump(net, ledger, &config);
    }

    /// A batch on a WebSocket.
    pub(crate) fn pipe(&mut self, net: &mut Network, ledger: &mut Ledger, link: LinkId, frames: Vec<Frame>) {
        self.fire(net, ledger);
        if matches!(frames.first(), Some(Frame::Hello(_))) {
            return self.hello(net, ledger, (link, 0, false), frames);
        }
        let (hears_stale, config) = (self.hears_stale, Arc::clone(&self.config));
        let Some(&(id, attachment)) = self.sockets.get(&link) else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for frame in frames {
            if !hears_stale && entry.carriers.iter().all(|carrier| carrier.link != link) {
                break;
            }
            let now = net.clock();
            entry.session.handle_frame(now, attachment, Via::Carrier, frame);
            entry.drain(net, ledger, &config);
        }
        entry.repeat_push(net);
        entry.pump(net, ledger, &config);
    }

    /// The server learns that a link is gone.
    pub(crate) fn lost(&mut self, net: &mut Network, ledger: &mut Ledger, link: LinkId) {
        self.fire(net, ledger);
        self.sockets.remove(&link);
        for entry in self.entries.values_mut() {
            if let Some(at) = entry.carriers.iter().position(|carrier| carrier.link == link) {
                let carrier = entry.carriers.remove(at);
                entry.session.handle_detach(net.now, carrier.attachment);
                entry.pump(net, ledger, &self.config);
            }
        }
    }

    /// Somebody who knows the id and not the key.
    pub(crate) fn forge(&mut self, net: &mut Network, ledger: &mut Ledger, id: SessionId) {
        let Some(entry) = self.entries.get(&id) else { return };
        let (window, key) = (self.config.window, SessionKey::from_bytes([7; 32]));
        let hello = Hello {
            epoch: entry.session.epoch().filter(|_| net.rng.chance(500)),
            attachment: Attachment::new(1_000_000).expect("a number"),
            received: entry.session.receipt().received,
            ..Hello::new(id, key, TransportKind::Sse, window)
        };
        self.hello(net, ledger, (0, 0, true), vec![Frame::Hello(Box::new(hello))]);
    }
}

impl Entry {
    /// The authenticator has said yes, for a while.
    fn grant(&mut self, net: &mut Network, fresh: bool) {
        let expires = if net.faulty && net.rng.chance(100) { net.rng.range(1, 10_000) } else { 0 };
        if fresh {
            self.session.accept_auth(net.now, expires);
        } else {
            self.session.grant(net.now, (expires > 0).then(|| Duration::from_millis(expires)));
        }
    }

    fn bind(&mut self, net: &mut Network, mut carrier: Carrier, attachment: Attachment) {
        if let Some(at) = self.carriers.iter().position(|other| other.attachment == attachment) {
            let older = self.carriers.remove(at);
            // Pings are numbered within the attachment.
            carrier.proof = Proof { at: carrier.proof.at, ..older.proof };
            older.end(net, None);
        }
        self.carriers.push(carrier);
    }

    fn carrier(&mut self, attachment: Attachment) -> Option<&mut Carrier> {
        self.carriers.iter_mut().find(|carrier| carrier.attachment == attachment)
    }

    /// A box on the way repeats a push that came before, at the worst moment, and drops its answer.
    fn repeat_push(&mut self, net: &mut Network) {
        if net.rng.chance(REPEATED_PUSHES) && !self.pushed.is_empty() && !self.session.is_ended() {
            if self.app.is_eager() || !net.faulty {
                self.app.take(&mut self.session, net, u64::MAX);
            }
            let attachment = net.rng.pick(&self.pushed);
            let _ = self.session.push_answer(attachment);
        }
    }

    /// A stream that nothing proves is given up in time, however much is pushed beside it. What was put on it may take a second
    /// for each KiB.
    fn check_streams(&self, now: Instant, heartbeat: Duration) {
        let carries = |carrier: &&Carrier| self.session.attachment() == Some(carrier.attachment);
        for carrier in self.carriers.iter().filter(carries) {
            let silent = now - carrier.proof.at;
            let (_, bytes) = self.session.held();
            let patience = heartbeat + heartbeat / 2 + Duration::from_millis(bytes * 1000 / 1024);
            assert!(
                carrier.kind != TransportKind::Sse || silent <= patience,
                "a stream that was silent for {silent:?} still carries the session"
            );
        }
    }

    fn drain(&mut self, net: &mut Network, ledger: &mut Ledger, config: &Config) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Attached { attachment, transport, resumed } => {
                    net.log(|| format!("                server {} attached #{attachment}", self.app.who));
                    ledger.attached(self.app.who, attachment, transport as usize, resumed);
                    if let Some(carrier) = self.carrier(attachment) {
                        carrier.proof.at = net.now;
                    }
                }
                Event::Detached { attachment, close, reason, .. } => {
                    net.log(|| format!("                server detached #{attachment} {reason:?}"));
                    let by_gap = self.by_push && reason == DetachReason::Gap;
                    assert!(!by_gap, "a gap in a push is no transport's");
                    if let Some(at) = self.carriers.iter().position(|c| c.attachment == attachment) {
                        self.carriers.remove(at).end(net, close);
                    }
                }
                Event::Auth(_) => self.grant(net, true),
                Event::Ended(ended) => {
                    net.log(|| {
                        format!(
                            "                server {} ended {} {:?}",
                            self.app.who, ended.close, ended.by
                        )
                    });
                    ledger.ended(self.app.who, &self.session, &ended);
                    assert!(self.session.poll_event().is_none(), "an event after the end");
                    self.forget_at = Some(net.now + config.resume_window);
                }
                event => self.app.hear(event, ledger),
            }
        }
        ledger.note(self.app.who, &self.session);
    }

    pub(crate) fn pump(&mut self, net: &mut Network, ledger: &mut Ledger, config: &Config) {
        self.drain(net, ledger, config);
        if self.app.is_eager() || !net.faulty {
            self.app.take(&mut self.session, net, u64::MAX);
        }
        Ledger::check_memory(&self.session, config);
        fire_if_due(&mut self.session, net.now);
        self.drain(net, ledger, config);
        let mut at = 0;
        while let Some(carrier) = self.carriers.get_mut(at) {
            let (attachment, polls) = (carrier.attachment, carrier.kind == TransportKind::LongPolling);
            let mut batch = Vec::new();
            while (batch.len() as u64) < net.max_batch {
                let Some(frame) = self.session.poll_transmit(attachment) else { break };
                if let Frame::Ping(Some(number)) = frame {
                    carrier.proof.pinged = *number;
                }
                batch.push(frame.clone());
            }
            let (empty, full) = (batch.is_empty(), batch.len() as u64 == net.max_batch);
            if !empty {
                carrier.write(net, batch, false);
            }
            if polls && !empty {
                // One answer, and the carrier is spent.
                self.carriers.remove(at);
                let now = net.clock();
                self.session.handle_detach(now, attachment);
            } else if self.session.is_ended() && !full {
                self.carriers.remove(at).end(net, None);
            } else if !full {
                at += 1;
            }
        }
        self.drain(net, ledger, config);
    }
}
