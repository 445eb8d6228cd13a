//! Passwords that a Vault sets: a static role of its database engine. The Vault is asked to change it, the database proves it, and programs that keep a copy
//! get the new one. One account has one password, so whoever opens a connection in between is refused for a moment: that no request fails is not
//! promised here.

use crate::lab::{Lab, LabPerson, LabService};
use crate::office::{Done, Office, all_shut};
use crate::{door, entry, gets_in, is_rotated, steps, verifier};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Mutex;

static CONNECTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The Vault's own login at the database, once an engine: it tries the login each time, and other tests are at work there.
fn connect(lab: &Lab, engine: &str) {
    let mut connected = CONNECTED.lock().unwrap();
    if connected.is_empty() {
        lab.sql("CREATE ROLE vault_root LOGIN SUPERUSER PASSWORD 'the-login-of-the-vault'");
    }
    if !connected.insert(engine.to_string()) {
        return;
    }
    let url = format!(
        "connection_url=postgresql://{{{{username}}}}:{{{{password}}}}@pg.sunrise.test:5432/postgres?sslmode=verify-full&sslrootcert={}",
        lab.root().join("ca.pem").display()
    );
    let config = format!("{engine}/config/billing");
    let plugin = "plugin_name=postgresql-database-plugin";
    let login = ["username=vault_root", "password=the-login-of-the-vault", "allowed_roles=*"];
    lab.bao_admin(&[&["write", &config, plugin, &url][..], &login[..]].concat());
}

/// A service whose password the Vault has set.
fn service_in(lab: &Lab, host: &'static str, engine: &str) -> LabService {
    connect(lab, engine);
    let mut service = lab.service(host);
    declare_role(lab, engine, &service.name, &service.role);
    service.password = said(lab, &format!("{engine}/static-creds/{}", service.name));
    let edit = format!(
        "sed -i 's/PGPASSWORD=\"[^\"]*\"/PGPASSWORD=\"{}\"/' {f}; /etc/sunrise/portal-reload {}",
        service.password,
        service.name,
        f = service.file
    );
    assert!(lab.on(host, &["sh", "-ec", &edit]).status.success());
    service
}

fn declare_role(lab: &Lab, engine: &str, name: &str, username: &str) {
    let path = format!("{engine}/static-roles/{name}");
    lab.bao_admin(&["write", &path, "db_name=billing", &format!("username={username}"), "rotation_period=24h"]);
}

fn service(lab: &Lab, host: &'static str) -> LabService {
    service_in(lab, host, "database")
}

/// The password that the Vault says.
fn said(lab: &Lab, path: &str) -> String {
    lab.bao_admin(&["read", "-field=password", path])
}

fn of_vault(lab: &Lab, service: &LabService) -> String {
    said(lab, &format!("database/static-creds/{}", service.name))
}

fn by_itself(lab: &Lab, service: &LabService) {
    lab.bao_admin(&["write", "-f", &format!("database/rotate-role/{}", service.name)]);
}

fn declared(service: &LabService, person: &LabPerson, engine: &str) -> String {
    let LabService { name, role, .. } = service;
    let set = format!("account: {role}, setter: {{ system: safe, static-role: {engine}/static-roles/{name} }} }}");
    entry(service, person).replace(&format!("account: {role} }}"), &set)
}

fn office(lab: &Lab, service: &LabService, person: &LabPerson) -> Office {
    let office = Office::new(lab);
    office.edit("offboard.yaml", |text| text + &declared(service, person, "database"));
    office
}

fn rotate(office: &Office, service: &LabService) -> Done {
    office.offboard(&["--json", "rotate", &service.name, "--yes"])
}

fn killed_at(office: &Office, service: &LabService, point: &str) {
    let mut command = office.command(&["--json", "rotate", &service.name, "--yes"]);
    let done = command.env("OFFBOARD_DIE_AT", point).output().unwrap();
    assert!(done.status.code().is_none(), "{point} was not passed: {}", String::from_utf8_lossy(&done.stderr));
}

fn resume(office: &Office) -> Done {
    let list = office.offboard(&["--json", "list"]).expect(0).json();
    office.offboard(&["--json", "resume", list["runs"][0]["run"].as_str().unwrap()])
}

/// What the steps of a report say, for looking for a word.
fn told(report: &Value) -> String {
    report["steps"].to_string() + &report["findings"].to_string()
}

#[test]
fn the_vault_changes_it_and_the_program_goes_on() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let service = service(&lab, "web1");
    let office = office(&lab, &service, &leaver);
    let listed = office.offboard(&["secrets"]).out;
    assert!(listed.contains("setter") && listed.contains("database/static-roles/"), "{listed}");
    let plan = office.offboard(&["plan", &leaver.id, "-p", "involuntary-termination"]).expect(0).out;
    assert!(plan.contains(&format!("database/static-roles/{}", service.name)), "{plan}");
    let mut held = lab.psql_session_with(&service.role, &service.password);
    assert!(held.is_alive());

    let done = office.run(&leaver).expect(0);
    let report = done.json();
    all_shut(&report);
    is_rotated(&lab, &service, "after the run");
    let new = lab.password_in_file(&service);
    assert_eq!(of_vault(&lab, &service), new, "the Vault and the file say the same");
    assert!(!held.is_alive(), "the session that the old one opened goes on");
    let door = door(&report, &service);
    assert_eq!(
        (&door["before"], &door["after"], &door["proof"]),
        (&"open".into(), &"shut".into(), &"refused".into()),
        "{door:#}"
    );
    assert!(door["reply"].as_str().unwrap().contains("28P01"), "{door:#}");
    let phases = steps(&report, &service);
    assert_eq!(phases.iter().filter(|(_, _, outcome)| outcome.ends_with("done")).count(), 12, "{phases:?}");

    // What is known stays where it belongs.
    let journal = std::fs::read(office.path("journal/journal.sqlite")).unwrap();
    let everything = format!("{}{}{listed}{plan}{}", done.out, done.err, String::from_utf8_lossy(&journal));
    assert!(!everything.contains(&service.password) && !everything.contains(&new), "a value is told");

    // The Vault goes on as if nothing had been: its next rotation works, and the look after finds the old value dead.
    by_itself(&lab, &service);
    assert!(!gets_in(&lab, &service, &new) && gets_in(&lab, &service, &of_vault(&lab, &service)));
    let run = report["run"].as_str().unwrap();
    let again = office.offboard(&["--json", "verify", run]).expect(0).json();
    assert_eq!(crate::door(&again, &service)["proof"], "read-back");
    office.offboard(&["verify", run, "--last"]).expect(0);
    office.offboard(&["journal", "verify"]).expect(0);
}

#[test]
fn programs_that_read_the_vault_themselves_need_no_copy() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let service = service(&lab, "web2");
    let office = Office::new(&lab);
    let whole = declared(&service, &person, "database");
    let (head, tail) = whole.split_once("    consumers:\n").unwrap();
    let known = &tail[tail.find("    known-to").unwrap()..];
    office.edit("offboard.yaml", |text| format!("{text}{head}    consumers: []\n{known}"));
    let report = rotate(&office, &service).expect(0).json();
    all_shut(&report);
    assert!(!gets_in(&lab, &service, &service.password) && gets_in(&lab, &service, &of_vault(&lab, &service)));
    assert_eq!(door(&report, &service)["proof"], "refused");
    assert_eq!(lab.password_in_file(&service), service.password, "a file that nobody has named is left alone");
}

/// Whoever was given the credentials by the Vault knows them, though nobody has named them.
#[test]
fn whoever_has_read_the_credentials_knows_them() {
    let lab = Lab::shared();
    let (leaver, known) = (lab.person(), lab.active_person());
    let service = service(&lab, "web1");
    let office = office(&lab, &service, &known);
    let path = format!("database/static-creds/{}", service.name);
    let rule = format!("policy=path \"{path}\" {{ capabilities = [\"read\"] }}");
    lab.bao_admin(&["write", &format!("sys/policies/acl/{}", service.name), &rule]);
    let policies = format!("token_policies=staff,{}", service.name);
    lab.bao_admin(&["write", &format!("auth/userpass/users/{}/policies", leaver.user), &policies]);
    let reason = format!("could read {path} on vault.sunrise.test:8200 (read it, last at ");
    let accounts = || office.offboard(&["--json", "accounts", &leaver.id]).out;
    let token = lab.bao_login(&leaver.user, &leaver.password).unwrap();
    assert!(!accounts().contains(&service.role), "they have not read it yet");
    Lab::bao(Some(&token), &["read", "-field=username", &path], "").unwrap();
    assert!(accounts().contains(&reason), "{}", accounts());
    all_shut(&office.run(&leaver).expect(0).json());
    is_rotated(&lab, &service, "known by the audit log");
}

#[test]
fn wherever_it_is_killed_one_value_works_in_the_end() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let mut points: Vec<String> = ["sealed", "adopted", "file"].map(|point| format!("rotate::{point}:1")).into();
    for nth in 2..=12 {
        points.push(format!("rotate::begun:{nth}"));
        points.push(format!("rotate::taken:{nth}"));
    }
    let mut rotated_before_resume = 0;
    for point in points {
        let service = service(&lab, "db1");
        let office = office(&lab, &service, &person);
        let first = verifier(&lab, &service);
        killed_at(&office, &service, &point);
        let crashed = verifier(&lab, &service);
        let report = resume(&office).expect(0).json();
        all_shut(&report);
        is_rotated(&lab, &service, &point);
        assert_eq!(of_vault(&lab, &service), lab.password_in_file(&service), "{point}");
        // Set, and not sealed before the crash: somebody may have read it meanwhile.
        let is_lost = point == "rotate::taken:4";
        assert_eq!(
            verifier(&lab, &service) == crashed,
            crashed != first && !is_lost,
            "{point}: what was sealed is kept, what was not is replaced"
        );
        assert_eq!(door(&report, &service)["proof"], "refused", "{point}");
        rotated_before_resume += usize::from(crashed != first);
        office.offboard(&["journal", "verify"]).expect(0);
        lab.close(&service);
    }
    assert!(rotated_before_resume > 10, "{rotated_before_resume}");
}

/// What the Vault has set by itself meanwhile, a leaver who could still get in may have read.
#[test]
fn a_rotation_by_the_vault_itself_is_not_taken_for_ours() {
    let lab = Lab::shared();
    let person = lab.active_person();
    // Before anything was set: the consumers have to be given its value first, as ever when a Vault rotates.
    let stale = service(&lab, "web1");
    let first = office(&lab, &stale, &person);
    killed_at(&first, &stale, "rotate::sealed:1");
    by_itself(&lab, &stale);
    let kept = verifier(&lab, &stale);
    let report = resume(&first).expect(12).json();
    assert!(told(&report).contains("the consumers have another value than the Vault says"), "{}", told(&report));
    assert_eq!(verifier(&lab, &stale), kept, "nothing was set");
    // When the run was about to ask for it.
    let service = service(&lab, "web1");
    let office = office(&lab, &service, &person);
    killed_at(&office, &service, "rotate::begun:4");
    by_itself(&lab, &service);
    let read_meanwhile = of_vault(&lab, &service);
    all_shut(&resume(&office).expect(0).json());
    assert!(!gets_in(&lab, &service, &read_meanwhile), "what the leaver may have read meanwhile still opens");
    is_rotated(&lab, &service, "set once more");
    assert_eq!(of_vault(&lab, &service), lab.password_in_file(&service));
}

#[test]
fn what_somebody_sets_behind_its_back_is_left_alone() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let by_hand = "by-hand-1234567890";
    // Before the run: the Vault's value does not get in.
    let odd = service(&lab, "web2");
    let first = office(&lab, &odd, &person);
    first.hurry();
    lab.sql(&format!("ALTER ROLE \"{}\" PASSWORD '{by_hand}'", odd.role));
    let report = rotate(&first, &odd).expect(12).json();
    assert!(told(&report).contains("is not the role's password here"), "{}", told(&report));
    assert!(gets_in(&lab, &odd, by_hand));
    assert_eq!(of_vault(&lab, &odd), odd.password, "the Vault was not asked");
    // After the Vault has set it, and that is sealed: a session of the role may change its own password.
    for point in ["rotate::begun:5", "rotate::taken:5"] {
        let service = service(&lab, "web2");
        let office = office(&lab, &service, &person);
        killed_at(&office, &service, point);
        lab.sql(&format!("ALTER ROLE \"{}\" PASSWORD '{by_hand}'", service.role));
        let report = resume(&office).expect(12).json();
        let words = told(&report);
        assert!(
            words.contains("behind the setter's back") || words.contains("somebody else has changed it"),
            "{words}"
        );
        assert!(gets_in(&lab, &service, by_hand), "{point}: left as they set it");
        assert_ne!(of_vault(&lab, &service), service.password);
        assert!(report["findings"].to_string().contains("half rotated"), "{:#}", report["findings"]);
    }
}

#[test]
fn a_vault_that_is_down_half_way_is_asked_when_it_is_back() {
    let lab = Lab::alone();
    let person = lab.active_person();
    // Before it was asked, before its answer was taken up, and after.
    for (point, is_kept) in [("rotate::begun:4", false), ("rotate::taken:4", false), ("rotate::taken:6", true)] {
        let service = service(&lab, "db1");
        let office = office(&lab, &service, &person);
        killed_at(&office, &service, point);
        let crashed = verifier(&lab, &service);
        let outage = lab.stop("vault");
        let done = resume(&office);
        assert!([Some(10), Some(12)].contains(&done.code), "{point}: {:?}\n{}", done.code, done.err);
        assert_eq!(verifier(&lab, &service), crashed, "{point}: nothing is set without it");
        let report = done.json();
        assert!(told(&report).contains("half rotated"), "{point}: {}", told(&report));
        drop(outage);
        all_shut(&resume(&office).expect(0).json());
        is_rotated(&lab, &service, point);
        assert_eq!(is_kept, verifier(&lab, &service) == crashed, "{point}: what was sealed is kept");
        assert_eq!(of_vault(&lab, &service), lab.password_in_file(&service));
    }
}

/// A database that is down when the Vault is asked: the Vault may set it later, by itself.
#[test]
fn a_database_that_is_down_when_the_vault_is_asked() {
    let lab = Lab::alone();
    let person = lab.active_person();
    let service = service(&lab, "db1");
    let office = office(&lab, &service, &person);
    killed_at(&office, &service, "rotate::begun:4");
    let outage = lab.stop("pg");
    let done = resume(&office);
    assert!([Some(10), Some(12)].contains(&done.code), "{:?}\n{}", done.code, done.err);
    drop(outage);
    all_shut(&resume(&office).expect(0).json());
    is_rotated(&lab, &service, "after the outage");
    assert_eq!(of_vault(&lab, &service), lab.password_in_file(&service));
}

#[test]
fn what_is_known_to_fail_changes_nothing() {
    let lab = Lab::shared();
    let person = lab.active_person();
    // No policy of ours speaks of this engine.
    let engine = format!("db{}", std::process::id());
    lab.bao_admin(&["secrets", "enable", &format!("-path={engine}"), "database"]);
    let closed = service_in(&lab, "web1", &engine);
    let (own, other, keeper) = (service(&lab, "web1"), lab.service("web1"), service(&lab, "web2"));
    let fails = |service: &LabService, entry: String, what: &[&str]| {
        let (before, office) = (verifier(&lab, service), Office::hasty(&lab));
        office.edit("offboard.yaml", |text| text + &entry);
        let done = rotate(&office, service).expect(12);
        let report = done.json();
        for what in what {
            assert!(told(&report).contains(what), "{what}: {}", told(&report));
        }
        assert_eq!(verifier(&lab, service), before, "{what:?}: something was set");
        assert!(gets_in(&lab, service, &service.password) && lab.answers(service), "{what:?}");
    };
    let creds = format!("path \\\"{engine}/static-creds/{}\\\" {{ capabilities = [\\\"read\\\"] }}", closed.name);
    let order = format!("path \\\"{engine}/rotate-role/{}\\\" {{ capabilities = [\\\"update\\\"] }}", closed.name);
    fails(&closed, declared(&closed, &person, &engine), &["our login may not use", &creds, &order]);
    let kept = verifier(&lab, &keeper);
    let path = format!("static-roles/{}", own.name);
    let wrong = declared(&own, &person, "database").replace(&path, &format!("static-roles/{}", keeper.name));
    fails(&own, wrong, &["it sets the password of", &keeper.role]);
    assert_eq!(verifier(&lab, &keeper), kept, "the bystander is as it was");
    let missing = declared(&own, &person, "database").replace(&path, "static-roles/nowhere");
    fails(&own, missing, &["there is no such static role"]);
    // A copy that is out of date.
    declare_role(&lab, "database", &other.name, &other.role);
    let fresh = of_vault(&lab, &other);
    lab.sql(&format!("ALTER ROLE \"{}\" PASSWORD '{}'", other.role, other.password));
    fails(&other, declared(&other, &person, "database"), &["the consumers have another value than the Vault says"]);
    assert_eq!(of_vault(&lab, &other), fresh);
}
