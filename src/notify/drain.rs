//! Sends what waits in the outbox.

use super::mailer::{Failed, Mailer};
use crate::model::Fault;
use crate::store::Store;
use jiff::Timestamp;

/// A server that breaks off so many mails in a row is left alone for a while.
const BROKEN: usize = 2;

/// What became of what waited.
#[derive(Clone, Debug, Default)]
pub struct Drained {
    /// Deliveries that the server has taken.
    pub sent: usize,
    /// Deliveries that it refused for good: to whom, and why.
    pub refused: Vec<(String, Fault)>,
    /// Why something still waits, if it was tried; it is tried again later.
    pub fault: Option<Fault>,
    /// Another process is sending.
    pub busy: bool,
}

/// Sends everything that is due at `now`, one after the other over one connection. What cannot be sent now waits, with growing pauses; what is
/// refused for good is kept and told. A call that is cut off loses nothing: what was not marked as delivered is sent again, with the same
/// Message-ID.
///
/// # Errors
/// Only if the store cannot be used; what a mail server does is in [`Drained`].
pub async fn drain(store: &Store, mailer: &Mailer, now: Timestamp) -> Result<Drained, Fault> {
    let mut drained = Drained::default();
    let Some(_sending) = store.sending()? else {
        drained.busy = true;
        return Ok(drained);
    };
    let mut session = None;
    let mut broken = 0;
    while let Some(delivery) = store.next_delivery(now).await? {
        let mut open = match session.take() {
            Some(open) => open,
            None => match mailer.open().await {
                Ok(open) => open,
                Err(fault) => {
                    store.postpone_all(now, &fault).await?;
                    drained.fault = Some(fault);
                    return Ok(drained);
                }
            },
        };
        fail::fail_point!("notify::before-send");
        let sent = open.send(&delivery).await;
        fail::fail_point!("notify::after-send");
        match sent {
            Ok(()) => {
                store.delivered(delivery.id).await?;
                drained.sent += 1;
                broken = 0;
            }
            Err(Failed::Refused(fault)) => {
                store.refused(delivery.id, &fault).await?;
                drained.refused.push((delivery.recipient, fault));
            }
            Err(Failed::Later(fault)) => {
                store.postpone(delivery.id, now, &fault).await?;
                drained.fault = Some(fault);
            }
            Err(Failed::Broken(fault)) => {
                // It may be this mail that the server breaks off at, or it may be every one.
                broken += 1;
                store.postpone(delivery.id, now, &fault).await?;
                if broken >= BROKEN {
                    store.postpone_all(now, &fault).await?;
                }
                drained.fault = Some(fault);
                continue;
            }
        }
        if !open.is_broken() {
            session = Some(open);
        }
    }
    if let Some(mut open) = session {
        open.close().await;
    }
    Ok(drained)
}
