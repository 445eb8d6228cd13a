//! A sweep: what nobody owns, what nobody uses, what outlived its owner; folded from its records. A sweep finds and reports, and
//! changes nothing.

use super::{
    Actor, DoorKind, Event, Fault, Finding, InputDigest, MatchRule, Person, PersonId, Place, PlaceId, Record,
    SystemName, WorkerStatus,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a sweep was started with. It does not change when the files change later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRequest {
    /// The playbook's name.
    pub playbook: String,
    /// Its summary.
    pub summary: String,
    /// The playbook itself as it was checked.
    pub playbook_body: serde_json::Value,
    /// Who asked.
    pub requested_by: Actor,
    /// When.
    pub requested_at: Timestamp,
    /// offboard.yaml, playbook, roster, keys, known_hosts.
    pub inputs: Vec<InputDigest>,
    /// Every place that the configuration names: what is not reached is missing from no report.
    pub places: Vec<Place>,
    /// The version of offboard.
    pub version: String,
}

/// Why an account, or one credential in it, is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SweepKind {
    /// Its owner has left.
    Lingering,
    /// No person matches.
    Orphan,
    /// More than one person matches: nobody guesses whose it is. Looked for together with orphans.
    Ambiguous,
    /// Its owner works here, and it is not used.
    Dormant,
}

impl std::fmt::Display for SweepKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lingering => "lingering",
            Self::Orphan => "orphan",
            Self::Ambiguous => "ambiguous",
            Self::Dormant => "dormant",
        })
    }
}

/// Somebody whose account or credential it is, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPerson {
    /// The roster's identifier.
    pub id: PersonId,
    /// The name.
    pub name: String,
    /// Whom to ask after them.
    pub manager: Option<PersonId>,
    /// Where they stand.
    pub status: WorkerStatus,
    /// When employment ends or ended, if HR gave it.
    pub ends: Option<Timestamp>,
    /// By which rule they match, if exactly one person does.
    pub rule: Option<MatchRule>,
}

impl SweepPerson {
    /// The roster's row, as far as it matters here.
    pub fn new(person: &Person, rule: Option<MatchRule>) -> Self {
        Self {
            id: person.id.clone(),
            name: person.name.clone(),
            manager: person.manager.clone(),
            status: person.status,
            ends: person.ends,
            rule,
        }
    }
}

/// One account, or one credential in an account, that is found. Its text is for people and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepFinding {
    /// Why.
    pub kind: SweepKind,
    /// The system.
    pub system: SystemName,
    /// Every place of it where it is so.
    pub places: Vec<PlaceId>,
    /// The account as the places call it.
    pub account: String,
    /// For people to read.
    pub name: String,
    /// The one credential that is meant (a key's fingerprint), if not the whole account.
    pub credential: Option<String>,
    /// Whether the account can do more than others.
    pub privileged: bool,
    /// How it can be entered.
    pub ways: Vec<DoorKind>,
    /// Nobody for an orphan, the owner, or everybody who matches.
    pub owner: Vec<SweepPerson>,
    /// The last use that is on record.
    pub last_used: Option<Timestamp>,
    /// Since when it is so: the end of the owner's employment, or the last use.
    pub since: Option<Timestamp>,
    /// Why it is found, a sentence.
    pub why: String,
    /// What to do next, a sentence or a command.
    pub next: String,
    /// By what it is excepted, if it is: it is listed, and does not count.
    pub excepted: Option<String>,
}

/// What one place showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepSeen {
    /// Accounts that it listed.
    pub accounts: u64,
    /// Of these, the ones that can be entered; the others are in no finding.
    pub open: u64,
    /// Accounts of people who work here of which nobody can say whether they are used.
    pub unknown: u64,
    /// Why not.
    pub because: Option<String>,
    /// What could not be read.
    pub unread: Vec<Finding>,
}

/// A place, and what it showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPlace {
    /// The place.
    pub place: Place,
    /// What it showed, if it was read to its end.
    pub seen: Option<SweepSeen>,
    /// Why it could not be read.
    pub unreached: Option<Fault>,
}

/// Everything that the records of one sweep say.
#[derive(Clone, Debug)]
pub struct SweepState {
    /// What was asked for.
    pub request: SweepRequest,
    /// Every place that the playbook asks about.
    pub places: BTreeMap<PlaceId, SweepPlace>,
    /// What was found, in the order of kind, system and account; what is excepted among it.
    pub findings: Vec<SweepFinding>,
    /// When work began.
    pub started: Option<Timestamp>,
    /// When it ended; nothing if it was cut off, or goes on.
    pub ended: Option<Timestamp>,
    /// Which limits are passed, a sentence: then the roster or a rule is more likely wrong than so many accounts.
    pub over_limit: Option<String>,
}

impl SweepState {
    /// Folds the records of one sweep. Nothing if they do not begin with [`Event::SweepRequested`].
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Self> {
        let mut records = records.into_iter();
        let Event::SweepRequested { request } = &records.next()?.event else { return None };
        let place = |place: &Place| SweepPlace { place: place.clone(), seen: None, unreached: None };
        let mut state = Self {
            places: request.places.iter().map(|p| (p.id.clone(), place(p))).collect(),
            request: (**request).clone(),
            findings: Vec::new(),
            started: None,
            ended: None,
            over_limit: None,
        };
        for record in records {
            state.apply(record.at, &record.event);
        }
        Some(state)
    }

    /// Takes in one more event.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Started { .. } => {
                self.started.get_or_insert(at);
            }
            Event::Unreached { place, fault, .. } => {
                if let Some(state) = self.places.get_mut(place) {
                    state.unreached = Some(fault.clone());
                }
            }
            Event::SweepSeen { place, seen } => {
                if let Some(state) = self.places.get_mut(place) {
                    state.seen = Some(seen.clone());
                    state.unreached = None;
                }
            }
            Event::SweepFound { findings } => self.findings.extend(findings.iter().cloned()),
            Event::SweepEnded { over_limit } => {
                self.ended = Some(at);
                self.over_limit = over_limit.clone();
            }
            _ => {}
        }
    }

    /// What is found and not excepted.
    pub fn found(&self) -> impl Iterator<Item = &SweepFinding> {
        self.findings.iter().filter(|f| f.excepted.is_none())
    }

    /// What is found, but excepted.
    pub fn excepted(&self) -> impl Iterator<Item = &SweepFinding> {
        self.findings.iter().filter(|f| f.excepted.is_some())
    }

    /// Whether everything that was asked could be answered: every place was read, and of every account that was asked about somebody
    /// can say whether it is used. Unknown is never "not dormant".
    pub fn is_whole(&self) -> bool {
        self.ended.is_some()
            && self.places.values().all(|p| p.seen.as_ref().is_some_and(|s| s.unknown == 0 && s.unread.is_empty()))
    }

    /// Accounts, each place counting, that `findings` are about.
    pub fn accounts_of<'a>(findings: impl IntoIterator<Item = &'a SweepFinding>) -> usize {
        let each = findings.into_iter().flat_map(|f| f.places.iter().map(move |place| (place, &f.account)));
        each.collect::<BTreeSet<_>>().len()
    }
}

/// What a sweep comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SweepVerdict {
    /// Everything was answered, and nothing is found that is not excepted.
    Clear,
    /// Nothing is found, but not everything could be looked at.
    Unproven,
    /// Something is found.
    Found,
}

impl std::fmt::Display for SweepVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Clear => "clear",
            Self::Unproven => "unproven",
            Self::Found => "found",
        })
    }
}

impl SweepState {
    /// What it comes to.
    pub fn verdict(&self) -> SweepVerdict {
        match (self.found().next().is_some(), self.is_whole()) {
            (true, _) => SweepVerdict::Found,
            (false, false) => SweepVerdict::Unproven,
            (false, true) => SweepVerdict::Clear,
        }
    }
}
