//! From an account and its doors to steps. Pure.
//!
//! The engine's order is disable, end sessions, revoke; where nothing is disabled, sessions are ended last: a client that is cut
//! before its certificate is worthless comes straight back.

use crate::model::{Account, Action, Chain, Door, DoorKind, Owner, PersonId, Step};

/// The chains that carry `action` out on what `leaver` holds of `account`.
pub(super) fn chains(account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
    if account.owner == Owner::Ourselves {
        return Vec::new();
    }
    let theirs = account.owner.person() == Some(leaver);
    let doors = |kind: DoorKind| -> Vec<&Door> {
        let held = account.doors.iter().filter(|d| theirs || d.holder.person() == Some(leaver));
        held.filter(|d| d.kind == kind).collect()
    };
    // One that is over opens nothing; it needs no step.
    let usable = |door: &&Door| account.facts["certificates"][&door.object] != "expired";
    let can_disable = account.facts["disable"] == true;
    let can_revoke = account.facts["revoke"] == true;
    match action {
        Action::Disable if theirs && can_disable => {
            let shuts: Vec<_> = doors(DoorKind::Certificate).into_iter().filter(usable).map(|d| d.id.clone()).collect();
            if shuts.is_empty() {
                return Vec::new();
            }
            vec![vec![Step::new(action, account, "", shuts, true)]]
        }
        Action::EndSessions if theirs => {
            doors(DoorKind::Session).iter().map(|d| vec![Step::new(action, account, "", vec![d.id.clone()], false)]).collect()
        }
        // Where there is neither key nor client-config-dir the step is planned all the same: it fails and says what to do.
        Action::Revoke if can_revoke || !can_disable => doors(DoorKind::Certificate)
            .into_iter()
            .filter(usable)
            .map(|d| vec![Step::new(action, account, &d.object, vec![d.id.clone()], false)])
            .collect(),
        _ => Vec::new(),
    }
}
