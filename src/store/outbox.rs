//! Mail that is to be sent: written in an instant, sent afterwards, kept until it is delivered or refused for good.
//!
//! A mail is one row, and each of its recipients another: whom a server refuses keeps nobody else from getting it. The key
//! `(run, occasion)` is unique, so that saying the same thing again, by another process or after a crash, mails it once. Who sends holds a
//! lock that dies with the process; a delivery is marked only after the server has taken it, so it may come twice (with the same
//! Message-ID), never not at all. What is delivered to everybody is emptied: only its key stays.

use super::{Keep, Store};
use crate::model::{Fault, FaultKind, MailAddress};
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// What is said, and when it was. Times are milliseconds since 1970, UTC.
pub(super) const MAIL: &str = "CREATE TABLE IF NOT EXISTS mail (id INTEGER PRIMARY KEY, run TEXT NOT NULL, \
     occasion TEXT NOT NULL, at INTEGER NOT NULL, subject TEXT NOT NULL, content TEXT, UNIQUE (run, occasion)) STRICT";
/// To whom, and how that stands: `queued`, `sent` or `refused`.
pub(super) const DELIVERY: &str = "CREATE TABLE IF NOT EXISTS delivery (id INTEGER PRIMARY KEY, \
     mail INTEGER NOT NULL REFERENCES mail (id), recipient TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, \
     not_before INTEGER NOT NULL, because TEXT, UNIQUE (mail, recipient)) STRICT";
/// For the next delivery that is due.
pub(super) const DUE: &str = "CREATE INDEX IF NOT EXISTS delivery_due ON delivery (state, not_before)";

/// Pauses between tries, in seconds; the last one again and again. What a server does not take for a while is not lost.
const PAUSES: [i64; 7] = [30, 60, 120, 300, 900, 1800, 3600];

const LOCK: &str = "outbox.lock";

/// A file that goes with a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name: letters, digits, `-`, `.`.
    pub name: String,
    /// Its media type, such as `text/html; charset=utf-8`.
    pub media_type: String,
    /// What is in it.
    pub text: String,
}

/// What a mail says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// For programs that show text only; complete by itself.
    pub text: String,
    /// The same as HTML.
    pub html: String,
    /// What goes with it.
    pub attachments: Vec<Attachment>,
}

/// A mail to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The run that it is about; empty if it is about none.
    pub run: String,
    /// What happened, unique within the run: nothing is mailed twice.
    pub occasion: String,
    /// To whom.
    pub to: Vec<MailAddress>,
    /// The subject. Others may see it on a locked screen: no name of a person belongs into it.
    pub subject: String,
    /// The rest.
    pub content: Content,
    /// Not before this moment; at once if there is none.
    pub not_before: Option<Timestamp>,
}

/// One mail to one recipient.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its row.
    pub id: i64,
    /// See [`Mail::run`].
    pub run: String,
    /// See [`Mail::occasion`].
    pub occasion: String,
    /// To whom.
    pub recipient: String,
    /// The subject.
    pub subject: String,
    /// What it says.
    pub content: Content,
    /// When it was written.
    pub at: Timestamp,
}

/// How a delivery stands that was not made.
#[derive(Clone, Debug, Serialize)]
pub struct Undelivered {
    /// See [`Mail::run`].
    pub run: String,
    /// See [`Mail::occasion`].
    pub occasion: String,
    /// To whom.
    pub recipient: String,
    /// The subject.
    pub subject: String,
    /// When it was written.
    pub at: Timestamp,
    /// Whether the server refused it for good: it is not tried again by itself.
    pub refused: bool,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next.
    pub next: Timestamp,
    /// Why it was not delivered, the last time.
    pub because: Option<String>,
}

/// The right to send. One process has it at a time.
pub struct Sending(#[allow(dead_code, reason = "held, not read")] Flock<File>);

impl Store {
    /// Puts a mail into the outbox. Says whether it is new: the same occasion of the same run is written once.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be written.
    pub async fn queue(&self, mail: &Mail, now: Timestamp) -> Result<bool, Fault> {
        let content = serde_json::to_string(&mail.content)
            .map_err(|e| Fault::new(FaultKind::Unexpected, "a mail cannot be written down").because(e))?;
        let queue = async |change: &mut SqliteConnection| {
            let id: Option<i64> = sqlx::query_scalar(
                "INSERT INTO mail (run, occasion, at, subject, content) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT DO NOTHING RETURNING id",
            )
            .bind(&mail.run)
            .bind(&mail.occasion)
            .bind(now.as_millisecond())
            .bind(&mail.subject)
            .bind(content)
            .fetch_optional(&mut *change)
            .await?;
            let Some(id) = id else { return Ok(false) };
            for recipient in &mail.to {
                sqlx::query(
                    "INSERT INTO delivery (mail, recipient, state, attempts, not_before) \
                     VALUES ($1, $2, 'queued', 0, $3) ON CONFLICT DO NOTHING",
                )
                .bind(id)
                .bind(recipient.as_str())
                .bind(mail.not_before.unwrap_or(now).as_millisecond())
                .execute(&mut *change)
                .await?;
            }
            Ok(true)
        };
        self.change(Keep::Synced, queue).await
    }

    /// Takes back what was not tried yet of a run's mails whose occasion begins with `kind`, but for the occasions to `keep`: what was to be
    /// told later has come to nothing.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be written.
    pub async fn unqueue(&self, run: &str, kind: &str, keep: &[&str]) -> Result<(), Fault> {
        let keep = serde_json::to_string(keep).unwrap_or_default();
        let unqueue = async |change: &mut SqliteConnection| {
            sqlx::query(
                "DELETE FROM delivery WHERE state = 'queued' AND attempts = 0 AND mail IN (SELECT id FROM mail WHERE run = $1 \
                 AND substr(occasion, 1, length($2)) = $2 AND occasion NOT IN (SELECT value FROM json_each($3)))",
            )
            .bind(run)
            .bind(kind)
            .bind(&keep)
            .execute(&mut *change)
            .await?;
            sqlx::query("DELETE FROM mail WHERE run = $1 AND NOT EXISTS (SELECT 1 FROM delivery WHERE mail = mail.id)")
                .bind(run)
                .execute(change)
                .await
                .map(|_| ())
        };
        self.change(Keep::Synced, unqueue).await
    }

    /// The right to send, if nobody else has it. It ends with the process, however that ends.
    ///
    /// # Errors
    /// `Misconfigured` if the lock's file cannot be opened.
    pub fn sending(&self) -> Result<Option<Sending>, Fault> {
        let path = self.path.with_file_name(LOCK);
        let fault = |e: std::io::Error| {
            Fault::new(FaultKind::Misconfigured, format!("{}: cannot be opened", path.display())).because(e)
        };
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fault)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Sending(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(fault(errno.into())),
        }
    }

    /// The next delivery that is due, those first that were tried least.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be read.
    pub async fn next_delivery(&self, now: Timestamp) -> Result<Option<Delivery>, Fault> {
        let row = sqlx::query(
            "SELECT delivery.id, run, occasion, recipient, subject, content, at FROM delivery JOIN mail ON mail.id = mail \
             WHERE state = 'queued' AND not_before <= $1 ORDER BY attempts, delivery.id LIMIT 1",
        )
        .bind(now.as_millisecond())
        .fetch_optional(&self.reading)
        .await
        .map_err(|e| self.fault(&e))?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<Delivery, sqlx::Error> {
            let content: Option<String> = row.try_get(5)?;
            Ok(Delivery {
                id: row.try_get(0)?,
                run: row.try_get(1)?,
                occasion: row.try_get(2)?,
                recipient: row.try_get(3)?,
                subject: row.try_get(4)?,
                content: serde_json::from_str(&content.unwrap_or_default())
                    .map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
                at: time(row.try_get(6)?),
            })
        };
        read().map(Some).map_err(|e| self.fault(&e))
    }

    /// A server has taken it. A mail that everybody has got is emptied.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be written: it will be sent again then.
    pub async fn delivered(&self, id: i64) -> Result<(), Fault> {
        let delivered = async |change: &mut SqliteConnection| {
            sqlx::query("UPDATE delivery SET state = 'sent', attempts = attempts + 1, because = NULL WHERE id = $1")
                .bind(id)
                .execute(&mut *change)
                .await?;
            sqlx::query(
                "UPDATE mail SET content = NULL WHERE id = (SELECT mail FROM delivery WHERE id = $1) \
                 AND NOT EXISTS (SELECT 1 FROM delivery WHERE mail = mail.id AND state <> 'sent')",
            )
            .bind(id)
            .execute(change)
            .await
            .map(|_| ())
        };
        self.change(Keep::Synced, delivered).await
    }

    /// The server has refused it for good: kept, told, not tried again by itself.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be written.
    pub async fn refused(&self, id: i64, because: &Fault) -> Result<(), Fault> {
        let refused =
            sqlx::query("UPDATE delivery SET state = 'refused', attempts = attempts + 1, because = $2 WHERE id = $1")
                .bind(id)
                .bind(because.to_string());
        self.change(Keep::Synced, async |tx| refused.execute(tx).await).await.map(|_| ())
    }

    /// It is tried again later, after a pause that grows.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be written.
    pub async fn postpone(&self, id: i64, now: Timestamp, because: &Fault) -> Result<(), Fault> {
        self.postpone_where("id = $1", id, now, because).await
    }

    /// Everything that is due is tried again later: the server takes nothing.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be written.
    pub async fn postpone_all(&self, now: Timestamp, because: &Fault) -> Result<(), Fault> {
        self.postpone_where("not_before <= $1", now.as_millisecond(), now, because).await
    }

    async fn postpone_where(&self, which: &str, value: i64, now: Timestamp, because: &Fault) -> Result<(), Fault> {
        let mut pause = String::from("CASE attempts");
        for (attempts, seconds) in PAUSES.iter().enumerate() {
            pause.push_str(&format!(" WHEN {attempts} THEN {}", seconds * 1000));
        }
        let longest = PAUSES[PAUSES.len() - 1] * 1000;
        // Nothing foreign is in this text.
        let change = format!(
            "UPDATE delivery SET not_before = $2 + {pause} ELSE {longest} END, attempts = attempts + 1, because = $3 \
             WHERE state = 'queued' AND {which}"
        );
        let postponed =
            sqlx::query(sqlx::AssertSqlSafe(change)).bind(value).bind(now.as_millisecond()).bind(because.to_string());
        self.change(Keep::Synced, async |tx| postponed.execute(tx).await).await.map(|_| ())
    }

    /// Everything that was tried in vain is due at once, also what was refused: somebody has mended something.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be written.
    pub async fn try_all_again(&self, now: Timestamp) -> Result<(), Fault> {
        let again =
            sqlx::query("UPDATE delivery SET state = 'queued', not_before = $1 WHERE state <> 'sent' AND attempts > 0")
                .bind(now.as_millisecond());
        self.change(Keep::Synced, async |tx| again.execute(tx).await).await.map(|_| ())
    }

    /// Everything that was not delivered by `now` and should have been, the oldest first.
    ///
    /// # Errors
    /// `Unexpected` if the store cannot be read.
    pub async fn undelivered(&self, now: Timestamp) -> Result<Vec<Undelivered>, Fault> {
        let rows = sqlx::query(
            "SELECT run, occasion, recipient, subject, at, state, attempts, not_before, because FROM delivery \
             JOIN mail ON mail.id = mail WHERE state <> 'sent' AND (attempts > 0 OR not_before <= $1) ORDER BY delivery.id",
        )
        .bind(now.as_millisecond())
        .fetch_all(&self.reading)
        .await
        .map_err(|e| self.fault(&e))?;
        let read = |row: &sqlx::sqlite::SqliteRow| -> Result<Undelivered, sqlx::Error> {
            Ok(Undelivered {
                run: row.try_get(0)?,
                occasion: row.try_get(1)?,
                recipient: row.try_get(2)?,
                subject: row.try_get(3)?,
                at: time(row.try_get(4)?),
                refused: row.try_get::<String, _>(5)? == "refused",
                attempts: row.try_get(6)?,
                next: time(row.try_get(7)?),
                because: row.try_get(8)?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|e| self.fault(&e))
    }
}

impl Mail {
    /// How long the n-th try has to wait after the one before.
    pub fn pause(attempt: usize) -> Duration {
        Duration::from_secs(PAUSES[attempt.min(PAUSES.len() - 1)].unsigned_abs())
    }
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn mail(occasion: &str, to: &[&str]) -> Mail {
        let content = Content { text: "text".into(), html: "<p>text</p>".into(), attachments: Vec::new() };
        let to = to.iter().map(|a| a.parse().unwrap()).collect();
        Mail {
            run: "7F3K".into(),
            occasion: occasion.into(),
            to,
            subject: "offboard 7F3K: shut".into(),
            content,
            not_before: None,
        }
    }

    #[tokio::test]
    async fn an_occasion_is_mailed_once_to_each() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let two = mail("report-9", &["a@example.com", "b@example.com", "a@example.com"]);
        assert!(store.queue(&two, at(0)).await.unwrap());
        assert!(!store.queue(&two, at(5)).await.unwrap(), "said before");
        let other = Store::open(folder.path()).await.unwrap();
        assert!(!other.queue(&two, at(9)).await.unwrap(), "by another process too");
        let first = store.next_delivery(at(0)).await.unwrap().unwrap();
        assert_eq!((first.recipient.as_str(), first.at), ("a@example.com", at(0)));
        store.delivered(first.id).await.unwrap();
        let second = store.next_delivery(at(0)).await.unwrap().unwrap();
        assert_eq!((second.recipient.as_str(), second.content.text.as_str()), ("b@example.com", "text"));
        store.delivered(second.id).await.unwrap();
        assert!(store.next_delivery(at(99)).await.unwrap().is_none());
        let left: Option<String> =
            sqlx::query_scalar("SELECT content FROM mail").fetch_one(&store.reading).await.unwrap();
        assert_eq!(left, None, "what everybody has got is emptied");
        assert!(!store.queue(&two, at(100)).await.unwrap(), "and not mailed again");
    }

    #[tokio::test]
    async fn pauses_grow_and_what_is_refused_waits_for_a_person() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        store.queue(&mail("one", &["a@example.com"]), at(0)).await.unwrap();
        store.queue(&mail("two", &["a@example.com"]), at(0)).await.unwrap();
        let down = Fault::new(FaultKind::Unreachable, "no answer");
        let mut now = at(0);
        for attempt in 0..9 {
            assert!(store.next_delivery(now).await.unwrap().is_some(), "{attempt}");
            store.postpone_all(now, &down).await.unwrap();
            assert!(store.next_delivery(now).await.unwrap().is_none());
            let next = store.waiting().await.unwrap().mail.unwrap();
            assert_eq!(next.duration_since(now).unsigned_abs(), Mail::pause(attempt), "{attempt}");
            now = next;
        }
        let first = store.next_delivery(now).await.unwrap().unwrap();
        store.refused(first.id, &Fault::new(FaultKind::Misconfigured, "no such user")).await.unwrap();
        let left = store.undelivered(at(1_000_000)).await.unwrap();
        assert_eq!(left.iter().map(|u| u.refused).collect::<Vec<_>>(), [true, false]);
        assert_eq!(left[0].because.as_deref(), Some("no such user"));
        store.try_all_again(now).await.unwrap();
        assert!(store.undelivered(at(1_000_000)).await.unwrap().iter().all(|u| !u.refused));
    }

    #[tokio::test]
    async fn what_is_told_later_can_come_to_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        for occasion in ["overdue-1", "overdue-2"] {
            let later = Mail { not_before: Some(at(60)), ..mail(occasion, &["a@example.com"]) };
            store.queue(&later, at(0)).await.unwrap();
        }
        store.try_all_again(at(0)).await.unwrap();
        assert!(store.next_delivery(at(59)).await.unwrap().is_none());
        assert!(store.undelivered(at(59)).await.unwrap().is_empty(), "it waits for its hour, not for a server");
        assert_eq!(store.waiting().await.unwrap().mail, Some(at(60)));
        store.unqueue("7F3K", "overdue-", &["overdue-2"]).await.unwrap();
        store.unqueue("9Z0Q", "overdue-", &[]).await.unwrap();
        let left = store.next_delivery(at(60)).await.unwrap().unwrap();
        assert_eq!(left.occasion, "overdue-2");
        // What was tried is not taken back: it may have arrived.
        store.postpone(left.id, at(60), &Fault::new(FaultKind::Busy, "greylisted")).await.unwrap();
        store.unqueue("7F3K", "overdue-", &[]).await.unwrap();
        assert_eq!(store.undelivered(at(61)).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn one_process_sends_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let lock = store.sending().unwrap();
        assert!(lock.is_some());
        assert!(store.sending().unwrap().is_none());
        drop(lock);
        assert!(store.sending().unwrap().is_some());
    }
}
