//! Roles that may be the leaver's under another name: those that the leaver's roles let in before the run, and those that appeared
//! during it. Nothing here is acted upon.

use super::discover::Baseline;
use super::findings::not_asked;
use super::link::PgLink;
use crate::model::FindingKind;
use crate::wire::sql::{Value, identifier, presentable};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Names in one finding; the others are counted.
const NAMED: usize = 10;

const HINT: &str = "find out whose it is, disable it or map it under accounts: in offboard.yaml, then resume";

/// A role as the first look of the run and the later ones see it.
#[derive(Deserialize)]
pub struct Listed {
    pub oid: i64,
    pub name: String,
    /// May log in.
    pub login: bool,
    /// Can make roles, itself or by way of a role that it may take on.
    pub makes_roles: bool,
}

/// Every role that was not made with the server itself; `$1` is the first such object identifier.
pub const LISTED: &str = "
WITH maker AS MATERIALIZED (SELECT oid FROM pg_roles WHERE rolcreaterole OR rolsuper)
SELECT json_build_object('oid', r.oid::bigint, 'name', r.rolname, 'login', r.rolcanlogin,
    'makes_roles', EXISTS (SELECT FROM maker WHERE pg_has_role(r.oid, maker.oid, 'MEMBER')))::text
FROM pg_roles r WHERE r.oid >= $1::bigint::oid";

/// Up to [`NAMED`] of them, and how many there are besides.
fn some_of(all: &[String]) -> String {
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Roles that appeared since the run first looked. Where the leaver can or could make roles, any of them that may log in may be the
/// leaver's, and PostgreSQL does not say who made a role.
pub fn appeared(link: &mut PgLink, first: &Baseline, now: &[Listed], theirs: &BTreeSet<i64>, known: &BTreeSet<i64>) {
    let makers = now.iter().filter(|role| role.makes_roles).map(|role| role.oid);
    let makes_roles = makers.chain(first.makers.iter().copied()).any(|oid| theirs.contains(&oid));
    let new = now.iter().filter(|role| !first.names.contains_key(&role.oid) && !known.contains(&role.oid));
    let (login, other): (Vec<_>, Vec<_>) = new.partition(|role| makes_roles && role.login);
    for (roles, kind) in [(login, FindingKind::Unknown), (other, FindingKind::Suspicious)] {
        if roles.is_empty() {
            continue;
        }
        let names: Vec<String> = roles.iter().map(|role| format!("{:?}", role.name)).collect();
        let why = match kind {
            FindingKind::Unknown => "; the leaver can or could make roles, so any of them may be the leaver's",
            _ => "",
        };
        let account = if let [one] = roles.as_slice() { Some(one.name.as_str()) } else { None };
        let many = if names.len() == 1 { "role was" } else { "roles were" };
        let what = format!("{} {many} created during the run: {}{why}", names.len(), some_of(&names));
        link.note(kind, account, what, HINT);
    }
}

/// One membership that a leaver's role has given, or one role that it administers.
#[derive(Deserialize)]
struct Given {
    member: String,
    what: String,
}

/// `$1` are the leaver's roles, `$2` our own logins. From PostgreSQL 16 on whoever makes a role administers it.
const GIVEN: &str = "
SELECT json_build_object('member', o.rolname, 'what', format('was granted %I by %I', g.rolname, z.rolname))::text
FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.member JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles z ON z.oid = m.grantor
WHERE m.grantor = ANY ($1::bigint[]::oid[]) AND m.member <> ALL ($1::bigint[]::oid[]) AND o.oid >= 16384 AND o.rolname <> ALL ($2::text[])
UNION ALL
SELECT json_build_object('member', o.rolname, 'what', format('is administered by %I', z.rolname))::text
FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.roleid JOIN pg_roles z ON z.oid = m.member
WHERE current_setting('server_version_num')::int >= 160000 AND m.admin_option AND m.member = ANY ($1::bigint[]::oid[])
    AND m.roleid <> ALL ($1::bigint[]::oid[]) AND o.oid >= 16384 AND o.rolname <> ALL ($2::text[])";

/// Roles that the leaver's roles have let into others, or administer.
pub async fn given(link: &mut PgLink, theirs: &BTreeSet<i64>) {
    if theirs.is_empty() {
        return;
    }
    let mut ours = vec![link.us.user.clone(), link.session.user().to_string()];
    ours.extend(link.control.iter().map(|(user, _)| user.clone()));
    let values = [Value::Ints(theirs.iter().copied().collect()), Value::Texts(ours)];
    let given = match link.session.rows::<Given>(GIVEN, &values).await {
        Ok(given) => given,
        Err(failure) => return not_asked(link, &failure.to_string(), HINT),
    };
    let mut roles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Given { member, what } in given {
        roles.entry(member).or_default().insert(what);
    }
    let said: Vec<String> = roles
        .iter()
        .map(|(member, whats)| {
            let whats = whats.iter().cloned().collect::<Vec<_>>().join(" and ");
            // Names are anybody's text; one long one must not hide the others.
            presentable(&format!("role {} {whats}", identifier(member)))
        })
        .collect();
    if !said.is_empty() {
        let account = if roles.len() == 1 { roles.keys().next().map(String::as_str) } else { None };
        let what = format!("{} role(s) may be the leaver's: {}", said.len(), some_of(&said));
        link.note(FindingKind::Suspicious, account, what, HINT);
    }
}
