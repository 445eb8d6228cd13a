//! `offboard run`.

use super::context::{Context, actor, clock, confirm};
use super::outcome::{Exit, Failure};
use super::{post, progress, render, report};
use crate::engine::{Run, refuse};
use crate::journal::Journal;
use crate::model::{Fault, FaultKind, Record, RunRequest, RunState, RunVerdict};
use crate::wiring::House;

/// Shut every door of a person, prove it, and report. Without --yes it shows the plan and asks.
#[derive(clap::Args)]
pub struct Args {
    /// Employee number, mail address or user name.
    person: String,
    /// The playbook; without it the one whose trigger fits.
    #[arg(long, short)]
    playbook: Option<String>,
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
    report_to: Option<std::path::PathBuf>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let person = house.person(&args.person)?;
    let (playbook, digest) = house.playbook(args.playbook.as_deref(), &person)?;
    let by = actor();
    let requested_at = clock()();
    refuse(&person, &by.name, requested_at, args.although_active)?;
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
        if !confirm(&format!("End {}'s access now?", render::line(&person.name)), word) {
            return Err(Failure::new(
                Exit::Refused,
                Fault::new(FaultKind::Protected, "nothing was changed: the run was not confirmed")
                    .hint("type the user name when asked, or add --yes"),
            ));
        }
    }
    let journal = house.journal().await?;
    let earlier = house.other_runs(&journal, &person.id, None).await?;
    let unfinished =
        earlier.iter().find(|(_, s)| s.verdict() != RunVerdict::Shut && s.steps.iter().all(|s| s.restored.is_none()));
    if let Some((id, state)) = unfinished.filter(|_| !args.anew) {
        let what = format!("run {id} of {} is not shut yet", render::line(&person.name));
        let hint = match state.access() {
            RunVerdict::Shut => {
                format!("offboard status {id} says what people still have to do by hand; or a new run with --anew")
            }
            _ => format!("offboard resume {id}: it knows what it has found and done; or a new run with --anew"),
        };
        return Err(Failure::new(Exit::Refused, Fault::new(FaultKind::Protected, what).hint(hint)));
    }
    let request = RunRequest {
        person,
        playbook: playbook.playbook.clone(),
        playbook_body: serde_json::to_value(&playbook).unwrap_or_default(),
        requested_by: by.clone(),
        requested_at,
        inputs: house.inputs(digest),
        places: house.engine.places().into_iter().map(|(_, place)| place).collect(),
        limits: house.limits(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let (log, first) = journal.start(requested_at, request).await?;
    let records = vec![first];
    let (watch, seen) = tokio::sync::mpsc::unbounded_channel();
    let run = Run::take_up(&house.engine, log, &records, playbook, Some(watch)).await?;
    earlier.iter().for_each(|(_, state)| run.learn_from(state));
    go(context, &house, &journal, run, seen, &records, by, args.report_to).await
}

/// Walks a run to its end, with progress, and writes its report: the same for `run` and `resume`.
pub async fn go(
    context: &Context,
    house: &House,
    journal: &Journal,
    run: Run<'_>,
    seen: tokio::sync::mpsc::UnboundedReceiver<Record>,
    records: &[Record],
    by: crate::model::Actor,
    report_to: Option<std::path::PathBuf>,
) -> Result<Exit, Failure> {
    let id = run.recorder().run().clone();
    eprintln!("Run {id}: {}", render::line(&run.recorder().read(|s| s.request.person.name.clone())));
    let watching = RunState::fold(records).map(|state| tokio::spawn(progress::watch(seen, state, context.json)));
    let verdict = tokio::select! {
        verdict = run.offboard(by) => Exit::from(verdict?),
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(
                Exit::Unproven,
                Fault::new(FaultKind::Unexpected, format!("run {id} was interrupted; what was begun stays on record"))
                    .hint(format!("offboard resume {id}")),
            ));
        }
    };
    let verdict = if run.is_refused() && verdict == Exit::Unproven { Exit::Refused } else { verdict };
    let formats = run.formats().to_vec();
    drop(run);
    if let Some(watching) = watching {
        let _ = watching.await;
    }
    // Containing comes first; but what is on record must not be believed unseen.
    if !house.verify_journal(None).await?.is_sound() {
        eprintln!("warning: the journal does not verify: offboard journal verify says what was changed");
    }
    let written = report::write_all(house, journal, &id, &formats, report_to).await;
    let report = report::of(house, journal, &id).await?;
    let paths = written.as_deref().unwrap_or_default();
    context.print(|style| render::summary(&report, paths, style), || report.json());
    post::after_run(context, house, journal, &id).await;
    match (written, verdict) {
        // A report that cannot be written must not hide how the run ended.
        (Err(failure), Exit::Fine) => Err(failure),
        (Err(failure), exit) => {
            eprint!("{}", failure.render(context.style_for_errors()));
            Ok(exit)
        }
        (Ok(_), exit) => Ok(exit),
    }
}
