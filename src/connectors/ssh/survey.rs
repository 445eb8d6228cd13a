//! What a host says of itself, read line by line from what `script/survey.sh` prints.

use super::baseline::Baseline;
use super::keys;
use super::watched::{SudoRule, Watched};
use crate::model::Fingerprint;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// An account as passwd(5) has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unix {
    pub uid: u32,
    pub gid: u32,
    /// The comment field, mostly a full name.
    pub gecos: String,
    pub home: String,
    pub shell: String,
    /// Whether it stands in the host's own /etc/passwd.
    pub local: bool,
}

/// What shadow(5) says of an account; never its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Days since 1970 on which the account expires.
    pub expires: Option<i64>,
    /// `set`, `locked`, `none` or `empty`.
    pub password: String,
}

/// A line of group(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// A file that sshd reads for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    pub account: String,
    pub path: String,
    /// Whether it is a symbolic link.
    pub link: bool,
}

/// A key that stands in one line of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Index into [`Survey::files`].
    pub file: u32,
    pub line: u32,
    pub fingerprint: Fingerprint,
    pub authority: bool,
    /// Whether options say from where alone it is taken.
    pub from: bool,
    /// What stands before the key, cut short; empty mostly.
    pub options: Box<str>,
}

/// A sshd that root runs for somebody who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub pid: u32,
    pub account: String,
}

/// Which key opened a session, by sshd's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub fingerprint: Fingerprint,
    pub account: String,
    pub from: String,
}

/// A crontab, an at job, or lingering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub account: String,
    /// `cron`, `at` or `linger`.
    pub kind: String,
    pub what: String,
}

/// A job of an account that is not the leaver's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OthersJob {
    pub account: String,
    /// `cron`, `at` or `linger`.
    pub kind: String,
    pub path: String,
    /// Lines of the file with their numbers; not all of them.
    pub lines: Vec<(u32, String)>,
}

/// A process that has outlived the session that started it, and belongs to no service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub uid: u32,
    pub pid: u32,
    /// Seconds since 1970.
    pub started: i64,
    pub name: String,
}

/// Everything that one call told.
#[derive(Default)]
pub struct Survey {
    /// Accounts whose keys are kept with their type and base64, so that they can be revoked and probed.
    pub keep_of: BTreeSet<String>,
    /// Keys that are kept so wherever they stand.
    pub keep: HashSet<Fingerprint>,
    /// Keys that were not there at first are kept so too.
    pub keep_new: Option<Baseline>,

    pub info: Vec<(String, String)>,
    /// `sshd -T`, the settings that matter here.
    pub config: BTreeMap<String, String>,
    /// What `sshd -T` complains of.
    pub config_error: Option<String>,
    pub accounts: BTreeMap<String, Unix>,
    pub shadow: HashMap<String, Shadow>,
    pub groups: Vec<Group>,
    pub files: Vec<KeyFile>,
    pub standing: Vec<Standing>,
    /// Type and base64 of the keys that are kept.
    pub blobs: HashMap<Fingerprint, (String, String)>,
    /// Some keys of each account that stand there without options: sshd takes them from anywhere.
    pub plain: HashMap<String, Vec<String>>,
    /// Things that stand where a key file could: a FIFO, a directory; with their accounts.
    pub odd: Vec<(String, String)>,
    /// Files that cannot be read, or have lines that are too long, and why.
    pub unread: Vec<(KeyFile, String)>,
    pub sessions: Vec<Session>,
    /// Processes by user id: how many, and what some are called.
    pub processes: HashMap<u32, (u32, String)>,
    pub jobs: Vec<Job>,
    /// The lines of crontabs by account.
    pub crontabs: HashMap<String, Vec<String>>,
    /// Jobs of accounts of others, where they were asked for.
    pub others: Vec<OthersJob>,
    pub orphans: Vec<Orphan>,
    /// Groups that are called as an account that was asked for, with their numbers.
    pub namesakes: HashMap<String, u32>,
    /// The files that hold shared secrets, where they were asked for.
    pub watched: Watched,
    /// Groups that grant nothing by themselves, where files are watched.
    pub other_groups: Vec<Group>,
    /// What sudo lets whom do, where files are watched.
    pub sudo: Vec<SudoRule>,
    /// Files of sudo's and cron's that name an account.
    pub mentions: Vec<(String, String)>,
    pub traces: HashMap<u32, Trace>,
    /// Answers to steps: how it went and a sentence.
    pub answers: HashMap<usize, (String, String)>,
    /// The parts that the host finished saying.
    pub done: BTreeSet<String>,
}

/// More are not needed to find one of somebody else's.
const MOST_PLAIN: usize = 8;

impl Survey {
    /// Takes in one line.
    pub fn line(&mut self, line: &[u8]) {
        if let Some(rest) = line.strip_prefix(b"K\t") {
            return self.key(rest);
        }
        let text = String::from_utf8_lossy(line);
        if self.watched.listing && !text.starts_with("Z\t") {
            return self.watched.line(&text);
        }
        let (tag, rest) = text.split_once('\t').unwrap_or((&text, ""));
        match tag {
            "A" => self.account(rest),
            "B" => {
                if let [account, kind, path] = rest.splitn(3, '\t').collect::<Vec<_>>()[..] {
                    let (account, kind, path) = (account.into(), kind.into(), path.into());
                    self.others.push(OthersJob { account, kind, path, lines: Vec::new() });
                }
            }
            "b" => {
                if let Some(job) = self.others.last_mut()
                    && let Some((number, text)) = rest.split_once('\t')
                    && let Ok(number) = number.parse()
                {
                    job.lines.push((number, text.into()));
                }
            }
            "C" => self.config(rest),
            "D" => {
                if let [who, run_as, file] = rest.splitn(3, '\t').collect::<Vec<_>>()[..] {
                    self.sudo.push(SudoRule { who: who.into(), run_as: run_as.into(), file: file.into() });
                }
            }
            "F" => self.file(rest),
            "G" => self.groups.extend(group(rest)),
            "H" => self.shadow(rest),
            "I" => {
                let (key, value) = rest.split_once('\t').unwrap_or((rest, ""));
                self.info.push((key.into(), value.into()));
            }
            "J" => {
                if let [account, kind, what] = fields(rest)[..] {
                    self.jobs.push(Job { account: account.into(), kind: kind.into(), what: what.into() });
                }
            }
            "j" => {
                if let Some(job) = self.jobs.last() {
                    self.crontabs.entry(job.account.clone()).or_default().push(rest.into());
                }
            }
            "L" | "U" => {
                let why = if tag == "U" { rest.to_string() } else { long_line(rest) };
                if let Some(file) = self.files.last() {
                    self.unread.push((file.clone(), why));
                }
            }
            "M" => {
                if let Some((account, file)) = rest.split_once('\t') {
                    self.mentions.push((account.into(), file.into()));
                }
            }
            "N" => {
                if let [uid, many, names] = fields(rest)[..]
                    && let (Ok(uid), Ok(many)) = (uid.parse(), many.parse())
                {
                    self.processes.insert(uid, (many, names.into()));
                }
            }
            "O" => {
                if let [uid, pid, started, name] = rest.splitn(4, '\t').collect::<Vec<_>>()[..]
                    && let (Ok(uid), Ok(pid), Ok(started)) = (uid.parse(), pid.parse(), started.parse())
                {
                    self.orphans.push(Orphan { uid, pid, started, name: name.into() });
                }
            }
            "R" => self.answer(rest),
            "S" => self.session(rest),
            "T" => self.trace(rest),
            "V" => self.other_groups.extend(group(rest)),
            "X" => {
                if let Some((account, path)) = rest.split_once('\t') {
                    self.odd.push((account.into(), path.into()));
                }
            }
            "Y" => {
                if let Some((name, gid)) = rest.split_once('\t')
                    && let Ok(gid) = gid.parse()
                {
                    self.namesakes.insert(name.into(), gid);
                }
            }
            "w" => match rest.split_once('\t') {
                Some((file, real)) => self.watched.files.push((file.into(), real.into())),
                None => self.watched.listing = true,
            },
            "Z" => {
                self.watched.listing = false;
                self.done.insert(rest.into());
            }
            _ => {}
        }
    }

    fn account(&mut self, rest: &str) {
        let Some((local, line)) = rest.split_once('\t') else { return };
        let f: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, gecos, home, shell] = f[..] else { return };
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { return };
        let unix = Unix {
            uid,
            gid,
            gecos: gecos.into(),
            home: home.into(),
            shell: shell.into(),
            local: local == "1",
        };
        self.accounts.insert(name.into(), unix);
    }

    fn config(&mut self, rest: &str) {
        let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
        if key == "error" {
            self.config_error.get_or_insert_with(|| value.into());
        } else {
            self.config.insert(key.into(), value.into());
        }
    }

    fn file(&mut self, rest: &str) {
        let mut f = rest.splitn(3, '\t');
        if let (Some(account), Some(link), Some(path)) = (f.next(), f.next(), f.next()) {
            self.files.push(KeyFile { account: account.into(), path: path.into(), link: link == "link" });
        }
    }

    fn key(&mut self, rest: &[u8]) {
        let Some(tab) = rest.iter().position(|b| *b == b'\t') else { return };
        let number = std::str::from_utf8(&rest[..tab]).ok().and_then(|n| n.parse().ok());
        let (Some(line), Some(key), Some(file)) = (number, keys::parse(&rest[tab + 1..]), self.files.last()) else {
            return;
        };
        let is_new = || self.keep_new.as_ref().is_some_and(|seen| !seen.has(&file.account, &key.fingerprint));
        if (self.keep_of.contains(&file.account) || self.keep.contains(&key.fingerprint) || is_new())
            && !self.blobs.contains_key(&key.fingerprint)
        {
            let blob = (key.algorithm.to_string(), key.base64.clone().into_owned());
            self.blobs.insert(key.fingerprint.clone(), blob);
        }
        let plain = self.plain.entry(file.account.clone()).or_default();
        if key.options.is_empty() && plain.len() < MOST_PLAIN {
            plain.push(format!("{} {}", key.algorithm, key.base64));
        }
        let options = String::from_utf8_lossy(&key.options[..key.options.len().min(200)]).into();
        self.standing.push(Standing {
            file: (self.files.len() - 1) as u32,
            line,
            authority: key.authority,
            from: key.from,
            options,
            fingerprint: key.fingerprint,
        });
    }

    fn shadow(&mut self, rest: &str) {
        if let [name, expires, password] = fields(rest)[..] {
            let shadow = Shadow { expires: expires.parse().ok(), password: password.into() };
            self.shadow.insert(name.into(), shadow);
        }
    }

    fn session(&mut self, rest: &str) {
        let [pid, _, title] = fields(rest)[..] else { return };
        let title = title.split('\0').next().unwrap_or_default();
        let Some((_, who)) = title.split_once(": ") else { return };
        // `jane [priv]` for root's half of a session, `root@pts/0` where there is no other half.
        let account = who.strip_suffix(" [priv]").or_else(|| who.split_once('@').map(|(name, _)| name));
        if let (Ok(pid), Some(account)) = (pid.parse(), account) {
            self.sessions.push(Session { pid, account: account.into() });
        }
    }

    fn trace(&mut self, rest: &str) {
        if let [pid, fingerprint, account, from, _port] = fields(rest)[..]
            && let Ok(pid) = pid.parse()
        {
            let fingerprint = Fingerprint(fingerprint.into());
            self.traces.insert(pid, Trace { fingerprint, account: account.into(), from: from.into() });
        }
    }

    fn answer(&mut self, rest: &str) {
        let mut f = rest.splitn(3, '\t');
        if let (Some(step), Some(how), text) = (f.next().and_then(|s| s.parse().ok()), f.next(), f.next()) {
            self.answers.insert(step, (how.into(), text.unwrap_or_default().into()));
        }
    }

    /// Whether the host finished saying `part`: a listing that was cut off proves nothing.
    pub fn has(&self, part: &str) -> bool {
        self.done.contains(part)
    }

    /// The first value that the host gave for `key`.
    pub fn said(&self, key: &str) -> Option<&str> {
        self.info.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The file that a key stands in.
    pub fn file_of(&self, standing: &Standing) -> &KeyFile {
        &self.files[standing.file as usize]
    }

    /// Whether the account of that name cannot log in any more: expired, which sshd and PAM both heed.
    pub fn is_expired(&self, name: &str) -> bool {
        let today: i64 = self.said("today").and_then(|t| t.parse().ok()).unwrap_or(0);
        self.shadow.get(name).and_then(|s| s.expires).is_some_and(|day| day > 0 && day < today)
    }

    /// Groups that grant something, of which the account is a member; with whether it is its primary group.
    pub fn groups_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Group, bool)> {
        let gid = self.accounts.get(name).map(|a| a.gid);
        self.groups.iter().filter_map(move |group| {
            let primary = gid == Some(group.gid);
            (primary || group.members.iter().any(|m| m == name)).then_some((group, primary))
        })
    }
}

/// A line of group(5).
fn group(rest: &str) -> Option<Group> {
    let [name, _, gid, members] = rest.split(':').collect::<Vec<_>>()[..] else { return None };
    let members = members.split(',').filter(|m| !m.is_empty()).map(Into::into).collect();
    Some(Group { name: name.into(), gid: gid.parse().ok()?, members })
}

fn fields(rest: &str) -> Vec<&str> {
    rest.split('\t').collect()
}

fn long_line(rest: &str) -> String {
    let (line, length) = rest.split_once('\t').unwrap_or((rest, "many"));
    format!("line {line} has {length} bytes and was not read")
}
