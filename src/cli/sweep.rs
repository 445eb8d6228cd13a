//! `offboard sweep`.

use super::context::{Context, actor};
use super::outcome::{Exit, Failure};
use super::{orders, render, report};
use crate::daemon::Order;
use crate::model::{Event, Fault, FaultKind, Record, SweepState, SweepVerdict};
use crate::report::SweepReport;
use std::path::PathBuf;
use std::sync::Arc;
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
    let house = Arc::new(context.house()?);
    let report_to = super::run::absolute(args.report_to)?;
    let order = Order::Sweep { playbook: args.playbook, report_to, by: actor() };
    let (answer, journal) = orders::give(context, &house, order).await?;
    let report = match &answer.run {
        Some(run) => report::of_sweep(&house, &journal, run).await?,
        None => None,
    };
    let report = report.ok_or_else(|| Fault::new(FaultKind::Unexpected, "that run is no sweep"))?;
    show(context, &report, &answer.written);
    let exit = Exit::numbered(answer.exit).unless_tampered(&report.journal);
    if exit == Exit::Tampered {
        eprintln!("warning: the journal does not verify: offboard journal verify says what was changed");
    }
    Ok(exit)
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
pub async fn progress(mut records: UnboundedReceiver<Record>, quiet: bool) {
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
