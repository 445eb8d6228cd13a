//! `offboard status`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::{list, render, report};

/// Show where a run stands: what needs a person first. Without a run: all runs that are not shut.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: Option<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let Some(wanted) = args.run else { return list::show(context, &house, true).await };
    let journal = house.journal_to_read().await?;
    let (id, _) = house.records(&journal, &wanted).await?;
    let report = report::of(&house, &journal, &id).await?;
    context.print(|style| render::status(&report, style), || report.json());
    Ok(Exit::from(report.verdict).unless_tampered(&report.journal))
}
