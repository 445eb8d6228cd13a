//! Our own standing: who we are, and which right is missing. Changes nothing.

use super::link::{self, RedisLink};
use super::user::{Command, NEEDED, NEEDED_WITHOUT_ACL_FILE};
use super::{clients, findings};
use crate::connector::Health;
use crate::model::{Fault, FindingKind};

/// See [`crate::connector::Link::check`].
pub async fn check(link: &mut RedisLink) -> Result<Health, Fault> {
    link.findings.clear();
    let us = link.session.user().to_string();
    let facts = link::facts(&mut link.session).await;
    link.facts = facts.map_err(|failure| link.fault(failure, "ask what this server is", "info"))?;
    let users = link::users(&mut link.session).await;
    let users = users.map_err(|failure| link.fault(failure, "list the users", "acl|list"))?;
    let ours = users.iter().find(|user| user.name == us).cloned().unwrap_or_default();
    let by_config = !link.facts.is_sentinel() && link.facts.acl_file.as_deref() == Some("");
    let more: &[(Command, &str)] = if by_config { NEEDED_WITHOUT_ACL_FILE } else { &[] };
    for (command, what_for) in NEEDED.iter().chain(more).filter(|(command, _)| !ours.may(command)) {
        let hint = link.grant(command.name);
        link.note(FindingKind::Configuration, None, format!("user {us:?} cannot {what_for}: it lacks {}", command.name), hint);
    }
    if let Ok(clients) = clients::clients(link).await {
        findings::about_the_server(link, &users, &clients, false).await;
    }
    let mut control = link.control();
    if let Err(failure) = control.connect().await {
        let what = format!("the control user {:?} does not get in: {failure}", control.user());
        link.note(FindingKind::Configuration, None, what, "without a control that gets in, no refused login proves anything");
    }
    Ok(Health { identity: format!("{us} on {}", link.facts.product()), findings: std::mem::take(&mut link.findings) })
}
