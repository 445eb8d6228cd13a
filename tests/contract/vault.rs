//! The lab's OpenBao, with `bao` as the real client.

use crate::lab::{Lab, LabPerson};
use crate::suite::{Rig, Session, contract, cx};
use futures::StreamExt;
use offboard::connector::{Connector, Link, Scope, Wanted};
use offboard::connectors::vault::{Settings, build};
use offboard::model::{
    Account, Action, Door, DoorKind, FindingKind, MatchRule, Outcome, Owner, Person, PersonId, Place, Proof, Step,
    SystemName, Verdict, WorkerStatus,
};
use std::collections::BTreeSet;
use std::sync::Arc;

struct Vault;

/// A token from before the run.
struct Token(String);

impl Session for Token {
    fn is_alive(&mut self) -> bool {
        Lab::bao_token(&self.0)
    }
}

const LOGIN: &str = "app-role: { role-id: offboard, secret-id: { file: secrets/vault } }";
const LIMITED: &str = "userpass: { user: offboard_limited, password: { file: secrets/vault-limited } }";

fn connector(lab: &Lab, login: &str) -> Arc<dyn Connector> {
    let settings = format!(
        "{{ addresses: [\"https://vault.sunrise.test:8200\"], ca: ca.pem, login: {{ {login} }}, \
           control: {{ userpass: {{ user: monitor, password: {{ file: secrets/vault-control }} }} }} }}"
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("safe".into()), settings, lab.root()).unwrap()
}

impl Rig for Vault {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, LOGIN)
    }

    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, LIMITED)
    }

    fn gets_in(lab: &Lab, person: &LabPerson, _: &Place) -> bool {
        lab.bao_login(&person.user, &person.password).is_ok()
    }

    fn session(lab: &Lab, person: &LabPerson, _: &Place) -> Option<Box<dyn Session>> {
        let token = lab.bao_login(&person.user, &person.password).unwrap();
        assert!(Lab::bao_token(&token), "a fresh token works");
        Some(Box::new(Token(token)))
    }

    fn server(_: &Place) -> String {
        "vault".into()
    }

    fn delete_account(lab: &Lab, person: &LabPerson, _: &Place) {
        lab.bao_admin(&["delete", &format!("auth/userpass/users/{}", person.user)]);
    }

    fn gets_in_again(lab: &Lab, person: &LabPerson, _: &Place, one_time: Option<&str>) -> bool {
        one_time.is_some_and(|password| lab.bao_login(&person.user, password).is_ok())
    }
}

contract!(Vault);

fn person(lab: &LabPerson) -> Person {
    Person {
        id: PersonId(lab.id.clone()),
        name: lab.name.clone(),
        email: Some(lab.mail.clone()),
        user_name: Some(lab.user.clone()),
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Terminated,
        reason: None,
        ends: None,
        zone: None,
        keys: Vec::new(),
    }
}

/// Everything at the place, with what is the leaver's own made theirs.
async fn survey(link: &mut dyn Link, leaver: &LabPerson) -> Vec<Account> {
    let wanted = Wanted { person: person(leaver), accounts: Vec::new(), keys: BTreeSet::new() };
    let scope = Scope::People(vec![wanted]);
    let found: Vec<_> = link.discover(&scope).collect().await;
    let id = PersonId(leaver.id.clone());
    let mut accounts: Vec<Account> = found.into_iter().map(Result::unwrap).collect();
    for account in &mut accounts {
        if account.owner == Owner::Nobody && account.identity.user_name.as_deref() == Some(&leaver.user) {
            account.owner = Owner::Person { id: id.clone(), rule: MatchRule::UserName };
            for door in &mut account.doors {
                door.holder = Owner::Person { id: id.clone(), rule: MatchRule::OwnAccount };
            }
        }
    }
    accounts
}

fn plan(connector: &dyn Connector, accounts: &[Account], leaver: &LabPerson) -> Vec<Step> {
    let id = PersonId(leaver.id.clone());
    let mut steps = Vec::new();
    for account in accounts {
        // As the engine orders it: where nothing is disabled, sessions end last.
        for action in [Action::Disable, Action::Revoke, Action::EndSessions] {
            steps.extend(connector.plan(account, &id, action).into_iter().flatten());
        }
    }
    steps
}

fn doors(accounts: &[Account], leaver: &LabPerson) -> Vec<Door> {
    let id = PersonId(leaver.id.clone());
    accounts.iter().flat_map(|a| &a.doors).filter(|d| d.holder.person() == Some(&id)).cloned().collect()
}

fn secret_id(person: &LabPerson) -> String {
    std::fs::read_to_string(person.key.with_file_name("vault-secret-id")).unwrap()
}

/// Child tokens, a SecretID of the leaver's in a role that others use, and the tokens that it brought.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_leaver_has_in_a_shared_role_goes_and_what_others_have_stays() {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    let own = lab.bao_login(&leaver.user, &leaver.password).unwrap();
    let child = Lab::bao(Some(&own), &["token", "create", "-field=token", "-ttl=1h"], "");
    let (his, hers) = (lab.bao_role(&secret_id(&leaver)).unwrap(), lab.bao_role(&secret_id(&bystander)).unwrap());
    // Hers, too, though it mentions the leaver.
    let mentions =
        format!(r#"metadata={{"mail": "{}", "deputy": "{}", "user": "{}"}}"#, bystander.mail, leaver.mail, leaver.user);
    let mentioning = lab.bao_admin(&["write", "-field=secret_id", "auth/approle/role/ci/secret-id", &mentions]);
    let deputised = lab.bao_role(&mentioning).unwrap();
    let connector = connector(&lab, LOGIN);
    let place = connector.places().remove(0);
    let mut link = connector.open(&place, &cx()).await.unwrap();
    let accounts = survey(&mut *link, &leaver).await;
    let role = accounts.iter().find(|a| a.native_id == "approle/ci").expect("the shared role");
    let told = link.findings().iter().filter(|f| f.what.contains("beside somebody else")).count();
    assert_eq!(told, 1, "the one that mentions the leaver is told");
    assert_eq!(role.doors.iter().filter(|d| d.holder.person().is_some()).count(), 2, "{:?}", role.doors);
    let steps = plan(&*connector, &accounts, &leaver);
    assert!(
        steps.iter().all(|s| s.account != "approle/ci" || !s.object.is_empty()),
        "the role itself stays: {steps:?}"
    );
    for (step, result) in steps.iter().zip(link.apply(&steps, &cx()).await) {
        result.unwrap_or_else(|fault| panic!("{} {} {}: {fault}", step.action, step.account, step.object));
    }
    for (door, look) in doors(&accounts, &leaver).iter().zip(link.look(&doors(&accounts, &leaver), true, &cx()).await) {
        assert!(matches!(look.verdict, Verdict::Shut { .. }), "{}: {look:?}", door.id);
        if door.kind == DoorKind::Password {
            assert!(matches!(look.verdict, Verdict::Shut { proof: Proof::Refused, .. }), "{look:?}");
        }
    }
    for token in [Ok(own), child, Ok(his)].into_iter().flatten() {
        assert!(!Lab::bao_token(&token), "a token of the leaver's lives");
    }
    assert!(lab.bao_role(&secret_id(&leaver)).is_err(), "the SecretID works");
    assert!(Lab::bao_token(&hers), "the bystander's token is dead");
    assert!(Lab::bao_token(&deputised), "the bystander's token that mentions the leaver is dead");
    assert!(lab.bao_role(&mentioning).is_ok(), "the bystander's SecretID that mentions the leaver is gone");
    assert!(lab.bao_role(&secret_id(&bystander)).is_ok(), "the bystander's SecretID is gone");
}

/// A login that was cut off may leave an accessor behind whose token the server refuses to look up, for root too.
const CUT_OFF: &str = r#"
    vault() { curl -s --cacert "$LAB/ca.pem" "$@"; }
    for round in {1..40}; do
      for i in {1..30}; do
        printf '{"password":"%s"}' "$PASSWORD" | vault -o /dev/null --max-time "0.0$((10 + (i * 7 + round) % 60))" -d @- "$API/userpass/login/$WHO"
      done
      for accessor in $(vault -H @"$LAB/vault/header" -X LIST "$API/token/accessors" | grep -oE '"[A-Za-z0-9]{24}"'); do
        said=$(vault -o /dev/null -w '%{http_code}' -H @"$LAB/vault/header" -d "{\"accessor\":$accessor}" "$API/token/lookup-accessor")
        [[ $said != 403 ]] || exit 0
      done
    done
    exit 1"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_accessor_without_a_token_holds_nothing_up() {
    let lab = Lab::shared();
    let (leaver, other) = (lab.person(), lab.person());
    let mut cut = std::process::Command::new("bash");
    cut.args(["-c", CUT_OFF]).env("API", "https://vault.sunrise.test:8200/v1/auth");
    assert!(
        cut.env("WHO", &other.user).env("PASSWORD", &other.password).status().unwrap().success(),
        "nothing was left behind"
    );
    let connector = connector(&lab, LOGIN);
    let mut link = connector.open(&connector.places().remove(0), &cx()).await.unwrap();
    let accounts = survey(&mut *link, &leaver).await;
    for result in link.apply(&plan(&*connector, &accounts, &leaver), &cx()).await {
        result.unwrap();
    }
    let doors = doors(&accounts, &leaver);
    for (door, look) in doors.iter().zip(link.look(&doors, true, &cx()).await) {
        assert!(matches!(look.verdict, Verdict::Shut { .. }), "{}: {look:?}", door.id);
    }
}

/// A login by password at a place of its own, merged into the leaver's entity: the place, and a token from before.
fn merged(lab: &Lab, leaver: &LabPerson, name: &str) -> (String, String) {
    let path = format!("m{}", leaver.user);
    lab.bao_admin(&["auth", "enable", &format!("-path={path}"), "userpass"]);
    lab.bao_admin(&["write", &format!("auth/{path}/users/{name}"), "password=a long one"]);
    let login = format!("auth/{path}/login/{name}");
    let token = Lab::bao(None, &["write", "-field=token", &login, "password=-"], "a long one").unwrap();
    lab.bao_login(&leaver.user, &leaver.password).unwrap();
    let entity = |path: &str, name: &str| {
        let accessor = lab.bao_admin(&["read", "-field=accessor", &format!("sys/auth/{path}")]);
        let (name, accessor) = (format!("alias_name={name}"), format!("alias_mount_accessor={accessor}"));
        lab.bao_admin(&["write", "-field=id", "identity/lookup/entity", &name, &accessor])
    };
    let (from, to) = (entity(&path, name), entity("userpass", &leaver.user));
    let (from, to) = (format!("from_entity_ids={from}"), format!("to_entity_id={to}"));
    lab.bao_admin(&["write", "identity/entity/merge", &from, &to]);
    (path, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_of_two_people_is_left_alone_and_told() {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    let (path, token) = merged(&lab, &leaver, &bystander.user);
    let connector = connector(&lab, LOGIN);
    let mut link = connector.open(&connector.places().remove(0), &cx()).await.unwrap();
    let accounts = survey(&mut *link, &leaver).await;
    let steps = plan(&*connector, &accounts, &leaver);
    let name = format!("userpass/{}", leaver.user);
    let touched: Vec<&Step> = steps.iter().filter(|s| s.account.contains(&path) || s.account == name).collect();
    assert!(touched.is_empty(), "{touched:?}");
    let told =
        format!("one entity has the login {name}, which is {}'s by its name, and {path}/{}", leaver.id, bystander.user);
    let findings = link.findings();
    assert!(findings.iter().any(|f| f.kind == FindingKind::Unknown && f.what.starts_with(&told)), "{findings:#?}");
    link.apply(&steps, &cx()).await;
    assert!(Lab::bao_token(&token), "the bystander's token is dead");
    lab.bao_admin(&["auth", "disable", &path]);
}

/// Where others keep the logins, whoever logs in first gets an entity that this run has not seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_others_keep_is_told() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let path = format!("corp-{}", leaver.user);
    lab.bao_admin(&["auth", "enable", &format!("-path={path}"), "cert"]);
    let connector = connector(&lab, LOGIN);
    let mut link = connector.open(&connector.places().remove(0), &cx()).await.unwrap();
    survey(&mut *link, &leaver).await;
    lab.bao_admin(&["auth", "disable", &path]);
    let told = format!("no entity has a login of {} at auth/{path} (cert)", leaver.id);
    let findings = link.findings();
    assert!(findings.iter().any(|f| f.kind == FindingKind::NotCovered && f.what.starts_with(&told)), "{findings:#?}");
}

/// Whoever logs in without an entity gets a new one, which nobody has disabled: the witness keeps them out, and what is there again is done again.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_entity_opens_nothing() {
    let lab = Lab::shared();
    let leaver = lab.person();
    lab.bao_login(&leaver.user, &leaver.password).unwrap();
    let connector = connector(&lab, LOGIN);
    let place = connector.places().remove(0);
    let mut link = connector.open(&place, &cx()).await.unwrap();
    let accounts = survey(&mut *link, &leaver).await;
    let steps = plan(&*connector, &accounts, &leaver);
    assert!(link.apply(&steps, &cx()).await.iter().all(Result::is_ok));
    let own = accounts.iter().find(|a| a.owner.person().is_some()).unwrap();
    let entity = own.facts["entity"].as_str().expect("an entity, after a login");
    lab.bao_admin(&["delete", &format!("identity/entity/id/{entity}")]);
    assert!(lab.bao_login(&leaver.user, &leaver.password).is_err(), "the old password works again");
    let look = link.look(&doors(&accounts, &leaver), true, &cx()).await.remove(0);
    assert!(matches!(look.verdict, Verdict::Open { .. }), "nothing is disabled any more: {look:?}");
    let again = survey(&mut *link, &leaver).await;
    assert!(again.iter().any(|a| a.native_id == own.native_id && a.enabled), "the same account, enabled");
    assert!(matches!(link.apply(&steps, &cx()).await.remove(0), Ok(Outcome::Done { .. })));
    let look = link.look(&doors(&accounts, &leaver), true, &cx()).await.remove(0);
    assert!(matches!(look.verdict, Verdict::Shut { proof: Proof::Refused, .. }), "{look:?}");
}

/// After five wrong passwords the server says the same of every one: no proof by refusal, and no wrong verdict.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_out_login_is_not_taken_for_proof() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let connector = connector(&lab, LOGIN);
    let place = connector.places().remove(0);
    let mut link = connector.open(&place, &cx()).await.unwrap();
    for _ in 0..6 {
        lab.bao_login(&leaver.user, "wrong").unwrap_err();
    }
    let accounts = survey(&mut *link, &leaver).await;
    let before = link.look(&doors(&accounts, &leaver), false, &cx()).await.remove(0);
    assert!(matches!(before.verdict, Verdict::Open { .. }), "it is locked for a while only: {before:?}");
    let steps = plan(&*connector, &accounts, &leaver);
    assert!(link.apply(&steps, &cx()).await.iter().all(Result::is_ok));
    let look = link.look(&doors(&accounts, &leaver), true, &cx()).await.remove(0);
    assert!(matches!(look.verdict, Verdict::Shut { proof: Proof::ReadBack, .. }), "{look:?}");
    assert!(matches!(link.apply(&steps[..1], &cx()).await.remove(0), Ok(Outcome::AlreadyDone)));
}

/// An orphan without an entity, made during the run, is found and named; our own identity and the control are never planned on.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_without_an_entity_are_found_and_our_own_are_ours() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let connector = connector(&lab, LOGIN);
    let place = connector.places().remove(0);
    let mut link = connector.open(&place, &cx()).await.unwrap();
    let accounts = survey(&mut *link, &leaver).await;
    for own in ["approle/offboard", "userpass/monitor"] {
        let account = accounts.iter().find(|a| a.native_id == own).unwrap();
        assert_eq!(account.owner, Owner::Ourselves, "{own}");
        let mut theirs = account.clone();
        theirs.owner = Owner::Person { id: PersonId(leaver.id.clone()), rule: MatchRule::Explicit };
        for step in plan(&*connector, &[theirs], &leaver) {
            let fault = link.apply(&[step], &cx()).await.remove(0).unwrap_err();
            assert_eq!(fault.kind, offboard::model::FaultKind::Protected, "{fault}");
        }
    }
    let _ = link.findings();
    let orphan = lab.bao_admin(&["token", "create", "-orphan", "-field=token_accessor", "-ttl=1h"]);
    survey(&mut *link, &leaver).await;
    let findings = link.findings();
    let found = findings.iter().find(|f| f.kind == FindingKind::Unknown && f.what.contains(&orphan));
    assert!(found.is_some(), "{findings:?}");
    lab.bao_admin(&["token", "revoke", "-accessor", &orphan]);
    let health = link.check().await.unwrap();
    assert!(health.findings.is_empty(), "the policy of docs/connectors/vault.md is enough: {:?}", health.findings);
}

/// Certificates of a PKI engine: the leaver's are revoked, a look-alike's are not, and one that names two people is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_the_leaver_are_revoked() {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    lab.bao_admin(&["secrets", "enable", "-path=pki", "pki"]);
    lab.bao_admin(&["write", "pki/root/generate/internal", "common_name=Sunrise Lab", "key_type=ec", "ttl=48h"]);
    lab.bao_admin(&[
        "write",
        "pki/roles/people",
        "allow_any_name=true",
        "enforce_hostnames=false",
        "key_type=ec",
        "max_ttl=24h",
    ]);
    let issue = |names: &[&str]| {
        let mails = names[1..].join(",");
        let (name, mails) = (format!("common_name={}", names[0]), format!("alt_names={mails}"));
        lab.bao_admin(&["write", "-field=serial_number", "pki/issue/people", &name, &mails, "ttl=1h"])
    };
    let theirs = [issue(&[&leaver.user]), issue(&[&leaver.mail]), issue(&["A Leaver", &leaver.mail])];
    let others =
        [issue(&[&bystander.user]), issue(&["A Leaver", &bystander.mail]), issue(&[&format!("{}x", leaver.user)])];
    let both = issue(&[&leaver.user, &leaver.mail, &bystander.mail]);
    let connector = <Vault as Rig>::connector(&lab);
    let place = connector.places().remove(0);
    let mut link = connector.open(&place, &cx()).await.unwrap();
    let mut accounts = survey(&mut *link, &leaver).await;
    let id = PersonId(leaver.id.clone());
    for account in accounts.iter_mut().filter(|a| a.identity.mails == [leaver.mail.as_str()]) {
        account.owner = Owner::Person { id: id.clone(), rule: MatchRule::Mail };
        for door in &mut account.doors {
            door.holder = account.owner.clone();
        }
    }
    let shared: Vec<_> =
        link.findings().into_iter().filter(|f| f.what.contains("names") && f.what.contains("somebody else")).collect();
    assert!(shared.len() == 1 && shared[0].kind == FindingKind::Unknown, "{shared:?}");
    let is_certificate = |door: &&Door| door.kind == DoorKind::Certificate;
    let doors: Vec<Door> = doors(&accounts, &leaver).iter().filter(is_certificate).cloned().collect();
    assert_eq!(doors.len(), 3, "{doors:#?}");
    let word = async |link: &mut dyn Link| -> Vec<&'static str> {
        link.look(&doors, true, &cx()).await.iter().map(|look| look.verdict.word()).collect()
    };
    assert_eq!(word(&mut *link).await, ["open"; 3]);
    let steps: Vec<Step> =
        plan(&*connector, &accounts, &leaver).into_iter().filter(|s| s.object.starts_with("serial ")).collect();
    assert_eq!(steps.len(), 3, "{steps:#?}");
    for result in link.apply(&steps, &cx()).await {
        assert!(matches!(result.unwrap(), Outcome::Done { .. }));
    }
    for result in link.apply(&steps, &cx()).await {
        assert_eq!(result.unwrap(), Outcome::AlreadyDone);
    }
    assert_eq!(word(&mut *link).await, ["shut"; 3]);
    let revoked =
        |serial: &String| lab.bao_admin(&["read", "-field=revocation_time", &format!("pki/cert/{serial}")]) != "0";
    assert!(theirs.iter().all(revoked));
    assert!(!others.iter().chain([&both]).any(revoked), "somebody else's");
    lab.bao_admin(&["secrets", "disable", "pki"]);
}
