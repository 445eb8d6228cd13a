//! A PostgreSQL cluster, as `offboard.yaml` describes it.

use crate::connectors::database::{self, Control};
use crate::model::SecretRef;
use crate::wire::address::TlsMode;
use crate::wire::guarded::Access;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
        database::files(self.ca.as_ref(), &self.password, self.control.as_ref())
    }
}
