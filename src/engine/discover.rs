//! What the leaver can open at one place: every account and door that matching says is theirs.

use super::{Halt, Run, guard};
use crate::connector::{Link, Scope};
use crate::model::{
    Account, CouldRead, Event, Fault, FaultKind, Finding, FindingKind, MatchRule, Owner, Person, PersonId, Place,
    Undeclared,
};
use crate::roster::Matcher;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// So many files with undeclared passwords are named at a place.
const UNDECLARED_TOLD: usize = 10;

/// Of a matched account, what concerns the leaver: the account itself if it is theirs, otherwise only their own doors in it.
/// Nothing if nothing does.
pub(super) fn concerning(mut account: Account, leaver: &PersonId) -> Option<Account> {
    let theirs = account.owner.person() == Some(leaver);
    if theirs {
        // Everything that opens the leaver's own account is shut with it, also what somebody else holds; but never our own key.
        account.doors.retain(|d| d.holder != Owner::Ourselves);
        for door in &mut account.doors {
            if door.holder.person() != Some(leaver) {
                door.holder = Owner::Person { id: leaver.clone(), rule: MatchRule::OwnAccount };
            }
        }
        return Some(account);
    }
    account.doors.retain(|d| d.holder.person() == Some(leaver));
    if account.doors.is_empty() {
        return None;
    }
    Some(account)
}

/// Of what the accounts of a place could read, what concerns the leaver: `accounts` are those that do.
pub(super) fn could_read(all: Vec<CouldRead>, accounts: &[Account], leaver: &PersonId) -> Vec<CouldRead> {
    all.into_iter().filter_map(|found| by_leaver(found, accounts, leaver)).collect()
}

fn by_leaver(mut found: CouldRead, accounts: &[Account], leaver: &PersonId) -> Option<CouldRead> {
    let account = accounts.iter().find(|a| a.place == found.place && a.native_id == found.account)?;
    found.own = account.owner.person() == Some(leaver);
    Some(found)
}

/// What a person should know of passwords that nobody declared and that the leaver could read at a place; nothing if there are none.
pub(super) fn undeclared(
    all: Vec<Undeclared>,
    place: &Place,
    accounts: &[Account],
    leaver: &PersonId,
) -> Option<Finding> {
    let mut files: BTreeMap<String, (String, Vec<CouldRead>)> = BTreeMap::new();
    for one in all {
        if let Some(read) = by_leaver(one.read, accounts, leaver) {
            files.entry(read.file.clone()).or_insert_with(|| (one.holds, Vec::new())).1.push(read);
        }
    }
    let mut told: Vec<String> = Vec::new();
    for (holds, read) in files.values().take(UNDECLARED_TOLD) {
        told.push(format!("{holds}: {}", CouldRead::reasons(read, &place.address).join("; ")));
    }
    if files.len() > told.len() {
        told.push(format!("and {} more files", files.len() - told.len()));
    }
    (!told.is_empty()).then(|| Finding {
        kind: FindingKind::NotCovered,
        place: Some(place.id.clone()),
        account: None,
        what: format!("the leaver may know passwords that offboard.yaml does not declare: {}", told.join(" | ")),
        hint: "declare each under `secrets` in offboard.yaml, then: offboard rotate NAME; or change it by hand".into(),
    })
}

/// What records an account; the journal seals its before-image in the same commit.
pub(super) fn found(account: Account) -> Event {
    Event::Found { account: Box::new(account), facts: None }
}

/// What a person should know of a matched account before the run leaves it as it is.
pub(super) fn left_alone(matcher: &Matcher, account: &Account, leaver: &Person) -> Vec<Finding> {
    let mut findings = matcher.findings(account, leaver);
    let ways_in = account.doors.iter().filter(|d| d.holder.person() == Some(&leaver.id)).count();
    if ways_in > 0 && !guard::may_touch(account) {
        findings.push(Finding {
            kind: FindingKind::Protected,
            place: Some(account.place.clone()),
            account: Some(account.native_id.clone()),
            what: format!("the leaver holds {ways_in} way(s) into {:?}, which is never touched", account.name),
            hint: "take them out by hand, then: offboard verify".into(),
        });
    }
    findings
}

impl Run<'_> {
    /// Asks the place for everything in scope, records what is new, and learns the leaver's keys from it. With `baseline` it also
    /// records that the place is reached, and what it looks like now: only a run that begins may, since what appears from then on is put down to the leaver.
    pub(super) async fn discover(
        &self,
        link: &mut dyn Link,
        place: &Place,
        baseline: bool,
    ) -> Result<Vec<Account>, Halt> {
        let person = self.person()?;
        let scope = Scope::People(vec![self.engine.wanted(&person, &self.learned)]);
        let mut seen = Vec::new();
        // What a rotation of ours has set there is not what the leaver has planted.
        link.keep(self.known_secrets(&place.id));
        {
            let mut stream = link.discover(&scope);
            while let Some(next) = self.engine.in_time(&format!("{}: discovering", place.id), 6, stream.next()).await? {
                let mut account = next?;
                self.engine.matcher.assign(&mut account, &self.learned);
                self.learn(&account);
                seen.push(account);
            }
        }
        let mut accounts = Vec::new();
        let mut findings = Vec::new();
        // Once more, with all that this place has taught: a colleague's key that the leaver has put into an account of their own is
        // known to be the colleague's only when the colleague's account has been seen, too.
        for mut account in seen {
            self.engine.matcher.assign(&mut account, &self.learned);
            findings.extend(left_alone(&self.engine.matcher, &account, &person));
            accounts.extend(concerning(account, &person.id));
        }
        findings.extend(link.findings());
        let mut events: Vec<Event> = self.reached(place).filter(|_| baseline).into_iter().collect();
        events.extend(self.noting(findings));
        if let Some(seen) =
            link.baseline().filter(|_| baseline && self.recorder.read(|s| !s.baselines.contains_key(&place.id)))
        {
            events.push(Event::Baseline { place: place.id.clone(), seen });
        }
        let mut found_out = could_read(link.could_read(), &accounts, &person.id);
        self.recorder.read(|s| found_out.retain(|one| !s.could_read.contains(one)));
        if !found_out.is_empty() {
            events.push(Event::CouldRead { found: found_out });
        }
        let admitted = self.within_limits(&accounts);
        if admitted.is_ok() {
            let news: Vec<Account> = self.recorder.read(|s| {
                let is_news = |a: &&Account| match s.accounts.get(&(a.place.clone(), a.native_id.clone())) {
                    None => true,
                    Some(_) => a.doors.iter().any(|d| !s.doors.contains_key(&d.id)),
                };
                accounts.iter().filter(is_news).cloned().collect()
            });
            events.extend(news.into_iter().map(found));
        }
        // In one commit.
        self.recorder.record(events).await?;
        admitted?;
        Ok(accounts)
    }

    /// The playbook's limit on accounts, over all places of the run. Once it is passed nothing more is touched, at any place.
    fn within_limits(&self, accounts: &[Account]) -> Result<(), Halt> {
        let limit = self.playbook.limits.accounts as usize;
        // Places are discovered at the same time: an account counts from here on, not from when it is on record.
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = accounts.iter().map(|a| (a.place.clone(), a.native_id.clone()));
        let fresh: Vec<_> = keys.filter(|key| !admitted.contains(key)).collect();
        let count = admitted.len() + fresh.len();
        if !fresh.is_empty() && count > limit {
            let fault = Fault::new(FaultKind::Protected, format!("the run would touch {count} accounts or more"))
                .because(format!("the playbook's limit is {limit}"))
                .hint("offboard plan lists them; if that many is right, raise limits.accounts in the playbook and start a new run; if not, offboard restore takes back what was done");
            return Err(self.over_limit.get_or_init(|| fault).clone().into());
        }
        admitted.extend(fresh);
        Ok(())
    }

    /// Whether anything may still be touched.
    ///
    /// # Errors
    /// The limit was passed, here or elsewhere.
    pub(super) fn may_go_on(&self) -> Result<(), Fault> {
        self.over_limit.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }
}
