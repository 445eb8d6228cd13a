//! The inventory: one listing of the grant tables, one of connections.

use super::link::MysqlLink;
use super::sessions::{self, Connected};
use super::{apply, findings, planted};
use crate::connector::Scope;
use crate::model::{Account, Fault};
use futures::stream::{self, BoxStream, StreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// The names that are sought: user names, mail addresses, and names that the configuration maps. Nothing if all are.
fn sought(link: &MysqlLink, scope: &Scope) -> Option<BTreeSet<String>> {
    let Scope::People(people) = scope else { return None };
    let mut names = BTreeSet::new();
    for wanted in people {
        let mapped = wanted.accounts.iter().filter(|(system, _)| *system == link.system).map(|(_, name)| name);
        names.extend(wanted.person.user_name.iter().chain(&wanted.person.email).chain(mapped).cloned());
    }
    Some(names)
}

/// See [`crate::connector::Link::discover`].
pub fn discover<'a>(link: &'a mut MysqlLink, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
    let all = async move {
        match accounts(link, scope).await {
            Ok(accounts) => accounts.into_iter().map(Ok).collect(),
            Err(fault) => vec![Err(fault)],
        }
    };
    stream::once(all).flat_map(stream::iter).boxed()
}

async fn accounts(link: &mut MysqlLink, scope: &Scope) -> Result<Vec<Account>, Fault> {
    link.findings.clear();
    let sought = sought(link, scope);
    let cannot = |link: &MysqlLink, what: &str| format!("list the {what} at {}", link.place.address);
    let users = link.users().await;
    let mut users = users.map_err(|failure| link.fault(failure, cannot(link, "users"), apply::READ_TABLES))?;
    let threads = sessions::threads(link).await;
    let threads = threads.map_err(|failure| link.fault(failure, cannot(link, "connections"), apply::SEE_SESSIONS))?;
    if let Some(names) = &sought {
        planted::compare(link, &users, names);
    }
    findings::about_the_server(link, &users).await;
    // A name that differs in case only is another user to the server; so are names of the server's own.
    users.retain(|user| !user.name.is_empty());
    if let Some(names) = &sought {
        users.retain(|user| names.contains(&user.name));
        findings::about(link, &users, &threads).await;
    }
    let connected: BTreeMap<String, Connected> = sessions::by_user(&threads);
    Ok(users.iter().map(|user| user.account(link, connected.get(&user.name))).collect())
}
