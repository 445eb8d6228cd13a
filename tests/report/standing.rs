//! How a run stands after a decision, or a change, that no step made: places that were added, waivers, access given back.

use super::*;

fn unreachable() -> Fault {
    Fault::new(FaultKind::Unreachable, "ssh fleet: cannot connect to late.sunrise.test:22")
        .because("connection refused")
}

#[test]
fn a_place_that_was_added_later_counts() {
    let mut story = all_shut();
    let late = place("fleet", "late.sunrise.test");
    let started = Event::Started { by: actor() };
    story.then(1, started).then(1, Event::PlacesAdded { places: vec![late.clone()] });
    story.unreached(&late, unreachable()).ended();
    let report = story.report();
    assert_eq!(report.verdict, RunVerdict::Unproven);
    assert_eq!(report.unreached.iter().map(|u| &u.place_id).collect::<Vec<_>>(), [&late.id]);
    assert!(report.clocks.systems.iter().any(|s| s.system.0 == "fleet" && s.unreached == 1), "{:?}", report.clocks);
    // Added once more it is the same place; reached, it is like the others.
    story.then(1, Event::Started { by: actor() }).then(1, Event::PlacesAdded { places: vec![late.clone()] });
    story.reached(&late).ended();
    let report = story.report();
    assert_eq!((report.verdict, report.counts.places), (RunVerdict::Shut, 8));
}

#[test]
fn a_waived_step_is_not_stuck_and_not_shut() {
    let mut story = stuck();
    assert_eq!(story.report().verdict, RunVerdict::Stuck);
    let step = story.folded().0.steps.iter().find(|s| !s.is_done()).expect("the stuck one").step.clone();
    story.then(1, Event::Waived { target: step.id.0, why: "The server goes on Friday.".into(), by: actor() });
    let report = story.report();
    assert_eq!((report.verdict, report.settled), (RunVerdict::Unproven, true));
    assert!(report.summary.contains("1 was waived in writing"), "{}", report.summary);
}

#[test]
fn a_waiver_hides_no_open_door_and_nothing_else_that_is_left() {
    let mut story = open();
    story.then(1, Event::Waived { target: place("billing", PG).id.0, why: "So what.".into(), by: actor() });
    let report = story.report();
    assert_eq!((report.verdict, report.settled), (RunVerdict::Open, false));
    let mut story = unproven();
    let bastion = place("fleet", "bastion.sunrise.test");
    story.unreached(&bastion, unreachable());
    story.then(1, Event::Waived { target: place("fleet", DB1).id.0, why: "Scrapped.".into(), by: actor() });
    assert!(!story.report().settled, "bastion is still queued");
}

/// Who may log in again may have a session again.
#[test]
fn access_given_back_takes_the_proof_from_every_door_of_the_account() {
    for begun_only in [false, true] {
        let mut story = all_shut();
        let (state, _) = story.folded();
        let of = |kind: DoorKind| state.doors.values().find(|d| d.door.kind == kind).map(|d| d.door.clone());
        let session = of(DoorKind::Session).expect("a session door");
        let step = state.steps.iter().find(|s| {
            s.step.action == Action::Disable && s.step.place == session.place && s.step.account == session.account
        });
        let step = step.expect("the account was disabled").step.clone();
        assert!(!step.shuts.contains(&session.id));
        story.then(1, Event::Restoring { step: step.id.clone(), by: actor() });
        if !begun_only {
            story.then(1, Event::Restored { step: step.id, note: "Unlocked.".into(), by: actor() });
        }
        let report = story.report();
        for door in &report.doors {
            let given_back = door.account == session.account && door.system == step.system;
            assert_eq!(door.after.to_string(), if given_back { "unproven" } else { "shut" }, "{}", door.id);
        }
        assert_eq!(report.verdict, RunVerdict::Unproven);
    }
}

#[test]
fn a_journal_that_does_not_verify_is_said_first() {
    let mut report = all_shut().report();
    report.journal.problems = 2;
    let first = report.needs().remove(0);
    assert_eq!((first.word, first.tone), ("journal", Tone::Open));
    assert!(html(&report).contains("The journal does not verify: 2 problems"));
}
