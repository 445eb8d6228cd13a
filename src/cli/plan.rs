//! `offboard plan`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;
use crate::engine::{Draft, DraftAsk};
use crate::model::Person;
use crate::playbook::Playbook;

/// Show every step of a run; touches nothing.
#[derive(clap::Args)]
pub struct Args {
    /// Employee number, mail address or user name.
    person: String,
    /// The playbook; without it the one whose trigger fits.
    #[arg(long, short)]
    playbook: Option<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let person = house.person(&args.person)?;
    let (playbook, _) = house.playbook(args.playbook.as_deref(), &person)?;
    let draft = house.engine.draft(&person, Some(&playbook)).await;
    let asks = house.engine.asks(&playbook, &person);
    context.print(
        |style| render::plan(&person, &playbook.playbook, &draft.places, style) + &render::by_hand(&asks, style),
        || json(&person, &playbook, &draft, &asks),
    );
    Ok(if draft.places.iter().any(|p| p.found.is_err()) { Exit::Unproven } else { Exit::Fine })
}

fn json(person: &Person, playbook: &Playbook, draft: &Draft, asks: &[DraftAsk]) -> serde_json::Value {
    let places: Vec<_> = draft
        .places
        .iter()
        .map(|p| {
            let steps: Vec<_> = p.steps.iter().map(|(stage, s)| serde_json::json!({ "stage": stage, "step": s })).collect();
            match &p.found {
                Ok(accounts) => {
                    let accounts: Vec<_> = accounts.iter().map(render::without_facts).collect();
                    serde_json::json!({ "place": p.place.id, "accounts": accounts, "steps": steps, "findings": p.findings })
                }
                Err(fault) => serde_json::json!({ "place": p.place.id, "fault": fault }),
            }
        })
        .collect();
    let by_hand: Vec<_> = asks
        .iter()
        .map(|ask| {
            serde_json::json!({
                "stage": ask.stage, "of": ask.of, "owner": ask.owner, "what": ask.what, "within_seconds": ask.within.as_secs(),
            })
        })
        .collect();
    serde_json::json!({ "person": person, "playbook": playbook.playbook, "places": places, "by_hand": by_hand })
}
