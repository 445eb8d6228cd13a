//! Discovery: the entries of the people in scope, their keys, and the groups that name them.
//!
//! Every value from outside goes into a filter escaped (RFC 4515). Groups are asked for together with only those of their values
//! that matter (RFC 3876), so that a group of 100,000 does not travel; a server that does not know that control sends them all.

use super::account::{account, attributes};
use super::keys::keys;
use super::Shared;
use super::link::DirectoryLink;
use super::objects::{BY_NAME, BY_UID, Membership};
use crate::connector::{LastUse, Scope, Wanted};
use crate::model::{Account, DoorKind, Fault, FindingKind, Fingerprint};
use crate::wire::ldap::{Entry, Found, Scope as Depth, Search, ldap_escape, normal_dn};
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// People, or accounts, in one filter: some kilobytes, far below what servers accept.
const TOGETHER: usize = 50;

/// The memberships of accounts, by their DNs as [`normal_dn`] writes them, and by user name.
#[derive(Default)]
struct Memberships {
    by_dn: HashMap<String, Vec<Membership>>,
    by_uid: HashMap<String, Vec<Membership>>,
}

impl Memberships {
    fn add(&mut self, group: &Entry) {
        for attribute in BY_NAME {
            for member in group.texts(attribute) {
                let Some(dn) = normal_dn(&member) else { continue };
                let membership = Membership { attribute, uid: None, group: group.dn.clone() };
                self.by_dn.entry(dn).or_default().push(membership);
            }
        }
        for attribute in BY_UID {
            for uid in group.texts(attribute) {
                let membership = Membership { attribute, uid: Some(uid.clone()), group: group.dn.clone() };
                self.by_uid.entry(uid).or_default().push(membership);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.by_dn.is_empty() && self.by_uid.is_empty()
    }

    fn of(&self, entry: &Entry, user_name: &str) -> Vec<Membership> {
        let by_dn = normal_dn(&entry.dn).and_then(|dn| self.by_dn.get(&dn)).into_iter().flatten();
        let uids = entry.texts(user_name);
        by_dn.chain(uids.iter().filter_map(|uid| self.by_uid.get(uid)).flatten()).cloned().collect()
    }
}

impl DirectoryLink {
    pub(super) fn find<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        self.findings.clear();
        match scope {
            Scope::People(wanted) => stream::once(async move {
                let found = self.people(wanted).await;
                self.hangs(found.as_ref().err());
                found
            })
            .flat_map(|found| match found {
                Ok(accounts) => stream::iter(accounts.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(fault) => stream::iter(vec![Err(fault)]),
            })
            .boxed(),
            Scope::Everything => {
                self.everything(false)
            }
        }
    }

    /// Every entry, for a sweep: without the groups that name it, but for sudo rules.
    pub(super) fn sweep_entries(&mut self) -> BoxStream<'_, Result<Account, Fault>> {
        self.findings.clear();
        self.swept = Swept::default();
        self.everything(true)
    }

    fn everything(&mut self, for_sweep: bool) -> BoxStream<'_, Result<Account, Fault>> {
        let shared = self.share();
        let bases: VecDeque<String> = shared.settings.people.iter().cloned().collect();
        // Bases may overlap; one cannot.
        let seen = (bases.len() > 1).then(HashSet::new);
        let walk = Walk { link: self, shared, bases, memberships: None, search: None, seen, over: false, for_sweep };
        stream::unfold(walk, |mut walk| async move { walk.next().await.map(|item| (item, walk)) }).boxed()
    }

    /// Everything of the wanted people, and of others' entries that hold one of their keys.
    async fn people(&mut self, wanted: &[Wanted]) -> Result<Vec<Account>, Fault> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for together in wanted.chunks(TOGETHER) {
            if let Some(filter) = self.filter(together) {
                self.collect(&filter, &mut entries, |_| true).await?;
            }
        }
        let names = self.shared().settings.attributes.clone();
        for dn in wanted.iter().flat_map(|w| self.mapped(w)).collect::<Vec<_>>() {
            if let Some(entry) = self.read(&dn, &attributes(&names)).await? {
                entries.insert(normal_dn(&entry.dn).unwrap_or_else(|| entry.dn.clone()), entry);
            }
        }
        let memberships = self.memberships_of(entries.values().cloned().collect()).await?;
        let mut prints: BTreeSet<Fingerprint> = wanted.iter().flat_map(|w| &w.keys).cloned().collect();
        prints.extend(
            entries.values().flat_map(|e| e.values("sshPublicKey")).flat_map(|v| keys(v)).map(|k| k.fingerprint),
        );
        if !prints.is_empty() {
            let holds = |entry: &Entry| {
                entry.values("sshPublicKey").iter().flat_map(|v| keys(v)).any(|k| prints.contains(&k.fingerprint))
            };
            self.collect("(sshPublicKey=*)", &mut entries, holds).await?;
        }
        let user_names: HashSet<String> =
            wanted.iter().filter_map(|w| w.person.user_name.as_ref()).map(|name| name.to_lowercase()).collect();
        let mut accounts = Vec::with_capacity(entries.len());
        for entry in entries.into_values() {
            let has_password = entry.has("userPassword") || self.has_hidden_password(&entry.dn).await?;
            let memberships = memberships.of(&entry, &names.user_name);
            self.remark(&entry);
            let mut account = account(self.shared(), &self.place, &entry, has_password, &memberships);
            let uids = entry.texts(&names.user_name);
            if let Some(looked_for) = uids.iter().find(|uid| user_names.contains(&uid.to_lowercase())) {
                account.identity.user_name = Some(looked_for.clone());
            }
            accounts.push(account);
        }
        Ok(accounts)
    }

    /// Adds every entry that matches and that `keep` wants, once, in whatever base it is found.
    async fn collect(
        &mut self,
        filter: &str,
        entries: &mut BTreeMap<String, Entry>,
        keep: impl Fn(&Entry) -> bool,
    ) -> Result<(), Fault> {
        let settings = self.shared().settings.clone();
        for base in &settings.people {
            let mut search = self.search(base, Depth::Subtree, filter, &attributes(&settings.attributes), None).await?;
            while let Some(entry) = self.next_entry(&mut search).await? {
                if keep(&entry) {
                    entries.entry(normal_dn(&entry.dn).unwrap_or_else(|| entry.dn.clone())).or_insert(entry);
                }
            }
        }
        Ok(())
    }

    /// One filter for some people; nothing if nothing is known to look for.
    fn filter(&self, wanted: &[Wanted]) -> Option<String> {
        let settings = &self.shared().settings;
        let names = &settings.attributes;
        let mut any = BTreeSet::new();
        let mut term = |name: &str, value: &str| {
            if !value.is_empty() {
                any.insert(format!("({name}={})", ldap_escape(value)));
            }
        };
        for Wanted { person, accounts, .. } in wanted {
            term(&names.employee_number, &person.id.0);
            if let Some(user) = &person.user_name {
                term(&names.user_name, user);
            }
            if let Some(mail) = &person.email {
                term(&names.mail, mail);
            }
            for (system, id) in accounts {
                if *system == self.shared().system && normal_dn(id).is_none() {
                    term(&names.user_name, id);
                }
            }
        }
        let any: String = any.into_iter().collect();
        (!any.is_empty()).then(|| format!("(&{}(|{any}))", settings.accounts))
    }

    /// The entries that `offboard.yaml` maps to the person.
    fn mapped(&self, wanted: &Wanted) -> Vec<String> {
        let here = wanted.accounts.iter().filter(|(system, _)| *system == self.shared().system);
        here.map(|(_, id)| id.clone()).filter(|id| normal_dn(id).is_some_and(|n| !n.is_empty())).collect()
    }

    async fn memberships_of(&mut self, entries: Vec<Entry>) -> Result<Memberships, Fault> {
        let mut memberships = Memberships::default();
        let user_name = self.shared().settings.attributes.user_name.clone();
        for together in entries.chunks(TOGETHER) {
            let mut any = String::new();
            for entry in together {
                let terms = BY_NAME.iter().map(|a| (*a, entry.dn.clone()));
                let uids = entry.texts(&user_name);
                let uids = uids.iter().flat_map(|uid| BY_UID.iter().map(|a| (*a, uid.clone())));
                for (attribute, value) in terms.chain(uids) {
                    any.push_str(&format!("({attribute}={})", ldap_escape(value)));
                }
            }
            let groups = self.groups(&format!("(|{any})"), Some(&format!("({any})")), &mut memberships).await?;
            for group in groups {
                let understood = |e: &Entry| memberships.of(e, &user_name).iter().any(|m| m.group == group);
                if !together.iter().any(understood) {
                    let what =
                        format!("the group {group} names one of these people in a way that offboard cannot read");
                    let hint = "look at its members, and take the leaver out by hand";
                    let finding = self.finding(FindingKind::Unknown, None, what, hint);
                    self.findings.push(finding);
                }
            }
        }
        Ok(memberships)
    }

    /// Reads groups; returns their names.
    async fn groups(
        &mut self,
        filter: &str,
        matched: Option<&str>,
        into: &mut Memberships,
    ) -> Result<Vec<String>, Fault> {
        let mut names = Vec::new();
        let attributes: Vec<&str> = BY_NAME.into_iter().chain(BY_UID).collect();
        for base in self.shared().settings.groups.clone() {
            let mut search = self.search(&base, Depth::Subtree, filter, &attributes, matched).await?;
            while let Some(group) = self.next_entry(&mut search).await? {
                into.add(&group);
                names.push(group.dn);
            }
        }
        Ok(names)
    }

    /// The next entry; what lies on another server is reported, not followed.
    async fn next_entry(&mut self, search: &mut Search) -> Result<Option<Entry>, Fault> {
        loop {
            match search.next().await? {
                None => return Ok(None),
                Some(Found::Entry(entry)) => return Ok(Some(entry)),
                Some(Found::Elsewhere(urls)) => {
                    let what =
                        format!("{}: a part of the directory lies elsewhere: {}", self.name(), urls.join(" and "));
                    let hint = "it was not followed; name that server in urls of a system of its own if it is yours";
                    let finding = self.finding(FindingKind::Unknown, None, what, hint);
                    if !self.findings.contains(&finding) {
                        self.findings.push(finding);
                    }
                }
            }
        }
    }

    /// What an entry has that no step closes.
    fn remark(&mut self, entry: &Entry) {
        let uids = entry.texts(&self.shared().settings.attributes.user_name);
        if uids.len() > 1 {
            let what = format!("{} has several user names: {}", entry.dn, uids.join(", "));
            let hint = "people are matched by the one in its DN, or by the one that was looked for";
            self.findings.push(self.finding(FindingKind::Suspicious, Some(&entry.dn), what, hint));
        }
        if entry.has("userCertificate") {
            let what = format!("{} has a userCertificate", entry.dn);
            let hint = "a login by certificate (SASL EXTERNAL) is not stopped by a password lock: revoke the certificate at its CA";
            self.findings.push(self.finding(FindingKind::NotCovered, Some(&entry.dn), what, hint));
        }
        if entry.values("sshPublicKey").iter().any(|value| keys(value).is_empty()) {
            let what = format!("{} has a value of sshPublicKey in which no key can be read", entry.dn);
            self.findings.push(self.finding(
                FindingKind::Suspicious,
                Some(&entry.dn),
                what,
                "look at it and delete it",
            ));
        }
    }
}

/// What a sweep saw of the directory as a whole.
#[derive(Debug, Default)]
pub(super) struct Swept {
    entries: u64,
    with_password: u64,
    /// The earliest login on record.
    since: Option<Timestamp>,
}

impl Swept {
    fn saw(&mut self, account: &Account) {
        self.entries += 1;
        self.with_password += u64::from(account.doors.iter().any(|door| door.kind == DoorKind::Password));
        self.since = [self.since, account.last_used].into_iter().flatten().min();
    }

    /// The server has kept logins at least since the earliest that it shows.
    pub(super) fn last_use(&self) -> LastUse {
        match self.since {
            Some(since) => LastUse::Kept { since: Some(since) },
            None => LastUse::NotKept {
                why: "the directory shows no last login: neither authTimestamp (overlay lastbind) nor pwdLastSuccess".into(),
            },
        }
    }

    /// Where no password can be seen at all, nobody can say who may log in.
    fn is_blind(&self) -> bool {
        self.entries > 0 && self.with_password == 0
    }
}

/// The walk over everything, entry by entry.
struct Walk<'a> {
    link: &'a mut DirectoryLink,
    shared: Arc<Shared>,
    bases: VecDeque<String>,
    /// Read before the first entry: OpenLDAP allows one paged search at a time.
    memberships: Option<Memberships>,
    search: Option<Search>,
    /// Entries that were read before; nothing where that cannot be.
    seen: Option<HashSet<String>>,
    over: bool,
    for_sweep: bool,
}

impl Walk<'_> {
    async fn next(&mut self) -> Option<Result<Account, Fault>> {
        if self.over {
            return None;
        }
        let item = self.step().await.transpose();
        self.link.hangs(item.as_ref().and_then(|item| item.as_ref().err()));
        // After a fault what follows would look like the whole.
        self.over = !matches!(item, Some(Ok(_)));
        item
    }

    async fn step(&mut self) -> Result<Option<Account>, Fault> {
        if self.memberships.is_none() {
            let mut all = Memberships::default();
            // A group says nothing of who owns an account, or uses it; a sudo rule says that it is privileged.
            let attributes = BY_NAME.into_iter().chain(BY_UID).filter(|a| !self.for_sweep || *a == "sudoUser");
            let filter: String = attributes.map(|a| format!("({a}=*)")).collect();
            self.link.groups(&format!("(|{filter})"), None, &mut all).await?;
            self.memberships = Some(all);
        }
        let settings = &self.shared.settings;
        loop {
            let search = match &mut self.search {
                Some(search) => search,
                none => {
                    let Some(base) = self.bases.pop_front() else { break };
                    let wanted = attributes(&settings.attributes);
                    none.insert(self.link.search(&base, Depth::Subtree, &settings.accounts, &wanted, None).await?)
                }
            };
            let Some(entry) = self.link.next_entry(search).await? else {
                self.search = None;
                continue;
            };
            let dn = || normal_dn(&entry.dn).unwrap_or_else(|| entry.dn.clone());
            if self.seen.as_mut().is_some_and(|seen| !seen.insert(dn())) {
                continue;
            }
            if !self.for_sweep {
                self.link.remark(&entry);
            }
            let memberships = self.memberships.as_ref().filter(|m| !m.is_empty());
            let memberships = memberships.map(|m| m.of(&entry, &settings.attributes.user_name)).unwrap_or_default();
            let has_password = entry.has("userPassword");
            let account = account(&self.shared, &self.link.place, &entry, has_password, &memberships);
            self.link.swept.saw(&account);
            return Ok(Some(account));
        }
        if self.for_sweep && self.link.swept.is_blind() {
            let what = format!("{}: of no entry can it be seen whether it has a password", self.link.name());
            let hint = "let offboard read userPassword: without it nobody can say who may log in";
            let finding = self.link.finding(FindingKind::Unknown, None, what, hint);
            self.link.findings.push(finding);
        }
        Ok(None)
    }
}
