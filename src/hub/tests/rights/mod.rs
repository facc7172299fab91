//! Served sessions against a simple model of rights, over random steps: rights that are given and taken, joins, words,
//! lists, pages, transports that break, sessions that end.
//!
//! The model knows who may do what, who is a member, and what each member is to be told. After each step what was answered,
//! and now and then what was told, is held against it:
//! - an operation is done if and only if the visitor has each right that it needs at this moment, and the authoriser is
//!   asked about just those, in the name of just this visitor;
//! - who is told something is a member, and is told all that is said between its `begin` and its end, in one order;
//! - what was said before is told only to those who may have history, and who is there only to those who may have presence;
//! - when a session is carried again, the authoriser is asked about each of its rooms, and it is a member no more where it
//!   is refused.
//!
//! `STEPS` sets the number of steps (default 100,000).

mod guest;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::super::*;
use super::rng::Rng;
use crate::frame::{Epoch, Seq, TransportKind};
use crate::room::payload::{Begin, History, Join, Notice, Operation, Page, Position, Published, Read};
use crate::session::Intent;
use crate::socket::ends::{Ends, config, dial, ends_of};
use crate::socket::{RequestError, State};

use guest::{Guest, ROOMS, Told};

const GUESTS: usize = 4;
const ACTIONS: [Action; 4] = [Action::Join, Action::Publish, Action::Presence, Action::History];

type Right = (String, String, Action);

/// Rights that change, and what was asked about them.
#[derive(Clone, Default)]
struct Rights(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    refused: HashSet<Right>,
    asked: Vec<(SessionId, Right)>,
}

impl Rights {
    fn has(&self, who: &str, room: &str, action: Action) -> bool {
        !self.0.lock().unwrap().refused.contains(&(who.into(), room.into(), action))
    }

    fn toggle(&self, right: Right) {
        let refused = &mut self.0.lock().unwrap().refused;
        if !refused.remove(&right) {
            refused.insert(right);
        }
    }

    fn asked(&self) -> Vec<(SessionId, Right)> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

#[async_trait]
impl Authorize for Rights {
    async fn allow(&self, visitor: &Visitor, room: &str, action: Action) -> bool {
        let who = visitor.principal.as_ref().unwrap().as_str().to_owned();
        let right = (who, room.to_owned(), action);
        let mut book = self.0.lock().unwrap();
        book.asked.push((visitor.session, right.clone()));
        !book.refused.contains(&right)
    }
}

struct World {
    rng: Rng,
    hub: Hub,
    rights: Rights,
    guests: Vec<Guest>,
    /// What was said, by room: each word is its own number.
    said: BTreeMap<&'static str, u64>,
    next_seed: u8,
    refused: u64,
    removed: u64,
}

/// A server's handler: it has nothing to say itself.
async fn serve(mut live: Live) {
    while let Ok(message) = live.recv().await {
        let _ = live.reply(&message, message.body.clone()).await;
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let rights = Rights::default();
        let shape = |_: &str| {
            let day = Duration::from_secs(86_400);
            RoomConfig {
                history: Keep { messages: 1 << 20, bytes: 1 << 30, age: day },
                ..RoomConfig::default()
            }
        };
        let rate = OperationRate { burst: u32::MAX, per_second: u32::MAX };
        let hub = Hub::builder().rooms(shape).authorize(rights.clone()).operation_rate(rate).build();
        let (said, guests) = (BTreeMap::new(), Vec::new());
        let mut world =
            Self { rng: Rng::new(seed), hub, rights, guests, said, next_seed: 1, refused: 0, removed: 0 };
        for number in 0..GUESTS {
            let guest = world.guest(number).await;
            world.guests.push(guest);
        }
        world
    }

    async fn guest(&mut self, number: usize) -> Guest {
        // Two of them are one principal.
        let who = format!("p{}", number.min(GUESTS - 2));
        let ends = ends_of([self.next_seed; 16], Some(Principal::new(who.as_str())), config());
        self.next_seed = self.next_seed.wrapping_add(1);
        let kind = TransportKind::WebSocket;
        ends.dial(kind, Intent::Attach).await;
        ends.connected(kind).await;
        let Ends { client, server, client_link, server_link, .. } = ends;
        let id = server.id();
        let served = tokio::spawn(serve(self.hub.serve(server)));
        Guest {
            id,
            client,
            client_link,
            server_link,
            who,
            served,
            kind,
            rooms: BTreeMap::new(),
            due: BTreeMap::new(),
            watched: BTreeSet::new(),
        }
    }

    async fn step(&mut self) {
        let number = self.rng.below(GUESTS as u64) as usize;
        let room = self.rng.pick(&ROOMS);
        match self.rng.below(100) {
            0..=29 => {
                let who = self.guests[number].who.clone();
                self.rights.toggle((who, room.to_owned(), self.rng.pick(&ACTIONS)));
            }
            30..=44 => self.join(number, room).await,
            45..=49 => self.leave(number, room).await,
            50..=69 => self.publish(number, room).await,
            70..=76 => self.ask_presence(number, room).await,
            77..=83 => self.ask_history(number, room).await,
            84..=87 => self.tell_of_itself(number, room).await,
            88..=91 => self.server_says(room).await,
            92..=94 => self.resume(number).await,
            95 => self.replace(number).await,
            _ => self.hold().await,
        }
    }

    /// Asks, and holds what the authoriser was asked against the rights that are needed. `None`: it was refused.
    async fn ask(
        &mut self,
        number: usize,
        operation: Operation,
        needs: &[Action],
    ) -> Option<Result<Body, String>> {
        let guest = &self.guests[number];
        let (who, room) = (guest.who.clone(), operation.room().to_owned());
        self.rights.asked();
        let answer = guest.client.request(operation.write().unwrap()).await;
        let missing = needs.iter().position(|action| !self.rights.has(&who, &room, *action));
        let asked = needs[..missing.map_or(needs.len(), |first| first + 1)].iter();
        let id = guest.id;
        let asked: Vec<_> = asked.map(|action| (id, (who.clone(), room.clone(), *action))).collect();
        assert_eq!(self.rights.asked(), asked, "{operation:?}: {answer:?}");
        let answer = answer.map_err(|error| match error {
            RequestError::Failed { code, .. } => code.to_string(),
            other => panic!("{other:?}"),
        });
        if missing.is_some() {
            assert_eq!(answer, Err("forbidden".to_owned()), "{operation:?}");
            self.refused += 1;
            return None;
        }
        Some(answer)
    }

    fn due(&mut self, number: usize, room: &'static str) -> &mut VecDeque<Told> {
        self.guests[number].due.entry(room).or_default()
    }

    async fn join(&mut self, number: usize, room: &'static str) {
        let head = self.said.get(room).copied();
        let offset = head.unwrap_or(0).saturating_sub(self.rng.below(5));
        let since = self.hub.room(room).position().filter(|_| self.rng.below(3) == 0);
        let since = since.map(|at| Position { offset: Seq::new(offset).unwrap(), ..at });
        let elsewhere = self.rng.below(4) == 0;
        let since =
            since.map(|at| if elsewhere { Position { epoch: Epoch::from_bytes([7; 8]), ..at } } else { at });
        let last = (self.rng.below(4) == 0).then(|| self.rng.below(5) as u32);
        let presence = self.rng.below(3) == 0;
        let join = Join { room: room.into(), since, last, presence, ..Join::default() };
        let mut needs = vec![Action::Join];
        needs.extend((since.is_some() || last.is_some()).then_some(Action::History));
        needs.extend(presence.then_some(Action::Presence));
        let Some(answer) = self.ask(number, Operation::Join(join), &needs).await else { return };
        let head = *self.said.entry(room).or_default();
        let recovered = since.is_some() && !elsewhere;
        let at = if recovered { offset } else { head.saturating_sub(u64::from(last.unwrap_or(0))) };
        let begin: Begin = answer.unwrap().to().unwrap();
        assert_eq!((begin.at.value(), begin.recovered), (at, recovered));
        let guest = &mut self.guests[number];
        guest.rooms.insert(room, presence);
        if presence {
            guest.watched.insert(room);
        }
        let due = self.due(number, room);
        due.push_back(Told::Begin { at, recovered });
        due.extend(presence.then_some(Told::List));
        due.extend((at + 1..=head).map(Told::Said));
    }

    async fn leave(&mut self, number: usize, room: &'static str) {
        let operation = Operation::Leave { room: room.into() };
        let answer = self.ask(number, operation, &[]).await.unwrap();
        if self.guests[number].rooms.remove(room).is_some() {
            assert!(answer.is_ok());
            self.due(number, room).push_back(Told::Left("asked"));
        } else {
            assert_eq!(answer, Err("no_member".to_owned()));
        }
    }

    /// Something was said in a room.
    fn word(&mut self, room: &'static str) -> u64 {
        let said = self.said.entry(room).or_default();
        *said += 1;
        let word = *said;
        for number in 0..GUESTS {
            if self.guests[number].rooms.contains_key(room) {
                self.due(number, room).push_back(Told::Said(word));
            }
        }
        word
    }

    fn next_word(&self, room: &str) -> Body {
        Body::json(&(self.said.get(room).copied().unwrap_or(0) + 1)).unwrap()
    }

    async fn publish(&mut self, number: usize, room: &'static str) {
        let operation = Operation::Publish { room: room.into(), key: None, body: self.next_word(room) };
        let Some(answer) = self.ask(number, operation, &[Action::Publish]).await else { return };
        let published: Published = answer.unwrap().to().unwrap();
        assert_eq!(published.at.unwrap().offset.value(), self.word(room));
    }

    async fn server_says(&mut self, room: &'static str) {
        self.hub.room(room).publish(self.next_word(room)).await.unwrap();
        self.word(room);
    }

    async fn ask_presence(&mut self, number: usize, room: &'static str) {
        let operation = Operation::Presence { room: room.into() };
        let Some(answer) = self.ask(number, operation, &[Action::Presence]).await else { return };
        if self.guests[number].rooms.contains_key(room) {
            assert!(answer.is_ok());
            self.due(number, room).push_back(Told::List);
        } else {
            assert_eq!(answer, Err("no_member".to_owned()));
        }
    }

    async fn ask_history(&mut self, number: usize, room: &'static str) {
        let ask = History { room: room.into(), since: None, limit: 3 };
        let Some(answer) = self.ask(number, Operation::History(ask), &[Action::History]).await else {
            return;
        };
        let Some(head) = self.said.get(room) else {
            return assert_eq!(answer, Err("no_room".to_owned()));
        };
        let page: Page = answer.unwrap().to().unwrap();
        let offsets: Vec<_> = page.said().unwrap().iter().map(|said| said.at.value()).collect();
        assert_eq!(offsets, (1..=*head).take(3).collect::<Vec<_>>());
    }

    async fn tell_of_itself(&mut self, number: usize, room: &'static str) {
        let meta = Some(crate::frame::Json::of(&self.rng.below(9)).unwrap());
        let operation = Operation::Meta { room: room.into(), meta };
        let answer = self.ask(number, operation, &[]).await.unwrap();
        assert_eq!(answer.is_ok(), self.guests[number].rooms.contains_key(room));
    }

    /// Nothing carries the session for a moment.
    async fn resume(&mut self, number: usize) {
        let guest = &mut self.guests[number];
        guest.client.cut();
        let mut watch = guest.client.watch();
        while !matches!(watch.state(), State::Reconnecting { .. }) {
            watch.changed().await;
        }
        // Another kind, so that the server cannot take the new transport for the old one.
        guest.kind = match guest.kind {
            TransportKind::WebSocket => TransportKind::Sse,
            _ => TransportKind::WebSocket,
        };
        self.rights.asked();
        dial(&guest.client_link, &guest.server_link, guest.kind, Intent::Attach).await;
        while guest.client.state() != (State::Connected { transport: guest.kind }) {
            watch.changed().await;
        }
        // What comes behind is answered after the rooms were looked at.
        assert_eq!(guest.client.request("there?").await.unwrap(), Body::from("there?"));
        let id = guest.id;
        let rooms: Vec<_> = guest.rooms.keys().copied().collect();
        let who = guest.who.clone();
        let asked = rooms.iter().map(|room| (who.clone(), (*room).to_owned(), Action::Join));
        let asked: HashSet<_> = asked.map(|right| (id, right)).collect();
        assert_eq!(self.rights.asked().into_iter().collect::<HashSet<_>>(), asked, "asked again");
        for room in rooms {
            if !self.rights.has(&who, room, Action::Join) {
                self.guests[number].rooms.remove(room);
                self.due(number, room).push_back(Told::Left("forbidden"));
                self.removed += 1;
            }
        }
    }

    /// A session ends, and another one takes its place.
    async fn replace(&mut self, number: usize) {
        self.hold().await;
        let fresh = self.guest(number).await;
        let old = std::mem::replace(&mut self.guests[number], fresh);
        old.client.close(crate::frame::CloseCode::Normal, "");
        old.served.await.unwrap();
    }

    /// Holds what was told against what was due.
    async fn hold(&mut self) {
        for guest in &mut self.guests {
            let id = guest.id;
            assert!(self.hub.to_session(id, "that is all").unwrap());
            loop {
                let body = guest.client.recv().await.unwrap().body;
                match Notice::read(body) {
                    Read::App(body) => break assert_eq!(body, Body::from("that is all")),
                    Read::Layer(notice) => guest.hear(notice),
                    other => panic!("{other:?}"),
                }
            }
            assert!(guest.due.values().all(VecDeque::is_empty), "not told: {:?}", guest.due);
            guest.watched =
                guest.rooms.iter().filter(|(_, watches)| **watches).map(|(room, _)| *room).collect();
        }
        for room in ROOMS {
            let members = self.guests.iter().filter(|guest| guest.rooms.contains_key(room)).count();
            assert_eq!(self.hub.room(room).len(), members, "members of {room}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_or_told_outside_the_rights() {
    let steps: u64 = std::env::var("STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(100_000);
    const EACH: u64 = 5_000;
    let (mut refused, mut removed) = (0, 0);
    for seed in 0..steps.div_ceil(EACH) {
        let mut world = World::new(seed).await;
        for _ in 0..EACH {
            world.step().await;
        }
        world.hold().await;
        refused += world.refused;
        removed += world.removed;
    }
    assert!(refused > steps / 20 && removed > steps / 200, "{refused} refused, {removed} removed");
}
