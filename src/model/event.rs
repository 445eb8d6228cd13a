//! What the journal records of a run, in order. The report and `resume` know nothing but these.

use super::{
    Account, CouldRead, Digest, DoorId, Evidence, Fault, Finding, Look, Outcome, Person, Place, PlaceId, SealedId,
    SecretName, Seen, Step, StepId, SweepFinding, SweepRequest, SweepSeen, Which,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A run's name: four characters of Crockford's base32, such as `7F3K`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who asked for something, and who vouches for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The name.
    pub name: String,
    /// Who says so: `operating system` on the command line, [`Actor::ROSTER`] where the roster asked.
    pub asserted_by: String,
}

impl Actor {
    /// Who vouches for what the roster asks.
    pub const ROSTER: &'static str = "roster";

    /// Whether it was the roster, and no person, who asked.
    pub fn is_roster(&self) -> bool {
        self.asserted_by == Self::ROSTER
    }
}

/// The digest of one input file, taken when the run was requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDigest {
    /// Which file, as the operator named it.
    pub file: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

/// What a run is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A leaver, as the roster had them: all their ways in are shut.
    Person(Box<Person>),
    /// A shared secret: it is rotated, though nobody leaves.
    Secret(SecretAsked),
}

/// A shared secret that somebody wants to have rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretAsked {
    /// As `offboard.yaml` calls it.
    pub name: SecretName,
    /// Why, a few words.
    pub why: String,
}

/// Everything that a run was started with. It does not change when the files change later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// Whom or what it is about. On record under `person` or under `secret`.
    #[serde(flatten)]
    pub subject: Subject,
    /// The playbook's name.
    pub playbook: String,
    /// The playbook itself as it was checked, for resume; the engine's own form.
    pub playbook_body: serde_json::Value,
    /// Who asked.
    pub requested_by: Actor,
    /// When.
    pub requested_at: Timestamp,
    /// offboard.yaml, playbook, roster, keys, known_hosts.
    pub inputs: Vec<InputDigest>,
    /// Every place that the configuration names: what is not reached is missing from no report.
    pub places: Vec<Place>,
    /// Names of limits and their seconds, from configuration: `access disabled` → 3600.
    pub limits: Vec<(String, i64)>,
    /// The version of offboard.
    pub version: String,
}

impl RunRequest {
    /// The leaver; nobody where a secret is rotated.
    pub fn person(&self) -> Option<&Person> {
        match &self.subject {
            Subject::Person(person) => Some(person),
            Subject::Secret(_) => None,
        }
    }

    /// The secret that is rotated; nothing where somebody leaves.
    pub fn secret(&self) -> Option<&SecretAsked> {
        match &self.subject {
            Subject::Person(_) => None,
            Subject::Secret(asked) => Some(asked),
        }
    }
}

/// Which look it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookAt {
    /// Before any step at that place.
    Before,
    /// After the steps; the last one counts.
    After,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Always the first record of a run.
    Requested {
        /// What was asked for.
        request: Box<RunRequest>,
    },
    /// It is to begin later; the last of these counts.
    Scheduled {
        /// When.
        at: Timestamp,
        /// Who decided that.
        by: Actor,
    },
    /// While it waits, the places were looked at, as far as they answered.
    Prepared,
    /// It is not to begin at all. Nothing follows.
    Cancelled {
        /// Why.
        why: String,
        /// Who decided that.
        by: Actor,
    },
    /// The configuration is another when a run begins than when it was asked for.
    Renewed {
        /// Every place that it names now.
        places: Vec<Place>,
        /// The files as they are now.
        inputs: Vec<InputDigest>,
    },
    /// Work begins; also after a resume.
    Started {
        /// By whom.
        by: Actor,
    },
    /// The configuration has come to name more places since the run was asked for. They count as the others do.
    PlacesAdded {
        /// Which.
        places: Vec<Place>,
    },
    /// A place answered and our login to it worked.
    Reached {
        /// Which.
        place: PlaceId,
    },
    /// A place could not be reached or not be read.
    Unreached {
        /// Which.
        place: PlaceId,
        /// Why.
        fault: Fault,
        /// Whether it is given up for now (deadline).
        last: bool,
    },
    /// What the place looked like to a connector when it was first seen (see `Link::baseline`).
    Baseline {
        /// Which.
        place: PlaceId,
        /// The connector's own, without secrets.
        seen: serde_json::Value,
    },
    /// An account was found (again: with more doors).
    Found {
        /// The account, its `facts` taken out.
        account: Box<Account>,
        /// Where the before-image is sealed.
        facts: Option<SealedId>,
    },
    /// Accounts of the leaver's, or into which they had a way, could read files in which shared secrets are kept. Recorded before anything
    /// is taken away there.
    CouldRead {
        /// Which account, which file, and by what.
        found: Vec<CouldRead>,
    },
    /// Something for people.
    Noted {
        /// What.
        finding: Finding,
    },
    /// Steps were planned.
    Planned {
        /// The playbook's stage.
        stage: String,
        /// The steps.
        steps: Vec<Step>,
    },
    /// A step is about to be applied.
    StepStarted {
        /// Which.
        step: StepId,
        /// From 1.
        attempt: u32,
    },
    /// A step was applied.
    StepDone {
        /// Which.
        step: StepId,
        /// How.
        outcome: Outcome,
    },
    /// A step failed.
    StepFailed {
        /// Which.
        step: StepId,
        /// Why.
        fault: Fault,
        /// Whether it will not be tried again in this run of the engine: it is stuck.
        last: bool,
    },
    /// A value of a shared secret was sealed, before it was set anywhere.
    SecretSealed {
        /// The secret's door at its source.
        door: DoorId,
        /// Which value.
        which: Which,
        /// Where it is sealed.
        sealed: SealedId,
    },
    /// What a participant of a rotation saw, for a later phase.
    SecretSeen {
        /// The secret's door at its source.
        door: DoorId,
        /// Whose: the step that it came from.
        step: StepId,
        /// What.
        seen: Seen,
    },
    /// A door was looked at.
    Looked {
        /// Which.
        door: DoorId,
        /// When in the run.
        at: LookAt,
        /// What was seen.
        look: Look,
    },
    /// Somebody gave a step or a place up, in writing.
    Waived {
        /// A step's or a place's name.
        target: String,
        /// Why.
        why: String,
        /// Who.
        by: Actor,
    },
    /// Somebody is about to give access back: from here on the step's doors may open.
    Restoring {
        /// Which step is to be taken back.
        step: StepId,
        /// Who.
        by: Actor,
    },
    /// Somebody says that a manual step is done.
    Closed {
        /// Which.
        step: StepId,
        /// What was done, in their words.
        note: Option<String>,
        /// What shows it.
        evidence: Option<Evidence>,
        /// Who.
        by: Actor,
    },
    /// Somebody gave access back.
    Restored {
        /// Which step was taken back.
        step: StepId,
        /// What was given back.
        note: String,
        /// Who.
        by: Actor,
    },
    /// A report was made.
    Reported {
        /// `html`, `json` or `csv`.
        format: String,
        /// SHA-256 of what was written.
        sha256: Digest,
    },
    /// A sealed value that no check needs any more was destroyed.
    Destroyed {
        /// Which.
        sealed: SealedId,
    },
    /// The engine stopped working on the run; resume and verify may go on.
    Ended {
        /// How it stood.
        verdict: super::RunVerdict,
    },
    /// Always the first record of a sweep.
    SweepRequested {
        /// What was asked for.
        request: Box<SweepRequest>,
    },
    /// A place was read to its end.
    SweepSeen {
        /// Which.
        place: PlaceId,
        /// What it showed.
        seen: SweepSeen,
    },
    /// Accounts were found, or are excepted.
    SweepFound {
        /// Some of them.
        findings: Vec<SweepFinding>,
    },
    /// Every place has been read, or could not be.
    SweepEnded {
        /// Which limits are passed.
        over_limit: Option<String>,
    },
}

impl From<RunRequest> for Event {
    fn from(request: RunRequest) -> Self {
        Self::Requested { request: Box::new(request) }
    }
}

impl From<SweepRequest> for Event {
    fn from(request: SweepRequest) -> Self {
        Self::SweepRequested { request: Box::new(request) }
    }
}

/// An event as the journal holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The run.
    pub run: RunId,
    /// From 1, without gaps.
    pub seq: u64,
    /// When it was recorded, UTC.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// The hash chain's link: SHA-256 over the previous link and this record.
    pub hash: Digest,
}

/// The times that auditors ask for. Nothing stands for "not yet".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// When employment ends, by the roster.
    pub hr_effective: Option<Timestamp>,
    /// When the run was asked for.
    pub requested: Option<Timestamp>,
    /// When work began.
    pub started: Option<Timestamp>,
    /// When the last login was disabled and the last credential revoked.
    pub contained: Option<Timestamp>,
    /// When the last session was ended.
    pub sessions_ended: Option<Timestamp>,
    /// When the last door was proved shut.
    pub proved: Option<Timestamp>,
    /// The last moment at which anything could still have worked.
    pub last_possible_access: Option<Timestamp>,
}
