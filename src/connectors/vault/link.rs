//! One login in one namespace of one Vault, and what every room of this connector needs of it.

use super::api::{Api, Credentials};
use super::identity::Identity;
use super::tokens::Token;
use super::{apply, check, discover, look, restore, rotate};
use crate::connector::{Cx, Health, LastUse, Link, Scope, Taken, Turn};
use crate::model::{Account, CouldRead, Door, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Place, Restored, Step, SystemName, Undo};
use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// One login in one namespace.
pub struct VaultLink {
    pub system: SystemName,
    pub place: Place,
    /// With our own token.
    pub api: Api,
    /// Whether the token was made by our login, and is to be given back.
    pub own_token: bool,
    pub us: Credentials,
    pub control: Option<Credentials>,
    /// Our own entity and the control's: never touched.
    pub ours: BTreeSet<String>,
    /// Why the control did not get in when the link was opened.
    pub control_failed: Option<String>,
    /// Every live token that was looked up.
    pub tokens: BTreeMap<String, Token>,
    pub findings: Vec<Finding>,
    /// Leases that ended together with tokens of the leaver's.
    pub ended: BTreeSet<String>,
    /// The time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Where the server's audit logs can be read.
    pub audit_logs: Vec<PathBuf>,
    /// As those logs call it: nothing for the root.
    pub namespace: String,
    /// Paths in which shared secrets are kept, and who has read them.
    pub watched: Vec<String>,
    pub could_read: Vec<CouldRead>,
    /// The accessors at the first discovery of the run.
    pub baseline: Option<discover::Baseline>,
}

impl VaultLink {
    /// Logs in, and asks who we are and who the control is.
    ///
    /// # Errors
    /// As [`Api::enter`].
    pub async fn open(
        system: SystemName,
        place: Place,
        api: Api,
        us: Credentials,
        control: Option<Credentials>,
        baseline: Option<discover::Baseline>,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Result<Self, Fault> {
        let what = format!("vault {system}: cannot log in as {} at {}", us.who(), place.address);
        let entered = api.enter(&us, &what).await?;
        let mut ours: BTreeSet<String> = entered.entity.into_iter().collect();
        let mut control_failed = None;
        if let Some(control) = &control {
            match api.enter(control, &format!("the control {} did not get in", control.who())).await {
                Ok(other) => {
                    ours.extend(other.entity);
                    if !matches!(control, Credentials::Token(_)) {
                        api.leave(other.token).await;
                    }
                }
                Err(fault) => control_failed = Some(fault.to_string()),
            }
        }
        Ok(Self {
            system,
            place,
            api: api.with(entered.token),
            own_token: !matches!(us, Credentials::Token(_)),
            us,
            control,
            ours,
            control_failed,
            tokens: BTreeMap::new(),
            findings: Vec::new(),
            ended: BTreeSet::new(),
            now,
            audit_logs: Vec::new(),
            namespace: String::new(),
            watched: Vec::new(),
            could_read: Vec::new(),
            baseline,
        })
    }

    /// `vault safe: cannot …`
    pub fn what(&self, cannot: impl std::fmt::Display) -> String {
        format!("vault {}: cannot {cannot}", self.system)
    }

    /// Whether it is our own identity or the control's.
    pub fn is_ours(&self, identity: &Identity) -> bool {
        let logins = [Some(&self.us), self.control.as_ref()];
        let by_login = |way: &super::identity::Way| {
            logins.iter().flatten().any(|login| match login {
                Credentials::Token(_) => false,
                Credentials::AppRole(mount, role_id, _) => way.mount.path == plain(mount) && way.alias == *role_id,
                Credentials::Password(mount, user, _) => {
                    way.mount.path == plain(mount) && way.name.eq_ignore_ascii_case(user)
                }
            })
        };
        identity.entity.as_ref().is_some_and(|e| self.ours.contains(&e.id)) || identity.ways.iter().any(by_login)
    }

    /// Who must still get in.
    pub fn control(&self) -> &Credentials {
        self.control.as_ref().unwrap_or(&self.us)
    }

    /// A fresh login of the control, or why there is none.
    pub async fn control_gets_in(&self) -> Result<String, String> {
        let control = self.control();
        let entered = self.api.enter(control, &format!("the control {} did not get in", control.who())).await;
        let entered = entered.map_err(|fault| fault.to_string())?;
        if matches!(control, Credentials::Token(_)) {
            return Ok(format!("{} was let in", control.who()));
        }
        self.api.leave(entered.token).await;
        Ok(format!("{} logged in", control.who()))
    }

    pub fn finding(&self, kind: FindingKind, account: Option<&str>, what: String, hint: &str) -> Finding {
        Finding {
            kind,
            place: Some(self.place.id.clone()),
            account: account.map(ToString::to_string),
            what,
            hint: hint.to_string(),
        }
    }

    /// That nothing of ours is touched.
    ///
    /// # Errors
    /// `Protected`.
    pub fn guard(&self, identity: &Identity, cannot: &str) -> Result<(), Fault> {
        if !self.is_ours(identity) {
            return Ok(());
        }
        Err(Fault::new(FaultKind::Protected, cannot)
            .because("it is offboard's own identity or its control")
            .hint("another administrator has to do this by hand"))
    }
}

fn plain(mount: &str) -> &str {
    mount.trim_matches('/')
}

/// The token that our login made is given back, if there is still somebody to do it: else it lives on until it is over.
impl Drop for VaultLink {
    fn drop(&mut self) {
        if !self.own_token {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let api = self.api.clone();
            runtime.spawn(async move { api.leave_self().await });
        }
    }
}

#[async_trait]
impl Link for VaultLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        check::check(self).await
    }

    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        discover::discover(self, scope)
    }

    fn last_use(&self) -> LastUse {
        LastUse::NotKept { why: "a Vault keeps no last login of an entity: only the tokens of this moment can be seen".into() }
    }

    fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    fn watch(&mut self, paths: Vec<String>) {
        self.watched = paths;
    }

    fn could_read(&mut self) -> Vec<CouldRead> {
        std::mem::take(&mut self.could_read)
    }

    fn baseline(&self) -> Option<serde_json::Value> {
        self.baseline.as_ref().and_then(|seen| serde_json::to_value(seen).ok())
    }

    async fn apply(&mut self, steps: &[Step], cx: &Cx) -> Vec<Result<Outcome, Fault>> {
        let mut results = Vec::with_capacity(steps.len());
        for step in steps {
            results.push(apply::apply(self, step, cx).await);
        }
        results
    }

    async fn look(&mut self, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
        look::look(self, doors, after, cx).await
    }

    async fn rotate(&mut self, turn: &Turn<'_>, _cx: &Cx) -> Result<Taken, Fault> {
        rotate::rotate(self, turn).await
    }

    async fn restore(&mut self, undo: &[Undo], _cx: &Cx) -> Vec<Result<Restored, Fault>> {
        let mut results = Vec::with_capacity(undo.len());
        for one in undo {
            results.push(restore::restore(self, one).await);
        }
        results
    }
}
