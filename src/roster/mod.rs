//! Who works here, and whose an account is.
//!
//! People come from a feed (this version: a CSV file); [`Matcher`] then says of every account and every door whose it is, by
//! which rule, or that nobody can say. The roster is strict: whoever reads it must be able to trust that two people are not one,
//! and that one is not two.

mod csv;
mod keys;
mod lookalike;
mod matching;
mod search;

use crate::model::{Fingerprint, InputDigest, Person, PersonId, SystemName};
use crate::source::Mistake;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

pub use csv::zone;
pub use keys::LearnedKeys;
pub use matching::Matcher;

/// Everybody who works here, or did.
#[derive(Clone, Debug)]
pub struct Roster {
    people: Vec<Person>,
    by_id: HashMap<String, usize>,
    by_mail: HashMap<String, usize>,
    by_user_name: HashMap<String, usize>,
    input: InputDigest,
    warnings: Vec<Mistake>,
}

/// An account that belongs to a person because somebody says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mapping {
    /// The roster's identifier of the person.
    pub person: String,
    /// The system, by its name in this file.
    pub system: SystemName,
    /// The account as the system calls it: a DN, a role, a login.
    pub account: String,
}

/// An account that is never disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Protected {
    /// The system, by its name in this file.
    pub system: SystemName,
    /// The account as the system calls it: a DN, a role, a login.
    pub account: String,
    /// What it is.
    #[serde(rename = "as")]
    pub kind: Protection,
}

/// Why an account is never disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// For emergencies: listed, never touched.
    BreakGlass,
    /// Used by a program: listed, never touched.
    Service,
    /// Used by several people: only the leaver's own credentials in it are touched.
    Shared,
}

/// A key that belongs to a person because somebody says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOf {
    /// Whose.
    pub person: PersonId,
    /// Which.
    pub key: Fingerprint,
}

impl Roster {
    /// Everybody, in the order of the file.
    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// How many people there are.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// Never true: a file that names nobody is refused.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    /// The person of that identifier, without regard to the case of ASCII letters.
    pub fn get(&self, id: &str) -> Option<&Person> {
        self.by_id.get(&folded(id)).map(|&at| &self.people[at])
    }

    /// The file and its digest.
    pub fn input(&self) -> &InputDigest {
        &self.input
    }

    /// What somebody should look at, though the roster can be used: names that look alike.
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }

    /// Notes the keys that are declared for people in [`Person::keys`]. Those of people who are not in the roster are left out.
    #[must_use]
    pub fn with_keys(mut self, declared: &[KeyOf]) -> Self {
        for KeyOf { person, key } in declared {
            if let Some(&at) = self.by_id.get(&folded(&person.0)) {
                let keys = &mut self.people[at].keys;
                if !keys.contains(key) {
                    keys.push(key.clone());
                }
            }
        }
        self
    }

    fn by_mail(&self, mail: &str) -> Option<&Person> {
        self.by_mail.get(&folded(mail)).map(|&at| &self.people[at])
    }

    fn by_user_name(&self, name: &str) -> Option<&Person> {
        self.by_user_name.get(&folded(name)).map(|&at| &self.people[at])
    }
}

/// How identifiers are compared: exactly, but for the case of ASCII letters. Nothing else is folded: letters that only look alike
/// are other letters.
fn folded(text: &str) -> String {
    text.to_ascii_lowercase()
}
