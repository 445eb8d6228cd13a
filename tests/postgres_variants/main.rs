//! The PostgreSQL connector against a real server, in the variants that the lab's one server does not have: operators with fewer
//! rights, hostile names, roles without a password, a leaver who fights back.

#[path = "../server/mod.rs"]
mod server;

mod cluster;
mod hostile;
mod planted;
mod proof;
mod rights;

use cluster::{Cluster, shared};
use futures::StreamExt;
use offboard::connector::{Connector, Cx, Link, Scope, Wanted};
use offboard::connectors::postgres::{self, Settings};
use offboard::model::{
    Account, Action, Door, DoorKind, Fault, FaultKind, Finding, Look, MatchRule, Outcome, Owner, Person, PersonId,
    Proof, Step, SystemName, Undo, Verdict, WorkerStatus,
};
use secrecy::{ExposeSecret, SecretSlice};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const SEED: [u8; 32] = [7; 32];

fn cx() -> Cx {
    Cx {
        now: Arc::new(|| "2026-03-01T12:00:00Z".parse().unwrap()),
        timeout: Duration::from_secs(30),
        baseline: None,
        seed: SecretSlice::from(SEED.to_vec()),
    }
}

fn system() -> SystemName {
    SystemName("billing".into())
}

/// The connector as a superuser of its own, `operator`, unless `settings` says otherwise.
fn connector(cluster: &Cluster, operator: &str, more: &str) -> Arc<dyn Connector> {
    cluster.secret("operator", "operator's password");
    let yaml = format!(
        "hosts: [\"127.0.0.1:{}\"]\nuser: {operator}\npassword: {{ file: operator }}\n{more}\n{}",
        cluster.port,
        if more.contains("ca:") { "" } else { "ca: ca.pem" }
    );
    let settings: Settings = serde_yaml::from_str(&yaml).unwrap();
    postgres::build(&system(), settings, cluster.path()).unwrap()
}

fn operator(cluster: &Cluster, name: &str, attributes: &str) -> Arc<dyn Connector> {
    cluster.admin(&format!("CREATE ROLE {name} LOGIN PASSWORD 'operator''s password' {attributes}"));
    connector(cluster, name, "")
}

async fn open(connector: &Arc<dyn Connector>) -> Result<Box<dyn Link>, Fault> {
    connector.open(&connector.places()[0], &cx()).await
}

fn wanted(user_name: &str) -> Wanted {
    let person = Person {
        id: PersonId("E1042".into()),
        name: "Jane Roe".into(),
        email: Some("jane.roe@example.com".into()),
        user_name: Some(user_name.into()),
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Active,
        reason: None,
        ends: None,
        zone: None,
        keys: Vec::new(),
    };
    Wanted { person, accounts: Vec::new(), keys: BTreeSet::new() }
}

/// What is found of a person, owned by them as the roster would say.
async fn find(link: &mut dyn Link, user_name: &str) -> Vec<Account> {
    let scope = Scope::People(vec![wanted(user_name)]);
    let mut found: Vec<Account> = link.discover(&scope).map(|account| account.unwrap()).collect().await;
    for account in &mut found {
        if account.owner == Owner::Nobody {
            account.owner = Owner::Person { id: PersonId("E1042".into()), rule: MatchRule::UserName };
        }
    }
    found
}

fn steps(connector: &Arc<dyn Connector>, account: &Account) -> Vec<Step> {
    let leaver = PersonId("E1042".into());
    [Action::Disable, Action::Remove]
        .into_iter()
        .flat_map(|action| connector.plan(account, &leaver, action))
        .flatten()
        .collect()
}

async fn looks(link: &mut dyn Link, doors: &[Door], after: bool) -> Vec<Look> {
    link.look(doors, after, &cx()).await
}

fn is_shut(look: &Look, proof: Proof) -> bool {
    matches!(&look.verdict, Verdict::Shut { proof: p, .. } if *p == proof) && look.control.is_some()
}

fn is_open(look: &Look) -> bool {
    matches!(look.verdict, Verdict::Open { .. })
}

fn is_unproven(look: &Look) -> bool {
    matches!(look.verdict, Verdict::Unproven { .. })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn names(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{} — {}\n", f.what, f.hint)).collect()
}
