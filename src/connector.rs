//! The contract that every system is closed under: two traits, and what each connector promises.
//!
//! A connector promises that `apply` is idempotent **and monotone** (done twice, or landing late, it never opens
//! anything), that `look` changes nothing, that no secret is in any error, and that a bystander is never touched.

use crate::model::{
    Account, Action, Chain, CouldRead, Door, DoorId, DoorKind, Family, Fault, FaultKind, Finding, Fingerprint, Keeper,
    Look, Outcome, Part, PartKind, Person, PersonId, Phase, Place, PlaceId, Proof, Restored, SecretName, Seen, Step,
    SystemName, Undeclared, Undo,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What a connector is, for `offboard connectors` and for the report's "not covered".
#[derive(Debug)]
pub struct Manifest {
    /// Its name in `offboard.yaml`.
    pub name: &'static str,
    /// What sort of system it closes.
    pub family: Family,
    /// The doors it finds, each with the strongest proof that it can give.
    pub doors: &'static [(DoorKind, Proof)],
    /// What it can be in the rotation of a shared secret.
    pub rotates: &'static [PartKind],
    /// What our own identity needs there, a sentence each.
    pub privileges: &'static [&'static str],
    /// What it does not cover, each with the reason.
    pub not_covered: &'static [&'static str],
}

/// Our own standing at one place.
#[derive(Debug, Clone)]
pub struct Health {
    /// Who we are there, and on what: `offboard on PostgreSQL 15.18`.
    pub identity: String,
    /// What is missing or unwise, each with what to do.
    pub findings: Vec<Finding>,
}

/// One person to look for, with everything that they can be recognised by.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The roster's row.
    pub person: Person,
    /// Accounts that `offboard.yaml` maps to the person: system and native id.
    pub accounts: Vec<(SystemName, String)>,
    /// Keys known to be theirs: declared, from the directory, or learned from their own accounts during the run.
    pub keys: BTreeSet<Fingerprint>,
}

/// What `discover` looks for. A connector may use it to ask the server for less; it may also yield more than was asked for:
/// the roster's matching decides whose an account is.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Any number of people.
    People(Vec<Wanted>),
    /// The whole inventory.
    Everything,
}

static EVERYTHING: Scope = Scope::Everything;

/// How an account can be entered, as a sweep sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nobody can log in to it as it stands: a daemon's account, a group role, a locked entry. It is in no finding.
    Shut,
    /// It can be logged in to: a person has to answer for it.
    Open,
    /// It is the machine's own, as root is, and no person's; but the credentials in it are somebody's.
    Machine,
}

/// What a place remembers of when its accounts were used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastUse {
    /// Every use since then, if it can tell since when; the last one stands in [`Account::last_used`]. An account without one was not used
    /// since then.
    Kept {
        /// How far back the place's memory reaches; nothing if nobody can say.
        since: Option<Timestamp>,
    },
    /// Nothing to be relied on. [`Account::last_used`] may still name a use: that a session is open now, for instance.
    NotKept {
        /// Why, a sentence without its end: `PostgreSQL keeps no last login`.
        why: String,
    },
}

/// What a call may know of the run around it.
#[derive(Clone)]
pub struct Cx {
    /// The time. Connectors never read the clock themselves.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The longest that one network operation may take.
    pub timeout: Duration,
    /// What the place looked like when this run first saw it, after a resume (see [`Link::baseline`]).
    pub baseline: Option<serde_json::Value>,
    /// The run's random seed, sealed in the journal before the first step; 32 bytes.
    pub seed: SecretSlice<u8>,
}

impl Cx {
    /// The witness password of one account: 43 characters of `A-Za-z0-9-_`, the same at every call within a run, known to
    /// nobody. Derived as HMAC-SHA-256 (RFC 2104) from the sealed seed, so that it is sealed before it is ever set.
    pub fn witness(&self, place: &PlaceId, account: &str) -> SecretString {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        SecretString::from(URL_SAFE_NO_PAD.encode(self.derive("password", place, account)))
    }

    /// 16 bytes of salt that belong to the witness password, the same at every call within a run: a second apply sets the
    /// very same verifier.
    pub fn witness_salt(&self, place: &PlaceId, account: &str) -> [u8; 16] {
        let mut salt = [0; 16];
        salt.copy_from_slice(&self.derive("salt", place, account)[..16]);
        salt
    }

    /// 16 bytes that belong to one shared secret of an account, the same at every call within a run: the salt of its new verifier, the key
    /// of the digest by which a change is noticed.
    pub fn secret_salt(&self, purpose: &str, place: &PlaceId, account: &str) -> [u8; 16] {
        let mut salt = [0; 16];
        salt.copy_from_slice(&self.derive(&format!("shared secret: {purpose}"), place, account)[..16]);
        salt
    }

    fn derive(&self, purpose: &str, place: &PlaceId, account: &str) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.seed.expose_secret()).expect("HMAC takes a key of any length");
        for part in ["offboard witness", purpose, &place.0, account] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

/// One participant's turn in the rotation of a shared secret.
pub struct Turn<'a> {
    /// Which of the four.
    pub phase: Phase,
    /// The secret.
    pub secret: &'a SecretName,
    /// Whose turn it is.
    pub part: &'a Part,
    /// The value that the leaver may know. At a consumer's `create` nobody knows it yet: the consumer says it.
    pub old: Option<&'a SecretString>,
    /// The new value; nothing at `create`.
    pub new: Option<&'a SecretString>,
    /// For a consumer, where two accounts alternate: the one that it is to log in with from now on. Nothing at `create`.
    pub user: Option<&'a str>,
    /// What this participant saw in earlier phases.
    pub seen: &'a Seen,
    /// For the source: every consumer by name, and the addresses that its logins come from.
    pub consumers: &'a [(String, Vec<String>)],
}

/// What came of a turn.
pub struct Taken {
    /// How it went.
    pub outcome: Outcome,
    /// What a later phase needs.
    pub seen: Seen,
    /// A consumer's `create`: the value that it logs in with now.
    pub value: Option<SecretString>,
    /// What a person should look at.
    pub findings: Vec<Finding>,
}

impl Taken {
    /// A turn that left nothing to remember.
    pub fn new(outcome: Outcome) -> Self {
        Self { outcome, seen: Seen::default(), value: None, findings: Vec::new() }
    }
}

/// What is known of a shared secret whose door a link may be asked to look at.
#[derive(Clone)]
pub struct KnownSecret {
    /// The door.
    pub door: DoorId,
    /// The value that the leaver may know, if it is (still) sealed.
    pub old: Option<SecretString>,
    /// The value that this run has put in its place, if it has.
    pub new: Option<SecretString>,
    /// See [`Seen::before`].
    pub before: Option<String>,
    /// The secret's source, as the configuration has it now.
    pub source: Option<Part>,
}

/// One system.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What this connector is.
    fn manifest(&self) -> &'static Manifest;

    /// What is opened, limited and tried again on its own. Never does I/O.
    fn places(&self) -> Vec<Place>;

    /// How many places of this system are worked on at the same time.
    fn parallel(&self) -> usize {
        16
    }

    /// How long one of its operations may take, where that is longer than what [`Cx::timeout`] says: its own settings decide.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// Key fingerprints, native ids and the like that this connector itself logs in with: never touched by anybody.
    fn own_keys(&self) -> Vec<Fingerprint> {
        Vec::new()
    }

    /// The chains that carry `action` out on what `leaver` holds of `account`: on the whole account if it is theirs, otherwise
    /// only on the doors whose holder they are. Pure: the same account gives the same steps.
    fn plan(&self, account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain>;

    /// How an account of a [`Link::sweep`] can be entered. Pure. Unless the connector knows better: it is enabled, and has a door that is a
    /// credential or a login of its own.
    fn entry(&self, account: &Account) -> Entry {
        let credential = |d: &Door| !matches!(d.kind, DoorKind::Session | DoorKind::Job | DoorKind::Membership);
        if account.enabled && account.doors.iter().any(credential) { Entry::Open } else { Entry::Shut }
    }

    /// When an account of a [`Link::sweep`] was made, or the first moment at which it is known to have been there: one that is younger than
    /// a sweep asks for is not unused for so long. Pure.
    fn made(&self, _account: &Account) -> Option<Timestamp> {
        None
    }

    /// Whether, as the source of a secret, it shows in `test` that every consumer has logged in anew since the change.
    fn shows_logins(&self) -> bool {
        false
    }

    /// A new value for a secret of which this is the source, where that is no password but something only the connector can make, such as a key pair.
    /// It is sealed before it is set. Never does I/O.
    ///
    /// # Errors
    /// There is no randomness.
    fn new_value(&self, _source: &Part) -> Result<Option<SecretString>, Fault> {
        Ok(None)
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// `Unreachable` and `Busy` are tried again; `Misconfigured` (certificate, host key, our own password) is not.
    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault>;

    /// A key of that name, below `mount`, that encrypts keys of ours and does not leave the system. `address` is the place, where there are several.
    ///
    /// # Errors
    /// `Misconfigured`: systems of this kind have no such keys, or it cannot be one's name.
    fn keeper(
        &self,
        _address: Option<&str>,
        _mount: &str,
        _key: &str,
        _timeout: Duration,
    ) -> Result<Arc<dyn Keeper>, Fault> {
        Err(Fault::new(
            FaultKind::Misconfigured,
            format!("a system of the kind {} keeps no keys", self.manifest().name),
        )
        .hint("name one of the kind vault"))
    }
}

/// One live connection to one place, used for everything there.
#[async_trait]
pub trait Link: Send {
    /// Our own login and privileges. Changes nothing.
    ///
    /// # Errors
    /// As [`Connector::open`]; a missing privilege is a finding, not an error.
    async fn check(&mut self) -> Result<Health, Fault>;

    /// Every account that may be in scope, with every door. Changes nothing. Called again until nothing new is found.
    fn discover<'a>(&'a mut self, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>>;

    /// The whole inventory for a sweep: every account with what it says of its holder, the doors by which it can be entered, and its last
    /// use where the place knows. May leave out what a sweep does not need; changes nothing.
    fn sweep(&mut self) -> BoxStream<'_, Result<Account, Fault>> {
        self.discover(&EVERYTHING)
    }

    /// What this place remembers of when its accounts were used, once [`Link::sweep`] has come to its end.
    fn last_use(&self) -> LastUse {
        LastUse::NotKept { why: "this system does not tell when its accounts were used".into() }
    }

    /// What the last `discover` noticed that is no account: `NotCovered`, `Suspicious`, `Configuration`. Taken, not copied.
    fn findings(&mut self) -> Vec<Finding> {
        Vec::new()
    }

    /// What the place looked like at the first `discover` of the run, without secrets, so that what appears later can be told
    /// from what was there. Journaled once and handed back in [`Cx::baseline`] after a resume.
    fn baseline(&self) -> Option<serde_json::Value> {
        None
    }

    /// Applies steps in order; one result a step. One that fails does not keep the next from being tried.
    async fn apply(&mut self, steps: &[Step], cx: &Cx) -> Vec<Result<Outcome, Fault>>;

    /// Looks at doors; one look a door, in order. Never changes anything. `after` says whether the steps have been applied, so
    /// that a witness password exists.
    async fn look(&mut self, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look>;

    /// Takes steps back; one result a step. Never revives an old secret.
    async fn restore(&mut self, undo: &[Undo], cx: &Cx) -> Vec<Result<Restored, Fault>>;

    /// Takes one phase of a rotation. Each is idempotent and monotone: done twice, or landing late, none brings an old value back, and
    /// none puts the new one over a value that somebody else has set in the meantime. `create` changes nothing.
    ///
    /// # Errors
    /// `Misconfigured` where this connector is no such participant; `Forbidden` with what to grant; `Protected` where somebody else has
    /// changed the value. No value is ever in one.
    async fn rotate(&mut self, turn: &Turn<'_>, _cx: &Cx) -> Result<Taken, Fault> {
        let (object, _) = turn.part.object();
        Err(Fault::new(FaultKind::Misconfigured, format!("{}: cannot {} {object}", turn.secret, turn.phase))
            .because("systems of this kind take no part in rotations"))
    }

    /// Files or paths at this place in which shared secrets are kept, perhaps none. From then on `discover` also asks who could read them, and `check`
    /// whether everybody can.
    fn watch(&mut self, _files: Vec<String>) {}

    /// Passwords in files that nobody has declared, and who of those whom the first `discover` after `watch` saw could read them. It takes longer than a
    /// discovery, so it is asked after containment, by what was the case before; what cannot be told in a few seconds is left out. Changes nothing.
    ///
    /// # Errors
    /// The connection cannot be used any more.
    async fn undeclared(&mut self) -> Result<Vec<Undeclared>, Fault> {
        Ok(Vec::new())
    }

    /// Which of those files the accounts of the last `discover` could read. Taken, not copied.
    fn could_read(&mut self) -> Vec<CouldRead> {
        Vec::new()
    }

    /// Hands over the sealed values of shared secrets, for looks at their doors.
    fn keep(&mut self, _secrets: Vec<KnownSecret>) {}
}
