//! The source of a shared secret that is a private key: the account of a host that it opens. The new key's line is set beside the old one's, with the
//! same options; when every program logs in with the new one, the old line goes, and with it the sessions that it opened.
//!
//! Nobody logs in here to try a key: sshd says of a public key whether it would take it.

use super::keyfile::PrivateKeyFile;
use super::link::{SshLink, quoted};
use super::settings::is_plain;
use super::survey::{Standing, Survey};
use crate::connector::{KnownSecret, Taken, Turn};
use crate::model::{
    Door, Fault, FaultKind, Finding, FindingKind, Fingerprint, Look, Outcome, Phase, Proof, Residual, Verdict,
};
use crate::wire::shell::{Probe, fingerprint, printable, probe};
use russh::keys::PublicKey;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

/// How often a session is looked at that nobody can tell, and the pause before each time: a login takes no longer than all of them.
const LOGIN: (u32, Duration) = (8, Duration::from_millis(250));
/// What to do when somebody else has changed the lines.
const BY_HAND: &str = "see which key the program logs in with, and set its line by hand; then waive this step";

/// See [`crate::connector::Link::rotate`].
pub(super) async fn rotate(
    link: &mut SshLink,
    account: &str,
    also: &[String],
    turn: &Turn<'_>,
) -> Result<Taken, Fault> {
    let mut work = Work { link, account, also, turn };
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
    /// Other accounts of this host that the key is known to open.
    also: &'t [String],
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
        let note = match ask(self.link, self.account, [old.public()]).await.pop() {
            Some(Probe::Accepted) => format!("sshd takes it; it stands in {at}"),
            // Options may say from where; the programs' health has shown that it opens the account.
            Some(Probe::Refused) if lines.iter().all(|line| line.from) => {
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
        let others = survey.standing.iter().filter(|line| survey.file_of(line).account == self.account);
        let others: BTreeSet<&str> = others.map(|line| line.fingerprint.0.as_str()).collect();
        taken.seen.keys = others.into_iter().map(str::to_string).collect();
        Ok(taken)
    }

    /// Other accounts of this host that the old key opens: they are not declared, and whoever has the key can still use them.
    fn elsewhere(&self, survey: &Survey, key: &Fingerprint) -> Vec<Finding> {
        let files = survey.standing.iter().filter(|line| line.fingerprint == *key).map(|line| survey.file_of(line));
        let others: BTreeSet<&str> =
            files.map(|file| file.account.as_str()).filter(|account| *account != self.account).collect();
        let others = others.into_iter().filter(|account| !self.also.iter().any(|also| also == account));
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
        others.map(finding).collect()
    }

    async fn set(&mut self) -> Result<Taken, Fault> {
        let (old, new) = (self.key(self.turn.old, "old")?, self.key(self.turn.new, "new")?);
        let rows = format!("0 {} {}", old.words(), new.words());
        let call = format!("authorize {} {} </dev/null", quoted(self.account), quoted(&rows));
        let survey = self.link.call(&call, Survey::default()).await?;
        let changed = self.answer(&survey, 0)?;
        // Neither line may stand there: then somebody else has changed them, and it is not for us to let a key in again.
        let survey = self.listing().await?;
        let fingerprint = new.fingerprint();
        let lines: Vec<&Standing> = standing(&survey, self.account, &fingerprint).collect();
        if lines.is_empty() {
            return Err(self
                .fault(FaultKind::Protected, "the old key's line is not there any more: somebody else has changed it")
                .hint(BY_HAND));
        }
        // Before any program is moved to it.
        self.is_taken(&new, &lines).await?;
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
        let note = self.is_taken(&new, &lines).await?;
        Ok(Taken::new(Outcome::Done { note: note.into() }))
    }

    /// Whether sshd takes the new key, whose lines these are; in words.
    async fn is_taken(&self, new: &PrivateKeyFile, lines: &[&Standing]) -> Result<&'static str, Fault> {
        match ask(self.link, self.account, [new.public()]).await.pop() {
            Some(Probe::Accepted) => Ok("sshd takes the new key"),
            Some(Probe::Refused) if lines.iter().all(|line| line.from) => {
                Ok("the new key's line stands there; its options keep us out, so sshd was not asked")
            }
            Some(Probe::Refused) => Err(self
                .fault(FaultKind::Busy, "sshd does not take the new key (Ed25519), though its line stands there")
                .hint("both keys are kept sealed, and the old one still opens; see sshd's log and its PubkeyAcceptedAlgorithms there, then: offboard resume")),
            Some(Probe::Unknown(why)) => Err(self.fault(FaultKind::Unreachable, why)),
            None => Err(self.fault(FaultKind::Unexpected, "sshd was not asked")),
        }
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
        let mut taken =
            Taken::new(if notes.is_empty() { Outcome::AlreadyDone } else { Outcome::Done { note: notes.join("; ") } });
        taken.findings = self.left(&new, &old).await?;
        Ok(taken)
    }

    /// What whoever had the old key may have left in the account: keys that were not there at `create`, and sessions that nobody can tell.
    async fn left(&mut self, new: &PrivateKeyFile, old: &PrivateKeyFile) -> Result<Vec<Finding>, Fault> {
        let survey = self.listing().await?;
        let ours = [new.fingerprint(), old.fingerprint()];
        let lines = survey.standing.iter().filter(|line| survey.file_of(line).account == self.account);
        let keys: BTreeSet<&Fingerprint> = lines.map(|line| &line.fingerprint).collect();
        let is_new = |key: &&Fingerprint| !ours.contains(key) && !self.turn.seen.keys.contains(&key.0);
        let mut findings: Vec<Finding> = keys.into_iter().filter(is_new).map(|key| {
            let what = format!("{} appeared in {} while the key of secret {} was rotated: whoever had the old one could have put it there", key.0, self.account, self.turn.secret);
            self.finding(FindingKind::Suspicious, what, "find out whose it is; take it out if nobody can say")
        }).collect();
        let (_, many) = sessions(self.link, &survey, self.account, &old.fingerprint()).await?;
        if many > 0 {
            findings.push(self.finding(
                FindingKind::NotCovered,
                untold(many, self.account),
                "as root there: see who is logged in (ps, ss), and end what nobody can explain",
            ));
        }
        Ok(findings)
    }

    fn finding(&self, kind: FindingKind, what: String, hint: &str) -> Finding {
        let (place, account) = (Some(self.link.host.place.id.clone()), Some(self.account.to_string()));
        Finding { kind, place, account, what, hint: hint.to_string() }
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
}

/// Whether sshd would take these keys for the account.
async fn ask(link: &SshLink, account: &str, keys: impl IntoIterator<Item = &PublicKey>) -> Vec<Probe> {
    let mut login = link.login.clone();
    login.target.user = account.to_string();
    let keys: Vec<PublicKey> = keys.into_iter().cloned().collect();
    probe(&login, &keys).await
}

/// The lines of a key in one account's files.
fn standing<'a>(survey: &'a Survey, account: &'a str, key: &'a Fingerprint) -> impl Iterator<Item = &'a Standing> {
    survey.standing.iter().filter(move |line| line.fingerprint == *key && survey.file_of(line).account == account)
}

/// The new keys that rotations of this run have set, or are about to set.
pub(super) fn new_keys(secrets: &[KnownSecret]) -> Vec<Fingerprint> {
    let keys = secrets.iter().filter_map(|known| PrivateKeyFile::parse(known.new.as_ref()?.expose_secret()).ok());
    keys.map(|key| key.fingerprint()).collect()
}

/// Sessions of the account: whether the old key has opened any, and how many there are of which sshd's log does not say which key opened them. A login
/// that is under way is none, and over soon.
async fn sessions(
    link: &mut SshLink,
    survey: &Survey,
    account: &str,
    old: &Fingerprint,
) -> Result<(bool, usize), Fault> {
    let of = |survey: &Survey| -> BTreeSet<u32> {
        survey.sessions.iter().filter(|s| s.account == account).map(|s| s.pid).collect()
    };
    let mut pids = of(survey);
    for _ in 0..LOGIN.0 {
        if pids.is_empty() {
            break;
        }
        let words: Vec<String> = pids.iter().map(u32::to_string).collect();
        let traced = link.call(&format!("trace {}", words.join(" ")), Survey::default()).await?.traces;
        if pids.iter().any(|pid| traced.get(pid).is_some_and(|trace| trace.fingerprint == *old)) {
            return Ok((true, 0));
        }
        pids.retain(|pid| !traced.contains_key(pid));
        if !pids.is_empty() {
            sleep(LOGIN.1).await;
            let still = of(&link.listing(&BTreeSet::from([account])).await?);
            pids.retain(|pid| still.contains(pid));
        }
    }
    Ok((false, pids.len()))
}

/// What is said of sessions that nobody can tell.
fn untold(many: usize, account: &str) -> String {
    format!(
        "{many} sessions in {account} may have been opened with the old key: sshd's log does not say which key opened them"
    )
}

/// A look at the door that the old key is.
pub(super) async fn look(link: &mut SshLink, door: &Door, known: &KnownSecret) -> Result<Look, Fault> {
    let account = door.account.as_str();
    let public =
        |value: &SecretString| PrivateKeyFile::parse(value.expose_secret()).ok().map(|key| key.public().clone());
    let Some(old) = known.old.as_ref().and_then(public) else {
        return Ok(Look::unproven("the key that the leaver may know is not known here"));
    };
    let new = known.new.as_ref().and_then(public);
    let survey = link.listing(&BTreeSet::from([account])).await?;
    let mut answers = ask(link, account, std::iter::once(&old).chain(&new)).await.into_iter();
    let (of_old, of_new) = (answers.next(), answers.next());
    let old = fingerprint(&old);
    let place = |line: &Standing| format!("{} line {}", printable(&survey.file_of(line).path, 200), line.line);
    let open = |reply: String| Ok(Look { verdict: Verdict::Open { reply }, control: None, residual: None });
    match of_old {
        Some(Probe::Accepted) => return open(format!("sshd answers PK_OK to {} as {account}", old.0)),
        _ if let Some(line) = standing(&survey, account, &old).next() => {
            return open(format!("{} stands in {}", old.0, place(line)));
        }
        Some(Probe::Refused) => {}
        Some(Probe::Unknown(why)) => {
            return Ok(Look::unproven(format!("sshd gave no answer ({why}); its files do not have it")));
        }
        None => return Ok(Look::unproven("sshd was not asked")),
    }
    if let Some((file, why)) = survey.unread.iter().find(|(file, _)| file.account == account) {
        return Ok(Look::unproven(format!("{}: {why}", file.path)));
    }
    // That it is refused means something only if another one is taken at the same time.
    let refused = format!("sshd answers FAILURE to {} as {account}, and its files do not have it", old.0);
    let new = new.as_ref().map(fingerprint);
    let lines: Vec<&Standing> = new.iter().flat_map(|new| standing(&survey, account, new)).collect();
    let (proof, reply, control) = match (of_new, lines.first()) {
        (Some(Probe::Accepted), _) => (Proof::Refused, refused, format!("PK_OK for the new key as {account}")),
        (Some(Probe::Refused), Some(first)) if lines.iter().all(|line| line.from) => (
            Proof::ReadBack,
            format!("none of the files that sshd reads for {account} has {}", old.0),
            format!("the new key stands in {}; its options keep us out", place(first)),
        ),
        _ => return Ok(Look::unproven("sshd refuses it, but does not take the new key either")),
    };
    let what = match sessions(link, &survey, account, &old).await? {
        (true, _) => Some(format!("a session in {account} that the old key has opened goes on")),
        (false, 0) => None,
        (false, many) => Some(untold(many, account)),
    };
    let residual = what.map(|what| Residual { what, until: None });
    Ok(Look { verdict: Verdict::Shut { proof, reply }, control: Some(control), residual })
}
