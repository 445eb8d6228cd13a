//! A new run is asked for: what is checked before it is put on record, and how nobody gets two. Whoever asks, asks here.

use super::after;
use super::desk::Desk;
use super::order::Order;
use crate::cli::{Exit, Failure};
use crate::engine::{refuse, rotation_playbook};
use crate::model::{
    Actor, Event, Fault, FaultKind, InputDigest, Person, Place, Record, RunId, RunRequest, RunState, SecretAsked,
    SecretName, Subject,
};
use crate::playbook::Playbook;
use crate::store::{Known, Phase};

/// A run that was asked for, and is on record.
#[derive(Debug)]
pub struct Asked {
    /// The run.
    pub run: RunId,
    /// Its records.
    pub records: Vec<Record>,
    /// What went wrong since it is.
    pub trouble: Option<Failure>,
}

impl Desk {
    /// The new run that [`Order::Run`] or [`Order::Rotate`] asks for, on record: one that begins at once, or waits.
    ///
    /// # Errors
    /// A guard refuses it: the person has not left, asks for it themselves, or has another run that is not shut.
    pub async fn request(&self, order: &Order) -> Result<Asked, Failure> {
        if let Order::Rotate { secret, why, anew, by, .. } = order {
            return self.request_rotation(secret, why, *anew, by).await;
        }
        let anew = matches!(order, Order::Run { anew: true, .. });
        let is_free = async |person: &Person| {
            if !anew {
                self.refuse_second(person).await?;
            }
            Ok(true)
        };
        let asked = self.request_if(order, is_free).await?;
        asked.ok_or_else(|| Fault::new(FaultKind::Unexpected, "the run was not asked for").into())
    }

    /// [`Desk::request`], if `is_free` says so of the person while nobody else asks for a run.
    ///
    /// # Errors
    /// As [`Desk::request`], or what `is_free` says.
    pub async fn request_if(
        &self,
        order: &Order,
        is_free: impl AsyncFnOnce(&Person) -> Result<bool, Failure>,
    ) -> Result<Option<Asked>, Failure> {
        let Order::Run { person, playbook, at, although_active, by, .. } = order else {
            return Err(Fault::new(FaultKind::Unexpected, "this order asks for no run").into());
        };
        let (person, at, by) = (self.house.person(person)?, *at, by.clone());
        let now = (self.clock)();
        let (playbook, digest) = self.house.playbook(playbook.as_deref(), &person)?;
        refuse(&person, &by.name, at.unwrap_or(now), *although_active)?;
        let _asking = self.asking.lock().await;
        if !is_free(&person).await? {
            return Ok(None);
        }
        let places = self.house.engine.places().into_iter().map(|(_, place)| place).collect();
        let limits = self.house.limits();
        let request =
            self.about(Subject::Person(Box::new(person)), &playbook, self.house.inputs(digest), places, limits, &by);
        // The hour in the same commit: a run that was cut off without it would look as if it had been meant for at once.
        let hour = at.map(|at| Event::Scheduled { at, by });
        let (log, records) = self.journal.start_with(now, request, hour).await?;
        let run = log.run().clone();
        fail::fail_point!("desk::requested");
        // From here on it is on record, and nothing that goes wrong may look as if it were not: whoever asked would ask again.
        let mut asked = Asked { run, records, trouble: None };
        if let Some(at) = at {
            let learned = after::learned(&asked.run, &asked.records);
            asked.trouble = self.store.learn(&[learned], None).await.err().map(|fault| {
                let run = &asked.run;
                let what = format!("run {run} is on record and waits until {at}; but what is due for it could not be noted");
                let hint = format!("do not ask for it again: offboard serve notes it as soon as it can, or when it starts; offboard status {run}");
                Fault::new(fault.kind, what).because(fault).hint(hint).into()
            });
        } else if let Some(state) = RunState::fold(&asked.records) {
            self.is_known(&after::begun(&asked.run, &state, now)).await;
        }
        Ok(Some(asked))
    }

    /// A new run that rotates a secret, on record.
    async fn request_rotation(&self, secret: &SecretName, why: &str, anew: bool, by: &Actor) -> Result<Asked, Failure> {
        let places = self.house.engine.places_of_secret(secret)?;
        let playbook = rotation_playbook()?;
        let _asking = self.asking.lock().await;
        if !anew {
            self.refuse_second_rotation(secret).await?;
        }
        let asked = Subject::Secret(SecretAsked { name: secret.clone(), why: why.trim().to_string() });
        // What limits measure is how soon a leaver is shut out.
        let request = self.about(asked, &playbook, self.house.config.digests.clone(), places, Vec::new(), by);
        let (log, records) = self.journal.start_with(request.requested_at, request.clone(), None).await?;
        let run = log.run().clone();
        fail::fail_point!("desk::requested");
        if let Some(state) = RunState::fold(&records) {
            self.is_known(&after::begun(&run, &state, request.requested_at)).await;
        }
        Ok(Asked { run, records, trouble: None })
    }

    fn about(
        &self,
        subject: Subject,
        playbook: &Playbook,
        inputs: Vec<InputDigest>,
        places: Vec<Place>,
        limits: Vec<(String, i64)>,
        by: &Actor,
    ) -> RunRequest {
        RunRequest {
            subject,
            playbook: playbook.playbook.clone(),
            playbook_body: serde_json::to_value(playbook).unwrap_or_default(),
            requested_by: by.clone(),
            requested_at: (self.clock)(),
            inputs,
            places,
            limits,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Another run that rotates the secret, and is not shut: it may have the only value that works.
    async fn refuse_second_rotation(&self, secret: &SecretName) -> Result<(), Failure> {
        // Whatever run it is: it has a value that may be the only one that works.
        let half = |known: &&Known| known.rotated.iter().any(|(name, at)| name == secret && at.is_none());
        if let Some(Known { run, .. }) = self.store.rotations().await?.iter().find(half) {
            let what = format!("the secret {secret} is half rotated by run {run}");
            let hint = format!("offboard resume {run} goes on with it; or a new run with --anew");
            return Err(Failure::new(Exit::Refused, Fault::new(FaultKind::Protected, what).hint(hint)));
        }
        for known in self.store.runs_of(&after::rotations(secret)).await? {
            let run = &known.run;
            let state = RunState::fold(&self.journal.records(run).await?);
            if state.is_some_and(|s| !s.is_settled()) {
                let what = format!("run {run}, which rotates the secret {secret}, is not shut yet");
                let hint = format!(
                    "offboard status {run} says how it stands, and offboard resume {run} goes on with it; or a new run with --anew"
                );
                return Err(Failure::new(Exit::Refused, Fault::new(FaultKind::Protected, what).hint(hint)));
            }
        }
        Ok(())
    }

    /// Another run of the person that waits, or that is not shut: it knows what it has found and done.
    async fn refuse_second(&self, person: &Person) -> Result<(), Failure> {
        let name = crate::report::text::cut(&person.name, 80);
        let refused =
            |what: String, hint: String| Failure::new(Exit::Refused, Fault::new(FaultKind::Protected, what).hint(hint));
        for known in self.store.runs_of(&person.id).await? {
            let run = &known.run;
            match known.phase {
                Phase::Cancelled | Phase::Withdrawn | Phase::Other => {}
                Phase::Waiting => {
                    let due = known.due.map(|at| at.to_string()).unwrap_or_default();
                    return Err(refused(
                        format!("run {run} of {name} waits until {due}"),
                        format!("offboard reschedule {run} --at now begins it at once; or a second run with --anew"),
                    ));
                }
                Phase::Begun => {
                    let state = RunState::fold(&self.journal.records(run).await?);
                    if let Some(state) = state.filter(|s| !s.is_settled() && !s.is_restored()) {
                        let hint = if state.is_resumable() {
                            format!(
                                "offboard resume {run}: it knows what it has found and done; or a new run with --anew"
                            )
                        } else {
                            format!(
                                "offboard status {run} says what people still have to do by hand; or a new run with --anew"
                            )
                        };
                        return Err(refused(format!("run {run} of {name} is not shut yet"), hint));
                    }
                }
            }
        }
        Ok(())
    }
}
