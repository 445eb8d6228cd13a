//! What discovery finds, and taking keys and memberships away.

use crate::slapd::*;
use offboard::connector::Scope;
use offboard::model::*;
use std::fmt::Write;

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_the_leaver_and_nothing_of_the_bystander() {
    let server = Slapd::start(&Variant::default());
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    assert_eq!(account.identity.employee_number.as_deref(), Some("E1042"));
    assert_eq!(account.identity.mails, ["jane.roe@example.com"]);
    assert_eq!(account.identity.user_name.as_deref(), Some("jroe"));
    assert_eq!(account.identity.declared_keys.len(), 1);
    let mut objects: Vec<String> = door(&account, DoorKind::Membership).into_iter().map(|d| d.object).collect();
    objects.sort();
    let groups = "ou=groups,dc=sunrise,dc=test";
    assert_eq!(
        objects,
        [
            format!("member:cn=alone,{groups}"),
            format!("member:cn=dev,{groups}"),
            format!("memberUid=jroe:cn=unix,{groups}"),
            format!("sudoUser=jroe:cn=sudo,{groups}"),
            format!("uniqueMember:cn=unique,{groups}"),
        ]
    );
    let found = discover(link.as_mut(), &Scope::People(vec![wanted(jane())])).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(link.findings(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_memberships_go_one_by_one_and_come_back_without_the_key() {
    let server = Slapd::start(&Variant::default());
    let connector = server.connector();
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    for action in [Action::Revoke, Action::Remove] {
        let steps = steps(connector.as_ref(), &account, action);
        for outcome in link.apply(&steps, &cx()).await {
            assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
        }
        for outcome in link.apply(&steps, &cx()).await {
            assert_eq!(outcome, Ok(Outcome::AlreadyDone));
        }
    }
    let mut doors = door(&account, DoorKind::Membership);
    doors.extend(door(&account, DoorKind::SshKey));
    for look in link.look(&doors, true, &cx()).await {
        assert!(
            matches!(look.verdict, Verdict::Shut { proof: Proof::ReadBack, .. }) && look.control.is_some(),
            "{look:?}"
        );
    }
    let groups = "ou=groups,dc=sunrise,dc=test";
    assert_eq!(server.values(&format!("cn=dev,{groups}"), "member"), [BYSTANDER]);
    assert_eq!(server.values(&format!("cn=unix,{groups}"), "memberUid"), ["jroe2"]);
    assert_eq!(server.values(&format!("cn=sudo,{groups}"), "sudoUser"), ["jroe2"]);
    assert_eq!(
        server.values(&format!("cn=alone,{groups}"), "member"),
        [format!("cn=alone,{groups}")],
        "it names itself"
    );
    assert_eq!(server.values(JROE, "sshPublicKey").len(), 0);
    let undo = |step| Undo { step, account: account.clone() };
    let back: Vec<_> = steps(connector.as_ref(), &account, Action::Remove).into_iter().map(undo).collect();
    for restored in link.restore(&back, &cx()).await {
        assert!(restored.unwrap().note.starts_with("put back"));
    }
    assert_eq!(server.values(&format!("cn=alone,{groups}"), "member"), [JROE]);
    for look in link.look(&door(&account, DoorKind::Membership), true, &cx()).await {
        assert_eq!(look.verdict.word(), "open");
    }
    let keys = steps(connector.as_ref(), &account, Action::Revoke).into_iter().map(undo).collect::<Vec<_>>();
    assert!(link.restore(&keys, &cx()).await.remove(0).unwrap().note.contains("not revived"));
    assert_eq!(server.values(JROE, "sshPublicKey").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_behind_options_and_among_others_in_one_value_goes_alone() {
    let server = Slapd::start(&Variant::default());
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA other";
    let hers = "restrict,command=\"x y\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ renamed";
    let value = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{other}\n{hers}\n"));
    server.change(&format!("dn: {JROE}\nchangetype: modify\nadd: sshPublicKey\nsshPublicKey:: {value}\n"));
    let connector = server.connector();
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    let keys = door(&account, DoorKind::SshKey);
    assert_eq!(keys.len(), 2, "{keys:?}");
    let hers = keys.iter().find(|k| k.object.starts_with("SHA256:T7Sv")).unwrap();
    let step =
        steps(connector.as_ref(), &account, Action::Revoke).into_iter().find(|s| s.object == hers.object).unwrap();
    let outcome = link.apply(&[step], &cx()).await.remove(0).unwrap();
    assert!(matches!(&outcome, Outcome::Done { note } if note.contains("2 of 2")), "{outcome:?}");
    assert_eq!(server.values(JROE, "sshPublicKey"), [other]);
}

/// The leaver's key in somebody else's entry: found, and only the key is planned on.
#[tokio::test(flavor = "multi_thread")]
async fn the_leavers_key_in_another_entry_is_found() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ other-comment";
    let entries = format!(
        "dn: uid=deploy,ou=people,dc=sunrise,dc=test\nobjectClass: account\nobjectClass: simpleSecurityObject\nobjectClass: ldapPublicKey\nuserPassword: x\nsshPublicKey: {key}\n"
    );
    let server = Slapd::start(&Variant { entries, ..Variant::default() });
    let mut link = server.open().await;
    let found = discover(link.as_mut(), &Scope::People(vec![wanted(jane())])).await;
    let mut deploy = found.into_iter().find(|a| a.native_id.starts_with("uid=deploy")).expect("found by the key");
    for door in deploy.doors.iter_mut().filter(|d| d.kind == DoorKind::SshKey) {
        door.holder = Owner::Person { id: jane().id, rule: MatchRule::DeclaredKey };
    }
    let connector = server.connector();
    assert!(steps(connector.as_ref(), &deploy, Action::Disable).is_empty());
    assert_eq!(steps(connector.as_ref(), &deploy, Action::Revoke).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_values_and_nothing_else() {
    let odd = [
        r"cn=Roe\, Jane \22J\22 \28x\29*,ou=people,dc=sunrise,dc=test",
        r"cn=Ren\C3\A9e \E4\BD\A0\E5\A5\BD,ou=people,dc=sunrise,dc=test",
    ];
    let mut entries = String::new();
    for (i, dn) in odd.iter().enumerate() {
        let _ = write!(
            entries,
            "dn: {dn}\nobjectClass: inetOrgPerson\nsn: x\nuid: *)(uid=*{i}\nmail: a+b@example.com\nuserPassword: pw{i}-password\n\n"
        );
    }
    for dn in odd {
        let name = dn.split(',').next().unwrap().len();
        let _ = write!(
            entries,
            "dn: cn=odd{name},ou=groups,dc=sunrise,dc=test\nobjectClass: groupOfNames\nmember: {dn}\nmember: {BYSTANDER}\n\n"
        );
    }
    let server = Slapd::start(&Variant { entries, ..Variant::default() });
    let connector = server.connector();
    let mut link = server.open().await;
    let nobody = Person {
        id: PersonId("*".into()),
        email: Some("*)(mail=*".into()),
        user_name: Some("*)(uid=*".into()),
        ..jane()
    };
    assert!(discover(link.as_mut(), &Scope::People(vec![wanted(nobody)])).await.is_empty(), "no wildcard gets through");
    for i in 0..2 {
        let person =
            Person { id: PersonId("none".into()), email: None, user_name: Some(format!("*)(uid=*{i}")), ..jane() };
        let found = discover(link.as_mut(), &Scope::People(vec![wanted(person)])).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let mut account = found[0].clone();
        account.owner = Owner::Person { id: jane().id, rule: MatchRule::UserName };
        assert_eq!(door(&account, DoorKind::Membership).len(), 1, "{account:?}");
        for action in [Action::Disable, Action::Remove] {
            for outcome in link.apply(&steps(connector.as_ref(), &account, action), &cx()).await {
                assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
            }
        }
        for look in link.look(&account.doors, true, &cx()).await {
            assert_eq!(look.verdict.word(), "shut", "{look:?}");
        }
        // The map in offboard.yaml names an entry by its DN.
        let mut mapped = wanted(Person { id: PersonId("none".into()), email: None, user_name: None, ..jane() });
        mapped.accounts = vec![(SystemName("directory".into()), account.native_id.to_uppercase())];
        let again = discover(link.as_mut(), &Scope::People(vec![mapped])).await;
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].native_id, account.native_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_come_page_by_page_and_once() {
    let mut entries = String::new();
    for n in 0..10_000 {
        let _ = write!(
            entries,
            "dn: uid=p{n},ou=people,dc=sunrise,dc=test\nobjectClass: inetOrgPerson\ncn: P {n}\nsn: P\nemployeeNumber: N{n}\nuserPassword: x\n\n"
        );
    }
    entries.push_str("dn: cn=all,ou=groups,dc=sunrise,dc=test\nobjectClass: posixGroup\ngidNumber: 3000\n");
    for n in 0..10_000 {
        let _ = writeln!(entries, "memberUid: p{n}");
    }
    let more = "limits dn.exact=\"cn=offboard,ou=services,dc=sunrise,dc=test\" size.soft=100 size.hard=500 size.pr=100 size.prtotal=unlimited";
    let server = Slapd::start(&Variant { entries, more, ..Variant::default() });
    let mut settings = server.settings();
    settings.people.push("dc=sunrise,dc=test".into());
    let connector = server.connector_with(settings);
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let found = discover(link.as_mut(), &Scope::Everything).await;
    assert_eq!(found.len(), 10_004);
    let members = found
        .iter()
        .filter(|a| a.doors.iter().any(|d| d.object.ends_with(":cn=all,ou=groups,dc=sunrise,dc=test")))
        .count();
    assert_eq!(members, 10_000);
    let people = (0..1_000).map(|n| {
        wanted(Person { id: PersonId(format!("N{n}")), email: None, user_name: Some(format!("p{n}")), ..jane() })
    });
    let found = discover(link.as_mut(), &Scope::People(people.collect())).await;
    assert_eq!(found.len(), 1_000);
    assert!(found.iter().all(|a| door(a, DoorKind::Membership).len() == 1));
}

/// Too small a limit never looks like a small directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_listing_is_an_error() {
    use futures::StreamExt;
    let mut entries = String::new();
    for n in 0..600 {
        let _ = write!(
            entries,
            "dn: uid=p{n},ou=people,dc=sunrise,dc=test\nobjectClass: inetOrgPerson\ncn: P {n}\nsn: P\nuserPassword: x\n\n"
        );
    }
    let mut variant = Variant { entries, ..Variant::default() };
    let server = Slapd::start(&variant);
    let found: Vec<_> = server.open().await.discover(&Scope::Everything).collect().await;
    let fault = found.last().unwrap().as_ref().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Forbidden, "{fault:?}");
    // The limit in the hint is exactly what was missing.
    let limit = fault.hint.as_ref().unwrap().split("olcLimits: ").nth(1).unwrap();
    variant.more = format!("limits {limit}").leak();
    let found = discover(Slapd::start(&variant).open().await.as_mut(), &Scope::Everything).await;
    assert_eq!(found.len(), 602);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referral_is_reported_and_not_followed() {
    let entries = "dn: ou=abroad,ou=people,dc=sunrise,dc=test\nobjectClass: referral\nobjectClass: extensibleObject\nou: abroad\nref: ldap://elsewhere.example.com/ou=abroad\n".to_string();
    let server = Slapd::start(&Variant { entries, ..Variant::default() });
    let mut link = server.open().await;
    janes(link.as_mut()).await;
    let findings = link.findings();
    assert!(
        findings.iter().any(|f| f.kind == FindingKind::Unknown && f.what.contains("elsewhere.example.com")),
        "{findings:?}"
    );
}
