//! A door: one way in, by one credential or session, on one account at one place.

use super::{Owner, PlaceId};
use serde::{Deserialize, Serialize};

/// A door's name, readable and unique within a run: `place|account|kind|object`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DoorId(pub String);

impl std::fmt::Display for DoorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of way in it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DoorKind {
    /// The account's own password login.
    Password,
    /// The account itself may log in by means that are no password (Unix account state).
    Login,
    /// An SSH public key that lets its holder in.
    SshKey,
    /// A certificate that lets its holder in; the object is its serial.
    Certificate,
    /// A public key of WireGuard that lets its holder in; the object is the interface.
    Peer,
    /// A live session.
    Session,
    /// A job that runs on the account's behalf: crontab, at.
    Job,
    /// A group, role or other membership that grants something.
    Membership,
    /// A password of a program's account that the holder may know.
    SharedSecret,
    /// A bearer credential that stands for an account, such as an AppRole SecretID; the object is the name it is listed by, never itself.
    Token,
}

impl std::fmt::Display for DoorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password => "password",
            Self::Login => "login",
            Self::SshKey => "ssh-key",
            Self::Certificate => "certificate",
            Self::Peer => "peer",
            Self::Session => "session",
            Self::Job => "job",
            Self::Membership => "membership",
            Self::SharedSecret => "shared-secret",
            Self::Token => "token",
        })
    }
}

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// See [`DoorId`].
    pub id: DoorId,
    /// Where.
    pub place: PlaceId,
    /// The account's `native_id`.
    pub account: String,
    /// What kind.
    pub kind: DoorKind,
    /// Which one of its kind: a fingerprint, a group's DN; `sessions` for all live sessions of the account at once; empty
    /// where the account has just one; the secret's name for a shared secret.
    pub object: String,
    /// For people: files, options, addresses. Never a secret.
    pub detail: String,
    /// Who can walk through it. Mostly the account's owner; a key of the leaver's in `deploy` is the leaver's.
    pub holder: Owner,
}

impl Door {
    /// A door of `kind` on `account` at `place`. The holder is [`Owner::Nobody`] until matching has filled it in.
    pub fn new(place: &PlaceId, account: &str, kind: DoorKind, object: &str, detail: impl Into<String>) -> Self {
        Self {
            id: DoorId(format!("{place}|{account}|{kind}|{object}")),
            place: place.clone(),
            account: account.to_string(),
            kind,
            object: object.to_string(),
            detail: detail.into(),
            holder: Owner::Nobody,
        }
    }
}
