//! The journal's keys, opened with the recovery key: for the day on which the folder `keys` is lost.

use super::keys::Keys;
use super::read;
use super::recovery::RecoveryKey;
use super::ring::{self, Entry};
use super::rotation::page;
use super::seal::{self, SealingKey};
use super::store::Store;
use super::verify;
use crate::model::{Fault, FaultKind};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use std::path::Path;

/// Keys that a recovery key has opened.
#[derive(Debug)]
pub struct Recovered {
    keys: Keys,
    /// Sealed values that open with them.
    pub opened: u64,
    /// Sealed values that do not.
    pub unopened: u64,
}

impl Recovered {
    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Writes the keys into `folder`.
    ///
    /// # Errors
    /// `Protected` if one of the files is there and holds something else: nothing is overwritten.
    /// Those that hold just that are kept.
    pub fn write(&self, folder: &Path) -> Result<(), Fault> {
        self.keys.write(folder)
    }
}

/// Opens the keys of the journal in `folder` with the recovery key; changes nothing.
///
/// # Errors
/// No recovery key was ever set, or it is another one; the keys that it opens have not signed this journal, or it does not verify with
/// them (`Protected`): somebody may have put an earlier key back.
pub async fn recover(folder: &Path, key: &RecoveryKey) -> Result<Recovered, Fault> {
    let store = Store::new(folder);
    store.check()?;
    let mut connection = store.connect_to_read().await?;
    let recovered = within_snapshot(folder, &store, &mut connection, key).await;
    let _ = connection.close().await;
    recovered
}

async fn within_snapshot(
    folder: &Path,
    store: &Store,
    connection: &mut SqliteConnection,
    key: &RecoveryKey,
) -> Result<Recovered, Fault> {
    // What is used is what was verified: everything is read in one transaction, which ends with the connection.
    sqlx::query("BEGIN").execute(&mut *connection).await.map_err(|e| store.fault(&e))?;
    store.check_schema(connection).await?;
    let entries = ring::entries(store, connection).await?;
    let named =
        |what: &str| Fault::new(FaultKind::Misconfigured, format!("the journal in {}: {what}", folder.display()));
    if entries.iter().all(|entry| entry.recovery.is_none()) {
        return Err(named("no recovery key was ever set for it")
            .hint("the keys can only come back from a backup of the folder keys"));
    }
    let opened = |entry: &Entry| key.unwrap(&entry.key, entry.recovery.as_ref()?);
    let mut found: Vec<_> = entries.iter().filter_map(opened).collect();
    // The newest signs; a journal never changes its signing key. Without the newest it is a recovery key of before.
    let last = entries.last().map(|entry| entry.key.clone());
    let Some((newest, signing)) = found.pop().filter(|(newest, _)| Some(newest.id()) == last) else {
        return Err(named("this recovery key does not open its newest key")
            .because(format!(
                "its keys were encrypted to the recovery key {}",
                entries.iter().rev().find_map(|e| e.recovery.as_ref()).map_or_else(String::new, |w| w.recipient.id())
            ))
            .hint("if a new recovery key was set since, this is the old one"));
    };
    let mut others: Vec<SealingKey> = found.into_iter().map(|(key, _)| key).collect();
    let keys = Keys::recovered(newest.clone(), None, signing.clone());
    read::last_checkpoint(store, connection, &keys.public()).await?;
    let verification = verify::within(store, connection, &keys.public()).await?;
    if let Some(problem) = verification.problems.first() {
        return Err(store.tampered(problem.to_string()).into());
    }
    // A rotation that was not ended needs the key before the newest, too.
    let (mut count, mut unopened) = (0, 0);
    let mut needed: Option<SealingKey> = None;
    let mut last = (String::new(), String::new());
    loop {
        let rows = page(store, connection, &last, &[]).await?;
        let Some((run, id, _)) = rows.last() else { break };
        last = (run.0.clone(), id.0.clone());
        for (run, id, value) in &rows {
            let opens = |key: &SealingKey| seal::open([key], run, id, value).is_ok();
            if opens(&newest) || needed.as_ref().is_some_and(opens) {
                count += 1;
            } else if let Some(at) = others.iter().position(opens).filter(|_| needed.is_none()) {
                needed = Some(others.swap_remove(at));
                count += 1;
            } else {
                unopened += 1;
            }
        }
    }
    Ok(Recovered { keys: Keys::recovered(newest, needed, signing), opened: count, unopened })
}
