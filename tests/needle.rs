//! The needle test: a whole termination, with every value known that must stay secret, and then every place searched in which it could have
//! been left: what commands print, the server's log, the journal and everything else beside it, reports, mails, temporary files, the logs and
//! files of the hosts and servers of the lab; and while it goes on, the arguments and the environment of every process.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test needle`.

#![allow(clippy::disallowed_methods, reason = "hours are set from the wall clock, as operators do")]

#[path = "lab/mod.rs"]
mod lab;
#[allow(dead_code, reason = "each test binary uses another part of it")]
#[path = "story/office.rs"]
mod office;
#[allow(dead_code, reason = "each test binary uses another part of it")]
#[path = "serve/server.rs"]
mod server;

#[path = "needle/finder.rs"]
mod finder;

use base64::Engine;
use finder::Needles;
use lab::{Lab, LabPerson, LabService};
use offboard::connector::Cx;
use offboard::journal::{Journal, Keys};
use offboard::model::{PlaceId, RunId};
use office::Office;
use secrecy::{ExposeSecret, SecretSlice};
use server::{Server, has_ended, in_seconds, schedule};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Larger files are not read: the tables of the hospital are not ours.
const LARGEST: u64 = 64 * 1024 * 1024;

/// How often which value stands where.
type Found = BTreeMap<(PathBuf, String), usize>;

/// Every file below the lab's folder, in which temporary files are, too; and what anybody wrote into the common places since `since`.
fn search(needles: &Needles, lab: &Lab, since: SystemTime) -> Found {
    let mut found = Found::new();
    let mut folders: Vec<(PathBuf, bool)> = vec![(lab.root().to_path_buf(), true)];
    folders.extend(["/tmp", "/var/tmp", "/dev/shm", "/run"].map(|folder| (PathBuf::from(folder), false)));
    while let Some((folder, all)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            // What goes away meanwhile is not there.
            let Ok(meta) = path.symlink_metadata() else { continue };
            if meta.is_dir() {
                if all || path != lab.root() {
                    folders.push((path, all));
                }
            } else if meta.is_file() && meta.size() <= LARGEST && (all || meta.modified().is_ok_and(|m| m >= since)) {
                let bytes = std::fs::read(&path).unwrap_or_default();
                for (name, count) in needles.count(&bytes) {
                    found.insert((path.clone(), name.to_string()), count);
                }
            }
        }
    }
    found
}

/// Does the work, and gives the arguments and environments of all processes that were there meanwhile.
fn watched<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<Vec<u8>>) {
    let looking = AtomicBool::new(true);
    let look = || {
        let mut seen = BTreeSet::new();
        while looking.load(Ordering::SeqCst) {
            for process in std::fs::read_dir("/proc").unwrap().flatten() {
                for file in ["cmdline", "environ"] {
                    if let Ok(bytes) = std::fs::read(process.path().join(file)) {
                        seen.insert(bytes);
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        seen
    };
    std::thread::scope(|scope| {
        let looker = scope.spawn(look);
        // A failure of the work must not leave the looker waiting.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        looking.store(false, Ordering::SeqCst);
        let seen = looker.join().unwrap();
        (done.unwrap_or_else(|e| std::panic::resume_unwind(e)), seen)
    })
}

fn declare(office: &Office, leaver: &LabPerson, service: &LabService) {
    let LabService { name, host, port, role, file, .. } = service;
    office.edit("offboard.yaml", |text| {
        // Before the section that `server::office` has put at the end.
        text.replacen(
            "\nsecrets:\n",
            &format!(
                "\nsecrets:
  {name}:
    source: {{ system: billing, account: {role} }}
    consumers:
      - {{ system: fleet, place: {host}.sunrise.test, file: {file}, key: PGPASSWORD,
          reload: [/etc/sunrise/portal-reload, {name}], health: [curl, -fsS, -m, \"5\", \"http://127.0.0.1:{port}/health\"] }}
    known-to: {{ people: [{}] }}
",
                leaver.id
            ),
            1,
        )
    });
}

/// What the run has sealed: its seed, and the passwords that follow from it.
fn sealed(office: &Office, run: &str, leaver: &LabPerson, lab: &Lab, needles: &mut Needles) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seed: SecretSlice<u8> = runtime.block_on(async {
        let keys = Keys::load(&office.path("keys"), |path| Ok(std::fs::read(path).unwrap())).unwrap();
        let journal = Journal::open(&office.path("journal"), keys).await.unwrap();
        let seed = journal.continue_run(&RunId(run.into())).await.unwrap().seed().await.unwrap();
        journal.close().await;
        seed
    });
    needles.add("the run's seed", seed.expose_secret());
    let cx = Cx { now: Arc::new(jiff::Timestamp::now), timeout: Duration::from_secs(1), baseline: None, seed };
    for (place, account) in [("billing", leaver.user.clone()), ("directory", lab.dn(leaver))] {
        let password = cx.witness(&PlaceId(place.into()), &account);
        // The very one that was set, or else nothing would be looked for.
        let gets_in = match place {
            "billing" => lab
                .psql(&leaver.user, password.expose_secret(), "SELECT 1")
                .unwrap_err()
                .contains("not permitted to log in"),
            _ => true,
        };
        assert!(gets_in, "the witness password of {account} is another one");
        needles.add(&format!("the witness password at {place}"), password.expose_secret().as_bytes());
    }
}

fn keys(office: &Office, when: &str, needles: &mut Needles) {
    let read = |name: &str| std::fs::read_to_string(office.path("keys").join(name)).unwrap();
    let sealing = base64::engine::general_purpose::STANDARD.decode(read("sealing.key").trim()).unwrap();
    needles.add(&format!("the sealing key {when}"), &sealing);
    let signing = read("signing.key");
    let signing = base64::engine::general_purpose::STANDARD.decode(signing.lines().nth(1).unwrap()).unwrap();
    needles.add(&format!("the signing key {when}"), &signing[signing.len() - 32..]);
}

fn new_only(before: &Found, after: Found, allowed: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    let grown = after.into_iter().filter(|(at, count)| before.get(at).unwrap_or(&0) < count);
    grown
        .filter(|((path, name), _)| !allowed(path, name))
        .map(|((path, name), n)| format!("{}: {name} ({n})", path.display()))
        .collect()
}

#[test]
fn no_secret_is_left_anywhere() {
    let lab = Lab::alone();
    let began = SystemTime::now() - Duration::from_secs(1);
    lab.sql("ALTER SYSTEM SET log_statement = 'all'");
    lab.sql("SELECT pg_reload_conf()");
    let (leaver, service) = (lab.person(), lab.service("web1"));
    let office = server::office(&lab);
    declare(&office, &leaver, &service);

    let mut needles = Needles::default();
    for (secret, name) in
        lab.operator_secrets().iter().zip(["ldap", "ldap-control", "postgres", "postgres-control", "smtp"])
    {
        needles.add(&format!("our own password {name}"), secret.as_bytes());
    }
    for (name, file) in
        [("our own key", lab.root().join("secrets/fleet_ed25519")), ("the leaver's key", leaver.key.clone())]
    {
        let pem = std::fs::read_to_string(file).unwrap();
        needles.add(name, pem.lines().nth(3).unwrap().as_bytes());
    }
    needles.add("the leaver's password", leaver.password.as_bytes());
    needles.add("the service's old password", service.password.as_bytes());
    keys(&office, "at first", &mut needles);

    // The recovery key is shown once, and that is all that is ever seen of it.
    let shown = office.offboard(&["--json", "seal", "recovery"]).expect(0);
    let recovery = shown.json()["recovery_key"].as_str().unwrap().to_string();
    assert_eq!(shown.err, "");
    needles.add("the recovery key", &recovery.as_bytes()[20..]);
    needles.add("the recovery key without dashes", recovery[20..].replace('-', "").as_bytes());

    // What is looked for is found: in a file of a host, and in the arguments of a process.
    let bait = lab.root().join("tmp/bait");
    let before = search(&needles, &lab, began);
    std::fs::write(
        &bait,
        format!(
            "{{\"reply\":\"{}\"}}",
            base64::engine::general_purpose::STANDARD.encode(format!("x{}", leaver.password))
        ),
    )
    .unwrap();
    let found = new_only(&before, search(&needles, &lab, began), |_, _| false);
    assert!(found.len() == 1 && found[0].contains("bait"), "{found:?}");
    std::fs::remove_file(&bait).unwrap();
    let ((), seen) = watched(|| {
        Command::new("sh").args(["-c", "sleep 0.2", &leaver.password]).status().unwrap();
    });
    assert!(seen.iter().any(|process| !needles.count(process).is_empty()), "the processes are not looked at");

    // The whole of it: a scheduled run that `serve` carries out, with every command that shows something, and its errors.
    let mut said: Vec<(String, String)> = Vec::new();
    let mut tell = |args: &[&str]| {
        let done = office.offboard(args);
        said.push((format!("offboard {}", args.join(" ")), done.out + &done.err));
    };
    {
        // Not watched: the lab starts its servers again with clients that have their passwords in the environment.
        let _outages = (lab.stop("pg"), lab.stop("ldap2"));
        tell(&["check"]);
    }
    let ((run, log), seen) = watched(|| {
        for args in [
            &["check"][..],
            &["--json", "check"],
            &["accounts", &leaver.id],
            &["--json", "accounts", &leaver.id],
            &["plan", &leaver.id, "-p", "involuntary-termination"],
            &["--json", "plan", &leaver.id, "-p", "involuntary-termination"],
            &["secrets"],
            &["--json", "secrets"],
            &["seal", "status"],
        ] {
            tell(args);
        }
        let run = schedule(&office, &leaver.id, &in_seconds(4));
        let mut serve = Server::start(&office);
        serve.wait_for("it ends", |_| has_ended(&office, &run));
        for args in [
            &["status", &run][..],
            &["--json", "status", &run],
            &["list"],
            &["report", &run, "--format", "html"],
            &["report", &run, "--format", "json"],
            &["verify", &run],
        ] {
            tell(args);
        }
        let log = serve.log();
        assert!(serve.stop().success());
        tell(&["seal", "rotate"]);
        tell(&["--json", "seal", "status"]);
        tell(&["journal", "verify"]);
        (run, log)
    });
    sealed(&office, &run, &leaver, &lab, &mut needles);
    let new = lab.password_in_file(&service);
    let ((), seen_later) = watched(|| {
        tell(&["rotate", &service.name, "--yes"]);
        tell(&["restore", &run, "--yes", "--passwords-to", "one-time"]);
        tell(&["report", &run, "--format", "json"]);
    });
    said.push(("the log of offboard serve".into(), log));
    let processes = seen.union(&seen_later);
    said.extend(processes.map(|process| ("a process".into(), String::from_utf8_lossy(process).into_owned())));
    let report = office.offboard(&["--json", "status", &run]).json();
    assert!(report["steps"].as_array().unwrap().len() > 8, "{report:#}");

    // What came into being during the run.
    assert!(new != service.password, "the secret was not rotated: {report:#}");
    needles.add("the service's second password", new.as_bytes());
    let newest = lab.password_in_file(&service);
    assert!(newest != new, "the secret was not rotated again");
    needles.add("the service's new password", newest.as_bytes());
    keys(&office, "after its rotation", &mut needles);
    let one_time = std::fs::read_to_string(office.path("one-time")).unwrap();
    assert!(!one_time.is_empty(), "nothing was given back: {}", said.last().unwrap().1);
    for line in one_time.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        needles.add(&format!("the one-time password of {}", columns[1]), columns[2].as_bytes());
    }
    let inside = |path: &Path, name: &str| path.starts_with(office.path(name));
    let left = new_only(&before, search(&needles, &lab, began), |path, name| {
        // Where they belong.
        (name.starts_with("the service's new password, as it is")
            && path.ends_with(service.file.trim_start_matches('/')))
            || (inside(path, "one-time") && name.starts_with("the one-time password") && name.ends_with("as it is"))
            || (inside(path, "keys")
                && (name.starts_with("the sealing key after") || name.starts_with("the signing key")))
    });
    let leaked: Vec<String> = said
        .iter()
        .flat_map(|(place, text)| {
            needles.count(text.as_bytes()).into_keys().map(move |name| format!("{place}: {name}"))
        })
        .collect();
    lab.sql("ALTER SYSTEM RESET log_statement");
    lab.sql("SELECT pg_reload_conf()");
    assert_eq!((left, leaked), (Vec::<String>::new(), Vec::<String>::new()), "secrets were left behind");
    println!("searched {} outputs and processes", said.len());
}
