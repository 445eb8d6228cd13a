//! Which checkpoint is the last to know of a run, kept in memory. It answers at once whether the end of a run was cut off, which would
//! otherwise take a look into every later checkpoint whenever the run is read.
//!
//! What is kept is never believed without a signature: only checkpoints that hang together by their hashes up to one whose signature was
//! verified come in. Where they do not, or where the file is not any more what was read, there is no answer, and the reader looks for itself.
//! What is changed in the file later does not change what was learned.

use super::chain::Checkpoint;
use super::keys::PublicKey;
use super::read::checkpoint_row;
use crate::model::{Digest, RunId};
use futures::TryStreamExt;
use sqlx::sqlite::SqliteConnection;
use std::collections::HashMap;

/// So many checkpoints are worked on before others get their turn.
const PAGE: u64 = 256;

/// The checkpoints that were read so far: a piece of the chain without a gap.
#[derive(Default)]
pub(super) struct Heads {
    piece: Option<Piece>,
    /// The last checkpoint of the piece that knows of a run. Grows with the runs, less than 100 bytes each.
    last: HashMap<Box<str>, u64>,
}

/// From one checkpoint to another, both in it.
#[derive(Clone)]
struct Piece {
    from: u64,
    /// What the first one says of the checkpoint before it.
    before: Digest,
    to: u64,
    /// The hash of the last one.
    hash: Digest,
}

/// Checkpoints that were read in one go.
struct Read {
    piece: Piece,
    /// The hash of the first one.
    first: Digest,
    last: HashMap<Box<str>, u64>,
    /// The signature over the last one is good.
    signed: bool,
}

impl Heads {
    /// Goes on to the last checkpoint of this snapshot, which nobody has read from yet, and says its number; nothing if it does not follow
    /// from what is known.
    pub async fn renew(
        &mut self,
        connection: &mut SqliteConnection,
        key: &PublicKey,
    ) -> Result<Option<u64>, sqlx::Error> {
        let known = self.piece.as_ref();
        // The last one is read again: it may have been put in the place of the one that is known.
        let Some(read) = read(connection, key, known.map(|piece| piece.to), None).await? else { return Ok(None) };
        let follows = known.is_none_or(|piece| piece.hash == read.first);
        if !read.signed || !follows {
            return Ok(None);
        }
        let end = read.piece.to;
        let piece = self.piece.get_or_insert_with(|| read.piece.clone());
        (piece.to, piece.hash) = (end, read.piece.hash);
        self.last.extend(read.last);
        Ok(Some(end))
    }

    /// Whether a checkpoint later than `checkpoint`, up to `end`, knows of `run`; nothing if that cannot be told. `end` is what
    /// [`Heads::renew`] said of this snapshot.
    pub async fn know_later(
        &mut self,
        connection: &mut SqliteConnection,
        key: &PublicKey,
        run: &RunId,
        checkpoint: u64,
        end: u64,
    ) -> Result<Option<bool>, sqlx::Error> {
        let Some(piece) = &mut self.piece else { return Ok(None) };
        if checkpoint < piece.from {
            let (from, to) = (Some(checkpoint), Some(piece.from - 1));
            let Some(read) = read(connection, key, from, to).await? else { return Ok(None) };
            if piece.before != read.piece.hash {
                return Ok(None);
            }
            (piece.from, piece.before) = (read.piece.from, read.piece.before);
            for (run, number) in read.last {
                self.last.entry(run).or_insert(number);
            }
        }
        Ok(match self.last.get(run.0.as_str()) {
            // It has gone on since.
            Some(last) if *last > end => None,
            last => Some(last.is_some_and(|last| *last > checkpoint)),
        })
    }
}

/// The checkpoints from `from` to `to`, or from and to the last one; nothing if one is missing or does not follow from the one before it.
async fn read(
    connection: &mut SqliteConnection,
    key: &PublicKey,
    from: Option<u64>,
    to: Option<u64>,
) -> Result<Option<Read>, sqlx::Error> {
    let mut so_far: Option<Read> = None;
    let mut end = (Vec::new(), Vec::new());
    let mut rows = sqlx::query(
        "SELECT number, CAST(body AS BLOB), signature FROM checkpoint
         WHERE number >= coalesce($1, (SELECT max(number) FROM checkpoint)) AND ($2 IS NULL OR number <= $2)
         ORDER BY number",
    )
    .bind(from.map(u64::cast_signed))
    .bind(to.map(u64::cast_signed))
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let (number, body, signature) = checkpoint_row(&row)?;
        let number = number.cast_unsigned();
        let Some((checkpoint, hash)) = Checkpoint::hashed(&body) else { return Ok(None) };
        if checkpoint.number != number {
            return Ok(None);
        }
        let read = match &mut so_far {
            None if from.is_some_and(|from| from != number) => return Ok(None),
            None => so_far.insert(Read {
                piece: Piece { from: number, before: checkpoint.previous, to: number, hash: hash.clone() },
                first: hash,
                last: HashMap::new(),
                signed: false,
            }),
            Some(read) if read.piece.to + 1 != number || read.piece.hash != checkpoint.previous => return Ok(None),
            Some(read) => {
                (read.piece.to, read.piece.hash) = (number, hash);
                read
            }
        };
        for head in checkpoint.heads {
            read.last.insert(head.run.0.into(), number);
        }
        end = (body, signature);
        if number.is_multiple_of(PAGE) {
            tokio::task::yield_now().await;
        }
    }
    let Some(mut read) = so_far.filter(|read| to.is_none_or(|to| read.piece.to == to)) else { return Ok(None) };
    read.signed = Checkpoint::open(&end.0, &end.1, key).is_some();
    Ok(Some(read))
}
