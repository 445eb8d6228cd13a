//! One line a door: before, after, the proof, the server's own words, and what is left.

use crate::model::{
    Action, DoorId, DoorKind, DoorState, Event, Look, LookAt, MatchRule, Owner, PersonId, PlaceId, Proof, Record,
    Residual, RunState, StepId, StepState, SystemName, Verdict, Waiver,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;

/// A door's verdict in a word. Never looked at is unproven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It opens.
    Open,
    /// It is proved shut.
    Shut,
    /// Nobody can say.
    Unproven,
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Shut => "shut",
            Self::Unproven => "unproven",
        })
    }
}

/// One door.
#[derive(Clone, Debug, Serialize)]
pub struct DoorLine {
    /// The door's name: `place|account|kind|object`.
    pub id: DoorId,
    /// The system.
    pub system: SystemName,
    /// The place as people name it: a host, or host and port.
    pub place: String,
    /// The place's name, unique in the run.
    pub place_id: PlaceId,
    /// The account, as the place names it.
    pub account: String,
    /// The account's name for people, where it differs.
    pub account_name: Option<String>,
    /// Whether the account may do more than an ordinary one.
    pub privileged: bool,
    /// What kind of way in.
    pub kind: DoorKind,
    /// Which one of its kind: a fingerprint, a group.
    pub object: String,
    /// Files, options, addresses.
    pub detail: String,
    /// By which rule it was matched to the leaver; nothing if it is not the leaver's alone.
    pub matched_by: Option<MatchRule>,
    /// What was done to shut it; nothing if no step was planned.
    pub action: Option<Action>,
    /// The steps that shut it.
    pub steps: Vec<StepId>,
    /// Before the steps.
    pub before: Word,
    /// When that was seen.
    pub before_at: Option<Timestamp>,
    /// The server's words then, or why nothing is known.
    pub before_reply: String,
    /// After the steps.
    pub after: Word,
    /// When that was seen, the last time.
    pub after_at: Option<Timestamp>,
    /// How strong the proof is, if it is shut.
    pub proof: Option<Proof>,
    /// The server's own words, or why nothing is known.
    pub reply: String,
    /// Who still got in by the same way at the same time.
    pub control: Option<String>,
    /// What may outlive the door.
    pub residual: Option<Residual>,
    /// Until when; nothing with a residual means that nobody knows.
    pub residual_until: Option<Timestamp>,
    /// Since when it is proved shut.
    pub shut_since: Option<Timestamp>,
    /// It had been proved shut and was seen open later.
    pub reopened: bool,
    /// How often it was looked at after the steps.
    pub looks: usize,
    /// The journal's records of the look before and of the last look.
    pub records: Vec<u64>,
    /// Who gave it up, in writing.
    pub waived: Option<Waiver>,
}

/// What the records say of a door beyond its last state.
#[derive(Default)]
struct History {
    before: Option<u64>,
    after: Option<u64>,
    looks: usize,
    was_shut: bool,
}

/// Every door of the run: places in the configuration's order, then account, kind and object.
pub(super) fn lines(state: &RunState, records: &[Record]) -> Vec<DoorLine> {
    let mut histories: HashMap<&DoorId, History> = HashMap::new();
    for record in records {
        let Event::Looked { door, at, look } = &record.event else { continue };
        let history = histories.entry(door).or_default();
        match at {
            LookAt::Before => history.before = Some(record.seq),
            LookAt::After => {
                history.after = Some(record.seq);
                history.looks += 1;
                history.was_shut |= matches!(look.verdict, Verdict::Shut { .. });
            }
        }
    }
    let order: HashMap<&PlaceId, usize> = state.request.places.iter().enumerate().map(|(i, p)| (&p.id, i)).collect();
    let mut steps: HashMap<&DoorId, Vec<&StepState>> = HashMap::new();
    for step in &state.steps {
        step.step.shuts.iter().for_each(|door| steps.entry(door).or_default().push(step));
    }
    let mut lines: Vec<DoorLine> = (state.doors.values())
        .map(|door| {
            let steps = steps.get(&door.door.id).map_or(&[] as &[_], Vec::as_slice);
            line(state, door, steps, histories.get(&door.door.id))
        })
        .collect();
    lines.sort_by(|a, b| {
        let key = |d: &DoorLine| order.get(&d.place_id).copied().unwrap_or(usize::MAX);
        (key(a), &a.place_id, &a.account, a.kind, &a.object).cmp(&(key(b), &b.place_id, &b.account, b.kind, &b.object))
    });
    lines
}

fn line(state: &RunState, door: &DoorState, steps: &[&StepState], history: Option<&History>) -> DoorLine {
    let (system, place) = place(state, &door.door.place);
    let account = state.accounts.get(&(door.door.place.clone(), door.door.account.clone())).map(|(account, _)| account);
    let no_look = |when: &str| Look::unproven(format!("no look came back {when}"));
    let before = door.before.as_ref().map_or_else(|| no_look("before the steps"), |(_, look)| look.clone());
    let after = door.after.as_ref().map_or_else(|| no_look("after the steps"), |(_, look)| look.clone());
    let (before_word, _, before_reply) = said(before.verdict);
    let (after_word, proof, reply) = said(after.verdict);
    let waived_place = state.places.get(&door.door.place).and_then(|p| p.waived.clone());
    let history = history.unwrap_or(&History { before: None, after: None, looks: 0, was_shut: false });
    DoorLine {
        id: door.door.id.clone(),
        system,
        place,
        place_id: door.door.place.clone(),
        account: door.door.account.clone(),
        account_name: account.filter(|a| a.name != a.native_id && !a.name.is_empty()).map(|a| a.name.clone()),
        privileged: account.is_some_and(|a| a.privileged),
        kind: door.door.kind,
        object: door.door.object.clone(),
        detail: door.door.detail.clone(),
        matched_by: state.request.person().and_then(|p| matched(&door.door.holder, &p.id, account.map(|a| &a.owner))),
        action: steps.first().map(|s| s.step.action),
        steps: steps.iter().map(|s| s.step.id.clone()).collect(),
        before: before_word,
        before_at: door.before.as_ref().map(|(at, _)| *at),
        before_reply,
        after: after_word,
        after_at: door.after.as_ref().map(|(at, _)| *at),
        proof,
        reply,
        control: after.control,
        residual_until: after.residual.as_ref().and_then(|r| r.until),
        residual: after.residual,
        shut_since: door.shut_since,
        reopened: after_word == Word::Open && history.was_shut,
        looks: history.looks,
        records: history.before.into_iter().chain(history.after).collect(),
        waived: waived_place.or_else(|| steps.iter().find_map(|s| s.waived.clone())),
    }
}

fn said(verdict: Verdict) -> (Word, Option<Proof>, String) {
    match verdict {
        Verdict::Shut { proof, reply } => (Word::Shut, Some(proof), reply),
        Verdict::Open { reply } => (Word::Open, None, reply),
        Verdict::Unproven { why } => (Word::Unproven, None, why),
    }
}

/// A door of one's own account is as sure as the account: then the account's rule is named.
fn matched(holder: &Owner, leaver: &PersonId, account: Option<&Owner>) -> Option<MatchRule> {
    match (holder, account) {
        (Owner::Person { id, rule: MatchRule::OwnAccount }, Some(Owner::Person { rule, .. })) if id == leaver => {
            Some(rule.clone())
        }
        (Owner::Person { id, rule }, _) if id == leaver => Some(rule.clone()),
        _ => None,
    }
}

/// A place's system and address; also of one that the configuration no longer had when the run was asked for.
pub(super) fn place(state: &RunState, id: &PlaceId) -> (SystemName, String) {
    match state.places.get(id) {
        Some(known) => (known.place.system.clone(), known.place.address.clone()),
        None => match id.0.split_once('/') {
            Some((system, address)) => (SystemName(system.to_string()), address.to_string()),
            None => (SystemName(id.0.clone()), id.0.clone()),
        },
    }
}
