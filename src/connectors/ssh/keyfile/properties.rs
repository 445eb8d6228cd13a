//! Properties files, as `java.util.Properties.load` reads them: `=`, `:` or a blank between key and value, escapes with `\`, comments
//! with `#` or `!`. Source: the Java API documentation of that method.
//!
//! Refused is what Java reads but others do not: a value that goes on in the next line, characters beyond ASCII in the value itself (Latin-1
//! or UTF-8?), a value that ends in a blank.

use super::{Form, Found, Quoting, position};
use std::fmt::Write;
use std::ops::Range;
use zeroize::Zeroizing;

pub struct Properties;

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

/// A key and its value, which may have been written over several lines.
struct Entry {
    key: String,
    value: Zeroizing<String>,
    /// Where the value stands, if all of it is in one line.
    span: Option<Range<usize>>,
    /// Of its beginning, from 1.
    line: usize,
}

/// The lines of a text with where they begin; `\n`, `\r` and `\r\n` end one.
fn natural(text: &str) -> Vec<(usize, &str)> {
    let (mut lines, mut start) = (Vec::new(), 0);
    while start < text.len() {
        let length = text[start..].find(['\n', '\r']).unwrap_or(text.len() - start);
        lines.push((start, &text[start..start + length]));
        let end = start + length;
        start = end + if text[end..].starts_with("\r\n") { 2 } else { 1 };
    }
    lines
}

/// Whether the line's end is escaped.
fn goes_on(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut lines = natural(text).into_iter().enumerate();
    while let Some((number, (start, line))) = lines.next() {
        let body = line.trim_start_matches(BLANKS);
        if body.is_empty() || body.starts_with(['#', '!']) {
            continue;
        }
        let begin = start + (line.len() - body.len());
        let mut whole = Zeroizing::new(body.to_string());
        let mut several = false;
        let mut on = goes_on(body);
        while on {
            several = true;
            whole.pop();
            let Some((_, (_, more))) = lines.next() else { break };
            let more = more.trim_start_matches(BLANKS);
            whole.push_str(more);
            on = goes_on(more);
        }
        let (key, value) = split(&whole);
        let wrong = |why: &str| format!("{why} in the entry that begins at {}", position(text, begin));
        entries.push(Entry {
            key: plain(key).map_err(wrong)?.to_string(),
            value: plain(&whole[value.clone()]).map_err(wrong)?,
            span: (!several).then(|| begin + value.start..begin + value.end),
            line: number + 1,
        });
    }
    Ok(entries)
}

/// The key as it is written, and where the value stands.
fn split(line: &str) -> (&str, Range<usize>) {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = !escaped && (BLANKS.contains(&c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        ends
    });
    let end = end.unwrap_or(line.len());
    let rest = line[end..].trim_start_matches(BLANKS);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(BLANKS);
    (&line[..end], line.len() - rest.len()..line.len())
}

/// What is meant by what is written.
fn plain(written: &str) -> Result<Zeroizing<String>, &'static str> {
    let mut units = Zeroizing::new(Vec::with_capacity(written.len()));
    let mut chars = written.chars();
    let mut pair = [0; 2];
    while let Some(c) = chars.next() {
        let meant = match c {
            '\\' => match chars.next() {
                None => break,
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: Option<Vec<u32>> = (0..4).map(|_| chars.next().and_then(|c| c.to_digit(16))).collect();
                    let unit = digits.ok_or("`\\u` without four hexadecimal digits")?.iter().fold(0, |unit, digit| unit * 16 + digit);
                    // Four digits always fit.
                    units.push(unit as u16);
                    continue;
                }
                Some(other) => other,
            },
            c => c,
        };
        units.extend_from_slice(meant.encode_utf16(&mut pair));
    }
    String::from_utf16(&units).map(Zeroizing::new).map_err(|_| "half a character (`\\uD800` to `\\uDFFF`)")
}

fn place(entries: &[Entry], path: &[String]) -> Result<usize, String> {
    let [key] = path else { return Err("a properties file has keys of one word".into()) };
    let mut same = entries.iter().enumerate().filter(|(_, entry)| entry.key == *key);
    let (at, _) = same.next().ok_or_else(|| format!("{key} does not stand there"))?;
    match same.next() {
        None => Ok(at),
        Some((_, second)) => Err(format!("{key} stands there more than once, line {} included", second.line)),
    }
}

impl Form for Properties {
    fn find(&self, text: &str, path: &[String]) -> Result<Found, String> {
        let mut entries = entries(text)?;
        let Entry { value, span, line, .. } = entries.swap_remove(place(&entries, path)?);
        let span = span.ok_or_else(|| format!("the value in line {line} goes on in the next line"))?;
        let raw = &text[span.clone()];
        if !raw.is_ascii() {
            return Err(format!("the value in line {line} has characters beyond ASCII, which programs read differently: write them as `\\u` and four digits"));
        }
        if value.ends_with(BLANKS) {
            return Err(format!("the value in line {line} ends in a blank, which programs read differently"));
        }
        Ok(Found { value, raw: Zeroizing::new(raw.to_string()), span, quoting: Quoting::Bare })
    }

    fn write(&self, new: &str, _: &Found) -> Result<Zeroizing<String>, String> {
        if new.ends_with(BLANKS) {
            return Err("the new value ends in a blank, which programs read differently".into());
        }
        let mut text = Zeroizing::new(String::with_capacity(2 * new.len()));
        for (at, c) in new.char_indices() {
            match c {
                '\\' => text.push_str("\\\\"),
                // At the beginning they would belong to what stands before the value.
                ' ' | '=' | ':' | '#' | '!' if at == 0 => text.extend(['\\', c]),
                ' '..='~' => text.push(c),
                c => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing into a string cannot fail.
                        let _ = write!(text, "\\u{unit:04X}");
                    }
                }
            }
        }
        Ok(text)
    }

    fn same_but(&self, before: &str, after: &str, path: &[String]) -> Result<bool, String> {
        let (ours, theirs) = (entries(before)?, entries(after)?);
        let at = place(&ours, path)?;
        let same = |(item, (a, b)): (usize, (&Entry, &Entry))| {
            (a.line, &a.key, a.span.is_some()) == (b.line, &b.key, b.span.is_some()) && (item == at || a.value == b.value)
        };
        Ok(ours.len() == theirs.len() && ours.iter().zip(&theirs).enumerate().all(same))
    }
}
