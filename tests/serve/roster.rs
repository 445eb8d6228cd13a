//! Leavers whom the roster names.

use crate::lab::{Lab, LabPerson};
use crate::office::{Office, all_shut};
use crate::server::{Server, has_ended, runs, serve_with, starts, status};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// An office whose roster holds those who work here, and picks up who leaves.
fn office(lab: &Lab, settings: &str) -> Office {
    let office = Office::new(lab);
    serve_with(&office, settings);
    office.edit("roster.csv", |text| {
        let stays = |line: &&str| line.starts_with("id,") || (line.contains(",active,,,") && line.starts_with("E1"));
        let mut kept: String = text.lines().filter(stays).map(|line| format!("{line}\n")).collect();
        // offboard.yaml names them.
        kept += "E1042,Rohan Mehta,,rmehta,,,employee,active,,,Asia/Kolkata\n";
        kept
    });
    office
}

/// Sets a person's row, as HR's export does: whole, in one go.
fn set(office: &Office, person: &LabPerson, status: &str, ends: &str) {
    let text = std::fs::read_to_string(office.path("roster.csv")).unwrap();
    let mut kept: String =
        text.lines().filter(|l| !l.starts_with(&person.id)).map(|line| format!("{line}\n")).collect();
    let (id, name, mail, user) = (&person.id, &person.name, &person.mail, &person.user);
    kept += &format!("{id},{name},{mail},{user},,,employee,{status},involuntary,{ends},Asia/Kolkata\n");
    let draft = office.path("roster.new");
    std::fs::write(&draft, kept).unwrap();
    std::fs::rename(draft, office.path("roster.csv")).unwrap();
}

/// So many seconds from now, as the roster has it: in the person's own zone.
fn local(seconds: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    at.to_zoned(TimeZone::get("Asia/Kolkata").unwrap()).strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[test]
fn a_leaver_is_scheduled_moved_taken_back_and_run_once() {
    let lab = Lab::shared();
    let leaver = lab.active_person();
    let office = office(&lab, "leavers: true");
    set(&office, &leaver, "active", "");
    let mut server = Server::start(&office);
    set(&office, &leaver, "active", "2030-06-30");
    server.wait_for("the end date is picked up", |_| runs(&office).len() == 1);
    let run = runs(&office)[0]["run"].as_str().unwrap().to_string();
    // The last second of that day in Kolkata.
    assert_eq!(runs(&office)[0]["scheduled"], "2030-06-30T18:29:59Z");
    assert_eq!(status(&office, &run)["requested_by"]["asserted_by"], "roster");
    set(&office, &leaver, "active", "2030-07-31");
    server.wait_for("it is moved", |_| runs(&office)[0]["scheduled"] == "2030-07-31T18:29:59Z");
    set(&office, &leaver, "active", "");
    server.wait_for("it is taken back", |_| runs(&office)[0]["cancelled"] == true);
    set(&office, &leaver, "active", &local(5));
    server.wait_for("it is asked for again", |_| runs(&office).len() == 2);
    let second =
        runs(&office).into_iter().find(|r| r["run"] != run.as_str()).unwrap()["run"].as_str().unwrap().to_string();
    server.wait_for("it ends", |_| has_ended(&office, &second));
    all_shut(&status(&office, &second));
    assert_eq!(lab.ways_in(&leaver), Vec::<String>::new());
    // HR follows with the status; nobody is run twice, also by a server that has just started.
    let ends = runs(&office);
    set(&office, &leaver, "terminated", &local(-60));
    assert!(server.stop().success());
    let mut server = Server::start(&office);
    server.wait_for("the roster is compared", |s| s.page("/readyz").0 == 200);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(runs(&office).len(), ends.len());
    assert_eq!(starts(&office, &second).len(), 1);
    drop(server);
}

#[test]
fn a_leaver_whose_run_is_cut_off_as_it_is_asked_for_keeps_the_date() {
    let lab = Lab::shared();
    let leaver = lab.active_person();
    let office = office(&lab, "leavers: true");
    set(&office, &leaver, "active", "2030-06-30");
    Server::start_with(&office, &[("OFFBOARD_DIE_AT", "desk::requested:1")]).wait_for_death();
    let run = runs(&office)[0]["run"].as_str().unwrap().to_string();
    let mut server = Server::start(&office);
    server.wait_for("the roster is compared", |s| s.page("/readyz").0 == 200);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(runs(&office).len(), 1);
    assert_eq!(runs(&office)[0]["scheduled"], "2030-06-30T18:29:59Z");
    assert_eq!(starts(&office, &run).len(), 0, "the date has not come");
    assert_eq!(lab.ways_in(&leaver), lab.all_ways());
}

#[test]
fn what_the_roster_says_while_nothing_serves_comes_before_a_missed_hour() {
    let lab = Lab::shared();
    let (stays, later) = (lab.active_person(), lab.active_person());
    let office = office(&lab, "leavers: true");
    let hour = Timestamp::now() + SignedDuration::from_secs(20);
    set(&office, &stays, "active", &local(20));
    set(&office, &later, "active", &local(20));
    let mut server = Server::start(&office);
    server.wait_for("both are picked up", |_| runs(&office).len() == 2);
    assert!(server.stop().success());
    set(&office, &stays, "active", "");
    set(&office, &later, "active", "2030-06-30");
    while Timestamp::now() <= hour + SignedDuration::from_secs(1) {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let mut server = Server::start(&office);
    let is = |person: &LabPerson, key: &str, value: serde_json::Value| {
        runs(&office).iter().any(|r| r["person"] == person.id.as_str() && r[key] == value)
    };
    server.wait_for("one is taken back", |_| is(&stays, "cancelled", true.into()));
    server.wait_for("the other is moved", |_| is(&later, "scheduled", "2030-06-30T18:29:59Z".into()));
    std::thread::sleep(std::time::Duration::from_secs(7));
    for run in runs(&office) {
        assert_eq!(starts(&office, run["run"].as_str().unwrap()).len(), 0, "{run:#}");
    }
    assert_eq!(lab.ways_in(&stays), lab.all_ways());
    assert_eq!(lab.ways_in(&later), lab.all_ways());
}

#[test]
fn a_roster_that_is_half_written_does_nothing_and_is_said() {
    let lab = Lab::shared();
    let (leaver, stays) = (lab.active_person(), lab.active_person());
    let office = office(&lab, "leavers: true");
    set(&office, &leaver, "active", "");
    set(&office, &stays, "active", "2030-06-30");
    let mut server = Server::start(&office);
    server.wait_for("the first is picked up", |_| runs(&office).len() == 1);
    // An export that is cut off in the middle of a row: whoever comes after it is missing, and so is the end date.
    let whole = std::fs::read_to_string(office.path("roster.csv")).unwrap();
    std::fs::write(office.path("roster.csv"), &whole[..whole.len() - 30]).unwrap();
    server.wait_for("it is said", |s| s.page("/readyz").0 == 503);
    let (_, page) = server.page("/readyz");
    // Any user of this machine may ask: the row that is wrong stands in the log, not here.
    assert_eq!(page, serde_json::json!({ "ready": false, "wrong": [{ "kind": "configuration", "count": 1 }] }));
    assert!(server.log().contains("error[roster]"), "{}", server.log());
    assert_eq!(server.page("/healthz").0, 200, "it is alive all the same");
    assert!(!server.log().contains("takes a leaver back"));
    // Cut off at the end of a row it can be read, and lacks people: nobody is taken back for that either.
    let short: String = whole.lines().filter(|l| !l.starts_with(&stays.id)).map(|l| format!("{l}\n")).collect();
    std::fs::write(office.path("roster.csv"), short).unwrap();
    server.wait_for("it is good again", |s| s.page("/readyz").0 == 200);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(runs(&office)[0]["cancelled"], false);
    std::fs::write(office.path("roster.csv"), whole).unwrap();
    set(&office, &leaver, "active", "2030-06-30");
    server.wait_for("the second is picked up", |_| runs(&office).len() == 2);
    // A mistake in offboard.yaml or a playbook is the same.
    office.edit("offboard.yaml", |text| text + "nonsense: true\n");
    server.wait_for("it is said", |s| s.page("/readyz").0 == 503);
    office.edit("offboard.yaml", |text| text.replace("nonsense: true\n", ""));
    server.wait_for("it is good again", |s| s.page("/readyz").0 == 200);
    office.edit("playbooks/voluntary-departure.yaml", |text| text.replace("do: disable", "do: disabel"));
    server.wait_for("it is said", |s| s.page("/readyz").0 == 503);
}

#[test]
fn a_crowd_and_those_long_gone_are_run_by_nobody() {
    let lab = Lab::shared();
    let office = office(&lab, "leavers: true, leavers-at-once: 2, leavers-since: 1d");
    let person = |n: u32| LabPerson {
        id: format!("E77{n}"),
        user: format!("nobody{n}"),
        name: format!("Nobody Number {n}"),
        mail: format!("nobody{n}@sunrise.test"),
        password: String::new(),
        key: std::path::PathBuf::new(),
    };
    for n in 1..=3 {
        set(&office, &person(n), "active", "2030-06-30");
    }
    set(&office, &person(4), "active", "2030-12-31");
    set(&office, &person(5), "terminated", "2024-01-31");
    set(&office, &person(6), "terminated", "");
    set(&office, &person(7), "active", "1970-01-01");
    set(&office, &person(8), "active", "9999-12-31");
    let mut server = Server::start(&office);
    server.wait_for("the one who leaves alone is picked up", |_| runs(&office).len() == 1);
    assert_eq!(runs(&office)[0]["person"], "E774");
    server.wait_for("it is said", |s| s.page("/readyz").0 == 503);
    let (_, page) = server.page("/readyz");
    assert_eq!(page, serde_json::json!({ "ready": false, "wrong": [{ "kind": "leavers at once", "count": 3 }] }));
    assert!(server.log().contains("3 people leave within a day of each other (E771, E772, E773)"), "{}", server.log());
    // Who has looked at it raises the limit.
    serve_with(&office, "leavers: true, leavers-at-once: 3, leavers-since: 1d");
    server.wait_for("they are picked up", |_| runs(&office).len() == 4);
    server.wait_for("it is good again", |s| s.page("/readyz").0 == 200);
    // Somebody whom it has seen at work, and who is gone without a date, is run at once.
    set(&office, &person(7), "terminated", "");
    server.wait_for("who is gone is picked up", |_| runs(&office).len() == 5);
    let people: Vec<String> = runs(&office).iter().map(|r| r["person"].as_str().unwrap().to_string()).collect();
    assert!(!people.contains(&"E775".into()) && !people.contains(&"E776".into()), "{people:?}");
}

/// The mails about a held roster that have come to somebody.
fn held(lab: &Lab, to: &str) -> Vec<String> {
    let mails = std::fs::read_dir(lab.root().join("mail")).unwrap();
    let mails = mails.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
    mails.filter(|mail| mail.contains("Subject: offboard: the roster is held") && mail.contains(to)).collect()
}

/// A mail server that cannot be spoken with keeps the mail back, and is complained of once.
#[test]
fn a_held_roster_is_told_by_mail_once_and_so_is_what_keeps_the_mail_back() {
    let lab = Lab::shared();
    let office = office(&lab, "leavers: true, leavers-at-once: 1");
    let to = "held-roster@example.com";
    std::fs::copy(office.path("ca.pem"), office.path("mail-ca.pem")).unwrap();
    office.edit("offboard.yaml", |text| {
        let ours = text.replacen("ca: ca.pem\n  user: offboard\n", "ca: mail-ca.pem\n  user: offboard\n", 1);
        assert_ne!(ours, text);
        ours.replace("to: [security@sunrise.test]", &format!("to: [{to}]"))
    });
    let (one, other) = (lab.active_person(), lab.active_person());
    set(&office, &one, "active", "2030-06-30");
    set(&office, &other, "active", "2030-06-30");
    let mut server = Server::start(&office);
    server.wait_for("it is told", |_| !held(&lab, to).is_empty());
    let mail = held(&lab, to).remove(0);
    for said in ["nobody's access was changed", &one.id, &other.id, "leavers-at-once"] {
        assert!(mail.replace("=\r\n", "").contains(said), "{said}: {mail}");
    }
    let subject = mail.lines().find(|line| line.starts_with("Subject: ")).unwrap();
    assert!(!subject.contains(&one.id) && !subject.contains(&other.id), "{subject}");
    assert!(runs(&office).is_empty(), "nobody is run");
    // Mail that is due while the server's certificate cannot be checked waits, and that is said once.
    std::fs::rename(office.path("mail-ca.pem"), office.path("mail-ca.away")).unwrap();
    let one_more = format!(
        "INSERT INTO mail (run, occasion, at, subject, content) SELECT run, 'once more', at, subject, \
           '{{\"text\":\"more\",\"html\":\"more\",\"attachments\":[]}}' FROM mail; \
         INSERT INTO delivery (mail, recipient, state, attempts, not_before) SELECT id, '{to}', 'queued', 0, 0 FROM mail WHERE occasion = 'once more'"
    );
    let mut sqlite = std::process::Command::new("sqlite3");
    sqlite.args(["-cmd", ".timeout 5000"]).arg(office.path("journal/store.sqlite")).arg(one_more);
    assert!(sqlite.status().unwrap().success());
    let waits = |s: &Server| s.lines().iter().filter(|line| line["message"] == "mail waits").count();
    server.wait_for("the mail waits", |s| waits(s) > 0);
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(waits(&server), 1, "said once, not each second: {}", server.log());
    assert_eq!(held(&lab, to).len(), 1);
    std::fs::rename(office.path("mail-ca.away"), office.path("mail-ca.pem")).unwrap();
    server.wait_for("it arrives", |_| held(&lab, to).len() == 2);
    server.wait_for("that mail goes on is said", |s| s.log().contains("mail goes on"));
    assert_eq!(waits(&server), 1);
}
