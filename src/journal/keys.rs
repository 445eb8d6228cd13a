//! The journal's two keys: one seals secrets, one signs checkpoints.
//!
//! Three files in one folder: `sealing.key` (32 bytes, base64, XChaCha20-Poly1305), `signing.key` (Ed25519, PKCS #8 PEM,
//! RFC 8410) and `signing.pub` (SubjectPublicKeyInfo PEM). The two `.key` files are for their owner alone. The public one goes
//! to whoever verifies the journal away from here; `openssl` reads it, too.

use crate::model::{Digest, Fault, FaultKind};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand::TryRng;
use rand::rngs::SysRng;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The file of the sealing key.
pub const SEALING_KEY: &str = "sealing.key";
/// The file of the signing key's private half.
pub const SIGNING_KEY: &str = "signing.key";
/// The file of the signing key's public half.
pub const PUBLIC_KEY: &str = "signing.pub";

/// Both keys. Wiped from memory when dropped.
pub struct Keys {
    sealing: Zeroizing<[u8; 32]>,
    signing: SigningKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Makes new keys in `folder`, which is made with mode 0700 if it is not there. The private files get mode 0600.
    ///
    /// # Errors
    /// `Protected` if one of the files exists: keys are never overwritten, for what they sealed and signed would be lost.
    pub fn generate(folder: &Path) -> Result<Self, Fault> {
        for name in [SEALING_KEY, SIGNING_KEY, PUBLIC_KEY] {
            let path = folder.join(name);
            if path.symlink_metadata().is_ok() {
                return Err(Fault::new(FaultKind::Protected, format!("{} exists already", path.display()))
                    .hint("keys are never overwritten: name another folder in offboard.yaml, or keep these"));
            }
        }
        let keys =
            Self { sealing: Zeroizing::new(random()?), signing: SigningKey::from_bytes(&Zeroizing::new(random()?)) };
        let fault = |what: &Path, e: &dyn std::fmt::Display| {
            Fault::new(FaultKind::Misconfigured, format!("{}: cannot be written", what.display())).because(e)
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| fault(folder, &e))?;
        let sealing = Zeroizing::new(format!("{}\n", STANDARD.encode(*keys.sealing)));
        // Version 1 of PKCS #8, without the public half: OpenSSL 3.0 does not read version 2.
        let signing = KeypairBytes { secret_key: keys.signing.to_bytes(), public_key: None }
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| fault(&folder.join(SIGNING_KEY), &e))?;
        let public = keys.public().to_pem();
        for (name, mode, text) in [
            (SEALING_KEY, 0o600, sealing.as_str()),
            (SIGNING_KEY, 0o600, signing.as_str()),
            (PUBLIC_KEY, 0o644, public.as_str()),
        ] {
            let path = folder.join(name);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(|e| fault(&path, &e))?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| fault(&path, &e))?;
        }
        Ok(keys)
    }

    /// The keys in `folder`. `read` reads one file that nobody but its owner may read, and refuses any other: this room has no
    /// such check of its own.
    ///
    /// # Errors
    /// What `read` says, or `Misconfigured` if a file holds something else.
    pub fn load(folder: &Path, read: impl Fn(&Path) -> Result<Vec<u8>, Fault>) -> Result<Self, Fault> {
        let fault = |name: &str, why: &str| {
            Fault::new(FaultKind::Misconfigured, format!("{}: {why}", folder.join(name).display()))
                .hint("restore it from its backup; without it sealed values cannot be read and runs cannot go on")
        };
        let bytes = Zeroizing::new(read(&folder.join(SEALING_KEY))?);
        let bytes =
            STANDARD.decode(bytes.trim_ascii()).map(Zeroizing::new).map_err(|_| fault(SEALING_KEY, "is not base64"))?;
        let sealing: [u8; 32] =
            bytes.as_slice().try_into().map_err(|_| fault(SEALING_KEY, "does not hold 32 bytes"))?;
        let bytes = Zeroizing::new(read(&folder.join(SIGNING_KEY))?);
        let signing = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|pem| SigningKey::from_pkcs8_pem(pem).ok())
            .ok_or_else(|| fault(SIGNING_KEY, "is not an Ed25519 key in PKCS #8 PEM"))?;
        Ok(Self { sealing: Zeroizing::new(sealing), signing })
    }

    /// The half of the signing key that others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key())
    }

    /// See [`PublicKey::fingerprint`].
    pub fn fingerprint(&self) -> Digest {
        self.public().fingerprint()
    }

    pub(super) fn sealing(&self) -> &[u8; 32] {
        &self.sealing
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

/// The key that checkpoints are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From the text of `signing.pub`.
    ///
    /// # Errors
    /// `Misconfigured` if it is no Ed25519 public key in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, Fault> {
        VerifyingKey::from_public_key_pem(pem).map(Self).map_err(|e| {
            Fault::new(FaultKind::Misconfigured, "the journal's public key is not an Ed25519 public key in PEM")
                .because(e)
        })
    }

    /// The text of `signing.pub`.
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("32 bytes always fit into a PEM document")
    }

    /// SHA-256 over the key's DER form: `openssl pkey -pubin -in signing.pub -outform DER | sha256sum` prints the same.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(self.0.to_public_key_der().expect("32 bytes always fit into a DER document").as_bytes())
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

/// Bytes from the operating system's random number generator.
///
/// # Errors
/// `Unexpected` if it has none.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|e| Fault::new(FaultKind::Unexpected, "the operating system gives no random bytes").because(e))?;
    Ok(bytes)
}
