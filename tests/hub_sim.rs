//! A hundred members of three rooms over real sockets: they join, leave, speak, stop reading, are cut, change transports and
//! come back in new sessions while others speak. Each holds what it is told against its position, and in the end each knows
//! all that was said, or how much it was not told.
//!
//! `MEMBERS` and `STEPS` set how many there are (default 100) and how much each does (default 25).

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they expect by panicking")]

#[expect(dead_code, reason = "the session simulation uses all of it")]
#[path = "session_sim/rng.rs"]
mod rng;
#[path = "support/mod.rs"]
mod support;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rng::Rng;
use support::{Served, within};
use throughline::client::Backoff;
use throughline::client::rooms::{Event, RoomError};
use throughline::frame::{Json, TransportKind, Window};
use throughline::hub::{Hub, Keep, RoomConfig, Slow};
use throughline::room::payload::{Change, Join, Notice, Position, Who};
use throughline::server::{Attempt, Grant};
use throughline::session::Config;
use throughline::{Body, Client, Rooms, Server, Socket};

/// With history, and everything arrives; with history and little patience; the latest values only.
const ROOMS: [&str; 3] = ["whole", "newest", "values"];

fn hub() -> Hub {
    let shape = |name: &str| {
        let mut config = RoomConfig::default();
        let history = Keep { messages: 200, bytes: 1 << 20, age: Duration::from_secs(600) };
        match name {
            "whole" => {
                config.history = history;
                config.backlog = Window { messages: 1 << 20, bytes: 1 << 30 };
            }
            "newest" => {
                config.history = history;
                (config.slow, config.backlog.messages) = (Slow::DropOldest, 8);
            }
            _ => (config.slow, config.backlog.messages) = (Slow::Conflate, 16),
        }
        config
    };
    Hub::builder().rooms(shape).build()
}

/// What was said where, as the first to hear it heard it: one order for all.
#[derive(Default)]
struct Record {
    said: Mutex<HashMap<(String, Position), Body>>,
    heard: AtomicU64,
    missed: AtomicU64,
    recovered: AtomicU64,
}

impl Record {
    fn hold(&self, room: &str, at: Position, body: &Body) {
        let mut said = self.said.lock().unwrap();
        let first = said.entry((room.to_owned(), at)).or_insert_with(|| body.clone());
        assert_eq!(first, body, "{room} at {at:?}");
        self.heard.fetch_add(1, SeqCst);
    }
}

/// Where a member stands in a room, by what it was told.
struct Standing {
    position: Position,
    missed: u64,
    present: Option<Vec<Who>>,
}

struct Member {
    url: String,
    name: String,
    rng: Rng,
    rooms: Rooms,
    record: Arc<Record>,
    standing: HashMap<String, Standing>,
    /// By the answers it was given, which may come before the stream begins or ends.
    joined: HashSet<String>,
    /// What it asked to go on from.
    asked: HashMap<String, Position>,
    /// Kept over sessions.
    kept: HashMap<String, Position>,
}

async fn connect(url: &str, name: &str, kind: TransportKind) -> Rooms {
    let mut config = Config::default();
    config.window.messages = 8;
    config.push_retry = Duration::from_millis(20);
    let token = Json::of(name).unwrap();
    let backoff = Backoff::default().base(Duration::from_millis(5)).cap(Duration::from_millis(50));
    let builder =
        Client::builder(url).transports([kind, TransportKind::WebSocket, TransportKind::LongPolling]);
    // A hundred of them share a thread, on a machine that may have other work.
    let builder = builder.session(config).backoff(backoff).give_up_after(None).token(move |_| {
        let token = token.clone();
        async move { Ok(token) }
    });
    Rooms::over(within(120, "the client connects", builder.connect()).await.unwrap())
}

impl Member {
    async fn new(url: String, number: u64, record: Arc<Record>) -> Self {
        let mut rng = Rng::new(number);
        // Two sessions each for some names.
        let name = format!("m{}", number % 80);
        let rooms = connect(&url, &name, rng.pick(&TransportKind::ALL)).await;
        let (standing, asked, kept) = (HashMap::new(), HashMap::new(), HashMap::new());
        let joined = HashSet::new();
        Self { url, name, rng, rooms, record, standing, joined, asked, kept }
    }

    /// Awaits an answer while receiving.
    async fn ask<T>(&mut self, answer: impl Future<Output = Result<T, RoomError>>) -> Result<T, RoomError> {
        let mut answer = pin!(answer);
        let asking = async {
            loop {
                tokio::select! {
                    answer = &mut answer => return answer,
                    event = self.rooms.recv() => {
                        let event = event.expect("the session lives");
                        Self::hold(&self.record, &mut self.standing, &mut self.asked, event);
                    }
                }
            }
        };
        within(120, "an answer", asking).await
    }

    fn hold(
        record: &Record,
        standing: &mut HashMap<String, Standing>,
        asked: &mut HashMap<String, Position>,
        event: Event,
    ) {
        let Event::Room(notice) = event else { panic!("{event:?}") };
        let room = notice.room().to_owned();
        match notice {
            Notice::Begin(begin) => {
                let since = asked.remove(&room);
                if begin.recovered {
                    assert_eq!(since, Some(begin.position()), "it goes on where it was asked to");
                    record.recovered.fetch_add(1, SeqCst);
                }
                let present = None;
                standing.insert(room, Standing { position: begin.position(), missed: 0, present });
            }
            Notice::Said(said) => {
                let here = standing.get_mut(&room).expect("its stream has begun");
                let expected = here.position.offset.value() + here.missed + 1;
                assert_eq!(said.at.value(), expected, "nothing is missing in {room}");
                here.position.offset = said.at;
                here.missed = 0;
                record.hold(&room, here.position, &said.body);
            }
            Notice::Missed(missed) => {
                assert_ne!(room, "whole");
                let here = standing.get_mut(&room).expect("its stream has begun");
                here.missed += missed.count;
                assert_eq!(missed.to.value(), here.position.offset.value() + here.missed);
                record.missed.fetch_add(missed.count, SeqCst);
            }
            Notice::Left(_) => {
                standing.remove(&room);
            }
            Notice::Present(list) => {
                let here = standing.get_mut(&room).expect("its stream has begun");
                let who = list.members.into_iter().map(|member| member.who);
                let known = here.present.get_or_insert_default();
                if list.first {
                    known.clear();
                }
                known.extend(who);
            }
            Notice::Change(change) => {
                let here = standing.get_mut(&room).expect("its stream has begun");
                let known = here.present.as_mut().expect("the list comes first");
                match change {
                    Change::Joined { member, .. } => {
                        assert!(!known.contains(&member.who));
                        known.push(member.who);
                    }
                    Change::Gone { who, .. } => {
                        let before = known.len();
                        known.retain(|known| *known != who);
                        assert_eq!(known.len() + 1, before);
                    }
                    Change::Updated { .. } => {}
                }
            }
            other => panic!("{other:?}"),
        }
    }

    async fn step(&mut self) {
        let name = self.rng.pick(&ROOMS);
        let room = self.rooms.room(name);
        match self.rng.below(100) {
            0..=19 => self.join(name).await,
            20..=24 => {
                let joined = self.joined.remove(name);
                let left = self.ask(async move { room.leave().await }).await;
                assert_eq!(left.is_ok(), joined, "{left:?}");
            }
            25..=54 => {
                let text = format!("{} {}", self.name, self.rng.next());
                let key = format!("k{}", self.rng.below(4));
                let said = async move {
                    if name == "values" {
                        room.publish_keyed(key, text).await
                    } else {
                        room.publish(text).await
                    }
                };
                self.ask(said).await.unwrap();
            }
            55..=74 => self.listen().await,
            75..=84 => {
                // It reads nothing, while others speak.
                for _ in 0..self.rng.below(300) {
                    tokio::task::yield_now().await;
                }
            }
            85..=91 => self.rooms.socket().cut(),
            92..=95 => self.rooms.socket().move_to(self.rng.pick(&TransportKind::ALL)),
            _ => self.come_back().await,
        }
    }

    async fn join(&mut self, name: &str) {
        let room = self.rooms.room(name);
        let presence = self.rng.below(2) == 0;
        let is_known = self.standing.contains_key(name) || self.joined.contains(name);
        let since = if is_known { None } else { self.kept.remove(name) };
        since.map(|since| self.asked.insert(name.to_owned(), since));
        let join = Join { since, presence, ..Join::default() };
        self.ask(async move { room.join(join).await }).await.unwrap();
        self.joined.insert(name.to_owned());
    }

    /// Receives what is there.
    async fn listen(&mut self) {
        for _ in 0..self.rng.below(100) {
            let Ok(event) = tokio::time::timeout(Duration::from_millis(1), self.rooms.recv()).await else {
                return;
            };
            Self::hold(&self.record, &mut self.standing, &mut self.asked, event.expect("the session lives"));
        }
    }

    /// A new session, which knows the positions of the old one.
    async fn come_back(&mut self) {
        let kept = self.standing.drain().map(|(room, here)| (room, here.position));
        self.kept.extend(kept);
        self.asked.clear();
        self.joined.clear();
        self.rooms = connect(&self.url, &self.name, self.rng.pick(&TransportKind::ALL)).await;
        let again: Vec<_> = self.kept.keys().cloned().collect();
        for room in again {
            self.join(&room).await;
        }
    }

    /// Receives until it knows all.
    async fn catch_up(&mut self, hub: &Hub) {
        let up = async {
            loop {
                let is_behind = self.standing.iter().any(|(room, here)| {
                    let head = hub.room(room.as_str()).position().expect("it has a member");
                    assert_eq!(head.epoch, here.position.epoch);
                    here.position.offset.value() + here.missed < head.offset.value()
                });
                if !is_behind {
                    return;
                }
                let event = self.rooms.recv().await.expect("the session lives");
                Self::hold(&self.record, &mut self.standing, &mut self.asked, event);
            }
        };
        within(120, "it knows all", up).await;
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn each_of_a_hundred_members_is_told_what_its_position_promises() {
    let (members, steps) = (number("MEMBERS", 100), number("STEPS", 25));
    let hub = hub();
    let handler = |socket: Socket, hub: Hub| async move {
        let mut live = hub.serve(socket);
        while live.recv().await.is_ok() {}
    };
    let by_name = |attempt: &Attempt<'_>| {
        let name = attempt.auth().and_then(|token| token.to::<String>().ok()).unwrap_or_default();
        async move { Ok(Grant::to(name)) }
    };
    let mut config = Config::default();
    config.send_buffer.messages = 16;
    let server =
        Server::builder().session(config).hub(hub.clone()).authenticator(by_name).serve(handler).unwrap();
    let served = Served::new(&server).await;
    let record = Arc::<Record>::default();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..members {
        let (url, record) = (served.url(), Arc::clone(&record));
        tasks.spawn(async move {
            let mut member = Member::new(url, number, record).await;
            for _ in 0..steps {
                member.step().await;
            }
            member
        });
    }
    let mut done = Vec::new();
    while let Some(member) = tasks.join_next().await {
        done.push(member.unwrap());
    }
    // Who is done does not read either, until now.
    let mut catching = tokio::task::JoinSet::new();
    for mut member in done {
        let hub = hub.clone();
        catching.spawn(async move {
            member.catch_up(&hub).await;
            member
        });
    }
    let mut done = Vec::new();
    while let Some(member) = catching.join_next().await {
        done.push(member.unwrap());
    }
    for name in ROOMS {
        let standing = done.iter().filter(|member| member.standing.contains_key(name)).count();
        assert!(hub.room(name).len() >= standing);
    }
    let count = |count: &AtomicU64| count.load(SeqCst);
    let (heard, missed, recovered) = (count(&record.heard), count(&record.missed), count(&record.recovered));
    println!("heard {heard}, missed {missed}, recovered {recovered}");
    assert!(heard > members * steps && missed > 0 && recovered > 0, "{heard} {missed} {recovered}");
    // Nobody stays behind when all have gone.
    drop(done);
    let gone = async {
        while hub.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(120, "all have gone", gone).await;
    assert!(ROOMS.iter().all(|name| hub.room(*name).is_empty() && hub.room(*name).present().is_empty()));
}
