//! What is due, and when. One row a run and kind of work: a later hour replaces an earlier one. Rows are claimed by the one `offboard serve`
//! that there is; what a dead one had claimed is free again when the next one starts.
//!
//! Nothing here is the truth: every row follows from the journal, and can be made again from it; a sweep's from its schedule.

use super::{Keep, Known, Store, millis, time};
use crate::model::Fault;
use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

/// `hour` is when the journal says that it is due; `at`, when it may be claimed: later, if it was put off.
pub(super) const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS due (
  subject TEXT NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
  state TEXT NOT NULL DEFAULT 'ready', hour INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (subject, kind)) STRICT, WITHOUT ROWID";
pub(super) const INDEX: &str = "CREATE INDEX IF NOT EXISTS due_at ON due (state, kind, at)";

/// What sort of work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A scheduled run begins.
    Start,
    /// A run that was cut off goes on.
    Resume,
    /// A run that waits is looked at beforehand.
    Prepare,
    /// The doors of a run that has ended are looked at again.
    Look,
    /// What is open, stuck or unreached is tried again.
    Retry,
    /// A sweep by its schedule; the subject is the playbook.
    Sweep,
    /// A shared secret is rotated, because of its age.
    Rotate,
    /// The report of a run is written that has ended: it was cut off in between, or the report could not be written.
    Report,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] =
        [Self::Start, Self::Resume, Self::Prepare, Self::Look, Self::Retry, Self::Sweep, Self::Rotate, Self::Report];

    /// Its name, as it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Resume => "resume",
            Self::Prepare => "prepare",
            Self::Look => "look",
            Self::Retry => "retry",
            Self::Sweep => "sweep",
            Self::Rotate => "rotate",
            Self::Report => "report",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The run; of a sweep the playbook; of a rotation by age `secret` and its name.
    pub subject: String,
    /// What.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
}

/// Something that is being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What.
    pub due: Due,
    /// How often it was claimed, from 1.
    pub attempt: u32,
}

impl Store {
    /// Makes what is due for `subject` exactly `wanted`. What is claimed stays as it is, unless it is `finished`.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn settle(&self, subject: &str, wanted: &[Due], finished: Option<Kind>) -> Result<(), Fault> {
        self.change(Keep::Synced, async |tx| settle_in(tx, subject, wanted, finished).await).await
    }

    /// [`Store::settle`] for runs, and what is known of them, in one transaction.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn learn(&self, runs: &[(Known, Vec<Due>)], finished: Option<Kind>) -> Result<(), Fault> {
        let learn = async |tx: &mut SqliteConnection| {
            for (known, due) in runs {
                settle_in(tx, &known.run.0, due, finished).await?;
                super::known::know_in(tx, known).await?;
            }
            Ok(())
        };
        self.change(Keep::Remade, learn).await
    }

    /// Claims up to `most` rows of these kinds that are due by `now`, the longest due first.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn claim(&self, kinds: &[Kind], now: Timestamp, most: usize) -> Result<Vec<Claim>, Fault> {
        let query = sqlx::query(
            "UPDATE due SET state = 'claimed', attempt = attempt + 1 WHERE (subject, kind) IN
               (SELECT subject, kind FROM due WHERE state = 'ready' AND kind IN (SELECT value FROM json_each($1))
                AND at <= $2 ORDER BY at LIMIT $3)
             RETURNING subject, kind, at, attempt",
        )
        .bind(names(kinds))
        .bind(millis(now))
        .bind(i64::try_from(most).unwrap_or(i64::MAX));
        let rows = self.change(Keep::Remade, async |tx| query.fetch_all(tx).await).await?;
        let mut claims: Vec<Claim> = rows
            .iter()
            .filter_map(|row| claim(row).transpose())
            .collect::<Result<_, _>>()
            .map_err(|e| self.fault(&e))?;
        claims.sort_by_key(|c| c.due.at);
        Ok(claims)
    }

    /// Gives a claim back, to be claimed again from `at` on.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn put_off(&self, claim: &Claim, at: Timestamp) -> Result<(), Fault> {
        let query = sqlx::query(
            "UPDATE due SET state = 'ready', at = $3 WHERE subject = $1 AND kind = $2 AND state = 'claimed'",
        )
        .bind(&claim.due.subject)
        .bind(claim.due.kind.name())
        .bind(millis(at));
        self.change(Keep::Remade, async |tx| query.execute(tx).await).await.map(|_| ())
    }

    /// Frees what another `offboard serve`, which is dead, had claimed.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn free_claims(&self) -> Result<u64, Fault> {
        let query = sqlx::query("UPDATE due SET state = 'ready' WHERE state = 'claimed'");
        Ok(self.change(Keep::Remade, async |tx| query.execute(tx).await).await?.rows_affected())
    }

    /// How many terminations should have been taken up before `then`, and were not. Those that were claimed and are not among the runs that
    /// are `taken` count, too: nobody works on them any more.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn overdue(&self, then: Timestamp, taken: &[String]) -> Result<u64, Fault> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM due WHERE kind IN ('start', 'resume') AND at < $1
             AND (state = 'ready' OR subject NOT IN (SELECT value FROM json_each($2)))",
        )
        .bind(millis(then))
        .bind(serde_json::to_string(taken).unwrap_or_default())
        .fetch_one(&self.reading)
        .await
        .map_err(|e| self.fault(&e))?;
        Ok(count.cast_unsigned())
    }

    /// Everything of one kind that is due, the next first: at its hour, also where it was put off.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn due_of(&self, kind: Kind) -> Result<Vec<Due>, Fault> {
        // What was written before there were hours has none until it is settled.
        let rows = sqlx::query(
            "SELECT subject, kind, iif(hour = 0, at, hour), attempt FROM due WHERE kind = $1 ORDER BY 3, subject",
        )
        .bind(kind.name())
        .fetch_all(&self.reading)
        .await
        .map_err(|e| self.fault(&e))?;
        let claims: Result<Vec<_>, _> = rows.iter().filter_map(|row| claim(row).transpose()).collect();
        Ok(claims.map_err(|e| self.fault(&e))?.into_iter().map(|c| c.due).collect())
    }
}

/// A table from before there was `hour` gets it. What stands in it gets its hour when it is settled next.
pub(super) async fn add_hour(store: &Store) -> Result<(), Fault> {
    let has_it = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('due') WHERE name = 'hour')";
    let has_it = async |tx: &mut SqliteConnection| sqlx::query_scalar::<_, bool>(has_it).fetch_one(tx).await;
    let known = async { has_it(&mut *store.reading.acquire().await?).await };
    if known.await.map_err(|e| store.fault(&e))? {
        return Ok(());
    }
    let add = async |tx: &mut SqliteConnection| {
        // Another process may have been quicker.
        if !has_it(&mut *tx).await? {
            sqlx::query("ALTER TABLE due ADD COLUMN hour INTEGER NOT NULL DEFAULT 0").execute(tx).await?;
        }
        Ok(())
    };
    store.change(Keep::Synced, add).await
}

async fn settle_in(
    tx: &mut SqliteConnection,
    subject: &str,
    wanted: &[Due],
    finished: Option<Kind>,
) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = wanted.iter().map(|d| (d.kind.name(), millis(d.at))).collect();
    let rows = serde_json::to_string(&rows).unwrap_or_default();
    // A row that is right is not written.
    sqlx::query(
        "DELETE FROM due WHERE subject = $1 AND (kind = $2 OR state = 'ready'
         AND kind NOT IN (SELECT value->>0 FROM json_each($3)))",
    )
    .bind(subject)
    .bind(finished.map(Kind::name))
    .bind(&rows)
    .execute(&mut *tx)
    .await?;
    // What was put off keeps its pause, until the journal says another hour.
    sqlx::query(
        "INSERT INTO due (subject, kind, hour, at) SELECT $1, value->>0, value->>1, value->>1 FROM json_each($2) WHERE true
         ON CONFLICT (subject, kind) DO UPDATE SET hour = excluded.hour, at = excluded.at, attempt = 0
         WHERE state = 'ready' AND hour <> excluded.hour",
    )
    .bind(subject)
    .bind(&rows)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

pub(super) fn names(kinds: &[Kind]) -> String {
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    serde_json::to_string(&names).unwrap_or_default()
}

/// A row; nothing if a later version wrote it.
fn claim(row: &SqliteRow) -> Result<Option<Claim>, sqlx::Error> {
    let Some(kind) = Kind::named(row.try_get(1)?) else { return Ok(None) };
    let due = Due { subject: row.try_get(0)?, kind, at: time(row.try_get(2)?) };
    let attempt: i64 = row.try_get(3)?;
    Ok(Some(Claim { due, attempt: u32::try_from(attempt).unwrap_or(u32::MAX) }))
}
