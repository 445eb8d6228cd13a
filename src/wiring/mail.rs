//! The mail that a run calls for: from the journal's records to rows of the outbox. Whoever ends a run, or looks at the clock for what is
//! overdue, calls [`House::queue_mail`]; sending is another matter.

use super::House;
use crate::cli::Failure;
use crate::journal::Journal;
use crate::letters::{self, HeldNews, Told};
use crate::model::{Fault, FaultKind, Record, RunId, SweepState};
use crate::notify::Mailer;
use crate::playbook::{Format, Sweep};
use crate::report::{Paper, Report};
use crate::store::{Attachment, Store};
use jiff::Timestamp;
use jiff::tz::TimeZone;

impl House {
    /// The mail server, if there is one.
    ///
    /// # Errors
    /// Its settings or its CA file cannot be used.
    pub fn mailer(&self) -> Result<Option<Mailer>, Fault> {
        self.config.mail.as_ref().map(|settings| Mailer::new(settings, &self.config.base)).transpose()
    }

    /// Puts into the outbox what is to be told by `now` of the run, which has these `records`, each thing once however often this is called; says how many mails are
    /// new. Nothing is sent here, and nothing is done if no mail server is configured.
    ///
    /// # Errors
    /// The journal cannot be read, or the store cannot be written.
    pub async fn queue_mail(
        &self,
        journal: &Journal,
        store: &Store,
        run: &RunId,
        records: &[Record],
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<usize, Failure> {
        let Some(settings) = &self.config.mail else { return Ok(0) };
        if let Some(state) = SweepState::fold(records) {
            return self.queue_sweep(journal, store, &state, run, now, zone).await;
        }
        let playbook = self.playbook_of(records)?;
        let report = self.report_of(journal, run, records, now, zone).await?;
        let to = settings.to.iter().chain(&playbook.report.to).cloned().collect();
        let attachments = attachments(&report, &playbook.report.formats)?;
        let mails = letters::of_run(&Told { report: &report, records, to, attachments })?;
        let later: Vec<&str> =
            mails.iter().map(|m| m.occasion.as_str()).filter(|o| o.starts_with(letters::OVERDUE)).collect();
        store.unqueue(&run.0, letters::OVERDUE, &later).await?;
        let mut new = 0;
        for mail in mails {
            new += usize::from(store.queue(&mail, now).await?);
        }
        Ok(new)
    }

    async fn queue_sweep(
        &self,
        journal: &Journal,
        store: &Store,
        state: &SweepState,
        run: &RunId,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<usize, Failure> {
        let report = self.sweep_report(journal, run, now, zone).await?.filter(|report| report.ended.is_some());
        let (Some(settings), Some(report)) = (&self.config.mail, report) else { return Ok(0) };
        let playbook: Sweep = serde_json::from_value(state.request.playbook_body.clone()).map_err(|e| {
            Fault::new(FaultKind::Misconfigured, "the playbook of that sweep cannot be read by this version").because(e)
        })?;
        let mut attachments = Vec::new();
        for format in &playbook.report.formats {
            let (media_type, text) = match format {
                Format::Html => (HTML, page(report.html(Paper::default()))?),
                Format::Json => (JSON, report.json_text()),
            };
            attachments.push(Attachment {
                name: format!("offboard-{run}.{format}"),
                media_type: media_type.into(),
                text,
            });
        }
        let to = settings.to.iter().chain(&playbook.report.to).cloned().collect();
        let mail = letters::of_sweep(&report, attachments, to)?;
        Ok(usize::from(store.queue(&mail, now).await?))
    }

    /// Puts into the outbox that the roster is held: once for each state of its file.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn queue_held_roster(
        &self,
        store: &Store,
        why: &str,
        names: &[String],
        now: Timestamp,
    ) -> Result<(), Fault> {
        let Some(settings) = &self.config.mail else { return Ok(()) };
        let mail = letters::of_held_roster(HeldNews {
            key: self.roster.input().sha256.0.clone(),
            company: self.config.company.clone(),
            why: why.to_string(),
            people: names.to_vec(),
            to: settings.to.clone(),
        })?;
        store.queue(&mail, now).await.map(|_| ())
    }
}

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

fn page<E: std::fmt::Display>(made: Result<String, E>) -> Result<String, Fault> {
    made.map_err(|e| Fault::new(FaultKind::Unexpected, "the report cannot be made").because(e))
}

fn attachments(report: &Report, formats: &[Format]) -> Result<Vec<Attachment>, Fault> {
    let file = |format: &Format| {
        let (media_type, text) = match format {
            Format::Html => (HTML, page(report.html(Paper::default()))?),
            Format::Json => (JSON, report.json_text()),
        };
        Ok(Attachment { name: format!("offboard-{}.{format}", report.run), media_type: media_type.into(), text })
    };
    formats.iter().map(file).collect()
}
