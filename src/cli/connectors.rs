//! `offboard connectors`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use super::render;
use crate::model::{Fault, FaultKind};

/// List the connectors: doors, strength of proof, privileges, and what is not covered.
#[derive(clap::Args)]
pub struct Args {
    /// Only this one.
    name: Option<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let all = crate::connectors::manifests();
    let shown: Vec<_> = all.iter().copied().filter(|m| args.name.as_deref().is_none_or(|n| n == m.name)).collect();
    if shown.is_empty() {
        let names: Vec<_> = all.iter().map(|m| m.name).collect();
        return Err(Fault::new(
            FaultKind::Misconfigured,
            format!("there is no connector {:?}", args.name.unwrap_or_default()),
        )
        .hint(format!("the connectors are: {}", names.join(", ")))
        .into());
    }
    context.print(
        |style| render::manifests(&shown, style),
        || {
            let list: Vec<_> = shown
                .iter()
                .map(|m| {
                    serde_json::json!({
                        "name": m.name, "family": m.family, "doors": m.doors, "privileges": m.privileges, "not_covered": m.not_covered,
                    })
                })
                .collect();
            serde_json::json!({ "connectors": list })
        },
    );
    Ok(Exit::Fine)
}
