//! The straight line, and what counts as proof of it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_straight_line() {
    let cluster = shared();
    cluster.admin("CREATE ROLE line_staff; CREATE ROLE line_jane LOGIN PASSWORD 'jane''s own'; CREATE ROLE line_jane2 LOGIN PASSWORD 'not jane';
        GRANT line_staff TO line_jane WITH ADMIN OPTION; GRANT line_staff TO line_jane2; GRANT pg_read_all_data TO line_jane;
        CREATE FUNCTION line_trap() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; ALTER FUNCTION line_trap() OWNER TO line_jane");
    let connector = operator(&cluster, "line_operator", "SUPERUSER");
    let mut link = open(&connector).await.unwrap();
    let mut jane = cluster.online("line_jane", "jane's own");
    let mut bystander = cluster.online("line_jane2", "not jane");

    let found = find(&mut *link, "line_jane").await;
    assert_eq!(found.iter().map(|a| a.native_id.as_str()).collect::<Vec<_>>(), ["line_jane"]);
    let account = &found[0];
    assert!(account.privileged && account.enabled && account.last_used.is_some());
    assert_eq!(account.facts["has_password"], true);
    assert!(!account.facts.to_string().contains("SCRAM"));
    let kinds: Vec<DoorKind> = account.doors.iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [DoorKind::Password, DoorKind::Session, DoorKind::Membership, DoorKind::Membership]);
    let findings = names(&link.findings());
    assert!(findings.contains("SECURITY DEFINER function public.line_trap()"), "{findings}");
    assert!(findings.contains("(trust)"), "{findings}");
    let steps = steps(&connector, account);
    assert_eq!(steps, self::steps(&connector, account));
    assert!(looks(&mut *link, &account.doors, false).await.iter().all(is_open));

    for outcome in link.apply(&steps, &cx()).await {
        assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
    }
    let after = looks(&mut *link, &account.doors, true).await;
    assert!(is_shut(&after[0], Proof::Refused), "{:?}", after[0]);
    assert!(after[1..].iter().all(|look| is_shut(look, Proof::ReadBack)), "{after:?}");
    assert!(jane.ask("SELECT 1").is_none());
    assert!(cluster.login("line_jane", "jane's own").is_err());
    assert_eq!(bystander.ask("SELECT 1").as_deref(), Some("1"));
    assert_eq!(cluster.login("line_jane2", "not jane").unwrap(), "line_jane2");
    for outcome in link.apply(&steps, &cx()).await {
        assert_eq!(outcome.unwrap(), Outcome::AlreadyDone);
    }

    let undo: Vec<Undo> = steps.iter().map(|step| Undo { step: step.clone(), account: account.clone() }).collect();
    let restored = link.restore(&undo, &cx()).await;
    let password = restored[0].as_ref().unwrap().one_time_password.clone().unwrap();
    assert!(restored.iter().all(Result::is_ok), "{restored:?}");
    // The clock of this test stands in the past: so does the end of the password's validity.
    assert_eq!(
        cluster.admin("SELECT rolvaliduntil AT TIME ZONE 'UTC' FROM pg_roles WHERE rolname = 'line_jane'"),
        "2026-03-02 12:00:00"
    );
    cluster.admin("ALTER ROLE line_jane VALID UNTIL 'infinity'");
    assert_eq!(cluster.login("line_jane", password.expose_secret()).unwrap(), "line_jane");
    assert!(cluster.login("line_jane", "jane's own").is_err());
    assert_eq!(cluster.admin("SELECT count(*) FROM pg_auth_members WHERE member = 'line_jane'::regrole AND (admin_option OR roleid = 'pg_read_all_data'::regrole)"), "2");

    let log = cluster.log();
    let witness = cx().witness(&offboard::model::PlaceId("billing".into()), "line_jane");
    assert!(log.contains("ALTER ROLE line_jane NOLOGIN"));
    assert!(!log.contains(witness.expose_secret()) && !log.contains(password.expose_secret()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_reason_counts() {
    let cluster = shared();
    cluster.admin("CREATE ROLE no_line LOGIN PASSWORD 'p'; CREATE ROLE cert_only LOGIN; CREATE ROLE only_there LOGIN PASSWORD 'p'; CREATE ROLE swapped LOGIN PASSWORD 'p'; CREATE ROLE expired LOGIN PASSWORD 'p' VALID UNTIL '2020-01-01'");
    cluster.admin("CREATE DATABASE elsewhere");
    let connector = operator(&cluster, "reason_operator", "SUPERUSER");
    let mut link = open(&connector).await.unwrap();
    let mut after = Vec::new();
    for name in ["no_line", "cert_only", "only_there", "swapped", "expired"] {
        let found = find(&mut *link, name).await;
        for outcome in link.apply(&steps(&connector, &found[0]), &cx()).await {
            outcome.unwrap();
        }
        if name == "swapped" {
            cluster.admin("ALTER ROLE swapped PASSWORD 'another'");
        }
        after.push(looks(&mut *link, &found[0].doors[..1], true).await.remove(0));
    }
    assert!(is_unproven(&after[0]), "no line in pg_hba.conf: {:?}", after[0]);
    assert!(is_shut(&after[1], Proof::ReadBack), "no local password: {:?}", after[1]);
    assert!(is_shut(&after[2], Proof::Refused), "another database: {:?}", after[2]);
    assert!(is_unproven(&after[3]), "the witness was changed: {:?}", after[3]);
    assert!(is_shut(&after[4], Proof::Refused), "an expired password: {:?}", after[4]);
    assert_eq!(cluster.admin("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'cert_only'"), "t");

    // A control that does not get in proves nothing, whatever the leaver's refusal says.
    cluster.secret("control", "wrong");
    let with_control =
        self::connector(&cluster, "reason_operator", "control: { user: few, password: { file: control } }");
    let mut link = open(&with_control).await.unwrap();
    let found = find(&mut *link, "only_there").await;
    assert!(is_unproven(&looks(&mut *link, &found[0].doors[..1], true).await[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_or_hangs_proves_nothing() {
    let cluster = Cluster::start(&[]);
    cluster.admin("CREATE ROLE jane LOGIN PASSWORD 'p'");
    let connector = operator(&cluster, "operator", "SUPERUSER");
    // Every look waits for so long; but a busy machine has to answer in that time, too.
    let quick = Cx { timeout: Duration::from_secs(4), ..cx() };
    let mut link = connector.open(&connector.places()[0], &quick).await.unwrap();
    let found = find(&mut *link, "jane").await.remove(0);
    let steps = steps(&connector, &found);
    for outcome in link.apply(&steps, &cx()).await {
        outcome.unwrap();
    }
    // Hanging: every backend is stopped, and so is the one that would take new logins.
    let pids = cluster.admin("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
    let send = |signal| {
        for pid in pids.split(' ').map(|p| p.parse().unwrap()).chain([cluster.postmaster]) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        }
    };
    send(nix::sys::signal::Signal::SIGSTOP);
    let quick = Cx { timeout: Duration::from_secs(1), ..cx() };
    assert_eq!(
        connector.open(&connector.places()[0], &quick).await.map(|_| ()).unwrap_err().kind,
        FaultKind::Unreachable
    );
    assert!(looks(&mut *link, &found.doors, true).await.iter().all(is_unproven));
    send(nix::sys::signal::Signal::SIGCONT);
    // The link finds its way back by itself.
    assert!(is_shut(&looks(&mut *link, &found.doors, true).await[0], Proof::Refused));
    drop(cluster);
    assert!(looks(&mut *link, &found.doors, true).await.iter().all(is_unproven));
    for outcome in link.apply(&steps, &cx()).await {
        assert_eq!(outcome.unwrap_err().kind, FaultKind::Unreachable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_is_understood_in_any_language() {
    let locales = tempfile::Builder::new().prefix("offboard-locale-").tempdir().unwrap();
    std::fs::set_permissions(locales.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let made = std::process::Command::new("localedef")
        .args(["-i", "de_DE", "-f", "UTF-8"])
        .arg(locales.path().join("de_DE.UTF-8"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}; apt-get install locales");
    let cluster = Cluster::start(&[("LOCPATH", locales.path().to_str().unwrap())]);
    cluster.admin("CREATE ROLE jane LOGIN PASSWORD 'p'");
    cluster.admin("ALTER SYSTEM SET lc_messages = 'de_DE.UTF-8'");
    cluster.admin("SELECT pg_reload_conf()");
    let connector = operator(&cluster, "operator", "SUPERUSER");
    let mut link = open(&connector).await.unwrap();
    let found = find(&mut *link, "jane").await.remove(0);
    for outcome in link.apply(&steps(&connector, &found), &cx()).await {
        outcome.unwrap();
    }
    let after = looks(&mut *link, &found.doors, true).await;
    assert!(is_shut(&after[0], Proof::Refused));
    let Verdict::Shut { reply, .. } = &after[0].verdict else { unreachable!() };
    assert!(reply.contains("Rolle") && reply.contains("28000"), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_follows_its_primary() {
    let primary = Cluster::start(&[]);
    primary.admin("CREATE ROLE staff; CREATE ROLE jane LOGIN PASSWORD 'p' IN ROLE staff");
    operator(&primary, "operator", "SUPERUSER");
    let standby = primary.standby();
    let both = format!(
        "hosts: [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\nuser: operator\npassword: {{ file: operator }}\nca: ca.pem",
        primary.port, standby.port
    );
    let connector = postgres::build(&system(), serde_yaml::from_str(&both).unwrap(), primary.path()).unwrap();
    let mut links = Vec::new();
    for place in connector.places() {
        links.push(connector.open(&place, &cx()).await.unwrap());
    }
    let mut online = standby.online("jane", "p");
    let there = find(&mut *links[1], "jane").await.remove(0);
    let steps_there = steps(&connector, &there);
    let outcomes = links[1].apply(&steps_there[..1], &cx()).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind, FaultKind::Busy, "it waits for its primary");
    let here = find(&mut *links[0], "jane").await.remove(0);
    for outcome in links[0].apply(&steps(&connector, &here), &cx()).await {
        outcome.unwrap();
    }
    let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", primary.admin("SELECT pg_current_wal_lsn()"));
    while standby.admin(&caught_up) != "t" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let outcomes = links[1].apply(&steps_there, &cx()).await;
    assert_eq!(*outcomes[0].as_ref().unwrap(), Outcome::AlreadyDone);
    assert!(matches!(outcomes[1], Ok(Outcome::Done { .. })), "{outcomes:?}");
    assert_eq!(*outcomes[2].as_ref().unwrap(), Outcome::AlreadyDone);
    assert!(online.ask("SELECT 1").is_none());
    let after = looks(&mut *links[1], &there.doors, true).await;
    assert!(is_shut(&after[0], Proof::Refused), "{after:?}");
    assert!(after[1..].iter().all(|look| is_shut(look, Proof::ReadBack)), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_inventory_comes_page_by_page() {
    let cluster = shared();
    cluster
        .admin("DO $$ BEGIN FOR i IN 1..1100 LOOP EXECUTE 'CREATE ROLE inventory_' || i || ' LOGIN'; END LOOP; END $$");
    let connector = operator(&cluster, "inventory_operator", "SUPERUSER");
    let mut link = open(&connector).await.unwrap();
    let found: Vec<Account> = link.discover(&Scope::Everything).map(|account| account.unwrap()).collect().await;
    let names: BTreeSet<&str> = found.iter().map(|a| a.native_id.as_str()).collect();
    assert_eq!(names.len(), found.len(), "one account a role");
    assert_eq!(names.iter().filter(|n| n.starts_with("inventory_")).count(), 1101);
    assert!(names.contains("postgres") && !names.iter().any(|n| n.starts_with("pg_")), "{names:?}");
}
