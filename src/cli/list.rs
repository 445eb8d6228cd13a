//! `offboard list`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;
use crate::model::{RunState, RunVerdict, SweepState, SweepVerdict};
use crate::wiring::House;

/// List all runs, the newest first.
#[derive(clap::Args)]
pub struct Args {}

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    show(context, &context.house()?, false).await
}

/// Lists runs and sweeps; with `only_unfinished` those that are not shut, or found something.
pub async fn show(context: &Context, house: &House, only_unfinished: bool) -> Result<Exit, Failure> {
    let journal = house.journal_to_read().await?;
    let (mut runs, mut sweeps) = (Vec::new(), Vec::new());
    for id in journal.runs().await? {
        let records = journal.records(&id).await?;
        if let Some(state) = RunState::fold(&records) {
            if !(only_unfinished && state.ended.is_some() && state.verdict() == RunVerdict::Shut) {
                runs.push((id, state));
            }
        } else if let Some(state) = SweepState::fold(&records)
            && !(only_unfinished && state.verdict() == SweepVerdict::Clear)
        {
            sweeps.push((id, state));
        }
    }
    context.print(
        |style| {
            let sweeps = if sweeps.is_empty() { String::new() } else { render::sweeps(&sweeps, style) };
            match (runs.is_empty(), sweeps.is_empty()) {
                (_, true) => render::list(&runs, style),
                (true, false) => sweeps,
                (false, false) => format!("{}\n{sweeps}", render::list(&runs, style)),
            }
        },
        || {
            let runs: Vec<_> = runs
                .iter()
                .map(|(id, s)| {
                    serde_json::json!({
                        "run": id, "person": s.request.person.id, "name": s.request.person.name, "playbook": s.request.playbook,
                        "requested_at": s.request.requested_at, "ended": s.ended.is_some(), "verdict": s.verdict(),
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
    Ok(Exit::Fine)
}
