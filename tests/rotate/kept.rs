//! Consumers that read the value from a Vault: a path of a key/value engine, in both of its versions.

use crate::alternate::FIRST;
use crate::lab::{Lab, LabPerson};
use crate::office::{Office, all_shut};
use serde_json::{Value, json};

const OLD: &str = "portal-of-the-vault-old-1234567890";

/// A role, and the paths from which its programs read the password.
struct Kept {
    role: String,
    path: String,
    one: String,
}

impl Kept {
    fn new(lab: &Lab) -> Self {
        let role = format!("kept_{}", lab.person().id.to_lowercase());
        lab.sql(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{OLD}'"));
        let kept = Self { path: format!("kv/billing/{role}"), one: format!("old/kv/apps/{role}"), role };
        lab.bao_put(&kept.path, &json!({ "username": kept.role, "password": OLD, "other": "stays", "port": 5432 }));
        lab.bao_put(
            &kept.one,
            &json!({ "urls": [{ "db.password": OLD }, { "db.password": "another" }], "empty": null }),
        );
        kept
    }

    fn entry(&self, person: &LabPerson, more: &str) -> String {
        format!(
            "  {role}:
    source: {{ system: billing, account: {role}{more} }}
    consumers:
      - {{ system: safe, path: {}, key: password{} }}
      - {{ system: safe, path: {}, key: [urls, 0, db.password]{} }}
    known-to: {{ people: [{}] }}
",
            self.path,
            if more.is_empty() { "" } else { ", user-key: username" },
            self.one,
            if more.is_empty() { "" } else { ", user-key: user" },
            person.id,
            role = self.role,
        )
    }

    /// What stands at the two paths.
    fn stands(&self, lab: &Lab) -> (Value, Value) {
        let read =
            |path: &str| serde_json::from_str::<Value>(&lab.bao_admin(&["kv", "get", "-format=json", path])).unwrap();
        (read(&self.path), read(&self.one)["data"].clone())
    }

    fn office(&self, lab: &Lab, person: &LabPerson) -> Office {
        let office = Office::hasty(lab);
        office.edit("offboard.yaml", |text| text + &self.entry(person, ""));
        office
    }
}

fn says(done: &crate::office::Done, what: &str) {
    assert!(done.out.contains(what), "{what}: {}{}", done.out, done.err);
}

#[test]
fn one_key_of_a_path_is_replaced_in_both_versions() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let kept = Kept::new(&lab);
    let office = kept.office(&lab, &person);
    let listed = office.offboard(&["secrets"]).expect(0);
    assert!(listed.out.contains(&kept.path) && !listed.out.contains(OLD), "{}", listed.out);
    let done = office.offboard(&["--json", "rotate", &kept.role, "--yes"]).expect(0);
    all_shut(&done.json());
    let (two, one) = kept.stands(&lab);
    let new = two["data"]["data"]["password"].as_str().unwrap().to_string();
    assert_eq!(new.len(), 43);
    assert_eq!(
        two["data"]["data"],
        json!({ "username": kept.role, "password": new, "other": "stays", "port": 5432 }),
        "the rest is as it was"
    );
    assert_eq!(two["data"]["metadata"]["version"], 2, "one write");
    assert_eq!(one, json!({ "urls": [{ "db.password": new }, { "db.password": "another" }], "empty": null }));
    assert!(lab.psql(&kept.role, &new, "SELECT 1").is_ok());
    let refused = lab.psql(&kept.role, OLD, "SELECT 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    for said in [&done.out, &done.err] {
        assert!(!said.contains(OLD) && !said.contains(&new), "{said}");
    }
}

#[test]
fn what_a_path_is_known_to_fail_at_changes_nothing() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let kept = Kept::new(&lab);
    let office = kept.office(&lab, &person);
    let written = kept.entry(&person, "");
    let fails = |entry: String, what: &str| {
        office.edit("offboard.yaml", |text| text.replace(&written, &entry));
        let done = office.offboard(&["secrets"]);
        assert_ne!(done.code, Some(0));
        says(&done, what);
        assert!(!done.out.contains(OLD) && !done.err.contains(OLD), "{}{}", done.out, done.err);
        office.edit("offboard.yaml", |text| text.replace(&entry, &written));
    };
    fails(written.replace(&kept.path, "nowhere/billing"), "no engine is mounted where the path begins");
    fails(written.replace(&kept.path, "sys/billing"), "of the type \"system\"");
    fails(written.replace(&kept.path, "kv/billing/missing"), "nothing stands there");
    fails(written.replace("key: password", "key: passwort"), "it has no key passwort");
    fails(written.replace("key: password", "key: port"), "port is no text");
    lab.bao_put("kv/billing/inexact", &json!({ "password": OLD, "rate": 1.5 }));
    fails(written.replace(&kept.path, "kv/billing/inexact"), "numbers with a fraction");
    fails(written.replace("urls, 0", "urls, 2"), "it has no key urls.2.db.password");
    lab.bao_put("kv/elsewhere/app", &json!({ "password": OLD }));
    fails(written.replace(&kept.path, "kv/elsewhere/app"), "capabilities = [\"read\"");
    let (two, _) = kept.stands(&lab);
    assert_eq!((&two["data"]["data"]["password"], &two["data"]["metadata"]["version"]), (&json!(OLD), &json!(1)));
    assert!(lab.psql(&kept.role, OLD, "SELECT 1").is_ok(), "nothing was changed");
}

/// Nobody has named them: the Vault's audit log has.
#[test]
fn whoever_has_read_a_path_knows_what_stands_there() {
    let lab = Lab::shared();
    let (leaver, other, known) = (lab.person(), lab.active_person(), lab.active_person());
    let kept = Kept::new(&lab);
    let office = kept.office(&lab, &known);
    let token = lab.bao_login(&leaver.user, &leaver.password).unwrap();
    Lab::bao(Some(&token), &["kv", "get", "-field=username", &kept.path], "").unwrap();
    // Whoever is refused has not read it.
    let tried = lab.bao_login(&other.user, &other.password).unwrap();
    Lab::bao(Some(&tried), &["kv", "get", &kept.one], "").unwrap_err();
    let reason = format!("could read {} on vault.sunrise.test:8200 (read it, last at ", kept.path);
    let of = |person: &LabPerson| office.offboard(&["--json", "accounts", &person.id]).out;
    assert!(of(&leaver).contains(&reason), "{}", of(&leaver));
    assert!(!of(&other).contains(&kept.role), "{}", of(&other));
    let report = office.run(&leaver).expect(0).json();
    all_shut(&report);
    assert!(
        report["doors"]
            .as_array()
            .unwrap()
            .iter()
            .any(|d| d["kind"] == "shared-secret" && d["object"] == kept.role.as_str()),
        "{report:#}"
    );
    assert!(lab.psql(&kept.role, OLD, "SELECT 1").unwrap_err().contains("password authentication failed"));
}

#[test]
fn programs_that_read_from_a_vault_are_moved_between_two_accounts() {
    let lab = Lab::shared();
    let person = lab.active_person();
    let kept = Kept::new(&lab);
    let green = format!("{}_green", kept.role);
    lab.sql(&format!("CREATE ROLE \"{green}\" LOGIN PASSWORD '{FIRST}'"));
    lab.bao_put(&kept.one, &json!({ "urls": [{ "db.password": OLD }], "user": kept.role }));
    let office = Office::hasty(&lab);
    office.edit("offboard.yaml", |text| text + &kept.entry(&person, &format!(", alternate: {green}")));
    all_shut(&office.offboard(&["--json", "rotate", &kept.role, "--yes"]).expect(0).json());
    let (two, one) = kept.stands(&lab);
    let new = two["data"]["data"]["password"].as_str().unwrap();
    assert_eq!(two["data"]["data"]["username"], json!(green));
    assert_eq!(one, json!({ "urls": [{ "db.password": new }], "user": green }));
    assert!(lab.psql(&green, new, "SELECT 1").is_ok());
    for (role, dead) in [(&kept.role, OLD), (&green, FIRST)] {
        assert!(lab.psql(role, dead, "SELECT 1").unwrap_err().contains("password authentication failed"));
    }
}
