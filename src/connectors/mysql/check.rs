//! Our own standing: who we are, and which right is missing. Changes nothing.

use super::link::{self, MysqlLink};
use super::{apply, findings};
use crate::connector::Health;
use crate::model::{Fault, FindingKind};

/// What offboard's own user needs on everything, what for, and what stands for it, too.
const NEEDED: &[(&str, &str, &[&str])] = &[
    ("CREATE USER", "lock users and set passwords", &[]),
    ("PROCESS", "see connections", &[]),
    ("CONNECTION ADMIN", "end connections", &["SUPER", "CONNECTION_ADMIN"]),
    ("EVENT", "switch off events", &[]),
    ("SET USER", "leave events their definer", &["SUPER", "SET_USER_ID", "SET_ANY_DEFINER"]),
];

/// See [`crate::connector::Link::check`].
pub async fn check(link: &mut MysqlLink) -> Result<Health, Fault> {
    link.findings.clear();
    let facts = link::facts(&mut link.session).await;
    link.facts = facts.map_err(|failure| link.fault(failure, "ask what this server is", apply::READ_TABLES))?;
    let us = link.session.user().to_string();
    // The answer quotes our own password's hash: only the names of rights are taken out of it.
    let grants = link.session.rows("SHOW GRANTS").await;
    let grants = grants.map_err(|failure| link.fault(failure, "list our own rights", apply::READ_TABLES))?;
    let ours: Vec<String> = grants
        .into_iter()
        .flat_map(|record| record.into_values().flatten())
        .filter_map(|line| line.strip_prefix("GRANT ")?.split_once(" ON *.* TO ").map(|(rights, _)| rights.to_string()))
        .flat_map(|rights| rights.split(", ").map(str::to_string).collect::<Vec<_>>())
        .collect();
    let all = ours.iter().any(|right| right == "ALL PRIVILEGES");
    for (right, what_for, others) in NEEDED {
        let has = |name: &str| ours.iter().any(|ours| ours == name);
        if !all && !has(right) && !others.iter().any(|other| has(other)) {
            let hint = link.grant(&format!("{right} ON *.*"));
            link.note(
                FindingKind::Configuration,
                None,
                format!("user {us:?} cannot {what_for}: it lacks {right}"),
                hint,
            );
        }
    }
    match link.users().await {
        Ok(users) => findings::about_the_server(link, &users).await,
        Err(failure) => {
            let hint = link.grant(apply::READ_TABLES);
            link.note(FindingKind::Configuration, None, format!("user {us:?} cannot list the users: {failure}"), hint);
        }
    }
    let mut control = link.control();
    if let Err(failure) = control.connect().await {
        let what = format!("the control user {:?} does not get in: {failure}", control.user());
        link.note(
            FindingKind::Configuration,
            None,
            what,
            "without a control that gets in, no refused login proves anything",
        );
    }
    Ok(Health { identity: format!("{us} on {}", link.facts.product()), findings: std::mem::take(&mut link.findings) })
}
