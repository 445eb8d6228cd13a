//! The file: its place, its permissions, its lock, its schema, and how it is opened.
//!
//! WAL, so that readers see a run while it goes on; `synchronous=FULL`, so that a commit that returned is on the disk;
//! `secure_delete`, so that a destroyed value leaves zeros.

use super::error::JournalError;
use super::seal::Unopened;
use crate::model::{RunId, SealedId};
use nix::fcntl::{Flock, FlockArg};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Row};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name in its folder.
pub const FILE: &str = "journal.sqlite";
const LOCK: &str = "journal.lock";

/// The tables, word for word as SQLite keeps them: `check_schema` compares.
const SCHEMA: [(&str, &str); 3] = [
    (
        "checkpoint",
        "CREATE TABLE checkpoint (number INTEGER PRIMARY KEY, body TEXT NOT NULL, signature BLOB NOT NULL) STRICT",
    ),
    (
        "record",
        "CREATE TABLE record (run TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL, \
         PRIMARY KEY (run, seq)) STRICT, WITHOUT ROWID",
    ),
    (
        "sealed",
        "CREATE TABLE sealed (run TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (run, id)) \
         STRICT, WITHOUT ROWID",
    ),
];

/// Where a journal is.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub folder: PathBuf,
}

/// Held by the one process that writes; the operating system lets go of it when that process dies, however it dies.
pub(super) type Lock = Flock<File>;

impl Store {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What `sqlx` says, in our words.
    pub fn fault(&self, error: &sqlx::Error) -> JournalError {
        JournalError::of_store(error, &self.folder)
    }

    pub fn tampered(&self, what: impl Into<String>) -> JournalError {
        JournalError::Tampered { folder: self.folder.clone(), what: what.into() }
    }

    /// Why a sealed value does not open, in our words.
    pub fn unopened(&self, run: &RunId, id: &SealedId, why: Unopened) -> JournalError {
        match why {
            Unopened::OtherKey(key) => JournalError::OtherSealingKey { folder: self.folder.clone(), key: key.0 },
            Unopened::Changed => {
                self.tampered(format!("the sealed value {} of run {run} is not the one that was sealed", id.0))
            }
        }
    }

    fn system(&self, error: &std::io::Error) -> JournalError {
        JournalError::of_system(error, &self.folder)
    }

    /// Makes the folder (mode 0700) and the empty file (mode 0600), which SQLite's own files beside it take after.
    pub fn make(&self) -> Result<(), JournalError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(|e| self.system(&e))?;
        self.check_folder()?;
        let path = self.file();
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file.sync_all().map_err(|e| self.system(&e))?,
            // Left by a process that died while it made the journal: there is nothing in it yet.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                if path.metadata().is_ok_and(|meta| meta.len() > 0) {
                    return Err(JournalError::Exists { folder: self.folder.clone() });
                }
            }
            Err(e) => return Err(self.system(&e)),
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(|e| self.system(&e))
    }

    /// There is a file, and nobody but its owner can put another in its place.
    pub fn check(&self) -> Result<(), JournalError> {
        if !self.file().metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
            return Err(JournalError::Missing { folder: self.folder.clone() });
        }
        self.check_folder()?;
        not_exposed(&self.file())
    }

    fn check_folder(&self) -> Result<(), JournalError> {
        not_exposed(&self.folder)
    }

    /// The right to write, or [`JournalError::Locked`] at once.
    pub fn lock(&self) -> Result<Lock, JournalError> {
        let path = self.folder.join(LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| self.system(&e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // Only for the message that others get; a full disk must not matter here.
                let _ = lock.set_len(0).and_then(|()| write!(&mut *lock, "{}", std::process::id()));
                Ok(lock)
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                Err(JournalError::Locked { folder: self.folder.clone(), pid: pid.trim().parse().ok() })
            }
            Err((_, errno)) => Err(self.system(&errno.into())),
        }
    }

    /// The one connection that writes.
    pub async fn connect(&self) -> Result<SqliteConnection, JournalError> {
        self.options()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON")
            .connect()
            .await
            .map_err(|e| self.fault(&e))
    }

    /// How to open it for reading only. A journal on a medium that cannot be written, with no writer's files beside it, is opened
    /// as immutable: SQLite would otherwise want to put its shared-memory file beside it.
    pub fn reading(&self) -> SqliteConnectOptions {
        let wal = self.folder.join(format!("{FILE}-wal"));
        let writable = nix::unistd::access(&self.folder, nix::unistd::AccessFlags::W_OK).is_ok();
        // Runs are read one by one, from wherever they are: what SQLite would keep of the file is not what comes next.
        self.options().read_only(true).immutable(!writable && !wal.exists()).pragma("cache_size", "-512")
    }

    /// A connection that only reads.
    pub async fn connect_to_read(&self) -> Result<SqliteConnection, JournalError> {
        self.reading().connect().await.map_err(|e| self.fault(&e))
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(self.file())
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true)
            // Rows that wait for us before SQLite's thread does: a run is read whole, and two threads that take turns cost more than it.
            .row_buffer_size(1024)
            .pragma("trusted_schema", "OFF")
            .disable_statement_logging()
    }

    /// Makes the tables.
    pub async fn make_tables(&self, connection: &mut SqliteConnection) -> Result<(), JournalError> {
        for (_, table) in SCHEMA {
            sqlx::query(table).execute(&mut *connection).await.map_err(|e| self.fault(&e))?;
        }
        Ok(())
    }

    /// Whether there are exactly our tables: no trigger, no view, no other column that could act on what is written.
    pub async fn check_schema(&self, connection: &mut SqliteConnection) -> Result<(), JournalError> {
        let rows = sqlx::query("SELECT name, sql FROM sqlite_schema ORDER BY name")
            .fetch_all(connection)
            .await
            .map_err(|e| self.fault(&e))?;
        if rows.is_empty() {
            return Err(JournalError::Missing { folder: self.folder.clone() });
        }
        let found: Vec<(String, String)> = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(|e| self.fault(&e))?;
        if found.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).ne(SCHEMA) {
            return Err(self.tampered("its tables are not the ones that offboard makes"));
        }
        Ok(())
    }
}

fn not_exposed(path: &Path) -> Result<(), JournalError> {
    let meta = path.metadata().map_err(|e| JournalError::of_system(&e, path))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o022 != 0 { Err(JournalError::Exposed { path: path.to_path_buf(), mode }) } else { Ok(()) }
}
