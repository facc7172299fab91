//! What every inbox must do, whatever keeps it.

use std::time::Duration;

use throughline::frame::{Body, Epoch, Seq};
use throughline::hub::{Inbox, InboxBounds, InboxError};
use throughline::room::payload::Position;
use throughline::{Principal, frame::Json};

const DAY: Duration = Duration::from_secs(86_400);

/// A kind of inbox: each is new and empty.
pub(crate) trait Kind {
    type Inbox: Inbox;

    async fn inbox(&self, bounds: InboxBounds) -> Self::Inbox;

    /// Makes what is kept in the latest inbox older by this.
    async fn pass(&self, time: Duration);
}

/// Holds all of it against a kind of inbox.
pub(crate) async fn hold(kind: impl Kind) {
    what_is_kept_comes_back_in_order_as_it_was(&kind).await;
    principals_are_kept_apart_whatever_their_names(&kind).await;
    numbers_rise_though_all_was_deleted(&kind).await;
    each_bound_refuses_what_is_new_and_keeps_what_is_there(&kind).await;
    what_is_too_old_is_gone_and_makes_room(&kind).await;
    puts_at_once_are_all_kept_with_numbers_of_their_own(&kind).await;
    one_who_claims_may_claim_again_and_give_back(&kind).await;
}

fn ada() -> Principal {
    Principal::new("ada")
}

async fn texts(inbox: &impl Inbox, principal: &Principal) -> Vec<Body> {
    inbox.oldest(principal, 1_000).await.unwrap().into_iter().map(|(_, body)| body).collect()
}

async fn put(inbox: &impl Inbox, principal: &Principal, body: impl Into<Body>) -> Result<(), InboxError> {
    inbox.put(principal, body.into()).await
}

fn is_full(put: &Result<(), InboxError>) -> bool {
    matches!(put, Err(InboxError::Full))
}

async fn what_is_kept_comes_back_in_order_as_it_was(kind: &impl Kind) {
    let inbox = kind.inbox(InboxBounds::default()).await;
    assert_eq!(inbox.oldest(&ada(), 9).await.unwrap(), []);
    let bodies = [
        Body::from(Json::parse(r#"{"b":1,  "a":[1.50,"é\u0000\n"]}"#).unwrap()),
        Body::from("text"),
        Body::from(Vec::new()),
        Body::from(Json::null()),
        Body::from((0..=255).collect::<Vec<u8>>()),
        Body::from(vec![7; 100_000]),
    ];
    for body in &bodies {
        put(&inbox, &ada(), body.clone()).await.unwrap();
    }
    assert_eq!(texts(&inbox, &ada()).await, bodies);
    let some = inbox.oldest(&ada(), 2).await.unwrap();
    assert_eq!(some.iter().map(|(_, body)| body).collect::<Vec<_>>(), [&bodies[0], &bodies[1]]);
    assert_eq!(some[0].0.epoch, some[1].0.epoch);
    assert!(some[0].0.offset < some[1].0.offset);
    // Another epoch says nothing of these numbers.
    let elsewhere = Position { epoch: Epoch::from_bytes([9; 8]), offset: Seq::new(1 << 50).unwrap() };
    inbox.delete(&ada(), elsewhere).await.unwrap();
    assert_eq!(texts(&inbox, &ada()).await, bodies);
    for _ in 0..2 {
        inbox.delete(&ada(), some[1].0).await.unwrap();
        assert_eq!(texts(&inbox, &ada()).await, bodies[2..]);
    }
}

async fn principals_are_kept_apart_whatever_their_names(kind: &impl Kind) {
    let inbox = kind.inbox(InboxBounds::default()).await;
    let names = ["ada", "ADA", "", "a\0b", "a", "a%", "a'; DROP TABLE x --", "åda", &"x".repeat(1_000)];
    for name in names {
        put(&inbox, &Principal::new(name), name).await.unwrap();
    }
    for name in names {
        assert_eq!(texts(&inbox, &Principal::new(name)).await, [Body::from(name)]);
    }
    let (at, _) = inbox.oldest(&ada(), 1).await.unwrap().remove(0);
    inbox.delete(&ada(), at).await.unwrap();
    assert!(texts(&inbox, &ada()).await.is_empty());
    for name in &names[1..] {
        assert_eq!(texts(&inbox, &Principal::new(*name)).await, [Body::from(*name)]);
    }
}

async fn numbers_rise_though_all_was_deleted(kind: &impl Kind) {
    let inbox = kind.inbox(InboxBounds::default()).await;
    let mut last = Seq::ZERO;
    for _ in 0..5 {
        put(&inbox, &ada(), "x").await.unwrap();
        let (at, _) = inbox.oldest(&ada(), 1).await.unwrap().remove(0);
        assert!(at.offset > last);
        last = at.offset;
        inbox.delete(&ada(), at).await.unwrap();
    }
}

async fn each_bound_refuses_what_is_new_and_keeps_what_is_there(kind: &impl Kind) {
    let roomy = InboxBounds { messages: 100, bytes: 1 << 20, total_bytes: 1 << 20, age: DAY };
    let bob = Principal::new("bob");
    let by_count = kind.inbox(InboxBounds { messages: 3, ..roomy }).await;
    let by_bytes = kind.inbox(InboxBounds { bytes: 30, ..roomy }).await;
    for inbox in [&by_count, &by_bytes] {
        for number in 0..3 {
            put(inbox, &ada(), vec![number; 10]).await.unwrap();
        }
        assert!(is_full(&put(inbox, &ada(), vec![3; 10]).await));
        assert_eq!(texts(inbox, &ada()).await, [0, 1, 2].map(|number| Body::from(vec![number; 10])));
        // Others have bounds of their own.
        put(inbox, &bob, vec![9; 10]).await.unwrap();
        let (first, _) = inbox.oldest(&ada(), 1).await.unwrap().remove(0);
        inbox.delete(&ada(), first).await.unwrap();
        put(inbox, &ada(), vec![3; 10]).await.unwrap();
        assert_eq!(texts(inbox, &ada()).await, [1, 2, 3].map(|number| Body::from(vec![number; 10])));
    }
    // Names count as well, and 64 bytes for each.
    let in_all = kind.inbox(InboxBounds { total_bytes: 3 * (10 + 3 + 64), ..roomy }).await;
    for principal in [&ada(), &bob, &bob] {
        put(&in_all, principal, vec![0; 10]).await.unwrap();
    }
    for principal in [&ada(), &bob, &Principal::new("eve")] {
        assert!(is_full(&put(&in_all, principal, Vec::new()).await));
    }
    let (first, _) = in_all.oldest(&bob, 1).await.unwrap().remove(0);
    in_all.delete(&bob, first).await.unwrap();
    put(&in_all, &Principal::new("eve"), vec![1; 10]).await.unwrap();
    let endless = Principal::new("x".repeat(1_025));
    assert!(matches!(put(&in_all, &endless, "x").await, Err(InboxError::Name)));
    let too_large = kind.inbox(InboxBounds { bytes: 5, ..roomy }).await;
    assert!(is_full(&put(&too_large, &ada(), vec![1; 6]).await));
    let none = kind.inbox(InboxBounds { messages: 0, ..roomy }).await;
    assert!(is_full(&put(&none, &ada(), "x").await));
}

async fn what_is_too_old_is_gone_and_makes_room(kind: &impl Kind) {
    let bounds = InboxBounds { messages: 2, bytes: 20, total_bytes: 300, age: Duration::from_secs(100) };
    let inbox = kind.inbox(bounds).await;
    put(&inbox, &ada(), vec![0; 10]).await.unwrap();
    kind.pass(Duration::from_secs(60)).await;
    put(&inbox, &ada(), vec![1; 10]).await.unwrap();
    put(&inbox, &Principal::new("bob"), vec![2; 20]).await.unwrap();
    assert!(is_full(&put(&inbox, &ada(), vec![2; 10]).await));
    kind.pass(Duration::from_secs(60)).await;
    assert_eq!(texts(&inbox, &ada()).await, [Body::from(vec![1; 10])]);
    put(&inbox, &ada(), vec![2; 10]).await.unwrap();
    assert_eq!(texts(&inbox, &ada()).await, [Body::from(vec![1; 10]), Body::from(vec![2; 10])]);
    // What is too old for others makes room for all.
    kind.pass(Duration::from_secs(99)).await;
    assert_eq!(texts(&inbox, &ada()).await, [Body::from(vec![2; 10])]);
    for name in ["c", "d"] {
        put(&inbox, &Principal::new(name), vec![3; 10]).await.unwrap();
    }
    kind.pass(Duration::from_secs(101)).await;
    for principal in ["ada", "bob", "c", "d"] {
        assert!(texts(&inbox, &Principal::new(principal)).await.is_empty());
    }
}

async fn puts_at_once_are_all_kept_with_numbers_of_their_own(kind: &impl Kind) {
    const WRITERS: u8 = 8;
    const EACH: u8 = 20;
    let inbox = kind.inbox(InboxBounds { messages: 1_000, ..InboxBounds::default() }).await;
    let one = async |writer: u8| {
        for number in 0..EACH {
            put(&inbox, &ada(), vec![writer, number]).await.unwrap();
        }
    };
    futures_util::future::join_all((0..WRITERS).map(one)).await;
    let kept = inbox.oldest(&ada(), 1_000).await.unwrap();
    assert_eq!(kept.len(), usize::from(WRITERS) * usize::from(EACH));
    assert!(kept.windows(2).all(|two| two[0].0.offset < two[1].0.offset));
    for writer in 0..WRITERS {
        let of_it = kept.iter().map(|(_, body)| body.as_bytes()).filter(|body| body[0] == writer);
        assert_eq!(of_it.map(|body| body[1]).collect::<Vec<_>>(), (0..EACH).collect::<Vec<_>>());
    }
}

async fn one_who_claims_may_claim_again_and_give_back(kind: &impl Kind) {
    let inbox = kind.inbox(InboxBounds::default()).await;
    for _ in 0..2 {
        assert!(inbox.claim(&ada(), DAY).await.unwrap());
    }
    for _ in 0..2 {
        inbox.release(&ada()).await.unwrap();
    }
    assert!(inbox.claim(&ada(), DAY).await.unwrap());
}
