//! Lists of hosts: written into `offboard.yaml`, or kept in a file of their own, one host a line.

use super::guarded::{self, Access};
use crate::model::{Fault, FaultKind};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// One host of a fleet: its name alone, or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HostEntry {
    /// `name`, `name:port`, or `name address[:port]`.
    Line(String),
    /// With an address, a port or a user of its own.
    Host(Host),
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Host {
    /// The name that people use, and under which known_hosts has the host's key.
    pub name: String,
    /// Where to connect, if the name does not resolve to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The TCP port, 22 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The account to log in to on this host, if it is not the fleet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl<'de> Deserialize<'de> for HostEntry {
    // By hand: a derived implementation forgets which word of a host was wrong, and where it stands.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = HostEntry;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a host: its name, or `{ name: …, address: …, port: …, user: … }`")
            }
            fn visit_str<E: de::Error>(self, line: &str) -> Result<HostEntry, E> {
                Ok(HostEntry::Line(line.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HostEntry, A::Error> {
                Host::deserialize(MapAccessDeserializer::new(map)).map(HostEntry::Host)
            }
        }
        deserializer.deserialize_any(Entry)
    }
}

impl HostEntry {
    /// The host that is meant.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn host(&self) -> Result<Host, String> {
        match self {
            Self::Host(host) => checked(host.clone()),
            Self::Line(line) => parse(line),
        }
    }
}

/// Reads a host list: a line each, `name`, `name:port` or `name address[:port]`; empty lines and what follows `#` are left out.
///
/// # Errors
/// `Misconfigured`, with file and line.
pub fn read(path: &Path) -> Result<Vec<Host>, Fault> {
    let bytes = guarded::read(path, Access::OwnerWrites)?;
    let fault = |line: usize, why: &str| {
        Fault::new(FaultKind::Misconfigured, format!("{}:{line}: is no host", path.display()))
            .because(why)
            .hint("a line is: NAME, NAME:PORT or NAME ADDRESS[:PORT]")
    };
    let text = String::from_utf8(bytes).map_err(|_| fault(1, "the file is not UTF-8"))?;
    let mut hosts: Vec<Host> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let host = parse(line).map_err(|why| fault(number + 1, &why))?;
        if hosts.iter().any(|known| known.name == host.name) {
            return Err(fault(number + 1, &format!("{} is listed twice", host.name)));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

fn parse(line: &str) -> Result<Host, String> {
    let mut fields = line.split_ascii_whitespace();
    let (Some(first), second, None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(format!("\"{line}\" is no NAME [ADDRESS[:PORT]]"));
    };
    let host = match second {
        Some(second) => {
            let (address, port) = split_port(second)?;
            Host { name: first.to_string(), address: Some(address), port, user: None }
        }
        None => {
            let (name, port) = split_port(first)?;
            Host { name, address: None, port, user: None }
        }
    };
    checked(host)
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn split_port(text: &str) -> Result<(String, Option<u16>), String> {
    let port = |text: &str| text.parse().ok().filter(|p| *p > 0).ok_or_else(|| format!("\"{text}\" is no port"));
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(|| format!("\"{text}\" lacks its ]"))?;
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((address.to_string(), Some(port(digits)?))),
            None if rest.is_empty() => Ok((address.to_string(), None)),
            None => Err(format!("\"{text}\" is no address")),
        };
    }
    match text.split_once(':') {
        Some((host, digits)) if !digits.contains(':') => Ok((host.to_string(), Some(port(digits)?))),
        _ => Ok((text.to_string(), None)),
    }
}

fn checked(host: Host) -> Result<Host, String> {
    let sound = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%'))
    };
    if !sound(&host.name) {
        return Err(format!("\"{}\" is no host name", host.name));
    }
    match &host.address {
        Some(address) if !sound(address) => Err(format!("\"{address}\" is no address")),
        _ => Ok(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, address: Option<&str>, port: Option<u16>) -> Result<Host, String> {
        Ok(Host { name: name.into(), address: address.map(Into::into), port, user: None })
    }

    #[test]
    fn lines() {
        assert_eq!(parse("web1.sunrise.test"), host("web1.sunrise.test", None, None));
        assert_eq!(parse("web1:2222"), host("web1", None, Some(2222)));
        assert_eq!(parse("db1 127.66.0.11:22"), host("db1", Some("127.66.0.11"), Some(22)));
        assert_eq!(parse("db1 [2001:db8::1]:2222"), host("db1", Some("2001:db8::1"), Some(2222)));
        assert_eq!(parse("db1 2001:db8::1"), host("db1", Some("2001:db8::1"), None));
        for wrong in ["a b c", "web1:0", "web1:70000", "-oProxyCommand=x", "a;b", "web1 $(x)", "[::1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_names_the_line_that_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fleet.txt");
        std::fs::write(&path, "# ours\nweb1\n\ndb1 127.66.0.11 # the database\n").unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
        std::fs::write(&path, "web1\nweb1 127.66.0.12\n").unwrap();
        let fault = read(&path).unwrap_err();
        assert!(fault.what.ends_with("fleet.txt:2: is no host"), "{fault:?}");
    }
}
