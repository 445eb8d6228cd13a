//! `offboard playbook`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use std::path::PathBuf;

/// Check playbooks, or print their schema.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check playbooks: for editors and for CI. Without files: those of the configuration.
    Check {
        /// Playbook files.
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of a playbook.
    Schema,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match args.command {
        Command::Schema => {
            let schema = crate::playbook::schema();
            context.print(|_| format!("{schema:#}\n"), || schema.clone());
            Ok(Exit::Fine)
        }
        Command::Check { files } => {
            let checked = if files.is_empty() {
                context.house()?.books()?.into_iter().map(|(book, _)| book).collect()
            } else {
                files
                    .iter()
                    .map(|file| crate::wiring::read_playbook(file).map(|(playbook, _)| playbook))
                    .collect::<Result<Vec<_>, _>>()?
            };
            context.print(
                |_| checked.iter().map(|p| format!("ok  {}  {}\n", p.name(), p.summary())).collect(),
                || serde_json::json!({ "playbooks": checked }),
            );
            Ok(Exit::Fine)
        }
    }
}
