//! `offboard journal`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;
use crate::model::Digest;

/// Check the journal.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check every link of every chain and every signature. Exit status 21 if anything was changed, removed, reordered or cut.
    Verify {
        /// A head that a report or an earlier verification printed: checks that the journal still contains it.
        #[arg(long, value_name = "SHA256")]
        head: Option<String>,
    },
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let Command::Verify { head } = args.command;
    let house = context.house()?;
    let verification = house.verify_journal(head.map(Digest).as_ref()).await?;
    context.print(
        |style| render::verification(&verification, style),
        || serde_json::to_value(&verification).unwrap_or_default(),
    );
    Ok(if verification.problems.is_empty() { Exit::Fine } else { Exit::Tampered })
}
