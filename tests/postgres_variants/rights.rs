//! Our own login: what it may do, what it must never touch, and what is wrong with it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_fewer_rights_does_what_it_may_and_says_what_to_grant() {
    let cluster = shared();
    cluster.admin("CREATE ROLE few_jane LOGIN PASSWORD 'p'; CREATE ROLE few_root LOGIN PASSWORD 'p' SUPERUSER; CREATE ROLE few_copy LOGIN REPLICATION PASSWORD 'p'");
    let connector = operator(&cluster, "few_operator", "CREATEROLE IN ROLE pg_signal_backend");
    let mut link = open(&connector).await.unwrap();
    let health = link.check().await.unwrap();
    let findings = names(&health.findings);
    assert!(findings.contains("GRANT pg_read_all_stats TO \"few_operator\";"), "{findings}");
    assert!(findings.contains("GRANT SELECT (oid, rolpassword) ON pg_authid TO \"few_operator\""), "{findings}");
    assert!(!findings.contains("GRANT pg_signal_backend"), "{findings}");

    // Whether there is a password is not ours to see: no witness is set, and the listing has to do.
    let mut online = cluster.online("few_jane", "p");
    let found = find(&mut *link, "few_jane").await;
    assert_eq!(found[0].doors[0].kind, DoorKind::Login);
    let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'few_jane'";
    let before = cluster.admin(verifier);
    for outcome in link.apply(&steps(&connector, &found[0]), &cx()).await {
        assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
    }
    assert_eq!(cluster.admin(verifier), before);
    assert!(online.ask("SELECT 1").is_none());
    let after = looks(&mut *link, &found[0].doors, true).await;
    assert!(after.iter().all(|look| is_shut(look, Proof::ReadBack)), "{after:?}");

    for (name, grant) in [("few_root", "SUPERUSER"), ("few_copy", "REPLICATION")] {
        let online = cluster.online(name, "p");
        let found = find(&mut *link, name).await;
        let outcomes = link.apply(&steps(&connector, &found[0]), &cx()).await;
        let fault = outcomes[0].as_ref().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Forbidden, "{fault:?}");
        let hint = fault.hint.clone().unwrap();
        assert!(hint.contains(grant) && hint.contains("ALTER ROLE \"few_operator\" SUPERUSER"), "{hint}");
        if name == "few_root" {
            assert_eq!(outcomes[1].as_ref().unwrap_err().kind, FaultKind::Forbidden);
        }
        assert!(is_open(&looks(&mut *link, &found[0].doors, true).await[0]));
        drop(online);
    }

    cluster
        .admin("GRANT SELECT (oid, rolpassword) ON pg_authid TO few_operator; CREATE ROLE few_joan LOGIN PASSWORD 'p'");
    let mut link = open(&connector).await.unwrap();
    let found = find(&mut *link, "few_joan").await;
    assert_eq!(found[0].doors[0].kind, DoorKind::Password);
    link.apply(&steps(&connector, &found[0]), &cx()).await.into_iter().for_each(|o| assert!(o.is_ok(), "{o:?}"));
    assert!(is_shut(&looks(&mut *link, &found[0].doors, true).await[0], Proof::Refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_rights_is_told_which() {
    let cluster = shared();
    cluster.admin("CREATE ROLE none_staff; CREATE ROLE none_jane LOGIN PASSWORD 'p' IN ROLE none_staff");
    let connector = operator(&cluster, "none_operator", "");
    let mut link = open(&connector).await.unwrap();
    assert!(names(&link.check().await.unwrap().findings).contains("ALTER ROLE \"none_operator\" CREATEROLE;"));
    let mut online = cluster.online("none_jane", "p");
    let found = find(&mut *link, "none_jane").await;
    let outcomes = link.apply(&steps(&connector, &found[0]), &cx()).await;
    for (outcome, grant) in outcomes.iter().zip(["CREATEROLE", "GRANT pg_signal_backend", "CREATEROLE"]) {
        let fault = outcome.as_ref().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Forbidden, "{fault:?}");
        assert!(fault.hint.clone().unwrap().contains(grant), "{fault:?}");
    }
    assert!(looks(&mut *link, &found[0].doors, true).await.iter().all(is_open));
    assert_eq!(online.ask("SELECT 1").as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ours_is_never_touched() {
    let cluster = shared();
    cluster.secret("control", "c");
    cluster.admin("CREATE ROLE own_control LOGIN PASSWORD 'c'");
    operator(&cluster, "own_operator", "SUPERUSER");
    let connector = connector(&cluster, "own_operator", "control: { user: own_control, password: { file: control } }");
    let mut link = open(&connector).await.unwrap();
    for name in ["own_operator", "own_control", "postgres"] {
        let mut account = find(&mut *link, name).await.remove(0);
        assert_eq!(account.owner, Owner::Ourselves, "{name}");
        account.owner = Owner::Person { id: PersonId("E1042".into()), rule: MatchRule::Explicit };
        let step = Step::new(Action::Disable, &account, "", Vec::new(), true);
        let fault = link.apply(&[step], &cx()).await.remove(0).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Protected, "{name}");
    }
    assert!(cluster.login("own_control", "c").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_our_own_way_in_is_said() {
    let cluster = shared();
    operator(&cluster, "wrong_operator", "SUPERUSER");
    let open_fault = async |connector: &Arc<dyn Connector>| open(connector).await.map(|_| ()).unwrap_err();
    let wrong_ca = connector(&cluster, "wrong_operator", "ca: other-ca.pem");
    let fault = open_fault(&wrong_ca).await;
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault:?}");
    assert!(fault.because.clone().unwrap().contains("certificate"), "{fault:?}");
    let nobody = connector(&cluster, "nobody_at_all", "");
    let fault = open_fault(&nobody).await;
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault:?}");
    assert!(fault.because.clone().unwrap().contains("28P01"), "{fault:?}");
    let no_database = connector(&cluster, "wrong_operator", "database: nowhere");
    assert_eq!(open_fault(&no_database).await.kind, FaultKind::Misconfigured);
    let plain = connector(&cluster, "wrong_operator", "tls: off");
    assert_eq!(open_fault(&plain).await.kind, FaultKind::Misconfigured);
    cluster.admin("ALTER ROLE wrong_operator NOSUPERUSER CONNECTION LIMIT 1");
    let right = connector(&cluster, "wrong_operator", "");
    let _first = open(&right).await.unwrap();
    assert_eq!(open_fault(&right).await.kind, FaultKind::Busy);
}
