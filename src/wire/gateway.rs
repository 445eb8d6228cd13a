//! Gateways: hosts that are reached over SSH, and on which one script runs as root, directly or through `sudo -n`. What VPN servers of
//! several kinds have in common.

use super::fleet::HostEntry;
use super::shell::{self, CallError, Closed, KnownHosts, Login, Script, Shell, Target};
use crate::model::{Fault, FaultKind, Fingerprint, Place, PlaceId, SystemName};
use jiff::Timestamp;
use russh::keys::PrivateKey;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The most that one call may answer, in bytes: a hundred thousand certificates.
const MOST: usize = 64 * 1024 * 1024;

/// How gateways are reached, as `offboard.yaml` says it.
pub struct Reach<'a> {
    /// The gateways.
    pub hosts: &'a [HostEntry],
    /// The account that offboard logs in to, where a host does not say otherwise.
    pub user: &'a str,
    /// Our own private key.
    pub key: &'a Path,
    /// The host keys that are accepted.
    pub known_hosts: &'a Path,
    /// Whether the account becomes root with `sudo -n`.
    pub sudo: bool,
}

/// One gateway, and who we are there.
#[derive(Clone, Debug)]
pub struct GatewayAt {
    /// The place.
    pub place: Place,
    /// Where it is.
    pub target: Target,
}

/// Gateways that are set up alike.
pub struct Gateways {
    /// The kind of system, for errors.
    kind: &'static str,
    hosts: BTreeMap<PlaceId, GatewayAt>,
    /// Their order in the configuration.
    order: Vec<PlaceId>,
    key: Arc<PrivateKey>,
    own: Fingerprint,
    known: Arc<KnownHosts>,
    sudo: bool,
}

impl Gateways {
    /// Reads the key and known_hosts; relative paths start at `base`.
    ///
    /// # Errors
    /// `Misconfigured`: no host, one that is none or listed twice, a file that cannot be used.
    pub fn new(kind: &'static str, system: &SystemName, reach: &Reach<'_>, base: &Path) -> Result<Self, Fault> {
        let misconfigured = |what: String| Fault::new(FaultKind::Misconfigured, format!("{kind} {system}: {what}"));
        if reach.hosts.is_empty() {
            return Err(misconfigured("no hosts".into()).hint("list the gateways under hosts"));
        }
        let key = shell::read_key(&base.join(reach.key))?;
        let known = Arc::new(KnownHosts::read(&base.join(reach.known_hosts))?);
        let mut hosts = BTreeMap::new();
        let mut order = Vec::new();
        for entry in reach.hosts {
            let host = entry.host().map_err(|why| misconfigured("a host is wrong".into()).because(why))?;
            let place = Place::new(system, &host.name);
            let target = Target {
                address: host.address.unwrap_or_else(|| host.name.clone()),
                port: host.port.unwrap_or(22),
                user: host.user.unwrap_or_else(|| reach.user.to_string()),
                name: host.name,
            };
            order.push(place.id.clone());
            if hosts.insert(place.id.clone(), GatewayAt { place, target: target.clone() }).is_some() {
                return Err(misconfigured(format!("{} is listed twice", target.name)));
            }
        }
        let own = shell::fingerprint(key.public_key());
        Ok(Self { kind, hosts, order, key, own, known, sudo: reach.sudo })
    }

    /// Every gateway, in the order of the configuration.
    pub fn places(&self) -> Vec<Place> {
        self.order.iter().map(|id| self.hosts[id].place.clone()).collect()
    }

    /// The key that offboard logs in with.
    pub fn own_key(&self) -> Fingerprint {
        self.own.clone()
    }

    /// Logs in, and starts the script `text` as root.
    ///
    /// # Errors
    /// `Forbidden`: no root there, with the line for sudoers. See [`Shell::connect`].
    pub async fn open(
        &self,
        place: &Place,
        timeout: Duration,
        now: Timestamp,
        text: &str,
    ) -> Result<RootScript, Fault> {
        let host = self.hosts.get(&place.id).ok_or_else(|| {
            Fault::new(
                FaultKind::Misconfigured,
                format!("{} {}: no such host in offboard.yaml", self.kind, place.address),
            )
        })?;
        let login = Login {
            target: host.target.clone(),
            key: self.key.clone(),
            known: self.known.clone(),
            timeout,
            now: now.as_second().max(0) as u64,
        };
        let shell = Shell::connect(&login).await?;
        let sudo = self.sudo && host.target.user != "root";
        let script = shell.start(if sudo { "sudo -n /bin/sh -s" } else { "/bin/sh -s" }, text).await?;
        let mut script = RootScript { kind: self.kind, host: host.clone(), script };
        let mut uid = Vec::new();
        script.call("id -u", &mut |line| uid.extend_from_slice(line)).await?;
        if uid != b"0" {
            return Err(script.forbidden("it is not root there, and sudo is not asked for"));
        }
        Ok(script)
    }
}

/// A script that runs as root on a gateway.
pub struct RootScript {
    kind: &'static str,
    /// Where it runs.
    pub host: GatewayAt,
    script: Script,
}

impl RootScript {
    /// A fault about this gateway.
    pub fn fault(&self, kind: FaultKind, what: &str) -> Fault {
        Fault::new(kind, format!("{} {}: {what}", self.kind, self.host.target))
    }

    fn forbidden(&self, because: &str) -> Fault {
        let user = &self.host.target.user;
        self.fault(FaultKind::Forbidden, "cannot become root").because(because).hint(format!(
            "as root on {}: echo '{user} ALL=(root) NOPASSWD: /bin/sh -s' > /etc/sudoers.d/offboard; chmod 440 /etc/sudoers.d/offboard; \
             and in offboard.yaml: sudo: true",
            self.host.target.name
        ))
    }

    /// Calls the script; every line of the answer goes to `each`.
    ///
    /// # Errors
    /// `Forbidden` where sudo refuses, `Unreachable` where the script or the connection ended.
    pub async fn call(&mut self, text: &str, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), Fault> {
        match self.script.call(text, MOST, each).await {
            Ok(()) => Ok(()),
            Err(CallError::Fault(fault)) => Err(fault),
            Err(CallError::Closed(Closed { status, stderr })) => {
                let refused = stderr.contains("sudo") || status == Some(127);
                let because = if stderr.is_empty() { "the shell ended".to_string() } else { stderr };
                Err(if refused {
                    self.forbidden(&because)
                } else {
                    self.fault(FaultKind::Unreachable, "the shell there ended").because(because)
                })
            }
        }
    }
}

/// A script of the parts, after what all of them need, without comments and indentation: it is sent once a connection.
pub fn script(parts: &[&str]) -> String {
    let mut text = String::new();
    // Python counts indentation, and so the lines of a part in it are kept as they are.
    let mut verbatim = false;
    for line in [include_str!("shell/common.sh")].iter().chain(parts).flat_map(|part| part.lines()) {
        let begins = line.split_once("_PYTHON='").is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase()));
        verbatim |= begins;
        let kept = if verbatim { line } else { line.trim_start() };
        if verbatim || !(kept.is_empty() || kept.starts_with('#')) {
            text.push_str(kept);
            text.push('\n');
        }
        if verbatim && line.ends_with('\'') && !begins {
            verbatim = false;
        }
    }
    text
}
