//! All rotations of a run, beside everything else that it does: one that waits for its overlap, or for a consumer that is not well, holds up neither
//! another secret nor a place that is to be tried again.

use super::chain::finding;
use super::links::Links;
use super::{Evidence, Rotation, stage_for};
use crate::engine::{Halt, Run};
use crate::model::{Fault, FindingKind, Person, SecretName, Subject};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use tokio::time::Instant;

/// The rotations of a run.
pub(in crate::engine) struct Rotations<'r> {
    run: &'r Run<'r>,
    links: &'r Links,
    act_until: Instant,
    begun: BTreeSet<SecretName>,
    under_way: BTreeSet<SecretName>,
    chains: FuturesUnordered<BoxFuture<'r, (SecretName, Result<(), Halt>)>>,
}

impl<'r> Rotations<'r> {
    /// None yet. What fails is tried again until `act_until`.
    pub fn new(run: &'r Run<'r>, links: &'r Links, act_until: Instant) -> Self {
        Self {
            run,
            links,
            act_until,
            begun: BTreeSet::new(),
            under_way: BTreeSet::new(),
            chains: FuturesUnordered::new(),
        }
    }

    /// Begins with every secret that the leaver may know by what is on record now, unless it was begun before.
    pub async fn begin(&mut self) -> Result<(), Halt> {
        let (mut left, run) = (Vec::new(), self.run);
        for rotation in run.rotations() {
            let rotation = match rotation {
                Ok(rotation) => rotation,
                Err(fault) => {
                    let hint = "correct offboard.yaml, then: offboard resume";
                    left.push(finding(FindingKind::Unknown, None, fault.to_string(), hint));
                    continue;
                }
            };
            let Some(stage) = stage_for(&run.playbook, &*rotation.source.connector) else {
                left.push(finding(
                    FindingKind::NotCovered,
                    Some(&rotation.source),
                    format!("the leaver may know the secret {} ({}), and this playbook does not rotate it", rotation.name, rotation.why.join(", ")),
                    "add { do: rotate, to: shared-secrets, where: { known-to: leaver } } to the playbook, or change it by hand",
                ));
                continue;
            };
            let name = rotation.name;
            if self.begun.insert(name.clone()) {
                self.under_way.insert(name.clone());
                let (links, act_until) = (self.links, self.act_until);
                self.chains.push(Box::pin(async move {
                    let done = run.persist_rotation(&name, &stage, links, act_until).await;
                    (name, done)
                }));
            }
        }
        run.note(left).await
    }

    /// Waits until one has come to its end, or to where it stays; nothing if there is none.
    pub async fn next(&mut self) -> Option<Result<(), Halt>> {
        let (name, done) = self.chains.next().await?;
        self.under_way.remove(&name);
        Some(done)
    }

    /// Goes on with all of them while `work` is done.
    pub async fn beside(&mut self, work: impl Future<Output = Result<(), Halt>>) -> Result<(), Halt> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(rotated) = self.next() => rotated?,
            }
        }
    }

    /// The secrets that are being rotated.
    pub fn under_way(&self) -> &BTreeSet<SecretName> {
        &self.under_way
    }
}

impl Run<'_> {
    /// The secrets that the leaver may know by what is on record; or the one that the run is about.
    pub(in crate::engine::rotate) fn rotations(&self) -> Vec<Result<Rotation, Fault>> {
        let (subject, now) = self.recorder.read(|s| (s.request.subject.clone(), Evidence::of(s)));
        let rotations = match subject {
            Subject::Person(leaver) => {
                let before = self.found_before.lock().unwrap_or_else(PoisonError::into_inner);
                self.engine.known_to(&leaver, &now, &before)
            }
            Subject::Secret(asked) => vec![self.engine.rotation_of(&asked.name, vec![asked.why])],
        };
        // Which of two accounts programs leave is settled once they were asked.
        let turned = |mut rotation: Rotation| {
            if let Some(user) = self.recorder.read(|s| rotation.users(s)).into_iter().next() {
                rotation.turn_to(&user);
            }
            rotation
        };
        rotations.into_iter().map(|rotation| rotation.map(turned)).collect()
    }

    pub(super) fn leaver(&self) -> Option<Person> {
        self.recorder.read(|s| s.request.person().cloned())
    }
}
