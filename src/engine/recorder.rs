//! The run's record: every event goes to the journal first, then into the fold that the engine decides by, then to whoever watches.

use crate::journal::{JournalError, RunLog};
use crate::model::{Event, Fault, FaultKind, Record, RunId, RunState, SealedId};
use jiff::Timestamp;
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
