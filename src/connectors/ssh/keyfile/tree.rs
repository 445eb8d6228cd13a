//! A JSON or YAML document as its parser understands it, with every key as often as it stands there: to find what is there twice, and to
//! compare a file with what was made of it.

use crate::source::yaml::Node;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::cell::Cell;
use std::fmt;
use zeroize::Zeroizing;

/// How much a document may hold when its aliases are followed: bytes, and for each value so many more.
const MOST: usize = 64 * 1024 * 1024;
const VALUE: usize = 64;
/// What is said when it holds more.
pub const TOO_MUCH: &str = "too much in one file, aliases followed";

/// A value. Numbers are kept as their parser writes them; NaN is equal to itself.
#[derive(PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Number(String),
    Text(Zeroizing<String>),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
    Tagged(String, Box<Tree>),
}

impl Tree {
    /// What `deserializer` reads.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Grow { left: &Cell::new(MOST) }.deserialize(deserializer)
    }

    /// Goes down `path`: the nodes that it passes, and the value at its end.
    pub fn at<'p>(&self, path: &'p [String]) -> Result<(Vec<Node<'p>>, &Self), String> {
        let (mut nodes, mut here) = (Vec::new(), self);
        for (depth, part) in path.iter().enumerate() {
            let name = super::shown(&path[..=depth]);
            let absent = || format!("{name} does not stand there");
            here = match here {
                Self::Map(entries) => {
                    nodes.push(Node::Key(part));
                    let mut all = entries.iter().filter(|(key, _)| key == part);
                    let first = all.next().ok_or_else(absent)?;
                    if all.next().is_some() {
                        return Err(format!("{name} stands there more than once"));
                    }
                    &first.1
                }
                Self::List(items) => {
                    // One way to write each item: `00` and `+0` are none.
                    let item = part.parse().ok().filter(|item: &usize| item.to_string() == *part);
                    let item = item.ok_or_else(|| format!("{name} does not stand there: its place is a list"))?;
                    nodes.push(Node::Item(item));
                    items.get(item).ok_or_else(absent)?
                }
                Self::Tagged(..) => return Err(format!("{name} stands behind a tag (`!…`), which is not followed")),
                _ => return Err(format!("{name} does not stand there: its place is a single value")),
            };
        }
        Ok((nodes, here))
    }

    /// The value as a program reads it. `written` is a number as it stands there.
    pub fn scalar(&self, written: impl FnOnce() -> Option<String>) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Number(number) if number.bytes().all(|b| b.is_ascii_digit()) && written().as_ref() == Some(number) => {
                Ok(Zeroizing::new(number.clone()))
            }
            Self::Number(_) => Err("the value is a number that programs write differently: put it in quotes".into()),
            Self::Null => Err("the key has no value (null)".into()),
            Self::Bool(_) => Err("the value is true or false, not text".into()),
            Self::List(_) => Err("the value is a list, not text".into()),
            Self::Map(_) => Err("the value is a map, not text".into()),
            Self::Tagged(..) => Err("the value has a tag (`!…`)".into()),
        }
    }

    /// Whether both are the same but for the value at `nodes`.
    pub fn same_but(&self, other: &Self, nodes: &[Node]) -> bool {
        let Some((first, rest)) = nodes.split_first() else { return true };
        match (self, other) {
            (Self::Map(ours), Self::Map(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs).all(|((key, a), (other_key, b))| {
                        key == other_key && if *first == Node::Key(key) { a.same_but(b, rest) } else { a == b }
                    })
            }
            (Self::List(ours), Self::List(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs).enumerate().all(|(item, (a, b))| {
                        if *first == Node::Item(item) { a.same_but(b, rest) } else { a == b }
                    })
            }
            _ => false,
        }
    }
}

/// Reads one value and everything below.
#[derive(Clone, Copy)]
struct Grow<'c> {
    left: &'c Cell<usize>,
}

impl Grow<'_> {
    fn take<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.ok_or_else(|| E::custom(TOO_MUCH))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = Tree;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        self.take(VALUE)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Grow<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }
    fn visit_i128<E: Error>(self, value: i128) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }
    fn visit_u128<E: Error>(self, value: u128) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(format!("{value:?}")))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        self.take(value.len())?;
        Ok(Tree::Text(Zeroizing::new(value.to_string())))
    }
    fn visit_none<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            self.take(key.len())?;
            map.push((key, entries.next_value_seed(self)?));
        }
        Ok(Tree::Map(map))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Tree, A::Error> {
        let (tag, value) = tagged.variant_seed(Key)?;
        Ok(Tree::Tagged(tag, Box::new(value.newtype_variant_seed(self)?)))
    }
}

/// A key, or a tag, as it is written.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of one word")
    }
    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_string())
    }
}
