//! Disable, end sessions, keep both over a restart.
//!
//! Everything here only ever takes away: a step that is done twice, or that lands late, finds it done. Redis is given the digest of a password,
//! never the password: nothing in MONITOR, the slow log or an error can show it.

use super::clients;
use super::link::{self, RedisLink};
use super::user::{User, digest};
use crate::connector::Cx;
use crate::model::{Action, Fault, FaultKind, Outcome, Step};
use crate::wire::resp::{Failure, Reply, Session};
use secrecy::SecretString;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at whether the connections are gone. A login that was let in just before the user was switched off shows up within
/// this time, so "none" counts only the second time.
const LOOK_AGAIN: Duration = Duration::from_millis(60);

/// See [`crate::connector::Link::apply`]; one step.
pub async fn apply(link: &mut RedisLink, step: &Step, cx: &Cx) -> Result<Outcome, Fault> {
    let name = step.account.as_str();
    if link.is_protected(name) {
        return Err(Fault::new(FaultKind::Protected, link.what(format!("touch user {name:?}")))
            .because("it is offboard's own user, its control, or everybody's")
            .hint("another administrator has to do this by hand"));
    }
    match step.action {
        Action::Disable => disable(link, name, cx).await,
        Action::EndSessions => end_sessions(link, name, cx).await,
        other => Err(Fault::new(FaultKind::Unexpected, link.what(format!("{other} user {name:?}")))
            .because("a user has nothing of that kind")),
    }
}

/// The witness password of a user at this server: each has users of its own.
pub fn witness(link: &RedisLink, name: &str, cx: &Cx) -> SecretString {
    cx.witness(&link.place.id, name)
}

async fn disable(link: &mut RedisLink, name: &str, cx: &Cx) -> Result<Outcome, Fault> {
    let cannot = format!("disable user {name:?}");
    let found = link::user(&mut link.session, name).await;
    let Some(user) = found.map_err(|failure| link.fault(failure, &cannot, "acl|getuser"))? else {
        // Deleted in memory alone, it would come back with a restart.
        let kept = keep(&mut link.session, link.facts.is_sentinel()).await;
        return kept.map(|_| Outcome::Absent).map_err(|(failure, command)| link.fault(failure, &cannot, command));
    };
    // A witness where there was no password would make a door, so it is set only where there is one (or any would do).
    let witness = user.takes_passwords().then(|| digest(&witness(link, name, cx)));
    let done = user.is_off_with(witness.as_deref());
    if !done {
        let password = witness.map(|witness| format!("#{witness}"));
        let command = switch_off(name, password.as_deref());
        link.session.call(&command).await.map_err(|failure| link.fault(failure, &cannot, "acl|setuser"))?;
    }
    link.disabled.insert(name.to_string());
    // Also when it was done before: a crash may have come between.
    let kept = keep(&mut link.session, link.facts.is_sentinel()).await;
    let kept = kept.map_err(|(failure, command)| {
        let cannot = format!("keep user {name:?} off over a restart (it is off now)");
        let fault = link.fault(failure, cannot, command);
        if fault.hint.is_some() { fault } else { fault.hint("see the server's log: it must be able to write the file, and its folder") }
    })?;
    Ok(match done {
        true => Outcome::AlreadyDone,
        false => Outcome::Done { note: format!("off, no password but a witness; {kept}") },
    })
}

/// Off, with no password but the witness, if there is to be one.
fn switch_off<'a>(name: &'a str, witness: Option<&'a str>) -> Vec<&'a str> {
    let mut command = vec!["ACL", "SETUSER", name, "off", "resetpass"];
    command.extend(witness);
    command
}

/// Saves the users, where the server has somewhere to; says where.
///
/// # Errors
/// What the server says, and by which command.
pub async fn keep(session: &mut Session, sentinel: bool) -> Result<&'static str, (Failure, &'static str)> {
    match session.call(&["ACL", "SAVE"]).await {
        Ok(_) => return Ok("saved in the ACL file"),
        Err(failure) if failure.words.contains("not configured to use an ACL file") => {}
        Err(failure) => return Err((failure, "acl|save")),
    }
    let (command, name): (&[&str], _) = match sentinel {
        true => (&["SENTINEL", "FLUSHCONFIG"], "sentinel|flushconfig"),
        false => (&["CONFIG", "REWRITE"], "config|rewrite"),
    };
    match session.call(command).await {
        Ok(_) => Ok("saved in the configuration file"),
        Err(failure) if failure.words.contains("without a config file") => {
            Ok("not saved: the server has neither an ACL file nor a configuration file")
        }
        Err(failure) => Err((failure, name)),
    }
}

/// Ends connections until none is left and, if this link has disabled the user, until it is still as it was left: a session with the right to
/// may have switched it on again in between.
async fn end_sessions(link: &mut RedisLink, name: &str, cx: &Cx) -> Result<Outcome, Fault> {
    let cannot = format!("end the connections of user {name:?}");
    let until = Instant::now() + cx.timeout;
    let (mut ended, mut redone, mut quiet) = (0, false, 0);
    loop {
        let live = clients::clients(link).await.map_err(|failure| link.fault(failure, &cannot, "client|list"))?;
        let live = live.iter().filter(|client| client.user == name).count();
        if live == 0 {
            if link.disabled.contains(name) && matches!(disable(link, name, cx).await?, Outcome::Done { .. }) {
                redone = true;
                quiet = 0;
                if Instant::now() > until {
                    return Err(Fault::new(FaultKind::Busy, link.what(&cannot))
                        .because("somebody switches it on again and again")
                        .hint("see who may: ACL LIST, for users with +acl"));
                }
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
                    .because(format!("{live} of them are still there after CLIENT KILL"))
                    .hint("they come back while the user is on: disable it, too"));
            }
            // A session with the right to may switch the user on again and come back: off and cut in one go, it has no moment for it.
            let found = link::user(&mut link.session, name).await;
            let user = found.map_err(|failure| link.fault(failure, &cannot, "acl|getuser"))?;
            // As `disable` does: a witness where there was no password would make a door.
            let takes = user.as_ref().is_some_and(User::takes_passwords);
            let witness = takes.then(|| format!("#{}", digest(&witness(link, name, cx))));
            let off = switch_off(name, witness.as_deref());
            let cut = ["CLIENT", "KILL", "USER", name];
            let commands: &[&[&str]] = if link.disabled.contains(name) { &[&off, &cut] } else { &[&cut] };
            let replies = link.session.calls(commands).await;
            let replies = replies.map_err(|failure| link.fault(failure, &cannot, "client|kill"))?;
            match replies.into_iter().next_back().unwrap_or(Ok(Reply::Nil)) {
                Ok(reply) => ended += reply.text().parse::<usize>().unwrap_or_default(),
                // The server cuts the connections of a user that is deleted.
                Err(failure) if failure.words.starts_with("No such user") => return Ok(Outcome::Absent),
                Err(failure) => return Err(link.fault(failure, &cannot, "client|kill")),
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    if ended == 0 && !redone {
        return Ok(Outcome::AlreadyDone);
    }
    let redone = if redone { "; a live session had undone the disable, so it was done again" } else { "" };
    Ok(Outcome::Done { note: format!("connections ended: {ended}{redone}") })
}
