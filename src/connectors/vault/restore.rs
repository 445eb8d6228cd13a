//! The way back: the entity is enabled again, with a new password that is handed over once. No old password, token or SecretID is revived.

use super::api::join;
use super::discover::Before;
use super::identity;
use super::link::VaultLink;
use crate::model::{Action, Fault, FaultKind, Restored, Undo};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

/// See [`crate::connector::Link::restore`]; one step.
pub async fn restore(link: &mut VaultLink, undo: &Undo) -> Result<Restored, Fault> {
    let name = undo.step.account.as_str();
    let cannot = link.what(format!("give {name:?} back what it had"));
    let nothing = |note: String| Ok(Restored { note, one_time_password: None });
    if undo.step.action != Action::Disable {
        return nothing("tokens, SecretIDs and old passwords are not given back; a new login is".into());
    }
    let before: Before = serde_json::from_value(undo.account.facts.clone()).map_err(|e| {
        Fault::new(FaultKind::Unexpected, &*cannot).because(format!("its before-image cannot be read: {e}"))
    })?;
    let Some(now) = identity::resolve(&link.api, name, &cannot).await? else {
        return nothing(format!("{name:?} does not exist any more; nothing was given back"));
    };
    link.guard(&now, &cannot)?;
    if before.disabled {
        return nothing(format!("{name:?} was disabled before; left as it is"));
    }
    let Some(entity) = &now.entity else {
        return nothing(format!("{name:?} has no entity; nothing keeps it out"));
    };
    if before.entity.as_ref().is_some_and(|id| *id != entity.id) {
        return Err(Fault::new(FaultKind::Protected, cannot)
            .because("its login belongs to another entity now than the one that was disabled")
            .hint("find out who merged them; create a new account for the person instead"));
    }
    // New passwords first: with the entity enabled, an old one must not work for a moment.
    let mut one_time_password = None;
    for way in now.ways.iter().filter(|way| way.has_password()) {
        let password =
            one_time_password.get_or_insert_with(|| SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())));
        let path = join(&["auth"], &way.mount.path, &["users", &way.name, "password"]);
        link.api.post(&path, &json!({ "password": password.expose_secret() }), &cannot).await?;
    }
    link.api.post(&["identity", "entity", "id", &entity.id], &json!({ "disabled": false }), &cannot).await?;
    let note = match one_time_password {
        Some(_) => format!(
            "{name:?} may log in again, with a new password. A Vault cannot make its holder change it: they can, if their policy lets them write \
             their own user's password"
        ),
        None => format!("{name:?} may log in again; the Vault keeps no password of it"),
    };
    Ok(Restored { note, one_time_password })
}
