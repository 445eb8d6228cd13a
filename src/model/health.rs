//! How one sees that a program works, after it was given a new password.

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Checks of a program. All that are declared have to pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(into = "Written")]
pub struct HealthChecks {
    /// A command on the host that succeeds when the program works; nothing if it is empty.
    pub command: Vec<String>,
    /// A request that is answered as it should be.
    pub http: Option<HttpCheck>,
    /// A port that takes connections.
    pub tcp: Option<TcpCheck>,
    /// Whether the source has to show a login of the consumer's that is newer than the change.
    pub login: bool,
}

/// A request that is answered as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpCheck {
    /// What is asked for, with GET: `http://…` or `https://…`.
    pub url: String,
    /// The status code of the answer: 200 if it is not said.
    #[serde(default = "ok")]
    pub status: u16,
    /// For `https`: a PEM file with the CA that signed the certificate; no other CA is trusted. Relative to `offboard.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Who asks: `host` (if it is not said and there is one), or `here`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Asker>,
}

fn ok() -> u16 {
    200
}

/// A port that takes connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TcpCheck {
    /// `address:port`.
    pub to: String,
    /// Who asks: `host` (if it is not said and there is one), or `here`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Asker>,
}

/// From where a program is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Asker {
    /// From where offboard runs.
    Here,
    /// From the program's own host, through the connection to it.
    Host,
}

/// [`HealthChecks`], as they are written.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Written {
    /// The command that succeeds when the program works: a list, no shell.
    Command(Vec<String>),
    /// Any of four checks.
    Checks(Checks),
}

/// Any of four checks; all that are there have to pass.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Checks {
    /// The command that succeeds when the program works: a list, no shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    command: Vec<String>,
    /// A request that is answered as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpCheck>,
    /// A port that takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpCheck>,
    /// `true`: the source has to show a login of this consumer's that is newer than the change.
    #[serde(default)]
    login: bool,
}

impl From<HealthChecks> for Written {
    fn from(health: HealthChecks) -> Self {
        let HealthChecks { command, http, tcp, login } = health;
        match (&http, &tcp, login) {
            (None, None, false) => Self::Command(command),
            _ => Self::Checks(Checks { command, http, tcp, login }),
        }
    }
}

impl HealthChecks {
    /// Whether nothing is checked.
    pub fn is_empty(&self) -> bool {
        self.command.is_empty() && self.http.is_none() && self.tcp.is_none() && !self.login
    }
}

impl<'de> Deserialize<'de> for HealthChecks {
    // By hand, since an error of an untagged enum points at the whole and not at the wrong word.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = HealthChecks;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list (a command), or any of `command`, `http`, `tcp`, `login`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<HealthChecks, A::Error> {
        let command = Vec::deserialize(SeqAccessDeserializer::new(words))?;
        Ok(HealthChecks { command, ..HealthChecks::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, checks: A) -> Result<HealthChecks, A::Error> {
        let Checks { command, http, tcp, login } = Checks::deserialize(MapAccessDeserializer::new(checks))?;
        Ok(HealthChecks { command, http, tcp, login })
    }
}

impl JsonSchema for HealthChecks {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HealthChecks".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::json_schema(generator)
    }
}
