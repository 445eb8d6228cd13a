//! Runs that wait for their hour.

use crate::lab::Lab;
use crate::office::all_shut;
use crate::server::{Server, has_ended, in_seconds, office, runs, schedule, starts, status};

#[test]
fn a_scheduled_run_is_looked_at_begins_in_its_hour_and_shuts_every_door() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = office(&lab);
    let mut server = Server::start(&office);
    let at = in_seconds(12);
    let run = schedule(&office, &leaver.id, &at);
    assert_eq!(runs(&office)[0]["scheduled"], at.as_str());
    // Every way in is open while it waits, and known to be so.
    server.wait_for("it is looked at beforehand", |s| s.log().contains("looked at before its hour"));
    let waiting = status(&office, &run);
    assert_eq!((&waiting["scheduled"], &waiting["verdict"]), (&at.as_str().into(), &"unproven".into()));
    assert_eq!(waiting["steps"].as_array().unwrap().len(), 0, "nothing is planned");
    assert!(waiting["doors"].as_array().unwrap().iter().any(|d| d["before"] == "open"), "{waiting:#}");
    assert_eq!(lab.ways_in(&leaver), lab.all_ways());
    server.wait_for("it ends", |_| has_ended(&office, &run));
    let report = status(&office, &run);
    all_shut(&report);
    assert_eq!(lab.ways_in(&leaver), Vec::<String>::new());
    let starts = starts(&office, &run);
    assert_eq!(starts.len(), 1, "begun once");
    assert!(starts[0] >= at.parse().unwrap(), "not early");
    assert_eq!(report["clocks"]["counted_from"], "scheduled");
    assert!(office.path(&format!("journal/reports/{run}.html")).exists());
    assert_eq!(server.page("/healthz").0, 200);
    assert_eq!(server.page("/readyz"), (200, serde_json::json!({ "ready": true, "wrong": [] })));
    let log = server.log();
    for secret in [vec![leaver.password.clone()], lab.operator_secrets()].concat() {
        assert!(!log.contains(&secret), "a secret is in the log");
    }
    let steps = server.lines().iter().filter(|l| l["message"] == "step done" && l["run"] == run.as_str()).count();
    assert!(steps > 5, "steps are logged with their run");
    assert!(server.stop().success());
    office.offboard(&["journal", "verify"]).expect(0);
}

#[test]
fn a_run_is_cancelled_or_moved_before_it_begins_and_not_after() {
    let lab = Lab::shared();
    let (stays, goes) = (lab.person(), lab.person());
    let office = office(&lab);
    let hour = in_seconds(25);
    let cancelled = schedule(&office, &stays.id, &hour);
    let moved = schedule(&office, &goes.id, "2030-12-31 18:00 Asia/Kolkata");
    // A second one for the same person is refused, with what to do.
    let second = office.offboard(&["run", &goes.id, "-p", "involuntary-termination", "--yes"]).expect(13);
    assert!(second.err.contains(&format!("offboard reschedule {moved} --at now")), "{}", second.err);
    let mut server = Server::start(&office);
    office.offboard(&["cancel", &cancelled, "--why", " "]).expect(2);
    office.offboard(&["cancel", &cancelled, "--why", "a mistake in the form"]).expect(0);
    office.offboard(&["cancel", &cancelled, "--why", "again"]).expect(13);
    office.offboard(&["reschedule", &cancelled, "--at", "now"]).expect(13);
    office.offboard(&["resume", &cancelled]).expect(13);
    office.offboard(&["resume", &moved]).expect(13);
    office.offboard(&["reschedule", &moved, "--at", "now"]).expect(0);
    server.wait_for("the moved one ends", |_| has_ended(&office, &moved));
    all_shut(&status(&office, &moved));
    let late = office.offboard(&["cancel", &moved, "--why", "too late"]).expect(13);
    assert!(late.err.contains("has begun"), "{}", late.err);
    let hour: jiff::Timestamp = hour.parse().unwrap();
    server.wait_for("the hour of the cancelled one has come and gone", |_| {
        jiff::Timestamp::now().duration_since(hour).as_secs() > 2
    });
    let text = office.offboard(&["status", &cancelled]).out;
    assert!(
        text.contains("Cancelled") && text.contains("a mistake in the form") && text.contains("Nothing was done"),
        "{text}"
    );
    assert_eq!(starts(&office, &cancelled).len(), 0);
    assert_eq!(lab.ways_in(&stays), lab.all_ways());
    drop(server);
    office.offboard(&["journal", "verify"]).expect(0);
}

#[test]
fn what_was_missed_while_nothing_served_is_caught_up_once() {
    let lab = Lab::shared();
    let (leaver, other) = (lab.person(), lab.person());
    let office = office(&lab);
    let run = schedule(&office, &leaver.id, &in_seconds(3));
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(starts(&office, &run).len(), 0, "nothing serves");
    for _ in 0..2 {
        let mut server = Server::start(&office);
        server.wait_for("it ends", |_| has_ended(&office, &run));
        assert!(server.stop().success());
        assert_eq!(starts(&office, &run).len(), 1);
    }
    all_shut(&status(&office, &run));
    // A store that is lost is made again from the journal.
    let second = schedule(&office, &other.id, &in_seconds(4));
    for file in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        let _ = std::fs::remove_file(office.path(&format!("journal/{file}")));
    }
    let mut server = Server::start(&office);
    server.wait_for("it ends", |_| has_ended(&office, &second));
    all_shut(&status(&office, &second));
    assert_eq!((starts(&office, &run).len(), starts(&office, &second).len()), (1, 1));
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_run_finishes_it_at_its_next_start() {
    let lab = Lab::shared();
    let points = ["engine::before-apply:1", "engine::after-apply:2", "journal::after-commit:9", "desk::walked:1"];
    for point in points.into_iter().chain(["desk::requested:1"]) {
        let leaver = lab.person();
        let office = office(&lab);
        let run = if point.starts_with("desk::requested") {
            // The command's own process dies between the request and the rest.
            let args = ["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes"];
            let died = office.command(&args).env("OFFBOARD_DIE_AT", point).output().unwrap();
            assert_eq!(died.status.code(), None);
            runs(&office)[0]["run"].as_str().unwrap().to_string()
        } else {
            let run = schedule(&office, &leaver.id, &in_seconds(4));
            Server::start_with(&office, &[("OFFBOARD_DIE_AT", point)]).wait_for_death();
            run
        };
        let mut server = Server::start(&office);
        server.wait_for("it ends", |_| has_ended(&office, &run));
        server.wait_for("its report", |_| office.path(&format!("journal/reports/{run}.html")).exists());
        all_shut(&status(&office, &run));
        assert_eq!(lab.ways_in(&leaver), Vec::<String>::new(), "{point}");
        assert!(server.stop().success());
        office.offboard(&["journal", "verify"]).expect(0);
    }
}

#[test]
fn a_run_for_later_that_is_cut_off_as_it_is_asked_for_still_waits() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = office(&lab);
    let args = ["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes", "--at", "2030-12-31 18:00"];
    let died = office.command(&args).env("OFFBOARD_DIE_AT", "desk::requested:1").output().unwrap();
    assert_eq!(died.status.code(), None);
    let run = runs(&office)[0]["run"].as_str().unwrap().to_string();
    assert_eq!(runs(&office)[0]["scheduled"], "2030-12-31T12:30:00Z");
    let mut server = Server::start(&office);
    server.wait_for("it serves", |s| s.page("/readyz").0 == 200);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(starts(&office, &run).len(), 0, "its hour has not come");
    assert_eq!(lab.ways_in(&leaver), lab.all_ways());
}

#[test]
fn a_stop_in_the_middle_of_a_run_is_graceful_and_the_run_goes_on_later() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let office = office(&lab);
    crate::server::serve_with(&office, "leavers: false, stop-within: 2s");
    // A host that hangs keeps the run going until its deadline.
    let outage = lab.pause("backup");
    let run = schedule(&office, &leaver.id, &in_seconds(4));
    let mut server = Server::start(&office);
    server.wait_for("steps are done", |s| s.log().contains("step done"));
    assert!(server.stop().success(), "it ends with 0");
    assert!(!has_ended(&office, &run), "it was cut off");
    drop(outage);
    let mut server = Server::start(&office);
    server.wait_for("it ends", |_| has_ended(&office, &run));
    all_shut(&status(&office, &run));
    assert_eq!(starts(&office, &run).len(), 2);
    assert_eq!(lab.ways_in(&leaver), Vec::<String>::new());
}

#[test]
fn hours_that_cannot_be_meant_are_refused() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = office(&lab);
    for (at, says) in [
        ("2020-01-01 10:00", "is over"),
        ("2030-03-10 02:30 America/New_York", "skip that hour"),
        ("2030-11-03 01:30 America/New_York", "repeat that hour"),
        ("2030-12-31 18:00 Asia/Kolkatta", "did you mean Asia/Kolkata?"),
        ("soon", "is no hour"),
    ] {
        let done =
            office.offboard(&["run", &leaver.id, "-p", "involuntary-termination", "--yes", "--at", at]).expect(2);
        assert!(done.err.contains(says), "{at}: {}", done.err);
    }
    assert!(runs(&office).is_empty());
    // Without a zone it is the person's own: the lab's people live in Kolkata.
    let run = schedule(&office, &leaver.id, "2030-12-31 18:00");
    assert_eq!(runs(&office)[0]["scheduled"], "2030-12-31T12:30:00Z");
    let shown = office.offboard(&["status", &run]).out;
    assert!(shown.contains("Scheduled"), "{shown}");
}
