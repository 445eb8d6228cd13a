//! Commands that close the lab's Redis (`command.py`), with `redis-cli` as the real client; and commands that do not keep to what was agreed.

use crate::lab::{Lab, LabPerson, LabSession};
use crate::suite::{Rig, Session, contract, cx};
use futures::StreamExt;
use offboard::connector::{Connector, KnownSecret, Link, Scope, Turn};
use offboard::connectors::command::{Settings, build};
use offboard::model::{
    Account, Door, DoorKind, Fault, FaultKind, Look, Outcome, Part, Phase, Place, Proof, SecretName, Seen, SystemName,
    Verdict,
};
use secrecy::SecretString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

struct Command;

struct RedisCli(LabSession);

impl Session for RedisCli {
    fn is_alive(&mut self) -> bool {
        self.0.is_alive()
    }
}

fn connector(lab: &Lab, user: &str, secret: &str) -> Arc<dyn Connector> {
    let program = format!(
        "[{}/tests/contract/command.py, {}/ca.pem, {user}, monitor]",
        env!("CARGO_MANIFEST_DIR"),
        lab.root().display()
    );
    let commands: Vec<String> =
        ["check", "discover", "disable", "end-sessions", "look", "restore", "set-secret", "try-secret", "end-secret"]
            .iter()
            .map(|name| format!("{name}: {program}"))
            .collect();
    let settings = format!(
        "{{ places: [\"cache1.sunrise.test:6379\", cache2.sunrise.test], timeout: 10s, own-accounts: [offboard, monitor], commands: {{ {} }}, \
           secrets: {{ password: {{ file: secrets/{secret} }}, control: {{ file: secrets/redis-control }} }} }}",
        commands.join(", ")
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("archive".into()), settings, lab.root()).unwrap()
}

fn server_of(place: &Place) -> &str {
    place.address.split('.').next().unwrap()
}

impl Rig for Command {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "offboard", "redis")
    }

    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "offboard_limited", "redis-limited")
    }

    fn gets_in(lab: &Lab, person: &LabPerson, place: &Place) -> bool {
        lab.redis(server_of(place), &person.user, &person.password, &["PING"]).is_ok_and(|said| said == "PONG")
    }

    fn session(lab: &Lab, person: &LabPerson, place: &Place) -> Option<Box<dyn Session>> {
        let mut session = lab.redis_session(server_of(place), &person.user, &person.password);
        assert!(session.is_alive(), "redis-cli does not open");
        Some(Box::new(RedisCli(session)))
    }

    fn server(place: &Place) -> String {
        server_of(place).into()
    }

    fn delete_account(lab: &Lab, person: &LabPerson, place: &Place) {
        lab.redis_admin(server_of(place), &["ACL", "DELUSER", &person.user]);
    }

    fn gets_in_again(lab: &Lab, person: &LabPerson, place: &Place, one_time: Option<&str>) -> bool {
        one_time.is_some_and(|password| lab.redis(server_of(place), &person.user, password, &["PING"]).is_ok())
    }
}

contract!(Command);

/// A shared secret of which a program of Redis' is the source, phase by phase; each done twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_replaced_where_the_old_value_stands_and_nowhere_else() {
    let lab = Lab::shared();
    let (name, old, new) = (format!("job{}", lab.person().id), "job-old-1234567890", "job-new-1234567890");
    lab.redis_admin("cache1", &["ACL", "SETUSER", &name, "on", &format!(">{old}"), "+ping"]);
    let connector = connector(&lab, "offboard", "redis");
    let place = connector.places().remove(0);
    let mut link = connector.open(&place, &cx()).await.unwrap();
    let (secret, part) = (SecretName("job".into()), Part::Source { account: name.clone() });
    let (old_value, new_value) = (SecretString::from(old), SecretString::from(new));
    let take = async |link: &mut dyn Link, phase: Phase| {
        let turn = Turn {
            phase,
            secret: &secret,
            part: &part,
            old: Some(&old_value),
            new: (phase != Phase::Create).then_some(&new_value),
            user: None,
            seen: &Seen::default(),
            consumers: &[],
        };
        link.rotate(&turn, &cx()).await.map(|taken| taken.outcome)
    };
    let is_done = |outcome: &Result<Outcome, Fault>| matches!(outcome, Ok(Outcome::Done { .. }));
    let opens = |value: &str| lab.redis("cache1", &name, value, &["PING"]).is_ok();
    let door = Door::new(&place.id, &name, DoorKind::SharedSecret, "job", "");
    let look = async |link: &mut dyn Link| {
        link.keep(vec![KnownSecret {
            door: door.id.clone(),
            old: Some(old_value.clone()),
            new: Some(new_value.clone()),
            before: None,
            source: None,
        }]);
        link.look(std::slice::from_ref(&door), true, &cx()).await.remove(0)
    };
    assert!(is_done(&take(&mut *link, Phase::Create).await));
    assert!(opens(old) && !opens(new), "`create` changes nothing");
    assert!(matches!(look(&mut *link).await.verdict, Verdict::Open { .. }));
    let mut session = lab.redis_session("cache1", &name, old);
    assert!(is_done(&take(&mut *link, Phase::Set).await));
    assert!(matches!(take(&mut *link, Phase::Set).await, Ok(Outcome::AlreadyDone)));
    assert!(!opens(old) && opens(new));
    assert!(is_done(&take(&mut *link, Phase::Test).await));
    assert!(is_done(&take(&mut *link, Phase::Finish).await));
    assert!(!session.is_alive(), "the session from before goes on");
    let seen = look(&mut *link).await;
    assert!(
        matches!(&seen.verdict, Verdict::Shut { proof: Proof::Refused, reply } if reply.contains("WRONGPASS") || reply.contains("invalid username-password")),
        "{seen:?}"
    );
    assert!(seen.control.is_some());
    // Somebody changes it: a late `set` leaves it alone.
    lab.redis_admin("cache1", &["ACL", "SETUSER", &name, "resetpass", ">another"]);
    let fault = take(&mut *link, Phase::Set).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Protected, "{fault:?}");
    assert!(opens("another"));
    assert!(matches!(look(&mut *link).await.verdict, Verdict::Unproven { .. }), "the new value does not get in");
}

/// A command that says `answer`, whatever it is asked.
fn says(folder: &Path, answer: &str) -> Arc<dyn Connector> {
    let program = folder.join("program");
    let script = format!(
        "#!/bin/sh\nq=$(cat)\ncase $q in *'\"do\":\"check\"'*) echo '{{\"identity\":\"us\"}}' ;; *) cat <<'END'\n{answer}\nEND\n;; esac\n"
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let all = ["check", "discover", "look", "disable"].map(|name| format!("{name}: [./program]")).join(", ");
    std::fs::write(folder.join("secret"), "hunter2hunter2").unwrap();
    std::fs::set_permissions(folder.join("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let yaml = format!("{{ commands: {{ {all} }}, timeout: 2s, secrets: {{ key: {{ file: secret }} }} }}");
    build(&SystemName("archive".into()), serde_yaml::from_str(&yaml).unwrap(), folder).unwrap()
}

async fn linked(connector: &dyn Connector) -> Box<dyn Link> {
    connector.open(&connector.places()[0], &cx()).await.unwrap()
}

async fn discovered(answer: &str) -> Result<Vec<Account>, Fault> {
    let folder = tempfile::tempdir().unwrap();
    let connector = says(folder.path(), answer);
    let mut link = linked(&*connector).await;
    let found: Vec<_> = link.discover(&Scope::Everything).collect().await;
    found.into_iter().collect()
}

async fn looked(answer: &str) -> Look {
    let folder = tempfile::tempdir().unwrap();
    let connector = says(folder.path(), answer);
    let place = connector.places().remove(0);
    let door = Door::new(&place.id, "jane", DoorKind::Password, "", "");
    linked(&*connector).await.look(&[door], true, &cx()).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_says_counts_only_with_a_control_and_the_servers_words() {
    let shut = r#"{"looks":[{"verdict":"shut","reply":"locked","control":"monitor got in","proof":"refused"}]}"#;
    assert!(matches!(looked(shut).await.verdict, Verdict::Shut { proof: Proof::Refused, .. }));
    for unproven in [
        r#"{"looks":[{"verdict":"shut","reply":"locked"}]}"#,
        r#"{"looks":[{"verdict":"shut","reply":"locked","control":""}]}"#,
        r#"{"looks":[{"verdict":"shut","reply":"","control":"monitor got in"}]}"#,
        r#"{"looks":[]}"#,
        r#"{"looks":[{"verdict":"shut","reply":"a","control":"b"},{"verdict":"shut","reply":"a","control":"b"}]}"#,
        r#"{"looks":[{"verdict":"closed","reply":"locked","control":"monitor got in"}]}"#,
        r#"{"looks":[{"verdict":"shut","reply":"locked","control":"x","surprise":1}]}"#,
        r#"{"error":{"kind":"busy","what":"not now"}}"#,
        r#"{"error":"no"}"#,
        "shut",
        "",
        "[1]",
    ] {
        let seen = looked(unproven).await;
        assert!(matches!(seen.verdict, Verdict::Unproven { .. }), "{unproven}: {seen:?}");
    }
    // It has our secret in its mouth, in two spellings.
    let seen = looked(r#"{"looks":[{"verdict":"open","reply":"hunter2hunter2 aHVudGVyMmh1bnRlcjI="}]}"#).await;
    assert!(
        matches!(&seen.verdict, Verdict::Open { reply } if !reply.contains("hunter2") && !reply.contains("aHVudGVy")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_that_is_not_whole_is_a_fault() {
    let good = r#"{"accounts":[{"id":"jane'; $(x)","enabled":true,"doors":[{"kind":"password"}]}]}"#;
    assert_eq!(discovered(good).await.unwrap()[0].native_id, "jane'; $(x)");
    for bad in [
        r#"{"accounts":[{"id":"","enabled":true,"doors":[]}]}"#,
        r#"{"accounts":[{"id":"a","enabled":true,"doors":[]},{"id":"a","enabled":true,"doors":[]}]}"#,
        r#"{"accounts":[{"id":"a","enabled":"yes","doors":[]}]}"#,
        r#"{"accounts":[{"id":"a","enabled":true,"doors":[{"kind":"shared-secret"}]}]}"#,
        r#"{"accounts":[{"id":"a","enabled":true,"doors":[{"kind":"window"}]}]}"#,
        r#"{"accounts":[{"id":"a","enabled":true,"doors":[{"kind":"token","object":"ci"},{"kind":"token","object":"ci"}]}]}"#,
        r#"{"accounts":null}"#,
        r#"{"found":[]}"#,
        "{\"accounts\":[",
        "",
    ] {
        let fault = discovered(bad).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unexpected, "{bad}: {fault:?}");
    }
    let fault = discovered(r#"{"error":{"kind":"forbidden","what":"no right: hunter2hunter2","hint":"grant it"}}"#)
        .await
        .unwrap_err();
    assert_eq!((fault.kind, fault.hint.as_deref()), (FaultKind::Forbidden, Some("grant it")));
    assert!(!fault.to_string().contains("hunter2"), "{fault}");
}

/// One secret may be the beginning of another; and a script behind its interpreter counts as the program does.
#[tokio::test(flavor = "multi_thread")]
async fn no_rest_of_a_secret_is_shown_and_no_script_of_others_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::set_permissions(folder.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("user", "offboard", 0o600);
    write("password", "offboard-Zx81kq", 0o600);
    write("script", "cat >/dev/null; echo login of offboard-Zx81kq refused >&2; exit 1", 0o700);
    let yaml = "{ commands: { check: [/bin/sh, script] }, secrets: { a: { file: user }, b: { file: password } } }";
    let settings: Settings = serde_yaml::from_str(yaml).unwrap();
    let connector = build(&SystemName("archive".into()), settings, folder.path()).unwrap();
    let fault = connector.open(&connector.places()[0], &cx()).await.map(|_| ()).unwrap_err();
    let said = fault.to_string();
    assert!(said.contains("login of") && said.contains("refused") && !said.contains("Zx81kq"), "{said}");
    write("script", "cat >/dev/null; echo '{\"identity\":\"us\"}'", 0o720);
    let fault = connector.open(&connector.places()[0], &cx()).await.map(|_| ()).unwrap_err();
    assert!(fault.kind == FaultKind::Misconfigured && fault.to_string().contains("script"), "{fault}");
}

/// `set-secret` says that it is done, and nothing was.
#[tokio::test(flavor = "multi_thread")]
async fn no_program_gets_a_value_that_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let script = "q=$(cat); case $q in *'\"do\":\"check\"'*) echo '{\"identity\":\"us\"}' ;; *set-secret*) echo '{\"did\":\"done\"}' ;; \
        *old-value*) echo '{\"taken\":true,\"reply\":\"ok\"}' ;; *) echo '{\"taken\":false,\"reply\":\"no\"}' ;; esac";
    std::fs::write(folder.path().join("script"), script).unwrap();
    let yaml =
        "{ commands: { check: [/bin/sh, script], set-secret: [/bin/sh, script], try-secret: [/bin/sh, script] } }";
    let connector = build(&SystemName("archive".into()), serde_yaml::from_str(yaml).unwrap(), folder.path()).unwrap();
    let mut link = linked(&*connector).await;
    let (secret, part) = (SecretName("job".into()), Part::Source { account: "job".into() });
    let turn = Turn {
        phase: Phase::Set,
        secret: &secret,
        part: &part,
        old: Some(&SecretString::from("old-value")),
        new: Some(&SecretString::from("new-value")),
        user: None,
        seen: &Seen::default(),
        consumers: &[],
    };
    let fault = link.rotate(&turn, &cx()).await.map(|_| ()).unwrap_err();
    assert!(fault.kind == FaultKind::Busy && fault.to_string().contains("not taken"), "{fault}");
}
