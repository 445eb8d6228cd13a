//! The verdict in whole sentences: honest counts, worst first, and never more than was proved.

use super::doors::{DoorLine, Word};
use super::text::{count, cut, moment, number};
use super::{Report, rest};
use crate::model::{Owner, Proof, RunState, RunVerdict};
use jiff::Timestamp;
use serde::Serialize;

/// How a headline, a mark or a line is to be seen: word, mark and colour go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tone {
    /// Proved shut: quiet.
    Shut,
    /// Nobody can say.
    Unproven,
    /// A step failed to the last try.
    Stuck,
    /// It opens: loud.
    Open,
    /// Not over yet.
    Waiting,
}

impl std::fmt::Display for Tone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shut => "shut",
            Self::Unproven => "unproven",
            Self::Stuck => "stuck",
            Self::Open => "open",
            Self::Waiting => "waiting",
        })
    }
}

impl From<Word> for Tone {
    fn from(word: Word) -> Self {
        match word {
            Word::Shut => Self::Shut,
            Word::Unproven => Self::Unproven,
            Word::Open => Self::Open,
        }
    }
}

impl From<RunVerdict> for Tone {
    fn from(verdict: RunVerdict) -> Self {
        match verdict {
            RunVerdict::Shut => Self::Shut,
            RunVerdict::Unproven => Self::Unproven,
            RunVerdict::Stuck => Self::Stuck,
            RunVerdict::Open => Self::Open,
        }
    }
}

/// What the verdict counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Doors found.
    pub doors: usize,
    /// Of these, proved shut.
    pub shut: usize,
    /// Shut because the server itself refused.
    pub refused: usize,
    /// Shut by the server's own listing, with a control entry in it.
    pub read_back: usize,
    /// Neither shut nor known to be open.
    pub unproven: usize,
    /// Open.
    pub open: usize,
    /// Of the unproven, given up in writing.
    pub waived: usize,
    /// Doors that had been open before.
    pub open_before: usize,
    /// Systems of the configuration.
    pub systems: usize,
    /// Places of the configuration.
    pub places: usize,
    /// Of these, not reached or not read.
    pub unreached: usize,
    /// Accounts found.
    pub accounts: usize,
    /// Accounts that match more than one person; left alone.
    pub ambiguous: usize,
    /// Steps planned.
    pub steps: usize,
    /// Steps that failed to the last try and were not waived.
    pub stuck: usize,
    /// Steps that are neither done nor stuck nor waived.
    pub unfinished: usize,
    /// Manual steps that nobody has closed or given up. They are not among `steps`.
    pub asked: usize,
    /// Of these, overdue.
    pub overdue: usize,
}

impl Counts {
    pub(super) fn of(state: &RunState, doors: &[DoorLine], now: Timestamp) -> Self {
        let many = |wanted: fn(&DoorLine) -> bool| doors.iter().filter(|d| wanted(d)).count();
        let (by_hand, steps): (Vec<_>, Vec<_>) =
            rest::steps(state, &[], now).into_iter().partition(|s| s.by_hand.is_some());
        let left = |wanted: &[&str]| steps.iter().filter(|s| s.waived.is_none() && wanted.contains(&s.outcome)).count();
        let ambiguous = |(account, _): &&(crate::model::Account, _)| matches!(account.owner, Owner::Ambiguous { .. });
        Self {
            doors: doors.len(),
            shut: many(|d| d.after == Word::Shut),
            refused: many(|d| d.proof == Some(Proof::Refused)),
            read_back: many(|d| d.proof == Some(Proof::ReadBack)),
            unproven: many(|d| d.after == Word::Unproven),
            open: many(|d| d.after == Word::Open),
            waived: many(|d| d.after == Word::Unproven && d.waived.is_some()),
            open_before: many(|d| d.before == Word::Open),
            systems: state.places.values().map(|p| &p.place.system).collect::<std::collections::BTreeSet<_>>().len(),
            places: state.places.len(),
            unreached: state.places.values().filter(|p| p.reached_at.is_none() || p.unreached.is_some()).count(),
            accounts: state.accounts.len(),
            ambiguous: state.accounts.values().filter(ambiguous).count(),
            steps: steps.len(),
            stuck: left(&["stuck"]),
            unfinished: left(&["planned", "started", "failed"]),
            asked: by_hand.iter().filter(|s| s.is_asked()).count(),
            overdue: state.steps.iter().filter(|s| s.is_overdue(now)).count(),
        }
    }
}

/// The headline: what the run's verdict may be called without saying more than was proved. A run that only waivers hold back says so.
pub(super) fn headline(report: &Report) -> (Tone, &'static str) {
    let counts = &report.counts;
    let tone = Tone::from(report.verdict);
    if report.cancelled.is_some() {
        return (Tone::Waiting, "Cancelled");
    }
    if report.scheduled.is_some() {
        return (Tone::Waiting, "Scheduled");
    }
    match report.verdict {
        RunVerdict::Open => (tone, "Open"),
        RunVerdict::Stuck => (tone, "Stuck"),
        RunVerdict::Unproven | RunVerdict::Shut if !report.restored.is_empty() => {
            (Tone::Unproven, "Given back in part")
        }
        RunVerdict::Unproven if counts.doors == 0 && counts.unreached == 0 && report.ended.is_some() => {
            (tone, "Nothing found")
        }
        RunVerdict::Unproven if report.settled => (tone, "Shut, except what was waived"),
        RunVerdict::Unproven if counts.asked > 0 && !report.resumable => {
            let waived = counts.unproven + counts.unreached > 0;
            (tone, if waived { "Shut, except what was waived and work by hand" } else { "Shut, except work by hand" })
        }
        RunVerdict::Unproven => (tone, "Unproven"),
        RunVerdict::Shut if report.secret.is_some() => (tone, "Rotated"),
        RunVerdict::Shut => (tone, "Shut"),
    }
}

/// The verdict in sentences, without the headline.
pub(super) fn summary(report: &Report) -> String {
    let counts = &report.counts;
    if let Some(said) = not_begun(report) {
        return said;
    }
    let mut said = vec![doors(report)];
    if counts.open > 0 {
        let first = report.doors.iter().find(|d| d.after == Word::Open);
        let first = first.map(|d| format!("{} of {} on {}", d.kind, cut(&d.account, 60), cut(&d.place, 60)));
        let first = first.unwrap_or_default();
        said.push(match counts.open {
            1 => format!("1 still opens: {first}."),
            n => format!("{} still open, the first: {first}.", number(n)),
        });
    }
    if counts.stuck > 0 {
        said.push(format!("{} failed to the last try.", count(counts.stuck, "step", "steps")));
    }
    if counts.unfinished > 0 {
        let (verb, n) = if counts.unfinished == 1 { ("is", 1) } else { ("are", counts.unfinished) };
        said.push(format!("{} {verb} not done yet.", count(n, "step", "steps")));
    }
    if counts.unproven > 0 {
        let first = report.doors.iter().find(|d| d.after == Word::Unproven);
        let why = first.map(|d| cut(&d.reply, 120)).unwrap_or_default();
        said.push(match counts.unproven {
            1 => format!("1 is unproven: {}", sentence(&why)),
            n => format!("{} are unproven, the first because: {}", number(n), sentence(&why)),
        });
        if counts.waived > 0 {
            said.push(format!("Of these, {} waived in writing.", was(counts.waived)));
        }
    }
    if counts.unreached > 0 {
        let names: Vec<_> = report.unreached.iter().take(3).map(|u| cut(&u.place, 60)).collect();
        let more = if counts.unreached > 3 { " and others" } else { "" };
        said.push(format!(
            "{} of {} {} not reached: {}{more}.",
            number(counts.unreached),
            count(counts.places, "place", "places"),
            if counts.unreached == 1 { "was" } else { "were" },
            names.join(", ")
        ));
    }
    if counts.ambiguous > 0 {
        let matches = if counts.ambiguous == 1 { "account matches" } else { "accounts match" };
        said.push(format!("{} {matches} more than one person and nothing was done to it.", number(counts.ambiguous)));
    }
    if counts.asked > 0 {
        let (verb, them) = if counts.asked == 1 { ("is", "it") } else { ("are", "all of them") };
        let overdue = match counts.overdue {
            0 => String::new(),
            n if n == counts.asked && n == 1 => " and is overdue".to_string(),
            n => format!("; {} overdue", number(n)),
        };
        let what = count(counts.asked, "manual step", "manual steps");
        said.push(format!(
            "{what} {verb} to be closed{overdue}: the run is unproven until somebody says that {them} was done."
        ));
    }
    if counts.open == 0 && report.verdict != RunVerdict::Shut && report.access != RunVerdict::Shut {
        said.push("None is known to be open.".to_string());
    }
    said.extend(residual(report));
    if !report.restored.is_empty() {
        said.push(format!("{} taken back: that access was given back on purpose.", steps_were(report.restored.len())));
    }
    if report.ended.is_none() {
        said.push("The run has not ended.".to_string());
    }
    said.join(" ")
}

/// Of a run that waits, or that was cancelled before it began. Whatever was seen of it until then, nothing was done.
fn not_begun(report: &Report) -> Option<String> {
    let counts = &report.counts;
    let seen = match counts.doors {
        0 => String::new(),
        n => format!(
            " {} known from a look beforehand.",
            if n == 1 { "1 way in is".into() } else { format!("{} ways in are", number(n)) }
        ),
    };
    if let Some(cancelled) = &report.cancelled {
        let (by, vouched) = (cut(&cancelled.by.name, 60), cut(&cancelled.by.asserted_by, 60));
        let at = moment(cancelled.at, report.reader_zone());
        let why = sentence(&cut(&cancelled.why, 200));
        return Some(format!("Nothing was done: {by} ({vouched}) cancelled the run on {at}: {why}{seen}"));
    }
    let due = report.scheduled?;
    Some(format!("Nothing is done until {}.{seen}", moment(due, report.reader_zone())))
}

fn doors(report: &Report) -> String {
    let counts = &report.counts;
    let how = match (counts.refused, counts.read_back) {
        (0, 0) => ".".to_string(),
        (refused, 0) => format!(": {} by the server.", if refused == 1 { "refused" } else { "each refused" }),
        (0, _) => ": read back from the server's own listing.".to_string(),
        (refused, read) => format!(": {} refused by the server, {} read back.", number(refused), number(read)),
    };
    let found = if counts.unreached > 0 { " that were found" } else { "" };
    if report.secret.is_some() {
        return match (counts.doors, counts.shut) {
            (0, _) => "Nothing was rotated.".to_string(),
            (1, 1) => format!("The old value is dead{how}"),
            (all, shut) if all == shut => format!("All {} old values are dead{how}", number(all)),
            (1, _) => "The old value is not proved dead.".to_string(),
            (all, shut) => format!("{} of {} old values are proved dead.", number(shut), number(all)),
        };
    }
    match (counts.doors, counts.shut) {
        (0, _) if counts.unreached == 0 => {
            format!("No way in was found at {}.", count(counts.places, "place", "places"))
        }
        (0, _) => "No way in was found where it could be looked for.".to_string(),
        (1, 1) if counts.unreached == 0 => format!("The one way in is shut{how}"),
        (1, 1) => format!("The one way in that was found is shut{how}"),
        (all, shut) if all == shut => format!("All {} ways in{found} are shut{how}", number(all)),
        (all, 0) => format!("None of {} is proved shut.", count(all, "way in", "ways in")),
        (all, shut) => {
            format!(
                "{} of {} ways in{found} {} shut{how}",
                number(shut),
                number(all),
                if shut == 1 { "is" } else { "are" }
            )
        }
    }
}

fn residual(report: &Report) -> Option<String> {
    let left: Vec<_> = report.doors.iter().filter_map(|d| d.residual.as_ref()).collect();
    let first = left.first()?;
    let what = cut(&first.what, 120);
    Some(match (left.iter().any(|r| r.until.is_none()), left.iter().filter_map(|r| r.until).max()) {
        (false, Some(until)) if until <= report.made_at => {
            format!("What outlived its door ended at {}.", moment(until, report.reader_zone()))
        }
        (false, Some(until)) if left.len() == 1 => {
            format!("{what} may work until {}.", moment(until, report.reader_zone()))
        }
        (false, Some(until)) => {
            format!("{} may work on, the last until {}.", number(left.len()), moment(until, report.reader_zone()))
        }
        _ => format!("{what} may work on; nobody knows how long."),
    })
}

fn was(n: usize) -> String {
    if n == 1 { "1 was".into() } else { format!("{} were", number(n)) }
}

fn steps_were(n: usize) -> String {
    if n == 1 { "1 step was".into() } else { format!("{} steps were", number(n)) }
}

/// `text` with a full stop.
fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?', ')']) { text.to_string() } else { format!("{text}.") }
}
