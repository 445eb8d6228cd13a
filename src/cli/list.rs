//! `offboard list`.

use super::context::{Context, clock};
use super::outcome::{Exit, Failure};
use super::render;
use crate::model::{RunState, SweepState, SweepVerdict};
use crate::wiring::House;

/// List all runs, the newest first.
#[derive(clap::Args)]
pub struct Args {}

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    show(context, &context.house()?, false).await
}

/// Lists runs and sweeps; with `only_unfinished` those of which something is still queued, or that found something.
pub async fn show(context: &Context, house: &House, only_unfinished: bool) -> Result<Exit, Failure> {
    let journal = house.journal_to_read().await?;
    let (mut runs, mut sweeps) = (Vec::new(), Vec::new());
    for id in journal.runs().await? {
        let records = journal.records(&id).await?;
        if let Some(state) = RunState::fold(&records) {
            if !(only_unfinished && state.is_settled()) {
                runs.push((id, state));
            }
        } else if let Some(state) = SweepState::fold(&records)
            && !(only_unfinished && state.verdict() == SweepVerdict::Clear)
        {
            sweeps.push((id, state));
        }
    }
    let now = clock()();
    context.print(
        |style| {
            let sweeps = if sweeps.is_empty() { String::new() } else { render::sweeps(&sweeps, style) };
            match (runs.is_empty(), sweeps.is_empty()) {
                (_, true) => render::list(&runs, now, style),
                (true, false) => sweeps,
                (false, false) => format!("{}\n{sweeps}", render::list(&runs, now, style)),
            }
        },
        || {
            let runs: Vec<_> = runs
                .iter()
                .map(|(id, s)| {
                    serde_json::json!({
                        "run": id, "person": s.request.person().map(|p| &p.id), "name": s.request.person().map(|p| &p.name),
                        "secret": s.request.secret().map(|asked| &asked.name), "playbook": s.request.playbook,
                        "requested_at": s.request.requested_at, "scheduled": s.waits_until(), "cancelled": s.cancelled.is_some(),
                        "ended": s.ended.is_some(), "verdict": s.verdict(),
                        "settled": s.is_settled(), "by_hand": {
                            "asked": s.steps.iter().filter(|s| s.is_asked()).count(),
                            "overdue": s.steps.iter().filter(|s| s.is_overdue(now)).count(),
                        },
                    })
                })
                .collect();
            let sweeps: Vec<_> = sweeps
                .iter()
                .map(|(id, s)| {
                    serde_json::json!({
                        "run": id, "playbook": s.request.playbook, "requested_at": s.request.requested_at,
                        "ended": s.ended.is_some(), "verdict": s.verdict(), "findings": s.found().count(),
                    })
                })
                .collect();
            serde_json::json!({ "runs": runs, "sweeps": sweeps })
        },
    );
    if house.verify_journal(None).await?.is_sound() {
        return Ok(Exit::Fine);
    }
    eprintln!("warning: the journal does not verify: offboard journal verify says what was changed");
    Ok(Exit::Tampered)
}
