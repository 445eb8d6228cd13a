//! `offboard done`.

use super::context::{Context, actor};
use super::outcome::{Exit, Failure};
use super::{orders, render};
use crate::daemon::Order;
use crate::engine::refuse_leaver;
use crate::journal::keep_evidence;
use crate::model::{Fault, FaultKind, RunId, RunState, RunVerdict, StepId};
use std::path::PathBuf;
use std::sync::Arc;

/// The longest note, in characters.
const LONGEST_NOTE: usize = 2000;

/// Close a manual step: say that it is done, and show it with a file or in a sentence.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("shown").required(true).multiple(true))]
pub struct Args {
    /// The run.
    run: String,
    /// The step, as `offboard status RUN` names it.
    step: String,
    /// A file that shows it, such as a signed receipt. A copy is kept beside the journal, which holds its SHA-256.
    #[arg(long, value_name = "FILE", group = "shown")]
    evidence: Option<PathBuf>,
    /// What was done, in a sentence. It stands in the report under your name.
    #[arg(long, value_name = "TEXT", group = "shown")]
    note: Option<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = Arc::new(context.house()?);
    let run = RunId(args.run.trim().to_ascii_uppercase());
    let step = StepId(args.step.trim().to_ascii_lowercase());
    let note = args.note.as_deref().map(str::trim).map(str::to_string);
    if note.as_ref().is_some_and(|note| note.is_empty() || note.chars().count() > LONGEST_NOTE) {
        let fault = Fault::new(FaultKind::Misconfigured, "--note is empty or too long");
        return Err(fault.hint(format!("say in a sentence what was done, at most {LONGEST_NOTE} characters")).into());
    }
    let by = actor();
    // What may not be closed is refused where the order is carried out; here only nothing must be copied for it.
    let reading = house.journal_to_read().await?;
    let state = RunState::fold(&reading.records(&run).await?);
    reading.close().await;
    let is_asked = state.is_some_and(|s| {
        let asked = s.step(&step).is_some_and(crate::model::StepState::is_asked);
        asked && s.request.person().is_none_or(|person| refuse_leaver(person, &by.name).is_ok())
    });
    // By this process, whose files these are: a server may not see them.
    let evidence = match args.evidence.as_ref().filter(|_| is_asked) {
        Some(path) => Some(keep_evidence(&house.config.journal, &run, &step, path)?),
        None => None,
    };
    let order = Order::Done { run: run.clone(), step: step.clone(), note, evidence: evidence.clone(), by };
    let (answer, journal) = orders::give(context, &house, order).await?;
    let state = RunState::fold(&journal.records(&run).await?);
    let verdict = state.as_ref().map_or(RunVerdict::Unproven, RunState::verdict);
    let left = state.map_or(0, |s| s.steps.iter().filter(|s| s.is_asked()).count());
    context.print(
        |_| render::closed(&run, &step, evidence.as_ref(), left, verdict),
        || serde_json::json!({ "run": run, "done": step, "evidence": evidence, "left": left, "verdict": verdict }),
    );
    Ok(Exit::numbered(answer.exit))
}
