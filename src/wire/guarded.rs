//! Files that only their owner may change. Whoever can write our configuration, playbooks, keys or known_hosts decides what
//! we do, so such a file is refused if anybody else may write it.

use crate::model::{Fault, FaultKind};
use std::fs::{File, Metadata, OpenOptions};
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
    /// Nobody but the owner and a group may read: systemd's credentials, whose group bits stand for an access list.
    GroupReads,
}

/// The largest file that is read whole, in bytes.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a regular file whole, after checking through the open descriptor that it belongs to us or to root and that nobody else
/// has more than `access` to it; and that nobody else could put another file in its place.
///
/// # Errors
/// `Misconfigured`, with the path and the `chmod` or `chown` that mends it.
pub fn read(path: &Path, access: Access) -> Result<Vec<u8>, Fault> {
    let fault = |what: &str| fault(path, what);
    let unreadable =
        |e: std::io::Error| fault("cannot be read").because(e).hint("check the path and that this user may read it");
    // O_NONBLOCK: a FIFO in the place of a file must not hang us.
    let mut file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(fault("is not a regular file"));
    }
    let we = nix::unistd::geteuid().as_raw();
    if meta.uid() != we && meta.uid() != 0 {
        return Err(belongs_to_another(path, &meta));
    }
    let (forbidden, chmod, why) = match access {
        Access::OwnerWrites => (0o022, "go-w", "may be written by others"),
        Access::OwnerReads => (0o077, "go-rwx", "may be read or written by others"),
        Access::GroupReads => (0o037, "g-wx,o-rwx", "may be written by its group, or read or written by others"),
    };
    if meta.mode() & forbidden != 0 {
        return Err(fault(why)
            .because(format!("its mode is {:04o}", meta.mode() & 0o7777))
            .hint(format!("chmod {chmod} {}", path.display())));
    }
    folders(path)?;
    // The other end of a symbolic link.
    folders(&path.canonicalize().map_err(unreadable)?)?;
    if meta.len() > MAX_BYTES {
        return Err(fault("is too large").because(format!("{} bytes, at most {MAX_BYTES}", meta.len())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1);
    file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fault("is too large").because(format!("it grows; at most {MAX_BYTES} bytes are read")));
    }
    Ok(bytes)
}

/// Whoever may write a folder may rename what is in it. Every folder above `path` must belong to us or to root and be written by
/// nobody else, unless it is sticky, as `/tmp` is: there only the owner of a file may rename it.
fn folders(path: &Path) -> Result<(), Fault> {
    let absolute = std::path::absolute(path).map_err(|e| fault(path, "has no absolute path").because(e))?;
    let we = nix::unistd::geteuid().as_raw();
    for folder in absolute.ancestors().skip(1) {
        let meta = folder.metadata().map_err(|e| fault(folder, "cannot be looked at").because(e))?;
        if meta.uid() != we && meta.uid() != 0 {
            return Err(belongs_to_another(folder, &meta));
        }
        if meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0 {
            return Err(fault(folder, "is a folder that may be written by others")
                .because(format!("its mode is {:04o}, and {} is below it", meta.mode() & 0o7777, path.display()))
                .hint(format!("chmod go-w {}", folder.display())));
        }
    }
    Ok(())
}

fn fault(path: &Path, what: &str) -> Fault {
    Fault::new(FaultKind::Misconfigured, format!("{}: {what}", path.display()))
}

fn belongs_to_another(path: &Path, meta: &Metadata) -> Fault {
    fault(path, "belongs to another user").because(format!("its owner is user id {}", meta.uid())).hint(format!(
        "chown {} {}",
        nix::unistd::geteuid(),
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_others_may_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        fs::write(&path, "x").unwrap();
        for (bits, public, private) in [
            (0o600, true, true),
            (0o644, true, false),
            (0o640, true, false),
            (0o664, false, false),
            (0o606, false, false),
        ] {
            mode(&path, bits);
            assert_eq!(read(&path, Access::OwnerWrites).is_ok(), public, "{bits:o}");
            assert_eq!(read(&path, Access::OwnerReads).is_ok(), private, "{bits:o}");
        }
        mode(&path, 0o666);
        let fault = read(&path, Access::OwnerWrites).unwrap_err();
        assert_eq!(fault.hint, Some(format!("chmod go-w {}", path.display())));
    }

    #[test]
    fn a_file_that_others_may_replace_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("shared/etc");
        fs::create_dir_all(&inner).unwrap();
        let path = inner.join("offboard.yaml");
        fs::write(&path, "x").unwrap();
        mode(&path, 0o600);
        assert!(read(&path, Access::OwnerReads).is_ok());
        let shared = folder.path().join("shared");
        mode(&shared, 0o777);
        let fault = read(&path, Access::OwnerWrites).unwrap_err();
        assert_eq!(fault.hint, Some(format!("chmod go-w {}", shared.display())));
        // Through a link from a safe place as well.
        let link = folder.path().join("link.yaml");
        symlink(&path, &link).unwrap();
        assert!(read(&link, Access::OwnerWrites).is_err());
        mode(&shared, 0o1777);
        assert!(read(&link, Access::OwnerWrites).is_ok());
    }

    #[test]
    fn what_is_no_file_does_not_hang() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [&fifo, folder.path(), Path::new("/dev/zero"), &folder.path().join("missing")] {
            let fault = read(path, Access::OwnerWrites).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
        }
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(MAX_BYTES + 1).unwrap();
        mode(&large, 0o600);
        assert!(read(&large, Access::OwnerReads).unwrap_err().what.ends_with("is too large"));
    }
}
