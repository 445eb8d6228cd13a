//! Changing the sealing key, and setting a recovery key, in a journal that nobody else writes to meanwhile.
//!
//! Records and checkpoints are never rewritten. A value that is sealed anew takes the place of the old one in the table of sealed values, in
//! the same transaction as a signed checkpoint that says its new digest: so the chain holds, and the old key is of no use for the journal as
//! it stands. At every moment each value opens with one of the keys that are on the disk.

use super::chain::{Checkpoint, SignedValue, hex};
use super::error::JournalError;
use super::keys::Keys;
use super::read;
use super::recovery::Recipient;
use super::ring::{self, Entry, RING};
use super::seal::{self, KeyId, SealingKey};
use super::store::{Lock, Store};
use super::verify;
use crate::model::{Digest, Fault, FaultKind, RunId, SealedId};
use fail::fail_point;
use jiff::Timestamp;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use std::path::Path;

/// How many values are sealed anew in one transaction.
const BATCH: i64 = 500;

/// What `writer.rs` writes, for values that are sealed anew: the same fence.
const RESEAL: &str = "\
BEGIN IMMEDIATE;
INSERT INTO sealed (run, id, value)
  SELECT value->>0, value->>1, unhex(value->>2) FROM json_each($1) WHERE true
  ON CONFLICT (run, id) DO UPDATE SET value = excluded.value;
INSERT INTO checkpoint (number, body, signature)
  SELECT $2, $3, CASE WHEN (SELECT max(number) FROM checkpoint) = $2 - 1 THEN $4 END;
COMMIT";

/// A sealed value's place and its envelope.
pub(super) type Row = (RunId, SealedId, Vec<u8>);

/// What a rotation of the sealing key has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The key that is no more.
    pub from: KeyId,
    /// The one that took its place.
    pub to: KeyId,
    /// How many values this process has sealed anew.
    pub values: u64,
    /// Whether another process had begun it.
    pub continued: bool,
    /// The recovery key that opens the new key, too.
    pub recovery: Option<Recipient>,
}

/// Gives the journal in `folder` a new sealing key: makes it in `keys_folder`, seals every value anew, and puts it into the place of the old
/// one. Goes on where an earlier call was killed.
///
/// # Errors
/// Nothing has changed if the journal is in use, does not verify (`Protected`), or holds a value that does not open. After that, on any error,
/// both keys are kept, every value opens with one of them, and the next call goes on.
pub async fn rotate_sealing_key(
    folder: &Path,
    keys_folder: &Path,
    read: impl Fn(&Path) -> Result<Vec<u8>, Fault>,
    at: Timestamp,
    by: &str,
) -> Result<Rotated, Fault> {
    let mut held = Held::open(folder, || Keys::load(keys_folder, &read)).await?;
    held.must_verify().await?;
    held.must_open().await?;
    let continued = held.keys.former_id().is_some();
    held.keys.begin_rotation(keys_folder)?;
    fail_point!("seal::made");
    let (from, to) = (held.keys.former_id().unwrap_or_else(|| held.keys.sealing_id()), held.keys.sealing_id());
    let mut entries = ring::entries(&held.store, &mut held.connection).await?;
    let recovery = entries.iter().rev().find_map(|entry| entry.recovery.as_ref()).map(|w| w.recipient.clone());
    if !entries.iter().any(|entry| entry.key == to) {
        let entry = held.entry(held.keys.sealing(), &entries, recovery.as_ref(), at, by)?;
        held.put(vec![entry.row()]).await?;
        entries.push(entry);
    }
    fail_point!("seal::noted");
    let mut values = 0;
    let mut last = (String::new(), String::new());
    loop {
        // Those that the newest key has not sealed.
        let header = held.keys.sealing().header();
        let rows = page(&held.store, &mut held.connection, &last, &header).await?;
        let Some((run, id, _)) = rows.last() else { break };
        last = (run.0.clone(), id.0.clone());
        values += rows.len() as u64;
        let anew = rows.iter().map(|row| held.anew(row)).collect::<Result<Vec<_>, Fault>>()?;
        held.put(anew).await?;
        fail_point!("seal::resealed");
    }
    held.cut_log().await;
    held.keys.end_rotation(keys_folder)?;
    fail_point!("seal::replaced");
    held.close().await;
    Ok(Rotated { from, to, values, continued, recovery })
}

/// Lets the recovery key of `recipient` open the journal's keys from now on, and no other one those that are made from now on. Calls `show` when
/// nothing but the disk can prevent it any more, and before it is so: one that nobody has read must not be the one that counts.
///
/// # Errors
/// The journal is in use, or does not verify; nothing has changed.
pub async fn set_recovery(
    folder: &Path,
    keys_folder: &Path,
    read: impl Fn(&Path) -> Result<Vec<u8>, Fault>,
    recipient: &Recipient,
    at: Timestamp,
    by: &str,
    show: impl FnOnce(),
) -> Result<(), Fault> {
    let mut held = Held::open(folder, || Keys::load(keys_folder, &read)).await?;
    // A change of the sealing key that was not ended is ended first: of two keys at hand it must be clear which one is the newest.
    if held.keys.former_id().is_some() {
        return Err(Fault::new(FaultKind::Protected, "a recovery key cannot be made now")
            .because("the change of the sealing key was not ended; nothing was changed")
            .hint("offboard seal rotate; then: offboard seal recovery"));
    }
    held.must_verify().await?;
    held.must_open().await?;
    let mut entries = ring::entries(&held.store, &mut held.connection).await?;
    let mut rows = Vec::new();
    // The newest last, so that its number is the highest.
    let keys: Vec<&SealingKey> = held.keys.opening().collect();
    for key in keys.into_iter().rev() {
        let known = entries.iter().position(|entry| entry.key == key.id());
        let mut entry = held.entry(key, &entries, Some(recipient), at, by)?;
        if let Some(known) = known {
            let known = entries.remove(known);
            entry = Entry { number: known.number, noted: known.noted, by: known.by, ..entry };
        }
        rows.push(entry.row());
        entries.push(entry);
    }
    show();
    held.put(rows).await?;
    held.close().await;
    Ok(())
}

/// A journal that this process alone writes to.
struct Held {
    store: Store,
    connection: SqliteConnection,
    keys: Keys,
    /// The last checkpoint.
    last: (u64, Digest),
    lock: Lock,
}

impl Held {
    /// The keys are read under the lock: before, another process may be changing them.
    async fn open(folder: &Path, keys: impl FnOnce() -> Result<Keys, Fault>) -> Result<Self, Fault> {
        let store = Store::new(folder);
        store.check()?;
        let lock = store.lock()?;
        let keys = keys()?;
        let mut connection = store.connect().await?;
        store.check_schema(&mut connection).await?;
        let last = read::last_checkpoint(&store, &mut connection, &keys.public()).await?;
        Ok(Self { store, connection, keys, last, lock })
    }

    /// What somebody has put in must not be signed.
    async fn must_verify(&self) -> Result<(), Fault> {
        let verification = verify::whole(&self.store, &self.keys.public(), None).await?;
        match verification.problems.first() {
            None => Ok(()),
            Some(problem) => Err(self.store.tampered(problem.to_string()).into()),
        }
    }

    /// Every value opens with a key that is at hand.
    async fn must_open(&mut self) -> Result<(), Fault> {
        let mut last = (String::new(), String::new());
        loop {
            let rows = page(&self.store, &mut self.connection, &last, &[]).await?;
            let Some((run, id, _)) = rows.last() else { return Ok(()) };
            last = (run.0.clone(), id.0.clone());
            for row in &rows {
                self.opened(row)?;
            }
        }
    }

    fn opened(&self, (run, id, value): &Row) -> Result<secrecy::SecretSlice<u8>, Fault> {
        seal::open(self.keys.opening(), run, id, value)
            .map_err(|unopened| self.store.unopened(run, id, unopened).into())
    }

    /// The value, sealed with the newest key.
    fn anew(&self, row: &Row) -> Result<Row, Fault> {
        let plaintext = self.opened(row)?;
        Ok((row.0.clone(), row.1.clone(), seal::seal(self.keys.sealing(), &row.0, &row.1, &plaintext)?))
    }

    fn entry(
        &self,
        key: &SealingKey,
        entries: &[Entry],
        recovery: Option<&Recipient>,
        at: Timestamp,
        by: &str,
    ) -> Result<Entry, Fault> {
        Ok(Entry {
            number: entries.iter().map(|entry| entry.number).max().unwrap_or(0) + 1,
            key: key.id(),
            noted: at,
            by: by.into(),
            recovery: recovery.map(|recipient| recipient.wrap(key, &self.keys)).transpose()?,
        })
    }

    /// Puts rows into the table of sealed values, in the place of those of the same name, and signs that.
    async fn put(&mut self, rows: Vec<Row>) -> Result<(), JournalError> {
        let signed =
            |(run, id, value): &Row| SignedValue { run: run.clone(), id: id.clone(), sha256: Digest::of(value) };
        let checkpoint = Checkpoint {
            number: self.last.0 + 1,
            at: None,
            previous: self.last.1.clone(),
            heads: Vec::new(),
            sealed: Vec::new(),
            resealed: rows.iter().map(signed).collect(),
        };
        let signed = checkpoint.sign(&self.keys);
        let values: Vec<_> = rows.iter().map(|(run, id, value)| (run, id, hex(value))).collect();
        let values = serde_json::to_string(&values).expect("strings always make JSON");
        let written = sqlx::query(RESEAL)
            .bind(values)
            .bind(checkpoint.number.cast_signed())
            .bind(&signed.body)
            .bind(&signed.signature[..])
            .execute(&mut self.connection)
            .await;
        if let Err(error) = written {
            // Ends the transaction if SQLite has not done so itself. If it fails, there was none.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
            return Err(self.store.fault(&error));
        }
        self.last = (checkpoint.number, signed.hash);
        Ok(())
    }

    /// Folds the write-ahead log into the file and cuts it, so that what the old key has sealed does not stay behind in it.
    async fn cut_log(&mut self) {
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.connection).await;
    }

    async fn close(self) {
        let Self { connection, lock, .. } = self;
        let _ = connection.close().await;
        drop(lock);
    }
}

/// The next values after `last`, without those whose envelope begins with `header` if that is something.
pub(super) async fn page(
    store: &Store,
    connection: &mut SqliteConnection,
    last: &(String, String),
    header: &[u8],
) -> Result<Vec<Row>, JournalError> {
    let rows: Vec<(String, String, Vec<u8>)> = sqlx::query_as(
        "SELECT run, id, value FROM sealed
         WHERE (run, id) > ($1, $2) AND run <> $3 AND ($4 = x'' OR substr(value, 1, length($4)) <> $4)
         ORDER BY run, id LIMIT $5",
    )
    .bind(&last.0)
    .bind(&last.1)
    .bind(RING)
    .bind(header)
    .bind(BATCH)
    .fetch_all(connection)
    .await
    .map_err(|e| store.fault(&e))?;
    Ok(rows.into_iter().map(|(run, id, value)| (RunId(run), SealedId(id), value)).collect())
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
