//! The shape of `offboard.yaml`.

use super::limits::{Clock, Preset};
use crate::connectors::SystemSettings;
use crate::model::{SecretName, SharedSecret, SystemName};
use crate::roster::{Mapping, Protected};
use crate::source::Period;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
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
    /// Who keeps the sealing key, so that its file alone opens nothing. A plain file if left out.
    #[serde(default)]
    pub sealing: Option<Sealing>,
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
    /// Passwords that programs log in with and that people may know, each by a name that you give it.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, SharedSecret>,
    /// How `offboard serve` works.
    #[serde(default)]
    pub serve: Serve,
}

/// Who keeps the sealing key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sealing {
    /// A key of a Vault's transit engine encrypts it.
    pub transit: Transit,
}

/// A key of a Vault's transit engine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Transit {
    /// One of `systems`, of the kind vault; its login is used.
    pub system: SystemName,
    /// The key's name.
    #[serde(default = "offboard")]
    pub key: String,
    /// Where the engine is mounted.
    #[serde(default = "transit")]
    pub mount: String,
    /// Which place of the system, if it has several: as `offboard check` calls it.
    #[serde(default)]
    pub place: Option<String>,
}

fn offboard() -> String {
    "offboard".into()
}

fn transit() -> String {
    "transit".into()
}

/// How `offboard serve` works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Serve {
    /// Where it says whether it is alive and ready, over HTTP: `/healthz` and `/readyz`.
    pub health: SocketAddr,
    /// Whether leavers are picked up from the roster by themselves.
    pub leavers: bool,
    /// Somebody whose employment ended longer ago when `serve` first sees it is not run by itself.
    pub leavers_since: Period,
    /// If more people leave at one time, none of them is run by itself: a roster that says so is more often wrong than right.
    #[schemars(range(min = 1))]
    pub leavers_at_once: u32,
    /// For so long a stop waits for what is being done; what is not done by then goes on at the next start.
    pub stop_within: Period,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            health: SocketAddr::from(([127, 0, 0, 1], 8437)),
            leavers: true,
            leavers_since: Period::seconds(7 * 86_400),
            leavers_at_once: 10,
            stop_within: Period::seconds(20),
        }
    }
}

impl File {
    /// Every account that is mapped to a person: under `accounts`, or in the block of its system.
    pub fn mappings(&self) -> Vec<Mapping> {
        let of_blocks = self.systems.iter().flat_map(|(system, settings)| {
            let mapped = settings.mapped().into_iter();
            mapped.map(|one| Mapping { person: one.person, system: system.clone(), account: one.account })
        });
        self.accounts.iter().cloned().chain(of_blocks).collect()
    }
}

/// Where the roster is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RosterFile {
    /// A CSV file with one row a person.
    pub csv: PathBuf,
    /// The zone of people whose row has none, such as `Asia/Kolkata`. Without it, an end date needs a zone in its own row.
    #[serde(default)]
    pub zone: Option<String>,
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
