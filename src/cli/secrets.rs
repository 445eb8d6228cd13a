//! `offboard secrets`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;
use crate::engine::{SecretHealth, rotated};
use crate::model::{RunId, RunState, SecretName};
use crate::store::Kind;
use crate::wiring::House;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// List shared secrets: who may know them, when they were last rotated, and whether everything that a rotation needs is well. Never a
/// value. Logs in with each, and runs the consumers' health checks; changes nothing.
#[derive(clap::Args)]
pub struct Args {}

/// When one is to be rotated next because of its age, as far as that is known.
type Next = BTreeMap<SecretName, Timestamp>;

/// The last rotation that came to its end.
type Last = BTreeMap<SecretName, (Timestamp, RunId)>;

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let last = last_rotations(&house).await?;
    let secrets = house.engine.secrets_health().await;
    let next = next_rotations(&house, &secrets, &last).await?;
    let now = super::context::clock()();
    let is_overdue = |secret: &SecretHealth| next.get(&secret.name).is_some_and(|at| *at <= now);
    context.print(
        |style| {
            if secrets.is_empty() {
                return "No shared secret is declared: see `secrets` in docs/configuration.md.\n".into();
            }
            secrets.iter().map(|secret| render::secret(secret, last.get(&secret.name), next.get(&secret.name), now, style)).collect()
        },
        || serde_json::json!({ "secrets": secrets.iter().map(|s| json(s, last.get(&s.name), next.get(&s.name), is_overdue(s))).collect::<Vec<_>>() }),
    );
    let well = secrets
        .iter()
        .all(|secret| secret.faults().next().is_none() && secret.findings.is_empty() && !is_overdue(secret));
    Ok(if well { Exit::Fine } else { Exit::Found })
}

/// When each secret is to be rotated next: by its age; of a value that offboard never set, as `offboard serve` has noted.
async fn next_rotations(house: &House, secrets: &[SecretHealth], last: &Last) -> Result<Next, Failure> {
    let mut noted = BTreeMap::new();
    if crate::wiring::has_journal(&house.config.journal) {
        noted.extend(house.store().await?.due_of(Kind::Rotate).await?.into_iter().map(|due| (due.subject, due.at)));
    }
    let next = secrets.iter().filter_map(|secret| {
        let after = secret.secret.rotate_after?;
        let by_age = last.get(&secret.name).map(|(at, _)| *at + after.duration());
        let at = by_age.or_else(|| noted.get(&crate::daemon::after::rotations(&secret.name).0).copied())?;
        Some((secret.name.clone(), at))
    });
    Ok(next.collect())
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
        for (name, at) in rotated(&state) {
            let Some(at) = at else { continue };
            if last.get(&name).is_none_or(|(known, _)| *known < at) {
                last.insert(name, (at, id.clone()));
            }
        }
    }
    Ok(last)
}

fn json(
    secret: &SecretHealth,
    last: Option<&(Timestamp, RunId)>,
    next: Option<&Timestamp>,
    overdue: bool,
) -> serde_json::Value {
    let parts: Vec<_> = secret
        .parts
        .iter()
        .map(|part| serde_json::json!({ "part": part.kind, "what": part.what, "well": part.fault.is_none(), "fault": part.fault }))
        .collect();
    serde_json::json!({
        "name": secret.name, "source": secret.secret.source, "consumers": secret.secret.consumers, "known_to": secret.secret.known_to,
        "rotated_at": last.map(|(at, _)| at), "rotated_by": last.map(|(_, run)| run),
        "rotate_after": secret.secret.rotate_after, "next": next, "overdue": overdue, "overlap": secret.secret.overlap,
         "parts": parts, "fault": secret.fault, "findings": secret.findings,
    })
}
