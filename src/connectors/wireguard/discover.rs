//! From what a gateway says to accounts and doors. An account is a public key; a door of it is an interface that lets it in, or would when it is
//! brought up.

use super::names::{self, Named};
use super::survey::Survey;
use super::{Kept, findings};
use crate::connector::Scope;
use crate::model::{Account, Door, DoorKind, Finding, Owner, Place};
use crate::wire::shell::printable;
use jiff::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What a gateway said, and what it is held against.
pub(super) struct Found<'a> {
    pub place: &'a Place,
    pub kept: &'a Kept,
    pub survey: &'a Survey,
}

impl Found<'_> {
    /// Every peer, by key: the interfaces at which it stands.
    fn peers(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut peers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let survey = self.survey;
        let running = survey.running.iter().map(|peer| (&peer.key, &peer.interface));
        let written = survey.written.iter().map(|peer| (&peer.key, &peer.interface));
        let kept = survey.others.iter().filter(|other| !other.is_copy());
        let kept = kept.filter_map(|other| other.key.as_ref().map(|key| (key, &other.interface)));
        for (key, interface) in running.chain(written).chain(kept) {
            peers.entry(key).or_default().insert(interface);
        }
        peers
    }

    /// What the comments beside a peer say, in every file.
    pub(super) fn named(&self, key: &str) -> Named {
        let written = self.survey.written.iter().filter(|peer| peer.key == key);
        names::named(written.flat_map(|peer| peer.comments.iter().map(String::as_str)))
    }

    /// A peer for people: the first comment, and the beginning of its key.
    pub(super) fn title(&self, key: &str) -> String {
        let written = self.survey.written.iter().filter(|peer| peer.key == key);
        let comment = written.flat_map(|peer| &peer.comments).find(|comment| comment.chars().any(char::is_alphanumeric));
        let begin: String = key.chars().take(8).collect();
        match comment {
            Some(comment) => format!("{}, key {begin}…", printable(comment, 60)),
            None => format!("key {begin}…"),
        }
    }

    /// Every account.
    pub(super) fn accounts(&self) -> Vec<Account> {
        self.peers().into_iter().map(|(key, interfaces)| self.account(key, &interfaces)).collect()
    }

    fn account(&self, key: &str, interfaces: &BTreeSet<&str>) -> Account {
        let survey = self.survey;
        let handshake = survey.running.iter().filter(|peer| peer.key == key).map(|peer| peer.handshake).max();
        let mut facts = serde_json::Map::new();
        let mut doors = Vec::new();
        for interface in interfaces {
            let running = survey.runs(interface, key);
            let written = survey.written_for(interface, key);
            let other = survey.others.iter().find(|other| {
                !other.is_copy() && other.interface == *interface && other.key.as_deref() == Some(key)
            });
            let mut stands = Vec::new();
            if let Some(peer) = running {
                stands.push(match peer.handshake {
                    0 => "runs, without a handshake".into(),
                    at => format!("runs, last handshake {}, from {}", time(at), peer.endpoint),
                });
            }
            stands.extend(written.map(|peer| format!("{}, line {}", peer.file, peer.line)));
            stands.extend(other.map(|other| format!("{} ({})", other.file, other.program)));
            let allowed = running.map(|p| &p.allowed).or(written.map(|p| &p.allowed)).filter(|allowed| !allowed.is_empty());
            stands.extend(allowed.map(|allowed| format!("allowed {allowed}")));
            doors.push(Door::new(&self.place.id, key, DoorKind::Peer, interface, printable(&stands.join("; "), 400)));
            facts.insert(
                (*interface).to_string(),
                json!({
                    "runs": running.is_some(),
                    "file": written.map(|peer| &peer.file),
                    "comments": written.map(|peer| &peer.comments),
                    "allowed": allowed,
                }),
            );
        }
        let owner = if self.kept.control.as_deref() == Some(key) { Owner::Ourselves } else { Owner::Nobody };
        Account {
            system: self.place.system.clone(),
            place: self.place.id.clone(),
            native_id: key.to_string(),
            name: self.title(key),
            enabled: true,
            identity: self.named(key).identity,
            owner,
            privileged: false,
            last_used: handshake.filter(|at| *at > 0).and_then(|at| Timestamp::from_second(at).ok()),
            doors,
            facts: json!({ "interfaces": facts }),
        }
    }

    /// What a person should know of how this gateway is set up, and of the people in `scope`. `left_out` are interfaces that are not meant.
    pub(super) fn findings(&self, scope: &Scope, left_out: &BTreeSet<String>) -> Vec<Finding> {
        findings::findings(self, scope, left_out)
    }
}

/// A time of the gateway's clock.
pub(super) fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "at no time".into(), |at| at.to_string())
}
