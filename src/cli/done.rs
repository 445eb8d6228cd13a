//! `offboard done`.

use super::context::{Context, actor};
use super::outcome::{Exit, Failure};
use super::render;
use crate::engine::refuse_leaver;
use crate::journal::keep_evidence;
use crate::model::{Fault, FaultKind, StepId};
use std::path::PathBuf;

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
    let house = std::sync::Arc::new(context.house()?);
    let journal = house.journal().await?;
    let (run, _) = house.take_up(&journal, &args.run, None).await?;
    let id = run.recorder().run().clone();
    let note = args.note.as_deref().map(str::trim).map(str::to_string);
    if note.as_ref().is_some_and(|note| note.is_empty() || note.chars().count() > LONGEST_NOTE) {
        let fault = Fault::new(FaultKind::Misconfigured, "--note is empty or too long");
        return Err(fault.hint(format!("say in a sentence what was done, at most {LONGEST_NOTE} characters")).into());
    }
    let by = actor();
    refuse_leaver(&run.recorder().read(|s| s.request.person.clone()), &by.name)?;
    let step = StepId(args.step.trim().to_ascii_lowercase());
    // Before anything is copied.
    run.may_close(&step)?;
    let evidence = match &args.evidence {
        Some(path) => Some(keep_evidence(&house.config.journal, &id, &step, path)?),
        None => None,
    };
    run.close(&step, note, evidence.clone(), by).await?;
    let (verdict, left) = run.recorder().read(|s| (s.verdict(), s.steps.iter().filter(|s| s.is_asked()).count()));
    context.print(
        |_| render::closed(&id, &step, evidence.as_ref(), left, verdict),
        || serde_json::json!({ "run": id, "done": step, "evidence": evidence, "left": left, "verdict": verdict }),
    );
    drop(run);
    let store = house.store().await?;
    house.queue_mail(&journal, &store, &id, super::context::clock()(), &jiff::tz::TimeZone::system()).await?;
    context.sends_at_the_end(&house, &store);
    Ok(verdict.into())
}
