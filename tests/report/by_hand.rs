//! Manual steps: what is asked, of whom, by when; and that nothing is called done before somebody says so.

use super::*;
use jiff::tz::TimeZone;
use offboard::cli::render::{self, Style};

const LAPTOP: &str = "Collect laptop and badge";

fn laptop(story: &Story) -> Step {
    let due = story.at + SignedDuration::from_hours(48);
    Step::by_hand("by-hand", "it@example.com", "it@example.com", LAPTOP, due)
}

/// Every door is shut; the laptop is out.
fn asked() -> Story {
    let mut story = sunrise(&[]);
    let step = laptop(&story);
    story.planned("by-hand", &step).then(1, Event::StepStarted { step: step.id, attempt: 1 }).ended();
    story
}

/// IT closes it an hour later.
fn closed(note: &str, name: &str) -> Story {
    let mut story = asked();
    let step = story.folded().0.steps.into_iter().find(|s| s.step.is_by_hand()).expect("it was asked").step.id;
    let evidence = Evidence {
        name: name.into(),
        size: 48_211,
        sha256: Digest::of(b"receipt"),
        kept_as: "7F3K-0badcafe-0123456789abcdef.pdf".into(),
    };
    let by = Actor { name: "priya.it".into(), asserted_by: "operating system".into() };
    story.then(3_600_000, Event::Closed { step, note: Some(note.into()), evidence: Some(evidence), by }).ended();
    story
}

fn style() -> Style {
    Style { color: false, zone: TimeZone::get("Asia/Kolkata").expect("a zone") }
}

#[test]
fn a_laptop_keeps_the_run_unproven_and_no_clock_waits_for_it() {
    let report = asked().report();
    assert_eq!((report.verdict, report.access), (RunVerdict::Unproven, RunVerdict::Shut));
    assert_eq!(report.headline(), (Tone::Unproven, "Shut, except work by hand"));
    assert_eq!(
        report.summary,
        "All 16 ways in are shut: 9 refused by the server, 7 read back. 1 manual step is to be closed: the run is unproven \
         until somebody says that it was done."
    );
    let (with, without) = (asked().folded().0.clocks(), all_shut().folded().0.clocks());
    assert_eq!(
        (with.contained, with.sessions_ended, with.proved, with.last_possible_access),
        (without.contained, without.sessions_ended, without.proved, without.last_possible_access)
    );
    assert!(with.contained.is_some() && with.proved.is_some());
    assert_eq!((report.counts.asked, report.counts.overdue), (1, 0));
    assert_eq!(report.counts.steps, all_shut().report().counts.steps, "it is no step of a system");
    let page = html(&report);
    keep("report-asked.html", &page);
    assert!(page.contains("Work by hand") && page.contains(LAPTOP) && page.contains("it@example.com"));
    insta::assert_snapshot!("asked", render::status(&report, &style()));
}

#[test]
fn what_nobody_did_in_time_is_overdue() {
    let mut story = asked();
    story.made_after = SignedDuration::from_hours(49);
    let report = story.report();
    assert_eq!(report.counts.overdue, 1);
    assert!(report.summary.contains("1 manual step is to be closed and is overdue"), "{}", report.summary);
    assert_eq!(report.needs().iter().filter(|n| n.word == "overdue").count(), 1);
    assert!(html(&report).contains("overdue"));
    let (state, _) = story.folded();
    let list = |at| render::list(&[(RunId("7F3K".into()), state.clone())], at, &style());
    assert!(list(story.at).contains("1 to do"));
    assert!(list(story.at + SignedDuration::from_hours(49)).contains("1 overdue"));
}

#[test]
fn a_closed_one_shows_who_when_and_with_what() {
    let story = closed("handed in at the desk", "receipt.pdf");
    let report = story.report();
    assert_eq!((report.verdict, report.headline()), (RunVerdict::Shut, (Tone::Shut, "Shut")));
    let json = report.json();
    let step = json["steps"].as_array().unwrap().iter().find(|s| s["action"] == "ask").expect("it is in the JSON");
    assert_eq!((step["outcome"].as_str(), step["account"].as_str()), (Some("done"), Some("it@example.com")));
    assert_eq!(step["by_hand"]["closed"]["evidence"]["sha256"], Digest::of(b"receipt").0);
    assert_eq!(step["by_hand"]["closed"]["by"]["name"], "priya.it");
    let page = html(&report);
    keep("report-closed.html", &page);
    assert!(page.contains("done, says <bdi>priya.it</bdi>") && page.contains("48,211 bytes"));
    insta::assert_snapshot!("closed", render::status(&report, &style()));
}

#[test]
fn a_waived_one_is_said_to_be_waived() {
    let mut story = asked();
    let step = story.folded().0.steps.into_iter().find(|s| s.step.is_by_hand()).expect("it was asked").step.id;
    let waived = Event::Waived { target: step.0, why: "the laptop was stolen".into(), by: actor() };
    story.then(1, waived).ended();
    let report = story.report();
    // A waiver proves nothing; but nobody gets in, and nothing is queued any more.
    assert_eq!((report.verdict, report.access, report.settled), (RunVerdict::Unproven, RunVerdict::Shut, true));
    assert!(html(&report).contains("the laptop was stolen"));
    assert!(report.needs().iter().any(|n| n.word == "waived" && n.what.contains(LAPTOP)));
}

#[test]
fn hostile_words_steer_nothing() {
    let report = closed("<script>alert(1)</script>\u{202e}\u{1b}[2J", "a\u{202e}fdp.exe\n<b>").report();
    let page = html(&report);
    assert!(!page.contains("<script>") && !page.contains('\u{202e}') && !page.contains("exe\n<b>"));
    let shown = render::status(&report, &style());
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'));
}
