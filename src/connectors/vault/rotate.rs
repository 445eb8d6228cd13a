//! A consumer of a shared secret: one key of a path in a key/value engine, from which programs read what they log in with.
//!
//! Only that key is replaced. Version 2 of the engine takes the write only if nobody has written in between (`cas`); version 1 has no such check, so
//! what stands there is read right before and again after. Older versions go on holding the old value, which opens nothing any more.
//!
//! Source: the API of the KV secrets engines, versions 1 and 2.

use super::api::{texts, words};
use super::link::VaultLink;
use super::static_role;
use crate::connector::{Taken, Turn};
use crate::model::{Fault, FaultKind, KeptPath, Outcome, Part, Phase};
use crate::wire::http::wipe;
use crate::wire::reach;
use crate::wire::shell::printable;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// The longest value that is understood, in bytes; as in files on hosts.
const MAX_VALUE: usize = 4096;
/// For how long after a change the program may take to be healthy, and the pause between two questions.
const RECOVERY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_millis(200));
/// Version 1 takes any write: within this process, at least, one at a time, or two keys of one path would take each other back.
static UNGUARDED: Mutex<()> = Mutex::const_new(());
/// How long one question to a program's port may take.
const ASK: Duration = Duration::from_secs(5);

/// See [`crate::connector::Link::rotate`].
pub(super) async fn rotate(link: &VaultLink, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let kept = match turn.part {
        Part::ConsumerPath(kept) => kept,
        Part::Setter(role) => return static_role::rotate(link, role, turn).await,
        _ => {
            return Err(Fault::new(FaultKind::Misconfigured, link.what(format!("{} a secret", turn.phase)))
                .because("a path of a Vault can be a consumer of a secret, and a static role its setter; nothing else"));
        }
    };
    let work = Work { link, kept, turn };
    match turn.phase {
        Phase::Create => work.create().await,
        Phase::Set => work.set().await,
        Phase::Test => work.test().await,
        Phase::Finish => work.healthy("the old sessions have ended").await,
    }
}

/// A path as the engine has it now.
struct Held {
    /// Every key there.
    data: Value,
    value: SecretString,
    /// The account's name beside it, where two alternate.
    user: Option<String>,
    /// What a write has to name, in version 2.
    version: Option<u64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        wipe(&mut self.data);
    }
}

struct Work<'a> {
    link: &'a VaultLink,
    kept: &'a KeptPath,
    turn: &'a Turn<'a>,
}

impl<'a> Work<'a> {
    fn cannot(&self) -> String {
        let (path, key) = (printable(&self.kept.path, 200), printable(&self.kept.key.to_string(), 200));
        self.link.what(format!("{} {key} in {path}", self.turn.phase))
    }

    fn fault(&self, kind: FaultKind, because: impl std::fmt::Display) -> Fault {
        Fault::new(kind, self.cannot()).because(because)
    }

    async fn create(&self) -> Result<Taken, Fault> {
        let engine = self.engine().await?;
        let held = self.read(&engine).await?;
        self.may_write(&engine).await?;
        // What stands there may be anything, also a password: it is told only if it is one of the two names.
        if self.kept.user_key.is_some() && held.user.as_ref().is_none_or(|user| !self.kept.users.contains(user)) {
            return Err(self
                .fault(FaultKind::Misconfigured, "what its `user-key` leads to is the name of neither account")
                .hint("correct `source` or `user-key` in offboard.yaml, or the path, then: offboard resume"));
        }
        let mut taken = self.healthy("it stands there, and can be replaced").await?;
        taken.seen.addresses = self.kept.from.iter().map(ToString::to_string).collect();
        taken.seen.user.clone_from(&held.user);
        taken.value = Some(held.value.clone());
        Ok(taken)
    }

    async fn set(&self) -> Result<Taken, Fault> {
        let new = self.new_value()?;
        let engine = self.engine().await?;
        let _one_at_a_time = match engine.versioned {
            true => None,
            false => Some(UNGUARDED.lock().await),
        };
        let mut held = self.read(&engine).await?;
        if self.is_new(&held, new) {
            return Ok(Taken::new(Outcome::AlreadyDone));
        }
        // A late set must not write over what somebody has put there since.
        let is_old = self.turn.old.is_some_and(|old| old.expose_secret() == held.value.expose_secret());
        if !is_old || held.user != self.turn.seen.user {
            return Err(self
                .fault(FaultKind::Protected, "somebody else has changed the value there: it is left as they set it")
                .hint("compare it with the source; write the current value by hand, then waive this step"));
        }
        if let Some(place) = at(&mut held.data, &self.kept.path_to_value()) {
            wipe(place);
            *place = json!(new.expose_secret());
        }
        if let (Some(path), Some(user)) = (self.kept.path_to_user(), self.turn.user)
            && let Some(place) = at(&mut held.data, &path)
        {
            *place = json!(user);
        }
        self.write(&engine, &mut held).await?;
        if !self.is_new(&self.read(&engine).await?, new) {
            return Err(self.fault(FaultKind::Busy, "the path reads back as another one than was written"));
        }
        let note = match held.version {
            Some(version) => format!("version {} has the new value", version + 1),
            None => "replaced".into(),
        };
        Ok(Taken::new(Outcome::Done { note }))
    }

    async fn test(&self) -> Result<Taken, Fault> {
        let new = self.new_value()?;
        if !self.is_new(&self.read(&self.engine().await?).await?, new) {
            return Err(self
                .fault(FaultKind::Protected, "somebody else has changed the value there since this run set it")
                .hint("write the current value by hand, then waive this step"));
        }
        self.healthy("the new value stands there").await
    }

    fn new_value(&self) -> Result<&'a SecretString, Fault> {
        self.turn.new.ok_or_else(|| self.fault(FaultKind::Unexpected, "the new value is not sealed any more"))
    }

    /// Whether the new value stands there, for the account that it is for.
    fn is_new(&self, held: &Held, new: &SecretString) -> bool {
        let is_user = self.turn.user.is_none() || held.user.as_deref() == self.turn.user;
        held.value.expose_secret() == new.expose_secret() && is_user
    }

    /// The engine that the path begins with.
    async fn engine(&self) -> Result<Engine, Fault> {
        let mounts = self.link.api.get(&["sys", "mounts"], &self.cannot()).await?.unwrap_or_default();
        let path = self.kept.path.as_str();
        let under = |mount: &&String| path.starts_with(mount.as_str()) && mount.ends_with('/');
        let mount = mounts.as_object().into_iter().flat_map(|mounts| mounts.keys()).filter(under).max_by_key(|m| m.len());
        let Some(mount) = mount else {
            return Err(self
                .fault(FaultKind::Misconfigured, "no engine is mounted where the path begins")
                .hint("correct `path` in offboard.yaml: bao secrets list says what is mounted; for version 2 without `data`"));
        };
        let kind = mounts[mount]["type"].as_str().unwrap_or_default();
        if kind != "kv" && kind != "generic" {
            return Err(self
                .fault(FaultKind::Misconfigured, format!("{mount} is of the type {:?}, which keeps no keys of ours", printable(kind, 40)))
                .hint("name a path of a kv engine"));
        }
        let parts = |text: &str| text.split('/').filter(|part| !part.is_empty()).map(str::to_string).collect::<Vec<_>>();
        let versioned = mounts[mount]["options"]["version"] == json!("2");
        let mut segments = parts(mount);
        segments.extend(versioned.then(|| "data".to_string()));
        segments.extend(parts(&path[mount.len()..]));
        Ok(Engine { segments, versioned })
    }

    async fn read(&self, engine: &Engine) -> Result<Held, Fault> {
        let cannot = self.cannot();
        let Some(mut found) = self.link.api.get(&engine.path(), &cannot).await? else {
            return Err(self
                .fault(FaultKind::Misconfigured, "nothing stands there, or it was deleted")
                .hint("correct `path` in offboard.yaml, or write it first"));
        };
        let version = found["metadata"]["version"].as_u64().filter(|_| engine.versioned);
        if engine.versioned && version.is_none() {
            wipe(&mut found);
            return Err(self.fault(FaultKind::Unexpected, "the answer names no version"));
        }
        let mut data = if engine.versioned { found["data"].take() } else { found };
        if has_inexact(&data) {
            wipe(&mut data);
            return Err(self
                .fault(FaultKind::Misconfigured, "it has numbers with a fraction, or too large ones: written back they might be others")
                .hint("write them as text, then: offboard resume"));
        }
        let value = text(&mut data, &self.kept.path_to_value());
        let user = self.kept.path_to_user().map(|path| text(&mut data, &path));
        match (value, user.transpose()) {
            (Ok(value), Ok(user)) => Ok(Held { data, value: SecretString::from(value), user, version }),
            (Err(why), _) | (_, Err(why)) => {
                wipe(&mut data);
                Err(self.fault(FaultKind::Misconfigured, why).hint("correct `key` in offboard.yaml, or the path, then: offboard resume"))
            }
        }
    }

    async fn write(&self, engine: &Engine, held: &mut Held) -> Result<(), Fault> {
        let mut body = held.data.take();
        if let Some(version) = held.version {
            // Moved, not copied: it is wiped below.
            let whole = [("options".to_string(), json!({ "cas": version })), ("data".to_string(), body)];
            body = Value::Object(whole.into_iter().collect());
        }
        let answer = self.link.api.call("POST", &engine.path(), Some(&body)).await;
        wipe(&mut body);
        // Not in the server's words, here and below: it has just been told the value, and may have it in its mouth.
        let answer = answer.map_err(|fault| Fault { because: None, ..fault })?;
        match answer.status {
            200..=299 => Ok(()),
            400 if words(&answer).contains("check-and-set") => Err(self
                .fault(FaultKind::Busy, "somebody else has written there at the same moment")
                .hint("tried again")),
            403 => Err(self.fault(FaultKind::Forbidden, "it may not be written (403)").hint(self.grant(engine))),
            status => Err(self.fault(FaultKind::Unexpected, format!("the write was answered with {status}"))),
        }
    }

    /// Whether our policies let us write there; without asking it would show when the source has the new value.
    async fn may_write(&self, engine: &Engine) -> Result<(), Fault> {
        let path = engine.segments.join("/");
        let asked = json!({ "paths": [path] });
        let cannot = self.cannot();
        let said = self.link.api.post(&["sys", "capabilities-self"], &asked, &cannot).await?.unwrap_or_default();
        let may = texts(&said[&path]);
        if may.iter().any(|capability| capability == "update" || capability == "root") {
            return Ok(());
        }
        Err(self.fault(FaultKind::Forbidden, "our login may read it, but not write it").hint(self.grant(engine)))
    }

    fn grant(&self, engine: &Engine) -> String {
        let path = engine.segments.join("/");
        format!("write into a policy of offboard's: path \"{path}\" {{ capabilities = [\"read\", \"update\"] }}; then: offboard resume")
    }

    /// Asks the program's health until it is well; `note` says what is done then.
    async fn healthy(&self, note: &str) -> Result<Taken, Fault> {
        let until = Instant::now() + if self.turn.phase == Phase::Create { Duration::ZERO } else { RECOVERY.0 };
        loop {
            let Some(why) = self.unwell().await? else {
                let asked = self.kept.health.tcp.is_some() || self.kept.health.http.is_some();
                let said = if asked { "the program is healthy" } else { "no health check is declared that could be asked from here" };
                return Ok(Taken::new(Outcome::Done { note: format!("{note}; {said}") }));
            };
            if Instant::now() >= until {
                let hint = match self.turn.phase {
                    Phase::Create => "nothing was changed; make the program well, or correct `health` in offboard.yaml, then: offboard resume",
                    _ => "both values are kept sealed; make the program well with the value that stands at its path, then: offboard resume",
                };
                return Err(self.fault(FaultKind::Busy, format!("the health check {why}")).hint(hint));
            }
            sleep(RECOVERY.1).await;
        }
    }

    async fn unwell(&self) -> Result<Option<String>, Fault> {
        for question in reach::questions(&self.kept.health).map_err(|why| self.fault(FaultKind::Misconfigured, why))? {
            if let Some(why) = question.put(reach::dial(&question.at, ASK).await, ASK).await? {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }
}

/// Where an engine keeps one path.
struct Engine {
    segments: Vec<String>,
    versioned: bool,
}

impl Engine {
    fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }
}

/// Whether a number in it may come back as another one.
fn has_inexact(data: &Value) -> bool {
    match data {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_inexact),
        Value::Object(map) => map.values().any(has_inexact),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// What one way leads to.
fn at<'v>(data: &'v mut Value, way: &[String]) -> Option<&'v mut Value> {
    way.iter().try_fold(data, |here, part| match here {
        Value::Object(map) => map.get_mut(part),
        Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A text that one way leads to; or why that is none.
fn text(data: &mut Value, way: &[String]) -> Result<String, String> {
    let shown = printable(&way.join("."), 200);
    match at(data, way) {
        None => Err(format!("it has no key {shown}")),
        Some(Value::String(text)) if text.is_empty() => Err(format!("{shown} is empty")),
        Some(Value::String(text)) if text.len() > MAX_VALUE => Err(format!("{shown} is longer than {MAX_VALUE} bytes")),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("{shown} is no text")),
    }
}
