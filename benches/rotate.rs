//! Shared secrets rotated at once, against the bare statements and file writes: `lab/enter cargo bench --bench rotate`.
//!
//! [`SECRETS`] service accounts of the directory, the password of each in a file on each of the lab's five hosts (`benches/rotate.sh`): a database would want to see each
//! program log in anew. The floor gives them new ones with one `ldapmodify`, a modification each, and one `ssh` a host that rewrites the files with `sed` and `mv`: it looks at nothing, reloads nothing and tries no
//! password. Ours is `offboard run` for somebody who knows all of them and has nothing else, from its configuration to the written report.
//! Both take turns. Medians of [`ROUNDS`]; CPU and memory are of that process alone, the floor's with the clients that it waits for.

#[path = "cost/mod.rs"]
mod cost;

use cost::{Error, measured, median};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SECRETS: usize = 100;
const HOSTS: [&str; 5] = ["web1", "web2", "db1", "bastion", "backup"];
const ROUNDS: usize = 3;

const PLAYBOOK: &str = "\
playbook: involuntary-termination
summary: What they knew, and nothing else.
deadline: 5m
limits: { people: 1, accounts: 200 }
stages: [ { stage: rotate, steps: [ { do: rotate, to: shared-secrets, where: { known-to: leaver } } ] } ]
verify: { until: 1m }
report: { formats: [html, json] }
";

fn main() -> Result<(), Error> {
    let Some(lab) = std::env::var_os("LAB").map(PathBuf::from).filter(|lab| lab.join("ready").exists()) else {
        return Err("this needs the lab: make bench, or: lab/enter cargo bench --bench rotate".into());
    };
    let script = |what: &str| {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/rotate.sh"));
        command.args([what, &SECRETS.to_string()]);
        command
    };
    measured(&mut script("setup"), 0)?;
    let base = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    println!("{SECRETS} secrets, {} consumers each; medians of {ROUNDS} rounds", HOSTS.len());
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(measured(&mut script("floor"), 0)?);
        let office = office(&lab, &base)?;
        ours.push(measured(
            &mut offboard(office.path(), &["run", "E9000", "-p", "involuntary-termination", "--yes"]),
            0,
        )?);
    }
    let (floor, offboard) = (median(&bare), median(&ours));
    for (name, cost) in [("bare", floor), ("offboard run", offboard)] {
        println!("{name:>14}: wall {:>6.2} s, CPU {:>6.2} s, peak {:>5.1} MB", cost.wall, cost.cpu, cost.memory);
    }
    println!("{:>14}: {:.2} of the bare one's wall time", "ratio", offboard.wall / floor.wall);
    Ok(())
}

fn offboard(office: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offboard"));
    command.current_dir(office).args(arguments);
    command
}

fn office(lab: &Path, base: &Path) -> Result<tempfile::TempDir, Error> {
    let office = tempfile::Builder::new().prefix("rotate-").tempdir_in(base)?;
    let path = |name: &str| office.path().join(name);
    std::fs::write(path("roster.csv"), "id,name,status\nE9000,Nobody Else,terminated\n")?;
    std::fs::create_dir(path("playbooks"))?;
    std::fs::write(path("playbooks/involuntary-termination.yaml"), PLAYBOOK)?;
    for name in ["ca.pem", "known_hosts", "secrets/ldap", "secrets/ldap-control", "secrets/fleet_ed25519"] {
        std::fs::copy(lab.join(name), path(name.rsplit('/').next().unwrap_or(name)))?;
    }
    let hosts: String = HOSTS
        .iter()
        .map(|host| match *host {
            "backup" => format!("        - {{ name: {host}.sunrise.test, user: root }}\n"),
            _ => format!("        - {host}.sunrise.test\n"),
        })
        .collect();
    let secrets: String = (1..=SECRETS)
        .map(|i| {
            let consumers: String = HOSTS
                .iter()
                .map(|host| {
                    format!(
                        "      - {{ system: fleet, place: {host}.sunrise.test, file: /etc/bench/{i}.env, key: PASSWORD, reload: [\"true\"], health: [\"true\"] }}\n"
                    )
                })
                .collect();
            format!(
                "  bench-{i}:\n    source: {{ system: directory, place: \"ldap1.sunrise.test:636\", account: \"cn=bench_{i},ou=services,dc=sunrise,dc=test\" }}\n    consumers:\n{consumers}    known-to: {{ people: [E9000] }}\n"
            )
        })
        .collect();
    std::fs::write(
        path("offboard.yaml"),
        format!(
            "company: A Hundred Secrets\nroster: {{ csv: roster.csv }}\njournal: journal\nkeys: keys\nplaybooks: playbooks\nsystems:\n  \
             directory:\n    ldap:\n      urls: [\"ldaps://ldap1.sunrise.test:636\", \"ldap://ldap2.sunrise.test:389\"]\n      ca: ca.pem\n      \
             bind-dn: cn=offboard,ou=services,dc=sunrise,dc=test\n      password: {{ file: ldap }}\n      people: [\"ou=people,dc=sunrise,dc=test\"]\n      \
             groups: [\"ou=groups,dc=sunrise,dc=test\"]\n      \
             control: {{ dn: \"uid=monitor,ou=services,dc=sunrise,dc=test\", password: {{ file: ldap-control }} }}\n  \
             fleet:\n    ssh:\n      hosts:\n{hosts}      user: offboard\n      key: fleet_ed25519\n      known-hosts: known_hosts\n      sudo: true\n\
             secrets:\n{secrets}"
        ),
    )?;
    let made = offboard(office.path(), &["init", "."]).stdin(Stdio::null()).output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    Ok(office)
}
