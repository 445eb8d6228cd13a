//! Orders that commands have put into the store are carried out, each in a task of its own, and answered.

use super::after;
use super::lanes::{NOTING, OVERTAKEN, Shared};
use super::order::{Answer, Order};
use super::watching::Log;
use crate::cli::{Exit, Failure};
use crate::journal::JournalError;
use crate::model::{Event, Fault, FaultKind, RunId};
use crate::store::Asked;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Carries an order out and answers it.
pub(super) async fn obey(shared: Arc<Shared>, asked: Asked) {
    let id = asked.id;
    let works_on = OnceLock::new();
    let answer = match AssertUnwindSafe(carry_out(&shared, asked, &works_on)).catch_unwind().await {
        Ok(Ok(answer)) => {
            if let Some(run) = &answer.run {
                let _ = works_on.set(run.clone());
            }
            answer
        }
        Ok(Err(failure)) => refused(failure.exit, failure.plain()),
        Err(_) => refused(Exit::Unexpected, "error[unexpected]: offboard serve failed; its log says more\n".into()),
    };
    tracing::info!(order = id.0, run = answer.run.as_ref().map(|r| r.0.as_str()), exit = answer.exit, "answered");
    let text = serde_json::to_string(&answer).unwrap_or_default();
    if let Err(fault) = shared.store.answer(id, &text).await {
        tracing::error!(order = id.0, %fault, "an order could not be answered");
    }
    // However it ended: what was begun and broke off goes on, and what was moved is due at its new hour.
    if let Some(run) = works_on.get() {
        settle(&shared, run).await;
    }
    shared.bell.notify_one();
}

/// Notes what is due for a run, however long the store refuses that.
pub(super) async fn settle(shared: &Shared, run: &RunId) {
    let mut pause = NOTING.0;
    loop {
        let gate = shared.gate(run).await;
        // Of a run that there is not, or whose record does not verify, nothing is due.
        if let Err(JournalError::NoSuchRun { .. } | JournalError::Tampered { .. }) = shared.journal.records(run).await {
            return;
        }
        match after::settle(&shared.journal, &shared.store, run, None).await {
            Ok(()) => return,
            Err(fault) => tracing::error!(run = %run, %fault, "what is due for this run could not be noted"),
        }
        drop(gate);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(NOTING.1);
    }
}

fn refused(exit: Exit, words: String) -> Answer {
    Answer { run: None, exit: exit as u8, written: Vec::new(), trouble: Some(words), carried_out: false }
}

/// `works_on` becomes the run, as soon as that is known.
async fn carry_out(shared: &Arc<Shared>, asked: Asked, works_on: &OnceLock<RunId>) -> Result<Answer, Failure> {
    let mut order: Order = serde_json::from_str(&asked.body).map_err(|e| {
        Fault::new(FaultKind::Unexpected, "the order cannot be read")
            .because(e)
            .hint("run the same version of offboard as the one that serves")
    })?;
    tracing::info!(order = asked.id.0, what = order.name(), run = order.run().map(|r| r.0.as_str()), "an order");
    // It was begun before its server died: the run is on record, and goes on.
    if let (Order::Run { report_to, by, .. } | Order::Rotate { report_to, by, .. }, Some(run)) = (&order, &asked.run) {
        if !order.begins_a_run() {
            let run = Some(run.clone());
            return Ok(Answer { run, exit: Exit::Fine as u8, written: Vec::new(), trouble: None, carried_out: true });
        }
        order = Order::Resume { run: run.clone(), report_to: report_to.clone(), by: by.clone() };
    }
    let desk = shared.desk();
    let log = Log { order: Some((asked.id, shared.store.clone())) };
    if order.begins_a_run() {
        // From its first record on nobody else works on it.
        let begun = desk.request(&order).await?.run;
        let _ = works_on.set(begun.clone());
        // It is on record and goes on, also if whoever asked cannot follow it.
        if let Err(fault) = shared.store.works_on(asked.id, &begun).await {
            tracing::error!(run = %begun, %fault, "on which run an order works could not be noted");
        }
        let _gate = shared.gate(&begun).await;
        return desk.walk_for(&order, &begun, &log).await;
    }
    let run = order.run().map(|run| RunId(run.0.trim().to_ascii_uppercase()));
    if let Some(run) = &run {
        let _ = works_on.set(run.clone());
        if matches!(order, Order::Cancel { .. } | Order::Reschedule { .. }) {
            has_begun(shared, run).await?;
            shared.stop_early(run);
        }
        // Follow it while somebody else works on it.
        shared.store.works_on(asked.id, run).await?;
    }
    let _gate = match &run {
        Some(run) => Some(shared.gate(run).await),
        None => None,
    };
    for _ in 0..OVERTAKEN {
        match desk.carry_out(order.clone(), &log).await {
            Err(failure) if failure.is_fenced() => tokio::time::sleep(Duration::from_millis(50)).await,
            done => return done,
        }
    }
    Err(Fault::new(FaultKind::Busy, "the run is written to by somebody else").hint("try again").into())
}

/// Refuses at once what comes too late: whoever cancels a run that has begun must not wait for its end to hear it.
async fn has_begun(shared: &Shared, run: &RunId) -> Result<(), Failure> {
    let records = shared.journal.records(run).await?;
    if records.iter().any(|r| matches!(r.event, Event::Started { .. })) {
        let fault = Fault::new(FaultKind::Protected, format!("run {run} has begun"));
        let hint = format!("offboard status {run} shows it; offboard restore {run} gives access back");
        return Err(Failure::new(Exit::Refused, fault.hint(hint)));
    }
    Ok(())
}
