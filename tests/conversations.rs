//! Replays `tests/vectors/conversations.json`: whole conversations, each end of which is a [`Session`].
//!
//! `tests/vectors/README.md` says what the steps mean. Both ends are fed what the other is written to have said, and
//! must say what is written for them, no more and no less.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use throughline::frame::{
    Attachment, Batch, Body, Close, CloseCode, Encoding, Epoch, Frame, Limits, MessageKind, Role, Seq,
    SessionId, SessionKey, TransportKind,
};
use throughline::session::{Config, DetachReason, Event, Greeting, Intent, Lesson, Session, Via};

#[derive(Deserialize)]
struct Vectors {
    identities: Vec<Identity>,
    defaults: BTreeMap<String, Map<String, Value>>,
    conversations: Vec<Conversation>,
}

#[derive(Clone, Deserialize)]
struct Identity {
    session: String,
    key: String,
    epoch: String,
}

#[derive(Deserialize)]
struct Conversation {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Step {
    Say {
        from: End,
        on: u64,
        via: Way,
        frames: Vec<Value>,
        #[serde(default)]
        lost: bool,
    },
    Gets {
        at: End,
        gets: Vec<Value>,
        on: u64,
        via: Way,
    },
    Sees {
        at: End,
        sees: Vec<Value>,
    },
    Do {
        at: End,
        r#do: Deed,
        on: Option<u64>,
        transport: Option<String>,
        #[serde(default)]
        candidate: bool,
        body: Option<Value>,
        to: Option<u64>,
        count: Option<u64>,
        code: Option<String>,
    },
    Wait {
        wait: u64,
    },
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum End {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Way {
    WebSocket,
    Hello,
    Stream,
    Poll,
    Push,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Deed {
    Dial,
    Lose,
    Send,
    Request,
    Reply,
    Fail,
    Take,
    Close,
    Forget,
    Renew,
}

fn number(number: u64) -> Attachment {
    Attachment::new(number).expect("an attachment's number")
}

/// What an end saw, as the file writes it.
fn seen(event: Event) -> Value {
    match event {
        Event::Message(message) if message.kind == MessageKind::Request => {
            json!(["request", message.seq.value(), message.body.to::<Value>().unwrap()])
        }
        Event::Message(message) => json!(["message", message.body.to::<Value>().unwrap()]),
        Event::Reply { answer, .. } => match answer {
            Ok(body) => json!(["reply", body.to::<Value>().unwrap()]),
            Err(body) => json!(["failure", body.to::<Value>().unwrap()]),
        },
        Event::Failed { seq, failure } => json!(["failed", seq.value(), failure.to::<Value>().unwrap()]),
        Event::Attached { attachment, resumed, .. } => json!(["attached", attachment.value(), resumed]),
        Event::Detached { attachment, reason, .. } => {
            let word = match reason {
                DetachReason::Closed(close) => close.code.to_string(),
                DetachReason::Superseded => "superseded".to_owned(),
                DetachReason::Gap => "gap".to_owned(),
                DetachReason::Ended => "ended".to_owned(),
                other => other.to_string(),
            };
            json!(["detached", attachment.value(), word])
        }
        Event::Ended(ended) => {
            let left = ended.undelivered.iter().map(
                |left| json!({"seq": left.seq.map(Seq::value), "body": left.body.to::<Value>().unwrap()}),
            );
            json!(["ended", ended.close.code.to_string(), left.collect::<Vec<_>>()])
        }
        other => panic!("an event that no conversation has: {other:?}"),
    }
}

struct Replay<'a> {
    vectors: &'a Vectors,
    identity: usize,
    now: Instant,
    client: Session,
    server: Option<Session>,
    /// What each end's application has seen and no step has asked for.
    seen: [VecDeque<Value>; 2],
    /// What the server still says on transports that it has given up.
    partings: BTreeMap<u64, Close>,
    /// The kind of each transport that was dialled.
    kinds: BTreeMap<u64, TransportKind>,
}

impl<'a> Replay<'a> {
    fn new(vectors: &'a Vectors) -> Self {
        let now = Instant::now();
        Self {
            vectors,
            identity: 0,
            now,
            client: Self::client(&vectors.identities[0], now),
            server: None,
            seen: Default::default(),
            partings: BTreeMap::new(),
            kinds: BTreeMap::new(),
        }
    }

    fn client(identity: &Identity, now: Instant) -> Session {
        let id: SessionId = identity.session.parse().unwrap();
        let key: SessionKey = identity.key.parse().unwrap();
        let mut config = Config::default();
        // The first hold is a client's own affair: these conversations are of one that asks for 10 s.
        config.hold = Duration::from_secs(10);
        let mut session = Session::client(Arc::new(config), id, key, now);
        // Likewise, that there is no other transport to go to: nothing is on trial.
        let mut lesson = Lesson::default();
        lesson.alone = true;
        lesson.longest_hold = Some(Duration::from_secs(10));
        session.learn(lesson);
        session
    }

    fn identity(&self) -> &'a Identity {
        &self.vectors.identities[self.identity]
    }

    /// A frame as the file writes it, completed.
    fn frame(&self, from: End, written: &Value) -> Frame {
        let mut array = written.as_array().expect("a frame is an array").clone();
        let tag = array[0].as_str().expect("a tag").to_owned();
        if let Some(defaults) = self.vectors.defaults.get(&tag) {
            let object = array[1].as_object_mut().expect("an object");
            let identity = self.identity();
            let mut complete = |name: &str, value: Value| {
                object.entry(name).or_insert(value);
            };
            defaults.iter().for_each(|(name, value)| complete(name, value.clone()));
            complete("session", json!(identity.session));
            if tag != "welcome" {
                complete("key", json!(identity.key));
            }
            if tag != "hello" {
                complete("epoch", json!(identity.epoch));
            }
        }
        let text = Bytes::from(Value::from(array).to_string());
        let role = if from == End::Client { Role::Client } else { Role::Server };
        let mut batch = Batch::new(text, Encoding::Json, role, Limits::default()).unwrap();
        let frame = batch.next().expect("a frame").unwrap();
        without_reason(frame)
    }

    fn drain(&mut self) {
        // What an end knows of its path shows on no wire.
        let told = |event: &Event| !matches!(event, Event::Proved { .. });
        let events = std::iter::from_fn(|| self.client.poll_event());
        self.seen[0].extend(events.filter(told).map(seen));
        let Some(server) = &mut self.server else { return };
        for event in std::iter::from_fn(|| server.poll_event()).filter(told) {
            if let Event::Detached { attachment, close: Some(close), .. } = &event {
                self.partings.insert(attachment.value(), close.clone());
            }
            self.seen[1].push_back(seen(event));
        }
    }

    /// All that an end says now on a transport, one way.
    fn said(&mut self, from: End, on: u64, via: Way) -> Vec<Frame> {
        let attachment = number(on);
        if let Some(close) = self.partings.remove(&on).filter(|_| from == End::Server) {
            return vec![without_reason(Frame::Close(close))];
        }
        let mut frames = Vec::new();
        match (from, via) {
            (End::Server, Way::Push) => {
                let server = self.server.as_mut().expect("a session");
                frames.push(match server.end() {
                    Some(close) => Frame::Close(close.clone()),
                    None => Frame::Ack(server.push_answer(attachment)),
                });
            }
            (End::Client, Way::Poll) => frames.extend(self.client.poll_request(attachment).cloned()),
            (End::Client, Way::Push) => {
                frames.push(self.frame(End::Client, &json!(["push", {"attachment": on}])));
                frames.extend(drained(&mut self.client, attachment));
            }
            (End::Client, _) => frames.extend(drained(&mut self.client, attachment)),
            (End::Server, _) => frames.extend(drained(self.server.as_mut().expect("a session"), attachment)),
        }
        frames.into_iter().map(without_reason).collect()
    }

    fn say(&mut self, from: End, on: u64, via: Way, frames: &[Value], lost: bool) {
        let expected: Vec<_> = frames.iter().map(|frame| self.frame(from, frame)).collect();
        let forgot = from == End::Server && self.server.is_none();
        if !forgot {
            assert_eq!(self.said(from, on, via), expected);
        }
        if from == End::Server && matches!(via, Way::Hello | Way::Poll) && self.polls(on) {
            // A carrier for one answer, which is over.
            if let Some(server) = &mut self.server {
                server.handle_detach(self.now, number(on));
            }
        }
        if !lost {
            match from {
                End::Client => self.hear_as_server(on, via, expected),
                End::Server => self.hear_as_client(on, via, expected),
            }
        } else if from == End::Client && via == Way::Push {
            self.client.handle_push_ended(self.now, number(on), false);
        }
        self.drain();
    }

    fn polls(&self, on: u64) -> bool {
        self.kinds.get(&on) == Some(&TransportKind::LongPolling)
    }

    fn hear_as_client(&mut self, on: u64, via: Way, frames: Vec<Frame>) {
        let (now, attachment) = (self.now, number(on));
        let by = if via == Way::Push { Via::Push } else { Via::Carrier };
        frames.into_iter().for_each(|frame| self.client.handle_frame(now, attachment, by, frame));
        match via {
            Way::Push => self.client.handle_push_ended(now, attachment, true),
            Way::Poll => self.client.handle_poll_ended(now, attachment),
            Way::WebSocket | Way::Hello | Way::Stream => {}
        }
    }

    fn hear_as_server(&mut self, on: u64, via: Way, frames: Vec<Frame>) {
        let mut frames = frames.into_iter().peekable();
        let now = self.now;
        let greeting = match frames.peek() {
            Some(Frame::Hello(hello)) => {
                let hello = hello.clone();
                // What finds, makes or misses sessions is not the session: this much of it is needed here.
                if self.server.is_none() && hello.epoch.is_some() {
                    return;
                }
                let epoch: Epoch = self.identity().epoch.parse().unwrap();
                let server = self.server.get_or_insert_with(|| {
                    Session::server(Arc::new(Config::default()), hello.session, epoch, now)
                });
                frames.next();
                Some(server.handle_hello(now, &hello))
            }
            Some(Frame::Poll(poll)) => {
                let poll = poll.clone();
                frames.next();
                Some(self.server.as_mut().expect("a session").handle_poll(now, &poll))
            }
            Some(Frame::Push(_)) => {
                frames.next();
                None
            }
            _ => None,
        };
        if let Some(Greeting::Refused(close)) = greeting {
            self.partings.insert(on, close);
            return;
        }
        let by = if via == Way::Push { Via::Push } else { Via::Carrier };
        let server = self.server.as_mut().expect("a session");
        frames.for_each(|frame| server.handle_frame(now, number(on), by, frame));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Say { from, on, via, frames, lost } => self.say(*from, *on, *via, frames, *lost),
            Step::Gets { at, gets, on, via } => {
                assert_eq!(*at, End::Server, "only a server is reached by strangers and replays");
                let frames = gets.iter().map(|frame| self.frame(End::Client, frame)).collect();
                self.hear_as_server(*on, *via, frames);
            }
            Step::Sees { at, sees } => {
                let seen: Vec<_> = self.seen[*at as usize].drain(..).collect();
                assert_eq!(&seen, sees, "what the {at:?} sees");
            }
            Step::Wait { wait } => self.wait(Duration::from_millis(*wait)),
            Step::Do { at, r#do: Deed::Dial, on, transport, candidate, .. } => {
                assert_eq!(*at, End::Client);
                self.dial(on.unwrap(), transport.as_deref().unwrap(), *candidate);
            }
            Step::Do { r#do: Deed::Forget, .. } => {
                self.server = None;
                self.seen[1].clear();
                self.partings.clear();
            }
            Step::Do { r#do: Deed::Renew, .. } => {
                assert!(self.client.is_ended());
                self.identity += 1;
                self.client = Self::client(self.identity(), self.now);
            }
            Step::Do { at, r#do, on, body, to, count, code, .. } => {
                let body = Body::json(body.as_ref().unwrap_or(&Value::Null)).unwrap();
                let (now, session) = (self.now, self.end(*at));
                match r#do {
                    Deed::Lose => session.handle_detach(now, number(on.unwrap())),
                    Deed::Take => session.acknowledge(now, count.unwrap_or(1)),
                    Deed::Close => {
                        let code = CloseCode::from_word(code.as_deref().unwrap()).unwrap();
                        session.close(now, Close::new(code, ""));
                    }
                    Deed::Send | Deed::Request | Deed::Reply | Deed::Fail => {
                        let kind = match r#do {
                            Deed::Request => MessageKind::Request,
                            Deed::Reply => MessageKind::Reply(Seq::new(to.unwrap()).unwrap()),
                            Deed::Fail => MessageKind::Failure(Seq::new(to.unwrap()).unwrap()),
                            _ => MessageKind::Plain,
                        };
                        session.send(kind, body).unwrap();
                    }
                    Deed::Dial | Deed::Forget | Deed::Renew => unreachable!("above"),
                }
            }
        }
        self.drain();
    }

    fn end(&mut self, end: End) -> &mut Session {
        match end {
            End::Client => &mut self.client,
            End::Server => self.server.as_mut().expect("a session"),
        }
    }

    fn dial(&mut self, on: u64, transport: &str, candidate: bool) {
        let kind: TransportKind = transport.parse().unwrap();
        let intent = if candidate { Intent::Candidate } else { Intent::Attach };
        assert_eq!(self.client.introduce(self.now, kind, intent, None), Some(number(on)));
        self.kinds.insert(on, kind);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for end in [Some(&mut self.client), self.server.as_mut()].into_iter().flatten() {
            // Each deadline in time: who is late is taken to have been held up.
            while let Some(due) = end.poll_timeout().filter(|due| *due <= self.now) {
                end.handle_timeout(due);
            }
        }
        self.drain();
    }

    /// Nothing is left to be said or seen.
    fn finish(mut self) {
        assert_eq!(self.seen, [VecDeque::new(), VecDeque::new()], "seen and not written");
        assert_eq!(self.partings, BTreeMap::new(), "closes not written");
        for on in self.kinds.keys().copied().collect::<Vec<_>>() {
            let attachment = number(on);
            assert_eq!(drained(&mut self.client, attachment), [], "said by the client on {on}");
            let server = self.server.as_mut().map(|server| drained(server, attachment));
            assert_eq!(server.unwrap_or_default(), [], "said by the server on {on}");
        }
    }
}

fn drained(session: &mut Session, attachment: Attachment) -> Vec<Frame> {
    std::iter::from_fn(|| session.poll_transmit(attachment).cloned()).collect()
}

/// Reasons are for people: they are not compared.
fn without_reason(frame: Frame) -> Frame {
    match frame {
        Frame::Close(close) => Frame::Close(Close::new(close.code.clone(), "").with_detail(close.detail)),
        frame => frame,
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/conversations.json")).unwrap()
}

fn replay(vectors: &Vectors, conversation: &Conversation) {
    let mut replay = Replay::new(vectors);
    for (at, step) in conversation.steps.iter().enumerate() {
        let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| replay.step(step)));
        assert!(
            stepped.is_ok(),
            "conversation {:?}, step {} of {}",
            conversation.name,
            at + 1,
            conversation.steps.len()
        );
    }
    replay.finish();
}

#[test]
fn both_ends_say_what_is_written() {
    let vectors = vectors();
    assert!(vectors.conversations.len() >= 7);
    for conversation in &vectors.conversations {
        replay(&vectors, conversation);
    }
}

#[test]
fn a_conversation_that_is_written_wrong_is_noticed() {
    let vectors = vectors();
    let steps = r#"[
        {"at": "client", "do": "dial", "transport": "websocket", "on": 1},
        {"from": "client", "on": 1, "via": "websocket", "frames": [
            ["hello", {"attachment": 1, "transport": "websocket", "received": 1}]]}
    ]"#;
    let conversation = Conversation { name: "wrong".to_owned(), steps: serde_json::from_str(steps).unwrap() };
    assert!(std::panic::catch_unwind(|| replay(&vectors, &conversation)).is_err());
}
