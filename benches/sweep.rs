//! A sweep of one large directory, against `ldapsearch`: `lab/enter cargo bench --bench sweep`.
//!
//! `benches/sweep.sh` is a slapd with so many entries, of 200 people or of a person each; one in a thousand is dormant. The floor is `ldapsearch` with
//! the same filter, the same attributes and pages of 1,000, its output thrown away. Ours is the release binary as an operator calls it,
//! `offboard sweep`, from reading its configuration to the written report. Both take turns. Medians of [`ROUNDS`]; CPU and memory are of that
//! process alone, as the kernel counted them. `offboard list` of the same office shows what the roster alone takes.

#[path = "cost/mod.rs"]
mod cost;

use cost::{Error, measured, median};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROUNDS: usize = 5;
const BASE: &str = "ou=people,dc=sunrise,dc=test";

fn main() -> Result<(), Error> {
    if !std::env::var_os("LAB").is_some_and(|lab| Path::new(&lab).join("ready").exists()) {
        return Err("this needs the lab: make bench, or: lab/enter cargo bench --bench sweep".into());
    }
    let base = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    for (count, people) in [(10_000, 200), (100_000, 200), (100_000, 100_000)] {
        let folder = tempfile::Builder::new().prefix("sweep-").tempdir_in(&base)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/sweep.sh");
        let mut server = Command::new(script)
            .arg(folder.path())
            .args([count.to_string(), people.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        BufReader::new(server.stdout.take().ok_or("no pipe")?).read_line(&mut ready)?;
        if ready.trim() != "ready" {
            return Err("benches/sweep.sh did not start".into());
        }
        office(folder.path())?;
        let (mut floor, mut ours, mut roster) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            floor.push(measured(&mut ldapsearch(folder.path()), 0)?);
            ours.push(measured(&mut offboard(folder.path(), &["sweep"]), 20)?);
            roster.push(measured(&mut offboard(folder.path(), &["list"]), 0)?);
        }
        println!("{count} entries of {people} people; medians of {ROUNDS} rounds");
        for (name, costs) in [("ldapsearch", &floor), ("offboard sweep", &ours), ("offboard list", &roster)] {
            let cost = median(costs);
            println!("{name:>16}: wall {:>6.3} s, CPU {:>6.3} s, peak {:>6.1} MB", cost.wall, cost.cpu, cost.memory);
        }
        drop(server.stdin.take());
        server.wait()?;
    }
    Ok(())
}

fn office(folder: &Path) -> Result<(), Error> {
    std::fs::write(folder.join("password"), "bench")?;
    let config = format!(
        "company: Bench\nroster: {{ csv: roster.csv }}\njournal: journal\nkeys: keys\nplaybooks: playbooks\nsystems:\n  directory:\n    ldap:\n      \
         urls: [ldaps://127.0.2.1]\n      ca: ca.pem\n      bind-dn: cn=offboard,dc=sunrise,dc=test\n      \
         password: {{ file: password }}\n      people: [\"{BASE}\"]\n"
    );
    std::fs::write(folder.join("offboard.yaml"), config)?;
    let run = |command: &mut Command| -> Result<(), Error> {
        let output = command.stdin(Stdio::null()).output()?;
        output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into())
    };
    run(Command::new("chmod").args(["600", "password", "offboard.yaml", "roster.csv"]).current_dir(folder))?;
    run(&mut offboard(folder, &["init", "."]))
}

fn offboard(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offboard"));
    command.current_dir(folder).args(arguments);
    command
}

fn ldapsearch(folder: &Path) -> Command {
    let mut command = Command::new("ldapsearch");
    command.args(["-x", "-LLL", "-H", "ldaps://127.0.2.1", "-D", "cn=offboard,dc=sunrise,dc=test", "-w", "bench"]);
    command.args(["-b", BASE, "-E", "pr=1000/noprompt"]);
    command.arg("(|(objectClass=person)(objectClass=account)(objectClass=posixAccount)(objectClass=simpleSecurityObject)(userPassword=*))");
    command.args(["uid", "mail", "employeeNumber", "objectClass", "cn", "displayName", "userPassword", "sshPublicKey"]);
    command.args(["userCertificate", "shadowExpire", "nsAccountLock", "pwdAccountLockedTime", "pwdChangedTime"]);
    command.args(["pwdLastSuccess", "authTimestamp", "createTimestamp"]);
    command.env("LDAPTLS_CACERT", folder.join("ca.pem"));
    command
}

