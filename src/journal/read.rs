//! Reading one run, and the heads. Whatever is read is checked against its hashes and a signed checkpoint first, so that nobody
//! acts on, or reports, what was tampered with; what is *missing* from the rest of the journal only `verify` can tell.

use super::chain::{Body, Checkpoint, Hash, Head, START, hex, record_hash};
use super::error::JournalError;
use super::heads::Heads;
use super::keys::PublicKey;
use super::store::Store;
use crate::model::{Digest, Record, RunId};
use futures::TryStreamExt;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};
use tokio::sync::Mutex;

/// The number and hash of the last checkpoint, after its signature has been verified.
pub(super) async fn last_checkpoint(
    store: &Store,
    connection: &mut SqliteConnection,
    key: &PublicKey,
) -> Result<(u64, Digest), JournalError> {
    let row = sqlx::query("SELECT number, CAST(body AS BLOB), signature FROM checkpoint ORDER BY number DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map_err(|e| store.fault(&e))?
        .ok_or_else(|| store.tampered("it has no checkpoint at all"))?;
    let (number, body, signature) = checkpoint_row(&row).map_err(|e| store.fault(&e))?;
    let (checkpoint, hash) = Checkpoint::open(&body, &signature, key)
        .ok_or_else(|| JournalError::OtherKey { folder: store.folder.clone(), fingerprint: key.fingerprint().0 })?;
    if checkpoint.number.cast_signed() != number {
        return Err(store.tampered(format!("checkpoint {} stands in the place of {number}", checkpoint.number)));
    }
    Ok((checkpoint.number, hash))
}

/// Number, body and signature of a row that was selected so.
pub(super) fn checkpoint_row(row: &SqliteRow) -> Result<(i64, Vec<u8>, Vec<u8>), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

/// Every record of a run in order, and its head; empty if there is no such run.
pub(super) async fn run(
    store: &Store,
    connection: &mut SqliteConnection,
    key: &PublicKey,
    heads: &Mutex<Heads>,
    run: &RunId,
) -> Result<(Vec<Record>, Option<Head>), JournalError> {
    // One snapshot: the run may be going on.
    let mut snapshot = connection.begin().await.map_err(|e| store.fault(&e))?;
    let read = run_of_snapshot(store, &mut snapshot, key, heads, run).await?;
    snapshot.rollback().await.map_err(|e| store.fault(&e))?;
    Ok(read)
}

async fn run_of_snapshot(
    store: &Store,
    connection: &mut SqliteConnection,
    key: &PublicKey,
    heads: &Mutex<Heads>,
    run: &RunId,
) -> Result<(Vec<Record>, Option<Head>), JournalError> {
    // First of all: so no snapshot is older than what is known already.
    let end = {
        let mut heads = heads.lock().await;
        heads.renew(connection, key).await.map_err(|e| store.fault(&e))?
    };
    let mut records = Vec::new();
    let mut head = Head { seq: 0, hash: START };
    let mut checkpoint = 0;
    {
        let mut rows = sqlx::query("SELECT seq, CAST(body AS BLOB), hash FROM record WHERE run = $1 ORDER BY seq")
            .bind(&run.0)
            .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await.map_err(|e| store.fault(&e))? {
            let (seq, body, hash): (i64, Vec<u8>, Vec<u8>) =
                (|| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))()
                    .map_err(|e: sqlx::Error| store.fault(&e))?;
            let expected = head.seq + 1;
            if seq.cast_unsigned() != expected {
                return Err(store.tampered(format!("record {expected} of run {run} is missing")));
            }
            let changed = || store.tampered(format!("record {expected} of run {run} was changed"));
            let hash: Hash = hash.try_into().map_err(|_| changed())?;
            if record_hash(&head.hash, &body) != hash {
                return Err(changed());
            }
            let body: Body = serde_json::from_slice(&body).map_err(|e| {
                store.tampered(format!("record {expected} of run {run} is not one that this version writes: {e}"))
            })?;
            if body.run != *run || body.seq != expected {
                return Err(store.tampered(format!(
                    "record {} of run {} stands in the place of record {expected} of run {run}",
                    body.seq, body.run
                )));
            }
            head = Head { seq: expected, hash };
            checkpoint = body.checkpoint;
            records.push(body.into_record(&hash));
        }
    }
    if records.is_empty() {
        return Ok((records, None));
    }
    if !signs(store, connection, key, checkpoint, run, &head).await? {
        return Err(store.tampered(format!("record {} of run {run} is in no signed checkpoint", head.seq)));
    }
    let known = match end {
        Some(end) => heads.lock().await.know_later(connection, key, run, checkpoint, end).await,
        None => Ok(None),
    };
    let cut = match known.map_err(|e| store.fault(&e))? {
        Some(known) => known,
        None => signed_later(store, connection, checkpoint, run).await?,
    };
    if cut {
        return Err(store.tampered(format!("the records of run {run} after record {} are missing", head.seq)));
    }
    Ok((records, Some(head)))
}

/// Whether a later checkpoint knows more of this run: then its end was cut off. Looks into each of them.
async fn signed_later(
    store: &Store,
    connection: &mut SqliteConnection,
    checkpoint: u64,
    run: &RunId,
) -> Result<bool, JournalError> {
    // As `SignedHead` is written; a run's name needs no escapes.
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM checkpoint WHERE number > $1 AND instr(body, $2))")
        .bind(checkpoint.cast_signed())
        .bind(format!("{{\"run\":\"{run}\",\"seq\":"))
        .fetch_one(connection)
        .await
        .map_err(|e| store.fault(&e))
}

async fn signs(
    store: &Store,
    connection: &mut SqliteConnection,
    key: &PublicKey,
    checkpoint: u64,
    run: &RunId,
    head: &Head,
) -> Result<bool, JournalError> {
    let row = sqlx::query("SELECT number, CAST(body AS BLOB), signature FROM checkpoint WHERE number = $1")
        .bind(checkpoint.cast_signed())
        .fetch_optional(connection)
        .await
        .map_err(|e| store.fault(&e))?;
    let Some(row) = row else { return Ok(false) };
    let (_, body, signature) = checkpoint_row(&row).map_err(|e| store.fault(&e))?;
    let Some((signed, _)) = Checkpoint::open(&body, &signature, key) else { return Ok(false) };
    let hash = hex(&head.hash);
    Ok(signed.number == checkpoint && signed.heads.iter().any(|h| h.run == *run && h.seq == head.seq && h.hash == hash))
}

/// Every run, the newest first. One index lookup a run: the records themselves are not read.
pub(super) async fn runs(store: &Store, connection: &mut SqliteConnection) -> Result<Vec<RunId>, JournalError> {
    let names: Vec<String> = sqlx::query_scalar(
        "WITH RECURSIVE known(run) AS (
           SELECT min(run) FROM record
           UNION ALL
           SELECT (SELECT min(run) FROM record WHERE run > known.run) FROM known WHERE known.run IS NOT NULL
         )
         SELECT known.run FROM known LEFT JOIN record ON record.run = known.run AND record.seq = 1
         WHERE known.run IS NOT NULL
         ORDER BY CASE WHEN json_valid(body) THEN json_extract(body, '$.checkpoint') END DESC, known.run",
    )
    .fetch_all(connection)
    .await
    .map_err(|e| store.fault(&e))?;
    Ok(names.into_iter().map(RunId).collect())
}

/// Every run and its last record's number. One index lookup a run.
pub(super) async fn lengths(
    store: &Store,
    connection: &mut SqliteConnection,
) -> Result<Vec<(RunId, u64)>, JournalError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "WITH RECURSIVE known(run) AS (
             SELECT min(run) FROM record
             UNION ALL
             SELECT (SELECT min(run) FROM record WHERE run > known.run) FROM known WHERE known.run IS NOT NULL
         )
         SELECT known.run, (SELECT max(seq) FROM record WHERE record.run = known.run)
         FROM known WHERE known.run IS NOT NULL",
    )
    .fetch_all(connection)
    .await
    .map_err(|e| store.fault(&e))?;
    Ok(rows.into_iter().map(|(run, seq)| (RunId(run), seq.cast_unsigned())).collect())
}
