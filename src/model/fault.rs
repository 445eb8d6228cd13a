//! Why something could not be done, in words for the person who has to mend it.

use serde::{Deserialize, Serialize};

/// What sort of fault it is; decides whether it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// No connection, or it broke. Tried again.
    Unreachable,
    /// The place answered that it cannot do it now. Tried again.
    Busy,
    /// Our own identity lacks a privilege; `hint` says what to grant.
    Forbidden,
    /// The configuration is wrong: certificate, host key, address, our own password.
    Misconfigured,
    /// A guard forbids it: protected, break-glass, ourselves, over the limit.
    Protected,
    /// Anything else. Tried again, a few times.
    Unexpected,
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::Forbidden => "forbidden",
            Self::Misconfigured => "misconfigured",
            Self::Protected => "protected",
            Self::Unexpected => "unexpected",
        })
    }
}

/// A fault. No secret may ever be in it: connectors build it from what the server said, never from what was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}{}", because.as_ref().map(|b| format!(": {b}")).unwrap_or_default())]
pub struct Fault {
    /// What sort.
    pub kind: FaultKind,
    /// What was tried, on what: `postgres billing: cannot disable role "jane"`.
    pub what: String,
    /// The other side's own words: `permission denied (SQLSTATE 42501)`.
    pub because: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault of `kind`; add `because` and `hint` with the builders.
    pub fn new(kind: FaultKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), because: None, hint: None }
    }

    /// With the other side's own words.
    #[must_use]
    pub fn because(mut self, because: impl std::fmt::Display) -> Self {
        self.because = Some(because.to_string());
        self
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl std::fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Whether another try may succeed without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, FaultKind::Unreachable | FaultKind::Busy | FaultKind::Unexpected)
    }
}
