//! The tokens that live now, by accessor. A token itself is never seen.
//!
//! What a token is of never changes, so each accessor is looked up once in the life of a link, and the list says which are left.

use super::api::{refused, text, texts, words};
use super::identity::Identity;
use super::link::VaultLink;
use crate::model::{Fault, MatchRule};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How many are looked up at the same time.
const AT_ONCE: usize = 16;

/// What a token is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// The entity; root tokens and orphans made by a sudoer have none.
    pub entity: Option<String>,
    /// How it was made: `auth/userpass/login/jane`, `auth/token/create`.
    pub path: String,
    /// What the login said of it: `username`, and an AppRole SecretID's metadata.
    pub meta: BTreeMap<String, String>,
    pub policies: Vec<String>,
    /// When it was made.
    pub issued: Option<String>,
}

impl Token {
    fn of(data: &Value) -> Self {
        let meta = data["meta"].as_object().into_iter().flatten();
        Self {
            entity: text(&data["entity_id"]),
            path: text(&data["path"]).unwrap_or_default(),
            meta: meta.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect(),
            policies: texts(&data["policies"]),
            issued: text(&data["issue_time"]),
        }
    }

    /// Whether it is of this identity: of its entity, or from one of its logins whatever became of the entity since.
    pub fn is_of(&self, identity: &Identity) -> bool {
        let by_entity = identity.entity.as_ref().is_some_and(|e| self.entity.as_ref() == Some(&e.id));
        by_entity || identity.ways.iter().any(|way| self.path == format!("auth/{}/login/{}", way.mount.path, way.name))
    }

    /// Whether the login that made it named its holder with `word`.
    pub fn says(&self, word: &str) -> bool {
        named(&self.meta).is_some_and(|(_, said)| said == word)
    }
}

/// The keys of metadata that say whose something is.
pub const NUMBER: &[&str] = &["employee", "employee_number", "employee_id", "employeeNumber"];
/// See [`NUMBER`].
pub const MAIL: &[&str] = &["mail", "email"];
/// See [`NUMBER`].
pub const USER: &[&str] = &["user", "username", "user_name"];

/// Whom metadata names, and by which rule. The strongest key that is there decides alone: who else is mentioned, as a deputy or as the one
/// who asked for it, does not hold it.
pub fn named(meta: &BTreeMap<String, String>) -> Option<(MatchRule, &str)> {
    let rules = [(NUMBER, MatchRule::EmployeeNumber), (MAIL, MatchRule::Mail), (USER, MatchRule::UserName)];
    rules.into_iter().find_map(|(keys, rule)| {
        let word = keys.iter().filter_map(|key| meta.get(*key)).find(|word| !word.is_empty())?;
        Some((rule, word.as_str()))
    })
}

const LOOKUP: &[&str] = &["auth", "token", "lookup-accessor"];

/// What a lookup of an accessor brought.
enum Found {
    Live(String, Token),
    Gone,
    Refused(Fault),
}

impl Found {
    fn refused(&self) -> Option<&Fault> {
        match self {
            Self::Refused(fault) => Some(fault),
            _ => None,
        }
    }

    fn live(self) -> Option<(String, Token)> {
        match self {
            Self::Live(accessor, token) => Some((accessor, token)),
            _ => None,
        }
    }
}

/// Whether our policies let us look accessors up, by the server's own word (`sys/capabilities-self`).
async fn may_look_up(link: &VaultLink, cannot: &str) -> Result<bool, Fault> {
    let said = link.api.post(&["sys", "capabilities-self"], &json!({ "paths": [LOOKUP.join("/")] }), cannot).await?;
    let said = texts(&said.unwrap_or_default()["capabilities"]);
    Ok(said.iter().any(|one| ["update", "sudo", "root"].contains(&one.as_str())))
}

/// Every live token, by accessor.
///
/// # Errors
/// As [`super::api::Api::list`].
pub async fn live(link: &mut VaultLink, cannot: &str) -> Result<BTreeMap<String, Token>, Fault> {
    let listed = link.api.list(&["auth", "token", "accessors"], cannot).await?;
    let listed: BTreeSet<String> = listed.into_iter().collect();
    link.tokens.retain(|accessor, _| listed.contains(accessor));
    let new: Vec<String> = listed.into_iter().filter(|accessor| !link.tokens.contains_key(accessor)).collect();
    let api = &link.api;
    let found: Vec<Found> = stream::iter(new)
        .map(|accessor| async move {
            let body = json!({ "accessor": accessor });
            let answer = api.call("POST", LOOKUP, Some(&body)).await?;
            match answer.status {
                200 => Ok(Found::Live(accessor, Token::of(&answer.body["data"]))),
                // Gone between the list and the question. OpenBao says 400, Vault 403.
                _ if words(&answer).contains("invalid accessor") => Ok(Found::Gone),
                403 => Ok(Found::Refused(refused(&answer, LOOKUP, "update", cannot))),
                _ => Err(refused(&answer, LOOKUP, "update", cannot)),
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    // An accessor may outlive its token, as after a login that was cut off; until `auth/token/tidy` takes it away, the server refuses to look it up
    // in the very words of a missing policy. It finds a token by the same lookup where somebody brings it, so nobody gets in with that one.
    if let Some(fault) = found.iter().find_map(Found::refused)
        && !may_look_up(link, cannot).await?
    {
        return Err(fault.clone());
    }
    let found: Vec<(String, Token)> = found.into_iter().filter_map(Found::live).collect();
    link.tokens.extend(found);
    Ok(link.tokens.clone())
}
