//! `offboard run`.

use super::context::{Context, actor, clock, confirm};
use super::outcome::{Exit, Failure};
use super::{orders, render, report};
use crate::daemon::{Answer, Order, when};
use crate::engine::refuse;
use crate::journal::Journal;
use crate::model::{Fault, FaultKind, RunId, RunState};
use crate::wiring::House;
use std::path::PathBuf;
use std::sync::Arc;

/// Shut every door of a person, prove it, and report. Without --yes it shows the plan and asks.
#[derive(clap::Args)]
pub struct Args {
    /// Employee number, mail address or user name.
    person: String,
    /// The playbook; without it the one whose trigger fits.
    #[arg(long, short)]
    playbook: Option<String>,
    /// Begin later, by `offboard serve`: "2026-12-31 18:00 Asia/Kolkata", 2026-12-31T18:00:00+05:30, or without a zone in the person's own.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Run although the roster says that the person has not left.
    #[arg(long)]
    although_active: bool,
    /// Start a new run although an earlier one of this person is not shut.
    #[arg(long)]
    anew: bool,
    /// The folder in which the report is written; without it the journal's `reports`.
    #[arg(long, value_name = "FOLDER")]
    report_to: Option<PathBuf>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = Arc::new(context.house()?);
    let person = house.person(&args.person)?;
    let (playbook, _) = house.playbook(args.playbook.as_deref(), &person)?;
    let by = actor();
    let now = clock()();
    let at = args.at.as_deref().map(|at| when::hour(at, person.zone.as_deref(), now)).transpose()?;
    refuse(&person, &by.name, at.unwrap_or(now), args.although_active)?;
    if !args.yes {
        let draft = house.engine.draft(&person, Some(&playbook)).await;
        let style = context.style_for_errors();
        eprint!("{}", render::plan(&person, &playbook.playbook, &draft.places, &style));
        eprint!("{}", render::by_hand(&house.engine.asks(&playbook, &person), &style));
        let count: usize = draft.places.iter().filter_map(|p| p.found.as_ref().ok()).map(Vec::len).sum();
        if count > playbook.limits.accounts as usize {
            let what = format!(
                "nothing was changed: this would touch {count} accounts; the limit is {}",
                playbook.limits.accounts
            );
            let hint = "if that many is right, raise limits.accounts in the playbook";
            return Err(Failure::new(Exit::Refused, Fault::new(FaultKind::Protected, what).hint(hint)));
        }
        let word = person.user_name.as_deref().unwrap_or(&person.id.0);
        let hour = at.map_or_else(|| "now".to_string(), |at| render::hour(at, &person, &context.style_for_errors()));
        if !confirm(&format!("End {}'s access {hour}?", render::line(&person.name)), word) {
            return Err(Failure::new(
                Exit::Refused,
                Fault::new(FaultKind::Protected, "nothing was changed: the run was not confirmed")
                    .hint("type the user name when asked, or add --yes"),
            ));
        }
    }
    let order = Order::Run {
        person: person.id.0.clone(),
        playbook: Some(playbook.playbook.clone()),
        at,
        although_active: args.although_active,
        anew: args.anew,
        report_to: absolute(args.report_to)?,
        by,
    };
    let (answer, journal) = orders::give(context, &house, order).await?;
    match (at, answer.run.clone()) {
        (Some(_), Some(run)) => scheduled(context, &house, &journal, &run).await,
        _ => shown(context, &house, &journal, &answer).await,
    }
}

/// The folder as any process finds it.
pub fn absolute(folder: Option<PathBuf>) -> Result<Option<PathBuf>, Fault> {
    let whole = |folder: PathBuf| {
        std::path::absolute(&folder).map_err(|e| {
            Fault::new(FaultKind::Misconfigured, format!("{}: cannot be found", folder.display())).because(e)
        })
    };
    folder.map(whole).transpose()
}

/// Shows a run that waits for its hour.
pub async fn scheduled(context: &Context, house: &House, journal: &Journal, run: &RunId) -> Result<Exit, Failure> {
    let state = RunState::fold(&journal.records(run).await?);
    let (due, person) = state.map(|s| (s.waits_until(), s.request.person().cloned())).unzip();
    let (due, person) = (due.flatten(), person.flatten());
    context.print(
        |style| render::scheduled(run, person.as_ref(), due, style),
        || serde_json::json!({ "run": run, "person": person.as_ref().map(|p| &p.id), "scheduled": due }),
    );
    orders::warn_unless_served(house).await;
    Ok(Exit::Fine)
}

/// Shows how a run stands at its end: the same for `run` and `resume`.
pub async fn shown(context: &Context, house: &House, journal: &Journal, answer: &Answer) -> Result<Exit, Failure> {
    let Some(run) = &answer.run else { return Ok(Exit::numbered(answer.exit)) };
    let report = report::of(house, journal, run).await?;
    context.print(|style| render::summary(&report, &answer.written, style), || report.json());
    Ok(Exit::numbered(answer.exit).unless_tampered(&report.journal))
}
