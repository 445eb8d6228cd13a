//! An account on one place of one system, and whose it is.

use super::{Door, Fingerprint, PersonId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name that `offboard.yaml` gives a system.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SystemName(pub String);

impl std::fmt::Display for SystemName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One host, server or replica, unique within a run: `system/address`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlaceId(pub String);

impl std::fmt::Display for PlaceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One host, server or replica of a system: it is opened, limited and tried again on its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// `system/address`.
    pub id: PlaceId,
    /// The system it belongs to.
    pub system: SystemName,
    /// How people name it: a host name, or host and port.
    pub address: String,
}

impl Place {
    /// A place of `system` at `address`.
    pub fn new(system: &SystemName, address: impl Into<String>) -> Self {
        let address = address.into();
        Self { id: PlaceId(format!("{system}/{address}")), system: system.clone(), address }
    }
}

/// What sort of system it is; playbooks select by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// LDAP, Active Directory.
    Directory,
    /// PostgreSQL, MySQL, Redis.
    Database,
    /// Unix hosts over SSH.
    Host,
    /// OpenVPN, WireGuard, IPsec.
    Vpn,
    /// Everything with an API of its own.
    Saas,
}

/// By which rule an account or a door was matched to a person, strongest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchRule {
    /// `offboard.yaml` maps this account to the person.
    Explicit,
    /// The account carries the person's employee number.
    EmployeeNumber,
    /// The account carries the person's mail address.
    Mail,
    /// The account's name is the person's user name.
    UserName,
    /// The key is declared for the person (`offboard.yaml`, or the directory entry's sshPublicKey).
    DeclaredKey,
    /// The key stands in an account of the person's own.
    KeyInOwnAccount,
    /// The credential appeared during the run in an account that the leaver could write to.
    PlantedDuringRun,
    /// The door belongs to an account that is the person's.
    OwnAccount,
    /// `offboard.yaml` says that the person may know the secret, or they could read it where it is kept.
    KnowsSecret,
}

impl std::fmt::Display for MatchRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Explicit => "mapped in offboard.yaml",
            Self::EmployeeNumber => "employee number",
            Self::Mail => "mail address",
            Self::UserName => "user name",
            Self::DeclaredKey => "declared key",
            Self::KeyInOwnAccount => "key in own account",
            Self::PlantedDuringRun => "appeared during the run",
            Self::OwnAccount => "own account",
            Self::KnowsSecret => "may know the secret",
        })
    }
}

/// Whose an account or a door is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// One person, and the rule that says so.
    Person {
        /// Who.
        id: PersonId,
        /// The rule that matched.
        rule: MatchRule,
    },
    /// More than one person matches: a finding, never acted on.
    Ambiguous {
        /// Everyone who matches.
        people: Vec<PersonId>,
    },
    /// Used by several people: root, deploy. Listed; only the leaver's own credentials in it are touched.
    Shared,
    /// Used by a program.
    Service,
    /// For emergencies: listed, never touched.
    BreakGlass,
    /// The identity that offboard itself logs in with: never touched.
    Ourselves,
    /// No person matches.
    Nobody,
}

impl Owner {
    /// The person, if it is exactly one.
    pub fn person(&self) -> Option<&PersonId> {
        match self {
            Self::Person { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// What an account says of its holder. The roster matches people against this; names for people to read are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `employeeNumber` and the like.
    pub employee_number: Option<String>,
    /// Every mail address of the account.
    #[serde(default)]
    pub mails: Vec<String>,
    /// The login name, without realm or host.
    pub user_name: Option<String>,
    /// Keys that the account *declares* as its holder's (sshPublicKey of a directory entry).
    #[serde(default)]
    pub declared_keys: Vec<Fingerprint>,
}

/// An account as one place shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The system.
    pub system: SystemName,
    /// The place.
    pub place: super::PlaceId,
    /// What the place itself calls it, exactly: a DN, a role name, a Unix login.
    pub native_id: String,
    /// For people to read.
    pub name: String,
    /// Whether the place lets it log in now.
    pub enabled: bool,
    /// What the account says of its holder.
    pub identity: Identity,
    /// Whose it is. A connector says [`Owner::Nobody`], or `Ourselves` for the login it uses itself; the roster's matching fills in the rest.
    pub owner: Owner,
    /// Superuser, CREATEROLE, sudo, directory administrator.
    pub privileged: bool,
    /// When it was last used, where the place knows.
    pub last_used: Option<jiff::Timestamp>,
    /// Every way in that was found: credentials, sessions, memberships.
    pub doors: Vec<Door>,
    /// The connector's own before-image, needed by restore. Sealed in the journal, shown to nobody.
    #[serde(default)]
    pub facts: serde_json::Value,
}
