//! One room, as a client holds it.

use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;

use crate::frame::{Body, Json};
use crate::room::payload::{Begin, History, Join, Operation, Page, PayloadError, Position, Published};
use crate::socket::{RequestError, SendError, Sender};

use super::ledger::Ledger;
use super::lock;

/// One room, as a client holds it. Clones are the same; it keeps no session open and leaves nothing when dropped.
#[derive(Clone, Debug)]
pub struct JoinedRoom {
    sender: Sender,
    ledger: Arc<Mutex<Ledger>>,
    name: String,
}

/// Why an operation on a room has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// It has no payload: what it says nests too deep.
    #[error(transparent)]
    Body(#[from] PayloadError),
    /// The server refused it ([`RequestError::Failed`], with the codes of `docs/PROTOCOL.md`), or it was not asked.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer is not what was asked for: the server does not speak this layer.
    #[error("the answer is not the one that was asked for")]
    Answer(#[source] serde_json::Error),
}

/// Whether the server has said no, so that all is as it was before.
fn is_refused<T>(answer: &Result<T, RoomError>) -> bool {
    matches!(answer, Err(RoomError::Request(RequestError::Failed { .. })))
}

impl JoinedRoom {
    pub(super) fn new(sender: Sender, ledger: Arc<Mutex<Ledger>>, name: String) -> Self {
        Self { sender, ledger, name }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Joins, or begins the stream of the room anew. `join.room` is taken from here, and `join.reference` if it has none. What follows comes from
    /// [`Rooms::recv`](super::Rooms::recv), behind a [`Notice::Begin`](crate::room::payload::Notice::Begin) that says the same as
    /// this answer.
    ///
    /// # Errors
    /// When it is refused, or the session is lost or ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped the client may or may not have joined.
    pub async fn join(&self, join: Join) -> Result<Begin, RoomError> {
        let mut join = Join { room: self.name.clone(), ..join };
        let before = lock(&self.ledger).ask(&mut join);
        let answer = self.ask(&Operation::Join(join.clone())).await;
        match &answer {
            Ok(begin) => lock(&self.ledger).answered(&join, begin),
            Err(_) if is_refused(&answer) => lock(&self.ledger).refused(&join, before),
            Err(_) => {}
        }
        answer
    }

    /// Leaves.
    ///
    /// # Errors
    /// When the client is no member, or the session is lost or ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped the client may or may not have left.
    pub async fn leave(&self) -> Result<(), RoomError> {
        lock(&self.ledger).ask_leave(&self.name);
        self.ask::<Json>(&Operation::Leave { room: self.name.clone() }).await.map(|_| ())
    }

    /// Says something to all members, oneself included if joined. Returns where it was said; `None` if there is no such
    /// room, so that nobody was told.
    ///
    /// # Errors
    /// When it is refused, or the session is lost or ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped it may or may not have been said.
    pub async fn publish(&self, body: impl Into<Body>) -> Result<Option<Position>, RoomError> {
        self.say(None, body.into()).await
    }

    /// The same, as the latest value of something.
    ///
    /// # Errors
    /// See [`JoinedRoom::publish`].
    ///
    /// # Cancel safety
    /// When the future is dropped it may or may not have been said.
    pub async fn publish_keyed(
        &self,
        key: impl Into<String>,
        body: impl Into<Body>,
    ) -> Result<Option<Position>, RoomError> {
        self.say(Some(key.into()), body.into()).await
    }

    async fn say(&self, key: Option<String>, body: Body) -> Result<Option<Position>, RoomError> {
        let published: Published =
            self.ask(&Operation::Publish { room: self.name.clone(), key, body }).await?;
        Ok(published.at)
    }

    /// Says something without waiting for an answer. If it is refused, a
    /// [`Notice::Failed`](crate::room::payload::Notice::Failed) comes.
    ///
    /// # Errors
    /// When it cannot be wrapped or sent.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, it was not sent.
    pub async fn publish_unanswered(&self, body: impl Into<Body>) -> Result<(), RoomError> {
        let publish = Operation::Publish { room: self.name.clone(), key: None, body: body.into() };
        let sent: Result<(), SendError> = self.sender.send(publish.write()?).await;
        sent.map_err(|error| RoomError::Request(error.into()))
    }

    /// Tells something else of oneself.
    ///
    /// # Errors
    /// When the client is no member, or the session is lost or ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped it may or may not have been told.
    pub async fn update(&self, meta: Option<Json>) -> Result<(), RoomError> {
        let before = lock(&self.ledger).ask_meta(&self.name, meta.as_ref());
        let answer = self.ask::<Json>(&Operation::Meta { room: self.name.clone(), meta }).await.map(|_| ());
        if is_refused(&answer) {
            lock(&self.ledger).ask_meta(&self.name, before.as_ref());
        }
        answer
    }

    /// Asks who is there: the list comes from [`Rooms::recv`](super::Rooms::recv), as
    /// [`Notice::Present`](crate::room::payload::Notice::Present).
    ///
    /// # Errors
    /// When it is refused, the client is no member, or the session is lost or ends first.
    ///
    /// # Cancel safety
    /// When the future is dropped the list may come all the same.
    pub async fn presence(&self) -> Result<(), RoomError> {
        self.ask::<Json>(&Operation::Presence { room: self.name.clone() }).await.map(|_| ())
    }

    /// Asks for a page of what was said, from a position on or from the oldest that is kept.
    ///
    /// # Errors
    /// When it is refused, or the session is lost or ends first.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn history(&self, since: Option<Position>, limit: u32) -> Result<Page, RoomError> {
        self.ask(&Operation::History(History { room: self.name.clone(), since, limit })).await
    }

    async fn ask<T: DeserializeOwned>(&self, operation: &Operation) -> Result<T, RoomError> {
        let answer = self.sender.request(operation.write()?).await?;
        answer.to().map_err(RoomError::Answer)
    }
}
