//! Turns the parser's and serde's errors into sentences for people.

use super::{Document, secrecy};
use crate::source::{Mistake, choices, did_you_mean, printable};

/// What serde calls a type, and what people call it.
const TYPES: [(&str, &str); 13] = [
    ("a string", "text"),
    ("a sequence", "a list"),
    ("a map", "keys with values"),
    ("map", "keys with values"),
    ("sequence", "a list"),
    ("a boolean", "`true` or `false`"),
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number, not negative"),
    ("u64", "a whole number, not negative"),
    ("usize", "a whole number, not negative"),
    ("i64", "a whole number"),
    ("f64", "a number"),
];

/// The mistake that `error` stands for.
pub fn mistake(document: &Document, error: &serde_yaml::Error, later: &[&str]) -> Mistake {
    let location = error.location();
    let start = location.as_ref().map_or(0, serde_yaml::Location::index);
    let full = error.to_string();
    let message = location.as_ref().map_or(full.as_str(), |at| {
        full.strip_suffix(&format!(" at line {} column {}", at.line(), at.column())).unwrap_or(&full)
    });
    let (path, message) = split(message);
    let secret = path.split(['.', '[']).any(secrecy::is_secret);
    let room = document.text.room;
    let at = |title: String, label: &str| {
        Mistake::error(room, title).spot(document.masked(document.token(start), label.to_string(), secret))
    };

    if let Some((kind, word, valid)) = unknown(message) {
        if later.contains(&word) {
            return at(format!("this version cannot honour `{word}` yet"), "not yet").help(if valid.is_empty() {
                "leave it out".into()
            } else {
                format!("valid here: {}", choices(&valid))
            });
        }
        let named = if kind == "field" { "unknown key" } else { "unknown value" };
        let label = did_you_mean(word, &valid).map(|meant| format!("did you mean `{meant}`?")).unwrap_or_default();
        let mistake = at(format!("{named} `{}`", printable(word)), &label);
        return if valid.is_empty() {
            mistake.help("no key belongs here")
        } else {
            mistake.help(format!("valid here: {}", choices(&valid)))
        };
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        let inside = if path.is_empty() { String::new() } else { format!(" in `{}`", printable(path)) };
        return at(format!("the key {field} is missing{inside}"), &format!("{field} belongs here"));
    }
    for start in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message.strip_prefix(start).and_then(|m| m.rsplit_once(", expected ")) {
            // The value itself stands in the line that is shown; here it could be a secret.
            let found = match found.split_once([' ', '`', '"']) {
                _ if found.starts_with("floating") => "a number with a point",
                _ if found.starts_with("unit") || found.starts_with("null") => "nothing",
                Some(("string", _)) => "text",
                Some(("integer", _)) => "a whole number",
                Some(("boolean", _)) => "true or false",
                _ if found == "map" => "keys with values",
                _ if found == "sequence" => "a list",
                _ => "something else",
            };
            if expected == "struct SecretRef" {
                return at("a secret is not written here, only where it is kept".into(), "not the secret itself")
                    .help("this one was in a file that others may have read: change it")
                    .help("valid here: `{ file: PATH }`, `{ env: NAME }`, `{ credential: NAME }` or `{ command: [PROGRAM, ARGUMENT] }`");
            }
            let expected = if expected.starts_with("struct ") || expected.starts_with("internally") {
                "keys with values"
            } else {
                TYPES.iter().find(|(serde, _)| *serde == expected).map_or(expected, |(_, people)| people)
            };
            let title = if found == "a whole number" && expected.starts_with(found) {
                format!("expected {expected}")
            } else {
                format!("expected {expected}, found {found}")
            };
            return at(title, &format!("expected {expected}"));
        }
    }
    if message.contains("did not match any variant of untagged enum") {
        return at("this has none of the forms that are valid here".into(), "")
            .help("docs/configuration.md shows them; look for an unknown key or a value of the wrong type");
    }
    if message == "recursion limit exceeded" {
        return at("nested too deep".into(), "");
    }
    if message == "repetition limit exceeded" {
        return at("aliases grow too large".into(), "").help("write the values out");
    }
    if location.is_some() && path.is_empty() && !message.contains('`') {
        return syntax(document, start, message);
    }
    at(message.to_string(), "")
}

/// Splits the path off a message: `systems.directory.ldap: unknown field …`.
fn split(message: &str) -> (&str, &str) {
    [
        "unknown field `",
        "unknown variant `",
        "missing field `",
        "invalid type: ",
        "invalid value: ",
        "duplicate field `",
    ]
    .iter()
    .find_map(|start| message.find(start))
    .or_else(|| message.find(": ").map(|at| at + 2))
    .map_or(("", message), |at| (message[..at].trim_end_matches(": "), &message[at..]))
}

/// The parts of ``unknown field `word`, expected one of `a`, `b` ``.
fn unknown(message: &str) -> Option<(&str, &str, Vec<&str>)> {
    let (kind, rest) = message.strip_prefix("unknown ")?.split_once(" `")?;
    // The word is somebody's text; the list is ours and comes last.
    let (word, valid) = rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are no "))?;
    let valid = if valid.contains('`') { valid.split('`').skip(1).step_by(2).collect() } else { Vec::new() };
    Some((kind, word, valid))
}

/// A mistake in the YAML itself.
fn syntax(document: &Document, start: usize, message: &str) -> Mistake {
    let body = &document.text.body;
    let start = body.floor_char_boundary(start);
    let problem = message.split(" at line ").next().unwrap_or(message);
    let mistake = document.at(start..start + 1, "this is not YAML", problem);
    let line_start = body[..start].rfind('\n').map_or(0, |at| at + 1);
    let indentation: String = body[line_start..].chars().take_while(|c| c.is_whitespace() && *c != '\n').collect();
    if indentation.contains('\t') {
        return mistake.help("YAML is indented with spaces, never with tabs");
    }
    if problem.contains("mapping values are not allowed") {
        return mistake.help("put text that contains `: ` in quotes, and check the indentation");
    }
    if problem.contains("cannot start any token") || problem.contains("unknown anchor") {
        return mistake.help("put text that begins with a special character in quotes");
    }
    mistake.help("check the indentation, the brackets and the quotes, also in the lines above")
}
