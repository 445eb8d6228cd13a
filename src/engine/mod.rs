//! Walks the straight line. Takes people, connectors and a journal from `wiring`; touches the world only through connectors, and
//! writes down what it is about to do before it does it.

mod ask;
mod discover;
mod guard;
mod offboard;
mod place;
mod plan;
mod recorder;
mod restore;
mod rotate;
mod sweep;
mod tally;
mod waiting;

pub use ask::DraftAsk;
pub use guard::{Refusal, refuse, refuse_leaver};
pub use plan::{Draft, DraftPlace};
pub use recorder::{Halt, Recorder};
pub use restore::Undone;
pub use rotate::{DraftRotation, PartHealth, SecretHealth, rotated, rotation_playbook};

use crate::connector::{Connector, Cx, Link, Wanted};
use crate::journal::RunLog;
use crate::model::{
    Account, Actor, DoorId, Event, Fault, FaultKind, Finding, MatchRule, Owner, Person, Place, PlaceId, SecretName,
    SharedSecret, StepId, SystemName,
};
use crate::playbook::Playbook;
use crate::roster::{LearnedKeys, Matcher};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Places that are being connected to at the same time, over all systems. Connecting is not working: a host that does not answer
/// must not take a working place's slot.
const OPENING: usize = 128;

/// The pauses before something that failed is tried again.
fn backoff() -> impl Iterator<Item = Duration> {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);
    std::iter::successors(Some(FIRST), |pause| Some((*pause * 2).min(LONGEST)))
}

/// The world as one configuration describes it.
pub struct Engine {
    connectors: Vec<Arc<dyn Connector>>,
    matcher: Matcher,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    timeout: Duration,
    opening: Arc<Semaphore>,
    working: BTreeMap<SystemName, Slots>,
    /// Passwords that programs share.
    secrets: BTreeMap<SecretName, SharedSecret>,
    /// Who rotates one of them keeps all others from it.
    turns: Turns,
}

/// A gate for each secret, over all runs.
type Turns = Arc<Mutex<BTreeMap<SecretName, Arc<tokio::sync::Mutex<()>>>>>;

/// How many places of one system are worked on at the same time, over all runs.
#[derive(Clone)]
struct Slots {
    parallel: usize,
    all: Arc<Semaphore>,
    /// Of these, so many for work that can wait: a termination finds the others free.
    calm: Arc<Semaphore>,
}

impl Slots {
    fn new(parallel: usize) -> Self {
        let parallel = parallel.max(1);
        let calm = Arc::new(Semaphore::new(parallel.div_ceil(2)));
        Self { parallel, all: Arc::new(Semaphore::new(parallel)), calm }
    }
}

impl Engine {
    /// An engine over `connectors`. `timeout` is the longest that one network operation may take.
    pub fn new(
        connectors: Vec<Arc<dyn Connector>>,
        matcher: Matcher,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        timeout: Duration,
    ) -> Self {
        let working = connectors
            .iter()
            .flat_map(|c| c.places().into_iter().map(|p| (p.system, c.parallel())))
            .map(|(system, parallel)| (system, Slots::new(parallel)))
            .collect();
        let opening = Arc::new(Semaphore::new(OPENING));
        Self { connectors, matcher, clock, timeout, opening, working, secrets: BTreeMap::new(), turns: Arc::default() }
    }

    /// This engine, in the slots of an older one whose runs may still go on: a limit holds over both.
    #[must_use]
    pub fn in_slots_of(mut self, older: &Self) -> Self {
        self.opening = Arc::clone(&older.opening);
        self.turns = Arc::clone(&older.turns);
        for (system, slots) in &mut self.working {
            if let Some(known) = older.working.get(system).filter(|known| known.parallel == slots.parallel) {
                *slots = known.clone();
            }
        }
        self
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Every place of every system, with its connector.
    pub fn places(&self) -> Vec<(Arc<dyn Connector>, Place)> {
        self.connectors.iter().flat_map(|c| c.places().into_iter().map(|p| (Arc::clone(c), p))).collect()
    }

    /// What this engine's runs share.
    fn cx(&self, seed: secrecy::SecretSlice<u8>) -> Cx {
        Cx { now: Arc::clone(&self.clock), timeout: self.timeout, baseline: None, seed }
    }

    /// Connects to a place, in turn.
    async fn open(&self, connector: &dyn Connector, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let _slot = self.opening.acquire().await;
        let mut link = self.in_time(&format!("{}: connecting", place.id), 3, connector.open(place, cx)).await??;
        if !self.secrets.is_empty() {
            link.watch(self.files_of_secrets(place));
        }
        Ok(link)
    }

    /// A backstop: connectors bound their own operations by `Cx::timeout`, or by what the most patient one says; whatever takes `factor` times as long hangs.
    async fn in_time<T>(&self, what: &str, factor: u32, work: impl Future<Output = T>) -> Result<T, Fault> {
        let limit = self.connectors.iter().map(|c| c.patience()).fold(self.timeout, Duration::max) * factor;
        tokio::time::timeout(limit, work).await.map_err(|_| {
            Fault::new(FaultKind::Unreachable, what).because(format!("no answer within {} s", limit.as_secs()))
        })
    }

    /// Everything `person` can be recognised by.
    fn wanted(&self, person: &Person, learned: &LearnedKeys) -> Wanted {
        let (accounts, keys) = (self.matcher.accounts_of(&person.id), learned.keys_of(&person.id));
        Wanted { person: person.clone(), accounts, keys }
    }

    /// Our own login and privileges on every place; at all of them at once.
    pub async fn check(&self) -> Vec<(Place, Result<crate::connector::Health, Fault>)> {
        let cx = self.cx(vec![0; 32].into());
        let checks = self.places().into_iter().map(|(connector, place)| {
            let cx = &cx;
            async move {
                let health = async {
                    let mut link = self.open(&*connector, &place, cx).await?;
                    self.in_time(&format!("{}: checking", place.id), 3, link.check()).await?
                };
                let health = health.await;
                (place, health)
            }
        });
        futures::future::join_all(checks).await
    }
}

/// One run in progress: the engine, the journal's record of it, and what has been learned on the way.
pub struct Run<'a> {
    engine: &'a Engine,
    recorder: Recorder,
    playbook: Playbook,
    learned: LearnedKeys,
    /// Grows whenever anything is learned.
    generation: AtomicU64,
    /// Nothing once it was destroyed after a last look.
    seed: Option<secrecy::SecretSlice<u8>>,
    given_up: Mutex<BTreeSet<StepId>>,
    /// Steps that failed once for a reason that does not pass by itself.
    doubted: Mutex<BTreeSet<StepId>>,
    /// Connections that the next pass goes on with.
    links: Mutex<BTreeMap<PlaceId, Box<dyn Link>>>,
    /// How many places are being worked on.
    at_work: AtomicUsize,
    /// Accounts that the playbook's limit has let pass; and the fault, once it has been passed: then nothing more is touched anywhere.
    admitted: Mutex<BTreeSet<(PlaceId, String)>>,
    over_limit: OnceLock<Fault>,
    /// Whether it can wait for others.
    can_wait: bool,
    /// The old and the new value of shared secrets, by door.
    secrets: Mutex<BTreeMap<DoorId, Values>>,
    /// What other runs of the same person have found, and may have taken away since.
    found_before: Mutex<rotate::Evidence>,
    /// Places that were searched for passwords that nobody declared.
    searched: Mutex<BTreeSet<PlaceId>>,
}

/// The old and the new value of a shared secret, as far as they are known.
type Values = (Option<secrecy::SecretString>, Option<secrecy::SecretString>);

impl<'a> Run<'a> {
    /// Takes a run up, new or old: what the journal says of it is all there is to know.
    ///
    /// # Errors
    /// [`Halt`] if the journal cannot be read or does not verify.
    pub async fn take_up(
        engine: &'a Engine,
        log: RunLog,
        records: &[crate::model::Record],
        playbook: Playbook,
        watch: Option<tokio::sync::mpsc::UnboundedSender<crate::model::Record>>,
    ) -> Result<Self, Halt> {
        let recorder = Recorder::new(log.clone(), Arc::clone(&engine.clock), records, watch)?;
        let destroyed = recorder.read(|s| s.destroyed.contains(&RunLog::seed_id()));
        let seed = if destroyed { None } else { Some(log.seed().await?) };
        let run = Self {
            engine,
            recorder,
            playbook,
            learned: engine.matcher.nothing_learned(),
            generation: AtomicU64::new(0),
            seed,
            given_up: Mutex::default(),
            doubted: Mutex::default(),
            links: Mutex::default(),
            at_work: AtomicUsize::new(0),
            admitted: Mutex::default(),
            over_limit: OnceLock::new(),
            can_wait: false,
            secrets: Mutex::default(),
            found_before: Mutex::default(),
            searched: Mutex::default(),
        };
        run.unseal_secrets().await?;
        // What an earlier process learned stands in the accounts that it journaled.
        let accounts: Vec<Account> = run.recorder.read(|s| s.accounts.values().map(|(a, _)| a.clone()).collect());
        for account in &accounts {
            run.learn_again(account);
        }
        let known = accounts.iter().map(|a| (a.place.clone(), a.native_id.clone()));
        run.admitted.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
        Ok(run)
    }

    /// Learns what another run of the same person found, their keys and what they may know: what it took away cannot be learned anew.
    pub fn learn_from(&self, other: &crate::model::RunState) {
        other.accounts.values().for_each(|(account, _)| self.learn_again(account));
        self.found_before.lock().unwrap_or_else(PoisonError::into_inner).extend(rotate::Evidence::of(other));
    }

    /// This run, as work that never holds a termination up: a look at what was proved before.
    #[must_use]
    pub fn that_can_wait(mut self) -> Self {
        self.can_wait = true;
        self
    }

    /// The formats in which the playbook wants the report.
    pub fn formats(&self) -> &[crate::playbook::Format] {
        &self.playbook.report.formats
    }

    /// The record of the run so far.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The seed of the witness passwords.
    fn seed(&self) -> Result<secrecy::SecretSlice<u8>, Fault> {
        self.seed.clone().ok_or_else(|| {
            let what =
                format!("the witness passwords of run {} were destroyed after its last look", self.recorder.run());
            Fault::new(FaultKind::Misconfigured, what).hint("start a new run: it proves every door again")
        })
    }

    /// The leaver.
    fn person(&self) -> Result<Person, Fault> {
        self.recorder
            .read(|s| s.request.person().cloned())
            .ok_or_else(|| Fault::new(FaultKind::Unexpected, format!("run {} is about no person", self.recorder.run())))
    }

    /// Whether it rotates a secret, and nobody leaves.
    fn is_of_a_secret(&self) -> bool {
        self.recorder.read(|s| s.request.secret().is_some())
    }

    /// Learns from an account as it was journaled. Whose it is, is asked anew: the mapping that it was found by may have been a mistake.
    fn learn_again(&self, account: &Account) {
        let mut now = account.clone();
        self.engine.matcher.assign(&mut now, &self.learned);
        // The roster may have dropped the row of somebody who is gone: their keys are theirs all the same.
        if let (Owner::Nobody, Owner::Person { id, rule }) = (&now.owner, &account.owner)
            && *rule != MatchRule::Explicit
            && self.engine.matcher.person(id).is_none()
        {
            now.owner = account.owner.clone();
        }
        self.learn(&now);
    }

    fn learn(&self, account: &Account) {
        if self.learned.learn(account) {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Which generation of learned keys this is; see [`Run::learn`].
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// What records those of the findings that are not on record yet.
    fn noting(&self, findings: Vec<Finding>) -> Vec<Event> {
        self.recorder.read(|s| {
            findings.into_iter().filter(|f| !s.findings.contains(f)).map(|finding| Event::Noted { finding }).collect()
        })
    }

    /// Records findings that are not on record yet.
    async fn note(&self, findings: Vec<Finding>) -> Result<(), Halt> {
        self.recorder.record(self.noting(findings)).await
    }

    /// Gives a stuck step or an unreached place up, in writing.
    ///
    /// # Errors
    /// [`Halt`] if there is no such step or place, or the journal cannot be written.
    pub async fn waive(&self, target: &str, why: &str, by: Actor) -> Result<(), Halt> {
        // A waiver of what works would hush up what fails later.
        let known = self.recorder.read(|s| {
            s.places.values().any(|p| p.place.id.0 == target && (p.reached_at.is_none() || p.unreached.is_some()))
                || s.steps.iter().any(|step| step.step.id.0 == target && !step.is_done())
        });
        if !known {
            return Err(Halt::Place(
                Fault::new(
                    FaultKind::Misconfigured,
                    format!("run {} has no unfinished step or unreached place {target:?}", self.recorder.run()),
                )
                .hint(format!("offboard status {} lists them", self.recorder.run())),
            ));
        }
        self.recorder.record(vec![Event::Waived { target: target.into(), why: why.into(), by }]).await?;
        self.end_again().await.map(|_| ())
    }
}
