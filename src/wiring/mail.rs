//! The mail that a run calls for: from the journal's records to rows of the outbox. Whoever ends a run, or looks at the clock for what is
//! overdue, calls [`House::queue_mail`]; sending is another matter.

use super::House;
use crate::cli::Failure;
use crate::journal::Journal;
use crate::letters::{self, Told};
use crate::model::{Fault, FaultKind, RunId};
use crate::notify::Mailer;
use crate::playbook::Format;
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

    /// Puts into the outbox what is to be told of the run by `now`, each thing once however often this is called; says how many mails are
    /// new. Nothing is sent here, and nothing is done if no mail server is configured.
    ///
    /// # Errors
    /// The journal cannot be read, or the store cannot be written.
    pub async fn queue_mail(
        &self,
        journal: &Journal,
        store: &Store,
        run: &RunId,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<usize, Failure> {
        let Some(settings) = &self.config.mail else { return Ok(0) };
        let records = journal.records(run).await?;
        let playbook = self.playbook_of(&records)?;
        let report = self.report(journal, run, now, zone).await?;
        let to = settings.to.iter().chain(&playbook.report.to).cloned().collect();
        let attachments = attachments(&report, &playbook.report.formats)?;
        let mails = letters::of_run(&Told { report: &report, records: &records, to, attachments })?;
        let later: Vec<&str> =
            mails.iter().map(|m| m.occasion.as_str()).filter(|o| o.starts_with(letters::OVERDUE)).collect();
        store.unqueue(&run.0, letters::OVERDUE, &later).await?;
        let mut new = 0;
        for mail in mails {
            new += usize::from(store.queue(&mail, now).await?);
        }
        Ok(new)
    }
}

fn attachments(report: &Report, formats: &[Format]) -> Result<Vec<Attachment>, Fault> {
    let file = |format: &Format| {
        let (media_type, text) = match format {
            Format::Html => {
                let page = report.html(Paper::default());
                let page =
                    page.map_err(|e| Fault::new(FaultKind::Unexpected, "the report cannot be made").because(e))?;
                ("text/html; charset=utf-8", page)
            }
            Format::Json => ("application/json", report.json_text()),
        };
        Ok(Attachment { name: format!("offboard-{}.{format}", report.run), media_type: media_type.into(), text })
    };
    formats.iter().map(file).collect()
}
