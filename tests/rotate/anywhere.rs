//! Random crash points and consumers that fail: whatever happens on the way, after `resume` the secret works, the programs work, nobody is locked
//! out, and no value is lost.
//!
//! `PROPTEST_CASES=100` makes more cases than the few that every test run can afford.

use crate::alternate::{FIRST, is_moved, pair};
use crate::lab::{Lab, LabService};
use crate::office::{Done, Office, all_shut};
use crate::{is_rotated, office, sealed};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::time::{Duration, Instant};

const HOSTS: [&str; 3] = ["web1", "web2", "db1"];
/// Where a process may be killed.
const POINTS: [&str; 7] = [
    "rotate::begun",
    "rotate::taken",
    "rotate::sealed",
    "rotate::file",
    "journal::before-commit",
    "journal::after-commit",
    "desk::walked",
];
/// Fails as often as its first argument's file says; then it is the command that follows.
const FLAKY: &str = "#!/bin/sh
n=$(cat \"$1\" 2>/dev/null || echo 0)
if [ \"$n\" -gt 0 ]; then echo $((n - 1)) >\"$1\"; echo 'not now' >&2; exit 3; fi
shift
exec \"$@\"
";

/// How one process ends.
#[derive(Clone, Debug)]
enum Cut {
    At(&'static str, u32),
    AfterMillis(u64),
    Never,
}

/// What goes wrong in one rotation.
#[derive(Clone, Debug)]
struct Case {
    host: &'static str,
    leaves: bool,
    alternates: bool,
    consumers: usize,
    /// How often each consumer's reload and health check fail, as far as there are so many.
    failing: Vec<(u32, u32)>,
    /// One process after the other.
    cuts: Vec<Cut>,
}

fn case() -> impl Strategy<Value = Case> {
    let cut = prop_oneof![
        6 => (select(&POINTS[..]), 1..=20u32).prop_map(|(point, nth)| Cut::At(point, nth)),
        3 => (50..4000u64).prop_map(Cut::AfterMillis),
        1 => Just(Cut::Never),
    ];
    let fails = prop_oneof![3 => Just(0u32), 2 => 1..=3u32, 1 => Just(1000u32)];
    let failing = vec((fails.clone(), fails), 3);
    (select(&HOSTS[..]), any::<bool>(), any::<bool>(), 1..=3usize, failing, vec(cut, 1..=4)).prop_map(
        |(host, leaves, alternates, consumers, failing, cuts)| Case {
            host,
            leaves,
            alternates,
            consumers,
            failing,
            cuts,
        },
    )
}

/// A consumer's file and its counters.
fn file(service: &LabService, item: usize) -> String {
    if item == 0 { service.file.clone() } else { format!("/etc/sunrise/{}.{item}.env", service.name) }
}

fn counter(service: &LabService, item: usize, what: &str) -> String {
    format!("/run/{}.{item}.{what}", service.name)
}

fn count(lab: &Lab, service: &LabService, failing: impl Iterator<Item = (u32, u32)>) {
    for (item, (reload, health)) in failing.enumerate() {
        for (what, times) in [("reload", reload), ("health", health)] {
            let set = format!("echo {times} >{}", counter(service, item, what));
            assert!(lab.on(service.host, &["sh", "-ec", &set]).status.success());
        }
    }
}

/// The secret's consumers in offboard.yaml: each fails as it is told to.
fn declare(office: &Office, lab: &Lab, service: &LabService, consumers: usize, alternates: bool) {
    let flaky = format!("/etc/sunrise/{}.flaky", service.name);
    lab.feed(service.host, &["sh", "-ec", &format!("cat >{flaky} && chmod 755 {flaky}")], FLAKY.as_bytes());
    let user_key = if alternates { ", user-key: PGUSER" } else { "" };
    let mut entries = String::new();
    for item in 0..consumers {
        let own = file(service, item);
        let (reload, health) = if item == 0 {
            (
                format!("/etc/sunrise/portal-reload, {}", service.name),
                format!("curl, -fsS, -m, \"5\", \"http://127.0.0.1:{}/health\"", service.port),
            )
        } else {
            assert!(lab.on(service.host, &["cp", "-p", &service.file, &own]).status.success());
            ("\"true\"".to_string(), "\"true\"".to_string())
        };
        let (of_reload, of_health) = (counter(service, item, "reload"), counter(service, item, "health"));
        entries.push_str(&format!(
            "      - {{ system: fleet, place: {}.sunrise.test, file: {own}, key: PGPASSWORD{user_key}, reload: [{flaky}, {of_reload}, {reload}], health: [{flaky}, {of_health}, {health}] }}\n",
            service.host
        ));
    }
    office.edit("offboard.yaml", |text| {
        let at = text.find(&format!("  {}:\n", service.name)).unwrap();
        let from = at + text[at..].find("      - system:").unwrap();
        let to = at + text[at..].find("    known-to").unwrap();
        format!("{}{entries}{}", &text[..from], &text[to..])
    });
}

fn runs(office: &Office) -> Vec<String> {
    let list = office.offboard(&["--json", "list"]).expect(0).json();
    list["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap().to_string()).collect()
}

/// One process, cut off as it is told; nothing if it was.
fn process(office: &Office, args: &[&str], cut: &Cut) -> Option<Done> {
    let mut command = office.command(args);
    match cut {
        Cut::At(point, nth) => drop(command.env("OFFBOARD_DIE_AT", format!("{point}:{nth}"))),
        Cut::AfterMillis(_) | Cut::Never => {}
    }
    let Cut::AfterMillis(millis) = cut else {
        let output = command.output().unwrap();
        return output.status.code().is_some().then(|| output.into());
    };
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(*millis));
    let _ = child.kill();
    child.wait().unwrap();
    None
}

fn holds(lab: &Lab, case: &Case) -> Result<(), TestCaseError> {
    let leaver = if case.leaves { lab.person() } else { lab.active_person() };
    let service = lab.service(case.host);
    let (office, green) = match case.alternates {
        true => pair(lab, &leaver, &service),
        false => (office(lab, &leaver, &[&service]), String::new()),
    };
    declare(&office, lab, &service, case.consumers, case.alternates);
    let well = || (0..case.consumers).map(|_| (0, 0));
    count(lab, &service, well());
    // What fails at every try would be asked for until the deadline: such a process is cut off.
    let lasts = case.failing[..case.consumers].iter().any(|(reload, health)| reload.max(health) > &100);
    let first: Vec<&str> = match case.leaves {
        true => vec!["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes", "--anew"],
        false => vec!["--json", "rotate", &service.name, "--yes"],
    };
    count(lab, &service, case.failing[..case.consumers].iter().copied());
    let hammer = lab.ask_steadily(&service);
    for cut in &case.cuts {
        let cut = match cut {
            Cut::AfterMillis(_) => cut.clone(),
            _ if lasts => Cut::AfterMillis(3000),
            other => other.clone(),
        };
        let on_record = runs(&office);
        let done = match on_record.first() {
            None => process(&office, &first, &cut),
            Some(run) => process(&office, &["--json", "resume", run], &cut),
        };
        let said = done.map(|done| (done.code, done.err));
        prop_assert!(lab.answers(&service), "the service does not answer after {:?}: {:?}", cut, said);
    }
    // Everybody is well again: it comes to its end, whatever was there before.
    count(lab, &service, well());
    let until = Instant::now() + Duration::from_secs(300);
    let report = loop {
        let done = match runs(&office).first() {
            None => office.offboard(&first),
            Some(run) => office.offboard(&["--json", "resume", run]),
        };
        if done.code == Some(0) {
            break done.json();
        }
        prop_assert!(Instant::now() < until, "it never ends: {:?} {} {}", done.code, done.err, done.out);
    };
    let (answers, wrong) = hammer.stop();
    prop_assert!(wrong == 0 && answers > 0, "{} of {} requests failed", wrong, answers);
    all_shut(&report);
    if case.alternates {
        // Only programs that were asked for it are moved, and each run moves them once.
        is_moved(lab, &service, &green, &[(&service.role, &service.password), (&green, FIRST)], &format!("{case:?}"));
    } else {
        is_rotated(lab, &service, &format!("{case:?}"));
    }
    let read = |item| {
        let text = String::from_utf8(lab.on(service.host, &["cat", &file(&service, item)]).stdout).unwrap();
        text.lines().find(|line| line.contains("PGPASSWORD=")).map(str::to_string)
    };
    for item in 1..case.consumers {
        prop_assert_eq!(read(item), read(0), "consumer {} has another value", item);
    }
    let values = if case.alternates { "3" } else { "2" };
    prop_assert_eq!(sealed(&office), values, "all values are kept until the last look");
    prop_assert_eq!(runs(&office).len(), 1);
    let leftovers = lab.on(service.host, &["sh", "-c", "ls -A /etc/sunrise | grep '^\\.'"]).stdout;
    prop_assert_eq!(String::from_utf8_lossy(&leftovers), "");
    office.offboard(&["journal", "verify"]).expect(0);
    lab.close(&service);
    Ok(())
}

#[test]
fn whatever_happens_on_the_way_one_value_works_in_the_end() {
    let lab = Lab::shared();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let config = Config { cases, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    runner.run(&case(), |case| holds(&lab, &case)).unwrap_or_else(|failure| panic!("{failure}"));
}
