//! Whose an account is, and whose a door: by which rule, or that nobody can say.
//!
//! Two laws: an ambiguous match is never acted on, and names that only look alike never match. Whatever contradicts itself is
//! ambiguous. An account that says it is E1042's and carries the mail address of E1043 belongs to neither until a person decides.

use super::keys::{KeyHolder, KnownKeys};
use super::{KeyOf, LearnedKeys, Mapping, Protected, Protection, Roster, folded, lookalike};
use crate::model::{
    Account, DoorKind, Finding, FindingKind, Fingerprint, MatchRule, Owner, Person, PersonId, SystemName,
};
use std::sync::Arc;

/// Matches accounts and doors with people.
#[derive(Clone, Debug)]
pub struct Matcher {
    roster: Arc<Roster>,
    mappings: Vec<Mapping>,
    protected: Vec<Protected>,
    keys: Arc<KnownKeys>,
}

impl Matcher {
    /// A matcher that knows the `roster`, and from `offboard.yaml` the explicit `mappings`, the `declared` keys and the `protected`
    /// accounts. `own` are the keys that offboard itself logs in with.
    pub fn new(
        roster: Arc<Roster>,
        mappings: &[Mapping],
        declared: &[KeyOf],
        protected: &[Protected],
        own: impl IntoIterator<Item = Fingerprint>,
    ) -> Self {
        let mut keys = KnownKeys { own: own.into_iter().collect(), ..KnownKeys::default() };
        let of_roster = roster.people().iter().flat_map(|person| person.keys.iter().map(|key| (&person.id, key)));
        for (person, key) in declared.iter().map(|declared| (&declared.person, &declared.key)).chain(of_roster) {
            // The roster's own spelling, where it knows the person.
            let person = roster.get(&person.0).map_or(person, |known| &known.id);
            keys.declared.entry(key.clone()).or_default().insert(person.clone());
        }
        let (mappings, protected) = (mappings.to_vec(), protected.to_vec());
        Self { roster, mappings, protected, keys: Arc::new(keys) }
    }

    /// A set of learned keys with nothing in it, for one run.
    pub fn nothing_learned(&self) -> LearnedKeys {
        LearnedKeys::new(Arc::clone(&self.keys))
    }

    /// The manager of `person`, if the roster has them and they are somebody else.
    pub fn manager_of(&self, person: &Person) -> Option<&Person> {
        let manager = self.roster.get(&person.manager.as_ref()?.0)?;
        (folded(&manager.id.0) != folded(&person.id.0)).then_some(manager)
    }

    /// The accounts that `offboard.yaml` maps to `person`.
    pub fn accounts_of(&self, person: &PersonId) -> Vec<(SystemName, String)> {
        let theirs = self.mappings.iter().filter(|mapping| folded(&mapping.person) == folded(&person.0));
        theirs.map(|mapping| (mapping.system.clone(), mapping.account.clone())).collect()
    }

    /// Says whose the account is and who holds each of its doors. What the connector knows better stays: our own login, and what
    /// appeared during the run. Doing it again, after more was learned, is right and cheap.
    pub fn assign(&self, account: &mut Account, learned: &LearnedKeys) {
        if account.owner != Owner::Ourselves {
            account.owner = self.owner(account);
        }
        let owner = account.owner.clone();
        for door in &mut account.doors {
            door.holder = if door.kind == DoorKind::SshKey {
                key_holder(&owner, &door.holder, learned.holder(&Fingerprint(door.object.clone())))
            } else {
                match &door.holder {
                    // A session that was opened with the leaver's key, a job that the leaver left in `deploy`.
                    Owner::Person { rule, .. } if *rule != MatchRule::OwnAccount => continue,
                    Owner::Ourselves => continue,
                    _ => own_door(&owner, MatchRule::OwnAccount),
                }
            };
        }
        spare_the_last_key(account, &owner, learned);
    }

    /// Whose an account is.
    fn owner(&self, account: &Account) -> Owner {
        if let Some(protected) = self.protected.iter().find(|p| means(&p.system, &p.account, account)) {
            return match protected.kind {
                Protection::BreakGlass => Owner::BreakGlass,
                Protection::Service => Owner::Service,
                Protection::Shared => Owner::Shared,
            };
        }
        let mapped = self.mappings.iter().filter(|mapping| means(&mapping.system, &mapping.account, account));
        let mapped: Vec<PersonId> = distinct(mapped.map(|mapping| {
            self.roster.get(&mapping.person).map_or_else(|| PersonId(mapping.person.clone()), |p| p.id.clone())
        }));
        match mapped.as_slice() {
            [] => {}
            [id] => return Owner::Person { id: id.clone(), rule: MatchRule::Explicit },
            _ => return Owner::Ambiguous { people: mapped },
        }
        let matched = self.matched(account);
        let people = distinct(matched.iter().map(|(_, person)| person.id.clone()));
        match people.as_slice() {
            [] => Owner::Nobody,
            // Rules are tried strongest first.
            [id] => Owner::Person { id: id.clone(), rule: matched[0].0.clone() },
            _ => Owner::Ambiguous { people },
        }
    }

    /// Every person whom a rule matches, strongest rule first.
    fn matched(&self, account: &Account) -> Vec<(MatchRule, &Person)> {
        let identity = &account.identity;
        let number = identity.employee_number.as_deref().and_then(|number| self.roster.get(number.trim()));
        let mails = identity.mails.iter().filter_map(|mail| self.roster.by_mail(mail.trim()));
        let name = identity.user_name.as_deref().and_then(|name| self.roster.by_user_name(name));
        let number = number.map(|person| (MatchRule::EmployeeNumber, person));
        let mails = mails.map(|person| (MatchRule::Mail, person));
        number.into_iter().chain(mails).chain(name.map(|person| (MatchRule::UserName, person))).collect()
    }

    /// What somebody should know of an account that [`Matcher::assign`] has seen, when `leaver` leaves: why it is ambiguous, that it
    /// is protected but holds something of the leaver's, that its name only looks like the leaver's.
    pub fn findings(&self, account: &Account, leaver: &Person) -> Vec<Finding> {
        let finding = |kind, what: String, hint: &str| Finding {
            kind,
            place: Some(account.place.clone()),
            account: Some(account.native_id.clone()),
            what,
            hint: hint.to_string(),
        };
        let mut findings = Vec::new();
        match &account.owner {
            Owner::Ambiguous { people } if people.contains(&leaver.id) => {
                let rules = self.matched(account);
                let rules = rules.iter().map(|(rule, person)| format!("{} by {rule}", person.id));
                let what = format!("{} matches {}; nothing was done to it", account.name, sentence(rules));
                let hint = "say in offboard.yaml whose it is (`accounts:`), then run again";
                findings.push(finding(FindingKind::Ambiguous, what, hint));
            }
            Owner::BreakGlass | Owner::Service | Owner::Shared
                if self.matched(account).iter().any(|(_, p)| p.id == leaver.id) =>
            {
                let what = format!("{} is protected, and matches the leaver; nothing was done to it", account.name);
                findings.push(finding(
                    FindingKind::Unknown,
                    what,
                    "change its password by hand if the leaver knew it; if it is not theirs, say under accounts: whose it is, then resume",
                ));
            }
            Owner::Nobody if looks_like(account, leaver) => {
                let what = format!("{} only looks like the leaver's; nothing was done to it", account.name);
                findings.push(finding(FindingKind::Suspicious, what, "find out whose it is, and who made it"));
            }
            _ => {}
        }
        for door in &account.doors {
            let Owner::Ambiguous { people } = &door.holder else { continue };
            if matches!(account.owner, Owner::Ambiguous { .. }) || !people.contains(&leaver.id) {
                continue;
            }
            let holders = sentence(people.iter().map(ToString::to_string));
            let what = format!("the {} {} may be of {holders}, or of a protected account", door.kind, door.object);
            let hint = "say in offboard.yaml whose it is (`keys-of:`), then run again";
            findings.push(finding(FindingKind::Ambiguous, what, hint));
        }
        findings
    }
}

/// Whether `offboard.yaml`, which says `name`, means this account: as the place calls it, or by its login name. The case of ASCII
/// letters makes no difference, nor do the spaces after the commas of a DN.
fn means(system: &SystemName, name: &str, account: &Account) -> bool {
    let plain = |name: &str| {
        if name.contains('=') {
            name.split(',').map(|part| folded(part.trim())).collect::<Vec<_>>().join(",")
        } else {
            folded(name)
        }
    };
    let wanted = plain(name);
    *system == account.system
        && (plain(&account.native_id) == wanted
            || account.identity.user_name.as_ref().is_some_and(|user_name| folded(user_name) == wanted))
}

/// Who holds a key that stands in an account of `owner`'s.
fn key_holder(owner: &Owner, before: &Owner, known: KeyHolder) -> Owner {
    match known {
        KeyHolder::Ourselves => Owner::Ourselves,
        KeyHolder::Person { id, rule: MatchRule::DeclaredKey, .. } => {
            Owner::Person { id, rule: MatchRule::DeclaredKey }
        }
        // What the connector saw appear during the run is the leaver's, unless it is declared for somebody.
        _ if matches!(before, Owner::Person { rule: MatchRule::PlantedDuringRun, .. } | Owner::Ourselves) => {
            before.clone()
        }
        // Learned from this person's own account, but it stands in another person's own or in a protected one as well.
        KeyHolder::Person { id, .. } if owner.person().is_some_and(|person| *person != id) => {
            Owner::Ambiguous { people: distinct([id].into_iter().chain(owner.person().cloned())) }
        }
        KeyHolder::Person { id, .. } if matches!(owner, Owner::BreakGlass | Owner::Service) => {
            Owner::Ambiguous { people: vec![id] }
        }
        KeyHolder::Person { id, rule, .. } => Owner::Person { id, rule },
        KeyHolder::Ambiguous(people) => Owner::Ambiguous { people },
        KeyHolder::Unknown => own_door(owner, MatchRule::KeyInOwnAccount),
    }
}

/// The holder of a door that nothing is known of but whose account it belongs to.
fn own_door(owner: &Owner, rule: MatchRule) -> Owner {
    match owner {
        Owner::Person { id, .. } => Owner::Person { id: id.clone(), rule },
        other => other.clone(),
    }
}

/// Public keys are public, and people may often write their own directory entry: a leaver could declare a colleague's key there,
/// and have it taken out of the colleague's own account. So where every key of somebody's own account is somebody else's by
/// nothing but a directory entry, those keys are ambiguous. What `offboard.yaml` declares is not doubted.
fn spare_the_last_key(account: &mut Account, owner: &Owner, learned: &LearnedKeys) {
    let Some(person) = owner.person() else { return };
    let holder = |key: &str| learned.holder(&Fingerprint(key.to_string()));
    let doubtful = |key: &str| match holder(key) {
        KeyHolder::Person { id, by_directory: true, rule: MatchRule::DeclaredKey } => (id != *person).then_some(id),
        _ => None,
    };
    let theirs = account.doors.iter().filter(|door| door.kind == DoorKind::SshKey);
    if !theirs.clone().all(|door| door.holder.person().is_some_and(|holder| holder != person)) {
        return;
    }
    for door in account.doors.iter_mut().filter(|door| door.kind == DoorKind::SshKey) {
        if let Some(other) = doubtful(&door.object) {
            door.holder = Owner::Ambiguous { people: distinct([person.clone(), other]) };
        }
    }
}

/// Whether an account's name or mail address looks like the person's without being it.
fn looks_like(account: &Account, person: &Person) -> bool {
    let alike = |one: &str, other: &Option<String>| {
        other.as_ref().is_some_and(|other| lookalike::appearance(one) == lookalike::appearance(other))
    };
    account.identity.user_name.iter().any(|name| alike(name, &person.user_name))
        || account.identity.mails.iter().any(|mail| alike(mail, &person.email))
}

fn distinct(people: impl IntoIterator<Item = PersonId>) -> Vec<PersonId> {
    people.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn sentence(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" and ")
}
