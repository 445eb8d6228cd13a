//! `offboard rotate`.

use super::context::{Context, actor, confirm};
use super::outcome::{Exit, Failure};
use super::{orders, render, run};
use crate::daemon::Order;
use crate::model::{Fault, FaultKind, SecretName};
use std::path::PathBuf;
use std::sync::Arc;

/// The longest reason, in characters.
const LONGEST_WHY: usize = 200;

/// Rotate one shared secret, though nobody leaves: a new value at its source and at every consumer, the old one refused, and proved so.
/// Without --yes it asks everybody who takes part whether that can be done, shows the plan, and asks.
#[derive(clap::Args)]
pub struct Args {
    /// Its name in offboard.yaml.
    secret: String,
    /// Why, a few words for the report.
    #[arg(long, value_name = "TEXT", default_value = "asked for by hand", hide_default_value = true)]
    why: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Rotate it although an earlier run that rotates it is not shut.
    #[arg(long)]
    anew: bool,
    /// The folder in which the report is written; without it the journal's `reports`.
    #[arg(long, value_name = "FOLDER")]
    report_to: Option<PathBuf>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = Arc::new(context.house()?);
    let name = SecretName(args.secret);
    let why = args.why.trim();
    if why.is_empty() || why.chars().count() > LONGEST_WHY {
        let fault = Fault::new(FaultKind::Misconfigured, "--why is empty or too long");
        return Err(fault.hint(format!("say why in a few words, at most {LONGEST_WHY} characters")).into());
    }
    house.engine.places_of_secret(&name)?;
    if !args.yes {
        let draft = house.engine.draft_rotation(&name).await?;
        eprint!("{}", render::rotation(&draft, &context.style_for_errors()));
        if let Some(fault) = draft.health.faults().next() {
            return Err(fault.clone().into());
        }
        if !confirm(&format!("Rotate the secret {} now?", render::line(&name.0)), &name.0) {
            return Err(Failure::new(
                Exit::Refused,
                Fault::new(FaultKind::Protected, "nothing was changed: the rotation was not confirmed")
                    .hint("type the secret's name when asked, or add --yes"),
            ));
        }
    }
    let report_to = run::absolute(args.report_to)?;
    let order = Order::Rotate { secret: name, why: why.to_string(), anew: args.anew, report_to, by: actor() };
    let (answer, journal) = orders::give(context, &house, order).await?;
    run::shown(context, &house, &journal, &answer).await
}
