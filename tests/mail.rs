//! Mail, by a real server: what arrives, what waits, and that nothing else waits for it.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test mail`.

#[path = "lab/mod.rs"]
mod lab;
#[path = "story/office.rs"]
#[allow(dead_code, reason = "each test binary uses another part of it")]
mod office;

use lab::{Lab, LabPerson};
use office::{Done, Office};
use serde_json::Value;
use std::process::Command;

const SECURITY: &str = "security@sunrise.test";
const MAIL_YAML: &str = "to: [security@sunrise.test]";

/// Every mail of the folder, read by an independent program.
const READER: &str = r#"
import email, email.policy, glob, json, os, sys
def words(content):
    return (content if isinstance(content, str) else content.decode()).replace("\r\n", "\n")
mails = []
for path in sorted(glob.glob(os.environ["LAB"] + "/mail/*.eml"), key=os.path.getmtime):
    raw = open(path, "rb").read()
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    parts = [{"type": p.get_content_type(), "file": p.get_filename(), "text": words(p.get_content())}
             for p in mail.walk() if not p.is_multipart()]
    mails.append({"to": mail.get_all("X-Envelope-To"), "from": mail["X-Envelope-From"], "subject": mail["Subject"],
                  "id": mail["Message-ID"], "date": mail["Date"], "auto": mail["Auto-Submitted"], "defects": len(mail.defects),
                  "headers": [k for k in mail.keys()], "parts": parts})
json.dump(mails, sys.stdout, default=str)
"#;

/// The mails about a run that have arrived, in order.
fn mails(run: &str) -> Vec<Value> {
    let output = Command::new("/usr/bin/python3").args(["-c", READER]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    all.into_iter().filter(|mail| text(&mail["subject"]).starts_with(&format!("offboard {run}:"))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn subjects(mails: &[Value]) -> Vec<String> {
    let mut subjects: Vec<_> =
        mails.iter().map(|mail| text(&mail["subject"]).split_once(": ").unwrap().1.to_string()).collect();
    subjects.sort();
    subjects
}

fn part<'a>(mail: &'a Value, media_type: &str, file: Option<&str>) -> &'a str {
    let parts = mail["parts"].as_array().unwrap();
    let found = parts.iter().find(|p| p["type"] == media_type && p["file"].as_str() == file);
    text(&found.unwrap_or_else(|| panic!("no {media_type} {file:?}"))["text"])
}

fn run_of(done: &Done) -> String {
    done.json()["run"].as_str().unwrap().to_string()
}

fn undelivered(office: &Office) -> Vec<Value> {
    office.offboard(&["--json", "mail"]).json()["undelivered"].as_array().unwrap().clone()
}

/// What `check` says of the mail server. The lab's directory has findings of its own.
fn mail_check(office: &Office) -> Value {
    office.offboard(&["--json", "check"]).expect(20).json()["mail"].clone()
}

/// Nothing in it says who leaves, or why.
fn discreet(mail: &Value, person: &LabPerson) {
    let subject = text(&mail["subject"]).to_lowercase();
    for word in [person.user.as_str(), person.id.as_str(), "venkat", "leela", "involuntary", "terminat", "dismiss"] {
        assert!(!subject.contains(&word.to_lowercase()), "{word} stands in {subject}");
    }
}

#[test]
fn the_report_arrives_once_with_both_parts_and_the_files() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::with_work_by_hand(&lab);
    let done = office.run(&leaver).expect(10);
    assert!(!done.err.contains("mail queued"), "{}", done.err);
    let run = run_of(&done);
    let arrived = mails(&run);
    assert_eq!(arrived.len(), 2, "{:?}", subjects(&arrived));
    let report = arrived.iter().find(|m| m["to"][0] == SECURITY).expect("the report");
    let asked = arrived.iter().find(|m| m["to"][0] == "it@example.com").expect("what is asked");

    assert_eq!(text(&report["subject"]), format!("offboard {run}: shut, except work by hand"));
    assert_eq!((text(&report["from"]), text(&report["auto"])), ("offboard@sunrise.test", "auto-generated"));
    let (plain, html) = (part(report, "text/plain", None).replace('\n', " "), part(report, "text/html", None));
    for said in [&leaver.name, &run, "manual step"] {
        assert!(plain.contains(said) && html.contains(said), "{said}: {plain}");
    }
    let page = part(report, "text/html", Some(&format!("offboard-{run}.html")));
    assert!(page.starts_with("<!doctype html>") && page.contains("Offboarding report"));
    let json: Value =
        serde_json::from_str(part(report, "application/json", Some(&format!("offboard-{run}.json")))).unwrap();
    assert_eq!(json["run"], run.as_str());

    let plain = part(asked, "text/plain", None);
    let command = format!("offboard done {run} ");
    for said in ["Collect laptop and badge", &leaver.name, &command] {
        assert!(plain.contains(said), "{said}: {plain}");
    }
    assert!(!plain.contains("involuntary") && !plain.contains("ways in"), "IT need not know why: {plain}");

    let everything = arrived.iter().map(Value::to_string).collect::<String>();
    for secret in [vec![leaver.password.clone()], lab.operator_secrets()].concat() {
        assert!(!everything.contains(&secret), "a secret was mailed");
    }
    for mail in &arrived {
        discreet(mail, &leaver);
        assert_eq!(mail["defects"], 0);
        assert!(mail["to"].as_array().unwrap().iter().all(|to| *to != leaver.mail.as_str()));
    }

    // A look that finds everything as it was is no news; that everything is closed is.
    office.offboard(&["verify", &run]).expect(10);
    assert_eq!(mails(&run).len(), 2);
    let step = plain.split(&command).nth(1).unwrap().split(' ').next().unwrap();
    office.offboard(&["done", &run, step, "--note", "at the desk"]).expect(0);
    assert_eq!(subjects(&mails(&run))[0], "shut");
    let later = "SELECT count(*) FROM delivery WHERE state = 'queued'";
    let later = Command::new("sqlite3").arg(office.path("journal/store.sqlite")).arg(later).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&later.stdout).trim(), "0", "what is closed will never be overdue");
    assert_eq!(mails(&run).len(), 3);
    office.offboard(&["verify", &run]).expect(0);
    assert_eq!(mails(&run).len(), 3);
    assert!(undelivered(&office).is_empty());
}

#[test]
fn an_open_door_is_told_at_once_and_again_when_it_opens_again() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let run = run_of(&office.run(&leaver).expect(0));
    for times in 1..=2 {
        lab.sql(&format!("ALTER ROLE \"{}\" LOGIN", leaver.user));
        office.offboard(&["verify", &run]).expect(11);
        let arrived = mails(&run);
        let open: Vec<_> = arrived
            .iter()
            .filter(|m| text(&m["subject"]).contains("open") && !text(&m["subject"]).ends_with(": open"))
            .collect();
        assert_eq!(open.len(), times, "{:?}", subjects(&arrived));
        assert!(part(open[0], "text/plain", None).contains(&format!("offboard resume {run}")));
        discreet(open[0], &leaver);
        // Looking once more tells nobody the same again.
        office.offboard(&["verify", &run]).expect(11);
        assert_eq!(mails(&run).len(), arrived.len());
        office.offboard(&["--json", "resume", &run]).expect(0);
    }
    // shut, open, shut, open, shut; and two open doors.
    assert_eq!(mails(&run).len(), 7, "{:?}", subjects(&mails(&run)));
}

#[test]
fn a_stuck_step_is_told() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    office.edit("offboard.yaml", |yaml| {
        let limited = yaml.replace("file: secrets/postgres }\n      ca", "file: secrets/postgres-limited }\n      ca");
        limited
            .replace("database: postgres\n      user: offboard\n", "database: postgres\n      user: offboard_limited\n")
    });
    let done = office.run(&leaver);
    assert!(matches!(done.code, Some(11 | 12)), "{}\n{}", done.out, done.err);
    let run = run_of(&done);
    let arrived = mails(&run);
    let stuck = arrived.iter().find(|m| text(&m["subject"]).contains("stuck")).expect("it is told");
    let plain = part(stuck, "text/plain", None);
    assert!(plain.contains("To do: ") && plain.contains(&leaver.user), "{plain}");
}

#[test]
fn a_server_that_is_down_delays_nothing_and_loses_nothing() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let outage = lab.stop("mail");
    let done = office.run(&leaver).expect(0);
    let run = run_of(&done);
    assert!(done.err.contains("mail queued") && done.err.contains("hint:"), "{}", done.err);
    let checked = office.offboard(&["check"]).expect(20);
    assert!(checked.out.contains("mail server mail.sunrise.test:587"), "{}", checked.out);
    assert_eq!(undelivered(&office).len(), 1);
    assert_eq!(undelivered(&office)[0]["refused"], false);
    let told = office.offboard(&["mail"]).expect(20).out;
    assert!(told.contains("waits") && told.contains(SECURITY), "{told}");
    drop(outage);
    assert!(mails(&run).is_empty());
    office.offboard(&["mail", "--send"]).expect(0);
    assert_eq!(subjects(&mails(&run)), ["shut"]);
    office.offboard(&["mail", "--send"]).expect(0);
    assert_eq!(mails(&run).len(), 1, "sent once");
    assert!(mail_check(&office)["identity"].is_string());
}

#[test]
fn a_slow_server_is_not_on_the_path_of_a_revocation() {
    let lab = Lab::alone();
    let (leaver, other) = (lab.person(), lab.person());
    let office = Office::new(&lab);
    std::fs::write(lab.root().join("mail/.slow"), "").unwrap();
    let done = office.run(&leaver).expect(0);
    std::fs::remove_file(lab.root().join("mail/.slow")).unwrap();
    assert!(done.err.contains("mail queued"), "{}", done.err);
    let report = done.json();
    // The mail was written when everything had been proved and the work had ended, by the clock of the journal.
    let query =
        Command::new("sqlite3").arg(office.path("journal/store.sqlite")).arg("SELECT at FROM mail").output().unwrap();
    let queued: i64 = String::from_utf8(query.stdout).unwrap().trim().parse().unwrap();
    let ended: jiff::Timestamp = text(&report["ended"]).parse().unwrap();
    assert!(queued >= ended.as_millisecond(), "{queued} {ended}");
    assert_eq!(report["verdict"], "shut");
    // One that does not answer at all.
    let outage = lab.pause("mail");
    let done = office.run(&other).expect(0);
    assert!(done.err.contains("mail queued"), "{}", done.err);
    drop(outage);
    assert_eq!(lab.ways_in(&other), Vec::<String>::new());
}

#[test]
fn a_wrong_authority_a_wrong_password_and_no_private_way_are_told_and_send_nothing() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let good = std::fs::read_to_string(office.path("offboard.yaml")).unwrap();
    let password = std::fs::read_to_string(office.path("secrets/smtp")).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=Somebody else", "-keyout", "/dev/null", "-out"])
        .arg(office.path("other-ca.pem"))
        .output()
        .unwrap();
    assert!(made.status.success());

    office.edit("offboard.yaml", |yaml| {
        yaml.replacen("ca: ca.pem\n  user: offboard", "ca: other-ca.pem\n  user: offboard", 1)
    });
    let checked = office.offboard(&["check"]).expect(20).out;
    assert!(checked.contains("other-ca.pem") && checked.contains("certificate"), "{checked}");
    let done = office.run(&leaver).expect(0);
    let run = run_of(&done);
    assert!(done.err.contains("mail queued") && done.err.contains("certificate"), "{}", done.err);

    std::fs::write(office.path("offboard.yaml"), &good).unwrap();
    std::fs::write(office.path("secrets/smtp"), "not-the-password").unwrap();
    let checked = office.offboard(&["check"]).expect(20).out;
    assert!(checked.contains("cannot log in") && checked.contains("535") && checked.contains("password"), "{checked}");
    let sent = office.offboard(&["mail", "--send"]).expect(20);
    for word in ["not-the-password", password.trim()] {
        assert!(!checked.contains(word) && !sent.out.contains(word) && !sent.err.contains(word), "a password is shown");
    }
    std::fs::write(office.path("secrets/smtp"), &password).unwrap();

    // Port 25 offers no TLS there: nothing is said in the clear.
    office.edit("offboard.yaml", |yaml| yaml.replace("mail.sunrise.test:587", "mail.sunrise.test:25"));
    let checked = office.offboard(&["check"]).expect(20).out;
    assert!(checked.contains("does not offer STARTTLS"), "{checked}");
    assert!(mails(&run).is_empty());

    // TLS from the first byte, and the mail is still there.
    std::fs::write(
        office.path("offboard.yaml"),
        good.replace("mail.sunrise.test:587\n  tls: starttls", "mail.sunrise.test:465\n  tls: tls"),
    )
    .unwrap();
    assert!(text(&mail_check(&office)["identity"]).contains("465, TLS, as offboard"));
    office.offboard(&["mail", "--send"]).expect(0);
    assert_eq!(subjects(&mails(&run)), ["shut"]);
}

#[test]
fn whom_the_server_refuses_keeps_nobody_else_from_getting_it() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    office.edit("offboard.yaml", |yaml| {
        yaml.replace(
            MAIL_YAML,
            "to: [refuse@sunrise.test, later@sunrise.test, drop@sunrise.test, security@sunrise.test]",
        )
    });
    let done = office.run(&leaver).expect(0);
    let run = run_of(&done);
    assert!(
        done.err.contains("mail refused: refuse@sunrise.test") && done.err.contains("no such user here"),
        "{}",
        done.err
    );
    let arrived = mails(&run);
    assert_eq!(arrived.iter().map(|m| text(&m["to"][0])).collect::<Vec<_>>(), [SECURITY]);
    let left = undelivered(&office);
    assert_eq!(left.len(), 3, "{left:#?}");
    let refused: Vec<_> = left.iter().filter(|m| m["refused"] == true).map(|m| text(&m["recipient"])).collect();
    assert_eq!(refused, ["refuse@sunrise.test"]);
    // It is not tried again by itself; what was put off is, but not yet.
    office.offboard(&["verify", &run]).expect(0);
    assert!(undelivered(&office).iter().all(|m| m["attempts"] == 1), "{:#?}", undelivered(&office));
    assert_eq!(mails(&run).len(), 1);
}

#[test]
fn after_a_kill_it_is_sent_once_or_twice_under_the_same_name() {
    let lab = Lab::shared();
    for (failpoint, times) in
        [("journal::after-commit:9", 0), ("notify::before-send:1", 1), ("notify::after-send:1", 2)]
    {
        let leaver = lab.person();
        let office = Office::new(&lab);
        let killed = office
            .command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes"])
            .env("OFFBOARD_DIE_AT", failpoint)
            .output()
            .unwrap();
        assert_eq!(killed.status.code(), None, "{failpoint}");
        let list = office.offboard(&["--json", "list"]).expect(0).json();
        let run = list["runs"][0]["run"].as_str().unwrap().to_string();
        if times == 0 {
            // It died before there was anything to tell.
            office.offboard(&["--json", "resume", &run]).expect(0);
        } else {
            office.offboard(&["mail", "--send"]).expect(0);
        }
        let arrived = mails(&run);
        assert_eq!(arrived.len(), times.max(1), "{failpoint}");
        let names: std::collections::BTreeSet<_> =
            arrived.iter().map(|m| (text(&m["id"]).to_string(), text(&m["date"]).to_string())).collect();
        assert_eq!(names.len(), 1, "{failpoint}: {names:?}");
        office.offboard(&["verify", &run]).expect(0);
        assert_eq!(mails(&run).len(), times.max(1), "{failpoint}");
    }
}

#[test]
fn hostile_names_are_only_names() {
    let lab = Lab::shared();
    let name = r#"Eve <script>alert(1)</script> "Bcc: eve@evil.test" =?utf-8?q?x?= %0d%0aBcc: $(id) ज़ोया"#;
    let leaver = lab.person_called(name);
    let office = Office::with_work_by_hand(&lab);
    let run = run_of(&office.run(&leaver).expect(10));
    let arrived = mails(&run);
    assert_eq!(arrived.len(), 2);
    for mail in &arrived {
        assert_eq!(mail["to"].as_array().unwrap().len(), 1);
        assert!(!mail["headers"].as_array().unwrap().iter().any(|h| text(h).eq_ignore_ascii_case("bcc")));
        assert!(!text(&mail["subject"]).contains("Eve"));
        assert!(part(mail, "text/plain", None).replace('\n', " ").contains("Eve <script>alert(1)</script>"));
        assert!(!part(mail, "text/html", None).contains("<script>"));
    }
}

#[test]
fn what_is_overdue_is_told_to_its_owner_and_to_those_who_run_this() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::with_work_by_hand(&lab);
    office.edit("playbooks/involuntary-termination.yaml", |book| {
        book.replace(
            "of: it@example.com, what: \"Collect laptop and badge\", within: 2d",
            "of: manager, what: \"Collect laptop and badge\", within: 1s",
        )
        .replace("formats: [html, json] }", "formats: [html], to: [hr@sunrise.test] }")
    });
    let run = run_of(&office.run(&leaver).expect(10));
    // Written already, to be sent on its day unless it is closed by then.
    assert!(undelivered(&office).is_empty());
    std::thread::sleep(std::time::Duration::from_millis(1100));
    office.offboard(&["verify", &run]).expect(10);
    office.offboard(&["verify", &run]).expect(10);
    let roster = std::fs::read_to_string(office.path("roster.csv")).unwrap();
    let manager =
        roster.lines().find(|line| line.starts_with("E1021,")).unwrap().split(',').nth(2).unwrap().to_string();
    let arrived = mails(&run);
    let to = |subject: &str| {
        let of_it = arrived.iter().filter(|m| text(&m["subject"]).split_once(": ").unwrap().1.starts_with(subject));
        let mut to: Vec<_> = of_it.map(|m| text(&m["to"][0]).to_string()).collect();
        to.sort();
        to
    };
    let mut everybody = vec![manager.clone(), "hr@sunrise.test".into(), SECURITY.into()];
    everybody.sort();
    assert_eq!(to("something to do"), std::slice::from_ref(&manager));
    assert_eq!(to("overdue"), everybody);
    assert_eq!(to("shut, except"), ["hr@sunrise.test", SECURITY]);
    let report =
        arrived.iter().find(|m| m["to"][0] == "hr@sunrise.test" && text(&m["subject"]).contains("except")).unwrap();
    let files: Vec<_> = report["parts"].as_array().unwrap().iter().filter_map(|p| p["file"].as_str()).collect();
    assert_eq!(files, [format!("offboard-{run}.html")], "as the playbook says");
}

#[test]
fn without_a_mail_server_nothing_is_mailed_and_nothing_fails() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    office.edit("offboard.yaml", |yaml| {
        let start = yaml.find("mail:\n").unwrap();
        let end = start + yaml[start..].find("\n\n").unwrap();
        format!("{}{}", &yaml[..start], &yaml[end..])
    });
    let done = office.run(&leaver).expect(0);
    assert!(!done.err.contains("mail"), "{}", done.err);
    assert!(mails(&run_of(&done)).is_empty());
    let told = office.offboard(&["mail"]).expect(2);
    assert!(told.err.contains("no mail server is configured"), "{}", told.err);
}

#[test]
fn a_sweep_is_told_to_whom_its_playbook_names_once() {
    let lab = Lab::shared();
    let office = Office::new(&lab);
    office.edit("playbooks/quarterly-stale-sweep.yaml", |book| {
        assert!(book.contains("report: { "));
        book.replace("report: { ", "report: { to: [audit@example.com], ")
    });
    let done = office.offboard(&["--json", "sweep"]).expect(20);
    let run = run_of(&done);
    let found = done.json()["findings"].as_array().unwrap().len();
    office.offboard(&["report", &run]).expect(0);
    let arrived = mails(&run);
    let mut to: Vec<&str> = arrived.iter().map(|mail| text(&mail["to"][0])).collect();
    to.sort_unstable();
    assert_eq!(to, ["audit@example.com", SECURITY]);
    for mail in &arrived {
        assert_eq!(text(&mail["subject"]), format!("offboard {run}: sweep, {found} findings"));
        assert!(part(mail, "text/plain", None).contains("Devika Tandon"));
        assert!(part(mail, "text/html", Some(&format!("offboard-{run}.html"))).contains("Sweep report"));
    }
}
