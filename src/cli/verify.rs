//! `offboard verify`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::{post, progress, render, report};
use crate::model::RunState;

/// Look at every door of a run again. Changes nothing but the record.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: String,
    /// This is the last look: afterwards the sealed witness passwords are destroyed.
    #[arg(long)]
    last: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let journal = house.journal().await?;
    let (watch, seen) = tokio::sync::mpsc::unbounded_channel();
    let (run, records) = house.take_up(&journal, &args.run, Some(watch)).await?;
    let id = run.recorder().run().clone();
    let watching = RunState::fold(&records).map(|state| tokio::spawn(progress::watch(seen, state, context.json)));
    let verdict = run.verify(args.last).await?;
    drop(run);
    if let Some(watching) = watching {
        let _ = watching.await;
    }
    let report = report::of(&house, &journal, &id).await?;
    context.print(|style| render::summary(&report, &[], style), || report.json());
    post::after_run(context, &house, &journal, &id).await;
    Ok(verdict.into())
}
