//! One connection to one gateway, and the script that runs on it.

use super::survey::Survey;
use super::{GatewayAt, Gateways};
use crate::connector::{Cx, Health, Link, Scope};
use crate::model::{Account, Door, Fault, FaultKind, Finding, Look, Outcome, Restored, Step, Undo};
use crate::wire::shell::{CallError, Closed, Script, Shell};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::sync::OnceLock;

/// The most that one call may answer, in bytes: a hundred thousand certificates.
const MOST: usize = 64 * 1024 * 1024;

/// The script, without comments and indentation: it is sent once a connection.
pub(super) fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let mut text = String::new();
        // Python counts indentation, and so the lines of its part are kept as they are.
        let mut verbatim = false;
        for line in [include_str!("script/common.sh"), include_str!("script/survey.sh"), include_str!("script/change.sh")]
            .iter()
            .flat_map(|part| part.lines())
        {
            if line.starts_with("TALK_PYTHON=") {
                verbatim = true;
            }
            let kept = if verbatim { line } else { line.trim_start() };
            if verbatim || !(kept.is_empty() || kept.starts_with('#')) {
                text.push_str(kept);
                text.push('\n');
            }
            if verbatim && line.ends_with('\'') && !line.starts_with("TALK_PYTHON=") {
                verbatim = false;
            }
        }
        text
    })
}

/// `text` as one word of the shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A live connection.
pub(super) struct GatewayLink {
    pub(super) host: GatewayAt,
    pub(super) now: Timestamp,
    script: Script,
    findings: Vec<Finding>,
}

impl GatewayLink {
    /// Starts the script on a connection that is logged in.
    ///
    /// # Errors
    /// `Forbidden`: no root there, with the line for sudoers.
    pub(super) async fn start(
        gateways: &Gateways,
        host: GatewayAt,
        shell: Shell,
        now: Timestamp,
    ) -> Result<Self, Fault> {
        let sudo = gateways.sudo && host.target.user != "root";
        let command = if sudo { "sudo -n /bin/sh -s" } else { "/bin/sh -s" };
        let text = format!("{}{}", gateways.prelude, script());
        let script = shell.start(command, &text).await?;
        let mut link = Self { host, now, script, findings: Vec::new() };
        let hello = link.call("hello").await?;
        if hello.fact("uid") != Some("0") {
            return Err(link.forbidden("it is not root there, and sudo is not asked for"));
        }
        Ok(link)
    }

    /// A fault about this gateway.
    pub(super) fn fault(&self, kind: FaultKind, what: &str) -> Fault {
        Fault::new(kind, format!("openvpn {}: {what}", self.host.target))
    }

    fn forbidden(&self, because: &str) -> Fault {
        let user = &self.host.target.user;
        self.fault(FaultKind::Forbidden, "cannot become root").because(because).hint(format!(
            "as root on {}: echo '{user} ALL=(root) NOPASSWD: /bin/sh -s' > /etc/sudoers.d/offboard; chmod 440 /etc/sudoers.d/offboard; \
             and in offboard.yaml: sudo: true",
            self.host.target.name
        ))
    }

    /// Calls the script.
    pub(super) async fn call(&mut self, text: &str) -> Result<Survey, Fault> {
        let mut survey = Survey::default();
        match self.script.call(text, MOST, &mut |line| survey.line(line)).await {
            Ok(()) => Ok(survey),
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

    async fn found(&mut self) -> Result<Vec<Account>, Fault> {
        let survey = self.survey(true).await?;
        self.findings = super::discover::findings(&self.host.place, &survey, self.now);
        Ok(super::discover::accounts(&self.host.place, &survey, self.now))
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
        super::apply::apply(self, steps).await
    }

    async fn look(&mut self, doors: &[Door], after: bool, _cx: &Cx) -> Vec<Look> {
        super::look::look(self, doors, after).await
    }

    async fn restore(&mut self, undo: &[Undo], _cx: &Cx) -> Vec<Result<Restored, Fault>> {
        super::apply::restore(self, undo).await
    }
}
