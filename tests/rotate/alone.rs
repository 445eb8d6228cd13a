//! `offboard rotate`: a secret is rotated though nobody leaves.

use crate::lab::{Lab, LabPerson, LabService};
use crate::office::{Done, Office, all_shut};
use crate::server::{Server, serve_with};
use crate::{door, gets_in, is_rotated, office, sealed, steps, verifier};

pub fn rotate(office: &Office, service: &LabService) -> Done {
    office.offboard(&["--json", "rotate", &service.name, "--yes"])
}

pub fn killed_at(office: &Office, service: &LabService, failpoint: &str) -> bool {
    let mut command = office.command(&["--json", "rotate", &service.name, "--yes"]);
    command.env("OFFBOARD_DIE_AT", failpoint).output().unwrap().status.code().is_none()
}

fn only_run(office: &Office) -> String {
    let list = office.offboard(&["--json", "list"]).expect(0).json();
    assert_eq!(list["runs"].as_array().unwrap().len(), 1, "{list:#}");
    list["runs"][0]["run"].as_str().unwrap().to_string()
}

#[test]
fn a_secret_is_rotated_though_nobody_leaves() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    let (service, bystander) = (lab.service("web1"), lab.service("web1"));
    let office = office(&lab, &knows, &[&service, &bystander]);
    let first = verifier(&lab, &service);
    // Nobody is there to confirm it: the plan is shown, and nothing is done.
    let shown = office.offboard(&["rotate", &service.name]).expect(13);
    assert!(shown.err.contains(&format!("{}: finish", service.name)) && shown.err.contains("well"), "{}", shown.err);
    assert_eq!(verifier(&lab, &service), first);
    let wrong = office.offboard(&["rotate", "no-such-secret", "--yes"]).expect(2);
    assert!(wrong.err.contains(&service.name) && wrong.err.contains(&bystander.name), "{}", wrong.err);
    assert_eq!(office.offboard(&["--json", "list"]).expect(0).json()["runs"].as_array().unwrap().len(), 0);

    let mut held = lab.psql_session_with(&service.role, &service.password);
    let mut other = lab.psql_session_with(&bystander.role, &bystander.password);
    assert!(held.is_alive() && other.is_alive());
    let hammer = lab.hammer(&service);
    let done = office
        .offboard(&["--json", "rotate", &service.name, "--yes", "--why", "it stood in a <b>ticket</b>"])
        .expect(0);
    let (answers, wrong) = hammer.stop();
    assert!(wrong == 0 && answers > 0, "{wrong} of {answers} requests failed");
    println!("requests: {answers}, none failed");
    let report = done.json();
    all_shut(&report);
    is_rotated(&lab, &service, "after the run");
    assert!(!held.is_alive(), "a session that the old value opened goes on");
    assert!(other.is_alive() && gets_in(&lab, &bystander, &bystander.password), "the bystander is as it was");
    let new = lab.password_in_file(&service);
    assert!(!done.out.contains(&new) && !done.out.contains(&service.password));
    assert_eq!(
        (&report["person"], &report["secret"]["name"]),
        (&serde_json::Value::Null, &service.name.as_str().into())
    );
    let found = door(&report, &service);
    assert_eq!(
        (&found["before"], &found["after"], &found["proof"]),
        (&"open".into(), &"shut".into(), &"refused".into()),
        "{found:#}"
    );
    assert_eq!(report["doors"].as_array().unwrap().len(), 1);
    assert_eq!(steps(&report, &service).len(), 8);
    assert!(report["clocks"]["contained"].is_string(), "{:#}", report["clocks"]);

    // Every other command knows what such a run is.
    let run = report["run"].as_str().unwrap();
    let list = office.offboard(&["list"]).expect(0).out;
    assert!(list.contains(&format!("secret {}", service.name)), "{list}");
    let list = office.offboard(&["--json", "list"]).expect(0).json();
    assert_eq!(
        (&list["runs"][0]["secret"], &list["runs"][0]["settled"]),
        (&service.name.as_str().into(), &true.into())
    );
    let status = office.offboard(&["status", run]).expect(0).out;
    assert!(status.contains(&format!("Rotated: Secret {}", service.name)), "{status}");
    assert!(status.contains("The old value is dead: refused by the server."), "{status}");
    let page = office.offboard(&["report", run]).expect(0).out;
    assert!(page.contains("Rotation report") && !page.contains("Offboarding report"), "{page}");
    assert!(page.contains("it stood in a &#60;b&#62;ticket") && !page.contains("<b>ticket"), "{page}");
    assert!(!page.contains("employment") && !page.contains(&new) && !page.contains(&service.password), "{page}");
    let refused = office.offboard(&["restore", run, "--yes", "--passwords-to", "once"]).expect(2);
    assert!(refused.err.contains("took nobody's access away"), "{}", refused.err);
    all_shut(&office.offboard(&["--json", "verify", run]).expect(0).json());
    all_shut(&office.offboard(&["--json", "resume", run]).expect(0).json());
    assert_eq!(lab.password_in_file(&service), new, "what is done is not done again");
    let listed = office.offboard(&["--json", "secrets"]).json();
    let ours = listed["secrets"].as_array().unwrap().iter().find(|s| s["name"] == service.name.as_str()).unwrap();
    assert_eq!(ours["rotated_by"], run, "{ours:#}");
    // A second one sets another value; the first one's looks still find its own old value dead.
    all_shut(&rotate(&office, &service).expect(0).json());
    is_rotated(&lab, &service, "the second time");
    assert!(!gets_in(&lab, &service, &new));
    all_shut(&office.offboard(&["--json", "verify", run]).expect(0).json());
    assert_eq!(sealed(&office), "4");
    office.offboard(&["verify", run, "--last"]).expect(0);
    assert_eq!(sealed(&office), "2", "both values of the first run are destroyed");
    office.offboard(&["journal", "verify"]).expect(0);
}

#[test]
fn wherever_it_is_killed_resume_ends_it_and_no_second_one_begins() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    let mut points: Vec<String> = vec!["rotate::sealed:1".into(), "rotate::file:1".into(), "desk::requested:1".into()];
    // The walk through a leaver's run passes all of them.
    points.extend(["rotate::begun:3", "rotate::taken:4", "rotate::taken:8"].map(String::from));
    for point in points {
        let service = lab.service("db1");
        let office = office(&lab, &knows, &[&service]);
        let hammer = lab.ask_steadily(&service);
        assert!(killed_at(&office, &service, &point), "{point} was not passed");
        let crashed = verifier(&lab, &service);
        let run = only_run(&office);
        let second = rotate(&office, &service).expect(13);
        assert!(second.err.contains(&format!("offboard resume {run}")), "{point}: {}", second.err);
        assert_eq!(verifier(&lab, &service), crashed, "{point}: a second one has begun");
        all_shut(&office.offboard(&["--json", "resume", &run]).expect(0).json());
        let (answers, wrong) = hammer.stop();
        assert!(wrong == 0 && answers > 0, "{point}: {wrong} of {answers} requests failed");
        is_rotated(&lab, &service, &point);
        office.offboard(&["journal", "verify"]).expect(0);
        lab.close(&service);
    }
}

#[test]
fn a_server_carries_it_out_one_at_a_time() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    let (service, other) = (lab.service("web2"), lab.service("web2"));
    let office = office(&lab, &knows, &[&service, &other]);
    serve_with(&office, "leavers: false");
    let server = Server::start(&office);
    let hammer = lab.ask_steadily(&service);
    // Two of one secret, and one of another, at the same time.
    let done: Vec<Done> = std::thread::scope(|scope| {
        let asked = [&service, &other, &service].map(|service| scope.spawn(|| rotate(&office, service)));
        asked.map(|asked| asked.join().unwrap()).into_iter().collect()
    });
    let (answers, wrong) = hammer.stop();
    assert!(wrong == 0 && answers > 0, "{wrong} of {answers} requests failed\n{}", server.log());
    let mut codes = [done[0].code, done[2].code];
    codes.sort_unstable();
    let said = format!("{}\n{}\n{}", done[0].err, done[2].err, server.log());
    assert_eq!((codes, done[1].code), ([Some(0), Some(13)], Some(0)), "{said}");
    let refused = done.iter().find(|done| done.code == Some(13)).unwrap();
    assert!(refused.err.contains("is not shut yet"), "{}", refused.err);
    is_rotated(&lab, &service, "by the server");
    is_rotated(&lab, &other, "by the server");
    // Once the first is over, another may begin; resume, verify and waive are orders like any other.
    let report = rotate(&office, &service).expect(0).json();
    let run = report["run"].as_str().unwrap();
    all_shut(&office.offboard(&["--json", "verify", run]).expect(0).json());
    all_shut(&office.offboard(&["--json", "resume", run]).expect(0).json());
    let wrong = office.offboard(&["waive", run, "nothing/such", "--why", "because"]).expect(2);
    assert!(wrong.err.contains("no unfinished step or unreached place"), "{}", wrong.err);
    is_rotated(&lab, &service, "the second time");
    let log = server.log();
    assert!(!log.contains(&lab.password_in_file(&service)) && !log.contains(&service.password));
    assert!(server.stop().success());
}

#[test]
fn a_consumer_that_is_not_well_holds_the_finish_up_until_it_is_mended_or_given_up() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    // Each waits for a minute until the run gives up.
    std::thread::scope(|scope| {
        for give_up in [false, true] {
            let (lab, knows) = (&lab, &knows);
            scope.spawn(move || is_held_up(lab, knows, give_up));
        }
    });
}

fn is_held_up(lab: &Lab, knows: &LabPerson, give_up: bool) {
    let service = lab.service("bastion");
    let office = office(lab, knows, &[&service]);
    let sick = format!("/run/{}.sick", service.name);
    office.edit("offboard.yaml", |text| {
        let line = text.lines().find(|l| l.contains("health:") && l.contains(&service.port.to_string())).unwrap();
        // Sick as soon as the new value stands in the file.
        let check =
            format!("if grep -qF -e '{}' {}; then exit 0; fi; ! test -e {sick}", service.password, service.file);
        let health = format!("        health: [sh, -c, \"{check}\"]");
        text.replace(line, &health)
    });
    lab.on("bastion", &["touch", &sick]);
    let report = rotate(&office, &service).expect(12).json();
    let run = report["run"].as_str().unwrap();
    assert!(report["findings"].to_string().contains("half rotated"), "{report:#}");
    assert_eq!(sealed(&office), "2", "both values stay sealed");
    assert!(gets_in(lab, &service, &lab.password_in_file(&service)), "one password works");
    let status = office.offboard(&["status", run]).expect(12).out;
    assert!(status.contains(&format!("offboard resume {run}")), "{status}");
    office.offboard(&["verify", run, "--last"]).expect(13);
    if give_up {
        let stuck = report["steps"].as_array().unwrap().iter().find(|s| s["outcome"] == "stuck").unwrap();
        office.offboard(&["waive", run, stuck["id"].as_str().unwrap(), "--why", "that check is wrong"]).expect(10);
        let report = office.offboard(&["--json", "resume", run]).expect(10).json();
        assert_eq!((&report["settled"], &door(&report, &service)["after"]), (&true.into(), &"shut".into()));
    } else {
        lab.on("bastion", &["rm", &sick]);
        all_shut(&office.offboard(&["--json", "resume", run]).expect(0).json());
    }
    is_rotated(lab, &service, "in the end");
}

/// More of what offboard.yaml says of a secret.
pub fn say(office: &Office, service: &LabService, line: &str) {
    office.edit("offboard.yaml", |text| {
        let at = text.find(&format!("  {}:\n", service.name)).unwrap();
        let to = at + text[at..].find("    known-to").unwrap();
        format!("{}    {line}\n{}", &text[..to], &text[to..])
    });
}

#[test]
fn a_server_rotates_what_is_too_old() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    let (service, other) = (lab.service("web1"), lab.service("web1"));
    let office = office(&lab, &knows, &[&service, &other]);
    serve_with(&office, "leavers: false");
    say(&office, &service, "rotate-after: 6s");
    let runs = |wanted: usize| {
        let list = office.offboard(&["--json", "list"]).expect(0).json();
        let ended: Vec<_> = list["runs"].as_array().unwrap().iter().filter(|r| r["ended"] == true).cloned().collect();
        assert!(ended.iter().all(|r| r["secret"] == service.name.as_str() && r["verdict"] == "shut"), "{list:#}");
        ended.len() >= wanted
    };
    let secrets = || {
        let listed = office.offboard(&["--json", "secrets"]);
        let all = listed.json();
        let of = |service: &LabService| {
            all["secrets"].as_array().unwrap().iter().find(|s| s["name"] == service.name.as_str()).unwrap().clone()
        };
        (of(&service), of(&other), listed.code)
    };
    assert_eq!(secrets().0["next"], serde_json::Value::Null, "nobody has seen it yet");
    let hammer = lab.ask_steadily(&service);
    let mut server = Server::start(&office);
    // Its age is not known at first: it counts from now.
    assert!(secrets().0["next"].is_string());
    server.wait_for("it is rotated twice", |_| runs(2));
    assert!(server.stop().success());
    is_rotated(&lab, &service, "because of its age");
    assert!(gets_in(&lab, &other, &other.password), "another one, that says nothing of its age");
    std::thread::sleep(std::time::Duration::from_secs(7));
    let (ours, theirs, code) = secrets();
    assert_eq!((&ours["overdue"], &theirs["overdue"], code), (&true.into(), &false.into(), Some(20)), "{ours:#}");
    let shown = office.offboard(&["secrets"]).expect(20).out;
    assert!(shown.contains("after 6s: overdue since"), "{shown}");
    // What was missed is caught up, once; one that was rotated meanwhile is not.
    let count = office.offboard(&["--json", "list"]).expect(0).json()["runs"].as_array().unwrap().len();
    all_shut(&rotate(&office, &service).expect(0).json());
    office.edit("offboard.yaml", |text| text.replace("rotate-after: 6s", "rotate-after: 90d"));
    let mut server = Server::start(&office);
    let ours = secrets().0;
    assert_eq!(ours["overdue"], false, "{ours:#}");
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(!runs(count + 2), "it was rotated though it is not due");
    // A shorter age counts at once.
    office.edit("offboard.yaml", |text| text.replace("rotate-after: 90d", "rotate-after: 1s"));
    server.wait_for("it is rotated by the new age", |_| runs(count + 2));
    assert!(server.stop().success());
    let (answers, wrong) = hammer.stop();
    assert!(wrong == 0 && answers > 0, "{wrong} of {answers} requests failed");
}
