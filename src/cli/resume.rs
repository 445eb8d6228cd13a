//! `offboard resume`.

use super::context::{Context, actor};
use super::outcome::{Exit, Failure};

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
    let house = context.house()?;
    let journal = house.journal().await?;
    let (watch, seen) = tokio::sync::mpsc::unbounded_channel();
    let (run, records) = house.take_up(&journal, &args.run, Some(watch)).await?;
    let id = run.recorder().run().clone();
    let person = run.recorder().read(|s| s.request.person.id.clone());
    for (_, other) in house.other_runs(&journal, &person, Some(&id)).await? {
        run.learn_from(&other);
    }
    super::run::go(context, &house, &journal, run, seen, &records, actor(), args.report_to).await
}
