//! What the journal itself knows of its sealing keys: their names, who made them, and each one as a recovery key can open it.
//!
//! One row a key in the table of sealed values, under a run's name that no run can have; signed checkpoints cover it as any other. So it
//! goes wherever the journal goes, and nobody can put their own recovery key into it without the signing key.

use super::error::JournalError;
use super::recovery::Wrapped;
use super::seal::KeyId;
use super::store::Store;
use crate::model::{Digest, RunId, SealedId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;
use std::path::Path;

/// The run under which the rows stand.
pub(super) const RING: &str = "sealing";

/// One sealing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// From 1: clocks jump, this does not.
    pub number: u64,
    pub key: KeyId,
    /// When it was noted here; for a key that a rotation made, when it was made.
    pub noted: Timestamp,
    /// Who did that.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Wrapped>,
    /// When that recovery key was set, and by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Noted>,
}

impl Entry {
    /// The row of this entry.
    pub fn row(&self) -> (RunId, SealedId, Vec<u8>) {
        let value = serde_json::to_vec(self).expect("numbers and strings always make JSON");
        (RunId(RING.into()), SealedId(self.key.0.clone()), value)
    }
}

/// Every key that the journal knows of, the newest last.
pub(super) async fn entries(store: &Store, connection: &mut SqliteConnection) -> Result<Vec<Entry>, JournalError> {
    read(store, rows(store, connection).await?)
}

/// As [`entries`], on a connection on which `verify::within` was called: none but those that are signed.
pub(super) async fn signed_entries(
    store: &Store,
    connection: &mut SqliteConnection,
) -> Result<Vec<Entry>, JournalError> {
    let rows = rows(store, &mut *connection).await?;
    let signed: Vec<(String, String)> = sqlx::query_as("SELECT id, sha256 FROM temp.kept WHERE run = $1")
        .bind(RING)
        .fetch_all(connection)
        .await
        .map_err(|e| store.fault(&e))?;
    let signed: BTreeMap<String, String> = signed.into_iter().collect();
    if let Some((id, _)) = rows.iter().find(|(id, value)| signed.get(id) != Some(&Digest::of(value).0)) {
        return Err(store.tampered(format!("what it says of the sealing key {id} was changed")));
    }
    read(store, rows)
}

async fn rows(store: &Store, connection: &mut SqliteConnection) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
    sqlx::query_as("SELECT id, value FROM sealed WHERE run = $1")
        .bind(RING)
        .fetch_all(connection)
        .await
        .map_err(|e| store.fault(&e))
}

fn read(store: &Store, rows: Vec<(String, Vec<u8>)>) -> Result<Vec<Entry>, JournalError> {
    let mut entries = Vec::with_capacity(rows.len());
    for (id, value) in rows {
        let entry: Entry = serde_json::from_slice(&value)
            .map_err(|e| store.tampered(format!("what it says of the sealing key {id} cannot be read: {e}")))?;
        if entry.key.0 != id {
            return Err(
                store.tampered(format!("the entry of the sealing key {} stands in the place of {id}", entry.key))
            );
        }
        entries.push(entry);
    }
    entries.sort_by_key(|entry| entry.number);
    Ok(entries)
}

/// What a journal says of the keys that seal it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SealStatus {
    /// Every key that it knows or that has sealed a value, the newest last.
    pub keys: Vec<SealedWith>,
    /// Values that were sealed before keys had names.
    pub unnamed: u64,
}

/// A sealing key, by the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SealedWith {
    /// Its name.
    pub key: KeyId,
    /// How many values it has sealed.
    pub values: u64,
    /// When the journal came to know it, and from whom; nothing if it was never told.
    pub noted: Option<Noted>,
    /// The recovery key that opens it, too.
    pub recovery: Option<String>,
    /// When that recovery key was set, and by whom.
    pub recovery_set: Option<Noted>,
}

/// When a key was noted in the journal, which is when it was made if a rotation made it; or when a recovery key was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
}

/// What the journal in `folder` says of the keys that seal it. Not checked; `verify` does that.
///
/// # Errors
/// It cannot be read.
pub async fn seal_status(folder: &Path) -> Result<SealStatus, JournalError> {
    let store = Store::new(folder);
    store.check()?;
    let mut connection = store.connect_to_read().await?;
    store.check_schema(&mut connection).await?;
    let entries = entries(&store, &mut connection).await?;
    let counted: Vec<(Option<String>, i64)> = sqlx::query_as(
        "SELECT CASE WHEN substr(value, 1, 8) = $1 THEN lower(hex(substr(value, 9, 8))) END AS key, count(*)
         FROM sealed WHERE run <> $2 GROUP BY key ORDER BY key",
    )
    .bind(&super::seal::ENVELOPE[..])
    .bind(RING)
    .fetch_all(&mut connection)
    .await
    .map_err(|e| store.fault(&e))?;
    let _ = connection.close().await;
    let mut counts: BTreeMap<Option<String>, u64> = counted.into_iter().map(|(k, n)| (k, n.cast_unsigned())).collect();
    let unnamed = counts.remove(&None).unwrap_or(0);
    let known = entries.into_iter().map(|entry| SealedWith {
        values: counts.remove(&Some(entry.key.0.clone())).unwrap_or(0),
        noted: Some(Noted { at: entry.noted, by: entry.by }),
        recovery: entry.recovery.map(|wrapped| wrapped.recipient.id()),
        recovery_set: entry.set,
        key: entry.key,
    });
    let known: Vec<SealedWith> = known.collect();
    let unknown = counts
        .into_iter()
        .filter_map(|(key, values)| Some((KeyId(key?), values)))
        .map(|(key, values)| SealedWith { key, values, noted: None, recovery: None, recovery_set: None });
    Ok(SealStatus { keys: unknown.chain(known).collect(), unnamed })
}
