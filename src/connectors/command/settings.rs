//! A system that is closed by commands, as `offboard.yaml` describes it.

use crate::model::{Period, SecretRef};
use crate::wire::guarded::Access;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A command: the program's file, relative to `offboard.yaml`, and its arguments. A list, no shell.
pub type Command = Vec<String>;

/// A system that commands of your own close: each is asked with one JSON object on its standard input, and answers with one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Where accounts are, if at more than one place: the commands are asked for each on its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<String>,
    /// What is done by which command.
    pub commands: Commands,
    /// What the commands need to log in, by a name of your choice. They read it with each question.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
    /// The accounts that the commands log in with, and their control's: never touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_accounts: Vec<String>,
    /// How long one command may take: `1m` if it is not said.
    #[serde(default = "minute")]
    pub timeout: Period,
}

fn minute() -> Period {
    Period::seconds(60)
}

/// The commands. Those that are left out are not done, and what they would have shut is looked at all the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Commands {
    /// Says who we are there, and what is missing.
    pub check: Command,
    /// Lists accounts, each with its ways in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discover: Command,
    /// Makes logging in impossible; the account stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disable: Command,
    /// Ends what is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub end_sessions: Command,
    /// Makes one credential worthless: a token, a key, a certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoke: Command,
    /// Takes one membership away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Command,
    /// Looks at ways in, and changes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub look: Command,
    /// Makes logging in possible again, with a new password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore: Command,
    /// For the source of a shared secret: puts a new value in the place of the old one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_secret: Command,
    /// For the source of a shared secret: logs in with a value, and says whether it was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub try_secret: Command,
    /// For the source of a shared secret: ends what was opened with the old value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub end_secret: Command,
}

impl Commands {
    /// Each with its key in `offboard.yaml`.
    pub fn all(&self) -> [(&'static str, &Command); 11] {
        [
            ("check", &self.check),
            ("discover", &self.discover),
            ("disable", &self.disable),
            ("end-sessions", &self.end_sessions),
            ("revoke", &self.revoke),
            ("remove", &self.remove),
            ("look", &self.look),
            ("restore", &self.restore),
            ("set-secret", &self.set_secret),
            ("try-secret", &self.try_secret),
            ("end-secret", &self.end_secret),
        ]
    }
}

impl Settings {
    /// The files that these settings name, and who may have what on them.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        let programs: BTreeSet<&String> = self.commands.all().into_iter().filter_map(|(_, command)| command.first()).collect();
        let mut files: Vec<_> = programs.into_iter().map(|program| (PathBuf::from(program), Access::OwnerWrites)).collect();
        let secrets = self.secrets.values().filter_map(|secret| secret.file.clone());
        files.extend(secrets.map(|file| (file, Access::OwnerReads)));
        files
    }
}
