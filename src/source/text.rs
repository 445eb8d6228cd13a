//! A file's text and places in it.

use super::{Mistake, Mistakes, printable};
use std::ops::Range;

/// A file as it was read, and which room it speaks to.
#[derive(Clone, Debug)]
pub struct Text {
    /// The room that errors name: `config`, `playbook`, `roster`.
    pub room: &'static str,
    /// The file's name as the operator knows it.
    pub name: String,
    /// What stands in it.
    pub body: String,
}

/// One place in a file, ready to be shown: the line with everything unprintable and every secret replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file's name.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What to say there.
    pub label: String,
    /// The line, or the part of it around the place.
    pub(super) shown: String,
    /// Which bytes of `shown` are meant.
    pub(super) span: Range<usize>,
    /// How many characters are left out before `shown`.
    pub(super) cut: usize,
}

/// How much of a long line is shown, in characters before and after the place.
const BEFORE: usize = 1000;
const AFTER: usize = 200;

impl Text {
    /// Decodes a file: UTF-8, with or without a byte order mark, which is no part of the text. `mask` hides what nobody may see in
    /// the line that is shown.
    ///
    /// # Errors
    /// It is not UTF-8; with the place of the first wrong byte.
    pub(crate) fn decode(
        room: &'static str,
        name: &str,
        bytes: &[u8],
        mask: fn(&str) -> String,
    ) -> Result<Self, Mistakes> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = |body: String| Self { room, name: name.to_string(), body };
        let valid = match std::str::from_utf8(bytes) {
            Ok(body) => return Ok(text(body.to_string())),
            Err(error) => error.valid_up_to(),
        };
        let mistake = Mistake::error(room, format!("{name} is not UTF-8"));
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(mistake.help("it is UTF-16: save it as UTF-8").into());
        }
        // Up to the wrong byte the lossy text is the same.
        let text = text(String::from_utf8_lossy(bytes).into_owned());
        let spot = text.spot_masking(valid..valid + 1, "this byte is not UTF-8", mask);
        Err(mistake.spot(spot).help("save the file as UTF-8").into())
    }

    /// The spot of `span` (bytes of the body). Only its first line is shown.
    pub fn spot(&self, span: Range<usize>, label: impl Into<String>) -> Spot {
        self.spot_masking(span, label, |line| line.to_string())
    }

    /// As [`Text::spot`]; `mask` is given the whole line and hides what nobody may see, character by character.
    pub(super) fn spot_masking(
        &self,
        span: Range<usize>,
        label: impl Into<String>,
        mask: impl Fn(&str) -> String,
    ) -> Spot {
        let start = floor(&self.body, span.start);
        let end = floor(&self.body, span.end).max(start);
        let line_start = self.body[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.body[start..].find('\n').map_or(self.body.len(), |at| start + at);
        let line = self.body[line_start..line_end].trim_end_matches('\r');
        let from = self.body[line_start..start].chars().count();
        let length = self.body[start..end.min(line_end)].trim_end().chars().count().max(1);

        let cut = from.saturating_sub(BEFORE);
        let shown: String = printable(&mask(line)).chars().skip(cut).take(from - cut + AFTER).collect();
        let at = |chars: usize| shown.char_indices().nth(chars).map_or(shown.len(), |(byte, _)| byte);
        let span = at(from - cut)..at(from - cut + length);
        let line = self.body[..line_start].matches('\n').count() + 1;
        Spot { file: printable(&self.name), line, column: from + 1, label: label.into(), span, shown, cut }
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Text {
        Text { room: "config", name: "a.yaml".into(), body: body.into() }
    }

    #[test]
    fn a_spot_counts_lines_and_characters_from_one() {
        let spot = text("first\r\nsecønd: x\r\n").spot(14..15, "");
        assert_eq!((spot.line, spot.column), (2, 7));
        assert_eq!(&spot.shown[spot.span], ":");
    }

    #[test]
    fn only_a_part_of_a_long_line_is_shown() {
        let body = "y".repeat(5_000_000);
        let spot = text(&body).spot(2_000_000..2_000_004, "");
        assert_eq!(spot.column, 2_000_001);
        assert_eq!(spot.shown.chars().count(), BEFORE + AFTER);
    }

    #[test]
    fn any_span_is_safe() {
        let body = "é\n\u{1b}x";
        for start in 0..10 {
            for end in 0..10 {
                let spot = text(body).spot(start..end, "");
                assert!(spot.shown.get(spot.span.clone()).is_some(), "{start}..{end}: {spot:?}");
            }
        }
    }
}
