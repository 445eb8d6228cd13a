//! A consumer of a shared secret, or its source: a program that reads one key of a file on a host. The key is replaced in a file that takes the old
//! one's place whole, the program is told to read it, and its health is asked.
//!
//! Commands are lists of arguments. The value is in none of them: it travels inside the file, over the script's standard input.

use super::keyfile::{self, PrivateKeyFile};
use super::link::{SshLink, quoted, watch};
use super::survey::Survey;
use crate::connector::{Cx, Taken, Turn};
use crate::model::{Asker, Digest, Fault, FaultKind, KeptFile, KeyFormat, Outcome, Part, Phase, short_id};
use crate::wire::reach;
use crate::wire::shell::printable;
use crate::wire::spellings::without;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// How long one command may take, in seconds.
const COMMAND: u32 = 60;
/// What to do about a file that is not understood.
const MEND: &str = "mend the file by hand, or correct `format` and `key` in offboard.yaml, then: offboard resume";
/// For how long after a reload the program may take to be healthy, and the pause between two questions.
pub(super) const RECOVERY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_millis(200));

/// How long one question to a program's port may take.
const ASK: Duration = Duration::from_secs(5);

/// See [`crate::connector::Link::rotate`].
pub(super) async fn rotate(link: &mut SshLink, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
    let kept = match turn.part {
        Part::Consumer(kept) | Part::SourceFile(kept) => kept,
        Part::Authorized { account, also } => return super::service_key::rotate(link, account, also, turn).await,
        Part::Source { .. } | Part::Former { .. } | Part::Checked { .. } | Part::Setter(_) | Part::ConsumerPath(_) => {
            return Err(link.fault(FaultKind::Misconfigured, "takes no such part in a rotation").because(
                "a host's passwords and paths are no part of one: its files are, and the keys of its accounts",
            ));
        }
    };
    let mut work = Work { link, kept, turn, cx, read: Vec::new() };
    match turn.phase {
        Phase::Create => work.create().await,
        Phase::Set => work.set().await,
        Phase::Test => work.test().await,
        Phase::Finish => work.finish().await,
    }
}

/// A file as the host has it now.
pub(super) struct Held {
    file: Zeroizing<Vec<u8>>,
    pub(super) value: SecretString,
    /// The account's name beside it, where two alternate.
    user: Option<String>,
    addresses: Vec<String>,
}

pub(super) struct Work<'l, 't> {
    pub(super) link: &'l mut SshLink,
    pub(super) kept: &'t KeptFile,
    pub(super) cx: &'t Cx,
    pub(super) turn: &'t Turn<'t>,
    /// The value that was read last, as it is written and as it is read: nothing that is said may hold it.
    pub(super) read: Vec<SecretString>,
}

impl<'t> Work<'_, 't> {
    pub(super) fn fault(&self, kind: FaultKind, because: impl std::fmt::Display) -> Fault {
        let (file, key) = (printable(&self.kept.file, 200), printable(&self.kept.key.to_string(), 200));
        self.link.fault(kind, &format!("cannot {} {key} in {file}", self.turn.phase)).because(because)
    }

    async fn create(&mut self) -> Result<Taken, Fault> {
        let held = self.read().await?;
        // What could not be written later must not be found out when the source has the new value.
        keyfile::try_out(self.kept.format, &held.file, &self.kept.path())
            .map_err(|why| self.fault(FaultKind::Misconfigured, why).hint(MEND))?;
        if let Some(path) = self.kept.user_path() {
            keyfile::try_out(self.kept.format, &held.file, &path)
                .map_err(|why| self.fault(FaultKind::Misconfigured, format!("the account's name: {why}")).hint(MEND))?;
            // What stands there may be anything, also a password: it is neither remembered nor told unless it is one of the two names.
            if held.user.as_ref().is_none_or(|user| !self.kept.users.contains(user)) {
                return Err(self
                    .fault(FaultKind::Misconfigured, "what its `user-key` leads to is the name of neither account")
                    .hint("correct `source` or `user-key` in offboard.yaml, or the file, then: offboard resume"));
            }
        }
        self.is_healthy(Duration::ZERO).await?;
        let public = self.public_half(&held).await?;
        let mut taken = Taken::new(Outcome::Done {
            note: "it stands there once, can be replaced, and the program is healthy".into(),
        });
        let own = self.kept.from.iter().map(ToString::to_string);
        let address = self.link.host.target.address.parse::<std::net::IpAddr>().ok();
        taken.seen.addresses =
            held.addresses.iter().cloned().chain(address.map(|a| a.to_string())).chain(own).collect();
        taken.seen.addresses.sort();
        taken.seen.addresses.dedup();
        taken.seen.user = held.user;
        taken.seen.public = public;
        match self.turn.part {
            Part::SourceFile(_) => taken.seen.before = Some(self.try_source(&held.value).await?),
            _ => taken.value = Some(held.value),
        }
        let call = format!("{}WATCHING=", watch(std::slice::from_ref(&self.kept.file)));
        taken.findings = self.link.call(&call, Survey::default()).await?.watched.open_to_all(&self.link.host.place);
        Ok(taken)
    }

    async fn set(&mut self) -> Result<Taken, Fault> {
        let new = self.new_value()?;
        let held = self.read().await?;
        let mut note = String::new();
        if held.value.expose_secret() != new.expose_secret() || !self.is_user(&held) {
            // A late set must not write over what somebody has put there since.
            if self.turn.old.is_none_or(|old| old.expose_secret() != held.value.expose_secret())
                || held.user != self.turn.seen.user
            {
                return Err(self
                    .fault(FaultKind::Protected, "somebody else has changed the value there: it is left as they set it")
                    .hint("compare it with the source; give it the current value by hand, then waive this step"));
            }
            self.put(&held, new).await?;
            note.push_str("replaced; ");
        }
        self.put_public_half(new).await?;
        if self.kept.reload.is_empty() {
            note.push_str("read at the next login");
            return Ok(Taken::new(Outcome::Done { note }));
        }
        // Always: what was written before a crash may not have been read yet.
        let reload = self.run(&self.kept.reload).await?;
        if reload.status != Some(0) {
            return Err(self.fault(FaultKind::Busy, format!("the reload command ended with {}", reload.words())).hint(
                format!(
                    "the file has the new value. As root on {}: see why it fails, then: offboard resume",
                    self.link.host.target.name
                ),
            ));
        }
        note.push_str("reloaded");
        Ok(Taken::new(Outcome::Done { note }))
    }

    async fn test(&mut self) -> Result<Taken, Fault> {
        let new = self.new_value()?;
        let held = self.read().await?;
        if held.value.expose_secret() != new.expose_secret() || !self.is_user(&held) {
            return Err(self
                .fault(FaultKind::Protected, "somebody else has changed the value there since this run set it")
                .hint("give it the current value by hand, then waive this step"));
        }
        self.is_healthy(RECOVERY.0).await?;
        self.takes_new(new, RECOVERY.0).await?;
        Ok(Taken::new(Outcome::Done { note: "healthy with the new value".into() }))
    }

    /// The old sessions have ended: a program that had not really taken the new value shows now.
    async fn finish(&mut self) -> Result<Taken, Fault> {
        let call = format!("secret_clean {} {} </dev/null", quoted(&self.kept.file), self.tag());
        self.answer(&call).await?;
        self.is_healthy(RECOVERY.0).await?;
        Ok(Taken::new(Outcome::Done { note: "healthy after the old sessions have ended".into() }))
    }

    /// Whether the file names the account that it is to name.
    fn is_user(&self, held: &Held) -> bool {
        self.turn.user.is_none() || held.user.as_deref() == self.turn.user
    }

    fn new_value(&self) -> Result<&'t SecretString, Fault> {
        self.turn.new.ok_or_else(|| self.fault(FaultKind::Unexpected, "the new value is not sealed any more"))
    }

    /// Part of the name of files that are being written beside this one.
    fn tag(&self) -> String {
        short_id(&["env file", &self.kept.file])
    }

    pub(super) async fn read(&mut self) -> Result<Held, Fault> {
        // Where programs log in from is asked once: it is kept in the journal.
        let addresses = if self.turn.phase == Phase::Create { " addresses" } else { "" };
        let answer = self.answer(&format!("secret_read {}{addresses} </dev/null", quoted(&self.kept.file))).await?;
        let file = Zeroizing::new(
            STANDARD
                .decode(answer.base64.as_bytes())
                .map_err(|_| self.fault(FaultKind::Unexpected, "the host's answer is not as expected"))?,
        );
        let found = keyfile::find(self.kept.format, &file, &self.kept.path())
            .map_err(|why| self.fault(FaultKind::Misconfigured, why).hint(MEND))?;
        let value = SecretString::from(found.value.as_str());
        self.read = vec![SecretString::from(found.raw.as_str()), value.clone()];
        let user = match self.kept.user_path() {
            Some(path) => {
                let found = keyfile::find(self.kept.format, &file, &path);
                let found = found.map_err(|why| {
                    self.fault(FaultKind::Misconfigured, format!("the account's name: {why}")).hint(MEND)
                })?;
                Some(found.value.to_string())
            }
            None => None,
        };
        Ok(Held { file, value, user, addresses: answer.addresses })
    }

    async fn put(&mut self, held: &Held, new: &SecretString) -> Result<(), Fault> {
        let mut edited = keyfile::replace(self.kept.format, &held.file, &self.kept.path(), new.expose_secret())
            .map_err(|why| self.fault(FaultKind::Unexpected, why))?;
        if let (Some(path), Some(user)) = (self.kept.user_path(), self.turn.user) {
            edited = keyfile::replace(self.kept.format, &edited, &path, user)
                .map_err(|why| self.fault(FaultKind::Unexpected, why))?;
        }
        let base64 = Zeroizing::new(STANDARD.encode(&*edited));
        let (path, tag) = (quoted(&self.kept.file), self.tag());
        let nonce = format!("{:032x}", rand::random::<u128>());
        let (was, will_be) = (Digest::of(&held.file), Digest::of(&edited));
        let mut call = Zeroizing::new(self.without_public_half(held)?);
        call.push_str(&format!("secret_put {path} {tag} {nonce} {was} {will_be} <<'END'\n"));
        for at in (0..base64.len()).step_by(76) {
            call.push_str(&base64[at..base64.len().min(at + 76)]);
            call.push('\n');
        }
        call.push_str("END");
        fail::fail_point!("rotate::file");
        // The host has compared what arrived, and `test` reads it back.
        self.answer(&call).await?;
        Ok(())
    }

    /// The comment of the private key's public half, if that stands beside it: ssh(1) takes that for the key's, so the two are replaced together.
    async fn public_half(&mut self, held: &Held) -> Result<Option<String>, Fault> {
        if self.kept.format != KeyFormat::SshKey {
            return Ok(None);
        }
        let answer = self.answer(&format!("secret_beside {} </dev/null", quoted(&self.kept.file))).await?;
        if answer.certificate {
            return Err(self
                .fault(FaultKind::Misconfigured, format!("a certificate of the key stands beside it ({}-cert.pub)", self.kept.file))
                .hint("keys with certificates are not rotated: issue another one by hand, or take it away, then: offboard resume"));
        }
        let words = self.key(held.value.expose_secret())?.words();
        // One of another key is not ours to replace.
        let rest = answer.public.as_deref().and_then(|line| line.strip_prefix(&words));
        Ok(rest.filter(|rest| rest.is_empty() || rest.starts_with(' ')).map(|rest| rest.trim().to_string()))
    }

    /// The call that takes it away, before the private key is replaced: in between, ssh(1) does without.
    fn without_public_half(&self, held: &Held) -> Result<String, Fault> {
        if self.turn.seen.public.is_none() {
            return Ok(String::new());
        }
        let words = self.key(held.value.expose_secret())?.words();
        Ok(format!("public_away {} {} </dev/null\n", quoted(&self.kept.file), quoted(&words)))
    }

    /// Puts that of the new key in its place.
    async fn put_public_half(&mut self, new: &SecretString) -> Result<(), Fault> {
        let Some(comment) = &self.turn.seen.public else { return Ok(()) };
        let line = format!("{} {comment}", self.key(new.expose_secret())?.words());
        fail::fail_point!("rotate::public");
        let call = format!("public_back {} {} </dev/null", quoted(&self.kept.file), quoted(line.trim_end()));
        self.answer(&call).await.map(drop)
    }

    fn key(&self, text: &str) -> Result<PrivateKeyFile, Fault> {
        PrivateKeyFile::parse(text).map_err(|why| self.fault(FaultKind::Unexpected, why))
    }

    /// Calls the script and reads what it says of a file.
    async fn answer(&mut self, call: &str) -> Result<Answer, Fault> {
        let mut answer = Answer::default();
        self.link.ask(call, &mut |line| answer.line(line)).await?;
        let Some((how, why)) = answer.error.take() else {
            return if answer.complete {
                Ok(answer)
            } else {
                Err(self.fault(FaultKind::Unexpected, "the host gave no answer"))
            };
        };
        let (kind, hint) = match how.as_str() {
            "missing" => (FaultKind::Misconfigured, "correct `file` in offboard.yaml, then: offboard resume"),
            "refused" => (FaultKind::Misconfigured, "mend that as root there, then: offboard resume"),
            "busy" => (FaultKind::Busy, "tried again"),
            _ => (FaultKind::Unexpected, "as root there: df and mount; then: offboard resume"),
        };
        Err(self.fault(kind, printable(&why, 400)).hint(hint))
    }

    /// Asks the program's health until it is well, for so long at most.
    async fn is_healthy(&mut self, patience: Duration) -> Result<(), Fault> {
        let until = Instant::now() + patience;
        loop {
            let Some(why) = self.is_unwell().await? else { return Ok(()) };
            if Instant::now() >= until {
                let hint = match self.turn.phase {
                    Phase::Create => {
                        "nothing was changed; make the program well, or correct `health` in offboard.yaml, then: offboard resume"
                    }
                    _ => {
                        "both values are kept sealed; make the program well with the value that stands in its file, then: offboard resume"
                    }
                };
                return Err(self.fault(FaultKind::Busy, format!("the health check {why}")).hint(hint));
            }
            sleep(RECOVERY.1).await;
        }
    }

    /// What the first check that fails says; whether there was a login, the source says.
    pub(super) async fn is_unwell(&mut self) -> Result<Option<String>, Fault> {
        let checks = &self.kept.health;
        if !checks.command.is_empty() {
            let health = self.run(&checks.command).await?;
            if health.status != Some(0) {
                return Ok(Some(format!("ended with {}", health.words())));
            }
        }
        for question in reach::questions(checks).map_err(|why| self.fault(FaultKind::Misconfigured, why))? {
            let why = match question.by {
                Some(Asker::Here) => question.put(reach::dial(&question.at, ASK).await, ASK).await?,
                Some(Asker::Host) | None => question.put(self.link.dial(&question.at).await, ASK).await?,
            };
            if why.is_some() {
                return Ok(why);
            }
        }
        Ok(None)
    }

    async fn run(&mut self, command: &[String]) -> Result<Ran, Fault> {
        self.call(&format!("secret_run {COMMAND} {} </dev/null", words(command)), None).await
    }

    /// Runs a command that reads `value` as one line.
    pub(super) async fn run_with(&mut self, command: &[String], value: &SecretString) -> Result<Ran, Fault> {
        let base64 = Zeroizing::new(STANDARD.encode(value.expose_secret()));
        let call = Zeroizing::new(format!("secret_probe {COMMAND} {} <<'END'\n{}\nEND", words(command), *base64));
        self.call(&call, Some(value)).await
    }

    async fn call(&mut self, call: &str, given: Option<&SecretString>) -> Result<Ran, Fault> {
        let mut ran = Ran::default();
        self.link.ask(call, &mut |line| ran.line(line)).await?;
        // A program may complain with the very value in its mouth.
        for value in self.read.iter().chain(self.turn.old).chain(self.turn.new).chain(given) {
            ran.said = without(&ran.said, value);
        }
        Ok(ran)
    }
}

/// A command as words of the shell.
fn words(command: &[String]) -> String {
    command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// What the script says of a file.
#[derive(Default)]
struct Answer {
    /// Between the lines that say where it begins and ends.
    base64: Zeroizing<String>,
    reading: bool,
    addresses: Vec<String>,
    /// Of a private key: the line of its public half, and whether there is a certificate.
    public: Option<String>,
    certificate: bool,
    error: Option<(String, String)>,
    complete: bool,
}

impl Answer {
    fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        match line.split_once('\t') {
            None if self.reading => self.base64.push_str(&line),
            None => self.reading = line == "F",
            Some(("Z", _)) => (self.reading, self.complete) = (false, true),
            Some(("A", list)) => {
                // Whoever is not an address is nobody's.
                let addresses = list.split_whitespace().filter_map(|a| a.parse::<std::net::IpAddr>().ok());
                self.addresses = addresses.map(|a| a.to_string()).collect();
            }
            Some(("P", line)) => self.public = Some(line.to_string()),
            Some(("Q", _)) => self.certificate = true,
            Some(("D", _)) => self.complete = true,
            Some(("E", rest)) => {
                let (how, why) = rest.split_once('\t').unwrap_or((rest, ""));
                self.error = Some((how.to_string(), why.to_string()));
            }
            _ => {}
        }
    }
}

/// How a command ended.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) status: Option<u32>,
    said: String,
}

impl Ran {
    fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        match line.split_once('\t') {
            Some(("X", status)) => self.status = status.trim().parse().ok(),
            Some(("O", said)) => {
                if !self.said.is_empty() && !said.is_empty() {
                    self.said.push_str("; ");
                }
                self.said.push_str(said);
            }
            _ => {}
        }
    }

    pub(super) fn words(&self) -> String {
        let status = self.status.map_or("no status".into(), |status| format!("status {status}"));
        if self.said.is_empty() { status } else { format!("{status}: {}", printable(&self.said, 400)) }
    }
}
