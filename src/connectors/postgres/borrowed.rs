//! Sessions of others that have taken a role on with `SET ROLE`.
//!
//! PostgreSQL shows who a session logged in as, never which role it has SET since: that is known to its own process only. The one
//! trace is the last statement of the session, which `pg_stat_activity` keeps while the session is idle. So a session
//! counts as borrowed only if that statement puts it into the role and the one who logged in may do so; everything else is somebody
//! else's session, and left alone.

use super::link::PgLink;
use crate::wire::sql::{Failure, Value};
use serde::Deserialize;

/// A session that logged in as another role and could be in the one asked for.
#[derive(Clone, Debug, Deserialize)]
struct Candidate {
    pid: i64,
    login: String,
    oid: i64,
    statement: Option<String>,
    in_transaction: bool,
}

/// A session of `login` that is in the role now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Borrowed {
    pub pid: i64,
    pub login: String,
}

/// The sessions that logged in as somebody else and whose last statement took on `role`. Never our own or the control's.
pub async fn sessions(link: &mut PgLink, role: &str, oid: i64) -> Result<Vec<Borrowed>, Failure> {
    let may_take_on = link.us.may_take_on();
    let sql = format!(
        "
SELECT json_build_object('pid', a.pid, 'login', a.usename, 'oid', a.usesysid::bigint,
    'statement', a.query, 'in_transaction', coalesce(a.state, 'idle') <> 'idle')::text
FROM pg_stat_activity a
WHERE a.usesysid <> $1::bigint::oid AND a.pid <> pg_backend_pid() AND a.usename IS NOT NULL
    AND a.query ~* 'role|authorization' AND pg_has_role(a.usesysid, $1::bigint::oid, '{may_take_on}')"
    );
    let candidates: Vec<Candidate> = link.session.rows(sql, &[Value::Int(oid)]).await?;
    Ok(candidates
        .into_iter()
        .filter(|c| !link.is_protected(&c.login, c.oid))
        .filter(|c| c.statement.as_deref().is_some_and(|s| role_after(s, c.in_transaction).as_deref() == Some(role)))
        .map(|c| Borrowed { pid: c.pid, login: c.login })
        .collect())
}

/// One word of SQL, as far as `SET ROLE` needs it.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// Folded to lower case, as PostgreSQL does with what is not quoted.
    Word(String),
    /// A quoted identifier or a string, exactly.
    Quoted(String),
    Semicolon,
    Other,
}

/// The role that a session is in after `sql`, if `sql` put it into one and did not take it out again. What was set for a
/// transaction only counts while the session is still in one.
fn role_after(sql: &str, in_transaction: bool) -> Option<String> {
    let mut role = None;
    let mut local = false;
    for statement in tokens(sql).split(|token| *token == Token::Semicolon) {
        let words: Vec<&str> =
            statement.iter().map(|t| if let Token::Word(word) = t { word.as_str() } else { "" }).collect();
        let rest = match words.as_slice() {
            ["set", "role", ..] => &statement[2..],
            ["set", "session" | "local", "role", ..] => &statement[3..],
            ["set", "session", "authorization", ..] => &statement[3..],
            ["reset", "role" | "all" | "session", ..] | ["discard", "all", ..] | ["rollback" | "abort", ..] => {
                role = None;
                continue;
            }
            ["commit" | "end", ..] if local => {
                role = None;
                continue;
            }
            _ => continue,
        };
        local = words[1] == "local";
        let rest = match rest {
            [Token::Word(to), rest @ ..] if to == "to" => rest,
            [Token::Other, rest @ ..] => rest,
            rest => rest,
        };
        role = match rest {
            [Token::Word(none)] if none == "none" || none == "default" => None,
            [Token::Word(name)] | [Token::Quoted(name)] => Some(name.clone()),
            _ => None,
        };
    }
    role.filter(|_| in_transaction || !local)
}

/// Splits SQL into words; comments are left out, and what stands in strings stays in them (PostgreSQL manual, 4.1).
fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            rest = &rest[c.len_utf8()..];
        } else if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, after)| after);
        } else if c == '\'' || c == '"' {
            let (text, after) = quoted(&rest[1..], c);
            tokens.push(Token::Quoted(text));
            rest = after;
        } else if c == '$' {
            // $$…$$ and $tag$…$tag$, or a parameter such as $1.
            let end = rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map(|end| end + 1);
            tokens.push(Token::Other);
            rest = match end.filter(|end| rest[*end..].starts_with('$')) {
                Some(end) => rest[end + 1..].split_once(&rest[..=end]).map_or("", |(_, after)| after),
                None => &rest[1..],
            };
        } else if c.is_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_ascii_lowercase()));
            rest = &rest[end..];
        } else {
            tokens.push(if c == ';' { Token::Semicolon } else { Token::Other });
            rest = &rest[c.len_utf8()..];
        }
    }
    tokens
}

/// What stands before the closing `quote`, doubled quotes undone, and what comes after it.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut inside = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(quote) {
        inside.push_str(before);
        match after.strip_prefix(quote) {
            Some(after) => {
                inside.push(quote);
                rest = after;
            }
            None => return (inside, after),
        }
    }
    (inside + rest, "")
}

#[cfg(test)]
mod tests {
    use super::role_after;

    #[test]
    fn a_statement_that_takes_a_role_on_is_recognised() {
        for sql in [
            "SET ROLE jane",
            "set role JANE;",
            "  SET /* hm */ SESSION ROLE \"jane\" ; ",
            "SET role = jane",
            "SET ROLE TO 'jane'",
            "SET SESSION AUTHORIZATION jane",
            "SET ROLE bob; SELECT 1; SET ROLE jane; SELECT pg_sleep(600)",
            "BEGIN; SET LOCAL ROLE jane",
            "-- first\nSET ROLE jane",
        ] {
            assert_eq!(role_after(sql, true).as_deref(), Some("jane"), "{sql}");
        }
        assert_eq!(role_after("SET ROLE \"a\"\"; b\"", false).as_deref(), Some("a\"; b"));
        assert_eq!(role_after("SET ROLE \"Jane\"", false).as_deref(), Some("Jane"));
    }

    #[test]
    fn a_statement_that_only_speaks_of_it_is_not() {
        for sql in [
            "SELECT 'x; SET ROLE jane; '",
            "SELECT $$; SET ROLE jane; $$",
            "SELECT $q$ ; SET ROLE jane",
            "SET ROLE jane; RESET ROLE",
            "SET ROLE jane; SET ROLE none",
            "SET ROLE jane; DISCARD ALL",
            "SET ROLE jane; SET SESSION AUTHORIZATION bob",
            "SET LOCAL ROLE jane",
            "BEGIN; SET LOCAL ROLE jane; COMMIT; SELECT 1",
            "-- SET ROLE jane",
            "GRANT jane TO bob",
            "SET role_x TO jane",
            "SET ROLE jane bob",
            "'",
            "$",
            "",
        ] {
            let after = role_after(sql, false);
            assert!(after.as_deref() != Some("jane"), "{sql}: {after:?}");
        }
    }
}
