//! The journal's two keys: one seals secrets, one signs checkpoints.
//!
//! Three files in one folder: `sealing.key` (32 bytes, base64, XChaCha20-Poly1305), `signing.key` (Ed25519, PKCS #8 PEM,
//! RFC 8410) and `signing.pub` (SubjectPublicKeyInfo PEM). The `.key` files are for their owner alone. The public one goes
//! to whoever verifies the journal away from here; `openssl` reads it, too. While the sealing key is being rotated, the new one stands
//! beside the old one as `sealing.next.key`; whoever reads both can open everything. A sealing key may be wrapped by a keeper (`kept.rs`): then its
//! file is of no use without that.

use super::kept::{self, KeyFolder};
use super::seal::{KeyId, SealingKey};
use crate::model::{Digest, Fault, FaultKind};
use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use nix::fcntl::{Flock, FlockArg};
use rand::TryRng;
use rand::rngs::SysRng;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The file of the sealing key.
pub const SEALING_KEY: &str = "sealing.key";
/// The file of the sealing key that will take its place, while a rotation goes on.
pub const NEXT_SEALING_KEY: &str = "sealing.next.key";
/// The file of the signing key's private half.
pub const SIGNING_KEY: &str = "signing.key";
/// The file of the signing key's public half.
pub const PUBLIC_KEY: &str = "signing.pub";

/// Both keys. Wiped from memory when dropped.
pub struct Keys {
    /// What new values are sealed with.
    sealing: SealingKey,
    /// The key that is being replaced; values may be sealed with it still.
    former: Option<SealingKey>,
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
        let keys = Self::new()?;
        keys.write(folder)?;
        Ok(keys)
    }

    /// As [`Keys::generate`], but the sealing key's file holds it only as the folder's keeper has wrapped it, if there is one.
    ///
    /// # Errors
    /// As [`Keys::generate`], and what the keeper says; nothing was written then.
    pub async fn generate_kept(folder: &KeyFolder<'_>) -> Result<Self, Fault> {
        let keys = Self::new()?;
        let text = kept::text(&keys.sealing, folder.keeper).await?;
        keys.write_as(folder.path, &text, None)?;
        Ok(keys)
    }

    fn new() -> Result<Self, Fault> {
        let sealing = SealingKey::new(Zeroizing::new(random()?));
        Ok(Self { sealing, former: None, signing: SigningKey::from_bytes(&Zeroizing::new(random()?)) })
    }

    /// Keys that were recovered.
    pub(super) fn recovered(sealing: SealingKey, former: Option<SealingKey>, signing: SigningKey) -> Self {
        Self { sealing, former, signing }
    }

    /// Writes those of the keys into `folder` that are not there.
    ///
    /// # Errors
    /// `Protected` if one of the files exists and holds something else: nothing is overwritten, and nothing was written then.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Fault> {
        match &self.former {
            Some(former) => self.write_as(folder, &former.text(), Some(&self.sealing.text())),
            None => self.write_as(folder, &self.sealing.text(), None),
        }
    }

    fn write_as(&self, folder: &Path, sealing: &str, next: Option<&str>) -> Result<(), Fault> {
        // Version 1 of PKCS #8, without the public half: OpenSSL 3.0 does not read version 2.
        let signing = KeypairBytes { secret_key: self.signing.to_bytes(), public_key: None }
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| unwritten(&folder.join(SIGNING_KEY), &e))?;
        let public = self.public().to_pem();
        // The newer sealing key first: with it alone nobody goes on.
        let files = [
            (NEXT_SEALING_KEY, 0o600, next.map(str::as_bytes)),
            (SEALING_KEY, 0o600, Some(sealing.as_bytes())),
            (SIGNING_KEY, 0o600, Some(signing.as_bytes())),
            (PUBLIC_KEY, 0o644, Some(public.as_bytes())),
        ];
        let mut missing = Vec::new();
        for (name, mode, text) in files {
            let path = folder.join(name);
            let there = match std::fs::read(&path) {
                Ok(there) => Some(Zeroizing::new(there)),
                Err(_) if path.symlink_metadata().is_err() => None,
                Err(e) => {
                    return Err(Fault::new(FaultKind::Protected, format!("{}: cannot be read", path.display()))
                        .because(e)
                        .hint("keys are never overwritten: see what it is"));
                }
            };
            match (there, text) {
                (None, None) => {}
                (None, Some(text)) => missing.push((name, mode, text)),
                (Some(there), Some(text)) if there.trim_ascii() == text.trim_ascii() => {}
                (Some(there), _) if kept::is_wrapped(&there) => {
                    return Err(Fault::new(FaultKind::Protected, format!("{} exists already", path.display()))
                        .because("a Vault's transit key has wrapped what stands in it")
                        .hint(format!(
                            "if that Vault is gone for good: mv {0} {0}.wrapped; then again",
                            path.display()
                        )));
                }
                (Some(_), _) => {
                    return Err(Fault::new(FaultKind::Protected, format!("{} exists already", path.display()))
                        .because("what stands in it is not what would be written")
                        .hint("keys are never overwritten: name another folder in offboard.yaml, or keep these"));
                }
            }
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| unwritten(folder, &e))?;
        for (name, mode, text) in missing {
            write_unfinished(folder, name, mode, text)?;
            finish(folder, name)?;
        }
        sync(folder)?;
        match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
            _ => sync(Path::new(".")),
        }
    }

    /// Makes the sealing key that is to take the place of the one in `folder`. It counts for nobody before [`Keys::begin_rotation`].
    pub(super) async fn make_next(folder: &KeyFolder<'_>) -> Result<SealingKey, Fault> {
        kept::may_be_replaced(folder.path)?;
        let next = SealingKey::new(Zeroizing::new(random()?));
        let text = kept::text(&next, folder.keeper).await?;
        write_unfinished(folder.path, NEXT_SEALING_KEY, 0o600, text.as_bytes())?;
        sync(folder.path)?;
        Ok(next)
    }

    /// Lets `next`, which [`Keys::make_next`] has made, take the place of the sealing key in `folder`; durable there when this returns. New
    /// values are sealed with it from now on.
    pub(super) fn begin_rotation(&mut self, folder: &Path, next: SealingKey) -> Result<(), Fault> {
        finish(folder, NEXT_SEALING_KEY)?;
        sync(folder)?;
        self.former = Some(std::mem::replace(&mut self.sealing, next));
        Ok(())
    }

    /// Puts the new sealing key into the place of the old one, which is gone then.
    pub(super) fn end_rotation(&mut self, folder: &Path) -> Result<(), Fault> {
        let path = folder.join(SEALING_KEY);
        std::fs::rename(folder.join(NEXT_SEALING_KEY), &path).map_err(|e| unwritten(&path, &e))?;
        sync(folder)?;
        self.former = None;
        Ok(())
    }

    /// The keys in `folder`. `read` reads one file that nobody but its owner may read, and refuses any other: this room has no
    /// such check of its own.
    ///
    /// # Errors
    /// What `read` says, or `Misconfigured` if a file holds something else.
    pub fn load(folder: &Path, read: impl Fn(&Path) -> Result<Vec<u8>, Fault>) -> Result<Self, Fault> {
        let fault = |name: &str, why: &str| {
            Fault::new(FaultKind::Misconfigured, format!("{}: {why}", folder.join(name).display()))
                .hint("restore it from its backup, or with the recovery key: offboard seal recover")
        };
        for name in [SEALING_KEY, SIGNING_KEY] {
            let there = folder.join(name).symlink_metadata();
            if there.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
                return Err(fault(name, "is not there"));
            }
        }
        let sealing_key = |name: &str| {
            let bytes = Zeroizing::new(read(&folder.join(name))?);
            if kept::is_wrapped(&bytes) {
                return Err(kept::nobody_keeps(&folder.join(name)));
            }
            let bytes =
                STANDARD.decode(bytes.trim_ascii()).map(Zeroizing::new).map_err(|_| fault(name, "is not base64"))?;
            let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| fault(name, "does not hold 32 bytes"))?;
            Ok::<_, Fault>(SealingKey::new(Zeroizing::new(key)))
        };
        // The one that a rotation takes away first: should one end right now, the other file holds the new key.
        let next = if folder.join(NEXT_SEALING_KEY).symlink_metadata().is_ok() {
            match sealing_key(NEXT_SEALING_KEY) {
                Err(_) if folder.join(NEXT_SEALING_KEY).symlink_metadata().is_err() => None,
                read => Some(read?),
            }
        } else {
            None
        };
        let key = sealing_key(SEALING_KEY)?;
        let (sealing, former) = match next {
            Some(next) if next.id() != key.id() => (next, Some(key)),
            _ => (key, None),
        };
        let bytes = Zeroizing::new(read(&folder.join(SIGNING_KEY))?);
        let signing = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|pem| SigningKey::from_pkcs8_pem(pem).ok())
            .ok_or_else(|| fault(SIGNING_KEY, "is not an Ed25519 key in PKCS #8 PEM"))?;
        Ok(Self { sealing, former, signing })
    }

    /// The half of the signing key that others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key())
    }

    /// See [`PublicKey::fingerprint`].
    pub fn fingerprint(&self) -> Digest {
        self.public().fingerprint()
    }

    /// The name of the key that new values are sealed with.
    pub fn sealing_id(&self) -> KeyId {
        self.sealing.id()
    }

    /// The name of the key that is being replaced, if a rotation was begun and has not ended.
    pub fn former_id(&self) -> Option<KeyId> {
        self.former.as_ref().map(SealingKey::id)
    }

    /// What new values are sealed with.
    pub(super) fn sealing(&self) -> &SealingKey {
        &self.sealing
    }

    /// Every key that a value may be sealed with.
    pub(super) fn opening(&self) -> impl Iterator<Item = &SealingKey> {
        std::iter::once(&self.sealing).chain(&self.former)
    }

    /// The private half of the signing key.
    pub(super) fn signing_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes())
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

/// The file of that name before it counts: whole or not at all, for half a key would lock everybody out.
pub(super) fn unfinished(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.unfinished"))
}

pub(super) fn write_unfinished(folder: &Path, name: &str, mode: u32, text: &[u8]) -> Result<(), Fault> {
    let path = unfinished(folder, name);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(unwritten(&path, &e)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(|e| unwritten(&path, &e))?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(|e| unwritten(&path, &e))
}

/// Gives the unfinished file its name. Unlike a rename, a link takes no other file's place.
fn finish(folder: &Path, name: &str) -> Result<(), Fault> {
    let (from, to) = (unfinished(folder, name), folder.join(name));
    std::fs::hard_link(&from, &to).map_err(|e| unwritten(&to, &e))?;
    std::fs::remove_file(&from).map_err(|e| unwritten(&from, &e))
}

/// The right to change the keys in `folder`: journals may share them, each with a lock of its own.
///
/// # Errors
/// `Busy` if another process has it.
pub(super) fn lock(folder: &Path) -> Result<Flock<File>, Fault> {
    let file = File::open(folder).map_err(|e| unwritten(folder, &e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => {
            Fault::new(FaultKind::Busy, format!("another process changes the keys in {}", folder.display()))
        }
        other => unwritten(folder, &other),
    })
}

/// What was made, renamed or removed in a folder is durable when this returns.
pub(super) fn sync(folder: &Path) -> Result<(), Fault> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| unwritten(folder, &e))
}

pub(super) fn unwritten(path: &Path, because: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Misconfigured, format!("{}: cannot be written", path.display())).because(because)
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
