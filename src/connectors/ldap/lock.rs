//! Locking an entry's password, and giving access back.
//!
//! OpenLDAP's password policy overlay has traps; all were tried on 2.5:
//!
//! - Whoever sets `userPassword` deletes `pwdAccountLockedTime`, the lock, with it: the overlay appends that deletion to the
//!   modification, behind everything that we put there. It does not if the modification itself holds a *delete* of the lock. So
//!   password and lock always travel in one modification; a lock that is there is deleted and added again; one that is not
//!   there is *added*, never *replaced*, so that a lock set in between makes the modification fail instead of opening the account.
//! - A login that finds a lock of an earlier hour, by failed logins, deletes it when it is done, whatever the lock says by then. One that
//!   was begun just before ours takes ours away with it. The witness is in place all the same, so no door opens; the lock is set again.
//! - The lock is heeded only where a policy with `pwdLockout: TRUE` applies. Elsewhere setting it succeeds and locks nothing. So
//!   the new password is a witness that only the journal knows, and we try it: refused, the lock works; accepted, it does not, and
//!   the password is replaced by a value that no password fits. It is tried more than once, for as long as the lock is read to be there: what
//!   took the lock away for a moment is no proof that it has no effect.
//! - A policy may refuse what we set (hashed values with `pwdCheckQuality: 2`, `pwdMinAge`, `pwdSafeModify`, history) unless we have
//!   `manage` on `userPassword`. Deleting the password is never refused, so that is what remains.
//!
//! The witness is hashed as `{SSHA}`, which every OpenLDAP and 389-ds can verify without a module. SHA-1 is weak for guessable
//! passwords; this one is 256 random bits, and there is nothing to guess.

use super::account::{Facts, is_locked};
use super::link::{DirectoryLink, LockKind, Target};
use crate::connector::Cx;
use crate::model::{Account, Fault, Outcome, PlaceId, Restored};
use crate::wire::ldap::{Change, Code, Entry, Reply};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};

/// `pwdAccountLockedTime` of an account that only an administrator can unlock: slapo-ppolicy(5).
pub(super) const FOREVER: &[u8] = b"000001010000Z";
/// A verifier that no password fits: crypt(3) never returns `*`. Hosts that read it as a shadow entry see a locked one.
const IMPOSSIBLE: &[u8] = b"{CRYPT}*";
/// `shadowExpire` of an account that expired on 2 January 1970. 0 means "never" to some.
const EXPIRED: &[u8] = b"1";
/// Changes by others, and refusals, that one lock may run into before it gives up for this attempt.
const ROUNDS: usize = 16;
/// So often the witness has to be accepted, with the lock there before and after, until the lock counts as one without effect.
const IGNORED: usize = 3;

/// `{SSHA}`: SHA-1 over password and salt, then the salt.
pub(super) fn ssha(password: &SecretString, salt: &[u8]) -> Vec<u8> {
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(password.expose_secret().as_bytes());
    hash.update(salt);
    let bytes = [hash.finish().as_ref(), salt].concat();
    format!("{{SSHA}}{}", STANDARD.encode(bytes)).into_bytes()
}

/// Whether the password is checked elsewhere: `{SASL}jroe@REALM`.
pub(super) fn pass_through(value: &[u8]) -> bool {
    value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"{SASL}"))
}

/// What `userPassword` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Password {
    /// The run's witness password and no other.
    Witness,
    /// Only values that no password fits.
    Impossible,
    /// Nothing, and the server says so.
    Gone,
    /// Something else.
    Theirs,
    /// Something that we may not read.
    Hidden,
}

/// How an entry stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub password: Password,
    /// Locked without end; see [`is_locked`].
    pub locked: bool,
    /// There is a `pwdAccountLockedTime` of any value.
    stamped: bool,
    /// It is a `shadowAccount`.
    shadow: bool,
    /// Every password is checked elsewhere.
    elsewhere: bool,
}

impl State {
    fn of(entry: &Entry, verifier: &[u8], unseen: Password) -> Self {
        let values = entry.values("userPassword");
        let all = |test: &dyn Fn(&Vec<u8>) -> bool| !values.is_empty() && values.iter().all(test);
        let password = match () {
            () if values.is_empty() => unseen,
            () if all(&|v| v == verifier) => Password::Witness,
            () if all(&|v| v == IMPOSSIBLE) => Password::Impossible,
            () => Password::Theirs,
        };
        Self {
            password,
            locked: is_locked(entry),
            stamped: entry.has("pwdAccountLockedTime"),
            shadow: entry.is_a("shadowAccount"),
            elsewhere: all(&|v| pass_through(v)),
        }
    }
}

/// What one modification is to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Goal {
    password: Password,
    lock: bool,
    expire: bool,
}

impl Goal {
    /// The next best, after the server has refused this one. All of them keep everybody out.
    fn weaker(self, code: Code, shadow: bool) -> Option<Self> {
        let optional =
            matches!(code, Code::InsufficientAccessRights | Code::ObjectClassViolation | Code::UndefinedAttributeType);
        if self.expire && shadow && optional {
            return Some(Self { expire: false, ..self });
        }
        let (password, lock) = match (self.password, self.lock) {
            (_, true) if code == Code::UndefinedAttributeType => (Password::Impossible, false),
            (Password::Witness, lock) => (Password::Impossible, lock),
            (Password::Impossible, lock) => (Password::Gone, lock),
            (_, true) => (Password::Impossible, false),
            (_, false) => return None,
        };
        Some(Self { password, lock, expire: true })
    }
}

/// The witness of one account and its verifier. It belongs to the *system*: replicas hand `userPassword` on to each other, so each
/// must set the very same value.
pub(super) struct Witness {
    pub password: SecretString,
    pub verifier: Vec<u8>,
}

impl DirectoryLink {
    pub(super) fn witness(&self, account: &str, cx: &Cx) -> Witness {
        let everywhere = PlaceId(self.shared().system.0.clone());
        let password = cx.witness(&everywhere, account);
        let verifier = ssha(&password, &cx.witness_salt(&everywhere, account));
        Witness { password, verifier }
    }

    /// Reads how the entry stands; nothing if there is no such entry.
    pub(super) async fn state(&mut self, account: &str, witness: &Witness) -> Result<Option<State>, Fault> {
        let attributes = ["objectClass", "userPassword", "pwdAccountLockedTime", "nsAccountLock", "shadowExpire"];
        let Some(entry) = self.read(account, &attributes).await? else { return Ok(None) };
        let unseen = match entry.values("userPassword").is_empty() {
            true if self.has_hidden_password(account).await? => Password::Hidden,
            _ => Password::Gone,
        };
        Ok(Some(State::of(&entry, &witness.verifier, unseen)))
    }

    /// An attribute that we do not see may be missing or hidden. A comparison tells them apart: only a missing one is answered
    /// with noSuchAttribute.
    pub(super) async fn has_hidden_password(&mut self, account: &str) -> Result<bool, Fault> {
        let reply = self.compare(account, "userPassword", b"-").await?;
        Ok(!matches!(reply.code, Code::NoSuchAttribute | Code::NoSuchObject))
    }

    /// Makes every password login of the entry impossible.
    pub(super) async fn disable(&mut self, account: &str, cx: &Cx) -> Result<Outcome, Fault> {
        let witness = self.witness(account, cx);
        let what = format!("{}: cannot lock {account:?}", self.name());
        let kind = self.lock_kind();
        let (mut goal, mut refusal, mut done): (Option<Goal>, Option<Reply>, Vec<String>) = (None, None, Vec::new());
        let mut ignored = 0;
        for _ in 0..ROUNDS {
            let Some(state) = self.state(account, &witness).await? else { return Ok(Outcome::Absent) };
            let wanted = *goal.get_or_insert(first_goal(state, kind));
            let locked = state.locked || !wanted.lock;
            match state.password {
                // Writing one that we cannot read back proves nothing; write it once and let the login decide.
                Password::Hidden if !done.is_empty() && locked => return self.settle(account, &witness, done).await,
                Password::Gone | Password::Impossible if locked => return Ok(outcome(done)),
                Password::Witness if state.locked => {
                    if !self.gets_in(account, &witness.password).await? {
                        return Ok(outcome(done));
                    }
                    // Accepted because the lock has no effect, or because a login from before it has just taken it away?
                    if !self.state(account, &witness).await?.is_some_and(|now| now.locked) {
                        continue;
                    }
                    ignored += 1;
                    if ignored < IGNORED {
                        continue;
                    }
                    if wanted.password == Password::Witness {
                        goal = Some(Goal { password: Password::Impossible, ..wanted });
                    }
                }
                _ => {}
            }
            let wanted = goal.unwrap_or(wanted);
            let reply = self.modify(account, changes(wanted, state, &witness, kind)).await?;
            match reply.code {
                Code::Success => done.push(note(wanted, state, kind)),
                Code::NoSuchObject => return Ok(Outcome::Absent),
                // The lock came or went since we read the entry.
                Code::NoSuchAttribute | Code::AttributeOrValueExists => {}
                Code::InsufficientAccessRights
                | Code::ConstraintViolation
                | Code::ObjectClassViolation
                | Code::UnwillingToPerform
                | Code::UndefinedAttributeType
                | Code::Other(21) => {
                    goal = wanted.weaker(reply.code, state.shadow);
                    let first = refusal.get_or_insert_with(|| reply.clone());
                    if goal.is_none() {
                        return Err(first.fault(what).hint(self.grant(Target::People).await));
                    }
                }
                _ => return Err(self.refused(&reply, what)),
            }
        }
        Err(Fault::new(crate::model::FaultKind::Busy, what).because("the entry changes faster than it can be locked"))
    }

    /// Where the password cannot be read, the login itself decides.
    async fn settle(&mut self, account: &str, witness: &Witness, mut done: Vec<String>) -> Result<Outcome, Fault> {
        if self.gets_in(account, &witness.password).await? {
            let lock = self.lock_kind() != LockKind::Nothing;
            let Some(state) = self.state(account, witness).await? else { return Ok(Outcome::Absent) };
            let goal = Goal { password: Password::Impossible, lock, expire: false };
            let reply = self.modify(account, changes(goal, state, witness, self.lock_kind())).await?;
            if reply.code != Code::Success {
                let what = format!("{}: cannot lock {account:?}", self.name());
                return Err(reply.fault(what).hint(self.grant(Target::People).await));
            }
            done.push(note(goal, state, self.lock_kind()));
        }
        Ok(outcome(done))
    }

    /// Whether a fresh login with this password succeeds now.
    async fn gets_in(&mut self, account: &str, password: &SecretString) -> Result<bool, Fault> {
        let reply = self.try_login(account, password).await?;
        match reply.code {
            Code::Success => Ok(true),
            // 389-ds answers unwillingToPerform for an account that nsAccountLock disabled.
            Code::InvalidCredentials | Code::UnwillingToPerform | Code::Other(48) => Ok(false),
            _ => Err(self.refused(&reply, format!("{}: cannot try the lock of {account:?}", self.name()))),
        }
    }

    /// Gives a login back with a one-time password.
    pub(super) async fn enable(&mut self, account: &Account) -> Result<Restored, Fault> {
        let dn = account.native_id.as_str();
        let facts: Facts = serde_json::from_value(account.facts.clone()).unwrap_or_default();
        let what = format!("{}: cannot give {dn:?} a password", self.name());
        let only = |note: &str| Restored { note: note.to_string(), one_time_password: None };
        if facts.locked {
            return Ok(only("was locked before the run, and stays so"));
        }
        let attributes = ["objectClass", "userPassword", "pwdAccountLockedTime", "nsAccountLock", "shadowExpire"];
        let Some(entry) = self.read(dn, &attributes).await? else { return Ok(only("the entry is gone")) };
        let one_time = one_time_password();
        let elsewhere = !facts.pass_through.is_empty();
        let value = match elsewhere {
            true => facts.pass_through.iter().map(|v| v.clone().into_bytes()).collect(),
            false => vec![ssha(&one_time, &rand::rng().random::<[u8; 16]>())],
        };
        let mut rest = Vec::new();
        if entry.has("pwdAccountLockedTime") {
            rest.push(Change::Delete("pwdAccountLockedTime", Vec::new()));
        }
        if entry.has("nsAccountLock") {
            rest.push(Change::Replace("nsAccountLock", Vec::new()));
        }
        if entry.texts("shadowExpire") != facts.shadow_expire {
            let before = facts.shadow_expire.into_iter().map(String::into_bytes).collect();
            rest.push(Change::Replace("shadowExpire", before));
        }
        let must_change = Change::Replace("pwdReset", vec![b"TRUE".to_vec()]);
        let mut changes = vec![Change::Replace("userPassword", value)];
        changes.extend(rest.iter().cloned());
        if self.lock_kind() == LockKind::Policy && !elsewhere {
            changes.push(must_change.clone());
        }
        let mut reply = self.modify(dn, changes.clone()).await?;
        if matches!(reply.code, Code::InsufficientAccessRights | Code::UndefinedAttributeType) && !elsewhere {
            changes.retain(|c| !matches!(c, Change::Replace("pwdReset", _)));
            reply = self.modify(dn, changes).await?;
        } else if reply.code == Code::ConstraintViolation && !elsewhere {
            // The policy wants to see the password before it is hashed. The extended operation removes the lock itself.
            reply = self.set_password(dn, &one_time).await?;
            if reply.code == Code::Success {
                rest.retain(|c| !matches!(c, Change::Delete("pwdAccountLockedTime", _)));
                rest.push(must_change);
                reply = self.modify(dn, rest).await?;
            }
        }
        match reply.code {
            Code::Success if elsewhere => Ok(only("unlocked; its password is checked elsewhere, as before")),
            Code::Success => {
                let must = match self.must_change(dn).await {
                    true => "which must be changed at the first login",
                    false => "which nothing here forces to be changed: no policy with pwdMustChange applies",
                };
                Ok(Restored {
                    note: format!("unlocked, with a one-time password, {must}"),
                    one_time_password: Some(one_time),
                })
            }
            Code::InsufficientAccessRights => Err(reply.fault(what).hint(self.grant(Target::People).await)),
            _ => Err(self.refused(&reply, what)),
        }
    }
}

fn first_goal(state: State, kind: LockKind) -> Goal {
    let lock = kind != LockKind::Nothing;
    // Where there was no local password, a witness would make a door.
    let password = match state.password {
        Password::Gone | Password::Impossible => state.password,
        _ if state.elsewhere || !lock => Password::Impossible,
        _ => Password::Witness,
    };
    Goal { password, lock, expire: true }
}

/// The one modification; see the top of this file for its order.
fn changes(goal: Goal, state: State, witness: &Witness, kind: LockKind) -> Vec<Change> {
    let password = match goal.password {
        Password::Witness => vec![witness.verifier.clone()],
        Password::Impossible => vec![IMPOSSIBLE.to_vec()],
        _ => Vec::new(),
    };
    let mut changes = vec![Change::Replace("userPassword", password)];
    match kind {
        LockKind::Policy if goal.lock => {
            if state.stamped {
                changes.push(Change::Delete("pwdAccountLockedTime", Vec::new()));
            }
            changes.push(Change::Add("pwdAccountLockedTime", vec![FOREVER.to_vec()]));
        }
        LockKind::NsAccountLock if goal.lock => changes.push(Change::Replace("nsAccountLock", vec![b"TRUE".to_vec()])),
        _ => {}
    }
    if goal.expire && state.shadow {
        changes.push(Change::Replace("shadowExpire", vec![EXPIRED.to_vec()]));
    }
    changes
}

fn note(goal: Goal, state: State, kind: LockKind) -> String {
    let password = match goal.password {
        Password::Witness => "userPassword replaced by a witness that nobody knows",
        Password::Impossible => "userPassword replaced by a value that no password fits",
        _ => "userPassword deleted",
    };
    let lock = match kind {
        LockKind::Policy if goal.lock => ", pwdAccountLockedTime set for ever in the same modification",
        LockKind::NsAccountLock if goal.lock => ", nsAccountLock set in the same modification",
        _ => ", without a lock",
    };
    let expire = if goal.expire && state.shadow { ", shadowExpire 1" } else { "" };
    format!("{password}{lock}{expire}")
}

fn outcome(done: Vec<String>) -> Outcome {
    if done.is_empty() {
        Outcome::AlreadyDone
    } else {
        Outcome::Done { note: done.join("; the lock alone did not hold, then: ") }
    }
}

/// 20 characters without look-alikes, about 115 bits.
fn one_time_password() -> SecretString {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_+";
    let mut rng = rand::rng();
    SecretString::from((0..20).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssha_is_what_slappasswd_writes() {
        // base64(SHA1("secret" "salt") "salt"), computed elsewhere.
        let verifier = ssha(&SecretString::from("secret"), b"salt");
        assert_eq!(String::from_utf8(verifier).unwrap(), "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0");
    }

    #[test]
    fn refusals_end_and_never_end_in_a_password() {
        let codes = [
            Code::InsufficientAccessRights,
            Code::ConstraintViolation,
            Code::UndefinedAttributeType,
            Code::ObjectClassViolation,
        ];
        for code in codes {
            let mut goal = Goal { password: Password::Witness, lock: true, expire: true };
            let mut steps = 0;
            while let Some(next) = goal.weaker(code, true) {
                assert!(next.lock || next.password != Password::Witness, "a witness without a lock would be a door");
                goal = next;
                steps += 1;
                assert!(steps < ROUNDS);
            }
            assert_eq!((goal.password, goal.lock), (Password::Gone, false));
        }
    }

    #[test]
    fn a_second_password_beside_the_witness_is_not_the_witness() {
        let entry =
            |values: &[&[u8]]| Entry::new("uid=x", [("userPassword", values.iter().map(|v| v.to_vec()).collect())]);
        let password = |values: &[&[u8]]| State::of(&entry(values), b"{SSHA}w", Password::Gone).password;
        assert_eq!(password(&[b"{SSHA}w"]), Password::Witness);
        assert_eq!(password(&[b"{SSHA}w", b"planted"]), Password::Theirs);
        assert_eq!(password(&[IMPOSSIBLE]), Password::Impossible);
        assert_eq!(password(&[IMPOSSIBLE, b"planted"]), Password::Theirs);
        assert_eq!(password(&[]), Password::Gone);
    }
}
