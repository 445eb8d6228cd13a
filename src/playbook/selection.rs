//! Which playbook is run for a person when none is named.

use super::{Condition, Playbook};
use crate::model::Person;
use crate::source::{Mistake, Mistakes, choices};

/// The one playbook whose trigger matches `person`.
///
/// # Errors
/// None matches, or several do; both say which ones there are and how to name one.
pub fn select<'a>(playbooks: &'a [Playbook], person: &Person) -> Result<&'a Playbook, Mistakes> {
    let matching: Vec<&Playbook> = playbooks.iter().filter(|playbook| playbook.is_triggered_by(person)).collect();
    let names = |playbooks: &[&Playbook]| {
        let names: Vec<&str> = playbooks.iter().map(|playbook| playbook.playbook.as_str()).collect();
        choices(&names)
    };
    let reason = match &person.reason {
        Some(reason) => format!("the roster says that {} leaves because: {reason}", person.id),
        None => format!("the roster says no reason why {} leaves", person.id),
    };
    match matching.as_slice() {
        [one] => Ok(one),
        [] => {
            let all: Vec<&Playbook> = playbooks.iter().collect();
            let help = if all.is_empty() {
                "there is no playbook at all; copy one of those that come with offboard".to_string()
            } else {
                format!("name one with -p: {}", names(&all))
            };
            Err(Mistake::error("playbook", format!("no playbook is meant for {}", person.id))
                .note(reason)
                .help(help)
                .into())
        }
        several => Err(Mistake::error("playbook", format!("several playbooks are meant for {}", person.id))
            .note(reason)
            .help(format!("name one with -p: {}", names(several)))
            .into()),
    }
}

impl Playbook {
    /// Whether the trigger matches a person who leaves.
    pub fn is_triggered_by(&self, person: &Person) -> bool {
        let Some(trigger) = &self.trigger else { return false };
        trigger.condition.as_ref().is_none_or(|condition| condition.holds_for(person))
    }
}

impl Condition {
    fn holds_for(&self, person: &Person) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| {
            let plain = |text: &String| text.trim().to_lowercase();
            wanted.as_ref().is_none_or(|wanted| found.as_ref().map(plain) == Some(plain(wanted)))
        };
        same(&self.reason, &person.reason)
            && same(&self.worker_type, &person.worker_type)
            && same(&self.department, &person.department)
    }
}
