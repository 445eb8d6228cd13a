//! Proof. Before the steps by the server's own listing; after them by trying the witness password, where there is one.
//!
//! The server checks the password before it says that a role may not log in, so only a witness that it accepts brings out the reason:
//! SQLSTATE 28000 raised by `InitializeSessionUserId` (`miscinit.c`). The same code from anywhere else means that pg_hba.conf has no line for the
//! role; 28P01 means that the password was wrong. Neither proves anything. Messages are translated and so not looked at. The same
//! routine says 28000 of a role that does not exist, so the listing is asked first.

use super::link::PgLink;
use super::role::{self, Role};
use super::{apply, borrowed, rotate};
use crate::connector::Cx;
use crate::model::{Door, DoorKind, FaultKind, Look, Proof, Verdict};
use crate::wire::sql::{Failure, Value};
use serde::Deserialize;

/// See [`crate::connector::Link::look`].
pub async fn look(link: &mut PgLink, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
    let control = if after { Some(control_gets_in(link).await) } else { None };
    let mut looks = Vec::with_capacity(doors.len());
    let mut gone = None;
    for door in doors {
        if let Some(why) = &gone {
            // A server that has just said nothing is not waited for once more for every door.
            looks.push(Look::unproven(format!("the server did not say: {why}")));
            continue;
        }
        let look = match door.kind {
            DoorKind::Password | DoorKind::Login => login(link, door, control.as_ref(), cx).await,
            DoorKind::Session => sessions(link, door, after).await,
            DoorKind::Membership => membership(link, door).await,
            DoorKind::SharedSecret => rotate::look(link, door, control.as_ref(), cx).await,
            _ => Ok(Look::unproven("PostgreSQL has no such door")),
        };
        looks.push(look.unwrap_or_else(|failure| {
            let look = Look::unproven(format!("the server did not say: {failure}"));
            gone = (failure.kind == FaultKind::Unreachable).then(|| failure.to_string());
            look
        }));
    }
    looks
}

pub(super) fn shut(proof: Proof, reply: String, control: impl Into<String>) -> Look {
    Look { verdict: Verdict::Shut { proof, reply }, control: Some(control.into()), residual: None }
}

pub(super) fn open(reply: String) -> Look {
    Look { verdict: Verdict::Open { reply }, control: None, residual: None }
}

/// A fresh login of the control, or why there is none.
async fn control_gets_in(link: &PgLink) -> Result<String, String> {
    let mut control = link.control();
    match control.connect().await {
        Ok(()) => Ok(format!("role {:?} logged in", control.user())),
        Err(failure) => Err(format!("the control role {:?} did not get in: {failure}", control.user())),
    }
}

/// A role and, from the same listing, one that must be there.
pub(super) async fn listed(link: &mut PgLink, name: &str) -> Result<(Option<Role>, Option<String>), Failure> {
    let control = link.control().user().to_string();
    let mut values = role::values(None);
    values.push(Value::Texts(vec![name.to_string(), control.clone()]));
    let sql = role::query(link.us.sees_passwords, "r.rolname::text = ANY ($3::text[])");
    let mut rows: Vec<Role> = link.session.rows(sql, &values).await?;
    let shown = rows
        .iter()
        .find(|r| r.name == control && r.can_login)
        .map(|_| format!("the same listing shows role {control:?}, which may log in"));
    rows.retain(|r| r.name == name);
    Ok((rows.pop(), shown))
}

async fn login(
    link: &mut PgLink,
    door: &Door,
    control: Option<&Result<String, String>>,
    cx: &Cx,
) -> Result<Look, Failure> {
    let name = door.account.as_str();
    let (role, Some(shown)) = listed(link, name).await? else {
        return Ok(Look::unproven("the listing of roles does not show our own control, so it is not complete"));
    };
    let Some(role) = role else {
        return Ok(shut(Proof::ReadBack, format!("there is no role {name:?}"), shown));
    };
    if role.can_login {
        let password = match (role.has_password, role.password_expires()) {
            (Some(false), _) => ", without a local password".into(),
            (_, Some(until)) => format!(", with a password that is valid until {until}"),
            _ => String::new(),
        };
        return Ok(open(format!("role {name:?} may log in (rolcanlogin){password}")));
    }
    let read_back = format!("role {name:?} is NOLOGIN (rolcanlogin is false)");
    let Some(control) = control else {
        return Ok(shut(Proof::ReadBack, read_back, shown));
    };
    let control = match control {
        Ok(control) => control.clone(),
        Err(why) => return Ok(Look::unproven(format!("{read_back}, but {why}"))),
    };
    // Only where a local password is known to have been there was a witness set.
    if door.kind == DoorKind::Login || role.has_password == Some(false) {
        return Ok(shut(Proof::ReadBack, format!("{read_back}; there is no password of it that we could try"), shown));
    }
    if !can_be_sent(name) {
        let reply = format!("{read_back}; our client cannot send a name with such characters, so no login was tried");
        return Ok(shut(Proof::ReadBack, reply, shown));
    }
    Ok(match try_witness(link, name, cx).await? {
        Attempt::Refused(reply) => shut(Proof::Refused, reply, control),
        Attempt::LetIn => open(format!("role {name:?} logged in with the witness password")),
        Attempt::Other(why) => Look::unproven(why),
    })
}

/// Names that SCRAM's user field (RFC 5802, 5.1) and SASLprep (RFC 4013) let through as the client sends them. PostgreSQL does
/// not read that field, but the client must be able to write it.
pub(super) fn can_be_sent(name: &str) -> bool {
    name.chars().all(|c| c == ' ' || (c.is_alphanumeric() || c.is_ascii_punctuation()) && c != ',')
}

/// What came of a login with the witness password.
enum Attempt {
    /// For the one right reason.
    Refused(String),
    LetIn,
    Other(String),
}

async fn try_witness(link: &mut PgLink, name: &str, cx: &Cx) -> Result<Attempt, Failure> {
    /// pg_hba.conf may let a role in to some databases only; this many are tried.
    const DATABASES: i64 = 16;
    let probe = || link.session.as_role(name, apply::witness(link, name, cx));
    let mut last = match attempt(probe(), name).await {
        Ok(attempt) => return Ok(attempt),
        Err(no_line) => no_line,
    };
    let sql = "SELECT to_json(datname)::text FROM pg_database
        WHERE datallowconn AND datname <> current_database() ORDER BY datistemplate, datname LIMIT $1::bigint";
    let mut session = link.session.another();
    let databases: Vec<String> = session.rows(sql, &[Value::Int(DATABASES)]).await?;
    for database in databases {
        match attempt(probe().to_database(&database), name).await {
            Ok(attempt) => return Ok(attempt),
            Err(no_line) => last = no_line,
        }
    }
    Ok(Attempt::Other(format!(
        "role {name:?} is NOLOGIN, but pg_hba.conf does not let it come as far as that from here, to any database: {last}"
    )))
}

/// One login. An error is a refusal by pg_hba.conf: another database may answer otherwise.
async fn attempt(mut probe: crate::wire::sql::Session, name: &str) -> Result<Attempt, Failure> {
    let failure = match probe.connect().await {
        Ok(()) => return Ok(Attempt::LetIn),
        Err(failure) => failure,
    };
    let routine = failure.routine.as_deref().unwrap_or("an unnamed routine");
    if failure.is("28000") && routine == "InitializeSessionUserId" {
        return Ok(Attempt::Refused(format!("{failure} raised by {routine}")));
    }
    if failure.is("28000") {
        return Err(failure);
    }
    Ok(Attempt::Other(if failure.is("28P01") {
        format!(
            "role {name:?} is NOLOGIN, but the server did not take the witness password, so it did not say why it refused: {failure}. \
             The password was changed after the step, or pg_hba.conf asks for another kind of proof"
        )
    } else {
        format!("a login with the witness password ended with: {failure}")
    }))
}

/// What the server shows of a role's sessions.
#[derive(Deserialize)]
struct Shown {
    oid: Option<i64>,
    can_login: bool,
    /// Our own backend, the control of this listing.
    ourselves: bool,
    live: i64,
    /// Sessions of roles that have been dropped.
    orphans: i64,
    /// Sessions of other roles that may SET ROLE to this one.
    others: i64,
}

async fn sessions(link: &mut PgLink, door: &Door, after: bool) -> Result<Look, Failure> {
    let name = door.account.as_str();
    let may_take_on = link.us.may_take_on();
    let sql = format!(
        "
SELECT json_build_object('oid', r.oid::bigint, 'can_login', coalesce(r.rolcanlogin, false),
    'ourselves', (SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = pg_backend_pid() AND usename = session_user),
    'live', (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid),
    'orphans', (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid <> 0 AND NOT EXISTS (SELECT FROM pg_roles o WHERE o.oid = a.usesysid)),
    'others', (SELECT count(*) FROM pg_stat_activity a JOIN pg_roles o ON o.oid = a.usesysid
        WHERE o.oid <> r.oid AND NOT o.rolsuper AND o.rolname <> session_user AND pg_has_role(o.oid, r.oid, '{may_take_on}')))::text
FROM (VALUES (1)) one LEFT JOIN pg_roles r ON r.rolname = $1::text"
    );
    let seen: Shown = link.session.row(sql, &[name.into()]).await?;
    if !seen.ourselves {
        return Ok(Look::unproven("the listing of sessions does not show our own, so it is not complete"));
    }
    let control = "the same listing shows our own session";
    let Some(oid) = seen.oid else {
        return Ok(if seen.orphans == 0 {
            shut(
                Proof::ReadBack,
                format!("there is no role {name:?}, and no session of a role that was dropped"),
                control,
            )
        } else {
            let orphans = seen.orphans;
            Look::unproven(format!("there is no role {name:?}, but sessions of dropped roles are live: {orphans}"))
        });
    };
    if seen.live > 0 {
        return Ok(open(format!("sessions of role {name:?} that are live: {}", seen.live)));
    }
    let borrowed = borrowed::sessions(link, name, oid).await?;
    if let Some(one) = borrowed.first() {
        return Ok(open(format!(
            "sessions that are in role {name:?} by SET ROLE: {}, one of {:?}",
            borrowed.len(),
            one.login
        )));
    }
    if !after && seen.can_login {
        return Ok(open(format!("no session of role {name:?} is live, but it may open one")));
    }
    let others = match seen.others {
        0 => String::new(),
        n => format!("; sessions of other roles that may SET ROLE to it: {n}, see the findings"),
    };
    Ok(shut(Proof::ReadBack, format!("pg_stat_activity shows no session of role {name:?}{others}"), control))
}

/// What the server shows of a membership.
#[derive(Deserialize)]
struct Granted {
    /// `pg_monitor` is a member of other built-in roles on every server: the control of this listing.
    listing: bool,
    direct: bool,
    superuser: bool,
    /// By way of other roles, too.
    effective: bool,
}

async fn membership(link: &mut PgLink, door: &Door) -> Result<Look, Failure> {
    let (name, granted) = (door.account.as_str(), door.object.as_str());
    let sql = "
SELECT json_build_object(
    'listing', EXISTS (SELECT FROM pg_auth_members WHERE member = 'pg_monitor'::regrole),
    'direct', EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = g.oid),
    'superuser', coalesce(r.rolsuper, false),
    'effective', coalesce(pg_has_role(r.oid, g.oid, 'MEMBER'), false))::text
FROM (VALUES (1)) one LEFT JOIN pg_roles r ON r.rolname = $1::text LEFT JOIN pg_roles g ON g.rolname = $2::text";
    let seen: Granted = link.session.row(sql, &[name.into(), granted.into()]).await?;
    if !seen.listing {
        return Ok(Look::unproven(
            "the listing of memberships does not show those of pg_monitor, so it is not complete",
        ));
    }
    if seen.direct {
        return Ok(open(format!("role {name:?} is a member of {granted:?}")));
    }
    if seen.effective && !seen.superuser {
        return Ok(open(format!("role {name:?} is still a member of {granted:?}, by way of another role")));
    }
    let control = "the same listing shows the memberships of pg_monitor";
    Ok(shut(
        Proof::ReadBack,
        format!("pg_auth_members does not show role {name:?} as a member of {granted:?}"),
        control,
    ))
}

#[cfg(test)]
mod tests {
    use super::can_be_sent;

    #[test]
    fn names_that_the_client_cannot_send_are_known() {
        for name in ["jane", "Jane Röe", "\"; DROP ROLE x; --", "a=b@example.com", "ночь"] {
            assert!(can_be_sent(name), "{name:?}");
        }
        for name in ["a,b", "a\nb", "a\u{202e}b", "a\u{7f}b", "a\u{a0}b"] {
            assert!(!can_be_sent(name), "{name:?}");
        }
    }
}
