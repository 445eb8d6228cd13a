//! The run's record: every event goes to the journal first, then into the fold that the engine decides by, then to whoever watches.

use crate::journal::{JournalError, RunLog};
use crate::model::{DoorId, Event, Fault, FaultKind, Record, RunId, RunState, SealedId, Which};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// Why a walk stops.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The journal cannot be written: nothing may be done any more, anywhere.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// This place cannot be worked on now; the others go on.
    #[error(transparent)]
    Place(#[from] Fault),
}

/// The one way to record what happens in a run.
pub struct Recorder {
    log: RunLog,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    state: Mutex<RunState>,
    watch: Option<UnboundedSender<Record>>,
}

impl Recorder {
    /// A recorder that continues `records`.
    pub(super) fn new(
        log: RunLog,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        records: &[Record],
        watch: Option<UnboundedSender<Record>>,
    ) -> Result<Self, Halt> {
        let state = RunState::fold(records).ok_or_else(|| {
            Fault::new(FaultKind::Misconfigured, format!("run {} does not begin with a request", log.run()))
                .hint("offboard journal verify")
        })?;
        Ok(Self { log, clock, state: Mutex::new(state), watch })
    }

    /// The run's name.
    pub fn run(&self) -> &RunId {
        self.log.run()
    }

    /// The time.
    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Destroys the seed of the run's witness passwords.
    pub(super) async fn destroy_seed(&self) -> Result<(), Halt> {
        let record = self.log.destroy(self.now(), &RunLog::seed_id()).await?;
        self.took(record.into_iter().collect());
        Ok(())
    }

    /// A new value for a shared secret.
    pub(super) fn fresh_secret(&self) -> Result<SecretString, Halt> {
        Ok(self.log.fresh_secret()?)
    }

    /// Seals values of a shared secret and records under which names, in one commit. Values that they take the place of are destroyed.
    pub(super) async fn seal_secret(&self, door: &DoorId, values: Vec<(Which, SecretString)>) -> Result<(), Halt> {
        if values.is_empty() {
            return Ok(());
        }
        let replaced: Vec<SealedId> = self.read(|s| {
            let known = s.secrets.get(door).cloned().unwrap_or_default();
            let replaced = values.iter().filter_map(|(which, _)| match which {
                Which::Old => known.old.clone(),
                Which::New => known.new.clone(),
            });
            replaced.collect()
        });
        let (which, bytes): (Vec<Which>, Vec<_>) = values
            .iter()
            .map(|(which, value)| (*which, SecretSlice::from(value.expose_secret().as_bytes().to_vec())))
            .unzip();
        let records = self
            .log
            .seal_with(self.now(), "secret", &bytes, |ids| {
                let named = which.iter().zip(ids);
                named
                    .map(|(which, id)| Event::SecretSealed { door: door.clone(), which: *which, sealed: id.clone() })
                    .collect()
            })
            .await?;
        self.took(records);
        self.destroy(&replaced).await
    }

    /// The old and the new value of a shared secret, as far as they are sealed.
    pub(super) async fn unseal_secret(
        &self,
        door: &DoorId,
    ) -> Result<(Option<SecretString>, Option<SecretString>), Halt> {
        let known = self.read(|s| s.secrets.get(door).cloned().unwrap_or_default());
        Ok((self.unseal(known.old.as_ref()).await?, self.unseal(known.new.as_ref()).await?))
    }

    async fn unseal(&self, id: Option<&SealedId>) -> Result<Option<SecretString>, Halt> {
        let Some(id) = id else { return Ok(None) };
        let value = self.log.unseal(id).await?;
        let text = value.and_then(|value| std::str::from_utf8(value.expose_secret()).ok().map(SecretString::from));
        Ok(text)
    }

    /// Destroys the values of all shared secrets.
    pub(super) async fn destroy_secrets(&self) -> Result<(), Halt> {
        let all = self.read(RunState::sealed_secrets);
        self.destroy(&all).await
    }

    async fn destroy(&self, sealed: &[SealedId]) -> Result<(), Halt> {
        for id in sealed {
            let record = self.log.destroy(self.now(), id).await?;
            self.took(record.into_iter().collect());
        }
        Ok(())
    }

    /// Durable on return.
    pub(super) async fn record(&self, events: Vec<Event>) -> Result<(), Halt> {
        if events.is_empty() {
            return Ok(());
        }
        let records = self.log.append(self.now(), events).await?;
        self.took(records);
        Ok(())
    }

    /// The before-image of an account; null if it is no longer kept.
    pub(super) async fn facts(&self, sealed: &SealedId) -> Result<serde_json::Value, Halt> {
        Ok(self.log.facts(sealed).await?)
    }

    fn took(&self, records: Vec<Record>) {
        for record in records {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).apply(record.at, &record.event);
            if let Some(watch) = &self.watch {
                // Nobody watching any more is no reason to stop.
                let _ = watch.send(record);
            }
        }
    }

    /// Reads the fold.
    pub fn read<T>(&self, read: impl FnOnce(&RunState) -> T) -> T {
        read(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
