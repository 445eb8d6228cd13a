//! Walks through a document: once to check what no type checks, and again to find where a value stands.
//!
//! The parser gives a position only with an error. So finding something is failing there on purpose: the walk goes down the path
//! and refuses the value that it was sent for.

use super::{Document, MAX_BYTES, Node};
use crate::source::Mistakes;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

/// How many lists and maps may stand in each other.
const MAX_DEPTH: usize = 32;
/// How many values there may be after aliases are followed.
const MAX_NODES: usize = 100_000;

/// Checks the whole document.
pub fn survey(document: &Document) -> Result<(), Mistakes> {
    let body = &document.text.body;
    if let Some(at) = too_deep(body) {
        return Err(document.at(at..at + 1, "nested too deep", format!("at most {MAX_DEPTH} levels")).into());
    }
    let survey = Survey { nodes: Cell::new(0), wrong: RefCell::new(None) };
    let mut documents = serde_yaml::Deserializer::from_str(body);
    let explained = |error: &serde_yaml::Error| match survey.wrong.take() {
        Some((title, label)) => {
            let start = error.location().map_or(0, |location| location.index());
            let mut mistake = document.at(document.token(start), title, label);
            if mistake.title.starts_with("a YAML tag") {
                mistake = mistake.help("to write text that begins with `!`, put it in quotes");
            }
            mistake
        }
        None => super::explain::mistake(document, error, &[]),
    };
    if let Some(first) = documents.next() {
        Look { survey: &survey, depth: 0 }.deserialize(first).map_err(|error| explained(&error))?;
    }
    if let Some(second) = documents.next() {
        let start = Find { path: &[], key: false }.deserialize(second).err().and_then(|e| e.location());
        let start = start.map_or(0, |location| location.index());
        return Err(document
            .at(document.token(start), "more than one YAML document", "the second one")
            .help("remove the line `---` and the document that does not belong here")
            .into());
    }
    Ok(())
}

/// Where the brackets nest too deep. The scanner needs time in proportion to the *product* of length and depth, so a megabyte of
/// brackets must not reach it. Brackets in comments and quotes count too; nobody has that many.
pub fn too_deep(body: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in body.bytes().enumerate().take(MAX_BYTES) {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(at);
        }
    }
    None
}

/// What a survey found out.
struct Survey {
    nodes: Cell<usize>,
    /// What is wrong where the parser now stands: title and label.
    wrong: RefCell<Option<(String, String)>>,
}

impl Survey {
    fn fail<E: Error>(&self, title: impl Into<String>, label: impl Into<String>) -> E {
        *self.wrong.borrow_mut() = Some((title.into(), label.into()));
        E::custom("refused")
    }
}

/// Looks at one node and everything below.
#[derive(Clone, Copy)]
struct Look<'s> {
    survey: &'s Survey,
    depth: usize,
}

impl Look<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.survey.fail("nested too deep", format!("at most {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.survey.nodes.set(self.survey.nodes.get() + 1);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.visit_unit()
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.visit_unit()
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.visit_unit()
    }
    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.visit_unit()
    }
    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.visit_unit()
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.visit_unit()
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.visit_unit()
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.survey.nodes.get() > MAX_NODES {
            let label = format!("more than {MAX_NODES} values, aliases followed");
            return Err(self.survey.fail("too much in one file", label));
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while items.next_element_seed(deeper)?.is_some() {}
        self.visit_unit()
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        let mut seen = HashSet::new();
        while entries.next_key_seed(NewKey { survey: self.survey, seen: &mut seen })?.is_some() {
            entries.next_value_seed(deeper)?;
        }
        self.visit_unit()
    }
    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.survey.fail("a YAML tag (`!…`)", "tags are not used here"))
    }
}

/// Takes a key that has not been seen in the same map.
struct NewKey<'s> {
    survey: &'s Survey,
    seen: &'s mut HashSet<String>,
}

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NewKey<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if key == "<<" {
            return Err(self.survey.fail("a merge key (`<<`)", "write the keys out"));
        }
        if !self.seen.insert(key.to_string()) {
            return Err(self.survey.fail(format!("the key `{key}` stands here twice"), "the second time"));
        }
        Ok(())
    }
}

/// The byte at which the value of `path` begins (`key`: its last key instead).
pub fn find(body: &str, path: &[Node], key: bool) -> Option<usize> {
    let found = Find { path, key }.deserialize(serde_yaml::Deserializer::from_str(body));
    found.err()?.location().map(|location| location.index())
}

/// Goes down a path and fails where it ends. Succeeds if there is no such path.
struct Find<'p> {
    path: &'p [Node<'p>],
    key: bool,
}

impl<'p> Find<'p> {
    fn below(&self) -> Find<'p> {
        Find { path: &self.path[1..], key: self.key }
    }
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if !self.path.is_empty() {
            return deserializer.deserialize_any(self);
        }
        deserializer.deserialize_any(Here)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or a map")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if let Node::Item(wanted) = self.path[0] {
            for _ in 0..wanted {
                items.next_element::<IgnoredAny>()?;
            }
            items.next_element_seed(self.below())?;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Node::Key(wanted) = self.path[0] else {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let refuse = self.key && self.path.len() == 1;
        while let Some(this) = entries.next_key_seed(ThisKey { wanted, refuse })? {
            if this {
                entries.next_value_seed(self.below())?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Says whether a key is the wanted one, and refuses it on demand.
struct ThisKey<'p> {
    wanted: &'p str,
    refuse: bool,
}

impl<'de> DeserializeSeed<'de> for ThisKey<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for ThisKey<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.refuse { Err(E::custom("here")) } else { Ok(key == self.wanted) }
    }
}

/// Refuses whatever it is given: every method of a visitor but `expecting` fails unless it is written.
struct Here;

impl<'de> Visitor<'de> for Here {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}
