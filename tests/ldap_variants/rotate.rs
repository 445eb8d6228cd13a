//! An entry as the source of a shared secret, in every state of the server's password policy.

use crate::slapd::*;
use offboard::connector::{KnownSecret, Link, Taken, Turn};
use offboard::model::*;
use secrecy::SecretString;

const PORTAL: &str = "uid=portal,ou=services,dc=sunrise,dc=test";
const OLD: &str = "portal-old-password";
const NEW: &str = "portal-New-password_0123456789";

fn variant() -> Variant {
    Variant { entries: entry(OLD), ..Variant::default() }
}

fn entry(password: &str) -> String {
    format!("dn: {PORTAL}\nobjectClass: account\nobjectClass: simpleSecurityObject\nuserPassword: {password}\n")
}

async fn turn(link: &mut dyn Link, phase: Phase, account: &str, old: &str, seen: &Seen) -> Result<Taken, Fault> {
    let (old, new) = (SecretString::from(old), SecretString::from(NEW));
    let part = Part::Source { account: account.into() };
    let turn = Turn {
        phase,
        secret: &SecretName("portal".into()),
        part: &part,
        old: Some(&old),
        new: (phase != Phase::Create).then_some(&new),
        seen,
        user: None,
        consumers: &[],
    };
    let taken = link.rotate(&turn, &cx()).await;
    let said = match &taken {
        Ok(taken) => format!("{:?}{:?}{:?}", taken.outcome, taken.findings, taken.seen),
        Err(fault) => format!("{fault:?}"),
    };
    for secret in [OLD, NEW, "{SSHA}"] {
        assert!(!said.replace("{SSHA}offboard", "").contains(secret), "{said}");
    }
    taken
}

fn door() -> Door {
    let place = PlaceId("directory".into());
    Door::new(&place, PORTAL, DoorKind::SharedSecret, "portal", "")
}

async fn look(link: &mut dyn Link, old: Option<&str>, new: Option<&str>, seen: &Seen) -> Look {
    let secret = |value: &str| SecretString::from(value);
    let known = KnownSecret {
        door: door().id,
        old: old.map(secret),
        new: new.map(secret),
        before: seen.before.clone(),
        source: None,
    };
    link.keep(vec![known]);
    link.look(&[door()], true, &cx()).await.remove(0)
}

fn proof(look: &Look) -> Option<Proof> {
    match &look.verdict {
        Verdict::Shut { proof, .. } => Some(*proof),
        _ => None,
    }
}

/// The four phases, and what must hold everywhere; with what `create` has seen.
async fn rotated(server: &Slapd) -> (Box<dyn Link>, Seen, Taken) {
    assert!(server.gets_in(PORTAL, OLD));
    let mut link = server.open().await;
    let created = turn(link.as_mut(), Phase::Create, PORTAL, OLD, &Seen::default()).await.unwrap();
    assert!(server.gets_in(PORTAL, OLD), "nothing was changed");
    let mut seen = created.seen.clone();
    let before = look(link.as_mut(), Some(OLD), None, &seen).await;
    assert_eq!(before.verdict.word(), if proof_needs_no_try(server) { "unproven" } else { "open" }, "{before:?}");
    let set = turn(link.as_mut(), Phase::Set, PORTAL, OLD, &seen).await.unwrap();
    assert!(matches!(set.outcome, Outcome::Done { .. }), "{:?}", set.outcome);
    seen.merge(&set.seen);
    assert!(server.gets_in(PORTAL, NEW) && server.gets_in(BYSTANDER, "bystander-password"));
    // Also by a worker that comes late over a link of its own.
    let again = turn(server.open().await.as_mut(), Phase::Set, PORTAL, OLD, &seen).await.unwrap();
    assert_eq!(again.outcome, Outcome::AlreadyDone);
    turn(link.as_mut(), Phase::Test, PORTAL, OLD, &seen).await.unwrap();
    let finished = turn(link.as_mut(), Phase::Finish, PORTAL, OLD, &seen).await.unwrap();
    (link, seen, finished.with_findings_of(created))
}

/// One failed login locks: the old value may not be tried.
fn proof_needs_no_try(server: &Slapd) -> bool {
    server.values("cn=default,ou=policies,dc=sunrise,dc=test", "pwdMaxFailure") == ["1"]
}

trait WithFindings {
    fn with_findings_of(self, other: Taken) -> Self;
}

impl WithFindings for Taken {
    fn with_findings_of(mut self, other: Taken) -> Self {
        self.findings.extend(other.findings);
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_accounts_password_is_replaced_and_the_old_one_refused() {
    let server = Slapd::start(&variant());
    let (mut link, seen, finished) = rotated(&server).await;
    assert!(finished.findings.is_empty(), "cn=Monitor shows that nobody is bound: {:?}", finished.findings);
    let after = look(link.as_mut(), Some(OLD), Some(NEW), &seen).await;
    assert_eq!(proof(&after), Some(Proof::Refused), "{after:?}");
    assert!(after.control.is_some());
    assert!(!server.gets_in(PORTAL, OLD));
    // Long after, when the values are gone.
    let late = look(link.as_mut(), None, None, &seen).await;
    assert_eq!(proof(&late), Some(Proof::ReadBack), "{late:?}");
    // The old one is set again by a kind colleague.
    server.change(&format!("dn: {PORTAL}\nchangetype: modify\nreplace: userPassword\nuserPassword: {OLD}\n"));
    let back = look(link.as_mut(), Some(OLD), Some(NEW), &seen).await;
    assert_eq!(back.verdict.word(), "open", "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_do_not_lock_the_account_that_is_being_proved() {
    for (policy, wanted) in [
        ("pwdLockout: TRUE\npwdMaxFailure: 1", Proof::ReadBack),
        ("pwdLockout: TRUE\npwdMaxFailure: 2", Proof::Refused),
        ("pwdLockout: TRUE\npwdMaxFailure: 50\npwdCheckQuality: 2\npwdMinLength: 12", Proof::Refused),
        ("pwdLockout: TRUE\npwdSafeModify: TRUE\npwdInHistory: 5\npwdMinAge: 86400", Proof::Refused),
    ] {
        let server = Slapd::start(&Variant { policy, ..variant() });
        let (mut link, seen, finished) = rotated(&server).await;
        let warned = finished.findings.iter().any(|f| f.kind == FindingKind::Configuration);
        assert_eq!(warned, policy.contains("Failure: 1") || policy.contains("Failure: 2"), "{:?}", finished.findings);
        for _ in 0..4 {
            let after = look(link.as_mut(), Some(OLD), Some(NEW), &seen).await;
            assert_eq!(proof(&after), Some(wanted), "{policy}: {after:?}");
        }
        assert!(server.gets_in(PORTAL, NEW), "{policy}");
        assert!(server.values(PORTAL, "pwdAccountLockedTime").is_empty(), "{policy}");
    }
}

/// Without `manage`, the overlay takes our login for any user's.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_asks_for_the_old_password_gets_it() {
    for policy in
        ["pwdLockout: TRUE\npwdSafeModify: TRUE", "pwdLockout: TRUE\npwdMaxFailure: 20", "pwdMustChange: TRUE"]
    {
        let server = Slapd::start(&Variant { policy, operator: "write", ..variant() });
        let (mut link, seen, _) = rotated(&server).await;
        let after = look(link.as_mut(), Some(OLD), Some(NEW), &seen).await;
        assert_eq!(proof(&after), Some(Proof::Refused), "{policy}: {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_set_is_left() {
    let server = Slapd::start(&Variant { ppolicy: None, ..variant() });
    let theirs = |password: &str| {
        server.change(&format!("dn: {PORTAL}\nchangetype: modify\nreplace: userPassword\nuserPassword: {password}\n"));
    };
    let mut link = server.open().await;
    let created = turn(link.as_mut(), Phase::Create, PORTAL, OLD, &Seen::default()).await.unwrap();
    theirs("set-by-a-colleague");
    let fault = turn(link.as_mut(), Phase::Set, PORTAL, OLD, &created.seen).await.map(|t| t.outcome).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Protected, "{fault:?}");
    assert!(server.gets_in(PORTAL, "set-by-a-colleague"));
    // Set to the very value that we have, and hashed by somebody else: it is ours.
    theirs(NEW);
    let set = turn(link.as_mut(), Phase::Set, PORTAL, OLD, &created.seen).await.unwrap();
    assert_eq!(set.outcome, Outcome::AlreadyDone);
    turn(link.as_mut(), Phase::Test, PORTAL, OLD, &created.seen).await.unwrap();
    // After `set`: neither `set` nor `test` takes it for ours.
    theirs("set-by-a-colleague");
    for phase in [Phase::Set, Phase::Test] {
        let fault = turn(link.as_mut(), phase, PORTAL, OLD, &created.seen).await.map(|t| t.outcome).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Protected, "{phase}: {fault:?}");
    }
    assert!(server.gets_in(PORTAL, "set-by-a-colleague"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_to_fail_fails_before_anything_is_changed() {
    let ask = async |server: &Slapd, account: &str, old: &str| {
        let mut link = server.open().await;
        turn(link.as_mut(), Phase::Create, account, old, &Seen::default()).await.map(|t| t.outcome).unwrap_err()
    };
    let server = Slapd::start(&variant());
    let fault = ask(&server, PORTAL, "another-password").await;
    assert!(fault.kind == FaultKind::Misconfigured && fault.to_string().contains("not its password"), "{fault}");
    for (account, kind) in [
        ("uid=nobody,ou=services,dc=sunrise,dc=test", FaultKind::Misconfigured),
        ("ou=people,dc=sunrise,dc=test", FaultKind::Misconfigured),
        ("*)(uid=*", FaultKind::Unexpected),
        (OPERATOR, FaultKind::Protected),
        ("UID=Monitor, ou=services,dc=sunrise,dc=test", FaultKind::Protected),
    ] {
        let fault = ask(&server, account, OLD).await;
        assert_eq!(fault.kind, kind, "{fault:?}");
    }
    assert!(server.gets_in(OPERATOR, "operator-secret"));
    let lock = "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n";
    server.change(&format!("dn: {PORTAL}\nchangetype: modify\n{lock}"));
    let fault = ask(&server, PORTAL, OLD).await;
    assert!(fault.to_string().contains("locked"), "{fault}");
    for operator in ["read", "auth"] {
        let server = Slapd::start(&Variant { operator, ..variant() });
        let fault = ask(&server, PORTAL, OLD).await;
        assert_eq!(fault.kind, FaultKind::Forbidden, "{fault:?}");
        assert!(fault.hint.iter().any(|hint| hint.contains(PORTAL)), "{fault:?}");
    }
    let elsewhere = Slapd::start(&Variant { entries: entry("{SASL}portal@realm"), ..Variant::default() });
    let fault = ask(&elsewhere, PORTAL, OLD).await;
    assert!(fault.to_string().contains("elsewhere"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_from_before_the_change_are_told() {
    let server = Slapd::start(&variant());
    let settings = serde_json::json!({ "bind-dn": PORTAL, "password": { "file": "portal" } });
    let mut all = serde_json::to_value(server.settings()).unwrap();
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    std::fs::write(server.path("portal"), OLD).unwrap();
    std::fs::set_permissions(server.path("portal"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let bound = server.connector_with(serde_json::from_value(all).unwrap());
    let open = bound.open(&bound.places()[0], &cx()).await.unwrap();
    let (mut link, mut seen, finished) = rotated(&server).await;
    assert!(finished.findings.iter().any(|f| f.what.contains("1 connection(s)")), "{:?}", finished.findings);
    // One that was opened since is none of them.
    std::fs::write(server.path("portal"), NEW).unwrap();
    let fresh = bound.open(&bound.places()[0], &cx()).await.unwrap();
    drop(open);
    for _ in 0..100 {
        let finished = turn(link.as_mut(), Phase::Finish, PORTAL, OLD, &seen).await.unwrap();
        if finished.findings.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let finished = turn(link.as_mut(), Phase::Finish, PORTAL, OLD, &seen).await.unwrap();
    assert!(finished.findings.is_empty(), "{:?}", finished.findings);
    seen.mark = None;
    let unknown = turn(link.as_mut(), Phase::Finish, PORTAL, OLD, &seen).await.unwrap();
    assert!(!unknown.findings.is_empty(), "without a mark every connection may be an old one");
    drop(fresh);
}
