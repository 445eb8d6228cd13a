//! Whose an account is, and whose a key. An ambiguous match is never acted on; look-alikes never match.

use offboard::model::{
    Account, Door, DoorKind, FindingKind, Fingerprint, Identity, MatchRule, Owner, PersonId, Place, SystemName,
};
use offboard::roster::{KeyOf, LearnedKeys, Mapping, Matcher, Protected, Protection, Roster};
use proptest::prelude::*;
use std::sync::Arc;

const ROSTER: &str = "\
id,name,e-mail,user name,status
E1,Jane Roe,jane.roe@example.com,jroe,active
E2,Jill Roe,jill.roe@example.com,jroe2,active
E3,John Doe,john.doe@example.com,jdoe,active
";

fn roster() -> Arc<Roster> {
    Arc::new(Roster::from_csv(ROSTER.as_bytes(), "roster.csv", None).unwrap())
}

fn key(name: &str) -> Fingerprint {
    Fingerprint(format!("SHA256:{name}"))
}

fn own() -> [Fingerprint; 1] {
    [key("ours")]
}

fn plain() -> Matcher {
    Matcher::new(roster(), &[], &[], &[], own())
}

fn id(person: &str) -> PersonId {
    PersonId(person.into())
}

fn person(person: &str, rule: MatchRule) -> Owner {
    Owner::Person { id: id(person), rule }
}

fn ambiguous(people: &[&str]) -> Owner {
    Owner::Ambiguous { people: people.iter().map(|person| id(person)).collect() }
}

/// An account on `system` (`fleet` and so on) called `name`, with keys.
fn account(system: &str, name: &str, keys: &[&str]) -> Account {
    let system = SystemName(system.into());
    let place = Place::new(&system, "web1.example.test").id;
    let doors = keys.iter().map(|key| Door::new(&place, name, DoorKind::SshKey, &format!("SHA256:{key}"), ""));
    let doors = doors.chain([Door::new(&place, name, DoorKind::Session, "sessions", "")]).collect();
    Account {
        system,
        place,
        native_id: name.into(),
        name: name.into(),
        enabled: true,
        identity: Identity { user_name: Some(name.into()), ..Identity::default() },
        owner: Owner::Nobody,
        privileged: false,
        last_used: None,
        doors,
        facts: serde_json::Value::Null,
    }
}

/// A directory entry that declares keys.
fn entry(number: Option<&str>, mail: Option<&str>, name: Option<&str>, keys: &[&str]) -> Account {
    let mut account = account("directory", "uid=x,ou=people,dc=example,dc=test", &[]);
    account.identity = Identity {
        employee_number: number.map(str::to_string),
        mails: mail.into_iter().map(str::to_string).collect(),
        user_name: name.map(str::to_string),
        declared_keys: keys.iter().map(|name| key(name)).collect(),
    };
    account
}

fn owner(matcher: &Matcher, mut account: Account) -> Owner {
    matcher.assign(&mut account, &matcher.nothing_learned());
    account.owner
}

/// Assigns every account, learns from each, and assigns again, as a run does, until nothing new is learned.
fn settle(matcher: &Matcher, accounts: &mut [Account]) -> LearnedKeys {
    let learned = matcher.nothing_learned();
    loop {
        let mut new = false;
        for account in accounts.iter_mut() {
            matcher.assign(account, &learned);
            new |= learned.learn(account);
        }
        if !new {
            return learned;
        }
    }
}

fn holder(account: &Account, name: &str) -> Owner {
    account.doors.iter().find(|door| door.object == key(name).0).unwrap().holder.clone()
}

#[test]
fn the_strongest_rule_is_named() {
    let matcher = plain();
    for (account, expected) in [
        (entry(Some("e1"), Some("JANE.ROE@example.com"), Some("jroe"), &[]), person("E1", MatchRule::EmployeeNumber)),
        (entry(None, Some("jane.roe@example.com"), Some("jroe"), &[]), person("E1", MatchRule::Mail)),
        (entry(None, None, Some("JROE"), &[]), person("E1", MatchRule::UserName)),
        (entry(Some("E9"), None, Some("jroe"), &[]), person("E1", MatchRule::UserName)),
        (entry(None, None, None, &[]), Owner::Nobody),
        (entry(Some("E9"), Some("root@localhost"), Some("root"), &[]), Owner::Nobody),
    ] {
        assert_eq!(owner(&matcher, account.clone()), expected, "{:?}", account.identity);
    }
}

#[test]
fn a_contradiction_is_ambiguous() {
    let matcher = plain();
    for account in [
        entry(Some("E1"), Some("jill.roe@example.com"), None, &[]),
        entry(Some("E1"), None, Some("jroe2"), &[]),
        entry(None, Some("jane.roe@example.com"), Some("jroe2"), &[]),
    ] {
        assert_eq!(owner(&matcher, account.clone()), ambiguous(&["E1", "E2"]), "{:?}", account.identity);
    }
    let mut both = entry(None, Some("jane.roe@example.com"), None, &[]);
    both.identity.mails.push("jill.roe@example.com".into());
    matcher.assign(&mut both, &matcher.nothing_learned());
    assert_eq!(both.owner, ambiguous(&["E1", "E2"]));
    assert!(both.doors.iter().all(|door| door.holder == ambiguous(&["E1", "E2"])));
    let jane = roster().get("E1").unwrap().clone();
    let findings = matcher.findings(&both, &jane);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].kind, FindingKind::Ambiguous);
    insta::assert_snapshot!("ambiguous_account", format!("{}\n{}", findings[0].what, findings[0].hint));
    // It is nobody else's business.
    assert_eq!(matcher.findings(&both, roster().get("E3").unwrap()), []);
}

#[test]
fn what_people_say_counts_more_than_any_rule() {
    let mapping = |person: &str, system: &str, account: &str| Mapping {
        person: person.into(),
        system: SystemName(system.into()),
        account: account.into(),
    };
    let protected = |system: &str, account: &str, kind| Protected {
        system: SystemName(system.into()),
        account: account.into(),
        kind,
    };
    let matcher = Matcher::new(
        roster(),
        &[mapping("e1", "billing", "jroe_dba"), mapping("E2", "directory", "UID=x, ou=people, dc=example, dc=test")],
        &[],
        &[
            protected("fleet", "jroe", Protection::BreakGlass),
            protected("fleet", "deploy", Protection::Shared),
            protected("billing", "etl", Protection::Service),
        ],
        own(),
    );
    assert_eq!(owner(&matcher, account("billing", "jroe_dba", &[])), person("E1", MatchRule::Explicit));
    // Another system's account of the same name is not meant.
    assert_eq!(owner(&matcher, account("fleet", "jroe_dba", &[])), Owner::Nobody);
    assert_eq!(owner(&matcher, account("billing", "jroe", &[])), person("E1", MatchRule::UserName));
    assert_eq!(owner(&matcher, account("fleet", "jroe", &[])), Owner::BreakGlass);
    assert_eq!(owner(&matcher, account("fleet", "deploy", &[])), Owner::Shared);
    assert_eq!(owner(&matcher, account("billing", "etl", &[])), Owner::Service);
    // An explicit map settles what would be ambiguous.
    assert_eq!(owner(&matcher, entry(Some("E1"), None, Some("jdoe"), &[])), person("E2", MatchRule::Explicit));
    let mut ours = account("fleet", "jroe", &["ours"]);
    ours.owner = Owner::Ourselves;
    matcher.assign(&mut ours, &matcher.nothing_learned());
    assert_eq!(ours.owner, Owner::Ourselves);
    assert!(ours.doors.iter().all(|door| door.holder == Owner::Ourselves));
    assert_eq!(matcher.accounts_of(&id("E1")), [(SystemName("billing".into()), "jroe_dba".into())]);
}

#[test]
fn names_that_look_alike_never_match() {
    let matcher = plain();
    let jane = roster().get("E1").unwrap().clone();
    for name in ["jr\u{43e}e", "ｊｒｏｅ", "jroe\u{200b}", "jroe ", "jr0e", "jroe1", "jroe\u{301}", "ĵroe"] {
        assert_eq!(owner(&matcher, account("fleet", name, &[])), Owner::Nobody, "{name:?}");
    }
    let spoofed = account("fleet", "jr\u{43e}e", &[]);
    let findings = matcher.findings(&spoofed, &jane);
    assert_eq!(findings[0].kind, FindingKind::Suspicious, "{findings:?}");
}

#[test]
fn a_key_is_learned_in_one_account_and_found_in_all() {
    let matcher = plain();
    let mut accounts = [
        account("fleet", "deploy", &["laptop", "yubikey", "jills", "unknown", "ours"]),
        account("fleet", "root", &["yubikey"]),
        account("fleet", "jroe", &["laptop"]),
        account("fleet", "jroe2", &["jills"]),
        entry(Some("E1"), None, None, &["yubikey"]),
    ];
    let learned = settle(&matcher, &mut accounts);
    assert_eq!(holder(&accounts[0], "laptop"), person("E1", MatchRule::KeyInOwnAccount));
    assert_eq!(holder(&accounts[0], "yubikey"), person("E1", MatchRule::DeclaredKey));
    assert_eq!(holder(&accounts[0], "jills"), person("E2", MatchRule::KeyInOwnAccount));
    assert_eq!(holder(&accounts[0], "unknown"), Owner::Nobody);
    assert_eq!(holder(&accounts[0], "ours"), Owner::Ourselves);
    assert_eq!(holder(&accounts[1], "yubikey"), person("E1", MatchRule::DeclaredKey));
    assert_eq!(accounts[0].owner, Owner::Nobody);
    assert_eq!(learned.keys_of(&id("E1")), [key("laptop"), key("yubikey")].into());
    assert!(!learned.learn(&accounts[2]), "nothing new the second time");
}

#[test]
fn keys_that_contradict_are_ambiguous_unless_declared() {
    // The same undeclared key lies in two people's own accounts, and in deploy.
    let matcher = plain();
    let mut accounts =
        [account("fleet", "deploy", &["k"]), account("fleet", "jroe", &["k"]), account("fleet", "jroe2", &["k"])];
    let learned = settle(&matcher, &mut accounts);
    assert!(accounts.iter().all(|account| holder(account, "k") == ambiguous(&["E1", "E2"])));
    assert!(learned.keys_of(&id("E1")).is_empty());
    assert_eq!(matcher.findings(&accounts[0], roster().get("E1").unwrap()).len(), 1);
    // Before the second account was learned from, it was ambiguous there already.
    let learned = matcher.nothing_learned();
    matcher.assign(&mut accounts[1], &learned);
    learned.learn(&accounts[1]);
    matcher.assign(&mut accounts[2], &learned);
    assert_eq!(holder(&accounts[2], "k"), ambiguous(&["E1", "E2"]));

    let declared = [KeyOf { person: id("E2"), key: key("k") }];
    let matcher = Matcher::new(roster(), &[], &declared, &[], own());
    let learned = settle(&matcher, &mut accounts);
    assert!(accounts.iter().all(|account| holder(account, "k") == person("E2", MatchRule::DeclaredKey)));
    assert_eq!(learned.keys_of(&id("E2")), [key("k")].into());
}

#[test]
fn a_leaver_cannot_have_a_colleagues_key_taken_away() {
    let matcher = plain();
    // Jane declares Jill's key in her own directory entry, before she leaves.
    let mut accounts = [entry(Some("E1"), None, None, &["jills", "janes"]), account("fleet", "jroe2", &["jills"])];
    settle(&matcher, &mut accounts);
    assert_eq!(holder(&accounts[1], "jills"), ambiguous(&["E1", "E2"]));
    // A key of Jane's that she planted beside Jill's own is Jane's.
    let mut accounts = [entry(Some("E1"), None, None, &["janes"]), account("fleet", "jroe2", &["jills", "janes"])];
    settle(&matcher, &mut accounts);
    assert_eq!(holder(&accounts[1], "jills"), person("E2", MatchRule::KeyInOwnAccount));
    assert_eq!(holder(&accounts[1], "janes"), person("E1", MatchRule::DeclaredKey));
}

#[test]
fn a_key_of_a_protected_account_is_nobodys_to_revoke() {
    let protected =
        [Protected { system: SystemName("fleet".into()), account: "backup".into(), kind: Protection::Service }];
    let matcher = Matcher::new(roster(), &[], &[], &protected, own());
    let mut accounts = [
        account("fleet", "jroe", &["backups", "ours"]),
        account("fleet", "backup", &["backups"]),
        account("fleet", "root", &["backups", "ours"]),
    ];
    let learned = settle(&matcher, &mut accounts);
    assert_eq!(holder(&accounts[2], "backups"), ambiguous(&["E1"]));
    assert_eq!(holder(&accounts[1], "backups"), ambiguous(&["E1"]));
    assert_eq!(holder(&accounts[0], "ours"), Owner::Ourselves);
    assert!(learned.keys_of(&id("E1")).is_empty());
}

#[test]
fn what_appeared_during_the_run_is_the_leavers_unless_it_is_declared() {
    let declared = [KeyOf { person: id("E2"), key: key("jills") }];
    let matcher = Matcher::new(roster(), &[], &declared, &[], own());
    let mut deploy = account("fleet", "deploy", &["new", "jills", "ours"]);
    for door in &mut deploy.doors {
        door.holder = person("E1", MatchRule::PlantedDuringRun);
    }
    matcher.assign(&mut deploy, &matcher.nothing_learned());
    assert_eq!(holder(&deploy, "new"), person("E1", MatchRule::PlantedDuringRun));
    assert_eq!(holder(&deploy, "jills"), person("E2", MatchRule::DeclaredKey));
    assert_eq!(holder(&deploy, "ours"), Owner::Ourselves);
    assert_eq!(deploy.doors.last().unwrap().holder, person("E1", MatchRule::PlantedDuringRun));
}

/// Any roster of a few people whose names are easily confused, and any accounts.
fn world() -> impl Strategy<Value = (String, Vec<Account>, Vec<(usize, usize)>)> {
    let name = "(j|J|jo|rn|m|o|\u{43e}|0|é|e\u{301}){1,3}";
    let people = proptest::collection::vec((name, proptest::bool::ANY), 1..6);
    let word = prop_oneof![(0..8_usize).prop_map(|n| format!("E{n}")), name.prop_map(|n| n.to_string())];
    let one = (
        proptest::option::of(0..8_usize),
        proptest::option::of(word.clone()),
        proptest::option::of(word),
        proptest::collection::vec(0..5_usize, 0..4),
        proptest::collection::vec(0..5_usize, 0..3),
    );
    let accounts = proptest::collection::vec(one, 0..8);
    (people, accounts, proptest::collection::vec((0..8_usize, 0..5_usize), 0..3)).prop_map(
        |(people, accounts, declared)| {
            let mut csv = "id,name,e-mail,user name,status\n".to_string();
            for (n, (name, mail)) in people.iter().enumerate() {
                let mail = if *mail { format!("{name}@example.com") } else { String::new() };
                csv.push_str(&format!("E{n},Somebody,{mail},{name},active\n"));
            }
            let accounts = accounts.into_iter().enumerate().map(|(n, (number, mail, name, keys, declares))| {
                let keys: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let mut made = account("fleet", &format!("a{n}"), &keys);
                made.identity = Identity {
                    employee_number: number.map(|number| format!("E{number}")),
                    mails: mail.iter().map(|mail| format!("{mail}@example.com")).collect(),
                    user_name: name,
                    declared_keys: declares.iter().map(|n| key(&format!("k{n}"))).collect(),
                };
                made
            });
            (csv, accounts.collect(), declared)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_matched_is_backed_by_exactly_one_person((csv, mut accounts, declared) in world()) {
        // Rosters with a name twice are refused; that is another test's.
        let Ok(roster) = Roster::from_csv(csv.as_bytes(), "roster.csv", None) else { return Ok(()) };
        let declared: Vec<KeyOf> = declared
            .iter()
            .map(|(person, n)| KeyOf { person: id(&format!("E{person}")), key: key(&format!("k{n}")) })
            .collect();
        let matcher = Matcher::new(Arc::new(roster.clone()), &[], &declared, &[], [key("k0")]);
        let learned = settle(&matcher, &mut accounts);

        for account in &accounts {
            // By brute force: everybody whom the account names, letter by letter.
            let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
            let named: Vec<&PersonId> = roster
                .people()
                .iter()
                .filter(|p| {
                    account.identity.employee_number.as_ref().is_some_and(|n| same(n, &p.id.0))
                        || account.identity.mails.iter().any(|m| p.email.as_ref().is_some_and(|e| same(m, e)))
                        || account.identity.user_name.as_ref().is_some_and(|n| p.user_name.as_ref().is_some_and(|u| same(n, u)))
                })
                .map(|p| &p.id)
                .collect();
            match &account.owner {
                Owner::Nobody => prop_assert!(named.is_empty(), "{account:?}"),
                Owner::Person { id, .. } => prop_assert_eq!(named, vec![id]),
                Owner::Ambiguous { people } => {
                    prop_assert!(named.len() > 1);
                    prop_assert_eq!(named, people.iter().collect::<Vec<_>>());
                    // Never acted on: no door of it is a person's, unless a key is by its own evidence.
                    for door in account.doors.iter().filter(|d| d.kind != DoorKind::SshKey) {
                        prop_assert!(door.holder.person().is_none());
                    }
                }
                other => prop_assert!(false, "{other:?}"),
            }
            for door in account.doors.iter().filter(|d| d.kind == DoorKind::SshKey) {
                let key = Fingerprint(door.object.clone());
                if door.object == "SHA256:k0" {
                    prop_assert_eq!(&door.holder, &Owner::Ourselves);
                    continue;
                }
                let in_config: Vec<&PersonId> = declared.iter().filter(|d| d.key == key).map(|d| &d.person).collect();
                let Some(holder) = door.holder.person() else { continue };
                if !in_config.is_empty() {
                    // What offboard.yaml declares for somebody is nobody else's.
                    prop_assert!(in_config.iter().all(|person| *person == holder));
                    continue;
                }
                let owned = || accounts.iter().filter(|a| a.owner.person() == Some(holder));
                let foreign = || accounts.iter().filter(|a| a.owner.person().is_some_and(|p| p != holder));
                let declares = |a: &Account| a.identity.declared_keys.contains(&key);
                let holds = |a: &Account| a.doors.iter().any(|d| d.object == key.0);
                prop_assert!(owned().any(|a| declares(a) || holds(a)), "evidence");
                prop_assert!(!foreign().any(declares), "somebody else declares it");
                if !owned().any(declares) {
                    prop_assert!(!foreign().any(holds), "it lies in somebody else's own account");
                }
            }
        }
        // The order in which places answer makes no difference.
        let settled = accounts.clone();
        accounts.reverse();
        for account in &mut accounts {
            for door in &mut account.doors {
                door.holder = Owner::Nobody;
            }
            account.owner = Owner::Nobody;
        }
        let again = settle(&matcher, &mut accounts);
        accounts.reverse();
        prop_assert_eq!(settled, accounts);
        for person in roster.people() {
            prop_assert_eq!(learned.keys_of(&person.id), again.keys_of(&person.id));
            prop_assert!(!again.keys_of(&person.id).contains(&key("k0")));
        }
    }
}
