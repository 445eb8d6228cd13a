//! The way back: what the before-image says, and a new password that is handed over once. No old password is revived.

use super::apply::{alter, grant_for_alter};
use super::link::PgLink;
use super::role::{self, Membership, Role};
use crate::connector::Cx;
use crate::model::{Action, Fault, FaultKind, Restored, Undo};
use crate::wire::sql::{Failure, identifier, scram_verifier};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::ToSpan;
use secrecy::SecretString;

/// See [`crate::connector::Link::restore`]; one step.
pub async fn restore(link: &mut PgLink, undo: &Undo, cx: &Cx) -> Result<Restored, Fault> {
    let name = undo.step.account.as_str();
    let cannot = format!("give role {name:?} back what it had");
    let before: Role = serde_json::from_value(undo.account.facts.clone()).map_err(|e| {
        Fault::new(FaultKind::Unexpected, link.what(&cannot)).because(format!("its before-image cannot be read: {e}"))
    })?;
    let found = role::by_name(link, name, None).await.map_err(|f| f.into_fault(link.what(&cannot)))?;
    let nothing = |note: String| Ok(Restored { note, one_time_password: None });
    let Some(now) = found else {
        return nothing(format!("role {name:?} does not exist any more; nothing was given back"));
    };
    if now.oid != before.oid {
        return Err(Fault::new(FaultKind::Protected, link.what(&cannot))
            .because("a role of that name exists, but it is not the one that was disabled")
            .hint("create a new account for the person instead"));
    }
    if link.is_protected(name, now.oid) {
        return Err(Fault::new(FaultKind::Protected, link.what(&cannot))
            .because("it is offboard's own role, its control, or the bootstrap superuser"));
    }
    match undo.step.action {
        Action::Disable => login(link, &before, &now, cx).await,
        Action::Remove => membership(link, &before, &now, &undo.step.object).await,
        Action::EndSessions | Action::Revoke | Action::Ask | Action::Rotate => {
            nothing("sessions and old passwords are not given back; a new login is".into())
        }
    }
}

async fn login(link: &mut PgLink, before: &Role, now: &Role, cx: &Cx) -> Result<Restored, Fault> {
    let name = now.name.as_str();
    if !before.can_login {
        return Ok(Restored {
            note: format!("role {name:?} could not log in before either; left as it is"),
            one_time_password: None,
        });
    }
    let fault = |link: &PgLink, failure: Failure| {
        link.fault(failure, format!("give role {name:?} its login back"), || grant_for_alter(link, now))
    };
    if before.has_password == Some(false) && now.has_password != Some(true) {
        let result = alter(link, now, "format('ALTER ROLE %I LOGIN', $1::text)", &[name]).await;
        result.map_err(|failure| fault(link, failure))?;
        return Ok(Restored {
            note: format!("role {name:?} may log in again; it had no local password and has none now"),
            one_time_password: None,
        });
    }
    // Where we could not see whether there was a password, a new one is set all the same: else an old one would live again.
    let password = SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()));
    let verifier = scram_verifier(&password, &rand::random::<[u8; 16]>());
    let until = (cx.now)().checked_add(24.hours()).map_err(|e| {
        Fault::new(FaultKind::Unexpected, link.what(format!("give role {name:?} its login back"))).because(e)
    })?;
    let until = until.to_string();
    let format = "format('ALTER ROLE %I LOGIN PASSWORD %L VALID UNTIL %L', $1::text, $2::text, $3::text)";
    alter(link, now, format, &[name, &verifier, &until]).await.map_err(|failure| fault(link, failure))?;
    let was = before.valid_until.as_deref().unwrap_or("infinity");
    Ok(Restored {
        note: format!(
            "role {name:?} may log in again, with a new password that is valid until {until}. PostgreSQL cannot make its holder \
             change it: once they have, set ALTER ROLE {} VALID UNTIL '{was}';",
            identifier(name)
        ),
        one_time_password: Some(password),
    })
}

async fn membership(link: &mut PgLink, before: &Role, now: &Role, granted: &str) -> Result<Restored, Fault> {
    let name = now.name.as_str();
    let done = |note: String| Ok(Restored { note, one_time_password: None });
    let rows: Vec<&Membership> = before.member_of.iter().filter(|m| m.role == granted).collect();
    if rows.is_empty() {
        return done(format!("role {name:?} was no member of {granted:?}; left as it is"));
    }
    if now.member_of.iter().any(|m| m.role == granted) {
        return done(format!("role {name:?} is a member of {granted:?} already"));
    }
    let admin = rows.iter().any(|m| m.admin);
    // From PostgreSQL 16 on each row says what it allows; ours stands for all that there were.
    let format = match link.us.version >= 160_000 {
        true => {
            let word = |set: bool| if set { "TRUE" } else { "FALSE" };
            format!(
                "format('GRANT %I TO %I WITH ADMIN {}, INHERIT {}, SET {}', $1::text, $2::text)",
                word(admin),
                word(rows.iter().any(|m| m.inherit == Some(true))),
                word(rows.iter().any(|m| m.set == Some(true)))
            )
        }
        false if admin => "format('GRANT %I TO %I WITH ADMIN OPTION', $1::text, $2::text)".to_string(),
        false => "format('GRANT %I TO %I', $1::text, $2::text)".to_string(),
    };
    alter(link, now, &format, &[granted, name]).await.map_err(|failure| {
        let cannot = format!("make role {name:?} a member of {granted:?} again");
        link.fault(failure, cannot, || {
            format!("GRANT {} TO {} WITH ADMIN OPTION;", identifier(granted), identifier(&link.us.user))
        })
    })?;
    done(format!("role {name:?} is a member of {granted:?} again{}", if admin { ", and may pass it on" } else { "" }))
}
