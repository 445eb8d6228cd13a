//! The way back: unlocked, with a new password that is handed over once and has to be changed. No old password is revived.

use super::apply::{ALTER_USER, READ_TABLES, identified_by};
use super::link::MysqlLink;
use super::user::User;
use crate::connector::Cx;
use crate::model::{Action, Fault, FaultKind, Restored, Undo};
use crate::wire::mysql::{account, identifier, native_hash};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

/// See [`crate::connector::Link::restore`]; one step.
pub async fn restore(link: &mut MysqlLink, undo: &Undo, _cx: &Cx) -> Result<Restored, Fault> {
    let name = undo.step.account.as_str();
    let cannot = format!("give user {name:?} back what it had");
    let before: User = serde_json::from_value(undo.account.facts.clone()).map_err(|e| {
        Fault::new(FaultKind::Unexpected, link.what(&cannot)).because(format!("its before-image cannot be read: {e}"))
    })?;
    let nothing = |note: String| Ok(Restored { note, one_time_password: None });
    if !matches!(undo.step.action, Action::Disable | Action::Remove) {
        return nothing("connections, events and old passwords are not given back; a new login is".into());
    }
    if link.is_protected(name) {
        return Err(Fault::new(FaultKind::Protected, link.what(&cannot))
            .because("it is offboard's own user, its control, or the server's"));
    }
    let now = link.user(name).await;
    let Some(now) = now.map_err(|failure| link.fault(failure, &cannot, READ_TABLES))? else {
        return nothing(format!("user {name:?} does not exist any more; nothing was given back"));
    };
    match undo.step.action {
        Action::Remove => roles(link, &before, &now, &undo.step.object).await,
        _ => login(link, &before, &now).await,
    }
}

async fn login(link: &mut MysqlLink, before: &User, now: &User) -> Result<Restored, Fault> {
    let name = now.name.as_str();
    let cannot = format!("give user {name:?} its login back");
    let password = SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()));
    let with = identified_by(link, &native_hash(&password));
    let (mut unlocked, mut left, mut given) = (Vec::new(), Vec::new(), false);
    for row in now.rows.iter().filter(|row| row.locked) {
        // A row that was locked before, or that somebody has made since, stays as it is.
        let Some(was) = before.row(&row.host).filter(|was| !was.locked) else {
            left.push(row.host.clone());
            continue;
        };
        let who = account(name, &row.host);
        let takes_one = was.has_password || row.has_password;
        let statement = match takes_one {
            true => format!("ALTER USER {who} {with} PASSWORD EXPIRE ACCOUNT UNLOCK"),
            false => format!("ALTER USER {who} ACCOUNT UNLOCK"),
        };
        let done = link.session.execute(statement).await;
        done.map_err(|failure| link.fault(failure, format!("{cannot} from {:?}", row.host), ALTER_USER))?;
        given |= takes_one;
        unlocked.push(row.host.clone());
    }
    link.disabled.remove(name);
    if unlocked.is_empty() {
        let note = format!("no row of user {name:?} is locked that was not locked before; left as it is");
        return Ok(Restored { note, one_time_password: None });
    }
    let mut note = format!("user {name:?} may log in again, from {}", unlocked.join(", "));
    note.push_str(if given { ", with a new password that has to be changed at the first login" } else { "" });
    if !left.is_empty() {
        note.push_str(&format!("; left locked: {}", left.join(", ")));
    }
    Ok(Restored { note, one_time_password: given.then_some(password) })
}

async fn roles(link: &mut MysqlLink, before: &User, now: &User, object: &str) -> Result<Restored, Fault> {
    let name = now.name.as_str();
    let mut given = 0;
    for membership in before.roles.iter().filter(|membership| membership.object() == object) {
        if now.row(&membership.host).is_none() || now.roles.contains(membership) {
            continue;
        }
        let role = match &membership.role_host {
            Some(host) => account(&membership.role, host),
            None => identifier(&membership.role),
        };
        let admin = if membership.admin { " WITH ADMIN OPTION" } else { "" };
        let done = link.session.execute(format!("GRANT {role} TO {}{admin}", account(name, &membership.host))).await;
        done.map_err(|failure| {
            link.fault(
                failure,
                format!("give user {name:?} role {object:?} back"),
                &format!("{role} WITH ADMIN OPTION"),
            )
        })?;
        given += 1;
    }
    let note = match given {
        0 => format!("user {name:?} has role {object:?} already, or its rows are gone"),
        rows => format!("user {name:?} has role {object:?} again, rows: {rows}"),
    };
    Ok(Restored { note, one_time_password: None })
}
