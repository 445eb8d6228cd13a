//! A PostgreSQL cluster, as `offboard.yaml` describes it.

use crate::model::SecretRef;
use crate::wire::guarded::Access;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// How the way to the server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// The server's certificate is checked against `ca`, and its name against the host.
    #[default]
    VerifyFull,
    /// No TLS; only for addresses in 127.0.0.0/8 and ::1.
    Off,
}

/// A login of its own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Control {
    /// The role's name.
    pub user: String,
    /// Its password.
    pub password: SecretRef,
}

/// A PostgreSQL cluster, as `offboard.yaml` describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Every server of the cluster, `host` or `host:port`: the primary, and standbys that people can log in to.
    pub hosts: Vec<String>,
    /// The database to connect to.
    #[serde(default = "default_database")]
    pub database: String,
    /// The role that offboard logs in as. It is never touched.
    pub user: String,
    /// Its password.
    pub password: SecretRef,
    /// PEM file of the authority that signed the servers' certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// `verify-full`, or `off` on loopback.
    #[serde(default)]
    pub tls: TlsMode,
    /// A role that must still get in when the leaver does not. Without one, offboard's own role has to do. It is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

fn default_database() -> String {
    "postgres".into()
}

impl Settings {
    /// The files that these settings name, and who may have what on them.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        let passwords = [Some(&self.password), self.control.as_ref().map(|c| &c.password)];
        let passwords = passwords.into_iter().flatten().filter_map(|p| p.file.clone()).map(|f| (f, Access::OwnerReads));
        self.ca.iter().map(|ca| (ca.clone(), Access::OwnerWrites)).chain(passwords).collect()
    }
}

/// `host`, `host:port`, `[address]:port`, `[address]` or a bare IPv6 address.
pub fn host_and_port(written: &str) -> Option<(String, u16)> {
    const STANDARD: u16 = 5432;
    if written.parse::<IpAddr>().is_ok() {
        return Some((written.to_string(), STANDARD));
    }
    let (host, port) = match written.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<IpAddr>().ok()?;
            (address, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match written.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (written, None),
        },
    };
    let host_is_fine = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    let port = port.map_or(Some(STANDARD), |p| p.parse().ok().filter(|p| *p != 0))?;
    host_is_fine.then(|| (host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn hosts_are_read_as_people_write_them() {
        let pairs = [
            ("db1.example.com", Some(("db1.example.com", 5432))),
            ("127.66.0.4:5433", Some(("127.66.0.4", 5433))),
            ("[::1]:5433", Some(("::1", 5433))),
            ("::1", Some(("::1", 5432))),
            ("db1:0", None),
            ("db1:port", None),
            ("", None),
            ("/var/run/postgresql", None),
            ("user@db1", None),
        ];
        for (written, read) in pairs {
            assert_eq!(host_and_port(written), read.map(|(h, p)| (h.to_string(), p)), "{written}");
        }
    }
}
