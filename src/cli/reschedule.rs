//! `offboard reschedule`.

use super::context::{Context, actor, clock};
use super::orders;
use super::outcome::{Exit, Failure};
use crate::daemon::{Order, when};
use crate::model::RunState;
use std::sync::Arc;

/// Let a scheduled run begin at another hour, before it has begun.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: String,
    /// When: "2026-12-31 18:00 Asia/Kolkata", 2026-12-31T18:00:00+05:30, without a zone in the person's own, or `now`.
    #[arg(long, value_name = "TIME")]
    at: String,
    /// Move it although the roster says that the person has not left by then.
    #[arg(long)]
    although_active: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = Arc::new(context.house()?);
    let (run, zone) = {
        let journal = house.journal_to_read().await?;
        let (run, records) = house.records(&journal, &args.run).await?;
        journal.close().await;
        (run, RunState::fold(&records).and_then(|s| s.request.person().and_then(|person| person.zone.clone())))
    };
    let at = when::hour(&args.at, zone.as_deref(), clock()())?;
    let order = Order::Reschedule { run: run.clone(), at, although_active: args.although_active, by: actor() };
    let (_, journal) = orders::give(context, &house, order).await?;
    super::run::scheduled(context, &house, &journal, &run).await
}
