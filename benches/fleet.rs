//! A leaver's key taken out of a fleet, against a bare loop: `lab/enter cargo bench --bench fleet`.
//!
//! On each of [`HOSTS`] hosts (`benches/fleet.sh`) the leaver's key is one of 20 in the file of `deploy`. The floor is a bare loop
//! over russh with the same algorithms, as many hosts at the same time, and nothing of what makes it safe: one login that runs `sed`
//! and one `sshd -T`, then two logins that are refused. Ours is the release binary as an operator calls it, `offboard run`, from
//! reading its configuration to the written report, with its journal on the disk of `BENCH_DIR` (default: the build folder). Both take
//! turns. Medians of [`ROUNDS`]; CPU and memory are of that process alone, as the kernel counted them.

#[path = "cost/mod.rs"]
mod cost;

use cost::{Error, measured, median};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{ChannelMsg, Disconnect, Preferred, client, kex};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HOSTS: usize = 50;
const KEYS: usize = 20;
const AT_ONCE: usize = 10;
const ROUNDS: usize = 7;

/// The machine's part of the playbook that ships: nobody is asked for a laptop.
const PLAYBOOK: &str = "\
playbook: involuntary-termination
summary: Shut every door at once, then prove that each one is shut.
trigger: { event: leaver, where: { reason: involuntary } }
deadline: 15m
limits: { people: 1, accounts: 60 }
stages:
  - stage: contain
    steps:
      - { do: disable, to: accounts }
      - { do: end-sessions, to: accounts }
      - { do: revoke, to: credentials }
      - { do: remove, to: entitlements }
verify: { until: 5m }
report: { formats: [html, json] }
";

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|a| a == "floor") {
        return tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(floor(Path::new(&arguments[2])));
    }
    let Some(lab) = std::env::var_os("LAB").map(PathBuf::from).filter(|lab| lab.join("ready").exists()) else {
        return Err("this needs the lab: make bench, or: lab/enter cargo bench --bench fleet".into());
    };
    let fleet = Fleet::start(&lab)?;
    let base = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    println!("{HOSTS} hosts, one key among {KEYS} on each, {AT_ONCE} at the same time; medians of {ROUNDS} rounds");
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        fleet.reset()?;
        bare.push(measured(Command::new(std::env::current_exe()?).arg("floor").arg(&fleet.folder), 0)?);
        fleet.expect_clean()?;
        fleet.reset()?;
        let office = fleet.office(&base)?;
        ours.push(measured(&mut offboard(office.path(), &["run", "E1042", "--yes"]), 0)?);
        fleet.expect_clean()?;
    }
    let (floor, offboard) = (median(&bare), median(&ours));
    for (name, cost) in [("bare loop", floor), ("offboard run", offboard)] {
        println!(
            "{name:>14}: wall {:>6.3} s, own CPU {:>5.1} ms a host, peak {:>5.1} MB",
            cost.wall,
            cost.cpu * 1000.0 / HOSTS as f64,
            cost.memory
        );
    }
    println!("{:>14}: {:.2} of the bare loop's wall time", "ratio", offboard.wall / floor.wall);
    Ok(())
}

fn offboard(office: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offboard"));
    command.current_dir(office).args(arguments);
    command
}

fn run(command: &mut Command) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// The hosts, until this is dropped.
struct Fleet {
    folder: PathBuf,
    lab: PathBuf,
    keys: String,
    leaver: String,
    servers: std::process::Child,
}

impl Fleet {
    fn start(lab: &Path) -> Result<Self, Error> {
        let folder = lab.join("tmp/fleet");
        std::fs::create_dir(&folder)?;
        let make = |name: &str| {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(folder.join(name)))?;
            Ok::<_, Error>(std::fs::read_to_string(folder.join(name).with_extension("pub"))?)
        };
        make("operator")?;
        let leaver = std::fs::read_to_string(lab.join("people/rmehta/id_ed25519.pub"))?;
        std::fs::copy(lab.join("people/rmehta/id_ed25519"), folder.join("leaver"))?;
        let mut keys = String::new();
        for i in 1..KEYS {
            keys += &make(&format!("colleague{i}"))?;
            if i == KEYS / 2 {
                keys += &leaver;
            }
        }
        std::fs::write(folder.join("deploy.keys"), &keys)?;
        let servers = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/fleet.sh"))
            .arg(&folder)
            .arg(HOSTS.to_string())
            .stdin(Stdio::piped())
            .spawn()?;
        let fleet = Self { folder, lab: lab.into(), keys, leaver, servers };
        let end = Instant::now() + Duration::from_secs(60);
        while !fleet.folder.join("up").exists() {
            if Instant::now() > end {
                return Err("the hosts did not come up".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(fleet)
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        (1..=HOSTS).map(|i| self.folder.join(format!("{i}/keys/deploy")))
    }

    fn reset(&self) -> Result<(), Error> {
        for file in self.files() {
            std::fs::write(file, &self.keys)?;
        }
        Ok(())
    }

    fn expect_clean(&self) -> Result<(), Error> {
        let clean = self.keys.replace(&self.leaver, "");
        for file in self.files() {
            if std::fs::read_to_string(&file)? != clean {
                return Err(format!("{} is not as it should be", file.display()).into());
            }
        }
        Ok(())
    }

    /// What an administrator of these hosts alone would have written; a new journal.
    fn office(&self, base: &Path) -> Result<tempfile::TempDir, Error> {
        let office = tempfile::Builder::new().prefix("fleet-").tempdir_in(base)?;
        let path = |name: &str| office.path().join(name);
        std::fs::copy(self.lab.join("roster.csv"), path("roster.csv"))?;
        std::fs::create_dir(path("playbooks"))?;
        std::fs::write(path("playbooks/involuntary-termination.yaml"), PLAYBOOK)?;
        for (from, to) in [("operator", "operator"), ("known_hosts", "known_hosts")] {
            std::fs::copy(self.folder.join(from), path(to))?;
        }
        let hosts: String = (1..=HOSTS).map(|i| format!("h{i} 127.0.1.{}\n", 10 + i)).collect();
        std::fs::write(path("hosts"), hosts)?;
        std::fs::write(
            path("offboard.yaml"),
            format!(
                "company: Fifty Hosts\nroster: {{ csv: roster.csv }}\njournal: journal\nkeys: keys\nplaybooks: playbooks\nsystems:\n  fleet:\n    \
                 ssh: {{ host-list: hosts, user: root, key: operator, known-hosts: known_hosts, parallel: {AT_ONCE} }}\n\
                 keys-of:\n  - {{ person: E1042, key: \"{}\" }}\n",
                self.leaver.trim_end()
            ),
        )?;
        run(&mut offboard(office.path(), &["init", "."]))?;
        Ok(office)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.servers.stdin.take());
        let _ = self.servers.wait();
    }
}

/// The bare loop.
async fn floor(folder: &Path) -> Result<(), Error> {
    use futures::{StreamExt, TryStreamExt};
    let operator = Arc::new(load_secret_key(folder.join("operator"), None)?);
    let leaver = Arc::new(load_secret_key(folder.join("leaver"), None)?);
    let public = leaver.public_key().to_openssh()?;
    let blob = public.split(' ').nth(1).ok_or("no key")?;
    futures::stream::iter(1..=HOSTS)
        .map(|i| {
            let (operator, leaver) = (operator.clone(), leaver.clone());
            let host = folder.join(i.to_string());
            let command = format!(
                "sed -i '\\|{blob}|d' {0}/keys/deploy && exec /usr/sbin/sshd -T -f {0}/sshd_config",
                host.display()
            );
            tokio::spawn(async move {
                let address = format!("127.0.1.{}", 10 + i);
                let mut session = connect(&address).await?;
                if !log_in(&mut session, "root", operator).await? {
                    return Err("our own key is refused".into());
                }
                let mut channel = session.channel_open_session().await?;
                channel.exec(true, command).await?;
                let mut status = None;
                while let Some(message) = channel.wait().await {
                    if let ChannelMsg::ExitStatus { exit_status } = message {
                        status = Some(exit_status);
                    }
                }
                if status != Some(0) {
                    return Err(format!("{address}: {status:?}").into());
                }
                session.disconnect(Disconnect::ByApplication, "", "en").await?;
                for _ in 0..2 {
                    let mut session = connect(&address).await?;
                    if log_in(&mut session, "deploy", leaver.clone()).await? {
                        return Err(format!("{address}: the leaver gets in").into());
                    }
                    session.disconnect(Disconnect::ByApplication, "", "en").await?;
                }
                Ok::<(), Error>(())
            })
        })
        .buffer_unordered(AT_ONCE)
        .map(|joined| joined?)
        .try_collect::<()>()
        .await
}

struct AnyHost;

impl client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn connect(address: &str) -> Result<client::Handle<AnyHost>, Error> {
    let kex = [kex::CURVE25519, kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT];
    let preferred = Preferred { kex: Cow::Owned(kex.to_vec()), ..Preferred::DEFAULT };
    let config = client::Config { preferred, nodelay: true, ..client::Config::default() };
    Ok(client::connect(Arc::new(config), (address, 22), AnyHost).await?)
}

async fn log_in(session: &mut client::Handle<AnyHost>, user: &str, key: Arc<PrivateKey>) -> Result<bool, Error> {
    Ok(session.authenticate_publickey(user, PrivateKeyWithHashAlg::new(key, None)).await?.success())
}
