//! Mail that is due is sent, in a task of its own: a mail server that is slow or down holds nothing up.

use super::lanes::Shared;
use crate::notify::drain;
use std::sync::Arc;

/// Sends everything that is due now. What cannot be sent waits in the store, which says when it is due again.
pub(super) async fn send(shared: Arc<Shared>) {
    let sent = async {
        match shared.house().mailer()? {
            Some(mailer) => drain(&shared.store, &mailer, (shared.clock)()).await.map(Some),
            None => Ok(None),
        }
    };
    // A mail server's trouble is no reason to call ourselves not ready: terminations do not need it.
    let waits = match sent.await {
        Ok(None) => None,
        // Another process is sending: it knows.
        Ok(Some(drained)) if drained.busy => return,
        Ok(Some(drained)) => {
            for (recipient, fault) in &drained.refused {
                tracing::error!(recipient, %fault, "a mail was refused; offboard mail lists it");
            }
            if drained.sent > 0 {
                tracing::info!(mails = drained.sent, "sent");
            }
            drained.fault
        }
        Err(fault) => Some(fault),
    };
    shared.mail_waits(waits);
}
