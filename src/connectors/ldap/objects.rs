//! Group memberships and SSH keys: taken away value by value, so that nothing else of the entry is touched.

use super::keys::{Key, keys};
use super::link::{DirectoryLink, Target};
use crate::model::{Fault, FaultKind, Outcome, Restored};
use crate::wire::ldap::{Change, Code, dn_escape, normal_dn};

/// How often a value that changes under our hands is read again.
const TRIES: usize = 3;

/// Attributes of groups that name members by DN: RFC 4519, sections 2.17 and 2.40.
pub(super) const BY_NAME: [&str; 2] = ["member", "uniqueMember"];
/// Attributes that name members by user name: RFC 2307, and sudoers.ldap(5).
pub(super) const BY_UID: [&str; 2] = ["memberUid", "sudoUser"];

/// That one group names one account in one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// Which of [`BY_NAME`] or [`BY_UID`].
    pub attribute: &'static str,
    /// The user name, where the attribute names members so; otherwise it is the account's DN.
    pub uid: Option<String>,
    /// The group's DN.
    pub group: String,
}

impl Membership {
    /// A door's object: `member:cn=dev,…`, or `memberUid=jroe:cn=dev,…`. The user name is in it, since the account's entry may
    /// be gone when the step is applied.
    pub fn object(&self) -> String {
        match &self.uid {
            Some(uid) => format!("{}={}:{}", self.attribute, dn_escape(uid.as_str()).replace(':', "\\3a"), self.group),
            None => format!("{}:{}", self.attribute, self.group),
        }
    }

    /// Reads [`Self::object`] back.
    pub fn parse(object: &str) -> Option<Self> {
        let (head, group) = object.split_once(':')?;
        let (name, uid) = head.split_once('=').map_or((head, None), |(name, uid)| (name, Some(uid)));
        let attribute = BY_NAME.into_iter().chain(BY_UID).find(|a| *a == name)?;
        let uid = match uid {
            // The decoder of DNs undoes what `dn_escape` did.
            Some(uid) => Some(unescape(uid)?),
            None => None,
        };
        (uid.is_some() == BY_UID.contains(&attribute)).then(|| Self { attribute, uid, group: group.to_string() })
    }

    /// For people.
    pub fn detail(&self) -> String {
        format!("{} of {}", self.attribute, self.group).chars().filter(|c| !c.is_control()).collect()
    }

    fn value<'a>(&'a self, account: &'a str) -> &'a str {
        self.uid.as_deref().unwrap_or(account)
    }
}

fn unescape(text: &str) -> Option<String> {
    let (mut bytes, mut out) = (text.bytes(), Vec::new());
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let hex = [bytes.next()?, bytes.next()?];
        out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

impl DirectoryLink {
    /// Takes one account out of one group.
    ///
    /// A `groupOfNames` must have a member (RFC 4519, section 3.5). If the leaver is the only one, the group's own name takes the
    /// place: nobody can log in as a group, so it grants nothing, and the group and the rules that name it stay.
    pub(super) async fn leave(&mut self, account: &str, object: &str) -> Result<Outcome, Fault> {
        let membership = self.membership(object)?;
        let (group, attribute) = (membership.group.as_str(), membership.attribute);
        let what = format!("{}: cannot take {account:?} out of {group:?}", self.name());
        let value = membership.value(account).as_bytes().to_vec();
        let delete = Change::Delete(attribute, vec![value]);
        let reply = self.modify(group, vec![delete.clone()]).await?;
        match reply.code {
            Code::Success => Ok(done(format!("removed from {attribute} of {group}"))),
            Code::NoSuchAttribute => Ok(Outcome::AlreadyDone),
            Code::NoSuchObject => Ok(Outcome::Absent),
            Code::ObjectClassViolation if BY_NAME.contains(&attribute) => {
                let placeholder = Change::Add(attribute, vec![group.as_bytes().to_vec()]);
                let second = self.modify(group, vec![placeholder, delete]).await?;
                match second.code {
                    Code::Success => Ok(done(format!(
                        "removed from {attribute} of {group}; it was the only member, so the group now names itself"
                    ))),
                    Code::NoSuchAttribute => Ok(Outcome::AlreadyDone),
                    _ => Err(second.fault(what).hint(
                        "the group must have a member and the leaver is the only one: name a successor, or delete the group; then: offboard resume",
                    )),
                }
            }
            Code::InsufficientAccessRights => Err(reply.fault(what).hint(self.grant(Target::Groups).await)),
            _ => Err(self.refused(&reply, what)),
        }
    }

    /// Puts an account back into a group.
    pub(super) async fn rejoin(&mut self, account: &str, object: &str) -> Result<Restored, Fault> {
        let membership = self.membership(object)?;
        let (group, attribute) = (membership.group.as_str(), membership.attribute);
        let what = format!("{}: cannot put {account:?} back into {group:?}", self.name());
        let value = membership.value(account).as_bytes().to_vec();
        let Some(entry) = self.read(group, &[attribute]).await? else {
            return Ok(Restored { note: format!("{group} is gone"), one_time_password: None });
        };
        let mut changes = vec![Change::Add(attribute, vec![value])];
        let itself = entry.values(attribute).iter().find(|v| {
            BY_NAME.contains(&attribute) && std::str::from_utf8(v).is_ok_and(|v| normal_dn(v) == normal_dn(group))
        });
        changes.extend(itself.map(|placeholder| Change::Delete(attribute, vec![placeholder.clone()])));
        let reply = self.modify(group, changes).await?;
        let note = match reply.code {
            Code::Success => format!("put back into {attribute} of {group}"),
            Code::AttributeOrValueExists => format!("is in {attribute} of {group}"),
            Code::InsufficientAccessRights => return Err(reply.fault(what).hint(self.grant(Target::Groups).await)),
            _ => return Err(self.refused(&reply, what)),
        };
        Ok(Restored { note, one_time_password: None })
    }

    /// Deletes every value of `sshPublicKey` that holds the key of that fingerprint. Another key in the same value stays.
    pub(super) async fn revoke_key(&mut self, account: &str, fingerprint: &str) -> Result<Outcome, Fault> {
        // Another replica may delete the value between our read and our delete: then it is read again.
        for _ in 1..TRIES {
            match self.try_to_revoke_key(account, fingerprint).await {
                Err(fault) if fault.kind == FaultKind::Busy => {}
                result => return result,
            }
        }
        self.try_to_revoke_key(account, fingerprint).await
    }

    async fn try_to_revoke_key(&mut self, account: &str, fingerprint: &str) -> Result<Outcome, Fault> {
        let what = format!("{}: cannot remove the key {fingerprint} of {account:?}", self.name());
        let Some(entry) = self.read(account, &["sshPublicKey"]).await? else { return Ok(Outcome::Absent) };
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for value in entry.values("sshPublicKey") {
            let (theirs, others): (Vec<Key>, Vec<Key>) =
                keys(value).into_iter().partition(|k| k.fingerprint.0 == fingerprint);
            if !theirs.is_empty() {
                gone.push(value.clone());
                kept.extend(others.into_iter().map(|k| k.line));
            }
        }
        if gone.is_empty() {
            return Ok(Outcome::AlreadyDone);
        }
        kept.retain(|line| !entry.values("sshPublicKey").contains(line));
        let note = format!("deleted {} of {} values of sshPublicKey", gone.len(), entry.values("sshPublicKey").len());
        let mut changes = vec![Change::Delete("sshPublicKey", gone)];
        if !kept.is_empty() {
            changes.push(Change::Add("sshPublicKey", kept));
        }
        let reply = self.modify(account, changes).await?;
        match reply.code {
            Code::Success => Ok(done(note)),
            Code::NoSuchObject => Ok(Outcome::Absent),
            // The values were changed since they were read: the next attempt reads them again.
            Code::NoSuchAttribute => Err(Fault::new(FaultKind::Busy, what).because(&reply.words)),
            Code::InsufficientAccessRights => Err(reply.fault(what).hint(self.grant(Target::People).await)),
            _ => Err(self.refused(&reply, what)),
        }
    }

    fn membership(&self, object: &str) -> Result<Membership, Fault> {
        Membership::parse(object).ok_or_else(|| {
            Fault::new(FaultKind::Misconfigured, format!("{}: {object:?} names no membership", self.name()))
        })
    }
}

fn done(note: String) -> Outcome {
    Outcome::Done { note }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects() {
        let by_name = Membership { attribute: "member", uid: None, group: "cn=a:b,dc=x".into() };
        assert_eq!(by_name.object(), "member:cn=a:b,dc=x");
        assert_eq!(Membership::parse(&by_name.object()), Some(by_name));
        for bad in ["", "member", "memberUid:cn=x", "member=j:cn=x", "owner:cn=x", "memberUid=\\z:cn=x"] {
            assert_eq!(Membership::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_membership_is_read_back_as_it_was(uid in any::<String>(), group in any::<String>(), sudo in any::<bool>()) {
            let attribute = if sudo { "sudoUser" } else { "memberUid" };
            let membership = Membership { attribute, uid: Some(uid), group };
            prop_assert_eq!(Membership::parse(&membership.object()), Some(membership));
        }
    }
}
