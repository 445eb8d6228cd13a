//! The source of a shared secret: an entry whose password programs bind with. Its password is replaced, and the server itself says that it takes
//! the new one and refuses the old.
//!
//! What is written is a verifier that is made here, in one modification that takes away exactly what was read: whatever somebody else has set in
//! the meantime makes the server refuse it. Servers may store it anew at the next login (389 Directory Server does), so a value that is
//! stored otherwise is tried before it is called another one. Where a policy with pwdSafeModify asks for the old password, it is given.
//!
//! A login with the old value counts as a failed one. It is tried between two with the new one, which take the count back; where
//! the policy locks an account at the first failure it is not tried at all.

use super::link::{DirectoryLink, LockKind};
use super::lock::ssha;
use super::prove::is_true;
use crate::connector::{Cx, KnownSecret, Taken, Turn};
use crate::model::{Digest, Door, Fault, FaultKind, Finding, FindingKind, Look, Outcome, Part, Phase, PlaceId, Proof, Seen, Verdict};
use crate::wire::ldap::{Address, Change, Code, Found, PolicyError, Scope, Session, normal_dn};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// At so few failed logins before a lock, programs that still try the old value for a moment may lock the account.
const FEW_FAILURES: u32 = 10;
/// For how long a server may take to hand the new value on to the others.
const REPLICATION: Duration = Duration::from_secs(10);
/// No password has this verifier: taking it away changes nothing, and shows whether we could.
const NOBODYS: &[u8] = b"{SSHA}offboard/asks/whether/it/may/write";

/// What the server has stored of the password.
struct Stored {
    values: Vec<Vec<u8>>,
    /// A keyed digest over the values.
    digest: String,
    locked: bool,
}

/// What came of a login.
enum Attempt {
    LetIn,
    /// In the server's own words.
    Refused(String),
}

impl DirectoryLink {
    /// See [`crate::connector::Link::rotate`].
    pub(super) async fn rotate_password(&mut self, turn: &Turn<'_>, cx: &Cx) -> Result<Taken, Fault> {
        let Part::Source { account } = turn.part else {
            return Err(Fault::new(FaultKind::Misconfigured, format!("{}: cannot {} a secret", self.name(), turn.phase))
                .because("an entry of a directory can be the source of a secret, and nothing else"));
        };
        let what = format!("{}: cannot {} the password of {account:?}", self.name(), turn.phase);
        if self.shared().is_own(account) {
            return Err(Fault::new(FaultKind::Protected, what)
                .because("it is no DN, or it is offboard's own login or its control")
                .hint("another administrator has to change this password by hand"));
        }
        match turn.phase {
            Phase::Create => self.look_ahead(account, turn, cx, what).await,
            Phase::Set => self.replace(account, turn, cx, what).await,
            Phase::Test => self.try_new(account, turn, cx, what).await,
            Phase::Finish => self.count_old_connections(account, turn, what).await,
        }
    }

    async fn look_ahead(&mut self, account: &str, turn: &Turn<'_>, cx: &Cx, what: String) -> Result<Taken, Fault> {
        let fault = |because: &str, hint: &str| Err(Fault::new(FaultKind::Misconfigured, what.clone()).because(because).hint(hint));
        let stored = self.stored(account, cx, &what).await?;
        if stored.locked {
            return fault("the entry is locked, so no program uses it", "unlock it, or take the secret out of offboard.yaml");
        }
        // {SASL} and the like: RFC 2307 schemes that name another server.
        let elsewhere = |value: &Vec<u8>| value.to_ascii_uppercase().starts_with(b"{SASL}");
        if stored.values.iter().any(elsewhere) {
            return fault("its password is checked elsewhere ({SASL})", "name the system that checks it as the secret's `source`");
        }
        if stored.values.len() > 1 {
            return fault(
                "it has more than one password (userPassword): all of them would go, and whoever logs in with another one is locked out",
                "take away those that nobody needs, then: offboard resume",
            );
        }
        let reply = self.modify(account, vec![Change::Delete("userPassword", vec![NOBODYS.to_vec()])]).await?;
        match reply.code {
            Code::InsufficientAccessRights => return Err(reply.fault(what).hint(self.grant_for(account))),
            Code::Referral => return Err(self.refused(&reply, what)),
            _ => {}
        }
        let mut taken = Taken::new(Outcome::Done { note: "may be changed; the consumers' value gets in".into() });
        if let Some(old) = turn.old
            && let Attempt::Refused(reply) = self.attempt(account, old, &what).await?
        {
            return Err(Fault::new(FaultKind::Misconfigured, what)
                .because(format!("the value that the consumers have is not its password: {reply}"))
                .hint("somebody has changed one and not the other: mend that first, then: offboard resume"));
        }
        // A login may have made the server store it anew.
        taken.seen.before = Some(self.stored(account, cx, &what).await?.digest);
        if let Some(most) = self.failures(account).await.filter(|most| *most < FEW_FAILURES) {
            let what = format!("{account} is locked after {most} failed login(s): programs that try the old password until they have read the new one can lock it");
            let hint = "give the account a policy of its own (pwdPolicySubentry) with a larger pwdMaxFailure";
            taken.findings.push(self.finding(FindingKind::Configuration, Some(account), what, hint));
        }
        Ok(taken)
    }

    async fn replace(&mut self, account: &str, turn: &Turn<'_>, cx: &Cx, what: String) -> Result<Taken, Fault> {
        let new = new_value(turn, &what)?;
        let stored = self.stored(account, cx, &what).await?;
        let mut taken = Taken::new(Outcome::AlreadyDone);
        let mut changed = false;
        if !self.is_new(account, &stored, turn, cx, &what).await? {
            if Some(&stored.digest) != turn.seen.before.as_ref() {
                return Err(Fault::new(FaultKind::Protected, what)
                    .because("somebody else has changed it since this run looked: it is left as they set it")
                    .hint("if the leaver cannot know the new one, waive this step; if they can, change it by hand, or waive it and start a new run with --anew"));
            }
            let verifier = self.verifier(account, new, cx);
            let swap = |old| vec![Change::Delete("userPassword", old), Change::Add("userPassword", vec![verifier.clone()])];
            let mut reply = self.modify(account, swap(stored.values)).await?;
            // Under pwdSafeModify the overlay wants the old password itself from everybody without `manage`.
            if let (Code::UnwillingToPerform | Code::InsufficientAccessRights, Some(old)) = (reply.code, turn.old) {
                reply = self.modify(account, swap(vec![old.expose_secret().as_bytes().to_vec()])).await?;
            }
            match reply.code {
                Code::Success => {}
                Code::NoSuchAttribute => {
                    let fault = reply.fault(what).hint("somebody else has changed it at the same moment; tried again");
                    return Err(Fault { kind: FaultKind::Busy, ..fault });
                }
                Code::InsufficientAccessRights => return Err(reply.fault(what).hint(self.grant_for(account))),
                Code::ConstraintViolation => {
                    let hint = format!("a password policy refuses a verifier from us; {}", self.grant_for(account));
                    return Err(reply.fault(what).hint(hint));
                }
                _ => return Err(self.refused(&reply, what)),
            }
            changed = true;
            taken.outcome = Outcome::Done { note: "a new verifier, in the place of exactly the one that was read".into() };
        }
        if changed || turn.seen.mark.is_none() {
            // What was connected until now may have been bound with the old value.
            let last = self.old_connections(account, None).await?.map(|seen| seen.last);
            taken.seen = Seen { mark: last.map(|number| number.to_string()), ..Seen::default() };
        }
        Ok(taken)
    }

    async fn try_new(&mut self, account: &str, turn: &Turn<'_>, cx: &Cx, what: String) -> Result<Taken, Fault> {
        let new = new_value(turn, &what)?;
        match self.attempt(account, new, &what).await? {
            Attempt::LetIn => {
                let mut taken = Taken::new(Outcome::Done { note: "the new value gets in, at every server that answers".into() });
                taken.findings = self.others_take(account, new, &what).await?;
                Ok(taken)
            }
            Attempt::Refused(reply) => {
                let stored = self.stored(account, cx, &what).await?;
                Err(match stored.values == [self.verifier(account, new, cx)] {
                    true if stored.locked => Fault::new(FaultKind::Busy, what)
                        .because(format!("the entry is locked: {reply}"))
                        .hint("failed logins have locked it, perhaps of a program that still has the old value: unlock it (delete pwdAccountLockedTime), then: offboard resume"),
                    true => Fault::new(FaultKind::Busy, what).because(format!("the server does not take the new value: {reply}")),
                    false => Fault::new(FaultKind::Protected, what)
                        .because("somebody else has changed it since this run set it: it is left as they set it")
                        .hint("find out who; if the leaver cannot know the new one, waive this step"),
                })
            }
        }
    }

    /// A directory ends no connection; those that may have been bound with the old value are told.
    async fn count_old_connections(&mut self, account: &str, turn: &Turn<'_>, what: String) -> Result<Taken, Fault> {
        new_value(turn, &what)?;
        let mut taken = Taken::new(Outcome::AlreadyDone);
        let mark = turn.seen.mark.as_ref().and_then(|mark| mark.parse().ok());
        let hint = "close them (restart slapd, or set olcIdleTimeout): whoever is bound goes on, and may be allowed to set a new password";
        match self.old_connections(account, mark).await? {
            Some(seen) if seen.peers.is_empty() => {
                taken.outcome = Outcome::Done { note: "no connection from before the change is open".into() };
            }
            Some(seen) => {
                let what = format!(
                    "{} connection(s) bound as {account} before its password was changed are still open, from {}",
                    seen.peers.len(),
                    seen.peers.join(" and ")
                );
                taken.findings.push(self.finding(FindingKind::Unknown, Some(account), what, hint));
            }
            None => {
                let what = format!("connections bound as {account} before its password was changed go on until they are closed, and this server does not show them");
                let hint = "let offboard read cn=Connections,cn=Monitor to see whether there are any";
                taken.findings.push(self.finding(FindingKind::NotCovered, Some(account), what, hint));
            }
        }
        Ok(taken)
    }

    /// A look at the door that the old value is.
    pub(super) async fn look_at_secret(
        &mut self,
        door: &Door,
        control: &mut Option<Result<String, String>>,
        cx: &Cx,
    ) -> Result<Look, Fault> {
        let account = door.account.as_str();
        let what = format!("{}: cannot look at {account:?}", self.name());
        let Some(KnownSecret { old, new, before, .. }) = self.secrets.iter().find(|known| known.door == door.id).cloned() else {
            return Ok(Look::unproven("the value that the leaver may know is not known here, and was not replaced"));
        };
        if self.read(account, &["objectClass"]).await?.is_none() {
            return self.vanished(account).await;
        }
        let open = |reply: String| Look { verdict: Verdict::Open { reply }, control: None, residual: None };
        let shut = |proof, reply, control| Look { verdict: Verdict::Shut { proof, reply }, control: Some(control), residual: None };
        let try_old = self.failures(account).await != Some(1);
        let mut refused = None;
        if let (Some(old), true) = (&old, try_old) {
            let (here, mut on) = (self.address().clone(), None);
            let before_it = match &new {
                Some(new) => matches!(self.attempt_on(&mut on, &here, account, new, &what).await?, Attempt::LetIn),
                None => false,
            };
            match self.attempt_on(&mut on, &here, account, old, &what).await? {
                Attempt::LetIn => return Ok(open(format!("{account} logged in with the value that the leaver may know"))),
                Attempt::Refused(reply) => {
                    // Also takes back the failure that was just counted.
                    let after_it = match &new {
                        Some(new) => matches!(self.attempt_on(&mut on, &here, account, new, &what).await?, Attempt::LetIn),
                        None => false,
                    };
                    for at in self.others() {
                        let mut on = None;
                        let found = match self.attempt_on(&mut on, &at, account, old, &what).await {
                            Ok(Attempt::LetIn) => open(format!("{account} logged in at {at} with the value that the leaver may know")),
                            Err(fault) => Look::unproven(format!("{} refuses the old value, {at} cannot be asked: {fault}", self.address())),
                            Ok(Attempt::Refused(_)) => match &new {
                                Some(new) if matches!(self.attempt_on(&mut on, &at, account, new, &what).await, Ok(Attempt::LetIn)) => continue,
                                _ => Look::unproven(format!("{at} refuses the old value, but nothing shows that the new one gets in there")),
                            },
                        };
                        return Ok(found);
                    }
                    if before_it && after_it {
                        let control = format!("{account} logged in with the new value, before and after");
                        return Ok(shut(Proof::Refused, reply, control));
                    }
                    refused = Some(reply);
                }
            }
        }
        // Rotated again since, the values are gone, or it may not be tried: what is stored says whether it was changed.
        let stored = self.stored(account, cx, &what).await?;
        let gets_in = match control {
            Some(known) => known.clone(),
            None => control.insert(self.control_gets_in().await).clone(),
        };
        let tried = refused.map_or("the old value was not tried".into(), |reply| format!("the old value is refused: {reply}"));
        Ok(match (before, gets_in) {
            (Some(before), Ok(who)) if before != stored.digest => {
                shut(Proof::ReadBack, format!("userPassword is another one than the leaver's; {tried}"), who)
            }
            (Some(before), _) if before == stored.digest => Look::unproven(format!("userPassword is what it was; {tried}")),
            (_, Err(why)) => Look::unproven(why),
            _ => Look::unproven(format!("{tried}, and nothing shows that it was replaced")),
        })
    }

    /// Passwords are the same on every server of a directory, so what is derived belongs to the system.
    fn everywhere(&self) -> PlaceId {
        PlaceId(self.shared().system.0.clone())
    }

    fn verifier(&self, account: &str, new: &SecretString, cx: &Cx) -> Vec<u8> {
        ssha(new, &cx.secret_salt("verifier", &self.everywhere(), account))
    }

    async fn stored(&mut self, account: &str, cx: &Cx, what: &str) -> Result<Stored, Fault> {
        let attributes = ["objectClass", "userPassword", "pwdAccountLockedTime", "nsAccountLock"];
        let Some(entry) = self.read(account, &attributes).await? else {
            return Err(Fault::new(FaultKind::Misconfigured, what)
                .because("there is no such entry, or none that we may see")
                .hint("correct `source` in offboard.yaml, then: offboard resume"));
        };
        let mut values = entry.values("userPassword").to_vec();
        if values.is_empty() {
            return Err(match self.has_hidden_password(account).await? {
                true => Fault::new(FaultKind::Forbidden, what)
                    .because("our login may not read userPassword, so nobody could tell whether somebody else has changed it")
                    .hint(self.grant_for(account)),
                false => Fault::new(FaultKind::Misconfigured, what)
                    .because("the entry has no userPassword")
                    .hint("correct `source` in offboard.yaml, then: offboard resume"),
            });
        }
        values.sort();
        let mut keyed = cx.secret_salt("digest", &self.everywhere(), account).to_vec();
        for value in &values {
            keyed.extend((value.len() as u64).to_be_bytes());
            keyed.extend(value);
        }
        let locked = entry.has("pwdAccountLockedTime") || is_true(&entry, "nsAccountLock");
        Ok(Stored { values, digest: Digest::of(&keyed).to_string(), locked })
    }

    async fn is_new(&mut self, account: &str, stored: &Stored, turn: &Turn<'_>, cx: &Cx, what: &str) -> Result<bool, Fault> {
        let new = new_value(turn, what)?;
        if stored.values == [self.verifier(account, new, cx)] {
            return Ok(true);
        }
        if Some(&stored.digest) == turn.seen.before.as_ref() {
            return Ok(false);
        }
        Ok(matches!(self.attempt(account, new, what).await?, Attempt::LetIn))
    }

    async fn attempt(&mut self, account: &str, value: &SecretString, what: &str) -> Result<Attempt, Fault> {
        let here = self.address().clone();
        self.attempt_at(&here, account, value, what).await
    }

    async fn attempt_at(&self, at: &Address, account: &str, value: &SecretString, what: &str) -> Result<Attempt, Fault> {
        self.attempt_on(&mut None, at, account, value, what).await
    }

    /// On the connection of the try before, if that is still there: whoever binds again begins anew (RFC 4513, section 4), and a handshake costs more than
    /// the rest.
    async fn attempt_on(
        &self,
        kept: &mut Option<Session>,
        at: &Address,
        account: &str,
        value: &SecretString,
        what: &str,
    ) -> Result<Attempt, Fault> {
        // A server may hang up after a refusal: then a new connection tells.
        let mut bound = None;
        if let Some(mut session) = kept.take()
            && let Ok(reply) = session.bind(account, value).await
        {
            bound = Some((session, reply));
        }
        let (session, reply) = match bound {
            Some(bound) => bound,
            None => {
                let mut session = self.knock(at).await?;
                let reply = session.bind(account, value).await?;
                (session, reply)
            }
        };
        *kept = Some(session);
        match reply.code {
            Code::Success => Ok(Attempt::LetIn),
            Code::InvalidCredentials => {
                let locked = reply.policy.is_some_and(|p| p.error == Some(PolicyError::AccountLocked));
                let note = if locked { "; its password policy says accountLocked" } else { "" };
                Ok(Attempt::Refused(format!("{}{note}", reply.words)))
            }
            _ => Err(self.refused(&reply, what.to_string())),
        }
    }

    /// The other servers get the new value by replication, which is waited for: their clients are locked out until then. One that does not answer
    /// keeps nobody from going on; the look at the old value says so, too.
    async fn others_take(&mut self, account: &str, new: &SecretString, what: &str) -> Result<Vec<Finding>, Fault> {
        let mut findings = Vec::new();
        for at in self.others() {
            let until = Instant::now() + REPLICATION;
            // A failed login counts, and may lock the account: six tries in all, with growing pauses.
            let mut pause = Duration::from_millis(300);
            loop {
                match self.attempt_at(&at, account, new, what).await {
                    Ok(Attempt::LetIn) => break,
                    Ok(Attempt::Refused(_)) if Instant::now() + pause < until => {
                        sleep(pause).await;
                        pause *= 2;
                    }
                    Ok(Attempt::Refused(reply)) => {
                        return Err(Fault::new(FaultKind::Busy, what)
                            .because(format!("{at} has not taken the new value within {} s: {reply}", REPLICATION.as_secs()))
                            .hint("mend the replication between the servers, then: offboard resume"));
                    }
                    Err(fault) => {
                        let what = format!("whether {at} takes the new password of {account} is not known: {fault}");
                        findings.push(self.finding(FindingKind::Unknown, Some(account), what, "offboard verify, once it answers"));
                        break;
                    }
                }
            }
        }
        Ok(findings)
    }

    /// After how many failed logins the entry is locked, by the strictest policy that may apply and that we can see.
    async fn failures(&mut self, account: &str) -> Option<u32> {
        if self.lock_kind() != LockKind::Policy {
            return None;
        }
        let named = self.read(account, &["pwdPolicySubentry"]).await.ok()??.text("pwdPolicySubentry");
        let named = named.as_deref().map(normal_dn);
        let policies = self.policies().await.ok()?;
        let applying = policies.0.iter().filter(|p| named.as_ref().is_none_or(|n| *n == normal_dn(&p.dn)));
        let locking = applying.filter(|p| is_true(p, "pwdLockout"));
        locking.filter_map(|p| p.text("pwdMaxFailure")?.parse().ok()).filter(|most| *most > 0).min()
    }

    /// The account's connections up to the number `mark`, or all; nothing if the server does not show them. Numbers only grow.
    async fn old_connections(&mut self, account: &str, mark: Option<u64>) -> Result<Option<Connections>, Fault> {
        let Some(monitor) = self.root.monitor.clone() else { return Ok(None) };
        let us = normal_dn(&self.shared().settings.bind_dn);
        let account = normal_dn(account);
        let attributes = ["monitorConnectionAuthzDN", "monitorConnectionPeerAddress", "monitorConnectionNumber"];
        let base = format!("cn=Connections,{monitor}");
        let mut search = self.search(&base, Scope::OneLevel, "(objectClass=monitorConnection)", &attributes, None).await?;
        let (mut ours, mut seen) = (false, Connections { last: 0, peers: Vec::new() });
        while let Some(found) = search.next().await? {
            let Found::Entry(entry) = found else { continue };
            let Some(number) = entry.text("monitorConnectionNumber").and_then(|n| n.parse::<u64>().ok()) else { continue };
            seen.last = seen.last.max(number);
            let who = entry.text("monitorConnectionAuthzDN").as_deref().and_then(normal_dn);
            ours |= who.is_some() && who == us;
            if who.is_some() && who == account && mark.is_none_or(|mark| number <= mark) {
                seen.peers.push(entry.text("monitorConnectionPeerAddress").unwrap_or_else(|| "somewhere".into()));
            }
        }
        Ok(ours.then_some(seen))
    }

    /// What lets us change the password of this one entry.
    fn grant_for(&self, account: &str) -> String {
        let us = &self.shared().settings.bind_dn;
        match self.lock_kind() {
            LockKind::NsAccountLock => format!(
                "add to {account}: aci: (targetattr=\"userPassword\")(version 3.0; acl \"offboard\"; allow (read,search,compare,write) userdn=\"ldap:///{us}\";) — then: offboard resume"
            ),
            _ => format!(
                "add to the database's entry in cn=config: olcAccess: {{0}}to dn.exact=\"{account}\" attrs=userPassword by dn.exact=\"{us}\" manage by * break — then: offboard resume"
            ),
        }
    }
}

/// Connections, as the server shows them.
struct Connections {
    /// The largest number of any.
    last: u64,
    /// Where the account's come from.
    peers: Vec<String>,
}

fn new_value<'a>(turn: &Turn<'a>, what: &str) -> Result<&'a SecretString, Fault> {
    turn.new.ok_or_else(|| Fault::new(FaultKind::Unexpected, what).because("the new value is not sealed any more"))
}
