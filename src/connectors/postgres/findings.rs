//! What a person should look at besides the doors. Nothing here is acted upon, and a question that we may not ask is a finding of its
//! own, never a reason to stop.

use super::comment;
use super::discover::Sought;
use super::link::{BOOTSTRAP, PgLink};
use super::role::Role;
use crate::model::{Finding, FindingKind};
use crate::wire::sql::{Value, identifier, presentable};
use serde::Deserialize;

impl PgLink {
    pub fn note(&mut self, kind: FindingKind, account: Option<&str>, what: String, hint: impl Into<String>) {
        let place = Some(self.place.id.clone());
        self.findings.push(Finding { kind, place, account: account.map(str::to_string), what, hint: hint.into() });
    }
}

/// The role had another name when the run first looked.
pub fn renamed(link: &mut PgLink, before: &str, now: &str) {
    let what = format!("role {before:?} was renamed to {now:?} during the run; it is still treated as {before:?}");
    link.note(FindingKind::Suspicious, Some(now), what, "find out who did it");
}

/// The role carries a sought person's name and a comment that names somebody else, which its owner may have written.
pub fn comment_of_another(link: &mut PgLink, role: &Role, names: &str) {
    let what = format!(
        "the comment on role {:?} names somebody else ({}): its own name counts, since its owner may have written the comment",
        role.name,
        presentable(names)
    );
    let hint = "find out who wrote it; if the role is not the leaver's, map it under accounts: in offboard.yaml, or give it another name";
    link.note(FindingKind::Suspicious, Some(&role.name), what, hint);
}

/// One thing that a role has left in the database, in words.
#[derive(Deserialize)]
struct Left {
    role: String,
    what: String,
}

/// What hangs on the roles that may be in scope. Each query gives the role and what was seen; `$1` are their object identifiers,
/// `{TAKE ON}` the privilege by which a member may SET ROLE.
const QUESTIONS: &[(FindingKind, &str, &str)] = &[
    (
        FindingKind::Suspicious,
        "it runs with the rights of its owner, whoever calls it: read it, and give it to another owner (ALTER FUNCTION … OWNER TO …)",
        "SELECT r.rolname AS role, format('owns the SECURITY DEFINER function %s in database %s', p.oid::regprocedure, current_database()) AS what
         FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.prosecdef AND p.proowner = ANY ($1::bigint[]::oid[])",
    ),
    (
        FindingKind::Suspicious,
        "it runs in other people's sessions: read its function, and drop it or give it to another owner",
        "SELECT r.rolname AS role, format('owns the event trigger %I in database %s', e.evtname, current_database()) AS what
         FROM pg_event_trigger e JOIN pg_roles r ON r.oid = e.evtowner WHERE e.evtowner = ANY ($1::bigint[]::oid[])",
    ),
    (
        FindingKind::Suspicious,
        "it holds its locks and can still be committed: COMMIT PREPARED or ROLLBACK PREPARED it in that database",
        "SELECT x.owner AS role, format('left the prepared transaction %L in database %s', x.gid, x.database) AS what
         FROM pg_prepared_xacts x JOIN pg_roles r ON r.rolname = x.owner WHERE r.oid = ANY ($1::bigint[]::oid[])",
    ),
    (
        FindingKind::Suspicious,
        "if the leaver may know its password, change it: this run does not",
        "SELECT r.rolname AS role, format('may SET ROLE to %I, which can log in itself', o.rolname) AS what
         FROM pg_roles r JOIN pg_roles o ON o.oid <> r.oid AND o.rolcanlogin AND pg_has_role(r.oid, o.oid, 'MEMBER')
         WHERE NOT r.rolsuper AND r.oid = ANY ($1::bigint[]::oid[])",
    ),
    (
        FindingKind::NotCovered,
        "a session of its that is in the leaver's role is ended only if SET ROLE is the last statement that the server shows; end the others by hand if you doubt them",
        "SELECT r.rolname AS role, format('can be taken on with SET ROLE by %I (live sessions: %s)', o.rolname,
             (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = o.oid)) AS what
         FROM pg_roles r JOIN pg_roles o ON o.oid <> r.oid AND NOT o.rolsuper AND pg_has_role(o.oid, r.oid, '{TAKE ON}')
             AND o.rolname <> session_user
         WHERE r.oid = ANY ($1::bigint[]::oid[]) AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = o.oid)",
    ),
    (
        FindingKind::Suspicious,
        "every session of that role begins as the leaver's: ALTER ROLE … RESET role",
        "SELECT r.rolname AS role, format('is what every session of %I begins as', coalesce(o.rolname, 'any role')) AS what
         FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c JOIN pg_roles r ON c = 'role=' || r.rolname
         LEFT JOIN pg_roles o ON o.oid = s.setrole WHERE r.oid = ANY ($1::bigint[]::oid[])",
    ),
];

/// Findings about roles that may be in scope.
pub async fn about(link: &mut PgLink, roles: &[Role], sought: &Sought) {
    for role in roles {
        let comment = role.comment.as_deref().unwrap_or_default();
        let ids: Vec<&str> = sought.tokens.iter().map(String::as_str).collect();
        let said = comment::read(comment, &ids);
        let holder = |token: &&String| said.mails.contains(token) || said.employee_number.as_ref() == Some(token);
        for token in sought.tokens.iter().filter(|t| !holder(t) && comment::mentions(comment, t)) {
            let what = format!("the comment on role {:?} mentions {token}: \"{}\"", role.name, presentable(comment));
            let hint = "if the role is theirs, map it under accounts; if it is a program's, name it under protected";
            link.note(FindingKind::Suspicious, Some(&role.name), what, hint);
        }
    }
    let oids: Vec<i64> = roles.iter().map(|r| r.oid).filter(|oid| *oid != BOOTSTRAP).collect();
    if oids.is_empty() {
        return;
    }
    for (kind, hint, question) in QUESTIONS {
        let question = question.replace("{TAKE ON}", link.us.may_take_on());
        let sql = format!("SELECT row_to_json(q)::text FROM ({question} ORDER BY 1, 2 LIMIT 100) q");
        match link.session.rows::<Left>(sql, &[Value::Ints(oids.clone())]).await {
            Ok(left) => {
                for Left { role, what } in left {
                    let what = format!("role {role:?} {}", presentable(&what));
                    link.note(*kind, Some(&role), what, *hint);
                }
            }
            Err(failure) => not_asked(link, &failure.to_string(), hint),
        }
    }
}

/// A line of `pg_hba.conf` that lets somebody in without the local password.
#[derive(Deserialize)]
struct Line {
    number: i64,
    databases: String,
    users: Vec<String>,
    method: String,
}

impl Line {
    /// Whether the line lets somebody in who is none of `roles`, or one of them. A regular expression (from PostgreSQL 16 on) may mean
    /// anybody.
    fn concerns(&self, roles: Option<&[Role]>) -> bool {
        let Some(roles) = roles else { return true };
        self.method == "trust"
            || self.users.iter().any(|user| {
                user == "all"
                    || user.starts_with('/')
                    || roles.iter().any(|role| match user.strip_prefix('+') {
                        Some(group) => role.superuser || role.member_of.iter().any(|m| m.role == group),
                        None => role.name == *user,
                    })
            })
    }
}

/// Findings about the server: ways in that no password guards, and sessions whose role is gone. `roles` are those in scope; nothing if
/// all are.
pub async fn about_the_server(link: &mut PgLink, roles: Option<&[Role]>) {
    let sql = "
SELECT json_build_object('number', line_number, 'databases', array_to_string(database, ','),
    'users', user_name, 'method', auth_method)::text
FROM pg_hba_file_rules WHERE error IS NULL
    AND auth_method NOT IN ('reject', 'scram-sha-256', 'md5', 'password') ORDER BY line_number LIMIT 50";
    match link.session.rows::<Line>(sql, &[]).await {
        Ok(lines) => {
            for line in lines.into_iter().filter(|line| line.concerns(roles)) {
                let whom = format!(
                    "line {} of pg_hba.conf lets user {} in to {}",
                    line.number,
                    line.users.join(","),
                    line.databases
                );
                let (what, hint) = if line.method == "trust" {
                    (
                        format!("{whom} without any proof of who it is (trust)"),
                        "whoever reaches it can log in as any of these roles that has LOGIN: use scram-sha-256",
                    )
                } else {
                    (
                        format!("{whom} by {}, which asks for no local password", line.method),
                        "NOLOGIN keeps a role out here too; what it proves its name by (certificate, system or directory account) is another system's door",
                    )
                };
                link.note(FindingKind::Configuration, None, presentable(&what), hint);
            }
        }
        Err(failure) if failure.is("42501") => {
            let hint = format!(
                "GRANT SELECT ON pg_hba_file_rules TO {user}; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {user};",
                user = identifier(&link.us.user)
            );
            let what = "whether pg_hba.conf lets roles in without a password was not looked at: we may not read it";
            link.note(FindingKind::NotCovered, None, what.into(), hint);
        }
        Err(failure) => not_asked(link, &failure.to_string(), "pg_hba.conf was not looked at"),
    }
    let sql = "
SELECT to_json(count(*))::text FROM pg_stat_activity a
WHERE a.usesysid IS NOT NULL AND a.usesysid <> 0 AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.usesysid)";
    if let Ok(sessions) = link.session.row::<i64>(sql, &[]).await
        && sessions > 0
    {
        let what = format!("sessions of roles that have been dropped are live: {sessions}");
        let hint = "nobody can say whose they are; see pg_stat_activity where usename is null, and end them with pg_terminate_backend";
        link.note(FindingKind::Suspicious, None, what, hint);
    }
}

/// A question that the catalogue did not answer.
pub fn not_asked(link: &mut PgLink, why: &str, hint: &str) {
    link.note(FindingKind::NotCovered, None, format!("a question to the catalogue was not answered: {why}"), hint);
}
