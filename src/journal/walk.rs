//! The walk through the records of one run, in order, against the heads that checkpoints sign. No store in here: rows come in,
//! problems go out.

use super::chain::{Hash, Outline, START, hex, record_hash};
use super::problem::Problem;
use crate::model::{Digest, RunId, SealedId};

/// How many problems are listed.
pub(super) const LISTED: usize = 1000;

/// What was found so far, and what that says about what is still to be looked at.
#[derive(Default)]
pub(super) struct Findings {
    pub problems: Vec<Problem>,
    /// How many there are beyond those.
    pub more: u64,
    /// Checkpoint numbers that are missing or not to be trusted: what they covered is not called inserted.
    pub damaged: Vec<(i64, i64)>,
    /// The last checkpoint's number.
    pub last_number: Option<i64>,
    /// The highest checkpoint that a record names beyond the last one.
    pub cut_to: Option<u64>,
}

impl Findings {
    pub fn report(&mut self, problem: Problem) {
        if self.problems.len() < LISTED {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn is_damaged(&self, number: i64) -> bool {
        self.damaged.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }
}

/// One row of `record`, with the head that a checkpoint signs for it, if one does.
pub(super) struct RecordRow {
    pub run: String,
    pub seq: i64,
    pub body: Vec<u8>,
    pub hash: Vec<u8>,
    pub signed: Option<Digest>,
}

/// Where the walk through one run is.
pub(super) struct RunWalk {
    pub run: RunId,
    /// The last record that a trusted checkpoint signs; 0 if none does.
    signed_to: i64,
    /// The next number.
    expected: i64,
    /// What the next record's hash may follow from; nothing if the record before it is not known.
    previous: Option<Vec<Hash>>,
    /// The last record up to which a signed head agreed or was reported.
    trusted_to: u64,
    /// Whether something was reported since then that explains why the next signed head differs.
    explained: bool,
}

impl RunWalk {
    /// Before the first record of `run`, of which checkpoints sign the records up to `signed_to`.
    pub fn begin(run: &str, signed_to: Option<i64>) -> Self {
        Self {
            run: RunId(run.to_string()),
            signed_to: signed_to.unwrap_or(0),
            expected: 1,
            previous: Some(vec![START]),
            trusted_to: 0,
            explained: false,
        }
    }

    /// Checks one record; returns the sealed value that it says was destroyed.
    pub fn record(&mut self, row: &RecordRow, found: &mut Findings) -> Option<SealedId> {
        let (run, seq) = (self.run.clone(), row.seq.cast_unsigned());
        let Ok(hash) = Hash::try_from(row.hash.as_slice()) else {
            self.gap(found, row.seq);
            self.take(None, row.seq);
            self.explained = true;
            found.report(Problem::RecordChanged { run, seq });
            return None;
        };
        let outline = serde_json::from_slice::<Outline>(&row.body).ok();
        if row.seq < 1 || row.seq > self.signed_to {
            self.unsigned(found, row, &hash, outline.as_ref());
            return None;
        }
        self.gap(found, row.seq);
        let moved = outline.as_ref().filter(|o| o.run != run || o.seq != seq);
        let linked = self
            .previous
            .as_ref()
            .map(|candidates| candidates.iter().any(|previous| record_hash(previous, &row.body) == hash));
        if let Some(outline) = moved {
            found.report(Problem::RecordMoved {
                run: run.clone(),
                seq,
                from_run: outline.run.clone(),
                from_seq: outline.seq,
            });
            self.explained = true;
        } else if outline.is_none() || linked == Some(false) {
            found.report(Problem::RecordChanged { run: run.clone(), seq });
            self.explained = true;
        }
        // If this row's hash was changed and not its body, the next row follows from the hash that it should have.
        let computed = self.previous.as_ref().and_then(|c| c.first()).map(|previous| record_hash(previous, &row.body));
        let next = if moved.is_some() { None } else { Some([Some(hash), computed].into_iter().flatten().collect()) };
        if let Some(signed) = &row.signed {
            if *signed != hex(&hash) && !self.explained {
                found.report(Problem::RecordsRewritten { run, from: self.trusted_to + 1, to: seq });
            }
            self.trusted_to = seq;
            self.explained = false;
        }
        self.take(next, row.seq);
        outline.and_then(|o| o.event.destroyed())
    }

    /// Reports the records that are missing before `seq`.
    fn gap(&mut self, found: &mut Findings, seq: i64) {
        let to = seq.saturating_sub(1).min(self.signed_to);
        if self.expected <= to {
            found.report(Problem::RecordsRemoved {
                run: self.run.clone(),
                from: self.expected.cast_unsigned(),
                to: to.cast_unsigned(),
            });
            self.take(None, to);
            self.explained = true;
        }
    }

    /// A record beyond the last one that a trusted checkpoint signs.
    fn unsigned(&mut self, found: &mut Findings, row: &RecordRow, hash: &Hash, outline: Option<&Outline>) {
        self.gap(found, row.seq);
        let linked = self.previous.as_ref().is_none_or(|c| c.iter().any(|p| record_hash(p, &row.body) == *hash));
        if let Some(outline) = outline.filter(|o| linked && o.run == self.run && o.seq.cast_signed() == row.seq) {
            self.take(Some(vec![*hash]), row.seq);
            let number = outline.checkpoint.cast_signed();
            if found.last_number.is_none_or(|last| number > last) {
                found.cut_to = found.cut_to.max(Some(outline.checkpoint));
                return;
            }
            if found.is_damaged(number) {
                return;
            }
        }
        found.report(Problem::RecordInserted { run: self.run.clone(), seq: row.seq.cast_unsigned() });
    }

    /// After the last record: reports what is missing behind it.
    pub fn end(&self, found: &mut Findings) {
        if self.expected <= self.signed_to {
            found.report(Problem::TailCut {
                run: self.run.clone(),
                from: self.expected.cast_unsigned(),
                to: self.signed_to.cast_unsigned(),
            });
        }
    }

    fn take(&mut self, previous: Option<Vec<Hash>>, seq: i64) {
        self.previous = previous;
        self.expected = self.expected.max(seq.saturating_add(1));
    }
}
