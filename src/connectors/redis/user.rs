//! What a server says of an ACL user, and the account that it is to us.
//!
//! A user is read from the line that `ACL LIST` and an ACL file write: `user NAME on #digest ~keys &channels +commands (selector)`. Names and
//! patterns have no spaces (`ACLStringHasSpaces` in acl.c), so a line splits at them.

use super::clients::Connected;
use super::link::RedisLink;
use crate::model::{Account, Door, DoorKind, Identity, Owner};
use crate::wire::sql::presentable;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A user, and its before-image: all of it goes into the account's `facts`, except the digests of its passwords, which are unsalted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    pub enabled: bool,
    /// Any password gets in.
    pub nopass: bool,
    /// How many passwords it has.
    pub passwords: usize,
    /// What it may do, as the server writes it.
    pub rules: String,
    #[serde(default, skip)]
    pub digests: Vec<String>,
}

/// The digest of a password as the server keeps it: SHA-256 in hexadecimal.
pub fn digest(password: &SecretString) -> String {
    Sha256::digest(password.expose_secret().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A command, and the categories that it is in (redis.io/commands; the same in Valkey).
pub struct Command {
    pub name: &'static str,
    pub categories: &'static [&'static str],
}

const ADMIN: &[&str] = &["admin", "dangerous", "slow"];

/// What makes a user able to let others in.
pub const ACL_SETUSER: Command = Command { name: "acl|setuser", categories: ADMIN };

/// What offboard's own user needs, and what for.
pub const NEEDED: &[(Command, &str)] = &[
    (Command { name: "acl|list", categories: ADMIN }, "see the users"),
    (Command { name: "acl|getuser", categories: ADMIN }, "see one user"),
    (ACL_SETUSER, "disable users"),
    (Command { name: "acl|save", categories: ADMIN }, "keep a user off over a restart, where there is an ACL file"),
    (Command { name: "client|list", categories: &["admin", "dangerous", "slow", "connection"] }, "see connections"),
    (Command { name: "client|kill", categories: &["admin", "dangerous", "slow", "connection"] }, "end connections"),
    (Command { name: "client|id", categories: &["slow", "connection"] }, "see which connections are old"),
    (Command { name: "info", categories: &["slow", "dangerous"] }, "see what this server is"),
    (Command { name: "role", categories: &["admin", "fast", "dangerous"] }, "see which other servers belong to this one"),
];

/// The same where users stand in the configuration file.
pub const NEEDED_WITHOUT_ACL_FILE: &[(Command, &str)] =
    &[(Command { name: "config|rewrite", categories: ADMIN }, "keep a user off over a restart, without an ACL file")];

impl User {
    /// Reads a line of `ACL LIST`; nothing if it is none.
    pub fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        if words.next()? != "user" {
            return None;
        }
        let mut user = Self { name: words.next()?.to_string(), ..Self::default() };
        let mut rules = Vec::new();
        for word in words {
            match word {
                "on" => user.enabled = true,
                "off" => user.enabled = false,
                "nopass" => user.nopass = true,
                "resetpass" | "sanitize-payload" | "skip-sanitize-payload" => {}
                _ => match word.strip_prefix('#') {
                    Some(digest) => user.digests.push(digest.to_ascii_lowercase()),
                    None => rules.push(word),
                },
            }
        }
        user.passwords = user.digests.len();
        user.rules = rules.join(" ");
        Some(user)
    }

    /// Whether a password can get it in.
    pub fn takes_passwords(&self) -> bool {
        self.nopass || self.passwords > 0
    }

    /// Whether it is off, and has exactly this one password, or none.
    pub fn is_off_with(&self, witness: Option<&str>) -> bool {
        let only = match witness {
            Some(witness) => self.digests.len() == 1 && self.digests[0] == witness,
            None => self.digests.is_empty(),
        };
        !self.enabled && !self.nopass && only
    }

    /// Whether its rules allow a command. Rules are applied in order; each selector begins with nothing.
    pub fn may(&self, command: &Command) -> bool {
        let (container, _) = command.name.split_once('|').unwrap_or((command.name, ""));
        let (mut root, mut selector, mut inside, mut any) = (false, false, false, false);
        for word in self.rules.split(' ') {
            let (begins, word) = word.strip_prefix('(').map_or((false, word), |rest| (true, rest));
            let (word, ends) = match word.strip_suffix(')') {
                Some(rest) if inside || begins => (rest, true),
                _ => (word, false),
            };
            if begins {
                (inside, selector) = (true, false);
            }
            let (adds, what) = match (word, word.strip_prefix('+'), word.strip_prefix('-')) {
                ("allcommands", ..) => (true, "@all"),
                ("nocommands", ..) => (false, "@all"),
                (_, Some(what), _) => (true, what),
                (_, _, Some(what)) => (false, what),
                _ => (false, ""),
            };
            let means = match what.strip_prefix('@') {
                Some("all") => true,
                Some(category) => command.categories.contains(&category),
                None => what.eq_ignore_ascii_case(command.name) || what.eq_ignore_ascii_case(container),
            };
            if means {
                *(if inside { &mut selector } else { &mut root }) = adds;
            }
            if ends {
                any |= selector;
                inside = false;
            }
        }
        root || any
    }

    /// Whether it can do more than work with keys: let others in, change the configuration.
    pub fn is_privileged(&self) -> bool {
        self.may(&ACL_SETUSER) || self.may(&Command { name: "config|set", categories: ADMIN })
    }

    /// The account, with every door.
    pub fn account(&self, link: &RedisLink, connected: Option<&Connected>) -> Account {
        let place = &link.place.id;
        let kind = if self.takes_passwords() { DoorKind::Password } else { DoorKind::Login };
        let sessions = connected.map_or_else(|| "no live connection".to_string(), Connected::to_string);
        let doors = vec![
            Door::new(place, &self.name, kind, "", self.login_detail()),
            Door::new(place, &self.name, DoorKind::Session, "", sessions),
        ];
        let mails = if is_mail(&self.name) { vec![self.name.clone()] } else { Vec::new() };
        Account {
            system: link.system.clone(),
            place: place.clone(),
            native_id: self.name.clone(),
            name: self.name.clone(),
            enabled: self.enabled,
            identity: Identity { mails, user_name: Some(self.name.clone()), ..Identity::default() },
            owner: if link.is_ours(&self.name) { Owner::Ourselves } else { Owner::Nobody },
            privileged: self.is_privileged(),
            last_used: None,
            doors,
            facts: serde_json::to_value(self).unwrap_or_default(),
        }
    }

    fn login_detail(&self) -> String {
        let password = match (self.nopass, self.passwords) {
            (true, _) => "needs no password (nopass)".to_string(),
            (_, 0) => "has no password".into(),
            (_, 1) => "has a password".into(),
            (_, n) => format!("has {n} passwords"),
        };
        let state = if self.enabled { "on" } else { "off" };
        presentable(&format!("{state}, {password}: {}", self.rules))
    }
}

/// Whether a name is one mail address and nothing else, as far as matching needs it.
fn is_mail(name: &str) -> bool {
    name.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.') && !domain.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_the_server_writes_it() {
        let line = "user jane off sanitize-payload #9F86d0 #aa ~app:* resetchannels &news -@all +get +@read";
        let user = User::of_line(line).unwrap();
        assert_eq!(user.name, "jane");
        assert!(!user.enabled && !user.nopass && user.passwords == 2);
        assert_eq!(user.digests, ["9f86d0", "aa"]);
        assert_eq!(user.rules, "~app:* resetchannels &news -@all +get +@read");
        assert!(!serde_json::to_string(&user).unwrap().contains("9f86d0"), "no digest in the before-image");
        let default = User::of_line("user default on nopass ~* &* +@all").unwrap();
        assert!(default.nopass && default.takes_passwords() && default.is_privileged());
        assert_eq!(User::of_line("jane on"), None);
    }

    #[test]
    fn rules_are_applied_in_order() {
        let may = |rules: &str| User { rules: rules.into(), ..User::default() }.may(&ACL_SETUSER);
        for rules in ["+@all", "~* +@all -@write", "-@all +acl", "+acl|setuser", "+@dangerous", "~a -@all +get (~b +@admin)", "allcommands"] {
            assert!(may(rules), "{rules}");
        }
        for rules in ["", "+@all -@dangerous", "+@all -acl", "+acl|list", "+@read", "+acl -@admin", "-@all (~b +get) (+@all -@admin)"] {
            assert!(!may(rules), "{rules}");
        }
    }
}
