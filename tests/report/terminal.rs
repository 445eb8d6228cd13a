//! What stands on the terminal: readable at 80 columns, worst first, and nothing that steers.

use super::*;
use jiff::tz::TimeZone;
use offboard::cli::render::{self, Style};
use offboard::connector::{Health, Manifest};
use offboard::engine::{DraftPlace, Undone};
use offboard::journal::{Problem, Verification};
use offboard::report::text;
use std::path::PathBuf;

fn plain() -> Style {
    Style { color: false, zone: TimeZone::get("Asia/Kolkata").expect("a zone") }
}

fn colored() -> Style {
    Style { color: true, ..plain() }
}

/// `text` without colours; nothing else that steers may be in it.
fn uncolored(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split("\u{1b}[").enumerate() {
        let part = if i == 0 { part } else { part.split_once('m').expect("a colour ends").1 };
        out.push_str(part);
    }
    let steering = out.chars().find(|c| *c != '\n' && text::is_steering(*c));
    assert_eq!(steering, None, "nothing but colour steers");
    out
}

/// Names that may be copied are longer than a line where they must be; everything else fits.
fn narrow(text: &str, but: &[&str]) {
    for line in text.lines().filter(|line| !but.iter().any(|long| line.contains(long))) {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        assert_eq!(line, line.trim_end(), "no spaces at the end");
    }
}

/// A draft as the engine draws it, from a story's places, accounts and steps.
fn draft(story: &Story) -> Vec<DraftPlace> {
    let (state, _) = story.folded();
    let place = |known: &PlaceState| {
        let accounts = state.accounts.values().filter(|(a, _)| a.place == known.place.id).map(|(a, _)| a.clone());
        DraftPlace {
            place: known.place.clone(),
            found: known.unreached.clone().map_or(Ok(accounts.collect()), Err),
            steps: (state.steps.iter())
                .filter(|s| s.step.place == known.place.id)
                .map(|s| (s.stage.clone(), s.step.clone()))
                .collect(),
            findings: state.findings.iter().filter(|f| f.place.as_ref() == Some(&known.place.id)).cloned().collect(),
        }
    };
    state.request.places.iter().map(|p| place(&state.places[&p.id])).collect()
}

#[test]
fn a_plan() {
    let story = unproven();
    let text = render::plan(story.request.person().unwrap(), &story.request.playbook, &draft(&story), &plain());
    narrow(&text, &[]);
    assert_eq!(
        uncolored(&render::plan(story.request.person().unwrap(), &story.request.playbook, &draft(&story), &colored())),
        text
    );
    insta::assert_snapshot!("plan", text);
}

#[test]
fn a_plan_says_what_it_leaves_open() {
    let story = all_shut();
    let mut places = draft(&story);
    places[2].steps.clear();
    let twice = places[3].steps[0].clone();
    places[3].steps.push(twice);
    let text = render::plan(story.request.person().unwrap(), "involuntary-termination", &places, &plain());
    assert!(text.contains("14 steps at 6 places"), "a step that two actions need is one step: {text}");
    assert!(text.contains("No step shuts\n  billing/pg.sunrise.test:5432: password of daniel\n"), "{text}");
    assert!(text.contains("no step in this playbook"));
}

#[test]
fn an_inventory() {
    let story = all_shut();
    let mut places = draft(&story);
    let here = places[0].place.clone();
    let mut found = vec![account(&here, "uid=backup,ou=services,dc=sunrise,dc=test", Owner::Service)];
    found.push(account(&here, "uid=emergency,ou=people,dc=sunrise,dc=test", Owner::BreakGlass));
    let both = vec![PersonId("E1042".into()), PersonId("E1043".into())];
    found.push(account(&here, "uid=dokafor,ou=people,dc=sunrise,dc=test", Owner::Ambiguous { people: both }));
    let mut old = account(&here, "uid=aruiz,ou=people,dc=sunrise,dc=test", Owner::Nobody);
    (old.enabled, old.last_used, old.name) = (false, Some(at("2026-04-21T07:12:00Z")), "Ana Ruiz".into());
    found.push(old);
    places[0].found.as_mut().expect("reached").extend(found);
    let text = render::accounts("directory", &places[..1], &plain());
    narrow(&text, &["last used"]);
    insta::assert_snapshot!("accounts", text);
}

#[test]
fn the_end_of_a_run() {
    let written = [PathBuf::from("journal/reports/7F3K.html"), PathBuf::from("journal/reports/7F3K.json")];
    for (name, story) in [("shut", all_shut()), ("unproven", unproven()), ("open", open()), ("stuck", stuck())] {
        let report = story.report();
        let text = render::summary(&report, &written, &plain());
        narrow(&text, &["to do:", "said:"]);
        assert!(text.starts_with(report.headline().1), "the verdict comes first");
        assert_eq!(uncolored(&render::summary(&report, &written, &colored())), text, "colour changes no word");
        insta::assert_snapshot!(format!("summary-{name}"), text);
    }
}

#[test]
fn status_says_how_far_it_is() {
    let text = render::status(&stuck().report(), &plain());
    assert!(text.contains("14 of 15 steps done; as of 22 Nov 2026, 14:"), "{text}");
}

#[test]
fn all_runs() {
    let runs: Vec<_> = [all_shut(), open(), sunrise(&[])]
        .iter()
        .zip(["7F3K", "8A2C", "9Z0Q"])
        .map(|(story, id)| (RunId(id.into()), story.folded().0))
        .collect();
    let text = render::list(&runs, at("2026-11-22T09:00:00Z"), &plain());
    narrow(&text, &[]);
    assert_eq!(uncolored(&render::list(&runs, at("2026-11-22T09:00:00Z"), &colored())), text);
    insta::assert_snapshot!("list", text);
    assert_eq!(render::list(&[], at("2026-11-22T09:00:00Z"), &plain()), "No run to show.\n");
}

#[test]
fn a_fault() {
    let fault = Fault::new(FaultKind::Forbidden, "postgres billing: cannot disable role \"jane\"")
        .because("permission denied\n  hint: rm -rf / (SQLSTATE 42501)\u{1b}[2J")
        .hint("GRANT jane TO offboard WITH ADMIN OPTION; then: offboard resume 7F3K");
    assert_eq!(
        render::fault(&fault, &plain()),
        "error[forbidden]: postgres billing: cannot disable role \"jane\"\n  \
           because: permission denied\n           \
                    hint: rm -rf / (SQLSTATE 42501)\u{fffd}[2J\n  \
           hint: GRANT jane TO offboard WITH ADMIN OPTION; then: offboard resume 7F3K\n"
    );
    assert_eq!(uncolored(&render::fault(&fault, &colored())), render::fault(&fault, &plain()));
}

#[test]
fn our_own_standing() {
    let fine = Health { identity: "offboard on PostgreSQL 15.18".into(), findings: vec![] };
    let finding = Finding {
        kind: FindingKind::Configuration,
        place: None,
        account: None,
        what: "MaxAuthTries is 1: a look needs 2 tries and will not be able to prove that a key is refused.".into(),
        hint: "set MaxAuthTries 6 in /etc/ssh/sshd_config".into(),
    };
    let unwise = Health { identity: "offboard with sudo on Debian 12".into(), findings: vec![finding] };
    let fault = Fault::new(FaultKind::Misconfigured, "ssh fleet: db1.sunrise.test shows another host key")
        .because("known_hosts has SHA256:abc, the host showed SHA256:def")
        .hint("find out why before you change known_hosts");
    let health =
        [(place("billing", PG), Ok(fine)), (place("fleet", "web1"), Ok(unwise)), (place("fleet", DB1), Err(fault))];
    let text = render::health(&health, 2, 200, &plain());
    narrow(&text, &["because:", "to do:"]);
    assert_eq!(uncolored(&render::health(&health, 2, 200, &colored())), text);
    insta::assert_snapshot!("health", text);
}

#[test]
fn what_a_connector_covers() {
    static BOOK: Manifest = Manifest {
        name: "ldap",
        family: Family::Directory,
        doors: &[(DoorKind::Password, Proof::Refused), (DoorKind::Membership, Proof::ReadBack)],
        rotates: &[],
        privileges: &["write access to pwdAccountLockedTime, userPassword and member, on every replica"],
        not_covered: &[
            "Kerberos tickets: this connector speaks LDAP only, and a ticket that was given out is valid until it ends",
        ],
    };
    let text = render::manifests(&[&BOOK], &plain());
    narrow(&text, &[]);
    insta::assert_snapshot!("connectors", text);
}

#[test]
fn whether_the_journal_verifies() {
    let mut verification = Verification {
        records: 1_234,
        runs: 12,
        checkpoints: 300,
        sealed: 1,
        head: Some(Digest::of(b"head")),
        last: Some(at("2026-11-22T08:30:31Z")),
        signer: Digest::of(b"key"),
        problems: vec![],
        more: 0,
    };
    let sound = render::verification(&verification, &plain());
    assert!(sound.starts_with("The journal verifies.\n") && sound.contains("1,234 records of 12 runs"), "{sound}");
    verification.problems = vec![Problem::RecordChanged { run: RunId("7F3K".into()), seq: 3 }];
    verification.more = 4;
    let broken = render::verification(&verification, &plain());
    assert!(broken.starts_with("The journal does not verify: 5 problems.\n"), "{broken}");
    assert!(broken.contains("  - run 7F3K: record 3 was changed\n  and 4 more\n"), "{broken}");
    assert_eq!(uncolored(&render::verification(&verification, &colored())), broken);
}

#[test]
fn what_was_given_back() {
    let (state, _) = all_shut().folded();
    let step = |i: usize| state.steps[i].step.clone();
    let given = Restored { note: "Unlocked.".into(), one_time_password: Some("not-to-be-shown".to_string().into()) };
    let failed = Fault::new(FaultKind::Unreachable, "ssh fleet: cannot connect").because("no answer");
    let undone = [Undone { step: step(0), result: Ok(given) }, Undone { step: step(5), result: Err(failed) }];
    let text = render::restored(&undone, std::path::Path::new("handover.txt"), &plain());
    assert!(text.contains("taken back: disable uid=daniel") && text.contains("1 one-time password in handover.txt"));
    assert!(text.contains("not taken back:") && text.contains("error[unreachable]: ssh fleet: cannot connect"));
    assert!(!text.contains("not-to-be-shown"));
}

#[test]
fn a_line_of_foreign_text_stays_a_line() {
    assert_eq!(render::line("  place\n  error[x]: \u{202e}\u{1b}[1A"), "  place   error[x]: \u{fffd}\u{fffd}[1A");
}

#[test]
fn accounts_go_out_without_their_before_image() {
    let mut secret = account(&place("billing", PG), "daniel", Owner::Nobody);
    secret.facts = serde_json::json!({ "verifier": "SCRAM-SHA-256$4096:…" });
    let shown = render::without_facts(&secret);
    assert_eq!(shown["native_id"], "daniel");
    assert!(!shown.to_string().contains("SCRAM"));
}

#[test]
fn hostile_text_is_harmless_on_a_terminal() {
    for nasty in ["\u{1b}]0;owned\u{7}\u{9b}2J", "a\nerror[forged]: b", "\u{202e}txt", &"x".repeat(10_000)] {
        let story = hostile::told(&[nasty.to_string()]);
        let report = story.report();
        let (state, _) = story.folded();
        for text in [
            render::summary(&report, &[PathBuf::from(nasty)], &colored()),
            render::status(&report, &colored()),
            render::plan(story.request.person().unwrap(), nasty, &draft(&story), &colored()),
            render::accounts(nasty, &draft(&story), &colored()),
            render::list(&[(RunId("7F3K".into()), state)], at("2026-11-22T09:00:00Z"), &colored()),
        ] {
            let text = uncolored(&text);
            assert!(!text.lines().any(|line| line.starts_with("error[forged]")), "{text}");
            assert!(text.len() < 60_000, "{} bytes", text.len());
        }
    }
}
