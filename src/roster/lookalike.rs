//! Names that look alike. They are never matched; somebody should know of them.

use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization;
use unicode_security::confusable_detection::skeleton;

/// What two texts have in common that mean the same to a computer: compatibility forms (NFKC) and case are folded.
pub fn normal(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

/// What two texts have in common that mean the same to a hasty reader: the skeleton of Unicode Technical Standard #39, with
/// case folded.
pub fn appearance(text: &str) -> String {
    skeleton(&normal(text)).collect::<String>().to_lowercase()
}

/// Pairs of positions in `names` that look alike without being the same; each name is paired with the first that looks like it.
pub fn pairs<'a>(names: impl IntoIterator<Item = (usize, &'a str)>) -> Vec<(usize, usize)> {
    let mut seen: HashMap<String, (usize, String)> = HashMap::new();
    let mut pairs = Vec::new();
    for (at, name) in names {
        let normal = normal(name);
        match seen.get(&appearance(name)) {
            Some((first, other)) if *other != normal => pairs.push((*first, at)),
            Some(_) => {}
            None => {
                seen.insert(appearance(name), (at, normal));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_other_alphabets_look_alike() {
        // The second has a Cyrillic о, the third a digit one, the fourth full-width letters.
        assert_eq!(appearance("jroe"), appearance("jr\u{43e}e"));
        assert_eq!(appearance("jill"), appearance("ji1l"));
        assert_eq!(normal("jroe"), normal("ｊｒｏｅ"));
        assert_ne!(appearance("jroe"), appearance("jdoe"));
        assert_eq!(pairs([(0, "jroe"), (1, "jr\u{43e}e"), (2, "other"), (3, "JROE")]), [(0, 1)]);
    }
}
