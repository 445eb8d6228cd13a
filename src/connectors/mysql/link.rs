//! One login on one server, and what every room of this connector needs of it.

use super::user::{Event, Membership, Row, User};
use super::{apply, check, discover, look, restore, rotate};
use crate::connector::{Cx, Health, KnownSecret, LastUse, Link, Scope, Taken, Turn};
use crate::connectors::database::Baseline;
use crate::model::{
    Account, Door, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Place, PlaceId, Restored, Step, SystemName,
    Undo,
};
use crate::wire::mysql::{Failure, Record, Session, account, text};
use async_trait::async_trait;
use futures::stream::BoxStream;
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};

/// Accounts of the server itself: never touched. The empty name is the anonymous user, who is everybody.
const INTERNAL: &[&str] = &["", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema"];

/// What the server is.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub mariadb: bool,
    pub version: String,
    pub read_only: bool,
    pub event_scheduler: bool,
    /// Who the server takes us for: `user@host` of the row that let us in.
    pub current_user: String,
}

impl Facts {
    /// `MariaDB 10.11.19`, `MySQL 8.0.36`.
    pub fn product(&self) -> String {
        let version = self.version.split('-').next().unwrap_or_default();
        format!("{} {version}", if self.mariadb { "MariaDB" } else { "MySQL" })
    }

    /// With `skip-grant-tables` everybody gets in, and nobody can be shut out.
    pub fn skips_grant_tables(&self) -> bool {
        self.current_user.starts_with("skip-grants user@")
    }
}

/// One server.
pub struct MysqlLink {
    pub system: SystemName,
    pub place: Place,
    pub session: Session,
    pub control: Option<(String, SecretString)>,
    pub facts: Facts,
    /// The users at the first discovery of the run.
    pub baseline: Option<Baseline>,
    /// The key of the digests in the baseline.
    pub key: [u8; 16],
    pub findings: Vec<Finding>,
    /// Users that this link has disabled, so that what a live session undoes is done again.
    pub disabled: BTreeSet<String>,
    /// Shared secrets whose doors may be looked at.
    pub secrets: Vec<KnownSecret>,
}

impl MysqlLink {
    /// Logs in and asks what the server is.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn open(
        system: SystemName,
        place: Place,
        mut session: Session,
        control: Option<(String, SecretString)>,
        cx: &Cx,
    ) -> Result<Self, Failure> {
        session.connect().await?;
        let facts = facts(&mut session).await?;
        Ok(Self {
            key: cx.secret_salt("users", &place.id, ""),
            baseline: cx.baseline.clone().and_then(|seen| serde_json::from_value(seen).ok()),
            system,
            place,
            session,
            control,
            facts,
            findings: Vec::new(),
            disabled: BTreeSet::new(),
            secrets: Vec::new(),
        })
    }

    /// `mysql clinic: cannot …`
    pub fn what(&self, cannot: impl std::fmt::Display) -> String {
        format!("mysql {}: cannot {cannot}", self.system)
    }

    /// A failure as a fault, with the grant to make where a right is missing.
    pub fn fault(&self, failure: Failure, cannot: impl std::fmt::Display, right: &str) -> Fault {
        let forbidden = failure.kind == FaultKind::Forbidden;
        let fault = failure.into_fault(self.what(cannot));
        if forbidden { fault.hint(format!("{}; then: offboard resume", self.grant(right))) } else { fault }
    }

    /// What gives our own user a right, for a person to paste.
    pub fn grant(&self, right: &str) -> String {
        let (user, host) = self.facts.current_user.rsplit_once('@').unwrap_or((self.session.user(), "%"));
        format!("GRANT {right} TO {}", account(user, host))
    }

    pub fn is_ours(&self, name: &str) -> bool {
        name == self.session.user() || self.control.as_ref().is_some_and(|(user, _)| user == name)
    }

    /// Whether a user is our own login, the control, or the server's own: never touched.
    pub fn is_protected(&self, name: &str) -> bool {
        INTERNAL.contains(&name) || self.is_ours(name)
    }

    /// The name and a fresh login of the user that must still get in.
    pub fn control(&self) -> Session {
        match &self.control {
            Some((user, password)) => self.session.as_user(user, password.clone()),
            None => self.session.another(),
        }
    }

    /// The witness password of one row. Users reach replicas by replication, so it is the system's and not the server's.
    pub fn witness(&self, name: &str, host: &str, cx: &Cx) -> SecretString {
        cx.witness(&PlaceId(self.system.0.clone()), &format!("{name}@{}", host.to_ascii_lowercase()))
    }

    pub fn note(&mut self, kind: FindingKind, account: Option<&str>, what: String, hint: impl Into<String>) {
        let place = Some(self.place.id.clone());
        self.findings.push(Finding { kind, place, account: account.map(str::to_string), what, hint: hint.into() });
    }

    /// Every user, with rows, roles and events.
    ///
    /// # Errors
    /// What the server says.
    pub async fn users(&mut self) -> Result<Vec<User>, Failure> {
        self.listed(None).await
    }

    /// The user of exactly that name, if there is one.
    ///
    /// # Errors
    /// What the server says.
    pub async fn user(&mut self, name: &str) -> Result<Option<User>, Failure> {
        Ok(self.listed(Some(name)).await?.pop())
    }

    async fn listed(&mut self, name: Option<&str>) -> Result<Vec<User>, Failure> {
        let only =
            |column: &str| name.map_or("1".into(), |name| format!("{column} = {} COLLATE utf8mb4_bin", text(name)));
        let sql = match self.facts.mariadb {
            true => format!(
                "SELECT User AS user, Host AS host, Priv AS priv FROM mysql.global_priv \
                 WHERE COALESCE(JSON_VALUE(Priv, '$.is_role'), 0) <> 1 AND {} ORDER BY User, Host",
                only("User")
            ),
            false => format!(
                "SELECT User AS user, Host AS host, plugin, authentication_string, account_locked, User_attributes AS user_attributes, \
                 Super_priv AS super_priv, Create_user_priv AS create_user_priv, Update_priv AS update_priv, Insert_priv AS insert_priv \
                 FROM mysql.user WHERE {} ORDER BY User, Host",
                only("User")
            ),
        };
        let mut users: BTreeMap<String, User> = BTreeMap::new();
        for record in self.session.rows(sql).await? {
            let (name, row) = Row::read(record)
                .ok_or_else(|| Failure::new(FaultKind::Unexpected, "a row of the grant tables is not as expected"))?;
            users.entry(name.clone()).or_insert_with(|| User { name, ..User::default() }).rows.push(row);
        }
        for (name, membership) in self.roles().await? {
            if let Some(user) = users.get_mut(&name)
                && user.row(&membership.host).is_some()
            {
                user.roles.push(membership);
            }
        }
        for (definer, event) in self.events().await? {
            if let Some(user) = users.get_mut(&definer) {
                user.events.push(event);
            }
        }
        Ok(users.into_values().collect())
    }

    async fn roles(&mut self) -> Result<Vec<(String, Membership)>, Failure> {
        let sql = match self.facts.mariadb {
            true => {
                "SELECT User AS user, Host AS host, Role AS role, NULL AS role_host, Admin_option AS admin FROM mysql.roles_mapping"
            }
            false => {
                "SELECT TO_USER AS user, TO_HOST AS host, FROM_USER AS role, FROM_HOST AS role_host, WITH_ADMIN_OPTION AS admin \
                 FROM mysql.role_edges"
            }
        };
        let read = |mut record: Record| {
            let mut take = |column: &str| record.remove(column).flatten();
            let (user, host, role) = (take("user")?, take("host")?, take("role")?);
            let admin = take("admin").is_some_and(|admin| admin.eq_ignore_ascii_case("y"));
            Some((user, Membership { host, role, role_host: take("role_host"), admin }))
        };
        Ok(self.session.rows(sql).await?.into_iter().filter_map(read).collect())
    }

    async fn events(&mut self) -> Result<Vec<(String, Event)>, Failure> {
        let sql = match self.facts.mariadb {
            true => "SELECT db AS db, name AS name, definer AS definer, status AS status FROM mysql.event",
            false => {
                "SELECT EVENT_SCHEMA AS db, EVENT_NAME AS name, DEFINER AS definer, STATUS AS status FROM information_schema.EVENTS"
            }
        };
        let read = |mut record: Record| {
            let mut take = |column: &str| record.remove(column).flatten();
            let definer = take("definer")?;
            let (user, host) = definer.rsplit_once('@')?;
            let event = Event {
                database: take("db")?,
                name: take("name")?,
                host: host.into(),
                enabled: take("status")?.starts_with("ENABLED"),
            };
            Some((user.to_string(), event))
        };
        Ok(self.session.rows(sql).await?.into_iter().filter_map(read).collect())
    }
}

/// What a server says of itself and of us.
///
/// # Errors
/// As [`Session::rows`].
pub async fn facts(session: &mut Session) -> Result<Facts, Failure> {
    let sql = "SELECT VERSION() AS version, @@GLOBAL.read_only AS read_only, @@GLOBAL.event_scheduler AS events, CURRENT_USER() AS us";
    let mut record = session.rows(sql).await?.pop().unwrap_or_default();
    let mut take = |column: &str| record.remove(column).flatten().unwrap_or_default();
    let version = take("version");
    if version.is_empty() {
        return Err(Failure::new(FaultKind::Unexpected, "the server does not say which version it is"));
    }
    let on = |value: &str| matches!(value, "1" | "ON");
    Ok(Facts {
        mariadb: version.to_ascii_lowercase().contains("mariadb"),
        version,
        read_only: !matches!(take("read_only").as_str(), "0" | "OFF"),
        event_scheduler: on(&take("events")),
        current_user: take("us"),
    })
}

#[async_trait]
impl Link for MysqlLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        check::check(self).await
    }

    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        discover::discover(self, scope)
    }

    fn last_use(&self) -> LastUse {
        LastUse::NotKept {
            why: "the server keeps no last login: only the connections of this moment can be seen".into(),
        }
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
