//! The old value's sessions go on for a while: nobody else waits for that.

use crate::alone::{killed_at, rotate, say};
use crate::lab::{Lab, LabService};
use crate::office::all_shut;
use crate::{is_rotated, office, only_run};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;

/// The source's turn.
fn turn(report: &Value, service: &LabService, phase: &str) -> Value {
    let object = format!("{}: {phase}", service.name);
    report["steps"].as_array().unwrap().iter().find(|s| s["object"] == object.as_str()).unwrap().clone()
}

fn at(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn an_overlap_holds_the_finish_back_also_after_a_crash() {
    let lab = Lab::shared();
    let knows = lab.active_person();
    for killed in [false, true] {
        let service = lab.service("web2");
        let office = office(&lab, &knows, &[&service]);
        say(&office, &service, "overlap: 4s");
        let report = if killed {
            assert!(killed_at(&office, &service, "rotate::overlap:1"));
            assert!(lab.answers(&service));
            let second = rotate(&office, &service).expect(13);
            assert!(second.err.contains("is half rotated by run"), "{}", second.err);
            office.offboard(&["--json", "resume", &only_run(&office)]).expect(0).json()
        } else {
            rotate(&office, &service).expect(0).json()
        };
        all_shut(&report);
        is_rotated(&lab, &service, "after the overlap");
        let step = |phase| turn(&report, &service, phase);
        let waited = at(&step("finish")["started_at"]).duration_since(at(&step("set")["done_at"]));
        assert!(waited >= jiff::SignedDuration::from_secs(4), "{waited}");
    }
}

/// A host that comes back, and a secret that fails at first, are not kept waiting by another secret's overlap.
#[test]
fn an_overlap_holds_nothing_else_up() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let (slow, flaky) = (lab.service("web2"), lab.service("web1"));
    let office = office(&lab, &leaver, &[&slow, &flaky]);
    say(&office, &slow, "overlap: 25s");
    let down = lab.stop("backup");
    // A health check that is well only once the host is there again.
    let well = "/run/well-again";
    office.edit("offboard.yaml", |text| {
        let check = format!("http://127.0.0.1:{}/health\"]", flaky.port);
        text.replace(&format!("[curl, -fsS, -m, \"5\", \"{check}"), &format!("[cat, {well}]"))
    });
    let mut run = office.command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes"]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while lab.password_in_file(&slow) == slow.password {
        assert!(begun.elapsed() < Duration::from_secs(60), "the rotation does not begin");
        std::thread::sleep(Duration::from_millis(200));
    }
    lab.on("web1", &["touch", well]);
    drop(down);
    let report = crate::office::Done::from(run.wait_with_output().unwrap()).expect(0).json();
    all_shut(&report);
    is_rotated(&lab, &slow, "after the run");
    is_rotated(&lab, &flaky, "after the run");
    let finish = at(&turn(&report, &slow, "finish")["started_at"]);
    let waited = finish.duration_since(at(&turn(&report, &slow, "set")["done_at"]));
    assert!(waited >= SignedDuration::from_secs(25), "{waited}");
    let contained: Vec<&Value> =
        report["steps"].as_array().unwrap().iter().filter(|s| s["place"] == "backup.sunrise.test").collect();
    assert!(!contained.is_empty(), "{:#}", report["steps"]);
    for step in contained.into_iter().chain([&turn(&report, &flaky, "finish")]) {
        assert!(at(&step["done_at"]) < finish, "it waited for the overlap: {step:#}");
    }
}
