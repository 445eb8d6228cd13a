//! What a run does, as lines of the log, each with the run and, where there is one, the step. Records hold no secret, so neither does
//! the log.

use super::desk::Watch;
use crate::model::{Event, Record, RunId};
use crate::store::{OrderId, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Logs every run that it is told of; of an order, also notes on which run it works.
pub struct Log {
    /// The order, and the store where it is noted.
    pub order: Option<(OrderId, Store)>,
}

impl Watch for Log {
    fn begins(&self, run: &RunId, _: &[Record]) -> Option<UnboundedSender<Record>> {
        if let Some((order, store)) = &self.order {
            let (order, store, run) = (*order, store.clone(), run.clone());
            tokio::spawn(async move {
                if let Err(fault) = store.works_on(order, &run).await {
                    tracing::error!(run = %run, %fault, "on which run an order works could not be noted");
                }
            });
        }
        let (send, records) = unbounded_channel();
        tokio::spawn(log(run.clone(), records));
        Some(send)
    }
}

async fn log(run: RunId, mut records: UnboundedReceiver<Record>) {
    while let Some(record) = records.recv().await {
        match &record.event {
            Event::Started { by } => tracing::info!(%run, by = %by.name, "work begins"),
            Event::Scheduled { at, by } => tracing::info!(%run, %at, by = %by.name, "scheduled"),
            Event::Cancelled { why, by } => tracing::info!(%run, by = %by.name, why, "cancelled"),
            Event::Prepared => tracing::info!(%run, "looked at before its hour"),
            Event::Unreached { place, fault, .. } => tracing::warn!(%run, place = %place.0, %fault, "not reached"),
            Event::StepDone { step, outcome } => tracing::info!(%run, step = %step, ?outcome, "step done"),
            Event::StepFailed { step, fault, last } => {
                tracing::warn!(%run, step = %step, %fault, stuck = last, "step failed");
            }
            Event::Waived { target, by, .. } => tracing::info!(%run, target, by = %by.name, "given up in writing"),
            Event::Ended { verdict } => tracing::info!(%run, %verdict, "work has ended"),
            _ => {}
        }
    }
}
