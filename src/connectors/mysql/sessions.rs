//! Who is connected to a server, as the process list says.

use super::link::MysqlLink;
use crate::model::FaultKind;
use crate::wire::mysql::{Failure, Session};
use crate::wire::sql::presentable;
use std::collections::{BTreeMap, BTreeSet};

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Given in order, never twice while the server runs: a connection that was made later has a greater one.
    pub id: u64,
    pub user: String,
    /// Without the port; `localhost` for a socket.
    pub address: String,
    pub command: String,
}

impl Thread {
    pub fn is_replica(&self) -> bool {
        self.command.starts_with("Binlog Dump")
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
pub async fn threads(link: &mut MysqlLink) -> Result<Vec<Thread>, Failure> {
    others(&mut link.session).await
}

/// Every connection but that of the session. Without PROCESS the server shows a user its own only, so the right is part of the question.
///
/// # Errors
/// What the server says; `Forbidden` if it does not show us everybody's.
pub async fn others(session: &mut Session) -> Result<Vec<Thread>, Failure> {
    // The server answers this one only to whoever has PROCESS; the process list it gives to everybody, cut down.
    session.rows("SELECT 1 FROM information_schema.INNODB_TRX LIMIT 0").await?;
    let rows = session
        .rows("SELECT ID AS id, USER AS user, HOST AS host, COMMAND AS command, ID = CONNECTION_ID() AS ours FROM information_schema.PROCESSLIST")
        .await?;
    let (mut threads, mut ourselves) = (Vec::new(), false);
    for mut row in rows {
        let mut take = |column: &str| row.remove(column).flatten().unwrap_or_default();
        if take("ours") == "1" {
            ourselves = true;
            continue;
        }
        let Ok(id) = take("id").parse() else { continue };
        let host = take("host");
        // `127.0.0.1:40112`, `localhost`, `::1:40112`: nothing else has a colon.
        let address = host.rsplit_once(':').map_or(host.as_str(), |(address, _)| address).to_string();
        threads.push(Thread { id, user: take("user"), address, command: take("command") });
    }
    if !ourselves {
        return Err(Failure::new(
            FaultKind::Unexpected,
            "the process list does not show our own connection, so it is not complete",
        ));
    }
    Ok(threads)
}

/// By user.
pub fn by_user(threads: &[Thread]) -> BTreeMap<String, Connected> {
    let mut users: BTreeMap<String, Connected> = BTreeMap::new();
    for thread in threads {
        let connected = users.entry(thread.user.clone()).or_default();
        connected.count += 1;
        connected.addresses.insert(thread.address.clone());
    }
    users
}
