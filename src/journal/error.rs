//! Why the journal could not be read or written. Whoever gets one of these while appending must stop before acting.

use crate::model::{Fault, FaultKind, RunId};
use nix::sys::statvfs::statvfs;
use std::path::{Path, PathBuf};

/// An error of the journal. None of them holds anything that was to be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// There is no journal where one was expected.
    #[error("there is no journal in {}", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// There is a journal already; `create` never replaces one.
    #[error("there is a journal in {} already", folder.display())]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// The journal knows no such run.
    #[error("the journal knows no run {run}")]
    NoSuchRun {
        /// The name that was asked for.
        run: RunId,
    },
    /// Another process is writing to this journal.
    #[error("another offboard{} is working on the journal in {}", pid.map(|p| format!(" (process {p})")).unwrap_or_default(), folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The other process, if it left its id.
        pid: Option<u32>,
    },
    /// Somebody else has written to this run since: this writer is stale and must stop.
    #[error(
        "run {run} is not where this process left it: somebody else has continued it, or put it back; this process must stop"
    )]
    Fenced {
        /// The run.
        run: RunId,
    },
    /// No space is left.
    #[error("the journal in {} cannot be written: no space is left ({because})", folder.display())]
    Full {
        /// The folder.
        folder: PathBuf,
        /// The store's own words.
        because: String,
    },
    /// The file system, the file or this handle allows reading only.
    #[error("the journal in {} can only be read ({because})", folder.display())]
    ReadOnly {
        /// The folder.
        folder: PathBuf,
        /// The store's own words.
        because: String,
    },
    /// The file is damaged: the store itself cannot read it.
    #[error("the journal in {} is damaged ({because})", folder.display())]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// The store's own words.
        because: String,
    },
    /// The records do not agree with their hashes or signatures.
    #[error("the journal in {} does not verify: {what}", folder.display())]
    Tampered {
        /// The folder.
        folder: PathBuf,
        /// What does not agree, a sentence.
        what: String,
    },
    /// The journal was signed with another key than the one at hand.
    #[error("the journal in {} is signed by another key than {fingerprint}", folder.display())]
    OtherKey {
        /// The folder.
        folder: PathBuf,
        /// The key at hand.
        fingerprint: String,
    },
    /// A secret was sealed with a key that is not at hand, or the journal has a newer sealing key than that.
    #[error("the journal in {} is sealed with the key {key}, which is not there", folder.display())]
    OtherSealingKey {
        /// The folder.
        folder: PathBuf,
        /// The name of the key that is needed.
        key: String,
    },
    /// Others may write where the journal is.
    #[error("{} may be written by others: its mode is {mode:04o}", path.display())]
    Exposed {
        /// The folder or file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The writer has ended: the journal was closed, or the process is going down.
    #[error("the journal in {} has been closed", folder.display())]
    Closed {
        /// The folder.
        folder: PathBuf,
    },
    /// Anything else that the store or the operating system says.
    #[error("the journal in {} cannot be used ({because})", folder.display())]
    Store {
        /// The folder.
        folder: PathBuf,
        /// Its own words.
        because: String,
    },
}

impl JournalError {
    /// What to do about it.
    pub fn fault_hint(&self) -> String {
        match self {
            Self::Missing { .. } => "check `journal` in offboard.yaml, or make one with: offboard init".into(),
            Self::Exists { .. } => "keep it: it is evidence; name another folder in offboard.yaml".into(),
            Self::NoSuchRun { .. } => "see which there are with: offboard list".into(),
            Self::Locked { .. } => "wait until it has ended; offboard status shows how far it is".into(),
            Self::Fenced { run } => format!("see who goes on with it: offboard status {run}"),
            Self::Full { folder, .. } => {
                format!("make room on the file system of {}; then: offboard resume RUN", folder.display())
            }
            Self::ReadOnly { folder, .. } => {
                format!("mount {} for writing, and check that this user may write there", folder.display())
            }
            Self::Corrupt { .. } => {
                "check the disk, keep the file, and restore the journal from its last backup".into()
            }
            Self::Tampered { .. } => {
                "do not go on with it: keep the file as it is and see all of it with: offboard journal verify".into()
            }
            Self::OtherKey { .. } => {
                "check `keys` in offboard.yaml: it must be the folder that belongs to this journal".into()
            }
            Self::OtherSealingKey { .. } => {
                "if the key was changed just now, try again; else see whether the journal is what it was: offboard journal verify; then restore sealing.key from the newest copy of the folder \
                 keys, or with the recovery key: offboard seal recover"
                    .into()
            }
            Self::Exposed { path, .. } => format!("chmod go-w {}", path.display()),
            Self::Closed { .. } => "start offboard again".into(),
            Self::Store { .. } => "check the disk, the quota and the permissions of that folder".into(),
        }
    }

    /// What `sqlx` says, in our words.
    pub(super) fn of_store(error: &sqlx::Error, folder: &Path) -> Self {
        let folder = folder.to_path_buf();
        let because = match error {
            sqlx::Error::Database(inner) => inner.message().to_string(),
            other => other.to_string(),
        };
        match error {
            sqlx::Error::Database(inner) => {
                // Extended result codes (https://www.sqlite.org/rescode.html): the low byte is the primary one.
                let code = inner.code().and_then(|c| c.parse::<i32>().ok()).unwrap_or(0);
                match code & 0xff {
                    13 => Self::Full { folder, because },
                    // An I/O error on a full file system is a full file system: the shared-memory file reports it so.
                    10 if no_space(&folder) => Self::Full { folder, because },
                    8 => Self::ReadOnly { folder, because },
                    11 | 26 => Self::Corrupt { folder, because },
                    _ => Self::Store { folder, because: format!("{because}, SQLite code {code}") },
                }
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt { folder, because },
            _ => Self::Store { folder, because },
        }
    }

    /// What the operating system says, in our words.
    pub(super) fn of_system(error: &std::io::Error, folder: &Path) -> Self {
        let (folder, because) = (folder.to_path_buf(), error.to_string());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full { folder, because },
            std::io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { folder, because },
            _ => Self::Store { folder, because },
        }
    }
}

fn no_space(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|stat| stat.blocks_available() == 0)
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        let kind = match &error {
            JournalError::Locked { .. } => FaultKind::Busy,
            JournalError::Fenced { .. } | JournalError::Tampered { .. } => FaultKind::Protected,
            JournalError::Closed { .. } | JournalError::Store { .. } => FaultKind::Unexpected,
            _ => FaultKind::Misconfigured,
        };
        Self::new(kind, error.to_string()).hint(error.fault_hint())
    }
}
