//! `offboard sweep`.

use super::context::{Context, actor};
use super::outcome::{Exit, Failure};
use super::{render, report};
use crate::model::{Event, Fault, FaultKind, Record, SweepState, SweepVerdict};
use crate::report::SweepReport;
use crate::wiring::sweep;
use std::path::PathBuf;
use tokio::sync::mpsc::UnboundedReceiver;

/// Find orphan, dormant and lingering accounts on every system, and report them. Changes nothing.
#[derive(clap::Args)]
pub struct Args {
    /// The sweep; without it the only one there is.
    #[arg(long, short)]
    playbook: Option<String>,
    /// The folder in which the report is written; without it the journal's `reports`.
    #[arg(long, value_name = "FOLDER")]
    report_to: Option<PathBuf>,
}

impl From<SweepVerdict> for Exit {
    fn from(verdict: SweepVerdict) -> Self {
        match verdict {
            SweepVerdict::Clear => Self::Fine,
            SweepVerdict::Unproven => Self::Unproven,
            SweepVerdict::Found => Self::Found,
        }
    }
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let formats = house.sweep_book(args.playbook.as_deref())?.0.report.formats;
    let journal = house.journal().await?;
    let (watch, seen) = tokio::sync::mpsc::unbounded_channel();
    let watching = tokio::spawn(progress(seen, context.json));
    let swept = tokio::select! {
        swept = sweep(&house, &journal, args.playbook.as_deref(), actor(), Some(watch)) => swept,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(
            Exit::Unproven,
            Fault::new(FaultKind::Unexpected, "the sweep was interrupted; nothing was changed")
                .hint("offboard sweep makes it again"),
        )),
    };
    let _ = watching.await;
    let (id, _) = swept?;
    let written = report::write_sweep(&house, &journal, &id, &formats, args.report_to).await;
    let report = report::of_sweep(&house, &journal, &id).await?;
    let report = report.ok_or_else(|| Fault::new(FaultKind::Unexpected, format!("run {id} is no sweep")))?;
    show(context, &report, written.as_deref().unwrap_or_default());
    let exit = Exit::from(report.verdict).unless_tampered(&report.journal);
    if exit == Exit::Tampered {
        eprintln!("warning: the journal does not verify: offboard journal verify says what was changed");
    }
    match written {
        Ok(_) => Ok(exit),
        // A report that cannot be written must not hide what was found.
        Err(failure) if exit == Exit::Fine => Err(failure),
        Err(failure) => {
            eprint!("{}", failure.render(context.style_for_errors()));
            Ok(exit)
        }
    }
}

/// Shows a sweep: for people, or as JSON.
pub fn show(context: &Context, report: &SweepReport, written: &[PathBuf]) {
    if context.json {
        context.write(&report.json_text());
    } else {
        context.write(&render::sweep(report, written, &context.style()));
    }
}

/// One line a place that cannot be read, and one for the rest.
async fn progress(mut records: UnboundedReceiver<Record>, quiet: bool) {
    let mut state: Option<SweepState> = None;
    let mut read = 0;
    while let Some(record) = records.recv().await {
        match &mut state {
            None => state = SweepState::fold([&record]),
            Some(state) => state.apply(record.at, &record.event),
        }
        let (Some(state), false) = (&state, quiet) else { continue };
        match &record.event {
            Event::SweepRequested { request } => {
                let what = format!("Sweep {}: {}, {} places", record.run, request.playbook, state.places.len());
                eprintln!("{}", render::line(&what));
            }
            Event::Reached { place } => {
                read += 1;
                eprintln!("{}", render::line(&format!("  {place}  read ({read} of {})", state.places.len())));
            }
            Event::Unreached { place, fault, .. } => {
                eprintln!("{}", render::line(&format!("  {place}  not read: {fault}")));
            }
            _ => {}
        }
    }
}
