//! `offboard secrets`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;
use crate::engine::SecretHealth;
use crate::model::{Action, RunId, RunState, SecretName};
use crate::wiring::House;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// List shared secrets: who may know them, when they were last rotated, and whether everything that a rotation needs is well. Never a
/// value. Logs in with each, and runs the consumers' health checks; changes nothing.
#[derive(clap::Args)]
pub struct Args {}

/// The last rotation that came to its end.
type Last = BTreeMap<SecretName, (Timestamp, RunId)>;

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let last = last_rotations(&house).await?;
    let secrets = house.engine.secrets_health().await;
    let now = super::context::clock()();
    context.print(
        |style| {
            if secrets.is_empty() {
                return "No shared secret is declared: see `secrets` in docs/configuration.md.\n".into();
            }
            secrets.iter().map(|secret| render::secret(secret, last.get(&secret.name), now, style)).collect()
        },
        || serde_json::json!({ "secrets": secrets.iter().map(|s| json(s, last.get(&s.name))).collect::<Vec<_>>() }),
    );
    let well = secrets.iter().all(|secret| secret.faults().next().is_none() && secret.findings.is_empty());
    Ok(if well { Exit::Fine } else { Exit::Found })
}

/// When each secret was last rotated, by the journal.
async fn last_rotations(house: &House) -> Result<Last, Failure> {
    let mut last = Last::new();
    if !crate::wiring::has_journal(&house.config.journal) {
        return Ok(last);
    }
    let journal = house.journal_to_read().await?;
    for id in journal.runs().await? {
        let Some(state) = RunState::fold(&journal.records(&id).await?) else { continue };
        for name in house.config.secrets.keys() {
            let prefix = format!("{name}: ");
            let steps =
                || state.steps.iter().filter(|s| s.step.action == Action::Rotate && s.step.object.starts_with(&prefix));
            let finished = steps().any(|s| s.step.object.starts_with(&format!("{prefix}finish")));
            if !finished || steps().any(|s| !s.is_done() && s.waived.is_none()) {
                continue;
            }
            // When the source took the new value.
            let set = steps().find(|s| s.step.object == format!("{prefix}set")).and_then(|s| s.done_at);
            if let Some(at) = set
                && last.get(name).is_none_or(|(known, _)| *known < at)
            {
                last.insert(name.clone(), (at, id.clone()));
            }
        }
    }
    Ok(last)
}

fn json(secret: &SecretHealth, last: Option<&(Timestamp, RunId)>) -> serde_json::Value {
    let parts: Vec<_> = secret
        .parts
        .iter()
        .map(|part| serde_json::json!({ "part": part.kind, "what": part.what, "well": part.fault.is_none(), "fault": part.fault }))
        .collect();
    serde_json::json!({
        "name": secret.name, "source": secret.secret.source, "consumers": secret.secret.consumers, "known_to": secret.secret.known_to,
        "rotated_at": last.map(|(at, _)| at), "rotated_by": last.map(|(_, run)| run), "parts": parts, "fault": secret.fault, "findings": secret.findings,
    })
}
