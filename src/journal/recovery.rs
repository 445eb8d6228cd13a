//! The recovery key: a second way to the journal's keys, for the day on which the folder `keys` is lost. Its private half is kept away
//! from here, on paper; the journal holds both keys encrypted to the public half.
//!
//! HPKE in base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305; the `info` is `offboard recovery 1` and a
//! newline, the additional data is the sealing key's name, the plaintext is the 32 bytes of the sealing key and the 32 bytes of the
//! Ed25519 signing key.

use super::keys::Keys;
use super::seal::{KeyId, SealingKey};
use crate::model::{Digest, Fault, FaultKind};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const INFO: &[u8] = b"offboard recovery 1\n";

/// What a written recovery key begins with.
const PREFIX: &str = "OFFBOARD-RECOVERY-1";

/// Crockford's base32: no I, L, O or U, which are read as other characters.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// How many bytes of a digest are written after the key, against slips of the pen. With them it is 56 characters.
const CHECK: usize = 3;

/// Whom the keys are encrypted to: the public half of a recovery key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recipient(String);

impl Recipient {
    /// 16 hex digits that tell recovery keys apart.
    pub fn id(&self) -> String {
        Digest::of(self.0.as_bytes()).0.chars().take(16).collect()
    }

    /// Both keys, so that only the private half opens them.
    pub(super) fn wrap(&self, sealing: &SealingKey, keys: &Keys) -> Result<Wrapped, Fault> {
        let fault = |e: &dyn std::fmt::Display| {
            Fault::new(FaultKind::Unexpected, "the keys cannot be encrypted to the recovery key").because(e)
        };
        let public = STANDARD.decode(&self.0).map_err(|e| fault(&e))?;
        let mut plaintext = Zeroizing::new([0; 64]);
        plaintext[..32].copy_from_slice(sealing.bytes());
        plaintext[32..].copy_from_slice(&*keys.signing_bytes());
        let (encapsulated, ciphertext) = SUITE
            .seal(INFO, sealing.id().0.as_bytes(), &plaintext[..], &HpkePublicKey(public))
            .map_err(|e| fault(&e))?;
        Ok(Wrapped {
            recipient: self.clone(),
            encapsulated: STANDARD.encode(encapsulated.0),
            ciphertext: STANDARD.encode(ciphertext),
        })
    }
}

/// Both keys, encrypted to a recovery key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wrapped {
    pub recipient: Recipient,
    encapsulated: String,
    ciphertext: String,
}

/// The private half of a recovery key. Wiped from memory when dropped.
pub struct RecoveryKey {
    secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecoveryKey").finish_non_exhaustive()
    }
}

impl RecoveryKey {
    /// A new one, and its public half.
    ///
    /// # Errors
    /// `Unexpected` if there is no randomness.
    pub fn generate() -> Result<(Self, Recipient), Fault> {
        let fault =
            |e: &dyn std::fmt::Display| Fault::new(FaultKind::Unexpected, "a recovery key cannot be made").because(e);
        let (public, private) = SUITE.generate_key_pair().map_err(|e| fault(&e))?;
        let secret = private.secret_bytes().try_into().map_err(|e: std::array::TryFromSliceError| fault(&e))?;
        Ok((Self { secret: Zeroizing::new(secret) }, Recipient(STANDARD.encode(public.0))))
    }

    /// As it is written down: `OFFBOARD-RECOVERY-1` and 14 groups of four characters.
    pub fn to_text(&self) -> SecretString {
        let mut bytes = Zeroizing::new([0; 32 + CHECK]);
        bytes[..32].copy_from_slice(&*self.secret);
        bytes[32..].copy_from_slice(&check(&self.secret));
        let mut text = Zeroizing::new(String::with_capacity(128));
        text.push_str(PREFIX);
        // 35 bytes are 56 digits of five bits, without a rest.
        for five in bytes.chunks(5) {
            let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            for digit in 0..8 {
                if digit % 4 == 0 {
                    text.push('-');
                }
                text.push(char::from(ALPHABET[(bits >> (35 - 5 * digit) & 31) as usize]));
            }
        }
        SecretString::from(text.as_str())
    }

    /// From what was written down. Small letters, blanks and dashes do not matter, nor do O for 0 and I or L for 1.
    ///
    /// # Errors
    /// `Misconfigured`: what is wrong with it, never what it says.
    pub fn from_text(text: &str) -> Result<Self, Fault> {
        let fault = |why: &str| {
            Fault::new(FaultKind::Misconfigured, format!("this is no recovery key: {why}"))
                .hint(format!("it begins with {PREFIX}, and 14 groups of four letters and digits follow"))
        };
        let plain: Zeroizing<String> = Zeroizing::new(
            text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect(),
        );
        let digits = plain.strip_prefix(&PREFIX.replace('-', "")).ok_or_else(|| fault("it begins otherwise"))?;
        if digits.chars().count() != 56 {
            return Err(fault("it is not 56 characters long"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(35));
        let mut bits = Zeroizing::new((0u64, 0u32));
        for digit in digits.chars() {
            let digit = match digit {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let value = ALPHABET.iter().position(|c| char::from(*c) == digit);
            let value = value.ok_or_else(|| fault("it holds a character that is none of a key's"))?;
            *bits = ((bits.0 << 5 | value as u64) & 0xfff, bits.1 + 5);
            if bits.1 >= 8 {
                let rest = bits.1 - 8;
                bytes.push((bits.0 >> rest & 0xff) as u8);
                bits.1 = rest;
            }
        }
        let (secret, written) = bytes.split_at(32);
        let mut key = Self { secret: Zeroizing::new([0; 32]) };
        key.secret.copy_from_slice(secret);
        if check(&key.secret) != written {
            return Err(fault("a character is wrong, or two have changed places"));
        }
        Ok(key)
    }

    /// The sealing key of that name and the signing key; nothing if they were encrypted to another recovery key.
    pub(super) fn unwrap(&self, id: &KeyId, wrapped: &Wrapped) -> Option<(SealingKey, SigningKey)> {
        let encapsulated = EncapsulatedSecret(STANDARD.decode(&wrapped.encapsulated).ok()?);
        let ciphertext = STANDARD.decode(&wrapped.ciphertext).ok()?;
        let private = HpkePrivateKey::from(self.secret.to_vec());
        let opened =
            SUITE.open(&encapsulated, INFO, id.0.as_bytes(), &ciphertext, &private).map(Zeroizing::new).ok()?;
        let (sealing, signing) = opened.split_first_chunk::<32>()?;
        let sealing = SealingKey::new(Zeroizing::new(*sealing));
        let signing: Zeroizing<[u8; 32]> = Zeroizing::new(signing.try_into().ok()?);
        (sealing.id() == *id).then(|| (sealing, SigningKey::from_bytes(&signing)))
    }
}

fn check(secret: &[u8; 32]) -> [u8; CHECK] {
    use sha2::Digest;
    let hash = sha2::Sha256::new().chain_update(b"offboard recovery key 1\n").chain_update(secret).finalize();
    [hash[0], hash[1], hash[2]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_key_that_was_written_down_is_read_again_and_a_slip_of_the_pen_is_told() {
        let (key, recipient) = RecoveryKey::generate().unwrap();
        let text = key.to_text();
        let text = text.expose_secret();
        assert_eq!(text.len(), PREFIX.len() + 14 * 5);
        let by_hand = format!(" {}\n", text.to_lowercase().replace('-', " ").replace('0', "o"));
        for written in [text.to_string(), by_hand, text.replace('1', "l").replacen("RECOVERY-l", "RECOVERY-1", 1)] {
            assert_eq!(*RecoveryKey::from_text(&written).unwrap().secret, *key.secret);
        }
        let start = PREFIX.len() + 1;
        for (place, was) in text.char_indices().skip(start).filter(|(_, c)| *c != '-') {
            let mut slip = text.to_string();
            slip.replace_range(place..=place, if was == 'A' { "B" } else { "A" });
            let fault = RecoveryKey::from_text(&slip).unwrap_err();
            assert!(!fault.to_string().contains(&text[start..start + 4]), "{fault}");
        }
        for other in
            ["", "OFFBOARD-RECOVERY-1", &text[..text.len() - 1], &format!("{text}0"), &text.replacen('A', "U", 9)]
        {
            assert!(RecoveryKey::from_text(other).is_err() || other == text, "{other}");
        }
        assert_eq!(recipient.id().len(), 16);
        assert!(!format!("{key:?}").contains(&text[start..start + 4]));
    }
}
