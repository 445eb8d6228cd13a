//! The way back: on again, with a new password that is handed over once. No old password is revived.

use super::apply::keep;
use super::link::{self, RedisLink};
use super::user::{User, digest};
use crate::connector::Cx;
use crate::model::{Action, Fault, FaultKind, Restored, Undo};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

/// See [`crate::connector::Link::restore`]; one step.
pub async fn restore(link: &mut RedisLink, undo: &Undo, _cx: &Cx) -> Result<Restored, Fault> {
    let name = undo.step.account.as_str();
    let cannot = format!("give user {name:?} back what it had");
    let before: User = serde_json::from_value(undo.account.facts.clone()).map_err(|e| {
        Fault::new(FaultKind::Unexpected, link.what(&cannot)).because(format!("its before-image cannot be read: {e}"))
    })?;
    let nothing = |note: String| Ok(Restored { note, one_time_password: None });
    if undo.step.action != Action::Disable {
        return nothing("connections and old passwords are not given back; a new login is".into());
    }
    if link.is_protected(name) {
        return Err(Fault::new(FaultKind::Protected, link.what(&cannot))
            .because("it is offboard's own user, its control, or everybody's"));
    }
    let now = link::user(&mut link.session, name).await;
    let Some(now) = now.map_err(|failure| link.fault(failure, &cannot, "acl|getuser"))? else {
        return nothing(format!("user {name:?} does not exist any more; nothing was given back"));
    };
    if !before.enabled {
        return nothing(format!("user {name:?} was off before, too; left as it is"));
    }
    if now.enabled {
        return nothing(format!("user {name:?} is on already; left as it is"));
    }
    let password = before.takes_passwords().then(|| SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())));
    let stored = password.as_ref().map(|password| format!("#{}", digest(password)));
    let mut command = vec!["ACL", "SETUSER", name, "on", "resetpass"];
    command.extend(stored.as_deref());
    link.session.call(&command).await.map_err(|failure| link.fault(failure, &cannot, "acl|setuser"))?;
    link.disabled.remove(name);
    let kept = keep(&mut link.session, link.facts.is_sentinel()).await;
    let kept = kept.map_err(|(failure, command)| link.fault(failure, &cannot, command))?;
    Ok(Restored {
        note: match &password {
            Some(_) => format!("user {name:?} is on again, with a new password; {kept}. Redis cannot make its holder change it"),
            None => format!("user {name:?} is on again; it had no password and has none now; {kept}"),
        },
        one_time_password: password,
    })
}
