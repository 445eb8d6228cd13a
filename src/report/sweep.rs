//! The report of a sweep: what is found, what is excepted, what nobody can say. Made from the journal alone, as HTML for people, JSON for
//! programs and CSV for spreadsheets.

use super::html::{CSS, plain, policy};
use super::text::{self, NAME, WORDS, count, cut, in_fours, number};
use super::{Journal, Paper, Tone, rest};
use crate::model::{
    Actor, DoorKind, Finding, InputDigest, Record, RunId, SweepFinding, SweepKind, SweepPlace, SweepState,
    SweepVerdict, SystemName, WorkerStatus,
};
use askama::Template;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that the report of a sweep shows, computed once. Serialized, it is the JSON report; the names of its fields are part of the
/// interface.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    /// The run.
    pub run: RunId,
    /// Tells the reports of the two kinds of runs apart.
    pub sweep: bool,
    /// The company.
    pub company: String,
    /// When this report was made.
    pub made_at: Timestamp,
    /// The reader's zone, an IANA name; times in the JSON are UTC.
    pub zone: String,
    /// The version of offboard that the sweep was started with.
    pub version: String,
    /// The playbook's name.
    pub playbook: String,
    /// What the sweep comes to.
    pub verdict: SweepVerdict,
    /// The verdict in whole sentences, with its counts.
    pub summary: String,
    /// Which limits are passed: then nothing may act on the findings.
    pub over_limit: Option<String>,
    /// The counts behind the verdict.
    pub counts: SweepCounts,
    /// Who asked, and who vouches for that.
    pub requested_by: Actor,
    /// When.
    pub requested_at: Timestamp,
    /// When work began.
    pub started: Option<Timestamp>,
    /// When every place had been read, or could not be; nothing if the sweep was cut off, or goes on.
    pub ended: Option<Timestamp>,
    /// What is found.
    pub findings: Vec<SweepFinding>,
    /// What is found, but excepted; each with the reason.
    pub excepted: Vec<SweepFinding>,
    /// Every place that was asked.
    pub places: Vec<PlaceLine>,
    /// The files that the sweep was started with.
    pub inputs: Vec<InputDigest>,
    /// Reports that were written before this one.
    pub written: Vec<rest::Written>,
    /// What the journal says of itself.
    pub journal: Journal,
    #[serde(skip)]
    what_for: String,
    #[serde(skip)]
    reader: TimeZone,
}

/// What the verdict counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepCounts {
    /// Findings; the same account of one system counts once.
    pub findings: usize,
    /// Of these, lingering.
    pub lingering: usize,
    /// Of these, orphans.
    pub orphan: usize,
    /// Of these, what matches several people.
    pub ambiguous: usize,
    /// Of these, dormant.
    pub dormant: usize,
    /// Accounts found, each place counting: what the limits are measured by.
    pub accounts: usize,
    /// Found, but excepted.
    pub excepted: usize,
    /// Accounts that were seen, each place counting.
    pub seen: u64,
    /// Accounts of which nobody can say whether they are used.
    pub unknown: u64,
    /// Places that were asked.
    pub places: usize,
    /// Of these, not read.
    pub unreached: usize,
}

/// One place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlaceLine {
    /// The system.
    pub system: SystemName,
    /// The place as people name it.
    pub place: String,
    /// Accounts that it listed.
    pub accounts: u64,
    /// Of these, the ones that can be entered.
    pub open: u64,
    /// Of these, the ones of which nobody can say whether they are used.
    pub unknown: u64,
    /// Why not.
    pub because: Option<String>,
    /// Why the place could not be read.
    pub unreached: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What could not be read there.
    pub unread: Vec<Finding>,
}

impl PlaceLine {
    fn new(known: &SweepPlace) -> Self {
        let seen = known.seen.clone().unwrap_or_default();
        let fault = known.unreached.as_ref();
        let unreached = match (&known.seen, fault) {
            (Some(_), _) => None,
            (None, Some(fault)) => Some(fault.to_string()),
            (None, None) => Some("not read to its end".into()),
        };
        Self {
            system: known.place.system.clone(),
            place: known.place.address.clone(),
            accounts: seen.accounts,
            open: seen.open,
            unknown: seen.unknown,
            because: seen.because,
            hint: fault.and_then(|f| f.hint.clone()).filter(|_| unreached.is_some()),
            unreached,
            unread: seen.unread,
        }
    }
}

/// Findings that belong together: of one owner, or of one system where nobody owns them.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Why they are found.
    pub kind: SweepKind,
    /// Whose, or where.
    pub title: String,
    /// What to do about all of them.
    pub next: &'a str,
    /// Which.
    pub findings: Vec<&'a SweepFinding>,
}

impl SweepReport {
    /// The report on one sweep, whose `records` fold to `state`.
    pub fn new(
        run: &RunId,
        state: SweepState,
        records: &[Record],
        journal: Journal,
        company: &str,
        made_at: Timestamp,
        zone: &TimeZone,
    ) -> Self {
        let many = |kind| state.found().filter(|f| f.kind == kind).count();
        let seen = || state.places.values().filter_map(|p| p.seen.as_ref());
        let counts = SweepCounts {
            findings: state.found().count(),
            lingering: many(SweepKind::Lingering),
            orphan: many(SweepKind::Orphan),
            ambiguous: many(SweepKind::Ambiguous),
            dormant: many(SweepKind::Dormant),
            accounts: SweepState::accounts_of(state.found()),
            excepted: state.excepted().count(),
            seen: seen().map(|s| s.accounts).sum(),
            unknown: seen().map(|s| s.unknown).sum(),
            places: state.places.len(),
            unreached: state.places.values().filter(|p| p.seen.is_none()).count(),
        };
        let known = |place: &crate::model::Place| state.places.get(&place.id);
        let mut report = Self {
            run: run.clone(),
            sweep: true,
            company: company.to_string(),
            made_at,
            zone: zone.iana_name().unwrap_or("UTC").to_string(),
            version: state.request.version.clone(),
            playbook: state.request.playbook.clone(),
            verdict: state.verdict(),
            summary: String::new(),
            over_limit: state.over_limit.clone(),
            counts,
            requested_by: state.request.requested_by.clone(),
            requested_at: state.request.requested_at,
            started: state.started,
            ended: state.ended,
            findings: state.found().cloned().collect(),
            excepted: state.excepted().cloned().collect(),
            places: state.request.places.iter().filter_map(known).map(PlaceLine::new).collect(),
            inputs: state.request.inputs.clone(),
            written: rest::written(records),
            journal,
            what_for: state.request.summary.clone(),
            reader: zone.clone(),
        };
        report.summary = summary(&report);
        report
    }

    /// The report as JSON: the fields of this struct. Text of servers and users is exactly as the journal has it.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// [`SweepReport::json`] as text that is safe to show on a terminal.
    pub fn json_text(&self) -> String {
        super::terminal_safe(&self.json())
    }

    /// The report as one HTML file that needs no network, no script and no font, and prints well on `paper`.
    ///
    /// # Errors
    /// Only if there is no memory left to write it to.
    pub fn html(&self, paper: Paper) -> Result<String, askama::Error> {
        let root = format!(
            ":root{{--title:\"Sweep report\";--run:\"Run {}\";--sha:\"{}\"}}",
            plain(&self.run.0),
            plain(&self.journal.head.0)
        );
        let (tone, headline) = self.headline();
        let csp = policy(&root);
        Page { r: self, root, csp, letter: paper == Paper::Letter, tone, headline, sections: self.sections() }.render()
    }

    /// Every finding, also what is excepted, a row each; one that a spreadsheet takes for text, whatever stands in it.
    pub fn csv(&self) -> String {
        let mut out = String::from(
            "kind,system,account,name,credential,places,privileged,ways,owner,owner name,last used,since,why,next,excepted\r\n",
        );
        for f in self.findings.iter().chain(&self.excepted) {
            let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
            let ids: Vec<&str> = f.owner.iter().map(|o| o.id.0.as_str()).collect();
            let names: Vec<&str> = f.owner.iter().map(|o| o.name.as_str()).collect();
            let places: Vec<&str> = f.places.iter().map(|p| p.0.as_str()).collect();
            let row = [
                f.kind.to_string(),
                f.system.0.clone(),
                f.account.clone(),
                f.name.clone(),
                f.credential.clone().unwrap_or_default(),
                places.join(" "),
                if f.privileged { "yes" } else { "no" }.into(),
                kinds(&f.ways),
                ids.join(" "),
                names.join(", "),
                time(f.last_used),
                time(f.since),
                f.why.clone(),
                f.next.clone(),
                f.excepted.clone().unwrap_or_default(),
            ];
            out.push_str(&row.iter().map(|text| cell(text)).collect::<Vec<_>>().join(","));
            out.push_str("\r\n");
        }
        out
    }

    /// The headline, and how it is to be seen.
    pub fn headline(&self) -> (Tone, &'static str) {
        match self.verdict {
            _ if self.over_limit.is_some() => (Tone::Stuck, "More than the limit"),
            _ if self.ended.is_none() => (Tone::Unproven, "Not ended"),
            SweepVerdict::Found => (Tone::Open, "Found"),
            SweepVerdict::Unproven => (Tone::Unproven, "Unproven"),
            SweepVerdict::Clear => (Tone::Shut, "Nothing found"),
        }
    }

    /// Findings that belong together, of the worst kind first.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: BTreeMap<(SweepKind, String, &str), Group<'_>> = BTreeMap::new();
        for finding in &self.findings {
            let people: Vec<String> = finding.owner.iter().map(person).collect();
            let title = match people.as_slice() {
                [] => finding.system.0.clone(),
                [one] => one.clone(),
                several => several.join(" or "),
            };
            let key = (finding.kind, title.clone(), finding.next.as_str());
            let group = groups.entry(key).or_insert_with(|| Group {
                kind: finding.kind,
                title,
                next: &finding.next,
                findings: Vec::new(),
            });
            group.findings.push(finding);
        }
        groups.into_values().collect()
    }

    fn sections(&self) -> Vec<(SweepKind, Vec<Group<'_>>)> {
        let mut sections: Vec<(SweepKind, Vec<Group<'_>>)> = Vec::new();
        for group in self.groups() {
            match sections.last_mut() {
                Some((kind, groups)) if *kind == group.kind => groups.push(group),
                _ => sections.push((group.kind, vec![group])),
            }
        }
        sections
    }

    /// The places of a finding as people name them.
    pub fn at(&self, finding: &SweepFinding) -> String {
        let prefix = format!("{}/", finding.system);
        let named = finding.places.iter().map(|p| p.0.strip_prefix(&prefix).unwrap_or(&p.0));
        named.map(|place| cut(place, 60)).collect::<Vec<_>>().join(", ")
    }

    /// The reader's zone.
    pub fn reader_zone(&self) -> &TimeZone {
        &self.reader
    }
}

/// The kinds of ways in, in words.
pub fn kinds(ways: &[DoorKind]) -> String {
    ways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is meant by a kind of finding.
pub fn meaning(kind: SweepKind) -> &'static str {
    match kind {
        SweepKind::Lingering => "the owner has left, and it can still be entered",
        SweepKind::Orphan => "nobody in the roster answers for it",
        SweepKind::Ambiguous => "more than one person matches",
        SweepKind::Dormant => "the owner works here, and does not use it",
    }
}

fn person(person: &crate::model::SweepPerson) -> String {
    let named = format!("{} ({})", cut(&person.name, NAME), cut(&person.id.0, 60));
    match (person.status, person.ends) {
        (WorkerStatus::Terminated, None) => format!("{named}, has left"),
        (WorkerStatus::Leave, _) => format!("{named}, on leave"),
        (_, Some(ends)) => format!("{named}, until {}", ends.to_zoned(TimeZone::UTC).strftime("%-d %b %Y")),
        (_, None) => named,
    }
}

/// RFC 4180. A spreadsheet takes what begins with one of these for a formula; with an apostrophe before it, it is text.
fn cell(text: &str) -> String {
    let text = text::clean(text);
    let formula = text.starts_with(['=', '+', '-', '@', '|', '%', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    let text = if formula { format!("'{text}") } else { text };
    if text.contains([',', '"', ';', '\'']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The verdict in sentences, without the headline.
fn summary(report: &SweepReport) -> String {
    let counts = &report.counts;
    let mut said = Vec::new();
    if let Some(over) = &report.over_limit {
        said.push(format!("{}.", cut(over, WORDS)));
    }
    let each = [
        (counts.lingering, "lingering"),
        (counts.orphan, "orphan"),
        (counts.ambiguous, "ambiguous"),
        (counts.dormant, "dormant"),
    ];
    let each: Vec<String> =
        each.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", number(*n))).collect();
    let seen = usize::try_from(counts.seen).unwrap_or(usize::MAX);
    let of = format!("of {} at {}", count(seen, "account", "accounts"), count(counts.places, "place", "places"));
    said.push(match counts.findings {
        0 => format!("Nothing is found {of}."),
        n => format!("{}: {}, {of}.", count(n, "finding", "findings"), each.join(", ")),
    });
    if counts.excepted > 0 {
        let is = if counts.excepted == 1 { "more is" } else { "more are" };
        said.push(format!("{} {is} excepted.", number(counts.excepted)));
    }
    if counts.unreached > 0 {
        let was = if counts.unreached == 1 { "was" } else { "were" };
        said.push(format!(
            "{} {was} not read: nobody can say what is there.",
            count(counts.unreached, "place", "places")
        ));
    }
    if counts.unknown > 0 {
        let unknown = usize::try_from(counts.unknown).unwrap_or(usize::MAX);
        said.push(match unknown {
            1 => "Whether 1 account is used is not known.".into(),
            n => format!("Whether {} accounts are used is not known.", number(n)),
        });
    }
    if report.places.iter().any(|p| !p.unread.is_empty()) {
        said.push("Something could not be read.".into());
    }
    if report.ended.is_none() {
        said.push("The sweep has not ended.".into());
    }
    said.join(" ")
}

#[derive(Template)]
#[template(path = "sweep.html", config = "src/report/askama.toml")]
struct Page<'a> {
    r: &'a SweepReport,
    root: String,
    csp: String,
    letter: bool,
    tone: Tone,
    headline: &'static str,
    sections: Vec<(SweepKind, Vec<Group<'a>>)>,
}

impl Page<'_> {
    fn css(&self) -> &'static str {
        CSS
    }

    fn name(&self, text: impl AsRef<str>) -> String {
        cut(text.as_ref(), NAME)
    }

    fn words(&self, text: impl AsRef<str>) -> String {
        cut(text.as_ref(), WORDS)
    }

    fn moment(&self, at: &Timestamp) -> String {
        text::moment(*at, &self.r.reader)
    }

    fn fours(&self, text: impl AsRef<str>) -> String {
        in_fours(text.as_ref())
    }

    fn what_for(&self) -> String {
        cut(&self.r.what_for, WORDS)
    }

    fn title(&self, kind: &SweepKind) -> &'static str {
        match kind {
            SweepKind::Lingering => "Lingering",
            SweepKind::Orphan => "Orphan",
            SweepKind::Ambiguous => "Ambiguous",
            SweepKind::Dormant => "Dormant",
        }
    }

    fn meaning(&self, kind: &SweepKind) -> &'static str {
        meaning(*kind)
    }

    fn at(&self, finding: &SweepFinding) -> String {
        self.r.at(finding)
    }

    fn kinds(&self, finding: &SweepFinding) -> String {
        kinds(&finding.ways)
    }

    fn number(&self, n: &u64) -> String {
        number(usize::try_from(*n).unwrap_or(usize::MAX))
    }

    fn count_u64(&self, n: &u64) -> String {
        count(usize::try_from(*n).unwrap_or(usize::MAX), "record", "records")
    }

    fn unsaid(&self) -> Vec<&PlaceLine> {
        let unsaid = |p: &&PlaceLine| p.unreached.is_some() || p.unknown > 0 || !p.unread.is_empty();
        self.r.places.iter().filter(unsaid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_cell_is_never_a_formula_and_never_breaks_out() {
        for (text, shown) in [
            ("plain", "plain"),
            ("=1+1", "\"'=1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1+1", "\"'=1+1\""),
            ("\r\n-2+3", "\"'-2+3\""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines", "two lines"),
            ("\u{202e}=x", "\u{fffd}=x"),
        ] {
            assert_eq!(cell(text), shown, "{text:?}");
        }
    }
}
