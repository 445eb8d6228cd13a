//! Whether a door is shut. Nothing here changes anything.

use super::keys::keys;
use super::link::{DirectoryLink, LockKind};
use super::lock::{Password, State};
use super::monitor::{StillBound, reopens};
use super::objects::Membership;
use crate::connector::Cx;
use crate::model::{Door, Fault, Look, Proof, Verdict};
use crate::wire::ldap::{Code, Entry, Found, PolicyError, Reply, Scope, normal_dn, parent_dn};

/// The password policies that we can see.
#[derive(Default)]
pub(super) struct Policies(pub Vec<Entry>);

impl Policies {
    /// Whether an attribute is TRUE in the policy that applies: the one that the entry names, or else in every one, since which
    /// of them is the default stands in the server's configuration.
    fn all_say(&self, named: Option<&str>, attribute: &str) -> bool {
        let named = named.map(normal_dn);
        let mut applying = self.0.iter().filter(|p| named.as_ref().is_none_or(|n| *n == normal_dn(&p.dn))).peekable();
        applying.peek().is_some() && applying.all(|p| is_true(p, attribute))
    }
}

pub(super) fn is_true(entry: &Entry, attribute: &str) -> bool {
    entry.text(attribute).is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

/// Everything that a look at a password saw.
struct Seen<'a> {
    state: State,
    /// The witness login, if it was tried.
    login: Option<&'a Reply>,
    /// The policy that applies heeds the lock.
    heeded: bool,
    kind: LockKind,
}

impl DirectoryLink {
    /// The password policies of all naming contexts.
    pub(super) async fn policies(&mut self) -> Result<&Policies, Fault> {
        if self.policies.is_none() {
            let mut seen = Vec::new();
            for base in self.root.contexts.clone() {
                let attributes = ["pwdLockout", "pwdMaxFailure", "pwdMustChange", "pwdSafeModify", "pwdAllowUserChange"];
                let mut search =
                    self.search(&base, Scope::Subtree, "(objectClass=pwdPolicy)", &attributes, None).await?;
                while let Some(found) = search.next().await? {
                    if let Found::Entry(policy) = found {
                        seen.push(policy);
                    }
                }
            }
            self.policies = Some(Policies(seen));
        }
        Ok(self.policies.get_or_insert_default())
    }

    /// Whether the policy that applies to the entry says so, as far as we can see.
    async fn policy_says(&mut self, account: &str, attribute: &str) -> bool {
        let named = match self.read(account, &["pwdPolicySubentry"]).await {
            Ok(Some(entry)) => entry.text("pwdPolicySubentry"),
            _ => return false,
        };
        self.policies().await.is_ok_and(|p| p.all_say(named.as_deref(), attribute))
    }

    pub(super) async fn must_change(&mut self, account: &str) -> bool {
        self.policy_says(account, "pwdMustChange").await
    }

    pub(super) async fn look_at_password(
        &mut self,
        door: &Door,
        after: bool,
        control: &mut Option<Result<String, String>>,
        cx: &Cx,
    ) -> Result<Look, Fault> {
        let witness = self.witness(&door.account, cx);
        let Some(state) = self.state(&door.account, &witness).await? else {
            return self.vanished(&door.account).await;
        };
        let heeded = match self.lock_kind() {
            LockKind::Policy => self.policy_says(&door.account, "pwdLockout").await,
            LockKind::NsAccountLock => true,
            LockKind::Nothing => false,
        };
        // A replica that was locked before this one has handed the lock on; then it can be tried already.
        let try_it = state.password != Password::Gone && (after || state.password == Password::Witness);
        let login = if try_it { Some(self.try_login(&door.account, &witness.password).await?) } else { None };
        let verdict = verdict(&Seen { state, login: login.as_ref(), heeded, kind: self.lock_kind() });
        if !matches!(verdict, Verdict::Shut { .. }) {
            return Ok(Look { verdict, control: None, residual: None });
        }
        let control = match control {
            Some(known) => known.clone(),
            None => control.insert(self.control_gets_in().await).clone(),
        };
        let who = match control {
            Ok(who) => who,
            Err(why) => return Ok(Look::unproven(why)),
        };
        // Only the overlay heeds a policy. Without pwdSafeModify whoever is bound may set a password, which deletes the lock.
        let safe = self.lock_kind() == LockKind::Policy && self.policy_says(&door.account, "pwdSafeModify").await;
        match self.still_bound(&door.account).await {
            StillBound::Nobody => Ok(Look { verdict, control: Some(who), residual: None }),
            StillBound::From(peers) if !safe => Ok(Look::unproven(reopens(&peers))),
            bound => Ok(Look { verdict, control: Some(who), residual: Some(bound.residual()) }),
        }
    }

    /// An entry that is hidden from us looks like one that is gone. It is gone if we still see what stands beside it.
    pub(super) async fn vanished(&mut self, account: &str) -> Result<Look, Fault> {
        let reply = format!("there is no entry {account} any more");
        let above = parent_dn(account).unwrap_or_default().to_string();
        let accounts = self.shared().settings.accounts.clone();
        let mut search = self.search(&above, Scope::OneLevel, &accounts, &["objectClass"], None).await?;
        while let Some(found) = search.next().await? {
            if let Found::Entry(beside) = found {
                let verdict = Verdict::Shut { proof: Proof::ReadBack, reply };
                return Ok(Look { verdict, control: Some(beside.dn), residual: None });
            }
        }
        Ok(Look::unproven(format!("{reply}; but nothing beside it can be seen either")))
    }

    /// Gone from the listing, with an entry that is still in it.
    async fn absent(&mut self, reply: String) -> Result<Look, Fault> {
        let Some(control) = self.control_entry().await? else {
            return Ok(Look::unproven(format!("{reply}; but no entry at all can be read now")));
        };
        let verdict = Verdict::Shut { proof: Proof::ReadBack, reply };
        Ok(Look { verdict, control: Some(control), residual: None })
    }

    /// An entry that must be there, read by the same way: the control's, our own, or the people's base.
    async fn control_entry(&mut self) -> Result<Option<String>, Fault> {
        let settings = &self.shared().settings;
        let mut candidates: Vec<String> = settings.control.iter().map(|c| c.dn.clone()).collect();
        candidates.push(settings.bind_dn.clone());
        candidates.extend(settings.people.iter().cloned());
        for dn in candidates {
            if self.read(&dn, &["objectClass"]).await?.is_some() {
                return Ok(Some(dn));
            }
        }
        Ok(None)
    }

    pub(super) async fn look_at_key(&mut self, door: &Door) -> Result<Look, Fault> {
        let Some(entry) = self.read(&door.account, &["objectClass", "sshPublicKey"]).await? else {
            return self.vanished(&door.account).await;
        };
        let values = entry.values("sshPublicKey");
        let there = values.iter().flat_map(|v| keys(v)).any(|key| key.fingerprint.0 == door.object);
        if there {
            let verdict = Verdict::Open { reply: format!("sshPublicKey holds {}", door.object) };
            return Ok(Look { verdict, control: None, residual: None });
        }
        self.absent(format!("none of the {} values of sshPublicKey is {}", values.len(), door.object)).await
    }

    pub(super) async fn look_at_membership(&mut self, door: &Door) -> Result<Look, Fault> {
        let Some(membership) = Membership::parse(&door.object) else {
            return Ok(Look::unproven(format!("{:?} names no membership", door.object)));
        };
        let (group, attribute) = (membership.group.as_str(), membership.attribute);
        let value = membership.uid.as_deref().unwrap_or(&door.account);
        // The server compares by its own rules for names.
        let reply = self.compare(group, attribute, value.as_bytes()).await?;
        match reply.code {
            Code::CompareTrue => {
                let verdict = Verdict::Open { reply: format!("{} names it: {}", membership.detail(), reply.words) };
                Ok(Look { verdict, control: None, residual: None })
            }
            Code::CompareFalse | Code::NoSuchAttribute => {
                // A group that is hidden from us would be answered with noSuchObject.
                self.absent(format!("{} does not name it: {}", membership.detail(), reply.words)).await
            }
            Code::NoSuchObject => match self.read(group, &["objectClass"]).await? {
                None => self.absent(format!("there is no group {group} any more")).await,
                Some(_) => Ok(Look::unproven(format!("{attribute} of {group} may not be compared"))),
            },
            _ => Ok(Look::unproven(format!("{attribute} of {group}: {}", reply.words))),
        }
    }
}

/// The verdict on a password. A refusal counts only for the reason that our lock was meant to cause: the server holds the very
/// password that was tried, the lock is there, and the policy heeds it.
fn verdict(seen: &Seen<'_>) -> Verdict {
    let Seen { state, login, heeded, kind } = *seen;
    let shut = |proof, reply: String| Verdict::Shut { proof, reply };
    let lock =
        if kind == LockKind::NsAccountLock { "nsAccountLock TRUE" } else { "pwdAccountLockedTime 000001010000Z" };
    if let Some(reply) = login.filter(|r| r.code == Code::Success) {
        return Verdict::Open { reply: format!("the witness password is accepted: {}", reply.words) };
    }
    let refused =
        login.filter(|r| matches!(r.code, Code::InvalidCredentials | Code::UnwillingToPerform | Code::Other(48)));
    if let (Some(reply), None) = (login, refused) {
        return Verdict::Unproven { why: format!("the witness login was answered with {}", reply.words) };
    }
    let says_locked = refused.and_then(|r| r.policy).is_some_and(|p| p.error == Some(PolicyError::AccountLocked));
    let heeded = heeded || says_locked;
    match (state.password, state.locked, refused) {
        (Password::Gone, _, _) => shut(Proof::ReadBack, "the entry has no userPassword".into()),
        (Password::Impossible, locked, _) => shut(
            Proof::ReadBack,
            format!("userPassword holds only a value that no password fits{}", if locked { format!("; {lock}") } else { String::new() }),
        ),
        (Password::Witness, true, Some(reply)) => {
            let policy = match says_locked {
                true => "and its password policy says accountLocked",
                false if heeded => "and the password policy that applies has pwdLockout TRUE",
                false => "; no policy that heeds the lock can be read",
            };
            let proof = if heeded { Proof::Refused } else { Proof::ReadBack };
            shut(proof, format!("{} for the witness password, whose verifier the entry holds, with {lock} {policy}", reply.words))
        }
        (Password::Witness, false, Some(reply)) => Verdict::Unproven {
            why: format!("{} for the witness password, but the lock is missing: refused for another reason", reply.words),
        },
        (Password::Witness, _, None) => Verdict::Unproven { why: "the witness password was not tried".into() },
        (Password::Hidden, ..) => Verdict::Unproven { why: "userPassword may not be read, so nobody can tell which password it is".into() },
        (Password::Theirs, true, _) if heeded => {
            shut(Proof::ReadBack, format!("{lock}, and the password policy that applies heeds it; the password is not one that offboard set"))
        }
        (Password::Theirs, true, _) => Verdict::Unproven {
            why: format!("{lock} is there, but no policy that heeds it can be read, and the password is not one that offboard set"),
        },
        (Password::Theirs, false, Some(_)) => Verdict::Open {
            reply: "userPassword is not what the lock set, and the lock is gone: somebody has set a password since, or it was never locked".into(),
        },
        (Password::Theirs, false, None) => Verdict::Open { reply: "a userPassword and no lock".into() },
    }
}
