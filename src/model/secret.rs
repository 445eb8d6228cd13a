//! References to secrets, and secrets that are shared. Values travel as `secrecy::SecretString` and are never part of the model.

use super::{Period, Person, PlaceId, SecretConsumer, SecretSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where a secret's value comes from. The configuration holds references only, never values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecretRef {
    /// A file that nobody but its owner may read; one trailing newline is dropped. Relative to `offboard.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// An environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// A command whose standard output is the value: a list, no shell. One trailing newline is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// A systemd credential: its name, as in `LoadCredential=` or `LoadCredentialEncrypted=` of the unit that runs offboard. One trailing newline is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// The name under which the journal keeps a sealed value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedId(pub String);

/// The name that `offboard.yaml` gives a shared secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretName(pub String);

impl std::fmt::Display for SecretName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A password that several people or programs share, as `offboard.yaml` declares it. Where it is kept and who may know it; never its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SharedSecret {
    /// Where the value is checked when somebody logs in.
    pub source: SecretSource,
    /// Every program that logs in with it.
    pub consumers: Vec<SecretConsumer>,
    /// Who may know it: when one of them leaves, it is rotated.
    pub known_to: KnownTo,
    /// `offboard serve` rotates it when its value is so old, such as `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_after: Option<Period>,
    /// For so long after the source takes the new value, what the old one has opened for its programs may go on, such as `5m`; until they
    /// all work with the new one if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Period>,
    /// Whether consumers get the new value one after the other, in the order in which they stand here, each only when the one before is healthy with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_by_one: bool,
}

/// Who may know a secret, besides those who could read it where it is kept. Any of the three is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KnownTo {
    /// People, by the roster's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<Vec<String>>,
    /// Departments, as the roster has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departments: Option<Vec<String>>,
    /// Groups and roles, by the whole name (a DN) or its first part, as the systems name the leaver's memberships.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_of: Option<Vec<String>>,
}

impl KnownTo {
    /// Why `person`, who holds these `memberships`, may know the secret: a few words each; empty if nothing says so.
    pub fn reasons<'a>(&self, person: &Person, memberships: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let same = |a: &str, b: &str| a.trim().to_lowercase() == b.trim().to_lowercase();
        let mut reasons = Vec::new();
        if self.people.iter().flatten().any(|id| same(id, &person.id.0)) {
            reasons.push(format!("named: {}", person.id));
        }
        if let Some(department) = &person.department
            && self.departments.iter().flatten().any(|d| same(d, department))
        {
            reasons.push(format!("department {department}"));
        }
        for membership in memberships {
            // `member:cn=oncall,ou=…`: a directory says by which attribute, too.
            let whole = match membership.split_once(':') {
                Some((attribute, dn)) if dn.contains('=') && !attribute.contains('=') => dn,
                _ => membership,
            };
            let first = whole.split(',').next().unwrap_or_default();
            let first = first.split_once('=').map_or(first, |(_, value)| value);
            let named = |wanted: &String| same(wanted, whole) || same(wanted, first);
            let reason = format!("member of {first}");
            if self.members_of.iter().flatten().any(named) && !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons
    }
}

/// An account that could read a file in which a shared secret is kept, as the place showed it before anything was taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouldRead {
    /// Where.
    pub place: PlaceId,
    /// The account's `native_id`.
    pub account: String,
    /// Whether the account is the leaver's own; otherwise they had a way into it. A connector says no, the engine knows.
    pub own: bool,
    /// The file, as `offboard.yaml` names it.
    pub file: String,
    /// By what: `group portal`.
    pub how: String,
    /// Whether it is by becoming root, who can read everything there.
    pub root: bool,
}

/// A password that stands in a file which no shared secret declares, and an account that could read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    /// Who could, and by what.
    pub read: CouldRead,
    /// What stands there: the key, and the account's name beside it if there is one. Never a value.
    pub holds: String,
}

impl CouldRead {
    /// What [`CouldRead::how`] says where it takes no right of one's own.
    pub const EVERYBODY: &'static str = "everybody there";

    /// Why the leaver may know what is kept in one file, a few words each: that they could read it, and that they could become root. `address` is
    /// how people name the place.
    pub fn reasons<'a>(found: impl IntoIterator<Item = &'a Self>, address: &str) -> Vec<String> {
        let mut found: Vec<&Self> = found.into_iter().collect();
        found.sort_by_key(|one| !one.own);
        let mut reasons = Vec::new();
        for root in [false, true] {
            let mut how: Vec<String> = Vec::new();
            for one in found.iter().filter(|one| one.root == root) {
                let words = match one.own || one.how == Self::EVERYBODY {
                    true => one.how.clone(),
                    false => format!("as {}, {}", one.account, one.how),
                };
                if !how.contains(&words) {
                    how.push(words);
                }
            }
            let how = how.join("; ");
            match found.first() {
                Some(_) if !how.is_empty() && root => reasons.push(format!("could become root on {address} ({how})")),
                Some(one) if !how.is_empty() => reasons.push(format!("could read {} on {address} ({how})", one.file)),
                _ => {}
            }
        }
        reasons
    }
}

/// The four phases of a rotation. Each is begun only when the one before is done by every participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Looks ahead: whatever can be known to fail fails here. Changes nothing.
    Create,
    /// Puts the new value in place of the old one.
    Set,
    /// Sees that the new value works.
    Test,
    /// Ends what the old value opened.
    Finish,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Set => "set",
            Self::Test => "test",
            Self::Finish => "finish",
        })
    }
}

/// Which of a secret's two values it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The one that the leaver may know.
    Old,
    /// The one that takes its place.
    New,
}

/// What a participant saw in one phase and needs in a later one, perhaps after a crash. No secret, and nothing from which one could be
/// guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Consumer, at `create`: the addresses that its logins come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Consumer, at `create`, where two accounts alternate: the one that it logs in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Source, at `create`: a keyed digest of what was stored there, to tell whether anybody has changed it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Source, at `set`: the server's own time after the change. What was opened until then may have been opened with the old value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// Consumer, at `create`, of a private key: the comment of its public half, which stood beside it in a file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// Source that a private key opens, at `create`: fingerprints of the other keys that opened it then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

impl Seen {
    /// Takes in what a later call saw.
    pub fn merge(&mut self, later: &Self) {
        if !later.addresses.is_empty() {
            self.addresses.clone_from(&later.addresses);
        }
        if !later.keys.is_empty() {
            self.keys.clone_from(&later.keys);
        }
        for (kept, new) in [
            (&mut self.before, &later.before),
            (&mut self.mark, &later.mark),
            (&mut self.user, &later.user),
            (&mut self.public, &later.public),
        ] {
            if new.is_some() {
                kept.clone_from(new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PersonId, WorkerStatus};

    #[test]
    fn what_was_found_is_told_with_the_account() {
        let found = |account: &str, own, how: &str, root| CouldRead {
            place: PlaceId("fleet/web1".into()),
            account: account.into(),
            own,
            file: "/etc/portal.env".into(),
            how: how.into(),
            root,
        };
        let all = [
            found("deploy", false, "group portal", false),
            found("jane", true, "group portal", false),
            found("deploy", false, "everybody there", false),
            found("jane", true, "everybody there", false),
            found("root", false, "user id 0", true),
        ];
        assert_eq!(
            CouldRead::reasons(&all, "web1"),
            [
                "could read /etc/portal.env on web1 (group portal; everybody there; as deploy, group portal)",
                "could become root on web1 (as root, user id 0)"
            ]
        );
        assert_eq!(CouldRead::reasons([], "web1"), [""; 0]);
    }

    #[test]
    fn who_may_know_a_secret_is_told_with_the_reason() {
        let person = Person {
            id: PersonId("E1042".into()),
            name: "Rohan".into(),
            email: None,
            user_name: None,
            manager: None,
            department: Some("Engineering".into()),
            worker_type: None,
            status: WorkerStatus::Active,
            reason: None,
            ends: None,
            zone: None,
            keys: Vec::new(),
        };
        let known = |people: &[&str], departments: &[&str], members: &[&str]| {
            let list = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
            let known = KnownTo { people: list(people), departments: list(departments), members_of: list(members) };
            known.reasons(&person, ["member:cn=oncall,ou=groups,dc=sunrise,dc=test", "billing_rw"])
        };
        assert_eq!(known(&["e1042"], &["engineering"], &[]), ["named: E1042", "department Engineering"]);
        assert_eq!(known(&[], &[], &["OnCall", "billing_rw"]), ["member of oncall", "member of billing_rw"]);
        assert_eq!(known(&[], &[], &["cn=oncall,ou=groups,dc=sunrise,dc=test"]), ["member of oncall"]);
        assert!(known(&["E104"], &["Engineer"], &["call", "billing"]).is_empty());
    }
}
