//! Names and dates as openssl writes them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What a certificate's subject says of its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The common name; nothing if there is none, or more than one.
    pub name: Option<String>,
    /// The mail address in the subject.
    pub mail: Option<String>,
}

/// Reads a subject as `openssl ca` writes it into its database (`/O=Example/CN=jane/emailAddress=j@example.com`) and as openssl prints it
/// (`O=Example, CN=jane/emailAddress=j@example.com`).
///
/// Neither escapes what stands in a name, so a name that contains `/CN=` or `, CN=` cannot be told from two names: it is none.
pub fn subject(text: &str) -> Subject {
    let mut parts: Vec<(String, usize, usize)> = Vec::new();
    let mut begin = 0;
    while begin < text.len() {
        let rest = &text[begin..];
        let separator = if rest.starts_with('/') || rest.starts_with(',') && rest.starts_with(", ") {
            if rest.starts_with('/') { 1 } else { 2 }
        } else {
            0
        };
        if (separator > 0 || begin == 0)
            && let Some((key, length)) = key(&rest[separator..])
        {
            if let Some(last) = parts.last_mut() {
                last.2 = begin;
            }
            let from = begin + separator + length;
            parts.push((key, from, text.len()));
            begin = from;
        } else {
            begin += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    let all = |wanted: &str| -> Vec<String> {
        let found = parts.iter().filter(|(key, ..)| key.eq_ignore_ascii_case(wanted));
        found.map(|(_, from, to)| unescaped(text.get(*from..*to).unwrap_or_default())).collect()
    };
    let one = |mut found: Vec<String>| if found.len() == 1 { found.pop().filter(|v| !v.is_empty()) } else { None };
    Subject { name: one(all("CN")), mail: one(all("emailAddress")) }
}

/// `CN=` or `CN = ` at the beginning: the key, and how long it is with all that belongs to it.
fn key(text: &str) -> Option<(String, usize)> {
    let key: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let rest = &text[key.len()..];
    if key.is_empty() {
        None
    } else if rest.starts_with(" = ") {
        Some((key.clone(), key.len() + 3))
    } else if rest.starts_with('=') {
        Some((key.clone(), key.len() + 1))
    } else {
        None
    }
}

/// `\xC3\xA9` is how openssl writes bytes that are no printable ASCII. It leaves a backslash as it is, so other such words are the name's own.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        match rest.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if !(b' '..=b'~').contains(&byte) => {
                bytes.push(byte);
                rest = &rest[at + 4..];
            }
            _ => {
                bytes.extend_from_slice(b"\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A time as the database has it: `YYMMDDHHMMSSZ`, or with four digits of the year (RFC 5280, 4.1.2.5).
pub fn database_time(text: &str) -> Option<Timestamp> {
    let text = text.split(',').next()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let full = match digits.len() {
        12 if &digits[..2] < "50" => format!("20{digits}"),
        12 => format!("19{digits}"),
        14 => digits.to_string(),
        _ => return None,
    };
    in_utc(DateTime::strptime("%Y%m%d%H%M%S", full).ok()?)
}

/// A time as openssl prints it: `Dec 22 16:21:20 2026 GMT`.
pub fn printed_time(text: &str) -> Option<Timestamp> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [month, day, time, year, "GMT"] = words[..] else { return None };
    in_utc(DateTime::strptime("%b %d %H:%M:%S %Y", format!("{month} {day} {time} {year}")).ok()?)
}

/// A time of the server's log, with the gateway's zone behind it: `2026-11-22T16:21:20+0530`.
pub fn log_time(text: &str) -> Option<Timestamp> {
    Timestamp::strptime("%Y-%m-%dT%H:%M:%S%z", text).ok()
}

fn in_utc(time: DateTime) -> Option<Timestamp> {
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> (Option<String>, Option<String>) {
        let subject = subject(text);
        (subject.name, subject.mail)
    }

    #[test]
    fn a_subject_is_read_in_both_spellings() {
        let some = |text: &str| Some(text.to_string());
        assert_eq!(named("/O=Example/CN=jane.roe"), (some("jane.roe"), None));
        assert_eq!(named("/CN=jane.roe/emailAddress=j@example.com"), (some("jane.roe"), some("j@example.com")));
        assert_eq!(named("O=Example, CN=jane.roe"), (some("jane.roe"), None));
        assert_eq!(named("O = Example, CN = Jane Roe, emailAddress = j@x.test"), (some("Jane Roe"), some("j@x.test")));
        assert_eq!(named("/CN=host/web"), (some("host/web"), None));
        assert_eq!(named("/CN=Ren\\xC3\\xA9"), (some("René"), None));
        assert_eq!(named("/O=Example"), (None, None));
    }

    #[test]
    fn what_openssl_does_not_escape_is_no_escape() {
        let some = |text: &str| Some(text.to_string());
        // Whoever asks for a certificate may choose such a name; openssl does not mark the backslash.
        assert_eq!(named("/CN=\\x6Aane.roe").0, some("\\x6Aane.roe"));
        assert_eq!(named("/CN=jane\\x2").0, some("jane\\x2"));
        assert_eq!(named("/CN=jane\\x0Aroe").0, some("jane\nroe"), "refused later: it holds a control character");
        assert_eq!(named("O=x, CN=\\xE0\\xA4\\x9C\\xE0\\xA4\\xAF").0, some("जय"));
    }

    #[test]
    fn a_name_that_cannot_be_told_from_two_is_none() {
        assert_eq!(named("/CN=mallory/CN=jane.roe").0, None);
        assert_eq!(named("CN=mallory, CN=jane.roe").0, None);
        assert_eq!(named("/CN=é/CN=").0, None);
    }

    #[test]
    fn times_are_read_as_openssl_writes_them() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(database_time("261122162120Z,keyCompromise"), Some(at("2026-11-22T16:21:20Z")));
        assert_eq!(database_time("20561122162120Z"), Some(at("2056-11-22T16:21:20Z")));
        assert_eq!(database_time("991122162120Z"), Some(at("1999-11-22T16:21:20Z")));
        assert_eq!(database_time("26112216212éZ"), None);
        assert_eq!(printed_time("Dec  2 16:21:20 2026 GMT"), Some(at("2026-12-02T16:21:20Z")));
        assert_eq!(log_time("2026-11-22T16:21:20+0530"), Some(at("2026-11-22T10:51:20Z")));
    }
}
