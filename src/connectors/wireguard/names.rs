//! Public keys, interfaces, and comments that name somebody.

use crate::model::Identity;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use std::collections::BTreeSet;

/// The one way in which `wg` writes a key; nothing if it is no key of 32 bytes. Two texts that differ in bits that mean nothing, in padding or in
/// the alphabet of URLs are one key.
pub fn canonical(text: &str) -> Option<String> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let plain: String = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let bytes = LENIENT.decode(plain).ok().filter(|bytes| bytes.len() == 32)?;
    Some(general_purpose::STANDARD.encode(bytes))
}

/// Whether wg-quick takes it for the name of an interface.
pub fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_=+.-".contains(&b))
}

/// What the comments of a peer say of its holder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// For the roster's matching.
    pub identity: Identity,
    /// Comments that are more than a name: nobody is matched by them.
    pub unclear: Vec<String>,
}

/// Words that administrators and their scripts put before a name.
const LABELS: &[&str] = &[
    "client", "peer", "user", "username", "owner", "name", "friendly_name", "id", "employee", "mail", "email", "begin_peer",
];

/// Reads the comments of one peer. A mail address anywhere in a comment counts; else a comment counts if it is one word, which may stand after a
/// label (`Client: jane`) and before a note in brackets or after a comma (`jane (phone)`, `jane, phone`). Two different words are none.
pub fn named<'a>(comments: impl IntoIterator<Item = &'a str>) -> Named {
    let mut mails = BTreeSet::new();
    let mut words = BTreeSet::new();
    let mut unclear = Vec::new();
    for comment in comments {
        let found: Vec<&str> = comment
            .split(|c: char| c.is_whitespace() || "<>()[],;\"'".contains(c))
            .filter(|word| matches!(word.split_once('@'), Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains('@')))
            .collect();
        if !found.is_empty() {
            mails.extend(found.into_iter().map(|mail| without_label(mail).to_string()));
        } else if let Some(word) = word(comment) {
            words.insert(word.to_string());
        } else if comment.chars().any(char::is_alphanumeric) {
            unclear.push(comment.to_string());
        }
    }
    let one = if words.len() == 1 { words.pop_first() } else { None };
    unclear.extend(words);
    let identity =
        Identity { employee_number: one.clone(), mails: mails.into_iter().collect(), user_name: one, ..Identity::default() };
    Named { identity, unclear }
}

/// `mail=jane@example.com` without what stands before the address.
fn without_label(mail: &str) -> &str {
    match mail.split_once([':', '=']) {
        Some((label, rest)) if LABELS.contains(&label.to_ascii_lowercase().as_str()) => rest,
        _ => mail,
    }
}

fn word(comment: &str) -> Option<&str> {
    let mut text = comment.trim();
    let label = text.find(|c: char| c.is_whitespace() || c == ':' || c == '=').unwrap_or(text.len());
    if LABELS.contains(&text[..label].to_ascii_lowercase().as_str()) {
        let rest = text[label..].trim_start_matches(|c: char| c.is_whitespace() || c == ':' || c == '=');
        if !rest.is_empty() {
            text = rest;
        }
    }
    let note = text.find(['(', ',', ';']).into_iter().chain(text.find(" - ")).min().unwrap_or(text.len());
    let text = text[..note].trim();
    (!text.is_empty() && !text.contains(char::is_whitespace) && text.chars().any(char::is_alphanumeric)).then_some(text)
}

/// Whether a comment has one of these names as a word of its own, whatever else stands in it. The case of letters makes no difference.
pub fn mentions<'a>(comment: &str, names: impl IntoIterator<Item = &'a str>) -> bool {
    let words: BTreeSet<String> = comment
        .split(|c: char| !(c.is_alphanumeric() || "._-+@".contains(c)))
        .map(|word| word.trim_matches(['.', '-']).to_lowercase())
        .collect();
    names.into_iter().any(|name| words.contains(&name.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_key_are_one_key() {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        assert_eq!(canonical(key).as_deref(), Some(key));
        for other in [
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh=",
            " xTIBA5rboUvnH4htodjb6e697QjLE Rt1NAB4mZqp8Dj= ",
        ] {
            assert_eq!(canonical(other).as_deref(), Some(key), "{other}");
        }
        for none in ["", "jane", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D==", &format!("{key}{key}"), "é"] {
            assert_eq!(canonical(none), None, "{none}");
        }
        // Another case is another key.
        assert_ne!(canonical(&key.to_ascii_lowercase()).as_deref(), Some(key));
    }

    #[test]
    fn a_comment_names_one_person_or_nobody() {
        let names = |comment: &str| named([comment]).identity.user_name;
        for jane in ["jane", "jane (phone)", "jane, old laptop", "Client jane", "owner: jane", "BEGIN_PEER jane", "friendly_name = jane", "jane - phone"] {
            assert_eq!(names(jane).as_deref(), Some("jane"), "{jane}");
        }
        for other in ["jane2", "janex", "x-jane"] {
            assert_eq!(names(other).as_deref(), Some(other));
        }
        for nobody in ["jane laptop", "was jane's", "not jane", "---", "", "Client", "(jane)"] {
            assert!(names(nobody).is_none_or(|name| name == "Client"), "{nobody}");
        }
        let mail = |comment: &str| named([comment]).identity.mails;
        assert_eq!(mail("Jane Roe <jane@example.com>, phone"), ["jane@example.com"]);
        assert_eq!(mail("mail=jane@example.com"), ["jane@example.com"]);
        assert_eq!(mail("jane@example.com, bob@example.com"), ["bob@example.com", "jane@example.com"]);
        let two = named(["jane", "bob"]);
        assert_eq!((two.identity.user_name, two.unclear), (None, vec!["bob".to_string(), "jane".to_string()]));
    }

    #[test]
    fn a_mention_is_a_whole_word() {
        assert!(mentions("the laptop of jane.", ["jane"]) && mentions("was JANE's", ["jane"]));
        assert!(!mentions("janet, jane2, x.jane", ["jane"]));
    }
}
