//! Orders: what commands ask of a running `offboard serve`, and what it answers. An order is text to this room; it never holds a secret.

use super::{Keep, Store, millis, time};
use crate::model::{Fault, RunId};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

pub(super) const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS orders (
  id INTEGER PRIMARY KEY AUTOINCREMENT, put_at INTEGER NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'ready',
  run TEXT, answer TEXT) STRICT";
pub(super) const INDEX: &str = "CREATE INDEX IF NOT EXISTS orders_state ON orders (state, id)";

/// An order's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderId(pub i64);

/// An order that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its number.
    pub id: OrderId,
    /// When it was put.
    pub put_at: Timestamp,
    /// What is asked.
    pub body: String,
    /// The run that it began before its server died.
    pub run: Option<RunId>,
}

/// How an order stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has taken it yet.
    Ready,
    /// It is being carried out, on this run if it is known by now.
    Claimed(Option<RunId>),
    /// It is carried out.
    Answered(String),
}

impl Store {
    /// Puts an order.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn put(&self, body: &str, at: Timestamp) -> Result<OrderId, Fault> {
        let id = sqlx::query_scalar("INSERT INTO orders (put_at, body) VALUES ($1, $2) RETURNING id");
        let id = id.bind(millis(at)).bind(body);
        self.change(Keep::Synced, async |tx| id.fetch_one(tx).await).await.map(OrderId)
    }

    /// Claims every order that waits, the oldest first.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn claim_orders(&self) -> Result<Vec<Asked>, Fault> {
        let query =
            sqlx::query("UPDATE orders SET state = 'claimed' WHERE state = 'ready' RETURNING id, put_at, body, run");
        let rows = self.change(Keep::Synced, async |tx| query.fetch_all(tx).await).await?;
        let asked = |row: &sqlx::sqlite::SqliteRow| -> Result<Asked, sqlx::Error> {
            Ok(Asked {
                id: OrderId(row.try_get(0)?),
                put_at: time(row.try_get(1)?),
                body: row.try_get(2)?,
                run: row.try_get::<Option<String>, _>(3)?.map(RunId),
            })
        };
        let mut orders: Vec<Asked> = rows.iter().map(asked).collect::<Result<_, _>>().map_err(|e| self.fault(&e))?;
        orders.sort_by_key(|order| order.id);
        Ok(orders)
    }

    /// Notes on which run an order works.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn works_on(&self, order: OrderId, run: &RunId) -> Result<(), Fault> {
        let noted = sqlx::query("UPDATE orders SET run = $2 WHERE id = $1").bind(order.0).bind(&run.0);
        self.change(Keep::Synced, async |tx| noted.execute(tx).await).await.map(|_| ())
    }

    /// Answers an order.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn answer(&self, order: OrderId, answer: &str) -> Result<(), Fault> {
        let answered = sqlx::query("UPDATE orders SET state = 'answered', answer = $2 WHERE id = $1");
        let answered = answered.bind(order.0).bind(answer);
        self.change(Keep::Synced, async |tx| answered.execute(tx).await).await.map(|_| ())
    }

    /// How an order stands; nothing if it is not there.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn order(&self, order: OrderId) -> Result<Option<Standing>, Fault> {
        let row: Option<(String, Option<String>, Option<String>)> =
            sqlx::query_as("SELECT state, run, answer FROM orders WHERE id = $1")
                .bind(order.0)
                .fetch_optional(&self.reading)
                .await
                .map_err(|e| self.fault(&e))?;
        Ok(row.map(|(state, run, answer)| match state.as_str() {
            "ready" => Standing::Ready,
            "answered" => Standing::Answered(answer.unwrap_or_default()),
            _ => Standing::Claimed(run.map(RunId)),
        }))
    }

    /// Takes an order back. Says whether nobody had taken it.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn withdraw(&self, order: OrderId) -> Result<bool, Fault> {
        let gone = sqlx::query("DELETE FROM orders WHERE id = $1 AND state = 'ready'").bind(order.0);
        Ok(self.change(Keep::Synced, async |tx| gone.execute(tx).await).await?.rows_affected() == 1)
    }

    /// When a server starts: what a dead one had claimed waits again; what was put before `since`, or answered, is gone. Says how many
    /// orders were too old.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn tidy_orders(&self, since: Timestamp) -> Result<u64, Fault> {
        let tidy = async |tx: &mut SqliteConnection| {
            sqlx::query("UPDATE orders SET state = 'ready' WHERE state = 'claimed'").execute(&mut *tx).await?;
            let old = sqlx::query("DELETE FROM orders WHERE state = 'ready' AND run IS NULL AND put_at < $1")
                .bind(millis(since))
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM orders WHERE state = 'answered' AND put_at < $1")
                .bind(millis(since))
                .execute(tx)
                .await?;
            Ok(old.rows_affected())
        };
        self.change(Keep::Synced, tidy).await
    }
}
