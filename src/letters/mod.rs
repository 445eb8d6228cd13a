//! What there is to tell by mail, and to whom: made from the report and the records alone, like the report itself. Told again, by another
//! process or after a crash, it has the same occasion, and the outbox takes it once.
//!
//! Subjects stand on locked screens and in lists that assistants read, and a dismissal is nobody's business before it is known: they say the
//! run and what is wanted, never who leaves or why. Nothing is ever sent to the leaver.

mod asked;
mod run;

use crate::model::{Fault, MailAddress, Record};
use crate::notify::{Item, Letter};
use crate::report::Report;
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

    /// The leaver's name and number.
    fn person(&self) -> String {
        format!("{} ({})", self.report.person.name, self.report.person.id)
    }

    /// `people` without the leaver, each once.
    fn but_the_leaver(&self, people: impl IntoIterator<Item = MailAddress>) -> Vec<MailAddress> {
        let own = self.report.person.email.as_deref().unwrap_or_default();
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

/// What a sweep has found, to be told.
#[derive(Clone, Debug, Default)]
pub struct SweepNews {
    /// The sweep's name in the journal.
    pub run: String,
    /// Whose offboard it is.
    pub company: String,
    /// The playbook's name.
    pub playbook: String,
    /// How many findings there are.
    pub findings: usize,
    /// What was looked at and what was found, in sentences.
    pub summary: Vec<String>,
    /// The findings, the worst first.
    pub items: Vec<Item>,
    /// The sweep's report.
    pub attachments: Vec<Attachment>,
    /// To whom.
    pub to: Vec<MailAddress>,
}

/// The result of a sweep.
///
/// # Errors
/// As [`of_run`].
pub fn of_sweep(news: SweepNews) -> Result<Mail, Fault> {
    let findings = crate::report::text::count(news.findings, "finding", "findings");
    let (mut paragraphs, attachments) = attached(news.attachments, &format!("offboard report {}", news.run));
    paragraphs.splice(0..0, news.summary);
    let letter = Letter {
        subject: format!("offboard {}: sweep, {findings}", news.run),
        headline: format!("Sweep {}: {findings}, run {}", news.playbook, news.run),
        paragraphs,
        items: news.items,
        company: news.company,
        attachments,
        not_before: None,
    };
    letter.into_mail(&news.run, "sweep", news.to)
}

/// A roster that is not acted on, because it would end the access of too many, or cannot be read.
#[derive(Clone, Debug)]
pub struct HeldNews {
    /// What makes this one different from the next one that is held: the file's digest. It is told once.
    pub key: String,
    /// Whose offboard it is.
    pub company: String,
    /// Why it is held, a sentence.
    pub why: String,
    /// Who would have been concerned, or what is wrong.
    pub items: Vec<Item>,
    /// What to do about it.
    pub to_do: String,
    /// To whom.
    pub to: Vec<MailAddress>,
}

/// A roster that is held.
///
/// # Errors
/// As [`of_run`].
pub fn of_held_roster(news: HeldNews) -> Result<Mail, Fault> {
    let mut items = news.items;
    items.insert(0, Item { title: "Look at the roster".into(), lines: Vec::new(), to_do: Some(news.to_do) });
    let letter = Letter {
        subject: "offboard: the roster is held".into(),
        headline: "The roster is held: nobody's access was changed".into(),
        paragraphs: vec![news.why, "Runs that are started by hand still work.".into()],
        items,
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
