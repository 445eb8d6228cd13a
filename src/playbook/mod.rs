//! Playbooks: what is done to a leaver's access, in which order, by when. YAML that people review and sign off.
//!
//! A playbook says *what*, never *how*: it names actions and what they act on, and the connectors know how. Unknown keys are
//! mistakes, and so is a key that this version cannot honour yet: a playbook is never half obeyed.

mod asked;
mod check;
mod selection;

use crate::model::{Action, Family, MailAddress};
use crate::source::{Mistakes, Period, yaml};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use asked::Asked;
pub use selection::select;

/// What a later version will know. Written today, it is a mistake that says so.
const LATER: &[&str] = &[
    "delete",
    "schedule",
    "zone",
    "find",
    "except",
    "share",
    "after",
    "two-person",
    "joiner",
    "mover",
    "sweep",
    "findings",
    "unclaimed",
    "csv",
    "unused-for",
    "notify",
];

/// What is done to a leaver's access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Playbook {
    /// Its name, as it is given on the command line: lower-case letters, digits, `-`.
    pub playbook: String,
    /// One sentence: what it is for.
    pub summary: String,
    /// When it is chosen by itself. Without it, it runs only if it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// How long failed steps are tried again before they are stuck, such as `15m`.
    pub deadline: Period,
    /// Whose consent is needed before it begins.
    #[serde(default)]
    pub approval: Approval,
    /// Above these nothing more is touched.
    pub limits: Limits,
    /// What is done. The steps of a stage run at the same time everywhere; a stage waits for the first attempt of the one before.
    pub stages: Vec<Stage>,
    /// How it is proved.
    pub verify: Verify,
    /// What is written at the end.
    #[serde(default)]
    pub report: Report,
}

/// When a playbook is chosen by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trigger {
    /// What happened.
    pub event: TriggerEvent,
    /// What must be true of the person.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TriggerEvent {
    /// A person leaves.
    Leaver,
}

/// What must be true of the person. What is not named does not matter; what is named is compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Condition {
    /// The roster's reason, such as `involuntary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The roster's worker type, such as `contractor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_type: Option<String>,
    /// The roster's department.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
}

/// Whose consent is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// Nobody's: speed first, the run is reviewed afterwards.
    #[default]
    None,
}

/// Above these nothing more is touched: a brake against a wrong query, a wrong roster, a wrong person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// People in one run.
    #[schemars(range(min = 1))]
    pub people: u32,
    /// Accounts in one run, on all places together.
    #[schemars(range(min = 1))]
    pub accounts: u32,
}

/// Steps that are done at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stage {
    /// Its name, for the report.
    pub stage: String,
    /// What is done.
    pub steps: Vec<Rule>,
}

/// One action, on everything of a sort; or, with `ask`, something that a person is to do by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// What is done.
    #[serde(rename = "do")]
    pub action: Action,
    /// To what. Every action but `ask` needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,
    /// Only on systems of these families; on all if it is left out.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub families: Option<Vec<Family>>,
    /// With `ask`: of whom, a mail address or `manager`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Asked>,
    /// With `ask`: what is to be done, a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// With `ask`: how long it may take, from the start of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Period>,
    /// With `rotate`: which secrets.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Secrets>,
}

/// Which shared secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Secrets {
    /// Those that this person may know, as `offboard.yaml` says.
    pub known_to: KnownTo,
}

/// Who may know a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KnownTo {
    /// The person who leaves.
    Leaver,
}

impl Rule {
    /// Whether it is meant for systems of `family`.
    pub fn covers(&self, family: Family) -> bool {
        self.families.as_ref().is_none_or(|families| families.contains(&family))
    }
}

/// What an action acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The person's accounts: with `disable` and `end-sessions`.
    Accounts,
    /// Keys, certificates, tokens: with `revoke`.
    Credentials,
    /// Groups and roles: with `remove`.
    Entitlements,
    /// Passwords that programs log in with: with `rotate`.
    SharedSecrets,
}

/// How it is proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Verify {
    /// Every door is looked at at once, and again for so long; a door that still opens then is reported open.
    pub until: Period,
    /// So long after the end of the run `offboard serve` looks at every door once more, such as `[1h, 24h, 7d, 30d]`. After the last
    /// look that finds all of them shut, the witness passwords are destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<Period>,
}

/// What is written at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Report {
    /// In which formats.
    pub formats: Vec<Format>,
    /// To whom it is mailed, besides those whom `offboard.yaml` names under `mail`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<MailAddress>,
}

impl Default for Report {
    fn default() -> Self {
        Self { formats: vec![Format::Html, Format::Json], to: Vec::new() }
    }
}

/// A report's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// For people: one page that needs no network and prints well.
    Html,
    /// For programs.
    Json,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Html => "html",
            Self::Json => "json",
        })
    }
}

impl Playbook {
    /// Reads `bytes`, the content of `file`.
    ///
    /// # Errors
    /// Every mistake, with the place and what is valid there.
    pub fn from_yaml(file: &str, bytes: &[u8]) -> Result<Self, Mistakes> {
        let document = yaml::Document::read("playbook", file, bytes)?;
        let playbook: Self = document.parse(LATER)?;
        Mistakes::unless_usable(check::check(&playbook, &document))?;
        Ok(playbook)
    }
}

/// The JSON Schema of a playbook, for editors.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Playbook);
    schema.insert("title".into(), "offboard playbook".into());
    schema.to_value()
}
