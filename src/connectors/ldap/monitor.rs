//! Connections that were bound before the lock: counted where the server lets us see them.

use super::link::DirectoryLink;
use crate::model::{Fault, Residual};
use crate::wire::ldap::{Found, Scope, ldap_escape, normal_dn};
use std::time::Duration;

/// How often connections are counted before one of them counts, and how long to wait in between: a client that has just gone is listed
/// for a moment longer.
const COUNTS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(100);

/// Who is still connected as an account.
pub(super) enum StillBound {
    /// The server's own list, in which we find ourselves, shows no connection of the account.
    Nobody,
    /// Where the connections come from; at least one.
    From(Vec<String>),
    /// The server does not say.
    Unknown,
}

impl StillBound {
    /// What outlives a locked password.
    pub(super) fn residual(&self) -> Residual {
        let what = match self {
            Self::From(peers) => format!(
                "{} connection(s) bound as this entry are still open, from {}: they go on until they are closed; restart the server, or set olcIdleTimeout",
                peers.len(),
                peers.join(" and ")
            ),
            Self::Nobody | Self::Unknown => {
                "a connection bound before the lock goes on until it is closed, and can set a new password, which opens the account, unless pwdSafeModify is TRUE; let offboard read cn=Connections,cn=Monitor to see whether there is one".into()
            }
        };
        Residual { what, until: None }
    }
}

/// Why a lock proves nothing while these are connected.
pub(super) fn reopens(peers: &[String]) -> String {
    format!(
        "{} connection(s) bound as this entry before the lock are still open, from {}; each can set a new password, which deletes the lock, since no policy with pwdSafeModify TRUE can be seen: close them (restart slapd, or olcIdleTimeout), then offboard verify or resume",
        peers.len(),
        peers.join(" and ")
    )
}

impl DirectoryLink {
    /// Who is still connected as the account.
    pub(super) async fn still_bound(&mut self, account: &str) -> StillBound {
        let mut bound = StillBound::Unknown;
        for count in 0..COUNTS {
            if count > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            bound = match self.connections(account).await {
                Ok(Some(peers)) if peers.is_empty() => return StillBound::Nobody,
                Ok(Some(peers)) => StillBound::From(peers),
                Ok(None) | Err(_) => return StillBound::Unknown,
            };
        }
        bound
    }

    /// Where the account's bound connections come from; nothing if the server does not say.
    async fn connections(&mut self, account: &str) -> Result<Option<Vec<String>>, Fault> {
        let Some(monitor) = self.root.monitor.clone() else { return Ok(None) };
        let us = self.shared().settings.bind_dn.clone();
        let filter = format!(
            "(|(monitorConnectionAuthzDN={})(monitorConnectionAuthzDN={}))",
            ldap_escape(account),
            ldap_escape(us.as_str())
        );
        let attributes = ["monitorConnectionAuthzDN", "monitorConnectionPeerAddress"];
        let base = format!("cn=Connections,{monitor}");
        let mut search = self.search(&base, Scope::OneLevel, &filter, &attributes, None).await?;
        let (mut ours, mut theirs) = (false, Vec::new());
        while let Some(found) = search.next().await? {
            let Found::Entry(entry) = found else { continue };
            let who = entry.text("monitorConnectionAuthzDN").as_deref().and_then(normal_dn);
            if who.is_some() && who == normal_dn(account) {
                theirs.push(entry.text("monitorConnectionPeerAddress").unwrap_or_else(|| "somewhere".into()));
            } else if who.is_some() && who == normal_dn(&us) {
                ours = true;
            }
        }
        Ok(ours.then_some(theirs))
    }
}
