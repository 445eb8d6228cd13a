//! Where every order is carried out, whoever gives it: a command in its own process, `offboard serve` for a command, the schedule, or the
//! roster. What is checked before a run begins is checked here and nowhere else.

use super::after;
use super::order::{Answer, Order};
use crate::cli::{Exit, Failure, write_reports, write_sweep};
use crate::engine::{Run, refuse, refuse_leaver};
use crate::journal::{Journal, JournalError};
use crate::model::{Actor, Event, Fault, FaultKind, Person, Record, RunId, RunRequest, RunState, RunVerdict};
use crate::playbook::Format;
use crate::store::{Phase, Store};
use crate::wiring::{House, sweep};
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Learns which run an order works on, as soon as that is known, and gets what is recorded from then on.
pub trait Watch: Send + Sync {
    /// The order works on this run, which stands so.
    fn begins(&self, run: &RunId, so_far: &[Record]) -> Option<UnboundedSender<Record>>;
}

/// Everything that an order needs.
#[derive(Clone)]
pub struct Desk {
    /// The configuration.
    pub house: Arc<House>,
    /// The journal, open for writing.
    pub journal: Journal,
    /// What is due.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// One at a time asks for a run: whoever comes second finds the first one's.
    pub asking: Arc<Mutex<()>>,
}

impl Desk {
    /// Carries an order out, and notes what is due after it.
    ///
    /// # Errors
    /// It was not carried out, because a guard forbids it, or something is wrong.
    pub async fn carry_out(&self, order: Order, watch: &dyn Watch) -> Result<Answer, Failure> {
        match order {
            Order::Run { at, .. } => {
                let run = self.request(&order).await?;
                if at.is_none() {
                    return self.walk_for(&order, &run, watch).await;
                }
                watch.begins(&run, &self.journal.records(&run).await?);
                Ok(answer(run, Exit::Fine))
            }
            Order::Cancel { run, why, by } => {
                let why = reason(&why)?.to_string();
                self.change(run, watch, async |run: &Run<'_>| {
                    refuse_leaver(&run.recorder().read(|s| s.request.person.clone()), &by.name)?;
                    Ok(run.cancel(&why, by.clone()).await?)
                })
                .await
            }
            Order::Reschedule { run, at, although_active, by } => {
                self.change(run, watch, async |run: &Run<'_>| {
                    let (person, waits) = run.recorder().read(|s| (s.request.person.clone(), s.waits_until()));
                    refuse_leaver(&person, &by.name)?;
                    // As the roster has them now; a row that is gone since says no more than it did.
                    let person = self.house.roster.get(&person.id.0).unwrap_or(&person);
                    refuse(person, &by.name, at, although_active)?;
                    if waits.is_none() && run.recorder().read(|s| s.started.is_none() && s.cancelled.is_none()) {
                        return Err(not_waiting(run.recorder().run()));
                    }
                    Ok(run.schedule(at, by.clone()).await?)
                })
                .await
            }
            Order::Resume { run, report_to, by } => {
                let run = self.begun(&run, "resume").await?;
                self.walk(&run, by, report_to, false, watch).await
            }
            Order::Verify { run, last, by } => {
                let run = self.begun(&run, "verify").await?;
                let state = RunState::fold(&self.journal.records(&run).await?);
                state.map_or(Ok(()), |s| refuse_leaver(&s.request.person, &by.name))?;
                self.look(&run, Look { last, can_wait: false }, watch).await
            }
            Order::Waive { run, target, why, by } => {
                let (run, why) = (self.begun(&run, "waive").await?, reason(&why)?.to_string());
                let done = self.change(run.clone(), watch, async |run: &Run<'_>| {
                    refuse_leaver(&run.recorder().read(|s| s.request.person.clone()), &by.name)?;
                    Ok(run.waive(&target, &why, by.clone()).await?)
                });
                done.await?;
                self.as_it_stands(run).await
            }
            Order::Sweep { playbook, report_to, by } => self.sweep(playbook.as_deref(), by, report_to, watch).await,
            Order::Done { run, step, note, evidence, by } => {
                let run = self.begun(&run, "close").await?;
                let done = self.change(run.clone(), watch, async |run: &Run<'_>| {
                    refuse_leaver(&run.recorder().read(|s| s.request.person.clone()), &by.name)?;
                    Ok(run.close(&step, note.clone(), evidence.clone(), by.clone()).await?)
                });
                done.await?;
                self.as_it_stands(run).await
            }
        }
    }

    /// The new run that [`Order::Run`] asks for, on record: one that begins at once, or waits.
    ///
    /// # Errors
    /// A guard refuses it: the person has not left, asks for it themselves, or has another run that is not shut.
    pub async fn request(&self, order: &Order) -> Result<RunId, Failure> {
        let Order::Run { person, playbook, at, although_active, anew, by, .. } = order else {
            return Err(Fault::new(FaultKind::Unexpected, "this order asks for no run").into());
        };
        let (person, at, by) = (self.house.person(person)?, *at, by.clone());
        let now = (self.clock)();
        let (playbook, digest) = self.house.playbook(playbook.as_deref(), &person)?;
        refuse(&person, &by.name, at.unwrap_or(now), *although_active)?;
        let _asking = self.asking.lock().await;
        if !anew {
            self.refuse_second(&person).await?;
        }
        let request = RunRequest {
            person,
            playbook: playbook.playbook.clone(),
            playbook_body: serde_json::to_value(&playbook).unwrap_or_default(),
            requested_by: by.clone(),
            requested_at: now,
            inputs: self.house.inputs(digest),
            places: self.house.engine.places().into_iter().map(|(_, place)| place).collect(),
            limits: self.house.limits(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        // The hour in the same commit: a run that was cut off without it would look as if it had been meant for at once.
        let hour = at.map(|at| Event::Scheduled { at, by });
        let (log, _) = self.journal.start_with(now, request, hour).await?;
        let run = log.run().clone();
        fail::fail_point!("desk::requested");
        if at.is_some() {
            after::settle(&self.journal, &self.store, &run, None).await?;
        } else {
            self.is_walked(&run, &self.journal.records(&run).await?).await;
        }
        Ok(run)
    }

    /// Walks the run that `order` asked for.
    ///
    /// # Errors
    /// As [`Desk::walk`].
    pub async fn walk_for(&self, order: &Order, run: &RunId, watch: &dyn Watch) -> Result<Answer, Failure> {
        let Order::Run { report_to, by, .. } = order else {
            return Err(Fault::new(FaultKind::Unexpected, "this order asks for no run").into());
        };
        self.walk(run, by.clone(), report_to.clone(), false, watch).await
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

    /// Walks a run to its end and writes its report: a new one, one that was scheduled, or one that was cut off. If it `can_wait`, a
    /// termination goes first.
    ///
    /// # Errors
    /// It cannot be taken up; nothing was done then, or what was done stays on record.
    pub async fn walk(
        &self,
        run: &RunId,
        by: Actor,
        report_to: Option<PathBuf>,
        can_wait: bool,
        watch: &dyn Watch,
    ) -> Result<Answer, Failure> {
        let records = self.journal.records(run).await?;
        let seen = watch.begins(run, &records);
        let (run, _) = self.house.take_up(&self.journal, &run.0, seen).await?;
        let run = if can_wait { run.that_can_wait() } else { run };
        let id = run.recorder().run().clone();
        self.is_walked(&id, &records).await;
        let (person, waited) = run.recorder().read(|s| (s.request.person.id.clone(), s.waits_until().is_some()));
        for known in self.store.runs_of(&person).await?.into_iter().filter(|k| k.run != id) {
            if let Some(other) = RunState::fold(&self.journal.records(&known.run).await?) {
                run.learn_from(&other);
            }
        }
        if waited {
            run.renew(self.inputs_now(run.recorder().read(|s| s.request.clone()))).await?;
        }
        let verdict = run.offboard(by).await?;
        let exit = match Exit::from(verdict) {
            Exit::Unproven if run.is_refused() => Exit::Refused,
            exit => exit,
        };
        let formats: Vec<Format> = run.formats().to_vec();
        drop(run);
        let zone = jiff::tz::TimeZone::system();
        let written = match self.house.report(&self.journal, &id, (self.clock)(), &zone).await {
            Ok(report) => write_reports(&self.house, &self.journal, &report, &formats, report_to).await,
            Err(failure) => Err(failure),
        };
        self.settled(&id).await;
        let mut answer = answer(id, exit);
        match written {
            Ok(written) => answer.written = written,
            // A report that cannot be written must not hide how the run ended.
            Err(failure) if exit == Exit::Fine => return Err(failure),
            Err(failure) => answer.trouble = Some(failure.plain()),
        }
        Ok(answer)
    }

    /// Looks at every door of a run again.
    ///
    /// # Errors
    /// It cannot be taken up; or it was to be the last look, and the run is not shut.
    pub async fn look(&self, run: &RunId, look: Look, watch: &dyn Watch) -> Result<Answer, Failure> {
        let records = self.journal.records(run).await?;
        let seen = watch.begins(run, &records);
        let (run, _) = self.house.take_up(&self.journal, &run.0, seen).await?;
        let run = if look.can_wait { run.that_can_wait() } else { run };
        let id = run.recorder().run().clone();
        let verdict = run.verify(look.last).await?;
        let kept = look.last && !run.is_closed();
        drop(run);
        self.settled(&id).await;
        if kept {
            let what = format!("run {id} is not shut: its witness passwords are kept, for they are needed to go on");
            let hint = format!("offboard status {id} says what is left; offboard resume {id} goes on with it");
            return Err(Failure::new(Exit::Refused, Fault::new(FaultKind::Protected, what).hint(hint)));
        }
        Ok(answer(id, verdict.into()))
    }

    /// Looks at every place while a run waits.
    ///
    /// # Errors
    /// It cannot be taken up, or has begun.
    pub async fn prepare(&self, run: &RunId, watch: &dyn Watch) -> Result<Vec<Fault>, Failure> {
        let records = self.journal.records(run).await?;
        let seen = watch.begins(run, &records);
        let (run, _) = self.house.take_up(&self.journal, &run.0, seen).await?;
        let run = run.that_can_wait();
        Ok(run.prepare().await?.into_iter().map(|(_, fault)| fault).collect())
    }

    /// Makes a sweep and writes its report.
    ///
    /// # Errors
    /// There is no such sweep, or the journal cannot be written.
    pub async fn sweep(
        &self,
        playbook: Option<&str>,
        by: Actor,
        report_to: Option<PathBuf>,
        watch: &dyn Watch,
    ) -> Result<Answer, Failure> {
        let formats = self.house.sweep_book(playbook)?.0.report.formats;
        let (send, mut records) = unbounded_channel::<Record>();
        // Which run it is stands in the first record.
        let watching = async {
            let Some(first) = records.recv().await else { return };
            let Some(watcher) = watch.begins(&first.run.clone(), std::slice::from_ref(&first)) else { return };
            while let Some(record) = records.recv().await {
                let _ = watcher.send(record);
            }
        };
        let (swept, ()) = tokio::join!(sweep(&self.house, &self.journal, playbook, by, Some(send)), watching);
        let (id, state) = swept?;
        let written = write_sweep(&self.house, &self.journal, &id, &formats, report_to).await;
        self.settled(&id).await;
        let exit = Exit::from(state.verdict());
        let mut answer = answer(id, exit);
        match written {
            Ok(written) => answer.written = written,
            // A report that cannot be written must not hide what was found.
            Err(failure) if exit == Exit::Fine => return Err(failure),
            Err(failure) => answer.trouble = Some(failure.plain()),
        }
        Ok(answer)
    }

    /// Changes a run in one record, or two.
    async fn change(
        &self,
        run: RunId,
        watch: &dyn Watch,
        work: impl AsyncFnOnce(&Run<'_>) -> Result<(), Failure>,
    ) -> Result<Answer, Failure> {
        let (run, records) = self.house.take_up(&self.journal, &run.0, None).await?;
        let id = run.recorder().run().clone();
        watch.begins(&id, &records);
        work(&run).await?;
        drop(run);
        self.settled(&id).await;
        Ok(answer(id, Exit::Fine))
    }

    /// What is answered when a run was changed: how it stands now.
    async fn as_it_stands(&self, run: RunId) -> Result<Answer, Failure> {
        let state = RunState::fold(&self.journal.records(&run).await?);
        Ok(answer(run, state.map_or(RunVerdict::Unproven, |s| s.verdict()).into()))
    }

    /// The run of that name, which must have begun.
    async fn begun(&self, run: &RunId, what: &str) -> Result<RunId, Failure> {
        let (id, records) = self.house.records(&self.journal, &run.0).await?;
        let state = RunState::fold(&records);
        if let Some(at) = state.as_ref().and_then(RunState::waits_until) {
            let fault =
                Fault::new(FaultKind::Protected, format!("run {id} waits until {at}: there is nothing to {what}"));
            let hint = format!("offboard reschedule {id} --at now begins it at once");
            return Err(Failure::new(Exit::Refused, fault.hint(hint)));
        }
        if let Some((_, why, _)) = state.and_then(|s| s.cancelled) {
            let fault = Fault::new(FaultKind::Protected, format!("run {id} was cancelled: there is nothing to {what}"));
            return Err(Failure::new(Exit::Refused, fault.because(why).hint("start a new run: offboard run PERSON")));
        }
        Ok(id)
    }

    /// The files as they are now; a playbook that is gone since keeps the digest that the run was asked for with.
    fn inputs_now(&self, request: RunRequest) -> Vec<crate::model::InputDigest> {
        // The run keeps the playbook that it was asked for with, whatever its file says now.
        let playbook = request.inputs.last().cloned();
        playbook.map(|playbook| self.house.inputs(playbook)).unwrap_or_default()
    }

    /// Notes that a run has begun, from its first moment on: nobody begins a second one of the same person meanwhile, or takes it for one that
    /// waits. What is due stays as it is. That it is walked must not hang on the store.
    async fn is_walked(&self, run: &RunId, records: &[Record]) {
        if let Err(fault) = self.store.know(&after::begun(run, records, (self.clock)())).await {
            tracing::error!(run = %run, %fault, "it could not be noted that this run has begun");
        }
    }

    /// Notes what is due for a run from now on, and writes the mail that it calls for. What the store does not take is found again when `serve` starts: it must not hide how a
    /// run ended.
    async fn settled(&self, run: &RunId) {
        if let Err(fault) = after::settle(&self.journal, &self.store, run, None).await {
            tracing::error!(run = %run, %fault, "what is due for this run could not be noted");
        }
        let zone = jiff::tz::TimeZone::system();
        let queued = self.house.queue_mail(&self.journal, &self.store, run, (self.clock)(), &zone).await;
        if let Err(failure) = queued {
            tracing::error!(run = %run, fault = failure.plain().trim(), "no mail about this run could be written");
        }
    }

    /// Whether a run that waits by the roster's word alone is for somebody who, as the roster reads now, has not left: HR has moved the date
    /// or taken it back, and the run has yet to follow. Who vanished from the roster may have left.
    pub fn is_not_gone(&self, state: &RunState) -> bool {
        let by_roster = state.request.requested_by.is_roster() && after::on_behalf(state).is_roster();
        let now = self.house.roster.get(&state.request.person.id.0);
        by_roster && now.is_some_and(|person| refuse(person, "", (self.clock)(), false).is_err())
    }

    /// Whether somebody whose access a run took away works here again: then nothing is taken away by itself any more.
    pub fn is_back(&self, state: &RunState) -> bool {
        let left_by = |person: &Person, at: Timestamp| refuse(person, "", at, false).is_ok();
        let then = state.started.unwrap_or(state.request.requested_at);
        let asked = left_by(&state.request.person, then + SignedDuration::from_secs(1));
        let now = self.house.roster.get(&state.request.person.id.0);
        asked && now.is_some_and(|person| !left_by(person, (self.clock)()))
    }
}

/// How doors are looked at again.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether the witness passwords are destroyed afterwards, if everything is shut then.
    pub last: bool,
    /// Whether a termination goes first.
    pub can_wait: bool,
}

fn answer(run: RunId, exit: Exit) -> Answer {
    Answer { run: Some(run), exit: exit as u8, written: Vec::new(), trouble: None, carried_out: true }
}

fn reason(why: &str) -> Result<&str, Fault> {
    let why = why.trim();
    if why.is_empty() {
        return Err(Fault::new(FaultKind::Misconfigured, "--why is empty")
            .hint("say why in a sentence; the auditor will read it"));
    }
    Ok(why)
}

fn not_waiting(run: &RunId) -> Failure {
    let fault = Fault::new(FaultKind::Protected, format!("run {run} does not wait for an hour"));
    Failure::new(Exit::Refused, fault.hint(format!("offboard resume {run} goes on with it")))
}

/// Whether the journal is held by another process, and by which.
pub fn holder(error: &JournalError) -> Option<u32> {
    match error {
        JournalError::Locked { pid, .. } => *pid,
        _ => None,
    }
}
