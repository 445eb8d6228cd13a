//! A leaver who is online during the run, and servers that are down at a bad moment.

use crate::lab::Lab;
use crate::office::{Office, all_shut};

#[test]
fn a_host_that_is_down_is_unproven_and_delays_nobody() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let office = Office::new(&lab);
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
    let office = Office::new(&lab);
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
