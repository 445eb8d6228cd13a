//! One login on one server of the cluster, and what every room of this connector needs of it.

use super::{apply, check, discover, look, restore, rotate};
use crate::connector::{Cx, Health, KnownSecret, Link, Scope, Taken, Turn};
use crate::model::{Account, Door, Fault, FaultKind, Finding, Look, Outcome, Place, Restored, Step, SystemName, Undo};
use crate::wire::sql::{Failure, Session};
use async_trait::async_trait;
use futures::stream::BoxStream;
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What the server says of our own login.
#[derive(Clone, Debug, Deserialize)]
pub struct Facts {
    /// `session_user`: who we logged in as, whatever an identity map made of it.
    pub user: String,
    /// `server_version_num`, such as 150018.
    pub version: u32,
    /// `server_version`, such as `15.18 (Debian …)`.
    pub version_name: String,
    /// A standby takes no changes of its own.
    pub standby: bool,
    pub superuser: bool,
    pub create_role: bool,
    pub signal_backend: bool,
    pub read_all_stats: bool,
    /// Whether we may ask if a role has a local password.
    pub sees_passwords: bool,
}

impl Facts {
    /// The privilege, as `pg_has_role` names it, by which a member of a role may `SET ROLE` to it. From PostgreSQL 16 on a membership may
    /// be without.
    pub fn may_take_on(&self) -> &'static str {
        if self.version >= 160_000 { "SET" } else { "MEMBER" }
    }
}

pub const ABOUT_US: &str = "
SELECT json_build_object(
    'user', session_user::text,
    'version', current_setting('server_version_num')::int,
    'version_name', current_setting('server_version'),
    'standby', pg_is_in_recovery(),
    'superuser', r.rolsuper,
    'create_role', r.rolcreaterole,
    'signal_backend', pg_has_role('pg_signal_backend', 'USAGE'),
    'read_all_stats', pg_has_role('pg_read_all_stats', 'USAGE'),
    'sees_passwords', has_column_privilege('pg_authid', 'oid', 'SELECT') AND has_column_privilege('pg_authid', 'rolpassword', 'SELECT')
)::text
FROM pg_roles r WHERE r.rolname = session_user";

/// The bootstrap superuser's object identifier, on every cluster (`BOOTSTRAP_SUPERUSERID` in `pg_authid.dat`). Its name may be any.
pub const BOOTSTRAP: i64 = 10;

/// One server of the cluster.
pub struct PgLink {
    pub system: SystemName,
    pub place: Place,
    pub session: Session,
    pub control: Option<(String, SecretString)>,
    pub us: Facts,
    /// Every role at the first discovery of the run.
    pub baseline: Option<discover::Baseline>,
    pub findings: Vec<Finding>,
    /// Roles that this link has disabled, by name, so that what a live session undoes is done again.
    pub disabled: BTreeMap<String, i64>,
    /// Shared secrets whose doors may be looked at.
    pub secrets: Vec<KnownSecret>,
}

impl PgLink {
    /// Logs in and asks who we are.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn open(
        system: SystemName,
        place: Place,
        mut session: Session,
        control: Option<(String, SecretString)>,
        baseline: Option<discover::Baseline>,
    ) -> Result<Self, Failure> {
        session.connect().await?;
        let us = session.row(ABOUT_US, &[]).await?;
        Ok(Self { system, place, session, control, us, baseline, findings: Vec::new(), disabled: BTreeMap::new(), secrets: Vec::new() })
    }

    /// `postgres billing: cannot …`
    pub fn what(&self, cannot: impl std::fmt::Display) -> String {
        format!("postgres {}: cannot {cannot}", self.system)
    }

    /// A failure as a fault, with the privilege to grant where one is missing.
    pub fn fault(&self, failure: Failure, cannot: impl std::fmt::Display, grant: impl FnOnce() -> String) -> Fault {
        let forbidden = failure.kind == FaultKind::Forbidden;
        let fault = failure.into_fault(self.what(cannot));
        if forbidden { fault.hint(grant()) } else { fault }
    }

    /// Whether a role is our own login, the control's, or the bootstrap superuser: never touched.
    pub fn is_protected(&self, name: &str, oid: i64) -> bool {
        oid == BOOTSTRAP || self.is_ours(name)
    }

    pub fn is_ours(&self, name: &str) -> bool {
        name == self.us.user
            || name == self.session.user()
            || self.control.as_ref().is_some_and(|(user, _)| user == name)
    }

    /// The name and a fresh login of the role that must still get in.
    pub fn control(&self) -> Session {
        match &self.control {
            Some((user, password)) => self.session.as_role(user, password.clone()),
            None => self.session.another(),
        }
    }
}

#[async_trait]
impl Link for PgLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        check::check(self).await
    }

    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        discover::discover(self, scope)
    }

    fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    fn baseline(&self) -> Option<serde_json::Value> {
        self.baseline.as_ref().and_then(|seen| serde_json::to_value(seen).ok())
    }

    async fn apply(&mut self, steps: &[Step], cx: &Cx) -> Vec<Result<Outcome, Fault>> {
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            outcomes.push(apply::apply(self, step, cx).await);
        }
        outcomes
    }

    async fn look(&mut self, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
        look::look(self, doors, after, cx).await
    }

    async fn restore(&mut self, undo: &[Undo], cx: &Cx) -> Vec<Result<Restored, Fault>> {
        let mut restored = Vec::with_capacity(undo.len());
        for undo in undo {
            restored.push(restore::restore(self, undo, cx).await);
        }
        restored
    }

    async fn rotate(&mut self, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
        rotate::rotate(self, turn, cx).await
    }

    fn keep(&mut self, secrets: Vec<KnownSecret>) {
        self.secrets = secrets;
    }
}
