//! The mail server, as `offboard.yaml` names it.

use crate::model::{MailAddress, SecretRef};
use crate::wire::guarded::Access;
use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// How the way to the mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// It begins in the clear and goes on in TLS before anything is said (RFC 3207); a server that does not offer it gets nothing. Port 587.
    #[default]
    Starttls,
    /// TLS from the first byte (RFC 8314). Port 465.
    Tls,
    /// No TLS: only to a server on this machine. Port 25.
    None,
}

/// Who is told by mail, and through which server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The mail server, `host` or `host:port`. Its certificate must carry this name.
    pub smtp: String,
    /// How the way to it is protected.
    #[serde(default)]
    pub tls: Tls,
    /// PEM file of the authority that signed its certificate; then no other is trusted. Without it the system's authorities are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The user name to log in with; without it we do not log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// The sender: `offboard <offboard@example.com>`.
    pub from: String,
    /// Who gets every report, and is told what is stuck or open.
    pub to: Vec<MailAddress>,
}

impl Settings {
    /// Files whose permissions are checked, and digests taken, when the configuration is read.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        let ca = self.ca.iter().map(|path| (path.clone(), Access::OwnerWrites));
        let password = self.password.iter().filter_map(|secret| secret.file.clone());
        ca.chain(password.map(|path| (path, Access::OwnerReads))).collect()
    }

    /// The server's name and port.
    ///
    /// # Errors
    /// What is wrong with it, half a sentence.
    pub fn server(&self) -> Result<(String, u16), &'static str> {
        let usual = match self.tls {
            Tls::Starttls => 587,
            Tls::Tls => 465,
            Tls::None => 25,
        };
        let text = self.smtp.as_str();
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address stands in brackets if a port follows (RFC 3986).
            _ if text.parse::<IpAddr>().is_ok() => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = match port {
            None => usual,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("a port is a number from 1 to 65535")?,
        };
        let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if !is_name && host.parse::<IpAddr>().is_err() {
            return Err("this is no name of a server");
        }
        Ok((host.to_string(), port))
    }

    /// Whether the server is on this machine, by its address: a name could be made to mean another one.
    pub fn is_local(&self) -> bool {
        let Ok((host, _)) = self.server() else { return false };
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The sender.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn sender(&self) -> Result<Mailbox, &'static str> {
        let wrong = "this is no sender; write one such as `offboard <offboard@example.com>`";
        let mailbox: Mailbox = self.from.trim().parse().map_err(|_| wrong)?;
        let plain = mailbox.email.to_string().parse::<MailAddress>().is_ok();
        let name = mailbox.name.as_deref().unwrap_or_default();
        if plain && name.len() <= 100 && !name.chars().any(char::is_control) { Ok(mailbox) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(smtp: &str, tls: Tls) -> Settings {
        let (ca, user, password) = (None, None, None);
        Settings { smtp: smtp.into(), tls, ca, user, password, from: "offboard@example.com".into(), to: Vec::new() }
    }

    #[test]
    fn servers_have_names_and_usual_ports() {
        let server = |text, tls| settings(text, tls).server().map_err(str::to_string);
        let is = |host: &str, port| Ok((host.to_string(), port));
        assert_eq!(server("smtp.example.com", Tls::Starttls), is("smtp.example.com", 587));
        assert_eq!(server("smtp.example.com:2525", Tls::Tls), is("smtp.example.com", 2525));
        assert_eq!(server("127.0.0.1", Tls::None), is("127.0.0.1", 25));
        assert_eq!(server("::1", Tls::None), is("::1", 25));
        assert_eq!(server("[::1]:465", Tls::Tls), is("::1", 465));
        for wrong in
            ["", ":25", "smtp.example.com:0", "smtp.example.com:x", "smtps://smtp.example.com", "a b", "x:70000"]
        {
            assert!(server(wrong, Tls::Tls).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_an_address_of_this_machine_is_local() {
        for (smtp, local) in [("127.0.0.1:25", true), ("[::1]:25", true), ("localhost", true), ("127.66.0.5", true)] {
            assert_eq!(settings(smtp, Tls::None).is_local(), local, "{smtp}");
        }
        for smtp in ["mail.example.com", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com"] {
            assert!(!settings(smtp, Tls::None).is_local(), "{smtp}");
        }
    }

    #[test]
    fn a_sender_is_one_mailbox() {
        let sender =
            |from: &str| Settings { from: from.into(), ..settings("x", Tls::Tls) }.sender().map(|m| m.to_string());
        assert_eq!(sender("offboard <offboard@example.com>"), Ok("offboard <offboard@example.com>".into()));
        assert_eq!(sender("offboard@example.com"), Ok("offboard@example.com".into()));
        for wrong in ["", "offboard", "a@example.com, b@example.com", "x\r\nBcc: eve@example.com <a@example.com>"] {
            assert!(sender(wrong).is_err(), "{wrong}");
        }
    }
}
