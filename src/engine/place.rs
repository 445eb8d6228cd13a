//! One place, from its door to its verdict: open, discover, plan, look before, apply, look after, on one connection.

use super::discover::undeclared;
use super::{Engine, Halt, Run};
use crate::connector::{Connector, Cx, Link};
use crate::model::{
    Account, Door, DoorState, Event, Fault, FaultKind, Look, LookAt, Outcome, Place, RunState, Step, Undeclared,
};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// For how long after its start a run puts a credential that appears down to the leaver.
const LEAVER_INSIDE: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);
/// How often a place is discovered and acted on within one walk, for as long as something new is found.
const ROUNDS: u32 = 6;
/// How long a look before may hold up containment (contain first, prove after).
const LOOK_BEFORE: Duration = Duration::from_secs(2);
/// How long a place may search for passwords that nobody declared.
const UNDECLARED: Duration = Duration::from_secs(6);
/// A place that has worked for so long gives its slot to the next one and goes on without: one that hangs delays nobody.
const SLOT: Duration = Duration::from_secs(2);
/// So many connections are kept open from one pass to the next, at some 64 kB each.
const KEPT: usize = 64;

impl Engine {
    /// Passwords that nobody declared, as far as the place tells them in time.
    pub(super) async fn undeclared(&self, link: &mut dyn Link) -> Vec<Undeclared> {
        match timeout(UNDECLARED, link.undeclared()).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// Works in one of the system's slots, and gives it up after [`SLOT`]. What can wait leaves some slots to what cannot.
    pub(super) async fn in_turn<T>(&self, place: &Place, can_wait: bool, work: impl Future<Output = T>) -> T {
        let slot = match self.working.get(&place.system) {
            Some(slots) => {
                let calm = if can_wait { slots.calm.acquire().await.ok() } else { None };
                Some((calm, slots.all.acquire().await.ok()))
            }
            None => None,
        };
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = sleep(SLOT) => drop(slot),
        }
        work.await
    }
}

impl Run<'_> {
    /// Shuts every door of the leaver at one place. Says whether anything was done or learned that the other places, or another pass,
    /// should know of.
    pub(super) async fn contain_place(&self, connector: &dyn Connector, place: &Place) -> Result<bool, Halt> {
        let cx = self.cx_at(place)?;
        let kept = self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(&place.id);
        let mut link = match kept {
            Some(link) => link,
            None => self.engine.open(connector, place, &cx).await?,
        };
        let _at_work = AtWork::new(&self.at_work);
        let work = async {
            let mut news = false;
            for round in 0..ROUNDS {
                let before = self.generation();
                let accounts = self.discover(&mut *link, place, true).await?;
                let learned = self.generation() != before;
                news |= learned;
                let stages = self.plan(connector, place, &accounts).await?;
                if stages.is_empty() && !learned {
                    break;
                }
                let (mut looked, good) = self.look_before(&mut *link, place, &cx).await;
                if !good {
                    self.recorder.record(std::mem::take(&mut looked)).await?;
                    // With the baseline that is on record by now: a fresh one would take for old what the leaver has just planted.
                    link = self.engine.open(connector, place, &self.cx_at(place)?).await?;
                    self.discover(&mut *link, place, true).await?;
                }
                if stages.is_empty() {
                    self.recorder.record(std::mem::take(&mut looked)).await?;
                }
                let mut failed = false;
                for (stage, steps) in stages {
                    let before = std::mem::take(&mut looked);
                    let (all_done, any_change) = self.apply(&mut *link, &stage, steps, before, &cx).await?;
                    failed |= !all_done;
                    news |= any_change;
                }
                if failed {
                    // Soon once more here; after that it is tried again with the other places that failed.
                    sleep(Duration::from_millis(100) * 2u32.pow(round)).await;
                } else if !learned {
                    // What this has changed is seen in the next pass, over all places.
                    break;
                }
            }
            // Contain first, prove after: where there was anything new, the next pass looks.
            if !news {
                self.look_after(&mut *link, place, |_| true, &cx).await?;
                self.note_undeclared(&mut *link, place).await?;
            }
            Ok(news)
        };
        let news = self.in_turn(place, work).await?;
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if news && links.len() < KEPT {
            links.insert(place.id.clone(), link);
        }
        Ok(news)
    }

    /// Looks at doors of the place again, over a connection of its own.
    pub(super) async fn look_again(
        &self,
        connector: &dyn Connector,
        place: &Place,
        which: impl Fn(&DoorState) -> bool,
    ) -> Result<(), Halt> {
        if self.doors_at(place, &which).is_empty() {
            return Ok(());
        }
        let cx = self.cx_at(place)?;
        let work = async {
            let mut link = match self.open(connector, place, &cx).await {
                Ok(link) => link,
                Err(Halt::Place(fault)) => {
                    // Nobody can say any more how these doors stand.
                    self.looked(self.doors_at(place, &which), LookAt::After, |_| Look::unproven(fault.to_string()))
                        .await?;
                    return Err(Halt::Place(fault));
                }
                Err(halt) => return Err(halt),
            };
            self.look_after(&mut *link, place, &which, &cx).await
        };
        self.in_turn(place, work).await
    }

    /// Works in one of the system's slots; see [`Engine::in_turn`].
    pub(super) async fn in_turn<T>(
        &self,
        place: &Place,
        work: impl Future<Output = Result<T, Halt>>,
    ) -> Result<T, Halt> {
        self.engine.in_turn(place, self.can_wait, work).await
    }

    /// That the place is reached, where that is not on record yet.
    pub(super) fn reached(&self, place: &Place) -> Option<Event> {
        let is_news =
            |s: &RunState| s.places.get(&place.id).is_none_or(|p| p.reached_at.is_none() || p.unreached.is_some());
        self.recorder.read(is_news).then(|| Event::Reached { place: place.id.clone() })
    }

    /// Connects to a place, and notes that it was reached.
    pub(super) async fn open(&self, connector: &dyn Connector, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Halt> {
        let link = self.engine.open(connector, place, cx).await?;
        self.recorder.record(self.reached(place).into_iter().collect()).await?;
        Ok(link)
    }

    /// What a call at this place may know. Its baseline is given for as long as the leaver may still be inside: what appears after all
    /// of it was contained, before a late `resume`, was put there by others.
    pub(super) fn cx_at(&self, place: &Place) -> Result<Cx, Fault> {
        let baseline = self.recorder.read(|s| {
            let inside = s.steps.iter().any(|step| !step.is_done());
            let recent = s.started.is_some_and(|at| self.recorder.now().duration_since(at) < LEAVER_INSIDE);
            s.baselines.get(&place.id).filter(|_| inside || recent).cloned()
        });
        Ok(Cx { baseline, ..self.engine.cx(self.seed()?) })
    }

    /// Applies the steps of one stage; journaled before, with the `events` that came before them, and after. Says whether all were done,
    /// and whether any of them changed something: what fails again and again is no news to other places.
    async fn apply(
        &self,
        link: &mut dyn Link,
        stage: &str,
        steps: Vec<Step>,
        mut events: Vec<Event>,
        cx: &Cx,
    ) -> Result<(bool, bool), Halt> {
        self.may_go_on()?;
        let attempt = |s: &Step| self.recorder.read(|state| state.step(&s.id).map_or(0, |s| s.attempts) + 1);
        events.push(Event::Planned { stage: stage.to_string(), steps: steps.clone() });
        events.extend(steps.iter().map(|s| Event::StepStarted { step: s.id.clone(), attempt: attempt(s) }));
        self.recorder.record(events).await?;
        fail::fail_point!("engine::before-apply");
        let what = format!("{}: applying steps", steps.first().map_or("", |step| step.place.0.as_str()));
        let applied = self.engine.in_time(&what, 10, link.apply(&steps, cx)).await;
        let hung = applied.as_ref().err().cloned();
        let results = applied.unwrap_or_else(|fault| steps.iter().map(|_| Err(fault.clone())).collect());
        fail::fail_point!("engine::after-apply");
        let (mut all_done, mut any_change) = (true, false);
        let mut events = Vec::with_capacity(steps.len());
        let mut results = results.into_iter();
        for step in &steps {
            let result = results.next().unwrap_or_else(|| {
                Err(Fault::new(
                    FaultKind::Unexpected,
                    format!("{}: no result for {} {}", step.place, step.action, step.account),
                ))
            });
            events.push(match result {
                Ok(outcome) => {
                    any_change |= matches!(outcome, Outcome::Done { .. });
                    Event::StepDone { step: step.id.clone(), outcome }
                }
                Err(fault) => {
                    all_done = false;
                    let last = !fault.is_transient() && self.is_hopeless(&step.id);
                    if last {
                        self.give_step_up(&step.id);
                    }
                    Event::StepFailed { step: step.id.clone(), fault, last }
                }
            });
        }
        self.recorder.record(events).await?;
        // A call that was cut off leaves the link in the middle of an answer, which the next call would take for its own.
        hung.map_or(Ok((all_done, any_change)), |fault| Err(Halt::Place(fault)))
    }

    /// Looks at doors that were never looked at: what there is to record, and whether the link is still good. A look that was cut off may
    /// have left it in the middle of an answer.
    async fn look_before(&self, link: &mut dyn Link, place: &Place, cx: &Cx) -> (Vec<Event>, bool) {
        let doors = self.doors_at(place, |d| d.before.is_none() && d.after.is_none());
        if doors.is_empty() {
            return (Vec::new(), true);
        }
        link.keep(self.known_secrets(&place.id));
        match timeout(LOOK_BEFORE, link.look(&doors, false, cx)).await {
            Ok(looks) => {
                let mut looks = looks.into_iter();
                let next = |_: &Door| looks.next().unwrap_or_else(|| Look::unproven("the connector did not say"));
                (looked(doors, LookAt::Before, next), true)
            }
            Err(_) => {
                let why = format!(
                    "not known: the look took more than {} s, and containment does not wait",
                    LOOK_BEFORE.as_secs()
                );
                (looked(doors, LookAt::Before, |_| Look::unproven(why.clone())), false)
            }
        }
    }

    async fn look_after(
        &self,
        link: &mut dyn Link,
        place: &Place,
        which: impl Fn(&DoorState) -> bool,
        cx: &Cx,
    ) -> Result<(), Halt> {
        let doors = self.doors_at(place, which);
        if doors.is_empty() {
            return Ok(());
        }
        link.keep(self.known_secrets(&place.id));
        let looks = self.engine.in_time(&format!("{}: looking", place.id), 10, link.look(&doors, true, cx)).await;
        let mut looks = looks.map(Vec::into_iter);
        self.looked(doors, LookAt::After, |_| match &mut looks {
            Ok(looks) => looks.next().unwrap_or_else(|| Look::unproven("the connector did not say")),
            Err(fault) => Look::unproven(fault.to_string()),
        })
        .await
    }

    /// Notes the passwords that nobody declared, once for a place. No door hangs on it: where it cannot be told, the place is none the worse. The
    /// connection may be broken then; it is not used for anything after this.
    async fn note_undeclared(&self, link: &mut dyn Link, place: &Place) -> Result<(), Halt> {
        if !self.searched.lock().unwrap_or_else(PoisonError::into_inner).insert(place.id.clone()) {
            return Ok(());
        }
        let (found, person) = (self.engine.undeclared(link).await, self.person()?);
        let accounts: Vec<Account> = self
            .recorder
            .read(|s| s.accounts.values().map(|(a, _)| a).filter(|a| a.place == place.id).cloned().collect());
        self.note(undeclared(found, place, &accounts, &person.id).into_iter().collect()).await
    }

    pub(super) async fn looked(
        &self,
        doors: Vec<Door>,
        at: LookAt,
        look: impl FnMut(&Door) -> Look,
    ) -> Result<(), Halt> {
        self.recorder.record(looked(doors, at, look)).await
    }

    pub(super) fn doors_at(&self, place: &Place, which: impl Fn(&DoorState) -> bool) -> Vec<Door> {
        self.recorder.read(|s| {
            s.doors.values().filter(|d| d.door.place == place.id && which(d)).map(|d| d.door.clone()).collect()
        })
    }
}

/// What records a look at each door.
fn looked(doors: Vec<Door>, at: LookAt, mut look: impl FnMut(&Door) -> Look) -> Vec<Event> {
    doors.into_iter().map(|d| Event::Looked { look: look(&d), door: d.id, at }).collect()
}

/// Counts a place among those that are being worked on, for as long as it lives.
struct AtWork<'a>(&'a AtomicUsize);

impl<'a> AtWork<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
