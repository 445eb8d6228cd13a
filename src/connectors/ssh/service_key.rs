//! The source of a shared secret that is a private key: the account of a host that it opens. The new key's line is set beside the old one's, with the
//! same options; when every program logs in with the new one, the old line goes, and with it the sessions that it opened.
//!
//! Nobody logs in here to try a key: sshd says of a public key whether it would take it.

use super::keyfile::PrivateKeyFile;
use super::link::{SshLink, quoted};
use super::settings::is_plain;
use super::survey::{Standing, Survey};
use crate::connector::{KnownSecret, Taken, Turn};
use crate::model::{Door, Fault, FaultKind, Finding, FindingKind, Fingerprint, Look, Outcome, Phase, Proof, Verdict};
use crate::wire::shell::{Probe, printable, probe};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;

/// What to do when somebody else has changed the lines.
const BY_HAND: &str = "see which key the program logs in with, and set its line by hand; then waive this step";

/// See [`crate::connector::Link::rotate`].
pub(super) async fn rotate(link: &mut SshLink, account: &str, turn: &Turn<'_>) -> Result<Taken, Fault> {
    let mut work = Work { link, account, turn };
    match turn.phase {
        Phase::Create => work.create().await,
        Phase::Set => work.set().await,
        Phase::Test => work.test().await,
        Phase::Finish => work.finish().await,
    }
}

struct Work<'l, 't> {
    link: &'l mut SshLink,
    account: &'t str,
    turn: &'t Turn<'t>,
}

impl Work<'_, '_> {
    fn fault(&self, kind: FaultKind, because: impl std::fmt::Display) -> Fault {
        let what = format!("cannot {} the key of {}", self.turn.phase, printable(self.account, 100));
        self.link.fault(kind, &what).because(because)
    }

    fn key(&self, value: Option<&SecretString>, which: &str) -> Result<PrivateKeyFile, Fault> {
        let value =
            value.ok_or_else(|| self.fault(FaultKind::Unexpected, format!("the {which} key is not known here")))?;
        PrivateKeyFile::parse(value.expose_secret()).map_err(|why| self.fault(FaultKind::Misconfigured, why))
    }

    async fn listing(&mut self) -> Result<Survey, Fault> {
        self.link.listing(&BTreeSet::from([self.account])).await
    }

    async fn create(&mut self) -> Result<Taken, Fault> {
        if !is_plain(self.account) {
            return Err(self
                .fault(FaultKind::Misconfigured, "that is no name of a Unix account")
                .hint("correct `authorizes` in offboard.yaml"));
        }
        let Some(old) = self.turn.old else {
            // Only asked how it stands, while no consumer could say its key.
            self.listing().await?;
            return Ok(Taken::new(Outcome::Done { note: "its files can be read".into() }));
        };
        let old = self.key(Some(old), "old")?;
        let fingerprint = old.fingerprint();
        if fingerprint == self.link.fleet.own {
            return Err(self
                .fault(FaultKind::Protected, "it is the key that offboard itself logs in with")
                .hint("give offboard a key of its own"));
        }
        let survey = self.link.whole(&fingerprint).await?;
        if let Some((file, why)) = survey.unread.iter().find(|(file, _)| file.account == self.account) {
            return Err(self
                .fault(FaultKind::Misconfigured, format!("{}: {why}", file.path))
                .hint("mend the file, then: offboard resume"));
        }
        let lines: Vec<&Standing> = standing(&survey, self.account, &fingerprint).collect();
        let Some(first) = lines.first() else {
            return Err(self
                .fault(
                    FaultKind::Misconfigured,
                    format!(
                        "the key that the consumers have, {}, stands in none of the files that sshd reads for it",
                        fingerprint.0
                    ),
                )
                .hint("correct `authorizes` or the consumers in offboard.yaml, then: offboard resume"));
        };
        if lines.iter().any(|line| line.authority) {
            return Err(self
                .fault(
                    FaultKind::Misconfigured,
                    "the key signs certificates there: those that it has signed would stop to open anything",
                )
                .hint("replace such a key by hand"));
        }
        if lines.iter().any(|line| survey.file_of(line).link) {
            return Err(self
                .fault(FaultKind::Misconfigured, "its file is a symbolic link")
                .hint("replace the link by a file, then: offboard resume"));
        }
        let at = format!("{} line {}", printable(&survey.file_of(first).path, 200), first.line);
        let note = match self.ask(&[&old]).await.pop() {
            Some(Probe::Accepted) => format!("sshd takes it; it stands in {at}"),
            // Options may say from where; the programs' health has shown that it opens the account.
            Some(Probe::Refused) if lines.iter().all(|line| is_limited(line)) => {
                format!("it stands in {at}, with options that keep us out")
            }
            Some(Probe::Refused) => {
                return Err(self
                    .fault(FaultKind::Misconfigured, format!("sshd does not take it, though it stands in {at}"))
                    .hint("see the account's state, the file's owner and mode, and sshd's log there; then: offboard resume"));
            }
            Some(Probe::Unknown(why)) => return Err(self.fault(FaultKind::Unreachable, why)),
            None => return Err(self.fault(FaultKind::Unexpected, "sshd was not asked")),
        };
        let mut taken = Taken::new(Outcome::Done { note });
        taken.findings = self.elsewhere(&survey, &fingerprint);
        Ok(taken)
    }

    /// Other accounts of this host that the old key opens: they are not declared, and whoever has the key can still use them.
    fn elsewhere(&self, survey: &Survey, key: &Fingerprint) -> Vec<Finding> {
        let files = survey.standing.iter().filter(|line| line.fingerprint == *key).map(|line| survey.file_of(line));
        let others: BTreeSet<&str> =
            files.map(|file| file.account.as_str()).filter(|account| *account != self.account).collect();
        let finding = |account: &str| Finding {
            kind: FindingKind::Suspicious,
            place: Some(self.link.host.place.id.clone()),
            account: Some(account.to_string()),
            what: format!(
                "the key of secret {} ({}) also opens {account}: it is not rotated there, and whoever has the old one still gets in",
                self.turn.secret, key.0
            ),
            hint: format!("take it out of the authorized keys of {account}, or give that another key"),
        };
        others.into_iter().map(finding).collect()
    }

    async fn set(&mut self) -> Result<Taken, Fault> {
        let (old, new) = (self.key(self.turn.old, "old")?, self.key(self.turn.new, "new")?);
        let rows = format!("0 {} {}", old.words(), new.words());
        let call = format!("authorize {} {} </dev/null", quoted(self.account), quoted(&rows));
        let survey = self.link.call(&call, Survey::default()).await?;
        let changed = self.answer(&survey, 0)?;
        // Neither line may stand there: then somebody else has changed them, and it is not for us to let a key in again.
        let survey = self.listing().await?;
        let stands = standing(&survey, self.account, &new.fingerprint()).next().is_some();
        if !stands {
            return Err(self
                .fault(FaultKind::Protected, "the old key's line is not there any more: somebody else has changed it")
                .hint(BY_HAND));
        }
        Ok(Taken::new(match changed {
            Some(note) => Outcome::Done { note },
            None => Outcome::AlreadyDone,
        }))
    }

    async fn test(&mut self) -> Result<Taken, Fault> {
        let new = self.key(self.turn.new, "new")?;
        let survey = self.listing().await?;
        let fingerprint = new.fingerprint();
        let lines: Vec<&Standing> = standing(&survey, self.account, &fingerprint).collect();
        if lines.is_empty() {
            return Err(self
                .fault(FaultKind::Protected, "somebody else has taken the new key out since this run set it")
                .hint(BY_HAND));
        }
        let note = match self.ask(&[&new]).await.pop() {
            Some(Probe::Accepted) => "sshd takes the new key",
            Some(Probe::Refused) if lines.iter().all(|line| is_limited(line)) => {
                "the new key's line stands there; its options keep us out, so sshd was not asked"
            }
            Some(Probe::Refused) => {
                return Err(self
                    .fault(FaultKind::Busy, "sshd does not take the new key, though its line stands there")
                    .hint("both keys are kept sealed, and the old one still opens; see sshd's log there, then: offboard resume"));
            }
            Some(Probe::Unknown(why)) => return Err(self.fault(FaultKind::Unreachable, why)),
            None => return Err(self.fault(FaultKind::Unexpected, "sshd was not asked")),
        };
        Ok(Taken::new(Outcome::Done { note: note.into() }))
    }

    async fn finish(&mut self) -> Result<Taken, Fault> {
        let (old, new) = (self.key(self.turn.old, "old")?, self.key(self.turn.new, "new")?);
        let survey = self.listing().await?;
        // Late, after somebody or another run has set a third key: the old line still may go, but nobody is to be locked out by that.
        if standing(&survey, self.account, &new.fingerprint()).next().is_none() {
            return Err(self
                .fault(
                    FaultKind::Protected,
                    "the new key is not there any more: the old one is left, so that nobody is locked out",
                )
                .hint(BY_HAND));
        }
        let account = quoted(self.account);
        let call = format!(
            "revoke {account} other {} </dev/null\nend_keyed 1 {account} {} </dev/null",
            quoted(&format!("0 {}", old.words())),
            quoted(&old.fingerprint().0)
        );
        let survey = self.link.call(&call, Survey::default()).await?;
        let (gone, ended) = (self.answer(&survey, 0)?, self.answer(&survey, 1)?);
        let notes: Vec<String> = gone.map(|note| format!("the old key is {note}")).into_iter().chain(ended).collect();
        Ok(Taken::new(if notes.is_empty() { Outcome::AlreadyDone } else { Outcome::Done { note: notes.join("; ") } }))
    }

    /// What the script says of one call: what it has done, or nothing if there was nothing to do.
    fn answer(&self, survey: &Survey, number: usize) -> Result<Option<String>, Fault> {
        let Some((how, text)) = survey.answers.get(&number) else {
            return Err(self.fault(FaultKind::Unexpected, "the host gave no answer"));
        };
        let text = printable(text, 1000);
        let kind = match how.as_str() {
            "changed" => return Ok(Some(text)),
            "already" => return Ok(None),
            "absent" => FaultKind::Misconfigured,
            "protected" => FaultKind::Protected,
            "busy" => FaultKind::Busy,
            _ => FaultKind::Unexpected,
        };
        Err(self.fault(kind, text).hint("mend that as root there, then: offboard resume"))
    }

    async fn ask(&self, keys: &[&PrivateKeyFile]) -> Vec<Probe> {
        ask(self.link, self.account, keys).await
    }
}

/// Whether sshd would take these keys for the account.
async fn ask(link: &SshLink, account: &str, keys: &[&PrivateKeyFile]) -> Vec<Probe> {
    let mut login = link.login.clone();
    login.target.user = account.to_string();
    let keys: Vec<_> = keys.iter().map(|key| key.public().clone()).collect();
    probe(&login, &keys).await
}

/// The lines of a key in one account's files.
fn standing<'a>(survey: &'a Survey, account: &'a str, key: &'a Fingerprint) -> impl Iterator<Item = &'a Standing> {
    survey.standing.iter().filter(move |line| line.fingerprint == *key && survey.file_of(line).account == account)
}

/// Whether options may keep us out where they let a program in.
fn is_limited(line: &Standing) -> bool {
    let options = line.options.to_ascii_lowercase();
    options.contains("from=")
}

/// A look at the door that the old key is.
pub(super) async fn look(link: &mut SshLink, door: &Door, known: &KnownSecret) -> Result<Look, Fault> {
    let account = door.account.as_str();
    let Some(Ok(old)) = known.old.as_ref().map(|old| PrivateKeyFile::parse(old.expose_secret())) else {
        return Ok(Look::unproven("the key that the leaver may know is not known here"));
    };
    let new = known.new.as_ref().and_then(|new| PrivateKeyFile::parse(new.expose_secret()).ok());
    let survey = link.listing(&BTreeSet::from([account])).await?;
    let keys: Vec<&PrivateKeyFile> = std::iter::once(&old).chain(&new).collect();
    let mut answers = ask(link, account, &keys).await.into_iter();
    let (of_old, of_new) = (answers.next(), answers.next());
    let fingerprint = old.fingerprint();
    let place = |line: &Standing| format!("{} line {}", printable(&survey.file_of(line).path, 200), line.line);
    let stands = standing(&survey, account, &fingerprint).next().map(place);
    let unread = survey.unread.iter().find(|(file, _)| file.account == account);
    let open = |reply: String| Ok(Look { verdict: Verdict::Open { reply }, control: None, residual: None });
    let shut = |proof, reply: String, control: String| {
        Ok(Look { verdict: Verdict::Shut { proof, reply }, control: Some(control), residual: None })
    };
    let of_new_key = new.as_ref().map(PrivateKeyFile::fingerprint);
    let stands_new = of_new_key.as_ref().and_then(|new| standing(&survey, account, new).next());
    match (of_old, stands, unread) {
        (Some(Probe::Accepted), ..) => open(format!("sshd answers PK_OK to {} as {}", fingerprint.0, door.account)),
        (_, Some(place), _) => open(format!("{} stands in {place}", fingerprint.0)),
        (_, None, Some((file, why))) => Ok(Look::unproven(format!("{}: {why}", file.path))),
        (Some(Probe::Refused), None, None) => {
            let reply = format!("sshd answers FAILURE to {} as {account}, and its files do not have it", fingerprint.0);
            match (of_new, stands_new) {
                (Some(Probe::Accepted), _) => {
                    shut(Proof::Refused, reply, format!("PK_OK for the new key as {account}"))
                }
                (Some(Probe::Refused), Some(line)) if is_limited(line) => {
                    let reply = format!("none of the files that sshd reads for {account} has {}", fingerprint.0);
                    shut(
                        Proof::ReadBack,
                        reply,
                        format!("the new key stands in {}; its options keep us out", place(line)),
                    )
                }
                _ => Ok(Look::unproven("sshd refuses it, but does not take the new key either")),
            }
        }
        (Some(Probe::Unknown(why)), None, None) => {
            Ok(Look::unproven(format!("sshd gave no answer ({why}); its files do not have it")))
        }
        (None, None, None) => Ok(Look::unproven("sshd was not asked")),
    }
}
