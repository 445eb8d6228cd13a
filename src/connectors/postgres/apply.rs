//! Disable, end sessions, remove memberships.
//!
//! Everything here only ever takes away: a step that is done twice, or that lands late, finds it done. What we run is put together
//! by the server itself (`format('%I')`), so no name of a role can be more than a name.
//!
//! A leaver who is online can hold a row lock on their own role (`BEGIN; ALTER ROLE me PASSWORD …`) or change it all the time. So a
//! change that has to wait ends the sessions of the leaver that it waits for, and one that loses a race is tried again.

use super::borrowed;
use super::link::PgLink;
use super::role::{self, Membership, Role};
use crate::connector::Cx;
use crate::model::{Action, Fault, FaultKind, Outcome, PlaceId, Step};
use crate::wire::sql::{Failure, Session, Value, identifier, scram_verifier};
use secrecy::SecretString;
use std::time::Duration;
use tokio::time::Instant;

/// How long a change waits before we see whether the leaver stands in its way.
const PATIENCE: Duration = Duration::from_millis(300);

/// Between two looks at whether the sessions are gone. A login that passed the check for LOGIN just before it was taken away shows up
/// within this time, so "none" counts only the second time.
const LOOK_AGAIN: Duration = Duration::from_millis(150);

/// How often a change that loses a race is tried.
const TRIES: usize = 12;

/// See [`crate::connector::Link::apply`]; one step.
pub async fn apply(link: &mut PgLink, step: &Step, cx: &Cx) -> Result<Outcome, Fault> {
    let name = step.account.as_str();
    let verifier = witness_verifier(link, name, cx);
    let found = role::by_name(link, name, Some(&verifier)).await;
    let found = found.map_err(|failure| failure.into_fault(link.what(format!("look up role {name:?}"))))?;
    if link.is_protected(name, found.as_ref().map_or(0, |r| r.oid)) {
        return Err(Fault::new(FaultKind::Protected, link.what(format!("touch role {name:?}")))
            .because("it is offboard's own role, its control, or the bootstrap superuser")
            .hint("another administrator has to do this by hand"));
    }
    match (step.action, found) {
        (Action::Disable, Some(role)) => disable(link, &role, cx).await,
        (Action::EndSessions, Some(role)) => end_sessions(link, &role, cx).await,
        (Action::Remove, Some(role)) => remove(link, &role, &step.object).await,
        (Action::EndSessions, None) => end_sessions_of_dropped(link, name).await,
        (Action::Disable | Action::Remove, None) => Ok(Outcome::Absent),
        (Action::Rotate, _) => Err(Fault::new(FaultKind::Unexpected, link.what(format!("rotate role {name:?}")))
            .because("a rotation goes over several systems and is no single step")),
        (Action::Revoke, _) => {
            Err(Fault::new(FaultKind::Unexpected, link.what(format!("revoke anything of role {name:?}")))
                .because("a role has no credential but its password, which disable takes care of"))
        }
        (Action::Ask, _) => Err(Fault::new(FaultKind::Unexpected, link.what(format!("ask about role {name:?}")))
            .because("what a person is asked to do is no step for a database")),
    }
}

/// The witness password of a role. Roles are the same on every server of the cluster, and standbys show what the primary was told, so
/// it belongs to the system, not to the place.
pub fn witness(link: &PgLink, role: &str, cx: &Cx) -> SecretString {
    cx.witness(&PlaceId(link.system.0.clone()), role)
}

fn witness_verifier(link: &PgLink, role: &str, cx: &Cx) -> String {
    scram_verifier(&witness(link, role, cx), &cx.witness_salt(&PlaceId(link.system.0.clone()), role))
}

async fn disable(link: &mut PgLink, role: &Role, cx: &Cx) -> Result<Outcome, Fault> {
    let name = role.name.as_str();
    // A witness where there was no password would make a door, so it is set only where we saw one.
    let wants_witness = role.has_password == Some(true);
    // The server says of a password that has expired only that it is wrong, so the witness must not expire.
    let has_witness = role.has_witness == Some(true) && role.password_expires().is_none();
    if !role.can_login && (!wants_witness || has_witness) {
        link.disabled.insert(name.to_string(), role.oid);
        return Ok(Outcome::AlreadyDone);
    }
    if link.us.standby {
        return Err(Fault::new(FaultKind::Busy, link.what(format!("disable role {name:?} on a standby")))
            .because("the primary has not been told yet, or its change has not arrived here")
            .hint("hosts must name the primary, too"));
    }
    let verifier = witness_verifier(link, name, cx);
    let mut note = String::from("NOLOGIN");
    let mut result = if wants_witness {
        note.push_str(" and a witness password");
        let statement = "format('ALTER ROLE %I NOLOGIN PASSWORD %L VALID UNTIL %L', $1::text, $2::text, 'infinity')";
        alter(link, role, statement, &[name, &verifier]).await
    } else {
        alter(link, role, "format('ALTER ROLE %I NOLOGIN', $1::text)", &[name]).await
    };
    if let Err(failure) = &result
        && wants_witness
        && failure.sqlstate.is_some()
        && !matches!(failure.kind, FaultKind::Forbidden | FaultKind::Busy | FaultKind::Unreachable)
    {
        // A password policy (passwordcheck, credcheck) may refuse the verifier. Containment does not hang on proof.
        note = format!("NOLOGIN; the witness password was refused: {failure}");
        result = alter(link, role, "format('ALTER ROLE %I NOLOGIN', $1::text)", &[name]).await;
    }
    result.map_err(|failure| link.fault(failure, format!("disable role {name:?}"), || grant_for_alter(link, role)))?;
    link.disabled.insert(name.to_string(), role.oid);
    Ok(Outcome::Done { note })
}

/// What our own login needs before it may alter `role` (PostgreSQL manual, ALTER ROLE).
pub fn grant_for_alter(link: &PgLink, role: &Role) -> String {
    let us = identifier(&link.us.user);
    let attributes = [(role.superuser, "SUPERUSER"), (role.replication, "REPLICATION"), (role.bypass_rls, "BYPASSRLS")];
    match attributes.iter().find(|(set, _)| *set) {
        Some((_, attribute)) => {
            format!(
                "only a superuser may alter a role that is {attribute}: ALTER ROLE {us} SUPERUSER; then: offboard resume"
            )
        }
        None => {
            let admin = if link.us.version >= 160_000 {
                format!(" GRANT {} TO {us} WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;", identifier(&role.name))
            } else {
                String::new()
            };
            format!("ALTER ROLE {us} CREATEROLE;{admin} then: offboard resume")
        }
    }
}

/// Runs a statement that changes `role`. `format` is an SQL expression that gives the statement; `values` are its `$1`, `$2`, …
pub async fn alter(link: &mut PgLink, role: &Role, format: &str, values: &[&str]) -> Result<(), Failure> {
    let values: Vec<Value> = values.iter().map(|v| Value::from(*v)).collect();
    let statement: String = link.session.row(format!("SELECT to_json({format})::text"), &values).await?;
    let our_pid: i64 = link.session.row("SELECT to_json(pg_backend_pid())::text", &[]).await?;
    let mut helper = link.session.another();
    let mut tries = 0;
    loop {
        tries += 1;
        let result = {
            let change = link.session.execute(statement.clone());
            tokio::pin!(change);
            loop {
                tokio::select! {
                    result = &mut change => break result,
                    () = tokio::time::sleep(PATIENCE) => clear_the_way(&mut helper, our_pid, role.oid).await,
                }
            }
        };
        match result {
            Err(failure) if failure.lost_a_race() && tries < TRIES => {
                if tries > TRIES / 2 {
                    let _ = terminate(&mut helper, role.oid).await;
                }
            }
            result => return result,
        }
    }
}

/// Ends the sessions of the leaver that our own backend waits for. Anybody else's are waited for, as any change waits for them.
async fn clear_the_way(helper: &mut Session, our_pid: i64, oid: i64) {
    let sql = "
SELECT to_json(pg_terminate_backend(a.pid))::text FROM pg_stat_activity a
WHERE a.usesysid = $2::bigint::oid AND a.pid = ANY (pg_blocking_pids($1::bigint::int))";
    // If this fails, the change itself runs into its lock timeout and says so.
    let _ = helper.rows::<bool>(sql, &[Value::Int(our_pid), Value::Int(oid)]).await;
}

/// Asks every backend that logged in as the role to end; says how many were asked.
async fn terminate(session: &mut Session, oid: i64) -> Result<usize, Failure> {
    let sql = "
SELECT to_json(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE usesysid = $1::bigint::oid AND pid <> pg_backend_pid()";
    Ok(session.rows::<bool>(sql, &[Value::Int(oid)]).await?.len())
}

/// Ends sessions until none is left and, if this link has disabled the role, until it is still as it was left: a session that was
/// alive in between may have changed the password, or, with CREATEROLE, given LOGIN back.
async fn end_sessions(link: &mut PgLink, role: &Role, cx: &Cx) -> Result<Outcome, Fault> {
    let name = role.name.as_str();
    let cannot = format!("end the sessions of role {name:?}");
    let until = Instant::now() + cx.timeout;
    let (mut ended, mut redone, mut quiet) = (0, false, 0);
    let mut asked = std::collections::BTreeSet::new();
    loop {
        let mut live =
            live_backends(&mut link.session, role.oid).await.map_err(|f| f.into_fault(link.what(&cannot)))?;
        let borrowed = borrowed::sessions(link, name, role.oid).await.map_err(|f| f.into_fault(link.what(&cannot)))?;
        live.extend(borrowed.iter().map(|b| b.pid));
        if live.is_empty() {
            if link.disabled.contains_key(name) && disable_again(link, name, cx).await? {
                if Instant::now() > until {
                    return Err(Fault::new(FaultKind::Busy, link.what(&cannot))
                        .because("somebody keeps undoing the disable of the role; it was done again each time")
                        .hint("find who gives LOGIN back, with log_statement = 'ddl'; then: offboard resume"));
                }
                redone = true;
                quiet = 0;
                continue;
            }
            quiet += 1;
            if quiet == 2 {
                break;
            }
        } else {
            quiet = 0;
            if Instant::now() > until {
                return Err(Fault::new(FaultKind::Busy, link.what(&cannot))
                    .because(format!("{} of them are still there after pg_terminate_backend", live.len()))
                    .hint("they come back while the role may log in; or a backend hangs in the system: see pg_stat_activity"));
            }
            for pid in live {
                let sql = "SELECT to_json(pg_terminate_backend($1::bigint::int))::text";
                match link.session.row::<bool>(sql, &[Value::Int(pid)]).await {
                    Ok(_) => ended += usize::from(asked.insert(pid)),
                    Err(failure) => {
                        return Err(link.fault(failure, &cannot, || {
                            let us = identifier(&link.us.user);
                            if role.superuser {
                                format!("only a superuser may end a superuser's session: ALTER ROLE {us} SUPERUSER; then: offboard resume")
                            } else {
                                format!("GRANT pg_signal_backend TO {us}; then: offboard resume")
                            }
                        }));
                    }
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    if ended == 0 && !redone {
        return Ok(Outcome::AlreadyDone);
    }
    let redone = if redone { "; a live session had undone the disable, so it was done again" } else { "" };
    Ok(Outcome::Done { note: format!("sessions ended: {ended}{redone}") })
}

async fn disable_again(link: &mut PgLink, name: &str, cx: &Cx) -> Result<bool, Fault> {
    let verifier = witness_verifier(link, name, cx);
    match role::by_name(link, name, Some(&verifier)).await {
        Ok(Some(role)) => Ok(matches!(disable(link, &role, cx).await?, Outcome::Done { .. })),
        Ok(None) => Ok(false),
        Err(failure) => Err(failure.into_fault(link.what(format!("look role {name:?} up again")))),
    }
}

async fn live_backends(session: &mut Session, oid: i64) -> Result<Vec<i64>, Failure> {
    let sql =
        "SELECT to_json(pid)::text FROM pg_stat_activity WHERE usesysid = $1::bigint::oid AND pid <> pg_backend_pid()";
    session.rows(sql, &[Value::Int(oid)]).await
}

/// A role that was dropped while it was logged in leaves its sessions behind, known by its object identifier only.
async fn end_sessions_of_dropped(link: &mut PgLink, name: &str) -> Result<Outcome, Fault> {
    let first = link.baseline.as_ref().and_then(|seen| seen.names.iter().find(|(_, n)| *n == name).map(|(oid, _)| *oid));
    let Some(oid) = first.or_else(|| link.disabled.get(name).copied()) else { return Ok(Outcome::Absent) };
    let cannot = format!("end the sessions of the dropped role {name:?}");
    let exists: bool = link
        .session
        .row("SELECT to_json(EXISTS (SELECT FROM pg_roles WHERE oid = $1::bigint::oid))::text", &[Value::Int(oid)])
        .await
        .map_err(|f| f.into_fault(link.what(&cannot)))?;
    if exists {
        // Renamed, not dropped: discovery finds it under its new name.
        return Ok(Outcome::Absent);
    }
    let mut session = link.session.another();
    match terminate(&mut session, oid).await {
        Ok(0) => Ok(Outcome::Absent),
        Ok(ended) => Ok(Outcome::Done { note: format!("sessions ended that had outlived their role: {ended}") }),
        Err(failure) => Err(link.fault(failure, &cannot, || {
            format!("GRANT pg_signal_backend TO {}; then: offboard resume", identifier(&link.us.user))
        })),
    }
}

async fn remove(link: &mut PgLink, role: &Role, granted: &str) -> Result<Outcome, Fault> {
    let name = role.name.as_str();
    let rows: Vec<&Membership> = role.member_of.iter().filter(|m| m.role == granted).collect();
    if rows.is_empty() {
        return Ok(Outcome::AlreadyDone);
    }
    if link.us.standby {
        return Err(Fault::new(
            FaultKind::Busy,
            link.what(format!("revoke {granted:?} from role {name:?} on a standby")),
        )
        .because("the primary has not been told yet, or its change has not arrived here")
        .hint("hosts must name the primary, too"));
    }
    for row in &rows {
        // Until PostgreSQL 15 there is one row and the grantor does not matter; from 16 on each grantor's row goes by itself. Never
        // CASCADE: others may hold the role through the leaver.
        let result = match &row.grantor {
            Some(grantor) if link.us.version >= 160_000 => {
                let format = "format('REVOKE %I FROM %I GRANTED BY %I', $1::text, $2::text, $3::text)";
                alter(link, role, format, &[granted, name, grantor]).await
            }
            _ => alter(link, role, "format('REVOKE %I FROM %I', $1::text, $2::text)", &[granted, name]).await,
        };
        result.map_err(|failure| cannot_revoke(link, failure, name, row))?;
    }
    Ok(Outcome::Done { note: format!("REVOKE {} FROM {}", identifier(granted), identifier(name)) })
}

/// Why a membership could not be revoked, and what mends it (PostgreSQL manual, REVOKE, "Notes").
fn cannot_revoke(link: &PgLink, failure: Failure, name: &str, row: &Membership) -> Fault {
    let cannot = format!("revoke {:?} from role {name:?}", row.role);
    let (us, granted, member) = (identifier(&link.us.user), identifier(&row.role), identifier(name));
    if failure.is("2BP01") {
        let fault = failure.into_fault(link.what(cannot));
        return Fault { kind: FaultKind::Protected, ..fault }.hint(format!(
            "others hold {granted} because the leaver passed it on: grant it to them anew, then: REVOKE {granted} FROM {member} CASCADE;"
        ));
    }
    link.fault(failure, cannot, || match &row.grantor {
        Some(grantor) if link.us.version >= 160_000 => format!(
            "a superuser has to do it: REVOKE {granted} FROM {member} GRANTED BY {}; or: ALTER ROLE {us} SUPERUSER; then: offboard resume",
            identifier(grantor)
        ),
        _ => format!(
            "ALTER ROLE {us} CREATEROLE; or, if {granted} is a superuser: ALTER ROLE {us} SUPERUSER; then: offboard resume"
        ),
    })
}
