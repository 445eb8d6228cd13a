//! Rotation by age: what says `rotate-after` in `offboard.yaml` is rotated when its value is so old. How old it is follows from the journal: whoever
//! rotated it last, also for a leaver. Of a value that offboard never set nobody knows the age: it counts from when `offboard serve` first sees it.

use super::after;
use super::desk::Desk;
use super::lanes::{Shared, ourselves};
use super::order::Order;
use super::orders::settle;
use super::watching::Log;
use crate::cli::{Exit, Failure};
use crate::model::{Fault, Period, RunId, SecretName};
use crate::store::{Due, Kind, Store};
use crate::wiring::House;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// A rotation that came to nothing is asked for anew only so much later: its run is tried again by itself meanwhile.
const ASK_ANEW: SignedDuration = SignedDuration::from_hours(24);
/// While an earlier run that rotates the same secret is not shut, it is asked again so much later.
const NOT_YET: SignedDuration = SignedDuration::from_hours(1);

/// Brings the store in line with the ages of the house's secrets. `finished` is the secret that has just been taken up, by its subject.
///
/// # Errors
/// The store cannot be used.
pub(super) async fn settle_rotations(
    house: &House,
    store: &Store,
    now: Timestamp,
    finished: Option<&str>,
) -> Result<(), Fault> {
    let waiting = store.due_of(Kind::Rotate).await?;
    for gone in waiting.iter().filter(|due| of(house, &due.subject).is_none()) {
        store.settle(&gone.subject, &[], None).await?;
    }
    for (name, after) in aging(house) {
        let subject = after::rotations(name).0;
        let due = Due { at: hour_of(store, name, after, now).await?, subject: subject.clone(), kind: Kind::Rotate };
        store.settle(&subject, &[due], (finished == Some(&*subject)).then_some(Kind::Rotate)).await?;
    }
    Ok(())
}

/// The secrets that are rotated by age.
fn aging(house: &House) -> impl Iterator<Item = (&SecretName, Period)> {
    house.config.secrets.iter().filter_map(|(name, secret)| Some((name, secret.rotate_after?)))
}

/// The secret of that subject.
fn of<'a>(house: &'a House, subject: &str) -> Option<(&'a SecretName, Period)> {
    aging(house).find(|(name, _)| after::rotations(name).0 == subject)
}

/// When the secret is to be rotated next.
async fn hour_of(store: &Store, name: &SecretName, after: Period, now: Timestamp) -> Result<Timestamp, Fault> {
    let known = after::rotations(name);
    let seen = store.due_of(Kind::Rotate).await?.into_iter().find(|due| due.subject == known.0).map(|due| due.at);
    let runs = store.rotations().await?;
    let last = runs.iter().flat_map(|run| &run.rotated).filter(|(n, _)| n == name).filter_map(|(_, at)| *at).max();
    let asked = store.runs_of(&known).await?.into_iter().filter_map(|run| run.started).max();
    Ok(hour(last, asked, seen, SignedDuration::from_secs(after.as_seconds()), now))
}

/// `last` is when it was rotated, `asked` when a run for it was last begun, `seen` the hour that stands in the store.
fn hour(
    last: Option<Timestamp>,
    asked: Option<Timestamp>,
    seen: Option<Timestamp>,
    after: SignedDuration,
    now: Timestamp,
) -> Timestamp {
    let due = match last {
        Some(at) => at + after,
        None => seen.map_or(now + after, |seen| seen.min(now + after)),
    };
    match asked.filter(|asked| last.is_none_or(|last| last < *asked)) {
        Some(asked) => due.max(asked + ASK_ANEW),
        None => due,
    }
}

/// Rotates a secret that is due by its age, if it still is. Says after which pause it is asked again, or that what is due next follows from the
/// journal.
pub(super) async fn rotate(shared: &Arc<Shared>, subject: &str) -> Result<Option<SignedDuration>, Failure> {
    let (desk, now) = (shared.desk(), (shared.clock)());
    let house = Arc::clone(&desk.house);
    let Some((name, after)) = of(&house, subject) else { return Ok(None) };
    // A leaver's run, or a person, may have rotated it since.
    if hour_of(&shared.store, name, after, now).await? > now {
        return Ok(None);
    }
    let why = format!("its value is older than {after}");
    let order = Order::Rotate { secret: name.clone(), why, anew: false, report_to: None, by: ourselves() };
    let asked = match desk.request(&order).await {
        Err(failure) if failure.exit == Exit::Refused => {
            tracing::warn!(secret = %name, because = failure.plain(), "overdue, and not rotated yet");
            return Ok(Some(NOT_YET));
        }
        asked => asked?,
    };
    tracing::info!(secret = %name, run = %asked.run, "rotated because of its age");
    let walked = walk(shared, &desk, &asked.run).await;
    // However it ended: what was begun and broke off goes on, and is looked at again.
    settle(shared, &asked.run).await;
    walked.map(|()| None)
}

async fn walk(shared: &Shared, desk: &Desk, run: &RunId) -> Result<(), Failure> {
    let _gate = shared.gate(run).await;
    // Nobody leaves: it can wait for those who do.
    let walked = desk.walk(desk.take(run).await?, ourselves(), true, &Log { order: None }).await?;
    let (written, _) = desk.tell(&walked, None).await;
    if let Err(failure) = written {
        tracing::error!(%run, trouble = failure.plain(), "the report of this run could not be written");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    #[test]
    fn it_is_due_by_the_age_of_the_value() {
        let (after, now) = (SignedDuration::from_hours(100), at(1000));
        // Nobody knows how old it is: from now on, and that stands.
        assert_eq!(hour(None, None, None, after, now), at(1100));
        assert_eq!(hour(None, None, Some(at(1050)), after, now), at(1050));
        // A shorter age counts at once, an hour that was missed stays missed.
        assert_eq!(hour(None, None, Some(at(9000)), after, now), at(1100));
        assert_eq!(hour(None, None, Some(at(900)), after, now), at(900));
        // It was rotated: whatever stood there before.
        assert_eq!(hour(Some(at(990)), None, Some(at(900)), after, now), at(1090));
        assert_eq!(hour(Some(at(800)), Some(at(799)), Some(at(5000)), after, now), at(900));
        // A run that came to nothing is not begun again at once.
        assert_eq!(hour(Some(at(800)), Some(at(999)), Some(at(900)), after, now), at(1023));
        assert_eq!(hour(None, Some(at(999)), Some(at(900)), after, now), at(1023));
    }
}
