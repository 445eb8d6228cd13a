//! What the journal says, in short: which runs a person has and what they wait for, so that nobody has to read every run to know. Each row
//! says up to which record it is true; whoever finds more in the journal reads that run again.
//!
//! Besides, what the roster was seen to say, and which process serves.

use super::{Keep, Store, millis, time};
use crate::model::{Fault, PersonId, RunId, SecretName};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::HashMap;

pub(super) const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS known (
  run TEXT PRIMARY KEY, records INTEGER NOT NULL, person TEXT NOT NULL, phase TEXT NOT NULL, by_roster INTEGER NOT NULL,
  ends INTEGER, due INTEGER, started INTEGER, rotated TEXT NOT NULL DEFAULT '[]') STRICT, WITHOUT ROWID";
pub(super) const INDEX: &str = "CREATE INDEX IF NOT EXISTS known_person ON known (person)";
pub(super) const SEEN: &str = "CREATE TABLE IF NOT EXISTS employed (person TEXT PRIMARY KEY) STRICT, WITHOUT ROWID";
pub(super) const SERVING: &str =
    "CREATE TABLE IF NOT EXISTS serving (one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER NOT NULL) STRICT";

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its hour.
    Waiting,
    /// A person cancelled it.
    Cancelled,
    /// The roster took it back.
    Withdrawn,
    /// It has begun, or is to begin at once.
    Begun,
    /// No leaver's run: a sweep.
    Other,
}

impl Phase {
    const ALL: [(Self, &str); 5] = [
        (Self::Waiting, "waiting"),
        (Self::Cancelled, "cancelled"),
        (Self::Withdrawn, "withdrawn"),
        (Self::Begun, "begun"),
        (Self::Other, "other"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(phase, _)| *phase == self).map_or("other", |(_, name)| name)
    }

    fn named(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == name).map_or(Self::Other, |(phase, _)| *phase)
    }
}

/// One run, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The run.
    pub run: RunId,
    /// So many records of it were read.
    pub records: u64,
    /// Whose it is; empty for a sweep.
    pub person: PersonId,
    /// Where it is.
    pub phase: Phase,
    /// Whether the roster asked for it.
    pub by_roster: bool,
    /// The end of employment by which it was asked for, or to which the roster moved it last.
    pub ends: Option<Timestamp>,
    /// For when it was scheduled last.
    pub due: Option<Timestamp>,
    /// When work began.
    pub started: Option<Timestamp>,
    /// The shared secrets that it has rotated, and when each source took the new value; nothing, where it has stopped half way.
    pub rotated: Vec<(SecretName, Option<Timestamp>)>,
}

const COLUMNS: &str = "SELECT run, records, person, phase, by_roster, ends, due, started, rotated FROM known";

impl Store {
    /// Keeps what is known of a run; what is due for it stays as it is.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn know(&self, known: &Known) -> Result<(), Fault> {
        self.change(Keep::Remade, async |tx| know_in(tx, known).await).await
    }

    /// Up to which record each run is known.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn known_lengths(&self) -> Result<HashMap<RunId, u64>, Fault> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT run, records FROM known")
            .fetch_all(&self.reading)
            .await
            .map_err(|e| self.fault(&e))?;
        Ok(rows.into_iter().map(|(run, records)| (RunId(run), records.cast_unsigned())).collect())
    }

    /// Every run of a person.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn runs_of(&self, person: &PersonId) -> Result<Vec<Known>, Fault> {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE person = $1 ORDER BY run")));
        let rows = query.bind(folded(person)).fetch_all(&self.reading).await.map_err(|e| self.fault(&e))?;
        rows.iter().map(known).collect::<Result<_, _>>().map_err(|e| self.fault(&e))
    }

    /// Every run that a person has, by person.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn runs_by_person(&self) -> Result<HashMap<PersonId, Vec<Known>>, Fault> {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE phase <> 'other' ORDER BY run")));
        let rows = query.fetch_all(&self.reading).await.map_err(|e| self.fault(&e))?;
        let mut runs: HashMap<PersonId, Vec<Known>> = HashMap::new();
        for row in &rows {
            let known = known(row).map_err(|e| self.fault(&e))?;
            runs.entry(known.person.clone()).or_default().push(known);
        }
        Ok(runs)
    }

    /// Every run that has rotated shared secrets, or has stopped half way.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn rotations(&self) -> Result<Vec<Known>, Fault> {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE rotated <> '[]' ORDER BY run")));
        let rows = query.fetch_all(&self.reading).await.map_err(|e| self.fault(&e))?;
        rows.iter().map(known).collect::<Result<_, _>>().map_err(|e| self.fault(&e))
    }

    /// Remembers who works here by the roster, and says who did when it was last seen.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn employed(&self, now: &[PersonId]) -> Result<Vec<PersonId>, Fault> {
        let now = serde_json::to_string(&now.iter().map(folded).collect::<Vec<_>>()).unwrap_or_default();
        let remember = async |tx: &mut SqliteConnection| {
            let before: Vec<String> = sqlx::query_scalar("SELECT person FROM employed").fetch_all(&mut *tx).await?;
            // Who works here stays noted until their run is on record: see `has_left`.
            sqlx::query("INSERT OR IGNORE INTO employed (person) SELECT value FROM json_each($1)")
                .bind(&now)
                .execute(tx)
                .await?;
            Ok(before)
        };
        let before = self.change(Keep::Synced, remember).await?;
        Ok(before.into_iter().map(PersonId).collect())
    }

    /// Forgets that somebody worked here: their run is on record.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn has_left(&self, person: &PersonId) -> Result<(), Fault> {
        let gone = sqlx::query("DELETE FROM employed WHERE person = $1").bind(folded(person));
        self.change(Keep::Synced, async |tx| gone.execute(tx).await).await.map(|_| ())
    }

    /// Notes which process serves.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn serves(&self, pid: u32) -> Result<(), Fault> {
        let noted = sqlx::query("INSERT OR REPLACE INTO serving (one, pid) VALUES (1, $1)").bind(i64::from(pid));
        self.change(Keep::Synced, async |tx| noted.execute(tx).await).await.map(|_| ())
    }

    /// The process that served last; it may be dead.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn serving(&self) -> Result<Option<u32>, Fault> {
        let pid: Option<i64> = sqlx::query_scalar("SELECT pid FROM serving")
            .fetch_optional(&self.reading)
            .await
            .map_err(|e| self.fault(&e))?;
        Ok(pid.and_then(|pid| u32::try_from(pid).ok()))
    }
}

pub(super) async fn know_in(connection: &mut SqliteConnection, known: &Known) -> Result<(), sqlx::Error> {
    // A row that is right is not written.
    sqlx::query(
        "INSERT OR REPLACE INTO known (run, records, person, phase, by_roster, ends, due, started, rotated)
         SELECT * FROM (VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)) EXCEPT SELECT * FROM known WHERE run = $1",
    )
    .bind(&known.run.0)
    .bind(known.records.cast_signed())
    .bind(folded(&known.person))
    .bind(known.phase.name())
    .bind(known.by_roster)
    .bind(known.ends.map(millis))
    .bind(known.due.map(millis))
    .bind(known.started.map(millis))
    .bind(rotations(known))
    .execute(connection)
    .await
    .map(|_| ())
}

/// As the roster compares identifiers: without regard to the case of ASCII letters.
fn folded(person: &PersonId) -> String {
    person.0.to_ascii_lowercase()
}

/// A table from before there was `rotated` gets it, and every run is read again.
pub(super) async fn add_rotated(store: &Store) -> Result<(), Fault> {
    let has_it = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('known') WHERE name = 'rotated')";
    let has_it = async |tx: &mut SqliteConnection| sqlx::query_scalar::<_, bool>(has_it).fetch_one(tx).await;
    let known = async { has_it(&mut *store.reading.acquire().await?).await };
    if known.await.map_err(|e| store.fault(&e))? {
        return Ok(());
    }
    let add = async |tx: &mut SqliteConnection| {
        // Another process may have been quicker.
        if !has_it(&mut *tx).await? {
            sqlx::query("ALTER TABLE known ADD COLUMN rotated TEXT NOT NULL DEFAULT '[]'").execute(&mut *tx).await?;
            sqlx::query("UPDATE known SET records = 0").execute(tx).await?;
        }
        Ok(())
    };
    store.change(Keep::Synced, add).await
}

fn rotations(known: &Known) -> String {
    let rows: Vec<_> = known.rotated.iter().map(|(name, at)| (name, at.map(millis))).collect();
    serde_json::to_string(&rows).unwrap_or_else(|_| "[]".into())
}

fn rotated(text: &str) -> Vec<(SecretName, Option<Timestamp>)> {
    let rows: Vec<(SecretName, Option<i64>)> = serde_json::from_str(text).unwrap_or_default();
    rows.into_iter().map(|(name, at)| (name, at.map(time))).collect()
}

fn known(row: &SqliteRow) -> Result<Known, sqlx::Error> {
    let at = |column: usize| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(time))
    };
    Ok(Known {
        run: RunId(row.try_get(0)?),
        records: row.try_get::<i64, _>(1)?.cast_unsigned(),
        person: PersonId(row.try_get(2)?),
        phase: Phase::named(row.try_get(3)?),
        by_roster: row.try_get(4)?,
        ends: at(5)?,
        due: at(6)?,
        started: at(7)?,
        rotated: rotated(row.try_get(8)?),
    })
}
