//! A run, folded from its records. `status`, `resume` and the report all read this one fold.

use super::{
    Account, Action, Actor, Clocks, CouldRead, Door, DoorId, Event, Evidence, Fault, Finding, FindingKind, Look,
    LookAt, Outcome, Place, PlaceId, Record, RunRequest, RunVerdict, SealedId, Seen, Step, StepId, Verdict, Which,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

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

/// Somebody's word that a manual step is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// What was done, in their words.
    pub note: Option<String>,
    /// What shows it.
    pub evidence: Option<Evidence>,
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
    /// By whom it was closed, if a person was asked to do it by hand.
    pub closed: Option<Closing>,
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

    /// Whether somebody is still to do it by hand.
    pub fn is_asked(&self) -> bool {
        self.step.is_by_hand() && !self.is_done() && self.waived.is_none()
    }

    /// Whether somebody should have done it by `now`, and nobody says that it is done.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.is_asked() && self.step.due.is_some_and(|due| due < now)
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

/// A shared secret that this run rotates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretState {
    /// Where the value is sealed that the leaver may know.
    pub old: Option<SealedId>,
    /// Where the new value is sealed.
    pub new: Option<SealedId>,
    /// What each participant saw, by the step that it came from.
    pub seen: BTreeMap<StepId, Seen>,
}

/// Everything that the records of one run say.
#[derive(Clone, Debug)]
pub struct RunState {
    /// What was asked for, with the places that the configuration has come to name since.
    pub request: RunRequest,
    /// Every place of the configuration.
    pub places: BTreeMap<PlaceId, PlaceState>,
    /// Accounts by place and native id, without `facts`.
    pub accounts: BTreeMap<(PlaceId, String), (Account, Option<SealedId>)>,
    /// Files of shared secrets that the leaver could read.
    pub could_read: Vec<CouldRead>,
    /// Doors that the leaver holds.
    pub doors: BTreeMap<DoorId, DoorState>,
    /// Steps, in the order in which they were planned.
    pub steps: Vec<StepState>,
    /// Where each of them stands in that list.
    positions: HashMap<StepId, usize>,
    /// Findings, each once.
    pub findings: Vec<Finding>,
    /// What each place looked like when it was first seen.
    pub baselines: BTreeMap<PlaceId, serde_json::Value>,
    /// For when it was scheduled, and by whom, every time.
    pub scheduled: Vec<(Timestamp, Actor)>,
    /// When it was last prepared for that.
    pub prepared: Option<Timestamp>,
    /// When, why and by whom it was cancelled.
    pub cancelled: Option<(Timestamp, String, Actor)>,
    /// Shared secrets by their doors.
    pub secrets: BTreeMap<DoorId, SecretState>,
    /// When work began.
    pub started: Option<Timestamp>,
    /// When the engine last stopped, and how the run then stood.
    pub ended: Option<(Timestamp, RunVerdict)>,
    /// When the last walk came to its end; looks that were made since do not count.
    pub walked: Option<Timestamp>,
    /// Whether its report was written after that.
    pub is_reported: bool,
    /// How often in a row the engine has stopped with the run not shut.
    pub tries: u32,
    /// Sealed values that are gone.
    pub destroyed: Vec<SealedId>,
}

impl RunState {
    /// Folds the records of one run. Nothing if they do not begin with [`Event::Requested`].
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Self> {
        let mut records = records.into_iter();
        let Event::Requested { request } = &records.next()?.event else { return None };
        let mut state = Self {
            request: RunRequest { places: Vec::new(), ..(**request).clone() },
            places: BTreeMap::new(),
            accounts: BTreeMap::new(),
            could_read: Vec::new(),
            doors: BTreeMap::new(),
            steps: Vec::new(),
            positions: HashMap::new(),
            findings: Vec::new(),
            baselines: BTreeMap::new(),
            scheduled: Vec::new(),
            prepared: None,
            cancelled: None,
            secrets: BTreeMap::new(),
            started: None,
            ended: None,
            walked: None,
            is_reported: false,
            tries: 0,
            destroyed: Vec::new(),
        };
        state.add(&request.places);
        for record in records {
            state.apply(record.at, &record.event);
        }
        Some(state)
    }

    /// Takes in one more event.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Requested { .. } => {}
            Event::Reported { .. } => self.is_reported = self.walked.is_some(),
            Event::Scheduled { at, by } => {
                self.scheduled.push((*at, by.clone()));
                // What was seen for another hour is old.
                self.prepared = None;
            }
            Event::Prepared => self.prepared = Some(at),
            Event::Cancelled { why, by } => self.cancelled = Some((at, why.clone(), by.clone())),
            Event::Renewed { places, inputs } => self.renewed(places, inputs),
            // Another kind of run: see `SweepState`.
            Event::SweepRequested { .. }
            | Event::SweepSeen { .. }
            | Event::SweepFound { .. }
            | Event::SweepEnded { .. } => {}
            Event::Started { .. } => {
                self.started.get_or_insert(at);
                self.ended = None;
                self.walked = None;
                self.is_reported = false;
                // What is still so is found again.
                self.findings.clear();
            }
            Event::PlacesAdded { places } => self.add(places),
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
            Event::CouldRead { found } => {
                for one in found {
                    if !self.could_read.contains(one) {
                        self.could_read.push(one.clone());
                    }
                }
            }
            Event::Noted { finding } => {
                if !self.findings.contains(finding) {
                    self.findings.push(finding.clone());
                }
            }
            Event::Planned { stage, steps } => {
                for step in steps {
                    if self.step(&step.id).is_none() {
                        self.positions.insert(step.id.clone(), self.steps.len());
                        self.steps.push(StepState {
                            step: step.clone(),
                            stage: stage.clone(),
                            progress: StepProgress::Planned,
                            attempts: 0,
                            started_at: None,
                            done_at: None,
                            closed: None,
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
            Event::SecretSealed { door, which, sealed } => {
                let secret = self.secrets.entry(door.clone()).or_default();
                match which {
                    Which::Old => secret.old = Some(sealed.clone()),
                    Which::New => secret.new = Some(sealed.clone()),
                }
            }
            Event::SecretSeen { door, step, seen } => {
                self.secrets.entry(door.clone()).or_default().seen.entry(step.clone()).or_default().merge(seen);
            }
            Event::Waived { target, why, by } => {
                let waiver = Waiver { why: why.clone(), by: by.clone(), at };
                if let Some(place) = self.places.values_mut().find(|p| p.place.id.0 == *target) {
                    place.waived = Some(waiver);
                } else {
                    self.with_step(&StepId(target.clone()), |s| s.waived = Some(waiver));
                }
            }
            Event::Restoring { step, .. } => self.forget_looks(step),
            Event::Closed { step, note, evidence, by } => self.with_step(step, |s| {
                let note = note.clone();
                s.progress = StepProgress::Done { outcome: Outcome::Done { note: note.clone().unwrap_or_default() } };
                s.done_at = Some(at);
                s.closed = Some(Closing { note, evidence: evidence.clone(), by: by.clone(), at });
            }),
            Event::Restored { step, note, by } => {
                self.with_step(step, |s| s.restored = Some((at, by.clone(), note.clone())));
                self.forget_looks(step);
            }
            Event::Destroyed { sealed } => {
                for secret in self.secrets.values_mut() {
                    for value in [&mut secret.old, &mut secret.new] {
                        value.take_if(|id| id == sealed);
                    }
                }
                self.destroyed.push(sealed.clone());
            }
            Event::Ended { verdict } => {
                self.ended = Some((at, *verdict));
                self.walked.get_or_insert(at);
                self.tries = if *verdict == RunVerdict::Shut { 0 } else { self.tries + 1 };
            }
        }
    }

    fn add(&mut self, places: &[Place]) {
        for place in places {
            if !self.places.contains_key(&place.id) {
                let state = PlaceState { place: place.clone(), reached_at: None, unreached: None, waived: None };
                self.places.insert(place.id.clone(), state);
                self.request.places.push(place.clone());
            }
        }
    }

    /// What was proved before access is given back proves nothing any more, until somebody looks again. Not only of the doors that the step
    /// had shut: who may log in again may have a session again, and replicas hand on to each other what is changed on one of them. So of every
    /// door of that account, wherever in the system it is.
    fn forget_looks(&mut self, step: &StepId) {
        let Some(step) = self.step(step).map(|s| s.step.clone()) else { return };
        let system = |place: &PlaceId| self.places.get(place).map(|p| &p.place.system);
        let same = |door: &Door| {
            step.shuts.contains(&door.id) || (door.account == step.account && system(&door.place) == Some(&step.system))
        };
        for door in self.doors.values_mut().filter(|d| same(&d.door)) {
            door.after = None;
            door.shut_since = None;
        }
    }

    fn renewed(&mut self, places: &[Place], inputs: &[super::InputDigest]) {
        self.request.places = places.to_vec();
        self.request.inputs = inputs.to_vec();
        // A place that is gone keeps what was found there; one that nothing is known of is only not asked any more.
        self.places.retain(|id, state| state.reached_at.is_some() || places.iter().any(|p| p.id == *id));
        for place in places {
            self.places.entry(place.id.clone()).or_insert_with(|| PlaceState {
                place: place.clone(),
                reached_at: None,
                unreached: None,
                waived: None,
            });
        }
    }

    /// The hour that it waits for; nothing if it was never scheduled, has begun or was cancelled.
    pub fn waits_until(&self) -> Option<Timestamp> {
        let waits = self.started.is_none() && self.cancelled.is_none();
        self.scheduled.last().filter(|_| waits).map(|(at, _)| *at)
    }

    /// Whether any access was given back: then what is open was opened on purpose.
    pub fn is_restored(&self) -> bool {
        self.steps.iter().any(|s| s.restored.is_some())
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
        if let Some(at) = self.positions.get(id) {
            change(&mut self.steps[*at]);
        }
    }

    /// The step of that name.
    pub fn step(&self, id: &StepId) -> Option<&StepState> {
        self.positions.get(id).map(|at| &self.steps[*at])
    }

    /// Whether somebody gave a step of this door, or its place, up.
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

    /// Whether nothing is queued any more: all is shut, or what is not was given up in writing. That is no verdict: a waiver is a
    /// decision, and proves nothing.
    pub fn is_settled(&self) -> bool {
        !self.is_resumable() && !self.steps.iter().any(StepState::is_asked)
    }

    /// Whether `resume` has anything to do: what is left for people does not count, nor what was given up in writing.
    pub fn is_resumable(&self) -> bool {
        self.cancelled.is_none() && (self.ended.is_none() || self.worst(true) != RunVerdict::Shut)
    }

    /// Where the values of shared secrets are sealed, the old and the new ones, as far as they are not destroyed.
    pub fn sealed_secrets(&self) -> Vec<SealedId> {
        self.secrets.values().flat_map(|s| s.old.iter().chain(&s.new)).cloned().collect()
    }

    /// How everything stands that is on record: the verdict of a walk that has come to its end. What people still have to do by hand
    /// keeps it from being shut.
    pub fn standing(&self) -> RunVerdict {
        let by_hand = self.steps.iter().any(|s| s.step.is_by_hand() && !s.is_done());
        self.access().max(if by_hand { RunVerdict::Unproven } else { RunVerdict::Shut })
    }

    /// As [`RunState::standing`], without what people do by hand: a laptop that nobody has brought back opens no account. What was
    /// waived is not stuck any more, but unproven; of doors only those that no look has proved shut all the same.
    pub fn access(&self) -> RunVerdict {
        let waived = self.worst(true);
        let unproven = self.worst(false).min(RunVerdict::Unproven);
        waived.max(unproven)
    }

    /// The worst of everything but manual steps; with `forgiven`, of everything that was not waived. A waiver does not hide what is
    /// known to be open.
    fn worst(&self, forgiven: bool) -> RunVerdict {
        let mut worst = RunVerdict::Shut;
        let mut at_least = |verdict: RunVerdict| worst = worst.max(verdict);
        let counts = |waiver: &Option<Waiver>| !forgiven || waiver.is_none();
        // Somebody who can open nothing at all is more often somebody whom no rule matches.
        if self.accounts.is_empty() && self.places.values().any(|p| counts(&p.waived)) {
            at_least(RunVerdict::Unproven);
        }
        for place in self.places.values().filter(|p| counts(&p.waived)) {
            if place.reached_at.is_none() || place.unreached.is_some() {
                at_least(RunVerdict::Unproven);
            }
        }
        for step in self.steps.iter().filter(|s| counts(&s.waived) && !s.step.is_by_hand()) {
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
                _ if forgiven && self.is_waived(door) => {}
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
        let all_shut = self.ended.is_some() && self.access() == RunVerdict::Shut;
        let contained = match self.request.secret() {
            Some(_) => last_done(|a| a == Action::Rotate),
            None => last_done(|a| matches!(a, Action::Disable | Action::Revoke)),
        };
        let sessions_ended = last_done(|a| a == Action::EndSessions);
        let rotates = self.steps.iter().any(|s| s.step.action == Action::Rotate);
        let rotated = last_done(|a| a == Action::Rotate).filter(|_| rotates);
        let residuals = || self.doors.values().filter_map(|d| d.after.as_ref()?.1.residual.as_ref());
        let endless = residuals().any(|r| r.until.is_none());
        let last_possible_access = if all_shut && !endless {
            residuals().filter_map(|r| r.until).chain(contained).chain(sessions_ended).chain(rotated).max()
        } else {
            None
        };
        Clocks {
            hr_effective: self.request.person().and_then(|person| person.ends),
            requested: Some(self.request.requested_at),
            started: self.started,
            contained,
            sessions_ended,
            proved: if all_shut { self.doors.values().filter_map(|d| d.shut_since).max() } else { None },
            last_possible_access,
        }
    }
}
