//! Work that was claimed, each in a task of its own: what one does wrong, or hangs on, touches no other. Terminations, looks and sweeps
//! have lanes of their own, so that the first never wait behind the others.

use super::after;
use super::aging;
use super::desk::{self, Clock, Desk, Look};
use super::premises::Premises;
use super::watching::Log;
use crate::cli::Failure;
use crate::journal::Journal;
use crate::model::{Actor, Fault, FaultKind, Record, RunId, RunState, RunVerdict};
use crate::store::{Claim, Kind, Store};
use crate::wiring::House;
use futures::FutureExt;
use jiff::SignedDuration;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as Gate, Notify, OwnedMutexGuard, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The lanes: what is in them, and how much of it goes on at the same time. Places have limits of their own, over all of them.
pub(super) const LANES: [(&[Kind], usize); 7] = [
    (&[Kind::Start, Kind::Resume], 64),
    (&[Kind::Prepare], 8),
    (&[Kind::Look], 8),
    (&[Kind::Retry], 8),
    (&[Kind::Sweep], 1),
    (&[Kind::Rotate], 8),
    (&[Kind::Report], 4),
];
/// So many reports are made at the same time, and so many runs are in memory for that.
pub(super) const TELLING: usize = 64;
/// After work itself went wrong it is tried again so much later, times the number of tries, up to the second.
const AGAIN: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(5), SignedDuration::from_hours(1));
/// What the store refuses to note is noted again after the first pause, then after longer ones up to the second.
pub(super) const NOTING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// For so long the roster waits for a run that is worked on; then its person's turn comes in the next round.
const PATIENCE: Duration = Duration::from_secs(2);
/// Somebody who is back is asked after again so much later.
const BACK: SignedDuration = SignedDuration::from_hours(24);
/// How often a run is taken up anew when an append of the work before it came in between.
pub(super) const OVERTAKEN: u32 = 20;

/// What the loop, its tasks and the health pages share.
pub(super) struct Shared {
    pub clock: Clock,
    pub journal: Journal,
    pub store: Store,
    pub premises: Mutex<Premises>,
    /// Rings when something may be due.
    pub bell: Notify,
    /// One at a time works on a run.
    gates: Mutex<HashMap<RunId, Arc<Gate<()>>>>,
    /// Looks at runs that wait, which stop when the run's hour comes.
    early: Mutex<HashMap<RunId, AbortHandle>>,
    /// How much goes on in each lane.
    pub busy: [AtomicUsize; LANES.len()],
    /// Terminations that were claimed and are in the hands of a task.
    taken: Mutex<HashSet<String>>,
    /// Turns at making reports.
    pub telling: Semaphore,
    /// One at a time asks for a run.
    asking: Arc<Gate<()>>,
    beat: Mutex<Instant>,
    /// What is wrong, by its kind: how many, and what.
    wrong: Mutex<BTreeMap<&'static str, (usize, String)>>,
    /// Why mail waits.
    mail: Mutex<Option<Fault>>,
}

impl Shared {
    pub fn new(clock: Clock, journal: Journal, store: Store, premises: Premises) -> Self {
        Self {
            clock,
            journal,
            store,
            premises: Mutex::new(premises),
            bell: Notify::new(),
            gates: Mutex::default(),
            early: Mutex::default(),
            busy: Default::default(),
            taken: Mutex::default(),
            telling: Semaphore::new(TELLING),
            asking: Arc::default(),
            beat: Mutex::new(Instant::now()),
            wrong: Mutex::default(),
            mail: Mutex::default(),
        }
    }

    /// The last good house.
    pub fn house(&self) -> Arc<House> {
        self.premises.lock().unwrap_or_else(PoisonError::into_inner).house()
    }

    pub fn desk(&self) -> Desk {
        let (journal, store, clock) = (self.journal.clone(), self.store.clone(), Arc::clone(&self.clock));
        Desk { house: self.house(), journal, store, clock, asking: Arc::clone(&self.asking) }
    }

    /// The runs whose termination is in the hands of a task.
    pub fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The loop comes round.
    pub fn beats(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn last_beat(&self) -> Instant {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes `what` is wrong with something, and with how many of it; or that nothing is any more. Logged when it changes.
    pub fn is_wrong(&self, with: &'static str, count: usize, what: Option<String>) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.get(with).map(|(_, what)| what) == what.as_ref() {
            return;
        }
        match what {
            Some(what) => {
                tracing::error!(with, what, "something is wrong");
                wrong.insert(with, (count, what));
            }
            None => {
                tracing::info!(with, "right again");
                wrong.remove(with);
            }
        }
    }

    /// What kinds of things are wrong, and with how many; what it is stands in the log.
    pub fn wrong(&self) -> BTreeMap<&'static str, usize> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.iter().map(|(with, (count, _))| (*with, *count)).collect()
    }

    /// Notes why mail waits, or that it does not. Logged when it changes.
    pub fn mail_waits(&self, because: Option<Fault>) {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        if *mail == because {
            return;
        }
        match &because {
            Some(fault) => tracing::warn!(%fault, "mail waits"),
            None => tracing::info!("mail goes on"),
        }
        *mail = because;
    }

    /// The right to work on a run, when nobody else does.
    pub async fn gate(&self, run: &RunId) -> OwnedMutexGuard<()> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody stands at it: forgotten, so that the map does not grow with every run.
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
            Arc::clone(gates.entry(run.clone()).or_default())
        };
        gate.lock_owned().await
    }

    /// [`Shared::gate`], if it is free by then.
    async fn gate_within(&self, run: &RunId, patience: Duration) -> Option<OwnedMutexGuard<()>> {
        tokio::time::timeout(patience, self.gate(run)).await.ok()
    }

    /// Stops the look at a run that waits: something that matters more is to be done with it.
    pub(super) fn stop_early(&self, run: &RunId) {
        if let Some(look) = self.early.lock().unwrap_or_else(PoisonError::into_inner).remove(run) {
            look.abort();
        }
    }
}

/// Counts a task in its lane for as long as it lives, however it ends.
pub(super) struct InLane {
    shared: Arc<Shared>,
    lane: usize,
}

impl InLane {
    pub fn new(shared: Arc<Shared>, lane: usize) -> Self {
        shared.busy[lane].fetch_add(1, Ordering::SeqCst);
        Self { shared, lane }
    }
}

impl Drop for InLane {
    fn drop(&mut self) {
        self.shared.busy[self.lane].fetch_sub(1, Ordering::SeqCst);
        // There is room for the next one.
        self.shared.bell.notify_one();
    }
}

/// A termination in the hands of a task, for as long as that lives.
struct Taken<'a>(&'a Shared, String);

impl<'a> Taken<'a> {
    fn new(shared: &'a Shared, claim: &Claim) -> Option<Self> {
        let is_termination = matches!(claim.due.kind, Kind::Start | Kind::Resume);
        is_termination.then(|| {
            shared.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(claim.due.subject.clone());
            Self(shared, claim.due.subject.clone())
        })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Whether it is work on a run that is on record.
fn is_of_a_run(kind: Kind) -> bool {
    !matches!(kind, Kind::Sweep | Kind::Rotate)
}

/// How work on a claim ended.
enum Done {
    /// What is due next follows from the journal; here are all records of the run, if they are known.
    Over(Option<Vec<Record>>),
    /// It is tried again after this pause.
    Again(SignedDuration),
}

/// Does what was claimed, and notes what is due next, however long the store refuses that. Nothing that happens in it gets out.
pub(super) async fn work(shared: Arc<Shared>, claim: Claim, place: InLane) {
    let (mut place, mut in_hand) = (Some(place), Taken::new(&shared, &claim));
    let what = format!("{} {}", claim.due.kind, claim.due.subject);
    let run = RunId(claim.due.subject.clone());
    if matches!(claim.due.kind, Kind::Start | Kind::Resume) {
        shared.stop_early(&run);
    }
    // Until it is noted what is due next: nobody else changes the run meanwhile.
    let mut gate = if !is_of_a_run(claim.due.kind) { None } else { Some(shared.gate(&run).await) };
    let done = AssertUnwindSafe(attempt(&shared, &claim, &mut place)).catch_unwind().await;
    let mut done = match done {
        Ok(Ok(done)) => done,
        Ok(Err(failure)) => {
            tracing::error!(run = %claim.due.subject, kind = %claim.due.kind, attempt = claim.attempt, error = failure.plain(), "failed");
            Done::Again(AGAIN.0)
        }
        Err(_) => {
            tracing::error!(run = %claim.due.subject, kind = %claim.due.kind, attempt = claim.attempt, "panicked");
            Done::Again(AGAIN.0)
        }
    };
    let mut pause = NOTING.0;
    while let Err(fault) = note(&shared, &claim, &done).await {
        tracing::error!(what, %fault, "what is due next could not be noted");
        // Overdue from now on; and others do not wait for it.
        (place, in_hand, gate) = (None, None, None);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(NOTING.1);
        // It is enough that the claim is given back: whoever takes it up next asks the journal whether it is still due.
        if is_of_a_run(claim.due.kind) && matches!(done, Done::Over(_)) {
            done = Done::Again(AGAIN.0);
        }
    }
    drop((place, in_hand, gate));
}

/// Notes what is due after what was claimed, or that it is tried again after a pause.
async fn note(shared: &Shared, claim: &Claim, done: &Done) -> Result<(), Fault> {
    let (kind, run) = (claim.due.kind, RunId(claim.due.subject.clone()));
    match done {
        Done::Over(_) if kind == Kind::Sweep => {
            let (house, now) = (shared.house(), (shared.clock)());
            after::settle_sweeps(&house, &shared.store, now, Some(&claim.due.subject)).await
        }
        Done::Over(_) if kind == Kind::Rotate => {
            let (house, now) = (shared.house(), (shared.clock)());
            aging::settle_rotations(&house, &shared.store, now, Some(&claim.due.subject)).await
        }
        Done::Over(Some(records)) => shared.store.learn(&[after::learned(&run, records)], Some(kind)).await,
        Done::Over(None) => after::settle(&shared.journal, &shared.store, &run, Some(kind)).await,
        Done::Again(pause) => {
            let times = i32::try_from(claim.attempt).unwrap_or(i32::MAX);
            let pause = pause.checked_mul(times).unwrap_or(AGAIN.1).min(AGAIN.1.max(*pause));
            shared.store.put_off(claim, (shared.clock)() + pause).await?;
            // Whether it waits still, or has begun: a walk that broke off before it had was known as begun. If this fails, it is tried again all the same.
            if is_of_a_run(kind)
                && let Err(fault) = after::settle(&shared.journal, &shared.store, &run, None).await
            {
                tracing::warn!(%run, %fault, "how this run stands could not be noted");
            }
            Ok(())
        }
    }
}

/// Does what was claimed. What the work before it had begun to record when it was stopped may come in between; then it is looked at anew
/// whether it is still due. The place in the lane is given up as soon as what is left is only to be told.
async fn attempt(shared: &Arc<Shared>, claim: &Claim, place: &mut Option<InLane>) -> Result<Done, Failure> {
    if claim.due.kind == Kind::Sweep {
        tracing::info!(sweep = %claim.due.subject, "taken up");
        let log = Log { order: None };
        let (swept, written) = shared.desk().sweep(Some(&claim.due.subject), ourselves(), None, &log).await?;
        let run = swept.run.as_ref().map(|r| r.0.as_str());
        tracing::info!(sweep = %claim.due.subject, run, exit = swept.exit, "swept");
        // It is on record: what its report lacks is no reason to make it again.
        if let Err(failure) = written {
            tracing::error!(run, trouble = failure.plain(), "the report of this sweep could not be written");
        }
        return Ok(Done::Over(None));
    }
    if claim.due.kind == Kind::Rotate {
        return Ok(aging::rotate(shared, &claim.due.subject).await?.map_or(Done::Over(None), Done::Again));
    }
    for _ in 0..OVERTAKEN {
        match attempt_once(shared, claim, place).await {
            Err(failure) if failure.is_fenced() => tokio::time::sleep(Duration::from_millis(50)).await,
            done => return done,
        }
    }
    let what = format!("run {} is written to by somebody else", claim.due.subject);
    Err(Fault::new(FaultKind::Unexpected, what).into())
}

/// Does what was claimed, if the journal says that it is still due.
async fn attempt_once(shared: &Arc<Shared>, claim: &Claim, place: &mut Option<InLane>) -> Result<Done, Failure> {
    let (desk, kind) = (shared.desk(), claim.due.kind);
    let run = RunId(claim.due.subject.clone());
    let taken = desk.take(&run).await?;
    let Some(state) = taken.state() else { return Ok(Done::Over(Some(taken.records))) };
    let again = after::again(&state);
    let now = (shared.clock)();
    // Somebody may have cancelled it, moved it or done it since it was claimed. Whoever does so from here on fences this off.
    if !after::due(&run, &state, &again).iter().any(|due| due.kind == kind && due.at <= now) {
        return Ok(Done::Over(Some(taken.records)));
    }
    let late = now.duration_since(claim.due.at).as_millis();
    tracing::info!(run = %run, kind = %kind, late_ms = i64::try_from(late).unwrap_or(i64::MAX), "taken up");
    match kind {
        Kind::Start if desk.is_not_gone(&state) => {
            tracing::warn!(run = %run, person = %after::about(&state.request.subject), "not begun: the roster asked for it, and says now that this person has not left");
            Ok(Done::Again(AGAIN.0))
        }
        Kind::Start => walk(shared, &desk, taken, (after::on_behalf(&state), false), place).await,
        Kind::Resume => walk(shared, &desk, taken, (ourselves(), false), place).await,
        Kind::Prepare => prepare(shared, &run, taken, &state).await.map(|()| Done::Over(None)),
        Kind::Retry if desk.is_back(&state) => {
            tracing::warn!(run = %run, person = %after::about(&state.request.subject), "not tried again: by the roster this person works here again");
            Ok(Done::Again(BACK))
        }
        Kind::Retry if after::wants_retry(&state) => walk(shared, &desk, taken, (ourselves(), true), place).await,
        Kind::Look | Kind::Retry => {
            desk.look(taken, Look { last: false, can_wait: true }, &Log { order: None }).await?;
            desk.mailed(&run, &shared.journal.records(&run).await?).await;
            close(shared, &run, &again).await?;
            Ok(Done::Over(None))
        }
        Kind::Report => match desk::Walked::of(&run, &state) {
            Some(walked) => Ok(Done::Over(tell(shared, &desk, &walked).await?)),
            None => Ok(Done::Over(None)),
        },
        Kind::Sweep | Kind::Rotate => Ok(Done::Over(None)),
    }
}

/// Walks a run, and writes its report and the mail about it.
async fn walk(
    shared: &Shared,
    desk: &Desk,
    taken: desk::Taken,
    (by, can_wait): (Actor, bool),
    place: &mut Option<InLane>,
) -> Result<Done, Failure> {
    let walked = desk.walk(taken, by, can_wait, &Log { order: None }).await?;
    // A report may wait until the whole journal is verified; the next termination must not.
    drop(place.take());
    match tell(shared, desk, &walked).await {
        Ok(records) => Ok(Done::Over(records)),
        // The run has ended and is on record: from now on its report alone is due.
        Err(failure) => {
            tracing::error!(run = %walked.run, trouble = failure.plain(), "the report of this run could not be written");
            Ok(Done::Over(None))
        }
    }
}

/// Writes the report of a run that has ended, and the mail about it. Gives the run's records, if they are known.
async fn tell(shared: &Shared, desk: &Desk, walked: &desk::Walked) -> Result<Option<Vec<Record>>, Failure> {
    let _turn = shared.telling.acquire().await;
    let (written, records) = desk.tell(walked, None).await;
    written?;
    Ok(records)
}

/// Looks at a run that waits, until its hour comes.
async fn prepare(shared: &Arc<Shared>, run: &RunId, taken: desk::Taken, state: &RunState) -> Result<(), Failure> {
    let desk = shared.desk();
    let left = state.waits_until().map(|at| at.duration_since((shared.clock)()));
    let left = left.and_then(|left| Duration::try_from(left).ok()).unwrap_or_default();
    let log = Log { order: None };
    let look = tokio::spawn(async move { tokio::time::timeout(left, desk.prepare(taken, &log)).await });
    shared.early.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), look.abort_handle());
    let seen = look.await;
    shared.early.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    match seen {
        Ok(Ok(Ok(unseen))) => {
            unseen.iter().for_each(|fault| tracing::warn!(run = %run, %fault, "not seen beforehand"));
            Ok(())
        }
        Ok(Ok(Err(failure))) => Err(failure),
        // Its hour has come, or it is cancelled or moved: then there is nothing to prepare any more.
        Ok(Err(_)) => Ok(()),
        Err(stopped) if stopped.is_cancelled() => Ok(()),
        Err(_) => Err(Fault::new(FaultKind::Unexpected, "the look beforehand panicked").into()),
    }
}

/// After the last look, if it found everything shut, nobody needs the witness passwords and the values of shared secrets any more. The seed
/// goes last: that it is gone says that all of this is done.
async fn close(shared: &Shared, run: &RunId, again: &[SignedDuration]) -> Result<(), Failure> {
    let now = (shared.clock)();
    let state = RunState::fold(&shared.journal.records(run).await?);
    let over = state.filter(|s| after::is_last(s, again, now) && s.standing() == RunVerdict::Shut);
    if let Some(state) = over {
        let log = shared.journal.continue_run(run).await?;
        for id in state.sealed_secrets() {
            log.destroy(now, &id).await?;
        }
        log.destroy(now, &crate::journal::RunLog::seed_id()).await?;
        tracing::info!(%run, "the last look found every door shut; its witness passwords and the values of shared secrets are destroyed");
    }
    Ok(())
}

/// Who goes on with what nobody asks for.
pub(super) fn ourselves() -> Actor {
    Actor { name: "offboard serve".into(), asserted_by: "operating system".into() }
}

/// A run that the roster moves or takes back. Nothing if somebody works on it just now: nobody else waits for that, and the next round finds
/// what there is to do then.
pub(super) async fn for_roster<T>(
    shared: &Shared,
    run: &RunId,
    work: impl AsyncFnOnce(Desk) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    shared.stop_early(run);
    let Some(_gate) = shared.gate_within(run, PATIENCE).await else {
        tracing::info!(run = %run, "worked on just now: the roster's word on it has to wait");
        return Ok(None);
    };
    work(shared.desk()).await.map(Some)
}
