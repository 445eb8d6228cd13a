//! Plain data and nothing else: no I/O, no clock, no randomness. Every other room speaks in these types.

mod account;
mod digest;
mod door;
mod event;
mod fault;
mod finding;
mod health;
mod keeper;
mod mail;
mod part;
mod period;
mod person;
mod run;
mod secret;
mod step;
mod sweep;
mod verdict;

pub use account::{Account, Family, Identity, MatchRule, Owner, Place, PlaceId, SystemName};
pub use digest::{Digest, short_id};
pub use door::{Door, DoorId, DoorKind};
pub use event::{Actor, Clocks, Event, InputDigest, LookAt, Record, RunId, RunRequest, SecretAsked, Subject};
pub use fault::{Fault, FaultKind};
pub use finding::{Finding, FindingKind};
pub use health::{Asker, HealthChecks, HttpCheck, TcpCheck};
pub use keeper::Keeper;
pub use mail::MailAddress;
pub use part::{
    AlsoAuthorizes, KeptFile, KeptPath, KeyFormat, KeyPart, KeyPath, Part, PartKind, SecretConsumer, SecretSetter,
    SecretSource, StaticRole,
};
pub use period::Period;
pub use person::{Fingerprint, Person, PersonId, WorkerStatus};
pub use run::{Closing, DoorState, PlaceState, RunState, SecretState, StepProgress, StepState, Waiver};
pub use secret::{CouldRead, KnownTo, Phase, SealedId, SecretName, SecretRef, Seen, SharedSecret, Undeclared, Which};
pub use step::{Action, BY_HAND, Chain, Evidence, Outcome, Restored, Step, StepId, Undo};
pub use sweep::{SweepFinding, SweepKind, SweepPerson, SweepPlace, SweepRequest, SweepSeen, SweepState, SweepVerdict};
pub use verdict::{Look, Proof, Residual, RunVerdict, Verdict};
