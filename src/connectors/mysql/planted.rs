//! What changed among the users since the run first looked.

use super::link::MysqlLink;
use super::user::User;
use crate::connectors::database::{Baseline, Listed, Words};
use std::collections::BTreeSet;

const WORDS: Words = Words { parts: "rows or passwords", drop: "DROP USER", show: "SHOW CREATE USER" };

/// Compares with the baseline; the first look becomes it. `theirs` are names of the leaver's users.
pub fn compare(link: &mut MysqlLink, users: &[User], theirs: &BTreeSet<String>) {
    let listed = |user: &User| Listed {
        name: user.name.clone(),
        state: format!("{:?}", user.rows),
        makes_users: user.makes_users(),
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
