//! An inbox in PostgreSQL, which several nodes use together.
//!
//! What is true of it is decided by the statements in `schema.sql` and below; connections, and what happens while there
//! are none, are in `line.rs`.

mod builder;
mod line;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::frame::{Body, Epoch, Json, Seq};
use crate::hub::lock;
use crate::hub::table::now;
use crate::room::payload::Position;
use crate::socket::Principal;

use super::{Inbox, InboxBounds, InboxError, check_name, weight};
use line::{Ask, Line, Trouble};

pub use builder::PostgresBuilder;

/// How old what is known of the size of all messages together may be: other nodes put and delete, too.
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// How often what is too old is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// An inbox in PostgreSQL 12 or later (feature `postgres`).
///
/// It creates what it needs in the database; `src/hub/inbox/postgres/schema.sql` says what, and how to do it by hand.
///
/// # Guarantees
/// 1. A message that was kept is in the database, committed, and stays until its receipt or its age.
/// 2. Messages of one principal are delivered in the order in which they were kept, whichever nodes kept them.
/// 3. One node at a time delivers to a principal. It deletes each message when its receipt has come, and tries again for
///    as long as it cannot. If it crashes between receipt and deletion, or has not reached the database for 30 s, another
///    node delivers at most that one message again. A client that has it drops it by its number; another client of the same
///    principal sees it twice.
/// 4. A connection that breaks is made anew. What was asked meanwhile waits, for so long and so much as the builder says,
///    and fails then. A message whose connection broke before the answer came is put again under the same token, and kept
///    once; only if it was delivered in between is it delivered twice.
///
/// A node does not hear of what other nodes keep: a principal whose session is there gets that with its next session, at
/// whichever node, and what its node says to it meanwhile before that.
///
/// # Examples
/// ```no_run
/// use throughline::hub::{Hub, PostgresInbox};
///
/// # async fn example() -> Result<(), throughline::hub::InboxError> {
/// let inbox = PostgresInbox::builder("postgres://app@localhost/app").connect().await?;
/// let hub = Hub::builder().inbox(inbox).build();
/// # Ok(())
/// # }
/// ```
pub struct PostgresInbox {
    lines: Vec<Line>,
    /// How many may wait for the database at once.
    waiting: tokio::sync::Semaphore,
    bounds: InboxBounds,
    patience: Duration,
    epoch: Epoch,
    /// By which it is known among nodes.
    holder: [u8; 16],
    size: Mutex<Size>,
}

/// What is known of the size of all messages together.
#[derive(Debug, Default)]
struct Size {
    bytes: u64,
    measured: Option<Instant>,
    swept: Option<Instant>,
}

impl PostgresInbox {
    /// Begins to describe one. The URL is as PostgreSQL has it: `postgres://user:password@host/database`, or
    /// `host=… user=…`.
    pub fn builder(url: impl Into<String>) -> PostgresBuilder {
        PostgresBuilder::new(url.into())
    }

    async fn ask(
        &self,
        ask: Ask,
        principal: &Principal,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, InboxError> {
        let _place = self.waiting.try_acquire().map_err(|_| Trouble::Busy)?;
        let mut hasher = DefaultHasher::new();
        principal.hash(&mut hasher);
        // The messages of one principal go one way.
        let at = usize::try_from(hasher.finish() % self.lines.len().max(1) as u64).unwrap_or_default();
        let line = self.lines.get(at).ok_or(Trouble::Busy)?;
        Ok(line.ask(ask, parameters, self.patience).await?)
    }

    /// Whether so much more may be kept, of all principals together.
    async fn has_room(&self, principal: &Principal, more: u64) -> Result<bool, InboxError> {
        let most = self.bounds.total_bytes as u64;
        let fits = |size: &Size| size.bytes.saturating_add(more) <= most;
        let is_known = |at: Instant| now().saturating_duration_since(at) < MEASURED_FOR;
        {
            let size = lock(&self.size);
            if size.measured.is_some_and(is_known) && fits(&size) {
                return Ok(true);
            }
        }
        let rows = self.ask(Ask::Size, principal, &[&self.bounds.age.as_secs_f64()]).await?;
        let mut size = lock(&self.size);
        size.bytes = number(&rows)?;
        size.measured = Some(now());
        Ok(fits(&size))
    }

    /// Deletes some of what is too old, of all principals, at most once a minute.
    async fn sweep(&self, principal: &Principal) {
        let is_due = |at: Instant| now().saturating_duration_since(at) >= SWEEP_EVERY;
        {
            let mut size = lock(&self.size);
            if !size.swept.is_none_or(is_due) {
                return;
            }
            size.swept = Some(now());
        }
        let old = self.ask(Ask::Sweep, principal, &[&self.bounds.age.as_secs_f64()]).await;
        let claims = self.ask(Ask::SweepClaims, principal, &[]).await;
        if let Err(error) = old.and(claims) {
            tracing::debug!(%error, "what is too old is not deleted yet");
        }
    }
}

/// The one number that a statement returns.
fn number(rows: &[Row]) -> Result<u64, InboxError> {
    let number: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(Trouble::Database)?;
    Ok(u64::try_from(number).unwrap_or_default())
}

/// A bound as PostgreSQL has it.
fn bound(bound: usize) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}

fn bytes_of(principal: &Principal) -> &[u8] {
    principal.as_str().as_bytes()
}

#[async_trait]
impl Inbox for PostgresInbox {
    async fn put(&self, principal: &Principal, body: Body) -> Result<(), InboxError> {
        check_name(principal)?;
        let size = weight(principal, body.len()) as u64;
        self.sweep(principal).await;
        if !self.has_room(principal, size).await? {
            return Err(InboxError::Full);
        }
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(Trouble::Random)?;
        let (is_json, body_bytes) = (matches!(body, Body::Json(_)), &body.as_bytes()[..]);
        let InboxBounds { messages, bytes, age, .. } = self.bounds;
        let rows = self
            .ask(
                Ask::Put,
                principal,
                &[
                    &bytes_of(principal),
                    &token.as_slice(),
                    &is_json,
                    &body_bytes,
                    &bound(messages),
                    &bound(bytes),
                    &age.as_secs_f64(),
                ],
            )
            .await?;
        let is_kept: bool =
            rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(Trouble::Database)?;
        if !is_kept {
            return Err(InboxError::Full);
        }
        let mut known = lock(&self.size);
        known.bytes = known.bytes.saturating_add(size);
        Ok(())
    }

    async fn oldest(&self, principal: &Principal, count: usize) -> Result<Vec<(Position, Body)>, InboxError> {
        let age = self.bounds.age.as_secs_f64();
        let rows = self.ask(Ask::Oldest, principal, &[&bytes_of(principal), &age, &bound(count)]).await?;
        let mut letters = Vec::new();
        for row in &rows {
            let read = || -> Result<(i64, bool, &[u8]), tokio_postgres::Error> {
                Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
            };
            let (number, is_json, bytes) = read().map_err(Trouble::Database)?;
            let offset = u64::try_from(number).ok().and_then(Seq::new);
            let bytes = bytes::Bytes::copy_from_slice(bytes);
            let body =
                if is_json { Json::parse(bytes).ok().map(Body::Json) } else { Some(Body::Binary(bytes)) };
            match (offset, body) {
                (Some(offset), Some(body)) => letters.push((Position { epoch: self.epoch, offset }, body)),
                // Not of our making. It goes when the next one is deleted.
                _ => tracing::warn!(number, "what the database keeps is no message"),
            }
        }
        Ok(letters)
    }

    async fn delete(&self, principal: &Principal, up_to: Position) -> Result<(), InboxError> {
        if up_to.epoch != self.epoch {
            return Ok(());
        }
        let number_up_to = i64::try_from(up_to.offset.value()).unwrap_or(i64::MAX);
        let rows = self.ask(Ask::Delete, principal, &[&bytes_of(principal), &number_up_to]).await?;
        let gone = number(&rows)?;
        let mut known = lock(&self.size);
        known.bytes = known.bytes.saturating_sub(gone);
        Ok(())
    }

    async fn claim(&self, principal: &Principal, lasts: Duration) -> Result<bool, InboxError> {
        let holder = self.holder.as_slice();
        let rows =
            self.ask(Ask::Claim, principal, &[&bytes_of(principal), &holder, &lasts.as_secs_f64()]).await?;
        Ok(!rows.is_empty())
    }

    async fn release(&self, principal: &Principal) -> Result<(), InboxError> {
        self.ask(Ask::Release, principal, &[&bytes_of(principal), &self.holder.as_slice()]).await.map(|_| ())
    }
}

impl fmt::Debug for PostgresInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresInbox").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
