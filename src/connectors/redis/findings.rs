//! What a person should look at besides the doors. Nothing here is acted upon, and a question that we may not ask is a finding of its own,
//! never a reason to stop.

use super::EVERYBODY;
use super::clients::Client;
use super::link::RedisLink;
use super::user::{ACL_SETUSER, User};
use crate::model::FindingKind;
use crate::wire::resp::Reply;
use crate::wire::sql::presentable;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Findings about users that may be in scope.
pub fn about(link: &mut RedisLink, users: &[User], clients: &[Client]) {
    for user in users.iter().filter(|user| user.name != EVERYBODY) {
        let theirs = || clients.iter().filter(|client| client.user == user.name);
        let addresses = |which: &dyn Fn(&Client) -> bool| -> Vec<String> {
            let found: BTreeSet<String> = theirs().filter(|c| which(c)).map(|c| c.address.clone()).collect();
            found.into_iter().collect()
        };
        for (who, found) in [("replica", addresses(&Client::is_replica)), ("Sentinel", addresses(&Client::is_sentinel))] {
            if !found.is_empty() {
                let what = format!(
                    "a {who} logs in as user {:?}, from {}: without it, it does not work on",
                    user.name,
                    presentable(&found.join(", "))
                );
                link.note(FindingKind::Configuration, Some(&user.name), what, "give it a user of its own (masteruser, sentinel auth-user)");
            }
        }
    }
}

/// Findings about the server: who gets in without a user of their own, what does not outlive a restart, which servers are not looked at.
///
/// `touched` says that a user here is to be switched off.
pub async fn about_the_server(link: &mut RedisLink, users: &[User], clients: &[Client], touched: bool) {
    let everybody = users.iter().find(|user| user.name == EVERYBODY && user.enabled);
    match everybody {
        Some(user) if user.nopass => {
            // Whoever may change users without a login undoes whatever is done here.
            let makes = user.may(&ACL_SETUSER);
            let kind = if makes { FindingKind::Unknown } else { FindingKind::Configuration };
            let also = if makes { ", and may switch users on again" } else { "" };
            let what =
                format!("whoever reaches this server gets in as user `default`, without a password{also} ({})", presentable(&user.rules));
            let hint = "ACL SETUSER default off, or give it a password, then: ACL SAVE";
            link.note(kind, Some(EVERYBODY), what, hint);
        }
        Some(user) if user.passwords > 0 => {
            let what = format!(
                "user `default` is everybody's: who knows its password gets in without a user of their own ({})",
                presentable(&user.rules)
            );
            let hint = "if a leaver may know it, declare it under secrets: in offboard.yaml, so that it is rotated; better: ACL SETUSER default off";
            link.note(FindingKind::Configuration, Some(EVERYBODY), what, hint);
        }
        _ => {}
    }
    let nobodys = users.iter().filter(|user| user.name.contains('\u{fffd}')).count();
    if nobodys > 0 {
        let what = format!("users with a name that is not UTF-8: {nobodys}; no person can be matched with them");
        link.note(FindingKind::Suspicious, None, what, "find out whose they are: ACL LIST");
    }
    if !link.facts.is_sentinel() && link.facts.acl_file.as_deref() == Some("") && link.facts.field("config_file").is_empty() {
        let what = "this server has neither an ACL file nor a configuration file: what was changed is gone after a restart, and users that its command line names come back";
        let hint = "start it with a configuration file, or with aclfile";
        let kind = if touched { FindingKind::Unknown } else { FindingKind::Configuration };
        link.note(kind, None, what.into(), hint);
    }
    let sentinels: BTreeSet<String> = clients.iter().filter(|c| c.is_sentinel()).map(|c| c.address.clone()).collect();
    let known = known(link).await;
    let sentinels: Vec<String> = sentinels
        .into_iter()
        .filter(|address| address.parse::<IpAddr>().is_ok_and(|ip| !known.iter().any(|(known, _)| *known == ip)))
        .collect();
    if !sentinels.is_empty() {
        let what = format!("Sentinels watch this server, and have users of their own: {}", presentable(&sentinels.join(", ")));
        let hint = "name them under hosts (port 26379), too, if people can log in to them";
        link.note(FindingKind::NotCovered, None, what, hint);
    }
    others(link, &known).await;
}

/// The addresses of every server in `hosts`; one that does not resolve is left out.
async fn known(link: &RedisLink) -> Vec<(IpAddr, u16)> {
    let mut known = Vec::new();
    for (_, server) in &link.hosts {
        if let Ok(addresses) = tokio::net::lookup_host((server.host.as_str(), server.port)).await {
            known.extend(addresses.map(|address| (address.ip(), address.port())));
        }
    }
    known
}

/// Servers that belong to this one and that `hosts` does not name: users are not replicated, so the leaver may still get in there.
async fn others(link: &mut RedisLink, known: &[(IpAddr, u16)]) {
    let members = match members(link).await {
        Ok(members) => members,
        Err(why) => {
            let what = format!("which other servers belong to this one could not be asked: {why}");
            let hint = link.grant("role");
            return link.note(FindingKind::NotCovered, None, what, hint);
        }
    };
    let mut missing = Vec::new();
    let mut spare: Vec<(IpAddr, u16)> = known.to_vec();
    for (host, port) in members {
        let found: Vec<(IpAddr, u16)> = match tokio::net::lookup_host((host.as_str(), port)).await {
            Ok(addresses) => addresses.map(|address| (address.ip(), address.port())).collect(),
            Err(_) => Vec::new(),
        };
        match found.iter().find(|one| known.contains(one)) {
            Some(one) => spare.retain(|known| known != one),
            None => missing.push((host, port, found)),
        }
    }
    let ours = tokio::net::lookup_host((link.session.server().host.as_str(), link.session.server().port)).await;
    let ours: Vec<(IpAddr, u16)> = ours.map(|all| all.map(|a| (a.ip(), a.port())).collect()).unwrap_or_default();
    spare.retain(|one| !ours.contains(one));
    // A server announces one port, and may be named by another: its TLS port.
    missing.retain(|(_, _, found)| {
        let at = spare.iter().position(|(ip, _)| found.iter().any(|(known, _)| known == ip));
        at.map(|at| spare.remove(at)).is_none()
    });
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|(host, port, _)| format!("{host}:{port}")).collect();
        let what = format!(
            "servers that belong to this one are not named in offboard.yaml: {}; users are not replicated, so the leaver may still get in there",
            presentable(&names.join(", "))
        );
        link.note(FindingKind::Unknown, None, what, "name each under hosts, then: offboard resume");
    }
}

/// The servers that this one speaks of: its primary, its replicas, the nodes of its cluster, the other Sentinels.
async fn members(link: &mut RedisLink) -> Result<BTreeSet<(String, u16)>, String> {
    let mut members = BTreeSet::new();
    let mut add = |host: String, port: &str| {
        if let (false, Ok(port)) = (host.is_empty(), port.parse::<u16>())
            && port != 0
        {
            members.insert((host, port));
        }
    };
    let role = link.session.call(&["ROLE"]).await.map_err(|failure| failure.to_string())?;
    match role.items() {
        [kind, host, port, ..] if kind.text() == "slave" => add(host.text(), &port.text()),
        [kind, _, replicas] if kind.text() == "master" => {
            for replica in replicas.items() {
                if let [host, port, ..] = replica.items() {
                    add(host.text(), &port.text());
                }
            }
        }
        [kind, watched] if kind.text() == "sentinel" => {
            for name in watched.items().iter().map(Reply::text) {
                let others = link.session.call(&["SENTINEL", "SENTINELS", &name]).await;
                for other in others.map_err(|failure| failure.to_string())?.items() {
                    let field = |name: &str| {
                        let mut pairs = other.items().chunks(2);
                        pairs.find(|pair| pair[0].text() == name).and_then(|pair| pair.get(1)).map(Reply::text)
                    };
                    add(field("ip").unwrap_or_default(), &field("port").unwrap_or_default());
                }
            }
        }
        _ => {}
    }
    if link.facts.field("redis_mode") == "cluster" {
        let nodes = link.session.call(&["CLUSTER", "NODES"]).await.map_err(|failure| failure.to_string())?.text();
        for line in nodes.lines().filter(|line| !line.contains("myself") && !line.contains("noaddr")) {
            // `id ip:port@bus,hostname flags …`
            let Some(address) = line.split(' ').nth(1) else { continue };
            let address = address.split(['@', ',']).next().unwrap_or_default();
            if let Some((host, port)) = address.rsplit_once(':') {
                add(host.to_string(), port);
            }
        }
    }
    Ok(members)
}
