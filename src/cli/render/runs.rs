//! How runs stand: the verdict first, then what needs a person, then where, the clocks, and what to do next.

use super::{Style, cell, labelled, name, table, toned_cell, wrapped};
use crate::engine::Undone;
use crate::model::{
    Evidence, Finding, FindingKind, Person, RunId, RunState, RunVerdict, StepId, StepState, Subject, Verdict,
};
use crate::report::{Report, Tone, text};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};

/// The end of a run. `written` are the reports that were written.
pub fn summary(report: &Report, written: &[PathBuf], style: &Style) -> String {
    let mut out = standing(report, style);
    if !written.is_empty() {
        out.push_str(&format!("\n{}\n", style.bold("Report")));
        written.iter().for_each(|path| out.push_str(&format!("  {}\n", super::line(&path.to_string_lossy()))));
    }
    out + &next(report, style)
}

/// Where a run stands now: as [`summary`], and how far its steps are.
pub fn status(report: &Report, style: &Style) -> String {
    let counts = &report.counts;
    let done = report.steps.iter().filter(|s| s.by_hand.is_none() && s.done_at.is_some()).count();
    let steps = format!("{} of {} done", text::number(done), text::count(counts.steps, "step", "steps"));
    let as_of = format!("{steps}; as of {}.", text::moment(report.made_at, &style.zone));
    standing(report, style) + "\n" + &wrapped(&as_of, 0) + &next(report, style)
}

fn standing(report: &Report, style: &Style) -> String {
    let (tone, headline) = report.headline();
    let mut out = format!(
        "{}: {}{}, run {}\n",
        style.toned(tone, headline),
        style.bold(&report.title()),
        report.person.as_ref().map(|person| format!(" ({})", name(&person.id.0))).unwrap_or_default(),
        name(&report.run.0)
    );
    out.push_str(&wrapped(&report.summary, 2));
    if report.scheduled.is_some() || report.cancelled.is_some() {
        return out;
    }
    let needs = report.needs();
    if !needs.is_empty() {
        out.push_str(&format!("\n{}\n", style.bold("Needs a person")));
    }
    for need in needs {
        let plain = labelled(&format!("{}:", need.word), &need.what, 2);
        out.push_str(&plain.replacen(need.word, &style.toned(need.tone, need.word), 1));
        if !need.means.is_empty() {
            out.push_str(&wrapped(&need.means, 4));
        }
        if let Some(words) = need.words {
            out.push_str(&labelled("said:", &words, 4));
        }
        // Not wrapped: it is there to be copied.
        if let Some(hint) = need.hint {
            out.push_str(&format!("    {} {hint}\n", style.bold("to do:")));
        }
    }
    out.push_str(&closed_by_hand(report, style));
    let left: Vec<_> = report.findings.iter().filter(|f| is_left(f)).collect();
    if !left.is_empty() {
        out.push_str(&format!("\n{}\n", style.bold("Left alone, or not covered")));
    }
    for finding in left {
        let place = finding.place.as_ref().map(|p| format!("{}: ", name(&p.0))).unwrap_or_default();
        out.push_str(&wrapped(&format!("{place}{}", text::cut(&finding.what, text::WORDS)), 2));
        if !finding.hint.is_empty() {
            out.push_str(&labelled("to do:", &text::cut(&finding.hint, text::WORDS), 4));
        }
    }
    let tables = [("Where", systems(report, style)), ("Clocks", clocks(report, style))];
    for (title, body) in tables.into_iter().filter(|(_, body)| !body.is_empty()) {
        out.push_str(&format!("\n{}\n", style.bold(title)));
        body.lines().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
    out
}

/// Manual steps that somebody says are done, and what shows it.
fn closed_by_hand(report: &Report, style: &Style) -> String {
    let mut out = String::new();
    for step in &report.steps {
        let Some(closed) = step.by_hand.as_ref().and_then(|by_hand| by_hand.closed.as_ref()) else { continue };
        out.push_str(&wrapped(&text::cut(&step.object, text::WORDS), 2));
        let when = text::moment(closed.at, &style.zone);
        out.push_str(&wrapped(
            &format!("asked of {}; done, says {}, {when}", name(&step.account), name(&closed.by.name)),
            4,
        ));
        if let Some(note) = &closed.note {
            out.push_str(&labelled("note:", &text::cut(note, text::WORDS), 4));
        }
        if let Some(file) = &closed.evidence {
            out.push_str(&labelled("evidence:", &evidence(file), 4));
        }
    }
    if out.is_empty() { out } else { format!("\n{}\n{out}", style.bold("Done by hand")) }
}

fn evidence(file: &Evidence) -> String {
    let size = text::count(usize::try_from(file.size).unwrap_or(usize::MAX), "byte", "bytes");
    format!("{}, {size}, SHA-256 {}", name(&file.name), name(&file.sha256.0))
}

/// What `done` has closed, and how many manual steps are `left`.
pub fn closed(run: &RunId, step: &StepId, file: Option<&Evidence>, left: usize, verdict: RunVerdict) -> String {
    let mut out = format!("Closed: {}.\n", name(&step.0));
    if let Some(file) = file {
        out.push_str(&labelled("evidence:", &evidence(file), 2));
    }
    if left > 0 {
        out.push_str(&format!(
            "{} left in run {}.\n",
            text::count(left, "manual step is", "manual steps are"),
            name(&run.0)
        ));
    }
    out + &format!("The run is now {verdict}.\n")
}

/// What holds no run back, but should be known to whoever reads that it is shut.
fn is_left(finding: &Finding) -> bool {
    matches!(finding.kind, FindingKind::Protected | FindingKind::NotCovered)
}

fn systems(report: &Report, style: &Style) -> String {
    let rows = report.clocks.systems.iter().map(|s| {
        let number = |n: usize, tone| match n {
            0 => toned_cell("0", Tone::Waiting, style),
            n => toned_cell(&text::number(n), tone, style),
        };
        let contained = match (s.contained, s.doors + s.unreached) {
            (Some(at), _) => format!("after {}", since(report, at)),
            (None, 0) => "nothing found".into(),
            (None, _) => "not proved".into(),
        };
        let read = match s.unreached {
            0 => text::number(s.places),
            n => format!("{} of {}", text::number(s.places - n), text::number(s.places)),
        };
        vec![
            cell(&s.system.0),
            cell(&read),
            number(s.refused, Tone::Shut),
            number(s.read_back, Tone::Shut),
            number(s.unproven, Tone::Unproven),
            number(s.open, Tone::Open),
            cell(&contained),
        ]
    });
    table(&["system", "places read", "refused", "read back", "unproven", "open", "contained"], rows.collect())
}

fn since(report: &Report, at: jiff::Timestamp) -> String {
    let seconds = crate::report::whole_seconds(report.clocks.from, at);
    if seconds < 0 { format!("{} before", text::span(seconds)) } else { text::span(seconds) }
}

fn clocks(report: &Report, style: &Style) -> String {
    let c = &report.clocks;
    let rows = [
        ("employment ends", None, c.hr_effective, "HR gave no end"),
        ("requested", None, Some(c.requested), ""),
        ("contained", Some("contained"), c.contained, "not proved"),
        ("sessions ended", Some("sessions_ended"), c.sessions_ended, "not proved"),
        ("proved shut", Some("proved"), c.proved, "not yet"),
        ("last possible access", Some("last_possible_access"), c.last_possible_access, "not known"),
    ];
    let mut out = String::new();
    // Where nobody leaves, no employment ends.
    for (title, clock, at, otherwise) in rows.into_iter().skip(usize::from(report.person.is_none())) {
        let shown = at.map_or_else(|| otherwise.to_string(), |at| text::moment(at, &style.zone));
        out.push_str(&format!("{title:<21} {shown}\n"));
        for limit in c.limits.iter().filter(|l| clock.is_some() && l.clock == clock) {
            let tone = match limit.met {
                crate::report::Met::Breached => Tone::Open,
                crate::report::Met::Kept => Tone::Shut,
                _ => Tone::Waiting,
            };
            let told = format!("limit {}: {}", text::span(limit.seconds), limit.result());
            out.push_str(&format!("{:<21} {}\n", "", style.toned(tone, &told)));
        }
    }
    out
}

fn next(report: &Report, style: &Style) -> String {
    let run = name(&report.run.0);
    let mut next = Vec::new();
    if report.scheduled.is_some() {
        next.push((format!("offboard reschedule {run} --at TIME"), "another hour; `now` begins it at once"));
        next.push((format!("offboard cancel {run} --why …"), "not at all"));
        return listed(next, style);
    }
    if report.cancelled.is_some() {
        return String::new();
    }
    if let Some(step) = report.steps.iter().find(|s| s.is_asked()) {
        next.push((format!("offboard done {run} {} --evidence FILE", name(&step.id.0)), "closes a manual step"));
    }
    if report.resumable {
        next.push((format!("offboard resume {run}"), "goes on with what is not shut"));
    }
    if report.counts.stuck + report.counts.unreached > 0 {
        next.push((format!("offboard waive {run} TARGET --why …"), "gives a step or a place up, in writing"));
        for place in report.unreached.iter().filter(|u| u.waived.is_none()) {
            next.push((format!("  TARGET {}", name(&place.place_id.0)), ""));
        }
        for step in report.steps.iter().filter(|s| s.outcome == "stuck" && s.waived.is_none()) {
            next.push((format!("  TARGET {}", name(&step.id.0)), ""));
        }
    }
    next.push((format!("offboard verify {run}"), "looks at every door again"));
    next.push((format!("offboard report {run}"), "writes the evidence"));
    listed(next, style)
}

fn listed(next: Vec<(String, &str)>, style: &Style) -> String {
    let mut out = format!("\n{}\n", style.bold("Next"));
    for (command, why) in next {
        out.push_str(format!("  {command:<36} {}", style.dim(why)).trim_end());
        out.push('\n');
    }
    out
}

/// Every run as of `now`, the newest first as given.
pub fn list(runs: &[(RunId, RunState)], now: jiff::Timestamp, style: &Style) -> String {
    if runs.is_empty() {
        return "No run to show.\n".into();
    }
    let rows = runs.iter().map(|(id, state)| {
        let verdict = state.verdict();
        let requested = state.request.requested_at.to_zoned(style.zone.clone());
        let shut = |d: &&crate::model::DoorState| {
            matches!(d.after.as_ref().map(|(_, l)| &l.verdict), Some(Verdict::Shut { .. }))
        };
        let doors = format!(
            "{} of {}",
            text::number(state.doors.values().filter(shut).count()),
            text::number(state.doors.len())
        );
        let (stands, tone) = match (state.waits_until(), &state.cancelled, state.ended) {
            (Some(at), ..) => {
                let at = at.to_zoned(style.zone.clone()).strftime("%-d %b %Y, %H:%M %Z");
                (format!("waits until {at}"), Tone::Waiting)
            }
            (_, Some(_), _) => ("cancelled".to_string(), Tone::Waiting),
            (.., Some(_)) => (verdict.to_string(), Tone::from(verdict)),
            (.., None) => ("not ended".to_string(), Tone::Unproven),
        };
        vec![
            cell(&id.0),
            toned_cell(&stands, tone, style),
            cell(&about(&state.request.subject)),
            cell(&doors),
            cell(&requested.strftime("%-d %b %Y, %H:%M %Z").to_string()),
        ]
    });
    // Where nobody is asked for anything, the column would stand empty.
    if !runs.iter().any(|(_, state)| state.steps.iter().any(|s| s.step.is_by_hand())) {
        return table(&["run", "stands", "person", "shut", "requested"], rows.collect());
    }
    let rows = rows.zip(runs).map(|(mut row, (_, state))| {
        row.insert(4, by_hand(state, now, style));
        row
    });
    table(&["run", "stands", "person", "shut", "by hand", "requested"], rows.collect())
}

/// Whom or what a run is about.
pub fn about(subject: &Subject) -> String {
    match subject {
        Subject::Person(person) => format!("{} ({})", name(&person.name), name(&person.id.0)),
        Subject::Secret(asked) => format!("secret {}", name(&asked.name.0)),
    }
}

/// How the manual steps of a run stand.
fn by_hand(state: &RunState, now: jiff::Timestamp, style: &Style) -> comfy_table::Cell {
    let many = |wanted: &dyn Fn(&StepState) -> bool| state.steps.iter().filter(|s| wanted(s)).count();
    match (many(&|s| s.step.is_by_hand()), many(&StepState::is_asked), many(&|s| s.is_overdue(now))) {
        (0, ..) => cell(""),
        (_, 0, _) => cell("done"),
        (_, open, 0) => cell(&format!("{} to do", text::number(open))),
        (.., overdue) => toned_cell(&format!("{} overdue", text::number(overdue)), Tone::Unproven, style),
    }
}

/// What restore gave back. The one-time passwords stand in the file `passwords` and nowhere else.
pub fn restored(undone: &[Undone], passwords: &Path, style: &Style) -> String {
    if undone.is_empty() {
        return "Nothing to give back.\n".into();
    }
    let mut out = String::new();
    for undo in undone {
        let what = format!("{} {} at {}", undo.step.action, name(&undo.step.account), name(&undo.step.place.0));
        match &undo.result {
            Ok(given) => {
                out.push_str(&format!("{} {what}\n", style.bold("taken back:")));
                out.push_str(&wrapped(&text::cut(&given.note, text::WORDS), 2));
            }
            Err(problem) => {
                out.push_str(&format!("{} {what}\n", style.toned(Tone::Stuck, "not taken back:")));
                let told = super::fault(problem, style);
                out.push_str(&format!("  {}\n", told.trim_end().replace('\n', "\n  ")));
            }
        }
    }
    let once = undone.iter().filter(|u| matches!(&u.result, Ok(given) if given.one_time_password.is_some())).count();
    if once > 0 {
        let count = text::count(once, "one-time password", "one-time passwords");
        out.push_str(&format!("\n{count} in {}\n", super::line(&passwords.to_string_lossy())));
        out.push_str("Hand them over, then delete the file. Old passwords and keys stay dead.\n");
    }
    out
}

/// A run that waits for its hour.
pub fn scheduled(run: &RunId, person: Option<&Person>, due: Option<Timestamp>, style: &Style) -> String {
    let who = person.map(|p| format!("{} ({})", name(&p.name), name(&p.id.0))).unwrap_or_default();
    let Some((person, due)) = person.zip(due) else {
        return format!("{}: run {}, {who}. It begins at once.\n", style.bold("Scheduled"), name(&run.0));
    };
    let mut out = format!("{}: run {}, {who}, {}.\n", style.bold("Scheduled"), name(&run.0), hour(due, person, style));
    for (command, why) in [
        (format!("offboard reschedule {run} --at TIME"), "another hour"),
        (format!("offboard cancel {run} --why …"), "not at all"),
    ] {
        out.push_str(&format!("  {command:<36} {}\n", style.dim(why)));
    }
    out
}

/// An hour for people: in the person's own zone, and in UTC.
pub fn hour(at: Timestamp, person: &Person, style: &Style) -> String {
    let own = person.zone.as_deref().and_then(|zone| TimeZone::get(zone).ok());
    format!("at {}", text::moment(at, own.as_ref().unwrap_or(&style.zone)))
}
