//! A preshared key in a file of wg(8) or wg-quick(8): that of the one peer which has the public key that the way to the value names. wg takes all white
//! space out of a line and what follows a `#`, and knows sections and keys in any case (config.c).

use super::{Form, Found, Quoting};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng;
use rand::rngs::SysRng;
use std::ops::Range;
use zeroize::Zeroizing;

pub struct WireGuard;

/// Two keys as wg writes them; nobody has them.
const STAND_INS: [&str; 2] =
    ["U3RhbmQtaW4tMDEyMzQ1Njc4OWFiY2RlZmdoaWprbG0=", "+/+/c3RhbmQtaW4tMDEyMzQ1Njc4OWFiY2RlZmdoaWo="];

/// A new one, from the system's randomness.
///
/// # Errors
/// There is none.
pub fn preshared_key() -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(&mut *bytes).map_err(|_| "no randomness to be had".to_string())?;
    Ok(Zeroizing::new(STANDARD.encode(*bytes)))
}

/// One line, as wg reads it.
struct Line<'a> {
    /// Which section it is in, counted from 1; and whether that is a peer's.
    section: usize,
    of_peer: bool,
    /// In small letters.
    word: String,
    value: &'a str,
    /// Where the value stands.
    span: Range<usize>,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let (mut found, mut at, mut section, mut of_peer) = (Vec::new(), 0, 0, false);
    for whole in text.split_inclusive('\n') {
        let line = whole.split('#').next().unwrap_or_default();
        let bare: String = line.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>().to_ascii_lowercase();
        if bare.starts_with('[') {
            section += 1;
            of_peer = bare == "[peer]";
        } else if let Some((word, rest)) = line.split_once('=') {
            let value = rest.trim_matches(|c: char| c.is_ascii_whitespace());
            let start = at + word.len() + 1 + rest.find(value).unwrap_or(0);
            let word = word.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>().to_ascii_lowercase();
            found.push(Line { section, of_peer, word, value, span: start..start + value.len() });
        }
        at += whole.len();
    }
    found
}

/// 32 bytes in base64, as wg writes them: the only spelling that means one key alone.
fn is_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

impl Form for WireGuard {
    fn find(&self, text: &str, path: &[String]) -> Result<Found, String> {
        let peer = path.first().map(String::as_str).unwrap_or_default();
        let lines = lines(text);
        let is_peer = |line: &&Line| line.of_peer && line.word == "publickey" && line.value == peer;
        let mut sections = lines.iter().filter(is_peer).map(|line| line.section);
        let section = sections.next().ok_or("no [Peer] there has that public key, as wg writes it")?;
        if sections.next().is_some() {
            return Err("two peers there have that public key".into());
        }
        let of_peer = |line: &&Line| line.section == section && line.word == "presharedkey";
        let mut keys = lines.iter().filter(of_peer);
        let line = keys.next().ok_or("that peer has no PresharedKey")?;
        if keys.next().is_some() {
            return Err("that peer has more than one PresharedKey".into());
        }
        if !is_key(line.value) {
            return Err("its PresharedKey is none, as wg writes it: 32 bytes in base64".into());
        }
        let value = Zeroizing::new(line.value.to_string());
        Ok(Found { raw: value.clone(), value, span: line.span.clone(), quoting: Quoting::Bare })
    }

    fn write(&self, new: &str, _found: &Found) -> Result<Zeroizing<String>, String> {
        is_key(new)
            .then(|| Zeroizing::new(new.to_string()))
            .ok_or_else(|| "the new value is no preshared key".to_string())
    }

    fn same_but(&self, before: &str, after: &str, path: &[String]) -> Result<bool, String> {
        let told = |text: &str| -> Result<Vec<(usize, String, Zeroizing<String>)>, String> {
            let span = self.find(text, path)?.span;
            let others = lines(text).into_iter().filter(|line| line.span != span);
            Ok(others.map(|line| (line.section, line.word, Zeroizing::new(line.value.to_string()))).collect())
        };
        Ok(told(before)? == told(after)?)
    }

    fn stand_ins(&self) -> [&'static str; 2] {
        STAND_INS
    }
}

#[cfg(test)]
mod tests {
    use crate::connectors::ssh::keyfile::{find, replace, try_out};
    use crate::model::KeyFormat::WireGuard;

    const PEER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    const OTHER: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";
    const OLD: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";
    const NEW: &str = "super32bytesofnothingAAAAAAAAAAAAAAAAAAAAAA=";

    fn path(peer: &str) -> [String; 1] {
        [peer.to_string()]
    }

    #[test]
    fn one_peers_key_is_replaced_and_every_other_byte_stays() {
        let text = |key: &str| {
            format!(
                "[Interface]\r\nPrivateKey = {OLD}\n# PresharedKey = {OLD}\n\n[ p E e r ] # a\nPublicKey={OTHER}\nPresharedKey = {OLD}\n[Peer]\n\
                 \tpresharedkey\t= {key} # of Jane\nPublic Key = {PEER}\nAllowedIPs = 10.0.0.0/8, \u{e9}"
            )
        };
        let found = find(WireGuard, text(OLD).as_bytes(), &path(PEER)).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(found.value.as_str(), OLD);
        try_out(WireGuard, text(OLD).as_bytes(), &path(PEER)).unwrap();
        let edited = replace(WireGuard, text(OLD).as_bytes(), &path(PEER), NEW).unwrap();
        assert_eq!(String::from_utf8_lossy(&edited), text(NEW));
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let peer = format!("[Peer]\nPublicKey = {PEER}\n");
        for (text, why) in [
            (format!("[Peer]\nPublicKey = {OTHER}\nPresharedKey = {OLD}\n"), "no [Peer]"),
            (format!("[Interface]\nPublicKey = {PEER}\nPresharedKey = {OLD}\n"), "no [Peer]"),
            (peer.clone(), "has no PresharedKey"),
            (format!("{peer}[Peer]\nPresharedKey = {OLD}\n"), "has no PresharedKey"),
            (format!("{peer}PresharedKey = {OLD}\nPresharedKey = {OLD}\n"), "more than one"),
            (format!("{peer}PresharedKey = {OLD}\n{peer}"), "two peers"),
            (format!("{peer}PresharedKey = {}\n", &OLD[1..]), "is none"),
            (format!("{peer}PresharedKey = {} {}\n", &OLD[..20], &OLD[20..]), "is none"),
            (format!("{peer}PresharedKey = /dev/fd/3\n"), "is none"),
        ] {
            let said = find(WireGuard, text.as_bytes(), &path(PEER)).err().unwrap_or_else(|| panic!("{text}"));
            assert!(said.contains(why) && !said.contains(OLD), "{text}: {said}");
        }
        let text = format!("{peer}PresharedKey = {OLD}\n");
        for new in ["short", "", &OLD[1..], "with\nnewline"] {
            assert!(replace(WireGuard, text.as_bytes(), &path(PEER), new).is_err(), "{new}");
        }
    }
}
