//! The evidence: what a run found, did and proved, for people (HTML) and for programs (JSON).
//!
//! Made from the journal alone: the records of one run, their fold, and what the journal says of itself. It reads no clock
//! and no file. It never says more than was proved: what is not proved shut is listed before anything that is.

mod clocks;
mod doors;
mod html;
mod lanes;
mod needs;
mod rest;
mod sweep;
pub mod text;
mod words;

pub use clocks::{Basis, Clocks, Limit, Met, SystemClock, whole_seconds};
pub use doors::{DoorLine, Word};
pub use html::Paper;
pub use needs::Need;
pub use rest::{ByHand, Cancelled, Control, Given, Journal, Looked, Start, StepLine, Unreached, WaivedLine, Written};
pub use sweep::{Group, PlaceLine, SweepCounts, SweepReport, kinds, meaning};
pub use words::{Counts, Tone};

use crate::model::{
    Actor, Finding, InputDigest, Person, Record, RunId, RunRequest, RunState, RunVerdict, SecretAsked, SystemName,
};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

/// What a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Its records, in order.
    pub records: &'a [Record],
    /// Their fold.
    pub state: &'a RunState,
    /// What the journal says of itself.
    pub journal: &'a Journal,
    /// What each system's connector does not cover, each with the reason.
    pub not_covered: &'a [(SystemName, String)],
    /// Whose report it is: the company's name from the configuration.
    pub company: &'a str,
    /// The time at which the report is made.
    pub made_at: Timestamp,
    /// The reader's zone. Everything is given in UTC too.
    pub zone: &'a TimeZone,
}

/// What is left alone by design, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotCovered {
    /// On which system.
    pub system: SystemName,
    /// What, with the reason.
    pub what: String,
}

/// Everything that the report shows, computed once. Serialized, it is the JSON report; the names of its fields are part of
/// the interface.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The run.
    pub run: RunId,
    /// The company.
    pub company: String,
    /// When this report was made.
    pub made_at: Timestamp,
    /// The reader's zone, an IANA name; times in the JSON are UTC.
    pub zone: String,
    /// The version of offboard that the run was started with.
    pub version: String,
    /// The leaver, as the roster had them when the run was asked for; nobody where a secret is rotated.
    pub person: Option<Person>,
    /// The secret that is rotated, though nobody leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretAsked>,
    /// The playbook's name.
    pub playbook: String,
    /// How the run stands. Worst wins: open > stuck > unproven > shut.
    pub verdict: RunVerdict,
    /// Whether nothing is queued any more: all is shut, or what is not proved shut was waived in writing.
    pub settled: bool,
    /// Whether `resume` has anything to do.
    pub resumable: bool,
    /// The verdict without what people do by hand: whether the person can still get in anywhere.
    pub access: RunVerdict,
    /// The verdict in whole sentences, with its counts.
    pub summary: String,
    /// The counts behind it.
    pub counts: Counts,
    /// Who asked, and who vouches for that.
    pub requested_by: Actor,
    /// Who approved; nothing if no approval is on record.
    pub approved_by: Option<Actor>,
    /// The hour that the run waits for; nothing once it has begun, or was cancelled.
    pub scheduled: Option<Timestamp>,
    /// That it was cancelled before it began.
    pub cancelled: Option<Cancelled>,
    /// The clocks.
    pub clocks: Clocks,
    /// Every door, in the order of the configuration's places.
    pub doors: Vec<DoorLine>,
    /// Every place that could not be reached or read.
    pub unreached: Vec<Unreached>,
    /// What was given up, in writing.
    pub waived: Vec<WaivedLine>,
    /// Every step, in the order in which they were planned.
    pub steps: Vec<StepLine>,
    /// What a person should look at, and no step acts on.
    pub findings: Vec<Finding>,
    /// Access that was given back.
    pub restored: Vec<Given>,
    /// Accounts that still get in, by the same way, at the same time.
    pub controls: Vec<Control>,
    /// Who started or resumed the work.
    pub started_by: Vec<Start>,
    /// How often and when doors were looked at after the steps.
    pub looked: Looked,
    /// When the work last ended; nothing while it goes on.
    pub ended: Option<Timestamp>,
    /// What is not covered, because.
    pub not_covered: Vec<NotCovered>,
    /// The files that the run was started with.
    pub inputs: Vec<InputDigest>,
    /// Reports that were written before this one.
    pub written: Vec<Written>,
    /// What the journal says of itself.
    pub journal: Journal,
    #[serde(skip)]
    reader: TimeZone,
}

impl Report {
    /// The report on one run.
    pub fn new(sources: &Sources<'_>) -> Self {
        let Sources { state, records, .. } = *sources;
        let RunRequest { playbook, requested_by, inputs, version, .. } = state.request.clone();
        let doors = doors::lines(state, records);
        let mut report = Self {
            run: sources.run.clone(),
            company: sources.company.to_string(),
            made_at: sources.made_at,
            zone: sources.zone.iana_name().unwrap_or("UTC").to_string(),
            version,
            person: state.request.person().cloned(),
            secret: state.request.secret().cloned(),
            playbook,
            verdict: state.verdict(),
            settled: state.is_settled(),
            resumable: state.is_resumable(),
            access: if state.ended.is_some() { state.access() } else { state.access().max(RunVerdict::Unproven) },
            summary: String::new(),
            counts: Counts::of(state, &doors, sources.made_at),
            requested_by,
            approved_by: None,
            scheduled: state.waits_until(),
            cancelled: rest::cancelled(state),
            clocks: Clocks::of(state, sources.made_at),
            doors,
            unreached: rest::unreached(state),
            waived: rest::waived(state),
            steps: rest::steps(state, records, sources.made_at),
            findings: state.findings.clone(),
            restored: rest::restored(state),
            controls: rest::controls(state, records),
            started_by: rest::starts(records),
            looked: rest::looked(records),
            ended: state.ended.map(|(at, _)| at),
            not_covered: sources
                .not_covered
                .iter()
                .map(|(system, what)| NotCovered { system: system.clone(), what: what.clone() })
                .collect(),
            inputs,
            written: rest::written(records),
            journal: sources.journal.clone(),
            reader: sources.zone.clone(),
        };
        report.summary = words::summary(&report);
        report
    }

    /// The report as JSON: the fields of this struct. Text of servers and users is exactly as the journal has it.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// [`Report::json`] as text that is safe to show on a terminal: every character that could steer it is written as a JSON
    /// escape, which means the same.
    pub fn json_text(&self) -> String {
        terminal_safe(&self.json())
    }

    /// The report as one HTML file that needs no network, no script and no font, and prints well on `paper`.
    ///
    /// # Errors
    /// Only if there is no memory left to write it to.
    pub fn html(&self, paper: Paper) -> Result<String, askama::Error> {
        html::page(self, paper)
    }

    /// The headline: the verdict in a word or two, and how it is to be seen.
    pub fn headline(&self) -> (Tone, &'static str) {
        words::headline(self)
    }

    /// Whom or what it is about, as a headline: clean, and cut.
    pub fn title(&self) -> String {
        match (&self.person, &self.secret) {
            (Some(person), _) => text::cut(&person.name, text::NAME),
            (None, Some(asked)) => format!("Secret {}", text::cut(&asked.name.0, text::NAME)),
            (None, None) => String::new(),
        }
    }

    /// What needs a person, worst first.
    pub fn needs(&self) -> Vec<Need> {
        needs::needs(self)
    }

    /// The reader's zone.
    pub fn reader_zone(&self) -> &TimeZone {
        &self.reader
    }
}

/// JSON as text in which every character that could steer a terminal is written as an escape, which means the same.
fn terminal_safe(json: &serde_json::Value) -> String {
    let mut out = String::new();
    for c in format!("{json:#}").chars() {
        if c != '\n' && text::is_steering(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out.push('\n');
    out
}
