//! The lab, for tests: people of their own, the real clients, outages. The servers are those of `lab/enter`; see docs/lab.md.
#![allow(dead_code, reason = "each test binary uses another part of it")]

use offboard::model::Fingerprint;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Tests share the lab; one that takes a server down has it alone.
static LAB: RwLock<()> = RwLock::new(());
static NEXT: AtomicU32 = AtomicU32::new(0);

const HOSTS: [&str; 5] = ["web1", "web2", "db1", "bastion", "backup"];
/// Hosts on which the key of a `lab/person` stands in deploy's file, and where in root's.
const DEPLOY_HOSTS: [&str; 3] = ["web1", "web2", "db1"];
const ROOT_HOST: &str = "web2";
/// How long a real client may take to be let in or refused.
const CLIENT_SECONDS: u32 = 60;

enum Use {
    Shared(#[allow(dead_code)] RwLockReadGuard<'static, ()>),
    Alone(#[allow(dead_code)] RwLockWriteGuard<'static, ()>),
}

/// The servers of the lab.
pub struct Lab {
    root: PathBuf,
    _use: Use,
}

/// A person whom the lab knows everywhere.
#[derive(Clone)]
pub struct LabPerson {
    pub id: String,
    pub user: String,
    pub name: String,
    pub mail: String,
    pub password: String,
    pub key: PathBuf,
}

impl LabPerson {
    /// The fingerprint of the person's key, as ssh-keygen says it.
    pub fn fingerprint(&self) -> Fingerprint {
        let output = run(Command::new("ssh-keygen").arg("-lf").arg(self.key.with_extension("pub")));
        Fingerprint(text(&output.stdout).split_whitespace().nth(1).unwrap().to_string())
    }
}

/// A session of a real client, opened before the run.
pub struct LabSession {
    pub name: String,
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    ask: &'static str,
}

impl LabSession {
    /// Whether the session still answers.
    pub fn is_alive(&mut self) -> bool {
        let Some(stdin) = self.child.stdin.as_mut() else { return false };
        if stdin.write_all(self.ask.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return false;
        }
        let mut line = String::new();
        self.answers.read_line(&mut line).is_ok_and(|n| n > 0) && line.contains("still-here")
    }
}

impl Drop for LabSession {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service on a host that logs in to PostgreSQL with a password of its own, out of a file.
pub struct LabService {
    pub name: String,
    pub host: &'static str,
    pub port: u32,
    pub role: String,
    pub file: String,
    /// `env`, `yaml` or `json`.
    pub format: &'static str,
    /// The password at first.
    pub password: String,
}

/// Asks a service without a pause until it is told to stop.
pub struct Hammer {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Hammer {
    /// How many answers there were, and how many were wrong.
    pub fn stop(mut self) -> (u32, u32) {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap());
        let _ = self.child.wait();
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

/// A server that is down until this is dropped.
pub struct Outage {
    server: String,
    end: &'static str,
}

impl Drop for Outage {
    fn drop(&mut self) {
        script("server", &[self.end, &self.server]);
    }
}

/// A leaver who plants keys over a session from before the run, for as long as it lives.
pub struct Planter {
    child: Child,
    key: PathBuf,
}

impl Planter {
    pub fn key(&self) -> PathBuf {
        self.key.clone()
    }

    /// Waits for the session to be cut by the run; it does not end by itself.
    pub fn wait_for_end(&mut self) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the leaver's session was not cut");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn script(name: &str, args: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(name);
    let output = run(Command::new(path).args(args));
    assert!(output.status.success(), "lab/{name} {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

impl Lab {
    fn new(held: Use) -> Self {
        let root = std::env::var_os("LAB").map(PathBuf::from).filter(|root| root.join("ready").exists());
        let Some(root) = root else {
            panic!("this test needs the lab's servers: make test, or: lab/enter cargo test");
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { root, _use: held }
    }

    /// The lab, together with other tests.
    pub fn shared() -> Self {
        Self::new(Use::Shared(LAB.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The lab for this test alone, to take servers down.
    pub fn alone() -> Self {
        Self::new(Use::Alone(LAB.write().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Where `$LAB` is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn person_named(user: &str, name: &str, status: &str) -> LabPerson {
        let id = format!("E{}", 500_000 + NEXT.load(Ordering::SeqCst) + std::process::id() * 64 % 400_000);
        let id = format!("{id}-{user}");
        let mail = format!("{user}@sunrise.test");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/person");
        let output = run(Command::new(path).args([&id, user, name, &mail]).env("STATUS", status));
        assert!(output.status.success(), "lab/person {user}: {}{}", text(&output.stdout), text(&output.stderr));
        let home = PathBuf::from(std::env::var_os("LAB").unwrap()).join("people").join(user);
        let password = std::fs::read_to_string(home.join("password")).unwrap().trim_end().to_string();
        LabPerson { id, user: user.into(), name: name.into(), mail, password, key: home.join("id_ed25519") }
    }

    fn fresh_user(&self) -> String {
        // Test binaries run one after another in the same lab: the process number keeps their people apart.
        format!("t{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
    }

    /// A leaver of the test's own.
    pub fn person(&self) -> LabPerson {
        let user = self.fresh_user();
        Self::person_named(&user, "Leela Venkat", "terminated,involuntary")
    }

    /// A leaver of that name.
    pub fn person_called(&self, name: &str) -> LabPerson {
        let user = self.fresh_user();
        Self::person_named(&user, name, "terminated,involuntary")
    }

    /// Somebody who has not left.
    pub fn active_person(&self) -> LabPerson {
        let user = self.fresh_user();
        Self::person_named(&user, "Asha Active", "active,")
    }

    /// A leaver, and a bystander whose user name, name and mail are nearly the same and who is in the same groups on the same hosts.
    pub fn look_alikes(&self) -> (LabPerson, LabPerson) {
        let user = self.fresh_user();
        let leaver = Self::person_named(&user, "Rohan Mehta", "terminated,involuntary");
        let bystander = Self::person_named(&format!("{user}a"), "Rohan Mehtaa", "active,");
        (leaver, bystander)
    }

    /// Every secret that offboard itself uses.
    pub fn operator_secrets(&self) -> Vec<String> {
        [
            "ldap",
            "ldap-control",
            "postgres",
            "postgres-control",
            "smtp",
            "vault",
            "vault-control",
            "redis",
            "redis-control",
            "mysql",
            "mysql-control",
        ]
        .iter()
        .map(|name| std::fs::read_to_string(self.root.join("secrets").join(name)).unwrap().trim_end().to_string())
        .collect()
    }

    /// A copy of the configuration in a folder of its own, without keys and journal.
    pub fn office(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["offboard.yaml", "roster.csv", "ca.pem", "known_hosts", "secrets", "playbooks"] {
            let output = run(Command::new("cp").arg("-a").arg(self.root.join(name)).arg(folder.path()));
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        folder
    }

    pub fn stop(&self, server: &str) -> Outage {
        script("server", &["stop", server]);
        Outage { server: server.into(), end: "start" }
    }

    pub fn pause(&self, server: &str) -> Outage {
        script("server", &["pause", server]);
        Outage { server: server.into(), end: "resume" }
    }

    /// Runs a command as root in a host; its output, whatever its exit status.
    pub fn on(&self, host: &str, command: &[&str]) -> Output {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/on");
        run(Command::new(path).arg(host).args(command))
    }

    /// The same with something on its standard input; it must succeed.
    pub fn feed(&self, host: &str, command: &[&str], input: &[u8]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/on");
        let mut child = Command::new(path).arg(host).args(command).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        assert!(child.wait().unwrap().success(), "{command:?}");
    }

    /// SQL as the database's own superuser, over its socket.
    pub fn sql(&self, statement: &str) -> String {
        let socket = self.root.join("pg");
        let output = run(Command::new("su")
            .args(["postgres", "-s", "/bin/sh", "-c", "exec psql -XqAt -h \"$0\" -d hospital -c \"$1\""])
            .arg(socket)
            .arg(statement));
        assert!(output.status.success(), "{statement}: {}", text(&output.stderr));
        text(&output.stdout).trim_end().to_string()
    }

    /// SQL as anybody, by `psql` over TLS.
    pub fn psql(&self, user: &str, password: &str, statement: &str) -> Result<String, String> {
        let output = run(self.psql_command(user, password).args(["-c", statement]));
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn psql_command(&self, user: &str, password: &str) -> Command {
        let mut command = Command::new("psql");
        let ca = self.root.join("ca.pem");
        command.args(["-XqAt", "-h", "pg.sunrise.test", "-d", "hospital", "-U", user]);
        command.env("PGPASSWORD", password).env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", ca);
        command.env("PGCONNECT_TIMEOUT", CLIENT_SECONDS.to_string());
        command
    }

    fn redis_command(&self, server: &str, user: &str, password: &str) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "-e", "--no-auth-warning", "-h", &format!("{server}.sunrise.test"), "--user", user]);
        command.arg("--cacert").arg(self.root.join("ca.pem")).env("REDISCLI_AUTH", password);
        command
    }

    /// One command as anybody, by `redis-cli` over TLS.
    pub fn redis(&self, server: &str, user: &str, password: &str, words: &[&str]) -> Result<String, String> {
        let output = run(self.redis_command(server, user, password).args(words));
        let said = text(&output.stdout).trim_end().to_string();
        let refused = text(&output.stderr).contains("AUTH failed");
        if output.status.success() && !refused { Ok(said) } else { Err(said + &text(&output.stderr)) }
    }

    /// The same as the servers' administrator, behind offboard's back.
    pub fn redis_admin(&self, server: &str, words: &[&str]) -> String {
        let password = std::fs::read_to_string(self.root.join("secrets/redis-admin")).unwrap();
        self.redis(server, "admin", password.trim_end(), words).unwrap()
    }

    /// A connection of the real client. When it is cut, the client tries to log in again.
    pub fn redis_session(&self, server: &str, user: &str, password: &str) -> LabSession {
        let client = self.redis_command(server, user, password);
        // It says only on its standard error that it was cut, and waits.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(client.get_program()).args(client.get_args());
        command.env("REDISCLI_AUTH", password);
        session(format!("redis {user}@{server}"), command, "ECHO still-here\n")
    }

    fn mysql_command(&self, user: &str, password: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args([
            "--no-defaults",
            "-NBn",
            "--skip-reconnect",
            "--ssl-verify-server-cert",
            "-h",
            "maria.sunrise.test",
        ]);
        command.arg(format!("--ssl-ca={}", self.root.join("ca.pem").display()));
        command.arg(format!("--connect-timeout={CLIENT_SECONDS}")).args(["-u", user]).env("MYSQL_PWD", password);
        command
    }

    /// SQL on MariaDB as anybody, by the real client over TLS.
    pub fn mysql(&self, user: &str, password: &str, statement: &str) -> Result<String, String> {
        let output = run(self.mysql_command(user, password).args(["-e", statement]));
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// SQL on MariaDB as its own root, over the socket.
    pub fn mysql_root(&self, statement: &str) -> String {
        let mut command = Command::new("mariadb");
        let output = run(command
            .args(["--no-defaults", "-NB", "-u", "root", "-e", statement, "-S"])
            .arg(self.root.join("maria/socket")));
        assert!(output.status.success(), "{statement}: {}", text(&output.stderr));
        text(&output.stdout).trim_end().to_string()
    }

    pub fn mysql_session(&self, user: &str, password: &str) -> LabSession {
        session(format!("mysql {user}"), self.mysql_command(user, password), "SELECT 'still-here';\n")
    }

    /// Whether `ldapwhoami` is let in.
    pub fn ldapwhoami(&self, replica: &str, dn: &str, password: &str) -> bool {
        let mut command = Command::new("ldapwhoami");
        command.args(["-x", "-ZZ", "-H", &format!("ldap://{replica}.sunrise.test"), "-D", dn, "-w", password]);
        command.args(["-o", &format!("nettimeout={CLIENT_SECONDS}")]).env("LDAPTLS_CACERT", self.root.join("ca.pem"));
        run(&mut command).status.success()
    }

    pub fn dn(&self, person: &LabPerson) -> String {
        format!("uid={},ou=people,dc=sunrise,dc=test", person.user)
    }

    fn ssh_command(&self, key: &Path, login: &str, host: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]);
        command.args(["-o", &format!("ConnectTimeout={CLIENT_SECONDS}")]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.root.join("known_hosts").display()));
        command.arg("-i").arg(key).arg(format!("{login}@{host}.sunrise.test"));
        command
    }

    /// Whether `ssh` is let in.
    pub fn ssh(&self, key: &Path, login: &str, host: &str) -> bool {
        let output = run(self.ssh_command(key, login, host).arg("echo still-here"));
        output.status.success() && text(&output.stdout).contains("still-here")
    }

    /// Every way in that a `lab/person` has, by name, while nothing was done.
    pub fn all_ways(&self) -> Vec<String> {
        let mut ways: Vec<String> = ["ldap1", "ldap2", "pg", "maria", "cache1", "cache2"].map(Into::into).to_vec();
        ways.extend(self.ssh_ways("").into_iter().map(|(host, login)| format!("{login}@{host}")));
        ways
    }

    fn ssh_ways(&self, own: &str) -> Vec<(&'static str, String)> {
        let mut ways: Vec<(&str, String)> = HOSTS.iter().map(|h| (*h, own.to_string())).collect();
        ways.extend(DEPLOY_HOSTS.iter().map(|h| (*h, "deploy".to_string())));
        ways.push((ROOT_HOST, "root".to_string()));
        ways
    }

    /// The ways by which the real clients let the person in now, named as [`Lab::all_ways`] does.
    pub fn ways_in(&self, person: &LabPerson) -> Vec<String> {
        let mut ways = Vec::new();
        for replica in ["ldap1", "ldap2"] {
            if self.ldapwhoami(replica, &self.dn(person), &person.password) {
                ways.push(replica.to_string());
            }
        }
        if self.psql(&person.user, &person.password, "SELECT 1").is_ok() {
            ways.push("pg".into());
        }
        if self.mysql(&person.user, &person.password, "SELECT 1").is_ok() {
            ways.push("maria".into());
        }
        for server in ["cache1", "cache2"] {
            if self.redis(server, &person.user, &person.password, &["ACL", "WHOAMI"]).is_ok() {
                ways.push(server.into());
            }
        }
        ways.extend(self.ways_in_with(&person.key, person));
        ways
    }

    /// The accounts into which a key lets the person now.
    pub fn ways_in_with(&self, key: &Path, person: &LabPerson) -> Vec<String> {
        let tries: Vec<_> = self
            .ssh_ways(&person.user)
            .into_iter()
            .map(|(host, login)| {
                let child = self
                    .ssh_command(key, &login, host)
                    .arg("echo still-here")
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                (host, login, child)
            })
            .collect();
        tries
            .into_iter()
            .filter_map(|(host, login, child)| {
                let output = child.wait_with_output().unwrap();
                let in_it = output.status.success() && text(&output.stdout).contains("still-here");
                if !in_it {
                    // Shown only if the test fails: why a way in was refused.
                    println!("{login}@{host}: {}", text(&output.stderr).trim_end());
                }
                let login = if login == person.user { String::new() } else { login };
                in_it.then(|| format!("{login}@{host}"))
            })
            .collect()
    }

    /// Sessions of the person: of the databases' clients, and ssh on two hosts and as deploy.
    pub fn sessions(&self, person: &LabPerson) -> Vec<LabSession> {
        let mut sessions = vec![
            self.psql_session(person),
            self.mysql_session(&person.user, &person.password),
            self.redis_session("cache1", &person.user, &person.password),
        ];
        for (login, host) in [(person.user.as_str(), "web1"), (person.user.as_str(), "backup"), ("deploy", "db1")] {
            sessions.push(self.ssh_session(person, login, host));
        }
        sessions
    }

    pub fn psql_session(&self, person: &LabPerson) -> LabSession {
        let command = self.psql_command(&person.user, &person.password);
        session("psql".into(), command, "SELECT 'still-here';\n")
    }

    pub fn ssh_session(&self, person: &LabPerson, login: &str, host: &str) -> LabSession {
        let mut command = self.ssh_command(&person.key, login, host);
        command.arg("sh");
        let mut session = session(format!("ssh {login}@{host}"), command, "echo still-here\n");
        assert!(session.is_alive(), "{} does not open", session.name);
        session
    }

    /// The real client of the VPN, in a network of its own; with `command` as what it runs once the tunnel is up.
    pub fn vpn_command(&self, user: &str, profile: &Path, command: &[&str]) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/vpn-client");
        let mut client = Command::new(path);
        client.arg(user).args(command).env("PROFILE", profile).env("VPN_WAIT", CLIENT_SECONDS.to_string());
        client
    }

    /// The person's VPN profile: address, certificate, key.
    pub fn vpn_profile(person: &LabPerson) -> PathBuf {
        person.key.with_file_name("vpn.ovpn")
    }

    /// Whether the VPN lets the person in.
    pub fn vpn(&self, person: &LabPerson, profile: &Path) -> bool {
        let output = run(&mut self.vpn_command(&person.user, profile, &["ping", "-c1", "-W2", "10.66.0.1"]));
        if !output.status.success() {
            println!("vpn {}: {}", person.user, text(&output.stderr).trim_end());
        }
        output.status.success()
    }

    /// A tunnel that stays: it answers as long as packets come back through it.
    pub fn vpn_session(&self, person: &LabPerson, profile: &Path) -> LabSession {
        self.vpn_session_to(person, profile, "10.66.0.1")
    }

    /// The same to another gateway than the company's.
    pub fn vpn_session_to(&self, person: &LabPerson, profile: &Path, peer: &str) -> LabSession {
        let mut client = self.vpn_command(&person.user, profile, &["sh"]);
        client.env("PEER", peer);
        let ask = "ping -c1 -W2 $PEER >/dev/null && echo still-here || echo gone\n";
        let mut session = session(format!("vpn {}", person.user), client, ask);
        assert!(session.is_alive(), "{} does not open", session.name);
        session
    }

    /// A tunnel of the real WireGuard, in a network of its own; `command` runs there, and finds the gateway's address in PEER.
    pub fn wireguard_command(&self, profile: &Path, command: &[&str]) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/wg-client");
        let mut client = Command::new(path);
        client.arg(profile).args(command);
        client
    }

    /// The person's WireGuard profile: the private key, its address, the gateway.
    pub fn wireguard_profile(person: &LabPerson) -> PathBuf {
        person.key.with_file_name("wg.conf")
    }

    /// The public key of a profile.
    pub fn wireguard_key(profile: &Path) -> String {
        let text = std::fs::read_to_string(profile).unwrap();
        text.lines().find_map(|line| line.strip_prefix("# PublicKey = ")).unwrap().to_string()
    }

    /// Whether a ping comes back through a new tunnel.
    pub fn wireguard(&self, profile: &Path) -> bool {
        run(&mut self.wireguard_command(profile, &["sh", "-c", "ping -c2 -i0.5 -W2 $PEER"])).status.success()
    }

    /// A tunnel that stays: it answers as long as packets come back through it.
    pub fn wireguard_session(&self, profile: &Path) -> LabSession {
        let ask = "ping -c1 -W2 $PEER >/dev/null && echo still-here || echo gone\n";
        let mut session = session(format!("wg {}", profile.display()), self.wireguard_command(profile, &["sh"]), ask);
        assert!(session.is_alive(), "{} does not open", session.name);
        session
    }

    /// The WireGuard gateway, by its administrator: `lab/seed/wireguard.sh`.
    pub fn wireguard_admin(&self, arguments: &[&str]) -> String {
        let output = self.on("vpn", &[&["/etc/sunrise/wireguard"], arguments].concat());
        assert!(output.status.success(), "wireguard {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// `bao`, the Vault's own client, with a token or without; what is secret among the arguments goes by standard input, as `-`.
    pub fn bao(token: Option<&str>, arguments: &[&str], input: &str) -> Result<String, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = text(&run(Command::new(root.join("lab/bao")).arg("--check")).stdout);
        let mut command = Command::new(program.trim_end());
        command.args(arguments).env("BAO_ADDR", "https://vault.sunrise.test:8200");
        let lab = PathBuf::from(std::env::var_os("LAB").unwrap());
        command.env("BAO_CACERT", lab.join("ca.pem")).env("HOME", lab.join("tmp")).env("BAO_MAX_RETRIES", "0");
        command.env("BAO_TOKEN", token.unwrap_or_default());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("lab/deps installs bao");
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(text(&output.stdout).trim_end().to_string())
        } else {
            Err(text(&output.stderr))
        }
    }

    /// The same as the Vault's administrator.
    pub fn bao_admin(&self, arguments: &[&str]) -> String {
        let header = std::fs::read_to_string(self.root.join("vault/header")).unwrap();
        let token = header.trim_end().trim_start_matches("X-Vault-Token: ");
        Self::bao(Some(token), arguments, "").unwrap_or_else(|why| panic!("bao {arguments:?}: {why}"))
    }

    /// Writes a path of a key/value engine, whole.
    pub fn bao_put(&self, path: &str, data: &serde_json::Value) {
        let header = std::fs::read_to_string(self.root.join("vault/header")).unwrap();
        let token = header.trim_end().trim_start_matches("X-Vault-Token: ");
        Self::bao(Some(token), &["kv", "put", path, "-"], &data.to_string())
            .unwrap_or_else(|why| panic!("{path}: {why}"));
    }

    /// The person's login by password: the token.
    pub fn bao_login(&self, user: &str, password: &str) -> Result<String, String> {
        let path = format!("auth/userpass/login/{user}");
        Self::bao(None, &["write", "-field=token", &path, "password=-"], password)
    }

    /// A login by a SecretID of the shared role: the token.
    pub fn bao_role(&self, secret_id: &str) -> Result<String, String> {
        Self::bao(None, &["write", "-field=token", "auth/approle/login", "role_id=ci", "secret_id=-"], secret_id)
    }

    /// Whether a token is alive.
    pub fn bao_token(token: &str) -> bool {
        Self::bao(Some(token), &["token", "lookup"], "").is_ok()
    }

    /// The VPN gateway, by its administrator: `lab/seed/gateway.sh`.
    pub fn gateway(&self, arguments: &[&str]) -> String {
        let output = self.on("vpn", &[&["/etc/openvpn/gateway"], arguments].concat());
        assert!(output.status.success(), "gateway {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// A second key of the person's in their own account on one host and in deploy on another, in no directory.
    pub fn undeclared_key(&self, person: &LabPerson, own: &str, deploy: &str) -> PathBuf {
        let key = person.key.with_file_name("undeclared");
        let made =
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "laptop", "-f"]).arg(&key));
        assert!(made.status.success(), "{}", text(&made.stderr));
        let line = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        for (host, account) in [(own, person.user.as_str()), (deploy, "deploy")] {
            let add = "printf %s \"$1\" >>\"/home/$0/.ssh/authorized_keys\"";
            let done = self.on(host, &["sh", "-c", add, account, &line]);
            assert!(done.status.success(), "{}", text(&done.stderr));
        }
        key
    }

    /// A service of the test's own.
    pub fn service(&self, host: &'static str) -> LabService {
        self.service_with(host, "env")
    }

    /// A service whose file is of that format.
    pub fn service_with(&self, host: &'static str, format: &'static str) -> LabService {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("s{}x{number}", std::process::id());
        let port = 20_000 + std::process::id() % 100 * 100 + number;
        script("portal", &[host, &name, &port.to_string(), format]);
        let password = std::fs::read_to_string(self.root.join("secrets").join(&name)).unwrap().trim_end().to_string();
        let (role, file) = (format!("{name}_app"), format!("/etc/sunrise/{name}.{format}"));
        LabService { name, host, port, role, file, format, password }
    }

    /// The service's password as its file has it now.
    pub fn password_in_file(&self, service: &LabService) -> String {
        let file = text(&self.on(service.host, &["cat", &service.file]).stdout);
        let (key, quote) = match service.format {
            "env" => ("PGPASSWORD=", 1),
            "yaml" => ("password:", 1),
            _ => ("\"password\"", 3),
        };
        let line = file.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{file}"));
        line.split('"').nth(quote).unwrap().to_string()
    }

    /// Ends a service that a test needs no more: each keeps connections to the database open, and there are not many.
    pub fn close(&self, service: &LabService) {
        let kill = format!("read -r pid </run/portal-{}.pid && kill $pid", service.name);
        assert!(self.on(service.host, &["sh", "-ec", &kill]).status.success());
    }

    /// Whether the service answers with the number of patients.
    pub fn answers(&self, service: &LabService) -> bool {
        let url = format!("http://127.0.0.1:{}/patients/count", service.port);
        let said = self.on(service.host, &["curl", "-fsS", "-m", "5", &url]);
        said.status.success() && text(&said.stdout).trim() == "18000"
    }

    /// Asks the service without a pause.
    pub fn hammer(&self, service: &LabService) -> Hammer {
        self.asking(service, "0")
    }

    /// Asks the service some forty times a second. A walk over crash points goes on for minutes, and a hammer takes a whole processor.
    pub fn ask_steadily(&self, service: &LabService) -> Hammer {
        self.asking(service, "0.02")
    }

    fn asking(&self, service: &LabService, pause: &str) -> Hammer {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/hammer");
        let mut command = Command::new(path);
        command.args([service.host, &service.port.to_string(), "/patients/count", pause]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "begun");
        Hammer { child, said }
    }

    /// A session of the service's role, from where no service runs.
    pub fn psql_session_with(&self, role: &str, password: &str) -> LabSession {
        session("psql".into(), self.psql_command(role, password), "SELECT 'still-here';\n")
    }

    /// Over a session as deploy that is opened now: as soon as the run has taken the key out of deploy's file, plants it again, and a new one,
    /// until the session is cut.
    pub fn plant_keys_until_cut(&self, person: &LabPerson, host: &str) -> Planter {
        let key = person.key.with_file_name("planted");
        let made = run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "backup@cron", "-f"])
            .arg(&key));
        assert!(made.status.success(), "{}", text(&made.stderr));
        let planted = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let old = std::fs::read_to_string(person.key.with_extension("pub")).unwrap();
        let body = format!(
            "echo still-here; old='{}'; while grep -qF \"$old\" .ssh/authorized_keys; do sleep 0.01; done; \
             while :; do for key in '{}' \"$old\"; do echo \"$key\" >>.ssh/authorized_keys; done; sleep 0.05; done",
            old.trim_end(),
            planted.trim_end()
        );
        // As deploy, whose file they can write: the worst case. The run knows that session by the key that opened it.
        let mut child = self
            .ssh_command(&person.key, "deploy", host)
            .arg(body)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("still-here"), "the leaver gets in before");
        Planter { child, key }
    }

    /// A client that logs in again as soon as it is thrown out, for a minute at most.
    pub fn psql_in_a_loop(&self, person: &LabPerson) -> Child {
        let mut command = Command::new("timeout");
        let psql = self.psql_command(&person.user, &person.password);
        command.args(["60", "sh", "-c", "while :; do \"$0\" \"$@\" -c 'SELECT pg_sleep(30)'; done"]);
        command.arg(psql.get_program()).args(psql.get_args());
        for (name, value) in psql.get_envs() {
            command.env(name, value.unwrap());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Changes one byte inside the text of records; not of the run `but`.
    pub fn tamper(&self, journal: &Path, but: &str) {
        let change = format!(
            "UPDATE record SET body = replace(body, 'step-done', 'step-dome') WHERE run <> '{but}'; SELECT changes();"
        );
        let output = run(Command::new("sqlite3").arg(journal).arg(change));
        assert!(output.status.success() && text(&output.stdout).trim() != "0", "{}", text(&output.stderr));
    }

    /// Runs a command whose files may not grow, as on a full disk.
    pub fn with_no_room_for_files(&self, command: Command) -> Output {
        let mut limited = Command::new("env");
        limited
            .args(["--ignore-signal=XFSZ", "prlimit", "--fsize=0"])
            .arg(command.get_program())
            .args(command.get_args());
        limited.current_dir(command.get_current_dir().unwrap());
        run(&mut limited)
    }
}

fn session(name: String, mut command: Command, ask: &'static str) -> LabSession {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap());
    LabSession { name, child, answers, ask }
}
