//! What people are asked to do by hand; and, to be sent on its day unless it is closed by then, that it is overdue.

use super::{OVERDUE, Told};
use crate::model::{Fault, MailAddress};
use crate::notify::Item;
use crate::report::{StepLine, text};
use crate::store::Mail;

/// For each manual step that waits to be closed a letter, and another for its day.
pub(super) fn all(told: &Told<'_>) -> Result<Vec<Mail>, Fault> {
    let mut mails = Vec::new();
    for step in told.report.steps.iter().filter(|step| step.is_asked()) {
        mails.push(letter(told, step, false)?);
        mails.push(letter(told, step, true)?);
    }
    Ok(mails)
}

fn letter(told: &Told<'_>, step: &StepLine, overdue: bool) -> Result<Mail, Fault> {
    let zone = told.report.reader_zone();
    let due = step.by_hand.as_ref().map(|task| task.due).unwrap_or_default();
    let day = due.to_zoned(zone.clone()).strftime("%-d %b %Y").to_string();
    let owner = step.account.parse::<MailAddress>().ok();
    let subject = if overdue { format!("overdue since {day}") } else { format!("something to do by {day}") };
    let mut letter = told.letter(subject, step.object.clone());
    let who = match told.report.person.as_ref().and_then(|p| p.department.as_ref()) {
        Some(department) => format!("{}, {department}", told.person()),
        None => told.person(),
    };
    let was = if overdue { "was due" } else { "is due" };
    letter.paragraphs.push(format!("It is about {who}, and {was} by {}.", text::moment(due, zone)));
    if overdue || owner.is_none() {
        letter.paragraphs.push(format!("Asked of {}. Nobody has said yet that it is done.", step.account));
    }
    letter.paragraphs.push(
        "When it is done, tell whoever runs offboard in your organisation, with a receipt if there is one. They close it:".into(),
    );
    letter.items.push(Item {
        title: step.object.clone(),
        lines: Vec::new(),
        to_do: Some(format!("offboard done {} {} --evidence FILE", told.run(), step.id)),
    });
    // Whoever is asked is told; where nobody is known, and when it is overdue, those who run this are.
    let others = if overdue || owner.is_none() { told.to.clone() } else { Vec::new() };
    let to = told.but_the_leaver(owner.into_iter().chain(others));
    letter.not_before = overdue.then_some(due);
    letter.into_mail(told.run(), &format!("{}{}", if overdue { OVERDUE } else { "ask-" }, step.id), to)
}
