//! The SSH keys in one `sshPublicKey` value. sshd reads such a value through AuthorizedKeysCommand as authorized_keys(5) lines;
//! nothing keeps a value from holding several lines, or options before the key.

use crate::model::Fingerprint;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// One key and what stands around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of the key blob.
    pub fingerprint: Fingerprint,
    /// Type, comment and whether options precede it; for people, without control characters.
    pub detail: String,
    /// Its line, byte for byte.
    pub line: Vec<u8>,
}

/// Every key in a value, line by line. Lines without a key (comments, rubbish) open nothing and are left out.
pub fn keys(value: &[u8]) -> Vec<Key> {
    value.split(|&b| b == b'\n' || b == b'\r').filter_map(key).collect()
}

fn key(line: &[u8]) -> Option<Key> {
    let text = String::from_utf8_lossy(line);
    if text.trim_start().starts_with('#') {
        return None;
    }
    let words = words(&text);
    // The type stands first, or after the options.
    let (at, kind, blob) = words.windows(2).take(2).enumerate().find_map(|(at, pair)| {
        let blob = blob(pair[0], pair[1])?;
        Some((at, pair[0], blob))
    })?;
    let comment: Vec<&str> = words[at + 2..].to_vec();
    let mut detail = kind.to_string();
    if !comment.is_empty() {
        detail = format!("{detail} {}", comment.join(" "));
    }
    if at > 0 {
        detail.push_str(" (with options)");
    }
    let detail = detail.chars().filter(|c| !c.is_control()).take(200).collect();
    let fingerprint = Fingerprint(format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&blob))));
    Some(Key { fingerprint, detail, line: line.to_vec() })
}

/// The key blob, if the base64 text really is a key of that type: it begins with its own type's name (RFC 4253, section 6.6).
fn blob(kind: &str, base64: &str) -> Option<Vec<u8>> {
    let blob = STANDARD.decode(base64).ok()?;
    let length = u32::from_be_bytes(blob.get(..4)?.try_into().ok()?) as usize;
    (blob.get(4..4 + length)? == kind.as_bytes()).then_some(blob)
}

/// Words separated by blanks; a quoted blank, as in `command="a b"`, does not separate.
fn words(line: &str) -> Vec<&str> {
    let (mut words, mut start, mut quoted, mut escaped) = (Vec::new(), None, false, false);
    for (i, c) in line.char_indices() {
        if c.is_ascii_whitespace() && !quoted {
            words.extend(start.take().map(|s| &line[s..i]));
            continue;
        }
        start.get_or_insert(i);
        match c {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    words.extend(start.map(|s| &line[s..]));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const PRINT: &str = "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE";

    fn prints(value: &str) -> Vec<String> {
        keys(value.as_bytes()).into_iter().map(|k| k.fingerprint.0).collect()
    }

    #[test]
    fn comment_and_options_do_not_change_the_fingerprint() {
        let plain = prints(&format!("ssh-ed25519 {KEY}"));
        assert_eq!(plain.len(), 1);
        assert_eq!(plain, prints(&format!("ssh-ed25519 {KEY} jane@laptop")));
        assert_eq!(plain, prints(&format!("  from=\"10.0.0.0/8\",command=\"ls \\\"a b\\\"\" ssh-ed25519 {KEY} x y")));
    }

    #[test]
    fn every_line_of_a_value_is_read() {
        let value = format!("# mine\r\nssh-ed25519 {KEY} one\nrubbish\nrestrict ssh-ed25519 {KEY} two");
        let found = keys(value.as_bytes());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].detail, "ssh-ed25519 one");
        assert_eq!(found[1].detail, "ssh-ed25519 two (with options)");
    }

    #[test]
    fn what_is_no_key_is_none() {
        for value in
            ["", "ssh-ed25519", "ssh-ed25519 !!!!", "ssh-rsa AAAA", &format!("ssh-rsa {KEY}"), "\u{fffd}\u{fffd} x"]
        {
            assert!(prints(value).is_empty(), "{value}");
        }
        assert!(keys(&[0xff, 0xfe, b'\n', 0]).is_empty());
    }

    #[test]
    fn the_fingerprint_is_that_of_ssh_keygen() {
        assert_eq!(prints(&format!("ssh-ed25519 {KEY} c")), [PRINT]);
    }
}
