//! The loop of `offboard serve`: it comes round every second, and at the very moment at which something is due; claims what is due, hands
//! it to tasks, and never waits for them.
//!
//! The tick is tokio-cron-scheduler's. It is only a bell: what is due, and whether it was done, stands in the store and the journal. It
//! goes by the wall clock, and stands still when that is set back; so the loop does not rely on it, and wakes by itself too.

use super::after;
use super::aging::settle_rotations;
use super::desk::Clock;
use super::health;
use super::hold::{Hold, Trust};
use super::lanes::{InLane, LANES, Shared, work};
use super::orders::obey;
use super::pickup::pick_up;
use super::premises::Premises;
use crate::cli::Failure;
use crate::journal::{Journal, JournalError};
use crate::model::{Fault, FaultKind};
use crate::store::Kind;
use crate::wiring::House;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_cron_scheduler::{Job, JobScheduler};

/// The loop wakes by itself at least so often.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);
/// The files are looked at again after so long, however often the loop comes round. Less than a second: it comes round every second.
const LOOK: Duration = Duration::from_millis(900);
/// How often the roster is compared with the journal though it has not changed.
const ROUND: Duration = Duration::from_secs(300);
/// The whole journal is verified at most so often for the reports that are written.
pub(super) const VERIFY: Duration = Duration::from_secs(60);
/// For so long a start waits for a command that is just writing the journal.
const PATIENCE: Duration = Duration::from_secs(10);
/// An order that was put so long before the start is not carried out: whoever put it has gone.
const STALE: SignedDuration = SignedDuration::from_mins(10);

/// What `serve` is started with.
pub struct Serving {
    /// The path of `offboard.yaml`.
    pub config: PathBuf,
    /// The time.
    pub clock: Clock,
    /// Turns true when it is to stop.
    pub stop: watch::Receiver<bool>,
    /// Is told where health is answered.
    pub ready: Option<tokio::sync::oneshot::Sender<std::net::SocketAddr>>,
}

/// Serves until it is told to stop.
///
/// # Errors
/// It cannot start: the configuration is wrong, the journal is in use, or the address of its health pages is.
pub async fn serve(serving: Serving) -> Result<(), Failure> {
    let Serving { config, clock, mut stop, ready } = serving;
    let premises = Premises::open(&config, Arc::clone(&clock))?;
    let house = premises.house();
    house.books()?;
    house.warnings.iter().for_each(|w| tracing::warn!("{}", w.render(false)));
    let journal = open(&house).await?;
    let store = house.store().await?;
    let address = house.config.serve.health;
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
        Fault::new(FaultKind::Misconfigured, format!("{address}: health cannot be told there"))
            .because(e)
            .hint("another program has that port: choose one with serve: { health: … } in offboard.yaml")
    })?;
    store.serves(std::process::id()).await?;
    let old = store.tidy_orders(clock() - STALE).await?;
    if old > 0 {
        tracing::warn!(orders = old, "orders that were put long ago are not carried out");
    }
    store.free_claims().await?;
    let (settled, damaged) = after::settle_all(&journal, &store).await?;
    after::settle_sweeps(&house, &store, clock(), None).await?;
    settle_rotations(&house, &store, clock(), None).await?;
    let stop_within = house.config.serve.stop_within.duration();
    let shared = Arc::new(Shared::new(clock, journal, store, premises));
    let names: Vec<String> = damaged.iter().map(|(run, error)| format!("{run}: {error}")).collect();
    shared.is_wrong("runs", names.len(), (!names.is_empty()).then(|| names.join("; ")));
    let address = listener.local_addr().unwrap_or(address);
    let pages = tokio::spawn(health::answer(listener, Arc::clone(&shared)));
    let ticks = tick(&shared).await;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), health = %address, settled, "serving");
    health::tell_systemd("READY=1");
    if let Some(ready) = ready {
        let _ = ready.send(address);
    }
    let mut rounds = Rounds::new(&shared);
    let ahead = Arc::clone(&shared);
    rounds.tasks.spawn(async move {
        // Runs end, and give their place to others, when their reports are written: these must not all wait for this.
        if let Err(failure) = ahead.house().verify_ahead(&ahead.journal).await {
            tracing::error!(error = failure.plain(), "the journal could not be verified");
        }
    });
    while !*stop.borrow() {
        let sleeping = rounds.turn(&shared).await;
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { break },
            () = shared.bell.notified() => {}
            () = sleep(sleeping) => {}
        }
    }
    tracing::info!(tasks = rounds.tasks.len(), "stopping: what is being done may end");
    health::tell_systemd("STOPPING=1");
    if let Some(mut ticks) = ticks {
        let _ = ticks.shutdown().await;
    }
    let ended = timeout(stop_within, async { while rounds.tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(tasks = rounds.tasks.len(), "cut off; what was begun goes on at the next start");
        rounds.tasks.shutdown().await;
    }
    pages.abort();
    shared.journal.close().await;
    shared.store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The journal, for writing; a command that is just ending is waited for.
async fn open(house: &House) -> Result<Journal, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match house.journal_unless_held().await? {
            Ok(journal) => return Ok(journal),
            Err(error) => {
                let pid = match &error {
                    JournalError::Locked { pid, .. } => *pid,
                    _ => None,
                };
                let serving = house.store().await?.serving().await?;
                if pid.is_some() && pid == serving {
                    let fault = Fault::new(FaultKind::Busy, error.to_string());
                    return Err(fault.hint("that one is offboard serve already; there is one for a journal").into());
                }
                if Instant::now() >= until {
                    return Err(error.into());
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Rings every second.
async fn tick(shared: &Arc<Shared>) -> Option<JobScheduler> {
    let bell = Arc::downgrade(shared);
    let made = async {
        let ticks = JobScheduler::new().await?;
        let ring = Job::new("* * * * * *", move |_, _| {
            if let Some(shared) = bell.upgrade() {
                shared.bell.notify_one();
            }
        })?;
        ticks.add(ring).await?;
        ticks.start().await?;
        Ok::<_, tokio_cron_scheduler::JobSchedulerError>(ticks)
    };
    match made.await {
        Ok(ticks) => Some(ticks),
        Err(error) => {
            tracing::warn!(%error, "no tick; the loop wakes by itself every two seconds");
            None
        }
    }
}

/// What the loop remembers from one round to the next.
struct Rounds {
    tasks: JoinSet<()>,
    hold: Hold,
    /// When the files were last looked at.
    looked: Option<Instant>,
    /// The comparison with the roster that goes on, and when the last one began.
    picking: Option<tokio::task::AbortHandle>,
    picked: Option<Instant>,
    /// The sending of mail that goes on.
    mailing: Option<tokio::task::AbortHandle>,
}

impl Rounds {
    fn new(shared: &Shared) -> Self {
        let hold = Hold::new((shared.clock)(), Instant::now());
        Self { tasks: JoinSet::new(), hold, looked: None, picking: None, picked: None, mailing: None }
    }

    /// One round. Says for how long there is nothing to do.
    async fn turn(&mut self, shared: &Arc<Shared>) -> Duration {
        shared.beats();
        health::tell_systemd("WATCHDOG=1");
        while self.tasks.try_join_next().is_some() {}
        let changed = self.look_at_files(shared);
        let now = (shared.clock)();
        let trusted = self.is_trusted(shared, now);
        let waiting = shared.store.waiting().await;
        let (orders, due) = match &waiting {
            Ok(waiting) => {
                let orders = if waiting.orders { self.orders(shared).await } else { Ok(()) };
                (orders, if trusted { self.claim(shared, now, &waiting.due).await } else { Ok(None) })
            }
            Err(fault) => (Err(fault.clone()), Ok(None)),
        };
        if trusted {
            self.roster(shared, changed);
        }
        if waiting.ok().and_then(|waiting| waiting.mail).is_some_and(|at| at <= now) {
            self.mail(shared);
        }
        let wrong = orders.as_ref().err().or(due.as_ref().err());
        shared.is_wrong("store", 1, wrong.map(ToString::to_string));
        let until = due.ok().flatten().map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        until.map_or(LONGEST_SLEEP, |until| until.min(LONGEST_SLEEP))
    }

    fn look_at_files(&mut self, shared: &Shared) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return false;
        }
        self.looked = Some(Instant::now());
        let mut premises = shared.premises.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = premises.look();
        let broken = premises.broken.clone();
        drop(premises);
        shared.is_wrong("configuration", 1, broken);
        changed
    }

    fn is_trusted(&mut self, shared: &Shared, now: Timestamp) -> bool {
        let trust = self.hold.see(now, Instant::now());
        match trust {
            Trust::Jumped(by) => {
                let what =
                    format!("the clock jumped ahead by {} s: nothing is begun until it has stood still", by.as_secs());
                shared.is_wrong("clock", 1, Some(what));
            }
            Trust::Believed => shared.is_wrong("clock", 1, None),
            Trust::Good | Trust::Doubted => {}
        }
        matches!(trust, Trust::Good | Trust::Believed)
    }

    async fn orders(&mut self, shared: &Arc<Shared>) -> Result<(), Fault> {
        for asked in shared.store.claim_orders().await? {
            self.tasks.spawn(obey(Arc::clone(shared), asked));
        }
        Ok(())
    }

    /// Claims what is due, as far as there is room in its lane. Says when the next is due.
    async fn claim(
        &mut self,
        shared: &Arc<Shared>,
        now: Timestamp,
        next: &HashMap<Kind, Timestamp>,
    ) -> Result<Option<Timestamp>, Fault> {
        let mut soonest = None;
        for (lane, (kinds, limit)) in LANES.into_iter().enumerate() {
            let Some(at) = kinds.iter().filter_map(|kind| next.get(kind)).min() else { continue };
            if *at > now {
                soonest = soonest.into_iter().chain([*at]).min();
                continue;
            }
            let room = limit.saturating_sub(shared.busy[lane].load(Ordering::SeqCst));
            if room == 0 {
                // Whoever leaves the lane rings.
                continue;
            }
            let claims = shared.store.claim(kinds, now, room).await?;
            // More may be due, or be due soon.
            shared.bell.notify_one();
            for claim in claims {
                let (shared, place) = (Arc::clone(shared), InLane::new(Arc::clone(shared), lane));
                self.tasks.spawn(work(shared, claim, place));
            }
        }
        Ok(soonest)
    }

    /// Sends mail that is due, one sending at a time.
    fn mail(&mut self, shared: &Arc<Shared>) {
        if shared.house().config.mail.is_some() && self.mailing.as_ref().is_none_or(|task| task.is_finished()) {
            self.mailing = Some(self.tasks.spawn(super::mailing::send(Arc::clone(shared))));
        }
    }

    /// Compares the roster with the journal when either may have changed, one comparison at a time.
    fn roster(&mut self, shared: &Arc<Shared>, changed: bool) {
        let wanted = changed || self.picked.is_none_or(|at| at.elapsed() >= ROUND);
        if !wanted {
            return;
        }
        if self.picking.as_ref().is_some_and(|task| !task.is_finished()) {
            // Once more when it is through.
            self.picked = None;
            return;
        }
        self.picked = Some(Instant::now());
        let shared = Arc::clone(shared);
        let task = self.tasks.spawn(async move {
            let done = pick_up(&shared).await;
            shared.is_wrong("roster", 1, done.err().map(|failure| failure.plain()));
            let swept = after::settle_sweeps(&shared.house(), &shared.store, (shared.clock)(), None).await;
            shared.is_wrong("sweeps", 1, swept.err().map(|fault| fault.to_string()));
            let aged = settle_rotations(&shared.house(), &shared.store, (shared.clock)(), None).await;
            shared.is_wrong("rotations", 1, aged.err().map(|fault| fault.to_string()));
        });
        self.picking = Some(task);
    }
}
