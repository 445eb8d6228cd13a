//! The journal: what happened, append-only, in one SQLite file. What a run knows after a crash, and what a report says, comes from
//! here and from nowhere else.
//!
//! Every run is one hash chain; signed checkpoints, one a commit, cover the heads of all runs and every sealed value
//! (`chain.rs` says how exactly). One process writes at a time, through one task (`writer.rs`); readers need no lock. Secrets are
//! encrypted before SQLite sees them. This room reads no clock: times come from its callers.

mod chain;
mod error;
mod evidence;
mod heads;
mod kept;
mod keys;
mod problem;
mod read;
mod recover;
mod recovery;
mod ring;
mod rotation;
mod run_log;
mod seal;
mod store;
mod verify;
mod walk;
mod writer;

pub use error::JournalError;
pub use evidence::{EVIDENCE, keep as keep_evidence};
pub use kept::{KeyFile, KeyFolder, Moved, SHED_KEY, key_files, try_keeping, unwrap_sealing_key, wrap_sealing_key};
pub use keys::{Keys, NEXT_SEALING_KEY, PUBLIC_KEY, PublicKey, SEALING_KEY, SIGNING_KEY};
pub use problem::{Problem, Verification};
pub use recover::{Recovered, recover};
pub use recovery::{Recipient, RecoveryKey};
pub use ring::{Noted, SealStatus, SealedWith, seal_status};
pub use rotation::{Rotated, rotate_sealing_key, set_recovery};
pub use run_log::RunLog;
pub use seal::KeyId;
pub use store::FILE;
pub use verify::verify_with;

use crate::model::{Digest, Event, Record, RunId};
use chain::{Checkpoint, Head, hex};
use heads::Heads;
use jiff::Timestamp;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Connection, SqlitePool};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use store::Store;
use tokio::sync::{mpsc, oneshot};
use verify::Signatures;
use writer::{Message, Standing, Writer};

/// How many readers may read at once.
const READERS: u32 = 4;

/// How many names are tried for a new run. There are 2²⁰ of them; with half of them taken, this fails once in 2⁶⁴ times.
const NAMES: usize = 64;

/// A journal, opened. Clones are the same journal.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    store: Store,
    public: PublicKey,
    reading: SqlitePool,
    /// What is known of the runs' ends.
    heads: tokio::sync::Mutex<Heads>,
    /// The keys and the way to the writer; nothing if it was opened for reading only.
    writing: Option<(Arc<Keys>, mpsc::Sender<Message>)>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("folder", &self.inner.store.folder).finish_non_exhaustive()
    }
}

impl Inner {
    fn keys(&self) -> Result<&Keys, JournalError> {
        self.writing.as_ref().map(|(keys, _)| &**keys).ok_or_else(|| self.read_only())
    }

    fn writer(&self) -> Result<&mpsc::Sender<Message>, JournalError> {
        self.writing.as_ref().map(|(_, writer)| writer).ok_or_else(|| self.read_only())
    }

    fn read_only(&self) -> JournalError {
        JournalError::ReadOnly { folder: self.store.folder.clone(), because: "it was opened for reading".into() }
    }

    fn closed(&self) -> JournalError {
        JournalError::Closed { folder: self.store.folder.clone() }
    }
}

impl Journal {
    /// Makes an empty journal in `folder`, which is made if it is not there, and opens it for writing.
    ///
    /// # Errors
    /// [`JournalError::Exists`]: a journal is never replaced. `Exposed`, `Locked`, `Full`, `ReadOnly`, `Store`.
    pub async fn create(folder: &Path, keys: Keys) -> Result<Self, JournalError> {
        let store = Store::new(folder);
        store.make()?;
        let lock = store.lock()?;
        let mut connection = store.connect().await?;
        let mut made = connection.begin().await.map_err(|e| store.fault(&e))?;
        store.make_tables(&mut made).await?;
        let name: [u8; 32] =
            keys::random().map_err(|e| JournalError::Store { folder: folder.to_path_buf(), because: e.to_string() })?;
        let first = Checkpoint {
            number: 0,
            at: None,
            previous: hex(&name),
            heads: Vec::new(),
            sealed: Vec::new(),
            resealed: Vec::new(),
        };
        let hash = writer::insert_checkpoint(&store, &mut made, &first, &keys).await?;
        made.commit().await.map_err(|e| store.fault(&e))?;
        Ok(Self::writing(Writer {
            store,
            keys: Arc::new(keys),
            connection,
            last: (0, hash),
            heads: BTreeMap::new(),
            lock,
        }))
    }

    /// Whether another process has the journal in `folder` open for writing right now.
    ///
    /// # Errors
    /// [`JournalError::Locked`] if one has. `Missing`, `Exposed`, `Store`.
    pub fn is_free(folder: &Path) -> Result<(), JournalError> {
        let store = Store::new(folder);
        store.check()?;
        store.lock().map(drop)
    }

    /// Opens the journal in `folder` for writing; no other process can until this one has closed it or ended.
    ///
    /// # Errors
    /// `Missing`, `Exposed`, [`JournalError::Locked`], `OtherKey` if it is not signed with `keys`, `OtherSealingKey` if it is sealed with
    /// others, `Tampered`, `Corrupt`, `ReadOnly`, `Store`.
    pub async fn open(folder: &Path, keys: Keys) -> Result<Self, JournalError> {
        let store = Store::new(folder);
        store.check()?;
        let lock = store.lock()?;
        let mut connection = store.connect().await?;
        store.check_schema(&mut connection).await?;
        let last = read::last_checkpoint(&store, &mut connection, &keys.public()).await?;
        // Keys that were read before somebody changed them must not seal anything: nobody could open it.
        if let Some(newest) = ring::entries(&store, &mut connection).await?.pop()
            && !keys.opening().any(|key| key.id() == newest.key)
        {
            return Err(JournalError::OtherSealingKey { folder: store.folder, key: newest.key.0 });
        }
        Ok(Self::writing(Writer { store, keys: Arc::new(keys), connection, last, heads: BTreeMap::new(), lock }))
    }

    /// Opens the journal in `folder` for reading, also while another process writes to it. Every read is checked with `key`.
    ///
    /// # Errors
    /// As [`Journal::open`], without `Locked`.
    pub async fn open_read_only(folder: &Path, key: PublicKey) -> Result<Self, JournalError> {
        let store = Store::new(folder);
        store.check()?;
        let (reading, heads) = (readers(&store), tokio::sync::Mutex::default());
        let journal = Self { inner: Arc::new(Inner { reading, heads, store, public: key, writing: None }) };
        let mut connection = journal.connection().await?;
        journal.inner.store.check_schema(&mut connection).await?;
        drop(connection);
        Ok(journal)
    }

    fn writing(writer: Writer) -> Self {
        let (sender, messages) = mpsc::channel(writer::QUEUE);
        let inner = Inner {
            reading: readers(&writer.store),
            store: writer.store.clone(),
            public: writer.keys.public(),
            heads: tokio::sync::Mutex::default(),
            writing: Some((writer.keys.clone(), sender)),
        };
        tokio::spawn(writer.work(messages));
        Self { inner: Arc::new(inner) }
    }

    /// Ends the writer after everything that waits has been written, folds the write-ahead log into the file and lets go of the
    /// lock. A process that ends without it loses nothing.
    pub async fn close(&self) {
        self.inner.reading.close().await;
        if let Some((_, writer)) = &self.inner.writing {
            let (done, ended) = oneshot::channel();
            if writer.send(Message::Close(done)).await.is_ok() {
                let _ = ended.await;
            }
        }
    }

    /// Begins a run of any kind with its `first` event (a [`crate::model::RunRequest`], a [`crate::model::SweepRequest`]): an unused
    /// name, its first record, and a fresh seed, sealed, all in one transaction.
    ///
    /// # Errors
    /// As [`RunLog::append`].
    pub async fn start(&self, at: Timestamp, first: impl Into<Event>) -> Result<(RunLog, Record), JournalError> {
        let (log, records) = self.start_with(at, first, None).await?;
        let first = records.into_iter().next().ok_or_else(|| self.inner.closed())?;
        Ok((log, first))
    }

    /// As [`Journal::start`], with a `second` event in the same transaction: a run that is to wait is never on record without its hour. Gives
    /// all records.
    ///
    /// # Errors
    /// As [`RunLog::append`].
    pub async fn start_with(
        &self,
        at: Timestamp,
        first: impl Into<Event>,
        second: Option<Event>,
    ) -> Result<(RunLog, Vec<Record>), JournalError> {
        let events: Vec<Event> = std::iter::once(first.into()).chain(second).collect();
        for _ in 0..NAMES {
            let standing = Standing { run: self.name()?, head: Mutex::new(None) };
            let log = RunLog::new(self.inner.clone(), standing);
            match log.begin(at, events.clone()).await {
                Ok(records) => return Ok((log, records)),
                // The name is taken.
                Err(JournalError::Fenced { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.store_error("no unused name was found for a new run; begin a new journal"))
    }

    /// Goes on with a run. Whoever wrote to it until now is fenced off by the first append.
    ///
    /// # Errors
    /// `NoSuchRun`, `Tampered`, `ReadOnly`, `Corrupt`, `Store`.
    pub async fn continue_run(&self, run: &RunId) -> Result<RunLog, JournalError> {
        Ok(self.take_up(run).await?.0)
    }

    /// Goes on with a run, like [`Journal::continue_run`], from these records.
    ///
    /// # Errors
    /// As [`Journal::continue_run`].
    pub async fn take_up(&self, run: &RunId) -> Result<(RunLog, Vec<Record>), JournalError> {
        self.inner.writer()?;
        let (records, head) = self.read(run).await?;
        let standing = Standing { run: run.clone(), head: Mutex::new(Some(head)) };
        Ok((RunLog::new(self.inner.clone(), standing), records))
    }

    /// Every record of a run in order, after its hashes and the signature over its last record have been checked.
    ///
    /// # Errors
    /// `NoSuchRun`, `Tampered`, `Corrupt`, `Store`.
    pub async fn records(&self, run: &RunId) -> Result<Vec<Record>, JournalError> {
        Ok(self.read(run).await?.0)
    }

    async fn read(&self, run: &RunId) -> Result<(Vec<Record>, Head), JournalError> {
        let mut connection = self.connection().await?;
        tracing::trace!(%run, "a run is read");
        let inner = &self.inner;
        let (records, head) = read::run(&inner.store, &mut connection, &inner.public, &inner.heads, run).await?;
        Ok((records, head.ok_or_else(|| JournalError::NoSuchRun { run: run.clone() })?))
    }

    /// Every run, the newest first.
    ///
    /// # Errors
    /// `Corrupt`, `Store`.
    pub async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        read::runs(&self.inner.store, &mut *self.connection().await?).await
    }

    /// Every run and the number of its last record: what has changed since somebody last looked. Not checked; read the records for that.
    ///
    /// # Errors
    /// `Corrupt`, `Store`.
    pub async fn lengths(&self) -> Result<Vec<(RunId, u64)>, JournalError> {
        read::lengths(&self.inner.store, &mut *self.connection().await?).await
    }

    /// The hash of the last checkpoint: it stands for everything in the journal. Kept elsewhere, it shows later that nothing was
    /// rolled back.
    ///
    /// # Errors
    /// `OtherKey`, `Tampered`, `Corrupt`, `Store`.
    pub async fn head(&self) -> Result<Digest, JournalError> {
        let mut connection = self.connection().await?;
        Ok(read::last_checkpoint(&self.inner.store, &mut connection, &self.inner.public).await?.1)
    }

    /// Checks everything, as [`verify_with`], but that a signature counts for all checkpoints that hang together by their hashes up to it: a report
    /// rests on what was signed, not on every signature still being there.
    ///
    /// # Errors
    /// As [`verify_with`].
    pub async fn verify(&self, expected_head: Option<&Digest>) -> Result<Verification, JournalError> {
        verify::whole(&self.inner.store, &self.inner.public, expected_head, Signatures::Latest).await
    }

    /// The key that this journal is verified with.
    pub fn public_key(&self) -> &PublicKey {
        &self.inner.public
    }

    async fn connection(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>, JournalError> {
        self.inner.reading.acquire().await.map_err(|e| self.inner.store.fault(&e))
    }

    /// Four characters of Crockford's base32.
    fn name(&self) -> Result<RunId, JournalError> {
        let bytes: [u8; 4] = keys::random().map_err(|e| self.store_error(&e.to_string()))?;
        let alphabet = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        Ok(RunId(bytes.iter().map(|byte| char::from(alphabet[usize::from(byte % 32)])).collect()))
    }

    fn store_error(&self, because: &str) -> JournalError {
        JournalError::Store { folder: self.inner.store.folder.clone(), because: because.into() }
    }
}

fn readers(store: &Store) -> SqlitePool {
    SqlitePoolOptions::new().max_connections(READERS).test_before_acquire(false).connect_lazy_with(store.reading())
}
