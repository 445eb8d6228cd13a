//! Lines of an authorized_keys file, read as sshd reads them (auth2-pubkeyfile.c, sshkey.c): what sshd would not take for a key is
//! none here, however much it looks like one, and what it would take is one, whatever stands around it.

use crate::model::Fingerprint;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// As sshd's own decoder: canonical, padding required.
const STRICT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A line that lets the holder of a key in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLine<'a> {
    /// The key's type: `ssh-ed25519`.
    pub algorithm: &'a str,
    /// The key itself in base64, without anything that sshd skips.
    pub base64: Cow<'a, str>,
    /// Over the key alone.
    pub fingerprint: Fingerprint,
    /// What stands before the key, as it stands there.
    pub options: &'a [u8],
    /// Whether the line makes the key an authority that may sign certificates for this account.
    pub authority: bool,
    /// Whether it says from where alone the key is taken.
    pub from: bool,
}

/// The key that sshd would read from `line`, if any.
pub fn parse(line: &[u8]) -> Option<KeyLine<'_>> {
    // sshd reads lines as C strings.
    let line = line.split(|b| *b == 0).next().unwrap_or_default();
    let line = skip_blanks(line);
    if matches!(line.first(), None | Some(b'#' | b'\n')) {
        return None;
    }
    if let Some(key) = key_at(line) {
        return Some(key.into_line(&[]));
    }
    let end = end_of_options(line)?;
    let (options, rest) = line.split_at(end);
    let key = key_at(skip_blanks(rest))?;
    Some(key.into_line(options))
}

struct Key<'a> {
    algorithm: &'a str,
    base64: Cow<'a, str>,
    fingerprint: Fingerprint,
}

impl<'a> Key<'a> {
    fn into_line(self, options: &'a [u8]) -> KeyLine<'a> {
        KeyLine {
            algorithm: self.algorithm,
            base64: self.base64,
            fingerprint: self.fingerprint,
            authority: option_names(options).any(|name| name.eq_ignore_ascii_case(b"cert-authority")),
            from: option_names(options).any(|name| name.eq_ignore_ascii_case(b"from")),
            options,
        }
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &text[blanks..]
}

fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(text.len());
    text.split_at(end)
}

/// `sshkey_advance_past_options`: the options end at the first blank outside of quotes; without a closing quote the line is
/// none.
fn end_of_options(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut at = 0;
    while at < text.len() && (quoted || !matches!(text[at], b' ' | b'\t')) {
        match text[at] {
            b'\\' if text.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => quoted = !quoted,
            _ => {}
        }
        at += 1;
    }
    (!(quoted && at == text.len())).then_some(at)
}

/// The names of the comma-separated options, without their values.
fn option_names(options: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    let separated = options.split(move |b| {
        let separates = *b == b',' && !quoted;
        if *b == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = *b == b'\\';
        separates
    });
    separated.map(|option| option.split(|b| *b == b'=').next().unwrap_or_default())
}

/// What the blob of a key calls its type, where that is named otherwise in the line: sshd knows a type by the names of its signatures, too (sshkey.c).
fn named_in_blob(algorithm: &str) -> &str {
    match algorithm {
        "rsa-sha2-256" | "rsa-sha2-512" => "ssh-rsa",
        "webauthn-sk-ecdsa-sha2-nistp256@openssh.com" => "sk-ecdsa-sha2-nistp256@openssh.com",
        _ => algorithm,
    }
}

/// `sshkey_read`: a type, blanks, and a blob in base64 that says the same type.
fn key_at(text: &[u8]) -> Option<Key<'_>> {
    let (algorithm, rest) = word(text);
    let algorithm = named_in_blob(std::str::from_utf8(algorithm).ok()?);
    let shape = shape_of(algorithm)?;
    let (encoded, _) = word(skip_blanks(rest));
    let encoded = std::str::from_utf8(encoded).ok()?;
    // sshd's base64 decoder skips what isspace(3) says is space: the CR of a CRLF file stands here.
    let skipped = |c: char| matches!(c, '\r' | '\n' | '\x0b' | '\x0c');
    let base64: Cow<'_, str> = if encoded.contains(skipped) {
        encoded.chars().filter(|c| !skipped(*c)).collect::<String>().into()
    } else {
        encoded.into()
    };
    let blob = STRICT.decode(base64.as_bytes()).ok()?;
    if !shape.fits(algorithm, &blob) {
        return None;
    }
    let fingerprint = Fingerprint(format!(
        "SHA256:{}",
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(&blob))
    ));
    Some(Key { algorithm, base64, fingerprint })
}

/// What a blob of a type consists of after its type: RFC 4253 section 6.6, RFC 5656, RFC 8709, PROTOCOL.u2f.
struct Shape {
    strings: usize,
    curve: Option<&'static str>,
    /// The length of the last but `after_point` string, where it is fixed.
    point: Option<usize>,
}

fn shape_of(algorithm: &str) -> Option<Shape> {
    let shape = |strings, curve, point| Some(Shape { strings, curve, point });
    match algorithm {
        "ssh-ed25519" => shape(1, None, Some(32)),
        "ssh-rsa" => shape(2, None, None),
        "ssh-dss" => shape(4, None, None),
        "ecdsa-sha2-nistp256" => shape(2, Some("nistp256"), Some(65)),
        "ecdsa-sha2-nistp384" => shape(2, Some("nistp384"), Some(97)),
        "ecdsa-sha2-nistp521" => shape(2, Some("nistp521"), Some(133)),
        "sk-ssh-ed25519@openssh.com" => shape(2, None, Some(32)),
        "sk-ecdsa-sha2-nistp256@openssh.com" => shape(3, Some("nistp256"), Some(65)),
        _ => None,
    }
}

impl Shape {
    fn fits(&self, algorithm: &str, blob: &[u8]) -> bool {
        let Some((name, mut rest)) = string(blob) else { return false };
        if name != algorithm.as_bytes() {
            return false;
        }
        for index in 0..self.strings {
            let Some((value, after)) = string(rest) else { return false };
            rest = after;
            let point_at = usize::from(self.curve.is_some());
            match self.curve {
                Some(curve) if index == 0 => {
                    if value != curve.as_bytes() {
                        return false;
                    }
                }
                _ => {
                    if index == point_at && self.point.is_some_and(|length| value.len() != length) {
                        return false;
                    }
                }
            }
        }
        rest.is_empty()
    }
}

/// A length of four bytes and as many bytes (RFC 4251, section 5).
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
