//! What a sweep found: what nobody can believe or say first, then by owner or system, then what is excepted.

use super::{Style, cell, labelled, name, table, toned_cell, wrapped};
use crate::model::{RunId, SweepFinding, SweepState, SweepVerdict};
use crate::report::{PlaceLine, SweepReport, Tone, kinds, meaning, text};
use std::path::PathBuf;

/// More findings of one owner or system are left to the report.
const SHOWN: usize = 50;

/// The end of a sweep. `written` are the reports that were written.
pub fn sweep(report: &SweepReport, written: &[PathBuf], style: &Style) -> String {
    let (tone, headline) = report.headline();
    let title = format!("sweep {}, run {}", name(&report.playbook), name(&report.run.0));
    let mut out = format!("{}: {}\n", style.toned(tone, headline), style.bold(&title));
    out.push_str(&wrapped(&report.summary, 2));
    let unsaid: String = report.places.iter().map(|place| unsaid(place, style)).collect();
    if !unsaid.is_empty() {
        out.push_str(&format!("\n{}\n{unsaid}", style.toned(Tone::Unproven, "What nobody can say")));
    }
    let mut last = None;
    for group in report.groups() {
        if last.replace(group.kind) != Some(group.kind) {
            let kind = group.kind.to_string();
            let heading = format!("{}{}: {}", kind[..1].to_uppercase(), &kind[1..], meaning(group.kind));
            out.push_str(&format!("\n{}\n", style.bold(&heading)));
        }
        out.push_str(&format!("  {}\n", style.bold(&name(&group.title))));
        for finding in group.findings.iter().take(SHOWN) {
            out.push_str(&found(report, finding, style));
        }
        if group.findings.len() > SHOWN {
            let more = text::number(group.findings.len() - SHOWN);
            out.push_str(&format!("    and {more} more, in the report\n"));
        }
        if !group.next.is_empty() {
            // Not wrapped: it is there to be copied.
            out.push_str(&format!("    {} {}\n", style.bold("to do:"), text::cut(group.next, text::WORDS)));
        }
    }
    if !report.excepted.is_empty() {
        out.push_str(&format!("\n{}\n", style.bold("Excepted, because")));
    }
    for finding in report.excepted.iter().take(SHOWN) {
        let by = finding.excepted.as_deref().unwrap_or_default();
        let what = format!("{}: {}{}", name(&finding.system.0), name(&finding.account), credential(finding));
        out.push_str(&labelled(&format!("{what}:"), &text::cut(by, text::WORDS), 2));
    }
    if report.excepted.len() > SHOWN {
        out.push_str(&format!("  and {} more, in the report\n", text::number(report.excepted.len() - SHOWN)));
    }
    if !written.is_empty() {
        out.push_str(&format!("\n{}\n", style.bold("Report")));
        written.iter().for_each(|path| out.push_str(&format!("  {}\n", super::line(&path.to_string_lossy()))));
    }
    let run = name(&report.run.0);
    let command = format!("offboard report {run} --format csv");
    out + &format!("\n{}\n  {command:<36} {}\n", style.bold("Next"), style.dim("gives the list to a spreadsheet"))
}

fn found(report: &SweepReport, finding: &SweepFinding, style: &Style) -> String {
    let system = if finding.owner.is_empty() { String::new() } else { format!("{}: ", name(&finding.system.0)) };
    let mut marks = vec![kinds(&finding.ways)];
    marks.extend(finding.privileged.then(|| "privileged".to_string()));
    marks.retain(|mark| !mark.is_empty());
    let account = format!("{system}{}{}", name(&finding.account), credential(finding));
    let mut out = format!("    {account}  {}\n", style.dim(&marks.join(", ")));
    out.push_str(&wrapped(&text::cut(&finding.why, text::WORDS), 6));
    out + &wrapped(&format!("at {}", report.at(finding)), 6)
}

fn credential(finding: &SweepFinding) -> String {
    finding.credential.as_ref().map(|credential| format!(", key {}", name(credential))).unwrap_or_default()
}

fn unsaid(place: &PlaceLine, style: &Style) -> String {
    let at = format!("{}/{}", name(&place.system.0), name(&place.place));
    let mut out = String::new();
    if let Some(why) = &place.unreached {
        out.push_str(&labelled(&format!("{at}: not read:"), &text::cut(why, text::WORDS), 2));
        if let Some(hint) = &place.hint {
            out.push_str(&format!("    {} {}\n", style.bold("to do:"), text::cut(hint, text::WORDS)));
        }
    }
    if place.unknown > 0 {
        let unknown = usize::try_from(place.unknown).unwrap_or(usize::MAX);
        let what = format!("whether {} used is not known", are(unknown));
        let because = place.because.as_deref().map(|b| format!(": {}", text::cut(b, text::WORDS)));
        out.push_str(&labelled(&format!("{at}:"), &format!("{what}{}", because.unwrap_or_default()), 2));
    }
    for finding in &place.unread {
        out.push_str(&labelled(&format!("{at}:"), &text::cut(&finding.what, text::WORDS), 2));
        if !finding.hint.is_empty() {
            out.push_str(&labelled("to do:", &text::cut(&finding.hint, text::WORDS), 4));
        }
    }
    out
}

fn are(n: usize) -> String {
    if n == 1 { "1 account is".into() } else { format!("{} accounts are", text::number(n)) }
}

/// Every sweep, the newest first as given.
pub fn sweeps(sweeps: &[(RunId, SweepState)], style: &Style) -> String {
    let rows = sweeps.iter().map(|(id, state)| {
        let (stands, tone) = match state.verdict() {
            _ if state.ended.is_none() => ("not ended", Tone::Unproven),
            SweepVerdict::Clear => ("nothing found", Tone::Shut),
            SweepVerdict::Unproven => ("unproven", Tone::Unproven),
            SweepVerdict::Found => ("found", Tone::Open),
        };
        let requested = state.request.requested_at.to_zoned(style.zone.clone());
        vec![
            cell(&id.0),
            toned_cell(stands, tone, style),
            cell(&state.request.playbook),
            cell(&text::number(state.found().count())),
            cell(&requested.strftime("%-d %b %Y, %H:%M %Z").to_string()),
        ]
    });
    table(&["run", "stands", "sweep", "findings", "requested"], rows.collect())
}
