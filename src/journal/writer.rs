//! The one task that writes. Appends that wait at the same time, of whatever runs, share one transaction, one signed checkpoint
//! and so one `fsync`.

use super::chain::{Checkpoint, Head, NewBody, START, SignedHead, SignedValue, hex, record_hash};
use super::error::JournalError;
use super::keys::Keys;
use super::read;
use super::store::{Lock, Store};
use crate::model::{Digest, Event, Record, RunId, SealedId};
use fail::fail_point;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::error::ErrorKind;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// How many appends share a transaction at most: bounds what one commit holds in memory.
const GROUP: usize = 256;

/// When so many appends have come within [`BUSY`], a commit waits for [`GATHER`] for more to share its sync: of a fleet that is worked on at
/// the same time, or of runs that start at the same hour. A run at one place comes nowhere near it and waits for nobody. As PostgreSQL's
/// `commit_delay` and `commit_siblings`.
const SIBLINGS: usize = 6;
const BUSY: Duration = Duration::from_millis(100);
const GATHER: Duration = Duration::from_millis(15);

/// How many appends may wait before the next one waits for room.
pub(super) const QUEUE: usize = 1024;

/// Where one writer of one run stands. The head is what *this* writer wrote or read last; if the store's is another, it is stale.
#[derive(Debug)]
pub(super) struct Standing {
    pub run: RunId,
    pub head: Mutex<Option<Head>>,
}

impl Standing {
    fn head(&self) -> Option<Head> {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, head: Option<Head>) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }
}

/// One append.
pub(super) struct Request {
    pub standing: Arc<Standing>,
    pub events: Vec<(Timestamp, Event)>,
    /// Sealed values, encrypted already.
    pub sealed: Vec<(SealedId, Vec<u8>)>,
    /// A value to delete; if it is not there, nothing at all is appended.
    pub destroy: Option<SealedId>,
    pub answer: oneshot::Sender<Result<Vec<Record>, JournalError>>,
}

/// What the writer is asked.
pub(super) enum Message {
    Append(Box<Request>),
    Close(oneshot::Sender<()>),
}

/// The writer.
pub(super) struct Writer {
    pub store: Store,
    pub keys: Arc<Keys>,
    pub connection: SqliteConnection,
    /// The last checkpoint that this writer knows.
    pub last: (u64, Digest),
    /// The heads of the runs that it has written to. Grows with the runs of one process, some 100 bytes each.
    pub heads: BTreeMap<RunId, Option<Head>>,
    /// Held as long as anything may be written.
    pub lock: Lock,
}

type Answer = Result<Vec<Record>, JournalError>;

/// Everything that one group writes, in one go: sending statements one by one would cost more than the sync. The last `INSERT` is
/// the fence of the whole journal: unless the checkpoint before it is the last one, it would put NULL where none may be, and nothing
/// is written.
const COMMIT: &str = "\
BEGIN IMMEDIATE;
INSERT INTO record (run, seq, body, hash)
  SELECT value->>0, value->>1, value->>2, unhex(value->>3) FROM json_each($1);
INSERT INTO sealed (run, id, value)
  SELECT value->>0, value->>1, unhex(value->>2) FROM json_each($2);
DELETE FROM sealed WHERE (run, id) IN (SELECT value->>0, value->>1 FROM json_each($3));
INSERT INTO checkpoint (number, body, signature)
  SELECT $4, $5, CASE WHEN (SELECT max(number) FROM checkpoint) = $4 - 1 THEN $6 END;
COMMIT";

/// Why a group was not written.
enum Failed {
    /// Somebody else has written to the journal: what this writer knows of it is old.
    Overtaken,
    Error(JournalError),
}

impl From<JournalError> for Failed {
    fn from(error: JournalError) -> Self {
        Self::Error(error)
    }
}

/// What one transaction is about to write.
struct Group {
    number: u64,
    at: Option<Timestamp>,
    /// Heads of the runs that it touches: as the store has them, then as they become.
    heads: BTreeMap<RunId, Option<Head>>,
    /// Runs that get records.
    changed: BTreeSet<RunId>,
    /// Rows of `record`: run, seq, body, hash in hex.
    records: Vec<(RunId, u64, String, Digest)>,
    /// Rows of `sealed`: run, id, value in hex.
    values: Vec<(RunId, SealedId, Digest)>,
    signed: Vec<SignedValue>,
    destroyed: Vec<(RunId, SealedId)>,
}

impl Writer {
    /// Works until the journal is closed or dropped.
    pub async fn work(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut received = Vec::with_capacity(GROUP);
        let mut closing = None;
        // When the last appends came, SIBLINGS of them.
        let mut came: VecDeque<Instant> = VecDeque::new();
        while closing.is_none() && messages.recv_many(&mut received, GROUP).await > 0 {
            if came.len() == SIBLINGS && came[0].elapsed() < BUSY {
                sleep(GATHER).await;
                while received.len() < GROUP && let Ok(message) = messages.try_recv() {
                    received.push(message);
                }
            }
            came.extend(received.iter().map(|_| Instant::now()));
            came.drain(..came.len().saturating_sub(SIBLINGS));
            let mut requests = Vec::with_capacity(received.len());
            for message in received.drain(..) {
                match message {
                    Message::Append(request) => requests.push(*request),
                    Message::Close(done) => closing = Some(done),
                }
            }
            if !requests.is_empty() {
                self.answer(requests).await;
                // Those who were just answered often append again at once: let them, so that they share the next commit.
                tokio::task::yield_now().await;
            }
        }
        // The last connection to close folds the WAL into the file; what it cannot do is done when the journal is next opened.
        let Self { connection, lock, .. } = self;
        let _ = connection.close().await;
        drop(lock);
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }

    async fn answer(&mut self, requests: Vec<Request>) {
        let mut committed = self.commit(&requests).await;
        if let Err(Failed::Overtaken) = committed {
            // A file system without locks let another process write. The checkpoints go on from where it left them; what it did to
            // our runs fences them off.
            committed = match self.catch_up().await {
                Ok(()) => self.commit(&requests).await,
                Err(error) => Err(Failed::Error(error)),
            };
        }
        match committed {
            Ok(answers) => {
                for (request, answer) in requests.into_iter().zip(answers) {
                    // Whoever asked may have gone away; what was written stays written.
                    let _ = request.answer.send(answer);
                }
            }
            Err(failed) => {
                let error = match failed {
                    Failed::Error(error) => error,
                    Failed::Overtaken => JournalError::Locked { folder: self.store.folder.clone(), pid: None },
                };
                for request in requests {
                    let _ = request.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Writes all of `requests` in one transaction. An error is an error of all of them, and nothing was written.
    async fn commit(&mut self, requests: &[Request]) -> Result<Vec<Answer>, Failed> {
        let mut group = Group {
            number: self.last.0 + 1,
            at: None,
            heads: BTreeMap::new(),
            changed: BTreeSet::new(),
            records: Vec::new(),
            values: Vec::new(),
            signed: Vec::new(),
            destroyed: Vec::new(),
        };
        // Where each writer will stand; two writers of one run may be in one group.
        let mut standing: Vec<(Arc<Standing>, Option<Head>)> = Vec::new();
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let run = &request.standing.run;
            let known = standing.iter().position(|(s, _)| Arc::ptr_eq(s, &request.standing));
            let expected = known.map_or_else(|| request.standing.head(), |i| standing[i].1);
            if self.head(&mut group, run).await? != expected {
                answers.push(Err(JournalError::Fenced { run: run.clone() }));
                continue;
            }
            answers.push(Ok(self.add(&mut group, request).await?));
            let head = group.heads[run];
            match known {
                Some(i) => standing[i].1 = head,
                None => standing.push((request.standing.clone(), head)),
            }
        }
        if group.records.is_empty() && group.values.is_empty() {
            return Ok(answers);
        }
        self.write(group).await?;
        for (standing, head) in standing {
            standing.advance(head);
        }
        Ok(answers)
    }

    /// Adds what one request asks for to the group.
    async fn add(&mut self, group: &mut Group, request: &Request) -> Result<Vec<Record>, JournalError> {
        let run = &request.standing.run;
        if let Some(id) = &request.destroy {
            let gone = (run.clone(), id.clone());
            if group.destroyed.contains(&gone) || !self.is_sealed(group, run, id).await? {
                return Ok(Vec::new());
            }
            group.destroyed.push(gone);
        }
        for (id, value) in &request.sealed {
            group.values.push((run.clone(), id.clone(), hex(value)));
            group.signed.push(SignedValue { run: run.clone(), id: id.clone(), sha256: Digest::of(value) });
        }
        request.events.iter().map(|(at, event)| self.append(group, run, *at, event)).collect()
    }

    fn append(&self, group: &mut Group, run: &RunId, at: Timestamp, event: &Event) -> Result<Record, JournalError> {
        let (seq, previous) = group.heads[run].map_or((1, START), |head| (head.seq + 1, head.hash));
        let body = serde_json::to_string(&NewBody { run, seq, at, checkpoint: group.number, event }).map_err(|e| {
            JournalError::Store { folder: self.store.folder.clone(), because: format!("an event makes no JSON: {e}") }
        })?;
        let hash = record_hash(&previous, body.as_bytes());
        group.records.push((run.clone(), seq, body, hex(&hash)));
        group.heads.insert(run.clone(), Some(Head { seq, hash }));
        group.changed.insert(run.clone());
        group.at = Some(at);
        Ok(Record { run: run.clone(), seq, at, event: event.clone(), hash: hex(&hash) })
    }

    /// Signs the group and commits it.
    async fn write(&mut self, group: Group) -> Result<(), Failed> {
        let heads = group.changed.iter().filter_map(|run| {
            let head = group.heads[run]?;
            Some(SignedHead { run: run.clone(), seq: head.seq, hash: hex(&head.hash) })
        });
        let checkpoint = Checkpoint {
            number: group.number,
            at: group.at,
            previous: self.last.1.clone(),
            heads: heads.collect(),
            sealed: group.signed,
            resealed: Vec::new(),
        };
        let signed = checkpoint.sign(&self.keys);
        fail_point!("journal::before-commit");
        let committed = sqlx::query(COMMIT)
            .bind(json(&group.records))
            .bind(json(&group.values))
            .bind(json(&group.destroyed))
            .bind(group.number.cast_signed())
            .bind(&signed.body)
            .bind(&signed.signature[..])
            .execute(&mut self.connection)
            .await;
        if let Err(error) = committed {
            // Ends the transaction if SQLite has not done so itself. If it fails, there was none.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
            // The fence, or a record or value of that name: only another writer can have put it there.
            let overtaken = error
                .as_database_error()
                .is_some_and(|e| matches!(e.kind(), ErrorKind::UniqueViolation | ErrorKind::NotNullViolation));
            return Err(if overtaken { Failed::Overtaken } else { Failed::Error(self.store.fault(&error)) });
        }
        tracing::trace!(number = group.number, "the journal is written");
        fail_point!("journal::after-commit");
        self.last = (group.number, signed.hash);
        self.heads.extend(group.heads);
        if !group.destroyed.is_empty() {
            self.forget().await;
        }
        Ok(())
    }

    /// The head of `run` as the group will have it, or as the store has it. The store is asked once a run: it is only this task that
    /// changes it, and should that not be so, the fence shows it.
    async fn head(&mut self, group: &mut Group, run: &RunId) -> Result<Option<Head>, JournalError> {
        if let Some(head) = group.heads.get(run) {
            return Ok(*head);
        }
        let head = match self.heads.get(run) {
            Some(head) => *head,
            None => stored_head(&self.store, &mut self.connection, run).await?,
        };
        group.heads.insert(run.clone(), head);
        Ok(head)
    }

    async fn is_sealed(&mut self, group: &Group, run: &RunId, id: &SealedId) -> Result<bool, JournalError> {
        if group.values.iter().any(|(of, named, _)| of == run && named == id) {
            return Ok(true);
        }
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sealed WHERE run = $1 AND id = $2)")
            .bind(&run.0)
            .bind(&id.0)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|e| self.store.fault(&e))
    }

    async fn catch_up(&mut self) -> Result<(), JournalError> {
        self.heads.clear();
        self.last = read::last_checkpoint(&self.store, &mut self.connection, &self.keys.public()).await?;
        Ok(())
    }

    /// Folds the WAL into the file and cuts it, so that a destroyed value's ciphertext does not stay behind in it. Does not wait
    /// for readers: what they keep is folded when the journal is closed.
    async fn forget(&mut self) {
        for statement in ["PRAGMA busy_timeout = 0", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA busy_timeout = 5000"] {
            let _ = sqlx::query(statement).execute(&mut self.connection).await;
        }
    }
}

fn json<T: Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("numbers and strings always make JSON")
}

/// Signs and appends a checkpoint; returns its hash.
pub(super) async fn insert_checkpoint(
    store: &Store,
    connection: &mut SqliteConnection,
    checkpoint: &Checkpoint,
    keys: &Keys,
) -> Result<Digest, JournalError> {
    let signed = checkpoint.sign(keys);
    sqlx::query("INSERT INTO checkpoint (number, body, signature) VALUES ($1, $2, $3)")
        .bind(checkpoint.number.cast_signed())
        .bind(&signed.body)
        .bind(&signed.signature[..])
        .execute(connection)
        .await
        .map_err(|e| store.fault(&e))?;
    Ok(signed.hash)
}

async fn stored_head(
    store: &Store,
    connection: &mut SqliteConnection,
    run: &RunId,
) -> Result<Option<Head>, JournalError> {
    let row = sqlx::query("SELECT seq, hash FROM record WHERE run = $1 ORDER BY seq DESC LIMIT 1")
        .bind(&run.0)
        .fetch_optional(connection)
        .await
        .map_err(|e| store.fault(&e))?;
    let Some(row) = row else { return Ok(None) };
    let (seq, hash): (i64, Vec<u8>) =
        (|| Ok((row.try_get(0)?, row.try_get(1)?)))().map_err(|e: sqlx::Error| store.fault(&e))?;
    let hash = hash.try_into().map_err(|_| store.tampered(format!("record {seq} of run {run} has no whole hash")))?;
    Ok(Some(Head { seq: seq.cast_unsigned(), hash }))
}
