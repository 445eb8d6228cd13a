//! Sweeps that a schedule makes, and those that are handed over.

use crate::lab::Lab;
use crate::server::{Server, office};

fn sweeps(office: &crate::office::Office) -> Vec<serde_json::Value> {
    office.offboard(&["--json", "list"]).expect(0).json()["sweeps"].as_array().unwrap().clone()
}

#[test]
fn a_sweep_is_made_by_its_schedule_and_by_order() {
    let lab = Lab::shared();
    let office = office(&lab);
    office.edit("playbooks/quarterly-stale-sweep.yaml", |text| {
        let lines = text.lines().map(|line| match line.starts_with("trigger:") {
            true => "trigger: { schedule: \"* * * * *\", zone: Asia/Kolkata }\n".to_string(),
            false => format!("{line}\n"),
        });
        lines.collect()
    });
    let mut server = Server::start(&office);
    server.wait_for("the next minute's sweep is made", |_| sweeps(&office).iter().any(|s| s["ended"] == true));
    let by_hand = office.offboard(&["--json", "sweep"]);
    assert!([Some(0), Some(10), Some(20)].contains(&by_hand.code), "{:?} {}", by_hand.code, by_hand.err);
    assert!(by_hand.json()["run"].is_string());
    assert!(sweeps(&office).len() >= 2);
    // A scheduled one is made once an hour of its own.
    let minutes: Vec<String> = sweeps(&office)
        .iter()
        .filter(|s| s["run"] != by_hand.json()["run"])
        .map(|s| s["requested_at"].as_str().unwrap()[..16].to_string())
        .collect();
    let mut once = minutes.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), minutes.len(), "{minutes:?}");
    assert!(server.stop().success());
    office.offboard(&["journal", "verify"]).expect(0);
}
