//! What shows that a manual step was done: a copy of the file beside the journal. The journal has its digest, so that a copy that was
//! changed later is told apart.

use crate::model::{Digest, Evidence, Fault, FaultKind, RunId, StepId};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The folder in the journal's folder.
pub const EVIDENCE: &str = "evidence";

/// The largest file that is kept: a photograph or a signed form, not an archive.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Copies the file at `path` into the `journal`'s folder (mode 0600), durably, under a name that depends on what is in it. Keeping the
/// same file twice makes one copy.
///
/// # Errors
/// `Misconfigured`: it cannot be read, is no file, is empty or is too large, or the copy cannot be written.
pub fn keep(journal: &Path, run: &RunId, step: &StepId, path: &Path) -> Result<Evidence, Fault> {
    let fault = |what: &str| Fault::new(FaultKind::Misconfigured, format!("{}: {what}", path.display()));
    let cannot_be_read = |e: std::io::Error| fault("cannot be read").because(e);
    // A pipe or a device must not hold us up: O_NONBLOCK opens them at once, and then they are seen to be no file.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(cannot_be_read)?;
    if !file.metadata().map_err(cannot_be_read)?.is_file() {
        return Err(fault("is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot_be_read)?;
    if bytes.is_empty() {
        return Err(fault("is empty").hint("what is in an empty file shows nothing; write a --note instead"));
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fault("is too large")
            .because(format!("at most {} MiB are kept", MAX_BYTES / 1024 / 1024))
            .hint("keep it where large files are kept, and say where with --note"));
    }
    let sha256 = Digest::of(&bytes);
    // The ending stays, so that it opens with the right program; nothing else of a foreign name comes into our folder.
    let ending = path
        .extension()
        .and_then(|e| e.to_str())
        .filter(|e| e.len() <= 8 && e.chars().all(|c| c.is_ascii_alphanumeric()));
    let ending = ending.map(|e| format!(".{}", e.to_ascii_lowercase())).unwrap_or_default();
    let kept_as = format!("{run}-{step}-{}{ending}", &sha256.0[..16]);
    let folder = journal.join(EVIDENCE);
    write(&folder, &kept_as, &bytes).map_err(|e| {
        Fault::new(FaultKind::Misconfigured, format!("{}: cannot be written", folder.join(&kept_as).display()))
            .because(e)
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Evidence { name, size: bytes.len() as u64, sha256, kept_as })
}

/// Whole or not at all.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = folder.join(format!("{name}.new"));
    // What is left of an earlier try is removed, and the draft is made anew: never through a link.
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn kept(folder: &Path, path: &Path) -> Result<Evidence, Fault> {
        keep(folder, &RunId("7F3K".into()), &StepId("0badcafe".into()), path)
    }

    #[test]
    fn a_copy_is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("re ceipt'\n.PDF");
        std::fs::write(&path, "signed").unwrap();
        let first = kept(folder.path(), &path).unwrap();
        assert_eq!((first.name.as_str(), first.size), ("re ceipt'\n.PDF", 6));
        assert_eq!(first.sha256, Digest::of(b"signed"));
        let copy = folder.path().join(EVIDENCE).join(&first.kept_as);
        assert_eq!(std::fs::read(&copy).unwrap(), b"signed");
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(copy.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(first.kept_as, format!("7F3K-0badcafe-{}.pdf", &first.sha256.0[..16]));
        assert_eq!(kept(folder.path(), &path).unwrap(), first);
        assert_eq!(std::fs::read_dir(copy.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_evidence_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, large, fifo) =
            (folder.path().join("empty"), folder.path().join("large"), folder.path().join("fifo"));
        std::fs::write(&empty, "").unwrap();
        File::create(&large).unwrap().set_len(MAX_BYTES + 1).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [&empty, &large, &fifo, folder.path(), Path::new("/dev/zero"), &folder.path().join("missing")] {
            assert_eq!(kept(folder.path(), path).unwrap_err().kind, FaultKind::Misconfigured, "{}", path.display());
        }
        assert!(!folder.path().join(EVIDENCE).exists());
    }
}
