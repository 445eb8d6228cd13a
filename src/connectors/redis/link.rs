//! One login on one server, and what every room of this connector needs of it.

use super::user::User;
use super::{EVERYBODY, apply, check, discover, look, restore, rotate};
use crate::connector::{Cx, Health, KnownSecret, LastUse, Link, Scope, Taken, Turn};
use crate::connectors::database::Baseline;
use crate::model::{
    Account, Door, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Place, Restored, Step, SystemName, Undo,
};
use crate::wire::resp::{Failure, Reply, Server, Session};
use async_trait::async_trait;
use futures::stream::BoxStream;
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};

/// What a server says of itself (`INFO`).
#[derive(Clone, Debug, Default)]
pub struct Facts {
    fields: BTreeMap<String, String>,
    /// The ACL file, `Some("")` if there is none; nothing where we may not ask.
    pub acl_file: Option<String>,
}

impl Facts {
    fn of(info: &str, acl_file: Option<String>) -> Self {
        let fields = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self { fields: fields.map(|(name, value)| (name.to_string(), value.to_string())).collect(), acl_file }
    }

    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub fn is_sentinel(&self) -> bool {
        self.field("redis_mode") == "sentinel"
    }

    /// `Redis 7.0.15`, `Valkey 8.1.0 (Sentinel)`.
    pub fn product(&self) -> String {
        let (name, version) = match self.field("valkey_version") {
            "" => ("Redis", self.field("redis_version")),
            version => ("Valkey", version),
        };
        let mode = match self.field("redis_mode") {
            "sentinel" => " (Sentinel)",
            "cluster" => " (cluster)",
            _ => "",
        };
        format!("{name} {version}{mode}")
    }
}

/// One server.
pub struct RedisLink {
    pub system: SystemName,
    pub place: Place,
    pub session: Session,
    /// Every server of the system, as written in `hosts`.
    pub hosts: Vec<(String, Server)>,
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

impl RedisLink {
    /// Logs in and asks what the server is.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn open(
        system: SystemName,
        place: Place,
        mut session: Session,
        hosts: Vec<(String, Server)>,
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
            hosts,
            control,
            facts,
            findings: Vec::new(),
            disabled: BTreeSet::new(),
            secrets: Vec::new(),
        })
    }

    /// `redis cache: cannot …`
    pub fn what(&self, cannot: impl std::fmt::Display) -> String {
        format!("redis {}: cannot {cannot}", self.system)
    }

    /// A failure as a fault, with the rule to add where a right is missing.
    pub fn fault(&self, failure: Failure, cannot: impl std::fmt::Display, command: &str) -> Fault {
        let forbidden = failure.kind == FaultKind::Forbidden;
        let fault = failure.into_fault(self.what(cannot));
        if forbidden { fault.hint(format!("{}; then: offboard resume", self.grant(command))) } else { fault }
    }

    /// What lets our own user run a command, for a person to paste.
    pub fn grant(&self, command: &str) -> String {
        format!("ACL SETUSER {} +{command}, and ACL SAVE", self.session.user())
    }

    pub fn is_ours(&self, name: &str) -> bool {
        name == self.session.user() || self.control.as_ref().is_some_and(|(user, _)| user == name)
    }

    /// Whether a user is our own login, the control, or everybody's: never touched.
    pub fn is_protected(&self, name: &str) -> bool {
        name == EVERYBODY || self.is_ours(name)
    }

    /// The name and a fresh login of the user that must still get in.
    pub fn control(&self) -> Session {
        match &self.control {
            Some((user, password)) => self.session.as_user(user, password.clone()),
            None => self.session.another(),
        }
    }

    pub fn note(&mut self, kind: FindingKind, account: Option<&str>, what: String, hint: impl Into<String>) {
        let place = Some(self.place.id.clone());
        self.findings.push(Finding { kind, place, account: account.map(str::to_string), what, hint: hint.into() });
    }
}

/// What a server says of itself.
///
/// # Errors
/// As [`Session::call`]; that we may not ask for its configuration is none.
pub async fn facts(session: &mut Session) -> Result<Facts, Failure> {
    // One section at a time: before Redis 7 no more is understood.
    let info = session.call(&["INFO", "server"]).await?.text();
    let acl_file = session.call(&["CONFIG", "GET", "aclfile"]).await;
    let acl_file = match acl_file {
        Ok(reply) => reply.items().get(1).map(Reply::text),
        Err(failure) if failure.code.is_some() => None,
        Err(failure) => return Err(failure),
    };
    Ok(Facts::of(&info, acl_file))
}

/// Every user of a server. A name that is not UTF-8 is nobody's that we know; it is shown with marks in place of its bytes.
pub async fn users(session: &mut Session) -> Result<Vec<User>, Failure> {
    let lines = session.call(&["ACL", "LIST"]).await?;
    Ok(lines.items().iter().filter_map(|line| User::of_line(&line.text())).collect())
}

/// The user of exactly that name, if there is one; without its rules.
pub async fn user(session: &mut Session, name: &str) -> Result<Option<User>, Failure> {
    let reply = session.call(&["ACL", "GETUSER", name]).await?;
    if reply == Reply::Nil {
        return Ok(None);
    }
    let mut user = User { name: name.to_string(), ..User::default() };
    let mut complete = 0;
    for pair in reply.items().chunks(2) {
        let [field, value] = pair else { continue };
        match field.text().as_str() {
            "flags" => {
                let flags: Vec<String> = value.items().iter().map(Reply::text).collect();
                user.enabled = flags.iter().any(|flag| flag == "on");
                user.nopass = flags.iter().any(|flag| flag == "nopass");
                // Neither `on` nor `off` would be an answer that is not understood.
                complete += usize::from(flags.iter().any(|flag| flag == "on" || flag == "off"));
            }
            "passwords" => {
                user.digests = value.items().iter().map(|digest| digest.text().to_ascii_lowercase()).collect();
                user.passwords = user.digests.len();
                complete += 1;
            }
            _ => {}
        }
    }
    if complete < 2 {
        return Err(Failure::new(FaultKind::Unexpected, "ACL GETUSER gave neither flags nor passwords"));
    }
    Ok(Some(user))
}

#[async_trait]
impl Link for RedisLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        check::check(self).await
    }

    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        discover::discover(self, scope)
    }

    fn last_use(&self) -> LastUse {
        LastUse::NotKept { why: "Redis keeps no last login: only the connections of this moment can be seen".into() }
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
