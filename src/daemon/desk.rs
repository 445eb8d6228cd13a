//! Where every order is carried out, whoever gives it: a command in its own process, `offboard serve` for a command, the schedule, or the
//! roster. What is checked before a run begins is checked here and nowhere else.

use super::after;
use super::order::{Answer, Order};
use crate::cli::{Exit, Failure, write_reports, write_sweep};
use crate::engine::{Refusal, Run, refuse, refuse_leaver};
use crate::journal::{Journal, JournalError, RunLog};
use crate::model::{Actor, Fault, FaultKind, Person, Record, RunId, RunRequest, RunState, RunVerdict};
use crate::playbook::Format;
use crate::store::{Known, Store};
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
                let asked = self.request(&order).await?;
                if at.is_none() {
                    return self.walk_for(&order, &asked.run, watch).await;
                }
                watch.begins(&asked.run, &asked.records);
                Ok(Answer { trouble: asked.trouble.map(|failure| failure.plain()), ..answer(asked.run, Exit::Fine) })
            }
            Order::Rotate { .. } => {
                let asked = self.request(&order).await?;
                self.walk_for(&order, &asked.run, watch).await
            }
            Order::Cancel { run, why, by } => {
                let why = reason(&why)?.to_string();
                self.change(run, watch, async |run: &Run<'_>| {
                    run.recorder().read(|s| not_their_own(s, &by))?;
                    Ok(run.cancel(&why, by.clone()).await?)
                })
                .await
            }
            Order::Reschedule { run, at, although_active, by } => {
                self.change(run, watch, async |run: &Run<'_>| {
                    let (person, waits) = run.recorder().read(|s| (s.request.person().cloned(), s.waits_until()));
                    if let Some(person) = person {
                        refuse_leaver(&person, &by.name)?;
                        // As the roster has them now; a row that is gone since says no more than it did.
                        let person = self.house.roster.get(&person.id.0).unwrap_or(&person);
                        refuse(person, &by.name, at, although_active)?;
                    }
                    if waits.is_none() && run.recorder().read(|s| s.started.is_none() && s.cancelled.is_none()) {
                        return Err(not_waiting(run.recorder().run()));
                    }
                    Ok(run.schedule(at, by.clone()).await?)
                })
                .await
            }
            Order::Resume { run, report_to, by } => {
                let taken = self.begun(&run, "resume").await?;
                self.walk_and_tell(taken, by, report_to, watch).await
            }
            Order::Verify { run, last, by } => {
                let taken = self.begun(&run, "verify").await?;
                let run = taken.log.run().clone();
                taken.state().map_or(Ok(()), |s| not_their_own(&s, &by))?;
                let looked = self.look(taken, Look { last, can_wait: false }, watch).await?;
                self.settled(&run).await;
                if last && !looked.is_closed {
                    let what =
                        format!("run {run} is not shut: its witness passwords are kept, for they are needed to go on");
                    let hint =
                        format!("offboard status {run} says what is left; offboard resume {run} goes on with it");
                    return Err(Failure::new(Exit::Refused, Fault::new(FaultKind::Protected, what).hint(hint)));
                }
                Ok(answer(run, looked.verdict.into()))
            }
            Order::Waive { run, target, why, by } => {
                let run = self.begun(&run, "waive").await?.log.run().clone();
                let why = reason(&why)?.to_string();
                let done = self.change(run.clone(), watch, async |run: &Run<'_>| {
                    run.recorder().read(|s| not_their_own(s, &by))?;
                    Ok(run.waive(&target, &why, by.clone()).await?)
                });
                done.await?;
                self.as_it_stands(run).await
            }
            Order::Sweep { playbook, report_to, by } => {
                let (answer, written) = self.sweep(playbook.as_deref(), by, report_to, watch).await?;
                answer.reported(written)
            }
            Order::Done { run, step, note, evidence, by } => {
                let run = self.begun(&run, "close").await?.log.run().clone();
                let done = self.change(run.clone(), watch, async |run: &Run<'_>| {
                    run.recorder().read(|s| not_their_own(s, &by))?;
                    Ok(run.close(&step, note.clone(), evidence.clone(), by.clone()).await?)
                });
                done.await?;
                self.as_it_stands(run).await
            }
        }
    }

    /// Walks the run that `order` asked for, and writes its report.
    ///
    /// # Errors
    /// As [`Desk::walk`].
    pub async fn walk_for(&self, order: &Order, run: &RunId, watch: &dyn Watch) -> Result<Answer, Failure> {
        let (Order::Run { report_to, by, .. } | Order::Rotate { report_to, by, .. }) = order else {
            return Err(Fault::new(FaultKind::Unexpected, "this order asks for no run").into());
        };
        self.walk_and_tell(self.take(run).await?, by.clone(), report_to.clone(), watch).await
    }

    async fn walk_and_tell(
        &self,
        taken: Taken,
        by: Actor,
        report_to: Option<PathBuf>,
        watch: &dyn Watch,
    ) -> Result<Answer, Failure> {
        let walked = self.walk(taken, by, false, watch).await?;
        let (written, records) = self.tell(&walked, report_to).await;
        match records {
            Some(records) => self.noted(&walked.run, &records).await,
            None => self.settled(&walked.run).await,
        }
        answer(walked.run, walked.exit).reported(written)
    }

    /// A run as its record is now, to go on from there.
    ///
    /// # Errors
    /// There is none, or its record does not verify.
    pub async fn take(&self, run: &RunId) -> Result<Taken, Failure> {
        let (log, records) = self.journal.take_up(&RunId(run.0.trim().to_ascii_uppercase())).await?;
        Ok(Taken { log, records })
    }

    /// Walks a run to its end: a new one, one that was scheduled, or one that was cut off. If it `can_wait`, a termination goes first.
    ///
    /// # Errors
    /// It cannot be taken up; nothing was done then, or what was done stays on record.
    pub async fn walk(&self, taken: Taken, by: Actor, can_wait: bool, watch: &dyn Watch) -> Result<Walked, Failure> {
        let run = self.go_on(taken, can_wait, watch).await?;
        let id = run.recorder().run().clone();
        let begun = run.recorder().read(|s| after::begun(&id, s, (self.clock)()));
        self.is_known(&begun).await;
        let (person, waited) =
            run.recorder().read(|s| (s.request.person().map(|p| p.id.clone()), s.waits_until().is_some()));
        if let Some(person) = person {
            for known in self.store.runs_of(&person).await?.into_iter().filter(|k| k.run != id) {
                if let Some(other) = RunState::fold(&self.journal.records(&known.run).await?) {
                    run.learn_from(&other);
                }
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
        Ok(Walked { run: id, exit, formats: run.formats().to_vec() })
    }

    /// Writes the report of a run that was walked, from what the journal has by now, and the mail about it. Also gives the run's records.
    pub async fn tell(
        &self,
        walked: &Walked,
        report_to: Option<PathBuf>,
    ) -> (Result<Vec<PathBuf>, Failure>, Option<Vec<Record>>) {
        fail::fail_point!("desk::walked");
        let (id, zone) = (&walked.run, jiff::tz::TimeZone::system());
        let (log, mut records) = match self.journal.take_up(id).await {
            Ok(taken) => taken,
            Err(error) => return (Err(error.into()), None),
        };
        let written = async {
            let report = self.house.report_of(&self.journal, id, &records, (self.clock)(), &zone).await?;
            write_reports(&self.house, &log, &report, &walked.formats, report_to).await
        };
        let written = match written.await {
            Ok((written, recorded)) => {
                records.extend(recorded);
                Ok(written)
            }
            Err(failure) => Err(failure),
        };
        self.mailed(id, &records).await;
        (written, Some(records))
    }

    /// Looks at every door of a run again.
    ///
    /// # Errors
    /// It cannot be taken up.
    pub async fn look(&self, taken: Taken, look: Look, watch: &dyn Watch) -> Result<Looked, Failure> {
        let run = self.go_on(taken, look.can_wait, watch).await?;
        let verdict = run.verify(look.last).await?;
        Ok(Looked { verdict, is_closed: run.is_closed() })
    }

    /// Looks at every place while a run waits.
    ///
    /// # Errors
    /// It cannot be taken up, or has begun.
    pub async fn prepare(&self, taken: Taken, watch: &dyn Watch) -> Result<Vec<Fault>, Failure> {
        let run = self.go_on(taken, true, watch).await?;
        Ok(run.prepare().await?.into_iter().map(|(_, fault)| fault).collect())
    }

    async fn go_on(&self, taken: Taken, can_wait: bool, watch: &dyn Watch) -> Result<Run<'_>, Failure> {
        let seen = watch.begins(taken.log.run(), &taken.records);
        let run = self.house.go_on(taken.log, &taken.records, seen).await?;
        Ok(if can_wait { run.that_can_wait() } else { run })
    }

    /// Makes a sweep and tries to write its report. Gives what is answered, and what came of the report.
    ///
    /// # Errors
    /// There is no such sweep, or the journal cannot be written: it was not made to its end.
    pub async fn sweep(
        &self,
        playbook: Option<&str>,
        by: Actor,
        report_to: Option<PathBuf>,
        watch: &dyn Watch,
    ) -> Result<(Answer, Result<Vec<PathBuf>, Failure>), Failure> {
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
        Ok((answer(id, Exit::from(state.verdict())), written))
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
    async fn begun(&self, run: &RunId, what: &str) -> Result<Taken, Failure> {
        let taken = self.take(run).await?;
        let (id, state) = (taken.log.run(), taken.state());
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
        Ok(taken)
    }

    /// The files as they are now; a playbook that is gone since keeps the digest that the run was asked for with.
    fn inputs_now(&self, request: RunRequest) -> Vec<crate::model::InputDigest> {
        // The run keeps the playbook that it was asked for with, whatever its file says now.
        let playbook = request.inputs.last().cloned();
        playbook.map(|playbook| self.house.inputs(playbook)).unwrap_or_default()
    }

    /// Notes that a run has begun, from its first moment on: nobody begins a second one of the same person meanwhile, or takes it for one that
    /// waits. What is due stays as it is. That it is walked must not hang on the store.
    pub(super) async fn is_known(&self, begun: &Known) {
        if let Err(fault) = self.store.know(begun).await {
            tracing::error!(run = %begun.run, %fault, "it could not be noted that this run has begun");
        }
    }

    /// Notes what is due for a run from now on, and writes the mail that it calls for.
    async fn settled(&self, run: &RunId) {
        match self.journal.records(run).await {
            Ok(records) => {
                self.noted(run, &records).await;
                self.mailed(run, &records).await;
            }
            Err(error) => tracing::error!(%run, %error, "what is due for this run could not be noted"),
        }
    }

    /// Notes what is due for a run that has these records. What the store does not take is found again when `serve` starts: it must not
    /// hide how a run ended.
    async fn noted(&self, run: &RunId, records: &[Record]) {
        if let Err(fault) = self.store.learn(&[after::learned(run, records)], None).await {
            tracing::error!(run = %run, %fault, "what is due for this run could not be noted");
        }
    }

    /// Writes the mail that a run calls for which has these records.
    pub async fn mailed(&self, run: &RunId, records: &[Record]) {
        let (now, zone) = ((self.clock)(), jiff::tz::TimeZone::system());
        let queued = self.house.queue_mail(&self.journal, &self.store, run, records, now, &zone).await;
        if let Err(failure) = queued {
            tracing::error!(run = %run, fault = failure.plain().trim(), "no mail about this run could be written");
        }
    }

    /// Whether a run that waits by the roster's word alone is for somebody who, as the roster reads now, has not left: HR has moved the date
    /// or taken it back, and the run has yet to follow. Who vanished from the roster may have left.
    pub fn is_not_gone(&self, state: &RunState) -> bool {
        let by_roster = state.request.requested_by.is_roster() && after::on_behalf(state).is_roster();
        let now = state.request.person().and_then(|person| self.house.roster.get(&person.id.0));
        by_roster && now.is_some_and(|person| refuse(person, "", (self.clock)(), false).is_err())
    }

    /// Whether somebody whose access a run took away works here again: then nothing is taken away by itself any more.
    pub fn is_back(&self, state: &RunState) -> bool {
        let left_by = |person: &Person, at: Timestamp| refuse(person, "", at, false).is_ok();
        let then = state.started.unwrap_or(state.request.requested_at);
        let Some(person) = state.request.person() else { return false };
        let asked = left_by(person, then + SignedDuration::from_secs(1));
        let now = self.house.roster.get(&person.id.0);
        asked && now.is_some_and(|person| !left_by(person, (self.clock)()))
    }
}

/// A run as its record was, to go on from there: if somebody else writes to it in between, nothing more is written through this.
pub struct Taken {
    /// Its log.
    pub log: RunLog,
    /// All of its records.
    pub records: Vec<Record>,
}

impl Taken {
    /// How it stands; nothing if it is a sweep.
    pub fn state(&self) -> Option<RunState> {
        RunState::fold(&self.records)
    }
}

/// A run that was walked to its end; nobody has been told yet.
#[derive(Debug)]
pub struct Walked {
    /// The run.
    pub run: RunId,
    exit: Exit,
    formats: Vec<Format>,
}

impl Walked {
    /// A run that has ended, as its record says; nothing if it has not.
    pub fn of(run: &RunId, state: &RunState) -> Option<Self> {
        let (_, verdict) = state.ended?;
        Some(Self { run: run.clone(), exit: verdict.into(), formats: after::formats(state) })
    }
}

/// What a look has found.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// How the run stands.
    pub verdict: RunVerdict,
    /// Whether its witness passwords are destroyed.
    pub is_closed: bool,
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

impl Answer {
    /// The answer when the report was written, or was not.
    fn reported(self, written: Result<Vec<PathBuf>, Failure>) -> Result<Self, Failure> {
        match written {
            Ok(written) => Ok(Self { written, ..self }),
            // A report that cannot be written must not hide how it ended.
            Err(failure) if self.exit == Exit::Fine as u8 => Err(failure),
            Err(failure) => Ok(Self { trouble: Some(failure.plain()), ..self }),
        }
    }
}

/// Refuses what the leaver asks for themselves.
fn not_their_own(state: &RunState, by: &Actor) -> Result<(), Refusal> {
    state.request.person().map_or(Ok(()), |person| refuse_leaver(person, &by.name))
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
