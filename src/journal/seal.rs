//! Sealing: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), a fresh random nonce a value. The run and the value's name are
//! authenticated with it, so that a value moved to another place does not open.

use super::keys::{Keys, random};
use crate::model::{Fault, RunId, SealedId};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretSlice};

const NONCE: usize = 24;

/// `plaintext` as the store may see it: the nonce, then the ciphertext with its tag.
pub(super) fn seal(keys: &Keys, run: &RunId, id: &SealedId, plaintext: &SecretSlice<u8>) -> Result<Vec<u8>, Fault> {
    let nonce: [u8; NONCE] = random()?;
    let payload = Payload { msg: plaintext.expose_secret(), aad: &bound_to(run, id) };
    let ciphertext = XChaCha20Poly1305::new(&Key::from(*keys.sealing()))
        .encrypt(&XNonce::from(nonce), payload)
        .expect("only a plaintext of 256 GiB or more cannot be encrypted");
    Ok([&nonce[..], &ciphertext].concat())
}

/// The plaintext; nothing if the key, the run, the name or a single bit is not what it was when the value was sealed.
pub(super) fn open(keys: &Keys, run: &RunId, id: &SealedId, value: &[u8]) -> Option<SecretSlice<u8>> {
    let (nonce, ciphertext) = value.split_first_chunk::<NONCE>()?;
    XChaCha20Poly1305::new(&Key::from(*keys.sealing()))
        .decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: &bound_to(run, id) })
        .ok()
        .map(SecretSlice::from)
}

fn bound_to(run: &RunId, id: &SealedId) -> Vec<u8> {
    let mut bytes = b"offboard sealed value 1\n".to_vec();
    for part in [&run.0, &id.0] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}
