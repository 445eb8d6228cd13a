//! Whose a key is: what was declared, and what a run learns from one place for all others.

use super::folded;
use crate::model::{Account, DoorKind, Fingerprint, MatchRule, Owner, PersonId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What is known of keys before anything is looked at.
#[derive(Debug, Default)]
pub(super) struct KnownKeys {
    /// The keys that offboard itself logs in with.
    pub own: BTreeSet<Fingerprint>,
    /// Declared in `offboard.yaml`.
    pub declared: BTreeMap<Fingerprint, BTreeSet<PersonId>>,
}

/// What a run has learned about keys so far. It only grows, and all places of a run share it: a key that a directory declares for
/// the leaver is looked for on every host.
#[derive(Debug)]
pub struct LearnedKeys {
    known: Arc<KnownKeys>,
    learned: Mutex<Learned>,
}

#[derive(Debug, Default)]
struct Learned {
    /// Declared by directory entries that are a person's.
    declared: BTreeMap<Fingerprint, BTreeSet<PersonId>>,
    /// Found in accounts that are a person's own.
    found: BTreeMap<Fingerprint, BTreeSet<PersonId>>,
    /// Found in break-glass and service accounts.
    protected: BTreeSet<Fingerprint>,
}

/// Whose a key is, as far as is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyHolder {
    /// It is ours.
    Ourselves,
    /// Of one person, by this rule; `by_directory`: nothing but directory entries says so.
    Person { id: PersonId, rule: MatchRule, by_directory: bool },
    /// Of more than one person, or of a person and a protected account.
    Ambiguous(Vec<PersonId>),
    /// Nobody knows.
    Unknown,
}

impl LearnedKeys {
    pub(super) fn new(known: Arc<KnownKeys>) -> Self {
        Self { known, learned: Mutex::default() }
    }

    /// Learns from an account that [`super::Matcher::assign`] has seen: the keys that a person's directory entry declares and the
    /// keys in a person's own accounts. Returns whether there was anything new, so that places that were discovered before are
    /// matched again.
    ///
    /// Our own keys are never learned, nor a key that is declared for somebody else, nor a key of a protected account.
    pub fn learn(&self, account: &Account) -> bool {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = || account.doors.iter().filter(|door| door.kind == DoorKind::SshKey);
        let mut new = false;
        match &account.owner {
            Owner::Person { id, .. } => {
                for key in account.identity.declared_keys.iter().filter(|key| !self.known.own.contains(key)) {
                    new |= learned.declared.entry(key.clone()).or_default().insert(id.clone());
                }
                for door in keys() {
                    let key = Fingerprint(door.object.clone());
                    let elsewhere = |declared: &BTreeMap<Fingerprint, BTreeSet<PersonId>>| {
                        declared.get(&key).is_some_and(|people| !people.contains(id))
                    };
                    if !self.known.own.contains(&key)
                        && !elsewhere(&self.known.declared)
                        && !elsewhere(&learned.declared)
                    {
                        new |= learned.found.entry(key).or_default().insert(id.clone());
                    }
                }
            }
            Owner::BreakGlass | Owner::Service => {
                for door in keys() {
                    let key = Fingerprint(door.object.clone());
                    if !self.known.own.contains(&key) {
                        new |= learned.protected.insert(key);
                    }
                }
            }
            Owner::Ambiguous { .. } | Owner::Shared | Owner::Ourselves | Owner::Nobody => {}
        }
        new
    }

    /// Whose `key` is. What `offboard.yaml` declares counts more than a directory, and a directory more than where a key lies.
    pub(super) fn holder(&self, key: &Fingerprint) -> KeyHolder {
        if self.known.own.contains(key) {
            return KeyHolder::Ourselves;
        }
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let declared = self.known.declared.get(key);
        let by_directory = declared.is_none();
        let (people, rule) = match declared.or_else(|| learned.declared.get(key)) {
            Some(people) => (people, MatchRule::DeclaredKey),
            None => match learned.found.get(key) {
                Some(people) => (people, MatchRule::KeyInOwnAccount),
                None => return KeyHolder::Unknown,
            },
        };
        let mut ids = people.iter();
        match (ids.next(), ids.next()) {
            // A key that lies in a person's account *and* in a protected one may be either's.
            (Some(id), None) if rule != MatchRule::KeyInOwnAccount || !learned.protected.contains(key) => {
                KeyHolder::Person { id: id.clone(), rule, by_directory }
            }
            _ => KeyHolder::Ambiguous(people.iter().cloned().collect()),
        }
    }

    /// Every key that is known to be `person`'s and nobody else's.
    pub fn keys_of(&self, person: &PersonId) -> BTreeSet<Fingerprint> {
        let candidates: BTreeSet<Fingerprint> = {
            let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            let maps = [&self.known.declared, &learned.declared, &learned.found];
            maps.into_iter().flat_map(BTreeMap::keys).cloned().collect()
        };
        let theirs = |key: &Fingerprint| matches!(self.holder(key), KeyHolder::Person { id, .. } if folded(&id.0) == folded(&person.0));
        candidates.into_iter().filter(theirs).collect()
    }
}
