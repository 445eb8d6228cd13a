//! `offboard waive`.

use super::context::{Context, actor};
use super::outcome::{Exit, Failure};
use crate::engine::refuse_leaver;

/// Give a stuck step or an unreached place up, in writing. A door that is known to be open stays open.
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
    let house = context.house()?;
    let journal = house.journal().await?;
    let (run, _) = house.take_up(&journal, &args.run, None).await?;
    let id = run.recorder().run().clone();
    let why = args.why.trim();
    if why.is_empty() {
        return Err(crate::model::Fault::new(crate::model::FaultKind::Misconfigured, "--why is empty")
            .hint("say in a sentence why this is given up; the auditor will read it")
            .into());
    }
    let by = actor();
    refuse_leaver(&run.recorder().read(|s| s.request.person.clone()), &by.name)?;
    run.waive(&args.target, why, by).await?;
    let verdict = run.recorder().read(|s| s.verdict());
    context.print(
        |_| format!("Waived: {}. The run is now {verdict}.\n", super::render::line(&args.target)),
        || serde_json::json!({ "run": id, "waived": args.target, "verdict": verdict }),
    );
    drop(run);
    super::post::after_run(context, &house, &journal, &id).await;
    Ok(verdict.into())
}
