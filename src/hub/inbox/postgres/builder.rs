//! Describes an inbox in PostgreSQL.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsConnect};
use tokio_postgres::{Config, Socket};

use crate::frame::Epoch;

use super::super::{InboxBounds, InboxError};
use super::line::{Dial, Line, Over, Trouble};
use super::{PostgresInbox, Size};

/// Describes an inbox in PostgreSQL.
#[must_use]
pub struct PostgresBuilder {
    url: String,
    bounds: InboxBounds,
    patience: Duration,
    waiting: usize,
    connections: usize,
    dial: Arc<dyn Dial>,
}

impl PostgresBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            bounds: InboxBounds::default(),
            patience: Duration::from_secs(5),
            waiting: 1_024,
            connections: 4,
            dial: Arc::new(Over(NoTls)),
        }
    }

    /// What it keeps at most. All nodes should say the same. [`InboxBounds::total_bytes`] holds up to what other nodes put
    /// within ten seconds; it is measured by adding up all messages, which takes the longer the more there are.
    pub fn bounds(mut self, bounds: InboxBounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// How long a call may take, with all that is tried again while the database is away. Default: 5 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many calls may wait for the database at once; others fail at once. Default: 1,024. Each holds its message.
    pub fn waiting(mut self, calls: usize) -> Self {
        self.waiting = calls.min(tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// How many connections it keeps. Default: 4. Each writes one message to disk at a time. Zero is as one.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How connections are encrypted, by any connector for `tokio-postgres`; whether they must be is said by `sslmode` in
    /// the URL. Default: they are not.
    pub fn tls<T>(mut self, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        self.dial = Arc::new(Over(tls));
        self
    }

    /// Connects, and creates in the database what is not there yet.
    ///
    /// # Errors
    /// When the URL is none, or when within [`PostgresBuilder::patience`] there is no database or it refuses.
    ///
    /// # Cancel safety
    /// When the future is dropped the tables may have been created.
    pub async fn connect(self) -> Result<PostgresInbox, InboxError> {
        let mut config: Config = self.url.parse().map_err(Trouble::Database)?;
        config.connect_timeout(self.patience);
        let mut random = [0; 24];
        getrandom::fill(&mut random).map_err(Trouble::Random)?;
        let (mut holder, mut fresh) = ([0; 16], [0; 8]);
        holder.copy_from_slice(&random[..16]);
        fresh.copy_from_slice(&random[16..]);
        let (config, patience) = (Arc::new(config), self.patience);
        let epoch = super::line::prepare_database(&config, &*self.dial, patience, fresh).await?;
        let line = || Line::new(Arc::clone(&config), Arc::clone(&self.dial), patience);
        Ok(PostgresInbox {
            lines: std::iter::repeat_with(line).take(self.connections.max(1)).collect(),
            waiting: tokio::sync::Semaphore::new(self.waiting),
            bounds: self.bounds,
            patience,
            epoch: Epoch::from_bytes(epoch),
            holder,
            size: Mutex::new(Size::default()),
        })
    }
}

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("PostgresBuilder").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
