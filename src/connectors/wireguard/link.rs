//! One connection to one gateway, and the script that runs on it.

use super::Kept;
use super::survey::Survey;
use crate::connector::{Cx, Health, LastUse, Link, Scope};
use crate::model::{Account, Door, Fault, FaultKind, Finding, Look, Outcome, Restored, Step, Undo};
use crate::wire::gateway::{self, GatewayAt, RootScript};
use crate::wire::shell::printable;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// The script, with what all gateways need.
pub(super) fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| gateway::script(&[include_str!("script/survey.sh"), include_str!("script/change.sh")]))
}

/// A live connection.
pub(super) struct GatewayLink {
    pub(super) host: GatewayAt,
    pub(super) kept: Arc<Kept>,
    script: RootScript,
    findings: Vec<Finding>,
    /// The interfaces that were up when the run first saw this gateway.
    were_up: Option<BTreeSet<String>>,
}

impl GatewayLink {
    /// The script runs already. `baseline` is what the run journaled of this gateway.
    pub(super) fn new(script: RootScript, kept: Arc<Kept>, baseline: Option<&serde_json::Value>) -> Self {
        let were_up = baseline.and_then(|seen| serde_json::from_value(seen["up"].clone()).ok());
        Self { host: script.host.clone(), kept, script, findings: Vec::new(), were_up }
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

    /// Everything that the gateway knows of the interfaces that are meant, and the names of the others. Commands with one of these keys in them
    /// are told, though no peer has it.
    ///
    /// # Errors
    /// A listing that was cut off proves nothing; nor does one without an answer of `wg`.
    pub(super) async fn survey(&mut self, keys: &[&str]) -> Result<(Survey, BTreeSet<String>), Fault> {
        let mut survey = self.call(&format!("gather {} </dev/null", keys.join(" "))).await?;
        if let Some(why) = survey.fact("wg-failed") {
            return Err(self
                .fault(FaultKind::Misconfigured, "wg does not say which interfaces there are")
                .because(printable(why, 200))
                .hint("install wireguard-tools there; as root, `wg show` must work"));
        }
        if survey.fact("gathered").is_none() {
            return Err(self.fault(FaultKind::Unexpected, "the gateway's listing is incomplete"));
        }
        let left_out = survey.keep(&self.kept.interfaces);
        Ok((survey, left_out))
    }

    /// Whether an interface was up at first. Where nobody knows, it is taken to have been.
    pub(super) fn was_up(&self, interface: &str) -> bool {
        self.were_up.as_ref().is_none_or(|up| up.contains(interface))
    }

    async fn found(&mut self, scope: &Scope) -> Result<Vec<Account>, Fault> {
        let (survey, left_out) = self.survey(&[]).await?;
        if self.were_up.is_none() {
            self.were_up = Some(survey.up.union(&survey.silent).cloned().collect());
        }
        let found = super::discover::Found { place: &self.host.place, kept: &self.kept, survey: &survey };
        self.findings = found.findings(scope, &left_out);
        Ok(found.accounts())
    }
}

#[async_trait]
impl Link for GatewayLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        let hello = self.call("hello").await?;
        let (survey, left_out) = self.survey(&[]).await?;
        let found = super::discover::Found { place: &self.host.place, kept: &self.kept, survey: &survey };
        let mut findings = found.findings(&Scope::People(Vec::new()), &left_out);
        findings.extend(super::findings::missing(&self.host.place, &hello));
        let version = printable(survey.fact("version").unwrap_or("wireguard-tools of unknown version"), 80);
        Ok(Health { identity: format!("{} as root, with {version}", self.host.target.user), findings })
    }

    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        let found = async move {
            match self.found(scope).await {
                Ok(accounts) => accounts.into_iter().map(Ok).collect(),
                Err(fault) => vec![Err(fault)],
            }
        };
        futures::stream::once(found).flat_map(futures::stream::iter).boxed()
    }

    fn last_use(&self) -> LastUse {
        LastUse::NotKept { why: "WireGuard forgets handshakes when the interface goes down".into() }
    }

    fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    fn baseline(&self) -> Option<serde_json::Value> {
        self.were_up.as_ref().map(|up| serde_json::json!({ "up": up }))
    }

    async fn apply(&mut self, steps: &[Step], _cx: &Cx) -> Vec<Result<Outcome, Fault>> {
        super::apply::apply(self, steps).await
    }

    async fn look(&mut self, doors: &[Door], _after: bool, _cx: &Cx) -> Vec<Look> {
        super::look::look(self, doors).await
    }

    async fn restore(&mut self, undo: &[Undo], _cx: &Cx) -> Vec<Result<Restored, Fault>> {
        undo.iter().map(|one| Ok(super::apply::restored(one))).collect()
    }
}
