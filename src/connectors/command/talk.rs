//! One question to a command, and its answer.
//!
//! The question is one JSON object: `offboard` (the version of this protocol, 1), `do`, `system`, `place`, `secrets`, and what belongs to it. So is the answer; one with
//! `error` is a fault. Nothing that a command says is shown with a secret in it that it was given.

use super::settings::{Command, Settings};
use crate::model::{Door, DoorKind, Fault, FaultKind, Finding, FindingKind, Place, SystemName};
use crate::wire::guarded::{self, Access};
use crate::wire::http::wipe;
use crate::wire::program;
use crate::wire::secret;
use crate::wire::shell::printable;
use crate::wire::spellings::without;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The version of the protocol.
const VERSION: u32 = 1;
/// The longest part of a command's own words that is shown, in characters.
const MAX_WORDS: usize = 400;
/// So much of them is looked through for secrets, in characters.
const MAX_READ: usize = 8 * 1024;

/// What every question needs.
pub struct Talk {
    pub system: SystemName,
    pub place: Place,
    pub settings: Arc<Settings>,
    base: PathBuf,
    secrets: BTreeMap<String, SecretString>,
}

/// What went wrong, in a command's words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Error {
    kind: FaultKind,
    what: String,
    #[serde(default)]
    hint: Option<String>,
}

/// What a person should look at, in a command's words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    #[serde(default)]
    kind: Option<FindingKind>,
    #[serde(default)]
    account: Option<String>,
    what: String,
    #[serde(default)]
    hint: String,
}

/// A door among those of its account, as one word of a step.
pub fn object(door: &Door) -> String {
    match door.object.as_str() {
        "" => door.kind.to_string(),
        object => format!("{} {object}", door.kind),
    }
}

/// What [`object`] names.
pub fn of_object(object: &str) -> Option<(DoorKind, &str)> {
    let (kind, object) = object.split_once(' ').unwrap_or((object, ""));
    Some((serde_json::from_value(json!(kind)).ok()?, object))
}

impl Talk {
    /// Takes the secrets out of where they are kept.
    ///
    /// # Errors
    /// `Misconfigured`: one of them cannot be read.
    pub async fn new(
        system: &SystemName,
        place: &Place,
        settings: Arc<Settings>,
        base: &Path,
    ) -> Result<Self, Fault> {
        let mut secrets = BTreeMap::new();
        for argument in settings.commands.all().into_iter().flat_map(|(_, command)| command.iter().skip(1)) {
            // A script behind its interpreter: whoever may write it decides what we do.
            let path = base.join(argument);
            if path.is_file() {
                guarded::read(&path, Access::OwnerWrites)?;
            }
        }
        for (name, reference) in &settings.secrets {
            secrets.insert(name.clone(), secret::resolve(reference, base).await?);
        }
        Ok(Self { system: system.clone(), place: place.clone(), settings, base: base.to_path_buf(), secrets })
    }

    /// `command archive: cannot …`
    pub fn what(&self, cannot: impl std::fmt::Display) -> String {
        format!("command {}: cannot {cannot}", self.system)
    }

    /// Asks one command. `given` are the secrets in the question, besides those that it always has.
    ///
    /// # Errors
    /// The command's own; `Misconfigured` if it is not declared or cannot be started; `Unreachable` if it is not done in time; `Unexpected` if its answer is none.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        (name, command): (&str, &Command),
        question: Value,
        given: &[&SecretString],
        cannot: impl std::fmt::Display,
    ) -> Result<T, Fault> {
        let what = self.what(cannot);
        if command.is_empty() {
            return Err(Fault::new(FaultKind::Misconfigured, what).because(format!("no command `{name}` is declared")));
        }
        let seconds = self.settings.timeout.as_seconds();
        let mut whole = json!({ "offboard": VERSION, "do": name, "system": self.system, "place": self.place.address, "seconds": seconds });
        if let (Value::Object(whole), Value::Object(question)) = (&mut whole, question) {
            // Moved, not copied: it is wiped below.
            let secrets = self.secrets.iter().map(|(name, value)| (name.clone(), json!(value.expose_secret())));
            whole.insert("secrets".into(), Value::Object(secrets.collect::<Map<_, _>>()));
            whole.extend(question);
        }
        let bytes = Zeroizing::new(whole.to_string().into_bytes());
        wipe(&mut whole);
        let ran = program::ask(command, &self.base, &bytes, self.settings.timeout.duration()).await;
        let ran = ran.map_err(|fault| Fault { what: format!("{what}: {}", fault.what), ..fault })?;
        let unexpected = |because: String| Err(Fault::new(FaultKind::Unexpected, what.clone()).because(because));
        let answer: Option<Value> = serde_json::from_slice(&ran.answer).ok().filter(Value::is_object);
        if let Some(error) = answer.as_ref().and_then(|answer| answer.get("error")) {
            let Ok(Error { kind, what: said, hint }) = Error::deserialize(error) else {
                return unexpected(format!("its error is not as expected: {}", self.clean(&error.to_string(), given)));
            };
            let fault = Fault::new(kind, what).because(self.clean(&said, given));
            return Err(match hint.filter(|hint| !hint.is_empty()) {
                Some(hint) => fault.hint(self.clean(&hint, given)),
                None => fault,
            });
        }
        if !ran.status.success() {
            let words = self.clean(&String::from_utf8_lossy(&ran.words), given);
            return unexpected(format!("it ended with {}: {words}", ran.status));
        }
        let Some(answer) = answer else { return unexpected("its answer is no JSON object".into()) };
        // serde's words may quote what stands there.
        serde_json::from_value(answer).or_else(|why| unexpected(format!("its answer is not as expected: {}", self.clean(&why.to_string(), given))))
    }

    /// A command's words, on one line, without what it was given.
    pub fn clean(&self, said: &str, given: &[&SecretString]) -> String {
        // Far more than is shown: a value that is cut here is known by its beginning.
        let said: String = said.chars().take(MAX_READ).collect();
        let mut said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        // The longest first: one may begin with another.
        let mut values: Vec<&SecretString> = self.secrets.values().chain(given.iter().copied()).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
        for value in values {
            said = without(&said, value);
        }
        printable(&said, MAX_WORDS)
    }

    /// A command's note.
    pub fn finding(&self, note: &Note, usual: FindingKind) -> Finding {
        Finding {
            kind: note.kind.unwrap_or(usual),
            place: Some(self.place.id.clone()),
            account: note.account.as_ref().map(|account| self.clean(account, &[])),
            what: self.clean(&note.what, &[]),
            hint: self.clean(&note.hint, &[]),
        }
    }
}
