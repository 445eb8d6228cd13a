use super::*;
use KeyFormat::{Ini, Json, Properties, Yaml};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::process::{Command, Stdio};

const NEW: &str = "NEW-value_1";

fn path(dotted: &str) -> Vec<String> {
    dotted.split('.').map(str::to_string).collect()
}

fn replaced(format: KeyFormat, file: &str, key: &str) -> Result<String, String> {
    replace(format, file.as_bytes(), &path(key), NEW).map(|b| String::from_utf8(b.to_vec()).unwrap())
}

/// `OLD` (as it is written) becomes `NEW` (as it is written then), and it reads as `value`.
fn becomes(format: KeyFormat, key: &str, file: &str, old: (&str, &str), new: &str) {
    let before = file.replacen('@', old.0, 1);
    let found = find(format, before.as_bytes(), &path(key)).unwrap_or_else(|why| panic!("{before:?}: {why}"));
    assert_eq!(found.value.as_str(), old.1, "{before:?}");
    assert_eq!(replaced(format, &before, key), Ok(file.replacen('@', new, 1)), "{before:?}");
}

fn refused(format: KeyFormat, key: &str, cases: &[(&str, &str)]) {
    for (file, why) in cases {
        let said = replaced(format, file, key).map(|_| ()).unwrap_err();
        assert!(said.contains(why), "{file:?}: {said}");
        assert!(!said.contains("s3"), "{said}");
    }
}

#[test]
fn json_values_are_replaced_and_every_other_byte_stays() {
    let new = "\"NEW-value_1\"";
    for (file, old) in [
        (r#"{"db":{"password":@}}"#, (r#""old""#, "old")),
        (r#"{"db":{"password":@}}"#, (r#""o\"l\\d\u00e4\/""#, "o\"l\\dä/")),
        (r#"{"db":{"password":@}}"#, ("123456", "123456")),
        ("\u{feff}{\r\n\t\"x\" : [1, {\"password\": 1.50}, \"]}\\\"\"],\r\n \"db\"\t:\r\n{ \"a\": null, \"password\" : @ , \"b\":true}}", (r#""old""#, "old")),
        (r#"{"password":"p","password":"q","db":{"p\u0061ssword":@,"x":{"x":1,"x":2}}}  "#, (r#""pässword""#, "pässword")),
    ] {
        becomes(Json, "db.password", file, old, new);
    }
    becomes(Json, "users.1.password", r#"{"users":[{"password":"a"}, {"password":@}, 3]}"#, (r#""b""#, "b"), new);
    becomes(Json, "0", " [@]", (r#""b""#, "b"), new);
    let dotted = replace(Json, br#"{"a.b":{"c":"x"}}"#, &["a.b".into(), "c".into()], NEW).unwrap();
    assert_eq!(&*dotted, br#"{"a.b":{"c":"NEW-value_1"}}"#);
}

/// Whoever may write the file could make everybody wait: the value is looked for in all that a program says.
#[test]
fn a_value_longer_than_any_password_is_refused() {
    let whole = |length: usize| find(KeyFormat::Env, format!("KEY={}\n", "s".repeat(length)).as_bytes(), &path("KEY"));
    assert_eq!(whole(4096).map(|found| found.value.len()), Ok(4096));
    assert_eq!(whole(4097).map(|found| found.value.len()), Err("the value is longer than 4096 bytes".into()));
}

#[test]
fn json_that_is_not_clear_is_refused() {
    refused(
        Json,
        "db.password",
        &[
            ("", "line 1"),
            (r#"{"db":{}}"#, "db.password does not stand there"),
            (r#"{}"#, "db does not stand there"),
            (r#"{"db":"s3"}"#, "single value"),
            (r#"{"db":["s3"]}"#, "its place is a list"),
            (r#"{"db":{"password":"s3","password":"s3"}}"#, "more than once"),
            (r#"{"db":{"password":"s3","pass\u0077ord":"s3"}}"#, "more than once"),
            (r#"{"db":{"password":"s3"},"db":{}}"#, "more than once"),
            (r#"{"db":{"password":null}}"#, "null"),
            (r#"{"db":{"password":true}}"#, "true or false"),
            (r#"{"db":{"password":["s3"]}}"#, "is a list"),
            (r#"{"db":{"password":{"s3":1}}}"#, "is a map"),
            (r#"{"db":{"password":1.50}}"#, "a number"),
            (r#"{"db":{"password":-1}}"#, "a number"),
            (r#"{"db":{"password":123456789012345678901234567890}}"#, "a number"),
            (r#"{"db":{"password":""}}"#, "is empty"),
            (r#"{"db":{"password":"s3\ncret"}}"#, "spans lines"),
            (r#"{"db":{"password":"${DB_PASSWORD}"}}"#, "refers to something"),
            (r#"{"db":{"password":"$DB_PASSWORD"}}"#, "refers to something"),
            ("{\"db\":\n{\"password\":\"s3\",}}", "line 2 column"),
            ("{\"db\":{\"password\":\"s3\"}} // why", "line 1 column"),
            ("{\"db\":{\"password\":\"s3\0\"}}", "NUL"),
        ],
    );
    refused(Json, "00", &[(r#"["s3"]"#, "its place is a list")]);
    refused(Json, "1", &[(r#"["s3"]"#, "does not stand there")]);
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    assert!(replaced(Json, &deep, "0").unwrap_err().contains("recursion"));
}

#[test]
fn yaml_values_are_replaced_in_their_own_quotes() {
    for (old, new) in [
        (("old", "old"), NEW),
        (("o#l,d:x y", "o#l,d:x y"), NEW),
        (("123456", "123456"), NEW),
        (("'o''l\"d # x'", "o'l\"d # x"), "'NEW-value_1'"),
        ((r#""o\"l\x64 # \u00e4""#, "o\"ld # ä"), "\"NEW-value_1\""),
    ] {
        for file in [
            "db:\n  password: @\n",
            "db:\n  password: @",
            "\u{feff}# db\r\ndb:\r\n    user: x\r\n    password:   @  # ask Rohan\r\n    port: 5\r\nlast: |\r\n  password: no\r\n",
        ] {
            becomes(Yaml, "db.password", file, old, new);
        }
    }
    for (file, key) in [
        ("db: {user: x, password: @, port: 5}\n", "db.password"),
        ("db: {user: x, password: @}\n", "db.password"),
        ("{\"db\": {\"password\": @}}\n", "db.password"),
        ("db:\n- a\n- password: @\n", "db.1.password"),
        ("---\n# c\ndb: !pool\n  x: 1\n1: {2: @}\n...\n", "1.2"),
        ("other: &x {a: b}\nsame: *x\nrest:\n  <<: *x\ntwice: {k: 1}\ndb:\n  password: @\n  list: [!t 1, 'a']\n", "db.password"),
        ("a: 'db: {password: no}'\n\"db\":\n  'password': @\n", "db.password"),
        ("db: [[a, b], [c, @]]\n", "db.1.1"),
    ] {
        becomes(Yaml, key, file, ("old", "old"), NEW);
    }
    // What a bare word would be taken for something else.
    for (new, written) in [
        ("null", "\"null\""),
        ("1234567", "\"1234567\""),
        ("-abcdefgh", "\"-abcdefgh\""),
        ("a b", "\"a b\""),
        ("p#q: \"\\ä\u{2028}😀", "\"p#q: \\\"\\\\ä\\u2028😀\""),
    ] {
        let edited = replace(Yaml, b"{a: old, b: old}", &path("a"), new).unwrap();
        assert_eq!(String::from_utf8_lossy(&edited), format!("{{a: {written}, b: old}}"));
    }
    assert_eq!(&*replace(Yaml, b"a: 'old'", &path("a"), "it's").unwrap(), b"a: 'it''s'");
    assert_eq!(&**replace(Yaml, b"a: 'old'", &path("a"), "\u{feff}x").unwrap(), *b"a: \"\\uFEFFx\"");
}

#[test]
fn yaml_that_is_not_clear_is_refused() {
    refused(
        Yaml,
        "db.password",
        &[
            ("", "does not stand there"),
            ("db:\n  user: s3\n", "db.password does not stand there"),
            ("db: s3\n", "single value"),
            ("db:\n  password: s3\n  password: s3\n", "more than once"),
            ("db:\n  password: s3\n  'password': s3\n", "more than once"),
            ("db:\n  password: s3\ndb:\n  x: y\n", "more than once"),
            ("db:\n  password:\n", "null"),
            ("db:\n  password: ~\n", "null"),
            ("db:\n  password: ''\n", "is empty"),
            ("db:\n  password: true\n", "true or false"),
            ("db:\n  password: [s3]\n", "is a list"),
            ("db:\n  password: {s3: x}\n", "is a map"),
            ("db:\n  password: 1.50\n", "a number"),
            ("db:\n  password: 0x1F\n", "a number"),
            ("db:\n  password: -5\n", "a number"),
            ("db:\n  password: |\n    s3\n", "a block"),
            ("db:\n  password: >-\n    s3\n", "a block"),
            ("db:\n  password: s3\n    cret\n", "spans lines"),
            ("db:\n  password: \"s3\n    cret\"\n", "spans lines"),
            ("db:\n  password: 's3\n    cret'\n", "spans lines"),
            ("db:\n  password: \"s3\\ncret\"\n", "spans lines"),
            ("db:\n  password:\n    \"s3 \\\n    cret\"\n", "spans lines"),
            ("db:\n  password: &p s3\n", "an anchor"),
            ("p: &p s3\ndb:\n  password: *p\n", "an anchor"),
            ("db:\n  password: !vault s3\n", "a tag"),
            ("db:\n  password: !!str s3\n", "a tag"),
            ("db: !pool\n  password: s3\n", "behind a tag"),
            ("!t db:\n  password: s3\n", "db has a tag, an anchor or an alias at its key"),
            ("x: &k password\ndb:\n  *k : s3\n", "db.password has a tag, an anchor or an alias at its key"),
            ("db: &d\n  password: s3\ncopy: *d\n", "through an alias"),
            ("db: &d\n  password: s3\ncopy:\n  <<: *d\n", "through an alias"),
            ("d: &d\n  password: s3\ndb: *d\n", "through an alias"),
            ("db:\n  password: \"${DB_PASSWORD}\"\n", "refers to something"),
            ("db:\n  password: ${DB_PASSWORD:s3}\n", "refers to something"),
            ("db:\n  password: '{{ vault_s3 }}'\n", "refers to something"),
            ("db:\n  password: s3\n---\ndb:\n  password: s3\n", "more than one YAML document"),
            ("db:\n  password: s3\n x: y\n", "line 3 column"),
            ("db:\n\tpassword: s3\n", "line 2 column"),
            ("? [a]\n: b\ndb:\n  password: s3\n", "a list or a map, or a value that does not fit its tag, line 1"),
            ("db:\n  password: !!int s3\n", "does not fit its tag, line 2, column 13"),
            ("db: {s3: !!float s3}\n", "does not fit its tag, line 1"),
            ("db:\n  password: s3\0\n", "NUL"),
        ],
    );
    let deep = "[".repeat(100_000);
    assert!(replaced(Yaml, &deep, "a").unwrap_err().contains("too many brackets"));
    let bomb = (0..9).fold("a0: &a0 [x]\n".to_string(), |text, n| {
        text + &format!("a{}: &a{} [{}*a{n}]\n", n + 1, n + 1, format!("*a{n}, ").repeat(9))
    });
    assert!(replaced(Yaml, &bomb, "a").unwrap_err().contains("limit exceeded"));
    let bomb = format!("a: &a {}\nb: [{}*a]\nc: s3\n", "x".repeat(500_000), "*a, ".repeat(10_000));
    assert!(replaced(Yaml, &bomb, "c").unwrap_err().contains("aliases"));
}

#[test]
fn ini_values_are_replaced_and_every_other_byte_stays() {
    for (old, new) in [
        (("old", "old"), NEW),
        (("o=l:d pass\\w%rd ä;#", "o=l:d pass\\w%rd ä;#"), NEW),
        (("'o ;l\"d'", "o ;l\"d"), "'NEW-value_1'"),
        (("\"o #l'd\"", "o #l'd"), "\"NEW-value_1\""),
    ] {
        for file in [
            "[db]\npassword = @\n",
            "[db]\npassword=@",
            "\u{feff}; c\r\nx = y\r\n[a]\r\npassword = no\r\n\r\n[db] ; the one\r\nuser: x\r\npassword\t:\t@  \r\n# password = no\r\n[c]\r\npassword = no\r\n",
            "[db]\n\tuser = x\n\tpassword = @\n\tport = 5\n[other]\nskip-networking\n",
        ] {
            becomes(Ini, "db.password", file, old, new);
        }
    }
    becomes(Ini, "password", "x = 1\npassword = @\n[a]\npassword = no\n", ("old", "old"), NEW);
    let dotted = replace(Ini, b"[remote \"a.b\"]\nkey = x\n", &["remote \"a.b\"".into(), "key".into()], NEW).unwrap();
    assert_eq!(&*dotted, b"[remote \"a.b\"]\nkey = NEW-value_1\n");
    for (file, new) in [("a = x", "p q "), ("a = x", "p ;q"), ("a = x", "'p"), ("a = x", "50%"), ("a = 'x'", "it's"), ("a = \"x\"", "p\\q")] {
        assert!(replace(Ini, file.as_bytes(), &path("a"), new).unwrap_err().contains("the new value"), "{file} {new}");
    }
}

#[test]
fn ini_that_is_not_clear_is_refused() {
    refused(
        Ini,
        "db.password",
        &[
            ("", "[db] does not stand there"),
            ("[db]\nuser = s3\n[x]\npassword = s3\n", "db.password does not stand there"),
            ("password = s3\n[db]\n", "db.password does not stand there"),
            ("[db]\n;password = s3\n", "does not stand there"),
            ("[db]\npassword = s3\n[x]\n[db]\nuser = x\n", "[db] stands there more than once, line 4"),
            ("[db]\npassword = s3\n[DB]\nuser = x\n", "[db] stands there more than once"),
            ("[DB]\npassword = s3\n", "other letters"),
            ("[db]\nPassword = s3\n", "other letters"),
            ("[db]\npassword = s3\npassword = s3\n", "more than once, line 3"),
            ("[db]\npassword = s3\nPASSWORD: s3\n", "more than once"),
            ("[db]\npassword\n", "without a value"),
            ("[db]\npassword =\n", "is empty"),
            ("[db]\npassword = ''\n", "is empty"),
            ("[db]\npassword = s3 ; cret\n", "comment"),
            ("[db]\npassword = s3\t# cret\n", "comment"),
            ("[db]\npassword = #s3\n", "comment"),
            ("[db]\npassword = \"s3\n", "not closed"),
            ("[db]\npassword = \"s3\" ; x\n", "behind the quotes"),
            ("[db]\npassword = \"s3\\\"x\"\n", "`\\` in quotes"),
            ("[db]\npassword = s3\\\n", "backslash"),
            ("[db]\npassword = s3\n  cret\n", "next line"),
            ("[db]\nx = y\\\npassword = s3\n", "below a line that ends in a backslash"),
            ("[a]\nx = \"y\n[db]\npassword = s3\n\"\n", "line 2 has a quote that is not closed"),
            ("[db]\nuser = x\n  password = s3\n", "deeper than a line above"),
            ("[db]\nuser = x\n  y\n  password = s3\n", "deeper than a line above"),
            ("[a]\nuser = x\n  [db]\npassword = s3\n", "deeper than a line above"),
            ("[db]\npassword = s3%%cret\n", "`%%`"),
            ("[db]\npassword = %(s3)s\n", "refers to something"),
            ("[db]\npassword = ${DB_PASSWORD}\n", "refers to something"),
            ("[db\npassword = s3\n", "line 1, column 1 is not closed"),
            ("[db] s3\npassword = s3\n", "line 1, column 6"),
            ("[db]\npassword = s3\rx = y\n", "carriage return"),
            ("[db]\npassword = s3\0\n", "NUL"),
        ],
    );
}

#[test]
fn properties_are_replaced_and_every_other_byte_stays() {
    for (old, value) in [
        ("old", "old"),
        ("o\\u00e4l\\\\d\\=\\:\\ \\#!= :x", "oäl\\d=: #!= :x"),
        ("\\uD83D\\uDE00 \\x", "😀 x"),
    ] {
        for file in [
            "db.password=@\n",
            "db.password=@",
            "\u{feff}# c \\\r\n! c\r\n\r\nx = 1\\\r\n  db.password=no\r\n  db.password : @\r\ndb.password2=no\r\n",
            "db.password @\n",
            "db.p\\u0061ssword\t=\t@\r\\#x\\=y=z\r",
        ] {
            let before = file.replacen('@', old, 1);
            let found = find(Properties, before.as_bytes(), &["db.password".into()]).unwrap();
            assert_eq!(found.value.as_str(), value, "{before:?}");
            let edited = replace(Properties, before.as_bytes(), &["db.password".into()], NEW).unwrap();
            assert_eq!(String::from_utf8_lossy(&edited), file.replacen('@', NEW, 1));
        }
    }
    let edited = replace(Properties, b"a b\nc=d", &path("a"), "= p\\q ä😀").unwrap();
    assert_eq!(String::from_utf8_lossy(&edited), "a \\= p\\\\q \\u00E4\\uD83D\\uDE00\nc=d");
}

#[test]
fn properties_that_are_not_clear_are_refused() {
    refused(
        Properties,
        "password",
        &[
            ("", "does not stand there"),
            ("#password=s3\n", "does not stand there"),
            ("x=1\\\npassword=s3\n", "does not stand there"),
            ("password=s3\npassword:s3\n", "more than once, line 2"),
            ("password=s3\npass\\u0077ord s3\n", "more than once"),
            ("password=s3\\\n  cret\n", "goes on in the next line"),
            ("pass\\\n  word=s3\n", "goes on in the next line"),
            ("password\n", "is empty"),
            ("password=\n", "is empty"),
            ("password=s3 \n", "ends in a blank"),
            ("password=s3\u{e4}\n", "beyond ASCII"),
            ("password=s3\\ncret\n", "spans lines"),
            ("password=s3\\u12\n", "line 1, column 1"),
            ("password=s3\n\nx=\\uZZZZ\n", "line 3, column 1"),
            ("password=\\uD83Ds3\n", "half a character"),
            ("password=${DB_PASSWORD}\n", "refers to something"),
            ("password=ENC(s3)\n", "refers to something"),
            ("password=s3\0\n", "NUL"),
        ],
    );
}

#[test]
fn what_is_no_text_or_too_large_is_refused_in_every_format() {
    let key = ["K".to_string()];
    for format in [KeyFormat::Env, Ini, Yaml, Json, Properties] {
        let large = vec![b'\n'; MOST + 1];
        assert!(find(format, &large, &key).err().unwrap().contains("larger than 1 MiB"));
        assert!(find(format, b"\x7fELF\0", &key).err().unwrap().contains("NUL"));
        if format != KeyFormat::Env {
            assert!(find(format, b"# x\n# \xfc\n", &key).err().unwrap().contains("not UTF-8: line 2, column 3"));
        }
    }
    for value in STAND_INS {
        assert_eq!((value.len(), is_reference(value)), (43, false));
    }
    for (value, is) in [("${A}", true), ("$A_1", true), ("$(a)", true), ("{{a}}", true), ("pa$$w0rd", false), ("$a", false), ("$", false), ("a${B}", false)] {
        assert_eq!(is_reference(value), is, "{value}");
    }
}

/// What a rotation makes, what YAML 1.1 takes for no text, and anything else.
fn new_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z0-9_-]{43}",
        1 => proptest::sample::select(vec!["null", "yes", "No", "~", "1e5", "0x1f", "1_000", "12:30", "-", "---", ".inf", "2001-01-01", "<<", "=", "true"])
            .prop_map(str::to_string),
        2 => "[ -~äß€😀]{1,20}",
    ]
}

fn file_around(format: KeyFormat) -> BoxedStrategy<(String, Vec<String>)> {
    let parts: Vec<&str> = match format {
        Yaml => vec![
            "# password: 'no\n", "other: 'it''s'\n", "list: [a, \"b, c\", {d: e}]\n", "text: |\n  password: no\n\n  [more\n", "nested:\n  password: other\n  k: .nan\n",
            "anchored: &a {x: 1}\ncopy: *a\nmerged: {<<: *a}\n", "tagged: !custom [5]\n", "folded: >-\n    a\n\n    b\n", "long: a\n  b\n", "\n",
        ],
        Ini => vec!["; password = no\n", "[other]\npassword = no\n", "[empty]\n", "[quoted]\na = \"b ; c\"\nb: d\n", "# [db]\n", "\n", "[long]\na = b\n"],
        _ => vec!["# password=no\n", "! c \\\n", "other=1\\\n  password=2\n", "a\\=b : c\\u00e4\n", "nothing\n", "\n", " x y z\n"],
    };
    let targets: Vec<(&str, &str)> = match format {
        Yaml => vec![
            ("database:\n  user: x\n  password: @\n  port: 5\n", "database.password"),
            ("database:\n  password:   @   # ask Rohan\n", "database.password"),
            ("database: {user: x, password: @, port: 5}\n", "database.password"),
            ("database: [1, {password: @}]\n", "database.1.password"),
            ("database:\n- user: a\n- password: @\n", "database.1.password"),
            ("password: @\n", "password"),
        ],
        Ini => vec![
            ("[database]\nuser = x\npassword = @\nport = 5\n", "database.password"),
            ("[database]\n\tpassword:@\t\n", "database.password"),
            ("[database]\npassword=@\n\n", "database.password"),
        ],
        _ => vec![("password=@\n", "password"), ("password @\n", "password"), ("\tpass\\word : @\n", "password")],
    };
    let count = parts.len();
    (proptest::sample::subsequence(parts, 0..=count), proptest::sample::select(targets), any::<prop::sample::Index>(), any::<[bool; 3]>())
        .prop_map(|(mut parts, (target, key), at, [crlf, bom, end])| {
            parts.insert(at.index(parts.len() + 1), target);
            let mut text = parts.concat();
            if end {
                text.truncate(text.trim_end_matches('\n').len());
            }
            if crlf {
                text = text.replace('\n', "\r\n");
            }
            if bom {
                text.insert(0, '\u{feff}');
            }
            (text, path(key))
        })
        .boxed()
}

/// A value, and how it may be written.
fn old_value(format: KeyFormat) -> BoxedStrategy<(String, String)> {
    let bare = "[A-Za-z][A-Za-z0-9_.@/+-]{5,20}".prop_map(|v| (v.clone(), v));
    let any = "[ -~]{0,10}[!-~]";
    match format {
        Yaml => prop_oneof![
            bare,
            "[ -~ä€]{1,20}".prop_map(|v| (format!("'{}'", v.replace('\'', "''")), v)),
            "[ -~ä€😀]{1,20}".prop_map(|v| (serde_json::to_string(&v).unwrap(), v)),
            "[1-9][0-9]{5,9}".prop_map(|v| (v.clone(), v)),
        ]
        .boxed(),
        Ini => prop_oneof![
            bare,
            "[A-Za-z][ -$&-:<-Z^-~ä]{0,10}[a-z]".prop_filter("a comment", |v| !v.contains(" #")).prop_map(|v| (v.clone(), v)),
            "[ !#-$&-Z^-~]{1,20}".prop_map(|v| (format!("\"{v}\""), v)),
        ]
        .boxed(),
        _ => prop_oneof![
            bare,
            any.prop_map(|v| {
                let escaped = |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\{c}") };
                (v.chars().map(escaped).collect(), v)
            }),
            "[ -~ä😀]{1,10}".prop_map(|v| (v.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(), v))
                .prop_filter("a blank at its end", |(_, v): &(String, String)| !v.ends_with(' ')),
        ]
        .boxed(),
    }
}

type Case = (KeyFormat, String, Vec<String>, String, String, String);

/// A file with `@`, the path to it, what stands there, what that means, and what is to take its place.
fn case(format: KeyFormat) -> impl Strategy<Value = Case> {
    (file_around(format), old_value(format), new_value()).prop_map(move |((file, path), (written, old), new)| (format, file, path, written, old, new))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The value reads as it was written, every byte around it stays, and it reads back as the new one.
    #[test]
    fn any_file_keeps_its_other_bytes((format, file, path, written, old, new) in prop_oneof![case(Yaml), case(Ini), case(Properties)]) {
        prop_assume!(!is_reference(&old) && !old.trim().is_empty() && !is_reference(&new));
        let (head, tail) = file.split_once('@').unwrap();
        let before = format!("{head}{written}{tail}");
        let found = match find(format, before.as_bytes(), &path) {
            Ok(found) => found,
            Err(why) => return Err(TestCaseError::fail(format!("{before:?}: {why}"))),
        };
        prop_assert_eq!(found.value.as_str(), &old);
        match replace(format, before.as_bytes(), &path, &new) {
            Ok(edited) => {
                let edited = std::str::from_utf8(&edited).unwrap();
                prop_assert!(edited.starts_with(head) && edited.ends_with(tail), "{:?}", edited);
                prop_assert_eq!(find(format, edited.as_bytes(), &path).unwrap().value.to_string(), new.clone());
                if format == Yaml {
                    let text = |yaml: &str| {
                        let mut value: serde_yaml::Value = serde_yaml::from_str(yaml.trim_start_matches('\u{feff}')).unwrap();
                        let mut at = &mut value;
                        for part in &path {
                            at = if at.is_sequence() { &mut at[part.parse::<usize>().unwrap()] } else { &mut at[part.as_str()] };
                        }
                        let there = std::mem::replace(at, serde_yaml::Value::Null);
                        (there, serde_yaml::to_string(&value).unwrap())
                    };
                    let (then, now) = (text(&before), text(edited));
                    prop_assert_eq!(now.0.as_str(), Some(new.as_str()));
                    prop_assert_eq!(then.1, now.1, "the rest");
                }
            }
            Err(why) => prop_assert!(format != Yaml && why.contains("the new value"), "{}", why),
        }
        prop_assert!(try_out(format, before.as_bytes(), &path).is_ok());
    }

    /// As above, against serde_json.
    #[test]
    fn any_json_keeps_everything_else(
        around in proptest::collection::btree_map("[a-z\"\\\\ä]{0,4}", prop_oneof![Just("null"), Just("[1, \"]\", {}]"), Just("{\"password\" : [] }"), Just("\"\\\"},\""), Just("-1.5e3")], 0..5),
        at in any::<prop::sample::Index>(),
        (before, after) in ("[ \t\r\n]{0,3}", "[ \t\r\n]{0,3}"),
        old in "[ -~ä\u{2028}😀]{1,20}",
        new in new_value(),
    ) {
        prop_assume!(!is_reference(&old) && !old.trim().is_empty() && !is_reference(&new));
        let mut members: Vec<String> = around.iter().map(|(k, v)| format!("{}:{before}{v}", serde_json::to_string(&format!("x{k}")).unwrap())).collect();
        members.insert(at.index(members.len() + 1), format!("\"db\"{after}:[0,{before}{{\"password\":@{after}}}]"));
        let file = format!("{before}{{{after}{}}}{before}", members.join(&format!("{after},{before}")));
        let (head, tail) = file.split_once('@').unwrap();
        let text = format!("{head}{}{tail}", serde_json::to_string(&old).unwrap());
        let key = path("db.1.password");
        let found = find(Json, text.as_bytes(), &key);
        prop_assert_eq!(found.map(|f| f.value.to_string()), Ok(old));
        let edited = replace(Json, text.as_bytes(), &key, &new).unwrap();
        let expected = format!("{head}{}{tail}", serde_json::to_string(&new).unwrap());
        prop_assert_eq!(std::str::from_utf8(&edited).unwrap(), &expected);
        let (mut then, mut now): (serde_json::Value, serde_json::Value) = (serde_json::from_str(&text).unwrap(), serde_json::from_slice(&edited).unwrap());
        prop_assert_eq!(now.pointer("/db/1/password").unwrap(), &serde_json::Value::from(new));
        *then.pointer_mut("/db/1/password").unwrap() = 0.into();
        *now.pointer_mut("/db/1/password").unwrap() = 0.into();
        prop_assert_eq!(then, now);
    }

    /// Nothing panics, and nothing but the span ever changes.
    #[test]
    fn no_file_makes_it_fail_badly(
        format in proptest::sample::select(vec![Ini, Yaml, Json, Properties]),
        tokens in proptest::collection::vec(proptest::sample::select(vec![
            "K", "K", ":", ": ", "=", " ", "\n", "\r", "\t", "'", "\"", "\\", "[", "]", "{", "}", ",", "#", ";", "&a", "*a", "!t ", "|", "- ", "? ", "1", "v", "ä", "\u{feff}", "\\u00", "<<", "---", "\"K\":\"v\"", "K: v\n", "K=v\n",
        ]), 0..24),
    ) {
        let file = tokens.concat();
        for key in ["K", "K.K", "0", "K.0", "v.K"] {
            let key = path(key);
            if let Ok(edited) = replace(format, file.as_bytes(), &key, "V_a1b2c3") {
                let span = find(format, file.as_bytes(), &key).unwrap().span;
                prop_assert_eq!(&edited[..span.start], &file.as_bytes()[..span.start]);
                prop_assert!(edited.ends_with(&file.as_bytes()[span.end..]));
            }
        }
    }
}

/// Python's own readers: what they read of each file, if it is text.
fn python(files: &[(KeyFormat, String, Vec<String>)]) -> Vec<Option<String>> {
    const SCRIPT: &str = r#"
import configparser, json, sys, yaml
out = []
for form, text, path in json.load(sys.stdin):
    if text.startswith("\ufeff"): text = text[1:]
    try:
        if form == "ini":
            read = configparser.ConfigParser(interpolation=None, allow_no_value=True)
            read.read_string(text)
            value = read[path[0]][path[1]]
            if value[:1] in ("'", '"') and value[-1:] == value[:1]: value = value[1:-1]
        else:
            class Loader(yaml.SafeLoader): pass
            Loader.add_constructor("!custom", lambda loader, node: None)
            value = yaml.load(text, Loader)
            for part in path:
                value = value[int(part)] if isinstance(value, list) else value[part]
    except Exception as error:
        value = {"error": str(error)}
    out.append(value)
json.dump(out, sys.stdout)
"#;
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 with yaml is one of the packages that lab/deps names");
    serde_json::to_writer(child.stdin.take().unwrap(), files).unwrap();
    let said = child.wait_with_output().unwrap();
    let values: Vec<serde_json::Value> = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(values.len(), files.len());
    values
        .into_iter()
        .map(|value| {
            assert!(value.get("error").is_none(), "{value}");
            value.as_str().map(str::to_string)
        })
        .collect()
}

#[test]
fn python_reads_what_is_read_here_before_and_after() {
    let mut runner = TestRunner::deterministic();
    let (mut files, mut values) = (Vec::new(), Vec::new());
    for format in [Yaml, Ini] {
        for _ in 0..300 {
            let (_, file, path, written, old, new) = case(format).new_tree(&mut runner).unwrap().current();
            let before = file.replacen('@', &written, 1);
            if is_reference(&old) || old.trim().is_empty() {
                continue;
            }
            let Ok(edited) = replace(format, before.as_bytes(), &path, &new) else { continue };
            files.push((format, before, path.clone()));
            // A bare number is no text for Python either.
            values.push((old, format == Ini));
            files.push((format, String::from_utf8(edited.to_vec()).unwrap(), path));
            values.push((new, true));
        }
    }
    assert!(files.len() > 800, "{}", files.len());
    let read = python(&files);
    assert!(read.iter().flatten().count() > 700);
    for (((value, always), read), file) in values.iter().zip(read).zip(&files) {
        if *always || read.is_some() {
            assert_eq!(read.as_ref(), Some(value), "{file:?}");
        }
    }
}
