//! YAML that people write: configuration and playbooks.
//!
//! A [`Document`] is checked as a whole before anything is made of it: UTF-8, one document, no key twice, not too large, too
//! deep or growing by aliases. Then it becomes a value of some type, or a mistake that shows the very word. After that, rules that
//! no type can express ask the document where a value stands, by its path, and point there too.

mod explain;
mod secrecy;
mod walk;

use super::words::is_unprintable;
use super::{Mistake, Mistakes, Spot, Text};
use serde::de::DeserializeOwned;
use std::ops::Range;

pub use walk::too_deep;

/// The largest document, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A YAML file that was read whole and is well-formed.
#[derive(Clone, Debug)]
pub struct Document {
    text: Text,
}

/// One part of a path into a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// The value of a key.
    Key(&'a str),
    /// An item of a list, from 0.
    Item(usize),
}

impl<'a> From<&'a str> for Node<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Node<'_> {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

/// The byte at which the value of `path` begins, in YAML that was parsed before and that may be anybody's.
pub fn value_at(body: &str, path: &[Node]) -> Option<usize> {
    walk::find(body, path, false)
}

/// The byte at which the last key of `path` begins, as [`value_at`].
pub fn key_at(body: &str, path: &[Node]) -> Option<usize> {
    walk::find(body, path, true)
}

impl Document {
    /// Reads `bytes`, the content of the file `name`, for `room` (`config`, `playbook`).
    ///
    /// # Errors
    /// One mistake, with the place: not UTF-8, too large, not YAML, nothing in it, more than one document, control characters, a key twice, nested too
    /// deep, too many nodes (also after aliases are followed), a tag.
    pub fn read(room: &'static str, name: &str, bytes: &[u8]) -> Result<Self, Mistakes> {
        if bytes.len() > MAX_BYTES {
            return Err(Mistake::error(room, format!("{name} is too large"))
                .note(format!("it has {} bytes, at most {MAX_BYTES} are read", bytes.len()))
                .into());
        }
        let document = Self { text: Text::decode(room, name, bytes, |line| secrecy::mask(line, false))? };
        let body = &document.text.body;
        // Invisible characters could make a reader see another file than the parser sees.
        if let Some((at, wrong)) = body.char_indices().find(|(_, c)| !"\t\r\n".contains(*c) && is_unprintable(*c)) {
            let title = format!("an invisible control character (U+{:04X})", u32::from(wrong));
            return Err(document.at(at..at + wrong.len_utf8(), title, "remove it").into());
        }
        if body.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
            return Err(Mistake::error(room, format!("{name} is empty")).into());
        }
        walk::survey(&document)?;
        Ok(document)
    }

    /// Makes a `T` of the document. `later` are the words (keys and values) that a later version will know: using one is a mistake
    /// that says so.
    ///
    /// # Errors
    /// The first mistake, with the place and what is valid there.
    pub fn parse<T: DeserializeOwned>(&self, later: &[&str]) -> Result<T, Mistakes> {
        serde_yaml::from_str(&self.text.body).map_err(|error| explain::mistake(self, &error, later).into())
    }

    /// A mistake at the value of `path`: `title` says what is wrong, `label` stands beside the carets.
    pub fn error(&self, path: &[Node], title: impl Into<String>, label: impl Into<String>) -> Mistake {
        Mistake::error(self.text.room, title).spot(self.spot(path, label))
    }

    /// As [`Document::error`], but the input can be used.
    pub fn warning(&self, path: &[Node], title: impl Into<String>, label: impl Into<String>) -> Mistake {
        Mistake::warning(self.text.room, title).spot(self.spot(path, label))
    }

    /// Where the value of `path` stands; if there is none, where the nearest thing around it stands.
    pub fn spot(&self, path: &[Node], label: impl Into<String>) -> Spot {
        self.nearest(path, false, label.into())
    }

    /// Where the last key of `path` itself stands.
    pub fn key_spot(&self, path: &[Node], label: impl Into<String>) -> Spot {
        self.nearest(path, true, label.into())
    }

    fn nearest(&self, path: &[Node], key: bool, label: String) -> Spot {
        let start = (0..=path.len())
            .rev()
            .find_map(|length| walk::find(&self.text.body, &path[..length], key && length == path.len()))
            .unwrap_or(0);
        let keys = path.iter().filter_map(|node| if let Node::Key(key) = node { Some(*key) } else { None });
        self.masked(self.token(start), label, keys.clone().any(secrecy::is_secret))
    }

    /// A mistake at a span that is no node.
    fn at(&self, span: Range<usize>, title: impl Into<String>, label: impl Into<String>) -> Mistake {
        Mistake::error(self.text.room, title).spot(self.masked(span, label.into(), false))
    }

    fn masked(&self, span: Range<usize>, label: String, secret: bool) -> Spot {
        self.text.spot_masking(span, label, |line| secrecy::mask(line, secret))
    }

    /// The word that begins at `start`: a quoted scalar, or a plain one up to what ends it. One line only: it is for carets.
    fn token(&self, start: usize) -> Range<usize> {
        let start = self.text.body.floor_char_boundary(start);
        let line = self.text.body[start..].lines().next().unwrap_or_default();
        let length = match line.chars().next() {
            Some(quote @ ('"' | '\'')) => line[1..].find(quote).map_or(line.len(), |end| end + 2),
            Some('{' | '[' | '&' | '*' | '!' | '|' | '>') => 1,
            _ => [": ", " #", ", ", "}", "]"]
                .iter()
                .filter_map(|end| line.find(end))
                .min()
                .unwrap_or_else(|| line.trim_end().trim_end_matches(':').len()),
        };
        start..start + length.max(1)
    }
}

#[cfg(test)]
mod tests;
