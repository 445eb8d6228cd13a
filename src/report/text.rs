//! Words, times and numbers as people read them. Pure; the terminal uses it too.
//!
//! Everything that a server, a roster or a user wrote is foreign text: it goes through [`clean`] or [`cut`] before it is
//! shown, so that it can neither steer a terminal nor turn the reading direction around.

use crate::model::MatchRule;
use jiff::{Timestamp, tz::TimeZone};

/// Names and the like: longer ones are cut.
pub const NAME: usize = 160;
/// Servers' words and people's sentences: longer ones are cut.
pub const WORDS: usize = 600;

/// `text` on one line: line ends and tabs become a space, every other control, bidirectional or invisible formatting
/// character becomes U+FFFD, which can be seen. Joiners stay: Hindi and Persian names need them.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c if is_steering(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out.trim().to_string()
}

/// Whether `c` is never shown as it is: C0 and C1 controls, the bidirectional controls of UAX #9, invisible formatting,
/// tags.
pub fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// [`clean`], and not more than `most` characters; what is left out is counted.
pub fn cut(text: &str, most: usize) -> String {
    let text = clean(text);
    let length = text.chars().count();
    if length <= most {
        return text;
    }
    let head: String = text.chars().take(most).collect();
    format!("{}… ({} of {} characters)", head.trim_end(), number(most), number(length))
}

/// By which rule something was matched, as part of a sentence: `matched by mail address`, `mapped in offboard.yaml`.
pub fn matched(rule: &MatchRule) -> String {
    match rule {
        MatchRule::Explicit | MatchRule::PlantedDuringRun => rule.to_string(),
        MatchRule::OwnAccount => "in their own account".to_string(),
        _ => format!("matched by {rule}"),
    }
}

/// `1 account`, `2 accounts`.
pub fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {many}", number(n)) }
}

/// `1,234,567`.
pub fn number(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A moment in the reader's zone and in UTC: `22 Nov 2026, 14:00:31 IST (08:30:31 UTC)`.
pub fn moment(at: Timestamp, zone: &TimeZone) -> String {
    let utc = at.to_zoned(TimeZone::UTC);
    let local = at.to_zoned(zone.clone());
    if local.offset() == utc.offset() {
        return utc.strftime("%-d %b %Y, %H:%M:%S UTC").to_string();
    }
    let form = if local.date() == utc.date() { "%H:%M:%S UTC" } else { "%-d %b %Y, %H:%M:%S UTC" };
    format!("{} ({})", local.strftime("%-d %b %Y, %H:%M:%S %Z"), utc.strftime(form))
}

/// The time of day in the reader's zone, for tables whose day and zone stand elsewhere: `14:00:31`.
pub fn time_of_day(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// A moment in the reader's zone only, with the zone: `22 Nov 2026, 14:00:31 IST`.
pub fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%-d %b %Y, %H:%M:%S %Z").to_string()
}

/// A length of time in at most two units, without its sign: `44 s`, `3 min 10 s`, `14 h 2 min`, `2 d 3 h`.
pub fn span(seconds: i64) -> String {
    let s = seconds.unsigned_abs();
    let two = |big: u64, unit: &str, small: u64, part: &str| {
        if small == 0 { format!("{big} {unit}") } else { format!("{big} {unit} {small} {part}") }
    };
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => two(s / 60, "min", s % 60, "s"),
        3_600..86_400 => two(s / 3_600, "h", s % 3_600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// `text` in groups of four, for reading aloud and comparing: `ab12 cd34`. A leading `SHA256:` stays whole.
pub fn in_fours(text: &str) -> String {
    let text = clean(text);
    let (head, rest) = match text.split_once(':') {
        Some((head, rest)) => (format!("{head}: "), rest.to_string()),
        None => (String::new(), text),
    };
    let chars: Vec<char> = rest.chars().filter(|c| !c.is_whitespace()).collect();
    head + &chars.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn nothing_steers_the_reader() {
        assert_eq!(clean("a\u{202e}b\u{1b}[31mc\r\nd\te\u{9b}f\u{0}"), "a\u{fffd}b\u{fffd}[31mc d e\u{fffd}f\u{fffd}");
        assert_eq!(clean("क्\u{200d}ष"), "क्\u{200d}ष", "joiners stay");
        assert!("\u{2066}\u{200b}\u{feff}\u{e0041}\u{7f}".chars().all(is_steering));
    }

    #[test]
    fn long_text_is_cut_and_counted() {
        assert_eq!(cut(&"x".repeat(10_000), 5), "xxxxx… (5 of 10,000 characters)");
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("ééééé", 5), "ééééé", "characters, not bytes");
    }

    #[test]
    fn moments_name_their_zone() {
        let kolkata = TimeZone::get("Asia/Kolkata").expect("a zone");
        assert_eq!(moment(at("2026-11-22T08:30:31Z"), &kolkata), "22 Nov 2026, 14:00:31 IST (08:30:31 UTC)");
        assert_eq!(
            moment(at("2026-11-22T20:30:31Z"), &kolkata),
            "23 Nov 2026, 02:00:31 IST (22 Nov 2026, 20:30:31 UTC)"
        );
        assert_eq!(moment(at("2026-11-22T08:30:31Z"), &TimeZone::UTC), "22 Nov 2026, 08:30:31 UTC");
    }

    #[test]
    fn spans_have_two_units() {
        let shown = [0, 59, 60, 190, 3_600, 50_520, 86_400, 183_600].map(span);
        assert_eq!(shown, ["0 s", "59 s", "1 min", "3 min 10 s", "1 h", "14 h 2 min", "1 d", "2 d 3 h"]);
        assert_eq!(span(-190), "3 min 10 s");
    }

    #[test]
    fn numbers_and_fours() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([count(1, "account", "accounts"), count(0, "account", "accounts")], ["1 account", "0 accounts"]);
        assert_eq!(in_fours("SHA256:abcdefghij"), "SHA256: abcd efgh ij");
        assert_eq!(in_fours("0123456789"), "0123 4567 89");
    }
}
