//! Distinguished names (RFC 4514), only as far as telling whether two spellings mean the same entry.

/// One spelling for all the ways in which a name may be written: types and values in lower case, white space and escapes
/// alike, the parts of a multi-valued RDN in order. Nothing if it is not a DN.
///
/// Values are compared without regard to case, as most naming attributes are. Where a schema says otherwise two names may fall
/// together here; so it serves to recognise what the server itself had matched, and to *protect* an entry, never to pick one.
pub fn normal(dn: &str) -> Option<String> {
    if dn.trim().is_empty() {
        return Some(String::new());
    }
    let rdns: Option<Vec<String>> = split(dn, &[',', ';']).into_iter().map(normal_rdn).collect();
    Some(rdns?.join(","))
}

/// The name of the entry above, as written.
pub fn parent(dn: &str) -> Option<&str> {
    let first = split(dn, &[',', ';']).first()?.len();
    dn.get(first + 1..).map(str::trim_start)
}

fn normal_rdn(rdn: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in split(rdn, &['+']) {
        let (kind, value) = part.split_once('=')?;
        let kind = kind.trim().to_lowercase();
        if kind.is_empty() {
            return None;
        }
        let value = unescape(value)?;
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        parts.push(format!("{kind}={}", ldap3::dn_escape(value.as_str())));
    }
    parts.sort();
    Some(parts.join("+"))
}

/// Splits at separators that are neither escaped nor quoted.
fn split<'a>(text: &'a str, at: &[char]) -> Vec<&'a str> {
    let (mut parts, mut start, mut escaped, mut quoted) = (Vec::new(), 0, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            c if !quoted && at.contains(&c) => {
                parts.push(&text[start..i]);
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The value behind `\2C`, `\,` and quotes. Nothing if what remains is not UTF-8.
fn unescape(value: &str) -> Option<String> {
    let hex = |c: u8| (c as char).to_digit(16);
    let (bytes, mut out, mut i) = (value.as_bytes(), Vec::new(), 0);
    while i < bytes.len() {
        match (bytes[i], bytes.get(i + 1), bytes.get(i + 2)) {
            (b'\\', Some(&a), Some(&b)) if hex(a).is_some() && hex(b).is_some() => {
                out.push((hex(a)? * 16 + hex(b)?) as u8);
                i += 3;
            }
            (b'\\', Some(&c), _) => {
                out.push(c);
                i += 2;
            }
            (b'"', _, _) => i += 1,
            (c, _, _) => {
                out.push(c);
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_fall_together() {
        let one = normal("uid=jroe,ou=People,dc=sunrise,dc=test");
        assert_eq!(one, normal("UID = jRoe , ou=people;dc=Sunrise,DC=test"));
        assert_eq!(normal(r"cn=Roe\, Jane,dc=x"), normal(r"cn=Roe\2C Jane,dc=x"));
        assert_eq!(normal(r"cn=Roe\, Jane,dc=x"), normal("cn=\"Roe, Jane\",dc=x"));
        assert_eq!(normal(r"cn=Ren\C3\A9e,dc=x"), normal("cn=renée,dc=x"));
        assert_eq!(normal("cn=a+uid=b,dc=x"), normal("uid=B+cn=A,dc=x"));
    }

    #[test]
    fn different_names_stay_apart() {
        assert_ne!(normal("uid=jroe,dc=x"), normal("uid=jroe2,dc=x"));
        assert_ne!(normal(r"cn=a\,dc=x"), normal("cn=a,dc=x"), "an escaped comma does not separate");
        assert_ne!(normal("uid=jrое,dc=x"), normal("uid=jroe,dc=x"), "Cyrillic look-alikes are other letters");
        assert_eq!(normal("jroe"), None);
        assert_eq!(normal("=x,dc=y"), None);
        assert_eq!(normal(r"cn=\ff,dc=x"), None);
    }

    #[test]
    fn the_entry_above() {
        assert_eq!(parent(r"cn=Roe\, Jane,ou=people,dc=x"), Some("ou=people,dc=x"));
        assert_eq!(parent("dc=x"), None);
    }
}
