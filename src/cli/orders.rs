//! How a command gives an order: it carries it out itself, or, while `offboard serve` holds the journal, hands it over and follows it. What
//! is shown, and the exit status, are the same.

use super::context::{Context, clock};
use super::interrupt::Interrupts;
use super::outcome::{Exit, Failure};
use super::{progress, render};
use crate::daemon::desk::{Watch, holder};
use crate::daemon::{Answer, Desk, Order, after};
use crate::journal::Journal;
use crate::model::{Fault, FaultKind, Record, RunId, RunState};
use crate::store::{OrderId, Standing, Store};
use crate::wiring::House;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How often the answer is asked for.
const POLL: Duration = Duration::from_millis(250);
/// For so long another `offboard serve` may take over from one that has died.
const TAKEOVER: Duration = Duration::from_secs(30);

/// Shows a run on the terminal while it goes on.
struct Terminal {
    quiet: bool,
    /// Whether the run's name is said: it goes on for a while.
    announce: bool,
    shown: Mutex<Option<(RunId, JoinHandle<()>)>>,
}

impl Watch for Terminal {
    fn begins(&self, run: &RunId, so_far: &[Record]) -> Option<UnboundedSender<Record>> {
        let (send, records) = mpsc::unbounded_channel();
        let watching = if let Some(state) = RunState::fold(so_far) {
            if self.announce {
                eprintln!("Run {run}: {}", render::about(&state.request.subject));
            }
            tokio::spawn(progress::watch(records, state, self.quiet))
        } else {
            // A sweep tells its own beginning.
            so_far.iter().for_each(|record| drop(send.send(record.clone())));
            tokio::spawn(super::sweep::progress(records, self.quiet))
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some((run.clone(), watching));
        Some(send)
    }
}

impl Terminal {
    fn run(&self) -> Option<RunId> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(run, _)| run.clone())
    }

    /// Waits until everything is shown.
    async fn end(&self) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, watching)) = shown {
            let _ = watching.await;
        }
    }
}

/// Gives an order and waits for what comes of it. The journal is for reading what it says now.
///
/// # Errors
/// It was not carried out.
pub async fn give(context: &Context, house: &Arc<House>, order: Order) -> Result<(Answer, Journal), Failure> {
    let announce = order.begins_a_run() || matches!(order, Order::Resume { .. });
    let terminal = Terminal { quiet: context.json, announce, shown: Mutex::default() };
    let store = house.store().await?;
    let (answer, journal) = match house.journal_unless_held().await? {
        Ok(journal) => (here(context, house, &journal, &store, order, &terminal).await?, journal),
        Err(locked) => {
            let pid = store.serving().await?;
            if pid.is_none() || pid != holder(&locked) {
                return Err(locked.into());
            }
            let reading = house.journal_to_read().await?;
            match there(&reading, &store, &order, &terminal).await? {
                Some(answer) => (answer, reading),
                // It has gone without taking the order.
                None => {
                    let journal = house.journal().await?;
                    (here(context, house, &journal, &store, order, &terminal).await?, journal)
                }
            }
        }
    };
    terminal.end().await;
    match (answer.carried_out, &answer.trouble) {
        (false, trouble) => Err(Failure::told(Exit::numbered(answer.exit), trouble.clone().unwrap_or_default())),
        (true, Some(trouble)) => {
            eprint!("{trouble}");
            Ok((answer, journal))
        }
        (true, None) => Ok((answer, journal)),
    }
}

async fn here(
    context: &Context,
    house: &Arc<House>,
    journal: &Journal,
    store: &Store,
    order: Order,
    terminal: &Terminal,
) -> Result<Answer, Failure> {
    context.sends_at_the_end(house, store);
    let (_, damaged) = after::settle_all(journal, store).await?;
    for (run, error) in damaged {
        eprintln!("warning: run {run}: {error}");
    }
    let desk = Desk {
        house: Arc::clone(house),
        journal: journal.clone(),
        store: store.clone(),
        clock: clock(),
        asking: Arc::default(),
    };
    let mut interrupts = Interrupts::listen();
    tokio::select! {
        answer = desk.carry_out(order, terminal) => answer,
        signal = interrupts.next() => {
            let name = terminal.run().map_or_else(|| "RUN".to_string(), |run| run.0);
            Err(Failure::new(
                Exit::Unproven,
                Fault::new(FaultKind::Unexpected, format!("run {name} was interrupted by {signal}; what was begun stays on record"))
                    .hint(format!("offboard resume {name}")),
            ))
        }
    }
}

/// Hands an order to the `offboard serve` that holds the journal. Nothing if that one has gone without taking it.
async fn there(
    reading: &Journal,
    store: &Store,
    order: &Order,
    terminal: &Terminal,
) -> Result<Option<Answer>, Failure> {
    let body = serde_json::to_string(order)
        .map_err(|e| Fault::new(FaultKind::Unexpected, "the order cannot be written").because(e))?;
    let id = store.put(&body, clock()()).await?;
    let mut interrupts = Interrupts::listen();
    tokio::select! {
        answer = follow(reading, store, id, terminal) => answer,
        _ = interrupts.next() => {
            if store.withdraw(id).await? {
                let fault = Fault::new(FaultKind::Unexpected, "nothing was done: interrupted before it began");
                return Err(Failure::new(Exit::Refused, fault));
            }
            let name = terminal.run().map_or_else(|| "RUN".to_string(), |run| run.0);
            let fault = Fault::new(FaultKind::Unexpected, "this command was interrupted; offboard serve goes on with it");
            Err(Failure::new(Exit::Unproven, fault.hint(format!("offboard status {name}"))))
        }
    }
}

async fn follow(
    reading: &Journal,
    store: &Store,
    order: OrderId,
    terminal: &Terminal,
) -> Result<Option<Answer>, Failure> {
    let mut following: Option<(RunId, u64, Option<UnboundedSender<Record>>)> = None;
    let mut alone_since: Option<Instant> = None;
    loop {
        let standing = store.order(order).await?;
        if let (None, Some(Standing::Claimed(Some(run)))) = (&following, &standing) {
            let records = reading.records(run).await?;
            let seen = records.last().map_or(0, |r| r.seq);
            following = Some((run.clone(), seen, terminal.begins(run, &records)));
        }
        if let Some((run, seen, Some(watch))) = &mut following {
            let known = *seen;
            for record in reading.records(run).await?.into_iter().filter(|r| r.seq > known) {
                *seen = record.seq;
                let _ = watch.send(record);
            }
        }
        match standing {
            Some(Standing::Answered(answer)) => {
                return serde_json::from_str(&answer).map(Some).map_err(|e| {
                    let fault = Fault::new(FaultKind::Unexpected, "the answer of offboard serve cannot be read");
                    fault.because(e).hint("run the same version of offboard as the one that serves").into()
                });
            }
            None => {
                return Err(Fault::new(FaultKind::Unexpected, "offboard serve has dropped the order").into());
            }
            Some(Standing::Ready | Standing::Claimed(_)) if is_alive(store.serving().await?) => alone_since = None,
            Some(Standing::Ready) => return if store.withdraw(order).await? { Ok(None) } else { continue },
            Some(Standing::Claimed(run)) => {
                if alone_since.get_or_insert_with(Instant::now).elapsed() > TAKEOVER {
                    let fault = Fault::new(FaultKind::Unexpected, "offboard serve ended while it carried this out");
                    let name = run.map_or_else(|| "RUN".to_string(), |run| run.0);
                    return Err(fault.hint(format!("start it again, or: offboard resume {name}")).into());
                }
            }
        }
        sleep(POLL).await;
    }
}

fn is_alive(pid: Option<u32>) -> bool {
    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) else { return false };
    // Signal 0 only asks whether it is there (kill(2)); not being allowed to ask means that it is.
    !matches!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH))
}

/// Warns if a schedule will not be kept because nothing serves.
pub async fn warn_unless_served(house: &House) {
    let Ok(store) = house.store().await else { return };
    if !is_alive(store.serving().await.ok().flatten()) {
        eprintln!("warning: nothing begins it by itself: offboard serve is not running here");
    }
}
