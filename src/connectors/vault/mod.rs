//! OpenBao and HashiCorp Vault: the leaver's entity is disabled, each password becomes a witness, every token is revoked by its accessor, and the
//! server itself tells a login that is kept out from one with a wrong password.
//!
//! It touches entities (`disabled`, and a new disabled one where a login had none), passwords of userpass users, tokens and SecretIDs; no
//! secret is read but those that a rotation names. What it knows comes from the identity store, the auth methods' lists, and the list of accessors, of one namespace.
//!
//! - [`settings`]: what `offboard.yaml` says; [`api`]: calls and the server's words; [`link`]: one login in one namespace
//! - [`identity`]: entities and the logins that lead to them; [`tokens`]: what lives now
//! - [`pki`]: certificates of PKI engines
//! - [`audit`]: who has read such a path; [`rotate`]: a path of a key/value engine, as a consumer of a shared secret
//! - [`transit`]: a key that keeps our own sealing key
//! - [`discover`]: the inventory; [`apply`]: disable, end sessions, revoke; [`look`]: proof; [`restore`]: the way back; [`check`]: our own standing

mod api;
mod apply;
mod audit;
mod check;
mod discover;
mod identity;
mod link;
mod look;
mod pki;
mod restore;
mod rotate;
mod settings;
mod static_role;
mod tokens;
mod transit;

use crate::connector::{Connector, Cx, Link, Manifest};
use crate::model::{
    Account, Action, Chain, Door, DoorKind, Family, Fault, FaultKind, Keeper, Owner, PartKind, PersonId, Place, Proof, Step, SystemName,
};
use crate::wire::http::{self, Client, Url};
use crate::wire::secret;
use crate::wire::tls::Trust;
use api::{Api, Credentials};
use async_trait::async_trait;
use link::VaultLink;
pub use settings::{ByAppRole, ByPassword, Login, Settings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "vault",
    family: Family::Saas,
    doors: &[
        (DoorKind::Password, Proof::Refused),
        (DoorKind::Login, Proof::ReadBack),
        (DoorKind::Session, Proof::ReadBack),
        (DoorKind::Token, Proof::ReadBack),
        (DoorKind::Certificate, Proof::ReadBack),
    ],
    rotates: &[PartKind::ConsumerPath, PartKind::Setter],
    privileges: &[
        "read on sys/auth and sys/mounts; list and sudo on sys/leases/lookup",
        "list, read and update on identity/entity/id; update on identity/entity, identity/entity-alias and identity/lookup/entity",
        "list and sudo on auth/token/accessors; update on auth/token/lookup-accessor and auth/token/revoke-accessor",
        "for each userpass mount: list and read on its users, update on their passwords",
        "for each AppRole mount: list on its roles and their SecretIDs, read on role-id, update on secret-id-accessor/lookup and /destroy",
        "for each PKI engine: list on its certs, read on cert, update on revoke",
        "for each path that a shared secret is kept under: read and update",
    ],
    not_covered: &[
        "tokens without an entity (root tokens; orphans, which whoever may use a token role with orphan=true can make, too): the Vault does not say who made them; they are a finding",
        "response-wrapping tokens: what was wrapped can still be unwrapped until they are over",
        "a first login through a mount whose users cannot be listed (LDAP, OIDC, JWT, certificates) makes a new entity, which is not disabled: shut the person at that source",
        "identities that only an alias's metadata or an entity's own name tell, and namespaces that are not configured: they are not found",
        "SecretIDs whose metadata names nobody: nothing says who has them; a shared role's is a shared secret",
        "certificates that SSH engines have signed, or PKI engines by roles with no_store: there is no list of them; the mounts are a finding",
        "sessions that were opened with credentials of a lease: the role is dropped with the token, its live session goes on; the leases are a finding",
        "batch tokens cannot be revoked and are in no list: a disabled entity keeps them out; those without one, or of a shared role, live until they are over",
        "groups and policies of the entity: they stay, and mean nothing while it is disabled",
        "what the leaver read there: rotate it",
    ],
};

/// The connector of one system. Relative files are looked up in `base`.
///
/// # Errors
/// `Misconfigured`: no address, one that cannot be used or is there twice, a login that is none or two, or no `ca`.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    let fault = |what: String| Fault::new(FaultKind::Misconfigured, format!("vault {system}: {what}"));
    if settings.addresses.is_empty() {
        return Err(fault("addresses is empty".into()).hint("name at least one, such as https://vault.example.com:8200"));
    }
    if settings.namespaces.is_empty() {
        return Err(fault("namespaces is empty".into()).hint("leave it out for the root namespace alone"));
    }
    if !settings.audit_logs.is_empty() && settings.addresses.len() > 1 {
        return Err(fault("audit-logs are of one cluster, and there are several addresses".into()).hint("make each cluster a system of its own"));
    }
    let mut places = BTreeMap::new();
    for written in &settings.addresses {
        let url = http::address(written).map_err(|why| fault(why).hint("write https://host:port"))?;
        if url.scheme() == "https" && settings.ca.is_none() {
            return Err(fault("ca is missing".into())
                .hint("name the PEM file of the authority that signed the servers' certificates"));
        }
        for namespace in &settings.namespaces {
            let fine = !namespace.is_empty() && namespace.split('/').all(http::is_segment);
            if !fine || !namespace.is_ascii() {
                return Err(fault(format!("{namespace:?} is no namespace")).hint("write root, or a path such as team/payments"));
            }
            let host = url.host_str().unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or_default();
            let shown = match namespace.as_str() {
                "root" => format!("{host}:{port}"),
                below => format!("{host}:{port}/{below}"),
            };
            if places.insert(shown.clone(), (url.clone(), namespace.clone())).is_some() {
                return Err(fault(format!("{shown} is there twice")));
            }
        }
    }
    for (name, login) in [("login", Some(&settings.login)), ("control", settings.control.as_ref())] {
        let Some(login) = login else { continue };
        if !login.is_one() {
            return Err(fault(format!("{name} needs exactly one of token, app-role, userpass")));
        }
        let mounts = [login.app_role.as_ref().map(|a| &a.mount), login.userpass.as_ref().map(|u| &u.mount)];
        if mounts.into_iter().flatten().any(|mount| !mount.trim_matches('/').split('/').all(http::is_segment)) {
            return Err(fault(format!("{name}: the mount is no path")).hint("write it as bao auth list does, such as userpass"));
        }
        if login.userpass.as_ref().is_some_and(|u| !http::is_segment(&u.user)) {
            return Err(fault(format!("{name}: the user is no name")));
        }
    }
    Ok(Arc::new(Vault { system: system.clone(), settings, base: base.to_path_buf(), places }))
}

#[derive(Clone)]
struct Vault {
    system: SystemName,
    settings: Settings,
    base: PathBuf,
    /// As places call them: the address and the namespace.
    places: BTreeMap<String, (Url, String)>,
}

impl Vault {
    async fn credentials(&self, login: &Login) -> Result<Credentials, Fault> {
        match (&login.token, &login.app_role, &login.userpass) {
            (Some(token), None, None) => Ok(Credentials::Token(secret::resolve(token, &self.base).await?)),
            (None, Some(role), None) => {
                let secret_id = secret::resolve(&role.secret_id, &self.base).await?;
                Ok(Credentials::AppRole(role.mount.clone(), role.role_id.clone(), secret_id))
            }
            (None, None, Some(user)) => {
                let password = secret::resolve(&user.password, &self.base).await?;
                Ok(Credentials::Password(user.mount.clone(), user.user.clone(), password))
            }
            _ => Err(Fault::new(FaultKind::Misconfigured, format!("vault {}: a login needs exactly one way", self.system))),
        }
    }
}

#[async_trait]
impl Connector for Vault {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        self.places.keys().map(|shown| Place::new(&self.system, shown)).collect()
    }

    fn plan(&self, account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
        if account.owner == Owner::Ourselves {
            return Vec::new();
        }
        let theirs = account.owner.person() == Some(leaver);
        let held = |kind: DoorKind| -> Vec<&Door> {
            account.doors.iter().filter(|d| d.kind == kind && d.holder.person() == Some(leaver)).collect()
        };
        let ids = |doors: Vec<&Door>| doors.into_iter().map(|d| d.id.clone()).collect::<Vec<_>>();
        let end = |d: &Door| Step::new(Action::EndSessions, account, &d.object, vec![d.id.clone()], false);
        match action {
            // A disabled entity keeps its tokens out; they are revoked so that none lives again when it is enabled.
            Action::Disable if theirs => {
                let shuts = ids([held(DoorKind::Password), held(DoorKind::Login)].concat());
                let all = account.doors.iter().filter(|d| d.kind == DoorKind::Session && d.object.is_empty());
                let disable = Step::new(Action::Disable, account, "", shuts, true);
                vec![std::iter::once(disable).chain(all.map(end)).collect()]
            }
            Action::EndSessions => held(DoorKind::Session).into_iter().map(|d| vec![end(d)]).collect(),
            Action::Revoke => [held(DoorKind::Token), held(DoorKind::Certificate)]
                .concat()
                .into_iter()
                .map(|d| vec![Step::new(Action::Revoke, account, &d.object, vec![d.id.clone()], false)])
                .collect(),
            _ => Vec::new(),
        }
    }

    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let what = format!("vault {}: {}", self.system, place.address);
        let (url, namespace) = self.places.get(&place.address).ok_or_else(|| {
            Fault::new(FaultKind::Misconfigured, format!("{what}: the configuration has no such place"))
        })?;
        let trust = self.settings.ca.as_ref().map(|ca| Trust::from_file(&self.base.join(ca))).transpose()?;
        let client = Client::new(url.clone(), trust.as_ref(), cx.timeout)?;
        let us = self.credentials(&self.settings.login).await?;
        let control = match &self.settings.control {
            Some(control) => Some(self.credentials(control).await?),
            None => None,
        };
        let api = Api::new(Arc::new(client), namespace);
        let baseline = cx.baseline.clone().and_then(|seen| serde_json::from_value(seen).ok());
        let mut link = VaultLink::open(self.system.clone(), place.clone(), api, us, control, baseline, cx.now.clone()).await?;
        link.audit_logs = self.settings.audit_logs.iter().map(|file| self.base.join(file)).collect();
        link.namespace = if namespace == "root" { String::new() } else { namespace.clone() };
        Ok(Box::new(link))
    }

    fn keeper(&self, address: Option<&str>, mount: &str, key: &str, timeout: Duration) -> Result<Arc<dyn Keeper>, Fault> {
        Ok(Arc::new(transit::Transit::new(self.clone(), address, mount, key, timeout)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_honoured_are_refused() {
        let build_of = |yaml: &str| {
            let settings: Settings = serde_yaml::from_str(yaml).unwrap();
            build(&SystemName("safe".into()), settings, Path::new(".")).map(|_| ()).unwrap_err().to_string()
        };
        let login = "login: { token: { file: t } }\n";
        assert!(build_of(&format!("{login}addresses: []")).contains("addresses is empty"));
        assert!(build_of(&format!("{login}addresses: [\"https://v.example.com\"]")).contains("ca is missing"));
        assert!(build_of(&format!("{login}addresses: [\"http://v.example.com\"]")).contains("not encrypted"));
        let local = "addresses: [\"http://127.0.0.1:8200\"]\n";
        assert!(build_of(&format!("{local}login: {{}}")).contains("exactly one"));
        assert!(build_of(&format!("{local}{login}namespaces: [../sys]")).contains("no namespace"));
        assert!(build_of(&format!("{local}{login}namespaces: [a, a]")).contains("twice"));
        let user = "login: { userpass: { user: \"../x\", password: { file: p } } }";
        assert!(build_of(&format!("{local}{user}")).contains("no name"));
        assert!(serde_yaml::from_str::<Settings>(&format!("{local}{login}insecure: true")).is_err());
    }
}
