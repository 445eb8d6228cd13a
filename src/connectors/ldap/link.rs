//! One open directory server: our login there, what kind of server it is, and the calls of [`Link`].

use super::Shared;
use super::find::Swept;
use super::prove::Policies;
use crate::connector::{Cx, Health, KnownSecret, LastUse, Link, Scope, Taken, Turn};
use crate::model::{
    Account, Action, Door, DoorKind, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Place, Restored, Step, Undo,
};
use crate::wire::ldap::{Address, Change, Code, Entry, PolicyError, Reply, Search, Session};
use crate::wire::{ldap, secret};
use async_trait::async_trait;
use futures::stream::BoxStream;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// How this kind of server locks an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockKind {
    /// `pwdAccountLockedTime`: OpenLDAP with the password policy overlay.
    Policy,
    /// `nsAccountLock`: 389 Directory Server.
    NsAccountLock,
    /// It cannot; the password itself has to go.
    Nothing,
}

/// What a missing privilege concerns.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    People,
    Groups,
}

/// The server's own description: RFC 4512, section 5.1.
pub(super) struct Root {
    /// For people.
    pub product: &'static str,
    pub lock: LockKind,
    pub contexts: Vec<String>,
    pub monitor: Option<String>,
}

impl Root {
    fn new(entry: &Entry) -> Self {
        let vendor = entry.text("vendorName").unwrap_or_default();
        let ds389 = vendor.starts_with("389");
        let controls = entry.texts("supportedControl");
        let openldap = entry.is_a("OpenLDAProotDSE");
        Self {
            product: match (openldap, ds389) {
                (true, _) => "OpenLDAP",
                (_, true) => "389 Directory Server",
                _ => "an LDAP server",
            },
            lock: match () {
                () if ds389 => LockKind::NsAccountLock,
                () if controls.iter().any(|c| c == "1.3.6.1.4.1.42.2.27.8.5.1") => LockKind::Policy,
                () => LockKind::Nothing,
            },
            contexts: entry.texts("namingContexts"),
            monitor: entry.text("monitorContext"),
        }
    }
}

pub(super) struct DirectoryLink {
    shared: Arc<Shared>,
    pub(super) place: Place,
    address: Address,
    session: Session,
    timeout: Duration,
    pub(super) root: Root,
    pub(super) findings: Vec<Finding>,
    /// What the last sweep saw.
    pub(super) swept: Swept,
    /// The password policies that we can see, once they were asked for.
    pub(super) policies: Option<Policies>,
    /// Values of shared secrets, for looks.
    pub(super) secrets: Vec<KnownSecret>,
    must_change: bool,
    /// An answer did not come; whatever comes on this connection now may belong to an older question.
    broken: bool,
}

impl DirectoryLink {
    pub(super) async fn open(
        shared: &Arc<Shared>,
        place: &Place,
        address: &Address,
        timeout: Duration,
    ) -> Result<Self, Fault> {
        let (mut session, reply) = log_in(shared, address, timeout).await?;
        let must_change = reply.policy.is_some_and(|p| p.error == Some(PolicyError::ChangeAfterReset));
        let described = ["objectClass", "vendorName", "supportedControl", "namingContexts", "monitorContext"];
        let root = session.read("", &described).await?.ok_or_else(|| {
            Fault::new(FaultKind::Misconfigured, format!("{} {address}: the root entry cannot be read", shared.system))
                .hint("let everybody read the entry \"\": OpenLDAP: olcAccess: {0}to dn.base=\"\" by * read")
        })?;
        Ok(Self {
            shared: Arc::clone(shared),
            place: place.clone(),
            address: address.clone(),
            session,
            timeout,
            root: Root::new(&root),
            findings: Vec::new(),
            swept: Swept::default(),
            policies: None,
            secrets: Vec::new(),
            must_change,
            broken: false,
        })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn share(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn lock_kind(&self) -> LockKind {
        self.root.lock
    }

    /// The system and the server, for people.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.place.system, self.place.address)
    }

    /// Whether our own login is allowed nothing until its password has been changed.
    pub(super) fn must_change_own_password(&self) -> bool {
        self.must_change
    }

    /// The connection; a new one if the server has closed it, as servers do with idle ones.
    async fn session(&mut self) -> Result<&mut Session, Fault> {
        if self.broken || self.session.is_closed() {
            self.session = log_in(&self.shared, &self.address, self.timeout).await?.0;
            self.broken = false;
        }
        Ok(&mut self.session)
    }

    pub(super) async fn read(&mut self, dn: &str, attributes: &[&str]) -> Result<Option<Entry>, Fault> {
        self.session().await?.read(dn, attributes).await
    }

    pub(super) async fn modify(&mut self, dn: &str, changes: Vec<Change>) -> Result<Reply, Fault> {
        self.session().await?.modify(dn, changes).await
    }

    pub(super) async fn compare(&mut self, dn: &str, attribute: &str, value: &[u8]) -> Result<Reply, Fault> {
        self.session().await?.compare(dn, attribute, value).await
    }

    pub(super) async fn set_password(&mut self, dn: &str, password: &SecretString) -> Result<Reply, Fault> {
        self.session().await?.set_password(dn, password).await
    }

    pub(super) async fn search(
        &mut self,
        base: &str,
        scope: ldap::Scope,
        filter: &str,
        attributes: &[&str],
        matched: Option<&str>,
    ) -> Result<Search, Fault> {
        self.session().await?.search(base, scope, filter, attributes, matched).await
    }

    /// A login over a fresh connection.
    pub(super) async fn try_login(&mut self, dn: &str, password: &SecretString) -> Result<Reply, Fault> {
        Session::connect(&self.address, &self.shared.trust, self.timeout).await?.bind(dn, password).await
    }

    /// A connection at a server of one's choice, on which nobody is logged in: every one of a directory answers logins for itself.
    pub(super) async fn knock(&self, at: &Address) -> Result<Session, Fault> {
        Session::connect(at, &self.shared.trust, self.timeout).await
    }

    /// The directory's other servers.
    pub(super) fn others(&self) -> Vec<Address> {
        self.shared.servers.iter().map(|(_, address)| address).filter(|a| **a != self.address).cloned().collect()
    }

    /// Where this one is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Proves that logins work at all: the configured control account, or we ourselves, over a fresh connection.
    pub(super) async fn control_gets_in(&mut self) -> Result<String, String> {
        let settings = &self.shared.settings;
        let (dn, password) = match &settings.control {
            Some(control) => (&control.dn, &control.password),
            None => (&settings.bind_dn, &settings.password),
        };
        let dn = dn.clone();
        let password = secret::resolve(password, &self.shared.base).await.map_err(|fault| fault.to_string())?;
        match self.try_login(&dn, &password).await {
            Ok(reply) if reply.code == Code::Success => Ok(dn),
            Ok(reply) => Err(format!("the control {dn} was refused as well: {}", reply.words)),
            Err(fault) => Err(fault.to_string()),
        }
    }

    /// An answer that no step expects. A read-only replica refers to its provider; if we know that one, the change arrives
    /// here by replication, and the next attempt finds it done.
    pub(super) fn refused(&self, reply: &Reply, what: String) -> Fault {
        if reply.code != Code::Referral {
            return reply.fault(what);
        }
        let host = |url: &str| Address::parse(url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/").as_str()).ok();
        let known =
            reply.referrals.iter().filter_map(|url| host(url)).any(|refers_to| {
                self.shared.servers.iter().any(|(_, a)| *a != self.address && a.host == refers_to.host)
            });
        let fault = reply.fault(what);
        if known {
            return Fault { kind: FaultKind::Busy, ..fault }
                .hint("this replica is read-only; the change is made on its provider and is awaited here");
        }
        fault
    }

    /// The exact rule that gives us what we lack, for the attributes that the server knows.
    pub(super) async fn grant(&mut self, target: Target) -> String {
        let mut attributes = match target {
            Target::People => vec![
                "userPassword",
                "pwdAccountLockedTime",
                "pwdReset",
                "nsAccountLock",
                "shadowExpire",
                "sshPublicKey",
            ],
            Target::Groups => vec!["member", "uniqueMember", "memberUid", "sudoUser"],
        };
        if let Ok(Some(schema)) = self.read("cn=Subschema", &["attributeTypes"]).await {
            let known = schema.texts("attributeTypes").join("\n").to_lowercase();
            if !known.is_empty() {
                attributes.retain(|a| known.contains(&format!("'{}'", a.to_lowercase())));
            }
        }
        let settings = &self.shared.settings;
        let base = match target {
            Target::People => settings.people.first(),
            Target::Groups => settings.groups.first(),
        };
        let (base, us) = (base.map_or("", String::as_str), &settings.bind_dn);
        match self.root.lock {
            LockKind::NsAccountLock => format!(
                "add to {base}: aci: (targetattr=\"{}\")(version 3.0; acl \"offboard\"; allow (read,search,compare,write) userdn=\"ldap:///{us}\";) — then: offboard resume",
                attributes.join(" || "),
            ),
            _ => format!(
                "add to the database's entry in cn=config: olcAccess: {{0}}to dn.subtree=\"{base}\" attrs={} by dn.exact=\"{us}\" manage by * break — then: offboard resume",
                attributes.join(","),
            ),
        }
    }

    pub(super) fn finding(&self, kind: FindingKind, account: Option<&str>, what: String, hint: &str) -> Finding {
        let account = account.map(ToString::to_string);
        Finding { kind, place: Some(self.place.id.clone()), account, what, hint: hint.to_string() }
    }

    fn guard(&self, account: &str) -> Result<(), Fault> {
        if self.shared.is_own(account) {
            return Err(Fault::new(
                FaultKind::Protected,
                format!("{}: {account:?} is offboard's own login or its control", self.name()),
            ));
        }
        Ok(())
    }

    /// The fault, if it says that the server does not answer; the connection is not used again then.
    pub(super) fn hangs(&mut self, fault: Option<&Fault>) -> Option<Fault> {
        let fault = fault.filter(|f| f.kind == FaultKind::Unreachable)?;
        self.broken = true;
        Some(fault.clone())
    }

    async fn do_step(&mut self, step: &Step, cx: &Cx) -> Result<Outcome, Fault> {
        self.guard(&step.account)?;
        match step.action {
            Action::Disable => self.disable(&step.account, cx).await,
            Action::Revoke => self.revoke_key(&step.account, &step.object).await,
            Action::Remove => self.leave(&step.account, &step.object).await,
            Action::EndSessions => Err(Fault::new(
                FaultKind::Misconfigured,
                format!("{}: a directory cannot end a bound connection", self.name()),
            )),
            Action::Ask | Action::Rotate => Err(Fault::new(
                FaultKind::Unexpected,
                format!("{}: a directory takes no part in this step", self.name()),
            )),
        }
    }

    async fn undo_step(&mut self, undo: &Undo) -> Result<Restored, Fault> {
        self.guard(&undo.step.account)?;
        match undo.step.action {
            Action::Disable => self.enable(&undo.account).await,
            Action::Remove => self.rejoin(&undo.step.account, &undo.step.object).await,
            Action::Revoke | Action::EndSessions | Action::Ask | Action::Rotate => Ok(Restored {
                note: "old keys are not revived; have a new one registered".into(),
                one_time_password: None,
            }),
        }
    }
}

/// Connects and logs in as ourselves.
async fn log_in(shared: &Shared, address: &Address, timeout: Duration) -> Result<(Session, Reply), Fault> {
    let settings = &shared.settings;
    let password = secret::resolve(&settings.password, &shared.base).await?;
    let mut session = Session::connect(address, &shared.trust, timeout).await?;
    let reply = session.bind(&settings.bind_dn, &password).await?;
    let what = || format!("{} {address}: our own login {:?} is refused", shared.system, settings.bind_dn);
    match reply.code {
        Code::Success => Ok((session, reply)),
        Code::InvalidCredentials | Code::UnwillingToPerform | Code::Other(48) => {
            Err(Fault::new(FaultKind::Misconfigured, what())
                .because(&reply.words)
                .hint("correct bind-dn or its password, and see that this account is not locked"))
        }
        _ => Err(reply.fault(what())),
    }
}

#[async_trait]
impl Link for DirectoryLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        self.health().await
    }

    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        self.find(scope)
    }

    fn sweep(&mut self) -> BoxStream<'_, Result<Account, Fault>> {
        self.sweep_entries()
    }

    fn last_use(&self) -> LastUse {
        self.swept.last_use()
    }

    fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    async fn apply(&mut self, steps: &[Step], cx: &Cx) -> Vec<Result<Outcome, Fault>> {
        let mut outcomes = Vec::with_capacity(steps.len());
        let mut hangs = None;
        for step in steps {
            // A server that hangs would make every further step wait as long again.
            let outcome = match &hangs {
                Some(fault) => Err(Fault::clone(fault)),
                None => self.do_step(step, cx).await,
            };
            hangs = self.hangs(outcome.as_ref().err());
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn look(&mut self, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
        let mut looks = Vec::with_capacity(doors.len());
        // One control a call, by the same way and at the same time as the attempts.
        let mut control = None;
        let mut hangs: Option<Fault> = None;
        for door in doors {
            let look = match (&hangs, door.kind) {
                (Some(fault), _) => Err(fault.clone()),
                (None, DoorKind::Password) => self.look_at_password(door, after, &mut control, cx).await,
                (None, DoorKind::SshKey) => self.look_at_key(door).await,
                (None, DoorKind::Membership) => self.look_at_membership(door).await,
                (None, DoorKind::SharedSecret) => self.look_at_secret(door, &mut control, cx).await,
                (None, other) => Ok(Look::unproven(format!("a directory has no {other}"))),
            };
            hangs = self.hangs(look.as_ref().err());
            looks.push(look.unwrap_or_else(|fault| Look::unproven(fault.to_string())));
        }
        looks
    }

    async fn rotate(&mut self, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
        let taken = self.rotate_password(turn, cx).await;
        self.hangs(taken.as_ref().err());
        taken
    }

    fn keep(&mut self, secrets: Vec<KnownSecret>) {
        self.secrets = secrets;
    }

    async fn restore(&mut self, undo: &[Undo], _cx: &Cx) -> Vec<Result<Restored, Fault>> {
        let mut restored = Vec::with_capacity(undo.len());
        for undo in undo {
            restored.push(self.undo_step(undo).await);
        }
        restored
    }
}
