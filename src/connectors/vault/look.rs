//! Proof. The server does not say why it refuses a login; but it checks the password first, and answers a wrong one with another code (400)
//! than an identity that is kept out (403). So the witness, which is right, and another password beside it bring the reason out; where
//! both are answered alike, what the server shows of the entity is all the proof there is.

use super::apply::{self, Tried};
use super::api::join;
use super::discover::ISSUED_TO;
use super::identity::{self, Identity};
use super::link::VaultLink;
use super::pki;
use super::tokens;
use crate::connector::Cx;
use crate::model::{Door, DoorKind, Fault, FaultKind, Look, Proof, Verdict};
use serde_json::json;

/// See [`crate::connector::Link::look`].
pub async fn look(link: &mut VaultLink, doors: &[Door], after: bool, cx: &Cx) -> Vec<Look> {
    let control = link.control_gets_in().await;
    let mut looks = Vec::with_capacity(doors.len());
    let mut gone: Option<String> = None;
    for door in doors {
        if let Some(why) = &gone {
            // A server that has just said nothing is not waited for once more for every door.
            looks.push(Look::unproven(format!("the server did not say: {why}")));
            continue;
        }
        let look = one(link, door, &control, after, cx).await;
        looks.push(look.unwrap_or_else(|fault| {
            gone = (fault.kind == FaultKind::Unreachable).then(|| fault.to_string());
            Look::unproven(format!("the server did not say: {fault}"))
        }));
    }
    looks
}

async fn one(
    link: &mut VaultLink,
    door: &Door,
    control: &Result<String, String>,
    after: bool,
    cx: &Cx,
) -> Result<Look, Fault> {
    let cannot = link.what(format!("look at {:?}", door.account));
    let control = match control {
        Ok(control) => control.as_str(),
        Err(why) => return Ok(Look::unproven(why.clone())),
    };
    if door.kind == DoorKind::Certificate {
        return pki::look(link, door, control, &cannot).await;
    }
    let identity = identity::resolve(&link.api, &door.account, &cannot).await?;
    match door.kind {
        DoorKind::Session => sessions(link, door, identity.unwrap_or_default(), after, &cannot).await,
        DoorKind::Password | DoorKind::Login => login(link, door, identity, control, after, cx).await,
        DoorKind::Token => secret_id(link, door, identity, control, &cannot).await,
        _ => Ok(Look::unproven("a Vault has no such door")),
    }
}

fn shut(proof: Proof, reply: String, control: &str) -> Look {
    Look { verdict: Verdict::Shut { proof, reply }, control: Some(control.to_string()), residual: None }
}

fn open(reply: String) -> Look {
    Look { verdict: Verdict::Open { reply }, control: None, residual: None }
}

async fn login(
    link: &VaultLink,
    door: &Door,
    identity: Option<Identity>,
    control: &str,
    after: bool,
    cx: &Cx,
) -> Result<Look, Fault> {
    let way = identity.as_ref().and_then(|identity| identity.ways.iter().find(|way| way.id() == door.object));
    let (Some(identity), Some(way)) = (&identity, way) else {
        return Ok(shut(Proof::ReadBack, format!("there is no login {:?} any more", door.object), control));
    };
    if !way.exists {
        return Ok(shut(Proof::ReadBack, format!("the auth method does not know {:?} any more", door.object), control));
    }
    let Some(entity) = &identity.entity else {
        return Ok(open(format!("{} may log in; it has no entity that could be disabled yet", way.id())));
    };
    if !entity.disabled {
        return Ok(open(format!("{} may log in: its entity is not disabled", way.id())));
    }
    let read_back = format!("the entity of {} is disabled", way.id());
    if !after || !way.has_password() {
        return Ok(shut(Proof::ReadBack, read_back, control));
    }
    Ok(match apply::try_witness(link, way, cx).await? {
        Tried::KeptOut(reply) => shut(Proof::Refused, format!("{reply}; {read_back}"), control),
        Tried::LetIn => open(format!("{} logged in with the witness password", way.id())),
        Tried::Wrong(reply) => shut(
            Proof::ReadBack,
            format!("{read_back}; the witness is not its password, so no login proves more: {reply}"),
            control,
        ),
        Tried::Unclear(reply) => shut(Proof::ReadBack, format!("{read_back}; a login did not say more: {reply}"), control),
    })
}

async fn sessions(link: &mut VaultLink, door: &Door, identity: Identity, after: bool, cannot: &str) -> Result<Look, Fault> {
    let own = link.api.get(&["auth", "token", "lookup-self"], cannot).await?;
    let own = own.and_then(|data| data["accessor"].as_str().map(ToString::to_string)).unwrap_or_default();
    let live = tokens::live(link, cannot).await?;
    if !live.contains_key(&own) {
        return Ok(Look::unproven("the list of tokens does not show our own, so it is not complete"));
    }
    let identity = if identity.ways.is_empty() { by_name(link, door, identity, cannot).await? } else { identity };
    let n = live.values().filter(|token| apply::is_meant(token, &identity, &door.object)).count();
    if n > 0 {
        return Ok(open(format!("tokens of {:?} that are live: {n}", door.account)));
    }
    let of_one = door.object.starts_with(ISSUED_TO);
    if !after && !of_one && identity.is_enabled() {
        return Ok(open(format!("no token of {:?} is live, but it may get one", door.account)));
    }
    Ok(shut(
        Proof::ReadBack,
        format!("the list of tokens shows none of {:?}", door.account),
        "the same list shows our own token",
    ))
}

/// Whoever was deleted may have left tokens behind, which say by which login they came.
async fn by_name(link: &VaultLink, door: &Door, identity: Identity, cannot: &str) -> Result<Identity, Fault> {
    let mounts = identity::mounts(&link.api, cannot).await?;
    let ways = identity::named(&mounts, &door.account).into_iter().collect();
    Ok(Identity { ways, ..identity })
}

async fn secret_id(
    link: &VaultLink,
    door: &Door,
    identity: Option<Identity>,
    control: &str,
    cannot: &str,
) -> Result<Look, Fault> {
    let identity = identity.unwrap_or_default();
    let Some((way, accessor)) = apply::secret_id(&identity, &door.object) else {
        return Ok(shut(Proof::ReadBack, "there is no such role any more".into(), control));
    };
    let path = join(&["auth"], &way.mount.path, &["role", &way.name, "secret-id-accessor", "lookup"]);
    if link.api.post(&path, &json!({ "secret_id_accessor": accessor }), cannot).await?.is_some() {
        return Ok(open(format!("{} still knows the SecretID", way.id())));
    }
    let path = join(&["auth"], &way.mount.path, &["role", &way.name, "secret-id"]);
    let others = link.api.list(&path, cannot).await?;
    if others.iter().any(|other| other == accessor) {
        return Ok(Look::unproven("the list of SecretIDs shows it, but it cannot be looked up"));
    }
    let shown = format!("{control}; the same role has {} other SecretIDs", others.len());
    Ok(shut(Proof::ReadBack, format!("{} does not know the SecretID any more", way.id()), &shown))
}
