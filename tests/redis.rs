//! What the contract does not ask of Redis: restarts, every kind of connection, a leaver who defends themselves, servers that lie, and a
//! password that programs share. The first part starts servers of its own; the last needs the lab.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test redis`.

#[path = "lab/mod.rs"]
mod lab;
#[allow(dead_code, reason = "the stories use more of it")]
#[path = "story/office.rs"]
mod office;
mod server;

use futures::StreamExt;
use jiff::Timestamp;
use lab::{Lab, LabPerson};
use offboard::connector::{Connector, Cx, Link, Scope, Wanted};
use offboard::connectors::redis::{Settings, build};
use offboard::model::{
    Account, Action, Door, Fault, FaultKind, FindingKind, MatchRule, Outcome, Owner, Person, PersonId, Proof, Step,
    SystemName, Verdict, WorkerStatus,
};
use office::{Office, all_shut};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A server on loopback, without TLS. Its user `offboard` may do everything.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
    arguments: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const USERS: &str = "user default off\nuser offboard on >ours ~* &* +@all\nuser monitor on >control -@all\n\
                     user jane on >janes ~* &* +@all -@admin\nuser janea on >janeas ~* &* +@all -@admin\n";

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "ours").unwrap();
        std::fs::write(folder.path().join("control"), "control").unwrap();
        for name in ["password", "control"] {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(folder.path().join(name), private).unwrap();
        }
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let port = server::port();
        let child = Self::run(folder.path(), port, &arguments);
        Self { folder, port, child, arguments }
    }

    /// With its users in an ACL file.
    fn with_acl_file() -> Self {
        Self::start(&["acl"])
    }

    fn run(folder: &Path, port: u16, arguments: &[String]) -> Child {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=KILL", "redis-server"]).current_dir(folder);
        let users = || USERS.lines();
        match arguments.first().map(String::as_str) {
            Some("acl") => {
                let file = folder.join("users.acl");
                if !file.exists() {
                    std::fs::write(&file, USERS).unwrap();
                }
                command.args(["--aclfile", "users.acl"]);
            }
            Some("config") => {
                let file = folder.join("redis.conf");
                if !file.exists() {
                    std::fs::write(&file, format!("save \"\"\n{USERS}")).unwrap();
                }
                command.arg("redis.conf");
            }
            _ => {
                for user in users() {
                    let (word, rules) = user.split_once(' ').unwrap();
                    command.arg(format!("--{word}")).args(rules.split(' '));
                }
            }
        }
        command.args(arguments.iter().skip(1));
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"]);
        server::start(&mut command, &folder.join("log"), || {
            redis_cli(port, "offboard", "ours", &["PING"]).is_ok_and(|said| said == "PONG")
        })
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::run(self.folder.path(), self.port, &self.arguments);
    }

    fn admin(&self, words: &[&str]) -> String {
        redis_cli(self.port, "offboard", "ours", words).unwrap()
    }

    fn gets_in(&self, user: &str, password: &str) -> bool {
        redis_cli(self.port, user, password, &["ACL", "WHOAMI"]).is_ok_and(|said| said == user)
            || redis_cli(self.port, user, password, &["PING"]).is_ok_and(|said| said == "PONG")
    }

    fn connector(&self) -> Arc<dyn Connector> {
        self.connector_to(&[self.port])
    }

    fn connector_to(&self, ports: &[u16]) -> Arc<dyn Connector> {
        let hosts: Vec<String> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let settings = format!(
            "{{ hosts: [{}], user: offboard, password: {{ file: password }}, tls: off, \
               control: {{ user: monitor, password: {{ file: control }} }} }}",
            hosts.join(", ")
        );
        let settings: Settings = serde_yaml::from_str(&settings).unwrap();
        build(&SystemName("cache".into()), settings, self.folder.path()).unwrap()
    }
}

/// The real client. Refused is an error, also where the server goes on with another user.
fn redis_cli(port: u16, user: &str, password: &str, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string(), "-e", "--no-auth-warning", "--user", user]).args(words);
    let output = command.env("REDISCLI_AUTH", password).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() && !error.contains("AUTH failed") { Ok(said) } else { Err(format!("{said}{error}")) }
}

fn cx() -> Cx {
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    Cx { now: Arc::new(move || now), timeout: Duration::from_secs(5), baseline: None, seed: vec![42; 32].into() }
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
    Scope::People(vec![Wanted { person, accounts: Vec::new(), keys: Default::default() }])
}

async fn found(link: &mut dyn Link, user: &str) -> Account {
    let scope = scope(user);
    let accounts: Vec<Result<Account, Fault>> = link.discover(&scope).collect().await;
    let mut account = accounts.into_iter().map(Result::unwrap).find(|a| a.native_id == user).expect("the user");
    account.owner = Owner::Person { id: PersonId("E1".into()), rule: MatchRule::UserName };
    account
}

fn plan(connector: &dyn Connector, account: &Account) -> Vec<Step> {
    connector.plan(account, &PersonId("E1".into()), Action::Disable).concat()
}

async fn verdicts(link: &mut dyn Link, doors: &[Door]) -> Vec<Verdict> {
    link.look(doors, true, &cx()).await.into_iter().map(|look| look.verdict).collect()
}

fn is_shut(verdict: &Verdict, wanted: Proof) -> bool {
    matches!(verdict, Verdict::Shut { proof, .. } if *proof == wanted)
}

/// Finds and shuts everything of `user`; the notes of the steps.
async fn shut(server: &Server, user: &str) -> Vec<String> {
    let connector = server.connector();
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let account = found(&mut *link, user).await;
    let steps = plan(&*connector, &account);
    let notes = link.apply(&steps, &cx()).await.into_iter().map(|outcome| match outcome.unwrap() {
        Outcome::Done { note } => note,
        other => format!("{other:?}"),
    });
    let notes = notes.collect();
    let seen = verdicts(&mut *link, &account.doors).await;
    assert!(is_shut(&seen[0], Proof::Refused) && is_shut(&seen[1], Proof::ReadBack), "{seen:?}");
    notes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_bring_the_user_back() {
    for (kind, said) in [("acl", "saved in the ACL file"), ("config", "saved in the configuration file")] {
        let mut server = Server::start(&[kind]);
        assert!(server.gets_in("jane", "janes") && server.gets_in("janea", "janeas"));
        let notes = shut(&server, "jane").await;
        assert!(notes[0].contains(said), "{notes:?}");
        server.restart();
        assert!(!server.gets_in("jane", "janes"), "{kind}: a restart brought the user back");
        assert!(server.gets_in("janea", "janeas"), "{kind}: the bystander is shut out");
        shut(&server, "jane").await;
    }
    // Where there is nowhere to save, that is told.
    let mut server = Server::start(&["nowhere"]);
    let notes = shut(&server, "jane").await;
    assert!(notes[0].contains("not saved"), "{notes:?}");
    let connector = server.connector();
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    found(&mut *link, "jane").await;
    let told = link.findings();
    assert!(told.iter().any(|finding| finding.what.contains("gone after a restart")), "{told:?}");
    server.restart();
    assert!(server.gets_in("jane", "janes"), "so it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_saved_is_no_success() {
    let server = Server::with_acl_file();
    let connector = server.connector();
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let account = found(&mut *link, "jane").await;
    // A folder that is gone: the server cannot write.
    std::fs::rename(server.folder.path().join("users.acl"), server.folder.path().join("old")).unwrap();
    std::fs::create_dir(server.folder.path().join("users.acl")).unwrap();
    std::fs::write(server.folder.path().join("users.acl/x"), "").unwrap();
    let steps = plan(&*connector, &account);
    let mut outcomes = link.apply(&steps, &cx()).await.into_iter();
    let fault = outcomes.next().unwrap().unwrap_err();
    assert!(fault.what.contains("over a restart") && fault.is_transient() && fault.hint.is_some(), "{fault:?}");
    outcomes.next().unwrap().unwrap_err();
    assert!(!server.gets_in("jane", "janes"), "it is off all the same");
    std::fs::remove_dir_all(server.folder.path().join("users.acl")).unwrap();
    let outcome = link.apply(&steps[..1], &cx()).await.remove(0).unwrap();
    assert_eq!(outcome, Outcome::AlreadyDone);
    let saved = std::fs::read_to_string(server.folder.path().join("users.acl")).unwrap();
    assert!(saved.contains("user jane off"), "a second apply saves what the first could not");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_connection_is_cut() {
    let server = Server::with_acl_file();
    server.admin(&["ACL", "SETUSER", "jane", "+monitor"]);
    let start = |user: &str, password: &str, words: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &server.port.to_string(), "--no-auth-warning", "--user", user]).args(words);
        command.env("REDISCLI_AUTH", password).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let kinds: [&[&str]; 5] = [
        &["MONITOR"],
        &["SUBSCRIBE", "news"],
        &["PSUBSCRIBE", "*"],
        &["BLPOP", "list", "0"],
        &["XREAD", "BLOCK", "0", "STREAMS", "s", "$"],
    ];
    let mut clients: Vec<Child> = kinds.iter().map(|words| start("jane", "janes", words)).collect();
    let mut bystander = start("janea", "janeas", &["SUBSCRIBE", "news"]);
    let count = |user: &str| server.admin(&["CLIENT", "LIST"]).matches(&format!("user={user} ")).count();
    let mut tries = 0;
    while count("jane") < kinds.len() || count("janea") < 1 {
        tries += 1;
        assert!(tries < 1000, "the clients do not connect");
        std::thread::sleep(Duration::from_millis(20));
    }
    let notes = shut(&server, "jane").await;
    assert!(notes[1].starts_with("connections ended: "), "{notes:?}");
    assert_eq!((count("jane"), count("janea")), (0, 1));
    assert!(bystander.try_wait().unwrap().is_none());
    for client in clients.iter_mut().chain([&mut bystander]) {
        let _ = client.kill();
        client.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaver_who_switches_it_on_again_is_switched_off_again() {
    let server = Server::with_acl_file();
    server.admin(&["ACL", "SETUSER", "jane", "+acl"]);
    let connector = server.connector();
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let account = found(&mut *link, "jane").await;
    assert!(account.privileged);
    let steps = plan(&*connector, &account);
    link.apply(&steps[..1], &cx()).await.remove(0).unwrap();
    // What a connection of theirs could have done in between.
    server.admin(&["ACL", "SETUSER", "jane", "on", ">again"]);
    server.admin(&["ACL", "SETUSER", "backup", "on", ">again", "+@all"]);
    server.admin(&["ACL", "SETUSER", "janea", ">again"]);
    let outcome = link.apply(&steps[1..], &cx()).await.remove(0).unwrap();
    assert!(matches!(&outcome, Outcome::Done { note } if note.contains("done again")), "{outcome:?}");
    assert!(!server.gets_in("jane", "again") && !server.gets_in("jane", "janes"));
    found(&mut *link, "jane").await;
    let told = link.findings();
    let new = told.iter().find(|f| f.what.contains("\"backup\"")).expect("the new user");
    assert_eq!(new.kind, FindingKind::Unknown, "{told:?}");
    assert!(told.iter().any(|f| f.what.contains("changed during the run") && f.what.contains("\"janea\"")), "{told:?}");
    let baseline = link.baseline().unwrap().to_string();
    let digest = server.admin(&["ACL", "GETUSER", "janea"]).lines().find(|line| line.len() == 64).unwrap().to_string();
    assert!(!baseline.contains(&digest), "an unsalted digest is in the baseline");

    // For ever and ever: an end is put to it, and nothing is claimed.
    let quick = Cx { timeout: Duration::from_millis(700), ..cx() };
    let script = "while :; do redis-cli -p $0 --no-auth-warning --user offboard ACL SETUSER jane on; done";
    let mut switch = Command::new("timeout");
    switch.args(["30", "sh", "-c", script, &server.port.to_string()]).env("REDISCLI_AUTH", "ours");
    let mut switch = switch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let results = link.apply(&steps, &quick).await;
    let seen = verdicts(&mut *link, &account.doors[..1]).await;
    // TERM, which timeout passes on to all that it started; KILL would leave the loop running.
    Command::new("kill").arg(switch.id().to_string()).status().unwrap();
    switch.wait().unwrap();
    if let Err(fault) = &results[1] {
        assert_eq!(fault.kind, FaultKind::Busy, "{fault:?}");
    } else {
        println!("the race was won: {results:?} {seen:?}");
    }
}

/// Four connections of the leaver's that switch the user on again as fast as they can, and come back when they are cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaver_who_fights_back_with_four_connections_loses() {
    let server = Server::with_acl_file();
    server.admin(&["ACL", "SETUSER", "jane", "+acl", ">x"]);
    let connector = server.connector();
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let account = found(&mut *link, "jane").await;
    let steps = plan(&*connector, &account);
    let script = "for i in 1 2 3 4; do
        while :; do yes 'ACL SETUSER jane on >x' | head -3000 | redis-cli -p $0 --no-auth-warning --user jane; done & done; wait";
    let mut fighters = Command::new("timeout");
    fighters.args(["60", "sh", "-c", script, &server.port.to_string()]).env("REDISCLI_AUTH", "x");
    let mut fighters = fighters.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..200 {
        if server.admin(&["CLIENT", "LIST"]).matches("user=jane").count() >= 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let results = link.apply(&steps, &cx()).await;
    let outcomes: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert!(matches!(&outcomes[1], Outcome::Done { .. }), "{outcomes:?}");
    assert!(is_shut(&verdicts(&mut *link, &account.doors[..1]).await[0], Proof::Refused));
    assert!(!server.gets_in("jane", "x") && !server.gets_in("jane", "janes"));
    Command::new("kill").arg(fighters.id().to_string()).status().unwrap();
    fighters.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_named_keeps_the_run_from_shut() {
    let primary = Server::with_acl_file();
    primary.admin(&["ACL", "SETUSER", "replica", "on", ">r", "-@all", "+psync", "+replconf", "+ping"]);
    let to = primary.port.to_string();
    let replica =
        Server::start(&["acl", "--replicaof", "127.0.0.1", &to, "--masteruser", "replica", "--masterauth", "r"]);
    let mut tries = 0;
    while !primary.admin(&["ROLE"]).contains(&replica.port.to_string()) {
        tries += 1;
        assert!(tries < 1000, "the replica does not connect");
        std::thread::sleep(Duration::from_millis(20));
    }
    for (ports, whole) in [(vec![primary.port], false), (vec![primary.port, replica.port], true)] {
        let connector = primary.connector_to(&ports);
        for place in connector.places() {
            let mut link = connector.open(&place, &cx()).await.unwrap();
            found(&mut *link, "jane").await;
            let told = link.findings();
            let unknown = told.iter().any(|f| f.kind == FindingKind::Unknown && f.what.contains("not named"));
            assert_eq!(unknown, !whole, "{told:?}");
        }
    }
    // What is done on the primary is not done on the replica.
    shut(&primary, "jane").await;
    assert!(!primary.gets_in("jane", "janes") && replica.gets_in("jane", "janes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_proved_is_called_proved() {
    let server = Server::with_acl_file();
    let connector = server.connector();
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let account = found(&mut *link, "jane").await;
    let steps = plan(&*connector, &account);
    for outcome in link.apply(&steps, &cx()).await {
        outcome.unwrap();
    }
    let door = &account.doors[..1];
    assert!(is_shut(&verdicts(&mut *link, door).await[0], Proof::Refused));
    // A password more: off all the same, but a refusal would not show why.
    server.admin(&["ACL", "SETUSER", "jane", ">other"]);
    assert!(is_shut(&verdicts(&mut *link, door).await[0], Proof::ReadBack));
    server.admin(&["ACL", "SETUSER", "jane", "on"]);
    assert!(matches!(verdicts(&mut *link, door).await[0], Verdict::Open { .. }));
    server.admin(&["ACL", "SETUSER", "jane", "off", "resetpass"]);
    assert!(is_shut(&verdicts(&mut *link, door).await[0], Proof::ReadBack));
    server.admin(&["ACL", "SETUSER", "jane", ">other"]);
    for outcome in link.apply(&steps, &cx()).await {
        outcome.unwrap();
    }
    // A control that does not get in proves nothing; neither does one that the listing does not show.
    server.admin(&["ACL", "SETUSER", "monitor", "resetpass"]);
    assert!(matches!(verdicts(&mut *link, door).await[0], Verdict::Unproven { .. }));
    server.admin(&["ACL", "DELUSER", "monitor"]);
    assert!(matches!(verdicts(&mut *link, door).await[0], Verdict::Unproven { .. }));
    server.admin(&["ACL", "SETUSER", "monitor", "on", ">control"]);
    // The server is held by a script: nothing is known.
    server.admin(&["CONFIG", "SET", "busy-reply-threshold", "50"]);
    let mut script = Command::new("redis-cli");
    script.args(["-p", &server.port.to_string(), "--user", "offboard", "EVAL", "while true do end", "0"]);
    let mut script = script.env("REDISCLI_AUTH", "ours").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let seen = verdicts(&mut *link, door).await;
    assert!(matches!(seen[0], Verdict::Unproven { .. }), "{seen:?}");
    let fault = link.apply(&steps[..1], &cx()).await.remove(0).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy, "{fault:?}");
    assert!(fault.hint.unwrap().contains("SCRIPT KILL"));
    server.admin(&["SCRIPT", "KILL"]);
    script.wait().unwrap();
    assert!(is_shut(&verdicts(&mut *link, door).await[0], Proof::Refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_kind_are_only_names() {
    let server = Server::with_acl_file();
    let names = [
        "+@all",
        "on",
        "reset",
        "nopass",
        "a\"b'c",
        "j\u{202e}ane",
        "*",
        "jane@example.com",
        "user=offboard",
        "(",
        "-x\\r\\n",
    ];
    for name in names {
        server.admin(&["ACL", "SETUSER", name, "on", ">theirs", "~*", "+@all", "-@admin"]);
        assert!(server.gets_in(name, "theirs"), "{name:?}");
    }
    for name in names {
        shut(&server, name).await;
        assert!(!server.gets_in(name, "theirs"), "{name:?}");
    }
    assert!(server.gets_in("janea", "janeas") && server.gets_in("jane", "janes") && server.gets_in("offboard", "ours"));
    // A name that is no text is nobody's, and hides nobody.
    server.admin(&["EVAL", "return redis.call('PING')", "0"]);
    let mut raw = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    raw.write_all(b"AUTH offboard ours\r\n*4\r\n$3\r\nACL\r\n$7\r\nSETUSER\r\n$2\r\n\xff\xfe\r\n$2\r\non\r\n").unwrap();
    let mut answer = [0; 10];
    raw.read_exact(&mut answer).unwrap();
    shut(&server, "jane").await;
}

/// A server that answers everything with `reply`.
fn liar(reply: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                    let sent = String::from_utf8_lossy(&buffer).replace(['\r', '\n', '\0'], " ");
                    if stream.write_all(reply.replace("{SENT}", &sent).as_bytes()).is_err() {
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
    let server = Server::with_acl_file();
    let quick = Cx { timeout: Duration::from_millis(800), ..cx() };
    let replies = [
        ("HTTP/1.1 400 Bad Request\r\n\r\n{SENT}", FaultKind::Unexpected),
        ("-ERR unknown command 'AUTH', with args beginning with: {SENT}\r\n", FaultKind::Misconfigured),
        ("-WRONGPASS {SENT}\r\n", FaultKind::Misconfigured),
        ("-ours denied\r\n", FaultKind::Unexpected),
        ("-LOADING Redis is loading the dataset in memory\r\n", FaultKind::Busy),
        ("$99999999999999999999\r\n", FaultKind::Unexpected),
        ("*100000\r\n", FaultKind::Unreachable),
        ("", FaultKind::Unreachable),
        ("\x15\x03\x03\x00\x02\x02\x28", FaultKind::Unexpected),
    ];
    for (reply, kind) in replies {
        let connector = server.connector_to(&[liar(reply)]);
        let fault = connector.open(&connector.places()[0], &quick).await.map(|_| ()).unwrap_err();
        assert_eq!(fault.kind, kind, "{reply:?}: {fault:?}");
        assert!(!format!("{fault:?}").contains("ours"), "our password is told: {fault:?}");
        assert!(!format!("{fault:?}").contains("beginning with"), "a part of our password may be told: {fault:?}");
    }
    // One that says yes to everything shows neither us nor a control.
    for reply in ["+OK\r\n", ":1\r\n", "*0\r\n", "$-1\r\n"] {
        let connector = server.connector_to(&[liar(reply)]);
        let Ok(mut link) = connector.open(&connector.places()[0], &quick).await else { continue };
        let scope = scope("jane");
        let accounts: Vec<_> = link.discover(&scope).collect().await;
        assert!(accounts.iter().all(Result::is_err), "{reply:?}: {accounts:?}");
        let real = server.connector();
        let mut honest = real.open(&real.places()[0], &cx()).await.unwrap();
        let doors = found(&mut *honest, "jane").await.doors;
        let seen = link.look(&doors, true, &quick).await;
        assert!(seen.iter().all(|look| matches!(look.verdict, Verdict::Unproven { .. })), "{reply:?}: {seen:?}");
    }
}

/// A service on web1 that logs in to the lab's Redis: its name and its port.
fn service(lab: &Lab, number: u32) -> (String, u32, String) {
    let (name, port) = (format!("q{}x{number}", std::process::id()), 21_000 + std::process::id() % 400 * 10 + number);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/queue-service");
    let made = Command::new(path).args(["web1", &name, &port.to_string()]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let password = std::fs::read_to_string(lab.root().join("secrets").join(&name)).unwrap();
    (name, port, password.trim_end().to_string())
}

fn office_of(lab: &Lab, leaver: &LabPerson, name: &str, port: u32) -> Office {
    let office = Office::hasty(lab);
    let secret = format!(
        "  {name}:\n    source: {{ system: cache, place: cache1.sunrise.test, account: {name}_app }}\n    consumers:\n      - system: fleet\n        \
         place: web1.sunrise.test\n        file: /etc/sunrise/{name}.env\n        key: REDIS_PASSWORD\n        \
         reload: [/etc/sunrise/queue-reload, {name}]\n        \
         health: [curl, -fsS, -m, \"5\", \"http://127.0.0.1:{port}/health\"]\n    known-to: {{ people: [{}] }}\n",
        leaver.id
    );
    office.edit("offboard.yaml", |text| text + &secret);
    office
}

fn password_in_file(lab: &Lab, name: &str) -> String {
    let file = lab.on("web1", &["cat", &format!("/etc/sunrise/{name}.env")]).stdout;
    let file = String::from_utf8(file).unwrap();
    file.lines().find_map(|line| line.strip_prefix("REDIS_PASSWORD=")).unwrap().trim_matches('"').to_string()
}

fn opens(lab: &Lab, name: &str, password: &str) -> Vec<bool> {
    let user = format!("{name}_app");
    ["cache1", "cache2"].iter().map(|server| lab.redis(server, &user, password, &["PING"]).is_ok()).collect()
}

fn hammer(port: u32) -> (Child, std::io::BufReader<std::process::ChildStdout>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/hammer");
    let mut command = Command::new(path);
    command.args(["web1", &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert_eq!(line.trim(), "begun");
    (child, said)
}

/// Answers, and how many were wrong.
fn stop((mut child, mut said): (Child, std::io::BufReader<std::process::ChildStdout>)) -> (u32, u32) {
    drop(child.stdin.take());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    child.wait().unwrap();
    let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn is_rotated(lab: &Lab, name: &str, old: &str, report: &Value) {
    assert_eq!(opens(lab, name, old), [false, false], "the old password still opens");
    let new = password_in_file(lab, name);
    assert_eq!(opens(lab, name, &new), [true, true], "the value in the file does not open");
    let doors = report["doors"].as_array().unwrap();
    let door = doors.iter().find(|d| d["kind"] == "shared-secret" && d["object"] == name).expect("the secret's door");
    assert_eq!((&door["after"], &door["proof"]), (&"shut".into(), &"refused".into()), "{door:#}");
    assert!(door["reply"].as_str().unwrap().contains("WRONGPASS"), "{door:#}");
}

#[test]
fn the_old_password_dies_on_every_server_and_no_request_fails() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let (name, port, old) = service(&lab, 1);
    let office = office_of(&lab, &leaver, &name, port);
    let mut held = lab.redis_session("cache2", &format!("{name}_app"), &old);
    // A password of the leaver's own, beside the one in the file.
    lab.redis_admin("cache2", &["ACL", "SETUSER", &format!("{name}_app"), ">planted"]);
    assert_eq!(opens(&lab, &name, "planted"), [false, true]);
    let hammering = hammer(port);
    let done = office.run(&leaver);
    let (answers, wrong) = stop(hammering);
    let done = done.expect(0);
    let report = done.json();
    all_shut(&report);
    assert!(answers > 100, "{answers}");
    assert_eq!(wrong, 0, "requests failed of {answers}");
    println!("requests: {answers}; none failed");
    is_rotated(&lab, &name, &old, &report);
    assert_eq!(opens(&lab, &name, "planted"), [false, false], "a password that was beside the old one still opens");
    assert!(!held.is_alive(), "a connection from elsewhere, opened with the old value, goes on");
    let new = password_in_file(&lab, &name);
    for text in [&done.out, &done.err] {
        assert!(!text.contains(&new) && !text.contains(&old), "a value is told");
    }
    // After a restart of both servers, too.
    for server in ["cache1", "cache2"] {
        drop(lab.stop(server));
    }
    is_rotated(&lab, &name, &old, &report);
    let run = report["run"].as_str().unwrap();
    all_shut(&office.offboard(&["--json", "verify", run]).expect(0).json());
}

#[test]
fn wherever_it_is_killed_resume_ends_with_one_password() {
    let lab = Lab::shared();
    let leaver = lab.person();
    // The turns of the source, and what comes between: tests/rotate.rs walks through all.
    let points = ["sealed:1", "begun:3", "taken:3", "file:1", "taken:4", "taken:6", "begun:7", "taken:7", "taken:8"];
    let points: Vec<String> = points.iter().map(|point| format!("rotate::{point}")).collect();
    for (number, point) in points.iter().enumerate() {
        let (name, port, old) = service(&lab, 10 + u32::try_from(number).unwrap());
        let office = office_of(&lab, &leaver, &name, port);
        let hammering = hammer(port);
        let mut command =
            office.command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes", "--anew"]);
        let killed = command.env("OFFBOARD_DIE_AT", point).output().unwrap().status.code().is_none();
        assert!(killed, "{point} was not passed");
        let runs = office.offboard(&["--json", "list"]).expect(0).json();
        let run = runs["runs"][0]["run"].as_str().unwrap();
        let report = office.offboard(&["--json", "resume", run]).expect(0).json();
        all_shut(&report);
        let (answers, wrong) = stop(hammering);
        assert!(wrong == 0 && answers > 0, "{point}: {wrong} of {answers} requests failed");
        is_rotated(&lab, &name, &old, &report);
    }
}
