//! Checks a whole journal against its public key, and names what is wrong.
//!
//! Three passes over one snapshot: the checkpoints, whose signed heads and digests go into temporary tables of SQLite's; the records,
//! against those heads; the sealed values, against those digests. Everything is read page by page, so that memory does not grow
//! with the journal; the temporary tables go to disk when they get large.

use super::chain::Checkpoint;
use super::error::JournalError;
use super::keys::PublicKey;
use super::problem::{Problem, Verification};
use super::read::checkpoint_row;
use super::store::Store;
use super::walk::{Findings, LISTED, RecordRow, RunWalk};
use crate::model::{Digest, RunId, SealedId};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row};
use std::path::Path;

/// How many rows are held at once.
const PAGE: usize = 500;

/// Checks the journal in `folder` with the public key alone, as an auditor does away from here. `expected_head` is a head that was kept
/// elsewhere ([`Verification::head`] of an earlier check, a report's): only against one can it be told whether *everything*
/// was rolled back.
///
/// # Errors
/// `Missing`, `Exposed` or `Store` if it cannot be read at all. What is wrong with it is no error but in
/// [`Verification::problems`].
pub async fn verify_with(
    folder: &Path,
    key: &PublicKey,
    expected_head: Option<&Digest>,
) -> Result<Verification, JournalError> {
    let store = Store::new(folder);
    store.check()?;
    whole(&store, key, expected_head, Signatures::Each).await
}

/// Which signatures are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signatures {
    /// That of every checkpoint.
    Each,
    /// Those of checkpoints that no trusted one after them names by its hash: what hangs together by hashes up to a signature is signed by it.
    Latest,
}

/// See [`verify_with`].
pub(super) async fn whole(
    store: &Store,
    key: &PublicKey,
    expected_head: Option<&Digest>,
    signatures: Signatures,
) -> Result<Verification, JournalError> {
    let mut check = Check::new(key, expected_head, signatures);
    let walked = check.walk(store).await;
    check.ended(walked)
}

/// Checks the journal as `connection` sees it in the transaction that it is in: what is read there afterwards is what was checked. Leaves
/// the signed digest of every sealed value behind in `temp.kept`.
pub(super) async fn within(
    store: &Store,
    connection: &mut SqliteConnection,
    key: &PublicKey,
) -> Result<Verification, JournalError> {
    let mut check = Check::new(key, None, Signatures::Each);
    let walked = check.walk_here(connection).await.map_err(|e| store.fault(&e));
    check.ended(walked)
}

/// A checkpoint's number, and it with its hash if it is signed.
type Opened = (i64, Option<(Checkpoint, Digest)>);

struct Check<'a> {
    key: &'a PublicKey,
    expected_head: Option<&'a Digest>,
    signatures: Signatures,
    found_head: bool,
    found: Findings,
    result: Verification,
}

impl<'a> Check<'a> {
    fn new(key: &'a PublicKey, expected_head: Option<&'a Digest>, signatures: Signatures) -> Self {
        Self {
            key,
            expected_head,
            signatures,
            found_head: false,
            found: Findings::default(),
            result: Verification {
                records: 0,
                runs: 0,
                checkpoints: 0,
                sealed: 0,
                head: None,
                last: None,
                signer: key.fingerprint(),
                problems: Vec::new(),
                more: 0,
            },
        }
    }

    fn ended(mut self, walked: Result<(), JournalError>) -> Result<Verification, JournalError> {
        match walked {
            Ok(()) => {}
            // Of a damaged file, say what was found until then.
            Err(JournalError::Corrupt { because, .. }) => self.found.report(Problem::Damaged { what: because }),
            Err(other) => return Err(other),
        }
        let Findings { problems, more, .. } = self.found;
        Ok(Verification { problems, more, ..self.result })
    }

    async fn walk(&mut self, store: &Store) -> Result<(), JournalError> {
        let mut connection = store.reading().connect().await.map_err(|e| store.fault(&e))?;
        match store.check_schema(&mut connection).await {
            Ok(()) => {}
            Err(JournalError::Tampered { .. }) => {
                self.found.report(Problem::OtherTables);
                return Ok(());
            }
            Err(other) => return Err(other),
        }
        let walked = self.walk_snapshot(&mut connection).await.map_err(|e| store.fault(&e));
        let _ = connection.close().await;
        walked
    }

    async fn walk_snapshot(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut snapshot = connection.begin().await?;
        self.walk_here(&mut snapshot).await?;
        snapshot.rollback().await
    }

    async fn walk_here(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        // Also whether the columns hold the types that the tables declare, which everything below relies on.
        for said in sqlx::query_scalar::<_, String>("PRAGMA quick_check(10)").fetch_all(&mut *connection).await? {
            if said != "ok" {
                self.found.report(Problem::Damaged { what: said });
            }
        }
        if !self.found.problems.is_empty() {
            return Ok(());
        }
        for table in [
            "CREATE TEMP TABLE signed (run TEXT, seq INTEGER, hash TEXT, PRIMARY KEY (run, seq)) WITHOUT ROWID",
            "CREATE TEMP TABLE kept (run TEXT, id TEXT, sha256 TEXT, destroyed INTEGER DEFAULT 0, PRIMARY KEY (run, id)) \
             WITHOUT ROWID",
        ] {
            sqlx::query(table).execute(&mut *connection).await?;
        }
        self.checkpoints(connection).await?;
        self.records(connection).await?;
        self.sealed(connection).await
    }

    async fn checkpoints(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut expected: i64 = 0;
        let mut previous: Option<Digest> = None;
        let mut from = i64::MIN;
        loop {
            let rows = sqlx::query(
                "SELECT number, CAST(body AS BLOB), signature FROM checkpoint WHERE number >= $1 ORDER BY number LIMIT $2",
            )
            .bind(from)
            .bind(PAGE as i64)
            .fetch_all(&mut *connection)
            .await?;
            let (mut heads, mut values, mut resealed) = (Vec::new(), Vec::new(), Vec::new());
            for (number, opened) in self.opened(&rows)? {
                self.result.checkpoints += 1;
                if number > expected {
                    self.found.report(Problem::CheckpointsRemoved { from: expected, to: number.saturating_sub(1) });
                    self.found.damaged.push((expected, number.saturating_sub(1)));
                    previous = None;
                }
                expected = expected.max(number.saturating_add(1));
                self.found.last_number = Some(number);
                let Some((checkpoint, hash)) = opened else {
                    self.found.report(Problem::CheckpointForged { number });
                    self.found.damaged.push((number, number));
                    previous = None;
                    continue;
                };
                if checkpoint.number.cast_signed() != number {
                    self.found.report(Problem::CheckpointMoved { number, is: checkpoint.number });
                    self.found.damaged.push((number, number));
                    previous = None;
                    continue;
                }
                if previous.is_some_and(|previous| previous != checkpoint.previous) {
                    self.found.report(Problem::CheckpointMixed { number: checkpoint.number });
                }
                self.found_head |= self.expected_head == Some(&hash);
                self.result.head = Some(hash.clone());
                self.result.last = checkpoint.at.or(self.result.last);
                previous = Some(hash);
                heads.extend(checkpoint.heads);
                values.extend(checkpoint.sealed);
                resealed.extend(checkpoint.resealed);
            }
            fill(
                connection,
                "INSERT OR IGNORE INTO signed SELECT value->>'run', value->>'seq', value->>'hash' FROM json_each($1)",
                &json!(heads),
            )
            .await?;
            fill(
                connection,
                "INSERT OR IGNORE INTO kept (run, id, sha256) \
                 SELECT value->>'run', value->>'id', value->>'sha256' FROM json_each($1)",
                &json!(values),
            )
            .await?;
            // In their order: of a value that was sealed anew more than once, the last one counts.
            fill(
                connection,
                "INSERT INTO kept (run, id, sha256) \
                 SELECT value->>'run', value->>'id', value->>'sha256' FROM json_each($1) ORDER BY key \
                 ON CONFLICT (run, id) DO UPDATE SET sha256 = excluded.sha256",
                &json!(resealed),
            )
            .await?;
            match (self.found.last_number.and_then(|last| last.checked_add(1)), rows.len() == PAGE) {
                (Some(next), true) => from = next,
                _ => break,
            }
        }
        if self.result.checkpoints == 0 {
            self.found.report(Problem::CheckpointsRemoved { from: 0, to: 0 });
            self.found.damaged.push((0, i64::MAX));
        }
        if let Some(head) = self.expected_head.filter(|_| !self.found_head) {
            self.found.report(Problem::RolledBack { head: head.clone() });
        }
        Ok(())
    }

    /// Each row in its order.
    fn opened(&self, rows: &[SqliteRow]) -> Result<Vec<Opened>, sqlx::Error> {
        let mut named: Option<Digest> = None;
        let mut opened = Vec::with_capacity(rows.len());
        for row in rows.iter().rev() {
            let (number, body, signature) = checkpoint_row(row)?;
            let read = match (self.signatures, Checkpoint::hashed(&body)) {
                (Signatures::Latest, Some(read)) if named.as_ref() == Some(&read.1) => Some(read),
                _ => Checkpoint::open(&body, &signature, self.key),
            };
            named = read.as_ref().map(|(checkpoint, _)| checkpoint.previous.clone());
            opened.push((number, read));
        }
        opened.reverse();
        Ok(opened)
    }

    async fn records(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut walk: Option<RunWalk> = None;
        let mut last = (String::new(), i64::MIN);
        loop {
            let rows = sqlx::query(
                "SELECT record.run, record.seq, CAST(record.body AS BLOB), record.hash, signed.hash
                 FROM record LEFT JOIN signed ON signed.run = record.run AND signed.seq = record.seq
                 WHERE (record.run, record.seq) > ($1, $2) ORDER BY record.run, record.seq LIMIT $3",
            )
            .bind(&last.0)
            .bind(last.1)
            .bind(PAGE as i64)
            .fetch_all(&mut *connection)
            .await?;
            let mut destroyed: Vec<(RunId, SealedId)> = Vec::new();
            for row in &rows {
                let row = record_row(row)?;
                last = (row.run.clone(), row.seq);
                self.result.records += 1;
                if walk.as_ref().is_none_or(|w| w.run.0 != row.run) {
                    if let Some(done) = walk.take() {
                        done.end(&mut self.found);
                    }
                    self.result.runs += 1;
                    let signed_to = sqlx::query_scalar("SELECT max(seq) FROM signed WHERE run = $1")
                        .bind(&row.run)
                        .fetch_one(&mut *connection)
                        .await?;
                    walk = Some(RunWalk::begin(&row.run, signed_to));
                }
                let Some(walk) = &mut walk else { continue };
                if let Some(gone) = walk.record(&row, &mut self.found) {
                    destroyed.push((walk.run.clone(), gone));
                }
            }
            let gone: Vec<Value> = destroyed.iter().map(|(run, id)| json!({ "run": run, "id": id })).collect();
            fill(
                connection,
                "UPDATE kept SET destroyed = 1 WHERE (run, id) IN (SELECT value->>'run', value->>'id' FROM json_each($1))",
                &json!(gone),
            )
            .await?;
            if rows.len() < PAGE {
                break;
            }
        }
        if let Some(done) = walk {
            done.end(&mut self.found);
        }
        if let (Some(to), Some(last)) = (self.found.cut_to, self.found.last_number) {
            self.found.report(Problem::CheckpointsCut { from: last.saturating_add(1).cast_unsigned(), to });
        }
        let missing = sqlx::query_as::<_, (String, i64)>(
            "SELECT run, max(seq) FROM signed WHERE NOT EXISTS (SELECT 1 FROM record WHERE record.run = signed.run) \
             GROUP BY run",
        )
        .fetch_all(&mut *connection)
        .await?;
        for (run, records) in missing {
            self.found.report(Problem::RunMissing { run: RunId(run), records: records.cast_unsigned() });
        }
        Ok(())
    }

    async fn sealed(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut last = (String::new(), String::new());
        loop {
            let rows = sqlx::query_as::<_, (String, String, String, bool, Option<Vec<u8>>)>(
                "SELECT kept.run, kept.id, kept.sha256, kept.destroyed, sealed.value
                 FROM kept LEFT JOIN sealed ON sealed.run = kept.run AND sealed.id = kept.id
                 WHERE (kept.run, kept.id) > ($1, $2) ORDER BY kept.run, kept.id LIMIT $3",
            )
            .bind(&last.0)
            .bind(&last.1)
            .bind(PAGE as i64)
            .fetch_all(&mut *connection)
            .await?;
            for (run, id, sha256, destroyed, value) in &rows {
                last = (run.clone(), id.clone());
                let (run, id) = (RunId(run.clone()), SealedId(id.clone()));
                match value {
                    Some(_) if *destroyed => self.found.report(Problem::SealedReturned { run, id }),
                    Some(value) if Digest::of(value).0 != *sha256 => {
                        self.found.report(Problem::SealedChanged { run, id })
                    }
                    Some(_) => {}
                    None if *destroyed => {}
                    None => self.found.report(Problem::SealedRemoved { run, id }),
                }
            }
            if rows.len() < PAGE {
                break;
            }
        }
        self.result.sealed = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sealed")
            .fetch_one(&mut *connection)
            .await?
            .cast_unsigned();
        // What the missing or forged checkpoints covered cannot be told from what was put in.
        if self.found.cut_to.is_some() || !self.found.damaged.is_empty() {
            return Ok(());
        }
        let inserted = sqlx::query_as::<_, (String, String)>(
            "SELECT run, id FROM sealed \
             WHERE NOT EXISTS (SELECT 1 FROM kept WHERE kept.run = sealed.run AND kept.id = sealed.id) LIMIT $1",
        )
        .bind(LISTED as i64)
        .fetch_all(&mut *connection)
        .await?;
        for (run, id) in inserted {
            self.found.report(Problem::SealedInserted { run: RunId(run), id: SealedId(id) });
        }
        Ok(())
    }
}

fn record_row(row: &SqliteRow) -> Result<RecordRow, sqlx::Error> {
    let signed: Option<String> = row.try_get(4)?;
    Ok(RecordRow {
        run: row.try_get(0)?,
        seq: row.try_get(1)?,
        body: row.try_get(2)?,
        hash: row.try_get(3)?,
        signed: signed.map(Digest),
    })
}

async fn fill(connection: &mut SqliteConnection, statement: &'static str, rows: &Value) -> Result<(), sqlx::Error> {
    if rows.as_array().is_some_and(|rows| !rows.is_empty()) {
        sqlx::query(statement).bind(rows.to_string()).execute(connection).await?;
    }
    Ok(())
}
