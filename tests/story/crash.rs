//! kill -9 at every failpoint and at random moments; then `resume` ends the run shut.

use crate::lab::Lab;
use crate::office::{Office, all_shut};
use rand::RngExt;
use std::time::Duration;

/// Where the engine and the journal can be made to die.
const FAILPOINTS: [&str; 4] =
    ["engine::before-apply", "engine::after-apply", "journal::before-commit", "journal::after-commit"];

fn resume(office: &Office) {
    let list = office.offboard(&["--json", "list"]).expect(0).json();
    let Some(run) = list["runs"][0]["run"].as_str().map(str::to_string) else {
        return; // It died before the run was on record: nothing had been touched.
    };
    all_shut(&office.offboard(&["--json", "resume", &run]).expect(0).json());
    office.offboard(&["journal", "verify"]).expect(0);
}

/// Dies at the first, second, … passing of each failpoint until a run survives; each is resumed to its end.
#[test]
fn a_walk_over_every_failpoint_ends_shut() {
    let lab = Lab::shared();
    for failpoint in FAILPOINTS {
        let mut survived = false;
        // Every passing near the beginning, then ever sparser: all kinds of moments in bounded time.
        for nth in [1, 2, 3, 4, 6, 9, 14, 22, 36, 80, 1000] {
            let leaver = lab.person();
            let office = Office::new(&lab);
            let status = office
                .command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes"])
                .env("OFFBOARD_DIE_AT", format!("{failpoint}:{nth}"))
                .output()
                .unwrap()
                .status;
            survived = status.code().is_some();
            if survived {
                assert_eq!(status.code(), Some(0), "{failpoint}:{nth}");
            } else {
                resume(&office);
                // Nothing at all may be on record: then nothing may have been done either.
                let list = office.offboard(&["--json", "list"]).expect(0).json();
                let recorded = !list["runs"].as_array().unwrap().is_empty();
                let expected = if recorded { Vec::new() } else { lab.all_ways() };
                assert_eq!(lab.ways_in(&leaver), expected, "{failpoint}:{nth}");
            }
            if survived {
                break;
            }
        }
        assert!(survived, "{failpoint}: the walk never came to its end");
    }
}

#[test]
fn random_kills_end_shut() {
    let lab = Lab::shared();
    for _ in 0..6 {
        let leaver = lab.person();
        let office = Office::new(&lab);
        let mut child = office.command(&["run", &leaver.id, "-p", "involuntary-termination", "--yes"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(20..1500)));
        child.kill().unwrap();
        child.wait().unwrap();
        resume(&office);
        let list = office.offboard(&["--json", "list"]).expect(0).json();
        if !list["runs"].as_array().unwrap().is_empty() {
            assert_eq!(lab.ways_in(&leaver), Vec::<String>::new());
        }
    }
}
