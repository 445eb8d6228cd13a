//! Gives access back: the inverse of what a run did, always a person's decision. Old secrets stay dead.

use super::{Halt, Run};
use crate::model::{Actor, Event, Fault, FaultKind, Place, Restored, Step, StepId, Undo};
use secrecy::SecretString;
use std::collections::BTreeMap;

/// Takes a new password to whoever is to have it.
pub type HandOver<'a> = &'a (dyn Fn(&Step, &SecretString) -> Result<(), Fault> + Sync);

/// What came of taking one step back.
pub struct Undone {
    /// The step.
    pub step: Step,
    /// What was given back, or why not.
    pub result: Result<Restored, Fault>,
}

impl Run<'_> {
    /// Takes back the steps that were done and can be taken back, or only `only`. Every new password goes to `hand_over` before it is on
    /// record that access was given back.
    ///
    /// # Errors
    /// [`Halt`] if the journal or `hand_over` fails, or if `only` names no such step.
    pub async fn restore(
        &self,
        only: Option<&StepId>,
        by: &Actor,
        hand_over: HandOver<'_>,
    ) -> Result<Vec<Undone>, Halt> {
        let mut by_place: BTreeMap<_, Vec<(Step, Option<_>)>> = BTreeMap::new();
        self.recorder.read(|s| {
            // The last change first: memberships come back before the account opens.
            for state in s.steps.iter().rev().filter(|s| s.is_done() && s.step.reversible && s.restored.is_none()) {
                if only.is_none_or(|id| *id == state.step.id) {
                    let account = s.accounts.get(&(state.step.place.clone(), state.step.account.clone())).cloned();
                    by_place.entry(state.step.place.clone()).or_default().push((state.step.clone(), account));
                }
            }
        });
        if let (Some(id), true) = (only, by_place.is_empty()) {
            return Err(Fault::new(FaultKind::Misconfigured, format!("step {id} cannot be taken back"))
                .because("it was not done, was taken back already, or is irreversible")
                .hint(format!("offboard status {} lists the steps", self.recorder.run()))
                .into());
        }
        let mut undone = Vec::new();
        for (connector, place) in self.engine.places() {
            let Some(steps) = by_place.remove(&place.id) else { continue };
            let mut undo = Vec::new();
            for (step, account) in steps {
                let image = match &account {
                    Some((account, Some(sealed))) => {
                        Some((account, self.recorder.facts(sealed).await?)).filter(|(_, facts)| !facts.is_null())
                    }
                    _ => None,
                };
                match image {
                    Some((account, facts)) => {
                        let mut account = account.clone();
                        account.facts = facts;
                        undo.push(Undo { step, account });
                    }
                    None => undone.push(Undone {
                        result: Err(Fault::new(
                            FaultKind::Misconfigured,
                            format!("{}: step {} cannot be taken back", place.id, step.id),
                        )
                        .because("its before-image is no longer kept")),
                        step,
                    }),
                }
            }
            undone.extend(self.restore_at(&*connector, &place, undo, by, hand_over).await?);
        }
        Ok(undone)
    }

    async fn restore_at(
        &self,
        connector: &dyn crate::connector::Connector,
        place: &Place,
        undo: Vec<Undo>,
        by: &Actor,
        hand_over: HandOver<'_>,
    ) -> Result<Vec<Undone>, Halt> {
        // No witness is set or tried here.
        let cx = self.engine.cx(self.seed.clone().unwrap_or_else(|| vec![0; 32].into()));
        let results = match self.engine.open(connector, place, &cx).await {
            Ok(mut link) => {
                // On record before the first byte goes out: whatever happens then, these doors are not called shut any more.
                let event = |u: &Undo| Event::Restoring { step: u.step.id.clone(), by: by.clone() };
                self.recorder.record(undo.iter().map(event).collect()).await?;
                let restoring = link.restore(&undo, &cx);
                let hung = |fault: Fault| undo.iter().map(|_| Err(fault.clone())).collect();
                self.engine.in_time(&format!("{}: giving back", place.id), 10, restoring).await.unwrap_or_else(hung)
            }
            Err(fault) => undo.iter().map(|_| Err(fault.clone())).collect(),
        };
        let mut undone = Vec::new();
        for (undo, result) in undo.into_iter().zip(results) {
            if let Ok(restored) = &result {
                if let Some(password) = &restored.one_time_password {
                    hand_over(&undo.step, password)?;
                }
                let event = Event::Restored { step: undo.step.id.clone(), note: restored.note.clone(), by: by.clone() };
                self.recorder.record(vec![event]).await?;
            }
            undone.push(Undone { step: undo.step, result });
        }
        Ok(undone)
    }
}
