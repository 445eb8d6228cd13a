//! What a command does about mail when its work is done: the outbox is filled, and a server that answers at once gets what waits.

use super::context::{Context, clock};
use super::outcome::Failure;
use super::render;
use crate::journal::Journal;
use crate::model::RunId;
use crate::notify::{Drained, Mailer, drain};
use crate::store::Store;
use crate::wiring::House;
use std::time::Duration;

/// So long a command tries to send before it leaves the mail in the outbox.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells by mail what there is to tell of a run. A mail server's trouble never changes how a command ends: it is said on standard error, and the
/// mail stays in the outbox.
pub async fn after_run(context: &Context, house: &House, journal: &Journal, run: &RunId) {
    if let Err(failure) = tell(context, house, journal, run).await {
        eprintln!("warning: no mail could be queued");
        eprint!("{}", failure.render(context.style_for_errors()));
    }
}

async fn tell(context: &Context, house: &House, journal: &Journal, run: &RunId) -> Result<(), Failure> {
    if house.config.mail.is_none() {
        return Ok(());
    }
    let store = Store::open(&house.config.journal).await?;
    house.queue_mail(journal, &store, run, clock()(), &jiff::tz::TimeZone::system()).await?;
    let Some(mailer) = house.mailer()? else { return Ok(()) };
    send(context, &store, &mailer).await?;
    Ok(())
}

/// Sends what is due, for a bounded time, and says what became of it.
pub async fn send(context: &Context, store: &Store, mailer: &Mailer) -> Result<Drained, Failure> {
    let drained = match tokio::time::timeout(PATIENCE, drain(store, mailer, clock()())).await {
        Ok(drained) => drained?,
        Err(_) => {
            eprintln!("mail queued: the server did not take it within {} s; {LATER}", PATIENCE.as_secs());
            return Ok(Drained::default());
        }
    };
    let style = context.style_for_errors();
    if let Some(fault) = &drained.fault {
        eprintln!("mail queued: {LATER}");
        eprint!("{}", render::fault(fault, &style));
    }
    for (recipient, fault) in &drained.refused {
        eprintln!("mail refused: {}; it is kept: offboard mail", render::line(recipient));
        eprint!("{}", render::fault(fault, &style));
    }
    if drained.busy {
        eprintln!("mail queued: another process is sending");
    }
    Ok(drained)
}

const LATER: &str = "offboard serve sends it, or the next command, or: offboard mail --send";
