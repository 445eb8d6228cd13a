//! The setter of a shared secret: a static role of a database engine. The Vault chooses the password of one account of a database, sets it there, and
//! tells it to whoever may read the role's credentials.
//!
//! Only the Vault knows the new value before it is set, so it is sealed as soon as it was read. A value that this run has not sealed may be one that the leaver
//! has read: the Vault is asked for another one, also where the answer to an earlier question was lost. No consumer was given the value in between.
//!
//! Source: the API of the database secrets engine (static roles), and what `bao server` 2.7 answered when it was tried.

use super::api::{texts, words};
use super::link::VaultLink;
use crate::connector::{Taken, Turn};
use crate::model::{Fault, FaultKind, Outcome, Phase, StaticRole};
use crate::wire::http::wipe;
use crate::wire::shell::printable;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The longest value that is understood, in bytes; as everywhere.
const MAX_VALUE: usize = 4096;
/// For how long a standby may go on to say what was before, and the pause between two questions.
const CATCH_UP: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(200));

/// See [`crate::connector::Link::rotate`].
pub async fn rotate(link: &VaultLink, role: &StaticRole, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let work = Work { link, role, turn };
    match turn.phase {
        Phase::Create => work.create().await,
        Phase::Set => work.set().await,
        Phase::Test | Phase::Finish => work.still().await,
    }
}

struct Work<'a> {
    link: &'a VaultLink,
    role: &'a StaticRole,
    turn: &'a Turn<'a>,
}

impl Work<'_> {
    fn cannot(&self) -> String {
        self.link.what(format!("{} by {}", self.turn.phase, printable(&self.role.path, 200)))
    }

    fn fault(&self, kind: FaultKind, because: impl std::fmt::Display) -> Fault {
        Fault::new(kind, self.cannot()).because(because)
    }

    /// Everything that can be known before: our rights, whose password it is, and what the Vault says that it is now.
    async fn create(&self) -> Result<Taken, Fault> {
        self.may().await?;
        let Some(found) = self.get(&self.role.path).await? else {
            return Err(self
                .fault(FaultKind::Misconfigured, "there is no such static role")
                .hint(format!("correct `static-role` in offboard.yaml: bao list {}/static-roles says which there are", self.role.mount)));
        };
        if found["credential_type"].as_str().is_some_and(|kind| kind != "password") {
            return Err(self
                .fault(FaultKind::Misconfigured, "what it sets is no password")
                .hint("take the secret out of offboard.yaml, or name another static role"));
        }
        self.is_of_the_account(&found)?;
        self.is_not_its_own(&found).await?;
        let value = self.read().await?;
        if self.turn.old.is_some_and(|old| old.expose_secret() != value.expose_secret()) {
            return Err(self
                .fault(FaultKind::Misconfigured, "the consumers have another value than the Vault says")
                .hint("a static role is rotated by the Vault itself, too: give its value to the consumers, or take them out if they read the Vault, then: offboard resume"));
        }
        let by_itself = found["rotation_period"].as_u64().map(|period| format!("; the Vault sets another one by itself every {period} s"));
        let note = format!("it may be read, and rotated{}", by_itself.unwrap_or_default());
        Ok(Taken { value: Some(value), ..Taken::new(Outcome::Done { note }) })
    }

    /// Rotates it, unless the Vault says the value that this run has sealed already. Whatever else it says, somebody may have read since the run began,
    /// while they still could: it is replaced, and no consumer was given it.
    async fn set(&self) -> Result<Taken, Fault> {
        if self.turn.old.is_none() {
            return Err(self.fault(FaultKind::Unexpected, "the old value is not sealed any more"));
        }
        let done = |note: &str, value| Taken { value: Some(value), ..Taken::new(Outcome::Done { note: note.into() }) };
        let before = self.read().await?;
        let is = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        if self.turn.new.is_some_and(|new| is(new, &before)) {
            return Ok(done("the Vault has set a new one", before));
        }
        self.order().await?;
        let until = Instant::now() + CATCH_UP.0;
        loop {
            let value = self.read().await?;
            if !is(&value, &before) && !self.turn.old.is_some_and(|old| is(old, &value)) {
                return Ok(done("the Vault has set a new one", value));
            }
            if Instant::now() > until {
                return Err(self
                    .fault(FaultKind::Busy, "the Vault has rotated it, and still says the value before")
                    .hint("name the active node under `addresses`, then: offboard resume"));
            }
            sleep(CATCH_UP.1).await;
        }
    }

    /// That the Vault still says what it has set.
    async fn still(&self) -> Result<Taken, Fault> {
        let Some(new) = self.turn.new else {
            return Err(self.fault(FaultKind::Unexpected, "the new value is not sealed any more"));
        };
        if self.read().await?.expose_secret() != new.expose_secret() {
            return Err(self
                .fault(FaultKind::Protected, "the Vault has set another value since")
                .hint("whoever keeps a copy has the one before: give them the value that the Vault says, then begin a new run with --anew"));
        }
        Ok(Taken::new(Outcome::Done { note: "the Vault says the new value".into() }))
    }

    /// Asks the Vault to set a new value. That it failed does not say that nothing was set: the next try looks.
    async fn order(&self) -> Result<(), Fault> {
        let path = self.role.rotation();
        let answer = self.link.api.call("POST", &parts(&path), Some(&json!({}))).await?;
        match answer.status {
            200..=299 => Ok(()),
            403 => Err(self.forbidden(&[&path])),
            // Not in the server's words: what the database says of a statement may have the new password in it.
            status => Err(self
                .fault(FaultKind::Busy, format!("the Vault could not rotate it ({status})"))
                .hint("the Vault's log says why: its own login at the database, or the statements of the role; then: offboard resume")),
        }
    }

    /// Whether our policies are enough; without asking it would show when it is too late to turn back.
    async fn may(&self) -> Result<(), Fault> {
        let wanted = self.wanted();
        let paths: Vec<&str> = wanted.iter().map(|(path, _)| path.as_str()).collect();
        let asked = json!({ "paths": paths });
        let said = self.link.api.post(&["sys", "capabilities-self"], &asked, &self.cannot()).await?.unwrap_or_default();
        let missing = wanted.iter().filter(|(path, capability)| {
            let ours = texts(&said[path]);
            !ours.iter().any(|have| have == capability || have == "root")
        });
        let missing: Vec<&str> = missing.map(|(path, _)| path.as_str()).collect();
        if missing.is_empty() { Ok(()) } else { Err(self.forbidden(&missing)) }
    }

    /// What our policies have to allow.
    fn wanted(&self) -> [(String, &'static str); 3] {
        [(self.role.path.clone(), "read"), (self.role.credentials(), "read"), (self.role.rotation(), "update")]
    }

    fn forbidden(&self, missing: &[&str]) -> Fault {
        let lines = self.wanted().into_iter().filter(|(path, _)| missing.contains(&path.as_str()));
        let lines: Vec<String> =
            lines.map(|(path, capability)| format!("path \"{path}\" {{ capabilities = [\"{capability}\"] }}")).collect();
        self.fault(FaultKind::Forbidden, format!("our login may not use {}", missing.join(", ")))
            .hint(format!("write into a policy of offboard's: {}; then: offboard resume", lines.join(" ")))
    }

    /// That it is the account which the secret names: another one's password is nobody's to change.
    fn is_of_the_account(&self, said: &Value) -> Result<(), Fault> {
        match said["username"].as_str() {
            Some(name) if name == self.role.account => Ok(()),
            other => {
                let theirs = printable(other.unwrap_or_default(), 100);
                Err(self
                    .fault(FaultKind::Protected, format!("it sets the password of {theirs:?}, and the secret is that of {:?}", self.role.account))
                    .hint("correct `account` or `static-role` in offboard.yaml"))
            }
        }
    }

    /// That it is not the login of the Vault itself, which would shut itself out. Seen only where our policies let us read the connection.
    async fn is_not_its_own(&self, found: &Value) -> Result<(), Fault> {
        let Some(connection) = found["db_name"].as_str().filter(|name| !name.is_empty() && !name.contains('/')) else { return Ok(()) };
        let path = format!("{}/config/{connection}", self.role.mount);
        let answer = self.link.api.call("GET", &parts(&path), None).await?;
        let own = &answer.body["data"]["connection_details"]["username"];
        if answer.status == 200 && own.as_str() == Some(self.role.account.as_str()) {
            return Err(self
                .fault(FaultKind::Protected, "it is the account with which the Vault itself logs in to the database")
                .hint(format!("take the secret out of offboard.yaml; to change that password: bao write -f {}/rotate-root/{connection}", self.role.mount)));
        }
        Ok(())
    }

    /// The value that the Vault says now.
    async fn read(&self) -> Result<SecretString, Fault> {
        let path = self.role.credentials();
        let Some(mut found) = self.get(&path).await? else {
            return Err(self.fault(FaultKind::Misconfigured, "there is no such static role").hint("correct `static-role` in offboard.yaml"));
        };
        let value = match found["password"].as_str() {
            Some(text) if (1..=MAX_VALUE).contains(&text.len()) => Ok(SecretString::from(text)),
            _ => Err(self
                .fault(FaultKind::Misconfigured, "the Vault says no password for it")
                .hint(format!("let it set the first one: bao write -f {}; then: offboard resume", self.role.rotation()))),
        };
        let whose = self.is_of_the_account(&found);
        wipe(&mut found);
        whose.and(value)
    }

    /// What stands at a path; nothing if there is no such thing.
    async fn get(&self, path: &str) -> Result<Option<Value>, Fault> {
        let answer = self.link.api.call("GET", &parts(path), None).await?;
        match answer.status {
            200 => Ok(Some(answer.body.get("data").cloned().unwrap_or(Value::Null))),
            404 => Ok(None),
            403 => Err(self.forbidden(&[path])),
            status => Err(self.fault(FaultKind::Unexpected, format!("{} ({status})", words(&answer)))),
        }
    }
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').collect()
}
