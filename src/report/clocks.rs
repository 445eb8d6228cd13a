//! The clocks that auditors ask for, against the limits that the run was started with.
//!
//! A limit counts from the termination: from the moment HR names, if that had come when work began; otherwise from the
//! hour that the run was scheduled for, or the request (somebody who is dismissed at noon is in the roster until midnight). A moment that is not proved is no moment:
//! the clock goes on until every door behind it is shut.

use super::text::span;
use crate::model::{Action, DoorKind, DoorState, Proof, RunState, StepState, SystemName, Verdict};
use jiff::Timestamp;
use serde::Serialize;

/// From where the limits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The moment at which employment ended, as the roster has it.
    HrEffective,
    /// The hour for which the run was scheduled last.
    Scheduled,
    /// The moment at which the run was asked for.
    Requested,
}

/// Every clock of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Clocks {
    /// When employment ends, by the roster.
    pub hr_effective: Option<Timestamp>,
    /// When the run was asked for.
    pub requested: Timestamp,
    /// When work began.
    pub started: Option<Timestamp>,
    /// When the last login was disabled and the last credential revoked, if every one of these doors is proved shut.
    pub contained: Option<Timestamp>,
    /// When the last session was ended, if none was seen since.
    pub sessions_ended: Option<Timestamp>,
    /// When the last door was proved shut.
    pub proved: Option<Timestamp>,
    /// The last moment at which anything could still have worked. Nothing: not known, or not over.
    pub last_possible_access: Option<Timestamp>,
    /// What the limits count from.
    pub counted_from: Basis,
    /// That moment.
    pub from: Timestamp,
    /// Each configured limit and how it was met.
    pub limits: Vec<Limit>,
    /// The same for each system, in the configuration's order.
    pub systems: Vec<SystemClock>,
}

/// How a limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Met {
    /// In time.
    Kept,
    /// Too late, or not yet and already too late.
    Breached,
    /// Not yet, and there is time left.
    Running,
    /// This version has no such clock.
    NotMeasured,
}

/// One configured limit.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// As the configuration names it: `access-disabled`.
    pub name: String,
    /// Where the limit comes from, if a preset set it: `FedRAMP High, NIST SP 800-53r5 PS-4`.
    pub source: Option<String>,
    /// Which clock it is about: `contained`.
    pub clock: Option<&'static str>,
    /// How long it may take, in seconds.
    pub seconds: i64,
    /// When it was reached.
    pub reached: Option<Timestamp>,
    /// How long it took from [`Clocks::from`], in whole seconds, rounded up; so far, if it is not reached.
    pub taken: i64,
    /// Seconds to spare; below zero: over the limit.
    pub margin: i64,
    /// Seconds from the other moment, the one that the limit does not count from; below zero: it came before that moment.
    pub taken_otherwise: Option<i64>,
    /// The result.
    pub met: Met,
}

/// One system's doors and clocks.
#[derive(Clone, Debug, Serialize)]
pub struct SystemClock {
    /// Which.
    pub system: SystemName,
    /// Its places.
    pub places: usize,
    /// Of these, not reached.
    pub unreached: usize,
    /// Doors found there.
    pub doors: usize,
    /// Shut because the server itself refused.
    pub refused: usize,
    /// Shut by the server's own listing.
    pub read_back: usize,
    /// Neither shut nor known to be open.
    pub unproven: usize,
    /// Open.
    pub open: usize,
    /// As [`Clocks::contained`], here.
    pub contained: Option<Timestamp>,
    /// As [`Clocks::sessions_ended`], here.
    pub sessions_ended: Option<Timestamp>,
    /// The latest end of anything that outlives its door.
    pub residual_until: Option<Timestamp>,
    /// Something outlives its door, and nobody knows how long.
    pub residual_endless: bool,
}

impl Clocks {
    /// The clocks of `state` as of `now`.
    pub fn of(state: &RunState, now: Timestamp) -> Self {
        let told = state.clocks();
        let requested = state.request.requested_at;
        let hr = told.hr_effective;
        let (counted_from, from) = match hr {
            Some(ends) if ends <= told.started.unwrap_or(now) => (Basis::HrEffective, ends),
            // Who asks on Monday for Friday means Friday.
            _ => match state.scheduled.last() {
                Some((due, _)) => (Basis::Scheduled, (*due).max(requested)),
                None => (Basis::Requested, requested),
            },
        };
        let reached_all = state.places.values().all(|p| p.reached_at.is_some() && p.unreached.is_none());
        let all = |session: bool| reached_all && state.doors.values().filter(|d| is_session(d) == session).all(is_shut);
        let contained = told.contained.filter(|_| all(false));
        // Where there was no session to end, none is there once nobody can log in any more.
        let ends_sessions = state.steps.iter().any(|s| s.step.action == Action::EndSessions);
        let mut clocks = Self {
            hr_effective: hr,
            requested,
            started: told.started,
            contained,
            sessions_ended: told.sessions_ended.filter(|_| all(true) && (ends_sessions || contained.is_some())),
            proved: told.proved,
            last_possible_access: told.last_possible_access,
            counted_from,
            from,
            limits: Vec::new(),
            systems: systems(state),
        };
        let other = match counted_from {
            Basis::HrEffective => Some(requested),
            Basis::Requested | Basis::Scheduled => hr,
        };
        if state.cancelled.is_some() {
            return clocks;
        }
        clocks.limits =
            (state.request.limits.iter()).map(|(name, seconds)| limit(&clocks, name, *seconds, other, now)).collect();
        clocks
    }
}

impl Limit {
    /// The result in words: `kept, 58 min to spare`.
    pub fn result(&self) -> String {
        match self.met {
            Met::Kept => format!("kept, {} to spare", span(self.margin)),
            Met::Breached if self.reached.is_some() => format!("breached by {}", span(self.margin)),
            Met::Breached => format!("breached by {} so far", span(self.margin)),
            Met::Running => format!("not yet, {} left", span(self.margin)),
            Met::NotMeasured => "not measured by this version".to_string(),
        }
    }
}

fn limit(clocks: &Clocks, name: &str, seconds: i64, other: Option<Timestamp>, now: Timestamp) -> Limit {
    // `access-disabled (FedRAMP High …)`: which clock, and where the limit comes from.
    let (key, source) = match name.split_once('(') {
        Some((key, source)) => (key.trim(), Some(source.trim().trim_end_matches(')').to_string())),
        None => (name.trim(), None),
    };
    let (clock, reached) = match key.replace(['_', ' '], "-").as_str() {
        "access-disabled" | "contained" => (Some("contained"), clocks.contained),
        "sessions-ended" => (Some("sessions_ended"), clocks.sessions_ended),
        "proved" | "verified" => (Some("proved"), clocks.proved),
        "last-possible-access" => (Some("last_possible_access"), clocks.last_possible_access),
        _ => (None, None),
    };
    let until = reached.unwrap_or(now);
    let taken = whole_seconds(clocks.from, until);
    let met = match (clock, taken > seconds, reached) {
        (None, ..) => Met::NotMeasured,
        (_, true, _) => Met::Breached,
        (_, false, Some(_)) => Met::Kept,
        (_, false, None) => Met::Running,
    };
    let taken_otherwise = other.map(|other| whole_seconds(other, until));
    let name = key.to_string();
    Limit { name, source, clock, seconds, reached, taken, margin: seconds - taken, taken_otherwise, met }
}

/// Whole seconds from `from` to `to`, rounded up: nothing looks faster than it was.
pub fn whole_seconds(from: Timestamp, to: Timestamp) -> i64 {
    let milliseconds = to.as_millisecond() - from.as_millisecond();
    milliseconds.div_euclid(1000) + i64::from(milliseconds.rem_euclid(1000) > 0)
}

fn systems(state: &RunState) -> Vec<SystemClock> {
    let mut names: Vec<SystemName> = Vec::new();
    for place in &state.request.places {
        if !names.contains(&place.system) {
            names.push(place.system.clone());
        }
    }
    names.into_iter().map(|name| system(state, name)).collect()
}

fn system(state: &RunState, name: SystemName) -> SystemClock {
    let places: Vec<_> = state.places.values().filter(|p| p.place.system == name).collect();
    let doors: Vec<_> = state.doors.values().filter(|d| places.iter().any(|p| p.place.id == d.door.place)).collect();
    let steps: Vec<_> = state.steps.iter().filter(|s| s.step.system == name).collect();
    let unreached = places.iter().filter(|p| p.reached_at.is_none() || p.unreached.is_some()).count();
    let proved = |wanted: Proof| {
        let same = |d: &&&DoorState| matches!(verdict(d), Some(Verdict::Shut { proof, .. }) if *proof == wanted);
        doors.iter().filter(same).count()
    };
    let (refused, read_back) = (proved(Proof::Refused), proved(Proof::ReadBack));
    let open = doors.iter().filter(|d| matches!(verdict(d), Some(Verdict::Open { .. }))).count();
    let last = |session: bool, wanted: fn(&StepState) -> bool| {
        let mut of_kind = steps.iter().filter(|s| wanted(s)).peekable();
        let shut = doors.iter().filter(|d| is_session(d) == session).all(|d| is_shut(d));
        let done = unreached == 0 && shut && steps.iter().filter(|s| wanted(s)).all(|s| s.is_done());
        if done && of_kind.peek().is_some() { of_kind.filter_map(|s| s.done_at).max() } else { None }
    };
    let residuals: Vec<_> = doors.iter().filter_map(|d| d.after.as_ref()?.1.residual.as_ref()).collect();
    SystemClock {
        places: places.len(),
        unreached,
        doors: doors.len(),
        refused,
        read_back,
        open,
        unproven: doors.len() - refused - read_back - open,
        contained: match state.request.secret() {
            Some(_) => last(false, |s| s.step.action == Action::Rotate),
            None => last(false, |s| matches!(s.step.action, Action::Disable | Action::Revoke)),
        },
        sessions_ended: last(true, |s| s.step.action == Action::EndSessions),
        residual_until: residuals.iter().filter_map(|r| r.until).max(),
        residual_endless: residuals.iter().any(|r| r.until.is_none()),
        system: name,
    }
}

fn verdict(door: &DoorState) -> Option<&Verdict> {
    door.after.as_ref().map(|(_, look)| &look.verdict)
}

fn is_shut(door: &DoorState) -> bool {
    matches!(verdict(door), Some(Verdict::Shut { .. }))
}

/// Sessions and jobs are ended; every other door is locked.
fn is_session(door: &DoorState) -> bool {
    matches!(door.door.kind, DoorKind::Session | DoorKind::Job)
}
