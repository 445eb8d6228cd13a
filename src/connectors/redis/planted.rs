//! What changed among the users since the run first looked: a leaver who may let others in can make a user, or give one a password more.

use super::link::RedisLink;
use super::user::{ACL_SETUSER, User};
use crate::model::FindingKind;
use crate::wire::sql::presentable;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};

/// The users at the first discovery of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// By name, a keyed digest of rules and passwords.
    pub users: BTreeMap<String, String>,
    /// Which of them could let others in.
    pub makers: BTreeSet<String>,
}

/// So many names stand in one finding.
const NAMED: usize = 20;

/// HMAC-SHA-256 over everything that the server says of a user: its passwords' digests are unsalted, so they are not kept.
fn digest(key: &[u8; 16], user: &User) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    let state = format!("{} {} {} {}", user.enabled, user.nopass, user.rules, user.digests.join(" "));
    mac.update(state.as_bytes());
    mac.finalize().into_bytes().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Compares with the baseline; the first look becomes it. `theirs` are names of the leaver's users.
pub fn compare(link: &mut RedisLink, users: &[User], theirs: &BTreeSet<String>) {
    let makers = || users.iter().filter(|user| user.may(&ACL_SETUSER)).map(|user| user.name.clone());
    let key = link.key;
    let Some(first) = link.baseline.clone() else {
        let all = users.iter().map(|user| (user.name.clone(), digest(&key, user))).collect();
        link.baseline = Some(Baseline { users: all, makers: makers().collect() });
        return;
    };
    let could = first.makers.iter().cloned().chain(makers()).any(|name| theirs.contains(&name));
    let others = || users.iter().filter(|user| !theirs.contains(&user.name) && !link.is_ours(&user.name));
    let new: Vec<String> = others().filter(|u| !first.users.contains_key(&u.name)).map(|u| u.name.clone()).collect();
    let changed = others().filter(|u| first.users.get(&u.name).is_some_and(|before| *before != digest(&key, u)));
    let ours = users.iter().filter(|user| link.is_ours(&user.name));
    let ours = ours.filter(|u| first.users.get(&u.name).is_some_and(|before| *before != digest(&key, u)));
    let ours: Vec<String> = ours.map(|u| u.name.clone()).collect();
    // A rotation of this run changes one, too.
    let changed: Vec<String> = if could { changed.map(|u| u.name.clone()).collect() } else { Vec::new() };
    if !new.is_empty() {
        let (kind, why) = match could {
            true => (FindingKind::Unknown, "; the leaver can or could make users, so any of them may be the leaver's"),
            false => (FindingKind::Suspicious, ""),
        };
        let what = format!("users were created during the run: {}{why}", some_of(&new));
        let hint = "find out whose they are: ACL DELUSER, or map them under accounts: in offboard.yaml; then: offboard resume";
        link.note(kind, only(&new), what, hint);
    }
    if !ours.is_empty() {
        let what = format!("rules or passwords of offboard's own users were changed during the run: {}", some_of(&ours));
        let hint = "who did that? Look at each with ACL GETUSER, give it a new password and take all others away; then: offboard resume";
        link.note(FindingKind::Unknown, only(&ours), what, hint);
    }
    if !changed.is_empty() {
        let what = format!(
            "rules or passwords of users were changed during the run, by a rotation or by somebody else: {}; the leaver can or could do that",
            some_of(&changed)
        );
        link.note(FindingKind::Suspicious, only(&changed), what, "look at each with ACL GETUSER: is a password too many there?");
    }
}

fn only(names: &[String]) -> Option<&str> {
    match names {
        [one] => Some(one),
        _ => None,
    }
}

fn some_of(names: &[String]) -> String {
    let named: Vec<String> = names.iter().take(NAMED).map(|name| format!("{:?}", presentable(name))).collect();
    match names.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
