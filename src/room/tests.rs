//! One room with lines that take what they are told to take.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::frame::Window;
use crate::room::payload::Read;

/// A line of so much room.
#[derive(Clone, Debug)]
struct Wire(Rc<RefCell<End>>);

#[derive(Debug)]
struct End {
    room: usize,
    is_gone: bool,
    came: Vec<Body>,
}

impl Line for Wire {
    fn offer(&self, payload: &Body) -> Offer {
        let mut end = self.0.borrow_mut();
        if end.is_gone {
            return Offer::Gone;
        }
        if payload.len() > 1000 {
            return Offer::Refused;
        }
        if end.room == 0 {
            return Offer::Full;
        }
        end.room -= 1;
        end.came.push(payload.clone());
        Offer::Taken
    }
}

impl Wire {
    fn new(room: usize) -> Self {
        Self(Rc::new(RefCell::new(End { room, is_gone: false, came: Vec::new() })))
    }

    fn give(&self, room: usize) {
        self.0.borrow_mut().room = room;
    }

    /// What came, in short.
    fn came(&self) -> Vec<String> {
        let came = std::mem::take(&mut self.0.borrow_mut().came);
        came.into_iter().map(short).collect()
    }
}

fn short(body: Body) -> String {
    let who = |who: &Who| match who {
        Who::Principal(name) => name.clone(),
        Who::Session(_) => "?".to_owned(),
    };
    match Notice::read(body) {
        Read::Layer(Notice::Begin(begin)) => {
            format!("begin {}{}", begin.at, if begin.recovered { " recovered" } else { "" })
        }
        Read::Layer(Notice::Said(said)) => format!("{} {}", said.at, said.body),
        Read::Layer(Notice::Missed(missed)) => format!("missed {} to {}", missed.count, missed.to),
        Read::Layer(Notice::Present(present)) => {
            let names: Vec<_> = present.members.iter().map(|member| who(&member.who)).collect();
            format!("present {}", names.join(","))
        }
        Read::Layer(Notice::Change(Change::Joined { member, .. })) => format!("+{}", who(&member.who)),
        Read::Layer(Notice::Change(Change::Updated { member, .. })) => format!("~{}", who(&member.who)),
        Read::Layer(Notice::Change(Change::Gone { who: gone, .. })) => format!("-{}", who(&gone)),
        Read::App(body) => format!("plain {body}"),
        other => format!("{other:?}"),
    }
}

fn id(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn name(name: &str) -> Who {
    Who::Principal(name.to_owned())
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

const EPOCH: Epoch = Epoch::from_bytes([1; 8]);

struct Stage {
    room: RoomState<Wire>,
    now: Instant,
}

impl Stage {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self { room: RoomState::new("r", EPOCH, config, now), now }
    }

    fn join(&mut self, number: u8, who: &str, wire: &Wire, join: Join) -> Effects<Wire> {
        self.room.join(self.now, id(number), name(who), wire.clone(), &join).1
    }

    fn say(&mut self, text: &str) -> Effects<Wire> {
        self.say_as(text, &Saying::default())
    }

    fn say_as(&mut self, text: &str, saying: &Saying) -> Effects<Wire> {
        self.room.say(self.now, &Body::from(text), saying).unwrap().2
    }

    fn drain(&mut self, number: u8) -> Drained {
        self.room.drain(id(number)).0
    }
}

fn keeping(messages: usize) -> Config {
    let history = Keep { messages, bytes: 1 << 20, age: Duration::from_secs(60) };
    Config { history, ..Config::default() }
}

fn since(offset: u64) -> Join {
    Join { since: Some(Position { epoch: EPOCH, offset: seq(offset) }), ..Join::default() }
}

fn keyed(key: &str) -> Saying {
    Saying { key: Some(key.to_owned()), ..Saying::default() }
}

#[test]
fn a_joiner_goes_on_from_its_position_where_the_history_reaches_and_is_told_where_not() {
    let mut stage = Stage::new(keeping(3));
    for text in ["a", "b", "c", "d", "e"] {
        let _ = stage.say(text);
    }
    let wire = Wire::new(100);
    let _ = stage.join(1, "x", &wire, since(2));
    assert_eq!(wire.came(), ["begin 2 recovered", "3 \"c\"", "4 \"d\"", "5 \"e\""]);
    let _ = stage.join(1, "x", &wire, since(5));
    assert_eq!(wire.came(), ["begin 5 recovered"]);
    let _ = stage.join(1, "x", &wire, since(1));
    assert_eq!(wire.came(), ["begin 5"], "a part of it would look whole");
    let _ = stage.join(1, "x", &wire, Join { last: Some(2), ..since(1) });
    assert_eq!(wire.came(), ["begin 3", "4 \"d\"", "5 \"e\""]);
    let _ = stage.join(1, "x", &wire, since(6));
    assert_eq!(wire.came(), ["begin 5"], "a position that never was");
    let other = Position { epoch: Epoch::from_bytes([2; 8]), offset: seq(4) };
    let _ = stage.join(1, "x", &wire, Join { since: Some(other), ..Join::default() });
    assert_eq!(wire.came(), ["begin 5"], "a position in another life");
}

#[test]
fn history_is_bounded_by_count_bytes_and_age() {
    let mut stage = Stage::new(keeping(100));
    for _ in 0..3 {
        let _ = stage.say("x");
    }
    stage.now += Duration::from_secs(30);
    let _ = stage.say("x");
    let page = |stage: &mut Stage| {
        let ask = History { limit: 100, ..History::default() };
        stage.room.page(stage.now, &ask, usize::MAX).messages.len()
    };
    assert_eq!(page(&mut stage), 4);
    stage.now += Duration::from_secs(30);
    assert_eq!(page(&mut stage), 1);
    stage.now += Duration::from_secs(30);
    assert_eq!(page(&mut stage), 0);
    let history = Keep { messages: 100, bytes: 100, age: Duration::from_secs(60) };
    let mut stage = Stage::new(Config { history, ..Config::default() });
    for _ in 0..10 {
        let _ = stage.say("x");
    }
    assert_eq!(page(&mut stage), 100 / r#"{"$":"msg","room":"r","at":1,"body":"x"}"#.len());
}

#[test]
fn a_page_says_whether_it_is_whole() {
    let mut stage = Stage::new(keeping(3));
    for text in ["a", "b", "c", "d", "e"] {
        let _ = stage.say(text);
    }
    let mut page = |since: Option<u64>, limit| {
        let since = since.map(|offset| Position { epoch: EPOCH, offset: seq(offset) });
        let ask = History { room: "r".into(), since, limit };
        let page = stage.room.page(stage.now, &ask, 1 << 20);
        (page.from.offset.value(), page.messages.len(), page.whole, page.head.value())
    };
    assert_eq!(page(None, 2), (2, 2, true, 5));
    assert_eq!(page(Some(4), 10), (4, 1, true, 5));
    assert_eq!(page(Some(1), 10), (2, 3, false, 5));
}

#[test]
fn a_member_that_lags_is_sent_all_in_order_once_there_is_room() {
    let mut stage = Stage::new(Config::default());
    let wire = Wire::new(2);
    let _ = stage.join(1, "x", &wire, Join::default());
    assert_eq!(stage.say("a").lagging.len(), 0);
    assert_eq!(stage.say("b").lagging.len(), 1);
    assert_eq!(stage.say("c").lagging.len(), 0, "somebody drains it already");
    wire.give(1);
    assert!(matches!(stage.drain(1), Drained::Waiting { .. }));
    let _ = stage.say("d");
    wire.give(5);
    assert_eq!(stage.drain(1), Drained::Done);
    assert_eq!(stage.say("e").lagging.len(), 0);
    assert_eq!(wire.came(), ["begin 0", "1 \"a\"", "2 \"b\"", "3 \"c\"", "4 \"d\"", "5 \"e\""]);
}

#[test]
fn a_backlog_that_is_full_ends_the_session_and_others_learn_that_it_is_gone() {
    let backlog = Window { messages: 1, bytes: 1000 };
    let mut stage = Stage::new(Config { backlog, ..Config::default() });
    let (slow, quick) = (Wire::new(1), Wire::new(100));
    let _ = stage.join(1, "slow", &slow, Join::default());
    let _ = stage.join(2, "quick", &quick, Join { presence: true, ..Join::default() });
    let _ = stage.say("a");
    let ended = stage.say("b").ended;
    assert_eq!(ended.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(1)]);
    assert_eq!(quick.came(), ["begin 0", "present quick,slow", "1 \"a\"", "2 \"b\"", "-slow"]);
    assert_eq!(stage.room.len(), 1);
}

#[test]
fn the_oldest_is_left_out_and_the_member_is_told_how_many_before_the_next() {
    let backlog = Window { messages: 2, bytes: 1000 };
    let mut stage = Stage::new(Config { slow: Slow::DropOldest, backlog, ..Config::default() });
    let wire = Wire::new(1);
    let _ = stage.join(1, "x", &wire, Join::default());
    for text in ["a", "b", "c", "d"] {
        let _ = stage.say(text);
    }
    wire.give(100);
    assert_eq!(stage.drain(1), Drained::Done);
    assert_eq!(wire.came(), ["begin 0", "missed 2 to 2", "3 \"c\"", "4 \"d\""]);
}

#[test]
fn the_latest_value_of_a_key_takes_the_place_of_older_ones_that_wait() {
    let mut stage = Stage::new(Config { slow: Slow::Conflate, ..Config::default() });
    let wire = Wire::new(1);
    let _ = stage.join(1, "x", &wire, Join::default());
    for (key, text) in [("k", "k1"), ("l", "l1"), ("k", "k2"), ("k", "k3"), ("l", "l2")] {
        let _ = stage.say_as(text, &keyed(key));
    }
    let _ = stage.say("plain");
    wire.give(100);
    assert_eq!(stage.drain(1), Drained::Done);
    assert_eq!(wire.came(), ["begin 0", "missed 3 to 3", "4 \"k3\"", "5 \"l2\"", "6 \"plain\""]);
}

#[test]
fn what_is_too_large_for_a_peer_is_counted_as_missed() {
    let mut stage = Stage::new(Config::default());
    let wire = Wire::new(100);
    let _ = stage.join(1, "x", &wire, Join::default());
    assert_eq!(stage.say(&"x".repeat(1000)).lagging.len(), 1);
    let _ = stage.say("a");
    assert_eq!(stage.drain(1), Drained::Done);
    assert_eq!(wire.came(), ["begin 0", "missed 1 to 1", "2 \"a\""]);
}

#[test]
fn what_is_told_again_needs_no_room_in_the_backlog_and_is_left_out_first() {
    let backlog = Window { messages: 1, bytes: 1000 };
    let mut stage = Stage::new(Config { slow: Slow::DropOldest, backlog, ..keeping(10) });
    for text in ["a", "b", "c"] {
        let _ = stage.say(text);
    }
    let wire = Wire::new(1);
    let _ = stage.join(1, "x", &wire, since(0));
    let _ = stage.say("d");
    let _ = stage.say("e");
    wire.give(100);
    assert_eq!(stage.drain(1), Drained::Done);
    assert_eq!(
        wire.came(),
        ["begin 0 recovered", "missed 1 to 1", "2 \"b\"", "3 \"c\"", "4 \"d\"", "5 \"e\""]
    );
}

#[test]
fn several_sessions_of_a_principal_are_one_member() {
    let mut stage = Stage::new(Config::default());
    let watcher = Wire::new(100);
    let _ = stage.join(1, "ada", &watcher, Join { presence: true, ..Join::default() });
    let (one, two) = (Wire::new(100), Wire::new(100));
    let _ = stage.join(2, "bob", &one, Join::default());
    let _ = stage.join(3, "bob", &two, Join::default());
    let away = Json::parse("\"away\"").unwrap();
    assert!(stage.room.update(id(3), Some(&away)).0);
    let _ = stage.room.update(id(2), Some(&away));
    let _ = stage.room.leave(stage.now, id(2));
    let _ = stage.room.leave(stage.now, id(3));
    assert_eq!(watcher.came(), ["begin 0", "present ada", "+bob", "~bob", "-bob"]);
}

#[test]
fn who_lags_is_sent_the_whole_list_in_place_of_the_differences() {
    let mut stage = Stage::new(Config::default());
    let watcher = Wire::new(2);
    let _ = stage.join(1, "ada", &watcher, Join { presence: true, ..Join::default() });
    assert_eq!(stage.join(2, "bob", &Wire::new(9), Join::default()).lagging.len(), 1);
    let _ = stage.say("a");
    let _ = stage.join(3, "eve", &Wire::new(9), Join::default());
    let _ = stage.room.leave(stage.now, id(2));
    watcher.give(100);
    assert_eq!(stage.drain(1), Drained::Done);
    let _ = stage.room.leave(stage.now, id(3));
    assert_eq!(watcher.came(), ["begin 0", "present ada", "1 \"a\"", "present ada,eve", "-eve"]);
}

#[test]
fn the_one_that_says_it_may_be_left_out_then_and_when_it_is_told_again() {
    let mut stage = Stage::new(keeping(10));
    let (one, two) = (Wire::new(100), Wire::new(100));
    let _ = stage.join(1, "x", &one, Join::default());
    let _ = stage.join(2, "y", &two, Join::default());
    let _ = stage.say_as("a", &Saying { except: Some(id(1)), ..Saying::default() });
    let _ = stage.say("b");
    let _ = stage.join(1, "x", &one, since(0));
    assert_eq!(one.came(), ["begin 0", "2 \"b\"", "begin 0 recovered", "2 \"b\""]);
    assert_eq!(two.came(), ["begin 0", "1 \"a\"", "2 \"b\""]);
}

#[test]
fn a_line_that_is_gone_leaves_with_the_next_word() {
    let mut stage = Stage::new(Config::default());
    let (one, two) = (Wire::new(100), Wire::new(100));
    let _ = stage.join(1, "x", &one, Join::default());
    let _ = stage.join(2, "y", &two, Join { presence: true, ..Join::default() });
    one.0.borrow_mut().is_gone = true;
    let _ = stage.say("a");
    assert_eq!(two.came(), ["begin 0", "present x,y", "1 \"a\"", "-x"]);
}

#[test]
fn a_room_is_over_when_it_is_empty_and_what_it_kept_has_aged() {
    let mut stage = Stage::new(keeping(10));
    let wire = Wire::new(9);
    let _ = stage.join(1, "x", &wire, Join::default());
    stage.now += Duration::from_secs(100);
    assert!(!stage.room.is_over(stage.now));
    let _ = stage.room.leave(stage.now, id(1));
    assert!(!stage.room.is_over(stage.now + Duration::from_secs(59)));
    assert!(stage.room.is_over(stage.now + Duration::from_secs(60)));
}

#[test]
fn who_is_outside_the_layer_gets_bodies_as_they_are() {
    let mut stage = Stage::new(Config::default());
    let (plain, member) = (Wire::new(2), Wire::new(9));
    stage.room.join_plain(stage.now, id(1), plain.clone());
    let _ = stage.say("a");
    let _ = stage.join(2, "y", &member, Join::default());
    let _ = stage.say("b");
    assert_eq!(plain.came(), ["plain \"a\"", "plain \"b\""]);
    assert_eq!(member.came(), ["begin 1", "2 \"b\""]);
    assert_eq!(stage.say("c").ended.len(), 1);
    stage.room.leave_plain(stage.now, id(1));
    assert_eq!(stage.room.len(), 1);
}

#[test]
fn who_asks_is_told_who_is_there_also_where_it_lags_and_does_not_watch() {
    let mut stage = Stage::new(Config::default());
    let wire = Wire::new(1);
    let _ = stage.join(1, "x", &wire, Join::default());
    let _ = stage.say("a");
    assert!(stage.room.tell_presence(id(1)).0);
    wire.give(9);
    assert_eq!(stage.drain(1), Drained::Done);
    assert_eq!(wire.came(), ["begin 0", "1 \"a\"", "present x"]);
}

#[test]
fn a_room_that_tells_nobody_who_is_there_tells_no_one_who_asks() {
    let mut stage = Stage::new(Config { presence: false, ..Config::default() });
    let wire = Wire::new(9);
    let _ = stage.join(1, "x", &wire, Join { presence: true, ..Join::default() });
    assert!(!stage.room.tell_presence(id(1)).0);
    assert_eq!(wire.came(), ["begin 0"]);
}
