//! What connectors of databases have in common: how a server and our login are described, what is planned for a user, and what changed
//! among users during the run.

use crate::model::{
    Account, Action, Chain, DoorKind, Fault, FaultKind, Finding, FindingKind, PersonId, Place, SecretRef, Step,
};
use crate::wire::address::TlsMode;
use crate::wire::guarded::{self, Access};
use crate::wire::secret;
use crate::wire::sql::{Tls, presentable};
use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A login of its own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Control {
    /// The user's (or role's) name.
    pub user: String,
    /// Its password.
    pub password: SecretRef,
}

impl Control {
    /// The name and the password.
    ///
    /// # Errors
    /// As [`secret::resolve`].
    pub async fn resolve(control: Option<&Self>, base: &Path) -> Result<Option<(String, SecretString)>, Fault> {
        match control {
            Some(control) => Ok(Some((control.user.clone(), secret::resolve(&control.password, base).await?))),
            None => Ok(None),
        }
    }
}

/// The files that settings name, and who may have what on them.
pub fn files(ca: Option<&PathBuf>, password: &SecretRef, control: Option<&Control>) -> Vec<(PathBuf, Access)> {
    let passwords = std::iter::once(password).chain(control.map(|control| &control.password));
    let passwords = passwords.filter_map(|p| p.file.clone()).map(|file| (file, Access::OwnerReads));
    ca.iter().map(|ca| ((*ca).clone(), Access::OwnerWrites)).chain(passwords).collect()
}

/// How a database is to be asked for TLS; `what` is what cannot be done without.
///
/// # Errors
/// `Misconfigured`: no `ca`, or one that cannot be read.
pub fn tls(mode: TlsMode, ca: Option<&PathBuf>, base: &Path, what: &str) -> Result<Tls, Fault> {
    match (mode, ca) {
        (TlsMode::VerifyFull, Some(ca)) => {
            Ok(Tls::VerifyFull { ca: guarded::read(&base.join(ca), Access::OwnerWrites)? })
        }
        (TlsMode::VerifyFull, None) => Err(Fault::new(FaultKind::Misconfigured, what).because("ca is missing")),
        (TlsMode::Off, _) => Ok(Tls::Off),
    }
}

/// That `offboard.yaml` has no such server.
pub fn no_host(what: &str) -> Fault {
    Fault::new(FaultKind::Misconfigured, format!("{what}: the configuration has no such host"))
}

/// What an action comes to for a user of the leaver's; `ended` are the doors that are shut when their sessions are.
pub fn plan(account: &Account, leaver: &PersonId, action: Action, ended: &[DoorKind]) -> Vec<Chain> {
    // Nothing in a user of somebody else's can be the leaver's alone.
    if account.owner.person() != Some(leaver) {
        return Vec::new();
    }
    let shuts = |kinds: &[DoorKind]| {
        account.doors.iter().filter(|d| kinds.contains(&d.kind)).map(|d| d.id.clone()).collect::<Vec<_>>()
    };
    let disable = || Step::new(Action::Disable, account, "", shuts(&[DoorKind::Password, DoorKind::Login]), true);
    let end_sessions = || Step::new(Action::EndSessions, account, "", shuts(ended), false);
    match action {
        // A disable without a cut leaves the leaver inside, so it always brings the cut with it.
        Action::Disable => vec![vec![disable(), end_sessions()]],
        Action::EndSessions => vec![vec![end_sessions()]],
        Action::Remove => account
            .doors
            .iter()
            .filter(|d| d.kind == DoorKind::Membership)
            .map(|d| vec![Step::new(Action::Remove, account, &d.object, vec![d.id.clone()], true)])
            .collect(),
        // The engine plans rotations: they go over several systems.
        Action::Revoke | Action::Ask | Action::Rotate => Vec::new(),
    }
}

/// The users of a server at the first discovery of the run. A leaver who may let others in can make a user, or give one a password more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// By name, a keyed digest of what the server says of it.
    pub users: BTreeMap<String, String>,
    /// Which of them could let others in.
    pub makers: BTreeSet<String>,
}

/// A user, to be compared with the baseline.
pub struct Listed {
    /// As the server calls it.
    pub name: String,
    /// Everything that the server says of it. Hashes in it may be unsalted, so it is kept as a keyed digest.
    pub state: String,
    /// Whether it may let others in.
    pub makes_users: bool,
    /// Whether it is our own login or the control.
    pub ours: bool,
}

/// How a kind of server calls things.
pub struct Words {
    /// What of a user may change: `rows or passwords`.
    pub parts: &'static str,
    /// The statement that takes a user away.
    pub drop: &'static str,
    /// The statement that shows one.
    pub show: &'static str,
}

/// So many names stand in one finding.
const NAMED: usize = 20;

impl Baseline {
    /// The first look. `key` is the run's, so that digests cannot be compared between runs.
    pub fn of(users: &[Listed], key: &[u8; 16]) -> Self {
        let makers = users.iter().filter(|user| user.makes_users).map(|user| user.name.clone());
        let all = users.iter().map(|user| (user.name.clone(), digest(key, user)));
        Self { users: all.collect(), makers: makers.collect() }
    }

    /// What is another now. `theirs` are names of the leaver's users.
    pub fn changed(
        &self,
        users: &[Listed],
        theirs: &BTreeSet<String>,
        key: &[u8; 16],
        place: &Place,
        words: &Words,
    ) -> Vec<Finding> {
        let Words { parts, drop, show } = words;
        let makers = users.iter().filter(|user| user.makes_users).map(|user| &user.name);
        let could = self.makers.iter().chain(makers).any(|name| theirs.contains(name));
        let is_another = |user: &&Listed| self.users.get(&user.name).is_some_and(|was| *was != digest(key, user));
        let names = |of: &dyn Fn(&&Listed) -> bool| -> Vec<String> {
            users.iter().filter(|user| of(user)).map(|user| user.name.clone()).collect()
        };
        let of_others = |user: &&Listed| !user.ours && !theirs.contains(&user.name);
        let new = names(&|user| of_others(user) && !self.users.contains_key(&user.name));
        let ours = names(&|user| user.ours && is_another(user));
        // A rotation of this run changes one, too.
        let changed = names(&|user| could && of_others(user) && is_another(user));
        let note = |kind, names: &[String], what: String, hint: String| {
            let account = if let [one] = names { Some(one.clone()) } else { None };
            (!names.is_empty()).then(|| Finding { kind, place: Some(place.id.clone()), account, what, hint })
        };
        let (kind, why) = match could {
            true => (FindingKind::Unknown, "; the leaver can or could make users, so any of them may be the leaver's"),
            false => (FindingKind::Suspicious, ""),
        };
        let found = [
            note(
                kind,
                &new,
                format!("users were created during the run: {}{why}", some_of(&new)),
                format!(
                    "find out whose they are: {drop}, or map them under accounts: in offboard.yaml; then: offboard resume"
                ),
            ),
            note(
                FindingKind::Unknown,
                &ours,
                format!("{parts} of offboard's own users were changed during the run: {}", some_of(&ours)),
                format!(
                    "who did that? Look at each with {show}, give it a new password and take what is too many away; then: offboard resume"
                ),
            ),
            note(
                FindingKind::Suspicious,
                &changed,
                format!(
                    "{parts} of users were changed during the run, by a rotation or by somebody else: {}; the leaver can or could do that",
                    some_of(&changed)
                ),
                format!("look at each with {show}: is anything there that is not its holder's?"),
            ),
        ];
        found.into_iter().flatten().collect()
    }
}

fn digest(key: &[u8; 16], user: &Listed) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(user.state.as_bytes());
    mac.finalize().into_bytes().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

fn some_of(names: &[String]) -> String {
    let named: Vec<String> = names.iter().take(NAMED).map(|name| format!("{:?}", presentable(name))).collect();
    match names.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
