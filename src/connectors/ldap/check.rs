//! Our own standing: can we read what must be read, and change what must be changed? And does the server's password policy let a
//! lock work?
//!
//! Rights to write are found out by deleting a value that cannot be there: the server checks the right first
//! (insufficientAccessRights), the value second (noSuchAttribute). Nothing can change.

use super::link::{DirectoryLink, LockKind, Target};
use super::prove::is_true;
use crate::connector::Health;
use crate::model::{Fault, Finding, FindingKind};
use crate::wire::ldap::{Change, Code, Found, Scope};

impl DirectoryLink {
    pub(super) async fn health(&mut self) -> Result<Health, Fault> {
        let mut findings = Vec::new();
        if self.must_change_own_password() {
            findings.push(self.finding(
                FindingKind::Configuration,
                None,
                format!(
                    "{}: the password of our own login must be changed; until then the server allows it nothing",
                    self.name()
                ),
                "change it, and put the new one into the secret that password: refers to",
            ));
        }
        findings.extend(self.policy_findings().await?);
        findings.extend(self.right_findings().await?);
        let identity = format!("{} on {} {}", self.shared().settings.bind_dn, self.root.product, self.place.address);
        Ok(Health { identity, findings })
    }

    async fn policy_findings(&mut self) -> Result<Vec<Finding>, Fault> {
        if self.lock_kind() == LockKind::NsAccountLock {
            return Ok(Vec::new());
        }
        let configuration = |what: String, hint: &str| self.finding(FindingKind::Configuration, None, what, hint);
        if self.lock_kind() == LockKind::Nothing {
            return Ok(vec![configuration(
                format!(
                    "{}: no password policy overlay, so accounts cannot be locked; disable replaces the password by one that nothing fits",
                    self.name()
                ),
                "load slapo-ppolicy with a default policy that has pwdLockout TRUE, for a proof by refusal",
            )]);
        }
        let name = self.name();
        let policies: Vec<_> = self.policies().await?.0.clone();
        let mut findings = Vec::new();
        let mut note = |what: String, hint: &str| {
            findings.push(self.finding(FindingKind::Configuration, None, what, hint));
        };
        if policies.is_empty() {
            note(
                format!(
                    "{name}: no pwdPolicy entry can be seen; where none applies, a lock locks nothing and disable makes the password unusable instead"
                ),
                "set olcPPolicyDefault to a policy with pwdLockout TRUE, and let offboard read it",
            );
        }
        for policy in policies {
            if !is_true(&policy, "pwdLockout") {
                note(
                    format!(
                        "{name}: the policy {} has no pwdLockout TRUE: it ignores locks, and disable makes the password unusable instead",
                        policy.dn
                    ),
                    "set pwdLockout TRUE",
                );
            }
            let own_change = policy.text("pwdAllowUserChange").is_none_or(|v| v.eq_ignore_ascii_case("true"));
            if own_change && !is_true(&policy, "pwdSafeModify") {
                note(
                    format!(
                        "{name}: under the policy {} whoever is still connected can set a new password after the lock, which opens the account",
                        policy.dn
                    ),
                    "set pwdSafeModify TRUE: then the old password must be given, and after the lock nobody knows it; offboard itself needs manage on userPassword then",
                );
            }
        }
        Ok(findings)
    }

    /// A right that we lack, with the rule that gives it.
    async fn lacking(&mut self, what: String, target: Target) -> Finding {
        let hint = self.grant(target).await;
        self.finding(FindingKind::Configuration, None, what, &hint)
    }

    async fn right_findings(&mut self) -> Result<Vec<Finding>, Fault> {
        let mut findings = Vec::new();
        let settings = self.shared().settings.clone();
        let mut person = None;
        for base in &settings.people {
            let mut search = self.search(base, Scope::Subtree, &settings.accounts, &["userPassword"], None).await?;
            while let Some(found) = search.next().await? {
                if let Found::Entry(entry) = found
                    && !self.shared().is_own(&entry.dn)
                    && (person.is_none() || entry.has("userPassword"))
                {
                    let shown = entry.has("userPassword");
                    person = Some(entry);
                    if shown {
                        break;
                    }
                }
            }
        }
        let Some(person) = person else {
            findings.push(self.finding(
                FindingKind::Configuration,
                None,
                format!("{}: there is no account in {} that we can see", self.name(), settings.people.join(" or ")),
                "correct people or accounts, or let our identity read them",
            ));
            return Ok(findings);
        };
        if !person.has("userPassword") && self.has_hidden_password(&person.dn).await? {
            findings.push(
                self.lacking(
                    format!(
                        "{}: userPassword may not be read, so passwords cannot be found and a lock cannot be proved",
                        self.name()
                    ),
                    Target::People,
                )
                .await,
            );
        }
        let mut attributes = vec!["userPassword"];
        attributes.extend(match self.lock_kind() {
            LockKind::Policy => Some("pwdAccountLockedTime"),
            LockKind::NsAccountLock => Some("nsAccountLock"),
            LockKind::Nothing => None,
        });
        attributes.push("sshPublicKey");
        for attribute in attributes {
            let value: &[u8] = match attribute {
                "pwdAccountLockedTime" => b"19700101000000Z",
                "nsAccountLock" => b"offboard",
                _ => b"{X-OFFBOARD}this value is nowhere",
            };
            let reply = self.modify(&person.dn, vec![Change::Delete(attribute, vec![value.to_vec()])]).await?;
            if reply.code == Code::InsufficientAccessRights {
                findings.push(
                    self.lacking(
                        format!("{}: we may not write {attribute}: {}", self.name(), reply.words),
                        Target::People,
                    )
                    .await,
                );
            }
        }
        findings.extend(self.group_findings(&settings.groups).await?);
        Ok(findings)
    }

    async fn group_findings(&mut self, bases: &[String]) -> Result<Vec<Finding>, Fault> {
        let mut findings = Vec::new();
        for base in bases {
            let mut search = self
                .search(
                    base,
                    Scope::Subtree,
                    "(|(member=*)(uniqueMember=*)(memberUid=*)(sudoUser=*))",
                    &["objectClass", "memberUid"],
                    None,
                )
                .await?;
            let mut group = None;
            while let Some(found) = search.next().await? {
                if let Found::Entry(entry) = found {
                    group.get_or_insert(entry);
                }
            }
            let Some(group) = group else { continue };
            let (attribute, nobody) = match () {
                () if group.has("memberUid") => ("memberUid", "offboard:nobody".to_string()),
                () if group.is_a("groupOfUniqueNames") => ("uniqueMember", format!("cn=offboard nobody,{base}")),
                () if group.is_a("sudoRole") => ("sudoUser", "offboard:nobody".to_string()),
                () => ("member", format!("cn=offboard nobody,{base}")),
            };
            let reply = self.modify(&group.dn, vec![Change::Delete(attribute, vec![nobody.into_bytes()])]).await?;
            if reply.code == Code::InsufficientAccessRights {
                findings.push(
                    self.lacking(
                        format!("{}: we may not write {attribute} of {}: {}", self.name(), group.dn, reply.words),
                        Target::Groups,
                    )
                    .await,
                );
            }
        }
        Ok(findings)
    }
}
