//! What commands show on a terminal: pure functions from data to text, readable at 80 columns, in colour only when asked.
//!
//! Foreign text (names, servers' words) is always cleaned before it is shown: it can neither steer the terminal nor forge a
//! line. Words carry every meaning; colour only repeats it. Names that somebody may want to copy are never broken.

mod found;
mod house;
mod mail;
mod runs;
mod seal;
mod secrets;
mod sweeps;

pub use found::{accounts, by_hand, plan, without_facts};
pub use house::{fault, health, manifests, verification};
pub use mail::{mail_server, undelivered};
pub use runs::{about, closed, hour, list, restored, scheduled, status, summary};
pub use seal::{Sealing, keeper, key_files, seal, set, values};
pub use secrets::{rotation, secret};
pub use sweeps::{sweep, sweeps};

use crate::report::{Tone, text};
use jiff::tz::TimeZone;

/// The width that everything is laid out for.
const WIDTH: usize = 80;

/// How to write.
#[derive(Clone, Debug)]
pub struct Style {
    /// Whether to use ANSI colours.
    pub color: bool,
    /// The reader's zone; every time is given in UTC too.
    pub zone: TimeZone,
}

impl Style {
    fn painted(&self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    /// A heading.
    fn bold(&self, text: &str) -> String {
        self.painted("1", text)
    }

    /// What matters less.
    fn dim(&self, text: &str) -> String {
        self.painted("2", text)
    }

    /// A verdict's colour. What is shut stays quiet.
    fn toned(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Shut => "32",
            Tone::Unproven => "1;33",
            Tone::Stuck => "1;35",
            Tone::Open => "1;31",
            Tone::Waiting => "2",
        };
        self.painted(code, text)
    }
}

/// `text` on one line, with nothing in it that could steer a terminal. Leading spaces stay.
pub fn line(text: &str) -> String {
    let indent = text.len() - text.trim_start_matches(' ').len();
    format!("{:indent$}{}", "", text::clean(text))
}

/// A name: clean and not endless.
fn name(text: &str) -> String {
    text::cut(text, text::NAME)
}

/// `text` in lines of not more than [`WIDTH`] columns, each after `indent` spaces; words are not broken.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
    out
}

/// [`wrapped`], with `label` before the first line.
fn labelled(label: &str, text: &str, indent: usize) -> String {
    let body = wrapped(&format!("{label} {text}"), indent);
    // Lines after the first stand two columns further in.
    body.trim_end().replace('\n', "\n  ") + "\n"
}

/// Rows of plain cells in columns; the last column takes the rest of the line and is wrapped there.
fn table(header: &[&str], rows: Vec<Vec<comfy_table::Cell>>) -> String {
    use comfy_table::{ContentArrangement, Table, presets};
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(WIDTH).unwrap_or(u16::MAX)).force_no_tty().enforce_styling();
    table.set_header(header.iter().map(|title| comfy_table::Cell::new(title.to_uppercase())));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_string() + "\n");
    lines.collect()
}

/// A cell with foreign text.
fn cell(text: &str) -> comfy_table::Cell {
    comfy_table::Cell::new(name(text))
}

/// A cell in a verdict's colour.
fn toned_cell(text: &str, tone: Tone, style: &Style) -> comfy_table::Cell {
    use comfy_table::{Attribute, Color};
    let plain = comfy_table::Cell::new(text::clean(text));
    if !style.color {
        return plain;
    }
    match tone {
        Tone::Shut => plain.fg(Color::DarkGreen),
        Tone::Unproven => plain.fg(Color::DarkYellow).add_attribute(Attribute::Bold),
        Tone::Stuck => plain.fg(Color::DarkMagenta).add_attribute(Attribute::Bold),
        Tone::Open => plain.fg(Color::DarkRed).add_attribute(Attribute::Bold),
        Tone::Waiting => plain.add_attribute(Attribute::Dim),
    }
}
