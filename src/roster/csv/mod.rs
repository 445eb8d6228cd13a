//! The roster as a CSV file (RFC 4180), as HR systems and spreadsheets write it.
//!
//! Strict on purpose: a half row, a second row for one person or a column that is not understood refuses the whole file, because
//! whatever is guessed here decides later whose access is taken away.

mod cells;

pub use cells::zone;

use super::{Roster, folded, lookalike};
use crate::model::{Digest, InputDigest, Person, PersonId, WorkerStatus};
use crate::source::{Mistake, Mistakes, Text, choices, did_you_mean};
use cells::Cells;
use std::collections::HashMap;
use std::ops::Range;

/// The columns, in the order in which they are documented. Case, spaces, `-` and `_` in a header do not matter.
const COLUMNS: [&str; 11] = [
    "id",
    "name",
    "e-mail",
    "user name",
    "manager",
    "department",
    "worker type",
    "status",
    "reason",
    "end date",
    "zone",
];
/// Columns that no roster can do without.
const REQUIRED: [&str; 3] = ["id", "name", "status"];
/// More cells than any roster's row has.
const MOST_CELLS: usize = 64;
/// After so many mistakes no more rows are read.
const ENOUGH: usize = 200;

impl Roster {
    /// Reads `bytes`, the content of `file`. People whose row has no zone live in `zone`.
    ///
    /// # Errors
    /// Every mistake, with row, column, value and what to do.
    pub fn from_csv(bytes: &[u8], file: &str, zone: Option<&str>) -> Result<Self, Mistakes> {
        let text = Text::decode("roster", file, bytes, str::to_string)?;
        let mut reader =
            ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.body.as_bytes());
        let mut rows = reader.records().map(|record| record.map(|record| Row::new(&text, record)));
        let Some(header) = rows.next() else {
            return Err(Mistake::error("roster", format!("{file} is empty"))
                .help(format!("the first line names the columns: {}", COLUMNS.join(",")))
                .into());
        };
        let unreadable = |error: ::csv::Error| Mistake::error("roster", format!("{file} cannot be read: {error}"));
        let columns = columns(&header.map_err(unreadable)?)?;
        let mut reading =
            Reading { text: &text, people: Vec::new(), taken: HashMap::new(), mistakes: Vec::new(), zone };
        for row in rows {
            let row = row.map_err(unreadable)?;
            reading.row(&row, &columns);
            if reading.errors() >= ENOUGH {
                break;
            }
        }
        if reading.people.is_empty() && reading.mistakes.is_empty() {
            return Err(Mistake::error("roster", format!("{file} names nobody"))
                .help("a run needs the leaver's row, and matching needs everybody else's")
                .into());
        }
        reading.look_alikes("user name", |person| person.user_name.as_deref());
        reading.look_alikes("e-mail", |person| person.email.as_deref());
        let place = |mistake: &Mistake| mistake.spots.first().map(|spot| (spot.line, spot.column));
        reading.mistakes.sort_by_key(place);
        let warnings = Mistakes::unless_usable(reading.mistakes)?;
        let people: Vec<Person> = reading.people.into_iter().map(|(person, _)| person).collect();
        let by = |key: fn(&Person) -> Option<&str>| {
            let people = people.iter().enumerate();
            people.filter_map(|(at, person)| Some((folded(key(person)?), at))).collect::<HashMap<_, _>>()
        };
        Ok(Self {
            by_id: by(|person| Some(&person.id.0)),
            by_mail: by(|person| person.email.as_deref()),
            by_user_name: by(|person| person.user_name.as_deref()),
            input: InputDigest { file: file.to_string(), sha256: Digest::of(bytes) },
            warnings,
            people,
        })
    }
}

/// Which column stands where: the number of the cell for each of [`COLUMNS`].
type Columns = HashMap<&'static str, usize>;

fn columns(header: &Row) -> Result<Columns, Mistakes> {
    let plain = |name: &str| name.to_lowercase().replace([' ', '-', '_'], "");
    let mut columns = Columns::new();
    let mut mistakes = Vec::new();
    let misread = header.record.len() == 1 && header.record[0].contains([';', '\t', '|']);
    for (cell, name) in header.record.iter().enumerate().take(MOST_CELLS) {
        let Some(column) = COLUMNS.into_iter().find(|column| plain(column) == plain(name.trim())) else {
            let label = did_you_mean(name, &COLUMNS).map(|meant| format!("did you mean `{meant}`?"));
            let title = if name.trim().is_empty() {
                format!("column {} has no name", cell + 1)
            } else {
                format!("unknown column `{name}`")
            };
            let mistake = header.error_at(cell, title, label.unwrap_or_default());
            mistakes.push(if misread {
                mistake.help("columns are separated by commas: save it as comma-separated CSV")
            } else {
                mistake.help(format!("valid columns: {}", choices(&COLUMNS)))
            });
            continue;
        };
        if let Some(first) = columns.insert(column, cell) {
            let mistake = header.error_at(cell, format!("two columns `{column}`"), "the second one");
            mistakes.push(mistake.spot(header.spot(first, "the first one")));
        }
    }
    for column in REQUIRED {
        if !columns.contains_key(column) && mistakes.is_empty() {
            let mistake = header.error_at(0, format!("the column `{column}` is missing"), "it belongs in this line");
            mistakes.push(mistake.help(format!(
                "valid columns: {}; needed: {}",
                choices(&COLUMNS),
                choices(&REQUIRED)
            )));
        }
    }
    Mistakes::unless_usable(mistakes)?;
    Ok(columns)
}

/// One record and where it stands.
struct Row<'t> {
    text: &'t Text,
    record: ::csv::StringRecord,
    start: usize,
}

impl<'t> Row<'t> {
    fn new(text: &'t Text, record: ::csv::StringRecord) -> Self {
        let start = record.position().map_or(0, |position| usize::try_from(position.byte()).unwrap_or(usize::MAX));
        // Empty lines before a record belong to none.
        let rest = text.body.as_bytes().get(start..).unwrap_or_default();
        let skipped = rest.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        Self { text, record, start: start + skipped }
    }

    /// The bytes of a cell, quotes included; the last one's if there are not so many.
    fn span(&self, cell: usize) -> Range<usize> {
        let mut start = self.start.min(self.text.body.len());
        let (mut number, mut quoted) = (0, false);
        for (at, byte) in self.text.body.bytes().enumerate().skip(start) {
            match byte {
                b'"' => quoted = !quoted,
                b'\r' | b'\n' if !quoted => return start..at,
                b',' if !quoted && number == cell => return start..at,
                b',' if !quoted => {
                    number += 1;
                    start = at + 1;
                }
                _ => {}
            }
        }
        start..self.text.body.len()
    }

    fn spot(&self, cell: usize, label: impl Into<String>) -> crate::source::Spot {
        self.text.spot(self.span(cell), label)
    }

    fn error_at(&self, cell: usize, title: impl Into<String>, label: impl Into<String>) -> Mistake {
        Mistake::error("roster", title).spot(self.spot(cell, label))
    }

    /// A cell whose quotes do not follow RFC 4180: the parser guesses there, and we do not.
    fn misquoted(&self) -> Option<usize> {
        (0..self.record.len()).find(|&cell| {
            let raw = &self.text.body[self.span(cell)];
            let value = &self.record[cell];
            raw.contains('"') && raw != format!("\"{}\"", value.replace('"', "\"\""))
        })
    }
}

/// Where a person's cells stand, by column.
type Places = HashMap<&'static str, Range<usize>>;

/// The people that were read so far, and the values that nobody else may have.
struct Reading<'t> {
    text: &'t Text,
    people: Vec<(Person, Places)>,
    taken: HashMap<(&'static str, String), Range<usize>>,
    mistakes: Vec<Mistake>,
    /// The zone of rows that have none.
    zone: Option<&'t str>,
}

impl Reading<'_> {
    fn row(&mut self, row: &Row, columns: &Columns) {
        if row.record.iter().all(|cell| cell.trim().is_empty()) {
            return;
        }
        if row.record.len() <= MOST_CELLS
            && let Some(cell) = row.misquoted()
        {
            self.mistakes.push(
                row.error_at(cell, "a quote in the wrong place", "this cell")
                    .help("a cell with quotes stands in quotes itself, and each quote in it is written twice"),
            );
            return;
        }
        if row.record.len() != columns.len() {
            let title = format!("a row of {} cells, where the header has {}", row.record.len(), columns.len());
            let last = row.record.len() - 1;
            let help = if last < columns.len() {
                "a half row is not used: fill it in, or leave the cells empty"
            } else {
                "put text that contains a comma in quotes"
            };
            self.mistakes.push(row.error_at(last.min(columns.len()), title, "here").help(help));
            return;
        }
        let before = self.errors();
        let mut cells = Cells { row, columns, mistakes: &mut self.mistakes, zone: self.zone };
        let id = cells.word("id");
        let email = cells.mail();
        let user_name = cells.word("user name");
        let (name, status) = (cells.text("name"), cells.status());
        let (zone, ends) = cells.end();
        let person = Person {
            id: PersonId(id.clone().unwrap_or_default()),
            name: name.unwrap_or_default(),
            email: email.clone(),
            user_name: user_name.clone(),
            manager: cells.word("manager").map(PersonId),
            department: cells.text("department"),
            worker_type: cells.text("worker type"),
            status: status.unwrap_or(WorkerStatus::Active),
            reason: cells.text("reason"),
            ends,
            zone,
            keys: Vec::new(),
        };
        let mut places = Places::new();
        for (column, value) in [("id", id), ("e-mail", email), ("user name", user_name)] {
            let (Some(value), Some(&cell)) = (value, columns.get(column)) else { continue };
            let place = row.span(cell);
            let first = self.taken.entry((column, lookalike::normal(&value))).or_insert_with(|| place.clone());
            if *first != place {
                let first = self.text.spot(first.clone(), "the first one");
                let title = format!("two rows with the {column} `{value}`");
                self.mistakes.push(
                    row.error_at(cell, title, "the second one")
                        .spot(first)
                        .help("case and compatibility forms of letters make no difference"),
                );
            }
            places.insert(column, place);
        }
        if self.errors() == before {
            self.people.push((person, places));
        }
    }

    fn errors(&self) -> usize {
        self.mistakes.iter().filter(|mistake| mistake.severity == crate::source::Severity::Error).count()
    }

    /// Warns of values that look alike without being the same.
    fn look_alikes(&mut self, column: &'static str, value: fn(&Person) -> Option<&str>) {
        let people = &self.people;
        let values = people.iter().enumerate().filter_map(|(at, (person, _))| Some((at, value(person)?)));
        for (first, second) in lookalike::pairs(values) {
            let (Some(one), Some(two)) = (people[first].1.get(column), people[second].1.get(column)) else { continue };
            let one = self.text.spot(one.clone(), people[first].0.id.to_string());
            let two = self.text.spot(two.clone(), people[second].0.id.to_string());
            self.mistakes.push(
                Mistake::warning("roster", format!("the {column}s of two people look alike"))
                    .spot(two)
                    .spot(one)
                    .help("they are told apart by their very characters; make sure that each is right"),
            );
        }
    }
}
