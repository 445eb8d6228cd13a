//! From what a host says to accounts, doors and findings. Pure: the host has been asked before.

use super::baseline::Baseline;
use super::settings::is_plain;
use super::survey::{Standing, Survey, Unix};
use crate::connector::{Scope, Wanted};
use crate::model::{
    Account, CouldRead, Door, DoorKind, Finding, FindingKind, Fingerprint, Identity, MatchRule, Owner, PersonId, Place,
};
use crate::wire::shell::printable;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The most keys of one account that become doors in one round; the next round finds the rest.
pub(super) const MOST_KEYS: usize = 500;

/// Who is looked for, in the terms of a host.
pub(super) struct Sought {
    /// Accounts of their own: by user name, or mapped in offboard.yaml.
    pub own: BTreeMap<String, Vec<PersonId>>,
    /// Keys known to be theirs.
    pub keys: BTreeMap<Fingerprint, Vec<(PersonId, MatchRule)>>,
    /// Their user names and full names.
    pub(super) names: Vec<(String, String)>,
    /// Whether everything is wanted.
    pub(super) everything: bool,
}

impl Sought {
    /// `ourselves` is the account that we log in to: nobody's own.
    pub(super) fn new(scope: &Scope, place: &Place, ourselves: &str) -> Self {
        let mut sought = Self { own: BTreeMap::new(), keys: BTreeMap::new(), names: Vec::new(), everything: false };
        let Scope::People(people) = scope else { return Self { everything: true, ..sought } };
        for wanted in people {
            if let Some(user) = &wanted.person.user_name {
                sought.names.push((user.clone(), wanted.person.name.clone()));
            }
            for name in names_of(wanted, place) {
                if name != ourselves && is_plain(&name) {
                    let people = sought.own.entry(name).or_default();
                    if !people.contains(&wanted.person.id) {
                        people.push(wanted.person.id.clone());
                    }
                }
            }
            for key in &wanted.keys {
                let declared = wanted.person.keys.contains(key);
                let rule = if declared { MatchRule::DeclaredKey } else { MatchRule::KeyInOwnAccount };
                sought.keys.entry(key.clone()).or_default().push((wanted.person.id.clone(), rule));
            }
        }
        sought
    }
}

/// Whether a login with this shell gets a command line: none of those that only say no.
pub(super) fn is_login_shell(shell: &str) -> bool {
    let name = shell.rsplit('/').next().unwrap_or_default();
    !matches!(name, "nologin" | "false" | "true" | "sync" | "shutdown" | "halt" | "reboot")
}

fn names_of(wanted: &Wanted, place: &Place) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        wanted.accounts.iter().filter(|(system, _)| *system == place.system).map(|(_, name)| name.clone()).collect();
    if let Some(name) = &wanted.person.user_name {
        names.insert(name.clone());
        names.insert(name.to_lowercase());
    }
    names
}

/// Everything that one discovery found.
pub(super) struct Found {
    pub accounts: Vec<Account>,
    pub findings: Vec<Finding>,
    pub could_read: Vec<CouldRead>,
}

/// What discovery is made from.
pub(super) struct Discovery<'a> {
    pub place: &'a Place,
    pub ourselves: &'a str,
    pub own_key: &'a Fingerprint,
    pub sought: &'a Sought,
    pub survey: &'a Survey,
    pub baseline: &'a Baseline,
    /// Files that hold shared secrets.
    pub watching: &'a [String],
    /// Keys that a rotation of this run has set.
    pub set_by_us: &'a [Fingerprint],
}

/// Brings `baseline` up to date with who can write where, before [`Discovery::found`] asks it. Whoever has root here could write anywhere; yet
/// a key that appears in a colleague's account is more likely a newcomer's than theirs, so there it is a finding and is left alone.
pub(super) fn note_writers(sought: &Sought, survey: &Survey, baseline: &mut Baseline) {
    let known = sought.keys.keys().filter(|key| baseline.knows(key));
    let stood: Vec<(Fingerprint, String)> = known
        .flat_map(|key| survey.accounts.keys().map(move |account| (key, account)))
        .filter(|(key, account)| baseline.has(account, key))
        .map(|(key, account)| (key.clone(), account.clone()))
        .collect();
    for (name, people) in &sought.own {
        for person in people.iter().filter(|_| survey.accounts.contains_key(name)) {
            baseline.may_write(person, name);
            if super::held::is_root(survey, name) {
                baseline.was_root(person);
            }
        }
    }
    let mut note = |key: &Fingerprint, account: &str| {
        for (person, _) in sought.keys.get(key).into_iter().flatten() {
            baseline.may_write(person, account);
            if !sought.own.contains_key(account) {
                baseline.holds(person, account);
            }
            if survey.accounts.get(account).is_some_and(|unix| unix.uid == 0) {
                baseline.was_root(person);
            }
        }
    };
    for standing in &survey.standing {
        note(&standing.fingerprint, &survey.file_of(standing).account);
    }
    // A key that was learned here is taken out of every account at once; it is known to be the leaver's only from the next look on, and by
    // then it stands nowhere. Whoever came in with it may still be there.
    for (key, account) in stood {
        note(&key, &account);
    }
}

impl Discovery<'_> {
    /// Accounts in scope with their doors, and what people should look at.
    pub(super) fn found(&self) -> Found {
        let mut found = Found { accounts: Vec::new(), findings: self.findings(), could_read: Vec::new() };
        let mut by_account: BTreeMap<&str, Vec<&Standing>> = BTreeMap::new();
        for standing in &self.survey.standing {
            by_account.entry(&self.survey.file_of(standing).account).or_default().push(standing);
        }
        // A key in an account of the leaver's own is looked for everywhere on this host at once.
        let learned: HashSet<&Fingerprint> = self
            .sought
            .own
            .keys()
            .flat_map(|name| by_account.get(name.as_str()).into_iter().flatten())
            .map(|standing| &standing.fingerprint)
            .collect();
        let only_in = self.only_in();
        let mut lone = Vec::new();
        for (name, unix) in &self.survey.accounts {
            let standing = by_account.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let own = self.sought.own.contains_key(name);
            let mut doors = Vec::new();
            if own || self.sought.everything {
                doors.extend(self.account_doors(name, unix));
            }
            let wanted = |key: &Fingerprint| {
                own || self.sought.everything || self.sought.keys.contains_key(key) || learned.contains(key)
            };
            doors.extend(self.key_doors(name, standing, &wanted, &mut found.findings));
            if self.baseline.is_held(name) {
                let alone = |key: &&Fingerprint| only_in.get(key) == Some(&Some(name.as_str()));
                let keys = standing.iter().map(|s| &s.fingerprint).filter(|key| !wanted(key) && *key != self.own_key);
                lone.extend(keys.filter(alone).filter(|key| self.baseline.has(name, key)).map(|key| (name.as_str(), key)));
            }
            if !own && !self.sought.everything {
                doors.extend(self.foreign_sessions(name, &mut found.findings));
            }
            if own && !unix.local {
                found.findings.push(self.finding(
                    FindingKind::NotCovered,
                    Some(name),
                    format!("{name} comes from a name service; this host has nothing to disable"),
                    "the directory's own disable step shuts the account; its keys and sessions here are ended here",
                ));
            }
            if own || self.sought.everything || !doors.is_empty() {
                found.accounts.push(self.account(name, unix, doors));
            }
        }
        lone.sort_unstable();
        lone.dedup();
        self.lone_keys(&lone, &mut found.findings);
        self.held_jobs(&learned, &mut found.findings);
        self.held_processes(&mut found.findings);
        self.other_names(&mut found.findings);
        self.root_was_theirs(&mut found.findings);
        found.could_read = self.could_read(&found.accounts, &mut found.findings);
        found
    }

    /// By key the one account that it stands in; none if there are more.
    fn only_in(&self) -> HashMap<&Fingerprint, Option<&str>> {
        let mut only_in: HashMap<&Fingerprint, Option<&str>> = HashMap::new();
        for standing in &self.survey.standing {
            let account = self.survey.file_of(standing).account.as_str();
            let seen = only_in.entry(&standing.fingerprint).or_insert(Some(account));
            if *seen != Some(account) {
                *seen = None;
            }
        }
        only_in
    }

    fn account(&self, name: &str, unix: &Unix, doors: Vec<Door>) -> Account {
        let shadow = self.survey.shadow.get(name);
        let groups: Vec<&str> =
            self.survey.groups_of(name).filter(|(_, primary)| !primary).map(|(g, _)| g.name.as_str()).collect();
        let privileged = unix.uid == 0
            || self.survey.groups_of(name).next().is_some()
            || self.survey.mentions.iter().any(|(who, file)| who == name && file.contains("sudoers"));
        let jobs: Vec<String> =
            self.survey.jobs.iter().filter(|j| j.account == name).map(|j| format!("{}: {}", j.kind, j.what)).collect();
        Account {
            system: self.place.system.clone(),
            place: self.place.id.clone(),
            native_id: name.to_string(),
            name: name.to_string(),
            enabled: !self.survey.is_expired(name),
            identity: Identity { user_name: Some(name.to_string()), ..Identity::default() },
            owner: if name == self.ourselves { Owner::Ourselves } else { Owner::Nobody },
            privileged,
            last_used: None,
            doors,
            facts: json!({
                "uid": unix.uid,
                "home": unix.home,
                "shell": unix.shell,
                "local": unix.local,
                "expires": shadow.and_then(|s| s.expires),
                "password": shadow.map(|s| s.password.as_str()),
                "groups": groups,
                "jobs": jobs,
                "crontab": self.survey.crontabs.get(name).map(|lines| lines.join("\n")),
            }),
        }
    }

    /// The doors of a whole account: its state, sessions, jobs, memberships.
    fn account_doors(&self, name: &str, unix: &Unix) -> Vec<Door> {
        let door = |kind, object: &str, detail: String| Door::new(&self.place.id, name, kind, object, detail);
        let mut doors = Vec::new();
        if unix.local {
            doors.push(door(DoorKind::Login, "", super::look::login_words(self.survey, name)));
        }
        let sessions = self.survey.sessions.iter().filter(|s| s.account == name).count();
        let (processes, names) = self.survey.processes.get(&unix.uid).cloned().unwrap_or_default();
        doors.push(door(
            DoorKind::Session,
            "",
            match processes {
                0 if sessions == 0 => "none at the time".to_string(),
                _ => format!("{sessions} ssh sessions, {processes} processes: {}", printable(&names, 120)),
            },
        ));
        let jobs: Vec<String> = self
            .survey
            .jobs
            .iter()
            .filter(|j| j.account == name)
            .map(|j| format!("{}: {}", j.kind, printable(&j.what, 120)))
            .collect();
        if !jobs.is_empty() {
            doors.push(door(DoorKind::Job, "", jobs.join("; ")));
        }
        for (group, primary) in self.survey.groups_of(name) {
            let detail = if primary { "its primary group" } else { "member" };
            doors.push(door(DoorKind::Membership, &group.name, detail.to_string()));
        }
        doors
    }

    /// A door for each wanted key, and for each that appeared where somebody in scope could have put it.
    fn key_doors(
        &self,
        name: &str,
        standing: &[&Standing],
        wanted: &dyn Fn(&Fingerprint) -> bool,
        findings: &mut Vec<Finding>,
    ) -> Vec<Door> {
        let mut by_key: BTreeMap<&Fingerprint, Vec<&Standing>> = BTreeMap::new();
        for line in standing {
            by_key.entry(&line.fingerprint).or_default().push(line);
        }
        let mut doors = Vec::new();
        let mut beyond = 0;
        for (key, lines) in by_key {
            let authority = lines.iter().any(|l| l.authority);
            let first = self.survey.file_of(lines[0]);
            if authority {
                findings.push(self.finding(
                    FindingKind::Suspicious,
                    Some(name),
                    format!(
                        "{} line {} of {name} trusts a certificate authority, {key}",
                        printable(&first.path, 200),
                        lines[0].line
                    ),
                    "whoever holds that authority's key can log in as any principal it writes into a certificate: is it yours?",
                ));
            }
            if key == self.own_key {
                if self.sought.keys.contains_key(key) {
                    findings.push(self.finding(
                        FindingKind::Protected,
                        Some(name),
                        format!("{key} is offboard's own key, and is left in {}", printable(&first.path, 200)),
                        "if the leaver knows it too, give offboard another key and run again",
                    ));
                }
                continue;
            }
            let appeared = !self.baseline.has(name, key) && !self.set_by_us.contains(key);
            let planter = if appeared { self.planter(name, key, findings) } else { None };
            if !wanted(key) && planter.is_none() {
                continue;
            }
            if doors.len() >= MOST_KEYS {
                beyond += 1;
                continue;
            }
            let mut detail = self.where_it_stands(&lines, authority);
            if planter.is_some() {
                detail = format!("appeared during the run; {detail}");
            }
            if let Some((algorithm, base64)) = self.survey.blobs.get(key) {
                detail = format!("{detail}; {algorithm} {base64}");
            }
            let mut door = Door::new(&self.place.id, name, DoorKind::SshKey, &key.0, detail);
            if let Some(person) = planter
                && !wanted(key)
            {
                door.holder = Owner::Person { id: person, rule: MatchRule::PlantedDuringRun };
            }
            doors.push(door);
        }
        if beyond > 0 {
            findings.push(self.finding(
                FindingKind::Suspicious,
                Some(name),
                format!("{name} has {} keys", MOST_KEYS + beyond),
                "only so many are taken in one round; the rest are found in the next",
            ));
        }
        doors
    }

    /// Who put a key there that was not there at first, if exactly one person in scope could have.
    fn planter(&self, name: &str, key: &Fingerprint, findings: &mut Vec<Finding>) -> Option<PersonId> {
        let writers: Vec<&PersonId> = self.baseline.writers(name).collect();
        // A key that others already had here opens nothing to the leaver.
        let known = self.baseline.knows(key) && !self.sought.keys.contains_key(key);
        // Nor does one that also stands where they could not have put it: a newcomer's key is added to several accounts at once.
        let elsewhere = |person: &PersonId| {
            self.survey.standing.iter().any(|line| {
                let account = &self.survey.file_of(line).account;
                line.fingerprint == *key && !self.baseline.writers(account).any(|writer| writer == person)
            })
        };
        if let [one] = writers[..]
            && !known
            && !elsewhere(one)
        {
            return Some(one.clone());
        }
        findings.push(self.finding(
            FindingKind::Suspicious,
            Some(name),
            format!("{key} appeared in {name} during the run"),
            if writers.len() > 1 {
                "more than one of the people in scope could have put it there: find out whose it is"
            } else {
                "nobody in scope could write there, or the key also stands where they could not: find out who put it there"
            },
        ));
        None
    }

    fn where_it_stands(&self, lines: &[&Standing], authority: bool) -> String {
        let mut places: Vec<String> = lines
            .iter()
            .take(5)
            .map(|line| {
                let file = self.survey.file_of(line);
                let mut place = format!("{} line {}", printable(&file.path, 200), line.line);
                if file.link {
                    place.push_str(" (a symbolic link)");
                }
                if !line.options.is_empty() {
                    place.push_str(&format!(", options {}", printable(&line.options, 200)));
                }
                place
            })
            .collect();
        if lines.len() > 5 {
            places.push(format!("and {} more lines", lines.len() - 5));
        }
        let prefix = if authority { super::look::AUTHORITY } else { "" };
        format!("{prefix}{}", places.join("; "))
    }

    /// Sessions in somebody else's account that a leaver's key opened; and those of which nobody can tell.
    fn foreign_sessions(&self, name: &str, findings: &mut Vec<Finding>) -> Option<Door> {
        if !self.baseline.is_held(name) {
            return None;
        }
        let ours: Option<u32> = self.survey.said("self").and_then(|pid| pid.parse().ok());
        let mut keys = BTreeSet::new();
        let mut holders: BTreeMap<PersonId, MatchRule> = BTreeMap::new();
        let mut from = BTreeSet::new();
        let mut untold = Vec::new();
        for session in self.survey.sessions.iter().filter(|s| s.account == name && Some(s.pid) != ours) {
            match self.survey.traces.get(&session.pid).filter(|t| t.account == name) {
                None => untold.push(session.pid),
                Some(trace) => {
                    if let Some(people) = self.sought.keys.get(&trace.fingerprint) {
                        keys.insert(trace.fingerprint.0.clone());
                        from.insert(printable(&trace.from, 60));
                        holders.extend(people.iter().cloned());
                    }
                }
            }
        }
        if !untold.is_empty() {
            findings.push(self.finding(
                FindingKind::NotCovered,
                Some(name),
                format!(
                    "sshd's log does not say which key opened {} sessions of {name} (pid {untold:?})",
                    untold.len()
                ),
                "end them by hand if they may be the leaver's; sshd tells from LogLevel INFO on, in a log that is kept",
            ));
            // The leaver's keys here are what such a session may have been opened with.
            for standing in &self.survey.standing {
                if self.survey.file_of(standing).account == name
                    && let Some(people) = self.sought.keys.get(&standing.fingerprint)
                {
                    keys.insert(standing.fingerprint.0.clone());
                    holders.extend(people.iter().cloned());
                }
            }
        }
        if keys.is_empty() {
            return None;
        }
        let mut detail = String::new();
        if !from.is_empty() {
            detail = format!("from {}; ", from.into_iter().collect::<Vec<_>>().join(", "));
        }
        if !untold.is_empty() {
            detail.push_str(&format!("{} sessions that cannot be told; ", untold.len()));
        }
        detail.push_str(&format!("opened with {}", keys.into_iter().collect::<Vec<_>>().join(" ")));
        let mut door = Door::new(&self.place.id, name, DoorKind::Session, "", detail);
        if holders.len() == 1
            && let Some((id, rule)) = holders.pop_first()
        {
            door.holder = Owner::Person { id, rule };
        }
        Some(door)
    }

    pub(super) fn finding(&self, kind: FindingKind, account: Option<&str>, what: String, hint: &str) -> Finding {
        Finding {
            kind,
            place: Some(self.place.id.clone()),
            account: account.map(Into::into),
            what,
            hint: hint.to_string(),
        }
    }

    /// What has nothing to do with one key.
    fn findings(&self) -> Vec<Finding> {
        let survey = self.survey;
        let mut findings = super::check::config_findings(self.place, survey);
        for (account, path) in &survey.odd {
            findings.push(self.finding(
                FindingKind::Suspicious,
                Some(account),
                format!("{} is no regular file; sshd does not read it, and neither do we", printable(path, 200)),
                "see what it is, and who made it",
            ));
        }
        for (file, why) in &survey.unread {
            findings.push(self.finding(
                FindingKind::Unknown,
                Some(&file.account),
                format!("{}: {}", printable(&file.path, 200), printable(why, 200)),
                "look for the leaver's keys in it by hand",
            ));
        }
        for (account, file) in &survey.mentions {
            findings.push(self.finding(
                FindingKind::NotCovered,
                Some(account),
                format!("{} names {account}", printable(file, 200)),
                "take the leaver out of it; the disabled account cannot use it meanwhile",
            ));
        }
        findings
    }
}
