//! Something that a person should look at, and that no step acts on.

use super::PlaceId;
use serde::{Deserialize, Serialize};

/// What sort of finding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// More than one person matches an account or a key.
    Ambiguous,
    /// A protected account or key was found and left alone.
    Protected,
    /// Something that may hold a way in could not be read, or was left to a person: the run is unproven until it is.
    Unknown,
    /// A possible way in that this version does not close.
    NotCovered,
    /// Something the leaver may have planted or left behind.
    Suspicious,
    /// A system is set up so that a door cannot be shut or proved well; says how to mend it.
    Configuration,
}

/// A finding. Its text is for people and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What sort.
    pub kind: FindingKind,
    /// Where, if at one place.
    pub place: Option<PlaceId>,
    /// Which account, if one.
    pub account: Option<String>,
    /// What was seen, a sentence.
    pub what: String,
    /// What to do about it, a sentence.
    pub hint: String,
}
