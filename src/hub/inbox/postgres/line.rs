//! A connection to a database that is made anew when it breaks, and the statements that it knows.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, Row, Socket, Statement};

use crate::hub::InboxError;

/// How long it waits before it tries again, and how long at most after several times.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

const SCHEMA: &str = include_str!("schema.sql");

/// The version of the schema that this code speaks.
const VERSION: i32 = 1;

/// What can be asked of the database.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Put,
    Oldest,
    Delete,
    Claim,
    Release,
    Size,
    Sweep,
    SweepClaims,
}

impl Ask {
    /// In the order of the variants.
    const STATEMENTS: [&'static str; 8] = [
        "SELECT throughline_inbox_put($1, $2, $3, $4, $5, $6, $7)",
        "SELECT number, is_json, body FROM throughline_inbox
            WHERE principal = $1 AND put > clock_timestamp() - make_interval(secs => $2)
            ORDER BY number LIMIT $3",
        "WITH gone AS (DELETE FROM throughline_inbox WHERE principal = $1 AND number <= $2 RETURNING octet_length(body) + octet_length(principal) + 64 AS size)
            SELECT coalesce(sum(size), 0)::bigint FROM gone",
        "INSERT INTO throughline_inbox_claim AS claim (principal, holder, until)
            VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
            ON CONFLICT (principal) DO UPDATE SET holder = excluded.holder, until = excluded.until
                WHERE claim.holder = excluded.holder OR claim.until <= clock_timestamp()
            RETURNING true",
        "DELETE FROM throughline_inbox_claim WHERE principal = $1 AND holder = $2",
        "SELECT coalesce(sum(octet_length(body) + octet_length(principal) + 64), 0)::bigint FROM throughline_inbox
            WHERE put > clock_timestamp() - make_interval(secs => $1)",
        "DELETE FROM throughline_inbox WHERE (principal, number) IN (
            SELECT principal, number FROM throughline_inbox
            WHERE put <= clock_timestamp() - make_interval(secs => $1)
            ORDER BY put LIMIT 1000 FOR UPDATE SKIP LOCKED)",
        "DELETE FROM throughline_inbox_claim WHERE until <= clock_timestamp() - interval '1 minute'",
    ];
}

/// What went wrong with a database.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("too many calls wait for the database")]
    Busy,
    #[error("the database did not answer in time")]
    TimedOut,
    #[error("the tables are of version {0}, and this node speaks version {VERSION}")]
    Version(i32),
    #[error("no random numbers")]
    Random(#[source] getrandom::Error),
    #[error(transparent)]
    Database(Error),
}

impl From<Trouble> for InboxError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable(Box::new(trouble))
    }
}

/// Whether it may be otherwise in a moment: the connection is gone, or the database stops, starts, hands over, or took
/// two transactions for a deadlock.
fn passes(error: &Error) -> bool {
    let Some(state) = error.code() else { return true };
    let code = state.code();
    // The last two: what was prepared on the connection does not fit the tables any more, or is gone.
    ["57P", "08", "40", "53300", "25006", "0A000", "26000"].iter().any(|class| code.starts_with(class))
}

/// How connections are made, whatever encrypts them.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    async fn dial(&self, config: &Config) -> Result<Client, Error>;
}

/// Over connections that this encrypts.
#[derive(Debug)]
pub(super) struct Over<T>(pub(super) T);

#[async_trait]
impl<T> Dial for Over<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    async fn dial(&self, config: &Config) -> Result<Client, Error> {
        let (client, connection) = config.connect(self.0.clone()).await?;
        // It ends with the client.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database has ended");
            }
        });
        Ok(client)
    }
}

/// Makes a connection for statements that take at most so long.
async fn connect(config: &Config, dial: &dyn Dial, patience: Duration) -> Result<Client, Error> {
    let client = dial.dial(config).await?;
    let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX).max(1);
    // Each statement must see what was committed when it began: a put counts behind its lock.
    let set = format!(
        "SET default_transaction_isolation = 'read committed'; SET statement_timeout = {milliseconds}"
    );
    client.batch_execute(&set).await?;
    Ok(client)
}

/// Creates in the database what is not there, and returns its epoch.
pub(super) async fn prepare_database(
    config: &Config,
    dial: &dyn Dial,
    patience: Duration,
    fresh: [u8; 8],
) -> Result<[u8; 8], Trouble> {
    let mut last = None;
    let prepare = async {
        let mut wait = RETRY.0;
        loop {
            match try_prepare_database(config, dial, patience, fresh).await {
                Err(Trouble::Database(error)) if passes(&error) => {
                    tracing::debug!(%error, "the database cannot be reached");
                    last = Some(error);
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
                done => return done,
            }
        }
    };
    match timeout(patience, prepare).await {
        Ok(done) => done,
        Err(_) => Err(last.map_or(Trouble::TimedOut, Trouble::Database)),
    }
}

async fn try_prepare_database(
    config: &Config,
    dial: &dyn Dial,
    patience: Duration,
    fresh: [u8; 8],
) -> Result<[u8; 8], Trouble> {
    let client = connect(config, dial, patience).await.map_err(Trouble::Database)?;
    let known = "SELECT to_regclass('throughline_inbox_epoch') IS NOT NULL";
    let is_there: bool =
        client.query_one(known, &[]).await.and_then(|row| row.try_get(0)).map_err(Trouble::Database)?;
    if !is_there {
        // One transaction, and one node at a time.
        let create = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('throughline_inbox', 0)); {SCHEMA}
             INSERT INTO throughline_inbox_epoch VALUES ({VERSION}, '\\x{}') ON CONFLICT DO NOTHING; COMMIT",
            data_encoding::HEXLOWER.encode(&fresh)
        );
        client.batch_execute(&create).await.map_err(Trouble::Database)?;
    }
    let epoch = "SELECT version, epoch FROM throughline_inbox_epoch ORDER BY version DESC LIMIT 1";
    let row = client.query_one(epoch, &[]).await.map_err(Trouble::Database)?;
    let read = || -> Result<(i32, Vec<u8>), Error> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    let (version, epoch) = read().map_err(Trouble::Database)?;
    if version != VERSION {
        return Err(Trouble::Version(version));
    }
    // The table holds no others.
    epoch.try_into().map_err(|_| Trouble::Version(version))
}

/// A connection with its statements.
struct Ready {
    client: Client,
    /// One for each [`Ask`].
    statements: Vec<Statement>,
}

/// A connection that is made when it is needed.
pub(super) struct Line {
    config: Arc<Config>,
    dial: Arc<dyn Dial>,
    patience: Duration,
    /// Held while one connects: the others wait for the same connection.
    ready: Mutex<Option<Arc<Ready>>>,
}

impl Line {
    pub(super) fn new(config: Arc<Config>, dial: Arc<dyn Dial>, patience: Duration) -> Self {
        Self { config, dial, patience, ready: Mutex::new(None) }
    }

    /// Asks until there is an answer that counts, for so long.
    pub(super) async fn ask(
        &self,
        ask: Ask,
        parameters: &[&(dyn ToSql + Sync)],
        patience: Duration,
    ) -> Result<Vec<Row>, Trouble> {
        let (mut asked, mut last) = (None, None);
        let asking = async {
            let mut wait = RETRY.0;
            loop {
                let answer = match self.ready().await {
                    Ok(ready) => {
                        asked = Some(Arc::clone(&ready));
                        let statement = &ready.statements[ask as usize];
                        ready.client.query(statement, parameters).await
                    }
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(rows) => return Ok(rows),
                    Err(error) if passes(&error) => {
                        tracing::debug!(%error, ?ask, "the database is asked again");
                        last = Some(error);
                        self.discard(asked.take());
                        sleep(wait).await;
                        wait = (wait * 2).min(RETRY.1);
                    }
                    Err(error) => return Err(Trouble::Database(error)),
                }
            }
        };
        match timeout(patience, asking).await {
            Ok(answer) => answer,
            Err(_) => {
                // One that does not answer any more is not asked by others.
                self.discard(asked);
                Err(last.map_or(Trouble::TimedOut, Trouble::Database))
            }
        }
    }

    async fn ready(&self) -> Result<Arc<Ready>, Error> {
        let mut ready = self.ready.lock().await;
        if let Some(ready) = ready.as_ref().filter(|ready| !ready.client.is_closed()) {
            return Ok(Arc::clone(ready));
        }
        let client = connect(&self.config, &*self.dial, self.patience).await?;
        let mut statements = Vec::with_capacity(Ask::STATEMENTS.len());
        for statement in Ask::STATEMENTS {
            statements.push(client.prepare(statement).await?);
        }
        Ok(Arc::clone(ready.insert(Arc::new(Ready { client, statements }))))
    }

    /// Makes the next one connect anew. Who uses this connection still may go on with it.
    fn discard(&self, failed: Option<Arc<Ready>>) {
        // If somebody holds it, it connects just now.
        let Ok(mut ready) = self.ready.try_lock() else { return };
        if ready.as_ref().zip(failed.as_ref()).is_some_and(|(ready, failed)| Arc::ptr_eq(ready, failed)) {
            *ready = None;
        }
    }
}
