//! Disable, end sessions, revoke.
//!
//! Everything here only ever takes away. An entity is disabled first: from that moment on no login and no token of it is let in. Then each password
//! becomes the witness, for an entity that somebody deletes would leave a login behind that works. An alias is never deleted: whoever logs in without
//! one gets a new entity, and that is not disabled.

use super::api::{join, words};
use super::discover::ISSUED_TO;
use super::identity::{self, Identity, Way};
use super::link::VaultLink;
use super::pki;
use super::tokens::{self, Token};
use crate::connector::Cx;
use crate::model::{Action, Fault, FaultKind, Outcome, PlaceId, Step};
use crate::wire::http::is_segment;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at whether the tokens are gone. A login that was checked just before the entity was disabled shows up within this time, so
/// "none" counts only the second time.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// How many leases are listed, to see which end with the leaver's tokens.
const MAX_LEASES: usize = 5000;

/// See [`crate::connector::Link::apply`]; one step.
pub async fn apply(link: &mut VaultLink, step: &Step, cx: &Cx) -> Result<Outcome, Fault> {
    let name = step.account.as_str();
    let cannot = link.what(format!("{} {name:?}", step.action));
    if let (Action::Revoke, Some((mount, serial))) = (step.action, pki::of_object(&step.object)) {
        return pki::revoke(link, mount, serial, &cannot).await;
    }
    let identity = identity::resolve(&link.api, name, &cannot).await?;
    match (step.action, identity) {
        (Action::Disable, Some(identity)) => disable(link, name, &identity, cx, &cannot).await,
        (Action::EndSessions, Some(identity)) => end_sessions(link, &identity, &step.object, cx, &cannot).await,
        (Action::Revoke, Some(identity)) => revoke(link, &identity, &step.object, &cannot).await,
        (Action::Disable | Action::EndSessions | Action::Revoke, None) => Ok(Outcome::Absent),
        (Action::Remove | Action::Rotate | Action::Ask, _) => {
            Err(Fault::new(FaultKind::Unexpected, cannot).because("there is no such step for a Vault"))
        }
    }
}

/// The witness password of a login. Every node of a cluster knows the same.
pub fn witness(link: &VaultLink, way: &Way, cx: &Cx) -> SecretString {
    cx.witness(&PlaceId(link.place.id.0.clone()), &way.id())
}

async fn disable(link: &mut VaultLink, name: &str, identity: &Identity, cx: &Cx, cannot: &str) -> Result<Outcome, Fault> {
    link.guard(identity, cannot)?;
    let mut done = Vec::new();
    match &identity.entity {
        Some(entity) if entity.disabled => {}
        Some(entity) => {
            let path = ["identity", "entity", "id", &entity.id];
            link.api.post(&path, &json!({ "disabled": true }), cannot).await?;
            done.push(String::from("entity disabled"));
        }
        None => {
            // Nobody has logged in yet: an entity that is disabled from the first stands in the way of every login, whatever its password is.
            for way in &identity.ways {
                born_disabled(link, way, cannot).await?;
            }
            done.push(String::from("a disabled entity was put before a login that had none"));
        }
    }
    for way in identity.ways.iter().filter(|way| way.has_password()) {
        if let Some(note) = set_witness(link, way, cx).await? {
            done.push(note);
        }
    }
    // Somebody may have logged in for the first time just now, and so got an entity of their own.
    let now = identity::resolve(&link.api, name, cannot).await?;
    if now.as_ref().is_some_and(Identity::is_enabled) {
        return Err(Fault::new(FaultKind::Busy, cannot).because("its entity is another one now, or was enabled again"));
    }
    Ok(if done.is_empty() { Outcome::AlreadyDone } else { Outcome::Done { note: done.join("; ") } })
}

async fn born_disabled(link: &VaultLink, way: &Way, cannot: &str) -> Result<(), Fault> {
    let made = link.api.post(&["identity", "entity"], &json!({ "disabled": true }), cannot).await?;
    let id = made.as_ref().and_then(|data| data["id"].as_str()).ok_or_else(|| {
        Fault::new(FaultKind::Unexpected, cannot).because("the new entity's id is not in the answer")
    })?;
    let body = json!({ "name": way.alias, "canonical_id": id, "mount_accessor": way.mount.accessor });
    link.api.post(&["identity", "entity-alias"], &body, cannot).await?;
    Ok(())
}

/// What one login with the witness says of the password.
pub enum Tried {
    /// The password is right, and the state of the entity keeps it out: the very same login with another password is refused as a wrong one.
    KeptOut(String),
    /// The password is wrong.
    Wrong(String),
    LetIn,
    /// The server says the same of any password: locked out after too many tries, an address that may not log in.
    Unclear(String),
}

/// Tries the witness, and where that is refused without a reason another password beside it.
///
/// # Errors
/// As [`super::api::Api::call`].
pub async fn try_witness(link: &VaultLink, way: &Way, cx: &Cx) -> Result<Tried, Fault> {
    let witness = witness(link, way, cx);
    let answer = link.api.try_password(&way.mount.path, &way.name, &witness).await?;
    if let Some(entered) = super::api::entered(&answer) {
        link.api.leave(entered.token).await;
        return Ok(Tried::LetIn);
    }
    let said = |answer: &crate::wire::http::Answer| format!("{} ({})", words(answer), answer.status);
    match answer.status {
        // A second factor is asked for after the password was found right and the entity enabled.
        200..=299 => return Ok(Tried::LetIn),
        400 | 401 => return Ok(Tried::Wrong(said(&answer))),
        403 => {}
        _ => return Ok(Tried::Unclear(said(&answer))),
    }
    let other = SecretString::from(format!("{}.", witness.expose_secret()));
    let beside = link.api.try_password(&way.mount.path, &way.name, &other).await?;
    Ok(match beside.status {
        400 | 401 => Tried::KeptOut(format!("{}; with a wrong password it says {}", said(&answer), said(&beside))),
        _ => Tried::Unclear(format!("{}, and the same of a wrong password", said(&answer))),
    })
}

/// Sets the witness unless it is set. A password that we may not set is no reason to fail: the entity is disabled.
async fn set_witness(link: &VaultLink, way: &Way, cx: &Cx) -> Result<Option<String>, Fault> {
    if !is_segment(&way.name) {
        return Ok(None);
    }
    let quiet = match try_witness(link, way, cx).await? {
        Tried::KeptOut(_) => return Ok(None),
        // Setting the same password again changes nothing.
        Tried::Unclear(_) => true,
        Tried::Wrong(_) | Tried::LetIn => false,
    };
    let path = join(&["auth"], &way.mount.path, &["users", &way.name, "password"]);
    let body = json!({ "password": witness(link, way, cx).expose_secret() });
    match link.api.post(&path, &body, &link.what(format!("set the witness of {}", way.id()))).await {
        Ok(_) if quiet => Ok(None),
        Ok(_) => Ok(Some(format!("witness password set for {}", way.id()))),
        Err(fault) if matches!(fault.kind, FaultKind::Unreachable | FaultKind::Busy) => Err(fault),
        Err(fault) => {
            let hint = fault.hint.as_deref().unwrap_or_default().to_string();
            Ok((!quiet).then(|| format!("the witness password was refused: {fault}; {hint}")))
        }
    }
}

/// Whose tokens: all of the account's, or those that a shared role gave to one person.
pub fn is_meant(token: &Token, identity: &Identity, object: &str) -> bool {
    token.is_of(identity) && object.strip_prefix(ISSUED_TO).is_none_or(|word| token.says(word))
}

async fn end_sessions(
    link: &mut VaultLink,
    identity: &Identity,
    object: &str,
    cx: &Cx,
    cannot: &str,
) -> Result<Outcome, Fault> {
    link.guard(identity, cannot)?;
    let until = Instant::now() + cx.timeout;
    let mut before: Option<BTreeSet<String>> = None;
    let mut ended = BTreeSet::new();
    let mut quiet = 0;
    loop {
        let live: BTreeMap<String, Token> = tokens::live(link, cannot).await?;
        let theirs: Vec<String> =
            live.into_iter().filter(|(_, token)| is_meant(token, identity, object)).map(|(accessor, _)| accessor).collect();
        if theirs.is_empty() {
            quiet += 1;
            if quiet == 2 || (quiet == 1 && ended.is_empty() && identity.entity.is_none()) {
                break;
            }
        } else {
            quiet = 0;
            if Instant::now() > until {
                return Err(Fault::new(FaultKind::Busy, cannot)
                    .because(format!("{} tokens are still there after they were revoked", theirs.len()))
                    .hint("they come back while the account may log in, or its leases cannot be revoked: bao list sys/leases/lookup/"));
            }
            if before.is_none() {
                before = leases(link).await.ok();
            }
            for accessor in theirs {
                let path = ["auth", "token", "revoke-accessor"];
                link.api.post(&path, &json!({ "accessor": accessor }), cannot).await?;
                ended.insert(accessor);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    if ended.is_empty() {
        return Ok(Outcome::AlreadyDone);
    }
    let mut note = format!("tokens revoked: {}", ended.len());
    match (before, leases(link).await) {
        (Some(before), Ok(after)) => {
            let gone: BTreeSet<String> = before.difference(&after).cloned().collect();
            if !gone.is_empty() {
                note.push_str(&format!("; leases that ended meanwhile: {}", gone.len()));
                link.ended.extend(gone);
            }
        }
        _ => note.push_str("; which leases ended with them could not be listed"),
    }
    Ok(Outcome::Done { note })
}

/// Every lease but those of tokens.
async fn leases(link: &VaultLink) -> Result<BTreeSet<String>, Fault> {
    let mut found = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path: Vec<&str> = ["sys", "leases", "lookup"].into_iter().chain(folder.split('/').filter(|s| !s.is_empty())).collect();
        for key in link.api.list(&path, &link.what("list the leases")).await? {
            let whole = format!("{folder}{key}");
            if whole == "auth/" {
                continue;
            }
            if whole.ends_with('/') { folders.push(whole) } else { found.insert(whole); }
            if found.len() + folders.len() > MAX_LEASES {
                return Err(Fault::new(FaultKind::Unexpected, link.what("list the leases")).because("there are too many"));
            }
        }
    }
    Ok(found)
}

/// A SecretID, by `mount/role/accessor`.
async fn revoke(link: &mut VaultLink, identity: &Identity, object: &str, cannot: &str) -> Result<Outcome, Fault> {
    link.guard(identity, cannot)?;
    let Some((way, accessor)) = secret_id(identity, object) else { return Ok(Outcome::Absent) };
    let path = |last: &'static str| join(&["auth"], &way.mount.path, &["role", &way.name, "secret-id-accessor", last]);
    let body = json!({ "secret_id_accessor": accessor });
    if link.api.post(&path("lookup"), &body, cannot).await?.is_none() {
        return Ok(Outcome::AlreadyDone);
    }
    link.api.post(&path("destroy"), &body, cannot).await?;
    Ok(Outcome::Done { note: format!("SecretID of {} destroyed", way.id()) })
}

/// The role and the accessor that a door of the kind token names.
pub fn secret_id<'a>(identity: &'a Identity, object: &'a str) -> Option<(&'a Way, &'a str)> {
    let (role, accessor) = object.rsplit_once('/')?;
    let way = identity.ways.iter().find(|way| way.mount.kind == "approle" && way.exists && way.id() == role)?;
    Some((way, accessor))
}
