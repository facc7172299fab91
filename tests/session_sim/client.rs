//! The client's side of the wire: what its transports, driver and dialling do.

use std::sync::Arc;

use throughline::frame::{Frame, Json, Push, Role, SessionId, SessionKey, TransportKind};
use throughline::session::{Config, Event, Intent, Session, Via};

use super::app::{App, fire_if_due};
use super::checks::Ledger;
use super::network::{self, Asked, LinkId, Network, PUSH_TIMEOUT};

/// One transport that was dialled.
#[derive(Debug)]
struct Line {
    link: LinkId,
    kind: TransportKind,
    attachment: throughline::frame::Attachment,
    /// `hello` has left.
    flushed: bool,
    /// What pushes begin with, once welcomed.
    push: Option<Box<Push>>,
    in_flight: Option<u64>,
    open: Option<u64>,
}

pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) app: App,
    key: SessionKey,
    pub(crate) config: Arc<Config>,
    lines: Vec<Line>,
    /// Given up, and still bringing frames: a driver that is slow to drop them.
    stale: Vec<Line>,
    hears_stale: bool,
    redialling: bool,
    pub(crate) sessions_left: u32,
    /// The kinds it dials.
    pub(crate) kinds: Vec<TransportKind>,
}

fn begin(config: &Arc<Config>, net: &mut Network, ledger: &mut Ledger) -> (Session, SessionKey, App) {
    let (id, key) = (SessionId::from_bytes(net.rng.bytes()), SessionKey::from_bytes(net.rng.bytes()));
    let session = Session::client(Arc::clone(config), id, key.clone(), net.now);
    let app = App::new(ledger.open(Role::Client, id, 0), net.rng.chance(300));
    (session, key, app)
}

impl Client {
    pub(crate) fn new(config: Config, net: &mut Network, ledger: &mut Ledger) -> Self {
        let config = Arc::new(config);
        let (session, key, app) = begin(&config, net, ledger);
        let kinds = match net.rng.below(4) {
            0 => vec![net.rng.pick(&TransportKind::ALL)],
            _ => TransportKind::ALL.to_vec(),
        };
        Self {
            session,
            app,
            key,
            config,
            lines: Vec::new(),
            stale: Vec::new(),
            hears_stale: net.rng.chance(300),
            redialling: false,
            sessions_left: u32::MAX,
            kinds,
        }
    }

    /// Dials and introduces a transport.
    pub(crate) fn dial(&mut self, net: &mut Network, ledger: &mut Ledger, intent: Intent) {
        let kind = net.rng.pick(&self.kinds);
        let auth = net.rng.chance(100).then(|| Json::of("token").expect("JSON"));
        let now = net.clock();
        if let Some(attachment) = self.session.introduce(now, kind, intent, auth) {
            let link = net.dial();
            net.log(|| format!("link {link} {kind} is #{attachment} {intent:?}"));
            ledger.totals.candidates += u64::from(intent == Intent::Candidate);
            self.lines.push(Line {
                link,
                kind,
                attachment,
                flushed: false,
                push: None,
                in_flight: None,
                open: None,
            });
        }
        self.pump(net, ledger);
    }

    pub(crate) fn redial(&mut self, net: &mut Network, ledger: &mut Ledger) {
        self.redialling = false;
        if self.session.attachment().is_none() {
            self.dial(net, ledger, Intent::Attach);
        }
    }

    pub(crate) fn random_link(&self, net: &mut Network) -> Option<LinkId> {
        let at = net.rng.below(self.lines.len() as u64) as usize;
        self.lines.get(at).map(|line| line.link)
    }

    fn line(&mut self, link: LinkId) -> Option<&mut Line> {
        let stale = if self.hears_stale { &mut self.stale[..] } else { &mut [] };
        self.lines.iter_mut().chain(stale).find(|line| line.link == link)
    }

    /// Frames down a stream, or in the answer to `hello` or a poll.
    fn frames(&mut self, net: &mut Network, ledger: &mut Ledger, link: LinkId, frames: Vec<Frame>) {
        for frame in frames {
            let Some(line) = self.line(link) else { return };
            let attachment = line.attachment;
            if let (Frame::Welcome(welcome), None) = (&frame, &line.push) {
                let (session, epoch) = (welcome.session, welcome.epoch);
                let key = self.key.clone();
                let push = Push { session, key, epoch, attachment };
                if let Some(line) = self.line(link) {
                    line.push = Some(Box::new(push));
                }
            }
            let now = net.clock();
            self.session.handle_frame(now, attachment, Via::Carrier, frame);
            self.drain(net, ledger);
        }
    }

    pub(crate) fn stream(
        &mut self,
        net: &mut Network,
        ledger: &mut Ledger,
        link: LinkId,
        frames: Vec<Frame>,
    ) {
        self.frames(net, ledger, link, frames);
        self.pump(net, ledger);
    }

    pub(crate) fn answer(
        &mut self,
        net: &mut Network,
        ledger: &mut Ledger,
        (link, no): (LinkId, u64),
        frames: Vec<Frame>,
        refused: bool,
    ) {
        let Some(line) = self.line(link) else { return };
        let (attachment, now) = (line.attachment, net.clock());
        if line.in_flight == Some(no) {
            line.in_flight = None;
            let carried = self.session.attachment();
            for frame in frames {
                self.session.handle_frame(now, attachment, Via::Push, frame);
            }
            let carries = self.session.attachment();
            assert!(carries.is_none() || carries == carried, "the answer to a push is no answer to attach");
            self.drain(net, ledger);
            self.session.handle_push_ended(now, attachment, true);
        } else if line.open == Some(no) {
            line.open = None;
            let is_poll = line.push.is_some();
            self.frames(net, ledger, link, frames);
            if refused {
                self.lose(net, link);
            } else if is_poll {
                self.session.handle_poll_ended(now, attachment);
            }
        }
        self.pump(net, ledger);
    }

    pub(crate) fn push_timed_out(&mut self, net: &mut Network, ledger: &mut Ledger, link: LinkId, no: u64) {
        if let Some(line) = self.line(link).filter(|line| line.in_flight == Some(no)) {
            line.in_flight = None;
            let attachment = line.attachment;
            net.log(|| format!("link {link} push {no} timed out"));
            self.session.handle_push_ended(net.now, attachment, false);
        }
        self.pump(net, ledger);
    }

    /// A transport has ended.
    pub(crate) fn lost(&mut self, net: &mut Network, ledger: &mut Ledger, link: LinkId) {
        self.lose(net, link);
        self.pump(net, ledger);
    }

    fn lose(&mut self, net: &mut Network, link: LinkId) {
        self.stale.retain(|line| line.link != link);
        if let Some(at) = self.lines.iter().position(|line| line.link == link) {
            let line = self.lines.remove(at);
            let now = net.clock();
            self.session.handle_detach(now, line.attachment);
        }
    }

    fn drain(&mut self, net: &mut Network, ledger: &mut Ledger) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Attached { attachment, transport, resumed } => {
                    net.log(|| format!("client attached #{attachment}"));
                    ledger.attached(self.app.who, attachment, transport as usize, resumed);
                }
                Event::Detached { attachment, reason, .. } => {
                    net.log(|| format!("client detached #{attachment} {reason:?}"));
                    if let Some(at) = self.lines.iter().position(|line| line.attachment == attachment) {
                        let line = self.lines.remove(at);
                        self.stale.push(line);
                    }
                }
                Event::Ended(ended) => {
                    net.log(|| format!("client {} ended {} {:?}", self.app.who, ended.close, ended.by));
                    ledger.ended(self.app.who, &self.session, &ended);
                    assert!(self.session.poll_event().is_none(), "an event after the end");
                }
                event => self.app.hear(event, ledger),
            }
        }
        ledger.note(self.app.who, &self.session);
        if self.app.is_eager() || !net.faulty {
            self.app.take(&mut self.session, net, u64::MAX);
        }
    }

    /// Writes what there is, redials, and begins anew after an end.
    pub(crate) fn pump(&mut self, net: &mut Network, ledger: &mut Ledger) {
        self.drain(net, ledger);
        Ledger::check_memory(&self.session, &self.config);
        fire_if_due(&mut self.session, net.now);
        self.drain(net, ledger);
        for at in 0..self.lines.len() {
            self.transmit(net, at);
        }
        self.drain(net, ledger);
        if self.session.is_ended() {
            self.begin_anew(net, ledger);
        }
        if !self.redialling && !self.session.is_ended() && self.session.attachment().is_none() {
            self.redialling = true;
            let wait = net.rng.millis(0, 1500);
            net.schedule(wait, network::Event::Redial);
        }
    }

    fn begin_anew(&mut self, net: &mut Network, ledger: &mut Ledger) {
        self.lines.clear();
        self.stale.clear();
        if self.sessions_left > 0 {
            self.sessions_left -= 1;
            (self.session, self.key, self.app) = begin(&self.config, net, ledger);
            net.log(|| format!("client begins anew as {}", self.app.who));
        }
    }

    fn transmit(&mut self, net: &mut Network, at: usize) {
        let max_batch = net.max_batch;
        loop {
            let line = &mut self.lines[at];
            let (link, attachment) = (line.link, line.attachment);
            if let Some(Frame::Poll(poll)) = self.session.poll_request(attachment) {
                line.open = Some(net.request(link, Asked::Poll(poll.clone())));
            }
            let ready = match line.kind {
                TransportKind::WebSocket => true,
                // A leaving transport waits for the push in flight, then says the close.
                _ if self.session.is_ended() => line.push.is_some(),
                _ => !line.flushed || (line.push.is_some() && line.in_flight.is_none()),
            };
            let mut batch = Vec::new();
            while ready && (batch.len() as u64) < max_batch {
                match self.session.poll_transmit(attachment) {
                    Some(Frame::Poll(poll)) => line.open = Some(net.request(link, Asked::Poll(poll.clone()))),
                    Some(frame) => batch.push(frame.clone()),
                    None => break,
                }
            }
            if batch.is_empty() {
                return;
            }
            let first = !std::mem::replace(&mut line.flushed, true);
            assert!(first == matches!(batch.first(), Some(Frame::Hello(_))), "hello comes first, once");
            match (line.kind, &line.push) {
                (TransportKind::WebSocket, _) => net.pipe_up(link, batch),
                (_, None) => line.open = Some(net.request(link, Asked::Hello(batch))),
                (_, Some(push)) => {
                    let no = net.request(link, Asked::Push(push.clone(), batch));
                    line.in_flight = Some(no);
                    net.schedule(PUSH_TIMEOUT, network::Event::PushTimeout { link, no });
                }
            }
        }
    }
}
