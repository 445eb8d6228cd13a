//! What a run is doing, while it does it: one live line on a terminal, one line an event elsewhere. On standard error, so that standard
//! output stays the result.

use crate::model::{Event, FaultKind, Record, RunState, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Shows records as they come, until the run drops its end.
pub async fn watch(mut records: UnboundedReceiver<Record>, mut state: RunState, quiet: bool) {
    if quiet {
        while records.recv().await.is_some() {}
        return;
    }
    let terminal = std::io::stderr().is_terminal();
    let line = ProgressBar::with_draw_target(
        None,
        if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    );
    if let Ok(style) = ProgressStyle::with_template("{elapsed:>4}  {msg}") {
        line.set_style(style);
    }
    if terminal {
        line.enable_steady_tick(Duration::from_millis(200));
    }
    while let Some(record) = records.recv().await {
        if let Some(words) = words(&record.event, &state) {
            if terminal {
                line.println(words);
            } else {
                eprintln!("{words}");
            }
        }
        state.apply(record.at, &record.event);
        if terminal {
            line.set_message(summary(&state));
        }
    }
    line.finish_and_clear();
}

fn summary(state: &RunState) -> String {
    let reached = state.places.values().filter(|p| p.reached_at.is_some() && p.unreached.is_none()).count();
    let steps = || state.steps.iter().filter(|s| !s.step.is_by_hand());
    let done = steps().filter(|s| s.is_done()).count();
    let shut = state
        .doors
        .values()
        .filter(|d| matches!(d.after.as_ref().map(|(_, l)| &l.verdict), Some(Verdict::Shut { .. })))
        .count();
    format!(
        "{reached}/{} places reached · {done}/{} steps done · {shut}/{} doors proved shut",
        state.places.len(),
        steps().count(),
        state.doors.len()
    )
}

/// The few events that somebody who watches wants a line about.
fn words(event: &Event, state: &RunState) -> Option<String> {
    match event {
        Event::Unreached { place, fault, .. } => {
            let again = if fault.is_transient() { "; tried again until the deadline" } else { "" };
            let news = state.places.get(place).is_none_or(|p| p.unreached.as_ref() != Some(fault));
            news.then(|| super::render::line(&format!("  {place}  not reached: {fault}{again}")))
        }
        Event::StepFailed { step, fault, last: true } => {
            let step = state.step(step)?;
            let word = if fault.kind == FaultKind::Protected { "left alone" } else { "stuck" };
            Some(super::render::line(&format!(
                "  {}  {word}: {} {}: {fault}",
                step.step.place, step.step.action, step.step.account
            )))
        }
        Event::Reached { place } if state.places.get(place).is_some_and(|p| p.unreached.is_some()) => {
            Some(super::render::line(&format!("  {place}  answers again")))
        }
        _ => None,
    }
}
