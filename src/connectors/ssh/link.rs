//! One connection to one host, and the script that runs on it.

use super::baseline::Baseline;
use super::discover::{Discovery, MOST_KEYS, Sought, note_writers};
use super::survey::Survey;
use super::undeclared::Before;
use super::uses::Uses;
use super::{Fleet, HostAt, watched};
use crate::connector::{Cx, Health, KnownSecret, LastUse, Link, Scope, Taken, Turn};
use crate::model::{
    Account, CouldRead, Door, DoorKind, Fault, FaultKind, Finding, FindingKind, Fingerprint, Look, Outcome, Restored,
    Step, Undeclared, Undo,
};
use crate::wire::reach::{HostPort, Stream};
pub(super) use crate::wire::shell::quoted;
use crate::wire::shell::{CallError, Closed, Kept, Login, Script, Shell};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// The most that one call may answer, in bytes: three times a host full of large key files.
const MOST: usize = 96 * 1024 * 1024;

/// The script: it is sent once a connection.
pub(super) fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        without_comments(&[
            include_str!("script/common.sh"),
            include_str!("script/tables.sh"),
            include_str!("script/survey.sh"),
            include_str!("script/change.sh"),
            include_str!("script/secret.sh"),
        ])
    })
}

/// Parts of the script without comments and indentation.
pub(super) fn without_comments(parts: &[&str]) -> String {
    parts
        .iter()
        .flat_map(|part| part.lines())
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// How old a discovery's survey may be for a look to use it, where nothing was done on the link since. What a verdict says is then
/// as old as the answer to a call that took as long. The look before proves nothing, and may be as old as it may take.
const RECENT: Duration = Duration::from_millis(250);
const RECENT_BEFORE: Duration = Duration::from_secs(2);

/// What a discovery has just read.
struct Recent {
    survey: Survey,
    read: Instant,
    /// The accounts whose jobs were read.
    jobs_of: BTreeSet<String>,
}

/// The call that describes these files; none for none.
pub(super) fn watch(files: &[String]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let files: Vec<String> = files.iter().map(|file| quoted(file)).collect();
    format!("watch {} </dev/null\n", files.join(" "))
}

/// A live connection.
pub(super) struct SshLink {
    pub(super) fleet: Arc<Fleet>,
    pub(super) host: HostAt,
    pub(super) login: Login,
    script: Script,
    /// What the run first saw here, and who could have changed it since.
    baseline: Option<Baseline>,
    findings: Vec<Finding>,
    /// Files that hold shared secrets, if who could read files is asked at all; and who could.
    watching: Option<Vec<String>>,
    /// Values of shared secrets, for looks.
    pub(super) secrets: Vec<KnownSecret>,
    could_read: Vec<CouldRead>,
    /// What the first survey knew of who could read what.
    pub(super) before: Option<Before>,
    /// Until the next call.
    recent: Option<Recent>,
    /// Of the last sweep.
    pub(super) uses: Option<Uses>,
    /// By account, connections that keys were asked for on.
    pub(super) kept: HashMap<String, Kept>,
    /// Accounts that the last discovery took for the leaver's own.
    pub(super) own: BTreeSet<String>,
    /// Type and base64 of keys seen.
    pub(super) blobs: HashMap<Fingerprint, (String, String)>,
}

impl SshLink {
    /// Starts the script on a connection that is logged in.
    ///
    /// # Errors
    /// `Forbidden`: no root there, with the line for sudoers. `Misconfigured`: what was journaled of the host cannot be read.
    pub(super) async fn start(
        fleet: Arc<Fleet>,
        host: HostAt,
        login: Login,
        shell: Shell,
        cx: &Cx,
    ) -> Result<Self, Fault> {
        let baseline = match &cx.baseline {
            None => None,
            Some(seen) => Some(serde_json::from_value(seen.clone()).map_err(|e| {
                Fault::new(
                    FaultKind::Misconfigured,
                    format!("ssh {}: the journaled baseline is not understood", host.target),
                )
                .because(e)
            })?),
        };
        let sudo = fleet.sudo && host.target.user != "root";
        let command = if sudo { "sudo -n /bin/sh -s" } else { "/bin/sh -s" };
        let text = format!("WE={}\nGROUPS_OF_NOTE={}\n{}", quoted(&host.target.user), quoted(&fleet.groups), script());
        let script = shell.start(command, &text).await?;
        let mut link = Self {
            fleet,
            host,
            login,
            script,
            baseline,
            findings: Vec::new(),
            watching: None,
            secrets: Vec::new(),
            could_read: Vec::new(),
            before: None,
            recent: None,
            uses: None,
            kept: HashMap::new(),
            own: BTreeSet::new(),
            blobs: HashMap::new(),
        };
        let hello = link.call("hello", Survey::default()).await?;
        if hello.said("unreadable").is_some() {
            return Err(link.forbidden("it is not root there, and sudo is not asked for"));
        }
        Ok(link)
    }

    /// A fault about this host.
    pub(super) fn fault(&self, kind: FaultKind, what: &str) -> Fault {
        Fault::new(kind, format!("ssh {}: {what}", self.host.target))
    }

    fn forbidden(&self, because: &str) -> Fault {
        let user = &self.host.target.user;
        self.fault(FaultKind::Forbidden, "cannot become root").because(because).hint(format!(
            "as root on {}: echo '{user} ALL=(root) NOPASSWD: /bin/sh -s' > /etc/sudoers.d/offboard; chmod 440 /etc/sudoers.d/offboard; \
             and in offboard.yaml: sudo: true",
            self.host.target.name
        ))
    }

    /// Calls the script; what it prints goes into `survey`.
    pub(super) async fn call(&mut self, text: &str, mut survey: Survey) -> Result<Survey, Fault> {
        self.ask(text, &mut |line| survey.line(line)).await.map(|()| survey)
    }

    /// Calls the script; what it prints goes to `each`, line by line.
    pub(super) async fn ask(&mut self, text: &str, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), Fault> {
        self.recent = None;
        match self.script.call(text, MOST, each).await {
            Ok(()) => Ok(()),
            Err(CallError::Fault(fault)) => Err(fault),
            Err(CallError::Closed(Closed { status, stderr })) => {
                let refused = stderr.contains("sudo") || status == Some(127);
                let because = if stderr.is_empty() { "the shell ended".to_string() } else { stderr };
                Err(if refused {
                    self.forbidden(&because)
                } else {
                    self.fault(FaultKind::Unreachable, "the shell there ended").because(because)
                })
            }
        }
    }

    /// A connection from this host to another place.
    ///
    /// # Errors
    /// Why there is none, a few words.
    pub(super) async fn dial(&self, at: &HostPort) -> Result<impl Stream + use<>, String> {
        self.script.dial(at).await
    }

    /// The key files of some accounts, and everything about their state, sessions and jobs. Our own account is always among
    /// them: it is the control.
    pub(super) async fn listing(&mut self, accounts: &BTreeSet<&str>) -> Result<Survey, Fault> {
        let mut names: Vec<String> = accounts.iter().map(|name| quoted(name)).collect();
        if !accounts.contains(self.host.target.user.as_str()) {
            names.push(quoted(&self.host.target.user));
        }
        let keep_of = accounts.iter().map(|name| name.to_string()).collect();
        let survey = Survey { keep_of, ..Survey::default() };
        let survey = self.call(&format!("listing {}", names.join(" ")), survey).await?;
        self.complete(survey)
    }

    /// The whole host, with a key that is kept wherever it stands.
    pub(super) async fn whole(&mut self, key: &Fingerprint) -> Result<Survey, Fault> {
        let survey = Survey { keep: [key.clone()].into(), ..Survey::default() };
        let survey = self.call("survey", survey).await?;
        self.complete(survey)
    }

    /// What a look needs: a listing, or once what the discovery just before has read, if the host still answers.
    pub(super) async fn current(&mut self, accounts: &BTreeSet<&str>, after: bool) -> Result<Survey, Fault> {
        let limit = if after { RECENT } else { RECENT_BEFORE };
        match self.recent.take() {
            Some(recent)
                if recent.read.elapsed() < limit
                    && accounts.iter().all(|name| recent.jobs_of.contains(*name) || !self.own.contains(*name)) =>
            {
                self.call(":", recent.survey).await
            }
            _ => self.listing(accounts).await,
        }
    }

    /// Keys beyond those of one round are looked at by a run's next; a sweep has none.
    fn too_many_keys(&self, account: &Account) -> Option<Finding> {
        let keys = account.doors.iter().filter(|door| door.kind == DoorKind::SshKey).count();
        (keys >= MOST_KEYS).then(|| Finding {
            kind: FindingKind::Unknown,
            place: Some(self.host.place.id.clone()),
            account: Some(account.native_id.clone()),
            what: format!("{} has {MOST_KEYS} keys or more: the others were not looked at", account.native_id),
            hint: "nobody needs so many: take out those that are not in use".into(),
        })
    }

    /// Whether the survey just before saw somebody logged in to the account.
    pub(super) fn is_in_use(&self, account: &str) -> bool {
        let seen = self.recent.as_ref();
        seen.is_some_and(|recent| recent.survey.sessions.iter().any(|session| session.account == account))
    }

    /// A listing that was cut off proves nothing.
    fn complete(&self, survey: Survey) -> Result<Survey, Fault> {
        for part in ["tables", "processes", "files", "survey"] {
            if !survey.has(part) {
                return Err(self
                    .fault(FaultKind::Unexpected, "the host's listing is incomplete")
                    .because(format!("it broke off at: {part}"))
                    .hint("a file that never ends, or was exchanged while it was read; tried again"));
            }
        }
        if survey.config.get("authorizedkeysfile").is_none_or(String::is_empty) {
            let because = survey.config_error.unwrap_or_else(|| "sshd -T names no AuthorizedKeysFile".into());
            return Err(self
                .fault(FaultKind::Misconfigured, "cannot tell which key files sshd reads")
                .because(because)
                .hint("run sshd -T there as root and mend what it says"));
        }
        Ok(survey)
    }

    async fn survey(&mut self, scope: &Scope) -> Result<Vec<Account>, Fault> {
        let we = self.host.target.user.clone();
        let sought = Sought::new(scope, &self.host.place, &we);
        let names: Vec<String> = sought.own.keys().map(|name| quoted(name)).collect();
        let survey = Survey {
            keep_of: sought.own.keys().cloned().collect(),
            keep: sought.keys.keys().cloned().collect(),
            keep_new: self.baseline.clone(),
            ..Survey::default()
        };
        let watching = self.watching.clone().filter(|_| !sought.everything);
        let watched = watching.as_deref().map(|files| format!("{}WATCHING=1\n", watch(files))).unwrap_or_default();
        let survey = self.call(&format!("{watched}survey {}", names.join(" ")), survey).await?;
        let read = Instant::now();
        let mut survey = self.complete(survey)?;
        let mut baseline = self.baseline.take().unwrap_or_else(|| Baseline::of(&survey));
        note_writers(&sought, &survey, &mut baseline);
        let baseline = self.baseline.insert(baseline).clone();
        let pids: Vec<String> = survey
            .sessions
            .iter()
            .filter(|s| baseline.is_held(&s.account) && !sought.own.contains_key(&s.account))
            .map(|s| s.pid.to_string())
            .collect();
        let mut more = String::new();
        if !pids.is_empty() {
            more.push_str(&format!("trace {}\n", pids.join(" ")));
        }
        let held: Vec<String> =
            baseline.held().into_iter().filter(|name| !sought.own.contains_key(*name)).map(quoted).collect();
        if !held.is_empty() {
            more.push_str(&format!("others {} </dev/null\n", held.join(" ")));
        }
        let groups = watched::unlisted_groups(&survey);
        if !groups.is_empty() {
            let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
            more.push_str(&format!("groups_called {} </dev/null\n", groups.join(" ")));
        }
        if !more.is_empty() {
            survey = self.call(&more, survey).await?;
        }
        let set_by_us = super::service_key::new_keys(&self.secrets);
        self.own = sought.own.keys().filter(|name| survey.accounts.contains_key(*name)).cloned().collect();
        let discovery = Discovery {
            place: &self.host.place,
            ourselves: &we,
            own_key: &self.fleet.own,
            sought: &sought,
            survey: &survey,
            baseline: &baseline,
            watching: watching.as_deref().unwrap_or_default(),
            set_by_us: &set_by_us,
        };
        let found = discovery.found();
        if watching.is_some() {
            let accounts = found.accounts.iter().map(|account| account.native_id.clone()).collect();
            self.before.get_or_insert_with(|| Before::of(&survey, accounts));
        }
        self.findings = found.findings;
        self.could_read = found.could_read;
        self.blobs.extend(survey.blobs.drain());
        self.recent = Some(Recent { survey, read, jobs_of: sought.own.into_keys().collect() });
        Ok(found.accounts)
    }
}

#[async_trait]
impl Link for SshLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        let call = format!("{}WATCHING=\nhealth", watch(self.watching.as_deref().unwrap_or_default()));
        let survey = self.call(&call, Survey::default()).await?;
        let mut health = super::check::health(&self.host, &survey);
        health.findings.extend(survey.watched.open_to_all(&self.host.place));
        Ok(health)
    }

    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        let found = async move {
            match self.survey(scope).await {
                Ok(accounts) => accounts.into_iter().map(Ok).collect(),
                Err(fault) => vec![Err(fault)],
            }
        };
        futures::stream::once(found).flat_map(futures::stream::iter).boxed()
    }

    fn sweep(&mut self) -> BoxStream<'_, Result<Account, Fault>> {
        let found = async move {
            let found = async {
                let mut accounts = self.survey(&Scope::Everything).await?;
                self.fill_in_uses(&mut accounts).await?;
                let many: Vec<Finding> = accounts.iter().filter_map(|account| self.too_many_keys(account)).collect();
                self.findings.extend(many);
                Ok(accounts)
            };
            match found.await {
                Ok(accounts) => accounts.into_iter().map(Ok).collect(),
                Err(fault) => vec![Err(fault)],
            }
        };
        futures::stream::once(found).flat_map(futures::stream::iter).boxed()
    }

    fn last_use(&self) -> LastUse {
        match &self.uses {
            Some(uses) => uses.last_use(),
            None => LastUse::NotKept { why: "the host was not asked".into() },
        }
    }

    fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    fn watch(&mut self, files: Vec<String>) {
        self.watching = Some(files);
    }

    async fn undeclared(&mut self) -> Result<Vec<Undeclared>, Fault> {
        super::undeclared::undeclared(self).await
    }

    fn could_read(&mut self) -> Vec<CouldRead> {
        std::mem::take(&mut self.could_read)
    }

    fn baseline(&self) -> Option<serde_json::Value> {
        self.baseline.as_ref().and_then(|seen| serde_json::to_value(seen).ok())
    }

    async fn apply(&mut self, steps: &[Step], _cx: &Cx) -> Vec<Result<Outcome, Fault>> {
        super::apply::apply(self, steps).await
    }

    async fn look(&mut self, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
        let is_secret = |door: &&Door| door.kind == DoorKind::SharedSecret;
        let others: Vec<Door> = doors.iter().filter(|door| !is_secret(door)).cloned().collect();
        let looks = match others.is_empty() {
            true => Vec::new(),
            false => super::look::look(self, &others, after).await,
        };
        let mut looks = looks.into_iter();
        let mut all = Vec::with_capacity(doors.len());
        for door in doors {
            all.push(match is_secret(&door) {
                true => super::source::look(self, door, cx).await,
                false => looks.next().unwrap_or_else(|| Look::unproven("the host did not say")),
            });
        }
        all
    }

    fn keep(&mut self, secrets: Vec<KnownSecret>) {
        self.secrets = secrets;
    }

    async fn restore(&mut self, undo: &[Undo], _cx: &Cx) -> Vec<Result<Restored, Fault>> {
        super::apply::restore(self, undo).await
    }

    async fn rotate(&mut self, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
        super::rotate::rotate(self, turn, cx).await
    }
}
