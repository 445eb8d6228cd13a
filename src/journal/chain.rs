//! What is hashed and what is signed.
//!
//! A record's body is JSON that says everything of it: run, seq, time, the checkpoint that signs it, event. Its hash is
//! `SHA-256("offboard record 1\n" ‖ hash of the run's previous record, 32 bytes ‖ body)`; before the first record stand 32 zero
//! bytes. A checkpoint's body is JSON, too: its number, the previous checkpoint's hash, the new heads of all runs that changed
//! and the digests of the values that were sealed. Its hash is `SHA-256("offboard checkpoint 1\n" ‖ body)`, and the Ed25519
//! signature is over the same bytes. Both bodies are stored exactly as they were hashed.

use super::keys::{Keys, PublicKey};
use crate::model::{Digest, Event, Record, RunId, SealedId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A hash as it is stored.
pub(super) type Hash = [u8; 32];

/// What stands before the first record of a run.
pub(super) const START: Hash = [0; 32];

const RECORD: &[u8] = b"offboard record 1\n";
const CHECKPOINT: &[u8] = b"offboard checkpoint 1\n";

/// The last record of a run: where the next one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub seq: u64,
    pub hash: Hash,
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> Digest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Digest(nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect())
}

/// A record as it is written.
#[derive(Serialize)]
pub(super) struct NewBody<'a> {
    pub run: &'a RunId,
    pub seq: u64,
    pub at: Timestamp,
    pub checkpoint: u64,
    pub event: &'a Event,
}

/// A record as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    pub run: RunId,
    pub seq: u64,
    pub at: Timestamp,
    pub checkpoint: u64,
    pub event: Event,
}

impl Body {
    pub fn into_record(self, hash: &[u8]) -> Record {
        Record { run: self.run, seq: self.seq, at: self.at, event: self.event, hash: hex(hash) }
    }
}

/// The part of a record that `verify` looks at: it does not need to understand every event.
#[derive(Deserialize)]
pub(super) struct Outline {
    pub run: RunId,
    pub seq: u64,
    pub checkpoint: u64,
    pub event: EventOutline,
}

/// The part of an event that `verify` looks at.
#[derive(Deserialize)]
pub(super) struct EventOutline {
    pub event: String,
    /// Only [`Event::Destroyed`] has it.
    #[serde(default)]
    pub sealed: Option<SealedId>,
}

impl EventOutline {
    pub fn destroyed(self) -> Option<SealedId> {
        if self.event == "destroyed" { self.sealed } else { None }
    }
}

/// The hash of a record.
pub(super) fn record_hash(previous: &Hash, body: &[u8]) -> Hash {
    Sha256::new().chain_update(RECORD).chain_update(previous).chain_update(body).finalize().into()
}

/// A run's head, as a checkpoint says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignedHead {
    pub run: RunId,
    pub seq: u64,
    pub hash: Digest,
}

/// A sealed value, as a checkpoint says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignedValue {
    pub run: RunId,
    pub id: SealedId,
    /// SHA-256 of what is stored: nonce and ciphertext.
    pub sha256: Digest,
}

/// A checkpoint's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    /// From 0, without gaps.
    pub number: u64,
    /// The time of the last record in it; nothing where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Timestamp>,
    /// The hash of the checkpoint before; in the first one, 32 random bytes that tell this journal from any other.
    pub previous: Digest,
    /// Runs that changed.
    pub heads: Vec<SignedHead>,
    /// Values that were sealed.
    pub sealed: Vec<SignedValue>,
    /// What stands in the place of values from now on, sealed with another key; and what the journal knows of its sealing keys.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub resealed: Vec<SignedValue>,
}

/// A checkpoint as it is stored.
pub(super) struct SignedCheckpoint {
    pub body: String,
    pub signature: [u8; 64],
    pub hash: Digest,
}

impl Checkpoint {
    pub fn sign(&self, keys: &Keys) -> SignedCheckpoint {
        let body = serde_json::to_string(self).expect("numbers and strings always make JSON");
        let message = checkpoint_message(body.as_bytes());
        SignedCheckpoint { signature: keys.sign(&message), hash: Digest::of(&message), body }
    }

    /// The checkpoint and its hash; nothing if `signature` is not `key`'s.
    pub fn open(body: &[u8], signature: &[u8], key: &PublicKey) -> Option<(Self, Digest)> {
        let message = checkpoint_message(body);
        if !key.verifies(&message, signature) {
            return None;
        }
        Some((serde_json::from_slice(body).ok()?, Digest::of(&message)))
    }

    /// What a body says, and its hash. Nobody has signed it so far.
    pub fn hashed(body: &[u8]) -> Option<(Self, Digest)> {
        Some((serde_json::from_slice(body).ok()?, Digest::of(&checkpoint_message(body))))
    }
}

fn checkpoint_message(body: &[u8]) -> Vec<u8> {
    [CHECKPOINT, body].concat()
}
