//! What the cells of a row mean.

use super::{Columns, ENOUGH, REQUIRED, Row};
use crate::model::WorkerStatus;
use crate::source::{Mistake, choices, did_you_mean, is_unprintable};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// What `status` may say.
const STATUSES: [(&str, WorkerStatus); 3] =
    [("active", WorkerStatus::Active), ("leave", WorkerStatus::Leave), ("terminated", WorkerStatus::Terminated)];
/// The longest cell, in characters.
const LONGEST: usize = 500;
/// Years in which somebody may leave.
const YEARS: std::ops::RangeInclusive<i16> = 2000..=2100;
/// The year in which nobody leaves.
const NEVER: i16 = 9999;

/// The zone of that name. `localtime` and the like are zones of this machine, not of a person.
fn known_zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().filter(|zone| zone.iana_name().is_some_and(|name| name == "UTC" || name.contains('/')))
}

/// Whether there is a zone of that name.
///
/// # Errors
/// What to write instead.
pub fn zone(name: &str) -> Result<(), String> {
    if known_zone(name).is_some() {
        return Ok(());
    }
    let names: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
    let meant = did_you_mean(name, &names).map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
    Err(format!("{meant}write an IANA name such as `Asia/Kolkata`, `Europe/Berlin` or `UTC`"))
}

/// The cells of one row.
pub(super) struct Cells<'r, 't> {
    pub row: &'r Row<'t>,
    pub columns: &'r Columns,
    pub mistakes: &'r mut Vec<Mistake>,
    /// The zone of rows that have none.
    pub zone: Option<&'r str>,
}

impl Cells<'_, '_> {
    fn wrong(&mut self, column: &str, title: String, label: &str, help: impl Into<String>) {
        let cell = self.columns.get(column).copied().unwrap_or_default();
        self.mistakes.push(self.row.error_at(cell, title, label).help(help));
    }

    /// The text of a cell, line feeds made spaces; nothing if it is empty.
    pub fn text(&mut self, column: &'static str) -> Option<String> {
        let text = self.row.record.get(*self.columns.get(column)?)?.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            if REQUIRED.contains(&column) {
                self.wrong(column, format!("the {column} is missing"), "empty", "a half row is not used: fill it in");
            }
            return None;
        }
        if text.chars().any(is_unprintable) {
            let title = format!("the {column} `{text}` holds an invisible control character");
            self.wrong(column, title, "", "remove it");
            return None;
        }
        if text.chars().count() > LONGEST {
            let title = format!("the {column} has {} characters", text.chars().count());
            self.wrong(column, title, "too long", format!("at most {LONGEST} characters are read"));
            return None;
        }
        Some(text)
    }

    /// The text of a cell that must be one word.
    pub fn word(&mut self, column: &'static str) -> Option<String> {
        let text = self.text(column)?;
        if text.contains(' ') {
            self.wrong(column, format!("the {column} `{text}` holds a space"), "one word belongs here", "remove it");
            return None;
        }
        Some(text)
    }

    /// A mail address.
    pub fn mail(&mut self) -> Option<String> {
        let mail = self.word("e-mail")?;
        let valid = mail.split_once('@').is_some_and(|(local, domain)| {
            let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-');
            !local.is_empty()
                && domain.contains('.')
                && domain.split('.').all(label)
                && !local.contains([',', ';', '<'])
        });
        if !valid {
            let title = format!("`{mail}` is not a mail address");
            self.wrong("e-mail", title, "", "write one such as `jane.roe@example.com`, or nothing");
            return None;
        }
        Some(mail)
    }

    /// Where the person stands.
    pub fn status(&mut self) -> Option<WorkerStatus> {
        let status = self.text("status")?;
        let known = STATUSES.into_iter().find(|(word, _)| *word == status.to_lowercase());
        if known.is_none() {
            let words = STATUSES.map(|(word, _)| word);
            let label = did_you_mean(&status, &words).map(|meant| format!("did you mean `{meant}`?"));
            let help = format!("valid here: {}", choices(&words));
            self.wrong("status", format!("unknown status `{status}`"), &label.unwrap_or_default(), help);
        }
        known.map(|(_, status)| status)
    }

    /// The zone's canonical name, and the moment at which employment ends.
    pub fn end(&mut self) -> (Option<String>, Option<Timestamp>) {
        let name = self.word("zone").or_else(|| self.zone.map(str::to_string));
        let zone = name.and_then(|name| self.zone(&name));
        let Some(written) = self.text("end date") else { return (zone.map(|(name, _)| name), None) };
        let Some((date, time)) = self.date(&written) else { return (zone.map(|(name, _)| name), None) };
        let Some((name, zone)) = zone else {
            if self.row.record.get(self.columns.get("zone").copied().unwrap_or(usize::MAX)).unwrap_or("").trim() == "" {
                let title = format!("the end date `{written}` without a zone");
                let help = "put the person's own zone into the column `zone`, such as `Asia/Kolkata`: \
                            the day ends at another moment elsewhere";
                self.wrong("end date", title, "the day ends where?", help);
            }
            return (None, None);
        };
        let moment = match time {
            // In a gap of daylight saving time the later moment counts, in a fold the earlier one (RFC 5545).
            Some(time) => date.to_datetime(time).to_zoned(zone),
            // The last second of the day, whichever way the clocks go on it.
            None => date.to_zoned(zone).and_then(|day| day.end_of_day()),
        };
        match moment.and_then(|moment| Timestamp::from_second(moment.timestamp().as_second())) {
            Ok(moment) => (Some(name), Some(moment)),
            Err(error) => {
                self.wrong("end date", format!("the end date `{written}` is out of range"), "", error.to_string());
                (Some(name), None)
            }
        }
    }

    fn zone(&mut self, name: &str) -> Option<(String, TimeZone)> {
        match known_zone(name) {
            Some(zone) => Some((zone.iana_name().unwrap_or(name).to_string(), zone)),
            _ if jiff::tz::db().is_definitively_empty() => {
                let help = "this machine has no time zones: install the package `tzdata`";
                self.wrong("zone", format!("the zone `{name}` cannot be looked up"), "", help);
                None
            }
            _ => {
                let names: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
                let label = did_you_mean(name, &names).map(|meant| format!("did you mean `{meant}`?"));
                let title = format!("unknown zone `{name}`");
                let help = "write an IANA name such as `Asia/Kolkata`, `Europe/Berlin` or `UTC`";
                self.wrong("zone", title, &label.unwrap_or_default(), help);
                None
            }
        }
    }

    fn date(&mut self, written: &str) -> Option<(Date, Option<Time>)> {
        let (date, time) = match written.split_once(['T', ' ']) {
            Some((date, time)) => (date, Some(time)),
            None => (written, None),
        };
        let parsed = Date::strptime("%Y-%m-%d", date).ok().filter(|_| date.len() == 10);
        let clock = |time: &str| Time::strptime("%H:%M", time).or_else(|_| Time::strptime("%H:%M:%S", time)).ok();
        let (Some(day), Some(time)) = (parsed, time.map_or(Some(None), |time| clock(time).map(Some))) else {
            let help = "write `2026-11-22`, or `2026-11-22T18:00` in the person's own zone";
            self.wrong("end date", format!("`{written}` is not a date"), "", help);
            return None;
        };
        // The two ways in which HR systems write that there is no date.
        if day.year() == NEVER {
            return None;
        }
        if day.year() < *YEARS.start() {
            let cell = self.columns.get("end date").copied().unwrap_or_default();
            let title =
                format!("the end date `{written}` cannot be meant: it is left out, and nobody is picked up by it");
            let mistake = Mistake::warning("roster", title).spot(self.row.spot(cell, ""));
            // An export where every row has it is said often enough by then.
            if self.mistakes.len() < ENOUGH {
                self.mistakes.push(mistake.help("leave it empty if there is no end"));
            }
            return None;
        }
        if !YEARS.contains(&day.year()) {
            let help = format!(
                "valid years: {} to {}; leave it empty, or write {NEVER}-12-31, if there is no end",
                YEARS.start(),
                YEARS.end()
            );
            self.wrong("end date", format!("the end date `{written}` cannot be meant"), "", help);
            return None;
        }
        Some((day, time))
    }
}
