//! The lab's two OpenLDAP servers, which replicate each other, with `ldapwhoami` as the real client.

use crate::lab::{Lab, LabPerson};
use crate::suite::{Rig, Session, contract, cx};
use futures::StreamExt;
use offboard::connector::{Connector, Scope, Wanted};
use offboard::connectors::ldap::{Settings, build};
use offboard::model::{Account, Action, MatchRule, Owner, Person, PersonId, Place, Step, SystemName, WorkerStatus};
use std::process::{Command, Stdio};
use std::sync::Arc;

struct Ldap;

const BASE: &str = "dc=sunrise,dc=test";

fn connector(lab: &Lab, bind_dn: &str, secret: &str, more: &str) -> Arc<dyn Connector> {
    let settings = format!(
        "{{ urls: [\"ldaps://ldap1.sunrise.test\", \"ldap://ldap2.sunrise.test\"], ca: ca.pem, bind-dn: \"{bind_dn},{BASE}\", \
           password: {{ file: secrets/{secret} }}, people: [\"ou=people,{BASE}\"], groups: [\"ou=groups,{BASE}\"]{more} }}"
    );
    let settings: Settings = serde_yaml::from_str(&settings).unwrap();
    build(&SystemName("directory".into()), settings, lab.root()).unwrap()
}

/// LDIF as the directory's own administrator, behind offboard's back.
fn administer(lab: &Lab, server: &str, ldif: &str) {
    let mut command = Command::new("ldapmodify");
    command.args(["-x", "-ZZ", "-H", &format!("ldap://{server}.sunrise.test"), "-D", &format!("cn=admin,{BASE}")]);
    let password = std::fs::read_to_string(lab.root().join("secrets/ldap-admin")).unwrap();
    command.args(["-w", password.trim_end()]).env("LDAPTLS_CACERT", lab.root().join("ca.pem"));
    let file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &file, ldif.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut &file).unwrap();
    let output = command.stdin(Stdio::from(file)).output().unwrap();
    assert!(output.status.success(), "{ldif}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Rig for Ldap {
    fn connector(lab: &Lab) -> Arc<dyn Connector> {
        let control = format!(
            ", control: {{ dn: \"uid=monitor,ou=services,{BASE}\", password: {{ file: secrets/ldap-control }} }}"
        );
        connector(lab, "cn=offboard,ou=services", "ldap", &control)
    }

    fn powerless(lab: &Lab) -> Arc<dyn Connector> {
        connector(lab, "uid=monitor,ou=services", "ldap-control", "")
    }

    fn gets_in(lab: &Lab, person: &LabPerson, place: &Place) -> bool {
        lab.ldapwhoami(&Self::server(place), &lab.dn(person), &person.password)
    }

    /// LDAP has no way to end a bound connection: it is stated as residual access.
    fn session(_: &Lab, _: &LabPerson, _: &Place) -> Option<Box<dyn Session>> {
        None
    }

    fn server(place: &Place) -> String {
        place.address.split('.').next().unwrap().to_string()
    }

    /// As a directory administrator does it: the entry, and its name in the groups.
    fn delete_account(lab: &Lab, person: &LabPerson, place: &Place) {
        let dn = lab.dn(person);
        let mut ldif = format!("dn: {dn}\nchangetype: delete\n\n");
        for (group, attribute, value) in
            [("engineering", "member", &dn), ("oncall", "uniqueMember", &dn), ("developers", "memberUid", &person.user)]
        {
            ldif += &format!(
                "dn: cn={group},ou=groups,{BASE}\nchangetype: modify\ndelete: {attribute}\n{attribute}: {value}\n\n"
            );
        }
        administer(lab, &Self::server(place), &ldif);
    }

    fn gets_in_again(lab: &Lab, person: &LabPerson, place: &Place, one_time: Option<&str>) -> bool {
        one_time.is_some_and(|password| lab.ldapwhoami(&Self::server(place), &lab.dn(person), password))
    }
}

contract!(Ldap);

/// The whole inventory, entry by entry: the lab's 200 people in pages of at most 100, as the lab's limits demand.
#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_is_whole_on_every_replica() {
    let lab = Lab::shared();
    let connector = Ldap::connector(&lab);
    for place in connector.places() {
        let mut link = connector.open(&place, &cx()).await.unwrap();
        let found: Vec<Account> = link.discover(&Scope::Everything).map(|account| account.unwrap()).collect().await;
        assert!(found.len() >= 200, "{}: {} accounts", place.id, found.len());
        let health = link.check().await.unwrap();
        assert!(!health.findings.iter().any(|f| f.what.contains("may not")), "{:?}", health.findings);
    }
}

/// A run works on all places at once, while the servers hand each change on to each other: both end with the same lock.
#[tokio::test(flavor = "multi_thread")]
async fn both_replicas_at_once() {
    let lab = Lab::shared();
    let leaver = lab.person();
    let connector = Ldap::connector(&lab);
    let id = PersonId(leaver.id.clone());
    let mut links = Vec::new();
    for place in connector.places() {
        let mut link = connector.open(&place, &cx()).await.unwrap();
        let mapped = vec![(SystemName("directory".into()), lab.dn(&leaver))];
        let wanted = Wanted { person: nobody(&id), accounts: mapped, keys: Default::default() };
        let scope = Scope::People(vec![wanted]);
        let mut account = link.discover(&scope).next().await.expect("found by the map").unwrap();
        account.owner = Owner::Person { id: id.clone(), rule: MatchRule::Explicit };
        links.push((link, account));
    }
    let applied = links.iter_mut().map(|(link, account)| {
        let steps: Vec<Step> = [Action::Disable, Action::Revoke, Action::Remove]
            .iter()
            .flat_map(|action| connector.plan(account, &id, *action))
            .flatten()
            .collect();
        async move { link.apply(&steps, &cx()).await }
    });
    for outcome in futures::future::join_all(applied).await.into_iter().flatten() {
        outcome.unwrap();
    }
    for (link, account) in &mut links {
        for look in link.look(&account.doors, true, &cx()).await {
            assert_eq!(look.verdict.word(), "shut", "{}: {look:?}", account.place);
        }
    }
}

/// Somebody of whom nothing is known but the number.
fn nobody(id: &PersonId) -> Person {
    Person {
        id: id.clone(),
        name: String::new(),
        email: None,
        user_name: None,
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
