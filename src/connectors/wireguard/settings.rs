//! The `wireguard` block of `offboard.yaml`.

use super::{Gateways, Kept, names};
use crate::connector::Connector;
use crate::connectors::Mapped;
use crate::model::{Fault, FaultKind, SystemName};
use crate::wire::fleet::HostEntry;
use crate::wire::gateway::{self, Reach};
use crate::wire::guarded::Access;
use crate::wire::shell::quoted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// WireGuard gateways that are reached over SSH.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The gateways: names, or `{ name, address, port, user }`.
    pub hosts: Vec<HostEntry>,
    /// The account that offboard logs in to, where a host does not say otherwise.
    pub user: String,
    /// Our own private key, without a passphrase, in a file that nobody else may read.
    pub key: PathBuf,
    /// The host keys that are accepted. A host that is not in it is refused.
    pub known_hosts: PathBuf,
    /// Whether the account becomes root with `sudo -n`. Not needed for root itself.
    #[serde(default)]
    pub sudo: bool,
    /// The interfaces that are meant. Without it all of them; others are told and left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// The folder of the configuration files on the gateway: `/etc/wireguard` if not said.
    #[serde(default = "folder")]
    pub folder: String,
    /// Whose a peer is: its public key, and the roster's identifier of a person.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, String>,
    /// A peer that always has a tunnel, a monitor's for instance: it shows that the gateway lets people in. It is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

/// A peer that must still get in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Control {
    /// Its public key.
    pub public_key: String,
}

fn folder() -> String {
    "/etc/wireguard".into()
}

impl Settings {
    /// The files that this system depends on, relative to `offboard.yaml`.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        vec![(self.key.clone(), Access::OwnerReads), (self.known_hosts.clone(), Access::OwnerWrites)]
    }

    /// Accounts that the block itself maps to people. An account is a public key as `wg` writes it.
    pub fn mapped(&self) -> Vec<Mapped> {
        let mapped = self.peers.iter().map(|(written, person)| Mapped {
            written: written.clone(),
            account: names::canonical(written).unwrap_or_else(|| written.clone()),
            person: person.clone(),
        });
        mapped.collect()
    }
}

/// The connector for `system`. Reads the key and known_hosts; relative paths of ours start at `base`.
///
/// # Errors
/// `Misconfigured`: a file, a host that is none or listed twice, something that is no public key, no interface or no absolute path.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    let misconfigured = |what: String| Fault::new(FaultKind::Misconfigured, format!("wireguard {system}: {what}"));
    let no_key = |where_: &str| {
        misconfigured(format!("{where_} is no public key"))
            .hint("as `wg show INTERFACE peers` prints it: 44 characters of base64; never the private key")
    };
    // What stands there may be a private key by mistake, so it is not shown; its place in the list is.
    for (number, key) in settings.peers.keys().enumerate() {
        if names::canonical(key).is_none() {
            return Err(no_key(&format!("entry {} of peers, in the order of their keys,", number + 1)));
        }
    }
    let control = match &settings.control {
        Some(control) => Some(names::canonical(&control.public_key).ok_or_else(|| no_key("the control's public-key"))?),
        None => None,
    };
    if let Some(key) = control.as_ref().filter(|key| settings.mapped().iter().any(|peer| peer.account == **key)) {
        return Err(misconfigured(format!("{key} is the control and somebody's peer"))
            .hint("the control is never removed: give it a key of its own"));
    }
    for name in &settings.interfaces {
        if !names::is_interface(name) {
            return Err(misconfigured(format!("{name:?} is no interface of wg-quick")));
        }
    }
    let folder = settings.folder.trim_end_matches('/').to_string();
    if !folder.starts_with('/') || folder.chars().any(char::is_control) {
        return Err(misconfigured(format!("folder is {folder:?}: it must be a path on the gateway that begins with /")));
    }
    let reach = Reach {
        hosts: &settings.hosts,
        user: &settings.user,
        key: &settings.key,
        known_hosts: &settings.known_hosts,
        sudo: settings.sudo,
    };
    let reach = gateway::Gateways::new("wireguard", system, &reach, base)?;
    let script = format!("FOLDER={}\n{}", quoted(&folder), super::link::script());
    let kept = Arc::new(Kept { control, interfaces: settings.interfaces, folder });
    Ok(Arc::new(Gateways { reach, kept, script }))
}
