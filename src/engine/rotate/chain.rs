//! The chain of one secret, as a run walks it: turn by turn, journaled before and after.

use super::links::{Lent, Links};
use super::{PHASES, Participant, Rotation, half_rotated};
use crate::connector::{Cx, KnownSecret, Link, Turn};
use crate::engine::{Halt, Run, Values, backoff, discover};
use crate::model::{
    Door, DoorId, Event, Fault, FaultKind, Finding, FindingKind, Look, LookAt, Part, PartKind, Period, Person, Phase,
    PlaceId, SecretName, Seen, StepId, StepProgress, Which,
};
use futures::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long the look before may hold the rotation up.
const LOOK_BEFORE: Duration = Duration::from_secs(4);
/// A turn may take so many times as long as one network operation: a program's reload and its recovery are in it.
pub(super) const PATIENCE: u32 = 30;

/// What came of one turn.
pub(super) enum Turned {
    /// Also earlier; with the value that a consumer's `create` has said.
    Done(Option<SecretString>),
    /// On record as failed.
    Failed,
    /// The participant was given up.
    Waived,
}

/// What the chain of one secret needs.
pub(super) struct Chain<'a> {
    pub rotation: Rotation,
    stage: String,
    links: &'a Links,
}

impl Run<'_> {
    /// One secret, tried again with growing pauses for as long as it fails for a reason that may pass.
    pub(super) async fn persist_rotation(
        &self,
        name: &SecretName,
        stage: &str,
        links: &Links,
        act_until: Instant,
    ) -> Result<(), Halt> {
        let leaver = self.leaver();
        let mut pauses = backoff();
        // Anew each time: which of two accounts programs leave may be known by now.
        while let Some(rotation) = self.rotations().into_iter().flatten().find(|rotation| rotation.name == *name) {
            let steps: Vec<StepId> = rotation.steps().into_iter().map(|step| step.id).collect();
            self.chain(Chain { rotation, stage: stage.to_string(), links }, leaver.as_ref()).await?;
            let pause = pauses.next().unwrap_or_default();
            if Instant::now() + pause >= act_until || !self.may_pass(&steps) {
                break;
            }
            sleep(pause).await;
        }
        Ok(())
    }

    /// Whether any of these steps failed for a reason that may pass.
    fn may_pass(&self, steps: &[StepId]) -> bool {
        self.recorder.read(|s| {
            steps
                .iter()
                .filter_map(|id| s.step(id))
                .any(|step| step.waived.is_none() && matches!(step.progress, StepProgress::Failed { last: false, .. }))
        })
    }

    /// One secret, from looking ahead to proof.
    async fn chain(&self, mut chain: Chain<'_>, leaver: Option<&Person>) -> Result<(), Halt> {
        // Another run may be about to set a value of its own: two at once would each take the other's for the old one.
        let _alone = self.engine.turn_of(&chain.rotation.name).await;
        let accounts = chain.rotation.accounts(leaver).into_iter();
        let unknown = self.recorder.read(|s| {
            accounts.filter(|a| a.doors.iter().any(|door| !s.doors.contains_key(&door.id))).collect::<Vec<_>>()
        });
        self.recorder.record(unknown.into_iter().map(discover::found).collect()).await?;
        if self.recorder.read(|s| chain.rotation.left(s, &PHASES).is_none()) {
            return Ok(());
        }
        // Once it was begun, the value may be in use: nothing may be looked at or made anew.
        let begun = self.recorder.read(|s| chain.rotation.is_begun(s));
        if !begun && !self.make_ready(&mut chain).await? {
            return Ok(());
        }
        let (chain, rotation) = (&chain, &chain.rotation);
        fail::fail_point!("rotate::sealed");
        if !self.take(chain, Phase::Set, true).await? || !self.take(chain, Phase::Test, false).await? {
            return Ok(());
        }
        self.overlap(chain).await;
        if !self.take(chain, Phase::Finish, true).await? {
            return Ok(());
        }
        join_all(rotation.checking_places().into_iter().map(|p| self.look_at_new(rotation, p)))
            .await
            .into_iter()
            .collect()
    }

    /// The look after at one of its places: at its own doors alone, since a hundred secrets of one place would otherwise cost ten thousand looks.
    async fn look_at_new(&self, rotation: &Rotation, participant: &Participant) -> Result<(), Halt> {
        let (connector, place) = (Arc::clone(&participant.connector), &participant.place);
        let unwalked = self.recorder.read(|s| s.places.get(&place.id).and_then(|p| p.unreached.clone()));
        let own = rotation.door_ids();
        match self.look_again(&*connector, place, |d| own.contains(&d.door.id)).await {
            Err(Halt::Place(_)) => Ok(()),
            // Where somebody leaves, this look at one door does not stand for the walk that failed there.
            Ok(()) if !self.is_of_a_secret() => match unwalked {
                Some(fault) => self.unreached(&place.id, fault).await,
                None => Ok(()),
            },
            other => other,
        }
    }

    /// Waits before `finish` for as long as was declared, counted from when the source took the new value, also after a crash in between. A clock
    /// that was set back does not make it longer.
    async fn overlap(&self, chain: &Chain<'_>) {
        let Some(overlap) = chain.rotation.overlap.map(Period::duration) else { return };
        let step = |phase| chain.rotation.step(&chain.rotation.source, phase).id;
        let (set, finish) = (step(Phase::Set), step(Phase::Finish));
        let begun = self.recorder.read(|s| s.step(&finish).is_some_and(|s| s.attempts > 0));
        let set = self.recorder.read(|s| s.step(&set).and_then(|s| s.done_at)).filter(|_| !begun);
        let Some(set) = set else { return };
        fail::fail_point!("rotate::overlap");
        let over = Duration::try_from(self.recorder.now().duration_since(set)).unwrap_or_default();
        sleep(overlap.saturating_sub(over)).await;
    }

    /// `create` everywhere; then both values are sealed, and the door is looked at while the old one still opens it. Says whether the
    /// rotation may go on.
    async fn make_ready(&self, chain: &mut Chain<'_>) -> Result<bool, Halt> {
        let index = chain.rotation.consumers.len();
        let said = join_all((0..index).map(|index| self.turn(chain, index, Phase::Create, None))).await;
        let mut old: Option<SecretString> = None;
        let mut differ = false;
        for turned in said {
            match turned? {
                Turned::Done(Some(value)) => match &old {
                    Some(other) => differ |= other.expose_secret() != value.expose_secret(),
                    None => old = Some(value),
                },
                Turned::Done(None) | Turned::Waived => {}
                Turned::Failed => return Ok(false),
            }
        }
        let mut strange = None;
        if chain.rotation.former.is_some() {
            let users = self.recorder.read(|s| chain.rotation.users(s));
            differ |= users.len() > 1;
            strange = users.into_iter().find(|user| !chain.rotation.turn_to(user));
        }
        let name = &chain.rotation.name;
        let wrong = if differ {
            Some((
                format!("secret {name}: its consumers log in with different values"),
                "they cannot all be the password of one account".to_string(),
                "mend the files that have a wrong one, then: offboard resume",
            ))
        } else {
            strange.map(|_| {
                (
                    format!("secret {name}: its consumers log in with another account"),
                    "their files name neither `account` nor `alternate`".to_string(),
                    "correct `source` in offboard.yaml, or the files, then: offboard resume",
                )
            })
        };
        if let Some((what, because, hint)) = wrong {
            let fault = Fault::new(FaultKind::Misconfigured, what).because(because).hint(hint);
            self.failed(chain, index, Phase::Create, fault).await?;
            return Ok(false);
        }
        if chain.rotation.setter.is_some() {
            match self.setters_value(chain, old.as_ref()).await? {
                Some(value) => old = Some(value),
                None => return Ok(false),
            }
        }
        let alternates = chain.rotation.former.is_some();
        if alternates {
            // The consumers' value is that of the account that they leave.
            match self.turn(chain, index + 1, Phase::Create, old.as_ref()).await? {
                Turned::Done(_) | Turned::Waived => {}
                Turned::Failed => return Ok(false),
            }
        }
        let of_source = old.as_ref().filter(|_| !alternates);
        if !matches!(self.turn(chain, index, Phase::Create, of_source).await?, Turned::Done(_)) {
            return Ok(false);
        }
        let Some(old) = old else { return Ok(false) };
        let first = index + 1..index + 1 + chain.rotation.also.len();
        for turned in join_all(first.map(|number| self.turn(chain, number, Phase::Create, Some(&old)))).await {
            if matches!(turned?, Turned::Failed) {
                return Ok(false);
            }
        }
        let (of_old, of_new) = chain.rotation.old_and_new();
        if alternates {
            self.seal(chain, &of_new, None).await?;
        }
        match &chain.rotation.setter {
            // What it will set, nobody knows yet.
            Some(_) => self.seal_known(&of_old, Which::Old, old).await?,
            None => self.seal(chain, &of_old, Some(old)).await?,
        }
        // Every door has its values, so that each can be looked at by itself.
        let (old, new) = self.values(&of_new);
        for door in chain.rotation.also_doors() {
            for (which, value) in [(Which::Old, &old), (Which::New, &new)] {
                if let Some(value) = value {
                    self.seal_known(&door, which, value.clone()).await?;
                }
            }
        }
        join_all(chain.rotation.checking_places().into_iter().map(|p| self.look_at_old(chain, p)))
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        Ok(true)
    }

    /// Seals what is to be set behind a door, unless that is sealed already, and the old value, if it is another one than is known.
    async fn seal(&self, chain: &Chain<'_>, door: &DoorId, old: Option<SecretString>) -> Result<(), Halt> {
        let (known_old, known_new) = self.recorder.unseal_secret(door).await?;
        let mut values = Vec::new();
        let fresh = match known_new {
            Some(new) => new,
            None => {
                let source = &chain.rotation.source;
                let new = match source.connector.new_value(&source.part)? {
                    Some(value) => value,
                    None => self.recorder.fresh_secret()?,
                };
                values.push((Which::New, new.clone()));
                new
            }
        };
        if let Some(old) = &old
            && known_old.as_ref().is_none_or(|known| known.expose_secret() != old.expose_secret())
        {
            values.push((Which::Old, old.clone()));
        }
        self.recorder.seal_secret(door, values).await?;
        self.know(door, old, Some(fresh));
        Ok(())
    }

    /// The look before at one of its places: containment is over, so it may take its time, but not for ever.
    async fn look_at_old(&self, chain: &Chain<'_>, source: &Participant) -> Result<(), Halt> {
        let mut doors = chain.rotation.doors(None);
        doors.retain(|door| door.place == source.place.id);
        self.recorder.read(|s| {
            doors.retain(|door| s.doors.get(&door.id).is_some_and(|d| d.before.is_none() && d.after.is_none()));
        });
        if doors.is_empty() {
            return Ok(());
        }
        let cx = self.engine.cx(self.seed()?);
        let mut lent = chain.links.lend(&source.place.id).await;
        let link = match self.connected(&mut lent, source, &cx).await {
            Ok(link) => link,
            // Then it is not looked at before; the step that comes next says why.
            Err(Halt::Place(_)) => return Ok(()),
            Err(journal) => return Err(journal),
        };
        link.keep(self.known_secrets(&source.place.id));
        let looks = match timeout(LOOK_BEFORE, link.look(&doors, false, &cx)).await {
            Ok(looks) => looks,
            Err(_) => {
                lent.link = None;
                doors.iter().map(|_| Look::unproven("the look took too long")).collect()
            }
        };
        let mut looks = looks.into_iter();
        let said = |_: &Door| looks.next().unwrap_or_else(|| Look::unproven("the connector did not say"));
        self.looked(doors, LookAt::Before, said).await
    }

    /// One phase of everybody: the setter and the source first where `in_order`, else all at the same time. Says whether it is done.
    async fn take(&self, chain: &Chain<'_>, phase: Phase, in_order: bool) -> Result<bool, Halt> {
        let (all, source) = (chain.rotation.count(), chain.rotation.consumers.len());
        let of = |numbers: std::ops::Range<usize>| join_all(numbers.map(|index| self.turn(chain, index, phase, None)));
        let mut turned = Vec::new();
        if in_order {
            let others = all - chain.rotation.also.len();
            let mut order: Vec<usize> = (source..others).collect();
            // What it was set to is looked for only then; and the old sessions end whatever the setter says in the end.
            if chain.rotation.setter.is_some() && phase == Phase::Set {
                order.reverse();
            }
            for index in order {
                let one = self.turn(chain, index, phase, None).await?;
                if matches!(one, Turned::Failed) || (chain.rotation.needs(index) && !matches!(one, Turned::Done(_))) {
                    return Ok(false);
                }
            }
            for one in of(others..all).await {
                if matches!(one?, Turned::Failed) {
                    return Ok(false);
                }
            }
            if phase == Phase::Set && chain.rotation.one_by_one {
                // Where one is not well, the next ones keep what they have.
                for (index, phase) in (0..source).flat_map(|index| [(index, Phase::Set), (index, Phase::Test)]) {
                    if matches!(self.turn(chain, index, phase, None).await?, Turned::Failed) {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            turned.extend(of(0..source).await);
        } else {
            turned.extend(of(0..all).await);
        }
        let mut done = true;
        for (index, turned) in turned.into_iter().enumerate() {
            done &= match turned? {
                Turned::Done(_) => true,
                Turned::Waived => !chain.rotation.needs(index),
                Turned::Failed => false,
            };
        }
        Ok(done)
    }

    /// One turn of one participant, journaled before and after; `index` as in [`Rotation::numbered`]. What is done is not done again, but for `create`,
    /// which looks anew for as long as nothing was set.
    pub(super) async fn turn(
        &self,
        chain: &Chain<'_>,
        index: usize,
        phase: Phase,
        old: Option<&SecretString>,
    ) -> Result<Turned, Halt> {
        let rotation = &chain.rotation;
        let participant = rotation.numbered(index);
        let step = rotation.step(participant, phase);
        if self.recorder.read(|s| rotation.is_waived(s, participant)) {
            return Ok(Turned::Waived);
        }
        let (done, attempt) =
            self.recorder.read(|s| s.step(&step.id).map_or((false, 1), |s| (s.is_done(), s.attempts + 1)));
        if done && phase != Phase::Create {
            return Ok(Turned::Done(None));
        }
        if self.given_up.lock().unwrap_or_else(PoisonError::into_inner).contains(&step.id) {
            return Ok(Turned::Failed);
        }
        // Past the playbook's limit nothing new is begun; a value that is being set is brought to its end.
        let begun = self.recorder.read(|s| rotation.is_begun(s));
        if let (false, Err(fault)) = (begun, self.may_go_on()) {
            self.failed(chain, index, phase, fault).await?;
            return Ok(Turned::Failed);
        }
        let place = &participant.place.id;
        let _one_at_a_time = match phase {
            Phase::Set | Phase::Finish => Some(chain.links.write(place).await),
            Phase::Create | Phase::Test => None,
        };
        let mut lent = chain.links.lend(place).await;
        self.recorder
            .record(vec![
                Event::Planned { stage: chain.stage.clone(), steps: vec![step.clone()] },
                Event::StepStarted { step: step.id.clone(), attempt },
            ])
            .await?;
        fail::fail_point!("rotate::begun");
        let own = rotation.step(participant, Phase::Create).id;
        let (seen, consumers) = self.recorder.read(|s| {
            let consumers: Vec<(String, Vec<String>)> = rotation
                .consumers
                .iter()
                .filter(|p| !rotation.is_waived(s, p))
                .map(|p| (p.name(), rotation.seen(s, p).unwrap_or_default().addresses))
                .collect();
            (rotation.seen(s, participant).unwrap_or_default(), consumers)
        });
        let (of_old, of_new) = rotation.old_and_new();
        let ((known_old, _), (_, new)) = match participant.part {
            Part::Source { .. }
            | Part::Checked { .. }
            | Part::Authorized { .. }
            | Part::Setter(_)
            | Part::SourceFile(_) => (self.values(&of_new), self.values(&of_new)),
            Part::Former { .. } => (self.values(&of_old), self.values(&of_old)),
            Part::Consumer(_) | Part::ConsumerPath(_) => (self.values(&of_old), self.values(&of_new)),
        };
        let (next, _) = rotation.source.part.object();
        let turn = Turn {
            phase,
            secret: &rotation.name,
            part: &participant.part,
            // What the setter says now may be another value than was sealed when it was first asked.
            old: old.or(known_old
                .as_ref()
                .filter(|_| phase != Phase::Create || participant.part.kind() != PartKind::Setter)),
            new: new.as_ref().filter(|_| phase != Phase::Create),
            user: rotation.former.as_ref().filter(|_| phase != Phase::Create).map(|_| next),
            seen: &seen,
            consumers: &consumers,
        };
        let work = async {
            let cx = self.engine.cx(self.seed()?);
            let link = self.connected(&mut lent, participant, &cx).await?;
            let what = format!("{place}: {phase} of secret {}", rotation.name);
            self.engine.in_time(&what, PATIENCE, link.rotate(&turn, &cx)).await?.map_err(Halt::Place)
        };
        let taken = self.in_turn(&participant.place, work).await;
        fail::fail_point!("rotate::taken");
        match taken {
            Ok(taken) => {
                if let (Phase::Set, PartKind::Setter, Some(value)) = (phase, participant.part.kind(), &taken.value) {
                    self.seal_known(&of_new, Which::New, value.clone()).await?;
                    fail::fail_point!("rotate::adopted");
                }
                let mut events = Vec::new();
                if taken.seen != Seen::default() {
                    events.push(Event::SecretSeen { door: rotation.keeps(participant), step: own, seen: taken.seen });
                }
                events.push(Event::StepDone { step: step.id, outcome: taken.outcome });
                self.recorder.record(events).await?;
                self.note(taken.findings).await?;
                Ok(Turned::Done(taken.value))
            }
            Err(Halt::Place(fault)) => {
                // The connection may be in the middle of something: whoever comes next gets a new one.
                lent.link = None;
                drop(lent);
                self.failed(chain, index, phase, fault).await?;
                Ok(Turned::Failed)
            }
            Err(journal) => Err(journal),
        }
    }

    /// The connection that is lent, made if it has to be.
    async fn connected<'l>(
        &self,
        lent: &'l mut Lent,
        participant: &Participant,
        cx: &Cx,
    ) -> Result<&'l mut Box<dyn Link>, Halt> {
        match &mut lent.link {
            Some(link) => Ok(link),
            none => Ok(none.insert(self.reach(participant, cx).await?)),
        }
    }

    /// Connects to a participant's place. Where somebody leaves, a place counts as reached only when it was walked for that.
    async fn reach(&self, participant: &Participant, cx: &Cx) -> Result<Box<dyn Link>, Halt> {
        let (connector, place) = (&*participant.connector, &participant.place);
        if !self.is_of_a_secret() {
            return Ok(self.engine.open(connector, place, cx).await?);
        }
        let opened = self.open(connector, place, cx).await;
        if let Err(Halt::Place(fault)) = &opened {
            self.unreached(&place.id, fault.clone()).await?;
        }
        opened
    }

    async fn failed(&self, chain: &Chain<'_>, index: usize, phase: Phase, fault: Fault) -> Result<(), Halt> {
        let rotation = &chain.rotation;
        let participant = rotation.numbered(index);
        let step = rotation.step(participant, phase);
        let last = !fault.is_transient();
        if last {
            self.give_step_up(&step.id);
        }
        let planned = Event::Planned { stage: chain.stage.clone(), steps: vec![step.clone()] };
        self.recorder.record(vec![planned, Event::StepFailed { step: step.id, fault, last }]).await
    }

    /// Says which rotations have stopped half way: what is set, and what is not.
    pub(in crate::engine) async fn note_half_rotated(&self) -> Result<(), Halt> {
        let mut findings = Vec::new();
        for rotation in self.rotations().into_iter().flatten() {
            let half = self.recorder.read(|s| {
                let left = rotation.left(s, &PHASES[1..]).filter(|_| rotation.is_begun(s));
                left.map(|(phase, participant)| (phase, participant.name()))
            });
            if let Some((phase, name)) = half {
                findings.push(finding(
                    FindingKind::Unknown,
                    Some(&rotation.source),
                    format!("secret {} is half rotated: `{phase}` of {name} is not done; the old and the new value are kept sealed", rotation.name),
                    &format!("mend what its step says, then: offboard resume {}; or waive that step: then the rotation goes on without it", self.recorder.run()),
                ));
            }
        }
        self.note(findings).await
    }

    /// Refuses what would destroy values that may be needed still: of a rotation that has begun to set the new one and is not finished,
    /// nobody else has it. By the record alone: the secret may be gone from the configuration.
    pub(in crate::engine) fn nothing_half_rotated(&self) -> Result<(), Fault> {
        let Some(what) = self.recorder.read(half_rotated) else { return Ok(()) };
        let run = self.recorder.run();
        Err(Fault::new(
            FaultKind::Protected,
            "this cannot be the last look: it would destroy the sealed values of shared secrets",
        )
        .because(format!("a rotation is half done, and nobody else has its values: {what} is not done"))
        .hint(format!("offboard resume {run}; or mend it by hand, waive that step, and look again")))
    }

    /// What is known of secrets whose doors are at the place.
    pub(in crate::engine) fn known_secrets(&self, place: &PlaceId) -> Vec<KnownSecret> {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        self.recorder.read(|s| {
            let here = secrets.iter().filter(|(door, _)| s.doors.get(door).is_some_and(|d| d.door.place == *place));
            here.map(|(door, (old, new))| KnownSecret {
                door: door.clone(),
                old: old.clone(),
                new: new.clone(),
                before: s
                    .secrets
                    .get(door)
                    .and_then(|secret| secret.seen.values().find_map(|seen| seen.before.clone())),
                source: s
                    .doors
                    .get(door)
                    .and_then(|d| self.engine.secrets.get(&SecretName(d.door.object.clone()))?.source.part()),
            })
            .collect()
        })
    }

    /// The old and the new value of a door, as far as they are known.
    pub(super) fn values(&self, door: &DoorId) -> Values {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(door).cloned().unwrap_or_default()
    }

    pub(super) fn know(&self, door: &DoorId, old: Option<SecretString>, new: Option<SecretString>) {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(door.clone(), (old, new));
    }

    /// Takes up what an earlier process has sealed.
    pub(in crate::engine) async fn unseal_secrets(&self) -> Result<(), Halt> {
        for door in self.recorder.read(|s| s.secrets.keys().cloned().collect::<Vec<_>>()) {
            let (old, new) = self.recorder.unseal_secret(&door).await?;
            self.know(&door, old, new);
        }
        Ok(())
    }
}

pub(super) fn finding(kind: FindingKind, source: Option<&Participant>, what: String, hint: &str) -> Finding {
    Finding {
        kind,
        place: source.map(|source| source.place.id.clone()),
        account: source.map(|source| source.part.object().0.to_string()),
        what,
        hint: hint.to_string(),
    }
}
