//! What was proved of a door, and of a run.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How strong the proof is, weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// The server's own listing says so.
    ReadBack,
    /// The server itself refused the attempt, for the reason that our step was meant to cause.
    Refused,
}

/// Whether a door is shut. Unknown is never shut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is shut.
    Shut {
        /// How strong the proof is.
        proof: Proof,
        /// The server's own words.
        reply: String,
    },
    /// It opens.
    Open {
        /// The server's own words.
        reply: String,
    },
    /// Nobody can say.
    Unproven {
        /// Why not.
        why: String,
    },
}

impl Verdict {
    /// `open`, `shut` or `unproven`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Shut { .. } => "shut",
            Self::Open { .. } => "open",
            Self::Unproven { .. } => "unproven",
        }
    }
}

/// Access that outlives a shut door: a ticket, a bound connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residual {
    /// What may still work.
    pub what: String,
    /// The last moment at which it could; nothing if no end is known.
    pub until: Option<Timestamp>,
}

/// One look at one door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// What was seen.
    pub verdict: Verdict,
    /// Which control still got in, by the same way, at the same time.
    pub control: Option<String>,
    /// What outlives the door.
    pub residual: Option<Residual>,
}

impl Look {
    /// A look that proves nothing.
    pub fn unproven(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unproven { why: why.into() }, control: None, residual: None }
    }
}

/// How a run stands. Worst wins: open > stuck > unproven > shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunVerdict {
    /// Every door is proved shut.
    Shut,
    /// Something is not proved.
    Unproven,
    /// A step failed to the last try.
    Stuck,
    /// A door opens.
    Open,
}

impl std::fmt::Display for RunVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shut => "shut",
            Self::Unproven => "unproven",
            Self::Stuck => "stuck",
            Self::Open => "open",
        })
    }
}
