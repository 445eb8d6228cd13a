//! Everything beside the doors: places, steps, waivers, controls, who started what, and the journal itself.

use super::doors::place;
use super::text;
use crate::model::{
    Action, Actor, Closing, Digest, Event, LookAt, Outcome, PlaceId, Record, RunState, StepId, StepProgress,
    SystemName, Waiver,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What the journal says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Journal {
    /// The hash of the last signed checkpoint: it stands for every record of every run, up to that moment.
    pub head: Digest,
    /// How many records the run has.
    pub records: u64,
    /// The fingerprint of the key that signs checkpoints.
    pub key: Option<String>,
    /// How many problems the verification of the whole journal found, of whatever run. With any, nothing here can be believed.
    pub problems: u64,
    /// The last checkpoint's signature.
    pub signature: Option<String>,
}

/// A place that could not be reached or read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreached {
    /// The system.
    pub system: SystemName,
    /// The place as people name it.
    pub place: String,
    /// Its name, unique in the run.
    pub place_id: PlaceId,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether it had been reached before, in this run.
    pub reached_before: bool,
    /// Who gave it up, in writing.
    pub waived: Option<Waiver>,
}

pub(super) fn unreached(state: &RunState) -> Vec<Unreached> {
    let mut list = Vec::new();
    for id in state.request.places.iter().map(|p| &p.id) {
        let Some(known) = state.places.get(id) else { continue };
        if known.reached_at.is_some() && known.unreached.is_none() {
            continue;
        }
        list.push(Unreached {
            system: known.place.system.clone(),
            place: known.place.address.clone(),
            place_id: id.clone(),
            why: known.unreached.as_ref().map_or_else(|| "not tried yet".to_string(), ToString::to_string),
            hint: known.unreached.as_ref().and_then(|fault| fault.hint.clone()),
            reached_before: known.reached_at.is_some(),
            waived: known.waived.clone(),
        });
    }
    list
}

/// That a run was cancelled before it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cancelled {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: String,
    /// By whom.
    pub by: Actor,
}

pub(super) fn cancelled(state: &RunState) -> Option<Cancelled> {
    state.cancelled.clone().map(|(at, why, by)| Cancelled { at, why, by })
}

/// Something that was given up, in writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaivedLine {
    /// The step's or place's name.
    pub target: String,
    /// What that is.
    pub what: String,
    /// The decision.
    #[serde(flatten)]
    pub waiver: Waiver,
}

pub(super) fn waived(state: &RunState) -> Vec<WaivedLine> {
    let places = state.places.values().filter_map(|p| {
        let what = format!("everything on {} ({})", p.place.address, p.place.system);
        Some(WaivedLine { target: p.place.id.0.clone(), what, waiver: p.waived.clone()? })
    });
    let steps = state.steps.iter().filter_map(|s| {
        let (_, address) = place(state, &s.step.place);
        let what = match s.step.is_by_hand() {
            true => format!("{} (asked of {})", s.step.object, s.step.account),
            false => format!("{} {} on {address}", s.step.action, s.step.account),
        };
        Some(WaivedLine { target: s.step.id.0.clone(), what, waiver: s.waived.clone()? })
    });
    places.chain(steps).collect()
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct StepLine {
    /// Its name.
    pub id: StepId,
    /// The playbook's stage.
    pub stage: String,
    /// What it does.
    pub action: Action,
    /// The system.
    pub system: SystemName,
    /// The place as people name it.
    pub place: String,
    /// The account.
    pub account: String,
    /// What of the account.
    pub object: String,
    /// `done`, `already-done`, `absent`, `failed` (tried again), `stuck`, `started`, `planned`; of a manual step `asked` or `done`.
    pub outcome: &'static str,
    /// What was changed, or why it failed.
    pub note: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was last begun.
    pub started_at: Option<Timestamp>,
    /// When it was done.
    pub done_at: Option<Timestamp>,
    /// Who had started the work in which it was last begun.
    pub by: Option<Actor>,
    /// Whether restore can take it back.
    pub reversible: bool,
    /// Who gave it up, in writing.
    pub waived: Option<Waiver>,
    /// Whether it was taken back.
    pub restored: bool,
    /// What only a manual step has. Its `account` is who was asked, its `object` what for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
}

/// How a manual step stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ByHand {
    /// By when it is to be done.
    pub due: Timestamp,
    /// Whether that is over, and nobody says that it is done.
    pub overdue: bool,
    /// Who says that it is done, and what shows it.
    pub closed: Option<Closing>,
}

impl StepLine {
    /// Whether a person is still to do it.
    pub fn is_asked(&self) -> bool {
        self.by_hand.as_ref().is_some_and(|by_hand| by_hand.closed.is_none()) && self.waived.is_none()
    }
}

/// The steps as of `now`.
pub(super) fn steps(state: &RunState, records: &[Record], now: Timestamp) -> Vec<StepLine> {
    let mut starter: Option<&Actor> = None;
    let mut by: HashMap<&StepId, &Actor> = HashMap::new();
    for record in records {
        match (&record.event, starter) {
            (Event::Started { by }, _) => starter = Some(by),
            (Event::StepStarted { step, .. }, Some(actor)) => {
                by.insert(step, actor);
            }
            _ => {}
        }
    }
    let line = |s: &crate::model::StepState| {
        let (outcome, note, hint) = match &s.progress {
            StepProgress::Planned | StepProgress::Started if s.step.is_by_hand() => ("asked", None, None),
            StepProgress::Planned => ("planned", None, None),
            StepProgress::Started => ("started", None, None),
            StepProgress::Done { outcome: Outcome::Done { note } } => ("done", Some(note.clone()), None),
            StepProgress::Done { outcome: Outcome::AlreadyDone } => ("already-done", None, None),
            StepProgress::Done { outcome: Outcome::Absent } => ("absent", None, None),
            StepProgress::Failed { fault, last } => {
                (if *last { "stuck" } else { "failed" }, Some(fault.to_string()), fault.hint.clone())
            }
        };
        StepLine {
            id: s.step.id.clone(),
            stage: s.stage.clone(),
            action: s.step.action,
            system: s.step.system.clone(),
            place: place(state, &s.step.place).1,
            account: s.step.account.clone(),
            object: s.step.object.clone(),
            outcome,
            note: note.filter(|n| !n.trim().is_empty()),
            hint,
            attempts: s.attempts,
            started_at: s.started_at,
            done_at: s.done_at,
            by: by.get(&s.step.id).map(|actor| (*actor).clone()),
            reversible: s.step.reversible,
            waived: s.waived.clone(),
            restored: s.restored.is_some(),
            by_hand: s.step.due.map(|due| ByHand { due, overdue: s.is_overdue(now), closed: s.closed.clone() }),
        }
    };
    state.steps.iter().map(line).collect()
}

/// Access that was given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Given {
    /// The step that was taken back.
    pub step: StepId,
    /// What it had been.
    pub what: String,
    /// What was given back.
    pub note: String,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
}

pub(super) fn restored(state: &RunState) -> Vec<Given> {
    let given = |s: &crate::model::StepState| {
        let (at, by, note) = s.restored.clone()?;
        let what = format!("{} {} on {}", s.step.action, s.step.account, place(state, &s.step.place).1);
        Some(Given { step: s.step.id.clone(), what, note, at, by })
    };
    state.steps.iter().filter_map(given).collect()
}

/// An account that still got in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Control {
    /// On which system.
    pub system: SystemName,
    /// Which account.
    pub control: String,
    /// At how many places.
    pub places: usize,
    /// How often.
    pub times: usize,
    /// The last time.
    pub last: Timestamp,
}

pub(super) fn controls(state: &RunState, records: &[Record]) -> Vec<Control> {
    type Seen = (BTreeSet<String>, usize, Timestamp);
    let mut seen: BTreeMap<(SystemName, String), Seen> = BTreeMap::new();
    for record in records {
        let Event::Looked { door, at: LookAt::After, look } = &record.event else { continue };
        let (Some(control), Some(known)) = (&look.control, state.doors.get(door)) else { continue };
        let (system, address) = place(state, &known.door.place);
        let entry = seen.entry((system, control.clone())).or_insert_with(|| (Default::default(), 0, record.at));
        entry.0.insert(address);
        entry.1 += 1;
        entry.2 = entry.2.max(record.at);
    }
    let line = |((system, control), (places, times, last)): ((SystemName, String), Seen)| Control {
        system,
        control,
        places: places.len(),
        times,
        last,
    };
    seen.into_iter().map(line).collect()
}

/// Work began, or went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
}

pub(super) fn starts(records: &[Record]) -> Vec<Start> {
    let start = |record: &Record| match &record.event {
        Event::Started { by } => Some(Start { at: record.at, by: by.clone() }),
        _ => None,
    };
    records.iter().filter_map(start).collect()
}

/// How often it was looked after the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Looks, all doors together.
    pub times: usize,
    /// The first.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
}

pub(super) fn looked(records: &[Record]) -> Looked {
    let after = |record: &&Record| matches!(record.event, Event::Looked { at: LookAt::After, .. });
    let times: Vec<_> = records.iter().filter(after).map(|record| record.at).collect();
    Looked { times: times.len(), first: times.first().copied(), last: times.last().copied() }
}

/// A report that was written before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// When.
    pub at: Timestamp,
    /// In which form.
    pub format: String,
    /// SHA-256 of what was written.
    pub sha256: Digest,
}

pub(super) fn written(records: &[Record]) -> Vec<Written> {
    let line = |record: &Record| match &record.event {
        Event::Reported { format, sha256 } => {
            Some(Written { at: record.at, format: text::clean(format), sha256: sha256.clone() })
        }
        _ => None,
    };
    records.iter().filter_map(line).collect()
}
