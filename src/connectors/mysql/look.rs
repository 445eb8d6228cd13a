//! Proof. Before the steps by the server's own listing; after them by trying the witness passwords.
//!
//! The server checks the password before it says that an account is locked (error 4151 of MariaDB, 3118 of MySQL), so only a witness that it
//! accepts brings out the reason. Each row has a witness of its own: the one that brings it out tells which row our login came to. Error 1045
//! says that the password was wrong, or that there is no row for this address; it proves nothing.

use super::apply::witness_hash;
use super::link::MysqlLink;
use super::rotate;
use super::sessions::{self, Thread};
use super::user::User;
use crate::connector::Cx;
use crate::model::{Door, DoorKind, FaultKind, Look, Proof, Verdict};
use crate::wire::mysql::{DENIED, Failure};
use secrecy::SecretString;

/// See [`crate::connector::Link::look`].
pub async fn look(link: &mut MysqlLink, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
    let control = if after { Some(control_gets_in(link).await) } else { None };
    let seen = match link.users().await {
        Ok(users) => sessions::threads(link).await.map(|threads| Seen { users, threads }),
        Err(failure) => Err(failure),
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(failure) => {
            return doors.iter().map(|_| Look::unproven(format!("the server did not say: {failure}"))).collect();
        }
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
            DoorKind::Membership => Ok(membership(link, &seen, door)),
            DoorKind::Job => Ok(events(link, &seen, door)),
            DoorKind::SharedSecret => rotate::look(link, door, control.as_ref(), cx).await,
            _ => Ok(Look::unproven("MariaDB and MySQL have no such door")),
        };
        looks.push(look.unwrap_or_else(|failure| {
            gone = (failure.kind == FaultKind::Unreachable).then(|| failure.to_string());
            Look::unproven(format!("the server did not say: {failure}"))
        }));
    }
    looks
}

/// What the server listed for one look.
struct Seen {
    users: Vec<User>,
    /// Without our own connection, which was there.
    threads: Vec<Thread>,
}

impl Seen {
    fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }
}

pub(super) fn shut(proof: Proof, reply: String, control: impl Into<String>) -> Look {
    Look { verdict: Verdict::Shut { proof, reply }, control: Some(control.into()), residual: None }
}

pub(super) fn open(reply: String) -> Look {
    Look { verdict: Verdict::Open { reply }, control: None, residual: None }
}

const NO_CONTROL: &str = "the listing of users does not show our own control, so it is not complete";

/// A fresh login of the control, or why there is none.
async fn control_gets_in(link: &MysqlLink) -> Result<String, String> {
    if link.facts.skips_grant_tables() {
        return Err("the server runs with skip-grant-tables, so everybody gets in".into());
    }
    let mut control = link.control();
    match control.connect().await {
        Ok(()) => Ok(format!("user {:?} logged in", control.user())),
        Err(failure) => Err(format!("the control user {:?} did not get in: {failure}", control.user())),
    }
}

/// The control's entry in a listing, in words.
pub(super) fn shown(link: &MysqlLink, users: &[User]) -> Option<String> {
    let control = link.control().user().to_string();
    let shown = users.iter().any(|user| user.name == control && user.is_enabled());
    shown.then(|| format!("the same listing shows user {control:?}, which is not locked"))
}

async fn login(
    link: &MysqlLink,
    seen: &Seen,
    door: &Door,
    control: Option<&Result<String, String>>,
    cx: &Cx,
) -> Result<Look, Failure> {
    let (name, host) = (door.account.as_str(), door.object.as_str());
    let Some(shown) = shown(link, &seen.users) else { return Ok(Look::unproven(NO_CONTROL)) };
    let Some(row) = seen.user(name).and_then(|user| user.row(host)) else {
        return Ok(shut(Proof::ReadBack, format!("there is no user {name:?} from {host:?}"), shown));
    };
    if !row.locked {
        return Ok(open(format!("user {name:?} from {host:?} is not locked")));
    }
    let locked = format!("user {name:?} from {host:?} is locked");
    let Some(control) = control else {
        return Ok(shut(Proof::ReadBack, locked, shown));
    };
    let control = match control {
        Ok(control) => control.clone(),
        Err(why) => return Ok(Look::unproven(format!("{locked}, but {why}"))),
    };
    let read_back = |why: &str| Ok(shut(Proof::ReadBack, format!("{locked}; {why}"), shown.clone()));
    let Some(hash) = witness_hash(link, name, row, cx) else {
        return read_back("there is no password of it that we could try");
    };
    if !row.is_only(&hash) {
        return read_back("its password is another than the witness, so none was tried");
    }
    match attempt(link, name, &link.witness(name, &row.host, cx)).await? {
        Attempt::Locked(reply) => Ok(shut(Proof::Refused, reply, control)),
        Attempt::Denied(_) => read_back("no login from here comes to this row, so its refusal could not be tried"),
        Attempt::LetIn => Ok(open(format!("user {name:?} logged in with the witness password"))),
    }
}

/// What came of a login.
pub(super) enum Attempt {
    /// The password was right, and the account is locked; the server's own words.
    Locked(String),
    /// A wrong password, or no row for this address.
    Denied(String),
    LetIn,
}

/// A login over a connection of its own. An error is anything but a clear answer.
pub(super) async fn attempt(link: &MysqlLink, name: &str, password: &SecretString) -> Result<Attempt, Failure> {
    match link.session.as_user(name, password.clone()).connect().await {
        Ok(()) => Ok(Attempt::LetIn),
        Err(failure) if failure.is_locked() => Ok(Attempt::Locked(failure.to_string())),
        Err(failure) if failure.is(DENIED) => Ok(Attempt::Denied(failure.to_string())),
        Err(failure) => Err(failure),
    }
}

fn sessions(seen: &Seen, door: &Door, after: bool) -> Look {
    let name = door.account.as_str();
    let control = "the same listing shows our own connection";
    let live = seen.threads.iter().filter(|thread| thread.user == name).count();
    if live > 0 {
        return open(format!("connections of user {name:?} that are live: {live}"));
    }
    match seen.user(name) {
        None => shut(
            Proof::ReadBack,
            format!("there is no user {name:?}, and the process list shows no connection of it"),
            control,
        ),
        Some(user) if !after && user.is_enabled() => {
            open(format!("no connection of user {name:?} is live, but it may open one"))
        }
        Some(_) => shut(Proof::ReadBack, format!("the process list shows no connection of user {name:?}"), control),
    }
}

fn membership(link: &MysqlLink, seen: &Seen, door: &Door) -> Look {
    let (name, role) = (door.account.as_str(), door.object.as_str());
    let Some(shown) = shown(link, &seen.users) else { return Look::unproven(NO_CONTROL) };
    let from =
        |user: &User| user.roles.iter().filter(|m| m.object() == role).map(|m| m.host.clone()).collect::<Vec<_>>();
    match seen.user(name).map(from).unwrap_or_default() {
        rows if rows.is_empty() => shut(Proof::ReadBack, format!("no row of user {name:?} has role {role:?}"), shown),
        rows => open(format!("user {name:?} has role {role:?}, from {}", rows.join(", "))),
    }
}

fn events(link: &MysqlLink, seen: &Seen, door: &Door) -> Look {
    let name = door.account.as_str();
    let Some(shown) = shown(link, &seen.users) else { return Look::unproven(NO_CONTROL) };
    let on = seen.user(name).map_or(0, |user| user.events.iter().filter(|event| event.enabled).count());
    match on {
        0 => shut(Proof::ReadBack, format!("no event of user {name:?} is on"), shown),
        on => open(format!("events that run with the rights of user {name:?}: {on}")),
    }
}
