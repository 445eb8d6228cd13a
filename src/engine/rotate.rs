//! Replaces what the leaver knew: a secret that programs share. One chain over several systems: every participant goes through `create`, `set`,
//! `test` and `finish`, the source before the consumers, and no phase begins before the one before it is done by all of them.
//!
//! - `create` changes nothing. What is known to fail fails here, and the consumers say the value that they log in with now.
//! - Then the new value is made, and both are sealed in the journal, before anything is set anywhere.
//! - `set` at the source, then at every consumer; `test` at all of them; `finish` ends what the old value had opened.
//!
//! Each turn is a journaled step. After a crash the same chain is walked again with the same values: what is done is not done again, what was
//! begun is. A turn that fails ends this secret's chain and no other's; the playbook's deadline says how long it is tried again.
//!
//! Where something else sets the account's password (a static role of a Vault), that takes part as the *setter*: it says the value at `create`, its `set` comes
//! before the source's, and what it has set is sealed at once. Nobody can seal it before.
//!
//! A waived step takes its participant out: the rotation goes on without that consumer, or, at the source or its setter, not at all.
//!
//! A run may also be about a secret alone, though nobody leaves: then this is all of it. However many runs want to rotate one secret, one does
//! at a time.

mod all;
mod alone;
mod chain;
mod health;
mod links;
mod setter;

pub(super) use all::Rotations;
pub use alone::{DraftRotation, rotation_playbook};
pub use health::{PartHealth, SecretHealth};
pub(super) use links::Links;

use super::Engine;
use crate::connector::Connector;
use crate::model::{
    Account, Action, CouldRead, Door, DoorId, DoorKind, Fault, FaultKind, Identity, KeptFile, KeyFormat, MatchRule,
    Owner, Part, Period, Person, Phase, Place, PlaceId, RunState, SecretName, Seen, SharedSecret, Step, StepId,
    StepState, SystemName, short_id,
};
use crate::playbook::Playbook;
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PHASES: [Phase; 4] = [Phase::Create, Phase::Set, Phase::Test, Phase::Finish];

/// One participant of a rotation.
struct Participant {
    connector: Arc<dyn Connector>,
    place: Place,
    part: Part,
}

/// A secret that may be rotated, with everybody who takes part.
pub(super) struct Rotation {
    name: SecretName,
    /// Why the leaver may know it; or, where nobody leaves, why it is rotated.
    why: Vec<String>,
    /// What gets the new value.
    source: Participant,
    /// Where two accounts alternate: the one that programs leave.
    former: Option<Participant>,
    /// Where the source is an account that a private key opens: others that it opens as well.
    also: Vec<Participant>,
    /// What sets the source's password, where that is not the source.
    setter: Option<Participant>,
    consumers: Vec<Participant>,
    /// For how long after `set` the `finish` waits.
    overlap: Option<Period>,
    /// See [`SharedSecret::one_by_one`].
    one_by_one: bool,
}

impl Participant {
    /// For people.
    fn name(&self) -> String {
        match &self.part {
            Part::Source { account }
            | Part::Former { account }
            | Part::Checked { account }
            | Part::Authorized { account, .. } => format!("{account} at {}", self.place.id),
            Part::Setter(role) => format!("{} at {}", role.path, self.place.id),
            Part::SourceFile(kept) | Part::Consumer(kept) => format!("{} at {}", kept.file, self.place.id),
            Part::ConsumerPath(kept) => format!("{} at {}", kept.path, self.place.id),
        }
    }
}

impl Rotation {
    /// Where values are checked: the account that gets the new one, the other one where two alternate, and whatever else a private key opens.
    fn checking(&self) -> impl Iterator<Item = &Participant> {
        std::iter::once(&self.source).chain(&self.former).chain(&self.also)
    }

    /// One of those at each of their places.
    fn checking_places(&self) -> Vec<&Participant> {
        let mut places = BTreeMap::new();
        for participant in self.checking() {
            places.entry(&participant.place.id).or_insert(participant);
        }
        places.into_values().collect()
    }

    fn everybody(&self) -> impl Iterator<Item = &Participant> {
        self.setter.iter().chain(self.checking()).chain(&self.consumers)
    }

    /// By number: the consumers in their order, the source, the other account where two alternate, or the setter where there is one, and what else a
    /// private key opens.
    fn numbered(&self, index: usize) -> &Participant {
        let others = self.former.iter().chain(&self.setter).chain(&self.also);
        self.consumers.iter().chain([&self.source]).chain(others).nth(index).unwrap_or(&self.source)
    }

    /// How many take part.
    fn count(&self) -> usize {
        self.everybody().count()
    }

    /// The ways in that the old values are: the leaver's, if somebody leaves. That of the source first.
    fn doors(&self, leaver: Option<&Person>) -> Vec<Door> {
        let what = match self.source.part {
            Part::Authorized { .. } => "private key of a program",
            Part::SourceFile(KeptFile { format: KeyFormat::WireGuard, .. }) => "preshared key of a tunnel",
            _ => "password of a program",
        };
        let detail = format!("{what}; {}", self.why.join(", "));
        let door = |participant: &Participant| {
            let (account, _) = participant.part.object();
            let (place, kind) = (&participant.place.id, DoorKind::SharedSecret);
            let mut door = Door::new(place, account, kind, &self.name.0, detail.clone());
            if let Some(leaver) = leaver {
                door.holder = Owner::Person { id: leaver.id.clone(), rule: MatchRule::KnowsSecret };
            }
            door
        };
        self.checking().map(door).collect()
    }

    fn door_ids(&self) -> Vec<DoorId> {
        self.doors(None).into_iter().map(|door| door.id).collect()
    }

    /// The door of the value that the programs log in with until they get the new one; and that of the account that they get it for.
    fn old_and_new(&self) -> (DoorId, DoorId) {
        let mut ids = self.door_ids().into_iter();
        let of_source = ids.next().unwrap_or_else(|| DoorId(String::new()));
        let of_former = ids.next().filter(|_| self.former.is_some());
        (of_former.unwrap_or_else(|| of_source.clone()), of_source)
    }

    /// The doors of what else a private key opens.
    fn also_doors(&self) -> Vec<DoorId> {
        let mut ids = self.door_ids();
        ids.split_off(ids.len() - self.also.len())
    }

    /// Under which door it is kept what a participant saw: the source's or the former's; a consumer's under one that does not change when accounts do.
    fn keeps(&self, participant: &Participant) -> DoorId {
        let (old, new) = self.old_and_new();
        match participant.part {
            Part::Authorized { .. } => {
                let mut doors = self.doors(None).into_iter();
                let own = doors.find(|d| d.place == participant.place.id && d.account == participant.part.object().0);
                own.map_or(new, |door| door.id)
            }
            Part::Source { .. } | Part::Checked { .. } | Part::Setter(_) | Part::SourceFile(_) => new,
            Part::Former { .. } => old,
            Part::Consumer(_) | Part::ConsumerPath(_) => old.min(new),
        }
    }

    fn step(&self, participant: &Participant, phase: Phase) -> Step {
        let (account, key) = participant.part.object();
        let object = format!("{}: {phase} {key}", self.name).trim_end().to_string();
        Step {
            id: StepId(short_id(&[&participant.place.id.0, account, "rotate", &object])),
            action: Action::Rotate,
            system: participant.place.system.clone(),
            place: participant.place.id.clone(),
            account: account.to_string(),
            object,
            shuts: self.door_ids(),
            reversible: false,
            due: None,
        }
    }

    /// What a participant saw until now.
    fn seen(&self, state: &RunState, participant: &Participant) -> Option<Seen> {
        let step = self.step(participant, Phase::Create).id;
        state.secrets.get(&self.keeps(participant)).and_then(|secret| secret.seen.get(&step)).cloned()
    }

    /// The account that the programs logged in with when they were last asked, where two alternate; more than one, if they differ.
    fn users(&self, state: &RunState) -> BTreeSet<String> {
        let (given_up, asked): (Vec<_>, Vec<_>) = self.consumers.iter().partition(|p| self.is_waived(state, p));
        let of = |participants: Vec<&Participant>| -> BTreeSet<String> {
            participants.into_iter().filter_map(|p| self.seen(state, p)?.user).collect()
        };
        let users = of(asked);
        // Who was given up does not decide, unless nobody else is left: what was begun goes on in the same direction.
        if users.is_empty() { of(given_up) } else { users }
    }

    /// Which of two accounts is the one that programs leave follows from what they log in with now. Says whether it is one of the two.
    fn turn_to(&mut self, user: &str) -> bool {
        let Part::Source { account: next } = &mut self.source.part else { return false };
        let Some(Participant { part: Part::Former { account: former }, .. }) = &mut self.former else { return false };
        if next == user {
            std::mem::swap(next, former);
        }
        former == user
    }

    /// Whether any of its steps was given up: then it takes no further part.
    fn is_waived(&self, state: &RunState, participant: &Participant) -> bool {
        PHASES.iter().any(|phase| {
            let id = self.step(participant, *phase).id;
            state.step(&id).is_some_and(|step| step.waived.is_some())
        })
    }

    /// The accounts whose password it is, as far as they are concerned.
    fn accounts(&self, leaver: Option<&Person>) -> Vec<Account> {
        let account = |door: Door| Account {
            system: self.source.place.system.clone(),
            place: door.place.clone(),
            native_id: door.account.clone(),
            name: door.account.clone(),
            enabled: true,
            identity: Identity::default(),
            owner: Owner::Service,
            privileged: false,
            last_used: None,
            doors: vec![door],
            facts: serde_json::Value::Null,
        };
        self.doors(leaver).into_iter().map(account).collect()
    }

    /// Whether the source has begun to take the new value, or its setter to set it.
    fn is_begun(&self, state: &RunState) -> bool {
        let begun = |p| state.step(&self.step(p, Phase::Set).id).is_some_and(|s| s.attempts > 0);
        self.setter.iter().chain([&self.source]).any(begun)
    }

    /// The first turn that is still to be taken, phase by phase; nobody's if the source or its setter was given up.
    fn left(&self, state: &RunState, phases: &[Phase]) -> Option<(Phase, &Participant)> {
        if self.setter.iter().chain([&self.source]).any(|p| self.is_waived(state, p)) {
            return None;
        }
        let taking_part = || self.everybody().filter(|p| !self.is_waived(state, p));
        let mut turns = phases.iter().flat_map(|phase| taking_part().map(move |p| (*phase, p)));
        turns.find(|(phase, p)| !state.step(&self.step(p, *phase).id).is_some_and(|step| step.is_done()))
    }

    fn steps(&self) -> Vec<Step> {
        PHASES.iter().flat_map(|phase| self.everybody().map(|p| self.step(p, *phase))).collect()
    }
}

/// The first turn that is still to be taken in a rotation that has begun to set the new value. By the record alone: the secret may be gone from
/// the configuration. Whoever was given up takes no part, and nobody does if that is the source or its setter.
fn half_rotated(state: &RunState) -> Option<String> {
    let doors = state.secrets.keys().filter_map(|id| state.doors.get(id));
    doors.map(|d| &d.door).find_map(|door| half_rotated_at(state, door))
}

fn half_rotated_at(state: &RunState, door: &Door) -> Option<String> {
    let begins = format!("{}: ", door.object);
    // Of each turn: whose it is, its phase, and the step.
    let turns = || {
        state.steps.iter().filter(|s| s.step.action == Action::Rotate && s.step.shuts.contains(&door.id)).filter_map(
            |s| {
                let words = s.step.object.strip_prefix(&begins)?;
                let (phase, key) = words.split_once(' ').unwrap_or((words, ""));
                Some(((&s.step.place, s.step.account.as_str(), key), phase.to_string(), s))
            },
        )
    };
    let source = (&door.place, door.account.as_str(), "");
    // A consumer has a key, and whatever else checks the value has a door of its own: what is left is the setter.
    let checks = |who: &(&PlaceId, &str, &str)| {
        let doors = state.doors.values().map(|d| &d.door).filter(|d| d.kind == DoorKind::SharedSecret);
        doors.filter(|d| d.object == door.object).any(|d| d.place == *who.0 && d.account == who.1)
    };
    let sets = |who: &(&PlaceId, &str, &str)| *who == source || (who.2.is_empty() && !checks(who));
    let gone: Vec<_> = turns().filter(|(.., s)| s.waived.is_some()).map(|(who, ..)| who).collect();
    // Of several doors the first is the source's: without that, nobody goes on.
    let first = turns().find_map(|(.., s)| state.doors.get(s.step.shuts.first()?)).map(|d| &d.door);
    if first.is_some_and(|first| gone.contains(&(&first.place, first.account.as_str(), ""))) {
        return None;
    }
    let begun = turns().any(|(who, phase, s)| sets(&who) && phase == Phase::Set.to_string() && s.attempts > 0);
    if !begun || gone.iter().any(sets) {
        return None;
    }
    let takes_part = turns().map(|(who, ..)| who).filter(|who| !gone.contains(who)).collect::<Vec<_>>();
    let is_done = |who, wanted: &str| turns().any(|(w, phase, s)| w == who && phase == wanted && s.is_done());
    PHASES[1..].iter().map(Phase::to_string).find_map(|phase| {
        let left = takes_part.iter().find(|who| !is_done(**who, &phase))?;
        Some(format!("`{phase}` of secret {} at {}", door.object, left.0))
    })
}

/// Where a secret is kept.
struct Kept<'a> {
    system: &'a SystemName,
    /// The place; nothing where the system has but one.
    place: Option<&'a str>,
    /// The file or path.
    what: Cow<'a, str>,
}

impl Kept<'_> {
    /// What people call the place, if it is this one.
    fn address<'p>(&self, place: &'p PlaceId) -> Option<&'p str> {
        let address = place.0.strip_prefix(&self.system.0)?.strip_prefix('/')?;
        self.place.is_none_or(|name| name == address).then_some(address)
    }
}

/// The files on hosts, and the paths, in which the secret is kept: its source's, its setter's, and its consumers'.
fn kept(secret: &SharedSecret) -> impl Iterator<Item = Kept<'_>> {
    let source = &secret.source;
    let file = (&source.system, source.place.as_deref(), source.file.as_deref().map(Cow::Borrowed));
    let setter = source.setter.as_ref().zip(source.account.as_deref()).map(|(setter, account)| {
        let role = setter.static_role(account);
        (&setter.system, setter.place.as_deref(), role.map(|role| Cow::Owned(role.credentials())))
    });
    let consumers = secret.consumers.iter().map(|c| {
        let what = c.file.as_deref().or(c.path.as_deref());
        (&c.system, c.place.as_deref(), what.map(Cow::Borrowed))
    });
    std::iter::once(file)
        .chain(setter)
        .chain(consumers)
        .filter_map(|(system, place, what)| Some(Kept { system, place, what: what? }))
}

/// What a run has done to shared secrets: when the source took the new value, where the rotation is done; nothing, where it has stopped half
/// way. What was not begun, or was done to a part of the participants only because the source was given up, is not among them.
pub fn rotated(state: &RunState) -> Vec<(SecretName, Option<Timestamp>)> {
    let doors = state.secrets.keys().filter_map(|id| state.doors.get(id)).map(|d| &d.door);
    let of = |door: &Door| {
        let name = SecretName(door.object.clone());
        let at_source = |phase: Phase| {
            let object = format!("{name}: {phase}");
            let found = |s: &&StepState| {
                s.step.action == Action::Rotate
                    && s.step.object == object
                    && s.step.place == door.place
                    && s.step.account == door.account
            };
            state.steps.iter().find(found)
        };
        if half_rotated_at(state, door).is_some() {
            return Some((name, None));
        }
        let finished = at_source(Phase::Finish).is_some_and(StepState::is_done);
        let set = at_source(Phase::Set).and_then(|s| s.done_at).filter(|_| finished)?;
        Some((name, Some(set)))
    };
    doors.filter_map(of).collect()
}

/// The stage in which the playbook rotates what the leaver knew, and whether it means systems of that family.
fn stage_for(playbook: &Playbook, connector: &dyn Connector) -> Option<String> {
    let family = connector.manifest().family;
    let rotates = |stage: &&crate::playbook::Stage| {
        stage.steps.iter().any(|rule| rule.action == Action::Rotate && rule.covers(family))
    };
    playbook.stages.iter().find(rotates).map(|stage| stage.stage.clone())
}

impl Engine {
    /// With the secrets that programs share.
    #[must_use]
    pub fn with_secrets(mut self, secrets: BTreeMap<SecretName, SharedSecret>) -> Self {
        self.secrets = secrets;
        self
    }

    /// The files and paths at the place in which shared secrets are kept.
    pub(super) fn files_of_secrets(&self, place: &Place) -> Vec<String> {
        let here =
            |secret| kept(secret).filter(|kept| kept.address(&place.id).is_some()).map(|kept| kept.what.to_string());
        let files: BTreeSet<String> = self.secrets.values().flat_map(here).collect();
        files.into_iter().collect()
    }

    /// The secrets that `person` may know: by what is found `now`, or by what runs of theirs have found `before`.
    pub(super) fn known_to(&self, person: &Person, now: &Evidence, before: &Evidence) -> Vec<Result<Rotation, Fault>> {
        let mut known = Vec::new();
        for (name, secret) in &self.secrets {
            let mut why = now.reasons(secret, person);
            let earlier = before.reasons(secret, person).into_iter().filter(|reason| !why.contains(reason));
            let earlier: Vec<String> = earlier.map(|reason| format!("{reason}, as an earlier run found")).collect();
            why.extend(earlier);
            if !why.is_empty() {
                known.push(self.rotation(name, secret, why));
            }
        }
        known
    }

    fn rotation(&self, name: &SecretName, secret: &SharedSecret, why: Vec<String>) -> Result<Rotation, Fault> {
        let places = self.places();
        let at = |system: &crate::model::SystemName, address: Option<&String>, part: Part| {
            let found =
                places.iter().find(|(_, place)| place.system == *system && address.is_none_or(|a| place.address == *a));
            let (connector, place) = found.cloned().ok_or_else(|| {
                let place = address.cloned().unwrap_or_default();
                Fault::new(FaultKind::Misconfigured, format!("secret {name}: {system} has no place {place:?}"))
                    .hint("correct it in offboard.yaml")
            })?;
            Ok(Participant { connector, place, part })
        };
        let no_part = || {
            Fault::new(FaultKind::Misconfigured, format!("secret {name}: it is not said where the value is kept"))
                .hint("correct it in offboard.yaml")
        };
        let checking = |part| at(&secret.source.system, secret.source.place.as_ref(), part);
        let first = secret.source.part().ok_or_else(no_part)?;
        // Until they say otherwise, programs log in with the first.
        let (source, former) = match (first, secret.source.alternate.clone()) {
            (Part::Source { account }, Some(next)) => {
                (checking(Part::Source { account: next })?, Some(checking(Part::Former { account })?))
            }
            (first, _) => (checking(first)?, None),
        };
        let own = secret.source.authorizes.as_ref();
        let also = secret.source.also.iter().map(|other| {
            let account = other.authorizes.as_ref().or(own).cloned().ok_or_else(no_part)?;
            at(&secret.source.system, Some(&other.place), Part::Authorized { account, also: Vec::new() })
        });
        let mut also = also.collect::<Result<Vec<_>, Fault>>()?;
        let mut source = source;
        let opened: Vec<(PlaceId, String)> = std::iter::once(&source)
            .chain(&also)
            .map(|p| (p.place.id.clone(), p.part.object().0.to_string()))
            .collect();
        for participant in std::iter::once(&mut source).chain(&mut also) {
            if let Part::Authorized { account, also } = &mut participant.part {
                let here = opened.iter().filter(|(place, other)| *place == participant.place.id && other != account);
                *also = here.map(|(_, other)| other.clone()).collect();
            }
        }
        let setter = match (&secret.source.setter, &secret.source.account) {
            (Some(setter), Some(account)) => {
                let role = setter.static_role(account).ok_or_else(no_part)?;
                Some(at(&setter.system, setter.place.as_ref(), Part::Setter(role))?)
            }
            _ => None,
        };
        let users: Vec<String> = secret.source.account.iter().chain(&secret.source.alternate).cloned().collect();
        let consumers = secret.consumers.iter().map(|c| {
            let mut part = c.part().ok_or_else(no_part)?;
            match &mut part {
                Part::Consumer(kept) => kept.users.clone_from(&users),
                Part::ConsumerPath(kept) => kept.users.clone_from(&users),
                Part::Source { .. }
                | Part::Former { .. }
                | Part::Checked { .. }
                | Part::Authorized { .. }
                | Part::Setter(_)
                | Part::SourceFile(_) => {}
            }
            at(&c.system, c.place.as_ref(), part)
        });
        let (consumers, overlap) = (consumers.collect::<Result<_, Fault>>()?, secret.overlap);
        let one_by_one = secret.one_by_one;
        Ok(Rotation { name: name.clone(), why, source, former, also, setter, consumers, overlap, one_by_one })
    }

    /// The accounts and steps of the secrets that `person` may know, for a draft: place, account, and steps with their stage.
    pub(super) fn draft_rotations(
        &self,
        person: &Person,
        playbook: Option<&Playbook>,
        found: &Evidence,
    ) -> Vec<(Account, Vec<(String, Step)>)> {
        let mut drafts = Vec::new();
        for rotation in self.known_to(person, found, &Evidence::default()).into_iter().flatten() {
            let stage = playbook.and_then(|playbook| stage_for(playbook, &*rotation.source.connector));
            let mut steps = match stage {
                Some(stage) => rotation.steps().into_iter().map(|step| (stage.clone(), step)).collect(),
                None => Vec::new(),
            };
            for account in rotation.accounts(Some(person)) {
                drafts.push((account, std::mem::take(&mut steps)));
            }
        }
        drafts
    }
}

/// What says who may know a secret, besides `offboard.yaml`.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// Groups and roles.
    memberships: Vec<String>,
    could_read: Vec<CouldRead>,
}

impl Evidence {
    pub fn new<'a>(doors: impl IntoIterator<Item = &'a Door>, could_read: Vec<CouldRead>) -> Self {
        let memberships = doors.into_iter().filter(|door| door.kind == DoorKind::Membership);
        Self { memberships: memberships.map(|door| door.object.clone()).collect(), could_read }
    }

    /// What a run has on record.
    pub fn of(state: &RunState) -> Self {
        Self::new(state.doors.values().map(|d| &d.door), state.could_read.clone())
    }

    pub fn extend(&mut self, more: Self) {
        self.memberships.extend(more.memberships);
        self.could_read.extend(more.could_read);
    }

    /// Why `person`, about whom this was found, may know the secret; a few words each.
    fn reasons(&self, secret: &SharedSecret, person: &Person) -> Vec<String> {
        let mut why = secret.known_to.reasons(person, self.memberships.iter().map(String::as_str));
        for kept in kept(secret) {
            let read = || {
                let found = self.could_read.iter();
                found.filter(|found| kept.address(&found.place).is_some() && found.file == kept.what)
            };
            let address = read().find_map(|found| kept.address(&found.place)).unwrap_or_default();
            let reasons = CouldRead::reasons(read(), address);
            why.extend(reasons.into_iter().filter(|reason| !why.contains(reason)).collect::<Vec<_>>());
        }
        why
    }
}
