//! Judges the accounts of a sweep, one by one as they come, and keeps only what is found: an account that has an owner who works here
//! and uses it leaves nothing behind.

use crate::connector::{Connector, Entry, LastUse};
use crate::model::{
    Account, DoorKind, Family, Finding, Fingerprint, MatchRule, Owner, Person, PersonId, Place, PlaceId, SweepFinding,
    SweepKind, SweepPerson, SweepSeen, SweepState, SystemName, WorkerStatus,
};
use crate::playbook::{Sweep, Tag};
use crate::roster::{LearnedKeys, Matcher};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One place while it is read.
pub(super) struct Book<'a> {
    connector: &'a dyn Connector,
    family: Family,
    place: &'a Place,
    seen: SweepSeen,
    /// Accounts of people who work here, without a use on record: what that means is known when all are read.
    unused: Vec<Suspect>,
}

impl<'a> Book<'a> {
    pub(super) fn new(connector: &'a dyn Connector, place: &'a Place) -> Self {
        let family = connector.manifest().family;
        Self { connector, family, place, seen: SweepSeen::default(), unused: Vec::new() }
    }
}

/// An account that may be dormant.
struct Suspect {
    account: Box<str>,
    name: Box<str>,
    owner: PersonId,
    rule: MatchRule,
    ways: Vec<DoorKind>,
    privileged: bool,
    last_used: Option<Timestamp>,
    made: Option<Timestamp>,
    excepted: Except,
}

/// A place that was read to its end.
struct Closed {
    place: Place,
    family: Family,
    seen: SweepSeen,
    unused: Vec<Suspect>,
    last_use: LastUse,
}

/// A key in an account: whose it is, is known when all places are read.
struct Key {
    place: Place,
    family: Family,
    account: String,
    name: String,
    privileged: bool,
    fingerprint: Fingerprint,
    /// In which files it stands.
    detail: String,
    of: KeyOf,
    excepted: Except,
}

/// Whose account a key stands in, as far as that matters for the key.
enum KeyOf {
    /// A person's own.
    Person(PersonId),
    /// One in which every key should be known to be somebody's: shared, root, our own login.
    Known,
    /// One that answers for its keys itself: found as a whole, of a program, for emergencies.
    Itself,
}

/// By what a finding is excepted, and what to add to its reason.
#[derive(Clone, Default)]
struct Except {
    by: Option<String>,
    ended: Option<String>,
}

/// What is found, each once over all places of a system.
type Found = BTreeMap<(SweepKind, SystemName, String, Option<String>), SweepFinding>;

#[derive(Default)]
struct Kept {
    found: Found,
    /// Accounts, by a 64-bit hash, that some server of a replicated system has seen in use lately: what another server does not know
    /// then means nothing.
    fresh: HashSet<u64>,
    keys: Vec<Key>,
    closed: Vec<Closed>,
}

/// What a sweep comes to.
pub(super) struct Told {
    pub seen: Vec<(PlaceId, SweepSeen)>,
    pub findings: Vec<SweepFinding>,
    pub over_limit: Option<String>,
}

/// What all places of one sweep share.
pub(super) struct Tally<'a> {
    matcher: &'a Matcher,
    sweep: &'a Sweep,
    now: Timestamp,
    learned: LearnedKeys,
    kept: Mutex<Kept>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(matcher: &'a Matcher, sweep: &'a Sweep, now: Timestamp) -> Self {
        Self { matcher, sweep, now, learned: matcher.nothing_learned(), kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges one account.
    pub(super) fn take(&self, book: &mut Book<'_>, mut account: Account) {
        book.seen.accounts += 1;
        self.matcher.assign(&mut account, &self.learned);
        // Keys of a shut account tell whose they are as well.
        self.learned.learn(&account);
        let entry = book.connector.entry(&account);
        let mut excepted = self.excepted(&account);
        if entry == Entry::Shut {
            // What offboard.yaml protects is always listed.
            if let Some(by) = excepted.by.as_mut().filter(|_| is_protected(&account.owner)) {
                by.push_str("; nobody can log in to it as it stands");
            } else {
                return;
            }
        } else {
            book.seen.open += 1;
        }
        if book.family != Family::Directory {
            // That an account may be shared does not say that a key in it may be a leaver's.
            self.keep_keys(book, &account, entry, &self.named(&account));
        }
        let looks_for = |kind| self.sweep.looks_for(kind, book.family);
        match &account.owner {
            Owner::Person { id, rule } => self.owned(book, &account, id, rule, excepted),
            Owner::Ambiguous { people } => {
                if looks_for(SweepKind::Ambiguous).is_some() {
                    let next = "say under `accounts:` in offboard.yaml whose it is";
                    let why = "more than one person matches: nobody guesses whose it is".into();
                    let mut finding = self.finding(SweepKind::Ambiguous, book, &account, excepted, why, next);
                    finding.owner = self.people(people);
                    self.add(finding);
                }
            }
            // Root and the like are nobody's by nature.
            Owner::Nobody if entry == Entry::Machine => {}
            owner => {
                if looks_for(SweepKind::Orphan).is_some() {
                    let why = match owner {
                        Owner::Shared => "several people use it, and nobody in the roster answers for it",
                        Owner::Service => "a program uses it, and nobody in the roster answers for it",
                        Owner::BreakGlass => "it is for emergencies, and nobody in the roster answers for it",
                        Owner::Ourselves => "it is no person's",
                        _ => "nobody in the roster matches",
                    };
                    let next = match owner {
                        Owner::Nobody => {
                            "find out whose it is; then name the person under `accounts:` in offboard.yaml, or protect it under `protected:`, or disable it"
                        }
                        _ => "",
                    };
                    self.add(self.finding(SweepKind::Orphan, book, &account, excepted, why.into(), next));
                }
            }
        }
    }

    /// An account of one person: who left, who works here, or whom only offboard.yaml knows.
    fn owned(&self, book: &mut Book<'_>, account: &Account, id: &PersonId, rule: &MatchRule, excepted: Except) {
        let person = self.matcher.person(id);
        let kind = match person {
            None => SweepKind::Orphan,
            Some(person) if self.has_left(person) => SweepKind::Lingering,
            Some(_) => SweepKind::Dormant,
        };
        if self.sweep.looks_for(kind, book.family).is_none() {
            return;
        }
        let Some(person) = person else {
            let why = format!("offboard.yaml says that it is {id}'s, who is not in the roster");
            let next = "correct `accounts:` in offboard.yaml, or the roster";
            return self.add(self.finding(kind, book, account, excepted, why, next));
        };
        if kind == SweepKind::Dormant {
            return self.suspect(book, account, id, rule, excepted);
        }
        let why = format!("{} has left", person.name);
        let mut finding = self.finding(kind, book, account, excepted, why, &format!("offboard run {id}"));
        finding.since = person.ends.filter(|at| *at <= self.now);
        finding.owner = vec![SweepPerson::new(person, Some(rule.clone()))];
        self.add(finding);
    }

    /// An account of somebody who works here: in use, unused, or nobody can say yet.
    fn suspect(&self, book: &mut Book<'_>, account: &Account, owner: &PersonId, rule: &MatchRule, excepted: Except) {
        let fresh = |at: Timestamp| !self.is_longer_ago(book.family, at);
        if account.last_used.is_some_and(fresh) {
            if is_replicated(book.family) {
                self.kept().fresh.insert(hash(&account.system, &account.native_id));
            }
            return;
        }
        // Nobody can have left unused for so long what is not so old.
        let made = book.connector.made(account).filter(|_| account.last_used.is_none());
        if made.is_some_and(fresh) {
            return;
        }
        book.unused.push(Suspect {
            account: account.native_id.as_str().into(),
            name: account.name.as_str().into(),
            owner: owner.clone(),
            rule: rule.clone(),
            ways: ways(account),
            privileged: account.privileged,
            last_used: account.last_used,
            made,
            excepted,
        });
    }

    /// Whether `at` is longer ago than the playbook lets accounts of this family be unused.
    fn is_longer_ago(&self, family: Family, at: Timestamp) -> bool {
        let longest = self.sweep.looks_for(SweepKind::Dormant, family).flatten();
        longest.is_some_and(|longest| self.now.duration_since(at).as_secs() > longest.as_seconds())
    }

    /// Keeps what a place showed until all are read.
    pub(super) fn close(&self, book: Book<'_>, last_use: LastUse, unread: Vec<Finding>) {
        let Book { family, place, mut seen, unused, .. } = book;
        seen.unread = unread;
        self.kept().closed.push(Closed { place: place.clone(), family, seen, unused, last_use });
    }

    fn keep_keys(&self, book: &Book<'_>, account: &Account, entry: Entry, excepted: &Except) {
        let keys: Vec<Key> = account
            .doors
            .iter()
            .filter(|door| door.kind == DoorKind::SshKey)
            .map(|door| Key {
                place: book.place.clone(),
                family: book.family,
                account: account.native_id.clone(),
                name: account.name.clone(),
                privileged: account.privileged,
                fingerprint: Fingerprint(door.object.clone()),
                detail: door.detail.clone(),
                of: match &account.owner {
                    Owner::Person { id, .. } => KeyOf::Person(id.clone()),
                    Owner::Shared | Owner::Ourselves => KeyOf::Known,
                    Owner::Nobody if entry == Entry::Machine => KeyOf::Known,
                    _ => KeyOf::Itself,
                },
                excepted: excepted.clone(),
            })
            .collect();
        if !keys.is_empty() {
            self.kept().keys.extend(keys);
        }
    }

    fn add(&self, finding: SweepFinding) {
        add(&mut self.kept().found, finding);
    }

    fn finding(
        &self,
        kind: SweepKind,
        book: &Book<'_>,
        account: &Account,
        excepted: Except,
        why: String,
        next: &str,
    ) -> SweepFinding {
        SweepFinding {
            kind,
            system: account.system.clone(),
            places: vec![book.place.id.clone()],
            account: account.native_id.clone(),
            name: account.name.clone(),
            credential: None,
            privileged: account.privileged,
            ways: ways(account),
            owner: Vec::new(),
            last_used: account.last_used,
            since: None,
            why: with(why, excepted.ended),
            next: next.into(),
            excepted: excepted.by,
        }
    }

    /// By what the playbook excepts an account by its name or its system.
    fn named(&self, account: &Account) -> Except {
        let except = &self.sweep.except;
        if except.systems.contains(&account.system) {
            return Except { by: Some(format!("the playbook excepts the system {}", account.system)), ended: None };
        }
        let today = self.now.to_zoned(self.sweep.zone()).date();
        let mut ended = None;
        for named in except.accounts.iter().filter(|e| Matcher::means(&e.system, &e.account, account)) {
            match named.until {
                Some(until) if until < today => ended = Some(format!("its exception ({}) ended on {until}", named.why)),
                Some(until) => return Except { by: Some(format!("{} (until {until})", named.why)), ended: None },
                None => return Except { by: Some(named.why.clone()), ended: None },
            }
        }
        Except { by: None, ended }
    }

    /// By what an account is excepted: by the playbook, or because offboard.yaml protects it.
    fn excepted(&self, account: &Account) -> Except {
        let named = self.named(account);
        if named.by.is_some() {
            return named;
        }
        let tag = match account.owner {
            Owner::BreakGlass => Some(Tag::BreakGlass),
            Owner::Service => Some(Tag::Service),
            Owner::Shared => Some(Tag::Shared),
            _ => None,
        };
        let by = match tag {
            Some(tag) if self.sweep.except.tags.contains(&tag) => Some(format!("protected in offboard.yaml as {tag}")),
            _ if account.owner == Owner::Ourselves => {
                Some("offboard's own login or its control, or the server's own superuser".into())
            }
            _ => None,
        };
        Except { by, ..named }
    }

    fn has_left(&self, person: &Person) -> bool {
        person.status == WorkerStatus::Terminated || person.ends.is_some_and(|end| end <= self.now)
    }

    fn people(&self, ids: &[PersonId]) -> Vec<SweepPerson> {
        ids.iter().filter_map(|id| self.matcher.person(id)).map(|person| SweepPerson::new(person, None)).collect()
    }

    /// Judges what could not be judged before everything was read.
    pub(super) fn finish(self) -> Told {
        let Kept { mut found, fresh, keys, closed } =
            std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        for key in keys {
            if let Some(finding) = self.judge_key(key) {
                add(&mut found, finding);
            }
        }
        let mut seen = Vec::new();
        for Closed { place, family, seen: mut told, unused, last_use } in closed {
            for suspect in unused {
                if is_replicated(family) && fresh.contains(&hash(&place.system, &suspect.account)) {
                    continue;
                }
                match self.judge_unused(&place, family, &last_use, suspect) {
                    Ok(finding) => add(&mut found, finding),
                    Err(because) => {
                        told.unknown += 1;
                        told.because.get_or_insert(because);
                    }
                }
            }
            seen.push((place.id, told));
        }
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        let mut findings: Vec<SweepFinding> = found.into_values().collect();
        for finding in &mut findings {
            self.tell_last_use(finding);
        }
        let over_limit = self.over_limit(&findings, seen.iter().map(|(_, s)| s.accounts).sum());
        Told { seen, findings, over_limit }
    }

    /// A dormant account; or why nobody can say whether it is one.
    fn judge_unused(
        &self,
        place: &Place,
        family: Family,
        last_use: &LastUse,
        suspect: Suspect,
    ) -> Result<SweepFinding, String> {
        let long_ago = |at: &Timestamp| self.is_longer_ago(family, *at);
        let why = match last_use {
            LastUse::NotKept { why } => return Err(why.clone()),
            LastUse::Kept { since: Some(since) } if suspect.last_used.is_some() && !long_ago(since) => {
                format!("only from {} on is every login on record", day(*since))
            }
            // Said when the places have been put together.
            LastUse::Kept { .. } if suspect.last_used.is_some() => String::new(),
            LastUse::Kept { since: None } => {
                return Err("it cannot be told how far back the records of logins reach".into());
            }
            LastUse::Kept { since: Some(since) } if !long_ago(since) => {
                return Err(format!("records of logins reach back to {} only", day(*since)));
            }
            LastUse::Kept { .. } if suspect.made.is_none() => {
                return Err("no login is on record, and nothing tells when the account was made".into());
            }
            LastUse::Kept { since: Some(since) } => {
                format!("no login is on record, and the records reach back to {}", day(*since))
            }
        };
        let person = self.matcher.person(&suspect.owner);
        let asked = person.map(|p| match &p.manager {
            Some(manager) => format!("{} or their manager {manager}", p.name),
            None => p.name.clone(),
        });
        Ok(SweepFinding {
            kind: SweepKind::Dormant,
            system: place.system.clone(),
            places: vec![place.id.clone()],
            account: suspect.account.into(),
            name: suspect.name.into(),
            credential: None,
            privileged: suspect.privileged,
            ways: suspect.ways,
            owner: person.map(|p| SweepPerson::new(p, Some(suspect.rule))).into_iter().collect(),
            last_used: suspect.last_used,
            since: suspect.last_used,
            why: with(why, suspect.excepted.ended),
            next: format!("ask {} whether it is still needed; if not, disable it", asked.unwrap_or_default()),
            excepted: suspect.excepted.by,
        })
    }

    /// A key that a leaver holds in an account that is not theirs, or of which nobody knows whose it is.
    fn judge_key(&self, key: Key) -> Option<SweepFinding> {
        let holder = self.matcher.holder_of_key(&key.fingerprint, &self.learned);
        let left = |id: &PersonId| self.matcher.person(id).is_some_and(|person| self.has_left(person));
        let run = |id: &PersonId| format!("offboard run {id}");
        let (kind, owner, since, why, next) = match &holder {
            // With their own account it is found as a whole.
            Owner::Person { id, .. } if matches!(&key.of, KeyOf::Person(of) if of == id) => return None,
            Owner::Person { id, rule } if left(id) => {
                let person = self.matcher.person(id)?;
                let why = format!("{} has left, and a key of theirs opens it", person.name);
                let owner = vec![SweepPerson::new(person, Some(rule.clone()))];
                (SweepKind::Lingering, owner, person.ends.filter(|at| *at <= self.now), why, run(id))
            }
            Owner::Ambiguous { people } if people.iter().any(left) => {
                let why = "a key that opens it may be a leaver's, or somebody else's".to_string();
                let next = "say under `keys-of:` in offboard.yaml whose key it is".to_string();
                (SweepKind::Ambiguous, self.people(people), None, why, next)
            }
            Owner::Nobody if matches!(key.of, KeyOf::Known) => {
                let why = "nobody knows whose key opens it".to_string();
                let next = "say under `keys-of:` in offboard.yaml whose key it is, or take it out".to_string();
                (SweepKind::Orphan, Vec::new(), None, why, next)
            }
            _ => return None,
        };
        self.sweep.looks_for(kind, key.family)?;
        let place = match key.detail.split_once("; ").map_or(key.detail.as_str(), |(first, _)| first) {
            "" => String::new(),
            file => format!(" ({file})"),
        };
        Some(SweepFinding {
            kind,
            system: key.place.system,
            places: vec![key.place.id],
            account: key.account,
            name: key.name,
            credential: Some(key.fingerprint.0),
            privileged: key.privileged,
            ways: vec![DoorKind::SshKey],
            owner,
            last_used: None,
            since,
            why: with(why + &place, key.excepted.ended),
            next,
            excepted: key.excepted.by,
        })
    }

    /// The last use on any place, in words.
    fn tell_last_use(&self, finding: &mut SweepFinding) {
        let Some(at) = finding.last_used.filter(|_| finding.kind == SweepKind::Dormant) else { return };
        finding.since = Some(at);
        let days = self.now.duration_since(at).as_secs() / 86_400;
        let told = format!("last used on {}, {days} days ago", day(at));
        finding.why = if finding.why.is_empty() { told } else { with(told, Some(std::mem::take(&mut finding.why))) };
    }

    fn over_limit(&self, findings: &[SweepFinding], seen: u64) -> Option<String> {
        let found = SweepState::accounts_of(findings.iter().filter(|f| f.excepted.is_none())) as u64;
        let limits = &self.sweep.limits;
        let mut passed = Vec::new();
        if found > u64::from(limits.accounts) {
            passed.push(format!("the limit is {} accounts", limits.accounts));
        }
        if limits.share.is_passed(found, seen) {
            passed.push(format!("the limit is {} of the {seen} that were seen", limits.share));
        }
        let is = if found == 1 { "account is" } else { "accounts are" };
        (!passed.is_empty()).then(|| {
            format!(
                "{found} {is} found; {}. A wrong roster or a wrong rule is more likely than so many forgotten accounts",
                passed.join(", and ")
            )
        })
    }
}

/// Whether all places of such a system show the same accounts.
fn is_replicated(family: Family) -> bool {
    matches!(family, Family::Directory | Family::Database)
}

fn is_protected(owner: &Owner) -> bool {
    matches!(owner, Owner::Shared | Owner::Service | Owner::BreakGlass | Owner::Ourselves)
}

fn hash(system: &SystemName, account: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (system, account).hash(&mut hasher);
    hasher.finish()
}

/// How an account can be entered: each kind of door once.
fn ways(account: &Account) -> Vec<DoorKind> {
    let credential = |kind: &DoorKind| !matches!(kind, DoorKind::Session | DoorKind::Job | DoorKind::Membership);
    let mut ways: Vec<DoorKind> = account.doors.iter().map(|door| door.kind).filter(credential).collect();
    ways.sort();
    ways.dedup();
    ways
}

/// Adds a finding, or a place to it.
fn add(found: &mut Found, finding: SweepFinding) {
    let key = (finding.kind, finding.system.clone(), finding.account.clone(), finding.credential.clone());
    let Some(known) = found.get_mut(&key) else {
        found.insert(key, finding);
        return;
    };
    if let Err(at) = known.places.binary_search(&finding.places[0]) {
        known.places.insert(at, finding.places[0].clone());
        // Whichever place answered first: the words are those of the place that comes first.
        if at == 0 {
            known.why = finding.why;
            known.name = finding.name;
        }
    }
    known.last_used = known.last_used.max(finding.last_used);
    known.privileged |= finding.privileged;
    known.ways.extend(finding.ways);
    known.ways.sort();
    known.ways.dedup();
}

/// A sentence, and one more if there is one.
fn with(why: String, more: Option<String>) -> String {
    match more {
        Some(more) if !more.is_empty() => format!("{why}; {more}"),
        _ => why,
    }
}

fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%-d %b %Y").to_string()
}
