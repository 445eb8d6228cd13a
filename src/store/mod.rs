//! What is still to be done: a small mutable database beside the journal (`store.sqlite`). The journal says what happened and is never
//! changed; here a row is claimed, tried again, and gone when it is done.
//!
//! Several processes may have it open: `offboard serve` claims from it, commands put into it. It holds no secret.

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
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name in the journal's folder.
pub const FILE: &str = "store.sqlite";

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

/// The open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
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
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(4).test_before_acquire(false).connect_lazy_with(options);
        let store = Self { pool, path };
        for table in SCHEMA.iter().copied() {
            sqlx::query(table).execute(&store.pool).await.map_err(|e| store.fault(&e))?;
        }
        Ok(store)
    }

    /// Lets go of the file.
    pub async fn close(&self) {
        self.pool.close().await;
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
