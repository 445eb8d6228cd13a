//! Which checkpoint is the last to know of a run, kept in memory. It answers at once whether the end of a run was cut off, which would
//! otherwise take a look into every later checkpoint whenever the run is read.
//!
//! What is kept is never believed without a signature: only checkpoints that hang together by their hashes up to one whose signature was
//! verified come in. Where they do not, or where the file is not any more what was read, there is no answer, and the reader looks for itself.
//! What is changed in the file later does not change what was learned.

use super::chain::{Checkpoint, START, hex};
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
        let end: Option<i64> =
            sqlx::query_scalar("SELECT max(number) FROM checkpoint").fetch_one(&mut *connection).await?;
        let Some(end) = end.and_then(|end| u64::try_from(end).ok()) else { return Ok(None) };
        let known = self.piece.as_ref();
        // The last one is read again: it may have been put in the place of the one that is known.
        let from = known.map_or(end, |piece| piece.to);
        let Some(read) = read(connection, key, from, end).await? else { return Ok(None) };
        let follows = known.is_none_or(|piece| piece.hash == read.first);
        if !read.signed || !follows {
            return Ok(None);
        }
        let piece = self.piece.get_or_insert_with(|| read.piece.clone());
        (piece.to, piece.hash) = (read.piece.to, read.piece.hash);
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
            let Some(read) = read(connection, key, checkpoint, piece.from - 1).await? else { return Ok(None) };
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

/// The checkpoints from `from` to `to`; nothing if one is missing or does not follow from the one before it.
async fn read(
    connection: &mut SqliteConnection,
    key: &PublicKey,
    from: u64,
    to: u64,
) -> Result<Option<Read>, sqlx::Error> {
    let none = hex(&START);
    let mut read = Read {
        piece: Piece { from, before: none.clone(), to, hash: none.clone() },
        first: none,
        last: HashMap::new(),
        signed: false,
    };
    let mut next = from;
    let mut rows = sqlx::query(
        "SELECT number, CAST(body AS BLOB), signature FROM checkpoint WHERE number BETWEEN $1 AND $2 ORDER BY number",
    )
    .bind(from.cast_signed())
    .bind(to.cast_signed())
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let (number, body, signature) = checkpoint_row(&row)?;
        let Some((checkpoint, hash)) = Checkpoint::hashed(&body) else { return Ok(None) };
        if number.cast_unsigned() != next || checkpoint.number != next {
            return Ok(None);
        }
        if next == from {
            read.piece.before = checkpoint.previous;
            read.first = hash.clone();
        } else if checkpoint.previous != read.piece.hash {
            return Ok(None);
        }
        read.piece.hash = hash;
        for head in checkpoint.heads {
            read.last.insert(head.run.0.into(), next);
        }
        if next == to {
            read.signed = Checkpoint::open(&body, &signature, key).is_some();
            return Ok(Some(read));
        }
        next += 1;
        if next.is_multiple_of(PAGE) {
            tokio::task::yield_now().await;
        }
    }
    Ok(None)
}
