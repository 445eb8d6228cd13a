//! Inventory, steps, proof and the way back, at one place.

use super::rotate;
use super::talk::{Note, Talk, of_object};
use crate::connector::{Cx, Health, KnownSecret, Link, Scope, Taken, Turn};
use crate::model::{
    Account, Action, Door, DoorKind, Fault, FaultKind, Finding, FindingKind, Identity, Look, Outcome, Owner, Proof,
    Residual, Restored, Step, Undo, Verdict,
};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One place.
pub struct CommandLink {
    pub talk: Talk,
    checked: Option<Checked>,
    findings: Vec<Finding>,
    /// What is known of shared secrets whose doors are here.
    pub secrets: Vec<KnownSecret>,
}

/// What `check` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Checked {
    identity: String,
    #[serde(default)]
    findings: Vec<Note>,
}

/// What `discover` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discovered {
    accounts: Vec<Found>,
    #[serde(default)]
    findings: Vec<Note>,
}

/// An account; also its before-image.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Found {
    id: String,
    #[serde(default)]
    name: String,
    enabled: bool,
    #[serde(default)]
    employee: Option<String>,
    #[serde(default)]
    mails: Vec<String>,
    #[serde(default)]
    user_name: Option<String>,
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    last_used: Option<Timestamp>,
    doors: Vec<FoundDoor>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundDoor {
    kind: DoorKind,
    #[serde(default)]
    object: String,
    #[serde(default)]
    detail: String,
}

/// What came of a change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Did {
    did: How,
    #[serde(default)]
    note: String,
    /// `restore`: whether the password was set.
    #[serde(default)]
    password: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Done,
    Already,
    Absent,
}

/// What `look` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Looks {
    looks: Vec<Seen>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    verdict: Word,
    #[serde(default)]
    proof: Option<Proof>,
    #[serde(default)]
    reply: String,
    #[serde(default)]
    control: Option<String>,
    #[serde(default)]
    residual: Option<Residual>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Shut,
    Open,
    Unproven,
}

impl CommandLink {
    /// Asks who we are there: whoever cannot be asked that cannot be asked anything.
    ///
    /// # Errors
    /// As [`Talk::ask`].
    pub async fn open(talk: Talk) -> Result<Self, Fault> {
        let commands = &talk.settings.commands;
        let checked = talk.ask(("check", &commands.check), json!({}), &[], format!("log in at {}", talk.place.address)).await?;
        Ok(Self { talk, checked: Some(checked), findings: Vec::new(), secrets: Vec::new() })
    }

    /// What came of a change, in words for people.
    pub fn outcome(&self, did: &Did, given: &[&SecretString]) -> Outcome {
        match did.did {
            How::Done => Outcome::Done { note: self.talk.clean(&did.note, given) },
            How::Already => Outcome::AlreadyDone,
            How::Absent => Outcome::Absent,
        }
    }

    /// That no account of our own is touched.
    ///
    /// # Errors
    /// `Protected`.
    pub fn guard(&self, account: &str, cannot: &str) -> Result<(), Fault> {
        if !self.talk.settings.own_accounts.iter().any(|own| own == account) {
            return Ok(());
        }
        Err(Fault::new(FaultKind::Protected, self.talk.what(cannot)).because("it is one of `own-accounts`"))
    }

    async fn accounts(&mut self, scope: &Scope) -> Result<Vec<Account>, Fault> {
        self.findings.clear();
        let talk = &self.talk;
        let commands = &talk.settings.commands;
        if commands.discover.is_empty() {
            // The source of a secret, and nothing else.
            return Ok(Vec::new());
        }
        let people = |wanted: &[crate::connector::Wanted]| -> Vec<Value> {
            let mapped = |w: &crate::connector::Wanted| -> Vec<String> {
                w.accounts.iter().filter(|(system, _)| *system == talk.system).map(|(_, id)| id.clone()).collect()
            };
            let one = |w: &crate::connector::Wanted| {
                json!({ "employee": w.person.id, "name": w.person.name, "mail": w.person.email, "user-name": w.person.user_name, "accounts": mapped(w) })
            };
            wanted.iter().map(one).collect()
        };
        let question = match scope {
            Scope::People(wanted) => json!({ "people": people(wanted) }),
            Scope::Everything => json!({ "everything": true }),
        };
        let cannot = format!("list the accounts at {}", talk.place.address);
        let found: Discovered = talk.ask(("discover", &commands.discover), question, &[], &cannot).await?;
        let findings: Vec<Finding> = found.findings.iter().map(|note| talk.finding(note, FindingKind::Suspicious)).collect();
        let mut seen = BTreeSet::new();
        let mut accounts = Vec::with_capacity(found.accounts.len());
        for one in found.accounts {
            let shared = one.doors.iter().any(|door| door.kind == DoorKind::SharedSecret);
            let mut doors = BTreeSet::new();
            let twice = one.doors.iter().any(|door| !doors.insert((door.kind, &door.object)));
            if one.id.trim().is_empty() || shared || twice || !seen.insert(one.id.clone()) {
                let why = "an account of its answer has no id, or one that is there twice, or a shared secret or one object twice among its ways in";
                return Err(Fault::new(FaultKind::Unexpected, talk.what(&cannot)).because(why));
            }
            accounts.push(self.account(one));
        }
        self.findings = findings;
        Ok(accounts)
    }

    fn account(&self, found: Found) -> Account {
        let talk = &self.talk;
        let ours = talk.settings.own_accounts.contains(&found.id);
        let door = |door: &FoundDoor| Door::new(&talk.place.id, &found.id, door.kind, &door.object, talk.clean(&door.detail, &[]));
        let doors = found.doors.iter().map(door).collect();
        Account {
            system: talk.system.clone(),
            place: talk.place.id.clone(),
            native_id: found.id.clone(),
            name: if found.name.is_empty() { found.id.clone() } else { talk.clean(&found.name, &[]) },
            enabled: found.enabled,
            identity: Identity {
                employee_number: found.employee.clone(),
                mails: found.mails.clone(),
                user_name: found.user_name.clone(),
                declared_keys: Vec::new(),
            },
            owner: if ours { Owner::Ourselves } else { Owner::Nobody },
            privileged: found.privileged,
            last_used: found.last_used,
            doors,
            facts: serde_json::to_value(&found).unwrap_or_default(),
        }
    }

    async fn step(&self, step: &Step, cx: &Cx) -> Result<Outcome, Fault> {
        let commands = &self.talk.settings.commands;
        let account = step.account.as_str();
        let cannot = match step.object.as_str() {
            "" => format!("{} {account:?}", step.action),
            object => format!("{} {object:?} of {account:?}", step.action),
        };
        self.guard(account, &cannot)?;
        let witness = cx.witness(&self.talk.place.id, account);
        let command = match step.action {
            Action::Disable => ("disable", &commands.disable),
            Action::EndSessions => ("end-sessions", &commands.end_sessions),
            Action::Revoke => ("revoke", &commands.revoke),
            Action::Remove => ("remove", &commands.remove),
            Action::Rotate | Action::Ask => {
                return Err(Fault::new(FaultKind::Unexpected, self.talk.what(cannot)).because("commands do no such step"));
            }
        };
        let question = match (step.action, of_object(&step.object)) {
            (Action::Disable, _) => json!({ "account": account, "witness": witness.expose_secret() }),
            (Action::Revoke | Action::Remove, Some((kind, object))) => {
                json!({ "account": account, "kind": kind, "object": object })
            }
            _ => json!({ "account": account }),
        };
        let did: Did = self.talk.ask(command, question, &[&witness], &cannot).await?;
        Ok(self.outcome(&did, &[&witness]))
    }

    async fn seen(&self, account: &str, doors: &[&Door], after: bool, cx: &Cx) -> Result<Vec<Look>, Fault> {
        let witness = cx.witness(&self.talk.place.id, account);
        let listed: Vec<Value> = doors.iter().map(|door| json!({ "kind": door.kind, "object": door.object })).collect();
        let question = json!({
            "account": account, "doors": listed, "after": after, "witness": after.then(|| witness.expose_secret()),
        });
        let cannot = format!("look at {account:?}");
        let look = ("look", &self.talk.settings.commands.look);
        let said: Looks = self.talk.ask(look, question, &[&witness], &cannot).await?;
        if said.looks.len() != doors.len() {
            let why = format!("it was asked about {} ways in, and answered about {}", doors.len(), said.looks.len());
            return Err(Fault::new(FaultKind::Unexpected, self.talk.what(cannot)).because(why));
        }
        Ok(said.looks.into_iter().map(|seen| self.verdict(seen, &witness)).collect())
    }

    /// What a command says of a door: its word, but never *shut* without the server's words and a control.
    fn verdict(&self, seen: Seen, witness: &SecretString) -> Look {
        let clean = |said: &str| self.talk.clean(said, &[witness]);
        let reply = clean(&seen.reply);
        let control = seen.control.map(|control| clean(&control)).filter(|control| !control.is_empty());
        let residual = seen.residual.map(|residual| Residual { what: clean(&residual.what), ..residual });
        let said = format!("the command says: {reply}");
        let verdict = match (seen.verdict, &control) {
            (Word::Open, _) => Verdict::Open { reply: said },
            (Word::Unproven, _) => Verdict::Unproven { why: said },
            (Word::Shut, None) => Verdict::Unproven { why: format!("{said}, but it names no control that still gets in") },
            (Word::Shut, Some(_)) if reply.is_empty() => {
                Verdict::Unproven { why: "the command calls it shut, and does not say why".into() }
            }
            (Word::Shut, Some(_)) => Verdict::Shut { proof: seen.proof.unwrap_or(Proof::ReadBack), reply: said },
        };
        Look { verdict, control, residual }
    }

    async fn give_back(&self, undo: &Undo) -> Result<Restored, Fault> {
        let account = undo.step.account.as_str();
        let cannot = format!("give {account:?} back what it had");
        let nothing = |note: String| Ok(Restored { note, one_time_password: None });
        if undo.step.action != Action::Disable {
            return nothing("sessions and old credentials are not given back; a new login is".into());
        }
        self.guard(account, &cannot)?;
        let before: Found = serde_json::from_value(undo.account.facts.clone()).map_err(|e| {
            Fault::new(FaultKind::Unexpected, self.talk.what(&cannot)).because(format!("its before-image cannot be read: {e}"))
        })?;
        if !before.enabled {
            return nothing(format!("{account:?} was disabled before, too; left as it is"));
        }
        let password = SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()));
        let question = json!({ "account": account, "password": password.expose_secret() });
        let restore = ("restore", &self.talk.settings.commands.restore);
        let did: Did = self.talk.ask(restore, question, &[&password], &cannot).await?;
        let note = self.talk.clean(&did.note, &[&password]);
        match did.did {
            How::Done => Ok(Restored { note, one_time_password: did.password.then_some(password) }),
            How::Already => nothing(format!("{account:?} is enabled already; left as it is")),
            How::Absent => nothing(format!("{account:?} does not exist any more; nothing was given back")),
        }
    }
}

#[async_trait]
impl Link for CommandLink {
    async fn check(&mut self) -> Result<Health, Fault> {
        let checked = match self.checked.take() {
            Some(checked) => checked,
            None => {
                let check = ("check", &self.talk.settings.commands.check);
                self.talk.ask(check, json!({}), &[], "say who we are").await?
            }
        };
        let findings = checked.findings.iter().map(|note| self.talk.finding(note, FindingKind::Configuration)).collect();
        Ok(Health { identity: self.talk.clean(&checked.identity, &[]), findings })
    }

    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        let all = async move {
            match self.accounts(scope).await {
                Ok(accounts) => accounts.into_iter().map(Ok).collect(),
                Err(fault) => vec![Err(fault)],
            }
        };
        stream::once(all).flat_map(stream::iter).boxed()
    }

    fn findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    async fn apply(&mut self, steps: &[Step], cx: &Cx) -> Vec<Result<Outcome, Fault>> {
        let mut results = Vec::with_capacity(steps.len());
        for step in steps {
            results.push(self.step(step, cx).await);
        }
        results
    }

    async fn look(&mut self, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
        let mut looks: Vec<Option<Look>> = doors.iter().map(|_| None).collect();
        // One question for all the ways into one account.
        let mut accounts: Vec<&str> = doors.iter().map(|door| door.account.as_str()).collect();
        accounts.dedup();
        let mut gone: Option<String> = None;
        for account in accounts {
            let (shared, own): (Vec<usize>, Vec<usize>) = (0..doors.len())
                .filter(|at| doors[*at].account == account && looks[*at].is_none())
                .partition(|at| doors[*at].kind == DoorKind::SharedSecret);
            for at in shared {
                looks[at] = Some(match &gone {
                    Some(why) => Look::unproven(why.clone()),
                    None => rotate::look(self, &doors[at]).await.unwrap_or_else(|fault| Look::unproven(fault.to_string())),
                });
            }
            let asked: Vec<&Door> = own.iter().map(|at| &doors[*at]).collect();
            if asked.is_empty() {
                continue;
            }
            let said = match &gone {
                // A place that has just said nothing is not waited for once more.
                Some(why) => own.iter().map(|_| Look::unproven(why.clone())).collect(),
                None => self.seen(account, &asked, after, cx).await.unwrap_or_else(|fault| {
                    gone = (fault.kind == FaultKind::Unreachable).then(|| fault.to_string());
                    own.iter().map(|_| Look::unproven(fault.to_string())).collect()
                }),
            };
            for (at, look) in own.into_iter().zip(said) {
                looks[at] = Some(look);
            }
        }
        looks.into_iter().map(|look| look.unwrap_or_else(|| Look::unproven("nobody looked"))).collect()
    }

    async fn restore(&mut self, undo: &[Undo], _cx: &Cx) -> Vec<Result<Restored, Fault>> {
        let mut results = Vec::with_capacity(undo.len());
        for one in undo {
            results.push(self.give_back(one).await);
        }
        results
    }

    async fn rotate(&mut self, turn: &Turn<'_>, _cx: &Cx) -> Result<Taken, Fault> {
        rotate::rotate(self, turn).await
    }

    fn keep(&mut self, secrets: Vec<KnownSecret>) {
        self.secrets = secrets;
    }
}
