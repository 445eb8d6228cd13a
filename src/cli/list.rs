//! `offboard list`.

use super::context::{Context, clock};
use super::outcome::{Exit, Failure};
use super::render;
use crate::model::RunState;
use crate::wiring::House;

/// List all runs, the newest first.
#[derive(clap::Args)]
pub struct Args {}

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    show(context, &context.house()?, false).await
}

/// Lists runs; with `only_unfinished` those of which something is still queued.
pub async fn show(context: &Context, house: &House, only_unfinished: bool) -> Result<Exit, Failure> {
    let journal = house.journal_to_read().await?;
    let mut runs = Vec::new();
    for id in journal.runs().await? {
        if let Some(state) = RunState::fold(&journal.records(&id).await?)
            && !(only_unfinished && state.is_settled())
        {
            runs.push((id, state));
        }
    }
    let now = clock()();
    context.print(
        |style| render::list(&runs, now, style),
        || {
            let runs: Vec<_> = runs
                .iter()
                .map(|(id, s)| {
                    serde_json::json!({
                        "run": id, "person": s.request.person.id, "name": s.request.person.name, "playbook": s.request.playbook,
                        "requested_at": s.request.requested_at, "scheduled": s.waits_until(), "cancelled": s.cancelled.is_some(),
                        "ended": s.ended.is_some(), "verdict": s.verdict(),
                        "settled": s.is_settled(), "by_hand": {
                            "asked": s.steps.iter().filter(|s| s.is_asked()).count(),
                            "overdue": s.steps.iter().filter(|s| s.is_overdue(now)).count(),
                        },
                    })
                })
                .collect();
            serde_json::json!({ "runs": runs })
        },
    );
    if house.verify_journal(None).await?.is_sound() {
        return Ok(Exit::Fine);
    }
    eprintln!("warning: the journal does not verify: offboard journal verify says what was changed");
    Ok(Exit::Tampered)
}
