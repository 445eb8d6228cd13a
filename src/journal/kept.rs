//! A sealing key whose file holds only what a keeper has wrapped: the transit engine of a Vault. Whoever steals the disk reads nothing, and the
//! keeper can let us use the key no longer. The key itself is in memory only; it is asked for once, when a process opens the journal.
//!
//! The file holds the keeper's ciphertext (`vault:v1:…`) and nothing else; the plaintext is what would stand in a plain file. Records, seals and
//! checkpoints know nothing of it: the key is the same.

use super::keys::{self, Keys, NEXT_SEALING_KEY, SEALING_KEY};
use super::seal::{KeyId, SealingKey};
use crate::model::{Fault, FaultKind, Keeper};
use base64::{Engine, engine::general_purpose::STANDARD};
use fail::fail_point;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The plain file that a wrapped one has taken the place of, until it is wiped: a second name of the same file.
pub const SHED_KEY: &str = "sealing.plain.key";

/// The file of a sealing key that has not got its place yet.
const UNFINISHED: &str = "sealing.key.unfinished";

/// What a transit engine's ciphertexts begin with.
const WRAPPED: &[u8] = b"vault:v";

/// No ciphertext of 32 bytes is as long, in bytes.
const LONGEST: usize = 4096;

/// How often the files are read again if somebody changes them just then.
const TRIES: usize = 3;

/// How one file is read, and refused if others may read it.
pub type ReadKey<'a> = &'a (dyn Fn(&Path) -> Result<Vec<u8>, Fault> + Sync);

/// The folder of keys, and what is needed to use what stands there.
#[derive(Clone, Copy)]
pub struct KeyFolder<'a> {
    /// The folder.
    pub path: &'a Path,
    /// Reads one file that nobody but its owner may read.
    pub read: ReadKey<'a>,
    /// Who wraps sealing keys; nothing if they stand in plain files.
    pub keeper: Option<&'a dyn Keeper>,
}

/// How a sealing key stands in its file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyFile {
    /// The file's name.
    pub file: &'static str,
    /// By which version of the keeper's key it is wrapped; nothing if the file holds the key itself.
    pub wrapped: Option<u64>,
}

/// A key that now stands in its file in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The key.
    pub key: KeyId,
    /// Whether this process has changed anything.
    pub changed: bool,
}

/// Whether that is the text of a wrapped key.
pub(super) fn is_wrapped(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(WRAPPED)
}

/// The fault of a wrapped key that nobody can be asked for.
pub(super) fn nobody_keeps(path: &Path) -> Fault {
    Fault::new(FaultKind::Misconfigured, format!("{}: is wrapped by a Vault's transit key", path.display()))
        .because("nothing says which")
        .hint("write sealing: { transit: … } into offboard.yaml, or use the recovery key: offboard seal recover")
}

/// The ciphertext, if it can be one.
fn ciphertext<'a>(path: &Path, text: &'a [u8]) -> Result<&'a str, Fault> {
    let text = std::str::from_utf8(text.trim_ascii()).ok();
    text.filter(|text| can_be_kept(text)).ok_or_else(|| {
        Fault::new(FaultKind::Misconfigured, format!("{}: begins as a wrapped key, and is none", path.display()))
            .hint("restore it from its backup, or with the recovery key: offboard seal recover")
    })
}

/// Whether a file of a key may hold that: one word, and not a long one.
fn can_be_kept(text: &str) -> bool {
    is_wrapped(text.as_bytes()) && text.len() < LONGEST && text.bytes().all(|b| b.is_ascii_graphic())
}

/// What is to stand in the file of a key: the key itself, or what the keeper makes of it, which was tried.
pub(super) async fn text(key: &SealingKey, keeper: Option<&dyn Keeper>) -> Result<Zeroizing<String>, Fault> {
    let Some(keeper) = keeper else { return Ok(key.text()) };
    let plain = Zeroizing::new(STANDARD.encode(key.bytes()));
    let wrapped = Zeroizing::new(format!("{}\n", keeper.wrap(&plain).await?.trim()));
    let fault =
        |why: &str| Fault::new(FaultKind::Unexpected, format!("{} does not keep keys", keeper.name())).because(why);
    if !can_be_kept(wrapped.trim()) || wrapped.contains(plain.as_str()) {
        return Err(fault("its answer is no ciphertext (vault:v…)"));
    }
    if *keeper.unwrap(wrapped.trim()).await? != *plain {
        return Err(fault("what it has encrypted does not come back from it"));
    }
    Ok(wrapped)
}

/// Tries, with a key that nobody uses, whether the keeper wraps and unwraps.
///
/// # Errors
/// What it says.
pub async fn try_keeping(keeper: &dyn Keeper) -> Result<(), Fault> {
    text(&SealingKey::new(Zeroizing::new(keys::random()?)), Some(keeper)).await.map(drop)
}

/// Whether the file of the sealing key may be replaced by another one.
pub(super) fn may_be_replaced(folder: &Path) -> Result<(), Fault> {
    // A rename would put a plain file into the place of the link, and leave the key where it points to.
    let path = folder.join(SEALING_KEY);
    if path.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
        return Err(Fault::new(FaultKind::Protected, format!("{} is a symbolic link", path.display()))
            .hint("put the file itself there, or name the folder that it is in as `keys` in offboard.yaml"));
    }
    if folder.join(SHED_KEY).symlink_metadata().is_ok() {
        return Err(Fault::new(FaultKind::Protected, format!("{} was not wiped yet", folder.join(SHED_KEY).display()))
            .hint("end the wrapping of the key first: offboard seal wrap"));
    }
    Ok(())
}

impl Keys {
    /// As [`Keys::load`]; a wrapped sealing key is asked for from its keeper.
    ///
    /// # Errors
    /// As [`Keys::load`], and what the keeper says.
    pub async fn load_kept(folder: &KeyFolder<'_>) -> Result<Self, Fault> {
        // By ciphertext: what is used is what stands there when all of it is read, however it changes meanwhile.
        let mut opened: BTreeMap<Vec<u8>, Zeroizing<String>> = BTreeMap::new();
        for _ in 0..TRIES {
            let missing = std::cell::RefCell::new(None);
            let read = |path: &Path| {
                let text = (folder.read)(path)?;
                if folder.keeper.is_none() || !is_wrapped(&text) {
                    return Ok(text);
                }
                let text = ciphertext(path, &text)?.as_bytes().to_vec();
                if let Some(plain) = opened.get(&text) {
                    return Ok(plain.as_bytes().to_vec());
                }
                *missing.borrow_mut() = Some(text);
                Err(Fault::new(FaultKind::Busy, format!("{}: changes all the time", path.display())))
            };
            let loaded = Self::load(folder.path, read);
            let (Some(wrapped), Some(keeper)) = (missing.into_inner(), folder.keeper) else { return loaded };
            let plain = keeper.unwrap(&String::from_utf8_lossy(&wrapped)).await?;
            opened.insert(wrapped, plain);
        }
        // Two files at most hold a key; more were read because they were changed.
        Err(Fault::new(FaultKind::Busy, format!("{}: another process changes the keys", folder.path.display()))
            .hint("try again"))
    }
}

/// How each sealing key stands in its file; no keeper is asked.
///
/// # Errors
/// A file cannot be read.
pub fn key_files(folder: &Path, read: ReadKey<'_>) -> Result<Vec<KeyFile>, Fault> {
    let mut files = Vec::new();
    for file in [SEALING_KEY, NEXT_SEALING_KEY, SHED_KEY, UNFINISHED] {
        let path = folder.join(file);
        if path.symlink_metadata().is_err() {
            continue;
        }
        let text = Zeroizing::new(read(&path)?);
        let wrapped = match is_wrapped(&text) {
            true => Some(ciphertext(&path, &text)?.split(':').nth(1).and_then(|v| v[1..].parse().ok()).unwrap_or(0)),
            false => None,
        };
        files.push(KeyFile { file, wrapped });
    }
    Ok(files)
}

/// Lets the file of the sealing key hold it only as the folder's keeper has wrapped it, and wipes the plain one. Goes on where an earlier call was
/// killed: at every moment the file is the plain one or the wrapped one, whole.
///
/// # Errors
/// Nothing has changed if the keeper does not wrap and unwrap the key, or if the file is a link or has another name.
pub async fn wrap_sealing_key(folder: &KeyFolder<'_>) -> Result<Moved, Fault> {
    let _lock = keys::lock(folder.path)?;
    let keys = alone(folder).await?;
    let id = keys.sealing_id();
    let keeper = folder.keeper.ok_or_else(|| {
        Fault::new(FaultKind::Misconfigured, "offboard.yaml does not say who is to keep the sealing key")
            .hint("write, at its top level: sealing: { transit: { system: NAME, key: offboard } }")
    })?;
    let (path, shed) = (folder.path.join(SEALING_KEY), folder.path.join(SHED_KEY));
    let left = shed.symlink_metadata().is_ok();
    if is_wrapped(&(folder.read)(&path)?) {
        if left {
            wipe(folder, &keys)?;
        }
        // What a way back was killed over.
        let half = folder.path.join(UNFINISHED);
        let half_left = half.symlink_metadata().is_ok();
        if half_left {
            blank_and_remove(&half)?;
        }
        return Ok(Moved { key: id, changed: left || half_left });
    }
    // Killed before the wrapped one had its place: the other name says nothing new.
    if left && same_file(&path, &shed)? {
        remove(&shed)?;
    }
    may_be_replaced(folder.path)?;
    let names = path.metadata().map_err(|e| keys::unwritten(&path, &e))?.nlink();
    if names > 1 {
        return Err(Fault::new(FaultKind::Protected, format!("{} has another name, too", path.display()))
            .because("the plain key would stay there, or be wiped there, too")
            .hint(format!("find it (find / -samefile {}), and remove it or make it a copy", path.display())));
    }
    let text = text(keys.sealing(), Some(keeper)).await?;
    fail_point!("keep::wrapped");
    keys::write_unfinished(folder.path, SEALING_KEY, 0o600, text.as_bytes())?;
    std::fs::hard_link(&path, &shed).map_err(|e| keys::unwritten(&shed, &e))?;
    keys::sync(folder.path)?;
    fail_point!("keep::linked");
    rename(folder.path)?;
    fail_point!("keep::replaced");
    wipe(folder, &keys)?;
    Ok(Moved { key: id, changed: true })
}

/// Lets the file of the sealing key hold the key itself again.
///
/// # Errors
/// Nothing has changed if the keeper does not unwrap it.
pub async fn unwrap_sealing_key(folder: &KeyFolder<'_>) -> Result<Moved, Fault> {
    let _lock = keys::lock(folder.path)?;
    let keys = alone(folder).await?;
    let id = keys.sealing_id();
    if !is_wrapped(&(folder.read)(&folder.path.join(SEALING_KEY))?) {
        return Ok(Moved { key: id, changed: false });
    }
    may_be_replaced(folder.path)?;
    keys::write_unfinished(folder.path, SEALING_KEY, 0o600, keys.sealing().text().as_bytes())?;
    fail_point!("keep::unwrapped");
    rename(folder.path)?;
    fail_point!("keep::plain");
    Ok(Moved { key: id, changed: true })
}

/// The keys, if no change of the sealing key goes on.
async fn alone(folder: &KeyFolder<'_>) -> Result<Keys, Fault> {
    if folder.path.join(NEXT_SEALING_KEY).symlink_metadata().is_ok() {
        return Err(Fault::new(FaultKind::Protected, "a change of the sealing key was not ended")
            .hint("end it first: offboard seal rotate"));
    }
    Keys::load_kept(folder).await
}

fn rename(folder: &Path) -> Result<(), Fault> {
    let path = folder.join(SEALING_KEY);
    std::fs::rename(keys::unfinished(folder, SEALING_KEY), &path).map_err(|e| keys::unwritten(&path, &e))?;
    keys::sync(folder)
}

/// Overwrites the plain file whose place a wrapped one has taken, and removes it; but not if another key stands in it.
fn wipe(folder: &KeyFolder<'_>, keys: &Keys) -> Result<(), Fault> {
    let shed = folder.path.join(SHED_KEY);
    let plain = Zeroizing::new((folder.read)(&shed)?);
    // Blank: killed after it was overwritten.
    let blank = plain.iter().all(|byte| *byte == b'0');
    if !blank && plain.trim_ascii() != keys.sealing().text().trim_end().as_bytes() {
        return Err(Fault::new(FaultKind::Protected, format!("{} holds another key", shed.display()))
            .hint("see what it is, and move it away"));
    }
    blank_and_remove(&shed)?;
    keys::sync(folder.path)
}

/// Overwrites a file of ours that holds a plain key, and removes it.
fn blank_and_remove(path: &Path) -> Result<(), Fault> {
    let meta = path.symlink_metadata().map_err(|e| keys::unwritten(path, &e))?;
    if !meta.is_file() || meta.nlink() > 1 {
        return Err(Fault::new(
            FaultKind::Protected,
            format!("{} is a link, or has another name, too", path.display()),
        )
        .hint("see what it is: it is a plain sealing key"));
    }
    let blank = vec![b'0'; usize::try_from(meta.len()).unwrap_or_default()];
    OpenOptions::new()
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(path)
        .and_then(|mut file| file.write_all(&blank).and_then(|()| file.sync_all()))
        .map_err(|e| keys::unwritten(path, &e))?;
    fail_point!("keep::blanked");
    remove(path)
}

fn remove(path: &Path) -> Result<(), Fault> {
    std::fs::remove_file(path).map_err(|e| keys::unwritten(path, &e))
}

fn same_file(one: &Path, other: &Path) -> Result<bool, Fault> {
    let meta = |path: &Path| path.symlink_metadata().map_err(|e| keys::unwritten(path, &e));
    let (one, other) = (meta(one)?, meta(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}
