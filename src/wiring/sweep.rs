//! One sweep, from its playbook to the end of its record: the same for `offboard sweep` and for `offboard serve`.

use super::House;
use crate::cli::Failure;
use crate::journal::Journal;
use crate::model::{Actor, Fault, FaultKind, InputDigest, Record, RunId, SweepRequest, SweepState};
use crate::playbook::{Book, Sweep};
use crate::report::{self, SweepReport};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::mpsc::UnboundedSender;

/// Makes the sweep of that playbook (or of the only one there is), and writes it down in the journal. `watch` gets every record, the first
/// one too. Reports are written by [`crate::cli::write_sweep`].
///
/// # Errors
/// There is no such sweep, or the journal cannot be written. What goes wrong at a place is part of the result.
pub async fn sweep(
    house: &House,
    journal: &Journal,
    playbook: Option<&str>,
    by: Actor,
    watch: Option<UnboundedSender<Record>>,
) -> Result<(RunId, SweepState), Failure> {
    let (book, digest) = house.sweep_book(playbook)?;
    let requested_at = house.engine.now();
    let request = SweepRequest {
        playbook: book.playbook.clone(),
        summary: book.summary.clone(),
        playbook_body: serde_json::to_value(&book).unwrap_or_default(),
        requested_by: by.clone(),
        requested_at,
        inputs: house.inputs(digest),
        places: house.engine.places_of(&book),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let (log, first) = journal.start(requested_at, request).await?;
    if let Some(watch) = &watch {
        // Nobody watching any more is no reason to stop.
        let _ = watch.send(first.clone());
    }
    let id = log.run().clone();
    let state = house.engine.sweep(log, &first, &book, by, watch).await?;
    Ok((id, state))
}

impl House {
    /// The sweep of that name; without one, the only one there is.
    ///
    /// # Errors
    /// There is none, it is a playbook for leavers, or there are several: the names.
    pub fn sweep_book(&self, name: Option<&str>) -> Result<(Sweep, InputDigest), Fault> {
        let books = self.books().map_err(|mistakes| {
            Fault::new(FaultKind::Misconfigured, "a playbook is wrong")
                .because(mistakes)
                .hint("offboard playbook check")
        })?;
        let fault = |what: String| Fault::new(FaultKind::Misconfigured, what);
        if let Some(name) = name
            && books.iter().any(|(book, _)| book.name() == name && matches!(book, Book::Leaver(_)))
        {
            return Err(fault(format!("the playbook {name:?} is for leavers, not for a sweep"))
                .hint(format!("offboard run PERSON -p {name}; or name a sweep")));
        }
        let mut sweeps: Vec<(Sweep, InputDigest)> = books
            .into_iter()
            .filter_map(|(book, digest)| if let Book::Sweep(sweep) = book { Some((*sweep, digest)) } else { None })
            .collect();
        let names = sweeps.iter().map(|(sweep, _)| sweep.playbook.clone()).collect::<Vec<_>>().join(", ");
        let folder = self.config.playbooks.display();
        sweeps.retain(|(sweep, _)| name.is_none_or(|name| sweep.playbook == name));
        match (sweeps.pop(), sweeps.is_empty(), name) {
            (Some(one), true, _) => Ok(one),
            (Some(_), false, _) => {
                Err(fault("there are several sweeps".into()).hint(format!("name one with -p: {names}")))
            }
            (None, _, Some(name)) => Err(fault(format!("there is no sweep {name:?}"))
                .hint(format!("the sweeps in {folder} are: {}", if names.is_empty() { "none" } else { &names }))),
            (None, _, None) => Err(fault(format!("there is no sweep in {folder}"))
                .hint("offboard init puts quarterly-stale-sweep.yaml there, where it is missing")),
        }
    }

    /// The sweeps that are made by a schedule: the playbook's name, the schedule, and its zone.
    ///
    /// # Errors
    /// A playbook is wrong.
    pub fn schedules(&self) -> Result<Vec<(String, croner::Cron, TimeZone)>, Fault> {
        let books = self.books().map_err(|mistakes| {
            Fault::new(FaultKind::Misconfigured, "a playbook is wrong")
                .because(mistakes)
                .hint("offboard playbook check")
        })?;
        let sweeps =
            books.into_iter().filter_map(|(book, _)| if let Book::Sweep(sweep) = book { Some(sweep) } else { None });
        let scheduled = sweeps.filter_map(|sweep| {
            let trigger = sweep.trigger.as_ref()?;
            Some((sweep.playbook.clone(), crate::daemon::when::schedule(&trigger.schedule), sweep.zone()))
        });
        scheduled
            .map(|(name, schedule, zone)| match schedule {
                Ok(schedule) => Ok((name, schedule, zone)),
                Err(error) => {
                    Err(Fault::new(FaultKind::Misconfigured, format!("the schedule of {name} cannot be read"))
                        .because(error))
                }
            })
            .collect()
    }

    /// The report of a sweep as the journal has it now; nothing if the run is no sweep.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn sweep_report(
        &self,
        journal: &Journal,
        run: &RunId,
        made_at: Timestamp,
        zone: &TimeZone,
    ) -> Result<Option<SweepReport>, Failure> {
        let records = journal.records(run).await?;
        let Some(state) = SweepState::fold(&records) else { return Ok(None) };
        // As for a run: what is on record must not be believed unseen.
        let verified = journal.verify(None).await?;
        let journal = report::Journal {
            problems: verified.problems.len() as u64 + verified.more,
            head: journal.head().await?,
            records: records.len() as u64,
            key: Some(journal.public_key().fingerprint().0),
            signature: None,
        };
        Ok(Some(SweepReport::new(run, state, &records, journal, &self.config.company, made_at, zone)))
    }
}
