//! What `verify` finds, in precise words.

use crate::model::{Digest, RunId, SealedId};
use jiff::Timestamp;
use serde::Serialize;

/// What a whole check of the journal found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// How many records there are.
    pub records: u64,
    /// Of how many runs.
    pub runs: u64,
    /// How many checkpoints there are.
    pub checkpoints: u64,
    /// How many sealed values there are.
    pub sealed: u64,
    /// The hash of the last checkpoint that the key signed; nothing if there is none.
    pub head: Option<Digest>,
    /// When the last record was written that a checkpoint signs.
    pub last: Option<Timestamp>,
    /// The fingerprint of the key that it was checked with.
    pub signer: Digest,
    /// What is wrong, in the order in which it was found.
    pub problems: Vec<Problem>,
    /// How many problems were found beyond those in `problems`, which ends at 1,000.
    pub more: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// One thing that is wrong with a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum Problem {
    /// The store itself finds the file damaged, or a column holds what is no text or no number.
    Damaged {
        /// Its own words.
        what: String,
    },
    /// There are tables, triggers or views that are not ours.
    OtherTables,
    /// A record's body or hash is not what it was.
    RecordChanged {
        /// The run.
        run: RunId,
        /// Which.
        seq: u64,
    },
    /// Records are missing from between others.
    RecordsRemoved {
        /// The run.
        run: RunId,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The last records of a run are missing.
    TailCut {
        /// The run.
        run: RunId,
        /// The first.
        from: u64,
        /// The last, by the signed checkpoints.
        to: u64,
    },
    /// A record stands in another's place: rows were reordered or copied.
    RecordMoved {
        /// The run in whose records it stands.
        run: RunId,
        /// Where.
        seq: u64,
        /// The run that it is of.
        from_run: RunId,
        /// Its own number.
        from_seq: u64,
    },
    /// A record that no checkpoint signs was put in.
    RecordInserted {
        /// The run.
        run: RunId,
        /// Which.
        seq: u64,
    },
    /// Records agree with their own hashes, but not with the signed head: somebody wrote them anew, without the signing key.
    RecordsRewritten {
        /// The run.
        run: RunId,
        /// The first that may have been.
        from: u64,
        /// The last, where the signed head differs.
        to: u64,
    },
    /// A whole run is missing.
    RunMissing {
        /// The run.
        run: RunId,
        /// How many records it had.
        records: u64,
    },
    /// A checkpoint is not signed by the key: it was changed, or made by somebody else.
    CheckpointForged {
        /// Which.
        number: i64,
    },
    /// A signed checkpoint stands in another's place.
    CheckpointMoved {
        /// Where.
        number: i64,
        /// Its own number.
        is: u64,
    },
    /// A signed checkpoint does not follow from the one before it: two histories were mixed.
    CheckpointMixed {
        /// Which.
        number: u64,
    },
    /// Checkpoints are missing from before others.
    CheckpointsRemoved {
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// The last checkpoints are missing, while the records that they signed are there.
    CheckpointsCut {
        /// The first.
        from: u64,
        /// The last that a record names.
        to: u64,
    },
    /// The journal does not contain the head that was kept elsewhere: it was rolled back, or it is another journal.
    RolledBack {
        /// The head that was expected.
        head: Digest,
    },
    /// A sealed value is not what it was.
    SealedChanged {
        /// The run.
        run: RunId,
        /// Its name.
        id: SealedId,
    },
    /// A sealed value is gone, and no record says that it was destroyed.
    SealedRemoved {
        /// The run.
        run: RunId,
        /// Its name.
        id: SealedId,
    },
    /// A sealed value that was destroyed is there again.
    SealedReturned {
        /// The run.
        run: RunId,
        /// Its name.
        id: SealedId,
    },
    /// A sealed value that no checkpoint signs was put in.
    SealedInserted {
        /// The run.
        run: RunId,
        /// Its name.
        id: SealedId,
    },
}

/// `record 3`, `records 3 to 5`.
fn range(what: &str, from: impl std::fmt::Display + PartialEq, to: impl std::fmt::Display + PartialEq) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    if from == to { format!("{what} {from}") } else { format!("{what}s {from} to {to}") }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged { what } => write!(f, "the file is damaged: {what}"),
            Self::OtherTables => {
                f.write_str("its tables are not the ones that offboard makes: something was added or changed")
            }
            Self::RecordChanged { run, seq } => write!(f, "run {run}: record {seq} was changed"),
            Self::RecordsRemoved { run, from, to } => {
                write!(f, "run {run}: {} missing from the middle", are(&range("record", from, to), from == to))
            }
            Self::TailCut { run, from, to } => {
                write!(f, "run {run}: its end was cut off: {} missing", are(&range("record", from, to), from == to))
            }
            Self::RecordMoved { run, seq, from_run, from_seq } => {
                write!(f, "run {run}: in the place of record {seq} stands record {from_seq} of run {from_run}")
            }
            Self::RecordInserted { run, seq } => {
                write!(f, "run {run}: record {seq} was put in: no signed checkpoint covers it")
            }
            Self::RecordsRewritten { run, from, to } => {
                write!(
                    f,
                    "run {run}: {} rewritten: the hashes agree with each other, but not with the signed head",
                    were(&range("record", from, to), from == to)
                )
            }
            Self::RunMissing { run, records } => write!(f, "run {run} is missing, with all its {records} records"),
            Self::CheckpointForged { number } => {
                write!(f, "checkpoint {number} is not signed by this key: it was changed, or made without the key")
            }
            Self::CheckpointMoved { number, is } => {
                write!(f, "in the place of checkpoint {number} stands checkpoint {is}")
            }
            Self::CheckpointMixed { number } => {
                write!(f, "checkpoint {number} does not follow from the one before it: two histories were mixed")
            }
            Self::CheckpointsRemoved { from, to } => {
                write!(f, "{} missing", are(&range("checkpoint", from, to), from == to))
            }
            Self::CheckpointsCut { from, to } => {
                write!(
                    f,
                    "the end of the checkpoints was cut off: {} missing, but records name them",
                    are(&range("checkpoint", from, to), from == to)
                )
            }
            Self::RolledBack { head } => {
                write!(
                    f,
                    "the head {head} is not in it: the journal was rolled back to an earlier state, or is another one"
                )
            }
            Self::SealedChanged { run, id } => write!(f, "run {run}: the sealed value {} was changed", id.0),
            Self::SealedRemoved { run, id } => {
                write!(f, "run {run}: the sealed value {} is missing, and no record says that it was destroyed", id.0)
            }
            Self::SealedReturned { run, id } => {
                write!(f, "run {run}: the sealed value {} was destroyed and is there again", id.0)
            }
            Self::SealedInserted { run, id } => {
                write!(f, "run {run}: the sealed value {} was put in: no signed checkpoint covers it", id.0)
            }
        }
    }
}

fn are(what: &str, one: bool) -> String {
    format!("{what} {}", if one { "is" } else { "are" })
}

fn were(what: &str, one: bool) -> String {
    format!("{what} {}", if one { "was" } else { "were" })
}
