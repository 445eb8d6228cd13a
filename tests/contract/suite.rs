//! What every connector promises. A rig says how to reach one system of the lab, and how its *real client* logs in.

use crate::lab::{Lab, LabPerson};
use futures::StreamExt;
use jiff::Timestamp;
use offboard::connector::{Connector, Cx, Link, Scope, Wanted};
use offboard::model::{
    Account, Action, Door, DoorKind, FaultKind, Look, MatchRule, Outcome, Owner, Person, PersonId, Place, PlaceId,
    Step, Undo, Verdict, WorkerStatus,
};
use secrecy::ExposeSecret;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A session that was opened before the steps, with a real client.
pub trait Session {
    /// Whether it still answers.
    fn is_alive(&mut self) -> bool;
}

/// One connector, and the real server and client to hold it against.
pub trait Rig {
    /// The connector as the lab's `offboard.yaml` configures it.
    fn connector(lab: &Lab) -> Arc<dyn Connector>;
    /// The same with an operator that may log in but may not change anything.
    fn powerless(lab: &Lab) -> Arc<dyn Connector>;
    /// Whether the person gets in at `place`, by the real client (`ldapwhoami`, `psql`, `ssh`).
    fn gets_in(lab: &Lab, person: &LabPerson, place: &Place) -> bool;
    /// A session of the person at `place`, by the real client. Nothing where the server has no way to end sessions.
    fn session(lab: &Lab, person: &LabPerson, place: &Place) -> Option<Box<dyn Session>>;
    /// The lab's name of the server behind `place`.
    fn server(place: &Place) -> String;
    /// Takes the person's account away behind offboard's back.
    fn delete_account(lab: &Lab, person: &LabPerson, place: &Place);
    /// Whether a restored person can get in with what restore gave them (a one-time password; new keys are put in place by the rig).
    fn gets_in_again(lab: &Lab, person: &LabPerson, place: &Place, one_time: Option<&str>) -> bool;
}

/// A time that stands still: connectors never read the clock.
pub fn cx() -> Cx {
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    Cx { now: Arc::new(move || now), timeout: Duration::from_secs(10), baseline: None, seed: vec![42; 32].into() }
}

/// For a server of which it is known that it does not answer.
fn hasty() -> Cx {
    Cx { timeout: Duration::from_secs(2), ..cx() }
}

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
        reason: Some("involuntary".into()),
        ends: None,
        zone: None,
        keys: Vec::new(),
    }
}

fn scope(leaver: &LabPerson) -> Scope {
    let keys = BTreeSet::from([leaver.fingerprint()]);
    Scope::People(vec![Wanted { person: person(leaver), accounts: Vec::new(), keys }])
}

/// The leaver's accounts and doors at one place, matched by hand: by user name, and by key in other people's accounts.
async fn discover(link: &mut dyn Link, leaver: &LabPerson) -> Vec<Account> {
    let scope = scope(leaver);
    let found: Vec<_> = link.discover(&scope).collect().await;
    let id = PersonId(leaver.id.clone());
    let mut accounts = Vec::new();
    for account in found {
        let mut account: Account = account.expect("discover");
        let own = account.identity.user_name.as_deref() == Some(&leaver.user);
        if own && account.owner == Owner::Nobody {
            account.owner = Owner::Person { id: id.clone(), rule: MatchRule::UserName };
        }
        for door in &mut account.doors {
            if own || (door.kind == DoorKind::SshKey && door.object == leaver.fingerprint().0) {
                door.holder = Owner::Person { id: id.clone(), rule: MatchRule::OwnAccount };
            }
        }
        account.doors.retain(|d| d.holder.person() == Some(&id));
        if own || !account.doors.is_empty() {
            accounts.push(account);
        }
    }
    accounts
}

fn plan(connector: &dyn Connector, accounts: &[Account], leaver: &LabPerson) -> Vec<Step> {
    let id = PersonId(leaver.id.clone());
    let mut steps = Vec::new();
    for account in accounts {
        for action in [Action::Disable, Action::EndSessions, Action::Revoke, Action::Remove] {
            steps.extend(connector.plan(account, &id, action).into_iter().flatten());
        }
    }
    steps
}

fn doors(accounts: &[Account]) -> Vec<Door> {
    accounts.iter().flat_map(|a| a.doors.clone()).collect()
}

fn word(look: &Look) -> &'static str {
    look.verdict.word()
}

/// Everything of one leaver at one place, found and planned on a live link.
struct Found {
    place: Place,
    link: Box<dyn Link>,
    accounts: Vec<Account>,
    steps: Vec<Step>,
}

async fn found(connector: &dyn Connector, place: Place, leaver: &LabPerson) -> Found {
    let mut link = connector.open(&place, &cx()).await.expect("open");
    let accounts = discover(&mut *link, leaver).await;
    assert!(!accounts.is_empty(), "{}: the leaver's account was not found", place.id);
    let steps = plan(connector, &accounts, leaver);
    assert!(!steps.is_empty(), "{}: nothing was planned", place.id);
    Found { place, link, accounts, steps }
}

async fn apply_all(found: &mut Found) {
    for (step, result) in found.steps.iter().zip(found.link.apply(&found.steps, &cx()).await) {
        result.unwrap_or_else(|fault| panic!("{} {} {}: {fault}", step.place, step.action, step.object));
    }
}

/// Finds the leaver and never the look-alike bystander; the plan is repeatable.
pub async fn finds_the_leaver_and_never_the_bystander<R: Rig>() {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    let connector = R::connector(&lab);
    for place in connector.places() {
        let found = found(&*connector, place, &leaver).await;
        assert_eq!(found.steps, plan(&*connector, &found.accounts, &leaver), "the plan is repeatable");
        for account in &found.accounts {
            assert_ne!(account.native_id, bystander.user, "{}", found.place.id);
            assert_ne!(account.identity.user_name.as_deref(), Some(bystander.user.as_str()));
            for door in &account.doors {
                assert_ne!(door.object, bystander.fingerprint().0, "the bystander's key is not the leaver's");
            }
        }
    }
}

/// Open before, shut after, and the real client agrees; an open session dies; the bystander still gets in; again is AlreadyDone.
pub async fn shuts_what_was_open_and_nothing_else<R: Rig>() {
    let lab = Lab::shared();
    let (leaver, bystander) = lab.look_alikes();
    let connector = R::connector(&lab);
    for place in connector.places() {
        assert!(R::gets_in(&lab, &bystander, &place), "{}: the bystander gets in before", place.id);
        let mut session = R::session(&lab, &leaver, &place);
        let mut found = found(&*connector, place, &leaver).await;
        let doors = doors(&found.accounts);
        for (door, look) in doors.iter().zip(found.link.look(&doors, false, &cx()).await) {
            // Replicas pass the lock on to each other: the second one may be shut already.
            assert_ne!(word(&look), "unproven", "before: {}: {look:?}", door.id);
        }
        apply_all(&mut found).await;
        for (door, look) in doors.iter().zip(found.link.look(&doors, true, &cx()).await) {
            assert_eq!(word(&look), "shut", "after: {}: {look:?}", door.id);
            assert!(look.control.is_some(), "{}: no control got in", door.id);
        }
        assert!(!R::gets_in(&lab, &leaver, &found.place), "{}: the real client still gets in", found.place.id);
        if let Some(session) = &mut session {
            assert!(!session.is_alive(), "{}: the session from before goes on", found.place.id);
        }
        assert!(R::gets_in(&lab, &bystander, &found.place), "{}: the bystander is shut out", found.place.id);
        for (step, result) in found.steps.iter().zip(found.link.apply(&found.steps, &cx()).await) {
            let outcome = result.expect("a second apply");
            assert!(
                !matches!(outcome, Outcome::Done { .. }),
                "second apply of {} {}: {outcome:?}",
                step.action,
                step.object
            );
        }
    }
}

/// Open before: at a place where nothing was done yet every door of a fresh person is open.
pub async fn is_open_before<R: Rig>() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let connector = R::connector(&lab);
    for place in connector.places() {
        assert!(R::gets_in(&lab, &leaver, &place));
        // A door of sessions is open only while there is one.
        let _session = R::session(&lab, &leaver, &place);
        let mut found = found(&*connector, place, &leaver).await;
        let doors = doors(&found.accounts);
        for (door, look) in doors.iter().zip(found.link.look(&doors, false, &cx()).await) {
            assert_eq!(word(&look), "open", "before: {}: {look:?}", door.id);
        }
    }
}

/// A step that lands late, from another worker with an old view, opens nothing.
pub async fn a_late_apply_opens_nothing<R: Rig>() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let connector = R::connector(&lab);
    for place in connector.places() {
        let mut late = found(&*connector, place.clone(), &leaver).await;
        let mut first = found(&*connector, place, &leaver).await;
        apply_all(&mut first).await;
        // One by one, in the reverse order: the worst that a lost lease can do.
        for step in late.steps.clone().iter().rev() {
            let _ = late.link.apply(std::slice::from_ref(step), &cx()).await;
        }
        let doors = doors(&first.accounts);
        for (door, look) in doors.iter().zip(first.link.look(&doors, true, &cx()).await) {
            assert_eq!(word(&look), "shut", "{}: {look:?}", door.id);
        }
        assert!(!R::gets_in(&lab, &leaver, &first.place));
    }
}

/// An account that vanished between plan and apply is Absent, no error.
pub async fn a_vanished_account_is_absent<R: Rig>() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let connector = R::connector(&lab);
    let place = connector.places().remove(0);
    let mut found = found(&*connector, place, &leaver).await;
    R::delete_account(&lab, &leaver, &found.place);
    // As the system calls them: a DN, a login, a public key.
    let accounts = found.accounts.iter().filter(|a| a.identity.user_name.as_deref() == Some(&leaver.user));
    let accounts: BTreeSet<&str> = accounts.map(|a| a.native_id.as_str()).collect();
    let own: Vec<Step> = found.steps.iter().filter(|s| accounts.contains(s.account.as_str())).cloned().collect();
    assert!(!own.is_empty());
    for (step, result) in own.iter().zip(found.link.apply(&own, &cx()).await) {
        let outcome = result.unwrap_or_else(|fault| panic!("{} {}: {fault}", step.action, step.object));
        assert!(!matches!(outcome, Outcome::Done { .. }), "{} {}: {outcome:?}", step.action, step.object);
    }
}

/// A server that is stopped, or that hangs, is Unproven, never Shut; opening it is Unreachable.
pub async fn a_dead_server_is_unproven<R: Rig>() {
    let lab = Lab::alone();
    let leaver = lab.person();
    let connector = R::connector(&lab);
    let place = connector.places().remove(0);
    let mut found = found(&*connector, place.clone(), &leaver).await;
    let doors = doors(&found.accounts);
    for kill in [Lab::pause as fn(&Lab, &str) -> crate::lab::Outage, Lab::stop] {
        let outage = kill(&lab, &R::server(&place));
        for (door, look) in doors.iter().zip(found.link.look(&doors, true, &hasty()).await) {
            assert!(matches!(look.verdict, Verdict::Unproven { .. }), "{}: {look:?}", door.id);
        }
        let fault = connector.open(&place, &hasty()).await.map(|_| ()).expect_err("open");
        assert_eq!(fault.kind, FaultKind::Unreachable, "{fault:?}");
        drop(outage);
        found = self::found(&*connector, place.clone(), &leaver).await;
    }
}

/// Missing privileges are Forbidden, with the grant to make; nothing is changed.
pub async fn missing_privilege_is_forbidden<R: Rig>() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let (full, powerless) = (R::connector(&lab), R::powerless(&lab));
    let place = powerless.places().remove(0);
    let found = found(&*full, place.clone(), &leaver).await;
    let mut refused = match powerless.open(&place, &cx()).await {
        Ok(mut link) => {
            // It has to see first what it would change.
            let _ = discover(&mut *link, &leaver).await;
            link.apply(&found.steps, &cx()).await
        }
        Err(fault) => vec![Err(fault)],
    };
    let fault = refused.remove(0).expect_err("the first step needs a privilege");
    assert_eq!(fault.kind, FaultKind::Forbidden, "{fault:?}");
    assert!(fault.hint.as_deref().is_some_and(|h| !h.is_empty()), "says what to grant: {fault:?}");
    assert!(R::gets_in(&lab, &leaver, &place), "nothing was changed");
}

/// Restore gives access back, and no old secret with it.
pub async fn restore_gives_access_back<R: Rig>() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let connector = R::connector(&lab);
    let place = connector.places().remove(0);
    let mut found = found(&*connector, place, &leaver).await;
    apply_all(&mut found).await;
    let undo: Vec<Undo> = found
        .steps
        .iter()
        .rev()
        .filter(|s| s.reversible)
        .map(|step| Undo {
            step: step.clone(),
            account: found.accounts.iter().find(|a| a.native_id == step.account).cloned().expect("its account"),
        })
        .collect();
    let mut one_time = None;
    for result in found.link.restore(&undo, &cx()).await {
        one_time = result.expect("restore").one_time_password.or(one_time);
    }
    assert!(!R::gets_in(&lab, &leaver, &found.place), "an old secret works again");
    let one_time = one_time.as_ref().map(ExposeSecret::expose_secret);
    assert!(R::gets_in_again(&lab, &leaver, &found.place, one_time), "{}: no access after restore", found.place.id);
}

/// No secret in anything that a run would record or show.
pub async fn no_secret_is_shown<R: Rig>() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let connector = R::connector(&lab);
    let place = connector.places().remove(0);
    let mut found = found(&*connector, place, &leaver).await;
    let witness: Vec<String> = found
        .accounts
        .iter()
        // Of the place, or of the whole system where replicas hand passwords on to each other.
        .flat_map(|a| {
            [&found.place.id.0, &found.place.system.0].map(|p| cx().witness(&PlaceId(p.clone()), &a.native_id))
        })
        .map(|witness| witness.expose_secret().to_string())
        .collect();
    let mut shown = String::new();
    let results = found.link.apply(&found.steps, &cx()).await;
    let doors = doors(&found.accounts);
    let looks = found.link.look(&doors, true, &cx()).await;
    shown.push_str(&format!("{results:?}{looks:?}{:?}", found.link.findings()));
    for account in &mut found.accounts {
        account.facts = serde_json::Value::Null; // sealed in the journal
        shown.push_str(&serde_json::to_string(account).unwrap());
    }
    shown.push_str(&serde_json::to_string(&found.steps).unwrap());
    for secret in witness.iter().chain([&leaver.password]).chain(&lab.operator_secrets()) {
        assert!(!shown.contains(secret.as_str()), "a secret is shown");
    }
    for mark in ["SCRAM-SHA-256$", "{SSHA", "{CRYPT", "$6$", "$y$", "PRIVATE KEY"] {
        assert!(!shown.contains(mark), "{mark} is shown: a password hash or a private key");
    }
}

/// The contract, as tests of one rig.
macro_rules! contract {
    ($rig:ty) => {
        $crate::suite::contract!($rig:
            finds_the_leaver_and_never_the_bystander,
            is_open_before,
            shuts_what_was_open_and_nothing_else,
            a_late_apply_opens_nothing,
            a_vanished_account_is_absent,
            a_dead_server_is_unproven,
            missing_privilege_is_forbidden,
            restore_gives_access_back,
            no_secret_is_shown,
        );
    };
    ($rig:ty: $($name:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::suite::$name::<$rig>().await;
            }
        )*
    };
}
pub(crate) use contract;
