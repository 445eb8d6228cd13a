//! The ssh connector against real hosts: the lab's. Run by `lab/enter cargo test --test ssh`.

#[path = "server/mod.rs"]
mod server;

use futures::StreamExt;
use jiff::Timestamp;
use offboard::connector::{Connector, Cx, Link, Scope, Wanted};
use offboard::connectors::ssh;
use offboard::model::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The tests share the hosts' `deploy`: what one of them plants or cuts there is another's surprise. So they take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn lab() -> PathBuf {
    let lab = std::env::var("LAB").unwrap_or_default();
    assert!(Path::new(&lab).join("ready").exists(), "no lab here; run: lab/enter cargo test --test ssh");
    lab.into()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(name)
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs a shell script as root on a host.
fn on(host: &str, text: &str) -> String {
    let output = run(Command::new(script("on")).args([host, "bash", "-ec", text]));
    String::from_utf8_lossy(&output.stdout).trim_end().to_string()
}

fn connector_with(change: impl FnOnce(&mut serde_json::Value)) -> Arc<dyn Connector> {
    let text = std::fs::read_to_string(lab().join("offboard.yaml")).unwrap();
    let whole: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    let mut block = whole["systems"]["fleet"]["ssh"].clone();
    change(&mut block);
    let settings: ssh::Settings = serde_json::from_value(block).unwrap();
    ssh::build(&SystemName("fleet".into()), settings, &lab()).unwrap()
}

fn connector() -> Arc<dyn Connector> {
    connector_with(|_| {})
}

fn cx() -> Cx {
    Cx {
        now: Arc::new(|| Timestamp::from_second(1_795_000_000).unwrap()),
        timeout: Duration::from_secs(30),
        baseline: None,
        seed: vec![7; 32].into(),
    }
}

fn place(connector: &dyn Connector, host: &str) -> Place {
    connector.places().into_iter().find(|p| p.address == format!("{host}.sunrise.test")).expect("a host of the lab")
}

async fn link(host: &str) -> Box<dyn Link> {
    let connector = connector();
    let place = place(&*connector, host);
    connector.open(&place, &cx()).await.unwrap()
}

/// A person of the test's own, in the lab and as the roster has them.
struct Somebody {
    user: String,
    wanted: Wanted,
    key: String,
    key_file: PathBuf,
}

fn somebody(tag: &str) -> Somebody {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let user = format!("{tag}{number}");
    let id = format!("T{tag}{number}");
    run(Command::new(script("person")).args([&id, &user, "Test Person", &format!("{user}@sunrise.test")]));
    let key_file = lab().join("people").join(&user).join("id_ed25519");
    let key = std::fs::read_to_string(key_file.with_extension("pub")).unwrap().trim().to_string();
    let listed = run(Command::new("ssh-keygen").arg("-lf").arg(&key_file));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let fingerprint = Fingerprint(listed.split(' ').nth(1).unwrap().to_string());
    let person = Person {
        id: PersonId(id),
        name: "Test Person".into(),
        email: None,
        user_name: Some(user.clone()),
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Active,
        reason: None,
        ends: None,
        zone: None,
        keys: vec![fingerprint.clone()],
    };
    let wanted = Wanted { person, accounts: Vec::new(), keys: BTreeSet::from([fingerprint]) };
    Somebody { user, wanted, key, key_file }
}

impl Somebody {
    fn id(&self) -> &PersonId {
        &self.wanted.person.id
    }

    fn scope(&self) -> Scope {
        Scope::People(vec![self.wanted.clone()])
    }

    /// Fills in owners and holders as the roster's matching does.
    fn claim(&self, accounts: &mut [Account]) {
        for account in accounts {
            let own = account.name == self.user;
            if own {
                account.owner = Owner::Person { id: self.id().clone(), rule: MatchRule::UserName };
            }
            for door in &mut account.doors {
                let theirs = own
                    || (door.kind == DoorKind::SshKey && self.wanted.keys.contains(&Fingerprint(door.object.clone())));
                if theirs && door.holder == Owner::Nobody {
                    door.holder = Owner::Person { id: self.id().clone(), rule: MatchRule::OwnAccount };
                }
            }
        }
    }

    async fn discover(&self, link: &mut dyn Link) -> Vec<Account> {
        let scope = self.scope();
        let found: Vec<_> = link.discover(&scope).collect().await;
        let mut accounts: Vec<Account> = found.into_iter().map(|a| a.unwrap()).collect();
        self.claim(&mut accounts);
        accounts
    }

    /// Whether the real client gets in.
    fn gets_in(&self, user: &str, host: &str) -> bool {
        gets_in(&self.key_file, user, host)
    }
}

fn ssh_command(key: &Path, user: &str, host: &str) -> Command {
    let mut command = Command::new("ssh");
    let known = lab().join("known_hosts");
    command
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=60", "-o"])
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(key)
        .arg(format!("{user}@{host}.sunrise.test"));
    command
}

fn gets_in(key: &Path, user: &str, host: &str) -> bool {
    ssh_command(key, user, host).arg("true").output().unwrap().status.success()
}

fn plan(accounts: &[Account], leaver: &PersonId) -> Vec<Step> {
    let connector = connector();
    let mut steps = Vec::new();
    for action in [Action::Disable, Action::EndSessions, Action::Revoke, Action::Remove] {
        for account in accounts {
            steps.extend(connector.plan(account, leaver, action).into_iter().flatten());
        }
    }
    steps
}

fn doors_of(accounts: &[Account], who: &PersonId) -> Vec<Door> {
    accounts.iter().flat_map(|a| &a.doors).filter(|d| d.holder.person() == Some(who)).cloned().collect()
}

/// To awk, 1e7 and 1e07 are one number.
#[tokio::test]
async fn names_that_look_like_one_number_are_two_accounts() {
    let _turn = TURN.lock().await;
    let (mut bystander, mut leaver) = (somebody("number"), somebody("number"));
    for (somebody, name) in [(&mut bystander, "1e07"), (&mut leaver, "1e7")] {
        on("backup", &format!("usermod --badname -l {name} {}", somebody.user));
        somebody.user = name.into();
        somebody.wanted.person.user_name = Some(name.into());
    }
    on("backup", "groupadd 2e03; groupadd 2e3; gpasswd -a 1e7 2e3; gpasswd -a 1e07 2e3; gpasswd -a 1e7 2e03");
    let mut link = link("backup").await;
    let accounts = leaver.discover(&mut *link).await;
    assert_eq!(accounts.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["1e7"]);
    let steps = plan(&accounts, leaver.id());
    for (step, result) in steps.iter().zip(link.apply(&steps, &cx()).await) {
        assert!(result.is_ok(), "{step:?}: {result:?}");
    }
    assert!(!leaver.gets_in("1e7", "backup"));
    assert!(bystander.gets_in("1e07", "backup"), "the bystander still gets in");
    assert_eq!(on("backup", "getent shadow 1e7 | cut -d: -f8"), "1");
    assert_eq!(on("backup", "getent shadow 1e07 | cut -d: -f8"), "");
    for result in link.apply(&steps, &cx()).await {
        assert_eq!(result, Ok(Outcome::AlreadyDone));
    }
    // Nobody knows them by these names: a sweep would find them.
    on("backup", "for name in 1e7 1e07; do userdel -f $name; done");
}

#[tokio::test]
async fn a_leaver_is_found_shut_and_proved_on_every_host() {
    let _turn = TURN.lock().await;
    let connector = connector();
    let leaver = somebody("walk");
    let bystander = somebody("walkx");
    on("web1", &format!("usermod -aG sudo {0}; echo '* * * * * true' | crontab -u {0} -", leaver.user));
    for place in connector.places() {
        let host = place.address.split('.').next().unwrap();
        assert!(leaver.gets_in(&leaver.user, host));
        let mut link = connector.open(&place, &cx()).await.unwrap();
        let accounts = leaver.discover(&mut *link).await;
        assert!(accounts.iter().all(|a| a.name != bystander.user), "{host}");
        let names: Vec<&str> = accounts.iter().map(|a| a.name.as_str()).collect();
        match host {
            "web1" | "db1" => assert!(names.contains(&"deploy") && names.len() == 2, "{host}: {names:?}"),
            "web2" => assert!(names.contains(&"deploy") && names.contains(&"root"), "{host}: {names:?}"),
            _ => assert_eq!(names, [leaver.user.as_str()], "{host}"),
        }
        let doors = doors_of(&accounts, leaver.id());
        let before = link.look(&doors, false, &cx()).await;
        for (door, look) in doors.iter().zip(&before) {
            if door.kind == DoorKind::Session {
                continue;
            }
            assert!(matches!(look.verdict, Verdict::Open { .. }), "{host} {}: {look:?}", door.id);
        }
        let steps = plan(&accounts, leaver.id());
        assert_eq!(steps, plan(&leaver.discover(&mut *link).await, leaver.id()), "planning twice is the same");
        for (step, result) in steps.iter().zip(link.apply(&steps, &cx()).await) {
            let quiet = step.action == Action::EndSessions;
            match result {
                Ok(Outcome::Done { .. }) => {}
                Ok(Outcome::AlreadyDone) if quiet => {}
                other => panic!("{host} {step:?}: {other:?}"),
            }
        }
        for result in link.apply(&steps, &cx()).await {
            assert_eq!(result, Ok(Outcome::AlreadyDone), "{host}: a second time");
        }
        let after = link.look(&doors, true, &cx()).await;
        for (door, look) in doors.iter().zip(&after) {
            assert!(matches!(look.verdict, Verdict::Shut { .. }), "{host} {}: {look:?}", door.id);
            assert!(look.control.is_some());
            if door.kind == DoorKind::SshKey {
                assert!(matches!(look.verdict, Verdict::Shut { proof: Proof::Refused, .. }), "{look:?}");
                // In deploy a colleague's key is taken on the same connection; in the leaver's own account nothing is left to try.
                let colleague = look.control.as_deref().unwrap().contains("stands in the same account of deploy");
                assert_eq!(colleague, door.account == "deploy", "{host} {}: {look:?}", door.id);
            }
        }
        let again = leaver.discover(&mut *link).await;
        assert!(again.iter().all(|a| a.doors.iter().all(|d| d.kind != DoorKind::SshKey)), "{host}: {again:?}");
        assert!(!leaver.gets_in(&leaver.user, host));
        assert!(bystander.gets_in(&bystander.user, host), "{host}: the bystander still gets in");
        if names.contains(&"deploy") {
            assert!(!leaver.gets_in("deploy", host));
            assert!(bystander.gets_in("deploy", host), "{host}: the bystander's key in deploy still works");
        }
    }
}

/// Discovers, claims, plans, applies; returns the accounts, their steps and what became of them.
async fn shut(who: &Somebody, link: &mut dyn Link) -> (Vec<Account>, Vec<(Step, Result<Outcome, Fault>)>) {
    let accounts = who.discover(link).await;
    let steps = plan(&accounts, who.id());
    let results = link.apply(&steps, &cx()).await;
    (accounts, steps.into_iter().zip(results).collect())
}

fn revoke_of<'a>(
    done: &'a [(Step, Result<Outcome, Fault>)],
    account: &str,
) -> impl Iterator<Item = &'a Result<Outcome, Fault>> {
    let account = account.to_string();
    done.iter().filter(move |(s, _)| s.action == Action::Revoke && s.account == account).map(|(_, r)| r)
}

/// An account of several people, as `deploy` is, for one test alone.
fn shared_account(host: &str, name: &str) -> String {
    // A number of its own: the lab counts its people's upwards.
    static NUMBER: AtomicU32 = AtomicU32::new(50000);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    on(
        host,
        &format!(
            "until useradd -m -u {number} -s /bin/bash {name}; do sleep 0.1; done; install -d -m 700 -o {name} -g {name} /home/{name}/.ssh"
        ),
    );
    format!("/home/{name}/.ssh/authorized_keys")
}

fn write(host: &str, owner: &str, path: &str, mode: &str, content: &[u8]) {
    use std::io::Write;
    let text = format!("install -m {mode} -o {owner} -g {owner} /dev/stdin '{path}'");
    let mut child = Command::new(script("on"))
        .args([host, "bash", "-ec", &text])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    assert!(child.wait().unwrap().success());
}

fn read(host: &str, path: &str) -> Vec<u8> {
    run(Command::new(script("on")).args([host, "cat", path])).stdout
}

#[tokio::test]
async fn only_the_leavers_lines_go_and_every_other_byte_stays() {
    let _turn = TURN.lock().await;
    let leaver = somebody("bytes");
    let other = somebody("bytesx");
    let path = shared_account("bastion", "bytesacct");
    let (mine, theirs) = (&leaver.key, &other.key);
    let (kind, blob) = mine.split_once(' ').map(|(k, r)| (k, r.split(' ').next().unwrap())).unwrap();
    let keep = [
        format!("# {mine}\n"),
        format!("{theirs} was {kind} {blob}\r\n"),
        format!("command=\"echo {kind} {blob}\",no-pty {theirs}\n"),
        format!("  \t{theirs}\tspaces  kept \t\n"),
        "\n".to_string(),
        "$(touch /tmp/pwned) `id` ' \" \\ \n".to_string(),
        format!("command=\"unclosed {kind} {blob}\n"),
    ];
    let drop = [
        format!("{mine}\n"),
        format!("{kind} {blob} another comment $(touch /tmp/pwned)'\"\n"),
        format!("restrict,command=\"a \\\"b, c\\\" d\" {kind} {blob} x\n"),
        format!("\t {kind}\t  {blob}\r\n"),
    ];
    let mut before = Vec::new();
    let mut after = Vec::new();
    for (index, line) in keep.iter().enumerate() {
        before.extend(line.as_bytes());
        after.extend(line.as_bytes());
        before.extend(drop[index % drop.len()].as_bytes());
    }
    before.extend(format!("{kind} {blob}").as_bytes());
    before.extend(b"\0 tail after a NUL\n");
    before.extend(b"bytes \xff\xfe \0 and a NUL\nno newline at the end");
    after.extend(b"bytes \xff\xfe \0 and a NUL\nno newline at the end");
    write("bastion", "bytesacct", &path, "640", &before);
    let meta = on("bastion", &format!("stat -c '%a %U %G' {path}"));
    let mut link = link("bastion").await;
    let (accounts, done) = shut(&leaver, &mut *link).await;
    let results: Vec<_> = revoke_of(&done, "bytesacct").collect();
    assert!(matches!(results[..], [Ok(Outcome::Done { .. })]), "{results:?}");
    assert_eq!(String::from_utf8_lossy(&read("bastion", &path)), String::from_utf8_lossy(&after));
    assert_eq!(on("bastion", &format!("stat -c '%a %U %G' {path}")), meta);
    assert_eq!(on("bastion", "ls /tmp/pwned 2>/dev/null || true; ls -A /home/bytesacct/.ssh"), "authorized_keys");
    assert!(accounts.iter().all(|a| a.name != other.user));
}

#[tokio::test]
async fn links_pipes_and_foreign_owners_are_left_alone_and_reported() {
    let _turn = TURN.lock().await;
    let leaver = somebody("odd");
    let home = format!("/home/{}/.ssh", leaver.user);
    let mine = &leaver.key;
    // Their own account: a link of their own to a file of somebody else's that has their key in it.
    let victim = "/home/agokhale/notes";
    write("web2", "root", victim, "644", format!("keep\n{mine}\nkeep too\n").as_bytes());
    on(
        "web2",
        &format!("rm {home}/authorized_keys; su -s /bin/sh {} -c 'ln -s {victim} {home}/authorized_keys'", leaver.user),
    );
    on("web2", &format!("su -s /bin/sh {} -c 'mkfifo {home}/authorized_keys2'", leaver.user));
    // Others' accounts.
    let linked = shared_account("web2", "oddlink");
    on("web2", &format!("su -s /bin/sh oddlink -c 'ln -s {victim} {linked}'"));
    let foreign = shared_account("web2", "oddowner");
    write("web2", "daemon", &foreign, "644", format!("{mine}\n").as_bytes());
    let stuck = shared_account("web2", "oddimm");
    write("web2", "oddimm", &stuck, "600", format!("{mine}\n").as_bytes());
    let by_root = shared_account("web2", "oddroot");
    on(
        "web2",
        "install -d -m 755 /etc/rootkeys; rm -rf /home/oddroot/.ssh; ln -s /etc/rootkeys /home/oddroot/.ssh; chown root:root /home/oddroot; chmod 755 /home/oddroot",
    );
    write("web2", "root", "/etc/rootkeys/authorized_keys", "644", format!("keep\n{mine}\n").as_bytes());
    let immutable = on("web2", &format!("chattr +i {stuck} 2>/dev/null && lsattr {stuck} || true")).contains("i-");
    let before = on("web2", &format!("stat -c '%i %Y' {victim}; stat -c '%i' {foreign}"));

    let mut link = link("web2").await;
    let (accounts, done) = shut(&leaver, &mut *link).await;
    let findings = link.findings();
    if immutable {
        let fault = revoke_of(&done, "oddimm").next().unwrap().clone().unwrap_err();
        assert!(fault.hint.as_deref().unwrap().contains("chattr -i"), "{fault:?}");
        on("web2", &format!("chattr -i {stuck}"));
    } else {
        assert!(revoke_of(&done, "oddimm").all(|r| r.is_ok()));
    }
    assert!(findings.iter().any(|f| f.what.contains("authorized_keys2 is no regular file")), "{findings:?}");
    for account in ["oddlink", "oddowner"] {
        let fault = revoke_of(&done, account).next().unwrap().clone().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Protected, "{fault:?}");
    }
    assert_eq!(on("web2", &format!("stat -c '%i %Y' {victim}; stat -c '%i' {foreign}")), before, "nothing was touched");
    assert_eq!(String::from_utf8_lossy(&read("web2", victim)), format!("keep\n{mine}\nkeep too\n"));
    // Their own link is set aside, so that sshd does not read it any more.
    let own: Vec<_> = revoke_of(&done, &leaver.user).collect();
    assert!(matches!(own[..], [Ok(Outcome::Done { .. })]), "{own:?}");
    assert_eq!(on("web2", &format!("readlink {home}/authorized_keys.offboard-aside")), victim);
    // A link that root made, in a directory that only root may write, is the administrator's.
    let roots: Vec<_> = revoke_of(&done, "oddroot").collect();
    assert!(matches!(roots[..], [Ok(Outcome::Done { .. })]), "{roots:?}");
    assert_eq!(read("web2", "/etc/rootkeys/authorized_keys"), b"keep\n");
    assert!(Path::new(&by_root).is_absolute());
    // What could not be done is not called shut.
    let doors = doors_of(&accounts, leaver.id());
    let looks = link.look(&doors, true, &cx()).await;
    for (door, look) in doors.iter().zip(&looks).filter(|(d, _)| ["oddlink", "oddowner"].contains(&d.account.as_str()))
    {
        assert!(!matches!(look.verdict, Verdict::Shut { .. }), "{}: {look:?}", door.id);
    }
    on("web2", "rm -f /home/oddlink/.ssh/authorized_keys /home/oddowner/.ssh/authorized_keys");
}

/// A live session of the real client, ended with the test.
struct Live(std::process::Child);

impl Live {
    fn open(key: &Path, user: &str, host: &str, command: &str) -> Self {
        let child = ssh_command(key, user, host)
            .arg(format!("echo in; {command}"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut live = Self(child);
        let mut line = String::new();
        use std::io::BufRead;
        std::io::BufReader::new(live.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "in\n");
        live
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn ends(&mut self) -> bool {
        server::comes_to_pass(|| !self.is_alive())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn sessions_end_and_nobody_elses_do() {
    let _turn = TURN.lock().await;
    let leaver = somebody("live");
    let other = somebody("livex");
    let mut own = Live::open(
        &leaver.key_file,
        &leaver.user,
        "web1",
        "setsid nohup sleep 7771 >/dev/null 2>&1 & trap '' TERM HUP; cat",
    );
    let mut shared = Live::open(&leaver.key_file, "deploy", "web1", "setsid nohup sleep 7772 >/dev/null 2>&1 & cat");
    let mut colleague = Live::open(&other.key_file, "deploy", "web1", "setsid nohup sleep 7773 >/dev/null 2>&1 & cat");
    let mut bystander = Live::open(&other.key_file, &other.user, "web1", "cat");
    let mut link = link("web1").await;
    let accounts = leaver.discover(&mut *link).await;
    let doors = doors_of(&accounts, leaver.id());
    let sessions: Vec<&str> =
        doors.iter().filter(|d| d.kind == DoorKind::Session).map(|d| d.account.as_str()).collect();
    assert_eq!(sessions, ["deploy", leaver.user.as_str()], "{doors:#?}");
    let before = link.look(&doors, false, &cx()).await;
    assert!(before.iter().all(|l| matches!(l.verdict, Verdict::Open { .. })), "{before:?}");
    let steps = plan(&accounts, leaver.id());
    for (step, result) in steps.iter().zip(link.apply(&steps, &cx()).await) {
        assert!(matches!(result, Ok(Outcome::Done { .. })), "{step:?}: {result:?}");
    }
    assert!(own.ends() && shared.ends());
    assert!(colleague.is_alive() && bystander.is_alive());
    assert_eq!(on("web1", "pgrep -x sleep -a | cut -d' ' -f2- | grep 777"), "sleep 7773");
    let after = link.look(&doors, true, &cx()).await;
    for (door, look) in doors.iter().zip(&after) {
        assert!(matches!(look.verdict, Verdict::Shut { .. }), "{}: {look:?}", door.id);
    }
    on("web1", "pkill -f 'sleep 7773'");
}

/// Nobody has said which key is the leaver's: it is learned from their own account on this very host, and goes from `deploy` in the same round.
#[tokio::test]
async fn a_session_opened_with_a_key_that_is_learned_here_is_ended_too() {
    let _turn = TURN.lock().await;
    let leaver = somebody("late");
    let other = somebody("latex");
    let mut shared = Live::open(&leaver.key_file, "deploy", "web1", "cat");
    let mut colleague = Live::open(&other.key_file, "deploy", "web1", "cat");
    let unaware = Scope::People(vec![Wanted { keys: BTreeSet::new(), ..leaver.wanted.clone() }]);
    let mut link = link("web1").await;
    let found: Vec<_> = link.discover(&unaware).collect().await;
    let mut accounts: Vec<Account> = found.into_iter().map(|a| a.unwrap()).collect();
    leaver.claim(&mut accounts);
    for result in link.apply(&plan(&accounts, leaver.id()), &cx()).await {
        result.unwrap();
    }
    assert!(!leaver.gets_in("deploy", "web1"), "the key is gone");
    let (accounts, done) = shut(&leaver, &mut *link).await;
    assert!(done.iter().all(|(_, r)| r.is_ok()), "{done:?}");
    let session = |door: &Door| door.account == "deploy" && door.kind == DoorKind::Session;
    assert!(doors_of(&accounts, leaver.id()).iter().any(session), "the session in deploy is a way in: {accounts:#?}");
    assert!(shared.ends());
    assert!(colleague.is_alive());
}

#[tokio::test]
async fn a_session_that_nobody_can_tell_is_not_ended_and_not_called_shut() {
    let _turn = TURN.lock().await;
    let leaver = somebody("untold");
    let mut shared = Live::open(&leaver.key_file, "deploy", "db1", "cat");
    on("db1", "cp -p /var/log/auth.log /var/log/kept; : > /var/log/auth.log");
    let mut link = link("db1").await;
    let (accounts, done) = shut(&leaver, &mut *link).await;
    on("db1", "cat /var/log/kept >> /var/log/auth.log; rm /var/log/kept");
    assert!(done.iter().all(|(_, r)| r.is_ok()), "{done:?}");
    assert!(shared.is_alive());
    let doors = doors_of(&accounts, leaver.id());
    let door = doors.iter().position(|d| d.account == "deploy" && d.kind == DoorKind::Session).expect("a session door");
    on("db1", ": > /var/log/auth.log");
    let looks = link.look(&doors, true, &cx()).await;
    assert!(matches!(looks[door].verdict, Verdict::Unproven { .. }), "{:?}", looks[door]);
}

/// What sshd is called for while somebody logs in, or when a probe of ours has just gone.
#[tokio::test]
async fn an_sshd_at_its_end_is_no_session_and_one_that_stays_is() {
    let _turn = TURN.lock().await;
    let leaver = somebody("atend");
    let mut link = link("web2").await;
    for (lives, counts) in [("1", false), ("20", true)] {
        on("web2", "cp /bin/cat /tmp/sshd");
        let called = r#"bash -c 'exec -a "sshd: root [priv]" /tmp/sshd'"#;
        on("web2", &format!("sleep {lives} < /dev/null 2> /dev/null | {called} > /dev/null 2>&1 &"));
        on(
            "web2",
            "for i in $(seq 200); do if pgrep -f '[s]shd: root .priv.'; then exit; fi; sleep 0.02; done; exit 1",
        );
        let doors = doors_of(&leaver.discover(&mut *link).await, leaver.id());
        let door = doors.iter().find(|d| d.account == "root" && d.kind == DoorKind::Session);
        assert_eq!(door.is_some_and(|d| d.detail.contains("cannot be told")), counts, "lives {lives} s: {door:?}");
        on("web2", "pkill -f '[s]shd: root .priv.' || true; rm /tmp/sshd");
    }
}

#[tokio::test]
async fn keys_planted_during_the_run_are_the_leavers_where_they_could_write() {
    let _turn = TURN.lock().await;
    let leaver = somebody("plant");
    let other = somebody("plantx");
    let mut link = link("web1").await;
    leaver.discover(&mut *link).await;
    let baseline = link.baseline().unwrap();
    let new = |name: &str| {
        let path = lab().join("tmp").join(format!("{}-{name}", leaver.user));
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "planted", "-f"]).arg(&path));
        (path.clone(), std::fs::read_to_string(path.with_extension("pub")).unwrap())
    };
    let (own, shared, foreign) = (new("own"), new("shared"), new("foreign"));
    let append = |account: &str, key: &str| {
        on("web1", &format!("echo '{}' >> /home/{account}/.ssh/authorized_keys", key.trim()));
    };
    append(&leaver.user, &own.1);
    append("deploy", &shared.1);
    append(&other.user, &foreign.1);
    // After a resume: a new connection, with what was journaled.
    let connector = connector();
    let place = place(&*connector, "web1");
    let mut link = connector.open(&place, &Cx { baseline: Some(baseline), ..cx() }).await.unwrap();
    let (accounts, done) = shut(&leaver, &mut *link).await;
    assert!(done.iter().all(|(_, r)| r.is_ok()), "{done:?}");
    let planted: Vec<&Door> = accounts
        .iter()
        .flat_map(|a| &a.doors)
        .filter(|d| matches!(&d.holder, Owner::Person { rule: MatchRule::PlantedDuringRun, .. }))
        .collect();
    assert_eq!(planted.len(), 1, "{planted:?}");
    assert_eq!(planted[0].account, "deploy");
    assert!(!gets_in(&own.0, &leaver.user, "web1") && !gets_in(&shared.0, "deploy", "web1"));
    assert!(gets_in(&foreign.0, &other.user, "web1"), "not the leaver's to write");
    assert!(link.findings().iter().any(|f| f.account.as_deref() == Some(other.user.as_str())));
    assert!(other.gets_in("deploy", "web1") && other.gets_in(&other.user, "web1"));
}

#[tokio::test]
async fn wrong_keys_and_missing_rights_say_what_to_do() {
    let _turn = TURN.lock().await;
    let scratch = lab().join("tmp");
    let fault = async |change: &dyn Fn(&mut serde_json::Value)| {
        let connector = connector_with(change);
        let place = place(&*connector, "web1");
        connector.open(&place, &cx()).await.err().expect("refused")
    };
    let known = std::fs::read_to_string(lab().join("known_hosts")).unwrap();
    let wrong = known
        .lines()
        .find(|l| l.starts_with("web2"))
        .unwrap()
        .replace("web2.sunrise.test,127.66.0.12", "web1.sunrise.test");
    std::fs::write(scratch.join("wrong_hosts"), wrong).unwrap();
    std::fs::write(scratch.join("no_hosts"), "").unwrap();
    let wrong = fault(&|s| s["known-hosts"] = "tmp/wrong_hosts".into()).await;
    assert_eq!(wrong.kind, FaultKind::Misconfigured);
    assert!(wrong.what.contains("wrong") && wrong.because.unwrap().matches("SHA256:").count() == 2);
    let unknown = fault(&|s| s["known-hosts"] = "tmp/no_hosts".into()).await;
    assert!(unknown.kind == FaultKind::Misconfigured && unknown.hint.unwrap().contains("ssh-keyscan"));
    let key = scratch.join("stranger");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let refused = fault(&|s| s["key"] = "tmp/stranger".into()).await;
    assert!(refused.kind == FaultKind::Misconfigured && refused.what.contains("our own key is refused"), "{refused:?}");
    let plain = fault(&|s| s["sudo"] = false.into()).await;
    assert!(plain.kind == FaultKind::Forbidden && plain.hint.unwrap().contains("NOPASSWD"));
    let nobody = somebody("nosudo");
    let copy = scratch.join("nosudo_key");
    std::fs::copy(&nobody.key_file, &copy).unwrap();
    run(Command::new("chmod").arg("600").arg(&copy));
    let user = nobody.user.clone();
    let forbidden = fault(&move |s| {
        s["user"] = user.clone().into();
        s["key"] = "tmp/nosudo_key".into();
    })
    .await;
    assert!(forbidden.kind == FaultKind::Forbidden, "{forbidden:?}");
    assert!(forbidden.hint.unwrap().contains(&format!("{} ALL=(root) NOPASSWD: /bin/sh -s", nobody.user)));
}

#[tokio::test]
async fn our_own_account_and_key_are_never_touched() {
    let _turn = TURN.lock().await;
    let leaver = somebody("ours");
    let connector = connector();
    let own_key = connector.own_keys().remove(0);
    let mut link = link("bastion").await;
    let accounts = leaver.discover(&mut *link).await;
    let mut ours = accounts[0].clone();
    ours.native_id = "offboard".into();
    let steps = [
        Step::new(Action::Disable, &ours, "", vec![], true),
        Step::new(Action::EndSessions, &ours, "", vec![], false),
        Step::new(Action::Remove, &ours, "sudo", vec![], true),
        Step::new(Action::Revoke, &ours, &own_key.0, vec![], false),
        Step::new(Action::Revoke, &accounts[0], &own_key.0, vec![], false),
        Step::new(Action::EndSessions, &ours, &own_key.0, vec![], false),
    ];
    for (step, result) in steps.iter().zip(link.apply(&steps, &cx()).await) {
        assert_eq!(result.unwrap_err().kind, FaultKind::Protected, "{step:?}");
    }
    let mut gone = accounts[0].clone();
    gone.native_id = "nobodyhere".into();
    for action in [Action::Disable, Action::EndSessions] {
        let step = Step::new(action, &gone, "", vec![], true);
        assert_eq!(link.apply(&[step], &cx()).await, [Ok(Outcome::Absent)]);
    }
    assert!(link.check().await.unwrap().identity.contains("as root on OpenSSH"));
}

#[tokio::test]
async fn restore_gives_the_account_back_without_any_old_secret() {
    let _turn = TURN.lock().await;
    let leaver = somebody("back");
    on(
        "bastion",
        &format!("usermod -aG sudo {0}; echo {0}:old-password | chpasswd; chage -E 2099-01-01 {0}", leaver.user),
    );
    let mut link = link("bastion").await;
    let (accounts, done) = shut(&leaver, &mut *link).await;
    assert!(done.iter().all(|(_, r)| r.is_ok()), "{done:?}");
    let undo: Vec<Undo> =
        done.iter().map(|(step, _)| Undo { step: step.clone(), account: accounts[0].clone() }).collect();
    for result in link.restore(&undo, &cx()).await {
        result.unwrap();
    }
    let shadow = on(
        "bastion",
        &format!("getent shadow {0} | cut -d: -f2,8; getent passwd {0} | cut -d: -f7; id -Gn {0}", leaver.user),
    );
    let mut lines = shadow.lines();
    assert_eq!(lines.next(), Some("*:47117"));
    assert_eq!(lines.next(), Some("/bin/bash"));
    assert!(lines.next().unwrap().split(' ').any(|g| g == "sudo"));
    assert!(!leaver.gets_in(&leaver.user, "bastion"), "the old key stays dead");
}

#[tokio::test]
async fn a_host_that_hangs_is_unreachable_in_time_and_proves_nothing() {
    let _turn = TURN.lock().await;
    let leaver = somebody("hang");
    let mut link = link("backup").await;
    let accounts = leaver.discover(&mut *link).await;
    let doors = doors_of(&accounts, leaver.id());
    run(Command::new(script("server")).args(["pause", "backup"]));
    let brief = Cx { timeout: Duration::from_secs(2), ..cx() };
    let connector = connector();
    let place = place(&*connector, "backup");
    let opened = connector.open(&place, &brief).await;
    let looks = link.look(&doors, true, &brief).await;
    run(Command::new(script("server")).args(["resume", "backup"]));
    assert_eq!(opened.err().expect("no answer").kind, FaultKind::Unreachable);
    assert!(looks.iter().all(|l| matches!(l.verdict, Verdict::Unproven { .. })), "{looks:?}");
}

#[tokio::test]
async fn ten_megabytes_of_keys_are_read_and_edited() {
    let _turn = TURN.lock().await;
    let leaver = somebody("large");
    let path = shared_account("bastion", "largeacct");
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF filler\n";
    let half = line.repeat(5 * 1024 * 1024 / line.len());
    write("bastion", "largeacct", &path, "600", format!("{half}{}\n{half}", leaver.key).as_bytes());
    let mut link = link("bastion").await;
    let (_, done) = shut(&leaver, &mut *link).await;
    assert!(revoke_of(&done, "largeacct").all(|r| matches!(r, Ok(Outcome::Done { .. }))), "{done:?}");
    assert_eq!(read("bastion", &path), format!("{half}{half}").as_bytes());
    on("bastion", "userdel -r largeacct 2>/dev/null");
}

#[tokio::test]
async fn a_leaver_who_is_online_and_plants_keys_in_a_loop_does_not_get_away() {
    let _turn = TURN.lock().await;
    let leaver = somebody("loop");
    let file = format!("/home/{}/.ssh/authorized_keys", leaver.user);
    // Keys that change all the time, links that come and go, in the middle of whatever is done.
    let attack = format!(
        "trap '' TERM HUP; i=0; while :; do i=$((i+1)); cp {file} {file}.x; \
         ssh-keygen -q -t ed25519 -N '' -f /tmp/{0}.$i <<<y >/dev/null; cat /tmp/{0}.$i.pub >>{file}.x; mv {file}.x {file}; \
         rm -f /tmp/{0}.$i; ln -sf /etc/shadow {file}.y; [ $((i % 3)) = 0 ] && cp {file} {file}.z && mv {file}.y {file} && mv {file}.z {file}; done",
        leaver.user
    );
    let mut live = Live::open(&leaver.key_file, &leaver.user, "bastion", &attack);
    let shadow = on("bastion", "stat -c '%i %a %U %G' /etc/passwd; stat -c '%a %U %G' /etc/shadow");
    let mut link = link("bastion").await;
    let mut doors: Vec<Door> = Vec::new();
    for round in 0.. {
        assert!(round < 5, "something new is found again and again");
        let accounts = leaver.discover(&mut *link).await;
        let found = doors_of(&accounts, leaver.id());
        let new: Vec<Door> = found.into_iter().filter(|d| doors.iter().all(|known| known.id != d.id)).collect();
        if new.is_empty() {
            break;
        }
        doors.extend(new);
        let steps = plan(&accounts, leaver.id());
        link.apply(&steps, &cx()).await;
    }
    assert!(live.ends());
    assert!(doors.iter().filter(|d| d.kind == DoorKind::SshKey).count() > 1, "the loop did plant");
    let looks = link.look(&doors, true, &cx()).await;
    for (door, look) in doors.iter().zip(&looks) {
        assert!(matches!(look.verdict, Verdict::Shut { .. }), "{}: {look:?}", door.id);
    }
    assert!(!leaver.gets_in(&leaver.user, "bastion"));
    let after = on("bastion", "stat -c '%i %a %U %G' /etc/passwd; stat -c '%a %U %G' /etc/shadow");
    assert_eq!(after.lines().last(), shadow.lines().last(), "what a link pointed to was not touched");
}

/// Another administrator appends to a file, one line after the other, while the leaver's keys are taken out of it again and again.
#[tokio::test]
async fn lines_that_others_append_meanwhile_are_not_lost() {
    let _turn = TURN.lock().await;
    let (leaver, other) = (somebody("race"), somebody("racex"));
    let path = shared_account("bastion", "raceacct");
    write("bastion", "raceacct", &path, "600", format!("{}\n", leaver.key).as_bytes());
    let (kind, blob) = other.key.split_once(' ').map(|(k, r)| (k, r.split(' ').next().unwrap())).unwrap();
    let appending = format!(
        "i=0; touch /tmp/appending; while [ -e /tmp/appending ] && [ $i -lt 5000 ]; do i=$((i + 1)); \
         echo '{kind} {blob} line '$i >>{path}; sleep 0.00$((i % 8)); done; echo $i"
    );
    let mut appender = Command::new(script("on"));
    appender.args(["bastion", "dash", "-c", &appending]).stdout(std::process::Stdio::piped());
    let appender = appender.spawn().unwrap();
    let mut link = link("bastion").await;
    let accounts = leaver.discover(&mut *link).await;
    let shared = accounts.iter().find(|a| a.name == "raceacct").unwrap();
    let key = leaver.wanted.keys.first().unwrap();
    let revoke = Step::new(Action::Revoke, shared, &key.0, vec![], false);
    let mut results = Vec::new();
    for _ in 0..30 {
        results.push(link.apply(std::slice::from_ref(&revoke), &cx()).await.remove(0));
        on("bastion", &format!("echo '{}' >>{path}", leaver.key));
    }
    on("bastion", "rm /tmp/appending");
    let appended = appender.wait_with_output().unwrap().stdout;
    let appended: usize = String::from_utf8(appended).unwrap().trim().parse().unwrap();
    results.push(link.apply(&[revoke], &cx()).await.remove(0));
    let mut after: Vec<String> = String::from_utf8(read("bastion", &path)).unwrap().lines().map(String::from).collect();
    let mut all: Vec<String> = (1..=appended).map(|i| format!("{kind} {blob} line {i}")).collect();
    after.sort();
    all.sort();
    let lost: Vec<&String> = all.iter().filter(|line| after.binary_search(line).is_err()).collect();
    assert!(lost.is_empty(), "of {appended} lines {} are lost: {lost:?}; {results:?}", lost.len());
    assert_eq!(after, all, "each line once, and the leaver's none");
    assert!(results.iter().all(|r| matches!(r, Ok(Outcome::Done { .. }))), "{results:?}");
    assert_eq!(
        on("bastion", "ls -A /home/raceacct/.ssh; stat -c '%a %U' /home/raceacct/.ssh/authorized_keys"),
        "authorized_keys\n600 raceacct"
    );
}

#[tokio::test]
async fn on_a_full_disk_the_file_stays_whole() {
    let _turn = TURN.lock().await;
    let leaver = somebody("full");
    let path = shared_account("bastion", "fullacct");
    on("bastion", "mount -t tmpfs -o size=64k,mode=755 none /home/fullacct; chown fullacct: /home/fullacct");
    on("bastion", "install -d -m 700 -o fullacct -g fullacct /home/fullacct/.ssh");
    let filler = "# a line that fills the disk, and says nothing at all\n".repeat(700);
    let content = format!("{filler}{}\n{filler}", leaver.key);
    let content = &content.as_bytes()[..40 * 1024 + leaver.key.len()];
    write("bastion", "fullacct", &path, "600", content);
    let mut link = link("bastion").await;
    let (_, done) = shut(&leaver, &mut *link).await;
    let fault = revoke_of(&done, "fullacct").next().expect("a step").clone().unwrap_err();
    let files = on("bastion", "ls -A /home/fullacct/.ssh");
    let after = read("bastion", &path);
    on("bastion", "umount -l /home/fullacct; userdel fullacct");
    assert!(fault.because.as_deref().unwrap_or_default().contains("is as it was"), "{fault:?}");
    assert!(fault.is_transient());
    assert!(after == content && files == "authorized_keys", "{files}");
}

/// What a leaver's key opened holds what may let them back in: jobs and processes of an account of others. Each is told, none touched.
#[tokio::test]
async fn what_is_left_behind_in_an_account_of_others_is_told() {
    let _turn = TURN.lock().await;
    let leaver = somebody("left");
    let (own, shared) = (&leaver.user, "leftacct");
    let path = shared_account("bastion", shared);
    write("bastion", shared, &path, "600", format!("{}\n", leaver.key).as_bytes());
    let blob = leaver.key.split(' ').nth(1).unwrap();
    let session = |user: &str, text: &str| run(ssh_command(&leaver.key_file, user, "bastion").arg(text));
    session(own, "echo true | at -q Z now + 1 hour 2>&1");
    session(
        shared,
        "printf '%s\\n' '0 3 * * * /opt/backup.sh --password hunter2' '@daily cat /tmp/k >> .ssh/authorized_keys' | crontab -",
    );
    session(shared, &format!("echo 'echo {blob}' | at -q Q now + 1 hour 2>&1; echo true | at now + 1 hour 2>&1"));
    session(shared, "env -i setsid sleep 7781 </dev/null >/dev/null 2>&1 &");
    let state = "crontab -l -u leftacct; atq | grep leftacct | sort; pgrep -xf 'sleep 7781'";
    let before = on("bastion", state);
    let mut link = link("bastion").await;
    let (accounts, done) = shut(&leaver, &mut *link).await;
    let findings = link.findings();
    let own_jobs = |accounts: &[Account]| {
        accounts.iter().filter(|a| a.name == *own).flat_map(|a| &a.doors).filter(|d| d.kind == DoorKind::Job).count()
    };
    assert_eq!(own_jobs(&accounts), 1, "{accounts:#?}");
    assert!(done.iter().all(|(_, r)| r.is_ok()), "{done:?}");
    assert_eq!(on("bastion", &format!("atq | grep -w {own} || true")), "", "the leaver's own job is gone");
    assert_eq!(own_jobs(&leaver.discover(&mut *link).await), 0);
    let told = |findings: &[Finding], kind: FindingKind, words: &[&str]| {
        let about = |f: &&Finding| f.account.as_deref() == Some(shared) && f.kind == kind;
        findings.iter().filter(about).filter(|f| words.iter().all(|w| f.what.contains(w))).count()
    };
    assert_eq!(told(&findings, FindingKind::Unknown, &["may let the leaver back in"]), 2, "{findings:#?}");
    assert_eq!(told(&findings, FindingKind::Unknown, &["authorized_keys", "crontabs/leftacct, line"]), 1);
    assert_eq!(told(&findings, FindingKind::Unknown, &["the leaver's key", "queue Q"]), 1);
    assert_eq!(told(&findings, FindingKind::Suspicious, &["2 jobs", "/opt/backup.sh"]), 1, "{findings:#?}");
    assert_eq!(told(&findings, FindingKind::Suspicious, &["outlived", "sleep"]), 1, "{findings:#?}");
    assert!(findings.iter().all(|f| !f.what.contains("hunter2")));
    // The key is gone; what it may have left is told all the same.
    let later = link.findings();
    assert_eq!(told(&later, FindingKind::Unknown, &["may let the leaver back in"]), 2, "{later:#?}");
    assert_eq!(on("bastion", state), before, "nothing of the account's was touched");
    on(
        "bastion",
        "crontab -r -u leftacct; pkill -u leftacct; for try in $(seq 200); do pgrep -u leftacct >/dev/null || break; sleep 0.05; done; \
         atq | awk '$NF == \"leftacct\" { print $1 }' | xargs -r atrm",
    );
    leaver.discover(&mut *link).await;
    let cleared = link.findings();
    assert_eq!(
        told(&cleared, FindingKind::Unknown, &[]) + told(&cleared, FindingKind::Suspicious, &[]),
        0,
        "{cleared:#?}"
    );
}

/// Whoever was root could make accounts, rename their own and leave shells behind.
#[tokio::test]
async fn where_the_leaver_was_root_that_is_told() {
    let _turn = TURN.lock().await;
    let leaver = somebody("rooted");
    let user = &leaver.user;
    let plain = leaver.discover(&mut *link("bastion").await).await;
    assert!(plain.iter().all(|a| a.name != "root"));
    run(ssh_command(&leaver.key_file, "root", "web2").arg(format!(
        "useradd -o -u 0 -g 0 -M -d /var/tmp/.s -s /bin/bash sysupd; usermod -l svc-metrics {user}; \
         env -i setsid sh -c 'sleep 7782; true' </dev/null >/dev/null 2>&1 &"
    )));
    on("web2", "until pgrep -xf 'sleep 7782' >/dev/null; do sleep 0.1; done");
    let mut rooted = link("web2").await;
    let (_, done) = shut(&leaver, &mut *rooted).await;
    let findings = rooted.findings();
    let still = on("web2", "getent passwd sysupd svc-metrics | wc -l; pgrep -xf 'sleep 7782' | wc -l");
    on("web2", "pkill -xf 'sleep 7782'; sed -i '/^sysupd:/d' /etc/passwd /etc/shadow; userdel svc-metrics");
    assert!(done.iter().all(|(_, r)| r.is_ok()), "{done:?}");
    assert_eq!(still, "2\n1", "nothing of it was touched");
    let told = |kind: FindingKind, account: Option<&str>, words: &str| {
        findings.iter().filter(|f| f.kind == kind && f.account.as_deref() == account && f.what.contains(words)).count()
    };
    assert_eq!(told(FindingKind::Suspicious, Some("sysupd"), "user id 0"), 1, "{findings:#?}");
    assert_eq!(
        told(FindingKind::Suspicious, Some("svc-metrics"), "under another name: its home is"),
        1,
        "{findings:#?}"
    );
    assert_eq!(told(FindingKind::Suspicious, Some("root"), "outlived"), 1, "{findings:#?}");
    assert_eq!(told(FindingKind::NotCovered, None, "the leaver was root here"), 1, "{findings:#?}");
    // The same leaver is no root elsewhere.
    let mut elsewhere = link("bastion").await;
    leaver.discover(&mut *elsewhere).await;
    assert!(elsewhere.findings().iter().all(|f| !f.what.contains("was root here")));
}

/// How many processes a host has started, as far as its last process number tells.
fn processes_started(host: &str) -> u64 {
    on(host, "read -r last </proc/sys/kernel/ns_last_pid; echo $last").parse().unwrap()
}

/// How many TCP connections a host has accepted.
fn connections_accepted(host: &str) -> u64 {
    on(host, "awk '$1 == \"Tcp:\" && $7 ~ /^[0-9]/ { print $7 }' /proc/net/snmp").parse().unwrap()
}

/// What speed hangs on (docs/performance.md), counted.
#[tokio::test]
async fn a_host_is_asked_with_few_programs_and_few_connections() {
    let _turn = TURN.lock().await;
    let leaver = somebody("count");
    let idle = {
        let first = processes_started("web1");
        processes_started("web1") - first
    };
    let connections = connections_accepted("web1");
    let mut link = link("web1").await;
    let accounts = leaver.discover(&mut *link).await;
    let began = processes_started("web1");
    assert_eq!(leaver.discover(&mut *link).await, accounts);
    let survey = processes_started("web1") - began - idle;
    assert!(survey <= 12, "{survey} processes for one discovery");
    let doors = doors_of(&accounts, leaver.id());
    assert!(doors.iter().any(|d| d.account == "deploy"), "{doors:#?}");
    link.look(&doors, false, &cx()).await;
    let steps: Vec<Step> = plan(&accounts, leaver.id())
        .into_iter()
        .filter(|s| s.action == Action::Revoke && s.account == "deploy")
        .collect();
    let began = processes_started("web1");
    let results = link.apply(&steps, &cx()).await;
    let revoke = processes_started("web1") - began - idle;
    assert!(matches!(results[..], [Ok(Outcome::Done { .. })]), "{results:?}");
    assert!(revoke <= 40, "{revoke} processes to take one key out");
    link.discover(&leaver.scope()).collect::<Vec<_>>().await;
    let deploy: Vec<Door> = doors.into_iter().filter(|d| d.account == "deploy").collect();
    let after = link.look(&deploy, true, &cx()).await;
    assert!(after.iter().all(|l| matches!(l.verdict, Verdict::Shut { proof: Proof::Refused, .. })), "{after:?}");
    // Our own login; and the leaver's keys in their own account and in deploy, of which the second is asked twice on one connection.
    assert_eq!(connections_accepted("web1") - connections, 3);
}

/// Connections to sshd that are open now.
fn connections_open(host: &str) -> u64 {
    on(host, "awk '$2 ~ /:0016$/ && $4 == \"01\"' /proc/net/tcp | wc -l").parse().unwrap()
}

/// sshd counts those on which nobody has logged in against its MaxStartups, whoever they come from.
#[tokio::test]
async fn one_connection_without_a_login_is_kept_at_a_host() {
    let _turn = TURN.lock().await;
    let (leaver, other) = (somebody("keep"), somebody("keep"));
    let connector = connector();
    let place = place(&*connector, "web2");
    // Sessions of tests before this one end first.
    while connections_open("web2") > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut links = Vec::new();
    for who in [&leaver, &other] {
        let mut link = connector.open(&place, &cx()).await.unwrap();
        let doors = doors_of(&who.discover(&mut *link).await, who.id());
        let accounts: BTreeSet<&str> = doors.iter().map(|d| d.account.as_str()).collect();
        assert!(accounts.contains("deploy") && accounts.contains("root"), "{accounts:?}");
        link.look(&doors, false, &cx()).await;
        links.push((link, doors));
    }
    let comes_to = async |most: u64, seconds: u32| {
        for _ in 0..seconds * 5 {
            if connections_open("web2") <= most {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        false
    };
    // Those that are not kept have been said goodbye to, which may take a moment to get there.
    assert!(comes_to(3, 5).await, "two logins and one that is kept, not {}", connections_open("web2"));
    // sshd cuts it after LoginGraceTime, two minutes; it is not left to that.
    assert!(comes_to(2, 60).await, "the one that was kept ends by itself, not {}", connections_open("web2"));
    for (mut link, doors) in links {
        for (door, look) in doors.iter().zip(link.look(&doors, true, &cx()).await) {
            assert!(door.kind == DoorKind::Session || look.verdict.word() == "open", "{}: {look:?}", door.id);
        }
    }
}

/// What a live connection knows of a host's set-up is looked at anew by every discovery.
#[tokio::test]
async fn a_changed_sshd_config_and_another_name_service_are_noticed() {
    let _turn = TURN.lock().await;
    let leaver = somebody("stale");
    let mut link = link("web2").await;
    let places = async |link: &mut dyn Link| -> Vec<String> {
        let accounts = leaver.discover(link).await;
        let keys =
            accounts.iter().flat_map(|a| &a.doors).filter(|d| d.kind == DoorKind::SshKey && d.account == "deploy");
        keys.map(|d| d.detail.split(';').next().unwrap().to_string()).collect()
    };
    let before = places(&mut *link).await;
    assert!(before.len() == 1 && before[0].contains("authorized_keys line"), "{before:?}");
    // Where systemd knows accounts too, getent is asked; the answer is the same.
    on("web2", "mkdir /run/userdb");
    let asked = places(&mut *link).await;
    on("web2", "rmdir /run/userdb");
    assert_eq!(asked, before);
    on(
        "web2",
        &format!(
            "cp -p /etc/ssh/sshd_config /etc/ssh/kept; sed -i '1i AuthorizedKeysFile .ssh/late' /etc/ssh/sshd_config
             install -m 600 -o deploy -g deploy /dev/null /home/deploy/.ssh/late; echo '{}' > /home/deploy/.ssh/late",
            leaver.key
        ),
    );
    let after = places(&mut *link).await;
    on("web2", "mv /etc/ssh/kept /etc/ssh/sshd_config; rm /home/deploy/.ssh/late");
    assert!(after.len() == 1 && after[0].contains("late line 1"), "{after:?}");
    assert_eq!(places(&mut *link).await, before);
}

/// Where a shared secret is kept: who could read it, by what; and that asking costs one program, and nothing where there is no such file.
#[tokio::test]
async fn who_could_read_a_watched_file_is_told_with_the_reason() {
    let _turn = TURN.lock().await;
    let (leaver, bystander, admin) = (somebody("reads"), somebody("readsx"), somebody("readsadm"));
    on(
        "bastion",
        &format!(
            "groupadd -g 1777 readers; groupadd vault; useradd -M -r svcwatch; cd /etc; mkdir -m 755 watched; cd watched
             gpasswd -a {leaver} readers; gpasswd -a {admin} vault; mkdir locked; ln -s /etc/watched/locked alias
             touch 'in group.env' all.env own.env private.env listed.env locked/inner.env svc.env
             chmod 640 'in group.env' private.env; chgrp readers 'in group.env'; chgrp {leaver} private.env
             chmod 604 all.env; chmod 600 own.env listed.env svc.env; chown {leaver} own.env; chown svcwatch svc.env; chmod 644 locked/inner.env; chmod 700 locked
             echo '%vault ALL=(ALL:ALL) ALL
             {bystander}x ALL=(ALL) ALL
             Defaults:{bystander} !lecture
             {leaver} , nobody ALL = (svcwatch) NOPASSWD: /bin/true' >/etc/sudoers.d/watched
             python3 -c 'import os,struct; e=[(1,6,-1),(2,4,1),(4,0,-1),(16,4,-1),(32,0,-1)]
os.setxattr(\"listed.env\",\"system.posix_acl_access\",struct.pack(\"<I\",2)+b\"\".join(struct.pack(\"<HHI\",t,p,i&0xffffffff) for t,p,i in e))'",
            leaver = leaver.user,
            bystander = bystander.user,
            admin = admin.user
        ),
    );
    let names = ["in group", "all", "own", "private", "listed", "locked/inner", "alias/inner", "svc", "gone"];
    let has_getfacl = !on("bastion", "command -v getfacl || true").is_empty();
    let files: Vec<String> = names.iter().map(|name| format!("/etc/watched/{name}.env")).collect();
    let mut link = link("bastion").await;
    let mut programs = Vec::new();
    for watching in [Vec::new(), files.clone()] {
        link.watch(watching);
        // The first one reads how sshd is set up.
        leaver.discover(&mut *link).await;
        let began = processes_started("bastion");
        leaver.discover(&mut *link).await;
        programs.push(processes_started("bastion") - began);
    }
    let mut told = Vec::new();
    for who in [&leaver, &bystander, &admin] {
        who.discover(&mut *link).await;
        let read: Vec<(String, String, bool)> = link
            .could_read()
            .into_iter()
            .filter(|found| found.account == who.user)
            .map(|found| (found.file["/etc/watched/".len()..].to_string(), found.how, found.root))
            .collect();
        told.push((read, link.findings()));
    }
    let open = link.check().await.unwrap().findings;
    on("bastion", "rm -r /etc/watched /etc/sudoers.d/watched; userdel svcwatch; groupdel readers; groupdel vault");
    println!("programs for one discovery: {programs:?}");
    assert_eq!(programs[1], programs[0] + 1, "one program more");
    let row = |file: &str, how: &str, root: bool| (format!("{file}.env"), how.to_string(), root);
    let private = format!("group {}", leaver.user);
    assert_eq!(
        told[0].0,
        [
            row("in group", "group readers", false),
            row("all", "everybody there", false),
            row("own", "its owner", false),
            row("private", &private, false),
            row("svc", "sudo as svcwatch", false),
        ]
    );
    assert_eq!(told[1].0, [row("all", "everybody there", false)]);
    let by_root = "sudo, by /etc/sudoers.d/watched";
    let all = names.iter().map(|name| match *name {
        "all" => row(name, "everybody there", false),
        _ => row(name, by_root, true),
    });
    assert_eq!(told[2].0, all.collect::<Vec<_>>());
    // The list names somebody else. Without getfacl nobody can say, and that is said.
    let untold = usize::from(!has_getfacl);
    for (who, (_, findings)) in [&leaver, &bystander].iter().zip(&told) {
        let words = format!("whether {} could read /etc/watched/listed.env cannot be told", who.user);
        assert_eq!(findings.iter().filter(|f| f.what.contains(&words)).count(), untold, "{findings:#?}");
        assert!(findings.iter().any(|f| f.what.contains("gone.env cannot be told")), "{findings:#?}");
    }
    let open: Vec<_> = open.iter().filter(|f| f.what.contains("/etc/watched/")).collect();
    assert!(open.len() == 1 && open[0].what.contains("all.env") && open[0].hint.contains("chmod o= "), "{open:#?}");
}

/// Whoever has a key in root's account has everything there.
#[tokio::test]
async fn a_key_in_roots_account_reads_every_watched_file() {
    let _turn = TURN.lock().await;
    let leaver = somebody("rootreads");
    let mut link = link("web2").await;
    link.watch(vec!["/etc/shadow".into()]);
    leaver.discover(&mut *link).await;
    let read = link.could_read();
    assert!(read.iter().any(|f| f.account == "root" && f.root && f.how == "user id 0"), "{read:#?}");
    assert!(read.iter().all(|f| f.account != leaver.user && f.account != "deploy"), "{read:#?}");
}
