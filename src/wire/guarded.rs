//! Files that only their owner may change. Whoever can write our configuration, playbooks, keys or known_hosts decides what
//! we do, so such a file is refused if anybody else may write it.

use crate::model::{Fault, FaultKind};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Who else may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Others may read, nobody else may write: configuration, playbooks, known_hosts, certificates.
    OwnerWrites,
    /// Nobody else may read either: keys, passwords.
    OwnerReads,
}

/// The largest file that is read whole, in bytes.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a regular file whole, after checking through the open descriptor that it belongs to us or to root and that nobody else
/// has more than `access` to it.
///
/// # Errors
/// `Misconfigured`, with the path and the `chmod` or `chown` that mends it.
pub fn read(path: &Path, access: Access) -> Result<Vec<u8>, Fault> {
    let fault = |what: &str| Fault::new(FaultKind::Misconfigured, format!("{}: {what}", path.display()));
    // O_NONBLOCK: a FIFO in the place of a file must not hang us.
    let mut file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|e| fault("cannot be read").because(e).hint("check the path and that this user may read it"))?;
    let meta = file.metadata().map_err(|e| fault("cannot be read").because(e))?;
    if !meta.is_file() {
        return Err(fault("is not a regular file"));
    }
    let we = nix::unistd::geteuid().as_raw();
    if meta.uid() != we && meta.uid() != 0 {
        return Err(fault("belongs to another user")
            .because(format!("its owner is user id {}", meta.uid()))
            .hint(format!("chown {we} {}", path.display())));
    }
    let (forbidden, chmod, why) = match access {
        Access::OwnerWrites => (0o022, "go-w", "may be written by others"),
        Access::OwnerReads => (0o077, "go-rwx", "may be read or written by others"),
    };
    if meta.mode() & forbidden != 0 {
        return Err(fault(why)
            .because(format!("its mode is {:04o}", meta.mode() & 0o7777))
            .hint(format!("chmod {chmod} {}", path.display())));
    }
    if meta.len() > MAX_BYTES {
        return Err(fault("is too large").because(format!("{} bytes, at most {MAX_BYTES}", meta.len())));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| fault("cannot be read").because(e))?;
    Ok(bytes)
}
