//! What a person should look at besides the doors. Nothing here is acted upon, and a question that we may not ask is a finding of its own,
//! never a reason to stop.

use super::link::MysqlLink;
use super::sessions::Thread;
use super::user::User;
use crate::model::FindingKind;
use crate::wire::mysql::{Record, text};
use crate::wire::sql::presentable;
use std::collections::BTreeSet;

/// So many names stand in one finding.
const NAMED: usize = 20;

/// What runs with its definer's rights, whoever calls it: where it is listed, and what it is.
const DEFINED: &[(&str, &str)] = &[
    (
        "routines with SQL SECURITY DEFINER",
        "SELECT CONCAT(ROUTINE_SCHEMA, '.', ROUTINE_NAME) AS what FROM information_schema.ROUTINES WHERE SECURITY_TYPE = 'DEFINER' AND ",
    ),
    (
        "views with SQL SECURITY DEFINER",
        "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS what FROM information_schema.VIEWS WHERE SECURITY_TYPE = 'DEFINER' AND ",
    ),
    ("triggers", "SELECT CONCAT(TRIGGER_SCHEMA, '.', TRIGGER_NAME) AS what FROM information_schema.TRIGGERS WHERE "),
];

/// Findings about users that may be in scope.
pub async fn about(link: &mut MysqlLink, users: &[User], threads: &[Thread]) {
    for user in users {
        let name = user.name.as_str();
        if threads.iter().any(|thread| thread.user == name && thread.is_replica()) {
            let what = format!("a replica logs in as user {name:?}: without it, it does not work on");
            link.note(
                FindingKind::Configuration,
                Some(name),
                what,
                "give it a user of its own (CHANGE MASTER TO MASTER_USER = …)",
            );
        }
        defined_by(link, name).await;
        let sql = format!(
            "SELECT User AS user, Host AS host FROM mysql.proxies_priv WHERE Proxied_user = {} COLLATE utf8mb4_bin AND User <> ''",
            text(name)
        );
        match link.session.rows(sql).await {
            Ok(rows) if !rows.is_empty() => {
                let who = some_of(
                    &rows.into_iter().map(|row| format!("{}@{}", field(&row, "user"), field(&row, "host"))).collect(),
                );
                let what = format!("others may log in as user {name:?} by proxy: {who}");
                link.note(FindingKind::Suspicious, Some(name), what, "REVOKE PROXY ON … FROM …, unless they need it");
            }
            Ok(_) => {}
            Err(failure) => unknown(link, "who may log in as the leaver by proxy", &failure.to_string()),
        }
        if !link.facts.event_scheduler && user.events.iter().any(|event| event.enabled) {
            let what = format!(
                "events of user {name:?} wait for the event scheduler, which is off; they are switched off with the sessions"
            );
            link.note(FindingKind::Suspicious, Some(name), what, "see what they do: SHOW CREATE EVENT");
        }
    }
}

/// What the leaver left that others run with the leaver's rights. Locking the definer does not stop it.
async fn defined_by(link: &mut MysqlLink, name: &str) {
    for (kind, sql) in DEFINED {
        // `user@host`: the host has no @, the user may.
        let definer = "LEFT(DEFINER, CHAR_LENGTH(DEFINER) - LOCATE('@', REVERSE(DEFINER)))";
        let sql = format!("{sql}CONVERT({definer} USING utf8mb4) = {} COLLATE utf8mb4_bin", text(name));
        match link.session.rows(sql).await {
            Ok(rows) if !rows.is_empty() => {
                let what = some_of(&rows.iter().map(|row| field(row, "what")).collect());
                let what = format!("{kind} that run with the rights of user {name:?}, locked or not: {what}");
                link.note(
                    FindingKind::Suspicious,
                    Some(name),
                    what,
                    "read each; then give it another definer, or drop it",
                );
            }
            Ok(_) => {}
            Err(failure) => unknown(link, kind, &failure.to_string()),
        }
    }
}

fn unknown(link: &mut MysqlLink, what: &str, why: &str) {
    let what = format!("it could not be seen: {what}: {why}");
    link.note(FindingKind::NotCovered, None, what, "see docs/connectors/mysql.md for what our user needs");
}

/// Findings about the server: who gets in without a user of their own, what forbids our changes.
pub async fn about_the_server(link: &mut MysqlLink, users: &[User]) {
    if link.facts.skips_grant_tables() {
        let what = "the server runs with skip-grant-tables: everybody gets in as anybody";
        link.note(
            FindingKind::Unknown,
            None,
            what.into(),
            "take the option out and restart the server; then: offboard resume",
        );
    }
    if let Some(anonymous) = users.iter().find(|user| user.name.is_empty() && user.is_enabled()) {
        let hosts = some_of(&anonymous.rows.iter().filter(|row| !row.locked).map(|row| row.host.clone()).collect());
        let what = format!(
            "anonymous users let in whoever gives a name that is nobody's, or that has no row for their address: from {hosts}"
        );
        link.note(FindingKind::Configuration, None, what, "DROP USER ''@'…' for each");
    }
    if link.facts.read_only {
        let what = "the server is read-only: it takes changes of users from its primary";
        link.note(
            FindingKind::Configuration,
            None,
            what.into(),
            "name the primary under hosts, too; sessions are ended on each server",
        );
    }
    let sql = "SELECT User AS user, Host AS host, Proxied_user AS proxied FROM mysql.proxies_priv WHERE User = ''";
    if let Ok(rows) = link.session.rows(sql).await
        && !rows.is_empty()
    {
        let who = some_of(&rows.iter().map(|row| field(row, "proxied")).collect());
        let what = format!("whoever an authentication plugin lets in may become other users by proxy: {who}");
        link.note(
            FindingKind::Configuration,
            None,
            what,
            "see SELECT * FROM mysql.proxies_priv: is each of them wanted?",
        );
    }
}

fn field(row: &Record, column: &str) -> String {
    row.get(column).cloned().flatten().unwrap_or_default()
}

fn some_of(names: &BTreeSet<String>) -> String {
    let named: Vec<String> = names.iter().take(NAMED).map(|name| format!("{:?}", presentable(name))).collect();
    match names.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
