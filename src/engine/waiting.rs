//! A run that waits for its hour: it is scheduled, looked at beforehand, and cancelled or begun.

use super::{Halt, Run};
use crate::connector::Connector;
use crate::model::{Actor, Event, Fault, FaultKind, InputDigest, LookAt, Place, PlaceId};
use futures::future::join_all;
use jiff::Timestamp;

impl Run<'_> {
    /// Lets it wait until `at`, or until another hour than before.
    ///
    /// # Errors
    /// `Protected` if it has begun or was cancelled; [`Halt::Journal`].
    pub async fn schedule(&self, at: Timestamp, by: Actor) -> Result<(), Halt> {
        self.not_begun()?;
        self.recorder.record(vec![Event::Scheduled { at, by }]).await
    }

    /// Gives it up before it has begun.
    ///
    /// # Errors
    /// As [`Run::schedule`].
    pub async fn cancel(&self, why: &str, by: Actor) -> Result<(), Halt> {
        self.not_begun()?;
        self.recorder.record(vec![Event::Cancelled { why: why.into(), by }]).await
    }

    /// Notes that the configuration has changed since the run was asked for: a system that came later is closed, too, and reported.
    ///
    /// # Errors
    /// [`Halt::Journal`].
    pub async fn renew(&self, inputs: Vec<InputDigest>) -> Result<(), Halt> {
        let places: Vec<Place> = self.engine.places().into_iter().map(|(_, place)| place).collect();
        if self.recorder.read(|s| s.request.places == places && s.request.inputs == inputs) {
            return Ok(());
        }
        self.recorder.record(vec![Event::Renewed { places, inputs }]).await
    }

    /// Looks at every place while the run waits: what the person can open, and that it opens. Changes nothing there, and plans nothing.
    /// What cannot be seen now is no fault of the run: it begins in time all the same, and these are only for the log.
    ///
    /// # Errors
    /// As [`Run::schedule`].
    pub async fn prepare(&self) -> Result<Vec<(PlaceId, Fault)>, Halt> {
        self.not_begun()?;
        let seen = join_all(self.engine.places().into_iter().map(|(connector, place)| async move {
            let seen = self.in_turn(&place, self.look_early(&*connector, &place)).await;
            (place.id, seen)
        }));
        let mut unseen = Vec::new();
        for (place, seen) in seen.await {
            match seen {
                Ok(()) => {}
                Err(Halt::Place(fault)) => unseen.push((place, fault)),
                Err(journal) => return Err(journal),
            }
        }
        self.recorder.record(vec![Event::Prepared]).await?;
        Ok(unseen)
    }

    async fn look_early(&self, connector: &dyn Connector, place: &Place) -> Result<(), Halt> {
        let cx = self.cx_at(place)?;
        let mut link = self.engine.open(connector, place, &cx).await?;
        self.discover(&mut *link, place, false).await?;
        let doors = self.doors_at(place, |_| true);
        if doors.is_empty() {
            return Ok(());
        }
        let what = format!("{}: looking", place.id);
        let looks = self.engine.in_time(&what, 10, link.look(&doors, false, &cx)).await?;
        let (doors, looks): (Vec<_>, Vec<_>) = doors.into_iter().zip(looks).unzip();
        let mut looks = looks.into_iter();
        let unsaid = || crate::model::Look::unproven("the connector did not say");
        self.looked(doors, LookAt::Before, |_| looks.next().unwrap_or_else(unsaid)).await
    }

    fn not_begun(&self) -> Result<(), Fault> {
        self.not_cancelled()?;
        if self.recorder.read(|s| s.started.is_none()) {
            return Ok(());
        }
        let run = self.recorder.run();
        Err(Fault::new(FaultKind::Protected, format!("run {run} has begun"))
            .hint(format!("offboard status {run} shows it; offboard restore {run} gives access back")))
    }

    pub(super) fn not_cancelled(&self) -> Result<(), Fault> {
        let Some(why) = self.recorder.read(|s| s.cancelled.as_ref().map(|(_, why, _)| why.clone())) else {
            return Ok(());
        };
        Err(Fault::new(FaultKind::Protected, format!("run {} was cancelled", self.recorder.run()))
            .because(why)
            .hint("start a new run: offboard run PERSON"))
    }
}
