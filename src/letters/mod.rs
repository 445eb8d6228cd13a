//! What there is to tell by mail, and to whom: made from the report and the records alone, like the report itself. Told again, by another
//! process or after a crash, it has the same occasion, and the outbox takes it once.
//!
//! Subjects stand on locked screens and in lists that assistants read, and a dismissal is nobody's business before it is known: they say the
//! run and what is wanted, never who leaves or why. Nothing is ever sent to the leaver.

mod asked;
mod run;

use crate::model::{Fault, MailAddress, Record};
use crate::notify::{Item, Letter};
use crate::report::{Group, Report, SweepReport, meaning};
use crate::store::{Attachment, Mail};

/// The largest report that is attached, in bytes: most mail servers take ten megabytes, and base64 adds a third.
const LARGEST: usize = 5 * 1024 * 1024;

/// A run, as far as it is to be told.
pub struct Told<'a> {
    /// The report as of now.
    pub report: &'a Report,
    /// The run's records.
    pub records: &'a [Record],
    /// Those who get every report, by `offboard.yaml` and by the playbook.
    pub to: Vec<MailAddress>,
    /// The report in the playbook's formats.
    pub attachments: Vec<Attachment>,
}

/// How the occasions begin of what is told only if nobody has closed a manual step by its day.
pub const OVERDUE: &str = "overdue-";

/// Everything that is to be told of a run by now, and what is to be told later unless it is done by then.
///
/// # Errors
/// `Unexpected` only if there is no memory left to write it to.
pub fn of_run(told: &Told<'_>) -> Result<Vec<Mail>, Fault> {
    let mut mails = Vec::new();
    mails.extend(run::open(told)?);
    mails.extend(run::stuck(told)?);
    mails.extend(asked::all(told)?);
    mails.extend(run::report(told)?);
    mails.retain(|mail| !mail.to.is_empty());
    Ok(mails)
}

impl Told<'_> {
    fn run(&self) -> &str {
        &self.report.run.0
    }

    /// The leaver's name and number; or the secret.
    fn person(&self) -> String {
        match &self.report.person {
            Some(person) => format!("{} ({})", person.name, person.id),
            None => self.report.title(),
        }
    }

    /// `people` without the leaver, each once.
    fn but_the_leaver(&self, people: impl IntoIterator<Item = MailAddress>) -> Vec<MailAddress> {
        let own = self.report.person.as_ref().and_then(|person| person.email.as_deref()).unwrap_or_default();
        let mut to: Vec<MailAddress> = Vec::new();
        for address in people {
            let known = to.iter().any(|other| other.as_str().eq_ignore_ascii_case(address.as_str()));
            if !known && !address.as_str().eq_ignore_ascii_case(own) {
                to.push(address);
            }
        }
        to
    }

    fn letter(&self, subject: String, headline: String) -> Letter {
        Letter {
            subject: format!("offboard {}: {subject}", self.run()),
            headline,
            company: self.report.company.clone(),
            ..Letter::default()
        }
    }
}

/// So many groups of findings stand in a letter itself; the report has all of them.
const GROUPS: usize = 40;

/// The result of a sweep.
///
/// # Errors
/// As [`of_run`].
pub fn of_sweep(report: &SweepReport, attachments: Vec<Attachment>, to: Vec<MailAddress>) -> Result<Mail, Fault> {
    let findings = crate::report::text::count(report.counts.findings, "finding", "findings");
    let (mut paragraphs, attachments) = attached(attachments, &format!("offboard report {}", report.run));
    paragraphs.splice(0..0, std::iter::once(report.summary.clone()).chain(report.over_limit.clone()));
    let groups = report.groups();
    if groups.len() > GROUPS {
        paragraphs.push(format!("The first {GROUPS} of {} owners and systems follow.", groups.len()));
    }
    let item = |group: &Group<'_>| Item {
        title: format!("{}: {}", group.title, meaning(group.kind)),
        lines: group.findings.iter().take(GROUPS).map(|f| format!("{}: {}; {}", f.system, f.name, f.why)).collect(),
        to_do: Some(group.next.to_string()),
    };
    let letter = Letter {
        subject: format!("offboard {}: sweep, {findings}", report.run),
        headline: format!("Sweep {}: {findings}, run {}", report.playbook, report.run),
        paragraphs,
        items: groups.iter().take(GROUPS).map(item).collect(),
        company: report.company.clone(),
        attachments,
        not_before: None,
    };
    letter.into_mail(&report.run.0, "sweep", to)
}

/// A roster that is not acted on, because it would end the access of too many.
#[derive(Clone, Debug)]
pub struct HeldNews {
    /// What makes this one different from the next one that is held: the file's digest. It is told once.
    pub key: String,
    /// Whose offboard it is.
    pub company: String,
    /// Why it is held, a sentence.
    pub why: String,
    /// Who would have been concerned.
    pub people: Vec<String>,
    /// To whom.
    pub to: Vec<MailAddress>,
}

/// A roster that is held.
///
/// # Errors
/// As [`of_run`].
pub fn of_held_roster(news: HeldNews) -> Result<Mail, Fault> {
    let item = Item {
        title: "Look at the roster".into(),
        lines: news.people,
        to_do: Some("offboard run PERSON --at TIME; or raise leavers-at-once under serve in offboard.yaml".into()),
    };
    let letter = Letter {
        subject: "offboard: the roster is held".into(),
        headline: "The roster is held: nobody's access was changed".into(),
        paragraphs: vec![news.why, "Runs that are started by hand still work.".into()],
        items: vec![item],
        company: news.company,
        ..Letter::default()
    };
    letter.into_mail("", &format!("roster-held-{}", news.key), news.to)
}

/// Attachments that are not too large, and sentences about those that there are and about those that there are not.
fn attached(files: Vec<Attachment>, otherwise: &str) -> (Vec<String>, Vec<Attachment>) {
    let (fit, large): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.text.len() <= LARGEST);
    let mut said = Vec::new();
    if !fit.is_empty() {
        said.push("The whole report is attached.".to_string());
    }
    said.extend(large.iter().map(|file| format!("{} is too large to be attached; {otherwise} writes it.", file.name)));
    (said, fit)
}
