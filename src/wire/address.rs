//! The servers of a database system, as `offboard.yaml` names them: where they are, and how the way to them is protected.

use crate::model::{Fault, FaultKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

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

/// `host`, `host:port`, `[address]:port`, `[address]` or a bare IPv6 address. `standard` is the port where none is written.
pub fn host_and_port(written: &str, standard: u16) -> Option<(String, u16)> {
    if written.parse::<IpAddr>().is_ok() {
        return Some((written.to_string(), standard));
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
    let port = port.map_or(Some(standard), |p| p.parse().ok().filter(|p| *p != 0))?;
    host_is_fine.then(|| (host.to_string(), port))
}

/// Host and port of every server of a system, by what is written. `what` names the system: `postgres billing`.
///
/// # Errors
/// `Misconfigured`: no host, a host twice, a port that is none, TLS off where it must be on, or no `ca`.
pub fn servers(
    what: &str,
    hosts: &[String],
    standard: u16,
    tls: TlsMode,
    ca: Option<&Path>,
) -> Result<BTreeMap<String, (String, u16)>, Fault> {
    let fault = |because: String| Fault::new(FaultKind::Misconfigured, format!("{what}: {because}"));
    if hosts.is_empty() {
        return Err(
            fault("hosts is empty".into()).hint(format!("name at least one, such as db1.example.com:{standard}"))
        );
    }
    let mut servers = BTreeMap::new();
    for written in hosts {
        let (host, port) = host_and_port(written, standard)
            .ok_or_else(|| fault(format!("{written:?} is no host")).hint("write host, host:port or [address]:port"))?;
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if tls == TlsMode::Off && !loopback {
            return Err(fault(format!("tls is off for {written}, which is not a loopback address"))
                .hint("remove tls: off and name the servers' authority in ca"));
        }
        if servers.insert(written.clone(), (host, port)).is_some() {
            return Err(fault(format!("{written} is there twice")));
        }
    }
    if tls == TlsMode::VerifyFull && ca.is_none() {
        return Err(fault("ca is missing".into())
            .hint("name the PEM file of the authority that signed the servers' certificates"));
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(host_and_port(written, 5432), read.map(|(h, p)| (h.to_string(), p)), "{written}");
        }
    }

    #[test]
    fn servers_that_cannot_be_honoured_are_refused() {
        let refused = |hosts: &[&str], tls, ca: Option<&str>| {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            servers("redis cache", &hosts, 6379, tls, ca.map(Path::new)).unwrap_err().to_string()
        };
        assert!(refused(&[], TlsMode::VerifyFull, None).contains("hosts is empty"));
        assert!(refused(&["db1.example.com"], TlsMode::VerifyFull, None).contains("ca is missing"));
        assert!(refused(&["db1.example.com"], TlsMode::Off, None).contains("not a loopback address"));
        assert!(refused(&["127.0.0.1", "127.0.0.1"], TlsMode::VerifyFull, Some("ca.pem")).contains("twice"));
    }
}
