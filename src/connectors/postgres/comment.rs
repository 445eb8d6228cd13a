//! Whose a role is, as its comment says (`COMMENT ON ROLE … IS …`).
//!
//! Only a comment that says nothing else counts: a lone mail address or employee number, or `key: value` parts.
//! A comment that merely *mentions* somebody ("reports, ask jane@example.com") does not make the role theirs.

use std::collections::BTreeSet;

/// What a comment says of the role's holder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The employee number.
    pub employee_number: Option<String>,
    /// Mail addresses.
    pub mails: Vec<String>,
}

impl Said {
    /// What it says of anybody but the person with these employee numbers and mail addresses.
    pub fn of_others(&self, tokens: &BTreeSet<String>) -> Vec<String> {
        let said = self.employee_number.iter().chain(&self.mails);
        said.filter(|word| !tokens.iter().any(|token| token.eq_ignore_ascii_case(word))).cloned().collect()
    }
}

/// Reads a comment. `ids` are the employee numbers that are looked for, so that a lone word can be told from one.
pub fn read(comment: &str, ids: &[&str]) -> Said {
    let mut said = Said::default();
    let comment = comment.trim();
    if is_mail(comment) {
        said.mails.push(comment.to_string());
        return said;
    }
    if ids.contains(&comment) {
        said.employee_number = Some(comment.to_string());
        return said;
    }
    for part in comment.split([';', ',', '\n']) {
        let Some((key, value)) = part.split_once([':', '=']) else { continue };
        let (key, value) = (key.trim().to_lowercase().replace(['-', '_', ' '], ""), value.trim());
        match key.as_str() {
            "employee" | "employeenumber" | "employeeid" | "person" if !value.is_empty() => {
                said.employee_number = Some(value.to_string());
            }
            "mail" | "email" if is_mail(value) => said.mails.push(value.to_string()),
            _ => {}
        }
    }
    said
}

/// Whether a text is one mail address and nothing else, as far as matching needs it.
pub fn is_mail(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && domain.contains('.')
            && !domain.contains('@')
            && !text.contains(|c: char| c.is_whitespace() || "<>,;:\"()=".contains(c))
    })
}

/// Whether a comment mentions `token` as a word of its own, in any case.
pub fn mentions(comment: &str, token: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "@._-+".contains(c);
    comment.split(|c: char| !inside(c)).any(|word| word.trim_matches(['.', '-']).eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(employee_number: Option<&str>, mails: &[&str]) -> Said {
        Said {
            employee_number: employee_number.map(str::to_string),
            mails: mails.iter().map(|m| (*m).to_string()).collect(),
        }
    }

    #[test]
    fn a_comment_that_names_the_holder_and_nothing_else_counts() {
        assert_eq!(read(" jane.roe@example.com ", &[]), said(None, &["jane.roe@example.com"]));
        assert_eq!(read("E1042", &["E1042"]), said(Some("E1042"), &[]));
        assert_eq!(
            read("employee: E1042; mail=jane.roe@example.com", &[]),
            said(Some("E1042"), &["jane.roe@example.com"])
        );
    }

    #[test]
    fn a_comment_that_mentions_somebody_does_not() {
        for text in [
            "nightly report, ask jane.roe@example.com",
            "owner: jane.roe@example.com",
            "manager: E1042",
            "ask Jane Roe <jane.roe@example.com>",
            "",
        ] {
            assert_eq!(read(text, &["E1042"]), Said::default(), "{text}");
        }
        assert!(mentions("ask Jane.Roe@example.com.", "jane.roe@example.com"));
        assert!(!mentions("ask ajane.roe@example.com", "jane.roe@example.com"));
        assert!(!mentions("E10421", "E1042"));
    }
}
