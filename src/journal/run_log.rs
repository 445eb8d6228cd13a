//! The one writer of one run.

use super::error::JournalError;
use super::keys::random;
use super::writer::{Message, Request, Standing};
use super::{Inner, seal};
use crate::model::{Event, Fault, Record, RunId, SealedId};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use std::sync::Arc;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// The name of the sealed seed of every run.
const SEED: &str = "seed";

/// Appends to one run. Clones write to the same run; what they append at the same time shares a commit.
///
/// An append whose future is dropped may still be written.
#[derive(Clone)]
pub struct RunLog {
    inner: Arc<Inner>,
    standing: Arc<Standing>,
}

impl std::fmt::Debug for RunLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunLog").field("run", self.run()).finish_non_exhaustive()
    }
}

impl RunLog {
    pub(super) fn new(inner: Arc<Inner>, standing: Standing) -> Self {
        Self { inner, standing: Arc::new(standing) }
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.standing.run
    }

    /// Appends `events`, all or none, and returns them as they were recorded once they are durable: synced to the disk and covered
    /// by a signed checkpoint.
    ///
    /// The before-image of a found account ([`crate::model::Account::facts`]) is never recorded in the clear: it is taken out, sealed in the
    /// same transaction, and its name stands in the returned [`Event::Found`]. [`RunLog::facts`] gives it back.
    ///
    /// # Errors
    /// Nothing was appended, and the caller must not act: [`JournalError::Fenced`] if somebody else has continued this run, `Full`,
    /// `ReadOnly`, `Corrupt`, `Closed`, `Store`.
    pub async fn append(&self, at: Timestamp, events: Vec<Event>) -> Result<Vec<Record>, JournalError> {
        let mut sealed = Vec::new();
        let mut recorded = Vec::with_capacity(events.len());
        for mut event in events {
            if let Event::Found { account, facts } = &mut event {
                let before =
                    Zeroizing::new(serde_json::to_vec(&account.facts.take()).map_err(|e| self.unwritable(&e))?);
                if before.as_slice() != b"null" {
                    let value = self.sealed("facts", &SecretSlice::from(before.to_vec()))?;
                    *facts = Some(value.0.clone());
                    sealed.push(value);
                }
            }
            recorded.push((at, event));
        }
        self.ask(recorded, sealed, None).await
    }

    /// Appends the very first records of a run, with a fresh seed sealed in the same transaction.
    pub(super) async fn begin(&self, at: Timestamp, events: Vec<Event>) -> Result<Vec<Record>, JournalError> {
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random().map_err(|e| self.unwritable(&e))?);
        let id = SealedId(SEED.into());
        let value = self.encrypt(&id, &SecretSlice::from(seed.to_vec()))?;
        let events = events.into_iter().map(|event| (at, event)).collect();
        self.ask(events, vec![(id, value)], None).await
    }

    /// Seals a value under a fresh name that begins with `name`; durable when it returns.
    ///
    /// # Errors
    /// As [`RunLog::append`].
    pub async fn seal(&self, name: &str, plaintext: &SecretSlice<u8>) -> Result<SealedId, JournalError> {
        let value = self.sealed(name, plaintext)?;
        let id = value.0.clone();
        self.ask(Vec::new(), vec![value], None).await?;
        Ok(id)
    }

    /// Seals values under fresh names that begin with `name`, and appends the events that `events` makes of those names, in one transaction.
    ///
    /// # Errors
    /// As [`RunLog::append`].
    pub async fn seal_with(
        &self,
        at: Timestamp,
        name: &str,
        values: &[SecretSlice<u8>],
        events: impl FnOnce(&[SealedId]) -> Vec<Event>,
    ) -> Result<Vec<Record>, JournalError> {
        let sealed = values.iter().map(|value| self.sealed(name, value)).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<SealedId> = sealed.iter().map(|(id, _)| id.clone()).collect();
        let events = events(&ids).into_iter().map(|event| (at, event)).collect();
        self.ask(events, sealed, None).await
    }

    /// A new secret: 43 characters of `A-Za-z0-9-_`, from 32 bytes of the operating system's randomness. It is sealed nowhere yet.
    ///
    /// # Errors
    /// [`JournalError::Store`] if there is no randomness.
    pub fn fresh_secret(&self) -> Result<SecretString, JournalError> {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(random().map_err(|e| self.unwritable(&e))?);
        Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }

    /// The value that was sealed under `id`; nothing if there is none, or none any more.
    ///
    /// # Errors
    /// [`JournalError::Tampered`] if it is not what was sealed there.
    pub async fn unseal(&self, id: &SealedId) -> Result<Option<SecretSlice<u8>>, JournalError> {
        let store = &self.inner.store;
        let value: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM sealed WHERE run = $1 AND id = $2")
            .bind(&self.run().0)
            .bind(&id.0)
            .fetch_optional(&self.inner.reading)
            .await
            .map_err(|e| store.fault(&e))?;
        let Some(value) = value else { return Ok(None) };
        let keys = self.inner.keys()?;
        let plaintext = seal::open(keys.opening(), self.run(), id, &value);
        plaintext.map(Some).map_err(|why| store.unopened(self.run(), id, why))
    }

    /// The before-image of an account, as [`RunLog::append`] sealed it; null if it is gone.
    ///
    /// # Errors
    /// As [`RunLog::unseal`].
    pub async fn facts(&self, id: &SealedId) -> Result<serde_json::Value, JournalError> {
        match self.unseal(id).await? {
            None => Ok(serde_json::Value::Null),
            Some(json) => serde_json::from_slice(json.expose_secret()).map_err(|_| {
                self.inner.store.tampered(format!("the sealed value {} of run {} is no before-image", id.0, self.run()))
            }),
        }
    }

    /// Deletes a sealed value for good and records that. Nothing is recorded if it was not there.
    ///
    /// # Errors
    /// As [`RunLog::append`].
    pub async fn destroy(&self, at: Timestamp, id: &SealedId) -> Result<Option<Record>, JournalError> {
        let event = Event::Destroyed { sealed: id.clone() };
        Ok(self.ask(vec![(at, event)], Vec::new(), Some(id.clone())).await?.into_iter().next())
    }

    /// The run's 32 random bytes, from which witness passwords are derived.
    ///
    /// # Errors
    /// As [`RunLog::unseal`], and [`JournalError::Tampered`] if it is gone.
    pub async fn seed(&self) -> Result<SecretSlice<u8>, JournalError> {
        self.unseal(&SealedId(SEED.into()))
            .await?
            .ok_or_else(|| self.inner.store.tampered(format!("the seed of run {} is gone", self.run())))
    }

    /// The name of the seed, for [`RunLog::destroy`] when no look needs a witness password any more.
    pub fn seed_id() -> SealedId {
        SealedId(SEED.into())
    }

    fn sealed(&self, name: &str, plaintext: &SecretSlice<u8>) -> Result<(SealedId, Vec<u8>), JournalError> {
        let random: [u8; 8] = random().map_err(|e| self.unwritable(&e))?;
        let id = SealedId(format!("{name}-{:016x}", u64::from_be_bytes(random)));
        let value = self.encrypt(&id, plaintext)?;
        Ok((id, value))
    }

    fn encrypt(&self, id: &SealedId, plaintext: &SecretSlice<u8>) -> Result<Vec<u8>, JournalError> {
        seal::seal(self.inner.keys()?.sealing(), self.run(), id, plaintext).map_err(|e: Fault| self.unwritable(&e))
    }

    fn unwritable(&self, because: &dyn std::fmt::Display) -> JournalError {
        JournalError::Store { folder: self.inner.store.folder.clone(), because: because.to_string() }
    }

    async fn ask(
        &self,
        events: Vec<(Timestamp, Event)>,
        sealed: Vec<(SealedId, Vec<u8>)>,
        destroy: Option<SealedId>,
    ) -> Result<Vec<Record>, JournalError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { standing: self.standing.clone(), events, sealed, destroy, answer };
        let writer = self.inner.writer()?;
        writer.send(Message::Append(Box::new(request))).await.map_err(|_| self.inner.closed())?;
        answered.await.map_err(|_| self.inner.closed())?
    }
}
