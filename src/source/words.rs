//! Words in error messages: what may be shown on a terminal, lists of valid choices, and "did you mean".

/// `text` without anything that could move the cursor, reverse the writing direction or hide itself: control characters
/// (C0, C1 and DEL), bidirectional controls, zero-width and other format characters each become U+FFFD. A tab becomes one space.
/// The number of characters stays the same, so that columns stay right.
pub fn printable(text: &str) -> String {
    let shown = |c| {
        if c == '\t' {
            ' '
        } else if is_unprintable(c) {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

/// Whether a character is a control character, a format character (general category Cf) or a line separator (U+2028, U+2029).
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The valid choices, for people: `` `a`, `b` or `c` ``.
pub fn choices<S: AsRef<str>>(valid: &[S]) -> String {
    let quoted: Vec<String> = valid.iter().map(|word| format!("`{}`", printable(word.as_ref()))).collect();
    match quoted.as_slice() {
        [] => "nothing".to_string(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The valid word that `written` was probably meant to be: at most a third of it has to change.
pub fn did_you_mean<'a, S: AsRef<str>>(written: &str, valid: &'a [S]) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['_', ' '], "-");
    let written = plain(written);
    // Nobody mistypes a word of hundreds of characters, and comparing it would take long.
    if written.chars().count() > 60 {
        return None;
    }
    let near = |word: &str| distance(&written, &plain(word));
    let best = valid.iter().map(|word| (near(word.as_ref()), word.as_ref())).min_by_key(|(distance, _)| *distance)?;
    (best.0 <= (best.1.chars().count().max(written.chars().count()) / 3).max(1)).then_some(best.1)
}

/// How many characters have to be inserted, removed or replaced, or neighbours swapped, to make `a` into `b` (optimal string
/// alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = usize::from(a[i - 1] != b[j - 1]);
                let mut least = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_is_printable() {
        let hostile = "a\u{1b}[2Jb\u{9b}c\u{202e}d\u{200b}e\r\n\tf";
        let shown = printable(hostile);
        assert_eq!(shown, "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}\u{fffd} f");
        assert_eq!(shown.chars().count(), hostile.chars().count());
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let valid = ["urls", "bind-dn", "password", "people"];
        assert_eq!(did_you_mean("url", &valid), Some("urls"));
        assert_eq!(did_you_mean("bind_dn", &valid), Some("bind-dn"));
        assert_eq!(did_you_mean("pasword", &valid), Some("password"));
        assert_eq!(did_you_mean("poeple", &valid), Some("people"));
        assert_eq!(did_you_mean("hosts", &valid), None);
        assert_eq!(did_you_mean(&"x".repeat(100_000), &valid), None);
        assert_eq!(did_you_mean("x", &[] as &[&str]), None);
    }
}
