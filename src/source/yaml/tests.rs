use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "only parsed")]
struct Sample {
    name: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    password: Option<crate::model::SecretRef>,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    more: BTreeMap<String, Vec<Sample>>,
    #[serde(default)]
    within: Option<crate::source::Period>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Fast,
    Careful,
}

fn complaint(yaml: impl AsRef<[u8]>) -> String {
    let document = match Document::read("config", "a.yaml", yaml.as_ref()) {
        Ok(document) => document,
        Err(mistakes) => return mistakes.to_string(),
    };
    match document.parse::<Sample>(&["rotate"]) {
        Ok(sample) => panic!("accepted: {sample:?}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

macro_rules! snapshots {
    ($($name:ident: $yaml:expr),* $(,)?) => {
        $(#[test] fn $name() { insta::assert_snapshot!(complaint($yaml)); })*
    };
}

snapshots! {
    unknown_key: "name: a\nmore:\n  x:\n    - name: b\n      prot: 3\n",
    unknown_key_after_wide_letters: "name: é😀\nmore: { é: [{ name: b, prot: 3 }] }\n",
    unknown_value: "name: a\nmode: carefull\n",
    later_key: "name: a\nrotate: b\n",
    missing_key: "port: 3\nmode: fast\n",
    wrong_type: "name: a\nport: ssh\n",
    number_out_of_range: "name: a\nport: 70000\n",
    list_instead_of_text: "name: [a]\n",
    text_instead_of_keys: "name: a\nmore: b\n",
    secret_in_the_file: "name: a\npassword: hunter2\n",
    secret_below_a_wrong_key: "name: a\npassword:\n  value: hunter2\n",
    period: "name: a\nwithin: 5 parsecs\n",
    period_without_unit: "name: a\nwithin: 15\n",
    key_twice: "name: a\nmore:\n  x: []\n  y: []\n  x: []\n",
    tab: "name: a\nmore:\n\tx: []\n",
    unclosed: "name: a\nmore: { x: [\n",
    colon_in_text: "name: a: b\n",
    at_sign: "name: @ops\n",
    two_documents: "name: a\n---\nname: b\n",
    tag: "name: !vault a\n",
    merge_key: "more: &x {}\nname:\n  <<: *x\n",
    unknown_alias: "name: *a\n",
    empty: "# nothing\n\n",
    latin_1: b"name: a\nmore: M\xfcller\n",
    utf_16: b"\xff\xfen\0a\0m\0e\0",
    nul: "name: a\0b\n",
    control_characters: "name: a\n\"\\x1b[2J\u{9b}\u{202e}evil\": 1\n",
    escape_character: "name: \"\u{1b}[31m\"\n",
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    let document = Document::read("config", "a.yaml", "\u{feff}name: a\r\nport: 3\r\n".as_bytes()).unwrap();
    assert_eq!(document.parse::<Sample>(&[]).unwrap().name, "a");
}

#[test]
fn bombs_are_refused() {
    let laughs = (1..10).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_string(), |yaml, n| {
        let again = format!("*a{}, ", n - 1).repeat(9);
        yaml + &format!("a{n}: &a{n} [{again}]\n")
    });
    for (bomb, refusal) in [
        (laughs, "too much in one file"),
        ("a: &a [*a]".to_string(), "nested too deep"),
        ("[".repeat(1_000_000), "nested too deep"),
        ("{a: ".repeat(250_000), "nested too deep"),
        ("- ".repeat(500_000), "nested too deep"),
        ("? ".repeat(500_000), "refused"),
        (format!("a: {}", "x".repeat(MAX_BYTES)), "is too large"),
        ("- x\n".repeat(250_000), "too much in one file"),
        (format!("? {}\n: b", "k".repeat(900_000)), "refused"),
        (format!("{}name: a", "!".repeat(500_000)), "refused"),
        ("&a ".repeat(300_000), "refused"),
        ("\"".repeat(999_999), "refused"),
    ] {
        let message = complaint(&bomb);
        assert!(message.starts_with("error[config]: "), "{message}");
        assert!(refusal == "refused" || message.contains(refusal), "{}: {message}", &bomb[..30]);
        assert!(message.len() < 3_000, "{message}");
    }
}

#[test]
fn rules_that_no_type_can_express_point_at_the_value_too() {
    let yaml = "# é\nname: \"a\"\nmore:\n  x y: [{ name: b },\n    { name: 'c', port: 4 }]\n";
    let document = Document::read("config", "a.yaml", yaml.as_bytes()).unwrap();
    let at = |path: &[Node]| {
        let spot = document.spot(path, "");
        (spot.line, spot.column, spot.shown[spot.span].to_string())
    };
    assert_eq!(at(&["name".into()]), (2, 7, "\"a\"".into()));
    assert_eq!(at(&["more".into(), "x y".into(), 1.into(), "name".into()]), (5, 13, "'c'".into()));
    assert_eq!(at(&["more".into(), "x y".into(), 1.into(), "port".into()]), (5, 24, "4".into()));
    let key = document.key_spot(&["more".into(), "x y".into()], "");
    assert_eq!((key.line, key.column), (4, 3));
    // What is not there is shown by what is around it.
    assert_eq!(at(&["more".into(), "x y".into(), 7.into(), "name".into()]).0, 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(yaml in r#"([a-c]: |- |\n|  |[\[\]{},&*!|>'"%@`#:?-]|\t|é|\x1b|name|more|password|port|[0-9]){0,40}"#) {
        if let Ok(document) = Document::read("config", "a.yaml", yaml.as_bytes())
            && let Err(mistakes) = document.parse::<Sample>(&[]) {
            let shown = mistakes.render(false);
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{:?}", shown);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(mistakes) = Document::read("config", "a.yaml", &bytes) {
            prop_assert!(!mistakes.render(false).chars().any(|c| c.is_control() && c != '\n'));
        }
    }

    #[test]
    fn a_password_in_the_file_is_never_shown(
        password in "[a-zA-Z0-9#:,$%]{6,30}",
        form in 0..6_usize,
    ) {
        let yaml = [
            format!("name: a\npassword: {password}\n"),
            format!("name: a\npassword: \"{password}\"\n"),
            format!("name: a\npassword: {{ value: '{password}' }}\n"),
            format!("name: a\npassword: {{ file: x, value: '{password}' }}\n"),
            format!("name: a\npassword:\n  text: '{password}'\n"),
            format!("name: a\npassword: ['{password}']\n"),
        ];
        let document = Document::read("config", "a.yaml", yaml[form].as_bytes());
        // A password that begins with `#` is a comment, and so on: then there is no message.
        let Err(message) = document.and_then(|d| d.parse::<Sample>(&[])) else { return Ok(()) };
        let message = message.to_string();
        prop_assert!(!message.contains(&password), "{}", message);
    }
}
