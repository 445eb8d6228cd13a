//! `offboard resume`.

use super::context::{Context, actor};
use super::orders;
use super::outcome::{Exit, Failure};
use crate::daemon::Order;
use crate::model::RunId;
use std::sync::Arc;

/// Go on after a crash or a mended fault. Steps that were begun are applied again; what was done stays done.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: String,
    /// The folder in which the report is written; without it the journal's `reports`.
    #[arg(long, value_name = "FOLDER")]
    report_to: Option<std::path::PathBuf>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = Arc::new(context.house()?);
    let run = RunId(args.run.trim().to_ascii_uppercase());
    let order = Order::Resume { run, report_to: super::run::absolute(args.report_to)?, by: actor() };
    let (answer, journal) = orders::give(context, &house, order).await?;
    super::run::shown(context, &house, &journal, &answer).await
}
