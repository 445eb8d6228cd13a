//! How a run stands: its report, doors that are open, steps that are stuck.

use super::{Told, attached};
use crate::model::{Event, Fault, LookAt, MailAddress, RunVerdict, Verdict, short_id};
use crate::notify::Item;
use crate::report::{Need, Word, text};
use crate::store::Mail;
use std::collections::BTreeMap;

/// The report: when the work has first ended, and whenever it ended otherwise than the time before. A look that finds everything as it was
/// is no news.
pub(super) fn report(told: &Told<'_>) -> Result<Option<Mail>, Fault> {
    let Some(seq) = last_change(told) else { return Ok(None) };
    let report = told.report;
    let (_, headline) = report.headline();
    let mut letter = told.letter(headline.to_lowercase(), format!("{headline}: {}, run {}", told.person(), told.run()));
    let zone = report.reader_zone();
    letter.paragraphs.push(report.summary.clone());
    let contained = match report.clocks.contained {
        at if report.secret.is_some() => {
            let done = |at| format!("Rotated on {}.", text::moment(at, zone));
            at.map_or_else(|| "The rotation is not done.".into(), done)
        }
        Some(at) => format!("Contained on {}.", text::moment(at, zone)),
        None => "Containment is not proved.".to_string(),
    };
    let asked = format!(
        "Asked for by {} on {}, playbook {}.",
        report.requested_by.name,
        text::moment(report.clocks.requested, zone),
        report.playbook
    );
    letter.paragraphs.push(format!("{contained} {asked}"));
    let (said, attachments) = attached(told.attachments.clone(), &format!("offboard report {}", told.run()));
    letter.paragraphs.extend(said);
    letter.attachments = attachments;
    letter.items = report.needs().into_iter().map(item).collect();
    mail(told, letter, &format!("report-{seq}"))
}

/// Doors that are known to be open. One that was shut in between is told again.
pub(super) fn open(told: &Told<'_>) -> Result<Option<Mail>, Fault> {
    let open: Vec<_> = told.report.doors.iter().filter(|door| door.after == Word::Open).collect();
    if open.is_empty() || told.report.ended.is_none() {
        return Ok(None);
    }
    let since = open_since(told);
    let mut names: Vec<String> =
        open.iter().map(|d| format!("{} {}", d.id, since.get(d.id.0.as_str()).copied().unwrap_or_default())).collect();
    names.sort();
    let is = if open.len() == 1 { "is" } else { "are" };
    let subject = format!("{} {is} open", text::count(open.len(), "way in", "ways in"));
    let mut letter = told.letter(subject.clone(), format!("{subject}: {}, run {}", told.person(), told.run()));
    let means = match told.report.secret {
        Some(_) => "The value that was to be dead still gets in. Treat it as urgent.",
        None => "Somebody who has left can still get in. Treat it as urgent.",
    };
    letter.paragraphs.push(means.into());
    letter.items = needs(told, &["open", "reopened"]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    mail(told, letter, &format!("open-{}", short_id(&names)))
}

/// Steps that have failed to the last try.
pub(super) fn stuck(told: &Told<'_>) -> Result<Option<Mail>, Fault> {
    let stuck: Vec<_> = told.report.steps.iter().filter(|s| s.outcome == "stuck" && s.waived.is_none()).collect();
    if stuck.is_empty() || told.report.ended.is_none() {
        return Ok(None);
    }
    let mut names: Vec<&str> = stuck.iter().map(|s| s.id.0.as_str()).collect();
    names.sort_unstable();
    let is = if stuck.len() == 1 { "is" } else { "are" };
    let subject = format!("{} {is} stuck", text::count(stuck.len(), "step", "steps"));
    let mut letter = told.letter(subject.clone(), format!("{subject}: {}, run {}", told.person(), told.run()));
    letter
        .paragraphs
        .push("Tried until the playbook's deadline, and not done. What it was meant to shut may be open.".into());
    letter.items = needs(told, &["stuck"]);
    mail(told, letter, &format!("stuck-{}", short_id(&names)))
}

fn mail(told: &Told<'_>, letter: crate::notify::Letter, occasion: &str) -> Result<Option<Mail>, Fault> {
    let to: Vec<MailAddress> = told.but_the_leaver(told.to.iter().cloned());
    letter.into_mail(told.run(), occasion, to).map(Some)
}

fn needs(told: &Told<'_>, words: &[&str]) -> Vec<Item> {
    told.report.needs().into_iter().filter(|need| words.contains(&need.word)).map(item).collect()
}

fn item(need: Need) -> Item {
    let mut lines: Vec<String> = Vec::new();
    if !need.means.is_empty() {
        lines.push(need.means);
    }
    lines.extend(need.words.map(|words| format!("said: {words}")));
    Item { title: format!("{}: {}", need.word, need.what), lines, to_do: need.hint }
}

/// The record at which the run last ended in another way than before.
fn last_change(told: &Told<'_>) -> Option<u64> {
    let mut last: Option<(u64, RunVerdict)> = None;
    for record in told.records {
        if let Event::Ended { verdict } = record.event
            && last.is_none_or(|(_, before)| before != verdict)
        {
            last = Some((record.seq, verdict));
        }
    }
    last.map(|(seq, _)| seq).filter(|_| told.report.ended.is_some())
}

/// Since which record each door has been seen open at every look after the steps.
fn open_since<'a>(told: &'a Told<'_>) -> BTreeMap<&'a str, u64> {
    let mut since = BTreeMap::new();
    for record in told.records {
        let Event::Looked { door, at: LookAt::After, look } = &record.event else { continue };
        match look.verdict {
            Verdict::Open { .. } => {
                since.entry(door.0.as_str()).or_insert(record.seq);
            }
            Verdict::Shut { .. } => {
                since.remove(door.0.as_str());
            }
            Verdict::Unproven { .. } => {}
        }
    }
    since
}
