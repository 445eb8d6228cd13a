use offboard::model::{Person, PersonId, WorkerStatus};
use offboard::playbook::{Book, Playbook, schema, select};

const GOOD: &str = "\
playbook: leave
summary: Shut every door.
trigger: { event: leaver, where: { reason: involuntary } }
deadline: 15m
approval: none
limits: { people: 1, accounts: 60 }
stages:
  - stage: contain
    steps:
      - { do: disable, to: accounts }
      - { do: end-sessions, to: accounts }
  - stage: rest
    steps:
      - { do: revoke, to: credentials, in: [host] }
      - { do: remove, to: entitlements }
verify: { until: 5m }
report: { formats: [html, json] }
";

fn read(yaml: &str) -> Playbook {
    Playbook::from_yaml("leave.yaml", yaml.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The message for the good playbook with one thing changed.
fn complaint(good: &str, bad: &str) -> String {
    assert!(GOOD.contains(good), "{good}");
    let yaml = GOOD.replacen(good, bad, 1);
    match Playbook::from_yaml("leave.yaml", yaml.as_bytes()) {
        Ok(playbook) => panic!("accepted: {playbook:?}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

macro_rules! snapshots {
    ($($name:ident: $good:expr => $bad:expr),* $(,)?) => {
        $(#[test] fn $name() { insta::assert_snapshot!(complaint($good, $bad)); })*
    };
}

snapshots! {
    unknown_action: "do: disable" => "do: disabel",
    unknown_key_in_a_step: "to: entitlements" => "to: entitlements, form: [host]",
    unknown_family: "in: [host]" => "in: [hosts]",
    rotate_needs_shared_secrets: "do: remove" => "do: rotate",
    rotate_before_the_doors_are_shut: "do: remove, to: entitlements" => "do: rotate, to: shared-secrets, where: { known-to: leaver }",
    where_is_for_rotate: "do: revoke, to: credentials" => "do: revoke, to: credentials, where: { known-to: leaver }",
    two_persons_are_for_later: "approval: none" => "approval: two-person",
    looks_again_go_from_soon_to_late: "until: 5m" => "until: 5m, again: [1h, 24h, 24h]",
    mail_to_nobody: "formats: [html, json]" => "formats: [html, json], to: [security]",
    asking_nobody: "do: remove, to: entitlements" => "do: ask, what: Collect the laptop, within: 2d",
    asking_for_nothing: "do: remove, to: entitlements" => "do: ask, of: it@example.com, within: 2d",
    asking_for_ever: "do: remove, to: entitlements" => "do: ask, of: manager, what: Collect the laptop",
    asking_somebody: "do: remove, to: entitlements" => "do: ask, of: the boss, what: Collect the laptop, within: 2d",
    asking_accounts: "do: remove, to: entitlements" => "do: ask, to: accounts, of: manager, what: Collect the laptop, within: 2d",
    asking_a_host: "do: remove, to: entitlements" => "do: ask, in: [host], of: manager, what: Collect the laptop, within: 2d",
    asking_a_book: "do: remove, to: entitlements" => "do: ask, of: manager, what: \"First\\nsecond\", within: 2d",
    asking_twice: "      - { do: remove, to: entitlements }\n" =>
        "      - { do: ask, of: manager, what: Collect it, within: 2d }\n      - { do: ask, of: manager, what: Collect it, within: 3d }\n",
    removing_by_a_person: "do: remove, to: entitlements" => "do: remove, to: entitlements, of: manager",
    removing_nothing: "do: remove, to: entitlements" => "do: remove",
    schedule_is_for_later: "event: leaver" => "schedule: \"0 6 1 1 *\", event: leaver",
    wrong_target: "do: revoke, to: credentials" => "do: revoke, to: accounts",
    sessions_before_disable: "      - { do: disable, to: accounts }\n" => "",
    sessions_where_nothing_is_disabled: "do: disable, to: accounts" => "do: disable, to: accounts, in: [directory, database]",
    no_limits: "limits: { people: 1, accounts: 60 }\n" => "",
    limit_of_nothing: "people: 1" => "people: 0",
    two_stages_with_one_name: "stage: rest" => "stage: contain",
    deadline_in_parsecs: "deadline: 15m" => "deadline: 12 parsecs",
    deadline_without_unit: "deadline: 15m" => "deadline: 15",
    name_that_is_a_path: "playbook: leave" => "playbook: ../leave",
    no_report: "formats: [html, json]" => "formats: []",
    stages_as_a_map: "stages:\n  - stage: contain\n    steps:" => "stages:\n  contain:\n    steps:",
}

#[test]
fn a_playbook_survives_the_journal() {
    let playbook = read(GOOD);
    let json = serde_json::to_value(&playbook).unwrap();
    assert_eq!(serde_json::from_value::<Playbook>(json.clone()).unwrap(), playbook);
    insta::assert_snapshot!(json);
}

#[test]
fn the_playbooks_that_come_with_offboard_are_right() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("playbooks").unwrap() {
        let path = entry.unwrap().path();
        let book = Book::from_yaml(&path.to_string_lossy(), &std::fs::read(&path).unwrap())
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(path.file_stem().unwrap().to_str(), Some(book.name()));
        if let Book::Leaver(playbook) = &book {
            // Contained first: whatever shuts doors stands in the first stage.
            assert!(playbook.stages[0].steps.iter().any(|rule| rule.action == offboard::model::Action::Disable));
        }
        names.push(book.name().to_string());
    }
    names.sort();
    assert_eq!(names, ["involuntary-termination", "quarterly-stale-sweep", "voluntary-departure"]);
}

fn leaver(reason: Option<&str>) -> Person {
    Person {
        id: PersonId("E1042".into()),
        name: "Jane Roe".into(),
        email: None,
        user_name: None,
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Active,
        reason: reason.map(str::to_string),
        ends: None,
        zone: None,
        keys: Vec::new(),
    }
}

#[test]
fn the_reason_chooses_the_playbook() {
    let books = [read(GOOD), read(&GOOD.replace("involuntary", "voluntary").replace("book: leave", "book: go"))];
    assert_eq!(select(&books, &leaver(Some("Involuntary "))).unwrap().playbook, "leave");
    assert_eq!(select(&books, &leaver(Some("voluntary"))).unwrap().playbook, "go");
    insta::assert_snapshot!("no_playbook_for_the_reason", select(&books, &leaver(Some("retired"))).unwrap_err());
    insta::assert_snapshot!("no_reason", select(&books, &leaver(None)).unwrap_err());
    insta::assert_snapshot!("no_playbook_at_all", select(&[], &leaver(None)).unwrap_err());
    let any = GOOD.replace(", where: { reason: involuntary }", "").replace("book: leave", "book: any");
    let books = [read(GOOD), read(&any)];
    insta::assert_snapshot!("several_playbooks", select(&books, &leaver(Some("involuntary"))).unwrap_err());
    assert_eq!(select(&books, &leaver(Some("retired"))).unwrap().playbook, "any");
}

#[test]
fn the_schema_explains_every_key_and_knows_the_good_playbook() {
    let schema = schema();
    let mut unexplained = Vec::new();
    explained(&schema, "", &mut unexplained);
    assert!(unexplained.is_empty(), "{unexplained:?}");
    let [leaver, sweep] = schema["oneOf"].as_array().unwrap().as_slice() else { panic!("two kinds") };
    for (kind, keys) in [
        (leaver, ["playbook", "deadline", "stages", "limits", "verify"]),
        (sweep, ["playbook", "summary", "limits", "find", "find"]),
    ] {
        for key in keys {
            assert!(kind["required"].as_array().unwrap().iter().any(|k| k == key), "{key}");
        }
        assert_eq!(kind["additionalProperties"], false);
    }
}

fn explained(schema: &serde_json::Value, path: &str, unexplained: &mut Vec<String>) {
    let Some(object) = schema.as_object() else { return };
    if let Some(properties) = object.get("properties").and_then(|p| p.as_object()) {
        for (key, value) in properties {
            if value.get("description").is_none() {
                unexplained.push(format!("{path}.{key}"));
            }
            explained(value, &format!("{path}.{key}"), unexplained);
        }
    }
    for (number, value) in object.get("oneOf").and_then(|kinds| kinds.as_array()).into_iter().flatten().enumerate() {
        explained(value, &format!("{path}[{number}]"), unexplained);
    }
    for (name, value) in object.get("$defs").and_then(|d| d.as_object()).into_iter().flatten() {
        explained(value, name, unexplained);
    }
}

const SWEEP: &str = "\
playbook: stale
summary: Find what is stale.
trigger: { schedule: \"0 6 1 1,4,7,10 *\", zone: Asia/Kolkata }
limits: { accounts: 200, share: 5% }
find:
  - { finding: orphan }
  - { finding: dormant, unused-for: 90d, in: [directory, host] }
  - { finding: lingering }
except:
  tags: [break-glass]
  accounts:
    - { system: fleet, account: ci, why: ticket 1, until: 2027-03-31 }
report: { formats: [html] }
";

fn sweep_complaint(good: &str, bad: &str) -> String {
    assert!(SWEEP.contains(good), "{good}");
    match Book::from_yaml("stale.yaml", SWEEP.replacen(good, bad, 1).as_bytes()) {
        Ok(book) => panic!("accepted: {book:?}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

macro_rules! sweep_snapshots {
    ($($name:ident: $good:expr => $bad:expr),* $(,)?) => {
        $(#[test] fn $name() { insta::assert_snapshot!(sweep_complaint($good, $bad)); })*
    };
}

sweep_snapshots! {
    sweep_finding_nothing_known: "finding: orphan" => "finding: orphans",
    sweep_dormant_for_how_long: "unused-for: 90d, " => "",
    sweep_orphan_unused: "finding: orphan" => "finding: orphan, unused-for: 90d",
    sweep_stages_are_for_later: "limits:" => "stages: []\nlimits:",
    sweep_approval_is_for_later: "limits:" => "approval: two-person\nlimits:",
    sweep_csv_is_for_later: "[html]" => "[html, csv]",
    sweep_no_such_day: "until: 2027-03-31" => "until: 2027-02-31",
    sweep_exception_without_why: "why: ticket 1" => "why: \"\"",
    sweep_schedule_of_seconds: "0 6 1 1,4,7,10 *" => "0 0 6 1 1,4,7,10 *",
    sweep_schedule_that_is_none: "0 6 1 1,4,7,10 *" => "0 25 1 * *",
    sweep_zone_of_nowhere: "Asia/Kolkata" => "Asia/Atlantis",
    sweep_share_without_percent: "5%" => "5",
    sweep_limit_of_nothing: "accounts: 200" => "accounts: 0",
    sweep_for_no_system: "in: [directory, host]" => "in: []",
    sweep_that_looks_for_nothing: "  - { finding: orphan }\n  - { finding: dormant, unused-for: 90d, in: [directory, host] }\n  - { finding: lingering }\n" => "  []\n",
}

#[test]
fn a_sweep_survives_the_journal_and_is_no_playbook_for_leavers() {
    let Ok(Book::Sweep(sweep)) = Book::from_yaml("stale.yaml", SWEEP.as_bytes()) else { panic!("a sweep") };
    let json = serde_json::to_value(&sweep).unwrap();
    assert_eq!(serde_json::from_value::<offboard::playbook::Sweep>(json).unwrap(), *sweep);
    assert!(Playbook::from_yaml("stale.yaml", SWEEP.as_bytes()).is_err());
    assert!(matches!(Book::from_yaml("leave.yaml", GOOD.as_bytes()), Ok(Book::Leaver(_))));
}
