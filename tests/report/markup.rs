//! A strict reader of HTML: strict enough that what it takes, every browser reads the same way.

/// Elements without an end tag.
const VOID: [&str; 3] = ["meta", "br", "col"];

/// `text` as it stands in the page.
pub fn escaped(text: &str) -> String {
    let text = text.replace('&', "&#38;").replace('<', "&#60;").replace('>', "&#62;");
    text.replace('"', "&#34;").replace('\'', "&#39;")
}

/// Checks that every element is closed where it must be, every attribute quoted and every character reference whole.
///
/// # Panics
/// If not.
pub fn check(html: &str) {
    let mut rest = html.strip_prefix("<!doctype html>").expect("begins with its doctype");
    let mut open: Vec<String> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    while let Some(at) = rest.find('<') {
        text(&rest[..at]);
        rest = &rest[at + 1..];
        let end = end_of_tag(rest);
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closes what is open");
            continue;
        }
        let bare = tag.trim_end_matches('/');
        let name = bare.split([' ', '\n']).next().unwrap_or_default();
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}> is no tag");
        attributes(&bare[name.len()..], &mut ids);
        if name == "style" {
            let end = rest.find("</style>").expect("a style ends");
            assert!(!rest[..end].contains('<'), "nothing but style in a style");
            rest = &rest[end..];
        }
        if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name.to_string());
        }
    }
    text(rest);
    assert_eq!(open, Vec::<String>::new(), "everything is closed");
}

fn end_of_tag(rest: &str) -> usize {
    let mut quoted = false;
    for (i, c) in rest.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '>' if !quoted => return i,
            '<' => panic!("a tag in a tag: {}", &rest[..i]),
            _ => {}
        }
    }
    panic!("a tag that never ends");
}

fn attributes(text: &str, ids: &mut std::collections::HashSet<String>) {
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('=') else {
            panic!("attribute without a value: {rest}");
        };
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name:?} is no attribute");
        assert!(!name.starts_with("on") && name != "style", "{name} may not stand here");
        let after = after.strip_prefix('"').expect("a quoted value");
        let (value, next) = after.split_once('"').expect("a quoted value ends");
        references(value);
        if name == "id" {
            assert!(ids.insert(value.to_string()), "id {value} stands twice");
        }
        rest = next.trim_start();
    }
}

fn text(text: &str) {
    assert!(!text.contains('>'), "a stray > in {text:?}");
    references(text);
}

fn references(text: &str) {
    for after in text.split('&').skip(1) {
        let name = after.split(';').next().unwrap_or_default();
        let known = ["amp", "lt", "gt", "quot"].contains(&name)
            || name.strip_prefix('#').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
        assert!(known && after.contains(';'), "&{name} is no character reference");
    }
}
