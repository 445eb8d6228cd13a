//! `offboard accounts`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;
use crate::model::{Fault, FaultKind};
use futures::future::join_all;

/// List everything a person can open, and by which rule it was matched; or one system's inventory.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Args {
    /// Employee number, mail address or user name.
    person: Option<String>,
    /// A system's name: lists its whole inventory.
    #[arg(long)]
    system: Option<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let (title, places) = match (&args.person, &args.system) {
        (Some(person), _) => {
            let person = house.person(person)?;
            let draft = house.engine.draft(&person, None).await;
            (format!("{} ({})", person.name, person.id), draft.places)
        }
        (None, system) => {
            let system = system.clone().unwrap_or_default();
            let wanted: Vec<_> = house.engine.places().into_iter().filter(|(_, p)| p.system.0 == system).collect();
            if wanted.is_empty() {
                let names: Vec<String> = house.config.systems.keys().map(|s| s.0.clone()).collect();
                return Err(Fault::new(FaultKind::Misconfigured, format!("there is no system {system:?}"))
                    .hint(format!("the systems are: {}", names.join(", ")))
                    .into());
            }
            let places = join_all(wanted.into_iter().map(|(connector, place)| {
                let engine = &house.engine;
                async move {
                    let found = engine.inventory_of(&*connector, &place).await;
                    crate::engine::DraftPlace { place, found, steps: Vec::new(), findings: Vec::new() }
                }
            }))
            .await;
            (system, places)
        }
    };
    let failed = places.iter().any(|p| p.found.is_err());
    context.print(
        |style| render::accounts(&title, &places, style),
        || {
            let places: Vec<_> = places
                .iter()
                .map(|p| match &p.found {
                    // Before-images are for the journal's seal only.
                    Ok(accounts) => {
                        let accounts: Vec<_> = accounts.iter().map(render::without_facts).collect();
                        serde_json::json!({ "place": p.place.id, "accounts": accounts, "findings": p.findings })
                    }
                    Err(fault) => serde_json::json!({ "place": p.place.id, "fault": fault }),
                })
                .collect();
            serde_json::json!({ "of": title, "places": places })
        },
    );
    Ok(if failed { Exit::Unproven } else { Exit::Fine })
}
