//! Shared secrets: who may know them, when they were last rotated, and whether they could be.

use super::house::finding;
use super::{Style, fault, line};
use crate::engine::{DraftRotation, SecretHealth};
use crate::model::{PartKind, RunId};
use crate::report::{Tone, text};
use jiff::Timestamp;

fn known_to(secret: &SecretHealth) -> Vec<String> {
    let known = &secret.secret.known_to;
    let lists = [("", &known.people), ("department ", &known.departments), ("members of ", &known.members_of)];
    lists.into_iter().flat_map(|(word, list)| list.iter().flatten().map(move |name| format!("{word}{name}"))).collect()
}

/// One secret: never a value.
pub fn secret(
    secret: &SecretHealth,
    last: Option<&(Timestamp, RunId)>,
    next: Option<&Timestamp>,
    now: Timestamp,
    style: &Style,
) -> String {
    let mut out = format!("{}\n", style.bold(&line(&secret.name.0)));
    let rotated = match last {
        Some((at, run)) => {
            let days = (now.as_second() - at.as_second()).max(0) / 86_400;
            let age = text::count(usize::try_from(days).unwrap_or(0), "day", "days");
            format!("{} by run {run}, {age} ago", text::moment(*at, &style.zone))
        }
        None => "never by offboard".into(),
    };
    out.push_str(&format!("  {:<10} {rotated}\n", "rotated"));
    if let Some(after) = secret.secret.rotate_after {
        let said = match next {
            Some(at) if *at <= now => {
                let since = format!("overdue since {}", text::moment(*at, &style.zone));
                format!("after {after}: {}", style.toned(Tone::Stuck, &since))
            }
            Some(at) => format!("after {after}: on {}", text::moment(*at, &style.zone)),
            None => format!("after {after}, counted from when offboard serve first sees it"),
        };
        out.push_str(&format!("  {:<10} {said}\n", "next"));
    }
    out.push_str(&format!("  {:<10} {}\n", "known to", line(&known_to(secret).join(", "))));
    out + &stands(secret, style)
}

/// What the rotation of one secret would do: nobody leaves.
pub fn rotation(draft: &DraftRotation, style: &Style) -> String {
    let mut out = format!("{} {}\n", style.bold("Rotate"), line(&draft.health.name.0));
    out.push_str(&stands(&draft.health, style));
    out.push_str(&format!("\n{}\n", style.bold("Steps")));
    for step in &draft.steps {
        let what = format!("  {}: rotate {} {}", step.place, step.account, step.object);
        out.push_str(&format!("{}\n", line(&what)));
    }
    out.push_str("The old value dies, and every session that it opened is ended.\n");
    out
}

/// Everybody who takes part, and what is wrong.
fn stands(secret: &SecretHealth, style: &Style) -> String {
    let mut out = String::new();
    for part in &secret.parts {
        let kind = match part.kind {
            PartKind::Source | PartKind::Former | PartKind::Checked | PartKind::Authorized | PartKind::SourceFile => {
                "source"
            }
            PartKind::Setter => "setter",
            PartKind::Consumer | PartKind::ConsumerPath => "consumer",
        };
        let well = match &part.fault {
            None => style.toned(Tone::Shut, "well"),
            Some(_) => style.toned(Tone::Stuck, "not well"),
        };
        out.push_str(&format!("  {kind:<10} {}: {well}\n", line(&part.what)));
    }
    for found in &secret.findings {
        out.push_str(&finding(found, 4, style));
    }
    for problem in secret.faults() {
        let told = fault(problem, style);
        out.push_str(&format!("    {}\n", told.trim_end().replace('\n', "\n    ")));
    }
    out
}
