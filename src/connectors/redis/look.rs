//! Proof. Before the steps by the server's own listing; after them by trying the witness password.
//!
//! Redis says the same of a wrong password and of a user that is off (`WRONGPASS`, acl.c), so the reason is told by elimination: the
//! listing says that the user is off and that the witness is the only password that it would take, and the server refuses the witness.

use super::apply::witness;
use super::clients::{self, Client};
use super::link::{self, RedisLink};
use super::rotate;
use super::user::{User, digest};
use crate::connector::Cx;
use crate::model::{Door, DoorKind, FaultKind, Look, Proof, Verdict};
use crate::wire::resp::{Failure, Session};
use secrecy::SecretString;

/// See [`crate::connector::Link::look`].
pub async fn look(link: &mut RedisLink, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
    let control = if after { Some(control_gets_in(link).await) } else { None };
    let seen = match link::users(&mut link.session).await {
        Ok(users) => clients::clients(link).await.map(|clients| Seen { users, clients }),
        Err(failure) => Err(failure),
    };
    let mut seen = match seen {
        Ok(seen) => seen,
        Err(failure) => return doors.iter().map(|_| Look::unproven(format!("the server did not say: {failure}"))).collect(),
    };
    let mut looks = Vec::with_capacity(doors.len());
    let mut gone: Option<String> = None;
    for door in doors {
        if let Some(why) = &gone {
            // A server that has just said nothing is not waited for once more for every door.
            looks.push(Look::unproven(format!("the server did not say: {why}")));
            continue;
        }
        let look = match door.kind {
            DoorKind::Password | DoorKind::Login => login(link, &seen, door, control.as_ref(), cx).await,
            DoorKind::Session => Ok(sessions(&seen, door, after)),
            DoorKind::SharedSecret => rotate::look(link, door, control.as_ref(), cx).await,
            _ => Ok(Look::unproven("Redis has no such door")),
        };
        looks.push(look.unwrap_or_else(|failure| {
            gone = (failure.kind == FaultKind::Unreachable).then(|| failure.to_string());
            Look::unproven(format!("the server did not say: {failure}"))
        }));
    }
    for user in &mut seen.users {
        user.digests.clear();
    }
    looks
}

/// What the server listed for one look.
struct Seen {
    users: Vec<User>,
    /// Without our own connection, which was there.
    clients: Vec<Client>,
}

pub(super) fn shut(proof: Proof, reply: String, control: impl Into<String>) -> Look {
    Look { verdict: Verdict::Shut { proof, reply }, control: Some(control.into()), residual: None }
}

pub(super) fn open(reply: String) -> Look {
    Look { verdict: Verdict::Open { reply }, control: None, residual: None }
}

/// A fresh login of the control, or why there is none.
async fn control_gets_in(link: &RedisLink) -> Result<String, String> {
    let mut control = link.control();
    match control.connect().await {
        Ok(()) => Ok(format!("user {:?} logged in", control.user())),
        Err(failure) => Err(format!("the control user {:?} did not get in: {failure}", control.user())),
    }
}

/// The control's entry in a listing, in words.
pub(super) fn shown(link: &RedisLink, users: &[User]) -> Option<String> {
    let control = link.control().user().to_string();
    let shown = users.iter().any(|user| user.name == control && user.enabled);
    shown.then(|| format!("the same listing shows user {control:?}, which is on"))
}

async fn login(
    link: &RedisLink,
    seen: &Seen,
    door: &Door,
    control: Option<&Result<String, String>>,
    cx: &Cx,
) -> Result<Look, Failure> {
    let name = door.account.as_str();
    let Some(shown) = shown(link, &seen.users) else {
        return Ok(Look::unproven("the listing of users does not show our own control, so it is not complete"));
    };
    let Some(user) = seen.users.iter().find(|user| user.name == name) else {
        return Ok(shut(Proof::ReadBack, format!("there is no user {name:?}"), shown));
    };
    if user.enabled {
        let how = match (user.nopass, user.passwords) {
            (true, _) => ", and needs no password",
            (_, 0) => ", without a password",
            _ => "",
        };
        return Ok(open(format!("user {name:?} is on{how}")));
    }
    let off = format!("user {name:?} is off");
    let Some(control) = control else {
        return Ok(shut(Proof::ReadBack, off, shown));
    };
    let control = match control {
        Ok(control) => control.clone(),
        Err(why) => return Ok(Look::unproven(format!("{off}, but {why}"))),
    };
    let witness = witness(link, name, cx);
    if door.kind == DoorKind::Login || !user.is_off_with(Some(&digest(&witness))) {
        let why = if user.takes_passwords() { "its passwords are others than the witness" } else { "it has no password" };
        return Ok(shut(Proof::ReadBack, format!("{off}; {why}, so none was tried"), shown));
    }
    Ok(match attempt(&link.session, name, &witness).await? {
        Attempt::Refused(reply) => {
            shut(Proof::Refused, format!("{reply} The password is the only one that the user has, so it is because the user is off"), control)
        }
        Attempt::LetIn => open(format!("user {name:?} logged in with the witness password")),
    })
}

/// What came of a login.
pub(super) enum Attempt {
    /// The server's own words.
    Refused(String),
    LetIn,
}

/// A login over a connection of its own. An error is anything but a clear answer.
pub(super) async fn attempt(at: &Session, name: &str, password: &SecretString) -> Result<Attempt, Failure> {
    match at.as_user(name, password.clone()).connect().await {
        Ok(()) => Ok(Attempt::LetIn),
        Err(failure) if failure.is("WRONGPASS") => Ok(Attempt::Refused(failure.to_string())),
        Err(failure) => Err(failure),
    }
}

fn sessions(seen: &Seen, door: &Door, after: bool) -> Look {
    let name = door.account.as_str();
    let control = "the same listing shows our own connection";
    let live = seen.clients.iter().filter(|client| client.user == name).count();
    if live > 0 {
        return open(format!("connections of user {name:?} that are live: {live}"));
    }
    match seen.users.iter().find(|user| user.name == name) {
        None => shut(Proof::ReadBack, format!("there is no user {name:?}, and CLIENT LIST shows no connection of it"), control),
        Some(user) if !after && user.enabled => open(format!("no connection of user {name:?} is live, but it may open one")),
        Some(_) => shut(Proof::ReadBack, format!("CLIENT LIST shows no connection of user {name:?}"), control),
    }
}
