//! YAML, as the parser reads it that reads our own configuration. One document.
//!
//! A value in the style of one line is replaced: bare, in `'…'` or in `"…"`. Block scalars, tags, anchors and aliases at the value are
//! refused, and so is a value that an alias repeats elsewhere.

use super::tree::{TOO_MUCH, Tree};
use super::{Form, Found, Quoting, position};
use crate::source::yaml;
use std::fmt::Write;
use zeroize::Zeroizing;

pub struct Yaml;

fn read(text: &str) -> Result<Tree, String> {
    if let Some(at) = yaml::too_deep(text) {
        return Err(format!("too many brackets are open in {}", position(text, at)));
    }
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let first = documents.next().ok_or("it is empty")?;
    let tree = Tree::read(first).map_err(wrong)?;
    match documents.next() {
        None => Ok(tree),
        Some(_) => Err("it has more than one YAML document (`---`)".into()),
    }
}

/// What is wrong. The parser's own words have line and column; but with a value that does not fit, it would tell that one.
fn wrong(error: serde_yaml::Error) -> String {
    let words = error.to_string();
    let place = error.location().map(|at| format!(", line {}, column {}", at.line(), at.column())).unwrap_or_default();
    if words.contains(TOO_MUCH) {
        format!("{TOO_MUCH}{place}")
    } else if words.contains("invalid ") {
        format!("a key that is a list or a map, or a value that does not fit its tag{place}")
    } else {
        format!("it is not YAML that is understood: {words}")
    }
}

/// One value by itself.
fn alone(token: &str) -> Option<Tree> {
    Tree::read(serde_yaml::Deserializer::from_str(token)).ok()
}

impl Form for Yaml {
    fn find(&self, text: &str, path: &[String]) -> Result<Found, String> {
        let tree = read(text)?;
        let (nodes, leaf) = tree.at(path)?;
        // `!t key` is another key than `key` for some programs.
        for depth in 1..=nodes.len() {
            let adorned = matches!(nodes[depth - 1], yaml::Node::Key(_))
                && yaml::key_at(text, &nodes[..depth])
                    .is_none_or(|at| text.as_bytes().get(at).is_none_or(|b| b"!&*".contains(b)));
            if adorned {
                return Err(format!("{} has a tag, an anchor or an alias at its key", super::shown(&path[..depth])));
            }
        }
        let start = yaml::value_at(text, &nodes).filter(|at| text.is_char_boundary(*at)).ok_or("its place was not found")?;
        let line = text[start..].split(['\n', '\r']).next().unwrap_or_default();
        let number = || line.split([' ', '\t', ',', ']', '}']).next().map(str::to_string);
        let several = "the value spans lines";
        match line.chars().next() {
            Some('&' | '*') => return Err("the value has an anchor or is an alias (`&`, `*`)".into()),
            Some('!') => return Err("the value has a tag (`!…`)".into()),
            Some('|' | '>') => return Err("the value is a block (`|`, `>`), which spans lines".into()),
            _ => {}
        }
        let value = leaf.scalar(number)?;
        let (length, quoting) = match line.chars().next() {
            Some('"') => (closing_double(line).ok_or(several)?, Quoting::Double),
            Some('\'') => (closing_single(line).ok_or(several)?, Quoting::Single),
            // A bare value of one line is written as it is read.
            _ if line.starts_with(value.as_str()) => (value.len(), Quoting::Bare),
            _ => return Err(several.into()),
        };
        let token = &line[..length];
        if alone(token).is_none_or(|read| read != *leaf) {
            return Err("the value reads differently by itself than in its place".into());
        }
        let raw = if quoting == Quoting::Bare { token } else { &token[1..length - 1] };
        Ok(Found { value, raw: Zeroizing::new(raw.to_string()), span: start..start + length, quoting })
    }

    fn write(&self, new: &str, found: &Found) -> Result<Zeroizing<String>, String> {
        let plain = new.chars().all(is_plain);
        Ok(match found.quoting {
            Quoting::Bare if is_word(new) => Zeroizing::new(new.to_string()),
            Quoting::Single if plain => Zeroizing::new(format!("'{}'", new.replace('\'', "''"))),
            _ => double(new),
        })
    }

    fn same_but(&self, before: &str, after: &str, path: &[String]) -> Result<bool, String> {
        let before = read(before)?;
        let (nodes, _) = before.at(path)?;
        Ok(before.same_but(&read(after)?, &nodes))
    }
}

/// A character that stands for itself in quotes, by every version of YAML.
fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A word that no version of YAML takes for anything but text: too long for `false`, and no number.
fn is_word(new: &str) -> bool {
    new.len() > 5
        && new.starts_with(|c: char| c.is_ascii_alphabetic())
        && new.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

fn double(new: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * new.len() + 2));
    text.push('"');
    for c in new.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if is_plain(c) => text.push(c),
            c => {
                // Writing into a string cannot fail. All of these are below U+10000.
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
        }
    }
    text.push('"');
    text
}

/// The length of a double-quoted value at the beginning of the line.
fn closing_double(line: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in line.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The length of a single-quoted value at the beginning of the line: two quotes are one in the value.
fn closing_single(line: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        at += line[at..].find('\'')? + 1;
        if !line[at..].starts_with('\'') {
            return Some(at);
        }
        at += 1;
    }
}
