//! Rooms over sockets whose drivers are polled by hand.

mod rights;
#[path = "../../../tests/session_sim/rng.rs"]
#[expect(dead_code, reason = "the session simulation uses all of it")]
mod rng;
mod stalled;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::*;
use crate::frame::{CloseCode, Epoch, SessionId, Window};
use crate::session::{Config, Ended, Session};
use crate::socket::{Command, Driver, Identity, Launch, Notice, Socket, State, Supervisor, launch};

/// Nothing stands above these sockets.
struct Nobody;

impl Supervisor for Nobody {
    fn notice(&mut self, _: Notice<'_>) {}

    fn poll_command(&mut self, _: &mut Context<'_>, _: &Session) -> Poll<Command> {
        Poll::Pending
    }

    fn ended(&mut self, _: &Ended, _: Instant) -> Option<Session> {
        None
    }
}

fn socket(number: u8, messages: u32) -> (Socket, Driver) {
    let send_buffer = Window { messages, bytes: 1 << 20 };
    let config = Arc::new(Config { send_buffer, ..Config::default() });
    let (id, epoch) = (SessionId::from_bytes([number; 16]), Epoch::from_bytes([1; 8]));
    let session = Session::server(Arc::clone(&config), id, epoch, Instant::now());
    let launched = Launch { session, identity: Identity::default(), patience: None };
    let (shared, driver) = launch(launched, |_| Box::new(Nobody));
    (shared.socket(), driver)
}

/// How many messages a socket still takes, which shows how many it was sent.
fn room_left(socket: &Socket) -> usize {
    std::iter::repeat_with(|| socket.try_send("filler")).take_while(Result::is_ok).count()
}

#[tokio::test]
async fn a_message_goes_to_all_members_and_to_nobody_else() {
    let hub = Hub::new();
    let (a, _a) = socket(1, 8);
    let (b, _b) = socket(2, 8);
    let (c, _c) = socket(3, 8);
    let lobby = hub.room("lobby");
    let _members = (lobby.join(&a).await.unwrap(), lobby.join(&b).await.unwrap());
    let _other = hub.room("other").join(&c).await.unwrap();
    assert_eq!(lobby.publish("x").await, Ok(2));
    assert_eq!(lobby.publish_except("y", a.id()).await, Ok(1));
    assert_eq!((room_left(&a), room_left(&b), room_left(&c)), (7, 6, 8));
}

#[tokio::test]
async fn a_member_leaves_when_it_is_dropped_and_a_room_goes_with_its_last() {
    let hub = Hub::new();
    let (a, _a) = socket(1, 8);
    let (b, _b) = socket(2, 8);
    let lobby = hub.room("lobby");
    assert_eq!((lobby.len(), hub.len()), (0, 0));
    let first = lobby.join(&a).await.unwrap();
    let second = lobby.join(&b).await.unwrap();
    assert_eq!((lobby.len(), hub.len()), (2, 1));
    drop(first);
    assert_eq!((lobby.len(), hub.len()), (1, 1));
    drop(second);
    assert_eq!((lobby.len(), hub.len()), (0, 0));
    assert_eq!(lobby.publish("x").await, Ok(0));
    // The old handle names the room that comes to be again.
    let _again = hub.room("lobby").join(&a).await.unwrap();
    assert_eq!(lobby.publish("x").await, Ok(1));
}

#[tokio::test]
async fn a_socket_that_joins_twice_is_one_member() {
    let hub = Hub::new();
    let (a, _a) = socket(1, 8);
    let lobby = hub.room("lobby");
    let (first, second) = (lobby.join(&a).await.unwrap(), lobby.join(&a).await.unwrap());
    assert_eq!((lobby.len(), lobby.publish("x").await), (1, Ok(1)));
    drop(first);
    assert_eq!(lobby.len(), 1);
    drop(second);
    assert_eq!(lobby.len(), 0);
}

#[tokio::test]
async fn names_are_bounded() {
    let hub = Hub::new();
    let (a, _a) = socket(1, 8);
    for name in [String::new(), "x".repeat(257)] {
        let room = hub.room(name);
        assert_eq!(room.join(&a).await.unwrap_err(), JoinError::Name);
        assert_eq!(room.publish("x").await, Err(PublishError::Name));
    }
    let _member = hub.room("x".repeat(256)).join(&a).await.unwrap();
    assert_eq!(hub.len(), 1);
}

/// Whoever waits for less than the message needs would try again and again, and let nobody else run.
#[tokio::test]
async fn who_drains_a_member_waits_for_the_room_that_its_next_message_needs() {
    let (a, _a) = socket(1, 8);
    a.try_send("x".repeat(400 << 10)).unwrap();
    let sender = a.sender();
    let is_ready = |bytes: u64| {
        let waiting = std::pin::pin!(sender.roomy_for(bytes));
        waiting.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    assert!(is_ready(0) && is_ready(600 << 10));
    assert!(!is_ready(700 << 10), "half of the buffer is not enough");
}

#[tokio::test]
async fn who_takes_smaller_messages_only_and_cannot_be_told_that_one_is_missing_is_ended() {
    let hub = Hub::new();
    let (small, mut driver) = socket(1, 8);
    let (other, _other) = socket(2, 8);
    let lobby = hub.room("lobby");
    let _member = lobby.join(&small).await.unwrap();
    let _live = hub.serve(other);
    assert_eq!(lobby.publish("x".repeat(2 << 20)).await, Ok(0));
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Pin::new(&mut driver).poll(&mut cx);
    assert!(matches!(small.state(), State::Closed { close } if close.code == CloseCode::TooLarge));
    assert_eq!(hub.to_all("x".repeat(2 << 20)).unwrap(), 0);
    assert_eq!((hub.stats().ended_large, hub.stats().ended_slow), (2, 0));
}

#[tokio::test]
async fn a_slow_member_is_ended_and_the_others_are_not_kept_waiting() {
    let hub = Hub::new();
    let (slow, mut slow_driver) = socket(1, 1);
    let (quick, _quick) = socket(2, 8);
    let lobby = hub.room("lobby");
    let _members = (lobby.join(&slow).await.unwrap(), lobby.join(&quick).await.unwrap());
    assert_eq!(lobby.publish("x").await, Ok(2));
    assert_eq!(lobby.publish("y").await, Ok(1));
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Pin::new(&mut slow_driver).poll(&mut cx);
    assert!(matches!(slow.state(), State::Closed { close } if close.code == CloseCode::SlowConsumer));
    assert_eq!(lobby.publish("z").await, Ok(1));
    assert_eq!((hub.stats().ended_slow, hub.stats().said, hub.stats().members), (1, 3, 2));
}

#[tokio::test]
async fn a_published_body_is_shared_and_not_copied() {
    let hub = Hub::new();
    let (a, _a) = socket(1, 8);
    let lobby = hub.room("lobby");
    let _member = lobby.join(&a).await.unwrap();
    let bytes = bytes::Bytes::from(vec![1; 1000]);
    lobby.publish(bytes.clone()).await.unwrap();
    assert!(!bytes.is_unique());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_joins_while_the_last_leaves_is_in_the_room() {
    let hub = Hub::new();
    let tasks: Vec<_> = (0..4)
        .map(|number| {
            let hub = hub.clone();
            tokio::spawn(async move {
                let (socket, _driver) = socket(number, 100_000);
                for _ in 0..2_000 {
                    let lobby = hub.room("lobby");
                    let _member = lobby.join(&socket).await.unwrap();
                    assert!(lobby.publish("x").await.unwrap() >= 1);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(hub.len(), 0);
}
