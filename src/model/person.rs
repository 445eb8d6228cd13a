//! Who works here, as the roster says it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The roster's own identifier of a person, usually the employee number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PersonId(pub String);

impl std::fmt::Display for PersonId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An OpenSSH fingerprint, `SHA256:` and 43 characters of unpadded base64 (RFC 4648), as `ssh-keygen -lf` prints it.
/// It is computed over the key blob only, so a changed comment or changed options do not change it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a person stands with the employer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerStatus {
    /// Works here.
    Active,
    /// On leave; still employed.
    Leave,
    /// Employment has ended.
    Terminated,
}

/// One row of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The employee number.
    pub id: PersonId,
    /// The name for people to read; never used to match.
    pub name: String,
    /// The mail address.
    pub email: Option<String>,
    /// The user name that most systems use.
    pub user_name: Option<String>,
    /// The manager's identifier.
    pub manager: Option<PersonId>,
    /// The department.
    pub department: Option<String>,
    /// Employee, contractor, and so on, as HR writes it.
    pub worker_type: Option<String>,
    /// Where the person stands.
    pub status: WorkerStatus,
    /// Why the person leaves, as HR writes it: `involuntary`, `voluntary`, …
    pub reason: Option<String>,
    /// When employment ends: the last moment of the roster's end date in the person's own zone, or the given time.
    pub ends: Option<Timestamp>,
    /// The person's own zone, an IANA name such as `Asia/Kolkata`.
    pub zone: Option<String>,
    /// SSH keys that `offboard.yaml` declares for this person.
    #[serde(default)]
    pub keys: Vec<Fingerprint>,
}
