//! A private key that a program logs in with: the whole file is the value, however the key is written in it.

use super::{Found, Quoting};
use crate::model::Fingerprint;
use crate::wire::shell::fingerprint;
use rand::TryRng;
use rand::rngs::SysRng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// A private key that can be used as it stands in its file.
pub struct PrivateKeyFile(PrivateKey);

impl PrivateKeyFile {
    /// Reads it: in OpenSSH's format, or in an older one that ssh(1) reads as well.
    ///
    /// # Errors
    /// Why no program can log in with it; nothing of what was read is in that.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let blocks = text.matches("-----BEGIN ").count();
        let alone =
            text.starts_with("-----BEGIN ") && text.lines().last().is_some_and(|line| line.starts_with("-----END "));
        if blocks != 1 || !alone {
            return Err("it is no file with one private key that ssh reads, and nothing else".into());
        }
        let locked = "the key has a passphrase: a program cannot use it, and neither can it be tried";
        let key = match PrivateKey::from_openssh(text) {
            Ok(key) => key,
            // The decoder's own error may quote what it read.
            Err(_) => russh::keys::decode_secret_key(text, None).map_err(|error| match error {
                russh::keys::Error::KeyIsEncrypted => locked.to_string(),
                _ => "it is no private key that ssh reads".to_string(),
            })?,
        };
        match key.key_data() {
            _ if key.is_encrypted() => Err(locked.into()),
            KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) | KeypairData::Rsa(_) => Ok(Self(key)),
            _ => Err("the key is of a kind that needs a token, or that sshd does not take any more".into()),
        }
    }

    /// A new one (Ed25519, RFC 8032), from the system's randomness.
    ///
    /// # Errors
    /// There is none.
    pub fn new() -> Result<Self, String> {
        let mut seed = Zeroizing::new([0; Ed25519Keypair::BYTE_SIZE / 2]);
        SysRng.try_fill_bytes(&mut *seed).map_err(|_| "no randomness to be had".to_string())?;
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        PrivateKey::new(pair, "").map(Self).map_err(|_| "the new key cannot be written".to_string())
    }

    /// The same text for the same key, whatever comment or format it had: OpenSSH's own (PROTOCOL.key), without a comment.
    ///
    /// # Errors
    /// It cannot be written so.
    pub fn text(&self) -> Result<Zeroizing<String>, String> {
        let plain = PrivateKey::new(self.0.key_data().clone(), "");
        plain.and_then(|key| key.to_openssh(LineEnding::LF)).map_err(|_| "the key cannot be written anew".to_string())
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        self.0.public_key()
    }

    /// Type and base64 of its public half, as they stand in authorized_keys.
    pub fn words(&self) -> String {
        let line = self.public().to_openssh().unwrap_or_default();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// As `ssh-keygen -lf` prints it.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(self.public())
    }
}

/// The value of a whole file: a new one takes the place of all of it.
pub fn find(text: &str) -> Result<Found, String> {
    let value = PrivateKeyFile::parse(text)?.text()?;
    if value.len() > super::LONGEST {
        return Err(format!("the key is longer than {} bytes", super::LONGEST));
    }
    Ok(Found { value, raw: Zeroizing::new(text.to_string()), span: 0..text.len(), quoting: Quoting::Bare })
}
