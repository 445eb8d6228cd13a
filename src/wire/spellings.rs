//! A secret in what a program says, however it is spelled there: as it is, in a URL, in JSON, in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// What a program said may have been cut off inside the value. Its beginning counts from so many characters on: fewer are anybody's.
const BEGINNING: usize = 6;
/// As many characters, at least, make a line of a value that no other text has by chance.
const LONG_LINE: usize = 16;
/// As many characters of base64, at least, are taken for the value where it stands between others.
const SHORTEST_INSIDE: usize = 4;

/// What a program said, but for the value, however it is spelled there. It stands on one line, with one space between words.
pub fn without(said: &str, value: &SecretString) -> String {
    let value = value.expose_secret();
    let words: Vec<&str> = value.split_whitespace().collect();
    let on_one_line = Zeroizing::new(words.join(" "));
    if on_one_line.is_empty() {
        return said.to_string();
    }
    // As the program spelled it, and as it stands there once white space was made one space.
    let mut shown = without_exactly(said, value);
    if *on_one_line != value {
        shown = without_exactly(&shown, &on_one_line);
    }
    // Of a private key one line alone would be too much.
    if value.lines().nth(1).is_some() {
        for line in value.lines().map(str::trim).filter(|line| line.len() >= LONG_LINE) {
            shown = without_exactly(&shown, line);
        }
    }
    shown
}

fn without_exactly(said: &str, value: &str) -> String {
    let digits = in_base64(value.as_bytes());
    // Base64 first: it is cut out by whole words, of which another cut would leave the rest.
    let shown = replaced(said, |said, at| word_of_base64(said, at, &digits));
    replaced(&shown, |said, at| Some((at, spelled(said, at, value, false)?)))
}

/// `said` with … for each stretch that `found` says begins where it looks: from where to where.
fn replaced(said: &str, found: impl Fn(&str, usize) -> Option<(usize, usize)>) -> String {
    let (mut shown, mut kept) = (String::with_capacity(said.len()), 0);
    for (at, _) in said.char_indices() {
        if at >= kept
            && let Some((from, to)) = found(said, at)
        {
            shown.push_str(&said[kept..from.max(kept)]);
            shown.push('…');
            kept = to;
        }
    }
    shown.push_str(&said[kept..]);
    shown
}

/// Where a spelling of `value` that begins at `at` ends; of several, the longest. Every character may be spelled in another way. In
/// base64 the two alphabets are one, and a space may stand between any two characters, where a line was broken.
fn spelled(said: &str, at: usize, value: &str, base64: bool) -> Option<usize> {
    let mut ends = vec![at];
    for (index, c) in value.chars().enumerate() {
        if index >= BEGINNING && ends.contains(&said.len()) {
            return Some(said.len());
        }
        let mut next: Vec<usize> = Vec::new();
        for end in ends {
            spellings(said, end, c, &mut next);
            if base64 {
                twin(c).into_iter().for_each(|twin| spellings(said, end, twin, &mut next));
                if index > 0 && said[end..].starts_with(' ') {
                    spellings(said, end + 1, c, &mut next);
                    twin(c).into_iter().for_each(|twin| spellings(said, end + 1, twin, &mut next));
                }
            }
        }
        next.sort_unstable();
        next.dedup();
        if next.is_empty() {
            return None;
        }
        ends = next;
    }
    ends.pop()
}

/// The same digit in the other alphabet of base64 (RFC 4648, 4 and 5).
fn twin(c: char) -> Option<char> {
    match c {
        '+' => Some('-'),
        '/' => Some('_'),
        _ => None,
    }
}

/// Adds where each spelling of `c` that stands at `at` ends: itself, percent-encoded (RFC 3986, 2.1), after a backslash, or as JSON
/// escapes it (RFC 8259, 7).
fn spellings(said: &str, at: usize, c: char, ends: &mut Vec<usize>) {
    let rest = &said.as_bytes()[at..];
    let mut utf8 = [0; 4];
    let utf8 = c.encode_utf8(&mut utf8).as_bytes();
    if rest.starts_with(utf8) {
        ends.push(at + utf8.len());
    }
    if let Some(escaped) = rest.strip_prefix(b"\\")
        && escaped.starts_with(utf8)
    {
        ends.push(at + 1 + utf8.len());
    }
    let percent = utf8.iter().enumerate().all(|(i, byte)| is_hex(rest, i * 3, b"%", 2, u32::from(*byte)));
    if percent {
        ends.push(at + utf8.len() * 3);
    }
    let mut utf16 = [0; 2];
    let utf16 = c.encode_utf16(&mut utf16);
    if utf16.iter().enumerate().all(|(i, unit)| is_hex(rest, i * 6, b"\\u", 4, u32::from(*unit))) {
        ends.push(at + utf16.len() * 6);
    }
    // A space stands for any white space that the value has, however much of it.
    if c == ' ' {
        let blanks: [&[u8]; 6] = [b"+", b"%09", b"%0a", b"%0A", b"\\n", b"\\t"];
        ends.extend(blanks.iter().filter(|blank| rest.starts_with(blank)).map(|blank| at + blank.len()));
    }
}

/// Whether `number` stands at `at` in so many hex digits after `mark`.
fn is_hex(text: &[u8], at: usize, mark: &[u8], digits: usize, number: u32) -> bool {
    let hex = text.get(at..).and_then(|text| text.strip_prefix(mark)).and_then(|text| text.get(..digits));
    let hex = hex.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit)).and_then(|hex| str::from_utf8(hex).ok());
    hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()) == Some(number)
}

/// The value in base64: the digits of which every bit is its own, where it stands first, and one or two bytes after the beginning of three. It
/// may be a part of what was encoded, as a password is after its user name and a colon.
fn in_base64(value: &[u8]) -> Vec<Zeroizing<String>> {
    let own = |before: usize| {
        let mut bytes = Zeroizing::new(vec![0; before]);
        bytes.extend_from_slice(value);
        let digits = Zeroizing::new(STANDARD_NO_PAD.encode(&*bytes));
        let own = digits.get((before * 8).div_ceil(6)..bytes.len() * 8 / 6).filter(|own| !own.is_empty())?;
        (before == 0 || own.len() >= SHORTEST_INSIDE).then(|| Zeroizing::new(own.to_string()))
    };
    (0..3).filter_map(own).collect()
}

/// Where the word lies that has the value in base64 and in which that begins at `at`: all of the word, of which the digits at both ends are
/// partly the value's.
fn word_of_base64(said: &str, at: usize, digits: &[Zeroizing<String>]) -> Option<(usize, usize)> {
    let end = digits.iter().find_map(|own| spelled(said, at, own, true))?;
    // Of percent-encoded digits, too; `=` stands at the end alone.
    let is_digit = |c: &char| c.is_ascii_alphanumeric() || "+/-_%".contains(*c);
    let from = at - said[..at].chars().rev().take_while(is_digit).count();
    let to = end + said[end..].chars().take_while(|c| is_digit(c) || *c == '=').count();
    Some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

    fn cut(said: &str, value: &str) -> String {
        without(said, &SecretString::from(value))
    }

    #[test]
    fn of_a_private_key_no_line_is_told() {
        let lines = [
            "-----BEGIN KEY-----",
            "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU",
            "AAAAEbm9uZQAAAAAAAAAB+/AAAAMwA",
            "short",
            "-----END KEY-----",
        ];
        let value = format!("{}\n", lines.join("\n"));
        assert!(!cut(&format!("cannot use {value}"), &value).contains(lines[2]));
        let said = cut(&format!("line 3: {} is odd; a short one: {}", lines[2], lines[1]), &value);
        assert_eq!(said, "line 3: … is odd; a short one: …");
    }

    #[test]
    fn a_value_is_cut_out_in_every_spelling() {
        let value = "pä$s/w+r?d %41 \"q\" \\ö>~é";
        let percent = |keep: &str, upper: bool| -> String {
            let byte = |b: u8| match char::from(b) {
                c if c.is_ascii_alphanumeric() || keep.contains(c) => c.to_string(),
                _ if upper => format!("%{b:02X}"),
                _ => format!("%{b:02x}"),
            };
            value.bytes().map(byte).collect()
        };
        let json = serde_json::to_string(value).unwrap();
        let ascii: String = value
            .encode_utf16()
            .map(|u| match char::from_u32(u.into()) {
                Some(c) if c.is_ascii_alphanumeric() => c.to_string(),
                _ => format!("\\u{u:04x}"),
            })
            .collect();
        for spelled in [
            value.to_string(),
            percent("", true),
            percent("", false),
            percent("-_.~", true),
            percent("/$+?~", true),
            percent("", true).replace("%20", "+"),
            json.trim_matches('"').to_string(),
            json.replace('/', "\\/"),
            ascii,
            STANDARD.encode(value),
            STANDARD.encode(format!("{value}\n")),
            STANDARD.encode(format!("portal:{value}")),
            STANDARD.encode(format!("app:{value}@db")),
            URL_SAFE.encode(value),
            URL_SAFE_NO_PAD.encode(value),
            percent_of_base64(&STANDARD.encode(value)),
            STANDARD
                .encode(value)
                .as_bytes()
                .chunks(10)
                .map(|c| str::from_utf8(c).unwrap())
                .collect::<Vec<_>>()
                .join(" "),
        ] {
            for (before, after) in [("", ""), ("refused: ", " (28P01)"), ("pw=", "&x=1")] {
                let shown = cut(&format!("{before}{spelled}{after}"), value);
                assert!(
                    shown.starts_with(before) && shown.ends_with(after) && shown.contains('…'),
                    "{spelled}: {shown}"
                );
                assert!(shown.chars().count() <= before.len() + after.len() + 3, "{spelled}: {shown}");
            }
        }
    }

    fn percent_of_base64(text: &str) -> String {
        text.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D")
    }

    #[test]
    fn blanks_in_a_row_are_the_values_own() {
        let value = "correct  horse\t battery";
        for spelled in [
            STANDARD.encode(value),
            STANDARD.encode(format!("portal:{value}")),
            "correct%20%20horse%09%20battery".into(),
            "correct++horse%09+battery".into(),
            // As the script says what stood on several lines.
            "correct horse battery".into(),
            STANDARD.encode("correct horse battery"),
        ] {
            let shown = cut(&format!("refused: {spelled} (28P01)"), value);
            assert_eq!(shown, "refused: … (28P01)", "{spelled}");
        }
    }

    #[test]
    fn a_random_value_is_cut_out_wherever_it_stands_in_base64() {
        let value = "Zk3-Qq_9vXbT0aLmN4cR7yUeWsD1fGhJ2kPiO5tBxYz";
        for before in 0..7 {
            for after in 0..4 {
                let text = format!("{}{value}{}", &"portal:"[..before], &"@db1"[..after]);
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    assert_eq!(cut(&format!("Basic {encoded} sent"), value), "Basic … sent", "{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_the_value_stays() {
        for said in ["I feel sick", "status 500: %41%42 \\u0041 QUJD/abc==", "", "a secre"] {
            assert_eq!(cut(said, "secret-value-1"), said);
        }
        assert_eq!(cut("nothing is said", ""), "nothing is said");
        assert_eq!(cut("nothing is said", "  \n"), "nothing is said");
        // Another value of the same length.
        let said = format!("pw {}", STANDARD.encode("another-value1"));
        assert_eq!(cut(&said, "secret-value-1"), said);
    }

    #[test]
    fn the_beginning_of_a_value_that_was_cut_off_is_cut_out_too() {
        assert_eq!(cut("password=secret-val", "secret-value-1"), "password=…");
        assert_eq!(cut("password%3Dsecret%2Dval", "secret-value-1"), "password%3D…");
        assert_eq!(cut(&STANDARD.encode("secret-value-1")[..14], "secret-value-1"), "…");
    }
}
