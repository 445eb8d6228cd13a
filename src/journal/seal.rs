//! Sealing: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), a fresh random nonce a value. The key's name, the run and the value's
//! name are authenticated with it, so that a value moved to another place does not open.
//!
//! A sealed value is an envelope: `offseal2`, the 8 bytes of the key's name, a 24-byte nonce, the ciphertext with its tag. Journals
//! from before keys had names hold values of nonce and ciphertext alone; they are read for good, and a rotation seals them anew.

use super::keys::random;
use crate::model::{Fault, RunId, SealedId};
use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What an envelope begins with. A nonce from before does so once in 2⁶⁴ times.
pub(super) const ENVELOPE: &[u8; 8] = b"offseal2";

const NAME: usize = 8;
const NONCE: usize = 24;

/// The name of a sealing key, 16 hex digits: the beginning of a SHA-256 over it. It tells keys apart, and says nothing of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that seals. Wiped from memory when dropped.
#[derive(Clone)]
pub(super) struct SealingKey {
    name: [u8; NAME],
    key: Zeroizing<[u8; 32]>,
}

impl SealingKey {
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        let hash = Sha256::new().chain_update(b"offboard sealing key 1\n").chain_update(*key).finalize();
        let mut name = [0; NAME];
        name.copy_from_slice(&hash[..NAME]);
        Self { name, key }
    }

    pub fn id(&self) -> KeyId {
        KeyId(super::chain::hex(&self.name).0)
    }

    /// What every envelope of this key begins with.
    pub fn header(&self) -> Vec<u8> {
        [&ENVELOPE[..], &self.name].concat()
    }

    /// The text of its file.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}\n", STANDARD.encode(*self.key)))
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.key
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.key))
    }
}

/// Why a sealed value does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It was sealed with a key that is not at hand.
    OtherKey(KeyId),
    /// The key, the run, the name or a single bit is not what it was when the value was sealed.
    Changed,
}

/// `plaintext` as the store may see it.
pub(super) fn seal(
    key: &SealingKey,
    run: &RunId,
    id: &SealedId,
    plaintext: &SecretSlice<u8>,
) -> Result<Vec<u8>, Fault> {
    let nonce: [u8; NONCE] = random()?;
    let payload = Payload { msg: plaintext.expose_secret(), aad: &bound_to(Some(key), run, id) };
    let ciphertext = key
        .cipher()
        .encrypt(&XNonce::from(nonce), payload)
        .expect("only a plaintext of 256 GiB or more cannot be encrypted");
    Ok([&key.header()[..], &nonce, &ciphertext].concat())
}

/// The plaintext of a value that one of `keys` has sealed.
pub(super) fn open<'a>(
    keys: impl IntoIterator<Item = &'a SealingKey>,
    run: &RunId,
    id: &SealedId,
    value: &[u8],
) -> Result<SecretSlice<u8>, Unopened> {
    let mut keys = keys.into_iter();
    let opened = match value.strip_prefix(ENVELOPE) {
        Some(named) => {
            let (name, rest) = named.split_first_chunk::<NAME>().ok_or(Unopened::Changed)?;
            let other = || Unopened::OtherKey(KeyId(super::chain::hex(name).0));
            let key = keys.find(|key| key.name == *name).ok_or_else(other)?;
            decrypt(key, &bound_to(Some(key), run, id), rest)
        }
        None => keys.find_map(|key| decrypt(key, &bound_to(None, run, id), value)),
    };
    opened.ok_or(Unopened::Changed)
}

fn decrypt(key: &SealingKey, bound_to: &[u8], value: &[u8]) -> Option<SecretSlice<u8>> {
    let (nonce, ciphertext) = value.split_first_chunk::<NONCE>()?;
    let payload = Payload { msg: ciphertext, aad: bound_to };
    let plaintext = key.cipher().decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).ok()?;
    // A copy of just that length: a vector with room to spare would be moved, and what it leaves behind is not wiped.
    Some(SecretSlice::from(plaintext.to_vec()))
}

/// What is authenticated with a value; `key` is nothing for one from before keys had names.
fn bound_to(key: Option<&SealingKey>, run: &RunId, id: &SealedId) -> Vec<u8> {
    let mut bytes = match key {
        Some(key) => [&b"offboard sealed value 2\n"[..], &key.name].concat(),
        None => b"offboard sealed value 1\n".to_vec(),
    };
    for part in [&run.0, &id.0] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(Zeroizing::new([byte; 32]))
    }

    fn place(run: &str, id: &str) -> (RunId, SealedId) {
        (RunId(run.into()), SealedId(id.into()))
    }

    /// As journals were written before keys had names.
    fn old(key: &SealingKey, run: &RunId, id: &SealedId, plaintext: &[u8]) -> Vec<u8> {
        let nonce = [7; NONCE];
        let payload = Payload { msg: plaintext, aad: &bound_to(None, run, id) };
        [&nonce[..], &key.cipher().encrypt(&XNonce::from(nonce), payload).unwrap()].concat()
    }

    #[test]
    fn a_value_opens_with_its_key_in_its_place_and_nowhere_else() {
        let (run, id) = place("7F3K", "seed");
        let (mine, other) = (key(1), key(2));
        let named = seal(&mine, &run, &id, &SecretSlice::from(b"hunter2".to_vec())).unwrap();
        for value in [named.clone(), old(&mine, &run, &id, b"hunter2")] {
            for keys in [vec![&mine], vec![&other, &mine], vec![&mine, &other]] {
                assert_eq!(open(keys, &run, &id, &value).unwrap().expose_secret(), b"hunter2");
            }
            assert!(open([&other], &run, &id, &value).is_err());
            for (run, id) in [place("7F3L", "seed"), place("7F3K", "seee"), place("7F3Ks", "eed")] {
                assert_eq!(open([&mine], &run, &id, &value).unwrap_err(), Unopened::Changed);
            }
            for bit in 0..value.len() * 8 {
                let mut changed = value.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(open([&mine, &other], &run, &id, &changed).is_err(), "bit {bit}");
            }
            for end in 0..value.len() {
                assert!(open([&mine], &run, &id, &value[..end]).is_err(), "{end} bytes");
            }
        }
        assert_eq!(open([&other], &run, &id, &named).unwrap_err(), Unopened::OtherKey(mine.id()));
        // A value cannot be given to a key of another name, nor be passed off as one from before.
        let renamed = [&other.header()[..], &named[ENVELOPE.len() + NAME..]].concat();
        assert_eq!(open([&mine, &other], &run, &id, &renamed).unwrap_err(), Unopened::Changed);
        assert_eq!(open([&mine], &run, &id, &named[ENVELOPE.len() + NAME..]).unwrap_err(), Unopened::Changed);
    }

    #[test]
    fn the_name_of_a_key_says_which_it_is_and_nothing_more() {
        assert_eq!(key(1).id(), key(1).id());
        assert_ne!(key(1).id(), key(2).id());
        assert_eq!(key(1).id().0.len(), 16);
    }
}
