//! The inventory: one listing of users, one of connections.
//!
//! Names are compared exactly: to Redis `Jane` and `jane` are two users.

use super::clients::{self, Connected};
use super::link::{self, RedisLink};
use super::user::User;
use super::{findings, planted};
use crate::connector::Scope;
use crate::model::{Account, Fault};
use futures::stream::{self, BoxStream, StreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// The names that are sought: user names, mail addresses, and names that the configuration maps. Nothing if all are.
fn sought(link: &RedisLink, scope: &Scope) -> Option<BTreeSet<String>> {
    let Scope::People(people) = scope else { return None };
    let mut names = BTreeSet::new();
    for wanted in people {
        let mapped = wanted.accounts.iter().filter(|(system, _)| *system == link.system).map(|(_, name)| name);
        names.extend(wanted.person.user_name.iter().chain(&wanted.person.email).chain(mapped).cloned());
    }
    Some(names)
}

/// See [`crate::connector::Link::discover`].
pub fn discover<'a>(link: &'a mut RedisLink, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
    let all = async move {
        match accounts(link, scope).await {
            Ok(accounts) => accounts.into_iter().map(Ok).collect(),
            Err(fault) => vec![Err(fault)],
        }
    };
    stream::once(all).flat_map(stream::iter).boxed()
}

async fn accounts(link: &mut RedisLink, scope: &Scope) -> Result<Vec<Account>, Fault> {
    link.findings.clear();
    let sought = sought(link, scope);
    let cannot = |link: &RedisLink, what: &str| format!("list the {what} at {}", link.place.address);
    let users = link::users(&mut link.session).await;
    let mut users =
        users.map_err(|failure| link.fault(failure, cannot(link, "users"), "acl|list"))?;
    let clients = clients::clients(link).await;
    let clients = clients.map_err(|failure| link.fault(failure, cannot(link, "connections"), "client|list"))?;
    if let Some(names) = &sought {
        planted::compare(link, &users, names);
    }
    let touched = sought.as_ref().is_some_and(|names| users.iter().any(|user| names.contains(&user.name)));
    findings::about_the_server(link, &users, &clients, touched).await;
    if let Some(names) = &sought {
        users.retain(|user| names.contains(&user.name));
        findings::about(link, &users, &clients);
    }
    let connected: BTreeMap<String, Connected> = clients::by_user(&clients);
    Ok(users.iter().map(|user: &User| user.account(link, connected.get(&user.name))).collect())
}
