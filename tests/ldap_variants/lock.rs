//! Disable, its proof and its way back, in every state of the server's password policy.

use crate::slapd::*;
use offboard::connector::Link;
use offboard::model::*;

/// Locks Jane and looks; checks what must hold everywhere.
async fn lock(server: &Slapd) -> (Box<dyn Link>, Account, Outcome, Look) {
    lock_with(server, true).await
}

/// The same, where a connection of Jane's may keep the look from having a control.
async fn lock_with(server: &Slapd, proved: bool) -> (Box<dyn Link>, Account, Outcome, Look) {
    assert!(server.gets_in(JROE, "jane-old-password"));
    let connector = server.connector();
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    let doors = door(&account, DoorKind::Password);
    let before = link.look(&doors, false, &cx()).await;
    assert_eq!(before[0].verdict.word(), "open", "{before:?}");
    let steps = steps(connector.as_ref(), &account, Action::Disable);
    assert_eq!(steps.len(), 1);
    let outcome = link.apply(&steps, &cx()).await.remove(0).unwrap();
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    assert!(!server.gets_in(JROE, "jane-old-password"), "the old password is dead");
    assert!(server.gets_in(BYSTANDER, "bystander-password"));
    let look = link.look(&doors, true, &cx()).await.remove(0);
    let control = proved.then_some("uid=monitor,ou=services,dc=sunrise,dc=test");
    assert_eq!(look.control.as_deref(), control, "{look:?}");
    // A second apply, also by a worker that comes late over a link of its own, changes nothing.
    let password = server.values(JROE, "userPassword");
    let again = server.open().await.apply(&steps, &cx()).await.remove(0).unwrap();
    assert_eq!(again, Outcome::AlreadyDone);
    assert_eq!(server.values(JROE, "userPassword"), password);
    let secret = format!("{outcome:?}{look:?}{account:?}");
    assert!(!secret.contains("jane-old-password") && !secret.contains("{SSHA}"), "{secret}");
    (link, account, outcome, look)
}

fn proof(look: &Look) -> Option<Proof> {
    match &look.verdict {
        Verdict::Shut { proof, .. } => Some(*proof),
        _ => None,
    }
}

fn reply(look: &Look) -> &str {
    match &look.verdict {
        Verdict::Shut { reply, .. } | Verdict::Open { reply } => reply,
        Verdict::Unproven { why } => why,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_policy_the_refusal_itself_is_the_proof() {
    let server = Slapd::start(&Variant::default());
    let (_, _, _, look) = lock(&server).await;
    assert_eq!(proof(&look), Some(Proof::Refused), "{look:?}");
    assert!(reply(&look).contains("accountLocked"), "{look:?}");
    assert_eq!(server.values(JROE, "pwdAccountLockedTime"), ["000001010000Z"]);
    assert_eq!(server.values(JROE, "shadowExpire"), ["1"]);
    assert_eq!(look.residual, None, "cn=Monitor shows that nobody is connected as Jane");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_use_lockout_the_policy_entry_is_read() {
    let ppolicy = Some("ppolicy_default cn=default,ou=policies,dc=sunrise,dc=test");
    let (_, _, _, look) = lock(&Slapd::start(&Variant { ppolicy, ..Variant::default() })).await;
    assert_eq!(proof(&look), Some(Proof::Refused), "{look:?}");
    assert!(reply(&look).contains("pwdLockout TRUE"), "{look:?}");
}

/// Setting the lock succeeds there and locks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_lock_has_no_effect_the_password_becomes_unusable() {
    let no_default = Variant { ppolicy: Some("ppolicy_use_lockout"), ..Variant::default() };
    let ignored = Variant { policy: "pwdLockout: FALSE", ..Variant::default() };
    let none = Variant { ppolicy: None, ..Variant::default() };
    for (variant, locked) in [(no_default, true), (ignored, true), (none, false)] {
        let server = Slapd::start(&variant);
        let (_, _, outcome, look) = lock(&server).await;
        assert_eq!(proof(&look), Some(Proof::ReadBack), "{outcome:?} {look:?}");
        assert_eq!(server.values(JROE, "pwdAccountLockedTime").len(), usize::from(locked));
        for guess in ["*", "*0", "*1", "{CRYPT}*", "{CRYPT}", "x"] {
            assert!(!server.gets_in(JROE, guess), "{guess}");
        }
    }
}

/// Without `manage` on userPassword every one of these policies refuses a password that an administrator may set.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_refuses_our_password_does_not_stop_the_lock() {
    for policy in [
        "pwdLockout: TRUE\npwdCheckQuality: 2",
        "pwdLockout: TRUE\npwdSafeModify: TRUE",
        "pwdLockout: FALSE\npwdMinAge: 86400\npwdInHistory: 5",
    ] {
        let server = Slapd::start(&Variant { policy, operator: "write", ..Variant::default() });
        let (_, _, outcome, look) = lock(&server).await;
        assert!(proof(&look).is_some(), "{policy}: {outcome:?} {look:?}");
        assert_eq!(server.values(JROE, "pwdAccountLockedTime"), ["000001010000Z"], "{policy}: {outcome:?}");
    }
}

/// What the connector's order of changes rests on. If a later OpenLDAP behaves otherwise, this is where it shows.
#[tokio::test(flavor = "multi_thread")]
async fn the_traps_of_the_overlay_are_real() {
    let server = Slapd::start(&Variant::default());
    let set = |lines: &str| server.change(&format!("dn: {JROE}\nchangetype: modify\n{lines}"));
    let locked = || server.values(JROE, "pwdAccountLockedTime").len();
    let password = "replace: userPassword\nuserPassword: new-password\n";
    let lock = "pwdAccountLockedTime: 000001010000Z\n";
    set(&format!("{password}-\nadd: pwdAccountLockedTime\n{lock}"));
    assert_eq!(locked(), 1, "together, where there was no lock");
    set(&format!("{password}-\nreplace: pwdAccountLockedTime\n{lock}"));
    assert_eq!(locked(), 0, "replaced together with the password, a lock that was there is lost");
    set(&format!("add: pwdAccountLockedTime\n{lock}"));
    set(&format!("{password}-\ndelete: pwdAccountLockedTime\n-\nadd: pwdAccountLockedTime\n{lock}"));
    assert_eq!(locked(), 1, "deleted and added, it stays");
    set(password);
    assert_eq!(locked(), 0, "whoever sets a password takes the lock away");
    assert!(server.gets_in(JROE, "new-password"));
}

/// A lock by failed logins is deleted by whoever sets a password, behind everything else in the modification.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_there_is_not_lost() {
    let server = Slapd::start(&Variant {
        policy: "pwdLockout: TRUE\npwdMaxFailure: 3\npwdLockoutDuration: 30",
        ..Variant::default()
    });
    let connector = server.connector();
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    for _ in 0..4 {
        server.gets_in(JROE, "a wrong guess");
    }
    assert_eq!(server.values(JROE, "pwdAccountLockedTime").len(), 1, "the failures locked it for a while");
    let steps = steps(connector.as_ref(), &account, Action::Disable);
    link.apply(&steps, &cx()).await.remove(0).unwrap();
    assert_eq!(server.values(JROE, "pwdAccountLockedTime"), ["000001010000Z"]);
    let look = link.look(&door(&account, DoorKind::Password), true, &cx()).await.remove(0);
    assert_eq!(proof(&look), Some(Proof::Refused), "{look:?}");
}

/// Wrong logins, which set and clear short locks all the time, and a second worker with the same step.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_holds_against_a_second_worker_and_a_storm_of_logins() {
    use std::sync::atomic::{AtomicBool, Ordering};
    /// Ends the storm, also when the test fails.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let policy = "pwdLockout: TRUE\npwdMaxFailure: 1\npwdLockoutDuration: 1\npwdFailureCountInterval: 1";
    let server = Slapd::start(&Variant { policy, ..Variant::default() });
    let connector = server.connector();
    let (mut one, mut other) = (server.open().await, server.open().await);
    let account = janes(one.as_mut()).await;
    let steps = steps(connector.as_ref(), &account, Action::Disable);
    let doors = door(&account, DoorKind::Password);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                server.gets_in(JROE, "a wrong guess");
            }
        });
        let _end = End(&over);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for round in 0..20 {
                    server.change(&format!(
                        "dn: {JROE}\nchangetype: modify\nreplace: userPassword\nuserPassword: back{round}\n"
                    ));
                    let cx = cx();
                    let mut look = Look::unproven("not looked at");
                    // A login that was begun before the lock may take it away when it ends. That is seen, and it is set again, as the
                    // engine does it.
                    for _ in 0..5 {
                        let (a, b) = tokio::join!(one.apply(&steps, &cx), other.apply(&steps, &cx));
                        for outcome in a.into_iter().chain(b) {
                            outcome.unwrap();
                        }
                        // The witness stands, so nobody gets in, lock or no lock.
                        assert!(!server.gets_in(JROE, &format!("back{round}")), "round {round}");
                        look = one.look(&doors, true, &cx).await.remove(0);
                        if look.verdict.word() == "shut"
                            && server.values(JROE, "pwdAccountLockedTime") == ["000001010000Z"]
                        {
                            break;
                        }
                    }
                    assert_eq!(proof(&look), Some(Proof::Refused), "round {round}: {look:?}");
                    assert_eq!(server.values(JROE, "pwdAccountLockedTime"), ["000001010000Z"], "round {round}");
                }
            });
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn several_passwords_and_a_planted_one_all_go() {
    let server = Slapd::start(&Variant { ppolicy: None, ..Variant::default() });
    server.change(&format!("dn: {JROE}\nchangetype: modify\nadd: userPassword\nuserPassword: second-password\nuserPassword: {{SSHA}}wrong\n"));
    let (mut link, account, _, _) = lock(&server).await;
    assert!(!server.gets_in(JROE, "second-password"));
    server.change(&format!("dn: {JROE}\nchangetype: modify\nadd: userPassword\nuserPassword: planted\n"));
    let look = link.look(&door(&account, DoorKind::Password), true, &cx()).await.remove(0);
    assert_eq!(look.verdict.word(), "open", "{look:?}");
    let steps = steps(server.connector().as_ref(), &account, Action::Disable);
    assert!(matches!(link.apply(&steps, &cx()).await.remove(0), Ok(Outcome::Done { .. })));
    assert!(!server.gets_in(JROE, "planted"));
}

/// The leaver is connected, and sets a new password by the extended operation after the lock: that deletes the lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaver_who_resets_the_own_password_is_seen_and_locked_again() {
    use offboard::wire::{
        ldap::{Address, Session},
        tls::Trust,
    };
    let server = Slapd::start(&Variant::default());
    let trust = Trust::from_file(&server.path("server-ca.pem")).unwrap();
    let address = Address::parse(&format!("ldap://127.0.0.1:{}", server.ldap)).unwrap();
    let mut bound = Session::connect(&address, &trust, cx().timeout).await.unwrap();
    bound.bind(JROE, &"jane-old-password".to_string().into()).await.unwrap();
    let (mut link, account, _, look) = lock_with(&server, false).await;
    assert_eq!(look.verdict.word(), "unproven", "{look:?}");
    let reply = bound.set_password(JROE, &"back-again".to_string().into()).await.unwrap();
    assert_eq!(reply.code, offboard::wire::ldap::Code::Success);
    assert!(server.gets_in(JROE, "back-again"), "the trap is real");
    let doors = door(&account, DoorKind::Password);
    let look = link.look(&doors, true, &cx()).await.remove(0);
    assert_eq!(look.verdict.word(), "open", "{look:?}");
    let steps = steps(server.connector().as_ref(), &account, Action::Disable);
    link.apply(&steps, &cx()).await.remove(0).unwrap();
    assert!(!server.gets_in(JROE, "back-again"));
    let look = link.look(&doors, true, &cx()).await.remove(0);
    assert_eq!(look.verdict.word(), "unproven", "{look:?}");
    // With pwdSafeModify the same attempt is refused: the hint that `check` gives.
    server.change("dn: cn=default,ou=policies,dc=sunrise,dc=test\nchangetype: modify\nreplace: pwdSafeModify\npwdSafeModify: TRUE\n");
    let reply = bound.set_password(JROE, &"once-more".to_string().into()).await.unwrap();
    assert_eq!(reply.code, offboard::wire::ldap::Code::InsufficientAccessRights, "{reply:?}");
    // So the lock holds, and what the connection may still do is residual access.
    let look = server.open().await.look(&doors, true, &cx()).await.remove(0);
    assert_eq!(proof(&look), Some(Proof::Refused), "{look:?}");
    assert!(look.residual.as_ref().is_some_and(|r| r.what.starts_with("1 connection(s)")), "{look:?}");
}

/// The leaver holds a connection of OpenLDAP's own client, and could set a password with it at any time.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_unproven_while_a_connection_that_could_undo_it_is_open() {
    use std::io::Write;
    let server = Slapd::start(&Variant::default());
    let mut held = server.client("ldapmodify", JROE, "jane-old-password");
    let mut held = held.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // The client reads its input in blocks, so the change that shows that it is bound is padded.
    let change = format!("dn: {JROE}\nchangetype: modify\nreplace: description\ndescription: bound\n\n");
    let padding = format!("# {}\n", "-".repeat(76)).repeat(200);
    held.stdin.as_mut().unwrap().write_all(format!("{change}{padding}").as_bytes()).unwrap();
    let bound = || server.values(JROE, "description") == ["bound"];
    assert!(crate::server::comes_to_pass(bound), "the client is connected");
    let (mut link, account, _, look) = lock_with(&server, false).await;
    assert_eq!(look.verdict.word(), "unproven", "{look:?}");
    for words in ["1 connection(s) bound as this entry", "set a new password", "offboard verify or resume"] {
        assert!(reply(&look).contains(words), "{look:?}");
    }
    // Where the connections cannot be counted, the note says what one of them could do.
    let blind = Slapd::start(&Variant { monitor: false, ..Variant::default() });
    let (_, _, _, unseen) = lock(&blind).await;
    assert_eq!(unseen.verdict.word(), "shut", "{unseen:?}");
    assert!(unseen.residual.as_ref().is_some_and(|r| r.what.contains("unless pwdSafeModify is TRUE")), "{unseen:?}");
    held.kill().unwrap();
    held.wait().unwrap();
    let look = link.look(&door(&account, DoorKind::Password), true, &cx()).await.remove(0);
    assert_eq!(proof(&look), Some(Proof::Refused), "{look:?}");
    assert_eq!(look.residual, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_gives_a_one_time_password_that_must_be_changed() {
    let server = Slapd::start(&Variant { policy: "pwdLockout: TRUE\npwdMustChange: TRUE", ..Variant::default() });
    let (mut link, account, _, _) = lock(&server).await;
    let step = steps(server.connector().as_ref(), &account, Action::Disable).remove(0);
    let restored = link.restore(&[Undo { step, account }], &cx()).await.remove(0).unwrap();
    let one_time = restored.one_time_password.expect("a one-time password");
    let password = secrecy::ExposeSecret::expose_secret(&one_time).to_string();
    assert!(server.gets_in(JROE, &password), "{}", restored.note);
    assert!(!server.gets_in(JROE, "jane-old-password"));
    assert!(restored.note.contains("must be changed"), "{}", restored.note);
    assert_eq!(server.values(JROE, "shadowExpire"), ["99999"]);
    assert_eq!(server.values(JROE, "pwdReset"), ["TRUE"]);
    let search = server.client("ldapsearch", JROE, &password).args(["-b", JROE]).output().unwrap();
    assert_eq!(search.status.code(), Some(50), "nothing but a change of password is allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_where_the_policy_wants_to_see_the_password() {
    let variant = Variant {
        policy: "pwdLockout: TRUE\npwdCheckQuality: 2\npwdMinLength: 12",
        operator: "write",
        ..Variant::default()
    };
    let server = Slapd::start(&variant);
    let (mut link, account, _, _) = lock(&server).await;
    let step = steps(server.connector().as_ref(), &account, Action::Disable).remove(0);
    let restored = link.restore(&[Undo { step, account }], &cx()).await.remove(0).unwrap();
    let password = secrecy::ExposeSecret::expose_secret(&restored.one_time_password.unwrap()).to_string();
    assert!(server.gets_in(JROE, &password), "{}", restored.note);
}

/// Law 3: where there was no local password, a witness would make a door.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_checked_elsewhere_gets_no_witness() {
    let server = Slapd::start(&Variant::default());
    server.change(&format!(
        "dn: {JROE}\nchangetype: modify\nreplace: userPassword\nuserPassword: {{SASL}}jroe@EXAMPLE.COM\n"
    ));
    let connector = server.connector();
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    let steps = steps(connector.as_ref(), &account, Action::Disable);
    let Outcome::Done { note } = link.apply(&steps, &cx()).await.remove(0).unwrap() else { panic!() };
    assert!(note.contains("no password fits") && !note.contains("witness"), "{note}");
    let undo = Undo { step: steps[0].clone(), account };
    let restored = link.restore(&[undo], &cx()).await.remove(0).unwrap();
    assert!(restored.one_time_password.is_none());
    assert_eq!(server.values(JROE, "userPassword"), ["e1NBU0x9anJvZUBFWEFNUExFLkNPTQ=="]);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_say_what_to_grant() {
    let server = Slapd::start(&Variant { operator: "read", ..Variant::default() });
    let connector = server.connector();
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    for action in [Action::Disable, Action::Revoke, Action::Remove] {
        for outcome in link.apply(&steps(connector.as_ref(), &account, action), &cx()).await {
            let fault = outcome.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Forbidden, "{fault:?}");
            assert!(
                fault.hint.as_ref().unwrap().contains(&format!("by dn.exact=\"{OPERATOR}\" manage by * break")),
                "{fault:?}"
            );
        }
    }
    assert!(server.gets_in(JROE, "jane-old-password"));
    let fault = link.apply(&steps(connector.as_ref(), &account, Action::Disable), &cx()).await.remove(0).unwrap_err();
    let health = link.check().await.unwrap();
    for attribute in ["userPassword", "pwdAccountLockedTime", "sshPublicKey", "memberUid"] {
        let said = health.findings.iter().any(|f| f.what.contains(&format!("may not write {attribute}")));
        assert!(said || attribute == "memberUid", "{attribute}: {:?}", health.findings);
    }
    // The rule in the hint is exactly what was missing.
    let hint = fault.hint.unwrap();
    let rule = hint.split("olcAccess: {0}").nth(1).unwrap().split(" — ").next().unwrap();
    let more: &'static str = format!("access {rule}").leak();
    lock(&Slapd::start(&Variant { operator: "read", more, ..Variant::default() })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_we_may_not_read_is_never_called_shut() {
    let server = Slapd::start(&Variant { operator: "=w", ..Variant::default() });
    let connector = server.connector();
    let mut link = server.open().await;
    // Nothing of the entry is readable, so the roster cannot match it; an explicit map names it.
    let mut account = Account {
        system: SystemName("directory".into()),
        place: connector.places()[0].id.clone(),
        native_id: JROE.into(),
        name: "Jane".into(),
        enabled: true,
        identity: Identity::default(),
        owner: Owner::Person { id: jane().id, rule: MatchRule::Explicit },
        privileged: false,
        last_used: None,
        doors: Vec::new(),
        facts: serde_json::Value::Null,
    };
    account.doors = vec![Door::new(&account.place, JROE, DoorKind::Password, "", "")];
    let look = link.look(&account.doors, false, &cx()).await.remove(0);
    assert_eq!(look.verdict.word(), "unproven", "{look:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_is_silent_where_all_is_well_and_changes_nothing() {
    let variant = Variant { policy: "pwdLockout: TRUE\npwdSafeModify: TRUE", ..Variant::default() };
    let server = Slapd::start(&variant);
    let before = run(Command::new("slapcat").args([
        "-f",
        server.path("slapd.conf").to_str().unwrap(),
        "-b",
        "dc=sunrise,dc=test",
    ]))
    .stdout;
    let health = server.open().await.check().await.unwrap();
    assert_eq!(health.findings, []);
    assert!(health.identity.contains("OpenLDAP"), "{}", health.identity);
    let after = run(Command::new("slapcat").args([
        "-f",
        server.path("slapd.conf").to_str().unwrap(),
        "-b",
        "dc=sunrise,dc=test",
    ]))
    .stdout;
    assert!(before == after, "check changed an entry");
}

use std::process::{Command, Stdio};

#[tokio::test(flavor = "multi_thread")]
async fn our_own_login_and_the_control_are_never_touched() {
    let mut settings = Slapd::start(&Variant::default()).settings();
    settings.people = vec!["dc=sunrise,dc=test".into()];
    let server = Slapd::start(&Variant::default());
    settings.urls = server.settings().urls;
    let connector = server.connector_with(settings);
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let found = discover(link.as_mut(), &offboard::connector::Scope::Everything).await;
    for dn in [OPERATOR, "uid=monitor,ou=services,dc=sunrise,dc=test"] {
        let mut account = found.iter().find(|a| a.native_id == dn).expect("it is listed").clone();
        assert_eq!(account.owner, Owner::Ourselves);
        account.owner = Owner::Person { id: jane().id, rule: MatchRule::Explicit };
        assert!(steps(connector.as_ref(), &account, Action::Disable).is_empty());
        let step = Step::new(Action::Disable, &account, "", Vec::new(), true);
        let spelled_otherwise = Step { account: dn.to_uppercase().replace(',', " , "), ..step };
        let fault = link.apply(&[spelled_otherwise], &cx()).await.remove(0).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Protected);
    }
    assert!(server.gets_in(OPERATOR, "operator-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_gone_is_absent_and_shut_by_the_listing() {
    let server = Slapd::start(&Variant::default());
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    run(server.client("ldapdelete", "cn=admin,dc=sunrise,dc=test", "admin-secret").arg(JROE));
    let steps = steps(server.connector().as_ref(), &account, Action::Disable);
    assert_eq!(link.apply(&steps, &cx()).await.remove(0).unwrap(), Outcome::Absent);
    let look = link.look(&door(&account, DoorKind::Password), true, &cx()).await.remove(0);
    assert_eq!(proof(&look), Some(Proof::ReadBack), "{look:?}");
    assert!(look.control.is_some());
}

/// Write-only rights lock the account, and say honestly that nothing is proved.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_we_may_only_write_is_locked_and_unproven() {
    let more = "access to attrs=userPassword by dn.exact=\"cn=offboard,ou=services,dc=sunrise,dc=test\" =w by * break";
    for policy in ["pwdLockout: TRUE", "pwdLockout: FALSE"] {
        let server = Slapd::start(&Variant { more, policy, ..Variant::default() });
        let connector = server.connector();
        let mut link = server.open().await;
        let account = janes(link.as_mut()).await;
        let doors = door(&account, DoorKind::Password);
        assert_eq!(doors.len(), 1, "a hidden password is a door all the same");
        let steps = steps(connector.as_ref(), &account, Action::Disable);
        for _ in 0..2 {
            let outcome = link.apply(&steps, &cx()).await.remove(0).unwrap();
            assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
            assert!(!server.gets_in(JROE, "jane-old-password"));
        }
        let look = link.look(&doors, true, &cx()).await.remove(0);
        assert_eq!(look.verdict.word(), "unproven", "{look:?}");
        let health = link.check().await.unwrap();
        assert!(health.findings.iter().any(|f| f.what.contains("may not be read")), "{:?}", health.findings);
    }
}
