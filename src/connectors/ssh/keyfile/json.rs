//! JSON (RFC 8259), as `serde_json` reads it. No comments, no trailing commas.

use super::tree::Tree;
use super::{Form, Found, Quoting};
use crate::source::yaml::Node;
use std::ops::Range;
use zeroize::Zeroizing;

pub struct Json;

fn read(text: &str) -> Result<Tree, String> {
    let mut parser = serde_json::Deserializer::from_str(text);
    // What it says of a mistake are its own words, with line and column.
    let tree = Tree::read(&mut parser).and_then(|tree| parser.end().map(|()| tree));
    tree.map_err(|error| format!("it is not JSON: {error}"))
}

impl Form for Json {
    fn find(&self, text: &str, path: &[String]) -> Result<Found, String> {
        let tree = read(text)?;
        let (nodes, leaf) = tree.at(path)?;
        let span = Scan { text: text.as_bytes(), at: 0 }.go(&nodes).ok_or("its place was not found")?;
        let token = &text[span.clone()];
        let value = leaf.scalar(|| Some(token.to_string()))?;
        let quoted = token.len() >= 2 && token.starts_with('"') && token.ends_with('"');
        let (raw, quoting) =
            if quoted { (&token[1..token.len() - 1], Quoting::Double) } else { (token, Quoting::Bare) };
        Ok(Found { value, raw: Zeroizing::new(raw.to_string()), span, quoting })
    }

    fn write(&self, new: &str, _: &Found) -> Result<Zeroizing<String>, String> {
        serde_json::to_string(new).map(Zeroizing::new).map_err(|error| error.to_string())
    }

    fn same_but(&self, before: &str, after: &str, path: &[String]) -> Result<bool, String> {
        let before = read(before)?;
        let (nodes, _) = before.at(path)?;
        Ok(before.same_but(&read(after)?, &nodes))
    }
}

/// Walks over JSON that was parsed before, so is well-formed.
struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    /// Where the value at the end of the path stands. No key on the way is there twice.
    fn go(mut self, path: &[Node]) -> Option<Range<usize>> {
        self.blanks();
        for node in path {
            self.at += 1;
            match node {
                Node::Item(item) => {
                    for _ in 0..*item {
                        self.value()?;
                        self.at += 1;
                    }
                }
                Node::Key(wanted) => loop {
                    let key = self.value()?;
                    // Over the colon.
                    self.blanks();
                    self.at += 1;
                    if serde_json::from_slice::<String>(&self.text[key]).ok()? == *wanted {
                        break;
                    }
                    self.value()?;
                    self.blanks();
                    self.at += 1;
                },
            }
            self.blanks();
        }
        self.value()
    }

    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(|b| b" \t\r\n".contains(b)) {
            self.at += 1;
        }
    }

    /// Passes over one value, and the blanks before and after it.
    fn value(&mut self) -> Option<Range<usize>> {
        self.blanks();
        let (start, mut depth) = (self.at, 0_usize);
        loop {
            match self.text.get(self.at)? {
                b'"' => self.string()?,
                b'[' | b'{' => {
                    depth += 1;
                    self.at += 1;
                }
                b']' | b'}' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                _ => {
                    let end = self.text[self.at..].iter().position(|b| b" \t\r\n,:]}".contains(b));
                    self.at = end.map_or(self.text.len(), |length| self.at + length);
                }
            }
            if depth == 0 {
                break;
            }
        }
        let span = start..self.at;
        self.blanks();
        Some(span)
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.text.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }
}
