//! The connections of a rotation: a few to each place, lent to the turns of all secrets that are rotated at the same time. A hundred secrets
//! whose consumers are on five hosts take no more logins than five do.

use crate::connector::Link;
use crate::model::PlaceId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// So many connections to one place: with one alone, a program that is slow to get well would hold up all others there.
const PER_PLACE: usize = 4;

/// The places of all rotations of a run.
#[derive(Default)]
pub(in crate::engine) struct Links(Mutex<BTreeMap<PlaceId, Arc<Lender>>>);

struct Lender {
    room: Arc<Semaphore>,
    idle: Mutex<Vec<Box<dyn Link>>>,
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl Links {
    fn of(&self, place: &PlaceId) -> Arc<Lender> {
        let new = || {
            let (room, idle, writing) = (Arc::new(Semaphore::new(PER_PLACE)), Mutex::default(), Arc::default());
            Arc::new(Lender { room, idle, writing })
        };
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(place.clone()).or_insert_with(new))
    }

    /// Waits until nobody else writes at the place: `finish` clears away what a `set` may just be writing.
    pub async fn write(&self, place: &PlaceId) -> OwnedMutexGuard<()> {
        Arc::clone(&self.of(place).writing).lock_owned().await
    }

    /// Waits for a connection to the place. There may be none yet: then whoever asked makes it.
    pub(super) async fn lend(&self, place: &PlaceId) -> Lent {
        let lender = self.of(place);
        let room = Arc::clone(&lender.room).acquire_owned().await.ok();
        let link = lender.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { link, lender, _room: room }
    }
}

/// A connection, given back when this is dropped. One that broke, or is in the middle of something, is taken out first.
pub(super) struct Lent {
    pub link: Option<Box<dyn Link>>,
    lender: Arc<Lender>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.lender.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        }
    }
}
