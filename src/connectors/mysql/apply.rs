//! Disable, end sessions and events, remove roles.
//!
//! Everything here only ever takes away: a step that is done twice, or that lands late, finds it done. The server is given the hash of a
//! password, never the password: nothing in its general, binary or slow log can show it.

use super::link::MysqlLink;
use super::sessions;
use super::user::{Row, User};
use crate::connector::Cx;
use crate::model::{Action, Fault, FaultKind, Outcome, Step};
use crate::wire::mysql::{Failure, NO_SUCH_THREAD, NO_SUCH_USER, account, identifier, native_hash};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at whether the connections are gone. A login that was let in just before the lock shows up within this time, so "none"
/// counts only the second time.
const LOOK_AGAIN: Duration = Duration::from_millis(60);

/// What each statement needs.
pub const ALTER_USER: &str = "CREATE USER ON *.*";
pub const READ_TABLES: &str = "SELECT ON mysql.*";
pub const SEE_SESSIONS: &str = "PROCESS ON *.*";
const KILL: &str = "CONNECTION ADMIN ON *.*";
const ALTER_EVENT: &str = "EVENT, SET USER ON *.*";

/// See [`crate::connector::Link::apply`]; one step.
pub async fn apply(link: &mut MysqlLink, step: &Step, cx: &Cx) -> Result<Outcome, Fault> {
    let name = step.account.as_str();
    if link.is_protected(name) {
        return Err(Fault::new(FaultKind::Protected, link.what(format!("touch user {name:?}")))
            .because("it is offboard's own user, its control, or the server's")
            .hint("another administrator has to do this by hand"));
    }
    match step.action {
        Action::Disable => disable(link, name, cx).await,
        Action::EndSessions => end_sessions(link, name, cx).await,
        Action::Remove => remove(link, name, &step.object).await,
        other => Err(Fault::new(FaultKind::Unexpected, link.what(format!("{other} user {name:?}")))
            .because("a user has nothing of that kind")),
    }
}

async fn found(link: &mut MysqlLink, name: &str, cannot: &str) -> Result<Option<User>, Fault> {
    let user = link.user(name).await;
    user.map_err(|failure| link.fault(failure, cannot, READ_TABLES))
}

/// `IDENTIFIED …` that sets what is stored for a password, by the server's product.
pub fn identified_by(link: &MysqlLink, hash: &str) -> String {
    // Hexadecimal digits and an asterisk, made here.
    match link.facts.mariadb {
        true => format!("IDENTIFIED VIA mysql_native_password USING '{hash}'"),
        false => format!("IDENTIFIED WITH mysql_native_password AS '{hash}'"),
    }
}

/// The hash of the row's witness, where one is to be set: a witness where there was no password would make a door.
pub fn witness_hash(link: &MysqlLink, name: &str, row: &Row, cx: &Cx) -> Option<String> {
    row.has_password.then(|| native_hash(&link.witness(name, &row.host, cx)))
}

fn is_done(row: &Row, witness: Option<&str>) -> bool {
    row.locked && witness.is_none_or(|hash| row.is_only(hash))
}

async fn disable(link: &mut MysqlLink, name: &str, cx: &Cx) -> Result<Outcome, Fault> {
    let cannot = format!("disable user {name:?}");
    let Some(user) = found(link, name, &cannot).await? else { return Ok(Outcome::Absent) };
    let (mut locked, mut without, mut failed) = (0, Vec::new(), None);
    for row in &user.rows {
        let witness = witness_hash(link, name, row, cx);
        if is_done(row, witness.as_deref()) {
            continue;
        }
        match lock(link, name, row, witness.as_deref()).await {
            Ok(true) => locked += 1,
            Ok(false) if row.locked => without.push(row.host.clone()),
            Ok(false) => {
                locked += 1;
                without.push(row.host.clone());
            }
            // A row that fails does not keep the next from being locked.
            Err(failure) => failed = failed.or(Some((row.host.clone(), failure))),
        }
    }
    if let Some((host, failure)) = failed {
        return Err(link.fault(failure, format!("{cannot} from {host:?}"), ALTER_USER));
    }
    link.disabled.insert(name.to_string());
    if locked == 0 {
        return Ok(Outcome::AlreadyDone);
    }
    let rows = user.rows.len();
    let but = match without.is_empty() {
        true => String::new(),
        false => format!("; the server took no witness password for: {}", without.join(", ")),
    };
    Ok(Outcome::Done { note: format!("locked, rows: {locked} of {rows}{but}") })
}

/// Locks one row, with the witness as its only password if there is to be one; says whether the witness was taken.
async fn lock(link: &mut MysqlLink, name: &str, row: &Row, witness: Option<&str>) -> Result<bool, Failure> {
    let who = account(name, &row.host);
    if let Some(hash) = witness {
        let with = identified_by(link, hash);
        match link.session.execute(format!("ALTER USER {who} {with} ACCOUNT LOCK")).await {
            Ok(()) if row.second_password => {
                link.session.execute(format!("ALTER USER {who} DISCARD OLD PASSWORD")).await?;
                return Ok(true);
            }
            Ok(()) => return Ok(true),
            Err(failure) if matches!(failure.kind, FaultKind::Forbidden | FaultKind::Unreachable) => {
                return Err(failure);
            }
            Err(failure) if failure.is(NO_SUCH_USER) => return Ok(true),
            // A server may refuse hashes (strict-password-validation) or the plugin: the lock is what counts.
            Err(_) => {}
        }
    }
    if !row.locked {
        match link.session.execute(format!("ALTER USER {who} ACCOUNT LOCK")).await {
            Err(failure) if !failure.is(NO_SUCH_USER) => return Err(failure),
            _ => {}
        }
    }
    Ok(witness.is_none())
}

/// Switches events off, then ends connections until none is left and, if this link has disabled the user, until it is still as it was left: a
/// session with the right to may have unlocked it again in between.
async fn end_sessions(link: &mut MysqlLink, name: &str, cx: &Cx) -> Result<Outcome, Fault> {
    let cannot = format!("end the connections of user {name:?}");
    let until = Instant::now() + cx.timeout;
    let (mut ended, mut redone, mut quiet, mut events) = (0, false, 0, 0);
    loop {
        events += switch_events_off(link, name).await?;
        let live = sessions::threads(link).await.map_err(|failure| link.fault(failure, &cannot, SEE_SESSIONS))?;
        let live: Vec<u64> = live.iter().filter(|thread| thread.user == name).map(|thread| thread.id).collect();
        let again = link.disabled.contains(name) && matches!(disable(link, name, cx).await?, Outcome::Done { .. });
        redone |= again;
        if live.is_empty() && !again {
            quiet += 1;
            if quiet == 2 {
                break;
            }
        } else {
            quiet = 0;
            if Instant::now() > until {
                return Err(Fault::new(FaultKind::Busy, link.what(&cannot))
                    .because(format!("after KILL there are still, or again: {}", live.len()))
                    .hint("they come back while the user is not locked, or somebody unlocks it again: see who has CREATE USER"));
            }
            for id in live {
                ended += usize::from(kill(link, id).await.map_err(|failure| link.fault(failure, &cannot, KILL))?);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    if ended == 0 && events == 0 && !redone {
        return Ok(Outcome::AlreadyDone);
    }
    let redone = if redone { "; a live session had undone the lock, so it was done again" } else { "" };
    let events = if events > 0 { format!("; events switched off: {events}") } else { String::new() };
    Ok(Outcome::Done { note: format!("connections ended: {ended}{events}{redone}") })
}

/// Ends one connection; says whether it was there.
///
/// # Errors
/// What the server says, but that it is gone already.
pub async fn kill(link: &mut MysqlLink, id: u64) -> Result<bool, Failure> {
    match link.session.execute(format!("KILL CONNECTION {id}")).await {
        Ok(()) => Ok(true),
        Err(failure) if failure.is(NO_SUCH_THREAD) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// The server runs an event with its definer's rights, locked or not. The definer stays: else whoever switches it on again would run it as us.
async fn switch_events_off(link: &mut MysqlLink, name: &str) -> Result<usize, Fault> {
    let cannot = format!("switch off the events of user {name:?}");
    let Some(user) = found(link, name, &cannot).await? else { return Ok(0) };
    let mut off = 0;
    for event in user.events.iter().filter(|event| event.enabled) {
        let definer = account(name, &event.host);
        let (database, event) = (identifier(&event.database), identifier(&event.name));
        let done = link.session.execute(format!("ALTER DEFINER = {definer} EVENT {database}.{event} DISABLE")).await;
        done.map_err(|failure| link.fault(failure, &cannot, ALTER_EVENT))?;
        off += 1;
    }
    Ok(off)
}

async fn remove(link: &mut MysqlLink, name: &str, object: &str) -> Result<Outcome, Fault> {
    let cannot = format!("revoke role {object:?} from user {name:?}");
    let Some(user) = found(link, name, &cannot).await? else { return Ok(Outcome::Absent) };
    let mut revoked = 0;
    for membership in user.roles.iter().filter(|membership| membership.object() == object) {
        let role = match &membership.role_host {
            Some(host) => account(&membership.role, host),
            None => identifier(&membership.role),
        };
        let done = link.session.execute(format!("REVOKE {role} FROM {}", account(name, &membership.host))).await;
        done.map_err(|failure| {
            // MariaDB says so with the number of a wrong password (1698), too.
            let denied = matches!(failure.number, Some(1045 | 1698));
            let failure = if denied { Failure { kind: FaultKind::Forbidden, hint: None, ..failure } } else { failure };
            let forbidden = failure.kind == FaultKind::Forbidden;
            let fault = failure.into_fault(link.what(&cannot));
            let (user, host) = link.facts.current_user.rsplit_once('@').unwrap_or((link.session.user(), "%"));
            let hint = format!("GRANT {role} TO {} WITH ADMIN OPTION; then: offboard resume", account(user, host));
            if forbidden { fault.hint(hint) } else { fault }
        })?;
        revoked += 1;
    }
    Ok(match revoked {
        0 => Outcome::AlreadyDone,
        rows => Outcome::Done { note: format!("revoked {object:?}, from rows: {rows}") },
    })
}
