//! The HTML report: one file, no script, no network. The template draws; what it says is decided here.

use super::doors::{DoorLine, Word};
use super::lanes::Lanes;
use super::needs::{Need, needs};
use super::rest::{ByHand, StepLine};
use super::text::{self, NAME, WORDS, count, cut, in_fours, number, span};
use super::words::Tone;
use super::{Basis, Limit, Met, Report, SystemClock, whole_seconds};
use crate::model::{Actor, DoorKind, Finding, FindingKind, Proof};
use askama::Template;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The paper that the report is printed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paper {
    /// 210 × 297 mm.
    #[default]
    A4,
    /// 8.5 × 11 in.
    Letter,
}

pub(super) const CSS: &str = include_str!("templates/report.css");

/// The whole report on `paper`.
pub(super) fn page(report: &Report, paper: Paper) -> Result<String, askama::Error> {
    let root = format!(
        ":root{{--title:\"{}\";--run:\"Run {}\";--sha:\"{}\"}}",
        kind(report),
        plain(&report.run.0),
        plain(&report.journal.head.0)
    );
    let csp = policy(&root);
    let (tone, headline) = report.headline();
    Page {
        r: report,
        root,
        csp,
        letter: paper == Paper::Letter,
        tone,
        headline,
        lanes: Lanes::of(report),
        items: needs(report),
        clocks: clock_rows(report),
        systems: report.clocks.systems.iter().map(|clock| System { clock, doors: doors_of(report, clock) }).collect(),
    }
    .render()
}

/// What sort of report it is.
fn kind(report: &Report) -> &'static str {
    if report.secret.is_some() { "Rotation report" } else { "Offboarding report" }
}

/// What may stand in a style sheet: nothing that a person typed comes in there.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}

/// The content security policy of a page with our style sheet and `root`: nothing else is loaded or run.
pub(super) fn policy(root: &str) -> String {
    let hash = |style: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(style.as_bytes())));
    format!("default-src 'none'; style-src {} {}; base-uri 'none'; form-action 'none'", hash(CSS), hash(root))
}

fn doors_of<'a>(report: &'a Report, clock: &SystemClock) -> Vec<&'a DoorLine> {
    report.doors.iter().filter(|d| d.system == clock.system).collect()
}

#[derive(Template)]
#[template(path = "report.html", config = "src/report/askama.toml")]
struct Page<'a> {
    r: &'a Report,
    root: String,
    csp: String,
    letter: bool,
    tone: Tone,
    headline: &'static str,
    lanes: Option<Lanes>,
    items: Vec<Need>,
    clocks: Vec<ClockRow>,
    systems: Vec<System<'a>>,
}

/// One system and its doors.
struct System<'a> {
    clock: &'a SystemClock,
    doors: Vec<&'a DoorLine>,
}

/// One row of the clocks' table.
struct ClockRow {
    name: &'static str,
    at: Option<Timestamp>,
    /// What stands there if there is no time.
    otherwise: &'static str,
    taken: String,
    limit: String,
    met: Option<Met>,
    result: String,
}

impl Page<'_> {
    fn title(&self) -> String {
        self.r.title()
    }

    fn report_kind(&self) -> &'static str {
        kind(self.r)
    }

    fn css(&self) -> &'static str {
        CSS
    }

    /// A name: one line, nothing that steers, not too long.
    fn name(&self, text: impl AsRef<str>) -> String {
        cut(text.as_ref(), NAME)
    }

    /// A server's words or a person's sentence.
    fn words(&self, text: impl AsRef<str>) -> String {
        cut(text.as_ref(), WORDS)
    }

    fn moment(&self, at: &Timestamp) -> String {
        text::moment(*at, &self.r.reader)
    }

    fn local(&self, at: &Timestamp) -> String {
        text::local(*at, &self.r.reader)
    }

    /// The day that the tables' times of day belong to.
    fn day(&self) -> jiff::civil::Date {
        let at = self.r.clocks.started.unwrap_or(self.r.clocks.requested);
        at.to_zoned(self.r.reader.clone()).date()
    }

    /// The time of day; with its date if that is another day than the run's.
    fn short(&self, at: &Timestamp) -> String {
        let local = at.to_zoned(self.r.reader.clone());
        let form = if local.date() == self.day() { "%H:%M:%S" } else { "%-d %b %Y, %H:%M:%S" };
        local.strftime(form).to_string()
    }

    /// What [`Page::short`] leaves out.
    fn times_are(&self) -> String {
        let at = self.r.clocks.started.unwrap_or(self.r.clocks.requested).to_zoned(self.r.reader.clone());
        at.strftime("Times are %Z (UTC%:z), on %-d %b %Y unless another day is given.").to_string()
    }

    fn since(&self, at: &Timestamp) -> String {
        since(self.r, *at)
    }

    fn fours(&self, text: impl AsRef<str>) -> String {
        in_fours(text.as_ref())
    }

    fn count(&self, n: &usize, one: &str, many: &str) -> String {
        count(*n, one, many)
    }

    fn kind(&self, kind: &DoorKind) -> &'static str {
        match kind {
            DoorKind::Password => "Password",
            DoorKind::Login => "Login",
            DoorKind::SshKey => "SSH key",
            DoorKind::Certificate => "Certificate",
            DoorKind::Peer => "VPN peer",
            DoorKind::Session => "Live sessions",
            DoorKind::Job => "Scheduled jobs",
            DoorKind::Membership => "Membership",
            DoorKind::SharedSecret => "Shared secret",
            DoorKind::Token => "Token",
        }
    }

    fn proof(&self, door: &DoorLine) -> &'static str {
        match door.proof {
            Some(Proof::Refused) => "refused",
            Some(Proof::ReadBack) => "read back",
            None => "",
        }
    }

    /// Why a door is this person's, and what its account may do.
    fn why_theirs(&self, door: &DoorLine) -> String {
        let why = door.matched_by.as_ref().map_or_else(|| self.matched_to_nobody().to_string(), text::matched);
        if door.privileged { format!("{why}; privileged") } else { why }
    }

    fn matched_to_nobody(&self) -> &'static str {
        if self.r.person.is_some() { "not matched to this person alone" } else { "a program's" }
    }

    /// Whether shared secrets are among the doors.
    fn rotates(&self) -> bool {
        self.r.doors.iter().any(|door| door.kind == DoorKind::SharedSecret)
    }

    /// Which one of its kind; nothing where the kind says it all.
    fn object(&self, door: &DoorLine) -> Option<String> {
        let all = door.object.is_empty() || door.kind == DoorKind::Session;
        (!all).then(|| self.name(&door.object))
    }

    fn door_tone(&self, word: &Word) -> Tone {
        Tone::from(*word)
    }

    fn system_tone(&self, clock: &SystemClock) -> Tone {
        match clock {
            c if c.open > 0 => Tone::Open,
            c if c.unproven + c.unreached > 0 => Tone::Unproven,
            _ => Tone::Shut,
        }
    }

    /// A system's counts as a sentence part: `5 ways in: 4 refused, 1 read back`.
    fn tally(&self, c: &SystemClock) -> String {
        if c.doors == 0 {
            return "no way in found".to_string();
        }
        let counted = [(c.open, "open"), (c.unproven, "unproven"), (c.refused, "refused"), (c.read_back, "read back")];
        let parts: Vec<_> =
            counted.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", number(*n))).collect();
        format!("{}: {}", count(c.doors, "way in", "ways in"), parts.join(", "))
    }

    /// Steps that connectors did.
    fn steps(&self) -> Vec<&StepLine> {
        self.r.steps.iter().filter(|step| step.by_hand.is_none()).collect()
    }

    /// Steps that people do, each with how it stands.
    fn by_hand(&self) -> Vec<(&StepLine, &ByHand)> {
        self.r.steps.iter().filter_map(|step| Some((step, step.by_hand.as_ref()?))).collect()
    }

    fn bytes(&self, size: &u64) -> String {
        count(usize::try_from(*size).unwrap_or(usize::MAX), "byte", "bytes")
    }

    /// A step that was done proves nothing, so it has no mark.
    fn step_tone(&self, step: &StepLine) -> Option<Tone> {
        match step.outcome {
            "done" | "already-done" | "absent" => None,
            "stuck" => Some(Tone::Stuck),
            _ => Some(Tone::Waiting),
        }
    }

    fn outcome(&self, step: &StepLine) -> &'static str {
        match step.outcome {
            "done" => "done",
            "already-done" => "had been done before",
            "absent" => "there was nothing left to do it to",
            "failed" => "failed, to be tried again",
            "stuck" => "stuck",
            "asked" => "asked",
            "started" => "begun; whether it took effect is not known",
            _ => "not begun",
        }
    }

    fn left_alone(&self) -> Vec<&Finding> {
        self.r.findings.iter().filter(|f| f.kind == FindingKind::Protected).collect()
    }

    fn findings_not_covered(&self) -> Vec<&Finding> {
        self.r.findings.iter().filter(|f| f.kind == FindingKind::NotCovered).collect()
    }

    /// The limit on containment, as the first page says it.
    fn first_limit(&self) -> Option<&Limit> {
        self.r.clocks.limits.iter().find(|l| l.clock == Some("contained")).or(self.r.clocks.limits.first())
    }

    fn result(&self, limit: &Limit) -> String {
        limit.result()
    }

    /// Whether the run waits for its hour, or was cancelled before it.
    fn has_not_begun(&self) -> bool {
        self.r.scheduled.is_some() || self.r.cancelled.is_some()
    }

    fn counted_from(&self) -> String {
        match self.r.clocks.counted_from {
            Basis::HrEffective => "Limits count from the end of employment, as HR gave it.".to_string(),
            Basis::Scheduled => "Limits count from the hour that the run was scheduled for.".to_string(),
            Basis::Requested if self.r.clocks.hr_effective.is_some() => {
                "Limits count from the request: it came before the end of employment that HR gave.".to_string()
            }
            Basis::Requested if self.r.person.is_none() => "Times count from the request.".to_string(),
            Basis::Requested => "Limits count from the request: HR gave no end of employment.".to_string(),
        }
    }

    /// The same limits counted from the other moment: for who thinks that it is the right one.
    fn otherwise(&self) -> Option<String> {
        let (other, before) = match self.r.clocks.counted_from {
            Basis::HrEffective => ("the request", "before the request"),
            Basis::Requested | Basis::Scheduled => ("the end of employment", "before employment ended"),
        };
        let limits = self.r.clocks.limits.iter().filter(|l| l.reached.is_some());
        let parts: Vec<_> = limits
            .filter_map(|l| {
                let taken = l.taken_otherwise?;
                Some(match taken {
                    i64::MIN..=0 => format!("{}: {} {before}", cut(&l.name, 60), span(taken)),
                    _ => format!("{}: {}", cut(&l.name, 60), span(taken)),
                })
            })
            .collect();
        (!parts.is_empty()).then(|| format!("Counted from {other}: {}.", parts.join("; ")))
    }

    fn limit_span(&self, limit: &Limit) -> String {
        span(limit.seconds)
    }

    /// Where the limits come from.
    fn sources(&self) -> Option<String> {
        let mut sources: Vec<String> = Vec::new();
        for limit in &self.r.clocks.limits {
            if let Some(source) = limit.source.as_ref().map(|source| cut(source, NAME))
                && !sources.contains(&source)
            {
                sources.push(source);
            }
        }
        (!sources.is_empty()).then(|| format!("Limits of {}.", sources.join("; ")))
    }

    fn is_breach(&self, row: &ClockRow) -> bool {
        row.met == Some(Met::Breached)
    }

    /// The journal's records of a door: `7F3K 118, 121`.
    fn records(&self, door: &DoorLine) -> String {
        let numbers: Vec<_> = door.records.iter().map(ToString::to_string).collect();
        format!("{} {}", cut(&self.r.run.0, 16), numbers.join(", "))
    }

    fn count_u64(&self, records: &u64) -> String {
        count(usize::try_from(*records).unwrap_or(usize::MAX), "record", "records")
    }

    fn actor(&self, actor: &Actor) -> String {
        self.name(&actor.name)
    }

    fn vouched(&self, actor: &Actor) -> String {
        format!("asserted by the {}", cut(&actor.asserted_by, NAME))
    }
}

fn since(report: &Report, at: Timestamp) -> String {
    match whole_seconds(report.clocks.from, at) {
        s if s < 0 => format!("{} before", span(s)),
        s => span(s),
    }
}

fn clock_rows(report: &Report) -> Vec<ClockRow> {
    let c = &report.clocks;
    let last =
        match (c.last_possible_access, report.doors.iter().any(|d| d.residual.is_some() && d.residual_until.is_none()))
        {
            (None, true) => "not known",
            _ => "not proved",
        };
    let all = [
        ("End of employment (HR)", None, c.hr_effective, "not given"),
        ("Requested", None, Some(c.requested), ""),
        ("Started", None, c.started, "not yet"),
        ("Contained", Some("contained"), c.contained, "not proved"),
        ("Sessions ended", Some("sessions_ended"), c.sessions_ended, "not proved"),
        ("Proved shut", Some("proved"), c.proved, "not yet"),
        ("Last possible access", Some("last_possible_access"), c.last_possible_access, last),
    ];
    let mut rows = Vec::new();
    // Where nobody leaves, no employment ends.
    for (name, clock, at, otherwise) in all.into_iter().skip(usize::from(report.person.is_none())) {
        let ahead = clock.is_none() && at.is_some_and(|at| at < c.from || Some(at) == c.hr_effective);
        let taken = at.filter(|at| *at != c.from && !ahead).map(|at| since(report, at)).unwrap_or_default();
        let limits: Vec<_> = c.limits.iter().filter(|l| clock.is_some() && l.clock == clock).collect();
        let row = |limit: Option<&&Limit>| ClockRow {
            name,
            at,
            otherwise,
            taken: taken.clone(),
            limit: limit.map(|l| span(l.seconds)).unwrap_or_default(),
            met: limit.map(|l| l.met),
            result: limit.map(|l| l.result()).unwrap_or_default(),
        };
        rows.push(row(limits.first()));
        rows.extend(limits.iter().skip(1).map(|l| row(Some(l))));
    }
    rows
}
