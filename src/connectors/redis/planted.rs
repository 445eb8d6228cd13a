//! What changed among the users since the run first looked.

use super::link::RedisLink;
use super::user::{ACL_SETUSER, User};
use crate::connectors::database::{Baseline, Listed, Words};
use std::collections::BTreeSet;

const WORDS: Words = Words { parts: "rules or passwords", drop: "ACL DELUSER", show: "ACL GETUSER" };

/// Compares with the baseline; the first look becomes it. `theirs` are names of the leaver's users.
pub fn compare(link: &mut RedisLink, users: &[User], theirs: &BTreeSet<String>) {
    let listed = |user: &User| Listed {
        name: user.name.clone(),
        state: format!("{} {} {} {}", user.enabled, user.nopass, user.rules, user.digests.join(" ")),
        makes_users: user.may(&ACL_SETUSER),
        ours: link.is_ours(&user.name),
    };
    let users: Vec<Listed> = users.iter().map(listed).collect();
    match &link.baseline {
        Some(first) => {
            let found = first.changed(&users, theirs, &link.key, &link.place, &WORDS);
            link.findings.extend(found);
        }
        None => link.baseline = Some(Baseline::of(&users, &link.key)),
    }
}
