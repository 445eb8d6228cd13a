//! What the contract does not ask of MariaDB: rows of one name, events, a leaver who defends themselves, names of any kind, servers that lie, and a
//! password that programs share. It starts servers of its own.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test mysql`.

mod server;

use futures::StreamExt;
use jiff::Timestamp;
use offboard::connector::{Connector, Cx, KnownSecret, Link, Scope, Turn, Wanted};
use offboard::connectors::mysql::{Settings, build};
use offboard::model::{
    Account, Action, Door, DoorKind, FaultKind, Finding, FindingKind, MatchRule, Outcome, Owner, Part, Person,
    PersonId, Phase, Proof, SecretName, Seen, Step, SystemName, Undo, Verdict, WorkerStatus,
};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A server on loopback, without TLS, whose general log tells what it was sent.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const USERS: &str = "
CREATE USER offboard@'%' IDENTIFIED BY 'ours-and-secret'; CREATE USER monitor@'%' IDENTIFIED BY 'control';
GRANT CREATE USER, PROCESS, CONNECTION ADMIN, EVENT, SET USER, SHOW VIEW, TRIGGER ON *.* TO offboard; GRANT SELECT ON mysql.* TO offboard;
CREATE DATABASE app; CREATE TABLE app.ticks (n INT AUTO_INCREMENT PRIMARY KEY); CREATE ROLE readers; GRANT readers TO offboard WITH ADMIN OPTION;
CREATE USER jane@'%' IDENTIFIED BY 'janes'; CREATE USER jane@'127.%' IDENTIFIED BY 'janes'; CREATE USER jane@LocalHost IDENTIFIED BY 'janes';
CREATE USER Jane@'%' IDENTIFIED BY 'other'; CREATE USER janea@'%' IDENTIFIED BY 'janeas';
GRANT ALL ON app.* TO jane@'127.%'; GRANT readers TO jane@'%', jane@'127.%', janea;
";

impl Server {
    fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let private = |path: &Path, mode| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        for (name, text) in [("password", "ours-and-secret"), ("control", "control")] {
            std::fs::write(folder.path().join(name), text).unwrap();
            private(&folder.path().join(name), 0o600);
        }
        let data = folder.path().join("data");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--user=root", "--auth-root-authentication-method=socket", "--skip-test-db"]);
        let made = install
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", folder.path().display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = server::port();
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig=KILL",
            "/usr/sbin/mariadbd",
            "--no-defaults",
            "--user=root",
            "--bind-address=127.0.0.1",
        ]);
        command.args([
            "--skip-name-resolve",
            "--event-scheduler=ON",
            "--general-log",
            "--log-bin",
            "--innodb-buffer-pool-size=16M",
        ]);
        command
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", folder.path().display()))
            .arg(format!("--port={port}"));
        command.arg(format!("--socket={}", folder.path().join("socket").display()));
        command.arg(format!("--general-log-file={}", folder.path().join("general.log").display())).args(more);
        let socket = folder.path().join("socket");
        let child = server::start(&mut command, &folder.path().join("log"), || root(&socket, "SELECT 1").is_ok());
        let server = Self { folder, port, child };
        server.root(USERS);
        server
    }

    fn root(&self, statements: &str) -> String {
        root(&self.folder.path().join("socket"), statements).unwrap()
    }

    fn client(&self, user: &str, password: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-NB", "--skip-reconnect", "-h", "127.0.0.1", "-P", &self.port.to_string()]);
        command.arg(format!("--user={user}")).env("MYSQL_PWD", password);
        command
    }

    fn gets_in(&self, user: &str, password: &str) -> bool {
        self.client(user, password).args(["-e", "SELECT 1"]).output().unwrap().status.success()
    }

    fn connector(&self) -> Arc<dyn Connector> {
        self.connector_at(self.port)
    }

    fn connector_at(&self, port: u16) -> Arc<dyn Connector> {
        let settings = format!(
            "{{ hosts: [\"127.0.0.1:{port}\"], user: offboard, password: {{ file: password }}, tls: off, \
               control: {{ user: monitor, password: {{ file: control }} }} }}"
        );
        let settings: Settings = serde_yaml::from_str(&settings).unwrap();
        build(&SystemName("clinic".into()), settings, self.folder.path()).unwrap()
    }

    async fn link(&self) -> Box<dyn Link> {
        let connector = self.connector();
        connector.open(&connector.places()[0], &cx()).await.unwrap()
    }
}

fn root(socket: &Path, statements: &str) -> Result<String, String> {
    let mut command = Command::new("mariadb");
    let output =
        command.args(["--no-defaults", "-NB", "-u", "root", "-e", statements, "-S"]).arg(socket).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn cx() -> Cx {
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    Cx { now: Arc::new(move || now), timeout: Duration::from_secs(10), baseline: None, seed: vec![42; 32].into() }
}

fn scope(user: &str) -> Scope {
    let person = Person {
        id: PersonId("E1".into()),
        name: "Jane Roe".into(),
        email: None,
        user_name: Some(user.into()),
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Terminated,
        reason: None,
        ends: None,
        zone: None,
        keys: Vec::new(),
    };
    Scope::People(vec![Wanted { person, accounts: Vec::new(), keys: BTreeSet::new() }])
}

async fn found(link: &mut dyn Link, user: &str) -> (Account, Vec<Finding>) {
    let scope = scope(user);
    let accounts: Vec<_> = link.discover(&scope).collect().await;
    let mut account: Account = accounts
        .into_iter()
        .map(Result::unwrap)
        .find(|a| a.native_id == user)
        .unwrap_or_else(|| panic!("{user:?} was not found"));
    account.owner = Owner::Person { id: PersonId("E1".into()), rule: MatchRule::UserName };
    (account, link.findings())
}

fn plan(connector: &dyn Connector, account: &Account) -> Vec<Step> {
    let plan = |action| connector.plan(account, &PersonId("E1".into()), action).concat();
    [plan(Action::Disable), plan(Action::Remove)].concat()
}

async fn verdicts(link: &mut dyn Link, doors: &[Door]) -> Vec<Verdict> {
    link.look(doors, true, &cx()).await.into_iter().map(|look| look.verdict).collect()
}

fn is_shut(verdict: &Verdict, wanted: Proof) -> bool {
    matches!(verdict, Verdict::Shut { proof, .. } if *proof == wanted)
}

/// Finds and shuts everything of `user`; the notes of the steps, and the verdicts by door.
async fn shut(server: &Server, user: &str) -> (Account, Vec<String>, Vec<Verdict>) {
    let connector = server.connector();
    let mut link = server.link().await;
    let (account, _) = found(&mut *link, user).await;
    let steps = plan(&*connector, &account);
    let notes = link.apply(&steps, &cx()).await.into_iter().map(|outcome| match outcome.unwrap() {
        Outcome::Done { note } => note,
        other => format!("{other:?}"),
    });
    let notes = notes.collect();
    let seen = verdicts(&mut *link, &account.doors).await;
    assert!(seen.iter().all(|verdict| matches!(verdict, Verdict::Shut { .. })), "{seen:?}");
    (account, notes, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_locked_and_the_row_that_we_come_to_says_so_itself() {
    let server = Server::start(&[]);
    let (account, _, seen) = shut(&server, "jane").await;
    let of = |object: &str| {
        let at =
            account.doors.iter().position(|d| d.kind == DoorKind::Password && d.object.eq_ignore_ascii_case(object));
        &seen[at.unwrap_or_else(|| panic!("no row {object}: {:?}", account.doors))]
    };
    assert!(is_shut(of("127.%"), Proof::Refused), "{:?}", of("127.%"));
    let Verdict::Shut { reply, .. } = of("127.%") else { unreachable!() };
    assert!(reply.contains("4151"), "{reply}");
    // No login from here comes to these.
    assert!(is_shut(of("%"), Proof::ReadBack) && is_shut(of("localhost"), Proof::ReadBack));
    assert!(!server.gets_in("jane", "janes"));
    // Other people, to the server and to us.
    assert!(
        server.gets_in("Jane", "other")
            && server.gets_in("janea", "janeas")
            && server.gets_in("offboard", "ours-and-secret")
    );
    let roles = server.root("SELECT User FROM mysql.roles_mapping WHERE Role = 'readers' AND User LIKE 'jane%'");
    assert_eq!(roles, "janea");
    // No password in any log of the server; the hash may be.
    let log = std::fs::read_to_string(server.folder.path().join("general.log")).unwrap();
    for host in ["%", "127.%", "localhost"] {
        let witness = cx().witness(&offboard::model::PlaceId("clinic".into()), &format!("jane@{host}"));
        assert!(!log.contains(witness.expose_secret()), "a witness stands in the general log");
    }
    assert!(log.contains("ACCOUNT LOCK"));
    // Only that answer proves it: with another password, or unlocked, it is told otherwise.
    let mut link = server.link().await;
    let door: Vec<Door> = account.doors.iter().filter(|d| d.object == "127.%").cloned().collect();
    server.root("ALTER USER jane@'127.%' IDENTIFIED BY 'another'");
    assert!(is_shut(&verdicts(&mut *link, &door).await[0], Proof::ReadBack));
    server.root("ALTER USER jane@'127.%' ACCOUNT UNLOCK");
    assert!(matches!(verdicts(&mut *link, &door).await[0], Verdict::Open { .. }));
    for outcome in link.apply(&plan(&*server.connector(), &account), &cx()).await {
        outcome.unwrap();
    }
    assert!(is_shut(&verdicts(&mut *link, &door).await[0], Proof::Refused));
    // A control that does not get in proves nothing; neither does one that the listing does not show.
    server.root("ALTER USER monitor ACCOUNT LOCK");
    assert!(matches!(verdicts(&mut *link, &door).await[0], Verdict::Unproven { .. }));
    server.root("DROP USER monitor");
    assert!(matches!(verdicts(&mut *link, &door).await[0], Verdict::Unproven { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_gives_a_new_password_that_must_be_changed_and_only_what_was_open() {
    let server = Server::start(&[]);
    server.root("ALTER USER jane@'%' ACCOUNT LOCK");
    let connector = server.connector();
    let mut link = server.link().await;
    let (account, _) = found(&mut *link, "jane").await;
    let steps = plan(&*connector, &account);
    for outcome in link.apply(&steps, &cx()).await {
        outcome.unwrap();
    }
    let undo: Vec<Undo> = steps
        .iter()
        .filter(|s| s.reversible)
        .map(|step| Undo { step: step.clone(), account: account.clone() })
        .collect();
    let given: Vec<_> = link.restore(&undo, &cx()).await.into_iter().map(Result::unwrap).collect();
    let password = given.iter().find_map(|restored| restored.one_time_password.clone()).expect("a password");
    assert!(!server.gets_in("jane", "janes"), "the old one lives again");
    let first = server
        .client("jane", password.expose_secret())
        .args(["-e", "SET PASSWORD = PASSWORD('mine'); SELECT CURRENT_USER()"])
        .output();
    assert_eq!(String::from_utf8_lossy(&first.unwrap().stdout).trim(), "jane@127.%");
    assert_eq!(
        server.root(
            "SELECT JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv WHERE User = 'jane' AND Host = '%'"
        ),
        "1"
    );
    assert_eq!(server.root("SELECT COUNT(*) FROM mysql.roles_mapping WHERE Role = 'readers' AND User = 'jane'"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaver_who_defends_themselves_loses() {
    let server = Server::start(&[]);
    server.root("GRANT CREATE USER, PROCESS ON *.* TO jane@'127.%'");
    // An event runs with the rights of its definer, locked or not; this one unlocks them.
    let planted = "CREATE EVENT app.tick ON SCHEDULE EVERY 1 SECOND DO BEGIN INSERT INTO app.ticks VALUES (); \
                   ALTER USER jane@'127.%' IDENTIFIED BY 'janes' ACCOUNT UNLOCK; END";
    let made = server.client("jane", "janes").args(["--delimiter=//", "-e", planted]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let fights = "while true; do printf \"ALTER USER jane@'127.%%' IDENTIFIED BY 'janes' ACCOUNT UNLOCK;\\n\"; done | \
                  \"$0\" \"$@\"";
    let client = server.client("jane", "janes");
    let mut fighters = Command::new("setsid");
    fighters.args(["sh", "-c", fights]).arg(client.get_program()).args(client.get_args()).args(["--force", "-n"]);
    let mut fighters = fighters.env("MYSQL_PWD", "janes").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(server::comes_to_pass(|| server.root("SELECT COUNT(*) FROM app.ticks") != "0"));
    let (account, notes, seen) = shut(&server, "jane").await;
    let job = account.doors.iter().position(|d| d.kind == DoorKind::Job).expect("the event is a door");
    assert!(is_shut(&seen[job], Proof::ReadBack));
    assert!(notes[1].contains("events switched off: 1"), "{notes:?}");
    // Its definer stays: whoever switches it on again does not run it as us.
    assert_eq!(server.root("SELECT definer, status FROM mysql.event WHERE name = 'tick'"), "jane@127.%\tDISABLED");
    let ticks = server.root("SELECT COUNT(*) FROM app.ticks");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(server.root("SELECT COUNT(*) FROM app.ticks"), ticks, "the event goes on");
    assert!(!server.gets_in("jane", "janes"));
    let again = shut(&server, "jane").await.1;
    assert!(again.iter().all(|note| note == "AlreadyDone"), "{again:?}");
    let _ = Command::new("kill").args(["--", &format!("-{}", fighters.id())]).status();
    let _ = fighters.wait();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_kind_are_only_names() {
    for mode in ["", "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "--sql-mode=ORACLE"] {
        let options: Vec<&str> = if mode.is_empty() { Vec::new() } else { vec![mode] };
        let server = Server::start(&options);
        let names = [
            "a`b",
            "a'b",
            "a\"b",
            "a\\",
            "'; DROP USER janea; --x",
            "`; DROP USER janea; --x",
            "jane@example.com",
            "j\u{202e}ane",
            "*",
            "ночь",
            "a\nb",
        ];
        for name in names {
            // Another quoting than ours: in hexadecimal, by a prepared statement.
            let hex: String = name.bytes().map(|byte| format!("{byte:02X}")).collect();
            server.root(&format!(
                "SET NAMES utf8mb4; SET @s = CONCAT('CREATE USER ', CHAR(96), REPLACE(CONVERT(X'{hex}' USING utf8mb4), CHAR(96), REPEAT(CHAR(96), 2)), \
                 CHAR(96), '@', CHAR(96), '%', CHAR(96), ' IDENTIFIED BY ', CHAR(39), 'theirs', CHAR(39)); PREPARE s FROM @s; EXECUTE s"
            ));
        }
        for name in names {
            let (account, _, seen) = shut(&server, name).await;
            let at = account.doors.iter().position(|d| d.kind == DoorKind::Password).unwrap();
            assert!(is_shut(&seen[at], Proof::Refused), "{mode}: {name:?}: {seen:?}");
        }
        assert!(
            server.gets_in("janea", "janeas")
                && server.gets_in("jane", "janes")
                && server.gets_in("offboard", "ours-and-secret")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_password_of_the_server_gets_no_witness() {
    let server = Server::start(&["--plugin-load-add=auth_ed25519"]);
    server.root(
        "CREATE USER sock@localhost IDENTIFIED VIA unix_socket; CREATE USER edward@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x'); \
         CREATE USER twice@'%' IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('theirs')",
    );
    let (account, ..) = shut(&server, "sock").await;
    assert_eq!(account.doors[0].kind, DoorKind::Login);
    let stored = server.root("SELECT Priv FROM mysql.global_priv WHERE User = 'sock'");
    assert!(
        stored.contains("unix_socket") && !stored.contains("mysql_native") && stored.contains("account_locked"),
        "{stored}"
    );
    for name in ["edward", "twice"] {
        let (_, _, seen) = shut(&server, name).await;
        assert!(is_shut(&seen[0], Proof::Refused), "{seen:?}");
        let stored = server.root(&format!("SELECT Priv FROM mysql.global_priv WHERE User = '{name}'"));
        assert!(!stored.contains("unix_socket") && !stored.contains("ed25519"), "{stored}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leaver_leaves_and_plants_is_told() {
    let server = Server::start(&[]);
    server.root(
        "CREATE DEFINER = jane@'127.%' PROCEDURE app.back() SELECT 1; CREATE DEFINER = jane@'127.%' VIEW app.seen AS SELECT 1; \
         CREATE DEFINER = jane@'127.%' TRIGGER app.t BEFORE INSERT ON app.ticks FOR EACH ROW SET @a = 1; \
         GRANT PROXY ON jane@'%' TO janea@'%'; CREATE USER ''@'10.%'; GRANT CREATE USER ON *.* TO jane@'%'",
    );
    let mut link = server.link().await;
    let (account, told) = found(&mut *link, "jane").await;
    let has = |told: &[Finding], words: &str| told.iter().any(|f| f.what.contains(words));
    for words in ["\"app.back\"", "\"app.seen\"", "\"app.t\"", "\"janea@%\"", "anonymous users"] {
        assert!(has(&told, words), "{words}: {told:#?}");
    }
    assert!(account.privileged);
    server.root("CREATE USER planted@'%' IDENTIFIED BY 'x'; ALTER USER janea IDENTIFIED BY 'known'");
    let (_, told) = found(&mut *link, "jane").await;
    let planted = told.iter().any(|f| f.kind == FindingKind::Unknown && f.what.contains("\"planted\""));
    assert!(planted && has(&told, "changed during the run"), "{told:#?}");
}

/// A server that greets with `reply` and answers everything with it.
fn liar(reply: &'static [u8]) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                let _ = stream.write_all(reply);
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                    if stream.write_all(reply).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_is_believed_nothing() {
    let server = Server::start(&[]);
    let quick = Cx { timeout: Duration::from_millis(800), ..cx() };
    let denied = b"\x11\x00\x00\x00\xff\x37\x10#HY000 is locked";
    let replies: [&'static [u8]; 6] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        denied,
        b"\x01\x00\x00\x00\x00",
    ];
    for reply in replies {
        let connector = server.connector_at(liar(reply));
        let fault = connector.open(&connector.places()[0], &quick).await.map(|_| ()).unwrap_err();
        assert_ne!(fault.kind, FaultKind::Forbidden, "{reply:?}: {fault:?}");
        assert!(!format!("{fault:?}").contains("ours-and-secret"), "our password is told: {fault:?}");
    }
}

/// One turn of the rotation of `app`'s password.
async fn turn(
    link: &mut dyn Link,
    phase: Phase,
    old: &SecretString,
    new: &SecretString,
    seen: &mut Seen,
    from: &[&str],
) -> Result<Outcome, offboard::model::Fault> {
    let (secret, part) = (SecretName("reports".into()), Part::Source { account: "app".into() });
    let consumers = vec![("web1".to_string(), from.iter().map(ToString::to_string).collect::<Vec<_>>())];
    let new = (phase != Phase::Create).then_some(new);
    let turn =
        Turn { phase, secret: &secret, part: &part, old: Some(old), new, user: None, seen, consumers: &consumers };
    let taken = link.rotate(&turn, &cx()).await?;
    seen.before = taken.seen.before.or(seen.before.take());
    seen.mark = taken.seen.mark.or(seen.mark.take());
    Ok(taken.outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_password_is_replaced_in_every_row_that_has_it() {
    let server = Server::start(&[]);
    server.root(
        "CREATE USER app@'%' IDENTIFIED BY 'known'; CREATE USER app@'127.%' IDENTIFIED BY 'known'; CREATE USER app@'10.%' IDENTIFIED BY 'elsewhere'; \
         CREATE USER apps@'%' IDENTIFIED BY 'known'",
    );
    let (old, new) = (SecretString::from("known"), SecretString::from("a-new-value-that-nobody-knows"));
    let mut link = server.link().await;
    let mut seen = Seen::default();
    let mut held = server
        .client("app", "known")
        .arg("-n")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let live = || server.root("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app'");
    assert!(server::comes_to_pass(|| live() == "1"));
    let wrong = SecretString::from("not-it");
    let fault = turn(&mut *link, Phase::Create, &wrong, &new, &mut Seen::default(), &["127.0.0.1"]).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault:?}");
    turn(&mut *link, Phase::Create, &old, &new, &mut seen, &["127.0.0.1"]).await.unwrap();
    assert!(server.gets_in("app", "known"), "create changes nothing");
    assert!(!seen.before.clone().unwrap().contains('*'), "a hash is remembered");
    turn(&mut *link, Phase::Set, &old, &new, &mut seen, &["127.0.0.1"]).await.unwrap();
    assert!(!server.gets_in("app", "known") && server.gets_in("app", new.expose_secret()));
    assert_eq!(live(), "1", "a consumer's connection goes on until it has logged in anew");
    let mut program = server
        .client("app", new.expose_secret())
        .arg("-n")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    turn(&mut *link, Phase::Test, &old, &new, &mut seen, &["127.0.0.1"]).await.unwrap();
    turn(&mut *link, Phase::Finish, &old, &new, &mut seen, &["127.0.0.1"]).await.unwrap();
    assert_eq!(live(), "1", "the connection from before is gone, the program's is not");
    held.wait().unwrap();
    // Twice, or late: nothing changes.
    assert_eq!(
        turn(&mut *link, Phase::Set, &old, &new, &mut seen, &["127.0.0.1"]).await.unwrap(),
        Outcome::AlreadyDone
    );
    assert!(server.gets_in("app", new.expose_secret()) && server.gets_in("apps", "known"));
    let stored = "SELECT JSON_VALUE(Priv, '$.authentication_string') = PASSWORD('elsewhere') FROM mysql.global_priv WHERE User = 'app' AND Host = '10.%'";
    assert_eq!(server.root(stored), "1", "a row with another password is somebody else's");
    // The door: refused for the one reason, and the new value gets in.
    let door = Door::new(&server.connector().places()[0].id, "app", DoorKind::SharedSecret, "reports", "");
    let known = KnownSecret {
        door: door.id.clone(),
        old: Some(old.clone()),
        new: Some(new.clone()),
        before: seen.before.clone(),
        source: None,
    };
    link.keep(vec![known]);
    let looked = link.look(std::slice::from_ref(&door), true, &cx()).await.remove(0);
    assert!(is_shut(&looked.verdict, Proof::Refused), "{looked:?}");
    assert!(format!("{looked:?}").contains("1045") && looked.control.unwrap().contains("new value"));
    // A row more with the old password opens it, also where no login from here comes to it.
    server.root("CREATE USER app@'192.168.%' IDENTIFIED BY 'known'");
    assert!(matches!(verdicts(&mut *link, std::slice::from_ref(&door)).await[0], Verdict::Open { .. }));
    server.root("DROP USER app@'192.168.%'; ALTER USER app@'127.%' IDENTIFIED BY 'somebody-elses'");
    // Somebody else has changed it: it is not overwritten, and nothing is called refused.
    let fault = turn(&mut *link, Phase::Set, &old, &new, &mut seen, &["127.0.0.1"]).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Protected);
    assert!(server.gets_in("app", "somebody-elses"));
    assert!(!is_shut(&verdicts(&mut *link, std::slice::from_ref(&door)).await[0], Proof::Refused));
    let log = std::fs::read_to_string(server.folder.path().join("general.log")).unwrap();
    assert!(!log.contains(new.expose_secret()), "the new value stands in the general log");
    program.kill().unwrap();
    program.wait().unwrap();
}
