//! The slots of a system that lets one be worked on at a time, with a place that does as it is told: what can wait takes nobody's turn for long.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use offboard::connector::{Connector, Cx, Health, Link, Manifest, Scope};
use offboard::engine::{Engine, Run};
use offboard::journal::{Journal, Keys};
use offboard::model::*;
use offboard::playbook::{Book, Playbook};
use offboard::roster::{Matcher, Roster};

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

static MANIFEST: Manifest =
    Manifest { name: "narrow", family: Family::Host, doors: &[], privileges: &[], not_covered: &[], rotates: &[] };

/// One place with one account of the leaver's. A sweep of it has begun to read, and comes to its end when the account was disabled.
#[derive(Clone)]
struct Narrow {
    reading: watch::Sender<bool>,
    disabled: watch::Sender<bool>,
}

#[async_trait]
impl Connector for Narrow {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        vec![Place::new(&SystemName("fleet".into()), "only")]
    }

    fn parallel(&self) -> usize {
        1
    }

    fn plan(&self, account: &Account, _: &PersonId, action: Action) -> Vec<Chain> {
        let shuts = account.doors.iter().map(|d| d.id.clone()).collect();
        vec![vec![Step::new(action, account, "", shuts, true)]]
    }

    async fn open(&self, place: &Place, _: &Cx) -> Result<Box<dyn Link>, Fault> {
        Ok(Box::new(Telling { place: place.clone(), of: self.clone() }))
    }
}

struct Telling {
    place: Place,
    of: Narrow,
}

impl Telling {
    fn account(&self) -> Account {
        Account {
            system: self.place.system.clone(),
            place: self.place.id.clone(),
            name: "jroe".into(),
            enabled: true,
            identity: Identity { user_name: Some("jroe".into()), ..Identity::default() },
            owner: Owner::Nobody,
            privileged: false,
            last_used: None,
            doors: vec![Door::new(&self.place.id, "jroe", DoorKind::Login, "", "")],
            facts: serde_json::Value::Null,
            native_id: "jroe".into(),
        }
    }
}

#[async_trait]
impl Link for Telling {
    async fn check(&mut self) -> Result<Health, Fault> {
        Ok(Health { identity: "offboard".into(), findings: Vec::new() })
    }

    fn discover<'a>(&'a mut self, _: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
        futures::stream::once(async { Ok(self.account()) }).boxed()
    }

    fn sweep(&mut self) -> BoxStream<'_, Result<Account, Fault>> {
        let found = async {
            self.of.reading.send_replace(true);
            self.of.disabled.subscribe().wait_for(|disabled| *disabled).await.unwrap();
            Ok(self.account())
        };
        futures::stream::once(found).boxed()
    }

    async fn apply(&mut self, steps: &[Step], _: &Cx) -> Vec<Result<Outcome, Fault>> {
        self.of.disabled.send_replace(true);
        steps.iter().map(|_| Ok(Outcome::Done { note: "done".into() })).collect()
    }

    async fn look(&mut self, doors: &[Door], _: bool, _: &Cx) -> Vec<Look> {
        doors.iter().map(|_| Look::unproven("not the point")).collect()
    }

    async fn restore(&mut self, _: &[Undo], _: &Cx) -> Vec<Result<Restored, Fault>> {
        unreachable!("nothing is given back")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_lasts_gives_the_only_slot_to_a_termination() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::generate(&folder.path().join("keys")).unwrap();
    let journal = Journal::create(&folder.path().join("journal"), keys).await.unwrap();
    let roster = "id,name,email,user name,status\nE1042,Jane Roe,jane.roe@example.com,jroe,terminated\n";
    let roster = Arc::new(Roster::from_csv(roster.as_bytes(), "roster.csv", None).unwrap());
    let person = roster.people()[0].clone();
    let connector = Narrow { reading: watch::channel(false).0, disabled: watch::channel(false).0 };
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    let engine = Engine::new(
        vec![Arc::new(connector.clone())],
        Matcher::new(roster, &[], &[], &[], []),
        Arc::new(move || now),
        Duration::from_secs(600),
    );
    let by = Actor { name: "ops".into(), asserted_by: "operating system".into() };

    let book = "playbook: forgotten\nsummary: What is forgotten.\nlimits: { accounts: 5, share: 50% }\nfind:\n  - { finding: lingering }\n";
    let Book::Sweep(book) = Book::from_yaml("forgotten.yaml", book.as_bytes()).unwrap() else { panic!("no sweep") };
    let request = SweepRequest {
        playbook: "forgotten".into(),
        summary: "What is forgotten.".into(),
        playbook_body: serde_json::to_value(&book).unwrap(),
        requested_by: by.clone(),
        requested_at: now,
        inputs: Vec::new(),
        places: connector.places(),
        version: "test".into(),
    };
    let (log, first) = journal.start(now, request).await.unwrap();
    let sweep = engine.sweep(log, &first, &book, by.clone(), None);

    let playbook = "playbook: all\nsummary: All of it.\ndeadline: 1s\nlimits: { people: 1, accounts: 1 }\n\
         stages:\n  - stage: contain\n    steps:\n      - { do: disable, to: accounts }\nverify: { until: 1s }\n";
    let playbook = Playbook::from_yaml("all.yaml", playbook.as_bytes()).unwrap();
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
    let termination = async {
        connector.reading.subscribe().wait_for(|reading| *reading).await.unwrap();
        let (log, first) = journal.start(now, request).await.unwrap();
        let run = Run::take_up(&engine, log, &[first], playbook, None).await.unwrap();
        run.offboard(by.clone()).await.unwrap();
    };
    // The sweep ends only after the termination: if that waits for it, neither ever does.
    let both = async { futures::future::join(sweep, termination).await.0 };
    let swept = tokio::time::timeout(Duration::from_secs(60), both).await.expect("the termination waits for the sweep");
    assert!(swept.unwrap().ended.is_some(), "and the sweep still comes to its end");
}
