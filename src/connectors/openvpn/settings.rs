//! The `openvpn` block of `offboard.yaml`.

use super::Gateways;
use crate::connector::Connector;
use crate::model::{Fault, FaultKind, SystemName};
use crate::wire::fleet::HostEntry;
use crate::wire::gateway::{self, Reach};
use crate::wire::guarded::Access;
use crate::wire::shell::quoted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// OpenVPN servers on gateways that are reached over SSH.
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
    /// The server's configuration file, on the gateway: `/etc/openvpn/server/server.conf`. A gateway with two servers is two systems.
    pub config: String,
    /// The CA whose certificates let people in, as far as it is on the gateway. Without its key certificates are not revoked, only disabled
    /// in the client-config-dir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Authority>,
}

/// A certificate authority, by its files on the gateway.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Authority {
    /// A PKI folder of easy-rsa: the other files are found in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub easy_rsa: Option<String>,
    /// The database that `openssl ca` keeps: `index.txt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The CA's private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The CA's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Folders with the certificates that were given out, named SERIAL.pem, SERIAL.crt or NAME.crt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// A file on the gateway with the passphrase of the CA's key, if it has one. It never leaves the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<String>,
    /// For how many days a new list of revoked certificates is good: 30 at least. As long as the one before if not said. When it is
    /// over, the server refuses everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_days: Option<u32>,
}

impl Settings {
    /// The files that this system depends on, relative to `offboard.yaml`.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        vec![(self.key.clone(), Access::OwnerReads), (self.known_hosts.clone(), Access::OwnerWrites)]
    }
}

/// The connector for `system`. Reads the key and known_hosts; relative paths of ours start at `base`.
///
/// # Errors
/// `Misconfigured`: a file, a host that is none or listed twice, a path on the gateway that is not absolute, half a CA.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    let reach = Reach {
        hosts: &settings.hosts,
        user: &settings.user,
        key: &settings.key,
        known_hosts: &settings.known_hosts,
        sudo: settings.sudo,
    };
    let prelude = prelude(&settings)
        .map_err(|what| Fault::new(FaultKind::Misconfigured, format!("openvpn {system}: {what}")))?;
    let reach = gateway::Gateways::new("openvpn", system, &reach, base)?;
    Ok(Arc::new(Gateways { reach, script: format!("{prelude}{}", super::link::script()) }))
}

/// The files, as assignments for the script.
fn prelude(settings: &Settings) -> Result<String, String> {
    let path = |name: &str, path: &str| {
        if path.starts_with('/') && !path.chars().any(char::is_control) {
            Ok(path.to_string())
        } else {
            Err(format!("{name} is {path:?}: it must be a path on the gateway that begins with /"))
        }
    };
    let (mut index, mut key, mut certificate, mut crl, mut passphrase, mut days) = Default::default();
    let mut folders: Vec<String> = Vec::new();
    if let Some(ca) = &settings.ca {
        let absolute = |name: &str, given: &Option<String>| given.as_deref().map(|p| path(name, p)).transpose();
        if let Some(pki) = absolute("easy-rsa", &ca.easy_rsa)? {
            let pki = pki.trim_end_matches('/');
            (index, key) = (format!("{pki}/index.txt"), format!("{pki}/private/ca.key"));
            (certificate, crl) = (format!("{pki}/ca.crt"), format!("{pki}/crl.pem"));
            for folder in ["certs_by_serial", "issued", "revoked/certs_by_serial", "renewed/certs_by_serial", "renewed/issued"] {
                folders.push(format!("{pki}/{folder}"));
            }
        }
        index = absolute("database", &ca.database)?.unwrap_or(index);
        key = absolute("key", &ca.key)?.unwrap_or(key);
        certificate = absolute("certificate", &ca.certificate)?.unwrap_or(certificate);
        passphrase = absolute("passphrase-file", &ca.passphrase_file)?.unwrap_or_default();
        for folder in &ca.certificates {
            folders.push(path("certificates", folder)?);
        }
        if index.is_empty() || key.is_empty() != certificate.is_empty() {
            return Err("ca needs easy-rsa, or database, and key with certificate if the key is there".into());
        }
        if let Some(given) = ca.crl_days {
            if !(30..=7300).contains(&given) {
                return Err(format!("crl-days is {given}: 30 to 7300"));
            }
            days = given.to_string();
        }
    }
    let config = path("config", &settings.config)?;
    Ok([
        ("CONFIG", config),
        ("CA_INDEX", index),
        ("CA_KEY", key),
        ("CA_CERT", certificate),
        ("CA_CRL", crl),
        ("CA_PASS", passphrase),
        ("CA_DIRS", folders.join("\n")),
        ("CRL_DAYS", days),
    ]
    .map(|(name, value): (&str, String)| format!("{name}={}\n", quoted(&value)))
    .concat())
}
