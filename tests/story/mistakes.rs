//! Bad input gets a clear error and changes nothing.

use crate::lab::Lab;
use crate::office::Office;
use std::os::unix::fs::PermissionsExt;

#[test]
fn mistakes_are_named_and_change_nothing() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let run = ["run", &leaver.id, "-p", "involuntary-termination", "--yes"];

    let done = office.offboard(&["run", "E0000", "-p", "involuntary-termination", "--yes"]).expect(2);
    assert!(done.err.contains("E0000"), "{}", done.err);
    let done = office.offboard(&["run", &leaver.id, "-p", "no-such-book", "--yes"]).expect(2);
    assert!(done.err.contains("no-such-book") && done.err.contains("involuntary-termination"), "{}", done.err);
    // Without a terminal nobody can confirm.
    office.offboard(&["run", &leaver.id, "-p", "involuntary-termination"]).expect(13);

    let active = lab.active_person();
    let office2 = Office::new(&lab);
    let done = office2.offboard(&["run", &active.id, "-p", "involuntary-termination", "--yes"]).expect(13);
    assert!(done.err.contains("has not left"), "{}", done.err);
    assert_eq!(lab.ways_in(&active), lab.all_ways());

    // A configuration that others may write.
    std::fs::set_permissions(office.path("offboard.yaml"), PermissionsExt::from_mode(0o666)).unwrap();
    let done = office.offboard(&run).expect(2);
    assert!(done.err.contains("chmod go-w"), "{}", done.err);
    std::fs::set_permissions(office.path("offboard.yaml"), PermissionsExt::from_mode(0o600)).unwrap();

    // An unknown key: file, line, caret, the valid choices.
    office.edit("playbooks/involuntary-termination.yaml", |t| t.replace("deadline:", "deadlin:"));
    let done = office.offboard(&run).expect(2);
    for part in ["involuntary-termination.yaml:", "deadlin", "^", "deadline"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    office.edit("playbooks/involuntary-termination.yaml", |t| t.replace("deadlin:", "deadline:"));

    assert_eq!(lab.ways_in(&leaver), lab.all_ways(), "nothing was changed");
}

#[test]
fn a_wrong_host_key_a_wrong_ca_and_a_wrong_password_of_our_own() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::hasty(&lab);
    let keep = std::fs::read_to_string(office.path("known_hosts")).unwrap();
    office.edit("known_hosts", |text| {
        // Everybody's key is the first host's key now.
        let key = text.lines().next().unwrap().split_once(' ').unwrap().1.to_string();
        text.lines().map(|l| format!("{} {key}\n", l.split(' ').next().unwrap())).collect()
    });
    let done = office.run(&leaver).expect(10);
    assert!(done.out.contains("the host's key is wrong"), "{}\n{}", done.out, done.err);
    std::fs::write(office.path("known_hosts"), keep).unwrap();

    let other = lab.person();
    let office = Office::hasty(&lab);
    office.edit("secrets/postgres", |_| "not the password".into());
    let done = office.run(&other).expect(10);
    assert!(!done.out.contains("not the password") && !done.err.contains("not the password"), "our password is shown");
    let report = done.json();
    assert!(report["unreached"].as_array().unwrap().iter().any(|u| u["system"] == "billing"), "{report:#}");
}

#[test]
fn a_tampered_journal_is_exit_21() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    office.run(&leaver).expect(0);
    office.offboard(&["journal", "verify"]).expect(0);
    lab.tamper(&office.path("journal/journal.sqlite"), "none");
    let done = office.offboard(&["journal", "verify"]).expect(21);
    assert!(!done.out.is_empty());
}

/// Also whoever only reads hears of it, and when it is another run's record that was changed.
#[test]
fn whoever_reads_a_tampered_journal_is_told() {
    let lab = Lab::shared();
    let (first, second) = (lab.person(), lab.person());
    let office = Office::new(&lab);
    office.run(&first).expect(0);
    office.edit("roster.csv", |_| std::fs::read_to_string(lab.root().join("roster.csv")).unwrap());
    let run = office.run(&second).expect(0).json()["run"].as_str().unwrap().to_string();
    office.offboard(&["status", &run]).expect(0);
    lab.tamper(&office.path("journal/journal.sqlite"), &run);
    let told = "The journal does not verify";
    assert!(office.offboard(&["status", &run]).expect(21).out.contains(told));
    assert!(office.offboard(&["report", &run]).expect(21).out.contains(told));
    assert!(office.offboard(&["verify", &run]).expect(21).out.contains(told));
    let err = office.offboard(&["status"]).expect(21).err;
    assert!(err.contains("does not verify"), "{err}");
}

#[test]
fn a_full_disk_under_the_journal_stops_before_anything_is_touched() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::new(&lab);
    let run = ["run", &leaver.id, "-p", "involuntary-termination", "--yes"];
    // The kernel refuses to let any file of this process grow, as a full disk does.
    let done = lab.with_no_room_for_files(office.command(&run));
    assert!(done.status.code().is_some_and(|c| c != 0), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("error["), "{done:?}");
    assert_eq!(lab.ways_in(&leaver), lab.all_ways(), "nothing was touched");
}

#[test]
fn above_the_playbooks_limit_nothing_more_is_touched() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let office = Office::hasty(&lab);
    office.edit("playbooks/involuntary-termination.yaml", |text| {
        text.lines()
            .map(|l| {
                if l.starts_with("limits:") { "limits: { people: 1, accounts: 1 }\n".into() } else { format!("{l}\n") }
            })
            .collect()
    });
    let report = office.run(&leaver).expect(13).json();
    let accounts: std::collections::BTreeSet<_> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["place"].to_string(), s["account"].to_string()))
        .collect();
    assert!(accounts.len() <= 1, "{accounts:?}");
    assert!(report["unreached"].to_string().contains("limit is 1"), "{:#}", report["unreached"]);
}

#[test]
fn whoever_matches_nothing_is_not_called_shut() {
    let lab = Lab::shared();
    let office = Office::hasty(&lab);
    office.edit("roster.csv", |text| {
        text + "E7777,Vera Vapour,vvapour@sunrise.test,vvapour,E1021,Engineering,employee,terminated,involuntary,2026-11-20,Asia/Kolkata\n"
    });
    let report =
        office.offboard(&["--json", "run", "E7777", "-p", "involuntary-termination", "--yes"]).expect(10).json();
    assert_eq!(report["verdict"], "unproven");
    assert_eq!(report["doors"].as_array().unwrap().len(), 0);
    // Said to whoever reads it, and what to do.
    let text = office.offboard(&["status", report["run"].as_str().unwrap()]).expect(10).out;
    assert!(text.contains("offboard.yaml"), "{text}");
}
