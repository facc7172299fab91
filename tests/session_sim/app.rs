//! The application at either end: sends, takes slowly, answers requests, closes.

use std::collections::VecDeque;
use std::time::Instant;

use throughline::frame::{Close, CloseCode, Message, MessageKind, Role, Seq};
use throughline::session::{Config, Event, SendError, Session};

use super::checks::{Instance, Ledger, body};
use super::network::Network;

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) who: Instance,
    /// Delivered and not taken yet.
    untaken: u64,
    to_answer: VecDeque<(Seq, u64)>,
    /// Whether it takes at once all there is.
    eager: bool,
}

impl App {
    pub(crate) fn new(who: Instance, eager: bool) -> Self {
        Self { who, untaken: 0, to_answer: VecDeque::new(), eager }
    }

    /// Takes an event that is the application's.
    pub(crate) fn hear(&mut self, event: Event, ledger: &mut Ledger) {
        match event {
            Event::Message(Message { seq, kind, body }) => {
                let (count, _) = ledger.delivered(self.who, &body, Some(seq.value()));
                self.untaken += 1;
                if kind == MessageKind::Request {
                    self.to_answer.push_back((seq, count));
                }
            }
            Event::Reply { ticket, answer } => {
                let (Ok(body) | Err(body)) = answer;
                let (_, answers) = ledger.delivered(self.who, &body, None);
                assert_eq!(answers, ticket.value(), "the answer to another request");
                ledger.totals.replies += 1;
            }
            _ => {}
        }
    }

    fn send(
        &self,
        session: &mut Session,
        net: &mut Network,
        ledger: &mut Ledger,
        kind: MessageKind,
        answers: u64,
    ) {
        let count = ledger.next_count(self.who);
        let json = matches!(kind, MessageKind::Failure(_)) || net.rng.chance(400);
        let pad = if net.rng.chance(100) { 60 } else { net.rng.below(20) as usize };
        match session.send(kind, body(self.who, count, answers, pad, json)) {
            Ok(ticket) => ledger.accepted(self.who, ticket, net.now),
            Err(SendError::Closed) => assert!(!session.is_open()),
            Err(_) => {}
        }
    }

    /// One turn: sends some, takes some, answers some.
    pub(crate) fn turn(&mut self, session: &mut Session, net: &mut Network, ledger: &mut Ledger, sends: u64) {
        if session.is_open() {
            for _ in 0..sends {
                let kind = if net.rng.chance(200) { MessageKind::Request } else { MessageKind::Plain };
                self.send(session, net, ledger, kind, 0);
            }
        }
        let some = if self.eager || !net.faulty { u64::MAX } else { net.rng.below(4) };
        self.take(session, net, some);
        while session.is_open() && !self.to_answer.is_empty() && (!net.faulty || net.rng.chance(600)) {
            let Some((seq, count)) = self.to_answer.pop_front() else { break };
            let failed = net.rng.chance(200);
            let kind = if failed { MessageKind::Failure(seq) } else { MessageKind::Reply(seq) };
            if net.rng.chance(900) {
                self.send(session, net, ledger, kind, count);
            }
        }
    }

    pub(crate) fn take(&mut self, session: &mut Session, net: &mut Network, at_most: u64) {
        let count = self.untaken.min(at_most);
        if count > 0 {
            self.untaken -= count;
            let now = net.clock();
            session.acknowledge(now, count);
        }
    }

    pub(crate) fn is_eager(&self) -> bool {
        self.eager
    }

    pub(crate) fn close(&mut self, session: &mut Session, net: &mut Network, ledger: &mut Ledger) {
        net.log(|| format!("{:?} {} closes", session.role(), self.who));
        let now = net.clock();
        session.close(now, Close::new(CloseCode::Normal, "done"));
        ledger.close_called(self.who);
    }

    pub(crate) fn abort(&mut self, session: &mut Session, net: &mut Network, ledger: &mut Ledger) {
        net.log(|| format!("{:?} {} aborts", session.role(), self.who));
        let now = net.clock();
        let code = CloseCode::from_word("kicked").expect("a word");
        session.abort(now, Close::new(code, "enough"));
        ledger.close_called(self.who);
    }
}

/// Acts on what is due, and checks that nothing is due any more.
pub(crate) fn fire(session: &mut Session, now: Instant) {
    session.handle_timeout(now);
    assert!(session.poll_timeout().is_none_or(|due| due > now), "a deadline on which nobody can act");
}

/// What is due already is done behind what has come and before anything is said, as a driver does.
pub(crate) fn fire_if_due(session: &mut Session, now: Instant) {
    if session.poll_timeout().is_some_and(|due| due <= now) {
        fire(session, now);
    }
}

/// Both ends' bounds for one run.
pub(crate) fn config(net: &mut Network, role: Role) -> Config {
    use std::time::Duration;
    use throughline::frame::Window;
    let rng = &mut net.rng;
    let mut config = Config::default();
    let small = rng.chance(500);
    let messages = if small { rng.range(1, 4) } else { rng.range(4, 40) } as u32;
    let bytes = if rng.chance(300) { rng.range(100, 600) } else { 1 << 20 };
    config.window = Window { messages, bytes };
    let messages = if rng.chance(300) { rng.range(1, 4) } else { rng.range(4, 64) } as u32;
    config.send_buffer = Window { messages, bytes: if rng.chance(200) { 200 } else { 1 << 20 } };
    config.early_window =
        Window { messages: rng.range(1, 20) as u32, bytes: if rng.chance(300) { 150 } else { 4096 } };
    config.limits.max_message_bytes = 256;
    config.max_requests = rng.range(1, 8) as usize;
    config.ack_delay = rng.millis(0, 100);
    config.light_ack_delay = rng.millis(0, 5000);
    config.close_timeout = Duration::from_secs(10);
    config.heartbeat = rng.millis(1000, 20_000);
    config.resume_window = rng.millis(40_000, 90_000);
    config.hold = if rng.chance(100) { Duration::ZERO } else { rng.millis(500, 10_000) };
    config.max_hold = rng.millis(1000, 25_000);
    config.unanswered_within = Duration::from_secs(15);
    config.push_retry = rng.millis(10, 500);
    if role == Role::Client && rng.chance(200) {
        config.welcome_within = rng.millis(300, 10_000);
        config.attach_within = rng.millis(300, 5000);
        config.prove_within = rng.millis(300, 3000);
    }
    config
}
