//! What is to be done: a step, and the chain that keeps its order.

use super::{Account, Digest, DoorId, PlaceId, SystemName, short_id};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The account stays; logging in becomes impossible.
    Disable,
    /// Live sessions, processes and jobs are ended.
    EndSessions,
    /// A credential is made worthless.
    Revoke,
    /// An entitlement is taken away.
    Remove,
    /// A shared secret is replaced by one that the leaver does not know.
    Rotate,
    /// A person is asked to do something by hand; no connector does it.
    Ask,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::EndSessions => "end-sessions",
            Self::Revoke => "revoke",
            Self::Remove => "remove",
            Self::Rotate => "rotate",
            Self::Ask => "ask",
        })
    }
}

/// A step's name: eight hex digits that depend on what it does and to what, so that planning twice gives the same steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub String);

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One change at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// See [`StepId`].
    pub id: StepId,
    /// What.
    pub action: Action,
    /// On which system.
    pub system: SystemName,
    /// At which place.
    pub place: PlaceId,
    /// The account's `native_id`.
    pub account: String,
    /// What of the account: a fingerprint, a group's DN; empty for the account itself.
    pub object: String,
    /// The doors it is meant to shut.
    pub shuts: Vec<DoorId>,
    /// Whether restore can take it back.
    pub reversible: bool,
    /// By when a manual step is to be done; nothing for every other step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

/// The system and the place of what people do by hand. No connector has it.
pub const BY_HAND: &str = "by-hand";

impl Step {
    /// A step that does `action` to `object` of `account`.
    pub fn new(action: Action, account: &Account, object: &str, shuts: Vec<DoorId>, reversible: bool) -> Self {
        let id = short_id(&[&account.place.0, &account.native_id, &action.to_string(), object]);
        Self {
            id: StepId(id),
            action,
            system: account.system.clone(),
            place: account.place.clone(),
            account: account.native_id.clone(),
            object: object.to_string(),
            shuts,
            reversible,
            due: None,
        }
    }

    /// A manual step: the playbook asks `of` (a mail address, or a word such as `manager`) to do `what`. Who that is, `owner`, stands as
    /// its account, and the task as its object. Its name depends on what the playbook says, so that a resumed run, with another manager in
    /// the roster, asks nobody twice.
    pub fn by_hand(stage: &str, of: &str, owner: &str, what: &str, due: Timestamp) -> Self {
        Self {
            id: StepId(short_id(&[BY_HAND, stage, of, what])),
            action: Action::Ask,
            system: SystemName(BY_HAND.into()),
            place: PlaceId(BY_HAND.into()),
            account: owner.to_string(),
            object: what.to_string(),
            shuts: Vec::new(),
            reversible: false,
            due: Some(due),
        }
    }

    /// Whether a person does it, and no connector.
    pub fn is_by_hand(&self) -> bool {
        self.action == Action::Ask
    }
}

/// Steps that keep their order: disable, then end sessions.
pub type Chain = Vec<Step>;

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done now.
    Done {
        /// What was changed, a sentence.
        note: String,
    },
    /// It had been done before; nothing was changed.
    AlreadyDone,
    /// There is no such account or object any more.
    Absent,
}

/// A file that shows that a manual step was done. A copy of it is kept beside the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The file's name, as whoever closed the step had it.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// The copy's name in the journal's folder `evidence`.
    pub kept_as: String,
}

/// What restore takes back: a step, and the account as it was found before it.
#[derive(Clone, Debug)]
pub struct Undo {
    /// The step that was done.
    pub step: Step,
    /// The account with its before-image (`facts`).
    pub account: Account,
}

/// What restore gave back.
#[derive(Debug)]
pub struct Restored {
    /// What was given back, a sentence; also when there was nothing to do.
    pub note: String,
    /// A new password, to be handed over once. Old ones are neither kept nor revived.
    pub one_time_password: Option<secrecy::SecretString>,
}
