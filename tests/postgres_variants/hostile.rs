//! Names that are code, and leavers who fight back, hide behind another role or vanish.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_never_more_than_a_name() {
    let cluster = shared();
    cluster.admin("CREATE ROLE names_victim LOGIN PASSWORD 'victim'");
    let connector = operator(&cluster, "names_operator", "SUPERUSER");
    let mut link = open(&connector).await.unwrap();
    let long = "ß".repeat(31) + "x";
    for name in [
        "\"; DROP ROLE names_victim; --",
        "Upper Case",
        "it's",
        "%I %L %s",
        "new\nline",
        "a,b",
        "$$;\\",
        "a=b",
        "\u{202e}role",
        &long,
    ] {
        cluster.admin(&format!("CREATE ROLE {} LOGIN PASSWORD 'p'", quoted(name)));
        cluster.admin(&format!(
            "GRANT {0} TO names_victim; CREATE ROLE {1}; GRANT {1} TO {0}",
            quoted(name),
            quoted(&format!("g{}", name.chars().take(3).collect::<String>()))
        ));
        let found = find(&mut *link, name).await;
        assert_eq!(found.len(), 1, "{name:?}");
        let steps = steps(&connector, &found[0]);
        for outcome in link.apply(&steps, &cx()).await {
            outcome.unwrap_or_else(|fault| panic!("{name:?}: {fault:?}"));
        }
        let after = looks(&mut *link, &found[0].doors, true).await;
        assert!(after.iter().all(|look| matches!(look.verdict, Verdict::Shut { .. })), "{name:?}: {after:?}");
        let refused = !["new\nline", "a,b", "\u{202e}role"].contains(&name);
        assert!(is_shut(&after[0], if refused { Proof::Refused } else { Proof::ReadBack }), "{name:?}: {after:?}");
        assert!(cluster.login(name, "p").is_err());
    }
    assert!(cluster.login("names_victim", "victim").is_ok());
    assert!(find(&mut *link, "upper case").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaver_who_fights_back_loses() {
    let cluster = shared();
    let connector = operator(&cluster, "fight_operator", "SUPERUSER");
    let again = || cluster.log().matches("statement: ALTER ROLE admin_jane NOLOGIN").count() > 1;
    // Whether two statements really meet is up to the machine; so it is fought until they have.
    for _ in 0..20 {
        fight(&cluster, &connector).await;
        if cluster.log().contains("tuple concurrently updated") && again() {
            return;
        }
    }
    panic!("nobody raced, or nothing had to be done again");
}

/// A job of somebody else's gives LOGIN back faster than anybody can take it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_giving_it_back_holds_up_nothing_for_ever() {
    let cluster = shared();
    let connector = operator(&cluster, "given_operator", "SUPERUSER");
    cluster.admin("CREATE ROLE given_jane LOGIN PASSWORD 'p'; CREATE ROLE given_job LOGIN SUPERUSER PASSWORD 'p'");
    let mut link = open(&connector).await.unwrap();
    let found = find(&mut *link, "given_jane").await;
    let job = cluster.online("given_job", "p").forever("ALTER ROLE given_jane LOGIN PASSWORD 'p'");
    let quick = Cx { timeout: std::time::Duration::from_secs(2), ..cx() };
    let steps = steps(&connector, &found[0]);
    let outcomes =
        tokio::time::timeout(std::time::Duration::from_secs(60), link.apply(&steps, &quick)).await.expect("it ends");
    cluster.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'given_job'");
    job.join().unwrap();
    let fault = outcomes.into_iter().find_map(Result::err).expect("it was not done");
    assert_eq!(fault.kind, FaultKind::Busy, "{fault:?}");
    assert!(fault.because.as_deref().is_some_and(|why| why.contains("keeps undoing")), "{fault:?}");
    for outcome in link.apply(&steps, &cx()).await {
        outcome.unwrap_or_else(|fault| panic!("when the job has ended: {fault:?}"));
    }
    assert!(cluster.login("given_jane", "p").is_err());
}

async fn fight(cluster: &Arc<Cluster>, connector: &Arc<dyn Connector>) {
    let roles = ["lock_jane", "loop_jane", "admin_jane", "back_jane"];
    for role in roles {
        cluster.admin(&format!("DROP ROLE IF EXISTS {role}"));
        let more = if role == "admin_jane" { "CREATEROLE" } else { "" };
        cluster.admin(&format!("CREATE ROLE {role} LOGIN {more} PASSWORD 'p'"));
    }
    let mut link = open(connector).await.unwrap();

    // Holds the lock on their own row of pg_authid.
    let mut online = cluster.online("lock_jane", "p");
    online.ask("BEGIN; ALTER ROLE lock_jane PASSWORD 'q'; SELECT 1");
    // Changes their own password all the time.
    let looping = cluster.online("loop_jane", "p").forever("ALTER ROLE loop_jane PASSWORD 'q'");
    // Gives themselves LOGIN and another password, again and again.
    let admin = cluster.online("admin_jane", "p").forever("ALTER ROLE admin_jane LOGIN PASSWORD 'q'");
    // Comes back as soon as they are thrown out.
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let again = std::thread::spawn({
        // Not a share of the cluster: it has to end when the test fails.
        let (cluster, stop) = (Arc::downgrade(cluster), stop.clone());
        move || {
            while let (Some(cluster), false) = (cluster.upgrade(), stop.load(std::sync::atomic::Ordering::Relaxed)) {
                let _ = cluster.login("back_jane", "p");
            }
        }
    });
    for name in roles {
        let found = find(&mut *link, name).await;
        for outcome in link.apply(&steps(connector, &found[0]), &cx()).await {
            outcome.unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        }
        let after = looks(&mut *link, &found[0].doors, true).await;
        assert!(is_shut(&after[0], Proof::Refused), "{name}: {after:?}");
        assert!(is_shut(&after[1], Proof::ReadBack), "{name}: {after:?}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for thread in [again, looping, admin] {
        thread.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrowed_role_is_seen_where_the_server_shows_it() {
    let cluster = shared();
    cluster.admin(
        "CREATE ROLE borrow_jane LOGIN PASSWORD 'p'; CREATE ROLE borrow_team LOGIN PASSWORD 'p' IN ROLE borrow_jane;
        CREATE ROLE borrow_app LOGIN PASSWORD 'p'; GRANT borrow_app TO borrow_jane",
    );
    let connector = operator(&cluster, "borrow_operator", "SUPERUSER");
    let mut link = open(&connector).await.unwrap();
    let mut taken = cluster.online("borrow_team", "p");
    taken.send("SET ROLE borrow_jane");
    let mut own = cluster.online("borrow_team", "p");
    own.ask("SELECT 'SET ROLE borrow_jane'");
    let mut away = cluster.online("borrow_jane", "p");
    away.ask("SET ROLE borrow_app; SELECT 1");
    let found = find(&mut *link, "borrow_jane").await;
    let findings = names(&link.findings());
    assert!(findings.contains("can be taken on with SET ROLE by borrow_team (live sessions: 2)"), "{findings}");
    assert!(findings.contains("may SET ROLE to borrow_app, which can log in itself"), "{findings}");
    assert!(is_open(&looks(&mut *link, &found[0].doors[1..2], false).await[0]));
    link.apply(&steps(&connector, &found[0]), &cx()).await.into_iter().for_each(|o| assert!(o.is_ok(), "{o:?}"));
    assert!(is_shut(&looks(&mut *link, &found[0].doors[1..2], true).await[0], Proof::ReadBack));
    assert!(taken.ask("SELECT 1").is_none() && away.ask("SELECT 1").is_none());
    assert_eq!(own.ask("SELECT 1").as_deref(), Some("1"));
    assert!(cluster.login("borrow_team", "p").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_vanish_or_change_their_name() {
    let cluster = shared();
    cluster.admin("CREATE ROLE gone_jane LOGIN PASSWORD 'p'; CREATE ROLE named_jane LOGIN PASSWORD 'p'; CREATE ROLE renamer CREATEROLE LOGIN");
    let connector = operator(&cluster, "gone_operator", "SUPERUSER");
    let mut link = open(&connector).await.unwrap();
    let gone = find(&mut *link, "gone_jane").await.remove(0);
    let mut online = cluster.online("gone_jane", "p");
    cluster.admin("DROP ROLE gone_jane; ALTER ROLE named_jane RENAME TO somebody_else; CREATE ROLE planted LOGIN");
    // The session has outlived its role.
    assert_eq!(online.ask("SELECT 1").as_deref(), Some("1"));
    assert!(is_unproven(&looks(&mut *link, &gone.doors[1..2], true).await[0]));
    let outcomes = link.apply(&steps(&connector, &gone), &cx()).await;
    assert_eq!(*outcomes[0].as_ref().unwrap(), Outcome::Absent);
    assert!(matches!(outcomes[1], Ok(Outcome::Done { .. })), "{outcomes:?}");
    assert!(online.ask("SELECT 1").is_none());
    for look in looks(&mut *link, &gone.doors, true).await {
        assert!(is_shut(&look, Proof::ReadBack), "{look:?}");
    }
    // After a resume the baseline comes back from the journal.
    let cx = Cx { baseline: link.baseline(), ..cx() };
    let mut link = connector.open(&connector.places()[0], &cx).await.unwrap();
    let renamed = find(&mut *link, "named_jane").await;
    assert_eq!(renamed[0].native_id, "somebody_else");
    assert_eq!(renamed[0].identity.user_name.as_deref(), Some("named_jane"));
    let findings = names(&link.findings());
    assert!(findings.contains("\"named_jane\" was renamed to \"somebody_else\""), "{findings}");
    assert!(findings.contains("created during the run: \""), "{findings}");
}
