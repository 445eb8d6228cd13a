//! The main job, end to end.

use crate::lab::Lab;
use crate::office::{Office, all_shut, doors};
use std::collections::BTreeSet;

#[test]
fn every_door_is_shut_and_the_real_clients_agree() {
    // Containment does not wait for the look before, so on a machine that is busy it may come too late at some places: then once more, with
    // somebody else, until it came in time for each sort of door at each system.
    let mut late = BTreeSet::new();
    for round in 0..5 {
        let too_late = looks_that_came_too_late();
        late = if round == 0 { too_late } else { &late & &too_late };
        if late.is_empty() {
            return;
        }
    }
    panic!("the look before never came in time: {late:?}");
}

/// The whole scenario. Says at which system, and for which sort of door, a look before came too late; all else must hold in any case.
fn looks_that_came_too_late() -> BTreeSet<(String, String)> {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    let office = Office::new(&lab);
    for person in [&leaver, &bystander] {
        assert_eq!(lab.ways_in(person), lab.all_ways(), "{} gets in everywhere before", person.user);
    }
    let tunnels = [&leaver, &bystander].map(|person| lab.vpn_session(person, &Lab::vpn_profile(person)));
    let [theirs, mut others] = tunnels;
    let mut sessions = lab.sessions(&leaver);
    sessions.push(theirs);
    assert!(sessions.iter_mut().all(|s| s.is_alive()), "every session answers before");
    let report = office.run(&leaver).expect(0).json();
    all_shut(&report);
    assert_eq!(lab.ways_in(&leaver), Vec::<String>::new(), "the real clients get in nowhere");
    for session in &mut sessions {
        assert!(!session.is_alive(), "{} goes on", session.name);
    }
    assert!(!lab.vpn(&leaver, &Lab::vpn_profile(&leaver)), "the VPN lets them in");
    assert!(others.is_alive(), "the bystander's tunnel holds");
    assert_eq!(lab.ways_in(&bystander), lab.all_ways(), "the bystander gets in everywhere");
    let kinds = doors(&report);
    for kind in ["password", "ssh-key", "session", "membership", "login", "certificate"] {
        assert!(kinds.iter().any(|(k, _)| k == kind), "no {kind} door was found: {kinds:?}");
    }
    let mut too_late = BTreeSet::new();
    for door in report["doors"].as_array().unwrap() {
        let late = door["before_reply"].as_str().is_some_and(|why| why.contains("containment does not wait"));
        if late {
            too_late.insert((door["system"].to_string(), door["kind"].to_string()));
        }
        // A session door stands for all sessions of an account; there was one only where the leaver is online. And a replica may have heard
        // of the lock before it was looked at.
        let may_be_shut = door["kind"] == "session" || door["system"] == "directory";
        assert!(door["before"] == "open" || may_be_shut || late, "{door:#}");
        assert!(door["reply"].as_str().is_some_and(|r| !r.is_empty()), "the server's own words: {door:#}");
    }
    for clock in ["requested", "started", "contained", "sessions_ended", "proved"] {
        assert!(report["clocks"][clock].is_string(), "{clock}: {:#}", report["clocks"]);
    }
    too_late
}

#[test]
fn a_second_run_changes_nothing_and_says_shut() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    all_shut(&office.run(&leaver).expect(0).json());
    let again = office.run(&leaver).expect(0).json();
    all_shut(&again);
    for step in again["steps"].as_array().unwrap() {
        // A new run proves with a witness of its own; everything else was done.
        let witness = step["action"] == "disable" && step["system"] != "fleet";
        assert!(witness || step["outcome"] != "done", "{step:#}");
    }
}

#[test]
fn plan_and_accounts_touch_nothing() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let plan = office.offboard(&["--json", "plan", &leaver.id, "-p", "involuntary-termination"]).expect(0).json();
    let again = office.offboard(&["--json", "plan", &leaver.user, "-p", "involuntary-termination"]).expect(0).json();
    let steps = |plan: &serde_json::Value| -> Vec<String> {
        let mut ids: Vec<String> = plan["places"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|p| p["steps"].as_array().unwrap())
            // Sessions of others in deploy come and go with the other tests; one that sshd's log does not yet tell may be the leaver's.
            .filter(|s| s["step"]["action"] != "end-sessions" || s["step"]["object"] == "")
            .map(|s| {
                format!(
                    "{} {} {} {}",
                    s["step"]["place"], s["step"]["action"], s["step"]["account"], s["step"]["object"]
                )
            })
            .collect();
        ids.sort();
        ids
    };
    assert!(!steps(&plan).is_empty());
    assert_eq!(steps(&plan), steps(&again), "the plan is repeatable");
    office.offboard(&["accounts", &leaver.mail]).expect(0);
    for system in ["directory", "billing", "fleet"] {
        office.offboard(&["accounts", "--system", system]).expect(0);
    }
    assert_eq!(lab.ways_in(&leaver), lab.all_ways());
}

#[test]
fn verify_finds_a_door_that_a_kind_colleague_opened_again() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let report = office.run(&leaver).expect(0).json();
    let run = report["run"].as_str().unwrap();
    office.offboard(&["verify", run]).expect(0);
    lab.sql(&format!("ALTER ROLE \"{}\" LOGIN", leaver.user));
    let seen = office.offboard(&["--json", "verify", run]).expect(11).json();
    assert_eq!(seen["verdict"], "open");
    // And resume shuts it again.
    all_shut(&office.offboard(&["--json", "resume", run]).expect(0).json());
}

#[test]
fn restore_gives_access_back_with_one_time_passwords_only() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let report = office.run(&leaver).expect(0).json();
    let run = report["run"].as_str().unwrap();
    let done = office.offboard(&["restore", run, "--yes", "--passwords-to", "one-time"]).expect(0);
    let passwords = std::fs::read_to_string(office.path("one-time")).unwrap();
    assert!(!passwords.contains(&leaver.password), "the old password came back");
    let one_time =
        passwords.lines().find(|l| l.starts_with("billing/")).unwrap().rsplit('\t').next().unwrap().to_string();
    assert!(!done.out.contains(&one_time) && !done.err.contains(&one_time), "a one-time password was shown");
    assert!(lab.psql(&leaver.user, &one_time, "SELECT 1").is_ok(), "the one-time password works");
    assert!(lab.psql(&leaver.user, &leaver.password, "SELECT 1").is_err(), "the old password is dead");
}

#[test]
fn reports_come_from_the_journal_and_leak_nothing() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let done = office.run(&leaver).expect(0);
    let run = done.json()["run"].as_str().unwrap().to_string();
    let html = office.offboard(&["report", &run, "--format", "html"]).expect(0).out;
    assert!(html.to_ascii_lowercase().starts_with("<!doctype html>") && html.contains(&run));
    assert!(!html.contains("http://") || html.contains("http://www.w3.org"), "the report needs no network");
    office.offboard(&["status", &run]).expect(0);
    office.offboard(&["list"]).expect(0);
    office.offboard(&["journal", "verify"]).expect(0);
    let mut everything = done.out + &done.err + &html;
    for file in ["journal/journal.sqlite", "journal/journal.sqlite-wal"] {
        everything += &String::from_utf8_lossy(&std::fs::read(office.path(file)).unwrap_or_default());
    }
    for secret in [vec![leaver.password.clone()], lab.operator_secrets()].concat() {
        assert!(!everything.contains(&secret), "a secret is in the output, the report or the journal");
    }
    for mark in ["SCRAM-SHA-256$4096", "PRIVATE KEY", "{SSHA"] {
        assert!(!everything.contains(mark), "{mark}");
    }
}

#[test]
fn after_the_last_look_the_witness_passwords_are_gone() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let report = office.run(&leaver).expect(0).json();
    let run = report["run"].as_str().unwrap();
    office.offboard(&["verify", run, "--last"]).expect(0);
    let done = office.offboard(&["verify", run]).expect(2);
    assert!(done.err.contains("destroyed"), "{}", done.err);
    office.offboard(&["status", run]).expect(0);
    office.offboard(&["journal", "verify"]).expect(0);
    // Giving access back needs no witness.
    office.offboard(&["restore", run, "--yes", "--passwords-to", "one-time"]).expect(0);
}
