//! What is still to be done: a small mutable database beside the journal (`store.sqlite`). The journal says what happened and is never
//! changed; here a row is claimed, tried again, and gone when it is done.
//!
//! Several processes may have it open: `offboard serve` claims from it, commands put into it. It holds no secret.
//!
//! In each process one connection writes, and whoever wants to write stands in a fair queue for it: SQLite's own way of waiting for the lock
//! is to sleep and try again, which among many tasks leaves some of them behind for long.

mod due;
mod known;
mod orders;
mod outbox;
#[cfg(test)]
mod tests;

pub use due::{Claim, Due, Kind};
pub use known::{Known, Phase};
pub use orders::{Asked, OrderId, Standing};
pub use outbox::{Attachment, Content, Delivery, Mail, Sending, Undelivered};

use crate::model::{Fault, FaultKind};
use jiff::Timestamp;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name in the journal's folder.
pub const FILE: &str = "store.sqlite";

/// How many may read at once.
const READERS: u32 = 2;
/// What each connection keeps of the file in memory, as SQLite wants it: so many KiB, negative.
const CACHE: &str = "-512";

/// Every part's tables.
const SCHEMA: &[&str] = &[
    due::TABLE,
    due::INDEX,
    known::TABLE,
    known::INDEX,
    known::SEEN,
    known::SERVING,
    orders::TABLE,
    orders::INDEX,
    outbox::MAIL,
    outbox::DELIVERY,
    outbox::DUE,
];

/// What a power failure may take away of a change. A process that dies, however it dies, loses nothing of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// Nothing: it is on the disk when the change returns. For what stands nowhere else: orders, mail, who was seen to work here, and a sweep's
    /// first hour.
    Synced,
    /// The last moments before the failure. For what follows from the journal, which is synced before: what is due for a run and what is known of it.
    /// The two change together, and SQLite loses the latest changes first; so what is lost shows as a run that is known to fewer
    /// records than the journal has, and is made again at the next start.
    Remade,
}

impl Keep {
    /// Begins such a change. SQLite keeps `synchronous` for the connection, so each change says it.
    fn begin(self) -> &'static str {
        match self {
            Self::Synced => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
            Self::Remade => "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        }
    }
}

/// What waits to be taken up, and from when on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// For each kind of which anything is due, the earliest hour.
    pub due: HashMap<Kind, Timestamp>,
    /// Whether there is an order.
    pub orders: bool,
    /// When the next mail is to be sent.
    pub mail: Option<Timestamp>,
}

/// The open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    reading: SqlitePool,
    /// One connection.
    writing: SqlitePool,
    path: PathBuf,
}

impl Store {
    /// Opens the store in the journal's `folder`, and makes it (mode 0600) if there is none.
    ///
    /// # Errors
    /// `Misconfigured` if the file cannot be made or opened; `Unexpected` if it is no store.
    pub async fn open(folder: &Path) -> Result<Self, Fault> {
        let path = folder.join(FILE);
        // SQLite would make it with the umask's mode.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(|e| {
            Fault::new(FaultKind::Misconfigured, format!("{}: cannot be opened", path.display()))
                .because(e)
                .hint("offboard init makes the journal's folder")
        })?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(10))
            .pragma("cache_size", CACHE)
            .disable_statement_logging();
        let pool = |connections| SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false);
        let reading = pool(READERS).connect_lazy_with(options.clone());
        let writing = pool(1).connect_lazy_with(options);
        let store = Self { reading, writing, path };
        for table in SCHEMA.iter().copied() {
            sqlx::query(table).execute(&store.writing).await.map_err(|e| store.fault(&e))?;
        }
        due::add_hour(&store).await?;
        known::add_rotated(&store).await?;
        Ok(store)
    }

    /// What waits to be taken up. One look, at the indexes alone: it is asked again and again.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn waiting(&self) -> Result<Waiting, Fault> {
        let rows: Vec<(String, Option<i64>)> = sqlx::query_as(
            "SELECT value, (SELECT min(at) FROM due WHERE state = 'ready' AND kind = value) FROM json_each($1)
             UNION ALL SELECT 'an order', (SELECT min(id) FROM orders WHERE state = 'ready')
             UNION ALL SELECT 'mail', (SELECT min(not_before) FROM delivery WHERE state = 'queued')",
        )
        .bind(due::names(&Kind::ALL))
        .fetch_all(&self.reading)
        .await
        .map_err(|e| self.fault(&e))?;
        let mut waiting = Waiting::default();
        for (what, first) in rows {
            let Some(first) = first else { continue };
            match (what.as_str(), Kind::named(&what)) {
                ("an order", _) => waiting.orders = true,
                ("mail", _) => waiting.mail = Some(time(first)),
                (_, Some(kind)) => drop(waiting.due.insert(kind, time(first))),
                (_, None) => {}
            }
        }
        Ok(waiting)
    }

    /// Changes the store in one transaction, in turn.
    async fn change<T>(
        &self,
        keep: Keep,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Fault> {
        let done = async {
            let mut change = self.writing.begin_with(keep.begin()).await?;
            tracing::trace!(?keep, "the store is changed");
            let done = work(&mut change).await?;
            change.commit().await?;
            Ok(done)
        };
        done.await.map_err(|e: sqlx::Error| self.fault(&e))
    }

    /// Lets go of the file.
    pub async fn close(&self) {
        self.reading.close().await;
        self.writing.close().await;
    }

    /// What `sqlx` says, in our words.
    fn fault(&self, error: &sqlx::Error) -> Fault {
        Fault::new(FaultKind::Unexpected, format!("{}: cannot be used", self.path.display())).because(error).hint(
            "check the disk and the file's owner; what is due is found again from the journal if the store is deleted",
        )
    }
}

/// As the store keeps times: milliseconds since 1970, UTC.
fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A time as it was kept.
fn time(millis: i64) -> Timestamp {
    // What is out of range was not written by us; it is due at once rather than never.
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
