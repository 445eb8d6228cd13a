//! What is due for a run, from its record alone: that it begins, goes on, is looked at again, is tried again. Called wherever a run
//! is changed, and for every run when `offboard serve` starts; asking twice gives the same answer.

use crate::engine::rotated;
use crate::journal::{Journal, JournalError};
use crate::model::{
    Actor, Fault, FaultKind, PersonId, Record, RunId, RunState, RunVerdict, SecretName, StepProgress, Subject,
    SweepState, Verdict,
};
use crate::playbook::{Format, Playbook};
use crate::store::{Due, Kind, Known, Phase, Store};
use crate::wiring::House;
use jiff::{SignedDuration, Timestamp};

/// So long before its hour a scheduled run is looked at.
const AHEAD: SignedDuration = SignedDuration::from_mins(15);
/// The first pause before what is open, stuck or unreached is tried again, and the longest.
const PAUSE: (SignedDuration, SignedDuration) = (SignedDuration::from_mins(5), SignedDuration::from_hours(24));

/// So many runs are learned in one transaction.
const BATCH: usize = 256;

/// What is due for `run`. `again` are its playbook's looks after the end.
pub fn due(run: &RunId, state: &RunState, again: &[SignedDuration]) -> Vec<Due> {
    let what = |kind, at| Due { subject: run.0.clone(), kind, at };
    if state.cancelled.is_some() {
        return Vec::new();
    }
    if let Some(at) = state.waits_until() {
        let mut due = vec![what(Kind::Start, at)];
        if state.prepared.is_none() {
            due.push(what(Kind::Prepare, at - AHEAD));
        }
        return due;
    }
    let (Some((ended, _)), Some(walked)) = (state.ended, state.walked) else {
        // It was cut off, or never came to its beginning.
        return vec![what(Kind::Resume, state.started.unwrap_or(state.request.requested_at))];
    };
    let mut due = Vec::new();
    // It was cut off before its report was written, or that could not be written.
    if !state.is_reported && !formats(state).is_empty() {
        due.push(what(Kind::Report, walked));
    }
    // What was given back is open on purpose, and without witness passwords nothing can be proved any more.
    if state.is_restored() || is_over(state) {
        return due;
    }
    let look = again.iter().map(|after| walked + *after).find(|at| *at > ended);
    let retry =
        wants_retry(state) || (look.is_none() && state.standing() != RunVerdict::Shut && wants_look(state, again));
    if retry {
        due.push(what(Kind::Retry, ended + pause(state.tries)));
    }
    // The last look is made again until it finds everything shut and is closed.
    match (look, again.last()) {
        (Some(at), _) => due.push(what(Kind::Look, at)),
        (None, Some(last)) if !retry && state.standing() == RunVerdict::Shut => {
            due.push(what(Kind::Look, walked + *last));
        }
        _ => {}
    }
    due
}

/// Whether the last look was made and closed.
fn is_over(state: &RunState) -> bool {
    state.destroyed.contains(&crate::journal::RunLog::seed_id())
}

/// Whether this is the last look of `again`.
pub fn is_last(state: &RunState, again: &[SignedDuration], now: Timestamp) -> bool {
    again.last().zip(state.walked).is_some_and(|(last, walked)| walked + *last <= now)
}

/// Whether a walk could mend something: what is open, stuck or unreached and not given up. What a guard forbids, and what nobody may
/// touch, is for people.
pub fn wants_retry(state: &RunState) -> bool {
    let forbidden = |fault: &Fault| fault.kind == FaultKind::Protected;
    let unreached = state.places.values().filter(|p| p.waived.is_none()).any(|p| match &p.unreached {
        Some(fault) => !forbidden(fault),
        None => p.reached_at.is_none(),
    });
    // What a person does by hand, a walk cannot.
    let undone = state.steps.iter().filter(|s| s.waived.is_none() && !s.step.is_by_hand()).any(|s| match &s.progress {
        StepProgress::Done { .. } => false,
        StepProgress::Failed { fault, .. } => !forbidden(fault),
        StepProgress::Planned | StepProgress::Started => true,
    });
    let open = state.doors.values().any(|d| {
        let opens = matches!(d.after.as_ref().map(|(_, look)| &look.verdict), Some(Verdict::Open { .. }));
        opens && state.steps.iter().any(|s| s.step.shuts.contains(&d.door.id))
    });
    unreached || undone || open
}

/// After the last of `again`, whether there is a door that nobody has seen shut.
fn wants_look(state: &RunState, again: &[SignedDuration]) -> bool {
    let shut = |look: &Verdict| matches!(look, Verdict::Shut { .. });
    !again.is_empty() && state.doors.values().any(|d| d.after.as_ref().is_none_or(|(_, look)| !shut(&look.verdict)))
}

fn pause(tries: u32) -> SignedDuration {
    let doubled = PAUSE.0.checked_mul(1i32.checked_shl(tries.saturating_sub(1).min(20)).unwrap_or(i32::MAX));
    doubled.unwrap_or(PAUSE.1).min(PAUSE.1)
}

/// The looks after the end, as the run's own playbook has them.
pub fn again(state: &RunState) -> Vec<SignedDuration> {
    let again = playbook(state).map(|p| p.verify.again).unwrap_or_default();
    again.into_iter().filter_map(|period| SignedDuration::try_from(period.duration()).ok()).collect()
}

/// In which formats its report is written, as the run's own playbook has them.
pub fn formats(state: &RunState) -> Vec<Format> {
    playbook(state).map(|p| p.report.formats).unwrap_or_default()
}

fn playbook(state: &RunState) -> Option<Playbook> {
    serde_json::from_value(state.request.playbook_body.clone()).ok()
}

/// The run in short, and what is due for it.
pub fn learned(run: &RunId, records: &[Record]) -> (Known, Vec<Due>) {
    let state = RunState::fold(records);
    let due = state.as_ref().map(|state| due(run, state, &again(state)));
    (known(run, records, state.as_ref()), due.unwrap_or_default())
}

/// The run in short; `state` is what its records say, unless it is a sweep.
fn known(run: &RunId, records: &[Record], state: Option<&RunState>) -> Known {
    let seen = records.last().map_or(0, |r| r.seq);
    let Some(state) = state else {
        // One that was cut off was not made: its schedule is still due.
        let sweep = SweepState::fold(records);
        let made = sweep.as_ref().filter(|s| s.ended.is_some()).map(|s| s.request.requested_at);
        return Known {
            run: run.clone(),
            records: seen,
            person: sweep.map_or_else(|| PersonId(String::new()), |s| sweeps(&s.request.playbook)),
            phase: Phase::Other,
            by_roster: false,
            ends: None,
            due: None,
            started: made,
            rotated: Vec::new(),
        };
    };
    let mut phase = match &state.cancelled {
        Some((.., by)) if by.is_roster() => Phase::Withdrawn,
        Some(_) => Phase::Cancelled,
        None if state.waits_until().is_some() => Phase::Waiting,
        None => Phase::Begun,
    };
    let begun = phase == Phase::Begun;
    // It is no leaver's.
    if state.request.secret().is_some() {
        phase = Phase::Other;
    }
    let ends = state.request.person().and_then(|person| person.ends);
    let moved = state.scheduled.iter().rev().find(|(_, by)| by.is_roster()).map(|(at, _)| *at);
    Known {
        run: run.clone(),
        records: seen,
        person: about(&state.request.subject),
        phase,
        by_roster: state.request.requested_by.is_roster(),
        ends: moved.filter(|_| ends.is_some()).or(ends),
        due: state.scheduled.last().map(|(at, _)| *at),
        // To begin at once, and cut off before it did, counts as begun.
        started: state.started.or_else(|| begun.then_some(state.request.requested_at)),
        rotated: rotated(state),
    }
}

/// A run, in short, whose walk begins now. How far its record goes is left open: if we die in the walk, it is read again.
pub fn begun(run: &RunId, state: &RunState, now: Timestamp) -> Known {
    let known = known(run, &[], Some(state));
    let phase = if state.request.secret().is_some() { Phase::Other } else { Phase::Begun };
    Known { records: 0, phase, started: known.started.or(Some(now)), ..known }
}

/// Under which name the runs of a person, or those that rotate a secret, are known.
pub fn about(subject: &Subject) -> PersonId {
    match subject {
        Subject::Person(person) => person.id.clone(),
        Subject::Secret(asked) => rotations(&asked.name),
    }
}

/// Under which name the runs that rotate a secret are known.
pub fn rotations(secret: &SecretName) -> PersonId {
    PersonId(format!("secret {secret}"))
}

/// Under which name the sweeps of a playbook are known.
fn sweeps(playbook: &str) -> PersonId {
    PersonId(format!("sweep {playbook}"))
}

/// Brings the store in line with the schedules of the house: for each sweep the first hour after it was last made, which may have been missed;
/// it is due once all the same. `finished` is the sweep that has just been made.
///
/// # Errors
/// The store cannot be used.
pub async fn settle_sweeps(house: &House, store: &Store, now: Timestamp, finished: Option<&str>) -> Result<(), Fault> {
    let schedules = house.schedules()?;
    let waiting = store.due_of(Kind::Sweep).await?;
    for gone in waiting.iter().filter(|due| schedules.iter().all(|(name, ..)| *name != due.subject)) {
        store.settle(&gone.subject, &[], None).await?;
    }
    for (name, schedule, zone) in schedules {
        let made = store.runs_of(&sweeps(&name)).await?.into_iter().filter_map(|known| known.started).max();
        let missed = waiting.iter().find(|due| due.subject == name && due.at <= now).map(|due| due.at);
        let at = match (made, missed) {
            (None, Some(missed)) => Some(missed),
            (made, _) => super::when::next_occurrence(&schedule, &zone, made.unwrap_or(now)),
        };
        let due: Vec<Due> = at.map(|at| Due { subject: name.clone(), kind: Kind::Sweep, at }).into_iter().collect();
        store.settle(&name, &due, (finished == Some(&*name)).then_some(Kind::Sweep)).await?;
    }
    Ok(())
}

/// Brings the store in line with what the journal says of one run. `finished` is the work on it that has come to its end.
///
/// # Errors
/// The journal cannot be read, or the store not be written.
pub async fn settle(journal: &Journal, store: &Store, run: &RunId, finished: Option<Kind>) -> Result<(), Fault> {
    store.learn(&[learned(run, &journal.records(run).await?)], finished).await
}

/// Brings the store in line with every run of the journal that it does not know as far as it goes. Says how many there were, and the
/// runs whose record does not verify: nothing is ever done for these by itself.
///
/// # Errors
/// As [`settle`].
pub async fn settle_all(journal: &Journal, store: &Store) -> Result<(usize, Vec<(RunId, JournalError)>), Fault> {
    let known = store.known_lengths().await?;
    let (mut settled, mut damaged) = (0, Vec::new());
    let changed = journal.lengths().await?.into_iter().filter(|(run, length)| known.get(run) != Some(length));
    for batch in changed.map(|(run, _)| run).collect::<Vec<_>>().chunks(BATCH) {
        let mut learned = Vec::with_capacity(batch.len());
        for run in batch {
            match journal.records(run).await {
                Ok(records) => learned.push(self::learned(run, &records)),
                Err(error) => damaged.push((run.clone(), error)),
            }
        }
        settled += learned.len();
        store.learn(&learned, None).await?;
    }
    Ok((settled, damaged))
}

/// Who goes on with a run when nobody asks: the one who scheduled it, or who asked for it.
pub fn on_behalf(state: &RunState) -> Actor {
    state.scheduled.last().map_or_else(|| state.request.requested_by.clone(), |(_, by)| by.clone())
}
