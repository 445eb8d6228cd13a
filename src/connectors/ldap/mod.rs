//! OpenLDAP and 389 Directory Server: the password lock, SSH keys and group memberships of a person's entries.
//!
//! Each configured server is a place of its own, since each answers logins for itself. Data comes from the server through
//! [`crate::wire::ldap`]; written are `userPassword` with its lock (`rotate.rs`: a shared secret's), `shadowExpire`, `sshPublicKey` and the member attributes of
//! groups, nothing else. How the lock works and why in this order stands in `lock.rs`, and for operators in
//! `docs/connectors/ldap.md`.

mod account;
mod check;
mod find;
mod keys;
mod link;
mod lock;
mod monitor;
mod objects;
mod prove;
mod rotate;

use crate::connector::{Connector, Cx, Entry, Link, Manifest};
use crate::model::{
    Account, Action, Chain, Door, DoorKind, Family, Fault, FaultKind, PartKind, PersonId, Place, Proof, SecretRef,
    Step,
    SystemName,
};
use crate::wire::guarded::Access;
use crate::wire::ldap::{Address, normal_dn, parse_filter};
use crate::wire::tls::Trust;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "ldap",
    family: Family::Directory,
    doors: &[
        (DoorKind::Password, Proof::Refused),
        (DoorKind::SshKey, Proof::ReadBack),
        (DoorKind::Membership, Proof::ReadBack),
    ],
    rotates: &[PartKind::Source],
    privileges: &[
        "read the people's entries with userPassword, sshPublicKey and the operational attributes",
        "manage userPassword (a password administrator, so that quality and age rules do not stop a lock)",
        "write pwdAccountLockedTime, pwdReset, shadowExpire and sshPublicKey of the people's entries",
        "write member, uniqueMember, memberUid and sudoUser of the groups",
        "read the pwdPolicy entries, and cn=Connections,cn=Monitor if there is one",
        "no size limit on searches",
        "for the source of a shared secret: manage userPassword of its entry",
    ],
    not_covered: &[
        "a connection bound before the lock goes on until it is closed: LDAP has no way to end it; with cn=Monitor readable the report counts them",
        "logins that need no password here: SASL EXTERNAL with a certificate, GSSAPI; an entry with userCertificate is reported",
        "membership by rule or by nesting: groupOfURLs, dynlist, groups in groups, nisNetgroupTriple",
        "rights that name the person in olcAccess or in an application's own configuration",
    ],
};

/// An LDAP directory: OpenLDAP or 389 Directory Server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Every server that answers logins: `ldaps://host[:port]`, or `ldap://host[:port]`, where StartTLS is always done.
    pub urls: Vec<String>,
    /// PEM file with the CA that signed the servers' certificates. No other CA is trusted.
    pub ca: PathBuf,
    /// The entry that offboard logs in as.
    pub bind_dn: String,
    /// Its password.
    pub password: SecretRef,
    /// Where people's entries are; searched with everything below.
    pub people: Vec<String>,
    /// Where groups are, and sudo rules; searched with everything below.
    #[serde(default)]
    pub groups: Vec<String>,
    /// An account that must still get in after a lock. Without one, offboard's own login is the control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// Which entries are accounts: an LDAP filter.
    #[serde(default = "default_accounts")]
    pub accounts: String,
    /// The attributes that say who an entry belongs to.
    #[serde(default)]
    pub attributes: Attributes,
}

/// An account that must still get in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Control {
    /// Its entry.
    pub dn: String,
    /// Its password.
    pub password: SecretRef,
}

/// The attributes that say who an entry belongs to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Attributes {
    /// The user name.
    pub user_name: String,
    /// Mail addresses.
    pub mail: String,
    /// The employee number.
    pub employee_number: String,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { user_name: "uid".into(), mail: "mail".into(), employee_number: "employeeNumber".into() }
    }
}

fn default_accounts() -> String {
    "(|(objectClass=person)(objectClass=account)(objectClass=posixAccount)(objectClass=simpleSecurityObject)(userPassword=*))"
        .into()
}

impl Settings {
    /// The files whose permissions are checked and whose digests go into the run; relative to the folder of `offboard.yaml`.
    pub fn files(&self) -> Vec<(PathBuf, Access)> {
        let passwords = std::iter::once(&self.password).chain(self.control.iter().map(|c| &c.password));
        let mut files = vec![(self.ca.clone(), Access::OwnerWrites)];
        files.extend(passwords.filter_map(|p| Some((p.file.clone()?, Access::OwnerReads))));
        files
    }
}

/// The connector for one directory. Reads the CA file; relative paths start at `base`, the folder of `offboard.yaml`.
///
/// # Errors
/// `Misconfigured`: an address, a DN, a filter, an attribute's name or the CA file is wrong.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    Ok(Arc::new(Directory { shared: Arc::new(Shared::new(system, settings, base)?) }))
}

/// What all links to one directory share.
struct Shared {
    system: SystemName,
    settings: Settings,
    base: PathBuf,
    trust: Trust,
    servers: Vec<(Place, Address)>,
    /// The entries that are never touched: our own and the control's, as [`normal_dn`] writes them.
    own: Vec<String>,
}

impl Shared {
    fn new(system: &SystemName, settings: Settings, base: &Path) -> Result<Self, Fault> {
        let fault = |what: String| Fault::new(FaultKind::Misconfigured, format!("{system}: {what}"));
        let mut servers: Vec<(Place, Address)> = Vec::new();
        for url in &settings.urls {
            let address = Address::parse(url)?;
            let place = Place::new(system, address.to_string());
            if servers.iter().any(|(known, _)| known.id == place.id) {
                return Err(fault(format!("{} stands twice in urls", place.address)));
            }
            servers.push((place, address));
        }
        if servers.is_empty() || settings.people.is_empty() {
            return Err(fault("urls and people need at least one line each".into()));
        }
        let control = settings.control.iter().map(|c| &c.dn);
        let names = settings.people.iter().chain(&settings.groups).chain([&settings.bind_dn]).chain(control.clone());
        if let Some(wrong) = names.into_iter().find(|dn| normal_dn(dn).is_none_or(|n| n.is_empty())) {
            return Err(fault(format!("{wrong:?} is not a distinguished name"))
                .hint("it looks like uid=monitor,ou=services,dc=example,dc=com"));
        }
        if parse_filter(&settings.accounts).is_err() || !settings.accounts.starts_with('(') {
            return Err(fault(format!("accounts: {:?} is not an LDAP filter", settings.accounts)));
        }
        let attributes = &settings.attributes;
        for name in [&attributes.user_name, &attributes.mail, &attributes.employee_number] {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(fault(format!("{name:?} is not an attribute's name")));
            }
        }
        let own = [&settings.bind_dn].into_iter().chain(control).filter_map(|dn| normal_dn(dn)).collect();
        let trust = Trust::from_file(&base.join(&settings.ca))?;
        Ok(Self { system: system.clone(), base: base.to_path_buf(), trust, servers, own, settings })
    }

    fn is_own(&self, dn: &str) -> bool {
        normal_dn(dn).is_none_or(|dn| self.own.contains(&dn))
    }
}

struct Directory {
    shared: Arc<Shared>,
}

#[async_trait]
impl Connector for Directory {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        self.shared.servers.iter().map(|(place, _)| place.clone()).collect()
    }

    fn plan(&self, account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
        if self.shared.is_own(&account.native_id) {
            return Vec::new();
        }
        let whole = account.owner.person() == Some(leaver);
        let mine = |kind: DoorKind| {
            let of_kind = account.doors.iter().filter(move |d| d.kind == kind);
            of_kind.filter(move |d| whole || d.holder.person() == Some(leaver))
        };
        let chain =
            |door: &Door, reversible| vec![Step::new(action, account, &door.object, vec![door.id.clone()], reversible)];
        match action {
            Action::Disable if whole => mine(DoorKind::Password).map(|door| chain(door, true)).collect(),
            Action::Revoke => mine(DoorKind::SshKey).map(|door| chain(door, false)).collect(),
            Action::Remove => mine(DoorKind::Membership).map(|door| chain(door, true)).collect(),
            // A directory cannot end a bound connection; see `not_covered`.
            Action::Disable | Action::EndSessions | Action::Ask | Action::Rotate => Vec::new(),
        }
    }

    /// With its password, unless it is locked, or with a key: sshd takes one from the directory whatever the lock says.
    fn entry(&self, account: &Account) -> Entry {
        let has = |kind| account.doors.iter().any(|door| door.kind == kind);
        let open = has(DoorKind::SshKey) || (account.enabled && has(DoorKind::Password));
        if open { Entry::Open } else { Entry::Shut }
    }

    fn made(&self, account: &Account) -> Option<jiff::Timestamp> {
        account::time(account.facts.get("made")?.as_str()?)
    }

    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let known = self.shared.servers.iter().find(|(known, _)| known.id == place.id);
        let (place, address) = known.ok_or_else(|| {
            Fault::new(FaultKind::Misconfigured, format!("{}: there is no server {}", self.shared.system, place.id))
        })?;
        Ok(Box::new(link::DirectoryLink::open(&self.shared, place, address, cx.timeout).await?))
    }
}
