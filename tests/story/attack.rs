//! A leaver who is online during the run, and servers that are down at a bad moment.

use crate::lab::Lab;
use crate::office::{Office, all_shut};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

#[test]
fn a_host_that_is_down_is_unproven_and_delays_nobody() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let office = Office::hasty(&lab);
    let outage = lab.pause("web2");
    let down = lab.stop("db1");
    let report = office.run(&leaver).expect(10).json();
    let unreached: Vec<&str> =
        report["unreached"].as_array().unwrap().iter().map(|u| u["place"].as_str().unwrap()).collect();
    assert_eq!(unreached.len(), 2, "{unreached:?}");
    for door in report["doors"].as_array().unwrap() {
        assert_eq!(door["after"], "shut", "the others are contained: {door:#}");
    }
    drop((outage, down));
    let run = report["run"].as_str().unwrap();
    all_shut(&office.offboard(&["--json", "resume", run]).expect(0).json());
    assert_eq!(lab.ways_in(&leaver), Vec::<String>::new());
}

/// A waiver is a decision: it ends the waiting, and proves nothing.
#[test]
fn what_was_waived_is_not_queued_and_not_called_shut() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let office = Office::hasty(&lab);
    let down = lab.stop("db1");
    let report = office.run(&leaver).expect(10).json();
    let run = report["run"].as_str().unwrap();
    let place = report["unreached"][0]["place_id"].as_str().unwrap();
    office.offboard(&["waive", run, place, "--why", "It is scrapped today."]).expect(10);
    let status = office.offboard(&["--json", "status", run]).expect(10).json();
    assert_eq!((status["verdict"].as_str(), status["settled"].as_bool()), (Some("unproven"), Some(true)));
    assert!(office.offboard(&["status", run]).expect(10).out.starts_with("Shut, except what was waived"));
    assert_eq!(office.offboard(&["status"]).expect(0).out, "No run to show.\n");
    drop(down);
    // Nothing is queued, so nothing keeps a new run from beginning.
    all_shut(&office.run(&leaver).expect(0).json());
}

/// A host that came into offboard.yaml after the run must not be forgotten because the run does not know it.
#[test]
fn a_host_that_is_added_before_a_resume_counts() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::hasty(&lab);
    let run = office.run(&leaver).expect(0).json()["run"].as_str().unwrap().to_string();
    office.edit("offboard.yaml", |text| {
        text.replace(
            "- bastion.sunrise.test",
            "- bastion.sunrise.test\n        - { name: late.sunrise.test, address: 127.66.0.99 }",
        )
    });
    let report = office.offboard(&["--json", "resume", &run]).expect(10).json();
    assert_eq!(report["verdict"], "unproven");
    assert_eq!(report["unreached"][0]["place"], "late.sunrise.test", "{:#}", report["unreached"]);
}

/// However a run is asked to stop, it says how it goes on.
#[test]
fn every_signal_gets_the_same_last_words() {
    let lab = Lab::alone();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let leaver = lab.person();
        let office = Office::hasty(&lab);
        let paused = lab.pause("web2");
        let run = office.command(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes"]);
        // Whoever started the tests may ignore them.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,TERM,HUP").arg(run.get_program()).args(run.get_args());
        command.current_dir(run.get_current_dir().unwrap()).env_remove("OFFBOARD_CONFIG");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // With its first words it listens; and until the deadline it waits for the host that hangs.
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        err.read_line(&mut said).unwrap();
        let run = said.trim_start_matches("Run ").split(':').next().unwrap().to_string();
        nix::sys::signal::kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        err.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(10), "{signal}: {said}");
        assert!(said.contains(signal.as_str()) && said.contains(&format!("offboard resume {run}")), "{said}");
        drop(paused);
    }
}

#[test]
fn a_key_planted_half_way_does_not_stay() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let mut planter = lab.plant_keys_until_cut(&leaver, "web1");
    let report = office.run(&leaver).expect(0).json();
    all_shut(&report);
    planter.wait_for_end();
    assert_eq!(lab.ways_in(&leaver), Vec::<String>::new());
    assert_eq!(lab.ways_in_with(&planter.key(), &leaver), Vec::<String>::new(), "a planted key opens nothing");
}

#[test]
fn a_role_that_reconnects_in_a_loop_is_out_in_the_end() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let mut looping = lab.psql_in_a_loop(&leaver);
    all_shut(&office.run(&leaver).expect(0).json());
    looping.kill().unwrap();
    looping.wait().unwrap();
    assert_eq!(lab.sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", leaver.user)), "0");
}

#[test]
fn a_new_run_after_an_unfinished_one_forgets_no_key() {
    let lab = Lab::alone();
    let leaver = lab.person();
    // A key that nothing declares: it can be learned only from the leaver's own account, from which the first run takes it.
    let second = lab.undeclared_key(&leaver, "bastion", "backup");
    assert_eq!(lab.ways_in_with(&second, &leaver), ["@bastion"]);
    assert!(lab.ssh(&second, "deploy", "backup"));
    let office = Office::hasty(&lab);
    let down = lab.stop("backup");
    let first = office.run(&leaver).expect(10).json();
    drop(down);
    // A new run while that one is not shut is refused, and says what to do instead.
    let refused = office.run(&leaver).expect(13);
    assert!(refused.err.contains(&format!("offboard resume {}", first["run"].as_str().unwrap())), "{}", refused.err);
    // Forced, it still knows what the first one found.
    all_shut(
        &office
            .offboard(&["--json", "run", &leaver.id, "-p", "involuntary-termination", "--yes", "--anew"])
            .expect(0)
            .json(),
    );
    assert!(!lab.ssh(&second, "deploy", "backup"), "the key that only the first run saw still opens");
}
