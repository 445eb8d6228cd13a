//! One connection to one gateway, and the script that runs on it.

use super::survey::Survey;
use crate::connector::{Cx, Health, Link, Scope};
use crate::model::{Account, Door, Fault, FaultKind, Finding, Look, Outcome, Restored, Step, Undo};
use crate::wire::gateway::{self, GatewayAt, RootScript};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

/// How old what a discovery read may be for the look before.
const RECENT: Duration = Duration::from_secs(2);

/// The script, with what all gateways need.
pub(super) fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        gateway::script(&[
            include_str!("script/common.sh"),
            include_str!("script/survey.sh"),
            include_str!("script/change.sh"),
        ])
    })
}

/// A live connection.
pub(super) struct GatewayLink {
    pub(super) host: GatewayAt,
    pub(super) now: Timestamp,
    script: RootScript,
    findings: Vec<Finding>,
    /// What a discovery has just read: the look before takes it over, for containment does not wait.
    recent: Option<(Survey, Instant)>,
}

impl GatewayLink {
    /// The script runs already.
    pub(super) fn new(script: RootScript, now: Timestamp) -> Self {
        Self { host: script.host.clone(), now, script, findings: Vec::new(), recent: None }
    }

    /// A fault about this gateway.
    pub(super) fn fault(&self, kind: FaultKind, what: &str) -> Fault {
        self.script.fault(kind, what)
    }

    /// Calls the script.
    pub(super) async fn call(&mut self, text: &str) -> Result<Survey, Fault> {
        let mut survey = Survey::default();
        self.script.call(text, &mut |line| survey.line(line)).await?;
        Ok(survey)
    }

    /// Everything that the gateway knows; with `all` also certificates that lie in folders, and when each name was last seen.
    ///
    /// # Errors
    /// A listing that was cut off proves nothing; nor does one without the configuration or without the CA's database.
    pub(super) async fn survey(&mut self, all: bool) -> Result<Survey, Fault> {
        let survey = self.call(if all { "gather all" } else { "gather" }).await?;
        if let Some(file) = survey.complaint("unreadable") {
            return Err(self
                .fault(FaultKind::Misconfigured, &format!("cannot read {file}"))
                .hint("config in offboard.yaml must name the configuration file of the server, as it is called on the gateway"));
        }
        if let Some(file) = survey.complaint("ca-unreadable") {
            return Err(self
                .fault(FaultKind::Misconfigured, &format!("cannot read the database of the CA, {file}"))
                .hint("ca in offboard.yaml must name the PKI folder of easy-rsa, or the index.txt of openssl, on the gateway"));
        }
        if survey.fact("gathered").is_none() {
            return Err(self.fault(FaultKind::Unexpected, "the gateway's listing is incomplete"));
        }
        Ok(survey)
    }

    /// What a discovery read a moment ago; it is given out once.
    pub(super) fn recent(&mut self) -> Option<Survey> {
        self.recent.take().filter(|(_, read)| read.elapsed() < RECENT).map(|(survey, _)| survey)
    }

    async fn found(&mut self) -> Result<Vec<Account>, Fault> {
        let survey = self.survey(true).await?;
        self.findings = super::discover::findings(&self.host.place, &survey, self.now);
        let accounts = super::discover::accounts(&self.host.place, &survey, self.now);
        self.recent = Some((survey, Instant::now()));
        Ok(accounts)
    }
}

#[async_trait]
impl Link for GatewayLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        let hello = self.call("hello").await?;
        let survey = self.survey(true).await?;
        let mut findings = super::discover::findings(&self.host.place, &survey, self.now);
        findings.extend(super::discover::missing(&self.host.place, &hello));
        let server = survey.title.as_deref().map_or_else(|| "openvpn, of unknown version".to_string(), |title| {
            crate::wire::shell::printable(title.split(" [").next().unwrap_or(title), 80)
        });
        Ok(Health { identity: format!("{} as root on {server}", self.host.target.user), findings })
    }

    fn discover<'a>(&'a mut self, _scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        let found = async move {
            match self.found().await {
                Ok(accounts) => accounts.into_iter().map(Ok).collect(),
                Err(fault) => vec![Err(fault)],
            }
        };
        futures::stream::once(found).flat_map(futures::stream::iter).boxed()
    }

    fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    async fn apply(&mut self, steps: &[Step], _cx: &Cx) -> Vec<Result<Outcome, Fault>> {
        self.recent = None;
        super::apply::apply(self, steps).await
    }

    async fn look(&mut self, doors: &[Door], after: bool, _cx: &Cx) -> Vec<Look> {
        super::look::look(self, doors, after).await
    }

    async fn restore(&mut self, undo: &[Undo], _cx: &Cx) -> Vec<Result<Restored, Fault>> {
        super::apply::restore(self, undo).await
    }
}
