//! `offboard check`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;

/// Check the configuration, the playbooks, and our own login and privileges on every system.
#[derive(clap::Args)]
pub struct Args {}

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let playbooks = house.books()?;
    let health = house.engine.check().await;
    let faults = health.iter().filter(|(_, h)| h.is_err()).count();
    let findings = health.iter().filter_map(|(_, h)| h.as_ref().ok()).map(|h| h.findings.len()).sum::<usize>();
    context.print(
        |style| render::health(&health, playbooks.len(), house.roster.people().len(), style),
        || {
            let places: Vec<_> = health
                .iter()
                .map(|(place, health)| match health {
                    Ok(h) => serde_json::json!({ "place": place.id, "identity": h.identity, "findings": h.findings }),
                    Err(fault) => serde_json::json!({ "place": place.id, "fault": fault }),
                })
                .collect();
            serde_json::json!({ "places": places, "playbooks": playbooks.len(), "people": house.roster.people().len() })
        },
    );
    Ok(if faults + findings > 0 { Exit::Found } else { Exit::Fine })
}
