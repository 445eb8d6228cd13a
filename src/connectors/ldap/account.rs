//! What an entry and the groups that name it say of an account.

use super::keys::keys;
use super::lock::{FOREVER, pass_through};
use super::objects::Membership;
use super::{Attributes, Shared};
use crate::model::{Account, Door, DoorKind, Fingerprint, Identity, Owner, Place};
use crate::wire::ldap::{Entry, dn_escape, normal_dn, parent_dn};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// What discovery reads of an entry.
pub(super) fn attributes(names: &Attributes) -> Vec<&str> {
    vec![
        &names.user_name,
        &names.mail,
        &names.employee_number,
        "objectClass",
        "cn",
        "displayName",
        "userPassword",
        "sshPublicKey",
        "userCertificate",
        "shadowExpire",
        "nsAccountLock",
        "pwdAccountLockedTime",
        "pwdChangedTime",
        "pwdLastSuccess",
        "authTimestamp",
        "createTimestamp",
    ]
}

/// The before-image: what restore needs. Passwords are not in it; old ones are neither kept nor revived.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Facts {
    /// It was locked before we came.
    pub locked: bool,
    /// `shadowExpire` as it was.
    pub shadow_expire: Vec<String>,
    /// `{SASL}user@REALM` and the like: the password is checked elsewhere; this is a pointer, not a secret.
    pub pass_through: Vec<String>,
    /// When the entry was made, as the server writes it.
    pub made: Option<String>,
}

/// The account that `entry` is. `has_password` is what the server said where `userPassword` itself is hidden from us.
pub(super) fn account(
    shared: &Shared,
    place: &Place,
    entry: &Entry,
    has_password: bool,
    memberships: &[Membership],
) -> Account {
    let names = &shared.settings.attributes;
    let locked = is_locked(entry);
    let mut doors = Vec::new();
    let mut door = |kind, object: &str, detail: String| {
        let door = Door::new(&place.id, &entry.dn, kind, object, detail);
        if !doors.iter().any(|known: &Door| known.id == door.id) {
            doors.push(door);
        }
    };
    if has_password {
        let values = entry.values("userPassword").len();
        let many = if values > 1 { format!("{values} passwords") } else { "a password".into() };
        door(DoorKind::Password, "", if locked { format!("{many}, locked") } else { many });
    }
    let declared: Vec<_> = entry.values("sshPublicKey").iter().flat_map(|value| keys(value)).collect();
    for key in &declared {
        door(DoorKind::SshKey, &key.fingerprint.0, key.detail.clone());
    }
    for membership in memberships {
        door(DoorKind::Membership, &membership.object(), membership.detail());
    }
    let mut declared_keys: Vec<Fingerprint> = declared.into_iter().map(|k| k.fingerprint).collect();
    declared_keys.sort();
    declared_keys.dedup();
    let facts = Facts {
        locked,
        shadow_expire: entry.texts("shadowExpire"),
        pass_through: entry.texts("userPassword").into_iter().filter(|v| pass_through(v.as_bytes())).collect(),
        made: entry.text("createTimestamp"),
    };
    let shown = ["displayName", "cn", names.user_name.as_str()].iter().find_map(|name| entry.text(name));
    Account {
        system: shared.system.clone(),
        place: place.id.clone(),
        native_id: entry.dn.clone(),
        name: shown.unwrap_or_else(|| entry.dn.clone()).chars().filter(|c| !c.is_control()).collect(),
        enabled: !locked,
        identity: Identity {
            employee_number: entry.text(&names.employee_number),
            mails: entry.texts(&names.mail),
            user_name: user_name(entry, &names.user_name),
            declared_keys,
        },
        owner: if shared.is_own(&entry.dn) { Owner::Ourselves } else { Owner::Nobody },
        privileged: memberships.iter().any(|m| m.attribute == "sudoUser"),
        last_used: ["pwdLastSuccess", "authTimestamp"].iter().filter_map(|name| time(&entry.text(name)?)).max(),
        doors,
        facts: serde_json::to_value(facts).unwrap_or_default(),
    }
}

/// The user name; of several, the one that names the entry.
fn user_name(entry: &Entry, attribute: &str) -> Option<String> {
    let mut names = entry.texts(attribute);
    let rdn = |name: &String| {
        let dn = normal_dn(&format!("{attribute}={}", dn_escape(name.as_str())));
        let first = entry.dn.len().checked_sub(parent_dn(&entry.dn).map_or(0, |above| above.len() + 1));
        dn.is_some() && dn == first.and_then(|end| entry.dn.get(..end)).and_then(normal_dn)
    };
    let at = names.iter().position(rdn).unwrap_or(0);
    (at < names.len()).then(|| names.swap_remove(at))
}

/// Whether the entry carries a lock without end. Whether a policy makes it effective is another question.
pub(super) fn is_locked(entry: &Entry) -> bool {
    let forever = entry.values("pwdAccountLockedTime").iter().any(|v| v == FOREVER);
    forever || entry.text("nsAccountLock").is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

/// `GeneralizedTime` (RFC 4517, section 3.3.13) in UTC, as servers write operational attributes; fractions are dropped.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let digits = text.get(..14).filter(|_| text.ends_with('Z'))?;
    let civil = DateTime::strptime("%Y%m%d%H%M%S", digits).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generalized_time() {
        let at = |text| time(text).map(|t| t.to_string());
        assert_eq!(at("20260107080910Z").as_deref(), Some("2026-01-07T08:09:10Z"));
        assert_eq!(at("20260107080910.123456Z").as_deref(), Some("2026-01-07T08:09:10Z"));
        for bad in ["", "2026", "20261307080910Z", "20260107080910+0100", "äöüäöüäöüäöüäöü"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_user_name_in_the_dn_comes_first() {
        let uids = || [("uid", vec![b"alias".to_vec(), b"Roe, J".to_vec()])];
        assert_eq!(user_name(&Entry::new(r"uid=roe\2C j,ou=people,dc=x", uids()), "uid").as_deref(), Some("Roe, J"));
        assert_eq!(user_name(&Entry::new("cn=Jane,ou=people,dc=x", uids()), "uid").as_deref(), Some("alias"));
        assert_eq!(user_name(&Entry::new("uid=x", []), "uid"), None);
    }

    #[test]
    fn only_an_endless_lock_is_a_lock() {
        let entry = |name, value: &str| Entry::new("uid=x", [(name, vec![value.as_bytes().to_vec()])]);
        assert!(is_locked(&entry("pwdAccountLockedTime", "000001010000Z")));
        assert!(is_locked(&entry("nsAccountLock", "TRUE")));
        assert!(!is_locked(&entry("pwdAccountLockedTime", "20260107080910Z")), "this one ends with pwdLockoutDuration");
        assert!(!is_locked(&entry("nsAccountLock", "false")));
    }
}
