//! Who is connected to a server, as `CLIENT LIST` says: every kind of connection alike, also subscribers, MONITOR and replicas.

use super::link::RedisLink;
use crate::model::FaultKind;
use crate::wire::resp::{Failure, Session};
use crate::wire::sql::presentable;
use std::collections::{BTreeMap, BTreeSet};

/// One connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Given in order, never twice: a connection that was made later has a greater one.
    pub id: u64,
    /// Without the port; a path for a Unix socket.
    pub address: String,
    /// What it calls itself.
    pub name: String,
    /// `S` a replica, `O` MONITOR, `P` subscriber, and others (CLIENT LIST).
    pub flags: String,
    pub user: String,
}

impl Client {
    /// Reads a line; nothing if it is none. No value in it has a space.
    fn of_line(line: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = line.split(' ').filter_map(|field| field.split_once('=')).collect();
        let text = |name: &str| fields.get(name).map(|value| (*value).to_string()).unwrap_or_default();
        let address = text("addr");
        // `127.0.0.1:6379`, `[::1]:6379`, `/run/redis.sock:0`.
        let address = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let address = address.trim_start_matches('[').trim_end_matches(']').to_string();
        Some(Self { id: fields.get("id")?.parse().ok()?, address, name: text("name"), flags: text("flags"), user: text("user") })
    }

    pub fn is_replica(&self) -> bool {
        self.flags.contains('S')
    }

    /// Sentinels name the two connections that each has to a server (`sentinel.c`).
    pub fn is_sentinel(&self) -> bool {
        self.name.starts_with("sentinel-")
    }
}

/// The live connections of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    pub count: usize,
    pub addresses: BTreeSet<String>,
}

impl std::fmt::Display for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses = self.addresses.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        write!(f, "{} live from {}", self.count, presentable(&addresses))
    }
}

/// Every connection to the link's server but its own.
///
/// # Errors
/// As [`others`].
pub async fn clients(link: &mut RedisLink) -> Result<Vec<Client>, Failure> {
    others(&mut link.session).await
}

/// Every connection but that of the session. That it is in the listing shows that the listing is complete.
///
/// # Errors
/// What the server says; `Unexpected` if the listing does not show the session itself.
pub async fn others(session: &mut Session) -> Result<Vec<Client>, Failure> {
    let us = session.call(&["CLIENT", "ID"]).await?.text();
    let us: u64 = us.parse().map_err(|_| Failure::new(FaultKind::Unexpected, "CLIENT ID gave no number"))?;
    let listing = session.call(&["CLIENT", "LIST"]).await?.text();
    let mut clients: Vec<Client> = listing.lines().filter_map(Client::of_line).collect();
    let count = clients.len();
    clients.retain(|client| client.id != us);
    if clients.len() == count {
        return Err(Failure::new(
            FaultKind::Unexpected,
            "the listing of connections does not show our own, so it is not complete",
        ));
    }
    Ok(clients)
}

/// By user.
pub fn by_user(clients: &[Client]) -> BTreeMap<String, Connected> {
    let mut users: BTreeMap<String, Connected> = BTreeMap::new();
    for client in clients {
        let connected = users.entry(client.user.clone()).or_default();
        connected.count += 1;
        connected.addresses.insert(client.address.clone());
    }
    users
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn a_connection_is_read_as_the_server_writes_it() {
        let line = "id=7 addr=[::1]:40112 laddr=[::1]:6379 fd=8 name=sentinel-3f2a-cmd age=1 idle=0 flags=P db=0 cmd=ping user=jane redir=-1";
        let client = Client::of_line(line).unwrap();
        assert_eq!((client.id, client.address.as_str(), client.user.as_str()), (7, "::1", "jane"));
        assert!(client.is_sentinel() && !client.is_replica());
        let local = Client::of_line("id=8 addr=/run/redis.sock:0 name= flags=SU user=default").unwrap();
        assert_eq!(local.address, "/run/redis.sock");
        assert!(local.is_replica());
        assert_eq!(Client::of_line(""), None);
    }
}
