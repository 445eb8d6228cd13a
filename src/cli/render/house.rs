//! Faults, our own standing, what the connectors are, whether the journal verifies.

use super::{Style, labelled, name, wrapped};
use crate::connector::{Health, Manifest};
use crate::journal::Verification;
use crate::model::{Fault, Finding, FindingKind, Place, Proof};
use crate::report::{Tone, text};

/// A fault as an operator reads it:
///
/// ```text
/// error[forbidden]: postgres billing: cannot disable role "jane"
///   because: permission denied (SQLSTATE 42501)
///   hint: GRANT …
/// ```
///
/// Hints hold commands to copy, so nothing is wrapped. Further lines stand under the text that they belong to.
pub fn fault(fault: &Fault, style: &Style) -> String {
    let mut out =
        format!("{}: {}\n", style.toned(Tone::Open, &format!("error[{}]", fault.kind)), lines(&fault.what, 2));
    if let Some(because) = &fault.because {
        out.push_str(&format!("  {}: {}\n", style.bold("because"), lines(because, 11)));
    }
    if let Some(hint) = &fault.hint {
        out.push_str(&format!("  {}: {}\n", style.bold("hint"), lines(hint, 8)));
    }
    out
}

/// `text`, its further lines indented: a line that somebody else wrote never looks like one of ours.
fn lines(text: &str, indent: usize) -> String {
    let lines: Vec<_> = text.trim().lines().map(|line| text::cut(line, 2_000)).collect();
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

/// A finding: the word, what was seen and what to do.
pub(super) fn finding(finding: &Finding, indent: usize, style: &Style) -> String {
    let (word, tone) = match finding.kind {
        FindingKind::Ambiguous => ("ambiguous", Tone::Unproven),
        FindingKind::Unknown => ("unknown", Tone::Unproven),
        FindingKind::Protected => ("left alone", Tone::Waiting),
        FindingKind::NotCovered => ("not covered", Tone::Unproven),
        FindingKind::Suspicious => ("suspicious", Tone::Unproven),
        FindingKind::Configuration => ("configuration", Tone::Unproven),
    };
    let plain = labelled(&format!("{word}:"), &text::cut(&finding.what, text::WORDS), indent);
    let mut out = plain.replacen(word, &style.toned(tone, word), 1);
    if !finding.hint.trim().is_empty() {
        let hint = text::cut(&finding.hint, text::WORDS);
        out.push_str(&format!("{:1$}to do: {hint}\n", "", indent + 2));
    }
    out
}

/// Our own login and privileges, place by place. `playbooks` and `people` have been read and are fine.
pub fn health(health: &[(Place, Result<Health, Fault>)], playbooks: usize, people: usize, style: &Style) -> String {
    let mut out = String::new();
    let (mut unreached, mut findings) = (0, 0);
    for (place, result) in health {
        let id = name(&place.id.0);
        match result {
            Ok(health) => {
                let word = match health.findings.len() {
                    0 => style.toned(Tone::Shut, "fine"),
                    n => style.toned(Tone::Unproven, &text::count(n, "finding", "findings")),
                };
                out.push_str(&format!("{}  {word}  {}\n", style.bold(&id), style.dim(&name(&health.identity))));
                findings += health.findings.len();
                health.findings.iter().for_each(|f| out.push_str(&finding(f, 2, style)));
            }
            Err(problem) => {
                unreached += 1;
                let told = fault(problem, style);
                out.push_str(&format!("{}\n  {}\n", style.bold(&id), told.trim_end().replace('\n', "\n  ")));
            }
        }
    }
    let is = |n| if n == 1 { "is" } else { "are" };
    let playbooks = format!("{} {} fine", text::count(playbooks, "playbook", "playbooks"), is(playbooks));
    let people = format!("the roster has {}", text::count(people, "person", "people"));
    let places = match unreached {
        0 => format!("{} can be worked on", text::count(health.len(), "place", "places")),
        n => format!("{} of {} cannot be worked on", text::number(n), text::count(health.len(), "place", "places")),
    };
    let findings = match findings {
        0 => String::new(),
        n => format!("; {}", text::count(n, "finding", "findings")),
    };
    out.push('\n');
    out + &wrapped(&format!("{playbooks}; {people}; {places}{findings}."), 0)
}

/// What the connectors are: doors and strength of proof, privileges, what is not covered.
pub fn manifests(manifests: &[&Manifest], style: &Style) -> String {
    let mut out = String::new();
    for (i, manifest) in manifests.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let family = format!("{:?}", manifest.family).to_lowercase();
        out.push_str(&format!("{} ({family})\n", style.bold(manifest.name)));
        out.push_str("  doors, and how each is proved at best\n");
        for (kind, proof) in manifest.doors {
            let proof = match proof {
                Proof::Refused => "refused: the server itself turns the attempt away",
                Proof::ReadBack => "read back: the server's own listing, with a control entry in it",
            };
            out.push_str(&format!("    {:<11} {}\n", kind.to_string(), style.dim(proof)));
        }
        for (title, lines) in
            [("what offboard needs there", manifest.privileges), ("not covered", manifest.not_covered)]
        {
            if !lines.is_empty() {
                out.push_str(&format!("  {title}\n"));
                lines.iter().for_each(|line| out.push_str(&labelled("-", line, 4)));
            }
        }
    }
    out
}

/// Whether the journal verifies.
pub fn verification(verification: &Verification, style: &Style) -> String {
    let many = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut out = String::new();
    let what = format!(
        "{} of {}, {} and {} checked with key {}.",
        text::count(many(verification.records), "record", "records"),
        text::count(many(verification.runs), "run", "runs"),
        text::count(many(verification.checkpoints), "checkpoint", "checkpoints"),
        text::count(many(verification.sealed), "sealed value", "sealed values"),
        name(&verification.signer.0),
    );
    if verification.is_sound() {
        out.push_str(&format!("{}\n", style.toned(Tone::Shut, "The journal verifies.")));
    } else {
        let all = many(verification.problems.len() as u64 + verification.more);
        let title = format!("The journal does not verify: {}.", text::count(all, "problem", "problems"));
        out.push_str(&format!("{}\n", style.toned(Tone::Open, &title)));
        verification.problems.iter().for_each(|p| out.push_str(&labelled("-", &name(&p.to_string()), 2)));
        if verification.more > 0 {
            out.push_str(&format!("  and {} more\n", text::number(many(verification.more))));
        }
    }
    out.push_str(&wrapped(&what, 2));
    match (&verification.head, verification.last) {
        (Some(head), at) => {
            out.push_str(&format!("  head {}\n", name(&head.0)));
            if let Some(at) = at {
                out.push_str(&format!("  last signed record {}\n", text::moment(at, &style.zone)));
            }
        }
        (None, _) => out.push_str("  No checkpoint is signed yet.\n"),
    }
    out
}
