//! A sweep: the straight line with another beginning. Every account of every place is read and judged as it comes; what is found is written
//! down and reported. Nothing is changed anywhere.

use super::tally::{Book, Tally};
use super::{Engine, Halt};
use crate::connector::Connector;
use crate::journal::RunLog;
use crate::model::{Actor, Event, Fault, FaultKind, FindingKind, Place, Record, SweepState};
use crate::playbook::Sweep;
use futures::StreamExt;
use futures::future::try_join_all;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// Findings in one record.
const TOGETHER: usize = 200;

/// The record of a sweep: to the journal first, then into the fold, then to whoever watches.
struct Diary<'a> {
    engine: &'a Engine,
    log: RunLog,
    state: Mutex<SweepState>,
    watch: Option<UnboundedSender<Record>>,
}

impl Diary<'_> {
    async fn record(&self, events: Vec<Event>) -> Result<(), Halt> {
        if events.is_empty() {
            return Ok(());
        }
        for record in self.log.append((self.engine.clock)(), events).await? {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).apply(record.at, &record.event);
            if let Some(watch) = &self.watch {
                // Nobody watching any more is no reason to stop.
                let _ = watch.send(record);
            }
        }
        Ok(())
    }
}

impl Engine {
    /// The places that `book` asks about.
    pub fn places_of(&self, book: &Sweep) -> Vec<Place> {
        let asked = self.places().into_iter().filter(|(connector, _)| book.covers(connector.manifest().family));
        asked.map(|(_, place)| place).collect()
    }

    /// Makes the sweep that `first` asks for: reads every place at the same time, so that a dead one delays nobody, then judges and
    /// writes down what was found.
    ///
    /// # Errors
    /// [`Halt::Journal`], and if `first` asks for no sweep. What goes wrong at a place is part of the result.
    pub async fn sweep(
        &self,
        log: RunLog,
        first: &Record,
        book: &Sweep,
        by: Actor,
        watch: Option<UnboundedSender<Record>>,
    ) -> Result<SweepState, Halt> {
        let state = SweepState::fold([first]).ok_or_else(|| {
            Fault::new(FaultKind::Misconfigured, format!("run {} does not begin with a sweep", log.run()))
        })?;
        let diary = Diary { engine: self, log, state: Mutex::new(state), watch };
        diary.record(vec![Event::Started { by }]).await?;
        let tally = Tally::new(&self.matcher, book, (self.clock)());
        let asked = self.places().into_iter().filter(|(connector, _)| book.covers(connector.manifest().family));
        try_join_all(asked.map(|(connector, place)| {
            let (diary, tally) = (&diary, &tally);
            async move {
                diary
                    .record(vec![match self.read(&*connector, &place, tally).await {
                        Ok(()) => Event::Reached { place: place.id },
                        Err(fault) => Event::Unreached { place: place.id, fault, last: true },
                    }])
                    .await
            }
        }))
        .await?;
        let told = tally.finish();
        diary.record(told.seen.into_iter().map(|(place, seen)| Event::SweepSeen { place, seen }).collect()).await?;
        for findings in told.findings.chunks(TOGETHER) {
            diary.record(vec![Event::SweepFound { findings: findings.to_vec() }]).await?;
        }
        diary.record(vec![Event::SweepEnded { over_limit: told.over_limit }]).await?;
        Ok(diary.state.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads one place to its end, account by account.
    async fn read(&self, connector: &dyn Connector, place: &Place, tally: &Tally<'_>) -> Result<(), Fault> {
        // No witness is ever derived here: nothing is applied.
        let cx = self.cx(vec![0; 32].into());
        let mut link = self.open(connector, place, &cx).await?;
        let mut book = Book::new(connector, place);
        let reading = async {
            let mut accounts = link.sweep();
            while let Some(next) = self.in_time(&format!("{}: reading", place.id), 6, accounts.next()).await? {
                tally.take(&mut book, next?);
            }
            Ok::<(), Fault>(())
        };
        // It can wait: a termination finds the other slots free, and where there is only one it has that soon.
        self.in_turn(place, true, reading).await?;
        let mut unread = link.findings();
        unread.retain(|finding| finding.kind == FindingKind::Unknown);
        tally.close(book, link.last_use(), unread);
        Ok(())
    }
}
