//! One run: two ends, a network, faults, and then peace.

use std::time::{Duration, Instant};

use throughline::frame::Role;
use throughline::session::{EndedBy, Intent};

use super::app::{config, fire};
use super::checks::{Ledger, Totals};
use super::client::Client;
use super::network::{Event, LinkId, Network, Packet};
use super::rng::Rng;
use super::server::Server;

/// So many messages are more than a narrow window has room for, and yet soon through.
const CROWD: u64 = 7;

/// More events than this, and something spins.
const MAX_STEPS: u64 = 300_000;

/// How long after the faults have stopped the last of what they left behind must be mended.
const LAG: Duration = Duration::from_secs(100);

/// The longest that a session nobody comes back to is kept, or remembered.
const MEMORY: Duration = Duration::from_secs(260);

#[derive(Clone, Copy, Debug)]
enum Pace {
    Chaos { every: u64 },
    Peace,
    Closing,
}

pub(crate) struct World {
    net: Network,
    ledger: Ledger,
    client: Client,
    server: Server,
    pace: Pace,
    steps: u64,
    /// How often the ends send, in thousandths; how many faults are worth one restart.
    zeal: u64,
    closes_left: u32,
    heartbeat: Duration,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut net = Network::new(Rng::new(seed), Instant::now(), trace);
        let mut ledger = Ledger::default();
        let (of_client, mut of_server) = (config(&mut net, Role::Client), config(&mut net, Role::Server));
        of_server.early_window = of_client.early_window;
        let heartbeat = of_server.heartbeat;
        let server = Server::new(of_server, &mut net);
        let client = Client::new(of_client, &mut net, &mut ledger);
        let pace = Pace::Chaos { every: net.rng.pick(&[100, 400, 1500, 5000]) };
        let zeal = net.rng.pick(&[100, 400, 900]);
        Self { net, ledger, client, server, pace, steps: 0, zeal, closes_left: 3, heartbeat }
    }

    pub(crate) fn run(mut self) -> Totals {
        let chaos = self.net.rng.millis(1000, 40_000);
        self.net.log(|| format!("client {:?}\nserver {:?}", self.client.config, self.server.config));
        self.client.dial(&mut self.net, &mut self.ledger, Intent::Attach);
        for role in [Role::Client, Role::Server] {
            self.net.schedule(Duration::ZERO, Event::App(role));
        }
        self.net.schedule(Duration::ZERO, Event::Fault);
        self.advance(chaos);
        self.calm();
        self.close();
        self.ledger.finish(self.server.life);
        self.ledger.totals.steps = self.steps;
        self.ledger.totals
    }

    /// The faults stop; the applications go on. What was outstanding must come through.
    fn calm(&mut self) {
        self.net.log(|| "---- peace".to_owned());
        self.net.calm();
        self.pace = Pace::Peace;
        let then = self.net.now;
        self.advance(LAG);
        let client = &self.client;
        assert!(!client.session.is_ended(), "nobody closed it");
        self.ledger.check_progress(client.app.who, then);
        assert!(client.session.attachment().is_some(), "the client found no way");
        let entry = self.server.entries.get(&client.session.id()).expect("the client's session");
        assert_eq!(entry.session.epoch(), client.session.epoch());
        assert_eq!(entry.session.attachment(), client.session.attachment());
        self.ledger.check_progress(entry.app.who, then);
    }

    /// One end closes, or both at once; the other hears of it, and nothing is left anywhere.
    fn close(&mut self) {
        self.net.log(|| "---- closing".to_owned());
        self.pace = Pace::Closing;
        self.client.sessions_left = 0;
        let (first, both) = (self.net.rng.below(2), self.net.rng.chance(250));
        let (net, ledger) = (&mut self.net, &mut self.ledger);
        let id = self.client.session.id();
        let entry = self.server.entries.get_mut(&id).expect("the client's session");
        let (ours, theirs) = (self.client.app.who, entry.app.who);
        if net.rng.chance(500) {
            // Where the windows are narrow, whoever closes has to wait for room.
            self.client.app.turn(&mut self.client.session, net, ledger, CROWD);
            entry.app.turn(&mut entry.session, net, ledger, CROWD);
            ledger.totals.crowds += u64::from(both);
        }
        if first == 1 || both {
            entry.app.close(&mut entry.session, net, ledger);
            entry.pump(net, ledger, &self.server.config);
        }
        if first == 0 || both {
            self.client.app.close(&mut self.client.session, net, ledger);
            self.client.pump(net, ledger);
        }
        self.net.max_batch = 1000;
        self.advance(Duration::from_secs(8));
        let closer = if first == 0 { ours } else { theirs };
        for who in [ours, theirs] {
            let by = self.ledger.has_ended(who).expect("the close came through");
            assert!(by != EndedBy::Timeout, "a close in peace ran into its timeout");
        }
        if !both {
            assert_eq!(self.ledger.undelivered(closer), 0, "a graceful close in peace lost something");
        }
        self.advance(MEMORY);
        assert!(self.server.entries.is_empty(), "a session nobody uses is kept");
    }

    /// Goes on for so long.
    fn advance(&mut self, span: Duration) {
        let until = self.net.now + span;
        loop {
            let timers = [self.client.session.poll_timeout(), self.server.poll_timeout(), self.net.next_at()];
            let Some(next) = timers.into_iter().flatten().min().filter(|next| *next <= until) else { break };
            self.steps += 1;
            assert!(self.steps < MAX_STEPS, "it spins");
            self.net.now = self.net.now.max(next);
            if self.net.next_at().is_some_and(|at| at <= self.net.now) {
                if let Some(event) = self.net.pop() {
                    self.happen(event);
                }
            } else {
                self.fire();
            }
        }
        self.net.now = self.net.now.max(until);
    }

    fn fire(&mut self) {
        let now = self.net.now;
        if self.client.session.poll_timeout().is_some_and(|due| due <= now) {
            fire(&mut self.client.session, now);
            self.client.pump(&mut self.net, &mut self.ledger);
        }
        self.server.fire(&mut self.net, &mut self.ledger);
    }

    fn happen(&mut self, event: Event) {
        let (net, ledger) = (&mut self.net, &mut self.ledger);
        match event {
            Event::Packet { sent, packet } => {
                if net.arrives(sent, &packet) {
                    self.arrive(packet);
                }
            }
            Event::PushTimeout { link, no } => self.client.push_timed_out(net, ledger, link, no),
            Event::Redial => self.client.redial(net, ledger),
            Event::App(role) => self.app(role),
            Event::Fault => {
                if let Pace::Chaos { every } = self.pace {
                    let wait = net.rng.millis(0, 2 * every);
                    net.schedule(wait, Event::Fault);
                    self.fault();
                }
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let (net, ledger) = (&mut self.net, &mut self.ledger);
        match packet {
            Packet::Pipe { link, frames } => self.server.pipe(net, ledger, link, frames),
            Packet::Request { link, no, deaf, asked } => {
                self.server.request(net, ledger, (link, no, deaf), asked)
            }
            Packet::Stream { link, frames, .. } => self.client.stream(net, ledger, link, frames),
            Packet::Answer { link, no, frames, refused } => {
                self.client.answer(net, ledger, (link, no), frames, refused);
            }
            Packet::Ended { link, .. } | Packet::Lost { link, at: Role::Client } => {
                self.client.lost(net, ledger, link)
            }
            Packet::Lost { link, at: Role::Server } => self.server.lost(net, ledger, link),
        }
    }

    /// The application's turn. In peace both ends send about once per heartbeat: pushes that go on must not keep a
    /// dead stream alive.
    fn app(&mut self, role: Role) {
        let (net, ledger) = (&mut self.net, &mut self.ledger);
        let (wait, sends) = match self.pace {
            Pace::Chaos { .. } => {
                let sends = if net.rng.chance(self.zeal) { net.rng.below(5) } else { 0 };
                (net.rng.millis(0, 700), sends)
            }
            Pace::Peace => (self.heartbeat, 1),
            Pace::Closing => (Duration::from_secs(1), 0),
        };
        net.schedule(wait, Event::App(role));
        match role {
            Role::Client => {
                self.client.app.turn(&mut self.client.session, net, ledger, sends);
                self.client.pump(net, ledger);
            }
            Role::Server => {
                for entry in self.server.entries.values_mut() {
                    entry.app.turn(&mut entry.session, net, ledger, sends);
                    entry.pump(net, ledger, &self.server.config);
                }
            }
        }
    }

    fn fault(&mut self) {
        let (net, ledger) = (&mut self.net, &mut self.ledger);
        match net.rng.below(100) {
            0..25 => {
                if let Some(link) = self.client.random_link(net) {
                    net.hurt(link);
                }
            }
            25..45 => self.client.dial(net, ledger, Intent::Candidate),
            45..52 => {
                for _ in 0..net.rng.range(2, 5) {
                    self.client.dial(net, ledger, Intent::Candidate);
                }
            }
            52..60 => self.client.dial(net, ledger, Intent::Attach),
            60..70 => {
                if let Some(link) = self.client.random_link(net) {
                    self.client.lost(net, ledger, link);
                }
            }
            70..73 => self.restart(),
            73..76 => self.jump(),
            76..84 => self.end_some(),
            84..88 => {
                let token = throughline::frame::Json::of("fresh").expect("JSON");
                self.client.session.refresh_auth(token);
                self.client.pump(net, ledger);
            }
            88..91 => self.server.forge(net, ledger, self.client.session.id()),
            91..95 => {
                // A look before the time, on both ends.
                fire(&mut self.client.session, net.now);
                self.server.pump_all(net, ledger);
            }
            _ => {
                self.client.session.shrink();
                self.server.entries.values_mut().for_each(|entry| entry.session.shrink());
            }
        }
    }

    fn restart(&mut self) {
        if self.net.rng.chance(500) {
            return;
        }
        self.ledger.totals.restarts += 1;
        let links: Vec<LinkId> = self.server.restart(&mut self.net);
        for link in links {
            if self.net.rng.chance(800) {
                self.client.lost(&mut self.net, &mut self.ledger, link);
            } else {
                self.net.hurt(link);
            }
        }
    }

    /// Both ends sleep through some time.
    fn jump(&mut self) {
        if self.net.rng.chance(500) {
            return;
        }
        self.ledger.totals.jumps += 1;
        self.net.now += self.net.rng.millis(1000, 200_000);
        self.net.jumped_at = self.net.now;
        self.net.log(|| "time jumps".to_owned());
    }

    /// The application closes or aborts, at one end or both.
    fn end_some(&mut self) {
        let (net, ledger) = (&mut self.net, &mut self.ledger);
        if self.closes_left == 0 {
            return;
        }
        self.closes_left -= 1;
        let (at_client, at_server, abort) = (net.rng.chance(500), net.rng.chance(500), net.rng.chance(250));
        ledger.totals.duels += u64::from(at_client && at_server);
        if let (true, Some(entry)) = (at_server, self.server.entries.get_mut(&self.client.session.id())) {
            if entry.session.is_open() {
                if abort {
                    entry.app.abort(&mut entry.session, net, ledger);
                } else {
                    entry.app.close(&mut entry.session, net, ledger);
                }
                entry.pump(net, ledger, &self.server.config);
            }
        }
        if at_client && self.client.session.is_open() {
            if abort {
                self.client.app.abort(&mut self.client.session, net, ledger);
            } else {
                self.client.app.close(&mut self.client.session, net, ledger);
            }
            self.client.pump(net, ledger);
        }
    }
}
