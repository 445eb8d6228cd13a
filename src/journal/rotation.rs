//! Changing the sealing key, and setting a recovery key, in a journal that nobody else writes to meanwhile.
//!
//! Records and checkpoints are never rewritten. A value that is sealed anew takes the place of the old one in the table of sealed values, in
//! the same transaction as a signed checkpoint that says its new digest: so the chain holds, and the old key is of no use for the journal as
//! it stands. At every moment each value opens with one of the keys that are on the disk, and with the recovery key.
//!
//! Whoever may write the database must not choose what is sealed or to whom: the whole journal is verified in the transaction that writes first,
//! and every row that is read later must have the digest that was signed by then.

use super::chain::{Checkpoint, SignedValue, hex};
use super::error::JournalError;
use super::kept::KeyFolder;
use super::keys::{self, Keys};
use super::read;
use super::recovery::Recipient;
use super::ring::{self, Entry, Noted, RING};
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

/// What `writer.rs` writes, for values that are sealed anew: the same fence. And the digests that are signed by then.
const RESEAL: &str = "\
INSERT INTO sealed (run, id, value)
  SELECT value->>0, value->>1, unhex(value->>2) FROM json_each($1) WHERE true
  ON CONFLICT (run, id) DO UPDATE SET value = excluded.value;
INSERT INTO temp.kept (run, id, sha256)
  SELECT value->>0, value->>1, value->>3 FROM json_each($1) WHERE true
  ON CONFLICT (run, id) DO UPDATE SET sha256 = excluded.sha256;
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
    /// When that recovery key was set, and by whom.
    pub recovery_set: Option<Noted>,
}

/// Gives the journal in `folder` a new sealing key: makes it in `keys_folder`, seals every value anew, and puts it into the place of the old
/// one. Goes on where an earlier call was killed.
///
/// # Errors
/// Nothing has changed if the journal is in use, does not verify (`Protected`), or holds a value that does not open. After that, on any error,
/// both keys are kept, every value opens with one of them, and the next call goes on.
pub async fn rotate_sealing_key(
    folder: &Path,
    keys_folder: &KeyFolder<'_>,
    at: Timestamp,
    by: &str,
) -> Result<Rotated, Fault> {
    let mut held = Held::open(folder, keys_folder).await?;
    let rotated = held.rotate(keys_folder, at, by).await;
    held.close().await;
    rotated
}

/// Lets the recovery key of `recipient` open the journal's keys from now on, and no other one. Calls `show` when nothing but the disk can prevent
/// it any more, and before it is so: one that nobody has read must not be the one that counts.
///
/// # Errors
/// The journal is in use, or does not verify, or `show` has failed; nothing has changed.
pub async fn set_recovery(
    folder: &Path,
    keys_folder: &KeyFolder<'_>,
    recipient: &Recipient,
    at: Timestamp,
    by: &str,
    show: impl FnOnce() -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut held = Held::open(folder, keys_folder).await?;
    let set = held.set_recovery(recipient, at, by, show).await;
    held.close().await;
    set
}

/// A journal that this process alone writes to.
struct Held {
    store: Store,
    connection: SqliteConnection,
    keys: Keys,
    /// The last checkpoint.
    last: (u64, Digest),
    lock: Lock,
    keys_lock: Lock,
}

/// The recovery key that opens what is noted.
struct Opener {
    recipient: Recipient,
    set: Option<Noted>,
}

impl Held {
    /// The keys are read under the lock: before, another process may be changing them.
    async fn open(folder: &Path, keys_folder: &KeyFolder<'_>) -> Result<Self, Fault> {
        let store = Store::new(folder);
        store.check()?;
        let lock = store.lock()?;
        let keys_lock = keys::lock(keys_folder.path)?;
        let keys = Keys::load_kept(keys_folder).await?;
        let mut connection = store.connect().await?;
        store.check_schema(&mut connection).await?;
        let last = read::last_checkpoint(&store, &mut connection, &keys.public()).await?;
        Ok(Self { store, connection, keys, last, lock, keys_lock })
    }

    async fn rotate(&mut self, keys_folder: &KeyFolder<'_>, at: Timestamp, by: &str) -> Result<Rotated, Fault> {
        let mut entries = self.verified().await?;
        let newest = entries.iter().rev().find_map(|entry| Some((entry.recovery.as_ref()?, &entry.set)));
        let opener = newest.map(|(w, set)| Opener { recipient: w.recipient.clone(), set: set.clone() });
        let continued = self.keys.former_id().is_some();
        if !continued {
            // The recovery key opens the new key before that one seals anything. Until then the one of now is the newest.
            let next = Keys::make_next(keys_folder).await?;
            let now = self.keys.sealing().clone();
            let rows = self.note(&mut entries, &[next.clone(), now], opener.as_ref(), at, by)?;
            self.put(rows).await?;
            fail_point!("seal::wrapped");
            self.keys.begin_rotation(keys_folder.path, next)?;
            fail_point!("seal::made");
            self.begin().await?;
        }
        let (from, to) = (self.keys.former_id().unwrap_or_else(|| self.keys.sealing_id()), self.keys.sealing_id());
        let rows = self.note(&mut entries, &self.at_hand(), opener.as_ref(), at, by)?;
        self.put(rows).await?;
        fail_point!("seal::noted");
        let mut values = 0;
        let mut last = (String::new(), String::new());
        loop {
            self.begin().await?;
            // Those that the newest key has not sealed.
            let header = self.keys.sealing().header();
            let rows = page(&self.store, &mut self.connection, &last, &header).await?;
            let Some((run, id, _)) = rows.last() else { break };
            last = (run.0.clone(), id.0.clone());
            values += rows.len() as u64;
            let anew = rows.iter().map(|row| self.anew(row)).collect::<Result<Vec<_>, Fault>>()?;
            self.put(anew).await?;
            fail_point!("seal::resealed");
        }
        self.put(retire(&mut entries, std::slice::from_ref(&to))).await?;
        fail_point!("seal::retired");
        self.leave_nothing_behind().await?;
        self.keys.end_rotation(keys_folder.path)?;
        fail_point!("seal::replaced");
        let (recovery, recovery_set) = opener.map_or((None, None), |o| (Some(o.recipient), o.set));
        Ok(Rotated { from, to, values, continued, recovery, recovery_set })
    }

    async fn set_recovery(
        &mut self,
        recipient: &Recipient,
        at: Timestamp,
        by: &str,
        show: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut entries = self.verified().await?;
        let opener = Opener { recipient: recipient.clone(), set: Some(Noted { at, by: by.into() }) };
        let keys = self.at_hand();
        let mut rows = self.note(&mut entries, &keys, Some(&opener), at, by)?;
        let ids: Vec<KeyId> = keys.iter().map(SealingKey::id).collect();
        rows.extend(retire(&mut entries, &ids));
        show()?;
        Ok(self.put(rows).await?)
    }

    /// The keys at hand, the one that seals last.
    fn at_hand(&self) -> Vec<SealingKey> {
        let keys: Vec<&SealingKey> = self.keys.opening().collect();
        keys.into_iter().rev().cloned().collect()
    }

    /// Begins a transaction in which nobody else can write.
    async fn begin(&mut self) -> Result<(), JournalError> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await.map_err(|e| self.store.fault(&e))?;
        self.store.check_schema(&mut self.connection).await
    }

    /// Begins a transaction, and gives what the journal knows of its keys. What somebody has put in must not be signed, nor used: the whole
    /// journal is checked in this very transaction, and whatever is read later is compared with what was signed.
    async fn verified(&mut self) -> Result<Vec<Entry>, Fault> {
        self.begin().await?;
        self.last = read::last_checkpoint(&self.store, &mut self.connection, &self.keys.public()).await?;
        let verification = verify::within(&self.store, &mut self.connection, &self.keys.public()).await?;
        if let Some(problem) = verification.problems.first() {
            return Err(self.store.tampered(problem.to_string()).into());
        }
        self.must_open().await?;
        fail_point!("seal::verified");
        Ok(ring::signed_entries(&self.store, &mut self.connection).await?)
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

    /// The rows of `keys` with new numbers, so that the last of them is the newest key that the journal knows.
    fn note(
        &self,
        entries: &mut Vec<Entry>,
        keys: &[SealingKey],
        opener: Option<&Opener>,
        at: Timestamp,
        by: &str,
    ) -> Result<Vec<Row>, Fault> {
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            let number = entries.iter().map(|entry| entry.number).max().unwrap_or(0) + 1;
            let known = entries.iter().position(|entry| entry.key == key.id()).map(|at| entries.remove(at));
            let (noted, by) = known.map_or_else(|| (at, by.to_string()), |known| (known.noted, known.by));
            let recovery = opener.map(|opener| opener.recipient.wrap(key, &self.keys)).transpose()?;
            let set = opener.and_then(|opener| opener.set.clone());
            let entry = Entry { number, key: key.id(), noted, by, recovery, set };
            rows.push(entry.row());
            entries.push(entry);
        }
        Ok(rows)
    }

    /// Puts rows into the table of sealed values, in the place of those of the same name, signs that, and ends the transaction.
    async fn put(&mut self, rows: Vec<Row>) -> Result<(), JournalError> {
        if rows.is_empty() {
            let ended = sqlx::query("COMMIT").execute(&mut self.connection).await;
            return ended.map(drop).map_err(|e| self.store.fault(&e));
        }
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
        let values: Vec<_> = rows.iter().map(|(run, id, value)| (run, id, hex(value), Digest::of(value))).collect();
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

    /// Writes the file anew, folds the write-ahead log into it and cuts that, so that what the old key has sealed does not stay behind in
    /// either: `secure_delete` leaves copies in pages that were split or freed.
    async fn leave_nothing_behind(&mut self) -> Result<(), Fault> {
        sqlx::query("VACUUM").execute(&mut self.connection).await.map_err(|e| self.store.fault(&e))?;
        let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut self.connection)
            .await
            .map_err(|e| self.store.fault(&e))?;
        if busy != 0 {
            return Err(Fault::new(
                FaultKind::Busy,
                format!("another process reads the journal in {}", self.store.folder.display()),
            )
            .because("until it has ended, what the old sealing key has sealed stays in the write-ahead log")
            .hint("every value is sealed anew; end that process, and let the change of the key go on"));
        }
        Ok(())
    }

    async fn close(self) {
        let Self { connection, lock, keys_lock, .. } = self;
        // A transaction that was not ended has not been.
        let _ = connection.close().await;
        drop((lock, keys_lock));
    }
}

/// The rows of the keys other than those `in_use`, which seal nothing any more: no recovery key opens them from now on.
fn retire(entries: &mut [Entry], in_use: &[KeyId]) -> Vec<Row> {
    let retired = entries.iter_mut().filter(|entry| entry.recovery.is_some() && !in_use.contains(&entry.key));
    let row = |entry: &mut Entry| {
        (entry.recovery, entry.set) = (None, None);
        entry.row()
    };
    retired.map(row).collect()
}

/// The next values after `last`, without those whose envelope begins with `header` if that is something. Only on a connection on which
/// `verify::within` was called.
///
/// # Errors
/// `Tampered` if one of them is not the one that was signed.
pub(super) async fn page(
    store: &Store,
    connection: &mut SqliteConnection,
    last: &(String, String),
    header: &[u8],
) -> Result<Vec<Row>, JournalError> {
    let rows: Vec<(String, String, Vec<u8>, Option<String>)> = sqlx::query_as(
        "SELECT sealed.run, sealed.id, sealed.value, CASE WHEN kept.destroyed = 0 THEN kept.sha256 END
         FROM main.sealed AS sealed LEFT JOIN temp.kept AS kept ON kept.run = sealed.run AND kept.id = sealed.id
         WHERE (sealed.run, sealed.id) > ($1, $2) AND sealed.run <> $3
           AND ($4 = x'' OR substr(sealed.value, 1, length($4)) <> $4)
         ORDER BY sealed.run, sealed.id LIMIT $5",
    )
    .bind(&last.0)
    .bind(&last.1)
    .bind(RING)
    .bind(header)
    .bind(BATCH)
    .fetch_all(connection)
    .await
    .map_err(|e| store.fault(&e))?;
    let signed = |(run, id, value, sha256): (String, String, Vec<u8>, Option<String>)| match sha256 {
        Some(sha256) if sha256 == Digest::of(&value).0 => Ok((RunId(run), SealedId(id), value)),
        _ => Err(store.tampered(format!("the sealed value {id} of run {run} is not the one that was signed"))),
    };
    rows.into_iter().map(signed).collect()
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
