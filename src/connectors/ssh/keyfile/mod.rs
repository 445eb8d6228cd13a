//! One value in a file that a program reads: found by its key, and written anew with every other byte as it was. Pure.
//!
//! Each format says where the value stands, what it is, and how another one is written in its place. Whatever programs read differently
//! is refused before anything is changed; what comes out is read again, and must be the same but for the one value.

mod env;
mod ini;
mod json;
mod private_key;
mod properties;
mod tree;
mod wireguard;
mod yaml;

use crate::model::KeyFormat;
use std::ops::Range;
use zeroize::Zeroizing;

pub use private_key::PrivateKeyFile;
pub use wireguard::preshared_key;

/// The largest file, in bytes.
const MOST: usize = 1024 * 1024;
/// Of most formats.
const STAND_INS: [&str; 2] =
    ["Stand-in_0123456789abcdefghijklmnopqrstuvwx", "-_-Stand-in_0123456789abcdefghijklmnopqrstu"];

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoting {
    Bare,
    Single,
    Double,
}

/// A value, and where it stands.
pub struct Found {
    /// As the program reads it.
    pub value: Zeroizing<String>,
    /// As it is written, without the quotes around it.
    pub raw: Zeroizing<String>,
    /// The bytes that another value takes the place of: with the quotes around it, but in an env file.
    span: Range<usize>,
    quoting: Quoting,
}

/// What a format knows. Texts are UTF-8 without a byte order mark; refusals are sentences without any value.
trait Form {
    /// The one value of `path`.
    fn find(&self, text: &str, path: &[String]) -> Result<Found, String>;
    /// How `new` is written in the place of `found`.
    fn write(&self, new: &str, found: &Found) -> Result<Zeroizing<String>, String>;
    /// Values like those that a rotation makes, one to be written bare and one in quotes where there is a difference: what cannot take them cannot take
    /// the new one.
    fn stand_ins(&self) -> [&'static str; 2] {
        STAND_INS
    }
    /// Whether both texts say the same but for the value of `path`.
    fn same_but(&self, before: &str, after: &str, path: &[String]) -> Result<bool, String>;
}

fn form(format: KeyFormat) -> Option<&'static dyn Form> {
    match format {
        // One has a file of its own to understand it; of the other every byte is the value.
        KeyFormat::Env | KeyFormat::SshKey => None,
        KeyFormat::Ini => Some(&ini::Ini),
        KeyFormat::Yaml => Some(&yaml::Yaml),
        KeyFormat::Json => Some(&json::Json),
        KeyFormat::Properties => Some(&properties::Properties),
        KeyFormat::WireGuard => Some(&wireguard::WireGuard),
    }
}

/// The one value that stands in `file` at `path`.
///
/// # Errors
/// Why it is not understood: a sentence without any value.
pub fn find(format: KeyFormat, file: &[u8], path: &[String]) -> Result<Found, String> {
    if file.len() > MOST {
        return Err("the file is larger than 1 MiB".into());
    }
    if file.contains(&0) {
        return Err("it is no text file: it has a NUL byte".into());
    }
    if format == KeyFormat::SshKey {
        return private_key::find(text(file)?.1);
    }
    let Some(form) = form(format) else { return sound(env::find(file, path)?) };
    let (skipped, text) = text(file)?;
    let mut found = form.find(text, path)?;
    found.span = found.span.start + skipped..found.span.end + skipped;
    sound(found)
}

/// The file with `new` as the value at `path`.
///
/// # Errors
/// As [`find`]; `new` cannot be written there so that every program reads it alike; or something else would change with it.
pub fn replace(format: KeyFormat, file: &[u8], path: &[String], new: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let found = find(format, file, path)?;
    if format == KeyFormat::SshKey {
        return PrivateKeyFile::parse(new).map(|_| Zeroizing::new(new.as_bytes().to_vec()));
    }
    if new.is_empty() || new.chars().any(char::is_control) || is_reference(new) {
        return Err("the new value is empty, has control characters, or looks like a reference".into());
    }
    let form = form(format);
    let written = match form {
        None => env::write(new)?,
        Some(form) => form.write(new, &found)?,
    };
    let mut edited = Zeroizing::new(Vec::with_capacity(file.len() + written.len()));
    edited.extend_from_slice(&file[..found.span.start]);
    edited.extend_from_slice(written.as_bytes());
    edited.extend_from_slice(&file[found.span.end..]);
    let odd = |why: &str| format!("with a new value it would not be what it was: {why}");
    if find(format, &edited, path).map_err(|why| odd(&why))?.value.as_str() != new {
        return Err(odd("the value reads back as another one"));
    }
    if let Some(form) = form
        && !form.same_but(text(file)?.1, text(&edited)?.1, path).map_err(|why| odd(&why))?
    {
        return Err(odd("another value changes together with this one (in YAML: through an alias)"));
    }
    Ok(edited)
}

/// Whether any value that a rotation makes could take the place of the one at `path`.
///
/// # Errors
/// As [`replace`].
pub fn try_out(format: KeyFormat, file: &[u8], path: &[String]) -> Result<(), String> {
    if format == KeyFormat::SshKey {
        return find(format, file, path).map(drop);
    }
    let stand_ins = form(format).map_or(STAND_INS, Form::stand_ins);
    stand_ins.iter().try_for_each(|value| replace(format, file, path, value).map(drop))
}

/// The text of a file, and how many bytes of a byte order mark stand before it.
fn text(file: &[u8]) -> Result<(usize, &str), String> {
    let body = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    match std::str::from_utf8(body) {
        Ok(text) => Ok((file.len() - body.len(), text)),
        Err(error) => {
            let before = String::from_utf8_lossy(&body[..error.valid_up_to()]);
            Err(format!("it is not UTF-8: {}", position(&before, before.len())))
        }
    }
}

/// So many bytes of a value at most: longer than any password, and short enough to be looked for in whatever a program says.
const LONGEST: usize = 4096;

/// Refuses values that cannot be a password.
fn sound(found: Found) -> Result<Found, String> {
    if found.value.is_empty() {
        return Err("the value is empty".into());
    }
    if found.value.len() > LONGEST {
        return Err(format!("the value is longer than {LONGEST} bytes"));
    }
    if is_reference(&found.value) {
        return Err("the value refers to something elsewhere (such as `${NAME}`): the secret is not in this file, name the one that it is in".into());
    }
    if found.value.chars().any(char::is_control) {
        return Err("the value spans lines or has control characters".into());
    }
    Ok(found)
}

/// Whether a program would look elsewhere for the value: an environment variable, another key, a template, a ciphertext.
fn is_reference(value: &str) -> bool {
    const AROUND: [(&str, &str); 6] =
        [("${", "}"), ("$(", ")"), ("%(", ")s"), ("{{", "}}"), ("<%", "%>"), ("ENC(", ")")];
    let value = value.trim();
    let named = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    AROUND
        .iter()
        .any(|(start, end)| value.len() >= start.len() + end.len() && value.starts_with(start) && value.ends_with(end))
        || value.strip_prefix('$').is_some_and(named)
}

/// Where a byte stands, for people: from 1, the column in characters.
fn position(text: &str, at: usize) -> String {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.rsplit('\n').next().unwrap_or_default();
    format!("line {}, column {}", before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// A path as people write it.
fn shown(path: &[String]) -> String {
    path.join(".")
}

#[cfg(test)]
mod tests;
