//! Commands while a server holds the journal: it carries them out, and they end as they would have without it.

use crate::lab::Lab;
use crate::office::all_shut;
use crate::server::{Server, office, runs, status};

#[test]
fn a_second_server_is_refused() {
    let lab = Lab::shared();
    let office = office(&lab);
    let server = Server::start(&office);
    let second = office.offboard(&["serve"]).expect(1);
    assert!(second.err.contains("offboard serve already"), "{}", second.err);
    assert!(server.stop().success());
}

#[test]
fn commands_are_handed_over_and_end_as_without_a_server() {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    let office = office(&lab);
    let server = Server::start(&office);
    let folder = office.path("here");
    let done = office
        .offboard(&[
            "--json",
            "run",
            &leaver.id,
            "-p",
            "involuntary-termination",
            "--yes",
            "--report-to",
            folder.to_str().unwrap(),
        ])
        .expect(0);
    let report = done.json();
    all_shut(&report);
    let run = report["run"].as_str().unwrap().to_string();
    assert!(folder.join(format!("{run}.html")).exists());
    assert_eq!(lab.ways_in(&leaver), Vec::<String>::new());
    assert_eq!(lab.ways_in(&bystander), lab.all_ways());
    office.offboard(&["verify", &run]).expect(0);
    lab.sql(&format!("ALTER ROLE \"{}\" LOGIN", leaver.user));
    let seen = office.offboard(&["--json", "verify", &run]).expect(11).json();
    assert_eq!(seen["verdict"], "open");
    // What is open can still be proved shut: the passwords for that are kept.
    let kept = office.offboard(&["verify", &run, "--last"]).expect(13);
    assert!(kept.err.contains("witness passwords are kept"), "{}", kept.err);
    all_shut(&office.offboard(&["--json", "resume", &run]).expect(0).json());
    // What is refused is refused in the same words.
    let wrong = office.offboard(&["waive", &run, "nothing/such", "--why", "because"]).expect(2);
    assert!(wrong.err.contains("no unfinished step or unreached place"), "{}", wrong.err);
    let active = office.offboard(&["run", &bystander.id, "-p", "involuntary-termination", "--yes"]).expect(13);
    assert!(active.err.contains("has not left"), "{}", active.err);
    office.offboard(&["resume", "ZZZZ"]).expect(1);
    // One-time passwords go through nobody's hands.
    let restore = office.offboard(&["restore", &run, "--yes", "--passwords-to", "one-time"]).expect(13);
    assert!(restore.err.contains("systemctl stop offboard"), "{}", restore.err);
    assert!(!office.path("one-time").exists());
    assert!(server.stop().success());
    office.offboard(&["restore", &run, "--yes", "--passwords-to", "one-time"]).expect(0);
    // What was given back is not taken away again by a later server.
    let mut server = Server::start(&office);
    server.wait_for("it comes round", |s| s.page("/readyz").0 == 200);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(server.stop().success());
    assert_eq!(crate::server::starts(&office, &run).len(), 2, "run and resume, and nothing by itself");
}

#[test]
fn of_two_who_ask_at_the_same_time_one_gets_a_run() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = office(&lab);
    let server = Server::start(&office);
    let ask = || {
        let mut command = office.command(&["run", &leaver.id, "-p", "involuntary-termination", "--yes"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut asked = [ask(), ask()];
    let mut exits = asked.each_mut().map(|child| child.wait().unwrap().code());
    exits.sort_unstable();
    assert_eq!(exits, [Some(0), Some(13)]);
    assert_eq!(runs(&office).len(), 1);
    assert!(server.stop().success());
}

#[test]
fn moving_a_run_ends_nobodys_access_before_they_have_left() {
    let lab = Lab::shared();
    let (_, stays) = lab.look_alikes();
    let office = office(&lab);
    let later = ["run", &stays.id, "-p", "involuntary-termination", "--yes", "--at", "2030-12-31T18:00:00Z"];
    let run = office.offboard(&[&["--json"][..], &later, &["--although-active"]].concat()).expect(0);
    let run = run.json()["run"].as_str().unwrap().to_string();
    let refused = office.offboard(&["reschedule", &run, "--at", "now"]).expect(13);
    assert!(refused.err.contains("has not left"), "{}", refused.err);
    assert_eq!(runs(&office)[0]["scheduled"], "2030-12-31T18:00:00Z");
    office.offboard(&["reschedule", &run, "--at", "2031-01-31T18:00:00Z", "--although-active"]).expect(0);
}

#[test]
fn a_command_does_its_own_work_when_the_server_dies_before_it_has_taken_the_order() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = office(&lab);
    let server = Server::start(&office);
    // Stopped in its tracks it holds the journal and takes nothing; then it dies.
    server.signal(nix::sys::signal::Signal::SIGSTOP);
    let command = office
        .command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(runs(&office).is_empty());
    server.kill();
    let done: crate::office::Done = command.wait_with_output().unwrap().into();
    all_shut(&done.expect(0).json());
    assert_eq!(runs(&office).len(), 1);
}

#[test]
fn an_order_that_a_dead_server_had_begun_is_finished_and_answered_by_the_next() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = office(&lab);
    let server = Server::start_with(&office, &[("OFFBOARD_DIE_AT", "engine::after-apply:2")]);
    let command = office
        .command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    server.wait_for_death();
    let server = Server::start(&office);
    let done: crate::office::Done = command.wait_with_output().unwrap().into();
    let report = done.expect(0).json();
    all_shut(&report);
    assert_eq!(runs(&office).len(), 1, "no second run");
    all_shut(&status(&office, report["run"].as_str().unwrap()));
    assert!(server.stop().success());
}
