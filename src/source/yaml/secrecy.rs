//! Hides secrets in the lines that errors show. The files hold references to secrets, but people make mistakes, and the
//! commonest one is to write the password itself where the reference belongs.

/// The keys of a reference to a secret: their values are no secrets.
const REFERENCE: [&str; 3] = ["file", "env", "command"];

/// Whether a key's value may be a secret.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential"].iter().any(|word| key.contains(word))
}

/// `line` with every value that may be a secret replaced, character by character. `inside`: the line stands below a key whose
/// value is a secret.
pub fn mask(line: &str, inside: bool) -> String {
    // A private key that was pasted where a public one belongs.
    if let Some(at) = line.find("PRIVATE KEY") {
        let (before, key) = line.split_at(at + "PRIVATE KEY".len());
        return format!("{}{}", values_masked(before, inside), hide(key, true));
    }
    values_masked(line, inside)
}

fn values_masked(line: &str, inside: bool) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    // Once a key that names a secret has been seen, only a reference's own keys have values that may be shown.
    let mut context = inside;
    let mut secret = inside;
    let mut keys = 0;
    // Key by key: a plain or quoted word before a colon; everything up to the next key is its value.
    while let Some((before, key, after)) = next_key(rest) {
        // What stands before the first key is indentation and punctuation.
        masked.push_str(&hide(before, secret && keys > 0));
        masked.push_str(key);
        masked.push(':');
        let name = key.trim_matches(['"', '\'', ' ']);
        context |= is_secret(name);
        secret = context && !REFERENCE.contains(&name);
        keys += 1;
        rest = after;
        // A secret may itself look like a key.
        if secret && !after.trim_start().starts_with('{') {
            break;
        }
    }
    // A line without any key below a secret key is the secret, or a part of it.
    masked.push_str(&hide(rest, secret));
    masked
}

/// Splits `text` at its next `key:`.
fn next_key(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let colon = from + text[from..].find(':')?;
        let after = &text[colon + 1..];
        if after.is_empty() || after.starts_with([' ', '\t', '"', '\'', '{', '[']) {
            let start = text[..colon].rfind([' ', '\t', '{', '[', ',']).map_or(0, |at| at + 1);
            return Some((&text[..start], &text[start..colon], after));
        }
        from = colon + 1;
    }
}

fn hide(text: &str, secret: bool) -> String {
    if !secret {
        return text.to_string();
    }
    text.chars().map(|c| if c.is_whitespace() || "{}[],".contains(c) { c } else { '*' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_and_a_reference_is_shown() {
        for (line, inside, shown) in [
            ("password: hunter2", false, "password: *******"),
            ("  password: \"hunter 2, yes\"  # mine", false, "  password: ******* *, ****  * ****"),
            ("password: { file: secrets/x }", false, "password: { file: secrets/x }"),
            ("password: { fil: hunter2 }", false, "password: { fil: ******* }"),
            ("password: { file: x, value: hunter2 }", false, "password: { file: x, value: ******* }"),
            ("control: { user: monitor, password: hunter2 }", false, "control: { user: monitor, password: ******* }"),
            ("control: { password: hunter2, user: m }", false, "control: { password: *******, ***** * }"),
            ("  value: hunter2", true, "  value: *******"),
            ("  hunter2", true, "  *******"),
            ("  - hunter2", true, "  * *******"),
            ("password: a#b:", false, "password: ****"),
            ("  value: a: b", true, "  value: ** *"),
            ("password: a: b", false, "password: ** *"),
            ("bind-dn: cn=offboard", false, "bind-dn: cn=offboard"),
            ("urls: [ldaps://a:636]", false, "urls: [ldaps://a:636]"),
            ("key: \"-----BEGIN OPENSSH PRIVATE KEY-----AAAA", false, "key: \"-----BEGIN OPENSSH PRIVATE KEY*********"),
            ("api_token:abc", false, "api_token:abc"),
        ] {
            assert_eq!(mask(line, inside), shown, "{line}");
            assert_eq!(mask(line, inside).chars().count(), line.chars().count());
        }
    }
}
