//! The shape of `offboard.yaml`.

use super::limits::{Clock, Preset};
use crate::connectors::SystemSettings;
use crate::model::SystemName;
use crate::roster::{Mapping, Protected};
use crate::source::Period;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What `offboard.yaml` says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    /// Your organisation, for the head of every report.
    pub company: String,
    /// Who works here.
    pub roster: RosterFile,
    /// The folder of the journal.
    #[serde(default = "journal")]
    pub journal: PathBuf,
    /// The folder of the sealing and signing keys. Keep a copy of it apart from the journal.
    #[serde(default = "keys")]
    pub keys: PathBuf,
    /// The folder of the playbooks.
    #[serde(default = "playbooks")]
    pub playbooks: PathBuf,
    /// A standard whose limits the report measures every run against.
    #[serde(default)]
    pub preset: Option<Preset>,
    /// Limits of your own, such as `access-disabled: 1h`. They override the preset's.
    #[serde(default)]
    pub limits: BTreeMap<Clock, Period>,
    /// The mail server, and who is told.
    #[serde(default)]
    pub mail: Option<crate::notify::Settings>,
    /// Every system that is closed, each by a name that you give it.
    pub systems: BTreeMap<SystemName, SystemSettings>,
    /// Accounts whose names do not tell whose they are.
    #[serde(default)]
    pub accounts: Vec<Mapping>,
    /// SSH keys whose place does not tell whose they are.
    #[serde(default)]
    pub keys_of: Vec<DeclaredKey>,
    /// Accounts that are never disabled.
    #[serde(default)]
    pub protected: Vec<Protected>,
}

/// Where the roster is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RosterFile {
    /// A CSV file with one row a person.
    pub csv: PathBuf,
}

/// An SSH key and whose it is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeclaredKey {
    /// The roster's identifier of the person.
    pub person: String,
    /// The public key, as the `.pub` file has it: `ssh-ed25519 AAAA… comment`.
    pub key: String,
}

fn journal() -> PathBuf {
    "journal".into()
}

fn keys() -> PathBuf {
    "keys".into()
}

fn playbooks() -> PathBuf {
    "playbooks".into()
}
