//! From accounts to steps: the playbook says which actions, the connectors say how, the guard says what not.

use super::discover::{concerning, could_read, left_alone, undeclared};
use super::rotate::Evidence;
use super::{Engine, Halt, Run, guard};
use crate::connector::{Connector, Scope};
use crate::model::{
    Account, Action, CouldRead, DoorKind, Fault, Finding, Person, PersonId, Place, RunState, Step, StepId, Undeclared,
    Verdict,
};
use crate::playbook::Playbook;
use futures::StreamExt;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a run would do, drawn without touching anything.
pub struct Draft {
    /// Place by place.
    pub places: Vec<DraftPlace>,
}

/// One place of a draft.
pub struct DraftPlace {
    /// Where.
    pub place: Place,
    /// What was found there, and the steps by stage; or why nobody can say.
    pub found: Result<Vec<Account>, Fault>,
    /// The steps, in order, each with its stage.
    pub steps: Vec<(String, Step)>,
    /// What is left alone, and what to look at.
    pub findings: Vec<Finding>,
}

/// The steps of `playbook` for `accounts`, stage by stage, as the connector plans them; each once, where it comes first: a connector that
/// disables may end the sessions in the same chain.
fn steps(
    playbook: &Playbook,
    connector: &dyn Connector,
    accounts: &[Account],
    leaver: &PersonId,
) -> Vec<(String, Vec<(Account, Step)>)> {
    let family = connector.manifest().family;
    let mut seen = BTreeSet::new();
    playbook
        .stages
        .iter()
        .map(|stage| {
            let mut planned = Vec::new();
            for account in accounts.iter().filter(|a| guard::may_touch(a)) {
                // Rotations go over several systems: see `rotate`.
                let single = |rule: &&crate::playbook::Rule| rule.covers(family) && rule.action != Action::Rotate;
                for rule in stage.steps.iter().filter(single) {
                    for chain in connector.plan(account, leaver, rule.action) {
                        let fresh = chain.into_iter().filter(|step| seen.insert(step.id.clone()));
                        planned.extend(fresh.map(|step| (account.clone(), step)));
                    }
                }
            }
            (stage.stage.clone(), planned)
        })
        .collect()
}

/// Whether a step has to be applied now: it never was, or what it took away is there again. A session door stands for all sessions of an
/// account, live or not: it is ended again if a look since then
/// found it open.
fn is_needed(state: &RunState, account: &Account, step: &Step) -> bool {
    let Some(known) = state.step(&step.id).filter(|s| s.is_done()) else { return true };
    if step.action == Action::Disable {
        return account.enabled;
    }
    let looked_open = |id| {
        let after = state.doors.get(id).and_then(|d| d.after.as_ref());
        after.is_some_and(|(at, look)| known.started_at < Some(*at) && matches!(look.verdict, Verdict::Open { .. }))
    };
    account.doors.iter().filter(|door| step.shuts.contains(&door.id)).any(|door| match door.kind {
        // A revoked certificate is still there to be found.
        DoorKind::Session | DoorKind::Certificate => looked_open(&door.id),
        _ => true,
    })
}

/// Whoever got in again may have a session again: the sessions of an account are ended again after anything else is done to it. In
/// the leaver's own accounts they end right after the disable, before anything slower; in others nothing but the key's end keeps the leaver
/// from coming straight back, so there they end last.
fn with_sessions(planned: Vec<(&Account, &Step, bool)>) -> Vec<Step> {
    let touched: Vec<_> =
        planned.iter().filter(|(_, _, needed)| *needed).map(|(a, ..)| (&a.place, &a.native_id)).collect();
    let is_disabled = |account: &Account| {
        planned.iter().any(|(a, step, _)| {
            step.action == Action::Disable && a.place == account.place && a.native_id == account.native_id
        })
    };
    let (last, mut steps): (Vec<_>, Vec<_>) = planned
        .iter()
        .filter(|(a, step, needed)| {
            *needed || (step.action == Action::EndSessions && touched.contains(&(&a.place, &a.native_id)))
        })
        .partition(|(a, step, _)| step.action == Action::EndSessions && !is_disabled(a));
    steps.extend(last);
    steps.into_iter().map(|(_, step, _)| (*step).clone()).collect()
}

impl Run<'_> {
    /// What has to be done at this place now, by stage; empty when nothing is left to do.
    pub(super) async fn plan(
        &self,
        connector: &dyn Connector,
        place: &Place,
        accounts: &[Account],
    ) -> Result<Vec<(String, Vec<Step>)>, Halt> {
        let leaver = self.person()?.id;
        let given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut stages = self.recorder.read(|state| {
            let allowed =
                |step: &Step| state.step(&step.id).is_none_or(|s| s.waived.is_none()) && !given_up.contains(&step.id);
            steps(&self.playbook, connector, accounts, &leaver)
                .into_iter()
                .map(|(stage, steps)| {
                    let planned = steps.iter().filter(|(_, step)| allowed(step));
                    (stage, with_sessions(planned.map(|(a, s)| (a, s, is_needed(state, a, s))).collect()))
                })
                .collect::<Vec<_>>()
        });
        // A step that was begun and never finished belongs to an account which may be gone by now: it is applied again all the same,
        // and the connector says Absent.
        let open: Vec<(String, Step)> = self.recorder.read(|state| {
            let planned = |id: &StepId| stages.iter().any(|(_, steps)| steps.iter().any(|s| s.id == *id));
            state
                .steps
                .iter()
                .filter(|s| {
                    s.step.place == place.id && !s.is_done() && s.waived.is_none() && s.step.action != Action::Rotate
                })
                .filter(|s| !given_up.contains(&s.step.id) && !planned(&s.step.id))
                .map(|s| (s.stage.clone(), s.step.clone()))
                .collect()
        });
        for (stage, step) in open {
            match stages.iter_mut().find(|(name, _)| *name == stage) {
                Some((_, steps)) => steps.push(step),
                None => stages.push((stage, vec![step])),
            }
        }
        stages.retain(|(_, steps)| !steps.is_empty());
        Ok(stages)
    }

    /// Whether it is the second time that this step fails for a reason which somebody has to mend. The first time may have been the
    /// moment at which somebody else was changing the same thing: a process that was killed, whose commands still go on at the place.
    pub(super) fn is_hopeless(&self, step: &StepId) -> bool {
        !self.doubted.lock().unwrap_or_else(PoisonError::into_inner).insert(step.clone())
    }

    /// A step that cannot succeed until somebody mends something is not tried again before `resume`.
    pub(super) fn give_step_up(&self, step: &StepId) {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).insert(step.clone());
    }
}

impl Engine {
    /// Everything `person` can open, and what `playbook` would do about it. Touches nothing, and records nothing. A second pass over
    /// the places looks for keys that the first one learned.
    pub async fn draft(&self, person: &Person, playbook: Option<&Playbook>) -> Draft {
        let learned = &self.matcher.nothing_learned();
        let mut places = Vec::new();
        let mut read: Vec<CouldRead> = Vec::new();
        for _ in 0..2 {
            let news = &AtomicBool::new(false);
            let drafts = join_all(self.places().into_iter().map(|(connector, place)| {
                let scope = Scope::People(vec![self.wanted(person, learned)]);
                async move {
                    let mut findings = Vec::new();
                    let mut read = Vec::new();
                    let found = self.inventory(&*connector, &place, &scope).await.map(|inventory| {
                        let mut mine = Vec::new();
                        findings.extend(inventory.findings);
                        for mut account in inventory.accounts {
                            self.matcher.assign(&mut account, learned);
                            news.fetch_or(learned.learn(&account), Ordering::SeqCst);
                            findings.extend(left_alone(&self.matcher, &account, person));
                            mine.extend(concerning(account, &person.id));
                        }
                        read = could_read(inventory.could_read, &mine, &person.id);
                        findings.extend(undeclared(inventory.undeclared, &place, &mine, &person.id));
                        mine
                    });
                    let accounts = found.as_deref().unwrap_or_default();
                    let planned = playbook.map(|p| steps(p, &*connector, accounts, &person.id)).unwrap_or_default();
                    let steps = planned
                        .into_iter()
                        .flat_map(|(stage, steps)| steps.into_iter().map(move |(_, s)| (stage.clone(), s)))
                        .collect();
                    (DraftPlace { place, found, steps, findings }, read)
                }
            }))
            .await;
            let (drafted, all): (Vec<_>, Vec<_>) = drafts.into_iter().unzip();
            (places, read) = (drafted, all.into_iter().flatten().collect());
            if !news.load(Ordering::SeqCst) {
                break;
            }
        }
        let accounts = places.iter().filter_map(|place| place.found.as_ref().ok()).flatten();
        let found = Evidence::new(accounts.flat_map(|account| &account.doors), read);
        for (account, steps) in self.draft_rotations(person, playbook, &found) {
            for draft in &mut places {
                draft.steps.extend(steps.iter().filter(|(_, step)| step.place == draft.place.id).cloned());
            }
            let at = places.iter_mut().find(|draft| draft.place.id == account.place);
            if let Some(found) = at.and_then(|draft| draft.found.as_mut().ok()) {
                match found.iter_mut().find(|known| known.native_id == account.native_id) {
                    Some(known) => known.doors.extend(account.doors),
                    None => found.push(account),
                }
            }
        }
        Draft { places }
    }

    /// Everything one system holds, with its owner.
    pub async fn inventory_of(&self, connector: &dyn Connector, place: &Place) -> Result<Vec<Account>, Fault> {
        let mut accounts = self.inventory(connector, place, &Scope::Everything).await?.accounts;
        for account in &mut accounts {
            self.matcher.assign(account, &self.matcher.nothing_learned());
        }
        Ok(accounts)
    }

    async fn inventory(&self, connector: &dyn Connector, place: &Place, scope: &Scope) -> Result<Inventory, Fault> {
        // No witness is ever derived here: nothing is applied.
        let cx = self.cx(vec![0; 32].into());
        let mut link = self.open(connector, place, &cx).await?;
        let mut accounts = Vec::new();
        {
            let mut stream = link.discover(scope);
            while let Some(next) = self.in_time(&format!("{}: discovering", place.id), 6, stream.next()).await? {
                accounts.push(next?);
            }
        }
        let (findings, could_read) = (link.findings(), link.could_read());
        Ok(Inventory { accounts, findings, could_read, undeclared: self.undeclared(&mut *link).await })
    }
}

/// What a place says of what is sought there.
struct Inventory {
    accounts: Vec<Account>,
    findings: Vec<Finding>,
    could_read: Vec<CouldRead>,
    undeclared: Vec<Undeclared>,
}
