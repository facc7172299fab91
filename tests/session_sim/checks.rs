//! What was promised, and whether it was kept: every message of every session, from acceptance to its fate.

use std::collections::BTreeMap;
use std::time::Instant;

use throughline::frame::{Attachment, Body, Role, SessionId};
use throughline::session::{Config, Ended, EndedBy, Session, Ticket};

/// Which session object: each end's each life has its own.
pub(crate) type Instance = usize;

#[derive(Debug)]
struct Record {
    role: Role,
    id: SessionId,
    /// Which life of its process.
    life: u32,
    /// When each message was accepted.
    accepted: Vec<Instant>,
    acked: u64,
    /// The latest message delivered here, by who sent it.
    delivered: BTreeMap<Instance, u64>,
    /// The latest message of this one that was delivered anywhere, and in which lives of the peer.
    arrived: u64,
    arrived_in: Vec<(u32, Instance)>,
    handler_runs: u32,
    attachment: u64,
    close_called: bool,
    ended: Option<EndedBy>,
    undelivered: usize,
    certainly_not: Vec<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    records: Vec<Record>,
    pub(crate) totals: Totals,
}

/// What happened in all: a run in which nothing happens proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) steps: u64,
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    pub(crate) replies: u64,
    pub(crate) unknown: u64,
    pub(crate) certain: u64,
    pub(crate) attached: [u64; 3],
    pub(crate) candidates: u64,
    pub(crate) sessions: u64,
    pub(crate) restarts: u64,
    pub(crate) jumps: u64,
    pub(crate) duels: u64,
    pub(crate) crowds: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.replies += other.replies;
        self.unknown += other.unknown;
        self.certain += other.certain;
        for (mine, theirs) in self.attached.iter_mut().zip(other.attached) {
            *mine += theirs;
        }
        self.candidates += other.candidates;
        self.sessions += other.sessions;
        self.restarts += other.restarts;
        self.jumps += other.jumps;
        self.duels += other.duels;
        self.crowds += other.crowds;
    }

    pub(crate) fn assert_covered(&self) {
        let counts = [self.delivered, self.replies, self.unknown, self.certain, self.candidates];
        assert!(counts.iter().chain(&self.attached).all(|count| *count > 100), "{self:?}");
        assert!(self.restarts.min(self.jumps).min(self.duels).min(self.crowds) > 0, "{self:?}");
    }
}

/// A message's body: who sent it, its count there, and the request that it answers.
pub(crate) fn body(from: Instance, count: u64, answers: u64, pad: usize, json: bool) -> Body {
    if json {
        return Body::json(&(from, count, answers, "x".repeat(pad))).expect("plain JSON");
    }
    let mut bytes = Vec::with_capacity(24 + pad);
    for word in [from as u64, count, answers] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.resize(24 + pad, 0);
    Body::from(bytes)
}

fn read(body: &Body) -> (Instance, u64, u64) {
    if let Body::Json(_) = body {
        let (from, count, answers, _): (usize, u64, u64, String) = body.to().expect("our own JSON");
        return (from, count, answers);
    }
    let word = |at: usize| u64::from_le_bytes(body.as_bytes()[at..at + 8].try_into().expect("8 bytes"));
    (word(0) as usize, word(8), word(16))
}

impl Ledger {
    pub(crate) fn open(&mut self, role: Role, id: SessionId, life: u32) -> Instance {
        self.totals.sessions += u64::from(role == Role::Client);
        self.records.push(Record {
            role,
            id,
            life,
            accepted: Vec::new(),
            acked: 0,
            delivered: BTreeMap::new(),
            arrived: 0,
            arrived_in: Vec::new(),
            handler_runs: 0,
            attachment: 0,
            close_called: false,
            ended: None,
            undelivered: 0,
            certainly_not: Vec::new(),
        });
        self.records.len() - 1
    }

    pub(crate) fn next_count(&self, who: Instance) -> u64 {
        self.records[who].accepted.len() as u64 + 1
    }

    pub(crate) fn accepted(&mut self, who: Instance, ticket: Ticket, now: Instant) {
        let record = &mut self.records[who];
        assert!(!record.close_called && record.ended.is_none(), "accepted after close");
        record.accepted.push(now);
        assert_eq!(ticket.value(), record.accepted.len() as u64, "tickets count 1, 2, 3");
        self.totals.accepted += 1;
    }

    /// Checks one delivery; gives the request that it answers.
    pub(crate) fn delivered(&mut self, who: Instance, message: &Body, seq: Option<u64>) -> (u64, u64) {
        let (from, count, answers) = read(message);
        let Record { life, id, role, .. } = self.records[who];
        let receiver = &mut self.records[who];
        assert!(!receiver.close_called, "a message was delivered after close");
        assert!(receiver.ended.is_none(), "a message was delivered after the end");
        let last = receiver.delivered.entry(from).or_default();
        assert_eq!(count, *last + 1, "lost, repeated or reordered: {from} to {who}");
        *last = count;
        assert!(receiver.delivered.len() == 1, "one session heard two");
        let sender = &mut self.records[from];
        assert_eq!(sender.id, id, "delivered to another session");
        assert!(sender.role != role, "delivered to the same side");
        assert!(seq.is_none_or(|seq| seq == count), "numbers count 1, 2, 3");
        assert!(count <= sender.accepted.len() as u64, "delivered what was never accepted");
        if !sender.arrived_in.contains(&(life, who)) {
            let twice = sender.arrived_in.iter().any(|(other, _)| *other == life);
            assert!(!twice, "one life of the server delivered a message twice, in two sessions");
            sender.arrived_in.push((life, who));
        }
        sender.arrived = sender.arrived.max(count);
        self.totals.delivered += 1;
        (count, answers)
    }

    pub(crate) fn attached(&mut self, who: Instance, attachment: Attachment, kind: usize, resumed: bool) {
        let record = &mut self.records[who];
        assert!(attachment.value() >= record.attachment, "a lower attachment carries the session");
        record.attachment = attachment.value();
        self.totals.attached[kind] += 1;
        if record.role == Role::Server {
            assert_eq!(resumed, record.handler_runs > 0, "the handler runs at the first attach, once");
            record.handler_runs += u32::from(!resumed);
        }
    }

    pub(crate) fn close_called(&mut self, who: Instance) {
        self.records[who].close_called = true;
    }

    pub(crate) fn ended(&mut self, who: Instance, session: &Session, ended: &Ended) {
        let record = &mut self.records[who];
        assert!(record.ended.is_none(), "ended twice");
        assert_eq!(ended.close.code, session.end().expect("ended").code);
        let acked = session.acked_ticket().value();
        let reported: Vec<u64> = ended.undelivered.iter().map(|message| message.ticket.value()).collect();
        let expected: Vec<u64> = (acked + 1..=record.accepted.len() as u64).collect();
        assert_eq!(reported, expected, "accepted is acknowledged or reported, and not both");
        for message in &ended.undelivered {
            let (from, count, _) = read(&message.body);
            assert_eq!((from, count), (who, message.ticket.value()), "reported as something else");
            if message.seq.is_none() {
                record.certainly_not.push(count);
            }
        }
        record.ended = Some(ended.by);
        record.undelivered = reported.len();
        self.totals.certain += record.certainly_not.len() as u64;
        self.totals.unknown += (reported.len() - record.certainly_not.len()) as u64;
        self.note(who, session);
    }

    /// Checks what must hold at any time.
    pub(crate) fn note(&mut self, who: Instance, session: &Session) {
        let record = &mut self.records[who];
        let acked = session.acked_ticket().value();
        assert!(acked >= record.acked, "a receipt was taken back");
        assert!(acked <= record.arrived, "acknowledged and never delivered");
        record.acked = acked;
    }

    /// Checks that memory is within bounds.
    pub(crate) fn check_memory(session: &Session, config: &Config) {
        let (count, bytes) = session.held();
        let bound = config.send_buffer;
        assert!(count <= bound.messages as usize, "send buffer: {count} messages");
        assert!(bytes <= bound.bytes || count <= 1, "send buffer: {bytes} bytes");
        let untaken = session.receipt().received.since(session.receipt().taken);
        let early = if session.role() == Role::Server { config.early_window.messages } else { 0 };
        let bound = config.window.messages.max(early);
        assert!(untaken <= u64::from(bound), "receive buffer: {untaken} messages");
    }

    /// Everything that was accepted before `then` has met its fate.
    pub(crate) fn check_progress(&self, who: Instance, then: Instant) {
        let record = &self.records[who];
        let settled = |accepted: &&Instant| **accepted < then;
        let old = record.accepted.iter().take_while(settled).count() as u64;
        assert!(
            record.acked >= old || record.ended.is_some(),
            "{:?} {who}: {} of {old} were acknowledged long after the faults stopped",
            record.role,
            record.acked,
        );
    }

    pub(crate) fn has_ended(&self, who: Instance) -> Option<EndedBy> {
        self.records[who].ended
    }

    pub(crate) fn undelivered(&self, who: Instance) -> usize {
        self.records[who].undelivered
    }

    /// Checks what can only be known when nothing can arrive any more. A server that was restarted reports nothing.
    pub(crate) fn finish(&self, life: u32) {
        for (who, record) in self.records.iter().enumerate() {
            let forgotten = record.role == Role::Server && record.life != life;
            assert!(record.ended.is_some() || forgotten, "{:?} {who} never ended", record.role);
            for count in &record.certainly_not {
                assert!(
                    *count > record.arrived,
                    "{who}: {count} was reported as not sent, and was delivered"
                );
            }
        }
    }
}
