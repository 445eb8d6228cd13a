//! The connections of a rotation: a few to each place, lent to the turns of all secrets that are rotated at the same time. A hundred secrets
//! whose consumers are on five hosts take no more logins than five do.

use crate::connector::Link;
use crate::model::PlaceId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};

/// So many connections to one place: with one alone, a program that is slow to get well would hold up all others there.
const PER_PLACE: usize = 4;

/// The places of a rotation.
pub(super) struct Links(BTreeMap<PlaceId, Lender>);

struct Lender {
    room: Semaphore,
    idle: Mutex<Vec<Box<dyn Link>>>,
    writing: tokio::sync::Mutex<()>,
}

impl Links {
    pub fn new(places: impl Iterator<Item = PlaceId>) -> Self {
        let lender = || Lender {
            room: Semaphore::new(PER_PLACE),
            idle: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        };
        Self(places.map(|place| (place, lender())).collect())
    }

    /// Waits until nobody else writes at the place: `finish` clears away what a `set` may just be writing.
    pub async fn write(&self, place: &PlaceId) -> MutexGuard<'_, ()> {
        self.0[place].writing.lock().await
    }

    /// Waits for a connection to the place. There may be none yet: then whoever asked makes it.
    pub async fn lend(&self, place: &PlaceId) -> Lent<'_> {
        let lender = &self.0[place];
        let room = lender.room.acquire().await.ok();
        let link = lender.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { link, idle: &lender.idle, _room: room }
    }
}

/// A connection, given back when this is dropped. One that broke, or is in the middle of something, is taken out first.
pub(super) struct Lent<'a> {
    pub link: Option<Box<dyn Link>>,
    idle: &'a Mutex<Vec<Box<dyn Link>>>,
    _room: Option<SemaphorePermit<'a>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        }
    }
}
