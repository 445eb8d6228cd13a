//! The sealing key kept by the transit engine of a real Vault: wrapped, used, changed, unwrapped, killed in the middle of each, and got back without it.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test sealing_key`.

#[path = "needle/finder.rs"]
mod finder;
#[path = "lab/mod.rs"]
mod lab;
#[allow(dead_code, reason = "the stories use more of it")]
#[path = "story/office.rs"]
mod office;
#[allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "the tests of the server use more of it, and set hours from the wall clock"
)]
#[path = "serve/server.rs"]
mod server;

use base64::Engine;
use finder::Needles;
use lab::Lab;
use office::{Done, Office, all_shut};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A transit key that the lab's policy lets offboard use, if its name begins so.
fn make_key(lab: &Lab, name: &str) {
    lab.bao_admin(&["write", "-f", &format!("transit/keys/{name}")]);
}

fn kept_by(office: &Office, key: &str) {
    office.edit("offboard.yaml", |text| text + &format!("\nsealing: {{ transit: {{ system: safe, key: {key} }} }}\n"));
}

/// An office whose key can be kept by a transit key of its own; nothing is wrapped yet.
fn office(lab: &Lab, key: &str) -> Office {
    make_key(lab, key);
    let office = Office::hasty(lab);
    kept_by(&office, key);
    office
}

fn file(office: &Office, name: &str) -> String {
    std::fs::read_to_string(office.path("keys").join(name)).unwrap()
}

/// Everything in the folder of keys.
fn keys(office: &Office) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
    let entries = std::fs::read_dir(office.path("keys")).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

/// The key that stands in the file, as a transit key sees it.
fn unwrapped(lab: &Lab, key: &str, text: &str) -> Vec<u8> {
    let path = format!("transit/decrypt/{key}");
    let plain = lab.bao_admin(&["write", "-field=plaintext", &path, &format!("ciphertext={}", text.trim())]);
    base64::engine::general_purpose::STANDARD.decode(plain.trim()).unwrap()
}

fn wrapped(office: &Office) -> bool {
    file(office, "sealing.key").starts_with("vault:v")
}

/// Every sealed value opens: to set a recovery key, all of them are opened.
fn everything_opens(office: &Office) {
    office.offboard(&["seal", "recovery"]).expect(0);
    office.offboard(&["journal", "verify"]).expect(0);
}

fn killed_at(office: &Office, verb: &str, point: &str) {
    let done = office.command(&["seal", verb]).env("OFFBOARD_DIE_AT", point).output().unwrap();
    assert!(done.status.code().is_none(), "{point} was not passed: {}", String::from_utf8_lossy(&done.stderr));
}

/// Where the key stands below the office's folder.
fn found(office: &Office, key: &[u8], said: &[&Done]) -> Vec<String> {
    let mut needles = Needles::default();
    needles.add("the sealing key", key);
    let mut found = Vec::new();
    let mut folders = vec![office.path("")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if !needles.count(&std::fs::read(&path).unwrap()).is_empty() {
                found.push(path.display().to_string());
            }
        }
    }
    for done in said.iter().filter(|done| !needles.count(format!("{}{}", done.out, done.err).as_bytes()).is_empty()) {
        found.push(format!("what was said: {}", done.out.len()));
    }
    found
}

/// Does the work, and gives the arguments and environments of all processes meanwhile.
fn watched<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<Vec<u8>>) {
    let looking = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while looking.load(Ordering::SeqCst) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    seen.extend(
                        ["cmdline", "environ"].iter().filter_map(|f| std::fs::read(process.path().join(f)).ok()),
                    );
                }
            }
            seen
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        looking.store(false, Ordering::SeqCst);
        let seen = looker.join().unwrap();
        (done.unwrap_or_else(|e| std::panic::resume_unwind(e)), seen)
    })
}

#[test]
fn a_key_is_wrapped_used_changed_and_unwrapped() {
    let lab = Lab::shared();
    let (before, during) = (lab.person(), lab.person());
    let office = office(&lab, "offboard-round");
    all_shut(&office.run(&before).expect(0).json());
    let status = office.offboard(&["seal", "status"]).expect(20).out;
    assert!(status.contains("sealing.key: file, a plain key"), "{status}");
    let checked = office.offboard(&["--json", "check"]).expect(20).json();
    assert_eq!(checked["sealing"]["files"][0]["wrapped"], serde_json::Value::Null, "{}", checked["sealing"]);

    let plain = base64::engine::general_purpose::STANDARD.decode(file(&office, "sealing.key").trim()).unwrap();
    assert_eq!(found(&office, &plain, &[]).len(), 1, "the needle finds the plain file, or it finds nothing at all");
    let (wrap, seen) = watched(|| office.offboard(&["seal", "wrap"]).expect(0));
    assert!(wrap.out.contains("transit/offboard-round of safe"), "{}", wrap.out);
    assert_eq!(unwrapped(&lab, "offboard-round", &file(&office, "sealing.key")), plain);
    let mode = office.path("keys/sealing.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(keys(&office).len(), 3, "{:?}", keys(&office).keys());
    let again = office.offboard(&["seal", "wrap"]).expect(0);
    assert!(again.out.contains("already"), "{}", again.out);
    let status = office.offboard(&["seal", "status"]).expect(0);
    assert!(status.out.contains("transit, wrapped by transit/offboard-round of safe (version 1)"), "{}", status.out);

    // Runs seal and unseal as before; what was sealed before opens.
    all_shut(&office.run(&during).expect(0).json());
    everything_opens(&office);
    assert_eq!(found(&office, &plain, &[&wrap, &again, &status]), [""; 0]);
    let mut needle = Needles::default();
    needle.add("the sealing key", &plain);
    assert!(seen.iter().all(|bytes| needle.count(bytes).is_empty()), "it stood among the arguments of a process");

    // The next one is wrapped, too, by the newest version of the transit key.
    lab.bao_admin(&["write", "-f", "transit/keys/offboard-round/rotate"]);
    let rotate = office.offboard(&["seal", "rotate"]).expect(0);
    let text = file(&office, "sealing.key");
    assert!(text.starts_with("vault:v2:"), "{text}");
    let next = unwrapped(&lab, "offboard-round", &text);
    assert_ne!(next, plain);
    assert_eq!(found(&office, &next, &[&rotate]), [""; 0]);
    everything_opens(&office);

    office.offboard(&["seal", "unwrap"]).expect(0);
    assert!(!wrapped(&office));
    office.edit("offboard.yaml", |text| text.replace("sealing: {", "#"));
    assert!(office.offboard(&["seal", "status"]).expect(0).out.contains("sealing.key: file\n"));
    everything_opens(&office);
}

#[test]
fn killed_at_any_moment_every_value_opens_and_the_next_call_ends_it() {
    let lab = Lab::shared();
    let person = lab.person();
    let office = office(&lab, "offboard-killed");
    all_shut(&office.run(&person).expect(0).json());
    for point in ["keep::wrapped:1", "keep::linked:1", "keep::replaced:1", "keep::blanked:1"] {
        let plain = base64::engine::general_purpose::STANDARD.decode(file(&office, "sealing.key").trim()).unwrap();
        killed_at(&office, "wrap", point);
        everything_opens(&office);
        // What is left of the plain key is told, and neither a rotation nor the way back goes on over it.
        office.offboard(&["seal", "status"]).expect(20);
        if office.path("keys/sealing.plain.key").exists() {
            office.offboard(&["seal", "rotate"]).expect(13);
        }
        office.offboard(&["seal", "wrap"]).expect(0);
        assert!(wrapped(&office), "after {point}");
        assert_eq!(keys(&office).len(), 3, "after {point}: {:?}", keys(&office).keys());
        assert_eq!(found(&office, &plain, &[]), [""; 0], "after {point}");
        everything_opens(&office);
        office.offboard(&["seal", "status"]).expect(0);
        office.offboard(&["seal", "unwrap"]).expect(0);
    }
    office.offboard(&["seal", "wrap"]).expect(0);
    for point in ["wrapped", "made", "noted", "resealed", "retired", "replaced"] {
        killed_at(&office, "rotate", &format!("seal::{point}:1"));
        assert!(
            wrapped(&office)
                && keys(&office)
                    .iter()
                    .all(|(name, text)| !name.starts_with("sealing") || text.starts_with(b"vault:v"))
        );
        everything_opens(&office);
        office.offboard(&["seal", "rotate"]).expect(0);
        assert!(wrapped(&office) && keys(&office).len() == 3, "after {point}: {:?}", keys(&office).keys());
        everything_opens(&office);
    }
    killed_at(&office, "unwrap", "keep::unwrapped:1");
    assert!(wrapped(&office));
    // A plain key that never got its place is told, and wiped.
    office.offboard(&["seal", "status"]).expect(20);
    office.offboard(&["seal", "wrap"]).expect(0);
    assert_eq!(keys(&office).len(), 3);
    office.offboard(&["seal", "status"]).expect(0);
    killed_at(&office, "unwrap", "keep::plain:1");
    assert!(!wrapped(&office));
    everything_opens(&office);
}

/// The command fails for that reason, and has changed neither keys nor journal nor anybody's access.
fn fails(lab: &Lab, office: &Office, person: &lab::LabPerson, arguments: &[&str], why: &str) {
    let state = || (keys(office), office.offboard(&["--json", "list"]).expect(0).out);
    let before = state();
    let done = office.offboard(arguments);
    assert!(!matches!(done.code, Some(0) | None), "{arguments:?}: {}", done.out);
    assert!(done.err.contains(why) && done.err.contains("hint:"), "{arguments:?}: wanted {why:?}: {}", done.err);
    assert_eq!(state(), before, "{arguments:?} has changed something");
    assert!(lab.psql(&person.user, &person.password, "SELECT 1").is_ok(), "{arguments:?} took access away");
}

#[test]
fn what_cannot_be_unwrapped_stops_everything_before_anything_is_touched() {
    let lab = Lab::shared();
    let (gone, person) = (lab.person(), lab.person());
    let office = office(&lab, "offboard-refused");
    office.offboard(&["seal", "wrap"]).expect(0);
    let run = office.run(&gone).expect(0).json()["run"].as_str().unwrap().to_string();
    let leave = ["run", &person.id, "-p", "involuntary-termination", "--yes"];
    let key = |name: &str| {
        office.edit("offboard.yaml", |text| {
            let (head, _) = text.split_once("\nsealing:").unwrap();
            format!("{head}\nsealing: {{ transit: {{ system: safe, key: {name} }} }}\n")
        })
    };
    let all = |why: &str| {
        for arguments in
            [&leave[..], &["seal", "rotate"], &["seal", "unwrap"], &["seal", "recovery"], &["seal", "wrap"]]
        {
            fails(&lab, &office, &person, arguments, why);
        }
        office.offboard(&["check"]).expect(20);
        // What needs no secret goes on.
        office.offboard(&["list"]).expect(0);
        office.offboard(&["status", &run]).expect(0);
        office.offboard(&["report", &run, "--format", "json"]).expect(0);
        office.offboard(&["journal", "verify"]).expect(0);
        let status = office.offboard(&["seal", "status"]).expect(20).out;
        assert!(status.contains("sealing.key: transit"), "{status}");
    };

    // Another key of the same engine, one that there is not, and one that offboard may not use.
    make_key(&lab, "offboard-another");
    key("offboard-another");
    all("(400)");
    key("offboard-none");
    all("(40");
    assert!(!lab.bao_admin(&["list", "transit/keys"]).contains("offboard-none"), "a key was made");
    make_key(&lab, "not-for-us");
    key("not-for-us");
    all("path \"transit/decrypt/not-for-us\"");
    key("offboard-refused");

    // A ciphertext that somebody has changed, cut, or put something else into.
    let text = file(&office, "sealing.key");
    let middle = text.len() / 2;
    let other = if text.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let changed = format!("{}{other}{}", &text[..middle], &text[middle + 1..]);
    let put = |text: &str| std::fs::write(office.path("keys/sealing.key"), text).unwrap();
    for bad in [
        &changed,
        &text[..middle],
        "vault:v1:",
        "vault:v1:$(id)'\"\n`id`\n",
        &format!("vault:v1:{}", "A".repeat(1 << 20)),
    ] {
        put(bad);
        for arguments in [&leave[..], &["seal", "rotate"], &["seal", "unwrap"]] {
            fails(&lab, &office, &person, arguments, "sealing");
        }
    }
    // Another journal's key opens, and is not this one's.
    let foreign = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let made = lab.bao_admin(&[
        "write",
        "-field=ciphertext",
        "transit/encrypt/offboard-refused",
        &format!("plaintext={foreign}"),
    ]);
    put(&made);
    for arguments in [["seal", "rotate"], ["seal", "recovery"]] {
        fails(&lab, &office, &person, &arguments, "is sealed with the key");
    }
    // And what is no key at all.
    let made = lab.bao_admin(&["write", "-field=ciphertext", "transit/encrypt/offboard-refused", "plaintext=aGVsbG8="]);
    put(&made);
    fails(&lab, &office, &person, &leave, "does not hold 32 bytes");
    put(&text);

    // Nobody says who keeps it; or somebody who keeps no keys.
    office.edit("offboard.yaml", |text| text.replace("\nsealing:", "\n# sealing:"));
    fails(&lab, &office, &person, &leave, "is wrapped by a Vault's transit key");
    office.edit("offboard.yaml", |text| text.replace("\n# sealing:", "\nsealing:"));
    office.edit("offboard.yaml", |text| text.replace("system: safe, key", "system: billing, key"));
    let refused = office.offboard(&["list"]).expect(2).err;
    assert!(refused.contains("keeps no keys"), "{refused}");
    office.edit("offboard.yaml", |text| text.replace("system: billing, key", "system: safe, key"));
    all_shut(&office.run(&person).expect(0).json());

    // A file that has another name, or is a link, is not wrapped.
    office.offboard(&["seal", "unwrap"]).expect(0);
    std::fs::hard_link(office.path("keys/sealing.key"), office.path("copy.key")).unwrap();
    let refused = office.offboard(&["seal", "wrap"]);
    assert!(refused.err.contains("has another name") && !wrapped(&office), "{}", refused.err);
    std::fs::remove_file(office.path("copy.key")).unwrap();
    std::fs::rename(office.path("keys/sealing.key"), office.path("elsewhere.key")).unwrap();
    std::os::unix::fs::symlink("../elsewhere.key", office.path("keys/sealing.key")).unwrap();
    let refused = office.offboard(&["seal", "wrap"]);
    assert!(refused.err.contains("is a symbolic link"), "{}", refused.err);
    assert_eq!(std::fs::read_to_string(office.path("elsewhere.key")).unwrap().trim().len(), 44);
}

#[test]
fn made_wrapped_from_the_start_and_got_back_when_the_vault_is_gone() {
    let lab = Lab::alone();
    let (gone, person) = (lab.person(), lab.person());
    make_key(&lab, "offboard-start");
    let office = Office::hasty(&lab);
    std::fs::remove_dir_all(office.path("keys")).unwrap();
    std::fs::remove_dir_all(office.path("journal")).unwrap();
    kept_by(&office, "offboard-start");
    {
        // Without the Vault no key is made, above all no plain one.
        let _outage = lab.stop("vault");
        let failed = office.offboard(&["init", "."]);
        assert!(failed.code != Some(0) && keys(&office).is_empty(), "{}", failed.out);
    }
    let init = office.offboard(&["init", ".", "--recovery"]).expect(0).out;
    assert!(wrapped(&office) && init.contains("transit/offboard-start of safe keeps the sealing key"), "{init}");
    let recovery = init.lines().find(|line| line.trim().starts_with("OFFBOARD-RECOVERY")).unwrap().trim().to_string();
    let run = office.run(&gone).expect(0).json()["run"].as_str().unwrap().to_string();
    let key = unwrapped(&lab, "offboard-start", &file(&office, "sealing.key"));
    assert_eq!(found(&office, &key, &[]), [""; 0]);

    let _outage = lab.stop("vault");
    for arguments in
        [&["run", &person.id, "-p", "involuntary-termination", "--yes"][..], &["seal", "rotate"], &["seal", "unwrap"]]
    {
        fails(&lab, &office, &person, arguments, "no answer");
    }
    office.offboard(&["status", &run]).expect(0);
    office.offboard(&["report", &run, "--format", "json"]).expect(0);
    office.offboard(&["journal", "verify"]).expect(0);
    let status = office.offboard(&["seal", "status"]).expect(20).out;
    assert!(status.contains("sealing.key: transit") && status.contains("no answer"), "{status}");

    // Gone for good: the recovery key overwrites nothing, and says what to do.
    std::fs::write(office.path("recovery"), &recovery).unwrap();
    std::fs::set_permissions(office.path("recovery"), std::fs::Permissions::from_mode(0o600)).unwrap();
    office.offboard(&["seal", "recover", "--check", "--key", "recovery"]).expect(0);
    let refused = office.offboard(&["seal", "recover", "--key", "recovery"]);
    assert!(refused.code != Some(0) && refused.err.contains("gone for good: mv "), "{}", refused.err);
    std::fs::rename(office.path("keys/sealing.key"), office.path("keys/sealing.key.wrapped")).unwrap();
    office.offboard(&["seal", "recover", "--key", "recovery"]).expect(0);
    assert!(!wrapped(&office));
    office.edit("offboard.yaml", |text| text.replace("\nsealing:", "\n# sealing:"));
    everything_opens(&office);
}

#[test]
fn a_vault_that_goes_away_while_offboard_serves_keeps_nothing_else_open() {
    let lab = Lab::alone();
    let person = lab.person();
    let office = office(&lab, "offboard-serve");
    server::serve_with(&office, "leavers: false");
    office.offboard(&["seal", "wrap"]).expect(0);
    let server = server::Server::start(&office);
    let outage = lab.stop("vault");
    // The order goes to the server, which has the key in memory. Only the Vault's own doors are left.
    let report = office.run(&person).json();
    let unreached = report["unreached"].as_array().unwrap();
    assert!(!unreached.is_empty() && unreached.iter().all(|place| place["system"] == "safe"), "{report:#}");
    for door in report["doors"].as_array().unwrap() {
        assert_eq!(door["after"], "shut", "{door:#}");
    }
    assert!(lab.psql(&person.user, &person.password, "SELECT 1").is_err());
    // Without the server nobody has the key: nothing goes on until the Vault is back.
    server.kill();
    let run = report["run"].as_str().unwrap();
    let failed = office.offboard(&["resume", run]);
    assert!(failed.code != Some(0) && failed.err.contains("no answer"), "{}", failed.err);
    drop(outage);
    all_shut(&office.offboard(&["--json", "resume", run]).expect(0).json());
    everything_opens(&office);
}
