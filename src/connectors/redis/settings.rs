//! Redis or Valkey servers, as `offboard.yaml` describes them.

use crate::connectors::database::{self, Control};
use crate::model::SecretRef;
use crate::wire::address::TlsMode;
use crate::wire::guarded::Access;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Redis or Valkey servers that belong together.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Every server, `host` or `host:port`: primaries, replicas, nodes of a cluster, Sentinels. Each has users of its own: they are not replicated.
    pub hosts: Vec<String>,
    /// The ACL user that offboard logs in as. It is never touched.
    pub user: String,
    /// Its password.
    pub password: SecretRef,
    /// PEM file of the authority that signed the servers' certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// `verify-full`, or `off` on loopback.
    #[serde(default)]
    pub tls: TlsMode,
    /// A user that must still get in when the leaver does not. Without one, offboard's own user has to do. It is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

impl Settings {
    /// The files that these settings name, and who may have what on them.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        database::files(self.ca.as_ref(), &self.password, self.control.as_ref())
    }
}
