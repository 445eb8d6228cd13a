//! The playbook's limit over several places, with places that do as they are told: who is looked at first must not be up to the machine.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use offboard::connector::{Connector, Cx, Health, Link, Manifest, Scope};
use offboard::engine::{Engine, Run};
use offboard::journal::{Journal, Keys};
use offboard::model::*;
use offboard::playbook::Playbook;
use offboard::roster::{Matcher, Roster};

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

static MANIFEST: Manifest =
    Manifest { name: "obedient", family: Family::Host, doors: &[], privileges: &[], not_covered: &[], rotates: &[] };

/// Places `few`, with one account of the leaver's, and `many`, with two. `few` is read only when `many` was given up.
struct Obedient {
    given_up: watch::Receiver<bool>,
    touched: Arc<Mutex<Vec<String>>>,
}

fn system() -> SystemName {
    SystemName("fleet".into())
}

#[async_trait]
impl Connector for Obedient {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        ["few", "many"].map(|name| Place::new(&system(), name)).to_vec()
    }

    fn plan(&self, account: &Account, _: &PersonId, action: Action) -> Vec<Chain> {
        let shuts = account.doors.iter().map(|d| d.id.clone()).collect();
        vec![vec![Step::new(action, account, "", shuts, true)]]
    }

    async fn open(&self, place: &Place, _: &Cx) -> Result<Box<dyn Link>, Fault> {
        let (given_up, touched) = (self.given_up.clone(), Arc::clone(&self.touched));
        Ok(Box::new(Telling { place: place.clone(), given_up, touched }))
    }
}

struct Telling {
    place: Place,
    given_up: watch::Receiver<bool>,
    touched: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Link for Telling {
    async fn check(&mut self) -> Result<Health, Fault> {
        Ok(Health { identity: "offboard".into(), findings: Vec::new() })
    }

    fn discover<'a>(&'a mut self, _: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        let many = if self.place.address == "many" { 2 } else { 1 };
        let found = async move {
            if many == 1 {
                self.given_up.wait_for(|given_up| *given_up).await.unwrap();
            }
            (0..many).map(|i| Ok(account(&self.place, i))).collect::<Vec<_>>()
        };
        futures::stream::once(found).flat_map(futures::stream::iter).boxed()
    }

    async fn apply(&mut self, steps: &[Step], _: &Cx) -> Vec<Result<Outcome, Fault>> {
        let mut touched = self.touched.lock().unwrap();
        touched.extend(steps.iter().map(|s| s.account.clone()));
        steps.iter().map(|_| Ok(Outcome::Done { note: "done".into() })).collect()
    }

    async fn look(&mut self, doors: &[Door], _: bool, _: &Cx) -> Vec<Look> {
        doors.iter().map(|_| Look::unproven("not the point")).collect()
    }

    async fn restore(&mut self, _: &[Undo], _: &Cx) -> Vec<Result<Restored, Fault>> {
        unreachable!("nothing is given back")
    }
}

fn account(place: &Place, number: usize) -> Account {
    let native_id = format!("{}{number}", place.address);
    Account {
        system: place.system.clone(),
        place: place.id.clone(),
        name: native_id.clone(),
        enabled: true,
        identity: Identity { user_name: Some("jroe".into()), ..Identity::default() },
        owner: Owner::Nobody,
        privileged: false,
        last_used: None,
        doors: vec![Door::new(&place.id, &native_id, DoorKind::Login, "", "")],
        facts: serde_json::Value::Null,
        native_id,
    }
}

async fn touched_with_a_limit_of(accounts: u32) -> (Vec<String>, bool) {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::generate(&folder.path().join("keys")).unwrap();
    let journal = Journal::create(&folder.path().join("journal"), keys).await.unwrap();
    let roster = "id,name,email,user name,status\nE1042,Jane Roe,jane.roe@example.com,jroe,terminated\n";
    let roster = Arc::new(Roster::from_csv(roster.as_bytes(), "roster.csv", None).unwrap());
    let person = roster.people()[0].clone();
    let playbook = format!(
        "playbook: all\nsummary: All of it.\ndeadline: 1s\nlimits: {{ people: 1, accounts: {accounts} }}\n\
         stages:\n  - stage: contain\n    steps:\n      - {{ do: disable, to: accounts }}\nverify: {{ until: 1s }}\n"
    );
    let playbook = Playbook::from_yaml("all.yaml", playbook.as_bytes()).unwrap();
    let (give_up, given_up) = watch::channel(false);
    let touched = Arc::new(Mutex::new(Vec::new()));
    let connector = Arc::new(Obedient { given_up, touched: Arc::clone(&touched) });
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    let matcher = Matcher::new(roster, &[], &[], &[], []);
    let engine = Engine::new(vec![connector.clone()], matcher, Arc::new(move || now), Duration::from_secs(30));
    let by = Actor { name: "ops".into(), asserted_by: "operating system".into() };
    let request = RunRequest {
        subject: Subject::Person(Box::new(person)),
        playbook: "all".into(),
        playbook_body: serde_json::to_value(&playbook).unwrap(),
        requested_by: by.clone(),
        requested_at: now,
        inputs: Vec::new(),
        places: connector.places(),
        limits: Vec::new(),
        version: "test".into(),
    };
    let (log, first) = journal.start(now, request).await.unwrap();
    let (watching, mut seen) = tokio::sync::mpsc::unbounded_channel::<Record>();
    let listening = tokio::spawn(async move {
        while let Some(record) = seen.recv().await {
            // Whether it was given up, or was let pass: `many` has been counted.
            let counted = match &record.event {
                Event::Unreached { place, .. } => place.0 == "fleet/many",
                Event::Found { account, .. } => account.place.0 == "fleet/many",
                _ => false,
            };
            if counted {
                give_up.send_replace(true);
            }
        }
    });
    let run = Run::take_up(&engine, log, &[first], playbook, Some(watching)).await.unwrap();
    run.offboard(by).await.unwrap();
    let refused = run.is_refused();
    drop(run);
    listening.await.unwrap();
    let mut touched = touched.lock().unwrap().clone();
    touched.sort();
    touched.dedup();
    (touched, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_limit_is_passed_no_place_is_touched_any_more() {
    // `few` alone would be within the limit, and is read after it was passed.
    assert_eq!(touched_with_a_limit_of(1).await, (Vec::new(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_limit_all_of_it_is_done() {
    let all = ["few0", "many0", "many1"].map(String::from).to_vec();
    assert_eq!(touched_with_a_limit_of(3).await, (all, false));
}
