//! INI files. There is no standard, so only what all of its dialects read alike is understood: `[section]`, `key = value` and `key: value`,
//! comments (`;`, `#`) in lines of their own, a value bare or whole in `'…'` or `"…"`.
//!
//! A path is the section and the key, or the key alone for one that stands before every section. Some dialects tell upper from lower
//! case and some do not: the path must be written as it stands there, and what differs in case only counts as there twice.

use super::{Form, Found, Quoting, shown};
use std::ops::Range;
use zeroize::Zeroizing;

pub struct Ini;

/// A line that is neither empty nor a comment.
struct Line<'t> {
    /// From 1.
    number: usize,
    /// How far it is indented.
    indent: usize,
    what: What<'t>,
}

enum What<'t> {
    Section(&'t str),
    /// The key, and where its value stands, without blanks around it.
    Entry(&'t str, Range<usize>),
    /// No section and no delimiter: a key without a value, or more of the value above.
    Bare(&'t str),
}

fn lines(text: &str) -> Result<Vec<Line<'_>>, String> {
    let (mut lines, mut at) = (Vec::new(), 0);
    for (number, whole) in text.split_inclusive('\n').enumerate() {
        let (number, start) = (number + 1, at);
        at += whole.len();
        let line = whole.strip_suffix('\n').map_or(whole, |line| line.strip_suffix('\r').unwrap_or(line));
        if line.contains('\r') {
            return Err(format!("line {number} has a carriage return inside"));
        }
        let word = line.trim_matches([' ', '\t']);
        if word.is_empty() || word.starts_with([';', '#']) {
            continue;
        }
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let what = if let Some(name) = word.strip_prefix('[') {
            let column = |at: usize| line[..at].chars().count() + 1;
            let (name, rest) = name
                .split_once(']')
                .ok_or_else(|| format!("the section in line {number}, column {} is not closed", column(indent)))?;
            let rest = rest.trim_start_matches([' ', '\t']);
            if rest.contains(']') || !(rest.is_empty() || rest.starts_with([';', '#'])) {
                let after = column(indent + word.len() - rest.len());
                return Err(format!("something stands behind the section in line {number}, column {after}"));
            }
            What::Section(name.trim())
        } else if let Some(delimiter) = line.find(['=', ':']) {
            let value = &line[delimiter + 1..];
            let inner = value.trim_matches([' ', '\t']);
            let begin = start + delimiter + 1 + (value.len() - value.trim_start_matches([' ', '\t']).len());
            // Where nothing stands, nothing is pointed at.
            let begin = if inner.is_empty() { start + line.len() } else { begin };
            What::Entry(line[..delimiter].trim_matches([' ', '\t']), begin..begin + inner.len())
        } else {
            What::Bare(word)
        };
        lines.push(Line { number, indent, what });
    }
    Ok(lines)
}

/// The index of the line in which the path stands.
fn place(lines: &[Line], path: &[String]) -> Result<usize, String> {
    let (section, key) = match path {
        [key] => (None, key),
        [section, key] => (Some(section.as_str()), key),
        _ => return Err("an INI file has sections and keys, nothing below them".into()),
    };
    let whole = shown(path);
    let headers: Vec<(usize, &str)> = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| if let What::Section(name) = line.what { Some((at, name)) } else { None })
        .collect();
    let begin = match section {
        None => 0,
        Some(section) => {
            let mut same = headers.iter().filter(|(_, name)| name.eq_ignore_ascii_case(section));
            let (at, name) = same.next().ok_or_else(|| format!("the section [{section}] does not stand there"))?;
            if let Some((second, _)) = same.next() {
                return Err(format!("the section [{section}] stands there more than once, line {} included", lines[*second].number));
            }
            if *name != section {
                return Err(format!("the section [{section}] is written in other letters there, upper and lower case"));
            }
            at + 1
        }
    };
    let end = headers.iter().map(|(at, _)| *at).find(|at| *at >= begin).unwrap_or(lines.len());
    let mut same = Vec::new();
    for (at, line) in lines.iter().enumerate().take(end).skip(begin) {
        match line.what {
            What::Bare(word) if word.eq_ignore_ascii_case(key) => {
                return Err(format!("line {} names {whole} without a value", line.number));
            }
            What::Entry(name, _) if name.eq_ignore_ascii_case(key) => same.push((at, name)),
            _ => {}
        }
    }
    match same[..] {
        [] => Err(format!("{whole} does not stand there")),
        [(at, name)] if name == key => Ok(at),
        [_] => Err(format!("{whole} is written in other letters there, upper and lower case")),
        [_, (at, _), ..] => Err(format!("{whole} stands there more than once, line {} included", lines[at].number)),
    }
}

impl Form for Ini {
    fn find(&self, text: &str, path: &[String]) -> Result<Found, String> {
        let lines = lines(text)?;
        let at = place(&lines, path)?;
        let line = &lines[at];
        let What::Entry(_, span) = &line.what else { return Err("its place was not found".into()) };
        let odd = |why: &str| Err(format!("the value in line {} {why}", line.number));
        // Some dialects go on reading a value in lines that are indented deeper, behind a backslash, or up to a closing quote.
        if lines.get(at + 1).is_some_and(|next| next.indent > line.indent) {
            return odd("may go on in the next line, which is indented deeper");
        }
        let header = lines[..at].iter().rposition(|line| matches!(line.what, What::Section(_)));
        let above = &lines[header.map_or(0, |header| header + 1)..at];
        let deeper = |line: &Line, above: &[Line]| above.iter().any(|above| above.indent < line.indent);
        if deeper(line, above) || header.is_some_and(|header| deeper(&lines[header], &lines[..header])) {
            return odd("or its section is indented deeper than a line above: some programs take it for more of that value");
        }
        let goes_on = |line: &Line| match &line.what {
            What::Section(_) => false,
            What::Entry(_, value) => text[value.clone()].ends_with('\\'),
            What::Bare(word) => word.ends_with('\\'),
        };
        if above.last().is_some_and(goes_on) {
            return odd("stands below a line that ends in a backslash: some programs take it for more of that one");
        }
        let open = |line: &&Line| matches!(&line.what, What::Entry(_, value) if is_open(&text[value.clone()]));
        if let Some(open) = lines[..at].iter().find(open) {
            return Err(format!("line {} has a quote that is not closed: the value may go on in the next line", open.number));
        }
        let written = &text[span.clone()];
        if written.ends_with('\\') {
            return odd("ends in a backslash: programs differ in how they go on reading");
        }
        if written.contains("%%") || (written.contains("%(") && !super::is_reference(written)) {
            return odd("has `%%` or `%(`, which programs read differently");
        }
        let (quoting, raw) = match written.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let Some((inner, rest)) = written[1..].split_once(quote) else {
                    return odd("begins with a quote that is not closed in the same line");
                };
                if inner.contains('\\') {
                    return odd("has a `\\` in quotes, which programs read differently");
                }
                if !rest.is_empty() {
                    return odd("goes on behind the quotes, which programs read differently");
                }
                (if quote == '"' { Quoting::Double } else { Quoting::Single }, inner)
            }
            Some(';' | '#') => return odd("begins with `;` or `#`, which some programs take for a comment"),
            _ if has_remark(written) => {
                return odd("has ` ;` or ` #` inside, which some programs take for a comment: put it in quotes, or the comment in a line of its own");
            }
            _ => (Quoting::Bare, written),
        };
        Ok(Found {
            value: Zeroizing::new(raw.to_string()),
            raw: Zeroizing::new(raw.to_string()),
            span: span.clone(),
            quoting,
        })
    }

    fn write(&self, new: &str, found: &Found) -> Result<Zeroizing<String>, String> {
        // No dialect's escapes are another's.
        let fits = !new.contains(['%', '\\', '\n', '\r'])
            && match found.quoting {
                Quoting::Double => !new.contains('"'),
                Quoting::Single => !new.contains('\''),
                Quoting::Bare => new.trim() == new && !new.starts_with(['"', '\'', ';', '#']) && !has_remark(new),
            };
        if !fits {
            return Err("the new value would need quotes or escapes, which programs read differently".into());
        }
        Ok(Zeroizing::new(match found.quoting {
            Quoting::Bare => new.to_string(),
            Quoting::Single => format!("'{new}'"),
            Quoting::Double => format!("\"{new}\""),
        }))
    }

    fn same_but(&self, before: &str, after: &str, path: &[String]) -> Result<bool, String> {
        let (ours, theirs) = (lines(before)?, lines(after)?);
        let at = place(&ours, path)?;
        let same = |(a, b): (&Line, &Line)| match (&a.what, &b.what) {
            (What::Section(a), What::Section(b)) | (What::Bare(a), What::Bare(b)) => a == b,
            (What::Entry(key, value), What::Entry(other, now)) => {
                key == other && (a.number == ours[at].number || before[value.clone()] == after[now.clone()])
            }
            _ => false,
        };
        Ok(ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(a, b)| (a.number, a.indent) == (b.number, b.indent) && same((a, b))))
    }
}

/// Whether the value begins with a quote that is not closed in its line.
fn is_open(value: &str) -> bool {
    ['"', '\''].iter().any(|quote| value.strip_prefix(*quote).is_some_and(|rest| !rest.contains(*quote)))
}

/// Whether some program takes the end for a comment.
fn has_remark(value: &str) -> bool {
    value.contains([';', '#']) && [" ;", " #", "\t;", "\t#"].iter().any(|remark| value.contains(remark))
}
