//! What a run may not do, however it was asked for.

use crate::model::{Account, Owner, Person, WorkerStatus};
use jiff::Timestamp;

/// Why a run is refused before it begins.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// What is wrong.
    pub what: String,
    /// What to do instead.
    pub hint: String,
}

/// Whether anything in this account may be touched. In one that is not the leaver's that is only what the leaver holds: connectors plan by
/// the holder of each door.
pub(super) fn may_touch(account: &Account) -> bool {
    !matches!(account.owner, Owner::BreakGlass | Owner::Ourselves)
}

/// Refuses what the leaver asks for themselves: a run, but also to waive a part of it, or to be given access back.
///
/// # Errors
/// A [`Refusal`]; nothing has been touched then.
pub fn refuse_leaver(person: &Person, requester: &str) -> Result<(), Refusal> {
    if person.user_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(requester)) {
        return Err(Refusal {
            what: format!("{} cannot decide on their own access", person.name),
            hint: "somebody else has to ask for this (separation of duties)".into(),
        });
    }
    Ok(())
}

/// Refuses a run on somebody who has not left, and one that the leaver asks for.
///
/// # Errors
/// A [`Refusal`]; nothing has been touched then.
pub fn refuse(person: &Person, requester: &str, now: Timestamp, although_active: bool) -> Result<(), Refusal> {
    refuse_leaver(person, requester)?;
    let has_left = person.status == WorkerStatus::Terminated || person.ends.is_some_and(|end| end <= now);
    if !has_left && !although_active {
        return Err(Refusal {
            what: format!("{} ({}) has not left, says the roster", person.name, person.id),
            hint: "check the person; if it is right, correct the roster, or add --although-active".into(),
        });
    }
    Ok(())
}
