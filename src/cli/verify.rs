//! `offboard verify`.

use super::context::{Context, actor};
use super::outcome::{Exit, Failure};
use super::{orders, render, report};
use crate::daemon::Order;
use crate::model::RunId;
use std::sync::Arc;

/// Look at every door of a run again. Changes nothing but the record.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: String,
    /// This is the last look: if everything is shut, the sealed witness passwords are destroyed afterwards.
    #[arg(long)]
    last: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = Arc::new(context.house()?);
    let run = RunId(args.run.trim().to_ascii_uppercase());
    let order = Order::Verify { run: run.clone(), last: args.last, by: actor() };
    let (answer, journal) = orders::give(context, &house, order).await?;
    let report = report::of(&house, &journal, &run).await?;
    context.print(|style| render::summary(&report, &[], style), || report.json());
    Ok(Exit::numbered(answer.exit).unless_tampered(&report.journal))
}
