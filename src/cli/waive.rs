//! `offboard waive`.

use super::context::{Context, actor};
use super::orders;
use super::outcome::{Exit, Failure};
use crate::daemon::Order;
use crate::model::{RunId, RunState, RunVerdict};
use std::sync::Arc;

/// Give a stuck step or an unreached place up, in writing. It is not queued any more; but a decision is no proof: what is waived counts as
/// unproven, and a door that is known to be open stays open.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: String,
    /// The step or the place, as `offboard status RUN` names it.
    target: String,
    /// Why. It stands in the report under your name.
    #[arg(long)]
    why: String,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = Arc::new(context.house()?);
    let run = RunId(args.run.trim().to_ascii_uppercase());
    let order = Order::Waive { run: run.clone(), target: args.target.clone(), why: args.why, by: actor() };
    let (answer, journal) = orders::give(context, &house, order).await?;
    let verdict = RunState::fold(&journal.records(&run).await?).map_or(RunVerdict::Unproven, |s| s.verdict());
    context.print(
        |_| format!("Waived: {}. The run is now {verdict}.\n", super::render::line(&args.target)),
        || serde_json::json!({ "run": run, "waived": args.target, "verdict": verdict }),
    );
    Ok(Exit::numbered(answer.exit))
}
