//! What needs a person, worst first: a journal that does not verify, open, stuck, unreached, unproven, not done yet, findings; then what was given up or given
//! back. The page and the terminal show the same list.

use super::Report;
use super::doors::{DoorLine, Word};
use super::rest::{StepLine, Unreached};
use super::text::{self, NAME, WORDS, count, cut, number};
use super::words::Tone;
use crate::model::{Action, Finding, FindingKind};
use std::collections::BTreeSet;

/// So many doors are named where they are told together; the table of doors has them all.
const SHOWN: usize = 4;

/// Something that needs a person. Every text in it is fit to be shown: clean, and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// How it is seen.
    pub tone: Tone,
    /// The state in a word.
    pub word: &'static str,
    /// What, a sentence without its full stop.
    pub what: String,
    /// What that means, sentences.
    pub means: String,
    /// The server's own words.
    pub words: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What needs a person, worst first.
pub(super) fn needs(report: &Report) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    if report.journal.problems > 0 {
        let problems = count(usize::try_from(report.journal.problems).unwrap_or(usize::MAX), "problem", "problems");
        needs.push(Need {
            tone: Tone::Open,
            word: "journal",
            what: format!("The journal does not verify: {problems}"),
            means: "Records were changed, removed or put in after they were signed. Nothing that this says can be believed until that is explained."
                .into(),
            words: None,
            hint: Some("offboard journal verify says what was changed; keep the file as evidence, and restore the last backup".into()),
        });
    }
    if report.scheduled.is_some() || report.cancelled.is_some() {
        return needs;
    }
    needs.extend(report.doors.iter().filter(|d| d.after == Word::Open).map(|d| open(report, d)));
    needs.extend(report.steps.iter().filter(|s| s.outcome == "stuck" && s.waived.is_none()).map(|s| stuck(report, s)));
    needs.extend(report.unreached.iter().filter(|u| u.waived.is_none()).map(unreached));
    needs.extend(unproven(report));
    if report.counts.accounts == 0 && report.ended.is_some() && report.secret.is_none() {
        needs.push(Need {
            tone: Tone::Unproven,
            word: "nothing found",
            what: "No account and no key of theirs was found anywhere".into(),
            means: "Somebody who can open nothing at all is more often somebody whom no rule matches.".into(),
            words: None,
            hint: Some(
                "check the person's user name and mail in the roster; map accounts under accounts: in offboard.yaml, then resume the run"
                    .into(),
            ),
        });
    }
    let waiting = |s: &&StepLine| s.waived.is_none() && matches!(s.outcome, "planned" | "started" | "failed");
    needs.extend(report.steps.iter().filter(waiting).map(|s| stuck(report, s)));
    needs.extend(report.steps.iter().filter(|s| s.is_asked()).map(|s| asked(report, s)));
    for (kind, word) in [
        (FindingKind::Ambiguous, "ambiguous"),
        (FindingKind::Unknown, "unknown"),
        (FindingKind::Suspicious, "suspicious"),
        (FindingKind::Configuration, "configuration"),
    ] {
        needs.extend(report.findings.iter().filter(|f| f.kind == kind).map(|f| finding(f, word)));
    }
    needs.extend(report.waived.iter().map(|w| Need {
        tone: Tone::Unproven,
        word: "waived",
        what: format!("Given up in writing: {}", cut(&w.what, NAME)),
        means: format!(
            "{} ({}) wrote on {}: “{}”",
            cut(&w.waiver.by.name, NAME),
            cut(&w.waiver.by.asserted_by, NAME),
            text::moment(w.waiver.at, report.reader_zone()),
            cut(&w.waiver.why, WORDS)
        ),
        words: None,
        hint: None,
    }));
    needs.extend(report.restored.iter().map(|g| Need {
        tone: Tone::Unproven,
        word: "given back",
        what: format!("Taken back: {}", cut(&g.what, NAME)),
        means: format!(
            "{} gave this access back on {}. {}",
            cut(&g.by.name, NAME),
            text::moment(g.at, report.reader_zone()),
            cut(&g.note, WORDS)
        ),
        words: None,
        hint: None,
    }));
    needs
}

fn open(report: &Report, door: &DoorLine) -> Need {
    let at = door.after_at.map(|at| text::moment(at, report.reader_zone())).unwrap_or_default();
    let means = match door.reopened {
        true => format!("It had been proved shut and opened again; seen on {at}."),
        false => format!("Seen on {at}. The change did not arrive, or something opened it again."),
    };
    Need {
        tone: Tone::Open,
        word: if door.reopened { "reopened" } else { "open" },
        what: format!("{} still opens: {}", cut(&door.place, NAME), described(door)),
        means,
        words: Some(cut(&door.reply, WORDS)),
        hint: Some(match door.action {
            Some(Action::Rotate) => format!(
                "offboard resume {} goes on with the rotation; where that is done, a new run (--anew) sets a new value.",
                cut(&report.run.0, 16)
            ),
            Some(_) => format!("offboard resume {} shuts it again.", cut(&report.run.0, 16)),
            None => format!(
                "offboard does not touch it: take it out by hand, then offboard verify {}.",
                cut(&report.run.0, 16)
            ),
        }),
    }
}

fn described(door: &DoorLine) -> String {
    let object = if door.object.is_empty() { String::new() } else { format!(" {}", cut(&door.object, NAME)) };
    format!("{}{object} of {}", door.kind, cut(&door.account, NAME))
}

fn stuck(report: &Report, step: &StepLine) -> Need {
    let is_stuck = step.outcome == "stuck";
    let tries = match (step.attempts, step.started_at) {
        (0, _) | (_, None) => "Not tried yet.".to_string(),
        (n, Some(at)) => {
            format!("Tried {}, last on {}.", count(n as usize, "time", "times"), text::moment(at, report.reader_zone()))
        }
    };
    Need {
        tone: if is_stuck { Tone::Stuck } else { Tone::Waiting },
        word: if is_stuck { "stuck" } else { "not done yet" },
        what: format!("{} {} on {} was not done", step.action, cut(&step.account, NAME), cut(&step.place, NAME)),
        means: tries,
        words: step.note.as_ref().map(|note| cut(note, WORDS)),
        hint: step.hint.as_ref().map(|hint| cut(hint, WORDS)),
    }
}

/// Something that a person is to do by hand.
fn asked(report: &Report, step: &StepLine) -> Need {
    let overdue = step.by_hand.as_ref().is_some_and(|by_hand| by_hand.overdue);
    let due = step.by_hand.as_ref().map(|by_hand| text::moment(by_hand.due, report.reader_zone())).unwrap_or_default();
    let was = if overdue { "was due" } else { "is due" };
    Need {
        tone: if overdue { Tone::Unproven } else { Tone::Waiting },
        word: if overdue { "overdue" } else { "by hand" },
        what: cut(&step.object, WORDS),
        means: format!("Asked of {}; it {was} by {due}.", cut(&step.account, NAME)),
        words: None,
        hint: Some(format!(
            "offboard done {} {} --evidence FILE, or --note TEXT",
            cut(&report.run.0, 16),
            cut(&step.id.0, 16)
        )),
    }
}

fn unreached(place: &Unreached) -> Need {
    let means = match place.reached_before {
        true => "It answered before, then no longer. What was not proved there until then is unproven.",
        false => "What is there was neither found nor shut. Treat it as open.",
    };
    Need {
        tone: Tone::Unproven,
        word: "unreached",
        what: format!("{} ({}) was not reached", cut(&place.place, NAME), cut(&place.system.0, NAME)),
        means: means.to_string(),
        words: Some(cut(&place.why, WORDS)),
        hint: place.hint.as_ref().map(|hint| cut(hint, WORDS)),
    }
}

/// Unproven doors, those of one system with the same reason together: an outage is one thing to look at, not a hundred.
fn unproven(report: &Report) -> Vec<Need> {
    let mut groups: Vec<Vec<&DoorLine>> = Vec::new();
    for door in report.doors.iter().filter(|d| d.after == Word::Unproven && d.waived.is_none()) {
        match groups.iter_mut().find(|g| g[0].system == door.system && g[0].reply == door.reply) {
            Some(group) => group.push(door),
            None => groups.push(vec![door]),
        }
    }
    groups.iter().map(|doors| unproven_together(doors)).collect()
}

fn unproven_together(doors: &[&DoorLine]) -> Need {
    let first = doors[0];
    let places: BTreeSet<&str> = doors.iter().map(|d| d.place.as_str()).collect();
    let whereabouts = match places.len() {
        1 => cut(&first.place, NAME),
        n => format!("{} of {}", count(n, "place", "places"), cut(&first.system.0, NAME)),
    };
    let mut which: Vec<String> = if places.len() == 1 {
        doors.iter().take(SHOWN).map(|d| described(d)).collect()
    } else {
        doors.iter().take(SHOWN).map(|d| format!("{} on {}", described(d), cut(&d.place, NAME))).collect()
    };
    if doors.len() > SHOWN {
        which.push(format!("{} more", number(doors.len() - SHOWN)));
    }
    let ways = count(doors.len(), "way in", "ways in");
    Need {
        tone: Tone::Unproven,
        word: "unproven",
        what: format!("We cannot say whether {ways} on {whereabouts} can still be used"),
        means: format!("Treat {} as open: {}.", if doors.len() == 1 { "it" } else { "them" }, which.join("; ")),
        words: Some(cut(&first.reply, WORDS)),
        hint: None,
    }
}

fn finding(finding: &Finding, word: &'static str) -> Need {
    let whereabouts: Vec<_> =
        finding.place.iter().map(|p| &p.0).chain(&finding.account).map(|w| cut(w, NAME)).collect();
    Need {
        tone: Tone::Unproven,
        word,
        what: cut(&finding.what, WORDS),
        means: if whereabouts.is_empty() { String::new() } else { format!("At {}.", whereabouts.join(", account ")) },
        words: None,
        hint: Some(cut(&finding.hint, WORDS)).filter(|hint| !hint.is_empty()),
    }
}
