//! The `ssh` block of `offboard.yaml`.

use super::{Fleet, HostAt};
use crate::connector::Connector;
use crate::model::{Fault, FaultKind, Place, SystemName};
use crate::wire::fleet::{self, HostEntry};
use crate::wire::guarded::Access;
use crate::wire::shell::{self, KnownHosts, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Unix hosts that are reached over SSH.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The hosts: names, or `{ name, address, port, user }`.
    #[serde(default)]
    pub hosts: Vec<HostEntry>,
    /// A file with more hosts, one `NAME [ADDRESS[:PORT]]` a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_list: Option<PathBuf>,
    /// The account that offboard logs in to, where a host does not say otherwise.
    pub user: String,
    /// Our own private key, without a passphrase, in a file that nobody else may read.
    pub key: PathBuf,
    /// The host keys that are accepted. A host that is not in it is refused.
    pub known_hosts: PathBuf,
    /// Whether the account becomes root with `sudo -n`. Not needed for root itself.
    #[serde(default)]
    pub sudo: bool,
    /// How many hosts are worked on at the same time.
    #[serde(default = "ten")]
    pub parallel: usize,
    /// Groups whose members can do more than log in: membership is found, and taken away from a leaver.
    #[serde(default = "groups_that_grant")]
    pub groups: Vec<String>,
}

fn ten() -> usize {
    10
}

fn groups_that_grant() -> Vec<String> {
    ["root", "sudo", "wheel", "admin", "docker", "lxd", "incus-admin", "libvirt", "adm", "disk", "shadow"]
        .map(String::from)
        .to_vec()
}

impl Settings {
    /// The files that this system depends on, relative to `offboard.yaml`.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        let mut files = vec![(self.key.clone(), Access::OwnerReads), (self.known_hosts.clone(), Access::OwnerWrites)];
        files.extend(self.host_list.clone().map(|list| (list, Access::OwnerWrites)));
        files
    }
}

/// The connector for `system`. Reads the key, known_hosts and the host list; relative paths start at `base`.
///
/// # Errors
/// `Misconfigured`: a file, a host that is none or listed twice, or no host at all.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    let misconfigured = |what: String| Fault::new(FaultKind::Misconfigured, format!("ssh {system}: {what}"));
    let mut entries = Vec::new();
    for entry in &settings.hosts {
        entries.push(entry.host().map_err(|why| misconfigured("a host is wrong".into()).because(why))?);
    }
    if let Some(list) = &settings.host_list {
        entries.extend(fleet::read(&base.join(list))?);
    }
    if entries.is_empty() {
        return Err(misconfigured("no hosts".into()).hint("list them under hosts, or name a file under host-list"));
    }
    if settings.parallel == 0 {
        return Err(misconfigured("parallel is 0".into()).hint("how many hosts at the same time: 1 or more"));
    }
    for name in settings.groups.iter().chain([&settings.user]).chain(entries.iter().filter_map(|h| h.user.as_ref())) {
        if !is_plain(name) {
            return Err(misconfigured(format!("{name:?} is no name of a Unix account or group")));
        }
    }
    let key = shell::read_key(&base.join(&settings.key))?;
    let known = Arc::new(KnownHosts::read(&base.join(&settings.known_hosts))?);
    let mut hosts = BTreeMap::new();
    let mut order = Vec::new();
    for host in entries {
        let place = Place::new(system, &host.name);
        let target = Target {
            address: host.address.unwrap_or_else(|| host.name.clone()),
            port: host.port.unwrap_or(22),
            user: host.user.unwrap_or_else(|| settings.user.clone()),
            name: host.name,
        };
        order.push(place.id.clone());
        if hosts.insert(place.id.clone(), HostAt { place, target: target.clone(), keeping: Arc::new(Semaphore::new(1)) }).is_some() {
            return Err(misconfigured(format!("{} is listed twice", target.name)));
        }
    }
    Ok(Arc::new(Arc::new(Fleet {
        own: shell::fingerprint(key.public_key()),
        hosts,
        order,
        key,
        known,
        sudo: settings.sudo,
        parallel: settings.parallel,
        groups: settings.groups.join(" "),
    })))
}

/// Whether it may be the name of a Unix account or group, and cannot be taken for an option or a list.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.len() <= 256
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '$' | '+' | '\\'))
}
