//! Sweeps of the real binary over the real servers of the lab.
//!
//! Run with `make test`, or `lab/enter cargo test --features failpoints --test sweep`. Each test has the lab for itself: what one of them
//! makes would be an orphan to another.

#[path = "lab/mod.rs"]
mod lab;
#[path = "story/office.rs"]
#[allow(dead_code, reason = "the stories need more of it")]
mod office;

use lab::Lab;
use office::Office;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

const BOOK: &str = "playbooks/quarterly-stale-sweep.yaml";

fn sweep(office: &Office, code: i32) -> Value {
    office.offboard(&["--json", "sweep"]).expect(code).json()
}

/// Accounts on hosts that `tests/ssh.rs` makes and leaves; cargo runs it before, in the same lab.
const LEFT_BY_OTHERS: [&str; 3] = ["bytesacct", "oddimm", "raceacct"];

/// Kind, system and account of findings; a key's as `account key`. People whom other tests have made are left out.
fn found(list: &Value) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let others = |f: &&Value| {
        let account = text(&f["account"]);
        let user = account.strip_prefix("uid=").unwrap_or(&account);
        let mut parts = user.splitn(2, 'x');
        let is_test = parts.next().is_some_and(|p| p.len() > 1 && p[1..].bytes().all(|b| b.is_ascii_digit()));
        let of_test = f["owner"].as_array().unwrap().iter().any(|o| text(&o["id"]).contains('-'));
        // Public keys begin with any letter.
        !(of_test
            || f["system"] != "tunnel" && user.starts_with(['t', 's']) && is_test
            || LEFT_BY_OTHERS.contains(&user))
    };
    let name = |f: &Value| {
        let key = if f["credential"].is_string() { " key" } else { "" };
        let account = text(&f["account"]);
        // Keys of WireGuard are new in every lab.
        let account =
            if f["system"] == "tunnel" { f["owner"][0]["id"].as_str().unwrap_or("nobody").into() } else { account };
        let user = account.strip_suffix(",ou=people,dc=sunrise,dc=test").unwrap_or(&account);
        format!("{} {} {user}{key}", text(&f["kind"]), text(&f["system"]))
    };
    list.as_array().unwrap().iter().filter(others).map(name).collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| name.to_string()).collect()
}

fn ldap(lab: &Lab, tool: &str, input: &str) {
    let password = std::fs::read_to_string(lab.root().join("secrets/ldap-admin")).unwrap();
    let file = lab.root().join("tmp/sweep.ldif");
    std::fs::write(&file, input).unwrap();
    let output = Command::new(tool)
        .args([
            "-x",
            "-H",
            "ldaps://ldap1.sunrise.test",
            "-D",
            "cn=admin,dc=sunrise,dc=test",
            "-w",
            password.trim_end(),
            "-f",
        ])
        .arg(&file)
        .env("LDAPTLS_CACERT", lab.root().join("ca.pem"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn exactly_these_are_found_and_the_same_again() {
    let lab = Lab::alone();
    let office = Office::new(&lab);
    let report = sweep(&office, 20);
    let seeded = names(&[
        "lingering billing dtandon",
        "lingering billing rmehta",
        "lingering billing rmehta_dba",
        "lingering cache dtandon",
        "lingering cache rmehta",
        "lingering clinic dtandon",
        "lingering clinic rmehta",
        "lingering directory uid=dtandon",
        "lingering directory uid=rmehta",
        "lingering fleet agokhale key",
        "lingering fleet deploy key",
        "lingering fleet dtandon",
        "lingering fleet rmehta",
        "lingering fleet root key",
        "lingering safe userpass/rmehta",
        "lingering tunnel E1042",
        "lingering vpn dtandon",
        "lingering vpn rmehta",
        "orphan billing hgupta_tmp",
        "orphan billing offboard_limited",
        "orphan billing rmehtaa_dba",
        "orphan cache offboard_limited",
        "orphan clinic offboard_limited",
        "orphan directory uid=ngupta2",
        "orphan fleet agokhalee",
        "orphan safe userpass/offboard_limited",
        "dormant directory uid=lpatel",
        "dormant fleet cyadav",
    ]);
    assert_eq!(found(&report["findings"]), seeded, "{report:#}");
    let excepted = names(&[
        "orphan billing monitor",
        "orphan billing offboard",
        "orphan billing portal_app",
        "orphan billing postgres",
        "orphan cache admin",
        "orphan cache monitor",
        "orphan cache offboard",
        "orphan cache replica",
        "orphan clinic monitor",
        "orphan clinic offboard",
        "orphan clinic reports",
        "orphan clinic root",
        "orphan fleet backup-svc",
        "orphan fleet deploy",
        "orphan fleet emergency",
        "orphan fleet offboard",
        "orphan fleet root",
        "orphan safe approle/ci",
        "orphan safe approle/offboard",
        "orphan safe userpass/monitor",
        "orphan tunnel nobody",
        "orphan vpn gateway",
    ]);
    assert_eq!(found(&report["excepted"]), excepted);
    for finding in report["excepted"].as_array().unwrap() {
        assert!(finding["excepted"].as_str().is_some_and(|by| !by.is_empty()), "{finding:#}");
    }
    for finding in report["findings"].as_array().unwrap() {
        assert!(["why", "next"].iter().all(|key| finding[key].as_str().is_some_and(|t| !t.is_empty())), "{finding:#}");
    }
    let one = |account: &str| {
        let found = report["findings"].as_array().unwrap().iter().find(|f| f["account"] == account);
        found.unwrap_or_else(|| panic!("{account}")).clone()
    };
    assert_eq!(one("dtandon")["next"], "offboard run E1032");
    assert_eq!(one("dtandon")["since"], "2024-06-28T18:29:59Z");
    assert_eq!(one("cyadav")["last_used"], "2024-01-05T08:30:00Z");
    assert_eq!(one("cyadav")["places"], serde_json::json!(["fleet/db1.sunrise.test"]));
    assert_eq!(one("agokhalee")["places"], serde_json::json!(["fleet/web1.sunrise.test"]));

    assert_eq!(sweep(&office, 20)["findings"], report["findings"], "the same sweep twice");
    let run = report["run"].as_str().unwrap();
    let out = office.offboard(&["status", run]).expect(20).out;
    for part in ["Lingering", "offboard run E1032", "Clara Yadav", "hgupta_tmp"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let html = office.offboard(&["report", run]).expect(0).out;
    assert!(html.contains("agokhalee") && html.contains(run) && !html.contains("http-equiv=\"refresh\""));
    let list = office.offboard(&["--json", "list"]).expect(0).json();
    assert_eq!(list["sweeps"].as_array().unwrap().len(), 2);
    office.offboard(&["journal", "verify"]).expect(0);
    for secret in lab.operator_secrets() {
        assert!(!html.contains(&secret) && !report.to_string().contains(&secret));
    }
    // A sweep is no run of a leaver's.
    for command in [&["resume", run][..], &["verify", run], &["waive", run, "x", "--why", "y"]] {
        assert!(office.offboard(command).expect(2).err.contains("is a sweep"));
    }
    let done = office.offboard(&["run", "E1042", "-p", "quarterly-stale-sweep", "--yes"]).expect(2);
    assert!(done.err.contains("offboard sweep -p quarterly-stale-sweep"), "{}", done.err);
    let done = office.offboard(&["sweep", "-p", "involuntary-termination"]).expect(2);
    assert!(done.err.contains("for leavers"), "{}", done.err);
}

#[test]
fn what_nobody_can_say_is_said_and_is_not_clear() {
    let lab = Lab::alone();
    let office = Office::new(&lab);
    // PostgreSQL keeps no last login: asked for it, the sweep says so.
    office.edit(BOOK, |text| text.replace(", in: [directory, host, vpn]", ""));
    let report = sweep(&office, 20);
    let billing = report["places"].as_array().unwrap().iter().find(|p| p["system"] == "billing").unwrap().clone();
    assert!(billing["unknown"].as_u64().unwrap() > 0, "{billing:#}");
    assert!(billing["because"].as_str().unwrap().contains("PostgreSQL keeps no last login"), "{billing:#}");

    // With everything excepted nothing is found; a place that is down is said all the same.
    let excepted = |text: String| {
        text.replace("except:\n", "except:\n  systems: [directory, billing, cache, clinic, fleet, safe, tunnel, vpn]\n")
            .lines()
            .filter(|line| !line.contains("finding: dormant"))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    office.edit(BOOK, excepted);
    let report = sweep(&office, 0);
    assert_eq!(report["verdict"], "clear");
    assert!(!report["excepted"].as_array().unwrap().is_empty());
    let _down = lab.stop("web2");
    let done = office.offboard(&["sweep"]).expect(10);
    assert!(done.out.contains("web2") && done.out.contains("not read"), "{}", done.out);
    assert!(done.out.contains("Unproven"), "{}", done.out);
    office.offboard(&["journal", "verify"]).expect(0);
}

#[test]
fn a_passed_limit_is_said_on_top_and_everything_is_still_reported() {
    let lab = Lab::alone();
    let office = Office::new(&lab);
    let before = found(&sweep(&office, 20)["findings"]);
    for limits in ["limits: { accounts: 3, share: 100% }", "limits: { accounts: 5000, share: 0.1% }"] {
        office.edit(BOOK, |text| {
            text.lines()
                .map(|l| if l.starts_with("limits:") { format!("{limits}\n") } else { format!("{l}\n") })
                .collect()
        });
        let report = sweep(&office, 20);
        assert!(
            report["over_limit"].as_str().is_some_and(|over| over.contains("the limit is")),
            "{limits}: {report:#}"
        );
        assert_eq!(found(&report["findings"]), before);
        let out = office.offboard(&["status", report["run"].as_str().unwrap()]).expect(20).out;
        assert!(out.starts_with("More than the limit"), "{out}");
    }
}

#[test]
fn an_exception_ends_and_a_tag_may_be_left_out() {
    let lab = Lab::alone();
    let office = Office::new(&lab);
    office.edit(BOOK, |text| {
        text.replace(
            "  tags: [break-glass, service, shared]\n",
            concat!(
                "  tags: [break-glass, service]\n  accounts:\n",
                "    - { system: billing, account: hgupta_tmp, why: ticket 4711, until: 2020-01-31 }\n",
                "    - { system: fleet, account: agokhalee, why: ticket 4712, until: 2199-01-31 }\n",
            ),
        )
    });
    let report = sweep(&office, 20);
    let (findings, excepted) = (found(&report["findings"]), found(&report["excepted"]));
    assert!(findings.contains("orphan billing hgupta_tmp") && findings.contains("orphan fleet deploy"), "{findings:?}");
    assert!(
        excepted.contains("orphan fleet agokhalee") && !findings.contains("orphan fleet agokhalee"),
        "{excepted:?}"
    );
    let text = report.to_string();
    assert!(text.contains("ended on 2020-01-31") && text.contains("ticket 4712 (until 2199-01-31)"), "{report:#}");
}

#[test]
fn an_ambiguous_owner_is_a_finding_and_hostile_names_harm_nobody() {
    let lab = Lab::alone();
    let office = Office::new(&lab);
    let role = "=HYPERLINK(\"x\")<script>\u{202e}\u{1b}[31m\nroot";
    let quoted = role.replace('"', "\"\"");
    lab.sql(&format!("CREATE ROLE \"{quoted}\" LOGIN PASSWORD 'x'"));
    let entry = "dn: uid=two,ou=people,dc=sunrise,dc=test\nobjectClass: inetOrgPerson\nuid: two\ncn: Two\nsn: Two\n\
        employeeNumber: E1001\nmail: acosta@sunrise.test\nuserPassword: forgotten1\n";
    ldap(&lab, "ldapadd", entry);
    let done = office.offboard(&["sweep", "--color", "never"]);
    let run = office.offboard(&["--json", "list"]).expect(0).json()["sweeps"][0]["run"].as_str().unwrap().to_string();
    let report = office.offboard(&["--json", "status", &run]);
    let csv = office.offboard(&["report", &run, "--format", "csv"]);
    let html = office.offboard(&["report", &run]);
    lab.sql(&format!("DROP ROLE \"{quoted}\""));
    ldap(&lab, "ldapdelete", "uid=two,ou=people,dc=sunrise,dc=test\n");

    let done = done.expect(20);
    for out in [&done.out, &done.err, &report.out, &csv.out, &html.out] {
        assert!(!out.contains('\u{1b}') && !out.contains('\u{202e}'), "something steers the terminal: {out}");
    }
    let report = report.expect(20).json();
    let two = report["findings"].as_array().unwrap().iter().find(|f| f["kind"] == "ambiguous").unwrap();
    assert_eq!(two["account"], "uid=two,ou=people,dc=sunrise,dc=test");
    let people: Vec<_> = two["owner"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap()).collect();
    assert_eq!(people, ["E1001", "E1002"]);
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["account"] == role), "as the server calls it");
    assert!(csv.out.contains("\"'=HYPERLINK(\"\"x\"\")"), "{}", csv.out);
    assert!(!csv.out.contains(",=HYPERLINK") && !csv.out.contains("\"=HYPERLINK"), "{}", csv.out);
    assert!(html.out.contains("HYPERLINK") && !html.out.contains("<script>"), "{}", html.out);
}

#[test]
fn what_a_run_has_shut_is_found_no_more() {
    let lab = Lab::alone();
    let (leaver, bystander) = lab.look_alikes();
    let office = Office::new(&lab);
    let of = |report: &Value, user: &str| -> BTreeSet<String> {
        let list = report["findings"].as_array().unwrap().iter();
        let theirs = list.filter(|f| {
            f["account"] == user
                || f["account"] == format!("uid={user},ou=people,dc=sunrise,dc=test")
                || f["owner"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|o| o["id"].as_str().unwrap().ends_with(&format!("-{user}")))
        });
        theirs.map(|f| format!("{} {}", f["kind"].as_str().unwrap(), f["system"].as_str().unwrap())).collect()
    };
    let before = sweep(&office, 20);
    let wanted = names(&[
        "lingering billing",
        "lingering cache",
        "lingering clinic",
        "lingering directory",
        "lingering fleet",
        "lingering safe",
        "lingering tunnel",
        "lingering vpn",
    ]);
    assert_eq!(of(&before, &leaver.user), wanted);
    office.run(&leaver).expect(0);
    let after = sweep(&office, 20);
    assert_eq!(of(&after, &leaver.user), BTreeSet::new());
    assert_eq!(of(&after, &bystander.user), BTreeSet::new(), "a bystander is in no finding");
}

#[test]
fn a_login_on_a_terminal_counts_and_a_login_now_counts_more() {
    let lab = Lab::alone();
    let person = lab.active_person();
    let office = Office::new(&lab);
    // utmp(5): a login on a terminal in June 2023, and a logout, which is none.
    let write = "for ([7, 1685606400], [8, 1700000000]) { print pack 's x2 l a32 a4 a32 a256 x4 l l l x36', $_->[0], 1, 'pts/0', '', $ARGV[0], 'x', 1, $_->[1], 0 }";
    let script = "perl -e \"$0\" \"$1\" >/var/log/wtmp";
    assert!(lab.on("bastion", &["sh", "-c", script, write, &person.user]).status.success());
    let dormant = |report: &Value| {
        let list = report["findings"].as_array().unwrap().iter();
        list.filter(|f| f["account"] == person.user.as_str() && f["kind"] == "dormant").cloned().collect::<Vec<_>>()
    };
    let found = dormant(&sweep(&office, 20));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["places"], serde_json::json!(["fleet/bastion.sunrise.test"]));
    assert_eq!(found[0]["last_used"], "2023-06-01T08:00:00Z");
    assert!(found[0]["why"].as_str().unwrap().contains("is every login on record"), "{found:?}");
    // Without a terminal: neither lastlog nor wtmp knows of it, sshd's log does.
    assert!(lab.ssh(&person.key, &person.user, "bastion"));
    let found = dormant(&sweep(&office, 20));
    assert!(lab.on("bastion", &["rm", "/var/log/wtmp"]).status.success());
    assert!(found.is_empty(), "{found:?}");
}
