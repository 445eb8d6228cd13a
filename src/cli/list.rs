//! `offboard list`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;
use crate::model::{RunState, RunVerdict};
use crate::wiring::House;

/// List all runs, the newest first.
#[derive(clap::Args)]
pub struct Args {}

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    show(context, &context.house()?, false).await
}

/// Lists runs; with `only_unfinished` those that are not shut.
pub async fn show(context: &Context, house: &House, only_unfinished: bool) -> Result<Exit, Failure> {
    let journal = house.journal_to_read().await?;
    let mut runs = Vec::new();
    for id in journal.runs().await? {
        if let Some(state) = RunState::fold(&journal.records(&id).await?)
            && !(only_unfinished && is_over(&state))
        {
            runs.push((id, state));
        }
    }
    context.print(
        |style| render::list(&runs, style),
        || {
            let runs: Vec<_> = runs
                .iter()
                .map(|(id, s)| {
                    serde_json::json!({
                        "run": id, "person": s.request.person.id, "name": s.request.person.name, "playbook": s.request.playbook,
                        "requested_at": s.request.requested_at, "scheduled": s.waits_until(), "cancelled": s.cancelled.is_some(),
                        "ended": s.ended.is_some(), "verdict": s.verdict(),
                    })
                })
                .collect();
            serde_json::json!({ "runs": runs })
        },
    );
    Ok(Exit::Fine)
}

/// Whether nothing is left to do.
fn is_over(state: &RunState) -> bool {
    state.cancelled.is_some() || (state.ended.is_some() && state.verdict() == RunVerdict::Shut)
}
