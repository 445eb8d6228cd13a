//! The inventory: entities with their logins, users and roles that never logged in, SecretIDs, live tokens.
//!
//! A SecretID has no name, so it is somebody's only if its metadata says so; a token that was got with it carries the same metadata.

use super::api::{join, text};
use super::audit;
use super::identity::{self, Entity, Identity, Mount, Way};
use super::link::VaultLink;
use super::pki;
use super::tokens::{self, MAIL, NUMBER, Token, USER, named};
use crate::connector::Scope;
use crate::model::{Account, Door, DoorKind, Fault, FaultKind, FindingKind, Identity as Says, MatchRule, Owner, Person};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// How many entities are read at the same time.
const AT_ONCE: usize = 16;
/// How many of one sort a finding names.
const NAMED: usize = 10;

/// The accessors of tokens without an entity at the first discovery of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    pub nobodys: BTreeSet<String>,
}

/// What an account was before anything was done to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The entity, if it had one.
    pub entity: Option<String>,
    pub disabled: bool,
}

/// One SecretID of a role.
struct SecretId {
    mount: Mount,
    role: String,
    accessor: String,
    meta: BTreeMap<String, String>,
}

/// What is prefixed to the word by which the tokens of a shared role are somebody's.
pub const ISSUED_TO: &str = "issued to ";

/// See [`crate::connector::Link::discover`].
pub fn discover<'a>(link: &'a mut VaultLink, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
    stream::once(async move {
        match survey(link, scope).await {
            Ok(accounts) => accounts.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(fault) => vec![Err(fault)],
        }
    })
    .flat_map(stream::iter)
    .boxed()
}

async fn survey(link: &mut VaultLink, scope: &Scope) -> Result<Vec<Account>, Fault> {
    let cannot = link.what(format!("list who is known at {}", link.place.address));
    link.findings.clear();
    let mounts = identity::mounts(&link.api, &cannot).await?;
    let roles = roles(link, &mounts, &cannot).await?;
    let secret_ids = secret_ids(link, &roles, &cannot).await?;
    let mut identities = entities(link, &mounts, &roles, &cannot).await?;
    let mut known: BTreeSet<String> = identities.iter().flat_map(|i| &i.ways).map(Way::id).collect();
    let mut alone = |way: Way| {
        if known.insert(way.id()) {
            identities.push(Identity { entity: None, ways: vec![way] });
        }
    };
    for mount in mounts.iter().filter(|m| m.kind == "userpass") {
        let users = match link.api.list(&join(&["auth"], &mount.path, &["users"]), &cannot).await {
            Ok(users) => users,
            Err(fault) => {
                unread(link, &fault, &format!("the users of {}", mount.path))?;
                continue;
            }
        };
        for name in users {
            alone(Way { mount: mount.clone(), alias: name.clone(), name, exists: true });
        }
    }
    for (mount, role, role_id) in &roles {
        alone(Way { mount: mount.clone(), name: role.clone(), alias: role_id.clone(), exists: true });
    }
    let live = match tokens::live(link, &cannot).await {
        Ok(live) => live,
        Err(fault) => {
            unread(link, &fault, "the tokens")?;
            BTreeMap::new()
        }
    };
    let people: &[_] = match scope {
        Scope::People(people) => people,
        Scope::Everything => &[],
    };
    let mapped: BTreeSet<&String> =
        people.iter().flat_map(|wanted| &wanted.accounts).filter(|(system, _)| *system == link.system).map(|(_, name)| name).collect();
    let people: Vec<&Person> = people.iter().map(|wanted| &wanted.person).collect();
    let mut accounts = Vec::with_capacity(identities.len());
    for identity in &identities {
        let mut account = account(link, identity, &secret_ids, &live, &people);
        if let Some(contested) = contested(identity, &people).filter(|_| !mapped.contains(&account.native_id)) {
            // Nobody's, so that no step is planned for it.
            account.identity = Says::default();
            tell_contested(link, &account.native_id, contested);
        }
        accounts.push(account);
    }
    mentioned(link, &secret_ids, &people);
    first_logins(link, &mounts, &identities, &people);
    nobodys(link, &live, !people.is_empty());
    let engines = mounts_of_secrets(link).await?;
    if !people.is_empty() {
        let entity = |identity: &Identity| Some((identity.entity.as_ref()?.id.clone(), identity.native_id()));
        let entities: Vec<_> = identities.iter().filter_map(entity).collect();
        link.could_read = audit::could_read(link, &engines, &entities).await;
    }
    if !people.is_empty() {
        signed(link, &engines);
        accounts.extend(issued(link, &engines, &people, &mapped).await?);
    }
    left_behind(link);
    Ok(accounts)
}

/// What may not be read is not known, so the run is unproven until it is; anything else is a fault.
fn unread(link: &mut VaultLink, fault: &Fault, what: &str) -> Result<(), Fault> {
    if fault.kind != FaultKind::Forbidden {
        return Err(fault.clone());
    }
    let hint = fault.hint.clone().unwrap_or_default();
    let finding = link.finding(FindingKind::Unknown, None, format!("{what} could not be listed: {fault}"), &hint);
    link.findings.push(finding);
    Ok(())
}

async fn roles(link: &mut VaultLink, mounts: &[Mount], cannot: &str) -> Result<Vec<(Mount, String, String)>, Fault> {
    match identity::role_ids(&link.api, mounts, cannot).await {
        Ok(roles) => Ok(roles),
        Err(fault) => unread(link, &fault, "the roles of AppRole").map(|()| Vec::new()),
    }
}

async fn secret_ids(
    link: &mut VaultLink,
    roles: &[(Mount, String, String)],
    cannot: &str,
) -> Result<Vec<SecretId>, Fault> {
    let mut found = Vec::new();
    for (mount, role, _) in roles {
        match secret_ids_of(link, mount, role, cannot).await {
            Ok(of_role) => found.extend(of_role),
            Err(fault) => unread(link, &fault, &format!("the SecretIDs of {}/{role}", mount.path))?,
        }
    }
    Ok(found)
}

async fn secret_ids_of(link: &VaultLink, mount: &Mount, role: &str, cannot: &str) -> Result<Vec<SecretId>, Fault> {
    let path = |last: &[&'static str]| -> Vec<&str> {
        join(&["auth"], &mount.path, &["role", role]).into_iter().chain(last.iter().copied()).collect()
    };
    let mut found = Vec::new();
    for accessor in link.api.list(&path(&["secret-id"]), cannot).await? {
        let body = json!({ "secret_id_accessor": accessor });
        let Some(data) = link.api.post(&path(&["secret-id-accessor", "lookup"]), &body, cannot).await? else { continue };
        let meta = data["metadata"].as_object().into_iter().flatten();
        let meta = meta.filter_map(|(k, v)| Some((k.clone(), text(v)?))).collect();
        found.push(SecretId { mount: mount.clone(), role: role.to_string(), accessor, meta });
    }
    Ok(found)
}

async fn entities(
    link: &VaultLink,
    mounts: &[Mount],
    roles: &[(Mount, String, String)],
    cannot: &str,
) -> Result<Vec<Identity>, Fault> {
    let api = &link.api;
    let ids = api.list(&["identity", "entity", "id"], cannot).await?;
    let found: Vec<Option<Entity>> = stream::iter(ids)
        .map(|id| async move { identity::entity(api, &id, cannot).await })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let identity = |entity: Entity| {
        let aliases = entity.aliases.iter().flatten();
        let ways = aliases.map(|alias| identity::of_alias(alias, mounts, roles)).collect();
        let mut identity = Identity { ways, entity: Some(entity) };
        identity.sort();
        identity
    };
    Ok(found.into_iter().flatten().map(identity).collect())
}

fn account(
    link: &VaultLink,
    identity: &Identity,
    secret_ids: &[SecretId],
    live: &BTreeMap<String, Token>,
    people: &[&Person],
) -> Account {
    let native_id = identity.native_id();
    let place = &link.place.id;
    let mut doors = Vec::new();
    for way in identity.ways.iter().filter(|way| way.exists) {
        match way.mount.kind.as_str() {
            "userpass" => doors.push(Door::new(place, &native_id, DoorKind::Password, &way.id(), "password in the Vault")),
            "approle" => {}
            kind => doors.push(Door::new(place, &native_id, DoorKind::Login, &way.id(), format!("by {kind}"))),
        }
    }
    let theirs = live.values().filter(|token| token.is_of(identity)).count();
    let tokens = |n: usize| format!("live tokens: {n}");
    doors.push(Door::new(place, &native_id, DoorKind::Session, "", tokens(theirs)));
    let mut issued = BTreeSet::new();
    for way in identity.ways.iter().filter(|way| way.mount.kind == "approle") {
        let of_role = secret_ids.iter().filter(|s| s.mount == way.mount && s.role == way.name);
        for secret_id in of_role {
            let holder = holder(&secret_id.meta, people);
            let said = secret_id.meta.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join(", ");
            let detail = format!("SecretID of {}; {}", way.id(), if said.is_empty() { "nothing says whose" } else { &said });
            let mut door = Door::new(place, &native_id, DoorKind::Token, &format!("{}/{}", way.id(), secret_id.accessor), detail);
            if let Some((person, rule, _)) = holder {
                door.holder = Owner::Person { id: person.id.clone(), rule };
            }
            doors.push(door);
        }
        // Tokens that were got with a SecretID which may be gone by now.
        for token in live.values().filter(|token| token.is_of(identity)) {
            if let Some((person, rule, word)) = holder(&token.meta, people)
                && issued.insert(word.clone())
            {
                let n = live.values().filter(|t| t.is_of(identity) && t.says(&word)).count();
                let mut door = Door::new(place, &native_id, DoorKind::Session, &format!("{ISSUED_TO}{word}"), tokens(n));
                door.holder = Owner::Person { id: person.id.clone(), rule };
                doors.push(door);
            }
        }
    }
    let entity = identity.entity.clone().unwrap_or_default();
    let policies = entity.policies.iter().flatten().chain(live.values().filter(|t| t.is_of(identity)).flat_map(|t| &t.policies));
    let privileged = policies.into_iter().any(|policy| policy == "root" || policy == "admin");
    Account {
        system: link.system.clone(),
        place: place.clone(),
        name: native_id.clone(),
        native_id,
        enabled: identity.is_enabled(),
        identity: says(identity),
        owner: if link.is_ours(identity) { Owner::Ourselves } else { Owner::Nobody },
        privileged,
        last_used: None,
        doors,
        facts: serde_json::to_value(Before { entity: identity.entity.as_ref().map(|e| e.id.clone()), disabled: identity.is_disabled() })
            .unwrap_or_default(),
    }
}

/// Whose an account is, as its logins and the entity's metadata say it.
fn says(identity: &Identity) -> Says {
    let entity = identity.entity.clone().unwrap_or_default();
    let metadata = entity.metadata.unwrap_or_default();
    let named = |keys: &[&str]| keys.iter().find_map(|key| metadata.get(*key)).filter(|v| !v.is_empty()).cloned();
    let is_mail = |name: &&String| name.contains('@');
    let logins: Vec<&String> = identity.ways.iter().map(|way| &way.name).collect();
    let mut mails: Vec<String> = logins.iter().copied().filter(is_mail).cloned().collect();
    mails.extend(named(MAIL));
    mails.dedup();
    let user_name = logins.iter().copied().find(|name| !is_mail(name)).cloned();
    Says { employee_number: named(NUMBER), mails, user_name: user_name.or_else(|| named(USER)), declared_keys: Vec::new() }
}

/// Which of the people metadata names, by which rule and word.
fn holder<'a>(meta: &BTreeMap<String, String>, people: &[&'a Person]) -> Option<(&'a Person, MatchRule, String)> {
    let (rule, word) = named(meta)?;
    let is = |person: &&&Person| match rule {
        MatchRule::EmployeeNumber => person.id.0.eq_ignore_ascii_case(word),
        MatchRule::Mail => person.email.as_ref().is_some_and(|mail| mail.eq_ignore_ascii_case(word)),
        _ => person.user_name.as_deref() == Some(word),
    };
    people.iter().find(is).map(|person| (*person, rule, word.to_string()))
}

/// SecretIDs that name the leaver beside somebody else: they are left to the one whom the strongest key names, and a person has to know.
fn mentioned(link: &mut VaultLink, secret_ids: &[SecretId], people: &[&Person]) {
    for secret_id in secret_ids {
        let names = |person: &Person| {
            let says = |keys: &[&str], is: &dyn Fn(&str) -> bool| keys.iter().filter_map(|key| secret_id.meta.get(*key)).any(|word| is(word));
            says(NUMBER, &|word| person.id.0.eq_ignore_ascii_case(word)) || says(MAIL, &|word| is_theirs(word, person)) || says(USER, &|word| is_theirs(word, person))
        };
        let held = holder(&secret_id.meta, people).map(|(person, ..)| &person.id);
        for person in people.iter().filter(|person| held != Some(&person.id) && names(person)) {
            let role = format!("{}/{}", secret_id.mount.path, secret_id.role);
            let what = format!("a SecretID of {role} names {} beside somebody else, whose it is taken for: accessor {}", person.id, secret_id.accessor);
            let hint = "if the leaver has it, too: bao write auth/MOUNT/role/ROLE/secret-id-accessor/destroy, and give its holder a new one";
            let finding = link.finding(FindingKind::Suspicious, Some(&role), what, hint);
            link.findings.push(finding);
        }
    }
}

/// Entities in which a login that is the leaver's by its name meets one that is not. To shut them would shut somebody else out, and to leave
/// them might leave the leaver in; so nothing is done until a person has said whose they are, by `accounts:` or by the entity's metadata.
fn contested<'a>(identity: &'a Identity, people: &[&'a Person]) -> Option<(&'a Person, &'a Way, &'a Way)> {
    let metadata = identity.entity.as_ref().and_then(|entity| entity.metadata.as_ref());
    let persons = || identity.ways.iter().filter(|way| way.exists && is_persons(&way.mount.kind));
    people.iter().find_map(|person| {
        if metadata.is_some_and(|metadata| holder(metadata, &[*person]).is_some()) {
            return None;
        }
        let theirs = persons().find(|way| is_theirs(&way.name, person))?;
        let other = persons().find(|way| !is_theirs(&way.name, person))?;
        Some((*person, theirs, other))
    })
}

fn tell_contested(link: &mut VaultLink, native_id: &str, (person, theirs, other): (&Person, &Way, &Way)) {
    let what = format!(
        "one entity has the login {}, which is {}'s by its name, and {}, which is not: nothing was done to it",
        theirs.id(),
        person.id,
        other.id()
    );
    let hint = format!(
        "find out whose it is. The leaver's alone: map {native_id:?} under accounts:. Two people's: give each an entity of their own. Then: offboard resume"
    );
    let finding = link.finding(FindingKind::Unknown, Some(native_id), what, &hint);
    link.findings.push(finding);
}

fn is_theirs(name: &str, person: &Person) -> bool {
    person.user_name.as_ref().is_some_and(|user| user.eq_ignore_ascii_case(name))
        || person.email.as_ref().is_some_and(|mail| mail.eq_ignore_ascii_case(name))
}

/// Auth methods for people where somebody else keeps the logins.
const ELSEWHERE: &[&str] = &["cert", "github", "jwt", "kerberos", "ldap", "oidc", "okta", "radius", "saml"];

/// Whether people log in by it, not machines.
fn is_persons(kind: &str) -> bool {
    kind == "userpass" || ELSEWHERE.contains(&kind)
}

/// Where somebody else keeps the logins, the first one makes a new entity, which nobody has disabled. (Vault docs, "Identity: entities and aliases".)
fn first_logins(link: &mut VaultLink, mounts: &[Mount], identities: &[Identity], people: &[&Person]) {
    for mount in mounts.iter().filter(|mount| ELSEWHERE.contains(&mount.kind.as_str())) {
        for person in people {
            let mut ways = identities.iter().flat_map(|identity| &identity.ways);
            if ways.any(|way| way.mount == *mount && is_theirs(&way.name, person)) {
                continue;
            }
            let what = format!(
                "no entity has a login of {} at auth/{} ({}): a first login there would make a new one, which is not disabled",
                person.id, mount.path, mount.kind
            );
            let hint = "whoever keeps the logins of that method must refuse the leaver: end the account there too";
            let finding = link.finding(FindingKind::NotCovered, None, what, hint);
            link.findings.push(finding);
        }
    }
}

/// Tokens without an entity may be anybody's: root tokens, and orphans that a sudoer made, which no disabled entity stops.
fn nobodys(link: &mut VaultLink, live: &BTreeMap<String, Token>, leaving: bool) {
    let ours = |token: &Token| token.entity.is_none() && token.path.starts_with("auth/token/");
    let now: BTreeSet<String> = live.iter().filter(|(_, token)| ours(token)).map(|(a, _)| a.clone()).collect();
    let first = link.baseline.get_or_insert_with(|| Baseline { nobodys: now.clone() }).clone();
    if !leaving || now.is_empty() {
        return;
    }
    let name = |accessors: &[&String]| {
        let named = accessors.iter().take(NAMED).map(|accessor| {
            let token = &live[*accessor];
            format!("{accessor} ({}, made {})", token.policies.join(" "), token.issued.as_deref().unwrap_or("at an unknown time"))
        });
        let more = accessors.len().saturating_sub(NAMED);
        format!("{}{}", named.collect::<Vec<_>>().join("; "), if more > 0 { format!("; and {more} more") } else { String::new() })
    };
    let new: Vec<&String> = now.difference(&first.nobodys).collect();
    let old: Vec<&String> = now.intersection(&first.nobodys).collect();
    let hint = "the audit log says who made them; bao token revoke -accessor ACCESSOR";
    if !new.is_empty() {
        let what = format!("tokens without an entity that were made during the run, perhaps by the leaver: {}", name(&new));
        let finding = link.finding(FindingKind::Unknown, None, what, hint);
        link.findings.push(finding);
    }
    if !old.is_empty() {
        let what = format!("tokens without an entity, which anybody may have made or know: {}", name(&old));
        let finding = link.finding(FindingKind::Suspicious, None, what, hint);
        link.findings.push(finding);
    }
}

/// Secrets engines by path and kind.
async fn mounts_of_secrets(link: &mut VaultLink) -> Result<Vec<(String, String)>, Fault> {
    let data = match link.api.get(&["sys", "mounts"], "list the secrets engines").await {
        Ok(data) => data.unwrap_or_default(),
        Err(fault) => return unread(link, &fault, "the secrets engines").map(|()| Vec::new()),
    };
    let of = |(path, said): (&String, &serde_json::Value)| Some((path.clone(), text(&said["type"])?));
    Ok(data.as_object().into_iter().flatten().filter_map(of).collect())
}

/// A key that was signed for the leaver opens every host that trusts the engine until it is over.
fn signed(link: &mut VaultLink, engines: &[(String, String)]) {
    for (path, _) in engines.iter().filter(|(_, kind)| kind == "ssh") {
        let what = format!("{path} signs SSH keys and keeps no list of them: a certificate that the leaver got works on every host that trusts it until it is over");
        let hint = "hosts: a KRL (RevokedKeys); the serials stand in the audit log. Keep max_ttl of its roles short";
        let finding = link.finding(FindingKind::NotCovered, None, what, hint);
        link.findings.push(finding);
    }
}

/// Certificates that PKI engines have issued.
async fn issued(
    link: &mut VaultLink,
    engines: &[(String, String)],
    people: &[&Person],
    mapped: &BTreeSet<&String>,
) -> Result<Vec<Account>, Fault> {
    let mut found = Vec::new();
    for (mount, _) in engines.iter().filter(|(_, kind)| kind == "pki") {
        let cannot = link.what(format!("list the certificates of {mount}"));
        let (accounts, beyond) = match pki::accounts(link, mount, &cannot).await {
            Ok(found) => found,
            Err(fault) => {
                unread(link, &fault, &format!("the certificates of {mount}"))?;
                continue;
            }
        };
        if beyond > 0 {
            let what = format!("{mount} has issued {} certificates, of which {} were looked at", pki::MOST + beyond, pki::MOST);
            let finding = link.finding(FindingKind::Unknown, None, what, "tidy the engine: bao write MOUNT/tidy tidy_cert_store=true");
            link.findings.push(finding);
        }
        let what = format!("{mount} issues certificates; those of roles with no_store are in no list, and are not found");
        let hint = "bao read MOUNT/roles/ROLE says no_store; their serial numbers stand in the audit log";
        let finding = link.finding(FindingKind::NotCovered, None, what, hint);
        link.findings.push(finding);
        for mut account in accounts {
            let says = &account.identity;
            let names = || says.mails.iter().chain(&says.user_name);
            let shared = people.iter().find(|person| {
                names().any(|name| is_theirs(name, person)) && says.mails.iter().any(|mail| !is_theirs(mail, person))
            });
            if let Some(person) = shared.filter(|_| !mapped.contains(&account.native_id)) {
                let what = format!("a certificate names {} and somebody else: {}; it was left alone", person.id, account.native_id);
                let hint = format!("the leaver's alone: map {:?} under accounts:, then: offboard resume", account.native_id);
                let finding = link.finding(FindingKind::Unknown, Some(&account.native_id), what, &hint);
                account.identity = Says::default();
                link.findings.push(finding);
            }
            found.push(account);
        }
    }
    Ok(found)
}

/// What ended with the leaver's tokens may leave something behind.
fn left_behind(link: &mut VaultLink) {
    if link.ended.is_empty() {
        return;
    }
    let leases = link.ended.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let finding = link.finding(
        FindingKind::Suspicious,
        None,
        format!("leases that ended when the leaver's tokens were revoked: {leases}. The credentials are gone; a database session that was opened with them goes on"),
        "end sessions of roles that are gone: SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE usesysid <> 0 AND NOT EXISTS (SELECT FROM pg_roles WHERE oid = a.usesysid)",
    );
    link.findings.push(finding);
}
