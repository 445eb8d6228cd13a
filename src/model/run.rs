//! A run, folded from its records. `status`, `resume` and the report all read this one fold.

use super::{
    Account, Action, Actor, Clocks, Door, DoorId, Event, Fault, Finding, FindingKind, Look, LookAt, Outcome, Place,
    PlaceId, Record, RunRequest, RunVerdict, SealedId, Step, StepId, Verdict,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a step stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepProgress {
    /// Not begun.
    Planned,
    /// Begun; whether it took effect is not known until it is applied again.
    Started,
    /// Applied.
    Done {
        /// How.
        outcome: Outcome,
    },
    /// Failed.
    Failed {
        /// Why.
        fault: Fault,
        /// Whether it is stuck.
        last: bool,
    },
}

/// A written decision to give something up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// Why.
    pub why: String,
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// A step and its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    /// The step.
    pub step: Step,
    /// The playbook's stage.
    pub stage: String,
    /// Where it stands.
    pub progress: StepProgress,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was last begun.
    pub started_at: Option<Timestamp>,
    /// When it was done.
    pub done_at: Option<Timestamp>,
    /// Whether and why it was given up.
    pub waived: Option<Waiver>,
    /// When and by whom it was taken back.
    pub restored: Option<(Timestamp, Actor, String)>,
}

impl StepState {
    /// Whether it was applied (or there was nothing left to apply).
    pub fn is_done(&self) -> bool {
        matches!(self.progress, StepProgress::Done { .. })
    }
}

/// A door and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorState {
    /// The door.
    pub door: Door,
    /// When it was found.
    pub found_at: Timestamp,
    /// The look before, if it came in time.
    pub before: Option<(Timestamp, Look)>,
    /// The last look after.
    pub after: Option<(Timestamp, Look)>,
    /// When a look first proved it shut, with no open look since.
    pub shut_since: Option<Timestamp>,
}

/// A place and whether it could be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceState {
    /// The place.
    pub place: Place,
    /// When it was first reached.
    pub reached_at: Option<Timestamp>,
    /// Why it could not be reached, the last time, if it is still so.
    pub unreached: Option<Fault>,
    /// Whether and why it was given up.
    pub waived: Option<Waiver>,
}

/// Everything that the records of one run say.
#[derive(Clone, Debug)]
pub struct RunState {
    /// What was asked for.
    pub request: RunRequest,
    /// Every place of the configuration.
    pub places: BTreeMap<PlaceId, PlaceState>,
    /// Accounts by place and native id, without `facts`.
    pub accounts: BTreeMap<(PlaceId, String), (Account, Option<SealedId>)>,
    /// Doors that the leaver holds.
    pub doors: BTreeMap<DoorId, DoorState>,
    /// Steps, in the order in which they were planned.
    pub steps: Vec<StepState>,
    /// Findings, each once.
    pub findings: Vec<Finding>,
    /// What each place looked like when it was first seen.
    pub baselines: BTreeMap<PlaceId, serde_json::Value>,
    /// When work began.
    pub started: Option<Timestamp>,
    /// When the engine last stopped, and how the run then stood.
    pub ended: Option<(Timestamp, RunVerdict)>,
    /// Sealed values that are gone.
    pub destroyed: Vec<SealedId>,
}

impl RunState {
    /// Folds the records of one run. Nothing if they do not begin with [`Event::Requested`].
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Self> {
        let mut records = records.into_iter();
        let Event::Requested { request } = &records.next()?.event else { return None };
        let places = request
            .places
            .iter()
            .map(|place| {
                let state = PlaceState { place: place.clone(), reached_at: None, unreached: None, waived: None };
                (place.id.clone(), state)
            })
            .collect();
        let mut state = Self {
            request: (**request).clone(),
            places,
            accounts: BTreeMap::new(),
            doors: BTreeMap::new(),
            steps: Vec::new(),
            findings: Vec::new(),
            baselines: BTreeMap::new(),
            started: None,
            ended: None,
            destroyed: Vec::new(),
        };
        for record in records {
            state.apply(record.at, &record.event);
        }
        Some(state)
    }

    /// Takes in one more event.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Requested { .. } | Event::Reported { .. } => {}
            // Another kind of run: see `SweepState`.
            Event::SweepRequested { .. }
            | Event::SweepSeen { .. }
            | Event::SweepFound { .. }
            | Event::SweepEnded { .. } => {}
            Event::Started { .. } => {
                self.started.get_or_insert(at);
                self.ended = None;
                // What is still so is found again.
                self.findings.clear();
            }
            Event::Reached { place } => {
                if let Some(state) = self.places.get_mut(place) {
                    state.reached_at.get_or_insert(at);
                    state.unreached = None;
                }
            }
            Event::Unreached { place, fault, .. } => {
                if let Some(state) = self.places.get_mut(place) {
                    state.unreached = Some(fault.clone());
                }
            }
            Event::Baseline { place, seen } => {
                self.baselines.entry(place.clone()).or_insert_with(|| seen.clone());
            }
            Event::Found { account, facts } => self.found(at, account, facts.as_ref()),
            Event::Noted { finding } => {
                if !self.findings.contains(finding) {
                    self.findings.push(finding.clone());
                }
            }
            Event::Planned { stage, steps } => {
                for step in steps {
                    if self.step(&step.id).is_none() {
                        self.steps.push(StepState {
                            step: step.clone(),
                            stage: stage.clone(),
                            progress: StepProgress::Planned,
                            attempts: 0,
                            started_at: None,
                            done_at: None,
                            waived: None,
                            restored: None,
                        });
                    }
                }
            }
            Event::StepStarted { step, .. } => self.with_step(step, |s| {
                s.attempts += 1;
                s.started_at = Some(at);
                // What was done stays done while it is applied once more: the clocks must not forget when.
                if !s.is_done() {
                    s.progress = StepProgress::Started;
                }
            }),
            Event::StepDone { step, outcome } => self.with_step(step, |s| {
                // A second apply mostly says AlreadyDone; then what the first one changed stays on record. If it had to change
                // something again, it is done only now.
                if !s.is_done() || matches!(outcome, Outcome::Done { .. }) {
                    s.progress = StepProgress::Done { outcome: outcome.clone() };
                    s.done_at = Some(at);
                    // Done again, after it was taken back: it can be taken back again.
                    s.restored = None;
                }
            }),
            Event::StepFailed { step, fault, last } => self.with_step(step, |s| {
                s.progress = StepProgress::Failed { fault: fault.clone(), last: *last };
            }),
            Event::Looked { door, at: which, look } => {
                if let Some(state) = self.doors.get_mut(door) {
                    match which {
                        LookAt::Before => state.before = Some((at, look.clone())),
                        LookAt::After => {
                            match look.verdict {
                                Verdict::Shut { .. } => {
                                    state.shut_since.get_or_insert(at);
                                }
                                Verdict::Open { .. } | Verdict::Unproven { .. } => state.shut_since = None,
                            }
                            state.after = Some((at, look.clone()));
                        }
                    }
                }
            }
            Event::Waived { target, why, by } => {
                let waiver = Waiver { why: why.clone(), by: by.clone(), at };
                if let Some(place) = self.places.values_mut().find(|p| p.place.id.0 == *target) {
                    place.waived = Some(waiver);
                } else {
                    self.with_step(&StepId(target.clone()), |s| s.waived = Some(waiver));
                }
            }
            Event::Restored { step, note, by } => {
                self.with_step(step, |s| s.restored = Some((at, by.clone(), note.clone())));
                // What was proved before that proves nothing any more, until somebody looks again.
                let given_back = self.step(step).map(|s| s.step.shuts.clone()).unwrap_or_default();
                for (_, door) in self.doors.iter_mut().filter(|(id, _)| given_back.contains(id)) {
                    door.after = None;
                    door.shut_since = None;
                }
            }
            Event::Destroyed { sealed } => self.destroyed.push(sealed.clone()),
            Event::Ended { verdict } => self.ended = Some((at, *verdict)),
        }
    }

    fn found(&mut self, at: Timestamp, account: &Account, facts: Option<&SealedId>) {
        for door in &account.doors {
            self.doors.entry(door.id.clone()).or_insert_with(|| DoorState {
                door: door.clone(),
                found_at: at,
                before: None,
                after: None,
                shut_since: None,
            });
        }
        // The first sight of an account is its before-image; later ones only add doors.
        self.accounts
            .entry((account.place.clone(), account.native_id.clone()))
            .and_modify(|(known, _)| {
                for door in &account.doors {
                    if !known.doors.iter().any(|d| d.id == door.id) {
                        known.doors.push(door.clone());
                    }
                }
            })
            .or_insert_with(|| (account.clone(), facts.cloned()));
    }

    fn with_step(&mut self, id: &StepId, change: impl FnOnce(&mut StepState)) {
        if let Some(state) = self.steps.iter_mut().find(|s| s.step.id == *id) {
            change(state);
        }
    }

    /// The step of that name.
    pub fn step(&self, id: &StepId) -> Option<&StepState> {
        self.steps.iter().find(|s| s.step.id == *id)
    }

    /// Whether somebody gave a step of this door up: then the door counts as looked at, but does not hold the run back
    /// unless it is known to be open.
    fn is_waived(&self, door: &DoorState) -> bool {
        let place = self.places.get(&door.door.place).is_some_and(|p| p.waived.is_some());
        place || self.steps.iter().any(|s| s.waived.is_some() && s.step.shuts.contains(&door.door.id))
    }

    /// How the run stands. Worst wins. A walk that was cut off, or that goes on, has not seen everything: what is not found yet cannot
    /// count against it, so it is unproven at best.
    pub fn verdict(&self) -> RunVerdict {
        match self.ended {
            Some(_) => self.standing(),
            None => self.standing().max(RunVerdict::Unproven),
        }
    }

    /// How everything stands that is on record: the verdict of a walk that has come to its end.
    pub fn standing(&self) -> RunVerdict {
        let mut worst = RunVerdict::Shut;
        let mut at_least = |verdict: RunVerdict| worst = worst.max(verdict);
        // Somebody who can open nothing at all is more often somebody whom no rule matches.
        if self.accounts.is_empty() && self.places.values().any(|p| p.waived.is_none()) {
            at_least(RunVerdict::Unproven);
        }
        for place in self.places.values().filter(|p| p.waived.is_none()) {
            if place.reached_at.is_none() || place.unreached.is_some() {
                at_least(RunVerdict::Unproven);
            }
        }
        for step in self.steps.iter().filter(|s| s.waived.is_none()) {
            match &step.progress {
                StepProgress::Done { .. } => {}
                StepProgress::Failed { last: true, .. } => at_least(RunVerdict::Stuck),
                _ => at_least(RunVerdict::Unproven),
            }
        }
        for door in self.doors.values() {
            match door.after.as_ref().map(|(_, look)| &look.verdict) {
                Some(Verdict::Shut { .. }) => {}
                Some(Verdict::Open { .. }) => at_least(RunVerdict::Open),
                _ if self.is_waived(door) => {}
                _ => at_least(RunVerdict::Unproven),
            }
        }
        if self.findings.iter().any(|f| matches!(f.kind, FindingKind::Ambiguous | FindingKind::Unknown)) {
            at_least(RunVerdict::Unproven);
        }
        worst
    }

    /// The clocks that auditors ask for.
    pub fn clocks(&self) -> Clocks {
        let last_done = |wanted: fn(Action) -> bool| -> Option<Timestamp> {
            let of_kind = || self.steps.iter().filter(|s| wanted(s.step.action));
            if of_kind().any(|s| !s.is_done()) || self.places.values().any(|p| p.reached_at.is_none()) {
                return None;
            }
            of_kind().filter_map(|s| s.done_at).max().or(self.ended.map(|(at, _)| at))
        };
        let all_shut = self.verdict() == RunVerdict::Shut;
        let contained = last_done(|a| matches!(a, Action::Disable | Action::Revoke));
        let sessions_ended = last_done(|a| a == Action::EndSessions);
        let residuals = || self.doors.values().filter_map(|d| d.after.as_ref()?.1.residual.as_ref());
        let endless = residuals().any(|r| r.until.is_none());
        let last_possible_access = if all_shut && !endless {
            residuals().filter_map(|r| r.until).chain(contained).chain(sessions_ended).max()
        } else {
            None
        };
        Clocks {
            hr_effective: self.request.person.ends,
            requested: Some(self.request.requested_at),
            started: self.started,
            contained,
            sessions_ended,
            proved: if all_shut { self.doors.values().filter_map(|d| d.shut_since).max() } else { None },
            last_possible_access,
        }
    }
}
