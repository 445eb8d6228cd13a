//! What stood on a host when the run first saw it, so that a key which appears later can be told from what was there; and who
//! could have put it there.

use super::survey::Survey;
use crate::model::{Fingerprint, PersonId};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What was there. Keys are kept as digests: enough to know one again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Account and key.
    pairs: BTreeSet<String>,
    /// Keys alone.
    keys: BTreeSet<String>,
    /// Accounts that a person logs in to, and so can write to, by person.
    writable: BTreeMap<PersonId, BTreeSet<String>>,
    /// Accounts of others in which a key of the person's stood.
    held: BTreeMap<PersonId, BTreeSet<String>>,
    /// Who could do here whatever they liked.
    #[serde(default)]
    roots: BTreeSet<PersonId>,
}

impl Baseline {
    /// What `survey` shows.
    pub fn of(survey: &Survey) -> Self {
        let mut seen = Self::default();
        for standing in &survey.standing {
            seen.pairs.insert(pair(&survey.file_of(standing).account, &standing.fingerprint));
            seen.keys.insert(pair("", &standing.fingerprint));
        }
        seen
    }

    /// Whether the key stood in that account.
    pub fn has(&self, account: &str, key: &Fingerprint) -> bool {
        self.pairs.contains(&pair(account, key))
    }

    /// Whether the key stood on the host at all.
    pub fn knows(&self, key: &Fingerprint) -> bool {
        self.keys.contains(&pair("", key))
    }

    /// Remembers that `person` can write to `account`.
    pub fn may_write(&mut self, person: &PersonId, account: &str) {
        self.writable.entry(person.clone()).or_default().insert(account.into());
    }

    /// Remembers that a key of `person` stood in `account`.
    pub fn holds(&mut self, person: &PersonId, account: &str) {
        self.held.entry(person.clone()).or_default().insert(account.into());
    }

    /// Remembers that `person` was root here, or could become it.
    pub fn was_root(&mut self, person: &PersonId) {
        self.roots.insert(person.clone());
    }

    /// Whether anybody in scope was root here, or could become it.
    pub fn has_root(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Accounts of others in which a key of anybody in scope stands or stood.
    pub fn held(&self) -> BTreeSet<&str> {
        self.held.values().flatten().map(String::as_str).collect()
    }

    /// Who could write to `account`.
    pub fn writers<'a>(&'a self, account: &'a str) -> impl Iterator<Item = &'a PersonId> {
        self.writable
            .iter()
            .filter(move |(_, accounts)| accounts.contains(account))
            .map(|(person, _)| person)
    }

    /// Whether a key of anybody in scope stands or stood in `account`.
    pub fn is_held(&self, account: &str) -> bool {
        self.held.values().any(|accounts| accounts.contains(account))
    }
}

/// 96 bits of SHA-256: nobody finds a key that is taken for one that was there.
fn pair(account: &str, key: &Fingerprint) -> String {
    let mut hash = Sha256::new();
    hash.update(account.as_bytes());
    hash.update([0]);
    hash.update(key.0.as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..12])
}
