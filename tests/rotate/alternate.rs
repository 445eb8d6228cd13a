//! Two accounts that alternate: programs are moved from one to the other, and the passwords of both die.

use crate::lab::{Lab, LabPerson, LabService};
use crate::office::{Office, all_shut};
use crate::{door, office, sealed, verifier};

pub const FIRST: &str = "green-at-first-1234567890";

/// A second role with the same rights, and an office that lets the two alternate.
pub fn pair(lab: &Lab, knows: &LabPerson, service: &LabService) -> (Office, String) {
    let green = format!("{}_green", service.name);
    lab.sql(&format!("CREATE ROLE \"{green}\" LOGIN PASSWORD '{FIRST}'"));
    lab.sql(&format!("GRANT \"{}\" TO \"{green}\"", service.role));
    let office = office(lab, knows, &[service]);
    office.edit("offboard.yaml", |text| {
        let account = format!("account: {}", service.role);
        let key = format!("file: {}\n", service.file);
        text.replace(&account, &format!("{account}, alternate: {green}"))
            .replace(&key, &format!("{key}        user-key: PGUSER\n"))
    });
    (office, green)
}

fn file(lab: &Lab, service: &LabService) -> String {
    String::from_utf8(lab.on(service.host, &["cat", &service.file]).stdout).unwrap()
}

pub fn user_in_file(lab: &Lab, service: &LabService) -> String {
    let text = file(lab, service);
    text.lines().find_map(|line| line.strip_prefix("PGUSER=")).unwrap().to_string()
}

fn gets_in(lab: &Lab, role: &str, password: &str) -> bool {
    match lab.psql(role, password, "SELECT count(*) FROM pg_roles") {
        Ok(_) => true,
        Err(said) => {
            assert!(said.contains("password authentication failed"), "{said}");
            false
        }
    }
}

/// Programs use `now`, and no value that was ever known opens either account.
pub fn is_moved(lab: &Lab, service: &LabService, now: &str, dead: &[(&str, &str)], what: &str) {
    assert!(lab.answers(service), "{what}: the service does not answer");
    assert_eq!(user_in_file(lab, service), now, "{what}");
    assert!(gets_in(lab, now, &lab.password_in_file(service)), "{what}: the value in the file does not open");
    for (role, password) in dead {
        assert!(!gets_in(lab, role, password), "{what}: an old password of {role} still opens");
    }
}

#[test]
fn programs_are_moved_to_and_fro_and_both_passwords_die() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    let service = lab.service("web1");
    let (office, green) = pair(&lab, &knows, &service);
    let blue = service.role.clone();
    let before = file(&lab, &service);
    let mut held = [lab.psql_session_with(&blue, &service.password), lab.psql_session_with(&green, FIRST)];
    assert!(held.iter_mut().all(crate::lab::LabSession::is_alive));
    let listed = office.offboard(&["--json", "secrets"]).expect(0).json();
    let ours = listed["secrets"].as_array().unwrap().iter().find(|s| s["name"] == service.name.as_str()).unwrap();
    assert_eq!(ours["parts"].as_array().unwrap().len(), 3, "{ours:#}");
    let hammer = lab.hammer(&service);
    let report = office.offboard(&["--json", "rotate", &service.name, "--yes"]).expect(0).json();
    all_shut(&report);
    let doors: Vec<_> =
        report["doors"].as_array().unwrap().iter().map(|d| (&d["account"], &d["before"], &d["proof"])).collect();
    assert_eq!(
        doors,
        [
            (&blue.as_str().into(), &"open".into(), &"refused".into()),
            (&green.as_str().into(), &"unproven".into(), &"read-back".into())
        ]
    );
    let first = lab.password_in_file(&service);
    is_moved(&lab, &service, &green, &[(&blue, &service.password), (&green, FIRST)], "moved");
    assert_eq!(
        file(&lab, &service),
        before.replace(&service.password, &first).replace(&format!("PGUSER={blue}"), &format!("PGUSER={green}"))
    );
    assert!(held.iter_mut().all(|session| !session.is_alive()), "a session of before goes on");
    assert_eq!(sealed(&office), "3", "the old value, the new one, and the one that nobody uses");
    // And back.
    let report = office.offboard(&["--json", "rotate", &service.name, "--yes"]).expect(0).json();
    all_shut(&report);
    assert_eq!(report["doors"][1]["proof"], "refused", "{report:#}");
    is_moved(&lab, &service, &blue, &[(&blue, &service.password), (&green, FIRST), (&green, &first)], "moved back");
    // The first run's looks still find what it killed dead.
    let list = office.offboard(&["--json", "list"]).expect(0).json();
    for run in list["runs"].as_array().unwrap() {
        all_shut(&office.offboard(&["--json", "verify", run["run"].as_str().unwrap()]).expect(0).json());
    }
    let (answers, wrong) = hammer.stop();
    assert!(wrong == 0 && answers > 0, "{wrong} of {answers} requests failed");
}

#[test]
fn one_by_one_stops_at_the_first_that_is_not_well() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let service = lab.service("web1");
    let (office, green) = pair(&lab, &leaver, &service);
    office.hurry();
    // Healthy with the first account alone. It stands on the service's own host, whose logins count as its own.
    let canary = format!("/etc/sunrise/canary-{}.env", service.name);
    let text = format!("PGUSER={}\nPGPASSWORD={}\n", service.role, service.password);
    lab.feed("web1", &["install", "-D", "-m", "600", "/dev/stdin", &canary], text.as_bytes());
    let health = format!("[grep, -q, \"PGUSER={}$\", {canary}]", service.role);
    let entry = format!(
        "      - {{ system: fleet, place: web1.sunrise.test, file: {canary}, key: PGPASSWORD, user-key: PGUSER, reload: [\"true\"], health: {health} }}\n"
    );
    let before = format!("account: {}, alternate: {green} }}\n    consumers:\n", service.role);
    office.edit("offboard.yaml", |text| {
        assert!(text.contains(&before), "{text}");
        text.replace(&before, &format!("{before}{entry}"))
            .replace(&before, &before.replace("    consumers", "    one-by-one: true\n    consumers"))
    });
    let report = office.run(&leaver).json();
    assert_ne!(report["verdict"], "shut", "{report:#}");
    let user_of_canary = || String::from_utf8(lab.on("web1", &["sed", "-n", "s/^PGUSER=//p", &canary]).stdout).unwrap();
    assert_eq!(user_of_canary().trim(), green, "the first one has the new account");
    assert_eq!(user_in_file(&lab, &service), service.role, "the second one keeps what it has");
    assert!(lab.answers(&service));
    office.edit("offboard.yaml", |text| text.replace(&health, "[\"true\"]"));
    let report = office.offboard(&["--json", "resume", report["run"].as_str().unwrap()]).expect(0).json();
    all_shut(&report);
    is_moved(&lab, &service, &green, &[(&service.role, &service.password), (&green, FIRST)], "resumed");
}

#[test]
fn a_leaver_knows_neither_of_them() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let service = lab.service("web2");
    let (office, green) = pair(&lab, &leaver, &service);
    let plan = office.offboard(&["plan", &leaver.id, "-p", "involuntary-termination"]).expect(0).out;
    assert!(plan.contains(&green) && plan.contains(&service.role), "{plan}");
    let report = office.run(&leaver).expect(0).json();
    all_shut(&report);
    assert_eq!(door(&report, &service)["after"], "shut");
    is_moved(&lab, &service, &green, &[(&service.role, &service.password), (&green, FIRST)], "a leaver");
}

#[test]
fn programs_that_use_a_third_account_are_not_touched() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    let service = lab.service("db1");
    let (office, green) = pair(&lab, &knows, &service);
    let first = verifier(&lab, &service);
    office.edit("offboard.yaml", |text| text.replace(&format!("account: {}", service.role), "account: monitor"));
    let done = office.offboard(&["--json", "rotate", &service.name, "--yes"]).expect(12);
    assert!(done.out.contains("is the name of neither account"), "{}", done.out);
    assert_eq!(verifier(&lab, &service), first);
    assert!(gets_in(&lab, &green, FIRST) && lab.answers(&service));
}

#[test]
fn wherever_it_is_killed_resume_moves_them() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    let mut points: Vec<String> = vec!["rotate::sealed:1".into(), "rotate::file:1".into()];
    for nth in [2, 4, 5, 6, 8, 9, 10, 11, 12] {
        points.push(format!("rotate::begun:{nth}"));
        points.push(format!("rotate::taken:{nth}"));
    }
    for point in points {
        let service = lab.service("db1");
        let (office, green) = pair(&lab, &knows, &service);
        let hammer = lab.ask_steadily(&service);
        let mut command = office.command(&["--json", "rotate", &service.name, "--yes"]);
        assert!(
            command.env("OFFBOARD_DIE_AT", &point).output().unwrap().status.code().is_none(),
            "{point} was not passed"
        );
        // At every moment what stands in the file opens: no login fails in between.
        assert!(gets_in(&lab, &user_in_file(&lab, &service), &lab.password_in_file(&service)), "{point}: locked out");
        let list = office.offboard(&["--json", "list"]).expect(0).json();
        let run = list["runs"][0]["run"].as_str().unwrap();
        all_shut(&office.offboard(&["--json", "resume", run]).expect(0).json());
        let (answers, wrong) = hammer.stop();
        assert!(wrong == 0 && answers > 0, "{point}: {wrong} of {answers} requests failed");
        is_moved(&lab, &service, &green, &[(&service.role, &service.password), (&green, FIRST)], &point);
        office.offboard(&["journal", "verify"]).expect(0);
        lab.close(&service);
    }
}
