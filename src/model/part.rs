//! Who takes part in the rotation of a shared secret: as `offboard.yaml` declares it, and as connectors are given it. Where values are kept; never
//! one of them.

use super::{HealthChecks, SystemName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Where the value is checked when somebody logs in: an account of a system, or a key of a file on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecretSource {
    /// The system, by its name in this file.
    pub system: SystemName,
    /// The server that takes the change, or the host that has the file; needed where the system has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The account as the system calls it. Not with `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The account into which the value, a private key, lets whoever has it: on a host, by the files in which sshd looks for keys. Not with `account`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorizes: Option<String>,
    /// Further accounts that the same private key opens, of this host or others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<AlsoAuthorizes>,
    /// A second account with the same rights: programs are moved from one to the other at each rotation, and the one that they leave gets a
    /// password that nobody knows. So both of them always have one that no leaver can know, and no login ever fails in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternate: Option<String>,
    /// What sets the account's password, where programs are given it by a Vault: then the Vault is asked to change it, and here it is proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setter: Option<SecretSetter>,
    /// A file that the program which checks the value reads it from: an absolute path on the host. Not with `account`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How the file is written: `env` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<KeyFormat>,
    /// The key in the file, as a consumer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPath>,
    /// The command that makes the program read the file again: a list, no shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload: Vec<String>,
    /// How one sees that the program works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthChecks>,
    /// A command on the host that tries a value, which it reads from its standard input (one line): status 0 says that the program takes it, 1 that
    /// the program refuses it. It is how the old value is proved dead. A list, no shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<String>,
}

/// Another account that a private key opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AlsoAuthorizes {
    /// The host, as the system names it.
    pub place: String,
    /// The account there; the source's own name of it, unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorizes: Option<String>,
}

/// What chooses and sets the password of an account: a static role of a Vault's database engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecretSetter {
    /// The system, by its name in this file.
    pub system: SystemName,
    /// The server and namespace, as the system names it; needed where it has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The static role, as `bao read` takes it: `database/static-roles/portal`. Its `username` has to be the source's `account`.
    pub static_role: String,
}

/// Where a program that logs in with the value reads it: a key of a file on a host, or of a path in a system that keeps secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecretConsumer {
    /// The system, by its name in this file.
    pub system: SystemName,
    /// The host, as the system names it; with `path`, only where the system has more than one server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The file: an absolute path on the host. Not with `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How the file is written: `env` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<KeyFormat>,
    /// The path under which the system keeps it, such as `kv/billing/app`. Not with `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The key in the file, such as `PGPASSWORD`, or of the path. In INI, YAML and JSON the way to it: `database.password`, or a list of its parts.
    /// A number is an item of a list. Left out where the value is the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPath>,
    /// Where the source has an `alternate`: the key of the account's name in the same file or path, such as `PGUSER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_key: Option<KeyPath>,
    /// The command that makes the program read the file again: a list, no shell. Not with `path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload: Vec<String>,
    /// How one sees that the program works: a command (a list, no shell), or `{ command, http, tcp, login }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthChecks>,
    /// Addresses from which the program logs in, where they are not the host's own: behind NAT, by a pooler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<IpAddr>,
}

/// How a file with a key is written. docs/secrets.md says what of each is understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyFormat {
    /// `KEY=value`, as shells and systemd read it.
    #[default]
    Env,
    /// `[section]` and `key = value`.
    Ini,
    /// YAML, one document.
    Yaml,
    /// JSON.
    Json,
    /// As Java reads it.
    Properties,
    /// A private key as ssh(1) reads it, without a passphrase: the whole file, and `key` is left out.
    SshKey,
    /// As wg(8) and wg-quick(8) read it: the value is the preshared key of the peer whose public key `key` is.
    #[serde(rename = "wireguard")]
    WireGuard,
}

/// What a value is called where it is a whole file.
const WHOLE: &str = "private-key";

/// The way to one value in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum KeyPath {
    /// The key; in INI, YAML and JSON the way to it, with dots between its parts.
    Dotted(String),
    /// The way, part by part: for keys that have dots themselves.
    Parts(Vec<KeyPart>),
}

/// One part of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum KeyPart {
    /// A key, or a section.
    Name(String),
    /// An item of a list, from 0; or a key that is a number.
    Number(u32),
}

impl KeyFormat {
    /// Whether values of this format are no passwords, so that all who take part have to be of it.
    pub fn is_of_its_own(self) -> bool {
        matches!(self, Self::SshKey | Self::WireGuard)
    }
}

impl KeyPath {
    /// The way to the value, part by part.
    pub fn parts(&self, format: KeyFormat) -> Vec<String> {
        match (self, format) {
            (Self::Parts(parts), _) => parts.iter().map(ToString::to_string).collect(),
            (Self::Dotted(key), KeyFormat::Ini | KeyFormat::Yaml | KeyFormat::Json) => {
                key.split('.').map(str::to_string).collect()
            }
            (Self::Dotted(key), _) => vec![key.clone()],
        }
    }
}

impl std::fmt::Display for KeyPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl std::fmt::Display for KeyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dotted(key) => f.write_str(key),
            Self::Parts(parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                f.write_str(&parts.join("."))
            }
        }
    }
}

/// A key in a file on a host, and the program that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    /// An absolute path on the host.
    pub file: String,
    /// How it is written.
    pub format: KeyFormat,
    /// The key in it.
    pub key: KeyPath,
    /// The key of the account's name, where accounts alternate.
    pub user_key: Option<KeyPath>,
    /// The accounts of which that names one: what else stands there is no account's name, and may be anything.
    pub users: Vec<String>,
    /// The command that makes the program read it again.
    pub reload: Vec<String>,
    /// How one sees that the program works.
    pub health: HealthChecks,
    /// Addresses from which the program logs in, besides the host's own.
    pub from: Vec<IpAddr>,
    /// A source's: the command that tries a value.
    pub probe: Vec<String>,
}

impl KeptFile {
    /// The way to the value, part by part.
    pub fn path(&self) -> Vec<String> {
        self.key.parts(self.format)
    }

    /// The way to the account's name, where accounts alternate.
    pub fn user_path(&self) -> Option<Vec<String>> {
        self.user_key.as_ref().map(|key| key.parts(self.format))
    }
}

/// A key of a path in a system that keeps secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPath {
    /// As the system calls it: `kv/billing/app`.
    pub path: String,
    /// The key there; one part unless it is written as a list.
    pub key: KeyPath,
    /// The key of the account's name, where accounts alternate.
    pub user_key: Option<KeyPath>,
    /// The accounts of which that names one.
    pub users: Vec<String>,
    /// How one sees that the program works that reads it.
    pub health: HealthChecks,
    /// Addresses from which the program logs in.
    pub from: Vec<IpAddr>,
}

impl KeptPath {
    /// The way to the value, part by part.
    pub fn path_to_value(&self) -> Vec<String> {
        self.key.parts(KeyFormat::Env)
    }

    /// The way to the account's name, where accounts alternate.
    pub fn path_to_user(&self) -> Option<Vec<String>> {
        self.user_key.as_ref().map(|key| key.parts(KeyFormat::Env))
    }
}

/// A static role of a Vault's database engine: the Vault sets the password of one account of a database, and tells it to programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRole {
    /// As the Vault calls it: `database/static-roles/portal`.
    pub path: String,
    /// Where the engine is mounted: `database`.
    pub mount: String,
    /// The role's name there.
    pub name: String,
    /// The account whose password it sets.
    pub account: String,
}

impl StaticRole {
    /// The static role at a path, that sets the password of `account`; nothing if the path is none of a static role.
    pub fn new(path: &str, account: &str) -> Option<Self> {
        let (mount, name) = path.split_once("/static-roles/")?;
        let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(char::is_control);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        (!mount.split('/').any(odd) && !odd(name) && name.chars().all(plain)).then(|| Self {
            path: path.to_string(),
            mount: mount.to_string(),
            name: name.to_string(),
            account: account.to_string(),
        })
    }

    /// Where programs read the password.
    pub fn credentials(&self) -> String {
        format!("{}/static-creds/{}", self.mount, self.name)
    }

    /// What makes the Vault set a new one.
    pub fn rotation(&self) -> String {
        format!("{}/rotate-role/{}", self.mount, self.name)
    }
}

/// What a participant of a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    /// It checks the value of an account.
    Source,
    /// The same, where two accounts alternate.
    Former,
    /// It checks the value of an account that a setter sets.
    Checked,
    /// It lets a private key into an account.
    Authorized,
    /// It chooses the value, and sets it where that is checked.
    Setter,
    /// It checks a value that it reads from a file.
    SourceFile,
    /// It logs in with the value, which it reads from a file.
    Consumer,
    /// It keeps the value for whoever logs in with it.
    ConsumerPath,
}

/// One participant of a rotation, at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The account whose password the secret is.
    Source {
        /// As the system calls it.
        account: String,
    },
    /// The other one of two accounts that alternate: programs log in with it until they are moved.
    Former {
        /// As the system calls it.
        account: String,
    },
    /// The account whose password the secret is, where a setter sets it: here it is looked at and tried, and never set.
    Checked {
        /// As the system calls it.
        account: String,
    },
    /// The account that the private key opens, which the secret is.
    Authorized {
        /// As the host calls it.
        account: String,
        /// Other accounts of the same host that it is known to open.
        also: Vec<String>,
    },
    /// What sets the password of that account.
    Setter(StaticRole),
    /// The file from which the program that checks the value reads it.
    SourceFile(KeptFile),
    /// The program that logs in with it, and its file.
    Consumer(KeptFile),
    /// The path under which a system keeps it for those who log in with it.
    ConsumerPath(KeptPath),
}

impl Part {
    /// What it is.
    pub fn kind(&self) -> PartKind {
        match self {
            Self::Source { .. } => PartKind::Source,
            Self::Former { .. } => PartKind::Former,
            Self::Checked { .. } => PartKind::Checked,
            Self::Authorized { .. } => PartKind::Authorized,
            Self::Setter(_) => PartKind::Setter,
            Self::SourceFile(_) => PartKind::SourceFile,
            Self::Consumer(_) => PartKind::Consumer,
            Self::ConsumerPath(_) => PartKind::ConsumerPath,
        }
    }

    /// What of the place it is about: the account, or the file or path, and a consumer's key. A secret has one source, so that needs no key to
    /// be told from others.
    pub fn object(&self) -> (&str, String) {
        match self {
            Self::Source { account }
            | Self::Former { account }
            | Self::Checked { account }
            | Self::Authorized { account, .. } => (account, String::new()),
            Self::Setter(role) => (&role.path, String::new()),
            Self::SourceFile(kept) => (&kept.file, String::new()),
            Self::Consumer(kept) => (&kept.file, kept.key.to_string()),
            Self::ConsumerPath(kept) => (&kept.path, kept.key.to_string()),
        }
    }

    /// How one sees that the program works; an account has none, and neither has what sets its password.
    pub fn health(&self) -> Option<&HealthChecks> {
        match self {
            Self::Source { .. }
            | Self::Former { .. }
            | Self::Checked { .. }
            | Self::Authorized { .. }
            | Self::Setter(_) => None,
            Self::SourceFile(kept) | Self::Consumer(kept) => Some(&kept.health),
            Self::ConsumerPath(kept) => Some(&kept.health),
        }
    }
}

impl SecretSource {
    /// What it is; nothing if it is neither an account nor a whole file, which is a mistake in `offboard.yaml`.
    pub fn part(&self) -> Option<Part> {
        if let Some(account) = &self.authorizes {
            let alone = self.account.is_none() && self.file.is_none() && self.key.is_none();
            return alone.then(|| Part::Authorized { account: account.clone(), also: Vec::new() });
        }
        match (&self.account, &self.file, &self.key) {
            (Some(account), None, None) if self.setter.is_some() => Some(Part::Checked { account: account.clone() }),
            (Some(account), None, None) => Some(Part::Source { account: account.clone() }),
            (None, Some(file), Some(key)) => Some(Part::SourceFile(KeptFile {
                file: file.clone(),
                format: self.format.unwrap_or_default(),
                key: key.clone(),
                user_key: None,
                users: Vec::new(),
                reload: self.reload.clone(),
                health: self.health.clone().unwrap_or_default(),
                from: Vec::new(),
                probe: self.probe.clone(),
            })),
            _ => None,
        }
    }
}

impl SecretSource {
    /// The format of every consumer's file, where the value is no password.
    pub fn format_of_consumers(&self) -> Option<KeyFormat> {
        let format = if self.authorizes.is_some() { Some(KeyFormat::SshKey) } else { self.format };
        format.filter(|format| format.is_of_its_own())
    }
}

impl SecretSetter {
    /// What sets the password of `account`; nothing if `static-role` leads to no static role, which is a mistake in `offboard.yaml`.
    pub fn static_role(&self, account: &str) -> Option<StaticRole> {
        StaticRole::new(&self.static_role, account)
    }
}

impl SecretConsumer {
    /// What it is; nothing if it is neither a file nor a path, or has no key, which is a mistake in `offboard.yaml`.
    pub fn part(&self) -> Option<Part> {
        let whole = (self.format == Some(KeyFormat::SshKey)).then(|| KeyPath::Dotted(WHOLE.into()));
        let (key, from) = (self.key.clone().or(whole)?, self.from.clone());
        let health = self.health.clone().unwrap_or_default();
        match (&self.file, &self.path) {
            (Some(file), None) => Some(Part::Consumer(KeptFile {
                file: file.clone(),
                format: self.format.unwrap_or_default(),
                key,
                user_key: self.user_key.clone(),
                users: Vec::new(),
                reload: self.reload.clone(),
                health,
                from,
                probe: Vec::new(),
            })),
            (None, Some(path)) => Some(Part::ConsumerPath(KeptPath {
                path: path.clone(),
                key,
                user_key: self.user_key.clone(),
                users: Vec::new(),
                health,
                from,
            })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StaticRole;

    #[test]
    fn a_static_role_is_told_from_other_paths() {
        let role = StaticRole::new("corp/db/static-roles/portal-1", "portal").unwrap();
        assert_eq!((role.mount.as_str(), role.name.as_str(), role.account.as_str()), ("corp/db", "portal-1", "portal"));
        assert_eq!(
            (role.credentials().as_str(), role.rotation().as_str()),
            ("corp/db/static-creds/portal-1", "corp/db/rotate-role/portal-1")
        );
        for path in [
            "",
            "database",
            "database/static-creds/portal",
            "/static-roles/portal",
            "static-roles/portal",
            "database/static-roles/",
            "database/static-roles/a/b",
            "database/static-roles/..",
            "../static-roles/portal",
            "database//static-roles/portal",
            "database/static-roles/$(id)",
            "database/static-roles/a\nb",
            "database/static-roles/a?b=c",
            "database/static-roles/x/static-roles/portal",
        ] {
            assert_eq!(StaticRole::new(path, "portal"), None, "{path}");
        }
    }
}
