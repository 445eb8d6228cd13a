//! What people are asked to do by hand: recorded beside everything else, done by nobody here, closed by a person. No connector is
//! asked, and nothing waits for it but the run's verdict.

use super::{Engine, Halt, Run};
use crate::model::{Actor, Event, Evidence, Fault, FaultKind, Finding, FindingKind, Person, Step, StepId};
use crate::playbook::{Asked, Playbook};
use jiff::Timestamp;
use std::time::Duration;

/// Something that the playbook asks of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftAsk {
    /// The playbook's stage.
    pub stage: String,
    /// Whom: a mail address; nothing if nobody is known who could be asked.
    pub owner: Option<String>,
    /// As the playbook says it: `manager`, or the address.
    pub of: String,
    /// What is to be done.
    pub what: String,
    /// How long it may take.
    pub within: Duration,
}

impl DraftAsk {
    fn step(&self, started: Timestamp) -> Step {
        let due = started.checked_add(self.within).unwrap_or(Timestamp::MAX);
        Step::by_hand(&self.stage, &self.of, self.owner.as_deref().unwrap_or(&self.of), self.what.trim(), due)
    }

    /// What somebody should know who reads that nobody is asked.
    fn finding(&self, person: &Person) -> Option<Finding> {
        let hint = match self.of.as_str() {
            "manager" => format!(
                "tell somebody who can do it, then close it; and give {} a manager with a mail address in the roster",
                person.id
            ),
            _ => "tell somebody else who can do it, then close it".to_string(),
        };
        self.owner.is_none().then(|| Finding {
            kind: FindingKind::Configuration,
            place: None,
            account: None,
            what: format!("nobody can be asked by mail to do this by hand ({}): {}", self.of, self.what.trim()),
            hint,
        })
    }
}

impl Engine {
    /// What `playbook` asks of people when `person` leaves. The leaver is never the one who is asked.
    pub fn asks(&self, playbook: &Playbook, person: &Person) -> Vec<DraftAsk> {
        let mut asks = Vec::new();
        for stage in &playbook.stages {
            for rule in &stage.steps {
                let (Some(of), Some(what), Some(within)) = (&rule.of, &rule.what, rule.within) else { continue };
                let owner = match of {
                    Asked::Manager => self.matcher.manager_of(person).and_then(|manager| manager.email.clone()),
                    Asked::Mail(address) => Some(address.to_string()),
                };
                let is_leaver =
                    |owner: &String| person.email.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(owner));
                asks.push(DraftAsk {
                    stage: stage.stage.clone(),
                    owner: owner.filter(|owner| !is_leaver(owner)),
                    of: of.to_string(),
                    what: what.clone(),
                    within: within.duration(),
                });
            }
        }
        asks
    }
}

impl Run<'_> {
    /// Puts on record what people are asked to do, each thing once: after the first attempt at everything else, so that it delays
    /// nothing, and not for a run that a guard has stopped.
    pub(super) async fn ask(&self) -> Result<(), Halt> {
        if self.is_refused() {
            return Ok(());
        }
        let person = self.person()?;
        let started = self.recorder.read(|s| s.started).unwrap_or_else(|| self.recorder.now());
        let asks = self.engine.asks(&self.playbook, &person);
        let mut events = Vec::new();
        for ask in &asks {
            let step = ask.step(started);
            // One that was recorded before, but never begun, is begun now.
            let known = self.recorder.read(|s| s.step(&step.id).map(|known| known.attempts));
            if known.is_none() {
                events.push(Event::Planned { stage: ask.stage.clone(), steps: vec![step.clone()] });
            }
            if known.unwrap_or(0) == 0 {
                events.push(Event::StepStarted { step: step.id, attempt: 1 });
            }
        }
        self.recorder.record(events).await?;
        self.note(asks.iter().filter_map(|ask| ask.finding(&person)).collect()).await
    }

    /// Closes a manual step: somebody says that it is done, and with what that is shown.
    ///
    /// # Errors
    /// [`Halt`] if there is no such step, or it is closed or given up already; or if the journal cannot be written.
    pub async fn close(
        &self,
        step: &StepId,
        note: Option<String>,
        evidence: Option<Evidence>,
        by: Actor,
    ) -> Result<(), Halt> {
        self.may_close(step)?;
        self.recorder.record(vec![Event::Closed { step: step.clone(), note, evidence, by }]).await?;
        self.end_again().await.map(|_| ())
    }

    /// Whether a step waits to be closed by a person.
    ///
    /// # Errors
    /// Why it does not.
    pub fn may_close(&self, step: &StepId) -> Result<(), Fault> {
        let run = self.recorder.run();
        let cannot = |what: String| Fault::new(FaultKind::Misconfigured, what);
        self.recorder.read(|s| match s.step(step) {
            Some(known) if known.is_asked() => Ok(()),
            Some(known) if !known.step.is_by_hand() => Err(cannot(format!(
                "step {step} of run {run} is not done by hand: {} on {}",
                known.step.action, known.step.place
            ))
            .hint(format!("offboard resume {run} tries it again; offboard waive {run} {step} --why … gives it up"))),
            Some(known) => Err(match (&known.closed, &known.waived) {
                (Some(closed), _) => cannot(format!("step {step} of run {run} was closed before"))
                    .because(format!("by {}, on {}", closed.by.name, closed.at)),
                (None, Some(waived)) => cannot(format!("step {step} of run {run} was given up before"))
                    .because(format!("by {}, on {}", waived.by.name, waived.at)),
                (None, None) => cannot(format!("step {step} of run {run} is done")),
            }),
            None => {
                let open: Vec<_> = s.steps.iter().filter(|s| s.is_asked()).map(|s| s.step.id.0.as_str()).collect();
                let hint = match open.as_slice() {
                    [] => format!("nothing waits for a person in run {run}"),
                    open => format!("these wait for a person: {}", open.join(", ")),
                };
                Err(cannot(format!("run {run} has no step {:?}", step.0)).hint(hint))
            }
        })
    }
}
