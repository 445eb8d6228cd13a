//! A letter: a headline, paragraphs, items with what to do, and a footer, written once and sent as text and as HTML that say the same.
//!
//! What goes in comes from rosters and servers, so it is cleaned here, whoever wrote it: one line each, nothing that steers a reader's
//! terminal or turns the reading direction around, not too long, escaped in HTML.

use crate::model::{Fault, FaultKind, MailAddress};
use crate::store::{Attachment, Content, Mail};
use askama::Template;
use jiff::Timestamp;

/// The longest paragraph or line, in characters.
const LONGEST: usize = 1000;
/// The longest subject, in characters: what a list of mails shows.
const SUBJECT: usize = 120;
/// So many items are told; the report has them all.
const ITEMS: usize = 40;
/// The width of the text part (RFC 3676 recommends less than 78).
const WIDTH: usize = 74;

/// Something in a letter that stands by itself: a door, a step, a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// What it is, a sentence without its full stop.
    pub title: String,
    /// More about it.
    pub lines: Vec<String>,
    /// What to do: a command to copy, or a sentence.
    pub to_do: Option<String>,
}

/// A letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// The subject. It stands on locked screens: no name, no reason.
    pub subject: String,
    /// The first line.
    pub headline: String,
    /// What has happened.
    pub paragraphs: Vec<String>,
    /// What is to be looked at.
    pub items: Vec<Item>,
    /// Whose offboard it is.
    pub company: String,
    /// Files that go with it.
    pub attachments: Vec<Attachment>,
    /// Not to be sent before this moment.
    pub not_before: Option<Timestamp>,
}

#[derive(Template)]
#[template(path = "letter.html", config = "src/notify/askama.toml")]
struct Page<'a> {
    letter: &'a Letter,
    more: usize,
}

impl Letter {
    /// The letter as a mail, about an `occasion` of a `run`.
    ///
    /// # Errors
    /// `Unexpected` only if there is no memory left to write it to.
    pub fn into_mail(self, run: &str, occasion: &str, to: Vec<MailAddress>) -> Result<Mail, Fault> {
        let letter = self.cleaned();
        let more = letter.items.len().saturating_sub(ITEMS);
        let mut shown = letter.clone();
        shown.items.truncate(ITEMS);
        let html = Page { letter: &shown, more }
            .render()
            .map_err(|e| Fault::new(FaultKind::Unexpected, "a letter cannot be written").because(e))?;
        let content = Content { text: text(&shown, more), html, attachments: letter.attachments };
        let (run, occasion, not_before) = (run.to_string(), occasion.to_string(), letter.not_before);
        Ok(Mail { run, occasion, to, subject: letter.subject, content, not_before })
    }

    fn cleaned(self) -> Self {
        let line = |text: &String| cut(text, LONGEST);
        let item = |item: &Item| Item {
            title: line(&item.title),
            lines: item.lines.iter().map(line).collect(),
            to_do: item.to_do.as_ref().map(line),
        };
        Self {
            subject: cut(&self.subject, SUBJECT),
            headline: line(&self.headline),
            paragraphs: self.paragraphs.iter().map(line).collect(),
            items: self.items.iter().map(item).collect(),
            company: cut(&self.company, 160),
            attachments: self.attachments,
            not_before: self.not_before,
        }
    }
}

/// The letter as text, readable by itself.
fn text(letter: &Letter, more: usize) -> String {
    let mut out = wrapped(&letter.headline, "", "");
    for paragraph in &letter.paragraphs {
        out.push('\n');
        out.push_str(&wrapped(paragraph, "", ""));
    }
    for item in &letter.items {
        out.push('\n');
        out.push_str(&wrapped(&item.title, "- ", "  "));
        for line in &item.lines {
            out.push_str(&wrapped(line, "  ", "  "));
        }
        if let Some(to_do) = &item.to_do {
            // Not wrapped: it is there to be copied.
            out.push_str(&format!("  To do: {to_do}\n"));
        }
    }
    if more > 0 {
        out.push_str(&format!("\nand {more} more\n"));
    }
    // "-- " begins a signature (RFC 3676, 4.3).
    out + "\n-- \n" + &wrapped(&footer(&letter.company), "", "")
}

/// Who sends this, and that it is not for everybody.
fn footer(company: &str) -> String {
    format!("Sent by offboard for {company}. It may name people: pass it on only to whoever needs it.")
}

impl Page<'_> {
    fn footer(&self) -> String {
        footer(&self.letter.company)
    }
}

/// `text` in lines of at most [`WIDTH`] columns; words are not broken.
fn wrapped(text: &str, first: &str, next: &str) -> String {
    let mut out = first.to_string();
    let mut column = first.chars().count();
    let mut fresh = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if !fresh && column + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(next);
            column = next.chars().count();
            fresh = true;
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        fresh = false;
    }
    out + "\n"
}

/// `text` on one line, with nothing in it that steers, and not more than `most` characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' if out.ends_with(' ') => {}
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => out.push(' '),
            c if is_steering(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    let out = out.trim();
    match out.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", out[..end].trim_end()),
        None => out.to_string(),
    }
}

/// Controls, the bidirectional controls of UAX #9, invisible formatting, tags. Joiners stay: Hindi and Persian names need them.
fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(name: &str) -> Letter {
        Letter {
            subject: "offboard 7F3K: shut".into(),
            headline: format!("Shut: {name}"),
            paragraphs: vec![format!("All 16 ways in of {name} are shut.")],
            items: vec![Item {
                title: format!("password of {name}"),
                lines: vec!["said: no".into()],
                to_do: Some("offboard resume 7F3K".into()),
            }],
            company: "Sunrise Hospital IT".into(),
            ..Letter::default()
        }
    }

    #[test]
    fn both_parts_say_the_same() {
        let mail = letter("Jane Roe").into_mail("7F3K", "report-9", Vec::new()).unwrap();
        assert_eq!(
            mail.content.text,
            "Shut: Jane Roe\n\nAll 16 ways in of Jane Roe are shut.\n\n- password of Jane Roe\n  said: no\n  \
             To do: offboard resume 7F3K\n\n-- \nSent by offboard for Sunrise Hospital IT. It may name people: pass it on\nonly to \
             whoever needs it.\n"
        );
        for said in
            ["Shut: Jane Roe", "All 16 ways in", "password of Jane Roe", "offboard resume 7F3K", "Sunrise Hospital IT"]
        {
            assert!(mail.content.html.contains(said), "{said}: {}", mail.content.html);
        }
    }

    #[test]
    fn hostile_words_steer_nothing() {
        let name =
            format!("<script>alert(1)</script>\r\nBcc: eve@example.com\n.\n\u{202e}\u{1b}[2J{}", "x".repeat(20_000));
        let mut hostile = letter(&name);
        hostile.subject = format!("offboard {name}");
        hostile.items = vec![hostile.items[0].clone(); 100];
        let mail = hostile.into_mail("7F3K", "report-9", Vec::new()).unwrap();
        assert!(!mail.subject.contains(['\r', '\n']) && mail.subject.chars().count() <= SUBJECT + 1);
        let Content { text, html, .. } = mail.content;
        assert!(!html.contains("<script>") && html.contains("&#60;script&#62;"), "{}", &html[..2000]);
        for part in [&text, &html] {
            assert!(!part.contains(['\u{202e}', '\u{1b}', '\r']) && part.len() < 200_000);
            assert!(!part.lines().any(|line| line == "." || line.starts_with("Bcc:")));
        }
        assert!(text.contains("and 60 more") && html.contains("60 more"));
    }
}
