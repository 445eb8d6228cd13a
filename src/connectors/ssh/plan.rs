//! From an account and its doors to steps. Pure.

use super::look::keys_of_session;
use crate::model::{Account, Action, Chain, Door, DoorKind, Fingerprint, Owner, PersonId, Step};

/// The chains that carry `action` out on what `leaver` holds of `account`. `own` is our own key: never touched.
pub(super) fn chains(account: &Account, leaver: &PersonId, action: Action, own: &Fingerprint) -> Vec<Chain> {
    let theirs = account.owner.person() == Some(leaver);
    let doors = || account.doors.iter().filter(|d| theirs || d.holder.person() == Some(leaver));
    let of = |kinds: &[DoorKind]| -> Vec<&Door> { doors().filter(|d| kinds.contains(&d.kind)).collect() };
    let whole = |kinds: &[DoorKind], reversible: bool| -> Vec<Chain> {
        let shuts: Vec<_> = of(kinds).iter().map(|d| d.id.clone()).collect();
        if shuts.is_empty() { Vec::new() } else { vec![vec![Step::new(action, account, "", shuts, reversible)]] }
    };
    let each = |kind: DoorKind, reversible: bool| -> Vec<Chain> {
        of(&[kind])
            .iter()
            .filter(|d| d.object != own.0)
            .map(|d| vec![Step::new(action, account, &d.object, vec![d.id.clone()], reversible)])
            .collect()
    };
    match action {
        // The account we log in to is never disabled, whoever it seems to belong to.
        _ if account.owner == Owner::Ourselves && matches!(action, Action::Disable | Action::Remove) => Vec::new(),
        Action::Disable if theirs => whole(&[DoorKind::Login], true),
        Action::EndSessions if theirs => whole(&[DoorKind::Session, DoorKind::Job], false),
        Action::EndSessions => of(&[DoorKind::Session])
            .iter()
            .map(|door| {
                let keys = keys_of_session(&door.detail).join(" ");
                vec![Step::new(action, account, &keys, vec![door.id.clone()], false)]
            })
            // Without a key to tell them by, no session in somebody else's account is ended.
            .filter(|chain| !chain[0].object.is_empty())
            .collect(),
        Action::Revoke => each(DoorKind::SshKey, false),
        Action::Remove if theirs => each(DoorKind::Membership, true),
        Action::Disable | Action::Remove | Action::Ask | Action::Rotate => Vec::new(),
    }
}
