//! What a command does about mail when its work is done: a server that answers at once gets what waits in the outbox.

use super::context::{Context, clock};
use super::outcome::Failure;
use super::render;
use crate::notify::{Drained, Mailer, drain};
use crate::store::Store;
use std::time::Duration;

/// So long a command tries to send before it leaves the mail in the outbox.
const PATIENCE: Duration = Duration::from_secs(10);

const LATER: &str = "offboard serve sends it, or the next command, or: offboard mail --send";

/// Sends what is due, if the command has worked on runs. A mail server's trouble never changes how a command ends: it is said on standard error, and the mail stays in the outbox.
pub async fn at_the_end(context: &Context) {
    let Some((house, store)) = context.outbox() else { return };
    let sent = async {
        match house.mailer()? {
            Some(mailer) => send(context, &store, &mailer).await.map(|_| ()),
            None => Ok(()),
        }
    };
    if let Err(failure) = sent.await {
        eprintln!("mail queued: {LATER}");
        eprint!("{}", failure.render(context.style_for_errors()));
    }
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
