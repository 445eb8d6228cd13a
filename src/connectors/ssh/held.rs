//! What a leaver may have left behind in accounts of others that their key opened, and on hosts where they were root. Nothing of it is
//! provably theirs, so all of it is told and none of it is touched.

use super::discover::Discovery;
use super::survey::{OthersJob, Survey};
use crate::model::{Finding, FindingKind, Fingerprint};
use crate::wire::shell::printable;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// Words of a job that opens accounts.
const OPENERS: [&str; 5] = ["authorized_keys", "usermod", "useradd", "chpasswd", "passwd"];

/// Groups of note whose members see more than others, but do not become root by it.
const NOT_ROOT: [&str; 2] = ["adm", "shadow"];

/// The most findings of one sort about one account or host; the last says how many more there are.
const MOST: usize = 10;

/// The most keys that one finding names.
const MOST_KEYS: usize = 50;

/// Whether the account is root, or may become it.
pub(super) fn is_root(survey: &Survey, name: &str) -> bool {
    survey.accounts.get(name).is_some_and(|unix| unix.uid == 0)
        || survey.groups_of(name).any(|(group, _)| !NOT_ROOT.contains(&group.name.as_str()))
        || survey.mentions.iter().any(|(who, file)| who == name && file.contains("sudoers"))
}

impl Discovery<'_> {
    /// Accounts of others in which a key of the leaver's stands or stood.
    fn held(&self) -> impl Iterator<Item = &str> {
        self.baseline.held().into_iter().filter(|name| !self.sought.own.contains_key(*name))
    }

    /// Jobs there: what may let the leaver back in makes the run unproven; the others are to be looked at.
    pub(super) fn held_jobs(&self, learned: &HashSet<&Fingerprint>, findings: &mut Vec<Finding>) {
        let theirs = |key: &Fingerprint| self.sought.keys.contains_key(key) || learned.contains(key);
        if self.held().next().is_some() && !self.survey.has("others") {
            findings.push(self.finding(
                FindingKind::Unknown,
                None,
                format!("the jobs of {} could not be read", self.held().collect::<Vec<_>>().join(", ")),
                "look with crontab -l -u and atq whether one of them lets the leaver back in",
            ));
        }
        for name in self.held() {
            let mut opening = Vec::new();
            let mut others = Vec::new();
            for job in self.survey.others.iter().filter(|job| job.account == name) {
                let path = printable(&job.path, 200);
                let place = match job.kind.as_str() {
                    "at" => format!("{path}, queue {}", printable(&queue(job), 1)),
                    _ => path,
                };
                let mut quiet = job.kind != "cron";
                for (line, text) in &job.lines {
                    match opener(text, &theirs) {
                        Some(why) => {
                            opening.push(format!("{why} ({place}, line {line}{})", shown(text)));
                            quiet = false;
                        }
                        None if job.kind == "cron" && !is_setting(text) => {
                            others.push(format!("{place} line {line} ({})", command(text)));
                        }
                        None => {}
                    }
                }
                if quiet {
                    others.push(if job.kind == "linger" { format!("{place} (services of its own)") } else { place });
                }
            }
            let beyond = opening.len().saturating_sub(MOST);
            for (index, job) in opening.into_iter().take(MOST).enumerate() {
                let more = if beyond > 0 && index + 1 == MOST { format!("; and {beyond} more") } else { String::new() };
                findings.push(self.finding(
                    FindingKind::Unknown,
                    Some(name),
                    format!("a job of {name} may let the leaver back in: {job}{more}"),
                    "look at it, take it out by hand if nobody else needs it, then offboard resume",
                ));
            }
            if !others.is_empty() {
                findings.push(self.finding(
                    FindingKind::Suspicious,
                    Some(name),
                    format!("{name} has {} jobs; the leaver could have written them: {}", others.len(), few(&others)),
                    "ask those who share the account whose they are",
                ));
            }
        }
    }

    /// Processes there that no session, job or service has any more.
    pub(super) fn held_processes(&self, findings: &mut Vec<Finding>) {
        for name in self.held() {
            let Some(unix) = self.survey.accounts.get(name) else { continue };
            let mut orphans: Vec<_> = self.survey.orphans.iter().filter(|o| o.uid == unix.uid).collect();
            orphans.sort_unstable_by_key(|o| o.pid);
            let told: Vec<String> = orphans
                .iter()
                .map(|o| {
                    let started = jiff::Timestamp::from_second(o.started)
                        .map_or_else(|_| "unknown".into(), |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string());
                    format!("pid {} {} since {started}", o.pid, printable(&o.name, 40))
                })
                .collect();
            if !told.is_empty() {
                findings.push(self.finding(
                    FindingKind::Suspicious,
                    Some(name),
                    format!(
                        "{} processes of {name} have outlived the session that started them; the leaver could have: {}",
                        told.len(),
                        few(&told)
                    ),
                    "see what they do; end those that nobody else needs, and look at the account's keys again",
                ));
            }
        }
    }

    /// Accounts that look like the leaver's under another name. Full names are often shared, so those are told in one sentence.
    pub(super) fn other_names(&self, findings: &mut Vec<Finding>) {
        let hint = "find out whose it is; if it is the leaver's, map it under accounts in offboard.yaml and resume the run";
        let mut like = Vec::new();
        let mut homonyms = Vec::new();
        for (name, unix) in &self.survey.accounts {
            if self.sought.own.contains_key(name) || name == self.ourselves {
                continue;
            }
            let gecos = unix.gecos.split(',').next().unwrap_or_default().trim().to_lowercase();
            for (user, full) in &self.sought.names {
                if unix.home == format!("/home/{user}") {
                    like.push((name, format!("its home is {}", printable(&unix.home, 200))));
                } else if self.survey.namesakes.get(user) == Some(&unix.gid) {
                    like.push((name, format!("its primary group is {user}")));
                } else if !gecos.is_empty() && gecos == user.to_lowercase() {
                    like.push((name, format!("passwd calls it {}", printable(&unix.gecos, 80))));
                } else if !gecos.is_empty() && gecos == full.trim().to_lowercase() {
                    homonyms.push(printable(name, 80));
                }
            }
        }
        let beyond = like.len().saturating_sub(MOST);
        for (index, (name, why)) in like.into_iter().take(MOST).enumerate() {
            let more = if beyond > 0 && index + 1 == MOST { format!("; and {beyond} more") } else { String::new() };
            let what =
                format!("{} may be the leaver's account under another name: {why}{more}", printable(name, 80));
            findings.push(self.finding(FindingKind::Suspicious, Some(name), what, hint));
        }
        if !homonyms.is_empty() {
            let what = format!("the leaver's full name stands in passwd for other accounts too: {}", few(&homonyms));
            findings.push(self.finding(FindingKind::Suspicious, None, what, hint));
        }
    }

    /// Keys that stand in one account alone, where the leaver could have put them; in order.
    pub(super) fn lone_keys(&self, lone: &[(&str, &Fingerprint)], findings: &mut Vec<Finding>) {
        for account in lone.chunk_by(|(one, _), (next, _)| one == next) {
            let name = account[0].0;
            let keys: Vec<&str> = account.iter().take(MOST_KEYS).map(|(_, key)| key.0.as_str()).collect();
            let more = account.len() - keys.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            findings.push(self.finding(
                FindingKind::Suspicious,
                Some(name),
                format!(
                    "{} keys in {name} stand in no other account, and the leaver could have put them there: {}{more}",
                    account.len(),
                    keys.join(" ")
                ),
                "find out whose they are; if one is the leaver's, declare it under keys-of in offboard.yaml and resume the run",
            ));
        }
    }

    /// What nobody can vouch for where the leaver was root.
    pub(super) fn root_was_theirs(&self, findings: &mut Vec<Finding>) {
        if !self.baseline.has_root() {
            return;
        }
        for (name, _) in self.survey.accounts.iter().filter(|(name, unix)| unix.uid == 0 && *name != "root").take(MOST) {
            findings.push(self.finding(
                FindingKind::Suspicious,
                Some(name),
                format!("{} has user id 0, and the leaver could have made it", printable(name, 80)),
                "find out who made it; if nobody needs it, take its lines out with vipw and vipw -s (userdel may take root's processes for its own)",
            ));
        }
        findings.push(self.finding(
            FindingKind::NotCovered,
            None,
            "the leaver was root here: the system itself (binaries, PAM, services, kernel) was not examined".into(),
            "compare it with its packages and its configuration, or set it up anew",
        ));
    }
}

/// Why a job may let somebody in, if it may.
fn opener(text: &str, theirs: &dyn Fn(&Fingerprint) -> bool) -> Option<String> {
    let key = text.match_indices("AAAA").find_map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '/').unwrap_or(rest.len());
        let blob = STANDARD_NO_PAD.decode(&rest[..end]).ok()?;
        let key = Fingerprint(format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob))));
        theirs(&key).then_some(key)
    });
    if let Some(key) = key {
        return Some(format!("it has the leaver's key {key}"));
    }
    OPENERS.iter().find(|word| has_word(text, word)).map(|word| format!("it says {word}"))
}

/// Whether `word` stands in `text`, not as the end of a longer name.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric()))
}

/// A job's text for a finding; not where it may hold a password.
fn shown(text: &str) -> String {
    if ["passwd", "usermod", "useradd"].iter().any(|word| text.contains(word)) {
        "; its text may hold a password and is not shown".into()
    } else {
        format!(": {}", printable(text, 160))
    }
}

/// A job's queue, the first letter of its file's name.
fn queue(job: &OthersJob) -> String {
    job.path.rsplit('/').next().and_then(|name| name.chars().next()).into_iter().collect()
}

/// Whether a line of a crontab sets a variable.
fn is_setting(text: &str) -> bool {
    let name = text.trim_start().split('=').next().unwrap_or_default().trim_end();
    text.contains('=') && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The program that a line of a crontab starts; its arguments may hold secrets.
fn command(text: &str) -> String {
    let fields = if text.trim_start().starts_with('@') { 1 } else { 5 };
    printable(text.split_whitespace().nth(fields).unwrap_or("?"), 60)
}

/// The first of many.
fn few(all: &[String]) -> String {
    let mut text = all.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > 5 {
        text.push_str(&format!("; and {} more", all.len() - 5));
    }
    text
}
