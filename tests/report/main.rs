//! The report says what the records say: every door, every place, and never more than was proved.

mod by_hand;
mod markup;
mod standing;
mod story;
mod terminal;

use jiff::SignedDuration;
use offboard::model::*;
use offboard::report::{Paper, Report, Tone};
use std::path::Path;
use story::*;

const DB1: &str = "db1.sunrise.test";
const PG: &str = "pg.sunrise.test:5432";

fn html(report: &Report) -> String {
    let html = report.html(Paper::A4).expect("renders");
    markup::check(&html);
    html
}

/// Leaves the page where a person can look at it.
fn keep(name: &str, html: &str) {
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), html).expect("target/tmp can be written");
}

fn all_shut() -> Story {
    let mut story = sunrise(&[]);
    story.ended();
    story
}

/// db1 does not answer.
fn unproven() -> Story {
    let mut story = sunrise(&[DB1]);
    let fault = Fault::new(FaultKind::Unreachable, "ssh fleet: cannot connect to db1.sunrise.test:22")
        .because("no answer within 10 s")
        .hint("Start it or mend the network; then: offboard resume 7F3K");
    story.unreached(&place("fleet", DB1), fault).ended();
    story
}

/// The billing database takes the password again.
fn open() -> Story {
    let mut story = sunrise(&[]);
    let role = account(&place("billing", PG), "daniel", Owner::Nobody);
    let password = door(&role, DoorKind::Password, "", "", MatchRule::OwnAccount);
    story.looked(&password, LookAt::After, opens("the password is taken: connection authorized")).ended();
    story
}

/// offboard may not change the role.
fn stuck() -> Story {
    let mut story = sunrise(&[PG]);
    let billing = place("billing", PG);
    let mut role = account(&billing, "daniel", daniels(MatchRule::UserName));
    let password = door(&role, DoorKind::Password, "", "SCRAM", MatchRule::OwnAccount);
    role.doors.push(password.clone());
    let step = Step::new(Action::Disable, &role, "", vec![password.id.clone()], true);
    let fault = Fault::new(FaultKind::Forbidden, "postgres billing: cannot disable role \"daniel\"")
        .because("permission denied (SQLSTATE 42501)")
        .hint("GRANT daniel TO offboard WITH ADMIN OPTION; then: offboard resume 7F3K");
    story.reached(&billing).found(&role).planned("contain", &step).failed(&step, 6, &fault);
    story.looked(&password, LookAt::After, Look::unproven("the role was not disabled")).ended();
    story
}

#[test]
fn shut_is_said_quietly_and_exactly() {
    let story = all_shut();
    let report = story.report();
    assert_eq!((report.verdict, report.headline()), (RunVerdict::Shut, (Tone::Shut, "Shut")));
    assert_eq!(report.summary, "All 16 ways in are shut: 9 refused by the server, 7 read back.");
    let html = html(&report);
    keep("report-shut.html", &html);
    assert!(html.contains("Nothing is open, unproven, stuck, waived or unreached."));
    assert_eq!(html.matches("<section class=\"verdict shut\"").count(), 1);
    insta::assert_snapshot!("shut", report.json_text());
}

#[test]
fn unproven_names_the_place_that_did_not_answer() {
    let report = unproven().report();
    assert_eq!((report.verdict, report.headline().1), (RunVerdict::Unproven, "Unproven"));
    assert_eq!(
        report.summary,
        "All 14 ways in that were found are shut: 8 refused by the server, 6 read back. \
         1 of 7 places was not reached: db1.sunrise.test. None is known to be open."
    );
    assert_eq!(report.clocks.contained, None, "what was not reached is not contained");
    let html = html(&report);
    keep("report-unproven.html", &html);
    assert!(html.contains("class=\"verdict unproven\""));
    assert!(html.contains("db1.sunrise.test (fleet) was not reached"));
    assert!(html.contains("no answer within 10 s"));
    assert_eq!(report.json()["unreached"][0]["system"], "fleet");
}

#[test]
fn open_comes_first_and_is_called_reopened() {
    let report = open().report();
    assert_eq!((report.verdict, report.headline().1), (RunVerdict::Open, "Open"));
    assert!(report.summary.starts_with("15 of 16 ways in are shut"), "{}", report.summary);
    assert!(report.summary.contains("1 still opens: password of daniel on pg.sunrise.test:5432."));
    assert!(!report.summary.contains("None is known to be open"));
    let line = report.doors.iter().find(|d| d.reopened).expect("one door came back");
    assert_eq!((line.after.to_string().as_str(), line.proof, line.shut_since), ("open", None, None));
    assert_eq!(line.looks, 2);
    let html = html(&report);
    keep("report-open.html", &html);
    let (item, table) = (html.find("still opens: password").expect("told"), html.find("id=\"doors\"").expect("doors"));
    assert!(item < table, "what needs a person comes before the doors");
}

#[test]
fn stuck_says_what_to_grant() {
    let report = stuck().report();
    assert_eq!((report.verdict, report.headline().1), (RunVerdict::Stuck, "Stuck"));
    assert!(report.summary.contains("1 step failed to the last try."), "{}", report.summary);
    let html = html(&report);
    keep("report-stuck.html", &html);
    assert!(html.contains("Tried 6 times, last on"));
    assert!(html.contains("GRANT daniel TO offboard WITH ADMIN OPTION"));
    let json = report.json();
    let step = json["steps"].as_array().expect("steps").iter().find(|s| s["outcome"] == "stuck").expect("one is stuck");
    assert_eq!((step["attempts"].as_u64(), step["by"]["name"].as_str()), (Some(6), Some("tom.weber")));
}

#[test]
fn every_door_and_every_unreached_place_appears() {
    for story in [all_shut(), unproven(), open(), stuck()] {
        let (state, _) = story.folded();
        let report = story.report();
        let html = html(&report);
        let json = report.json();
        assert_eq!(json["doors"].as_array().map(Vec::len), Some(state.doors.len()));
        for id in state.doors.keys() {
            let line = report.doors.iter().find(|d| d.id == *id).expect("every door has its line");
            assert!(html.contains(&markup::escaped(&line.account)) && html.contains(&markup::escaped(&line.place)));
            let all = line.object.is_empty() || line.kind == DoorKind::Session;
            assert!(all || html.contains(&markup::escaped(&line.object)));
        }
        assert_eq!(html.matches("<tr class=\"").count(), state.doors.len(), "one row a door");
        for place in state.places.values().filter(|p| p.unreached.is_some()) {
            assert!(html.contains(&format!("{} ({}) was not reached", place.place.address, place.place.system)));
        }
        let keys =
            ["run", "person", "playbook", "verdict", "requested_by", "approved_by", "clocks", "doors", "unreached"];
        for key in keys.iter().chain(&["steps", "findings", "journal"]) {
            assert!(json.get(key).is_some(), "{key} is missing");
        }
        for key in ["system", "place", "account", "kind", "id", "action", "before", "after", "proof", "reply"] {
            assert!(json["doors"][0].get(key).is_some(), "doors[].{key} is missing");
        }
        assert!(json["doors"][0].get("residual_until").is_some());
        assert!(json["journal"]["head"].is_string() && json["journal"]["records"].is_u64());
    }
}

#[test]
fn a_door_that_nobody_looked_at_is_unproven() {
    let mut story = sunrise(&[]);
    let bastion = place("fleet", "bastion.sunrise.test");
    let mut root = account(&bastion, "root", Owner::Shared);
    let key = door(&root, DoorKind::SshKey, KEY, "/root/.ssh/authorized_keys2:3", MatchRule::DeclaredKey);
    root.doors.push(key);
    story.found(&root).ended();
    let report = story.report();
    assert_eq!(report.verdict, RunVerdict::Unproven);
    let line = report.doors.iter().find(|d| d.account == "root").expect("the key in root");
    assert_eq!((line.before.to_string(), line.after.to_string()), ("unproven".into(), "unproven".into()));
    assert_eq!((line.action, line.reply.as_str()), (None, "no look came back after the steps"));
    assert!(html(&report).contains("We cannot say whether 1 way in on bastion.sunrise.test can still be used"));
}

#[test]
fn what_was_waived_never_looks_shut() {
    let mut story = unproven();
    let target = place("fleet", DB1).id.0;
    story.then(60_000, Event::Waived { target, why: "Scrapped on Friday.".into(), by: actor() });
    let report = story.report();
    assert_eq!(report.verdict, RunVerdict::Unproven, "a waiver is a decision, not a proof");
    assert!(report.settled, "but nothing is queued any more");
    assert_eq!(report.headline(), (Tone::Unproven, "Shut, except what was waived"));
    let html = html(&report);
    assert!(html.contains("class=\"verdict unproven\"") && html.contains("Scrapped on Friday."));
    assert_eq!(report.clocks.contained, None);
}

#[test]
fn access_given_back_is_said() {
    let mut story = all_shut();
    let step = story.folded().0.steps[0].step.id.clone();
    story.then(60_000, Event::Restored { step, note: "Unlocked, one-time password.".into(), by: actor() });
    let report = story.report();
    assert_eq!(report.headline(), (Tone::Unproven, "Given back in part"));
    assert!(report.summary.contains("1 step was taken back"), "{}", report.summary);
    assert!(html(&report).contains("Unlocked, one-time password."));
}

#[test]
fn what_outlives_a_door_is_said_with_its_end() {
    let mut story = all_shut();
    let (state, _) = story.folded();
    let password = state.doors.values().find(|d| d.door.kind == DoorKind::Password).expect("a password").door.clone();
    let mut look = refused(REPLY_BIND, "monitor");
    let until = story.at + SignedDuration::from_hours(8);
    look.residual = Some(Residual { what: "One ticket".into(), until: Some(until) });
    story.looked(&password, LookAt::After, look.clone());
    let report = story.report();
    assert_eq!(report.clocks.last_possible_access, Some(until));
    assert!(report.summary.contains("One ticket may work until 22 Nov 2026, 22:00:"), "{}", report.summary);
    let page = html(&report);
    keep("report-residual.html", &page);
    assert!(page.contains("class=\"residual\""));

    look.residual = Some(Residual { what: "One bound connection".into(), until: None });
    story.looked(&password, LookAt::After, look);
    let report = story.report();
    assert_eq!(report.clocks.last_possible_access, None);
    assert!(html(&report).contains("nobody knows how long"));
}

#[test]
fn a_fleet_of_a_hundred_hosts_is_one_page_to_look_at() {
    let hosts: Vec<_> = (1..=100).map(|i| place("fleet", &format!("host{i:03}.sunrise.test"))).collect();
    let mut story = Story::new(hosts.clone());
    story.started();
    for host in &hosts {
        let mut own = account(host, "daniel", daniels(MatchRule::UserName));
        let key = door(&own, DoorKind::SshKey, KEY, "/home/daniel/.ssh/authorized_keys:1", MatchRule::KeyInOwnAccount);
        story.reached(host);
        let after = if host.address.starts_with("host04") {
            Look::unproven("sshd closed the connection before it answered")
        } else {
            refused(REPLY_KEY, "key of monitor")
        };
        story.shut(&mut own, key, Action::Revoke, "1 line taken out", opens("key accepted"), after);
    }
    story.ended();
    let report = story.report();
    let needs = report.needs();
    assert_eq!(needs.len(), 1, "one reason, one thing to look at");
    assert_eq!(needs[0].what, "We cannot say whether 10 ways in on 10 places of fleet can still be used");
    assert!(needs[0].means.ends_with("; 6 more."), "{}", needs[0].means);
    assert!(report.summary.contains("10 are unproven, the first because: sshd closed the connection"));
    let html = html(&report);
    keep("report-fleet.html", &html);
    assert_eq!(html.matches("<tr class=\"").count(), 100);
}

#[test]
fn nothing_found_is_not_called_shut() {
    let mut story = Story::new(vec![place("billing", PG)]);
    story.started().reached(&place("billing", PG)).ended();
    let report = story.report();
    assert_eq!(report.headline().1, "Nothing found");
    assert_eq!(report.summary, "No way in was found at 1 place. None is known to be open.");
    assert!(html(&report).contains("No way in was found."));
}

#[test]
fn a_run_that_was_only_asked_for_is_no_result() {
    let report = Story::new(vec![place("billing", PG)]).report();
    assert_eq!(report.verdict, RunVerdict::Unproven);
    assert!(report.summary.contains("The run has not ended."), "{}", report.summary);
    assert!(html(&report).contains("not tried yet"));
}

#[test]
fn the_page_needs_nobody_else() {
    let html = html(&all_shut().report());
    for foreign in ["http://", "https://", "<script", "<link", "@import", "url(http", "src=", " style=\""] {
        assert!(!html.contains(foreign), "{foreign} is in the page");
    }
    assert!(html.contains("default-src 'none'; style-src 'sha256-") || html.contains("style-src &#39;sha256-"));
    assert!(!html.contains("unsafe-inline"));
}

mod clocks {
    use super::*;
    use offboard::report::{Basis, Limit, Met};

    fn limit(story: &Story) -> Limit {
        story.report().clocks.limits[0].clone()
    }

    #[test]
    fn a_limit_counts_from_the_end_of_employment() {
        let mut story = all_shut();
        story.request.limits = vec![("access-disabled".into(), 3600)];
        let kept = limit(&story);
        assert_eq!((kept.met, kept.margin), (Met::Kept, 3600 - kept.taken));
        assert_eq!(kept.taken - kept.taken_otherwise.expect("the request"), 60, "HR was a minute earlier");

        // HR's entry was 14 hours old when somebody asked: the run was quick, the company was not.
        story.person().ends = Some(at("2026-11-21T18:30:00Z"));
        let late = limit(&story);
        assert_eq!((late.met, late.margin), (Met::Breached, 3600 - late.taken));
        assert!(late.taken > 14 * 3600);
        let html = html(&story.report());
        assert!(html.contains("breached by 13 h") && html.contains("Counted from the request: access-disabled:"));
    }

    #[test]
    fn a_limit_counts_from_the_request_if_hr_is_later() {
        let mut story = all_shut();
        story.person().ends = Some(at("2026-11-22T18:29:59Z"));
        let report = story.report();
        assert_eq!(report.clocks.counted_from, Basis::Requested);
        let limit = &report.clocks.limits[0];
        assert_eq!(limit.met, Met::Kept);
        assert!(limit.taken < 30 && limit.taken_otherwise.expect("HR") < -9 * 3600, "{limit:?}");
        assert!(html(&report).contains("before employment ended"));
        story.person().ends = None;
        assert_eq!(story.report().clocks.counted_from, Basis::Requested);
    }

    #[test]
    fn what_is_not_proved_runs_on_until_it_is_breached() {
        let mut story = unproven();
        let running = limit(&story);
        assert_eq!((running.met, running.reached), (Met::Running, None));
        assert!(html(&story.report()).contains("not yet, 5"));
        story.made_after = SignedDuration::from_hours(2);
        let breached = limit(&story);
        assert_eq!((breached.met, breached.reached), (Met::Breached, None));
        assert!(html(&story.report()).contains("so far"));
    }

    #[test]
    fn exactly_the_limit_is_kept_and_a_millisecond_more_is_not() {
        let mut story = all_shut();
        let taken = story.report().clocks.contained.expect("contained");
        story.request.limits = vec![("access disabled".into(), 60)];
        story.person().ends = Some(taken - SignedDuration::from_secs(60));
        assert_eq!((limit(&story).met, limit(&story).margin), (Met::Kept, 0));
        story.person().ends = Some(taken - SignedDuration::from_millis(60_001));
        assert_eq!((limit(&story).met, limit(&story).margin), (Met::Breached, -1));
    }

    #[test]
    fn a_limit_of_another_name_is_listed_and_not_judged() {
        let mut story = all_shut();
        story.request.limits = vec![("secrets-rotated".into(), 60)];
        assert_eq!(limit(&story).met, Met::NotMeasured);
        let html = html(&story.report());
        assert!(html.contains("secrets-rotated") && html.contains("not measured by this version"));
    }

    #[test]
    fn a_second_apply_that_changes_nothing_moves_no_clock() {
        let mut story = sunrise(&[]);
        let (state, _) = story.folded();
        let before = state.clocks();
        let ends = state.steps.iter().find(|s| s.step.action == Action::EndSessions).expect("one").step.id.clone();
        story.then(60_000, Event::StepStarted { step: ends.clone(), attempt: 2 });
        story.then(10, Event::StepDone { step: ends.clone(), outcome: Outcome::AlreadyDone });
        let (state, _) = story.folded();
        assert_eq!(state.clocks().sessions_ended, before.sessions_ended);
        let step = story.report().steps.into_iter().find(|s| s.id == ends).expect("it is told");
        assert_eq!((step.outcome, step.note.as_deref(), step.attempts), ("done", Some("2 sessions ended"), 2));

        // A session that was there again was ended only now.
        let note = "1 session ended".to_string();
        story.then(60_000, Event::StepStarted { step: ends.clone(), attempt: 3 });
        story.then(10, Event::StepDone { step: ends, outcome: Outcome::Done { note } });
        assert_eq!(story.folded().0.clocks().sessions_ended, Some(story.at));
    }

    #[test]
    fn a_preset_names_its_source() {
        let mut story = all_shut();
        story.request.limits = vec![("access-disabled (FedRAMP High, NIST SP 800-53r5 PS-4)".into(), 3600)];
        let limit = limit(&story);
        assert_eq!((limit.name.as_str(), limit.met), ("access-disabled", Met::Kept));
        assert_eq!(limit.source.as_deref(), Some("FedRAMP High, NIST SP 800-53r5 PS-4"));
        assert!(html(&story.report()).contains("Limits of FedRAMP High, NIST SP 800-53r5 PS-4."));
    }

    #[test]
    fn an_open_door_is_not_contained() {
        let report = open().report();
        assert_eq!((report.clocks.contained, report.clocks.proved), (None, None));
        let billing = report.clocks.systems.iter().find(|s| s.system.0 == "billing").expect("billing");
        assert_eq!((billing.contained, billing.open, billing.unproven), (None, 1, 0));
        let fleet = report.clocks.systems.iter().find(|s| s.system.0 == "fleet").expect("fleet");
        assert!(fleet.contained.is_some(), "the others are");
    }
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    /// Text that has broken something somewhere.
    fn nasty() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("<script>alert(1)</script>".to_string()),
            Just("\"><img src=x onerror=alert(1)>".to_string()),
            Just("</style><script>".to_string()),
            Just("a\nb\r\n\tc\u{202e}exe.cod\u{2066}\u{1b}[31m\u{9b}31m\u{0}".to_string()),
            Just("]]>--><!--{{7*7}}{% raw %}&amp;&lt;&".to_string()),
            Just("x".repeat(10_240)),
            Just("é\u{301}".repeat(3_000)),
            any::<String>(),
            "\\PC{0,40}",
            "[<>&\"'/=!-]{0,20}",
        ]
    }

    /// A run in which every text that somebody else wrote is `texts`, in turn.
    pub fn told(texts: &[String]) -> Story {
        let mut turn = texts.iter().cycle().cloned();
        let mut next = || turn.next().expect("cycles");
        let here = place(&next(), &next());
        let gone = place(&next(), &next());
        let mut story = Story::new(vec![here.clone(), gone.clone()]);
        let person = story.person();
        (person.name, person.id) = (next(), PersonId(next()));
        (person.email, person.user_name, person.reason) = (Some(next()), Some(next()), Some(next()));
        (person.department, person.worker_type) = (Some(next()), Some(next()));
        person.manager = Some(PersonId(next()));
        story.request.playbook = next();
        story.request.version = next();
        story.request.requested_by = Actor { name: next(), asserted_by: next() };
        story.request.inputs = vec![InputDigest { file: next(), sha256: Digest(next()) }];
        story.request.limits = vec![(next(), 60), ("access-disabled".into(), 60)];
        story.not_covered = vec![(SystemName(next()), next())];
        let mut fault = Fault::new(FaultKind::Unexpected, next()).because(next()).hint(next());
        story.started().reached(&here).unreached(&gone, fault.clone());
        fault.what = next();
        let mut found = account(&here, &next(), daniels(MatchRule::Mail));
        found.name = next();
        for kind in [DoorKind::SshKey, DoorKind::Membership, DoorKind::Session] {
            let door = door(&found, kind, &next(), &next(), MatchRule::OwnAccount);
            found.doors.push(door);
        }
        story.found(&found);
        let step = Step::new(Action::Revoke, &found, &next(), vec![found.doors[0].id.clone()], true);
        story.done(&next(), &step, &next());
        let other = Step::new(Action::Disable, &found, &next(), vec![found.doors[1].id.clone()], false);
        story.planned(&next(), &other).failed(&other, 2, &fault);
        let mut look = refused(&next(), &next());
        look.residual = Some(Residual { what: next(), until: None });
        story.looked(&found.doors[0].clone(), LookAt::Before, opens(&next()));
        story.looked(&found.doors[0].clone(), LookAt::After, look);
        story.looked(&found.doors[1].clone(), LookAt::After, opens(&next()));
        story.looked(&found.doors[2].clone(), LookAt::After, Look::unproven(next()));
        for kind in [
            FindingKind::Ambiguous,
            FindingKind::Protected,
            FindingKind::NotCovered,
            FindingKind::Suspicious,
            FindingKind::Configuration,
        ] {
            story.noted(kind, &here, &next(), &next(), &next());
        }
        let by = Actor { name: next(), asserted_by: next() };
        story.then(1, Event::Waived { target: gone.id.0.clone(), why: next(), by: by.clone() });
        story.then(1, Event::Restored { step: step.id.clone(), note: next(), by });
        story.then(1, Event::Reported { format: next(), sha256: Digest(next()) });
        story.ended();
        story
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn text_never_becomes_markup(texts in prop::collection::vec(nasty(), 1..7)) {
            let report = told(&texts).report();
            let page = html(&report);
            prop_assert!(!page.to_lowercase().contains("<script"), "a script got in");
            prop_assert!(!page.to_lowercase().contains("<img"), "an image got in");
            let steering = page.chars().find(|c| *c != '\n' && offboard::report::text::is_steering(*c));
            prop_assert_eq!(steering, None, "nothing turns the text around");
            prop_assert_eq!(page.matches("<tr class=\"").count(), report.doors.len());
            let text = report.json_text();
            prop_assert!(!text.chars().any(|c| c != '\n' && offboard::report::text::is_steering(c)));
            let back: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
            prop_assert_eq!(back, report.json(), "and says the same");
        }
    }

    #[test]
    fn a_long_reply_is_cut_with_a_note() {
        let page = html(&told(&["word ".repeat(2_048), "</b>\u{202e}<script>\u{1b}[2J".into()]).report());
        keep("report-hostile.html", &page);
        assert!(page.contains("of 10,239 characters)"), "says how much was left out");
        assert!(page.len() < 200_000, "{} bytes", page.len());
    }

    #[test]
    fn the_style_sheet_holds_no_foreign_text() {
        let page = html(&told(&["}body{display:none}".to_string()]).report());
        let styles: Vec<_> = page.split("<style>").skip(1).filter_map(|s| s.split("</style>").next()).collect();
        assert_eq!(styles.len(), 2);
        assert!(styles.iter().all(|style| !style.contains("body{display:none}")));
    }
}
