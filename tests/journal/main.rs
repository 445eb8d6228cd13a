//! The journal, from outside: what it keeps, what it refuses, what it survives, and what `verify` says of one that was tampered
//! with.

mod keeping;
mod sealing;
mod surviving;
mod tampering;

use jiff::Timestamp;
use offboard::journal::{Journal, JournalError, Keys, RunLog};
use offboard::model::{
    Account, Actor, Door, DoorKind, Event, Fault, Identity, Owner, Person, PersonId, Place, PlaceId, Record,
    RunRequest, StepId, Subject, SystemName, WorkerStatus,
};
use std::path::{Path, PathBuf};

/// A folder that goes away with the test.
pub struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    pub fn make() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the test") }
    }

    pub fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// A new journal with new keys.
    pub async fn create(&self) -> Journal {
        let keys = Keys::generate(&self.keys()).expect("new keys");
        Journal::create(&self.journal(), keys).await.expect("a new journal")
    }

    pub async fn open(&self) -> Result<Journal, JournalError> {
        Journal::open(&self.journal(), load(&self.keys())).await
    }
}

pub fn load(folder: &Path) -> Keys {
    Keys::load(folder, read_file).expect("the keys that were made")
}

fn read_file(path: &Path) -> Result<Vec<u8>, Fault> {
    Ok(std::fs::read(path).expect("a key file"))
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("a time within range")
}

pub fn request(id: &str) -> RunRequest {
    let person = Person {
        id: PersonId(id.into()),
        name: "Jane \"J\" Roe\u{202e}\n\0\u{1f512}$(reboot)'".into(),
        email: Some("jane.roe@example.com".into()),
        user_name: Some("jroe".into()),
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Terminated,
        reason: Some("involuntary".into()),
        ends: Some(at(0)),
        zone: Some("Asia/Kolkata".into()),
        keys: Vec::new(),
    };
    RunRequest {
        subject: Subject::Person(Box::new(person)),
        playbook: "involuntary-termination".into(),
        playbook_body: serde_json::json!({ "stages": [] }),
        requested_by: Actor { name: "ops".into(), asserted_by: "operating system".into() },
        requested_at: at(0),
        inputs: Vec::new(),
        places: vec![Place::new(&SystemName("fleet".into()), "web1.sunrise.test")],
        limits: vec![("access disabled".into(), 3600)],
        version: "0.0.0".into(),
    }
}

pub fn started(step: &str) -> Event {
    Event::StepStarted { step: StepId(step.into()), attempt: 1 }
}

pub fn found(name: &str, facts: serde_json::Value) -> Event {
    let place = PlaceId("fleet/web1.sunrise.test".into());
    let account = Account {
        system: SystemName("fleet".into()),
        place: place.clone(),
        native_id: name.into(),
        name: name.into(),
        enabled: true,
        identity: Identity::default(),
        owner: Owner::Nobody,
        privileged: false,
        last_used: None,
        doors: vec![Door::new(&place, name, DoorKind::Password, "", "")],
        facts,
    };
    Event::Found { account: Box::new(account), facts: None }
}

/// Appends one event and returns its record.
pub async fn append(log: &RunLog, second: i64, event: Event) -> Record {
    let mut records = log.append(at(second), vec![event]).await.expect("an append");
    records.remove(0)
}
