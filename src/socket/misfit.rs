//! How an end is told that a plain message of its did not fit.
//!
//! A request that does not fit is failed like any other. A plain message is, too: an `err` names it by its seq, and says how
//! many others it stands for (`docs/PROTOCOL.md`, [F7]). An end that expects none passes over it, as over any answer that
//! nobody waits for. A peer that sends much that does not fit is told once in a second, with a count, and never waited for:
//! what is owed is one number, one count and one reason, however much comes.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::frame::{Body, Close, Seq, SessionId};

use super::SendError;
use super::shared::Shared;

/// The code of the failure that tells a peer that a message of its does not fit the type that is received.
pub const MISFIT: &str = "misfit";

/// How often a peer is told of plain messages at most.
const PAUSE: Duration = Duration::from_secs(1);

/// A plain message that the peer says does not fit the type that it receives, and others that it does not tell alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misfit {
    /// The session that it was sent on.
    pub session: SessionId,
    /// The number of the latest one: the peer's log names it so.
    pub seq: Seq,
    /// How many there were since the watch looked last, this one included.
    pub count: u64,
    /// Why the latest one does not fit, for people: the peer's words, at most 256 bytes of them.
    pub reason: String,
}

/// What the failure of a message says.
#[derive(Serialize, Deserialize)]
struct Failure<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(default = "one")]
    count: u64,
}

const fn one() -> u64 {
    1
}

/// As much of what is wrong with a message as its sender is told. It may be a quotation.
pub(super) fn reason(misfit: &serde_json::Error) -> String {
    Close::cut(&misfit.to_string()).to_owned()
}

/// What one peer is still to be told of its plain messages.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    owed: Option<Owed>,
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Owed {
    seq: Seq,
    count: u64,
    reason: String,
}

impl Complaint {
    /// A message came that does not fit.
    pub(super) fn add(&mut self, seq: Seq, reason: String) {
        let before = self.owed.as_ref().map_or(0, |owed| owed.count);
        self.owed = Some(Owed { seq, count: before.saturating_add(1), reason });
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_settled(&self) -> bool {
        self.owed.is_none()
    }

    /// Tells the peer, if it is time. Where there is no room for that, it waits. Says when there is more to tell.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        fail: impl FnOnce(Seq, Body) -> Result<(), SendError>,
    ) -> Option<Instant> {
        let Owed { seq, count, reason } = self.owed.as_ref()?;
        if let Some(later) = self.not_before.filter(|later| now < *later) {
            return Some(later);
        }
        let failure = Failure { code: MISFIT.into(), message: reason.into(), count: *count };
        let told = Body::json(&failure).map(|body| fail(*seq, body));
        let later = now + PAUSE;
        self.not_before = Some(later);
        if matches!(told, Ok(Err(SendError::Full))) {
            return Some(later);
        }
        self.owed = None;
        None
    }

    /// The session was lost, and its numbers with it.
    pub(super) fn forget(&mut self) {
        self.owed = None;
    }
}

/// What a peer has told of an end's messages, for those who watch: one for all of them.
#[derive(Debug, Default)]
pub(super) struct Told {
    total: u64,
    latest: Option<(SessionId, Seq, String)>,
}

impl Told {
    /// Takes a failure that no request waits for. False: it says nothing of this kind.
    pub(super) fn take(&mut self, session: SessionId, seq: Seq, failure: &Body) -> bool {
        let Body::Json(json) = failure else { return false };
        let Ok(failure) = serde_json::from_slice::<Failure<'_>>(json.as_bytes()) else { return false };
        if failure.code != MISFIT {
            return false;
        }
        self.total = self.total.saturating_add(failure.count.max(1));
        self.latest = Some((session, seq, Close::cut(&failure.message).to_owned()));
        true
    }
}

/// Watches what the peer tells of plain messages that were sent to it and do not fit the type that it receives.
///
/// Only a peer that receives values ([`Typed`](super::Typed)) tells; one that fails a request answers it instead.
#[derive(Debug)]
pub struct MisfitWatch {
    shared: Arc<Shared>,
    seen: u64,
}

impl MisfitWatch {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let seen = shared.lock().misfits.get_or_insert_default().total;
        Self { shared: Arc::clone(shared), seen }
    }

    /// Waits until the peer tells of messages that do not fit, and says which was the latest and how many there were since
    /// the last time. `None` once the session has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Misfit> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits for misfits in poll form; see [`MisfitWatch::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Misfit>> {
        let mut inner = self.shared.lock();
        if let Some(Told { total, latest: Some((session, seq, reason)) }) = inner.misfits.as_deref() {
            let count = total.saturating_sub(self.seen);
            if count > 0 {
                self.seen = *total;
                let (session, seq, reason) = (*session, *seq, reason.clone());
                return Poll::Ready(Some(Misfit { session, seq, count, reason }));
            }
        }
        if inner.is_over() {
            return Poll::Ready(None);
        }
        inner.state_wakers.register(cx.waker());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::ends::{Ends, ends};
    use super::super::{RecvError, RequestError, Typed};
    use super::*;
    use crate::frame::{CloseCode, Message, MessageKind, TransportKind};
    use crate::session::Intent;

    /// Both ends connected; the server's receives numbers.
    async fn met() -> (Ends, tokio::task::JoinHandle<Vec<u32>>) {
        let mut ends = ends();
        ends.dial(TransportKind::WebSocket, Intent::Attach).await;
        ends.connected(TransportKind::WebSocket).await;
        // The test goes on as though the server's handle were elsewhere.
        let socket = std::mem::replace(&mut ends.server, ends.server_link.socket());
        (ends, tokio::spawn(numbers(socket.typed())))
    }

    async fn numbers(mut socket: Typed<u32, Value>) -> Vec<u32> {
        let mut heard = Vec::new();
        loop {
            match socket.recv().await {
                Ok(number) if number.value == 0 => return heard,
                Ok(number) => heard.push(number.value),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn send(ends: &Ends, value: Value) {
        ends.client.send(Body::json(&value).unwrap()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_sender_of_a_message_that_does_not_fit_is_told_which_and_why() {
        let (ends, numbers) = met().await;
        let mut told = ends.client.watch_misfits();
        send(&ends, json!(1)).await;
        send(&ends, json!("two")).await;
        send(&ends, json!(3)).await;
        let misfit = told.next().await.unwrap();
        assert_eq!((misfit.session, misfit.seq.value(), misfit.count), (ends.client.id(), 2, 1));
        assert!(misfit.reason.contains("expected u32"), "{}", misfit.reason);
        send(&ends, json!(0)).await;
        assert_eq!(numbers.await.unwrap(), [1, 3], "the session is as it was");
        assert_eq!(told.next().await, None, "and then it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_once_in_a_second_with_a_count_of_the_whole() {
        let (ends, numbers) = met().await;
        let mut told = ends.client.watch_misfits();
        let begun = Instant::now();
        for _ in 0..5_000 {
            send(&ends, json!([])).await;
        }
        let mut count = 0;
        while count < 5_000 {
            count += told.next().await.unwrap().count;
        }
        assert_eq!(count, 5_000);
        let notices = ends.client.transport_history()[0].received.messages;
        assert!(notices <= 1 + begun.elapsed().as_secs(), "{notices} in {:?}", begun.elapsed());
        send(&ends, json!(0)).await;
        assert_eq!(numbers.await.unwrap(), Vec::<u32>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_room_a_notice_waits_and_nobody_waits_for_it() {
        let (mut ends, numbers) = met().await;
        let mut told = ends.client.watch_misfits();
        let mut filled = 0_u32;
        loop {
            match ends.server.try_send("filler") {
                Ok(()) => filled += 1,
                Err(SendError::Full) => break,
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
        send(&ends, json!("misfit")).await;
        send(&ends, json!(7)).await;
        // Far beyond the patience of a sender.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        send(&ends, json!(8)).await;
        for _ in 0..filled {
            assert_eq!(ends.client.recv().await.unwrap().body, Body::from("filler"));
        }
        assert_eq!(told.next().await.map(|misfit| misfit.count), Some(1));
        send(&ends, json!(0)).await;
        assert_eq!(numbers.await.unwrap(), [7, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_expects_no_notice_receives_none() {
        let (mut ends, _numbers) = met().await;
        send(&ends, json!("misfit")).await;
        ends.client.request(Body::json(&json!("misfit")).unwrap()).await.unwrap_err();
        ends.server.close(CloseCode::Normal, "");
        let heard = ends.client.recv().await;
        assert!(matches!(heard, Err(RecvError::Ended(_))), "{heard:?}");
        let later = ends.client.watch_misfits().next().await;
        assert_eq!(later, None, "a watch begins when it is made");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_cut_and_so_a_request_is_answered_however_much_it_quotes() {
        let (ends, _numbers) = met().await;
        let mut told = ends.client.watch_misfits();
        let long = Body::from("long ".repeat(100_000));
        let refused = ends.client.request(long.clone()).await;
        let Err(RequestError::Failed { code, message }) = refused else { panic!("{refused:?}") };
        assert_eq!((code.as_str(), message.len()), (MISFIT, Close::MAX_REASON));
        ends.client.send(long).await.unwrap();
        assert_eq!(told.next().await.unwrap().reason, message);
    }

    #[tokio::test(start_paused = true)]
    async fn other_failures_of_plain_messages_are_not_misfits() {
        let mut ends = ends();
        ends.dial(TransportKind::WebSocket, Intent::Attach).await;
        let mut told = ends.client.watch_misfits();
        ends.client.send("plain").await.unwrap();
        let Message { seq, .. } = ends.server.recv().await.unwrap();
        let misfit = json!({ "code": "misfit" });
        let others = [json!({ "code": "busy", "message": "" }), json!("misfit"), json!([]), json!(null)];
        for failure in others.into_iter().chain([misfit]) {
            let plain = Message { seq, kind: MessageKind::Plain, body: Body::from("") };
            let _ = ends.server.sender.try_fail(plain.seq, Body::json(&failure).unwrap());
        }
        let misfit = told.next().await.unwrap();
        assert_eq!((misfit.count, misfit.reason.as_str()), (1, ""));
    }
}
