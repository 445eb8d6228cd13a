//! Leavers whom the roster names: a run for each, at the moment at which employment ends. What was asked for is found in the journal, so
//! nobody is run twice, and a person's decision stands. Where the roster says something that is more often a mistake than true, nothing
//! is done and that is said.

use super::lanes::{Shared, for_roster};
use super::order::Order;
use crate::cli::Failure;
use crate::config::Serve;
use crate::engine::Run;
use crate::model::{Actor, Person, PersonId, RunId, WorkerStatus};
use crate::store::{Known, Phase};
use jiff::{SignedDuration, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// People who leave within so long of each other leave at one time.
const AT_ONE_TIME: SignedDuration = SignedDuration::from_hours(24);
/// A run that began so shortly before somebody was seen to have left was for that.
const SAME_LEAVING: SignedDuration = SignedDuration::from_hours(24 * 30);

/// What is to be done about one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing, or what is to be done is on record.
    Nothing,
    /// A run at that moment.
    Ask(Timestamp),
    /// The run waits for another moment.
    Move(RunId, Timestamp),
    /// The run is taken back.
    Withdraw(RunId),
    /// They left too long ago to be run by themselves.
    LongGone,
}

/// Compares the roster with the journal, and asks for, moves and takes back runs.
///
/// # Errors
/// The store or the journal cannot be used. What goes wrong with one person is logged, and keeps no other.
pub(super) async fn pick_up(shared: &Arc<Shared>) -> Result<(), Failure> {
    let house = shared.house();
    let settings = house.config.serve;
    if !settings.leavers {
        return Ok(());
    }
    let now = (shared.clock)();
    let people = house.roster.people();
    let employed: Vec<PersonId> = people.iter().filter(|p| works_here(p, now)).map(|p| p.id.clone()).collect();
    let before: HashSet<PersonId> = shared.store.employed(&employed).await?.into_iter().collect();
    let runs = shared.store.runs_by_person().await?;
    let decided: Vec<(&Person, Decision)> = people
        .iter()
        .map(|person| {
            let id = folded(person);
            let known = runs.get(&id).map_or(&[][..], Vec::as_slice);
            (person, decide(person, known, before.contains(&id), now, &settings))
        })
        .collect();
    let too_many = too_many(&decided, runs.values().flatten(), settings.leavers_at_once);
    // In order: what is said of the same people is the same.
    let mut ids: Vec<String> = too_many.iter().map(|id| id.0.clone()).collect();
    ids.sort();
    let held = (!too_many.is_empty()).then(|| {
            let names = &ids[..ids.len().min(5)];
            format!(
                "{} people leave within a day of each other ({}{}), more than leavers-at-once: {}. None of them is run by itself, and \
                 whoever has a run for a later date keeps that date: check the roster; raise the limit, or use offboard run PERSON --at \
                 TIME and offboard reschedule RUN --at TIME",
                too_many.len(),
                names.join(", "),
                if too_many.len() > 5 { ", …" } else { "" },
                settings.leavers_at_once
            )
    });
    shared.is_wrong("leavers at once", too_many.len(), held.clone());
    if let Some(why) = &held {
        // Mail that cannot be written keeps nobody's access open.
        if let Err(fault) = house.queue_held_roster(&shared.store, why, &ids, now).await {
            tracing::error!(%fault, "no mail about the held roster could be written");
        }
    }
    let long_gone = decided.iter().filter(|(_, d)| *d == Decision::LongGone).count();
    if long_gone > 0 {
        tracing::info!(people = long_gone, "left before this service watched the roster: not run by themselves");
    }
    let mut failed = Vec::new();
    for (person, decision) in decided {
        let asks = matches!(decision, Decision::Ask(_) | Decision::Move(..));
        if asks && too_many.contains(&person.id) {
            continue;
        }
        let was_here = before.contains(&folded(person));
        if let Err(failure) = obey(shared, person, decision, was_here).await {
            failed.push(format!("{}: {}", person.id, failure.plain().trim()));
        }
    }
    shared.is_wrong("leavers", failed.len(), (!failed.is_empty()).then(|| failed.join("; ")));
    Ok(())
}

fn folded(person: &Person) -> PersonId {
    PersonId(person.id.0.to_ascii_lowercase())
}

/// Does what was decided about a person who `was_here` before.
pub(super) async fn obey(
    shared: &Arc<Shared>,
    person: &Person,
    decision: Decision,
    was_here: bool,
) -> Result<(), Failure> {
    let house = shared.house();
    let roster = &house.roster.input().file;
    let by = Actor { name: roster.clone(), asserted_by: Actor::ROSTER.into() };
    match decision {
        Decision::Nothing | Decision::LongGone => {}
        Decision::Ask(at) => {
            let order = Order::Run {
                person: person.id.0.clone(),
                playbook: None,
                at: Some(at),
                although_active: false,
                // Whether there is another was decided here.
                anew: true,
                report_to: None,
                by,
            };
            // Since it was decided, somebody may have asked for a run of theirs.
            let is_free = async |_: &Person| {
                let runs = shared.store.runs_of(&person.id).await?;
                let now = decide(person, &runs, was_here, (shared.clock)(), &house.config.serve);
                Ok(matches!(now, Decision::Ask(_)))
            };
            let Some(asked) = shared.desk().request_if(&order, is_free).await? else { return Ok(()) };
            tracing::info!(run = %asked.run, person = %person.id, at = %at, "the roster names a leaver");
            if let Some(trouble) = asked.trouble {
                tracing::error!(run = %asked.run, trouble = trouble.plain(), "the roster's next round must know of this run");
                // Until then nobody else's turn comes, for that is where it is read.
                shared.is_wrong("roster", 1, Some(trouble.plain()));
                super::orders::settle(shared, &asked.run).await;
            }
            shared.store.has_left(&person.id).await?;
        }
        Decision::Move(run, at) => {
            if change(shared, &run, async |run: &Run<'_>| Ok(run.schedule(at, by).await?)).await? {
                tracing::info!(run = %run, person = %person.id, at = %at, "the roster moves a leaver's end date");
            }
        }
        Decision::Withdraw(run) => {
            let why = format!("{roster} names no end of employment any more");
            if change(shared, &run, async |run: &Run<'_>| Ok(run.cancel(&why, by).await?)).await? {
                tracing::info!(run = %run, person = %person.id, "the roster takes a leaver back");
            }
        }
    }
    Ok(())
}

/// Whether it was changed; not if somebody works on it just now.
async fn change(
    shared: &Arc<Shared>,
    run: &RunId,
    work: impl AsyncFnOnce(&Run<'_>) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let changed = for_roster(shared, run, async |desk| {
        let (taken, _) = desk.house.take_up(&desk.journal, &run.0, None).await?;
        work(&taken).await?;
        drop(taken);
        Ok(super::after::settle(&desk.journal, &desk.store, run, None).await?)
    });
    Ok(changed.await?.is_some())
}

fn works_here(person: &Person, now: Timestamp) -> bool {
    person.status != WorkerStatus::Terminated && person.ends.is_none_or(|at| at > now)
}

fn decide(person: &Person, runs: &[Known], was_here: bool, now: Timestamp, settings: &Serve) -> Decision {
    let waits = runs.iter().any(|k| k.phase == Phase::Waiting);
    let ours = runs.iter().find(|k| k.phase == Phase::Waiting && k.by_roster);
    // The end date decides, also where the status runs ahead of it; without one, that somebody was seen to be here and is gone.
    let gone = person.status == WorkerStatus::Terminated;
    let leaves = match person.ends {
        Some(at) => Some(at),
        None if gone && (was_here || ours.is_some()) => Some(now),
        None => None,
    };
    match (ours, leaves) {
        (Some(run), None) if !gone => return Decision::Withdraw(run.run.clone()),
        (Some(run), Some(at)) if run.ends != Some(at) => return Decision::Move(run.run.clone(), at),
        (Some(_), _) => return Decision::Nothing,
        (None, _) => {}
    }
    // A person's own schedule stands.
    if waits {
        return Decision::Nothing;
    }
    let Some(at) = leaves else {
        return if gone && runs.is_empty() { Decision::LongGone } else { Decision::Nothing };
    };
    let is_done = runs.iter().any(|k| match k.phase {
        Phase::Begun if person.ends.is_none() => k.started.is_some_and(|began| began > now - SAME_LEAVING),
        Phase::Begun => k.ends == Some(at) || k.due == Some(at) || k.started.is_some_and(|began| began >= at),
        // A person has decided about this very date.
        Phase::Cancelled => k.ends == Some(at) || k.due == Some(at),
        Phase::Waiting | Phase::Withdrawn | Phase::Other => false,
    });
    if is_done {
        return Decision::Nothing;
    }
    let since = SignedDuration::try_from(settings.leavers_since.duration()).unwrap_or(SignedDuration::MAX);
    if now.duration_since(at) > since { Decision::LongGone } else { Decision::Ask(at) }
}

/// Everybody of whom more than `limit` leave at one time, with those whose run waits or has begun already. Each is counted once; a run that
/// is to be moved counts where it goes. Whoever is moved to a later hour is not among them: that takes nothing away, and the old hour is wrong.
fn too_many<'a>(
    decided: &[(&'a Person, Decision)],
    runs: impl Iterator<Item = &'a Known>,
    limit: u32,
) -> HashSet<PersonId> {
    let known: HashMap<&RunId, &Known> = runs.map(|known| (&known.run, known)).collect();
    let mut leave: Vec<(Timestamp, PersonId, Option<&PersonId>)> = Vec::new();
    let mut changed = HashSet::new();
    for (person, decision) in decided {
        let name = PersonId(person.id.0.to_ascii_lowercase());
        match decision {
            Decision::Ask(at) => leave.push((*at, name, Some(&person.id))),
            Decision::Move(run, at) => {
                changed.insert(run);
                let later = known.get(run).and_then(|k| k.due).is_some_and(|due| *at > due);
                leave.push((*at, name, (!later).then_some(&person.id)));
            }
            Decision::Withdraw(run) => {
                changed.insert(run);
            }
            Decision::Nothing | Decision::LongGone => {}
        }
    }
    let stands =
        |k: &&Known| k.by_roster && matches!(k.phase, Phase::Waiting | Phase::Begun) && !changed.contains(&k.run);
    let stand = known.values().copied().filter(stands);
    leave.extend(stand.filter_map(|k| Some((k.due?, PersonId(k.person.0.to_ascii_lowercase()), None))));
    leave.sort_by_key(|(at, ..)| *at);
    let mut too_many = HashSet::new();
    // How often each person is in the window.
    let mut inside: HashMap<&PersonId, usize> = HashMap::new();
    let mut first = 0;
    for last in 0..leave.len() {
        *inside.entry(&leave[last].1).or_default() += 1;
        while leave[last].0.duration_since(leave[first].0) >= AT_ONE_TIME {
            if let Some(times) = inside.get_mut(&leave[first].1) {
                *times -= 1;
                if *times == 0 {
                    inside.remove(&leave[first].1);
                }
            }
            first += 1;
        }
        if inside.len() > limit as usize {
            too_many.extend(leave[first..=last].iter().filter_map(|(.., person)| (*person).cloned()));
        }
    }
    too_many
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2026-06-15T12:00:00Z")
    }

    fn person(status: WorkerStatus, ends: Option<&str>) -> Person {
        Person {
            id: PersonId("E1".into()),
            name: "Jill Roe".into(),
            email: None,
            user_name: None,
            manager: None,
            department: None,
            worker_type: None,
            status,
            reason: None,
            ends: ends.map(at),
            zone: None,
            keys: Vec::new(),
        }
    }

    fn run(phase: Phase, by_roster: bool, ends: Option<&str>, started: Option<&str>) -> Known {
        Known {
            run: RunId("7F3K".into()),
            records: 3,
            person: PersonId("e1".into()),
            phase,
            by_roster,
            ends: ends.map(at),
            due: ends.map(at),
            started: started.map(at),
            rotated: Vec::new(),
        }
    }

    const SOON: &str = "2026-06-30T18:29:59Z";
    const LATER: &str = "2026-07-31T18:29:59Z";
    const PAST: &str = "2026-06-14T18:29:59Z";
    const LONG_AGO: &str = "2026-05-01T18:29:59Z";

    #[test]
    fn what_is_decided_follows_from_the_roster_and_the_record() {
        use Decision::{Ask, LongGone, Move, Nothing, Withdraw};
        use WorkerStatus::{Active, Leave, Terminated};
        let id = || RunId("7F3K".into());
        let waits = || run(Phase::Waiting, true, Some(SOON), None);
        for (case, person, runs, was_here, expected) in [
            ("works here", person(Active, None), vec![], true, Nothing),
            ("leaves soon", person(Active, Some(SOON)), vec![], true, Ask(at(SOON))),
            ("never seen before", person(Leave, Some(SOON)), vec![], false, Ask(at(SOON))),
            ("status runs ahead", person(Terminated, Some(SOON)), vec![], true, Ask(at(SOON))),
            ("left yesterday", person(Terminated, Some(PAST)), vec![], false, Ask(at(PAST))),
            ("left long ago", person(Terminated, Some(LONG_AGO)), vec![], true, LongGone),
            ("gone, nobody saw when", person(Terminated, None), vec![], false, LongGone),
            ("gone since last time", person(Terminated, None), vec![], true, Ask(now())),
            ("asked already", person(Active, Some(SOON)), vec![waits()], true, Nothing),
            ("moved", person(Active, Some(LATER)), vec![waits()], true, Move(id(), at(LATER))),
            ("moved to the past", person(Terminated, Some(PAST)), vec![waits()], true, Move(id(), at(PAST))),
            ("taken back", person(Active, None), vec![waits()], true, Withdraw(id())),
            ("gone before the date", person(Terminated, None), vec![waits()], false, Move(id(), now())),
            (
                "again",
                person(Active, Some(SOON)),
                vec![run(Phase::Withdrawn, true, Some(SOON), None)],
                true,
                Ask(at(SOON)),
            ),
            (
                "a person cancelled it",
                person(Active, Some(SOON)),
                vec![run(Phase::Cancelled, true, Some(SOON), None)],
                true,
                Nothing,
            ),
            (
                "cancelled, then another date",
                person(Active, Some(LATER)),
                vec![run(Phase::Cancelled, true, Some(SOON), None)],
                true,
                Ask(at(LATER)),
            ),
            (
                "a person scheduled it",
                person(Active, Some(SOON)),
                vec![run(Phase::Waiting, false, Some(LATER), None)],
                true,
                Nothing,
            ),
            (
                "moved, beside a person's own",
                person(Active, Some(LATER)),
                vec![Known { run: RunId("0WN1".into()), ..run(Phase::Waiting, false, Some(PAST), None) }, waits()],
                true,
                Move(id(), at(LATER)),
            ),
            (
                "done",
                person(Terminated, Some(PAST)),
                vec![run(Phase::Begun, true, Some(PAST), Some(PAST))],
                false,
                Nothing,
            ),
            (
                "done by hand, early",
                person(Terminated, Some(PAST)),
                vec![run(Phase::Begun, false, Some(PAST), Some(LONG_AGO))],
                false,
                Nothing,
            ),
            (
                "done by hand, after the date",
                person(Terminated, Some(PAST)),
                vec![run(Phase::Begun, false, None, Some("2026-06-15T08:00:00Z"))],
                false,
                Nothing,
            ),
            (
                "an earlier employment",
                person(Active, Some(SOON)),
                vec![run(Phase::Begun, true, Some(LONG_AGO), Some(LONG_AGO))],
                true,
                Ask(at(SOON)),
            ),
            (
                "gone, done by hand",
                person(Terminated, None),
                vec![run(Phase::Begun, false, None, Some(PAST))],
                true,
                Nothing,
            ),
        ] {
            assert_eq!(decide(&person, &runs, was_here, now(), &Serve::default()), expected, "{case}");
        }
    }

    #[test]
    fn more_at_one_time_than_the_limit_are_nobody() {
        let people: Vec<Person> =
            (0..30).map(|n| Person { id: PersonId(format!("E{n}")), ..person(WorkerStatus::Active, None) }).collect();
        let decided = |hours: fn(i64) -> i64| -> Vec<(&Person, Decision)> {
            (0..).zip(&people).map(|(n, p)| (p, Decision::Ask(now() + SignedDuration::from_hours(hours(n))))).collect()
        };
        // One every two days: contracts end.
        assert!(too_many(&decided(|n| n * 48), [].iter(), 10).is_empty());
        // Twelve on one day, the others apart.
        let crowd = too_many(&decided(|n| if n < 12 { n } else { n * 48 }), [].iter(), 10);
        assert_eq!(crowd.len(), 12);
        assert!(crowd.contains(&PersonId("E0".into())) && !crowd.contains(&PersonId("E20".into())));
        // What is on record counts: the brake is not passed in two halves.
        let known = |phase| -> Vec<Known> {
            (100..108)
                .map(|n| Known {
                    run: RunId(format!("R{n}")),
                    person: PersonId(format!("e{n}")),
                    ..run(phase, true, Some("2026-06-15T12:00:00Z"), None)
                })
                .collect()
        };
        let some = |of: fn(i64) -> i64, phase| too_many(&decided(of), known(phase).iter(), 10).len();
        assert_eq!(some(|n| if n < 3 { 0 } else { n * 48 }, Phase::Waiting), 3);
        assert_eq!(some(|n| if n < 3 { 0 } else { n * 48 }, Phase::Begun), 3);
        assert_eq!(some(|n| if n < 2 { 0 } else { n * 48 }, Phase::Waiting), 0);
        // What was taken back or cancelled does not.
        assert_eq!(some(|n| if n < 3 { 0 } else { n * 48 }, Phase::Withdrawn), 0);
        assert_eq!(some(|n| if n < 3 { 0 } else { n * 48 }, Phase::Cancelled), 0);
    }

    #[test]
    fn a_crowd_is_postponed_and_not_brought_forward() {
        let people: Vec<Person> =
            (0..12).map(|n| Person { id: PersonId(format!("E{n}")), ..person(WorkerStatus::Active, None) }).collect();
        let of = |n: usize| RunId(format!("R{n}"));
        let waiting: Vec<Known> = (0..12)
            .map(|n| Known {
                run: of(n),
                person: PersonId(format!("e{n}")),
                ..run(Phase::Waiting, true, Some(SOON), None)
            })
            .collect();
        let moved = |at: Timestamp, most: usize| -> Vec<(&Person, Decision)> {
            people.iter().enumerate().take(most).map(|(n, p)| (p, Decision::Move(of(n), at))).collect()
        };
        assert!(too_many(&moved(at(LATER), 12), waiting.iter(), 10).is_empty());
        assert_eq!(too_many(&moved(at(PAST), 12), waiting.iter(), 10).len(), 12);
        // Moved within the day, each counts once.
        let hour = SignedDuration::from_hours(1);
        assert!(too_many(&moved(at(SOON) - hour, 6), waiting[..6].iter(), 10).is_empty());
        // Whoever is postponed to a day counts there for those who are new.
        let new = Person { id: PersonId("E99".into()), ..person(WorkerStatus::Active, None) };
        let mut both = moved(at(LATER), 10);
        both.push((&new, Decision::Ask(at(LATER))));
        assert_eq!(too_many(&both, waiting[..10].iter(), 10), HashSet::from([new.id.clone()]));
        // Those who are taken back have left the day.
        let mut back: Vec<(&Person, Decision)> =
            people.iter().enumerate().take(10).map(|(n, p)| (p, Decision::Withdraw(of(n)))).collect();
        back.push((&new, Decision::Ask(at(SOON))));
        assert!(too_many(&back, waiting[..10].iter(), 10).is_empty());
    }
}
