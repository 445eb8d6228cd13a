//! What people do by hand: asked beside everything else, closed by a person, and never what containment waits for.

use crate::lab::Lab;
use crate::office::{Done, Office, all_shut, doors};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn asked(report: &Value) -> Vec<Value> {
    report["steps"].as_array().unwrap().iter().filter(|s| s["action"] == "ask").cloned().collect()
}

#[test]
fn a_run_is_unproven_until_the_laptop_is_back() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::with_work_by_hand(&lab);
    let plan = office.offboard(&["plan", &leaver.id, "-p", "involuntary-termination"]).expect(0);
    assert!(plan.out.contains("Collect laptop and badge") && plan.out.contains("it@example.com"), "{}", plan.out);

    let report = office.run(&leaver).expect(10).json();
    let run = report["run"].as_str().unwrap();
    assert_eq!(lab.ways_in(&leaver), Vec::<String>::new(), "every door is shut all the same");
    assert!(doors(&report).iter().all(|(_, after)| after == "shut"));
    for clock in ["contained", "sessions_ended", "proved"] {
        assert!(report["clocks"][clock].is_string(), "{clock} waits for no laptop: {:#}", report["clocks"]);
    }
    let steps = asked(&report);
    assert_eq!(steps.len(), 1);
    let step = steps[0]["id"].as_str().unwrap();
    let status = office.offboard(&["status", run]).expect(10).out;
    assert!(status.contains(&format!("offboard done {run} {step}")), "{status}");
    assert!(office.offboard(&["list"]).expect(0).out.contains("1 to do"));

    // A look again and a resume ask nobody a second time, and close nothing.
    office.offboard(&["verify", run]).expect(10);
    assert_eq!(asked(&office.offboard(&["--json", "resume", run]).expect(10).json()).len(), 1);

    // What does not close it.
    office.offboard(&["done", run, step]).expect(2);
    office.offboard(&["done", run, step, "--note", "  "]).expect(2);
    office.offboard(&["done", run, step, "--evidence", "no-such-file"]).expect(2);
    office.offboard(&["done", run, "00000000", "--note", "x"]).expect(2);
    let disable = report["steps"].as_array().unwrap().iter().find(|s| s["action"] == "disable").unwrap();
    office.offboard(&["done", run, disable["id"].as_str().unwrap(), "--note", "x"]).expect(2);

    std::fs::write(office.path("receipt.txt"), "laptop SN 4711, badge 42: received").unwrap();
    let done = office.offboard(&["--json", "done", run, step, "--evidence", "receipt.txt", "--note", "at the desk"]);
    let done = done.expect(0).json();
    assert_eq!(done["verdict"], "shut");
    let kept = office.path("journal/evidence").join(done["evidence"]["kept_as"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "laptop SN 4711, badge 42: received");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // Closed once is closed.
    let again = office.offboard(&["done", run, step, "--note", "again"]).expect(2);
    assert!(again.err.contains("was closed before"), "{}", again.err);

    let report = office.offboard(&["--json", "status", run]).expect(0).json();
    all_shut(&report);
    assert_eq!(asked(&report)[0]["by_hand"]["closed"]["evidence"]["sha256"], done["evidence"]["sha256"]);
    let html = office.offboard(&["report", run]).expect(0).out;
    assert!(html.contains("receipt.txt") && html.contains("Work by hand"));
    office.offboard(&["journal", "verify"]).expect(0);
}

#[test]
fn it_can_be_given_up_in_writing_but_not_by_the_leaver() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::with_work_by_hand(&lab);
    let report = office.run(&leaver).expect(10).json();
    let (run, step) = (report["run"].as_str().unwrap(), asked(&report)[0]["id"].as_str().unwrap().to_string());
    // Whoever has become root by sudo is who they were before.
    let refused: Done = office
        .command(&["done", run, &step, "--note", "I kept it"])
        .env("SUDO_USER", &leaver.user)
        .output()
        .unwrap()
        .into();
    assert!(refused.expect(13).err.contains("separation of duties"));
    office.offboard(&["waive", run, &step, "--why", "the laptop was stolen"]).expect(10);
    let late = office.offboard(&["done", run, &step, "--note", "found it"]).expect(2);
    assert!(late.err.contains("was given up before"), "{}", late.err);
}

#[test]
fn nobody_to_ask_is_said_and_the_leaver_is_never_asked() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::with_work_by_hand(&lab);
    office.edit("playbooks/involuntary-termination.yaml", |book| {
        let own = format!("{{ do: ask, of: {}, what: \"Hand your laptop in\", within: 1s }}", leaver.mail);
        book.replace(
            "of: it@example.com, what: \"Collect laptop and badge\", within: 2d }",
            &format!("of: manager, what: \"Collect it\", within: 2d }}\n      - {own}"),
        )
    });
    // A manager without a mail address.
    office.edit("roster.csv", |roster| {
        let lines = roster.lines().map(|line| match line.starts_with("E1021,") {
            true => {
                let mut cells: Vec<&str> = line.split(',').collect();
                cells[2] = "";
                cells.join(",") + "\n"
            }
            false => format!("{line}\n"),
        });
        lines.collect()
    });
    let report = office.run(&leaver).expect(10).json();
    let owners: Vec<_> = asked(&report).iter().map(|s| s["account"].as_str().unwrap().to_string()).collect();
    assert_eq!(owners, ["manager".to_string(), leaver.mail.clone()]);
    let findings = report["findings"].to_string();
    assert!(findings.matches("nobody can be asked by mail").count() == 2, "{findings}");
    // Due a second after the start: overdue by now, and said so.
    assert_eq!(report["counts"]["overdue"], 1, "{:#}", report["counts"]);
}
