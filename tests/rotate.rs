//! Shared secrets, rotated against the real servers of the lab: a service on a host goes on answering, the password that the leaver knew is
//! refused, and wherever the run is killed, `resume` ends it with one password that works.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test rotate`.

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

#[path = "rotate/alone.rs"]
mod alone;
#[path = "rotate/alternate.rs"]
mod alternate;
#[path = "rotate/anywhere.rs"]
mod anywhere;
#[path = "rotate/kept.rs"]
mod kept;
#[path = "rotate/overlap.rs"]
mod overlap;
#[path = "rotate/parts.rs"]
mod parts;
#[path = "rotate/preshared.rs"]
mod preshared;
#[path = "rotate/service_key.rs"]
mod service_key;
#[path = "rotate/static_role.rs"]
mod static_role;

use lab::{Lab, LabPerson, LabService};
use office::{Done, Office, all_shut, doors};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// The entry of `secrets` in offboard.yaml.
fn entry(service: &LabService, leaver: &LabPerson) -> String {
    let LabService { name, host, port, role, file, format, .. } = service;
    let key = match *format {
        "env" => "PGPASSWORD",
        "yaml" => "database.password",
        _ => "[database, password]",
    };
    format!(
        "  {name}:
    source: {{ system: billing, account: {role} }}
    consumers:
      - system: fleet
        place: {host}.sunrise.test
        file: {file}
        format: {format}
        key: {key}
        reload: [/etc/sunrise/portal-reload, {name}]
        health: [curl, -fsS, -m, \"5\", \"http://127.0.0.1:{port}/health\"]
    known-to: {{ people: [{}] }}
",
        leaver.id
    )
}

/// An office in which the leaver may know the services' passwords.
fn office(lab: &Lab, leaver: &LabPerson, services: &[&LabService]) -> Office {
    let office = Office::new(lab);
    declare(&office, leaver, services);
    office
}

fn declare(office: &Office, leaver: &LabPerson, services: &[&LabService]) {
    office.edit("offboard.yaml", |text| services.iter().fold(text, |text, service| text + &entry(service, leaver)));
}

fn verifier(lab: &Lab, service: &LabService) -> String {
    lab.sql(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{}'", service.role))
}

fn gets_in(lab: &Lab, service: &LabService, password: &str) -> bool {
    match lab.psql(&service.role, password, "SELECT 1") {
        Ok(_) => true,
        Err(said) => {
            assert!(said.contains("password authentication failed"), "{said}");
            false
        }
    }
}

/// The service works with the one password that works; the first one does not.
fn is_rotated(lab: &Lab, service: &LabService, what: &str) {
    assert!(lab.answers(service), "{what}: the service does not answer");
    assert!(!gets_in(lab, service, &service.password), "{what}: the old password still opens");
    assert!(gets_in(lab, service, &lab.password_in_file(service)), "{what}: the value in the file does not open");
}

fn door<'a>(report: &'a Value, service: &LabService) -> &'a Value {
    let doors = report["doors"].as_array().unwrap();
    let found = doors.iter().find(|d| d["kind"] == "shared-secret" && d["object"] == service.name.as_str());
    found.unwrap_or_else(|| panic!("no door of {}: {report:#}", service.name))
}

/// The steps of a service's rotation, as `(account, object, outcome)`.
fn steps(report: &Value, service: &LabService) -> Vec<(String, String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let all = report["steps"].as_array().unwrap().iter();
    all.filter(|s| s["action"] == "rotate" && text(&s["object"]).starts_with(&format!("{}:", service.name)))
        .map(|s| (text(&s["account"]), text(&s["object"]), text(&s["outcome"])))
        .collect()
}

fn sealed(office: &Office) -> String {
    let output = std::process::Command::new("sqlite3")
        .arg(office.path("journal/journal.sqlite"))
        .arg("SELECT count(*) FROM sealed WHERE id LIKE 'secret-%'")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

fn only_run(office: &Office) -> String {
    office.offboard(&["--json", "list"]).expect(0).json()["runs"][0]["run"].as_str().unwrap().to_string()
}

fn resume(office: &Office) -> Done {
    office.offboard(&["--json", "resume", &only_run(office)])
}

fn killed_at(office: &Office, leaver: &LabPerson, failpoint: &str) -> bool {
    let mut command =
        office.command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes", "--anew"]);
    command.env("OFFBOARD_DIE_AT", failpoint).output().unwrap().status.code().is_none()
}

#[test]
fn the_old_password_dies_and_no_request_fails() {
    let lab = Lab::alone();
    lab.sql("ALTER SYSTEM SET log_statement = 'all'");
    lab.sql("SELECT pg_reload_conf()");
    let leaver = lab.person();
    let (service, bystander) = (lab.service("web1"), lab.service("web1"));
    let office = office(&lab, &leaver, &[&service]);
    let before = String::from_utf8(lab.on("web1", &["cat", &service.file]).stdout).unwrap();
    let mode = || lab.on("web1", &["stat", "-c", "%a %u %g", &service.file]).stdout;
    let mode_before = mode();
    assert!(gets_in(&lab, &service, &service.password), "the leaver knows it before");
    let mut held = lab.psql_session_with(&service.role, &service.password);
    let mut other = lab.psql_session_with(&bystander.role, &bystander.password);
    assert!(held.is_alive() && other.is_alive());

    let plan = office.offboard(&["plan", &leaver.id, "-p", "involuntary-termination"]).expect(0).out;
    assert!(plan.contains(&format!("{}: set PGPASSWORD", service.name)), "{plan}");
    let listed = office.offboard(&["accounts", &leaver.id]).expect(0).out;
    assert!(listed.contains("shared-secret") && listed.contains("may know the secret"), "{listed}");

    let (hammer, hammer_of_other) = (lab.hammer(&service), lab.hammer(&bystander));
    let (running, seen) = (AtomicBool::new(true), std::sync::Mutex::new(BTreeSet::new()));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while running.load(Ordering::SeqCst) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    for what in ["cmdline", "environ"] {
                        // Our own children have the password in their environment: psql takes it from there.
                        let Ok(bytes) = std::fs::read(process.path().join(what)) else { continue };
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        if !text.contains("PGSSLMODE=") && !text.contains("psql") {
                            seen.lock().unwrap().insert(text);
                        }
                    }
                }
            }
        });
        let done = office.run(&leaver);
        running.store(false, Ordering::SeqCst);
        done
    });
    let (answers, wrong) = hammer.stop();
    let (answers_of_other, wrong_of_other) = hammer_of_other.stop();
    let done = done.expect(0);
    let report = done.json();
    all_shut(&report);
    assert!(answers > 100 && answers_of_other > 100, "{answers}, {answers_of_other}");
    assert_eq!((wrong, wrong_of_other), (0, 0), "requests failed of {answers} and {answers_of_other}");
    println!("requests: {answers}, {answers_of_other}; none failed");

    is_rotated(&lab, &service, "after the run");
    let new = lab.password_in_file(&service);
    assert!(
        new.len() == 43 && new.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
        "43 url-safe characters"
    );
    let after = String::from_utf8(lab.on("web1", &["cat", &service.file]).stdout).unwrap();
    assert_eq!(after, before.replace(&service.password, &new), "the rest of the file is byte for byte as it was");
    assert_eq!(mode(), mode_before);
    assert!(!held.is_alive(), "the leaver's session as the service's role goes on");
    assert!(other.is_alive() && gets_in(&lab, &bystander, &bystander.password), "the bystander is as it was");
    let leftovers = lab.on("web1", &["sh", "-c", "ls -A /etc/sunrise | grep '^\\.'; ls /tmp"]).stdout;
    assert_eq!(String::from_utf8_lossy(&leftovers), "");

    assert_eq!(doors(&report).iter().filter(|(kind, _)| kind == "shared-secret").count(), 1);
    let door = door(&report, &service);
    assert_eq!(
        (&door["before"], &door["after"], &door["proof"]),
        (&"open".into(), &"shut".into(), &"refused".into()),
        "{door:#}"
    );
    assert!(door["reply"].as_str().unwrap().contains("28P01"), "{door:#}");
    let phases: Vec<String> = steps(&report, &service).into_iter().map(|(_, object, _)| object).collect();
    assert_eq!(phases.len(), 8, "{phases:?}");
    assert!(steps(&report, &service).iter().all(|(.., outcome)| outcome.ends_with("done")), "{report:#}");

    // Looked at again, then the values are gone with the last look.
    let run = report["run"].as_str().unwrap();
    all_shut(&office.offboard(&["--json", "verify", run]).expect(0).json());
    assert_eq!(sealed(&office), "2");
    office.offboard(&["verify", run, "--last"]).expect(0);
    assert_eq!(sealed(&office), "0", "both values are destroyed after the last look");
    office.offboard(&["journal", "verify"]).expect(0);

    // Neither value is anywhere but in the file, the seal, and the program's memory.
    let log = std::fs::read_to_string(lab.root().join("log/pg")).unwrap();
    assert!(log.contains("ALTER ROLE"), "the server logs statements");
    let mut everything = vec![("output", done.out + &done.err), ("the server's log", log)];
    for process in seen.into_inner().unwrap() {
        everything.push(("a process", process));
    }
    for file in ["journal/journal.sqlite", "journal/journal.sqlite-wal"] {
        let bytes = std::fs::read(office.path(file)).unwrap_or_default();
        everything.push((file, String::from_utf8_lossy(&bytes).into_owned()));
    }
    for format in ["html", "json"] {
        everything.push((format, office.offboard(&["report", run, "--format", format]).expect(0).out));
    }
    for (place, text) in everything {
        assert!(!text.contains(&new), "the new value is in {place}");
        // The lab's own set-up makes roles by statements with a clear password.
        assert!(
            place == "the server's log" || !text.contains(&service.password),
            "the old value is in {place}: {text}"
        );
    }
    lab.sql("ALTER SYSTEM RESET log_statement");
    lab.sql("SELECT pg_reload_conf()");
}

#[test]
fn services_that_read_yaml_and_json_go_on() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let services = ["yaml", "json"].map(|format| lab.service_with("web2", format));
    let office = office(&lab, &leaver, &services.each_ref());
    // One of them is nearly as large as it may be.
    let grow = format!("head -c 900000 /dev/zero | tr '\\0' '\\n' >>{}", services[1].file);
    assert!(lab.on("web2", &["sh", "-ec", &grow]).status.success());
    let read = |service: &LabService| String::from_utf8(lab.on("web2", &["cat", &service.file]).stdout).unwrap();
    let before = services.each_ref().map(read);
    let hammers = services.each_ref().map(|service| lab.hammer(service));
    let report = office.run(&leaver).expect(0).json();
    all_shut(&report);
    for ((service, before), hammer) in services.iter().zip(&before).zip(hammers) {
        let (answers, wrong) = hammer.stop();
        assert!(wrong == 0 && answers > 0, "{}: {wrong} of {answers} requests failed", service.format);
        is_rotated(&lab, service, service.format);
        let new = lab.password_in_file(service);
        assert_eq!(read(service), before.replace(&service.password, &new), "every other byte is as it was");
        assert_eq!(door(&report, service)["proof"], "refused");
    }
}

#[test]
fn files_of_another_format_that_are_not_clear_change_nothing() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let cases = [
        (
            "yaml",
            "printf 'more: &more\\n  password: x\\nsame: *more\\n---\\nx: y\\n' >>FILE",
            "more than one YAML document",
        ),
        ("yaml", "sed -i 's/password: \"/password: \\&p \"/' FILE", "an anchor"),
        ("yaml", "printf 'database: {}\\n' >>FILE", "more than once"),
        ("json", "sed -i 's/\"name\": \"hospital\"/\"password\": \"x\"/' FILE", "more than once"),
        ("json", "printf '}' >>FILE", "line 10"),
        ("json", "head -c 1100000 /dev/zero | tr '\\0' ' ' >>FILE", "larger than 1 MiB"),
    ];
    let services = cases.map(|(format, ..)| lab.service_with("web1", format));
    for (service, (_, damage, _)) in services.iter().zip(cases) {
        let damage = damage.replace("FILE", &service.file);
        assert!(lab.on("web1", &["sh", "-ec", &damage]).status.success(), "{damage}");
    }
    let office = office(&lab, &leaver, &services.each_ref());
    office.hurry();
    let report = office.run(&leaver).expect(12).json();
    for (service, (_, damage, why)) in services.iter().zip(cases) {
        let steps = report["steps"].as_array().unwrap().iter();
        let mut stuck = steps.filter(|s| s["outcome"] == "stuck" && s["object"].to_string().contains(&service.name));
        let stuck = stuck.next().unwrap_or_else(|| panic!("{damage}: {:#}", report["steps"]));
        assert!(stuck["note"].as_str().unwrap().contains(why), "{damage}: {stuck:#}");
        assert!(!stuck.to_string().contains(&service.password), "{damage}: the value is told");
        assert!(gets_in(&lab, service, &service.password), "{damage}");
    }
}

#[test]
fn wherever_it_is_killed_resume_ends_with_one_password_that_works() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let mut points: Vec<String> = vec!["rotate::sealed:1".into(), "rotate::file:1".into()];
    for nth in 1..=8 {
        points.push(format!("rotate::begun:{nth}"));
        points.push(format!("rotate::taken:{nth}"));
    }
    for point in points {
        let service = lab.service("db1");
        let office = office(&lab, &leaver, &[&service]);
        let first = verifier(&lab, &service);
        let hammer = lab.ask_steadily(&service);
        assert!(killed_at(&office, &leaver, &point), "{point} was not passed");
        let crashed = verifier(&lab, &service);
        let report = resume(&office).expect(0).json();
        all_shut(&report);
        let (answers, wrong) = hammer.stop();
        assert!(wrong == 0 && answers > 0, "{point}: {wrong} of {answers} requests failed");
        is_rotated(&lab, &service, &point);
        assert!(crashed == first || verifier(&lab, &service) == crashed, "{point}: resume set another value");
        let leftovers = lab.on("db1", &["sh", "-c", "ls -A /etc/sunrise | grep '^\\.'"]).stdout;
        assert_eq!(String::from_utf8_lossy(&leftovers), "", "{point}");
        office.offboard(&["journal", "verify"]).expect(0);
        lab.close(&service);
    }
}

#[test]
fn random_kills_leave_nobody_locked_out() {
    let lab = Lab::shared();
    let leaver = lab.person();
    for _ in 0..6 {
        let service = lab.service("web2");
        let office = office(&lab, &leaver, &[&service]);
        let mut child = office.command(&["run", &leaver.id, "-p", "involuntary-termination", "--yes"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(rand::random_range(800..3000)));
        let _ = child.kill();
        child.wait().unwrap();
        assert!(lab.answers(&service), "the service answers after the crash");
        all_shut(&resume(&office).expect(0).json());
        is_rotated(&lab, &service, "random kill");
    }
}

#[test]
fn a_consumer_that_fails_its_check_stops_the_finish_loudly() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let service = lab.service("bastion");
    let office = office(&lab, &leaver, &[&service]);
    office.hurry();
    let sick = format!("/run/{}.sick", service.name);
    let healthy_reload = format!("reload: [/etc/sunrise/portal-reload, {}]", service.name);
    office.edit("offboard.yaml", |text| {
        let reload = format!("reload: [sh, -c, \"touch {sick}; /etc/sunrise/portal-reload {}\"]", service.name);
        let health = format!("health: [sh, -c, \"if test -e {sick}; then echo I feel sick; exit 3; fi\"]");
        let text = text.replace(&healthy_reload, &reload);
        let at = text.find(&format!("{}:\n", service.name)).unwrap();
        let (head, tail) = text.split_at(at);
        let line = tail.lines().find(|l| l.contains("health:")).unwrap().trim().to_string();
        format!("{head}{}", tail.replace(&line, &health))
    });
    let mut own = lab.sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", service.role));
    assert_ne!(own, "0");
    let report = office.run(&leaver).expect(12).json();
    let steps = steps(&report, &service);
    let outcome = |phase: &str| -> Vec<&str> {
        steps.iter().filter(|(_, object, _)| object.contains(phase)).map(|(.., o)| o.as_str()).collect()
    };
    assert_eq!(outcome(": set"), ["done", "done"], "{steps:?}");
    assert!(outcome(": test").contains(&"stuck") && outcome(": finish").is_empty(), "{steps:?}");
    let stuck = report["steps"].as_array().unwrap().iter().find(|s| s["outcome"] == "stuck").unwrap();
    assert!(stuck["note"].as_str().unwrap().contains("I feel sick"), "{stuck:#}");
    assert!(stuck["hint"].as_str().unwrap().contains("offboard resume"), "{stuck:#}");
    assert!(report["findings"].to_string().contains("half rotated"), "{:#}", report["findings"]);
    assert_eq!(sealed(&office), "2", "both values stay sealed");
    let refused = office.offboard(&["verify", report["run"].as_str().unwrap(), "--last"]).expect(13);
    assert!(refused.err.contains("a rotation is half done"), "{}", refused.err);
    assert_eq!(sealed(&office), "2", "and are not destroyed by a last look");
    own = lab.sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", service.role));
    assert_ne!(own, "0");
    // Once it is well, resume goes on.
    lab.on(service.host, &["rm", &sick]);
    office.edit("offboard.yaml", |text| text.replace(&format!("touch {sick}; "), ""));
    all_shut(&resume(&office).expect(0).json());
    is_rotated(&lab, &service, "after resume");
}

/// A health check that complains with the value in its mouth, in every spelling that programs have for one.
#[test]
fn neither_value_is_in_what_a_health_check_says() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let service = lab.service("bastion");
    let office = office(&lab, &leaver, &[&service]);
    office.hurry();
    // An old value that is spelled otherwise everywhere.
    let old = "o\u{eb}ld/p+w?\u{e9}>~ %41";
    change_by_hand_with(&lab, &service, old, "|");
    let script = format!("/etc/sunrise/{}.tell", service.name);
    let tell = r#"#!/usr/bin/python3
import base64, json, re, sys, urllib.parse
values = [open(sys.argv[1]).read()] if len(sys.argv) > 2 else []
values.append(re.search('PGPASSWORD="(.*)"', open(sys.argv[1] if len(sys.argv) < 3 else sys.argv[2]).read()).group(1))
for value in values:
    value = value.rstrip("\n")
    spelled = [value, urllib.parse.quote(value, safe=""), re.sub("%..", lambda m: m.group().lower(), urllib.parse.quote(value, safe="")), urllib.parse.quote_plus(value),
               base64.b64encode(value.encode()).decode(), base64.urlsafe_b64encode(value.encode()).decode(), json.dumps(value),
               base64.b64encode(("portal:" + value).encode()).decode()]
    print("I say", *spelled)
sys.exit(0 if len(values) == 1 else 3)
"#;
    let put = format!("cat >{script} && chmod 755 {script}");
    lab.feed(service.host, &["sh", "-ec", &put], tell.as_bytes());
    let kept = format!("{script}.old");
    lab.feed(service.host, &["sh", "-ec", &format!("cat >{kept}")], old.as_bytes());
    office.edit("offboard.yaml", |text| {
        let at = text.find(&format!("{}:\n", service.name)).unwrap();
        let (head, tail) = text.split_at(at);
        let line = tail.lines().find(|l| l.contains("health:")).unwrap().trim().to_string();
        // Sick as soon as the new value stands there.
        let file = &service.file;
        let health = format!("health: [sh, -c, 'if grep -qF -e \"$(cat {kept})\" {file}; then {script} {file}; else {script} {kept} {file}; fi']");
        format!("{head}{}", tail.replace(&line, &health))
    });
    let done = office.run(&leaver).expect(12);
    let report = done.json();
    let stuck = report["steps"].as_array().unwrap().iter().find(|s| s["outcome"] == "stuck").unwrap();
    let note = stuck["note"].as_str().unwrap();
    assert_eq!(note.matches(r#"I say … … … … … … "…" …"#).count(), 2, "{note}");
    let new = lab.password_in_file(&service);
    let journal = std::fs::read(office.path("journal/journal.sqlite")).unwrap();
    let everything = format!("{}{}{}", done.out, done.err, String::from_utf8_lossy(&journal));
    for value in [old, &new] {
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, value);
        for spelled in [value, &base64[..base64.len() - 4]] {
            assert!(!everything.contains(spelled), "{spelled}");
        }
    }
    assert!(
        !everything.contains("o%C3%ABld") && !everything.contains("o%c3%abld") && !everything.contains("o\\\\u00ebld")
    );
}

#[test]
fn what_is_known_to_fail_changes_nothing_and_stops_no_other() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let sound = lab.service("web2");
    // What is done to each file, and what is said of it.
    let cases = [
        ("sed -i s/PGPASSWORD/PGPASS/ FILE", "does not stand there"),
        ("printf 'PGPASSWORD=again\\n' >>FILE", "more than once"),
        ("mv FILE FILE.away", "does not exist"),
        ("mv FILE FILE.away && ln -s FILE.away FILE && chown -h 1600 FILE", "symbolic link"),
        ("ln FILE FILE.twin", "hard links"),
        (
            "mkdir FILE.d && mv FILE FILE.d/env && chmod 777 FILE.d && ln -s FILE.d/env FILE && chown -h 1600 FILE",
            "symbolic link",
        ),
    ];
    let services: Vec<LabService> = cases.iter().map(|_| lab.service("web2")).collect();
    for (service, (damage, _)) in services.iter().zip(cases) {
        let damage = damage.replace("FILE", &service.file);
        assert!(lab.on("web2", &["sh", "-ec", &damage]).status.success(), "{damage}");
    }
    // A directory on a file system that is read-only, and one that its group's members can exchange.
    let locked = lab.service("web2");
    let folder = format!("/etc/sunrise/{}.d", locked.name);
    let mount = format!(
        "mkdir {folder} && cp {} {folder}/env && mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}",
        locked.file
    );
    assert!(lab.on("web2", &["sh", "-ec", &mount]).status.success());
    let all: Vec<&LabService> = services.iter().chain([&locked, &sound]).collect();
    let office = office(&lab, &leaver, &all);
    office.hurry();
    office.edit("offboard.yaml", |text| text.replace(&locked.file, &format!("{folder}/env")));
    let before: Vec<String> = services.iter().chain([&locked]).map(|s| verifier(&lab, s)).collect();
    let report = office.run(&leaver).expect(12).json();
    let after: Vec<String> = services.iter().chain([&locked]).map(|s| verifier(&lab, s)).collect();
    assert_eq!(before, after, "nothing was set");
    for (service, why) in services.iter().zip(cases.map(|(_, why)| why)).chain([(&locked, "read-only")]) {
        let said = report["steps"].as_array().unwrap().iter().find(|s| {
            s["action"] == "rotate"
                && s["object"].as_str().unwrap().starts_with(&format!("{}: create", service.name))
                && s["outcome"] == "stuck"
        });
        let said = said.unwrap_or_else(|| panic!("{why}: {:#}", report["steps"]));
        assert!(said["note"].as_str().unwrap().contains(why), "{why}: {said:#}");
        assert!(gets_in(&lab, service, &service.password), "{why}");
        assert_ne!(door(&report, service)["after"], "shut");
    }
    assert_eq!(door(&report, &sound)["after"], "shut");
    is_rotated(&lab, &sound, "the sound one");
}

/// Whoever owns the directory may put a link in the place of the file that root is writing: root follows it nowhere.
/// Puts a link in the place of every file that is being written in the folder, until the file `stop` stands there.
const SWAPPER: &str = "
import os, sys
prize = sys.argv[1]
while not os.path.exists('stop'):
    for name in os.listdir('.'):
        if name.startswith('.offboard.') and not os.path.islink(name):
            try:
                os.symlink(prize, 'link')
                os.rename('link', name)
                open('swapped', 'a').write('yes')
            except OSError:
                pass
";

#[test]
fn a_link_in_the_place_of_the_new_file_leads_nowhere() {
    let lab = Lab::shared();
    let leaver = lab.person();
    // The one who puts it there has to be quick: some milliseconds.
    let swapped = (0..6).any(|_| a_link_is_put_there(&lab, &leaver));
    assert!(swapped, "nobody put a link there");
}

/// Says whether somebody did.
fn a_link_is_put_there(lab: &Lab, leaver: &LabPerson) -> bool {
    let service = lab.service("web2");
    let office = office(lab, leaver, &[&service]);
    office.hurry();
    let (folder, prize) = (format!("/etc/sunrise/{}.d", service.name), format!("/root/{}.prize", service.name));
    let swap = format!(
        "printf prize >{prize}; chmod 604 {prize}
         install -d -o 1600 -g 1600 {folder}; mv {file} {folder}/env; chown 1600:1600 {folder}/env; ln -s {folder}/env {file}
         cd {folder}; setsid setpriv --reuid 1600 --regid 1600 --clear-groups python3 -c \"$1\" {prize} </dev/null >/dev/null 2>&1 &",
        file = service.file
    );
    assert!(lab.on("web2", &["bash", "-ec", &swap, "swap", SWAPPER]).status.success());
    office.edit("offboard.yaml", |text| {
        text.replace(&format!("file: {}\n", service.file), &format!("file: {folder}/env\n"))
    });
    let done = office.run(leaver);
    assert!([Some(0), Some(12)].contains(&done.code), "{:?} {}", done.code, done.err);
    let said = |text: &str| String::from_utf8(lab.on("web2", &["sh", "-c", text]).stdout).unwrap();
    assert_eq!(said(&format!("cat {prize}; stat -c ' %a %u' {prize}")), "prize 604 0\n");
    !said(&format!("touch {folder}/stop; cat {folder}/swapped")).is_empty()
}

#[test]
fn a_source_that_is_down_is_rotated_when_it_is_back() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let service = lab.service("web1");
    let office = office(&lab, &leaver, &[&service]);
    office.hurry();
    let outage = lab.stop("pg");
    let done = office.run(&leaver);
    assert!(done.code == Some(12) || done.code == Some(10), "{:?}\n{}", done.code, done.err);
    drop(outage);
    assert!(gets_in(&lab, &service, &service.password), "nothing was set");
    all_shut(&resume(&office).expect(0).json());
    is_rotated(&lab, &service, "after the outage");
}

#[test]
fn what_somebody_else_has_set_is_never_written_over_late() {
    let lab = Lab::shared();
    let leaver = lab.person();
    // Changed by hand before anything was set: the run begins from there.
    let service = lab.service("web1");
    let first = office(&lab, &leaver, &[&service]);
    assert!(killed_at(&first, &leaver, "rotate::sealed:1"));
    let by_hand = "by-hand-1234567890";
    change_by_hand(&lab, &service, by_hand);
    all_shut(&resume(&first).expect(0).json());
    is_rotated(&lab, &service, "changed before it was set");
    assert!(!gets_in(&lab, &service, by_hand), "what the leaver may have read meanwhile is dead, too");
    // Changed when the run had begun to set: its value may have been in use, and is not set any more.
    for point in ["rotate::begun:3", "rotate::taken:3"] {
        let service = lab.service("web1");
        let office = office(&lab, &leaver, &[&service]);
        assert!(killed_at(&office, &leaver, point));
        change_by_hand(&lab, &service, by_hand);
        let report = resume(&office).expect(12).json();
        assert!(report["steps"].to_string().contains("somebody else has changed"), "{:#}", report["steps"]);
        assert!(gets_in(&lab, &service, by_hand) && lab.answers(&service), "{point}: left as they set it");
        assert!(!gets_in(&lab, &service, &service.password));
    }
}

fn change_by_hand(lab: &Lab, service: &LabService, value: &str) {
    change_by_hand_with(lab, service, value, "/");
}

/// `mark` stands nowhere in the value.
fn change_by_hand_with(lab: &Lab, service: &LabService, value: &str, mark: &str) {
    lab.sql(&format!("ALTER ROLE \"{}\" PASSWORD '{value}'", service.role));
    let edit = format!(
        "sed -i 's{mark}PGPASSWORD=\"[^\"]*\"{mark}PGPASSWORD=\"{value}\"{mark}' {f}; /etc/sunrise/portal-reload {}",
        service.name,
        f = service.file
    );
    assert!(lab.on(service.host, &["sh", "-ec", &edit]).status.success());
}

#[test]
fn of_two_runs_a_late_one_changes_nothing() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let service = lab.service("web1");
    let (late, other) = (office(&lab, &leaver, &[&service]), office(&lab, &leaver, &[&service]));
    assert!(killed_at(&late, &leaver, "rotate::begun:3"));
    all_shut(&other.run(&leaver).expect(0).json());
    let (theirs, stored) = (lab.password_in_file(&service), verifier(&lab, &service));
    let report = resume(&late).expect(12).json();
    assert!(report["steps"].to_string().contains("somebody else has changed"), "{:#}", report["steps"]);
    assert_eq!((lab.password_in_file(&service), verifier(&lab, &service)), (theirs, stored));
    is_rotated(&lab, &service, "as the other run left it");
    // At the same time: one goes first, the other waits for it or is refused. Two people leave: two runs of one person that know nothing of each
    // other would also take each other's witness passwords away, and then only one of them can prove anything.
    let service = lab.service("web1");
    let leavers = [lab.person(), lab.person()];
    let offices = leavers.each_ref().map(|leaver| office(&lab, leaver, &[&service]));
    let hammer = lab.ask_steadily(&service);
    let done: Vec<Done> = std::thread::scope(|scope| {
        let runs = offices.iter().zip(&leavers).map(|(office, leaver)| scope.spawn(|| office.run(leaver)));
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let (answers, wrong) = hammer.stop();
    assert!(
        wrong == 0 && answers > 0,
        "{wrong} of {answers} requests failed: {:?}",
        done.iter().map(|d| &d.err).collect::<Vec<_>>()
    );
    is_rotated(&lab, &service, "two at once");
    let told: Vec<_> = done.iter().map(|d| format!("{:?} {}\n{}", d.code, d.err, d.not_done())).collect();
    assert!(done.iter().any(|d| d.code == Some(0)), "{}", told.join("\n"));
}

#[test]
fn a_consumer_that_is_given_up_holds_nobody_up() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let service = lab.service("web2");
    let office = office(&lab, &leaver, &[&service]);
    office.hurry();
    let other = format!("/etc/sunrise/{}.other.env", service.name);
    lab.on("web2", &["cp", "-p", &service.file, &other]);
    office.edit("offboard.yaml", |text| {
        let consumer = format!(
            "      - {{ system: fleet, place: web2.sunrise.test, file: {other}, key: PGPASSWORD, reload: [sh, -c, \"cat {other}; exit 7\"], health: [\"true\"] }}\n"
        );
        let at = text.find(&format!("{}:\n", service.name)).unwrap();
        let before = at + text[at..].find("    known-to").unwrap();
        format!("{}{consumer}{}", &text[..before], &text[before..])
    });
    let report = office.run(&leaver).expect(12).json();
    let stuck = report["steps"].as_array().unwrap().iter().find(|s| s["outcome"] == "stuck").unwrap();
    let note = stuck["note"].as_str().unwrap();
    let new = lab.password_in_file(&service);
    // The command has printed the file, and what it printed is shown, but for the value.
    assert!(note.contains("status 7") && note.contains("PGUSER") && !note.contains(&new), "{note}");
    assert!(!gets_in(&lab, &service, &service.password) && lab.answers(&service));
    let run = only_run(&office);
    office.offboard(&["waive", &run, stuck["id"].as_str().unwrap(), "--why", "that program is gone"]).expect(10);
    // What was given up proves nothing; everything else is done.
    let report = resume(&office).expect(10).json();
    assert_eq!(door(&report, &service)["after"], "shut");
    let list = office.offboard(&["--json", "list"]).expect(0).json();
    assert_eq!(list["runs"][0]["settled"], true, "{list:#}");
    assert!(!report["findings"].to_string().contains("half rotated"), "{:#}", report["findings"]);
    is_rotated(&lab, &service, "without the one that was given up");
    // What is declared can be asked at any time, and shows no value.
    let secrets = office.offboard(&["--json", "secrets"]);
    let listed = secrets.json();
    let ours = listed["secrets"].as_array().unwrap().iter().find(|s| s["name"] == service.name.as_str()).unwrap();
    assert_eq!(ours["rotated_by"], run.as_str(), "{ours:#}");
    assert!(ours["parts"].as_array().unwrap().iter().all(|part| part["well"] == true), "{ours:#}");
    assert!(!secrets.out.contains(&new) && !secrets.err.contains(&new));
    let shown = office.offboard(&["secrets"]).out;
    assert!(shown.contains(&format!("by run {run}")) && shown.contains(&leaver.id) && !shown.contains(&new), "{shown}");
}

const BOOK: &str = "playbooks/involuntary-termination.yaml";

fn without_rotation(book: String) -> String {
    let mut rotating = false;
    let lines = book.lines().filter(|line| {
        if line.starts_with("  - stage: ") {
            rotating = line.ends_with(" rotate");
        } else if !line.starts_with(' ') {
            rotating = false;
        }
        !rotating
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// A run takes memberships away. What they gave to know is known all the same when the next run comes.
#[test]
fn what_a_membership_gave_to_know_counts_after_it_is_gone() {
    let lab = Lab::shared();
    let (leaver, stranger) = (lab.person(), lab.active_person());
    let service = lab.service("web1");
    let office = office(&lab, &stranger, &[&service]);
    let named = format!("known-to: {{ people: [{}] }}", stranger.id);
    office.edit("offboard.yaml", |text| text.replace(&named, "known-to: { members-of: [oncall] }"));
    let book = std::fs::read_to_string(office.path(BOOK)).unwrap();
    office.edit(BOOK, without_rotation);
    let first = office.run(&leaver).expect(0).json();
    let told = first["findings"].to_string();
    assert!(told.contains("(member of oncall), and this playbook does not rotate it"), "{told}");
    assert!(gets_in(&lab, &service, &service.password), "it was not rotated");
    office.edit(BOOK, |_| book);
    let second = office.run(&leaver).expect(0).json();
    all_shut(&second);
    is_rotated(&lab, &service, "after the second run");
    let reason = "member of oncall, as an earlier run found";
    assert!(door(&second, &service).to_string().contains(reason), "{:#}", door(&second, &service));
}

#[test]
fn who_could_read_the_file_has_known_the_secret() {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    let (stranger, operator) = (lab.person(), lab.active_person());
    let service = lab.service("db1");
    let group = |who: &LabPerson, how: &str, group: &str| {
        let done = lab.on("db1", &["gpasswd", how, &who.user, group]);
        assert!(done.status.success(), "{done:?}");
    };
    group(&leaver, "-a", "portal");
    let office = office(&lab, &operator, &[&service]);
    let reason = format!("could read {} on db1.sunrise.test (group portal)", service.file);
    // One word may stand on the next line.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed = words(&office.offboard(&["accounts", &leaver.id]).expect(0).out);
    assert!(listed.contains(&reason), "{listed}");
    let listed = office.offboard(&["accounts", &bystander.id]).expect(0).out;
    assert!(!listed.contains(&service.name), "{listed}");
    // Somebody who is neither in the group nor could become root leaves: nothing is rotated.
    let first = verifier(&lab, &service);
    let report = office.run(&stranger).expect(0).json();
    assert!(doors(&report).iter().all(|(kind, _)| kind != "shared-secret"), "{report:#}");
    assert_eq!(verifier(&lab, &service), first);
    // Where the playbook does not rotate what they could read, that is told.
    group(&stranger, "-a", "portal");
    let without = self::office(&lab, &operator, &[&service]);
    without.edit(BOOK, without_rotation);
    let report = without.run(&stranger).expect(0).json();
    let told = report["findings"].to_string();
    assert!(told.contains(&format!("{reason}), and this playbook does not rotate it")), "{told}");
    assert_eq!(verifier(&lab, &service), first);
    // What was evident before containment is on record: containment itself has taken the leaver out of the group that made them root.
    group(&leaver, "-d", "portal");
    group(&leaver, "-a", "sudo");
    let reason = "could become root on db1.sunrise.test (group sudo)";
    let other = self::office(&lab, &operator, &[&service]);
    assert!(killed_at(&other, &leaver, "rotate::begun:1"));
    let listed = words(&office.offboard(&["accounts", &leaver.id]).expect(0).out);
    assert!(!listed.contains("could become root") && !listed.contains(&service.name), "{listed}");
    assert_eq!(verifier(&lab, &service), first);
    let report = resume(&other).expect(0).json();
    all_shut(&report);
    is_rotated(&lab, &service, "after resume");
    assert!(door(&report, &service).to_string().contains(reason), "{:#}", door(&report, &service));
    assert!(lab.ssh(&bystander.key, &bystander.user, "db1"), "the look-alike still gets in");
    // Everybody may read it: told, with what to do; and whoever has an account there may know it.
    lab.on("db1", &["chmod", "604", &service.file]);
    let warning = format!("everybody on db1.sunrise.test can read {}", service.file);
    for command in ["secrets", "check"] {
        let said = words(&office.offboard(&[command]).out);
        assert!(said.contains(&warning) && said.contains("chmod o= "), "{command}: {said}");
    }
    let listed = words(&office.offboard(&["accounts", &bystander.id]).expect(0).out);
    let reason = format!("could read {} on db1.sunrise.test (everybody there)", service.file);
    assert!(listed.contains(&reason), "{listed}");
    lab.on("db1", &["chmod", "640", &service.file]);
    let said = office.offboard(&["secrets"]).out;
    assert!(said.contains(&service.name) && !said.contains("everybody"), "{said}");
}

/// What the leaver could read although no secret in `offboard.yaml` says that it is there.
#[test]
fn passwords_that_nobody_declared_are_told() {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    let service = lab.service("db1");
    let office = office(&lab, &lab.active_person(), &[&service]);
    let (folder, value) = (format!("/etc/sunrise/{}.d", service.name), "never-told-1234567890");
    let made = format!(
        "mkdir -p {folder}; cd {folder}; umask 077
         printf 'DB_USER=ledger\\nDB_PASSWORD={value}\\n' >.env; cp .env private.env
         line=$(printf 'a\\nP\\tmade-up\\t\\t'); mkdir -p \"$line/etc\"; cp .env \"$line/etc/b.env\"; chown -R {0} \"$line\"
         chgrp portal .env; chmod 640 .env; chmod 755 {folder}; gpasswd -a {0} portal",
        leaver.user
    );
    let done = lab.on("db1", &["sh", "-ec", &made]);
    assert!(done.status.success(), "{done:?}");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = format!("DB_PASSWORD of ledger: could read {folder}/.env on db1.sunrise.test (group portal)");
    let is_told = |text: &str| {
        assert!(text.contains(&told), "{text}");
        for other in ["private.env", "made-up", value, &service.file] {
            let at = text.find("does not declare").unwrap();
            assert!(!text[at..].contains(other), "{other}: {text}");
        }
    };
    is_told(&words(&office.offboard(&["accounts", &leaver.id]).expect(0).out));
    let listed = words(&office.offboard(&["accounts", &bystander.id]).expect(0).out);
    assert!(!listed.contains(&folder), "{listed}");
    // A run tells it after containment, which has taken the leaver out of the group.
    let report = office.run(&leaver).json();
    let findings = report["findings"].as_array().unwrap().iter();
    let found: Vec<&str> = findings.filter_map(|f| f["what"].as_str()).filter(|what| what.contains(&folder)).collect();
    assert_eq!(found.len(), 1, "{:#}", report["findings"]);
    is_told(found[0]);
    lab.on("db1", &["rm", "-r", &folder]);
}
