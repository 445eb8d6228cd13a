//! One key of an env file: its value, and the file with another value in its place and every other byte as it was. Pure.
//!
//! Env files have no standard: a shell, systemd (`EnvironmentFile`), Docker and the dotenv libraries each read them differently. So only what
//! all of them read alike is understood, and everything else is refused before anything is changed: a key that stands there twice, a
//! value that spans lines, escapes and `$` inside a value, a value in quotes that goes on after them.

use super::{Found, Quoting, is_reference};
use std::ops::Range;
use zeroize::Zeroizing;

/// The value of the key, which is all of the path. Only the value must be UTF-8: somebody's remark may be in Latin-1.
pub fn find(file: &[u8], path: &[String]) -> Result<Found, String> {
    let [key] = path else { return Err("an env file has keys of one word".into()) };
    let span = place(file, key)?;
    let value = std::str::from_utf8(&file[span.clone()]).map_err(|_| "the value there is not UTF-8")?;
    let value = Zeroizing::new(value.to_string());
    Ok(Found { raw: value.clone(), value, span, quoting: Quoting::Bare })
}

/// A value that is the same in quotes and bare.
pub fn write(new: &str) -> Result<Zeroizing<String>, String> {
    if new.is_empty() || !new.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        return Err("the new value would need quotes or escapes".into());
    }
    Ok(Zeroizing::new(new.to_string()))
}

/// Where the value of `key` stands in `file`: the bytes between the quotes, if there are any.
fn place(file: &[u8], key: &str) -> Result<Range<usize>, String> {
    let mut found = None;
    let mut at = 0;
    for (number, whole) in file.split_inclusive(|b| *b == b'\n').enumerate() {
        let number = number + 1;
        let start = at;
        at += whole.len();
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = line.trim_ascii_start();
        if text.is_empty() {
            continue;
        }
        if text[0] == b'#' || text[0] == b';' {
            continue;
        }
        if line.ends_with(b"\\") {
            return Err(format!("line {number} ends in a backslash: programs differ in how they go on reading"));
        }
        let text = match text.strip_prefix(b"export") {
            Some(rest) if rest.first().is_some_and(|b| *b == b' ' || *b == b'\t') => rest.trim_ascii_start(),
            _ => text,
        };
        let Some(equals) = text.iter().position(|b| *b == b'=') else {
            if text.trim_ascii() == key.as_bytes() {
                return Err(format!("line {number} names {key} without a value"));
            }
            continue;
        };
        let (name, value) = (&text[..equals], &text[equals + 1..]);
        let begin = start + (line.len() - value.len());
        let spanned = span(value);
        if name.trim_ascii() != key.as_bytes() {
            if matches!(spanned, Err(Odd::Unclosed)) {
                return Err(format!("line {number} has a quote that is not closed: the value may go on in the next line"));
            }
            continue;
        }
        if name.len() != key.len() {
            return Err(format!("line {number} has a space between {key} and `=`"));
        }
        if found.is_some() {
            return Err(format!("{key} stands there more than once, line {number} included"));
        }
        let inner = spanned.map_err(|odd| format!("the value of {key} in line {number} {}", odd.sentence()))?;
        found = Some(begin + inner.start..begin + inner.end);
    }
    found.ok_or_else(|| format!("{key} does not stand there"))
}

/// What makes a value one that programs read differently.
#[derive(Debug, PartialEq)]
enum Odd {
    Unclosed,
    Escape,
    Reference,
    Inner,
    Leading,
    Empty,
}

impl Odd {
    fn sentence(&self) -> &'static str {
        match self {
            Self::Unclosed => "begins with a quote that is not closed in the same line",
            Self::Escape => "has a `\\`, a `$` or a backquote, which programs read differently",
            Self::Reference => "refers to another variable: the secret is not in this file, name the one that it is in",
            Self::Inner => "has a quote, a space or a `#` inside, which programs read differently: put all of it in quotes",
            Self::Leading => "begins with a space, which programs read differently",
            Self::Empty => "is empty",
        }
    }
}

/// What is odd about a value with an escape or a `$`.
fn escape(value: &[u8]) -> Odd {
    let name = value.strip_prefix(b"$").is_some_and(|name| {
        !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
    });
    let reference = name || std::str::from_utf8(value).is_ok_and(is_reference);
    if reference { Odd::Reference } else { Odd::Escape }
}

/// The value within what follows the `=`.
fn span(text: &[u8]) -> Result<Range<usize>, Odd> {
    match text.first() {
        None => Err(Odd::Empty),
        Some(b' ' | b'\t') if text.trim_ascii().is_empty() => Err(Odd::Empty),
        Some(b' ' | b'\t') => match span(text.trim_ascii_start()) {
            Err(Odd::Unclosed) => Err(Odd::Unclosed),
            _ => Err(Odd::Leading),
        },
        Some(quote @ (b'"' | b'\'')) => {
            let Some(length) = text[1..].iter().position(|b| b == quote) else { return Err(Odd::Unclosed) };
            let (inner, after) = (&text[1..=length], &text[length + 2..]);
            if *quote == b'"' && inner.iter().any(|b| b"\\$`".contains(b)) {
                // An escaped quote may be the one that we took for the end.
                return Err(if inner.ends_with(b"\\") { Odd::Unclosed } else { escape(inner) });
            }
            let rest = after.trim_ascii_start();
            // A remark needs a space before it.
            if !rest.is_empty() && (rest[0] != b'#' || rest.len() == after.len()) {
                let open = [b'"', b'\''].iter().any(|q| after.iter().filter(|b| *b == q).count() % 2 == 1);
                return Err(if open { Odd::Unclosed } else { Odd::Inner });
            }
            if inner.is_empty() { Err(Odd::Empty) } else { Ok(1..length + 1) }
        }
        Some(_) => {
            let value = text.trim_ascii_end();
            if value.iter().any(|b| b"\\$`".contains(b)) {
                return Err(escape(value));
            }
            // A quote in the middle opens a string for a shell, and is a plain character for Docker.
            for quote in [b'"', b'\''] {
                if value.iter().filter(|b| **b == quote).count() % 2 == 1 {
                    return Err(Odd::Unclosed);
                }
            }
            if value.iter().any(|b| b.is_ascii_whitespace() || b"\"'#;&|<>()".contains(b)) {
                return Err(Odd::Inner);
            }
            Ok(0..value.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{find, replace};
    use crate::model::KeyFormat::Env;
    use proptest::prelude::*;

    fn replaced(file: &str) -> Result<String, String> {
        replace(Env, file.as_bytes(), &["PGPASSWORD".into()], "NEW-value_1").map(|b| String::from_utf8(b.to_vec()).unwrap())
    }

    #[test]
    fn one_value_is_replaced_and_every_other_byte_stays() {
        for (before, after) in [
            ("PGPASSWORD=old\n", "PGPASSWORD=NEW-value_1\n"),
            ("PGPASSWORD=old", "PGPASSWORD=NEW-value_1"),
            ("A=1\r\nPGPASSWORD=old\r\nB=2\r\n", "A=1\r\nPGPASSWORD=NEW-value_1\r\nB=2\r\n"),
            ("  export\tPGPASSWORD='o $ l#d' # rotated by hand\n", "  export\tPGPASSWORD='NEW-value_1' # rotated by hand\n"),
            ("PGPASSWORD=\"old pass\"  \n\n\n", "PGPASSWORD=\"NEW-value_1\"  \n\n\n"),
            ("# PGPASSWORD=older\n; PGPASSWORD=x\nPGPASSWORD=old \t\n", "# PGPASSWORD=older\n; PGPASSWORD=x\nPGPASSWORD=NEW-value_1 \t\n"),
            ("MYPGPASSWORD=a\nPGPASSWORD=old\nPGPASSWORD2=b\nPGPASSWORDFILE=/x\n", "MYPGPASSWORD=a\nPGPASSWORD=NEW-value_1\nPGPASSWORD2=b\nPGPASSWORDFILE=/x\n"),
            ("X=\"PGPASSWORD=1\"\nPGPASSWORD=a=b==\n", "X=\"PGPASSWORD=1\"\nPGPASSWORD=NEW-value_1\n"),
            ("NOTE=it is # odd\nURL=a?b&c\nPGPASSWORD=old\nlast", "NOTE=it is # odd\nURL=a?b&c\nPGPASSWORD=NEW-value_1\nlast"),
        ] {
            assert_eq!(replaced(before).as_deref(), Ok(after), "{before:?}");
        }
        // Latin-1 in somebody's remark.
        let latin = b"# gr\xfc\xdfe\nPGPASSWORD=old\n";
        assert_eq!(&*replace(Env, latin, &["PGPASSWORD".into()], "x").unwrap(), b"# gr\xfc\xdfe\nPGPASSWORD=x\n");
    }

    #[test]
    fn what_programs_read_differently_is_refused_without_a_word_of_it() {
        for (file, why) in [
            ("", "does not stand there"),
            ("#PGPASSWORD=s3cret\n", "does not stand there"),
            ("PGPASSWORD=s3cret\nPGPASSWORD=s3cret\n", "more than once"),
            ("PGPASSWORD=s3cret\n export PGPASSWORD='s3cret'\n", "more than once"),
            ("export PGPASSWORD\n", "without a value"),
            ("PGPASSWORD =s3cret\n", "a space between"),
            ("PGPASSWORD= s3cret\n", "begins with a space"),
            ("PGPASSWORD=\n", "is empty"),
            ("PGPASSWORD=''\n", "is empty"),
            ("PGPASSWORD=s3cret # note\n", "inside"),
            ("PGPASSWORD=s3 cret\n", "inside"),
            ("PGPASSWORD=\"s3\\\"cret\"\n", "not closed"),
            ("PGPASSWORD=\"s3$cret\"\n", "`$`"),
            ("PGPASSWORD=$s3cret\n", "refers to another"),
            ("PGPASSWORD=\"${s3cret}\"\n", "refers to another"),
            ("PGPASSWORD='${s3cret}'\n", "refers to something"),
            ("PGPASSWORD='s3'cret\n", "inside"),
            ("PGPASSWORD='s3cret\n", "not closed"),
            ("PGPASSWORD=s3cret\\\n", "backslash"),
            ("X='\nPGPASSWORD=s3cret\n'\n", "not closed"),
            ("X=\"a\\\"\nPGPASSWORD=s3cret\n\"\n", "not closed"),
            ("X=a'b\nPGPASSWORD=s3cret\n'\n", "not closed"),
            ("X=a \\\nPGPASSWORD=s3cret\n", "backslash"),
            ("PGPASSWORD=s3\0cret\n", "NUL"),
        ] {
            let said = replaced(file).unwrap_err();
            assert!(said.contains(why), "{file:?}: {said}");
            assert!(!said.contains("s3"), "{said}");
        }
        let key = ["K".to_string()];
        assert!(replace(Env, b"K=a\n", &key, "with space").is_err() && replace(Env, b"K=a\n", &key, "").is_err());
    }

    proptest! {
        /// Whatever stands around it, only the value changes, and it reads back as what was written.
        #[test]
        fn any_file_keeps_its_other_bytes(
            before in proptest::collection::vec("([A-Z]{1,4}=[a-z0-9=./:-]{0,9}|#[ -~]{0,12}|)(\r?\n)", 0..6),
            lead in "[ \t]{0,2}(export[ \t]+)?",
            quote in "['\"]?",
            old in "[A-Za-z0-9_=@.,:/+-]{1,20}",
            tail in "[ \t]{0,2}(\r?\n)?",
            after in "(\n([A-Z]{1,4}=[a-z0-9]{0,9}\n){0,4})?",
            new in "[A-Za-z0-9_-]{43}",
        ) {
            let (head, foot) = (format!("{}{lead}SECRET={quote}", before.concat()), format!("{quote}{tail}{after}"));
            let file = format!("{head}{old}{foot}");
            let key = ["SECRET".to_string()];
            let edited = replace(Env, file.as_bytes(), &key, &new).unwrap();
            let expected = format!("{head}{new}{foot}");
            prop_assert_eq!(&*edited, expected.as_bytes());
            prop_assert_eq!(find(Env, &edited, &key).unwrap().value.to_string(), new);
            // And back again.
            prop_assert_eq!(find(Env, file.as_bytes(), &key).unwrap().value.to_string(), old);
        }

        /// Nothing panics, and nothing but the value ever changes.
        #[test]
        fn no_file_makes_it_fail_badly(file in proptest::collection::vec(proptest::sample::select(b"K=K=\"'\\$# \t\r\n;exportab\0\xff".to_vec()), 0..60)) {
            let key = ["K".to_string()];
            if let Ok(there) = find(Env, &file, &key).map(|found| found.span) {
                let edited = replace(Env, &file, &key, "v").unwrap();
                prop_assert_eq!(&edited[..there.start], &file[..there.start]);
                prop_assert_eq!(&edited[there.start + 1..], &file[there.end..]);
            }
        }
    }
}
