//! `offboard report`.

use super::context::{Context, clock};
use super::outcome::{Exit, Failure};
use crate::journal::{Journal, RunLog};
use crate::model::{Digest, Event, Fault, FaultKind, Record, RunId};
use crate::report::{Paper, Report, SweepReport};
use crate::wiring::House;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::sync::Semaphore;

/// So many reports are written at the same time. Each takes a thread while it is.
static WRITING: Semaphore = Semaphore::const_new(4);

/// Write the evidence of a run, from the journal alone.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: String,
    /// What to write.
    #[arg(long, value_enum, default_value_t = Format::Html)]
    format: Format,
    /// The paper that the HTML is laid out for when it is printed.
    #[arg(long, value_enum, default_value_t = PaperName::A4)]
    paper: PaperName,
    /// Where to; without it standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What a report can be printed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PaperName {
    A4,
    Letter,
}

impl From<PaperName> for Paper {
    fn from(name: PaperName) -> Self {
        match name {
            PaperName::A4 => Self::A4,
            PaperName::Letter => Self::Letter,
        }
    }
}

/// What a report can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people; prints well, needs no network.
    Html,
    /// For machines.
    Json,
    /// For spreadsheets: a sweep's list.
    Csv,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }

    fn write(self, report: &Report, paper: Paper) -> Result<String, Fault> {
        match self {
            Self::Html => report
                .html(paper)
                .map_err(|e| Fault::new(FaultKind::Unexpected, "the report cannot be made").because(e)),
            Self::Json => Ok(report.json_text()),
            Self::Csv => Err(Fault::new(FaultKind::Misconfigured, "only the report of a sweep can be CSV")
                .hint("--format html, or --format json")),
        }
    }

    fn write_sweep(self, report: &SweepReport, paper: Paper) -> Result<String, Fault> {
        match self {
            Self::Html => report
                .html(paper)
                .map_err(|e| Fault::new(FaultKind::Unexpected, "the report cannot be made").because(e)),
            Self::Json => Ok(report.json_text()),
            Self::Csv => Ok(report.csv()),
        }
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let journal = house.journal_to_read().await?;
    let (id, _) = house.records(&journal, &args.run).await?;
    let (text, stands) = match of_sweep(&house, &journal, &id).await? {
        Some(swept) => (args.format.write_sweep(&swept, args.paper.into())?, swept.journal),
        None => {
            let report = of(&house, &journal, &id).await?;
            (args.format.write(&report, args.paper.into())?, report.journal)
        }
    };
    match &args.out {
        Some(path) => {
            write(path, &text)?;
            context.print(|_| format!("{}\n", path.display()), || serde_json::json!({ "written": path }));
        }
        None => {
            context.write(&text);
        }
    }
    Ok(Exit::Fine.unless_tampered(&stands))
}

/// The report of a run as the journal has it now.
pub async fn of(house: &House, journal: &Journal, id: &RunId) -> Result<Report, Failure> {
    house.report(journal, id, clock()(), &jiff::tz::TimeZone::system()).await
}

/// The report of a sweep as the journal has it now; nothing if the run is none.
pub async fn of_sweep(house: &House, journal: &Journal, id: &RunId) -> Result<Option<SweepReport>, Failure> {
    house.sweep_report(journal, id, clock()(), &jiff::tz::TimeZone::system()).await
}

impl From<crate::playbook::Format> for Format {
    fn from(format: crate::playbook::Format) -> Self {
        match format {
            crate::playbook::Format::Html => Self::Html,
            crate::playbook::Format::Json => Self::Json,
        }
    }
}

/// Writes a report in the playbook's formats, records what was written, and says where, and what is on record of it.
///
/// # Errors
/// The folder or the journal cannot be written.
pub async fn write_all(
    house: &House,
    log: &RunLog,
    report: &Report,
    formats: &[crate::playbook::Format],
    folder: Option<PathBuf>,
) -> Result<(Vec<PathBuf>, Vec<Record>), Failure> {
    let write = |format: Format| format.write(report, Paper::default());
    write_each(house, log, formats, folder, write).await
}

/// As [`write_all`], for a sweep: for `offboard sweep` and for `offboard serve`.
///
/// # Errors
/// The run is no sweep, or the folder or the journal cannot be written.
pub async fn write_sweep(
    house: &House,
    journal: &Journal,
    id: &RunId,
    formats: &[crate::playbook::Format],
    folder: Option<PathBuf>,
) -> Result<Vec<PathBuf>, Failure> {
    let report = of_sweep(house, journal, id).await?;
    let report = report.ok_or_else(|| Fault::new(FaultKind::Misconfigured, format!("run {id} is no sweep")))?;
    let write = |format: Format| format.write_sweep(&report, Paper::default());
    let log = journal.continue_run(id).await?;
    Ok(write_each(house, &log, formats, folder, write).await?.0)
}

async fn write_each(
    house: &House,
    log: &RunLog,
    formats: &[crate::playbook::Format],
    folder: Option<PathBuf>,
    text_of: impl Fn(Format) -> Result<String, Fault>,
) -> Result<(Vec<PathBuf>, Vec<Record>), Failure> {
    let folder = folder.unwrap_or_else(|| house.reports_folder());
    std::fs::create_dir_all(&folder).map_err(|e| {
        Fault::new(FaultKind::Misconfigured, format!("{}: cannot be made", folder.display())).because(e)
    })?;
    let mut written = Vec::new();
    let mut events = Vec::new();
    for format in formats.iter().copied().map(Format::from) {
        let text = text_of(format)?;
        let path = folder.join(format!("{}.{}", log.run(), format.name()));
        events.push(Event::Reported { format: format.name().into(), sha256: Digest::of(text.as_bytes()) });
        written.push(path.clone());
        // It waits for the disk, and nobody else must.
        let _turn = WRITING.acquire().await;
        let writing = tokio::task::spawn_blocking(move || write(&path, &text));
        writing.await.map_err(|e| Fault::new(FaultKind::Unexpected, "a report was not written").because(e))??;
    }
    let records = log.append(clock()(), events).await?;
    Ok((written, records))
}

/// Whole or not at all, readable by us only: it names people.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let fault = |e: std::io::Error| {
        Fault::new(FaultKind::Misconfigured, format!("{}: cannot be written", path.display())).because(e)
    };
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    // Never through a link that somebody has put there: what is left of an earlier try is removed, and the draft is made anew.
    let _ = std::fs::remove_file(&draft);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(fault)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
    std::fs::rename(&draft, path).map_err(|e| fault(e).into())
}
