//! `offboard cancel`.

use super::context::{Context, actor};
use super::orders;
use super::outcome::{Exit, Failure};
use crate::daemon::Order;
use crate::model::RunId;
use std::sync::Arc;

/// Give a scheduled run up, before it has begun.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: String,
    /// Why. It stands in the report under your name.
    #[arg(long)]
    why: String,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = Arc::new(context.house()?);
    let run = RunId(args.run.trim().to_ascii_uppercase());
    let order = Order::Cancel { run: run.clone(), why: args.why, by: actor() };
    orders::give(context, &house, order).await?;
    context.print(
        |_| format!("Cancelled: run {run}. Nothing was done.\n"),
        || serde_json::json!({ "run": run, "cancelled": true }),
    );
    Ok(Exit::Fine)
}
