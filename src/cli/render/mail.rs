//! Mail that was not delivered, and how the mail server is.

use super::{Style, fault, labelled, name};
use crate::model::Fault;
use crate::report::{Tone, text};
use crate::store::Undelivered;

/// Every delivery that was not made, the oldest first, after so many were `sent`.
pub fn undelivered(left: &[Undelivered], sent: usize, style: &Style) -> String {
    let mut out = String::new();
    if sent > 0 {
        out.push_str(&format!("{} sent.\n", text::count(sent, "mail was", "mails were")));
    }
    if left.is_empty() {
        out.push_str("No mail waits.\n");
    }
    for mail in left {
        let (word, tone) = if mail.refused { ("refused", Tone::Stuck) } else { ("waits", Tone::Unproven) };
        let head = format!("{}: {} to {}\n", style.toned(tone, word), name(&mail.subject), name(&mail.recipient));
        out.push_str(&head);
        let since = format!("since {}", text::moment(mail.at, &style.zone));
        out.push_str(&labelled("written", &since, 2));
        if let Some(because) = &mail.because {
            out.push_str(&labelled("because:", &text::cut(because, text::WORDS), 2));
        }
        if !mail.refused {
            out.push_str(&labelled("tried again", &format!("on {}", text::moment(mail.next, &style.zone)), 2));
        }
    }
    if !left.is_empty() {
        out.push_str("\nTo send them now:  offboard mail --send\n");
    }
    out
}

/// How the mail server answered, and how many mails wait.
pub fn mail_server(answer: &Result<String, Fault>, left: &[Undelivered], style: &Style) -> String {
    let mut out = match answer {
        Ok(identity) => {
            format!("{}  {}  {}\n", style.bold("mail"), style.toned(Tone::Shut, "fine"), style.dim(&name(identity)))
        }
        Err(problem) => {
            format!("{}\n  {}\n", style.bold("mail"), fault(problem, style).trim_end().replace('\n', "\n  "))
        }
    };
    let refused = left.iter().filter(|mail| mail.refused).count();
    if !left.is_empty() {
        let told =
            [(left.len() - refused, "mail waits", "mails wait"), (refused, "mail was refused", "mails were refused")];
        let told = told.iter().filter(|(n, ..)| *n > 0).map(|(n, one, many)| text::count(*n, one, many));
        let told = told.collect::<Vec<_>>().join(", ");
        out.push_str(&labelled("to do:", &format!("{told}: offboard mail"), 2));
    }
    out
}
