use super::*;
use crate::frame::CloseDetail;
use crate::session::{Config, Ended as SessionEnded, Receipts, Session};
use crate::socket::{Command, Driver, Launch, Notice, Supervisor, launch};

/// Nothing stands above these sessions.
struct Nobody;

impl Supervisor for Nobody {
    fn notice(&mut self, _: Notice<'_>) {}

    fn poll_command(&mut self, _: &mut std::task::Context<'_>, _: &Session) -> std::task::Poll<Command> {
        std::task::Poll::Pending
    }

    fn ended(&mut self, _: &SessionEnded, _: Instant) -> Option<Session> {
        None
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn registry(sessions: usize, ended: usize) -> Registry {
    Registry::new(Bounds { sessions, ended, memory: 60 * SECOND }, Instant::now())
}

fn id(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn key(number: u8) -> SessionKey {
    SessionKey::from_bytes([number; 32])
}

/// Opens with a key, as a principal; what is made is the driver, which is never run.
fn open(
    registry: &Registry,
    now: Instant,
    claim: Claim<'_>,
    principal: Option<&Principal>,
) -> Result<Opened<Driver>, CloseCode> {
    let make = |epoch| {
        let config = Arc::new(Config::default());
        let session = Session::server(Arc::clone(&config), claim.id, epoch, now);
        launch(Launch { session, identity: principal.cloned().into(), patience: None }, |_| Box::new(Nobody))
    };
    registry.open(now, claim, principal, make).map_err(|close| close.code.clone())
}

fn made(opened: Result<Opened<Driver>, CloseCode>) -> (Arc<Shared>, Driver) {
    match opened {
        Ok(Opened::Made(shared, driver)) => (shared, driver),
        other => panic!("not made: {other:?}"),
    }
}

fn found(opened: Result<Opened<Driver>, CloseCode>) -> Arc<Shared> {
    match opened {
        Ok(Opened::Found(shared)) => shared,
        other => panic!("not found: {other:?}"),
    }
}

fn claim(number: u8, key: &SessionKey) -> Claim<'_> {
    Claim { id: id(number), key, epoch: None, receipts: Receipts::Given }
}

#[tokio::test]
async fn the_first_claim_makes_and_the_next_finds() {
    let (registry, now, key) = (registry(10, 10), Instant::now(), key(1));
    let (shared, _driver) = made(open(&registry, now, claim(1, &key), None));
    assert!(Arc::ptr_eq(&shared, &found(open(&registry, now, claim(1, &key), None))));
    assert_eq!((registry.len(), registry.all().len()), (1, 1));
    assert!(registry.by_id(id(1)).is_some_and(|by_id| Arc::ptr_eq(&shared, &by_id)));
}

#[tokio::test]
async fn what_does_not_fit_is_unknown_whatever_it_is() {
    let (registry, now, right, wrong) = (registry(10, 10), Instant::now(), key(1), key(2));
    let (_shared, _driver) = made(open(&registry, now, claim(1, &right), None));
    let other_epoch = Some(Epoch::from_bytes([0; 8]));
    let nowhere = registry.find(now, Claim { epoch: other_epoch, ..claim(9, &right) }).unwrap_err();
    for misfit in [
        claim(1, &wrong),
        // A plain stream that goes on with what was no such stream.
        Claim { receipts: Receipts::Absent, ..claim(1, &right) },
        Claim { epoch: other_epoch, ..claim(1, &right) },
        Claim { epoch: other_epoch, ..claim(1, &wrong) },
        Claim { epoch: other_epoch, ..claim(2, &right) },
    ] {
        assert_eq!(registry.find(now, misfit).unwrap_err(), nowhere);
        assert_eq!(open(&registry, now, misfit, None).unwrap_err(), CloseCode::UnknownSession);
    }
    assert_eq!(registry.len(), 1);
}

#[tokio::test]
async fn a_session_stays_its_principals() {
    let (registry, now, key) = (registry(10, 10), Instant::now(), key(1));
    let (alice, bob) = (Principal::new("alice"), Principal::new("bob"));
    let (_shared, _driver) = made(open(&registry, now, claim(1, &key), Some(&alice)));
    for other in [None, Some(&bob)] {
        assert_eq!(open(&registry, now, claim(1, &key), other).unwrap_err(), CloseCode::Forbidden);
    }
    found(open(&registry, now, claim(1, &key), Some(&alice)));
}

#[tokio::test]
async fn an_ended_session_leaves_its_close_for_a_time() {
    let (registry, now, key) = (registry(10, 10), Instant::now(), key(1));
    let (shared, driver) = made(open(&registry, now, claim(1, &key), None));
    drop(driver);
    registry.end(now, id(1), &shared);
    assert_eq!((registry.len(), registry.by_id(id(1)).is_none()), (0, true));
    let told = open(&registry, now + 59 * SECOND, claim(1, &key), None);
    assert_eq!(told.unwrap_err(), CloseCode::InternalError);
    // Afterwards the id is free again.
    made(open(&registry, now + 60 * SECOND, claim(1, &key), None));
}

#[tokio::test]
async fn a_driver_that_is_gone_counts_as_ended_before_it_says_so() {
    let (registry, now, key) = (registry(10, 10), Instant::now(), key(1));
    let (shared, driver) = made(open(&registry, now, claim(1, &key), None));
    drop(driver);
    assert_eq!(open(&registry, now, claim(1, &key), None).unwrap_err(), CloseCode::InternalError);
    assert_eq!(registry.len(), 0);
    // Said late, it changes nothing.
    registry.end(now, id(1), &shared);
    assert_eq!(registry.len(), 0);
}

#[tokio::test]
async fn only_the_session_itself_ends_its_entry() {
    let (registry, now, key) = (registry(10, 10), Instant::now(), key(1));
    let (old, driver) = made(open(&registry, now, claim(1, &key), None));
    drop(driver);
    registry.end(now, id(1), &old);
    let later = now + 61 * SECOND;
    let (_new, _driver) = made(open(&registry, later, claim(1, &key), None));
    registry.end(later, id(1), &old);
    assert_eq!(registry.len(), 1);
    found(open(&registry, later, claim(1, &key), None));
}

#[tokio::test]
async fn sessions_are_bounded_and_an_end_makes_room() {
    let (registry, now, key) = (registry(1, 10), Instant::now(), key(1));
    let (shared, driver) = made(open(&registry, now, claim(1, &key), None));
    assert_eq!(open(&registry, now, claim(2, &key), None).unwrap_err(), CloseCode::Overloaded);
    found(open(&registry, now, claim(1, &key), None));
    drop(driver);
    registry.end(now, id(1), &shared);
    made(open(&registry, now, claim(2, &key), None));
}

#[tokio::test]
async fn what_is_remembered_of_ended_sessions_is_bounded_and_the_oldest_goes_first() {
    let (registry, now, key) = (registry(1000, SHARDS), Instant::now(), key(1));
    for number in 0..=255 {
        let (shared, driver) = made(open(&registry, now, claim(number, &key), None));
        drop(driver);
        registry.end(now, id(number), &shared);
        assert!(open(&registry, now, claim(number, &key), None).is_err(), "the newest is remembered");
    }
    for shard in &registry.shards {
        let shard = shard.lock().unwrap();
        // Each ended entry stands in the queue once, and nothing else does.
        assert!(shard.ended.len() <= 1);
        assert_eq!(shard.ended.len(), shard.entries.len());
    }
}

/// Last words of many kinds, each with a count of its own, in a changing order.
fn last_word(number: u64) -> Close {
    let close = match number % 7 {
        0 | 1 => Close::new(CloseCode::Normal, "bye"),
        2 => Close::new(CloseCode::Normal, "good night"),
        3 => Close::new(CloseCode::TimedOut, "bye"),
        4 => Close::new(CloseCode::Draining, "later")
            .with_detail(CloseDetail { retry_after_ms: Some(number), ..CloseDetail::default() }),
        5 => Close::new(CloseCode::SlowConsumer, format!("slow {number}")),
        _ => return Close::new(CloseCode::UnknownSession, "without a count"),
    };
    let detail = CloseDetail { received: Seq::new(number), ..close.detail };
    close.with_detail(detail)
}

#[test]
fn each_late_client_hears_its_own_last_word_though_copies_are_shared() {
    let (registry, now, key) = (registry(1000, 1000 * SHARDS), Instant::now(), key(1));
    let epoch = Epoch::from_bytes([1; 8]);
    for number in 0..=255 {
        let close = last_word(u64::from(number));
        registry.lock(id(number)).remember(id(number), key.clone(), epoch, close, u64::MAX);
    }
    for number in 0..=255 {
        assert_eq!(registry.find(now, claim(number, &key)).unwrap_err(), last_word(u64::from(number)));
    }
}

#[test]
fn sessions_that_end_alike_share_a_last_word_and_few_words_are_looked_through() {
    let mut shard = Shard::default();
    for number in 0..=255 {
        let epoch = Epoch::from_bytes([1; 8]);
        shard.remember(id(number), key(1), epoch, last_word(u64::from(number)), 1);
        assert!(shard.said.len() <= SAID);
    }
    let said = |number| match &shard.entries[&id(number)] {
        Entry::Ended(ended) => Arc::as_ptr(&ended.said),
        Entry::Live(_) => panic!("it has ended"),
    };
    assert_eq!(said(70), said(71));
    assert_ne!(said(71), said(72));
}

#[test]
fn what_is_kept_of_an_ended_session_stays_small() {
    let (entry, ended) = (size_of::<(SessionId, Entry)>(), size_of::<Ended>());
    assert!(
        entry <= 32 && ended <= 64,
        "{entry} and {ended} bytes: docs/BENCHMARKS.md, \"Memory after closing\""
    );
}

#[tokio::test]
async fn a_claim_with_an_epoch_makes_nothing() {
    let (registry, now, key) = (registry(10, 10), Instant::now(), key(1));
    let epoch = Some(Epoch::from_bytes([7; 8]));
    let refused = open(&registry, now, Claim { epoch, ..claim(1, &key) }, None);
    assert_eq!(refused.unwrap_err(), CloseCode::UnknownSession);
    assert_eq!(registry.len(), 0);
}
