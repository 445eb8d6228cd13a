//! A Vault, as `offboard.yaml` describes it.

use crate::model::SecretRef;
use crate::wire::guarded::Access;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A login by AppRole.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ByAppRole {
    /// Where the auth method is mounted.
    #[serde(default = "approle")]
    pub mount: String,
    /// The role's RoleID.
    pub role_id: String,
    /// A SecretID of it.
    pub secret_id: SecretRef,
}

/// A login by user name and password.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ByPassword {
    /// Where the auth method is mounted.
    #[serde(default = "userpass")]
    pub mount: String,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: SecretRef,
}

fn approle() -> String {
    "approle".into()
}

fn userpass() -> String {
    "userpass".into()
}

/// How a program logs in: exactly one of these.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Login {
    /// With a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// By AppRole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<ByAppRole>,
    /// By user name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userpass: Option<ByPassword>,
}

impl Login {
    /// Whether exactly one way is named.
    pub fn is_one(&self) -> bool {
        [self.token.is_some(), self.app_role.is_some(), self.userpass.is_some()].into_iter().filter(|x| *x).count() == 1
    }

    fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let password = self.userpass.as_ref().map(|u| &u.password);
        self.token.iter().chain(self.app_role.iter().map(|a| &a.secret_id)).chain(password)
    }
}

/// OpenBao or HashiCorp Vault, as `offboard.yaml` describes it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// One address of each cluster: `https://host:port`. Nodes of one cluster know the same; name one, or what stands before them.
    pub addresses: Vec<String>,
    /// The namespaces to close, each on its own; `root` is the one above all. That one alone if left out.
    #[serde(default = "root", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// PEM file of the authority that signed the servers' certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// How offboard logs in. Its own login is never touched.
    pub login: Box<Login>,
    /// Audit logs of its file devices, as files that offboard can read: who has read the path of a shared secret is found there. Relative to `offboard.yaml`; the address
    /// must be the only one. What was rotated away is found only if it is named, too, and not compressed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audit_logs: Vec<PathBuf>,
    /// A login that must still get in when the leaver does not. Without one, offboard's own has to do. It is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Box<Login>>,
}

fn root() -> Vec<String> {
    vec!["root".into()]
}

impl Settings {
    /// The files that these settings name, and who may have what on them.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        let secrets = self.login.secrets().chain(self.control.iter().flat_map(|control| control.secrets()));
        let secrets = secrets.filter_map(|secret| secret.file.clone()).map(|file| (file, Access::OwnerReads));
        self.ca.iter().map(|ca| (ca.clone(), Access::OwnerWrites)).chain(secrets).collect()
    }
}
