//! The straight line, on one screen.

use super::rotate::{Links, Rotations};
use super::{Halt, Run, backoff};
use crate::connector::Connector;
use crate::model::{
    Action, Actor, DoorKind, DoorState, Event, Fault, FaultKind, Look, LookAt, Place, PlaceId, RunState, RunVerdict,
    SecretName, StepProgress, Verdict,
};
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often discovery runs again over all places for as long as it finds something new (law 6). What is found in the last pass
/// is still shut; that it stays so was then not seen, and the run is not shut.
const PASSES: u32 = 5;
/// How long a place may be silent before the others are walked again without it.
const SILENCE: Duration = Duration::from_secs(2);

/// A place and the connector that opens it.
type Target = (Arc<dyn Connector>, Place);

impl Run<'_> {
    /// Contains every place at once, goes on until nothing new is found, then tries again what failed and looks again at what is
    /// not proved, inside the playbook's deadline. The same for a new run and for one that is resumed.
    ///
    /// # Errors
    /// [`Halt::Journal`] only: what goes wrong at a place is part of the verdict.
    pub async fn offboard(&self, by: Actor) -> Result<RunVerdict, Halt> {
        let began = Instant::now();
        self.seed()?;
        self.not_cancelled()?;
        let places = if self.is_of_a_secret() { self.places_of_the_secret() } else { self.engine.places() };
        // What the configuration names by now counts, too: a fault there must hold the run back.
        let added: Vec<Place> = self
            .recorder
            .read(|s| places.iter().filter(|(_, p)| !s.places.contains_key(&p.id)).map(|(_, p)| p.clone()).collect());
        let mut events = vec![Event::Started { by }];
        if !added.is_empty() {
            events.push(Event::PlacesAdded { places: added });
        }
        self.recorder.record(events).await?;
        if !self.is_of_a_secret() {
            self.until_nothing_new(&places, &places).await?;
            self.ask().await?;
        }
        self.persist(&places, began).await?;
        self.end().await
    }

    /// Looks at every door again; changes nothing but the record. After the `last` look the witness passwords and the values of shared secrets are destroyed, if
    /// nothing is queued any more: then nobody needs them, and what is not kept cannot leak. Of a run that is not shut they are kept: without
    /// them nothing could be tried again. See [`Run::is_closed`].
    ///
    /// # Errors
    /// As [`Run::offboard`]; if the witness passwords are gone; and if a look is to be the last while a rotation is half done.
    pub async fn verify(&self, last: bool) -> Result<RunVerdict, Halt> {
        self.seed()?;
        if last {
            self.nothing_half_rotated()?;
        }
        let places = self.engine.places();
        self.look_at(&places).await?;
        // A place that was taken out of the configuration is not looked at any more: then nobody knows.
        let gone: Vec<_> = self.recorder.read(|s| {
            let doors = s.doors.values().map(|d| &d.door);
            doors.filter(|d| places.iter().all(|(_, p)| p.id != d.place)).map(|d| d.id.clone()).collect()
        });
        let unknown = || Look::unproven("its place is not in offboard.yaml any more");
        let events = gone.into_iter().map(|door| Event::Looked { door, at: LookAt::After, look: unknown() }).collect();
        self.recorder.record(events).await?;
        let verdict = self.end_again().await?;
        if last && self.recorder.read(|s| s.standing() == RunVerdict::Shut || s.is_settled()) {
            self.recorder.destroy_secrets().await?;
            self.recorder.destroy_seed().await?;
        }
        Ok(verdict)
    }

    /// Whether its witness passwords were destroyed after a last look.
    pub fn is_closed(&self) -> bool {
        self.recorder.read(|s| s.destroyed.contains(&crate::journal::RunLog::seed_id()))
    }

    /// Contains `first`, then every place that can be reached, for as long as anything is changed or learned anywhere: a host that
    /// comes back late may know a key that stands on all others. A place that does not answer is not waited for; when it has answered
    /// after all, everything is walked once more.
    async fn until_nothing_new(&self, places: &[Target], first: &[Target]) -> Result<(), Halt> {
        let began = Instant::now();
        let before = self.generation();
        let mut silent: BTreeSet<PlaceId> = first.iter().map(|(_, p)| p.id.clone()).collect();
        let mut walks: FuturesUnordered<_> = first.iter().map(|target| self.walk(target)).collect();
        let mut news = false;
        while !walks.is_empty() {
            match timeout(SILENCE / 10, walks.next()).await {
                Ok(Some(walked)) => {
                    let (place, changed) = walked?;
                    silent.remove(&place);
                    news |= changed;
                }
                Ok(None) => break,
                Err(_) if began.elapsed() >= SILENCE && self.at_work.load(Ordering::SeqCst) == 0 => break,
                Err(_) => {}
            }
        }
        // Also what a place taught before it broke off.
        news |= self.generation() != before;
        let stragglers = async {
            let mut late = false;
            while let Some(walked) = walks.next().await {
                late |= walked?.1;
            }
            Ok(late)
        };
        let answering: Vec<Target> = places.iter().filter(|(_, p)| !silent.contains(&p.id)).cloned().collect();
        let (late, ()) = futures::try_join!(stragglers, self.passes(&answering, news))?;
        if late { self.passes(places, true).await } else { Ok(()) }
    }

    /// Walks all places again and again while there is anything new. Where that has no end, nobody can say that it is over.
    async fn passes(&self, places: &[Target], mut news: bool) -> Result<(), Halt> {
        let mut restless = Vec::new();
        for _ in 0..PASSES {
            if !news {
                return Ok(());
            }
            let before = self.generation();
            let reached: Vec<Target> = places.iter().filter(|(_, p)| !self.is_unreached(&p.id)).cloned().collect();
            let walked = try_join_all(reached.iter().map(|target| self.walk(target))).await?;
            restless = walked.into_iter().filter(|(_, changed)| *changed).map(|(place, _)| place).collect();
            news = !restless.is_empty() || self.generation() != before;
        }
        if news && restless.is_empty() {
            restless = places.iter().map(|(_, place)| place.id.clone()).collect();
        }
        for place in restless {
            let fault = Fault::new(FaultKind::Busy, format!("{place}: there was something new in every pass"))
                .because(format!("{PASSES} passes after the first"))
                .hint("somebody is still at work there: see the findings, then offboard resume");
            self.unreached(&place, fault).await?;
        }
        Ok(())
    }

    /// Contains one place. A fault is its own affair; only the journal stops all.
    async fn walk(&self, (connector, place): &Target) -> Result<(PlaceId, bool), Halt> {
        match self.contain_place(&**connector, place).await {
            Ok(changed) => Ok((place.id.clone(), changed)),
            Err(Halt::Place(fault)) => self.unreached(&place.id, fault).await.map(|()| (place.id.clone(), false)),
            Err(journal) => Err(journal),
        }
    }

    /// Looks at every door of these places again, at all of them at once.
    async fn look_at(&self, places: &[Target]) -> Result<(), Halt> {
        let looks = places.iter().map(|(connector, place)| async move {
            match self.look_again(&**connector, place, |_| true).await {
                Err(Halt::Place(fault)) => self.unreached(&place.id, fault).await,
                other => other,
            }
        });
        try_join_all(looks).await.map(|_| ())
    }

    /// Rotates what the leaver knew; beside that, tries again what failed, and looks again at what is not proved, with growing pauses.
    /// Containment has come first: a leaver who is still inside would read the new values.
    async fn persist(&self, places: &[Target], began: Instant) -> Result<(), Halt> {
        let act_until = began + self.playbook.deadline.duration();
        let look_until = began + self.playbook.verify.until.duration();
        let mut pauses = backoff();
        let mut pause = pauses.next().unwrap_or_default();
        let links = Links::default();
        let mut rotations = Rotations::new(self, &links, act_until);
        loop {
            rotations.begin().await?;
            let next = Instant::now() + pause;
            // What cannot be mended in time must not end the looks at everything else.
            let act = places.iter().filter(|(_, p)| next < act_until && self.wants_another_try(&p.id));
            let look = places
                .iter()
                .filter(|(_, p)| next < look_until && self.wants_another_look(&p.id, rotations.under_way()));
            let (act, look): (Vec<_>, Vec<_>) = (act.cloned().collect(), look.cloned().collect());
            // Where nobody leaves, no place is walked.
            let act = if self.is_of_a_secret() { Vec::new() } else { act };
            if act.is_empty() && look.is_empty() {
                match rotations.next().await {
                    Some(rotated) => rotated?,
                    None => break,
                }
                continue;
            }
            let again = async {
                sleep(pause).await;
                self.until_nothing_new(places, &act).await?;
                self.look_at(&look).await
            };
            rotations.beside(again).await?;
            pause = pauses.next().unwrap_or_default();
        }
        self.note_half_rotated().await?;
        self.give_up().await
    }

    pub(super) async fn unreached(&self, place: &PlaceId, fault: Fault) -> Result<(), Halt> {
        let last = !fault.is_transient();
        self.recorder.record(vec![Event::Unreached { place: place.clone(), fault, last }]).await
    }

    fn is_unreached(&self, place: &PlaceId) -> bool {
        self.recorder.read(|s| s.places.get(place).is_some_and(|p| p.unreached.is_some()))
    }

    /// A place that failed for a passing reason, or that has a step which did, or a door that our steps should have shut and that opens.
    fn wants_another_try(&self, place: &PlaceId) -> bool {
        self.recorder.read(|s| {
            let unreached = s.places.get(place).and_then(|p| p.unreached.as_ref());
            unreached.is_some_and(Fault::is_transient)
                || s.steps.iter().any(|step| {
                    step.step.place == *place
                        && step.step.action != Action::Rotate
                        && matches!(step.progress, StepProgress::Failed { last: false, .. })
                })
                || s.doors.values().any(|d| d.door.place == *place && is_open(d) && has_step(s, d))
        })
    }

    /// A place that can be reached and has a door which is not proved shut. Where no place is walked again, a look is what reaches it.
    fn wants_another_look(&self, place: &PlaceId, under_way: &BTreeSet<SecretName>) -> bool {
        self.recorder.read(|s| {
            let may_be = |fault: &Fault| s.request.secret().is_some() && fault.is_transient();
            // A rotation that is not done has nothing to show yet.
            let is_done = |step: &crate::model::StepState| step.is_done() || step.waived.is_some();
            let is_rotated = |door: &crate::model::Door| {
                door.kind == DoorKind::SharedSecret && under_way.contains(&SecretName(door.object.clone()))
            };
            s.places.get(place).is_some_and(|p| p.unreached.as_ref().is_none_or(may_be))
                && (s.request.secret().is_none() || s.steps.iter().all(is_done))
                && s.doors.values().any(|d| {
                    d.door.place == *place
                        && !is_rotated(&d.door)
                        && !matches!(d.after.as_ref().map(|(_, l)| &l.verdict), Some(Verdict::Shut { .. }))
                })
        })
    }

    /// At the deadline a step that still fails is stuck, loudly; `resume` tries it again.
    async fn give_up(&self) -> Result<(), Halt> {
        let stuck = self.recorder.read(|s| {
            s.steps
                .iter()
                .filter_map(|step| match &step.progress {
                    StepProgress::Failed { fault, last: false } => {
                        Some(Event::StepFailed { step: step.step.id.clone(), fault: fault.clone(), last: true })
                    }
                    _ => None,
                })
                .collect()
        });
        self.recorder.record(stuck).await
    }

    async fn end(&self) -> Result<RunVerdict, Halt> {
        let verdict = self.recorder.read(|s| s.standing());
        self.recorder.record(vec![Event::Ended { verdict }]).await?;
        Ok(verdict)
    }

    /// Records how an ended run stands now. One that was cut off is not ended by a look or a waiver: only `resume` finishes its walk.
    pub(super) async fn end_again(&self) -> Result<RunVerdict, Halt> {
        if self.recorder.read(|s| s.ended.is_none()) {
            return Ok(self.recorder.read(|s| s.verdict()));
        }
        self.end().await
    }

    /// Whether a guard kept the run from a place: too many accounts.
    pub fn is_refused(&self) -> bool {
        let refused = |fault: &Fault| fault.kind == FaultKind::Protected;
        self.recorder.read(|s| s.places.values().any(|p| p.unreached.as_ref().is_some_and(refused)))
    }
}

fn is_open(door: &DoorState) -> bool {
    matches!(door.after.as_ref().map(|(_, look)| &look.verdict), Some(Verdict::Open { .. }))
}

/// Whether there is a step for this door that may still succeed.
fn has_step(state: &RunState, door: &DoorState) -> bool {
    let may_succeed = |progress: &StepProgress| !matches!(progress, StepProgress::Failed { last: true, .. });
    // A rotation is another walk than that of its place.
    let walked = |s: &crate::model::StepState| s.step.action != Action::Rotate && may_succeed(&s.progress);
    state.steps.iter().any(|s| s.step.shuts.contains(&door.door.id) && walked(s))
}
