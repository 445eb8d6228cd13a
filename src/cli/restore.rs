//! `offboard restore`.

use super::context::{Context, actor, confirm};
use super::outcome::{Exit, Failure};
use super::render;
use crate::engine::refuse_leaver;
use crate::journal::JournalError;
use crate::model::{Fault, FaultKind, Step, StepId};
use crate::wiring::House;
use secrecy::{ExposeSecret, SecretString};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Give access back. The person gets one-time passwords and needs new keys; old secrets stay dead.
#[derive(clap::Args)]
pub struct Args {
    /// The run.
    run: String,
    /// Only this step.
    #[arg(long)]
    step: Option<String>,
    /// A new file for the one-time passwords, readable by you only; they are shown nowhere else.
    #[arg(long, value_name = "FILE")]
    passwords_to: PathBuf,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let house = context.house()?;
    let journal = match house.journal_unless_held().await? {
        Ok(journal) => journal,
        Err(locked) => return Err(held(&house, locked).await?),
    };
    let (run, _) = house.take_up(&journal, &args.run, None).await?;
    let id = run.recorder().run().clone();
    let person = run.recorder().read(|s| s.request.person().cloned()).ok_or_else(|| {
        Fault::new(
            FaultKind::Misconfigured,
            format!("run {id} took nobody's access away: there is nothing to give back"),
        )
        .hint("an old value is never brought back; offboard rotate sets a new one")
    })?;
    let by = actor();
    refuse_leaver(&person, &by.name)?;
    let word = person.user_name.as_deref().unwrap_or(&person.id.0);
    if !args.yes && !confirm(&format!("Give {}'s access back?", render::line(&person.name)), word) {
        let fault = Fault::new(FaultKind::Protected, "nothing was given back: it was not confirmed");
        return Err(Failure::new(Exit::Refused, fault.hint("type the user name when asked, or add --yes")));
    }
    let unwritable = |e: std::io::Error| {
        Fault::new(FaultKind::Misconfigured, format!("{}: cannot be written", args.passwords_to.display())).because(e)
    };
    // Before anything is given back: a one-time password that cannot be handed over locks the person out.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.passwords_to)
        .map_err(unwritable)?;
    let step = args.step.map(StepId);
    let hand_over = |step: &Step, password: &SecretString| {
        let line = format!("{}\t{}\t{}\n", step.place, step.account, password.expose_secret());
        let line = Zeroizing::new(line);
        (&file).write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)
    };
    let undone = run.restore(step.as_ref(), &by, &hand_over).await?;
    let failed = undone.iter().filter(|u| u.result.is_err()).count();
    context.print(
        |style| render::restored(&undone, &args.passwords_to, style),
        || {
            let steps: Vec<_> = undone
                .iter()
                .map(|u| match &u.result {
                    Ok(r) => serde_json::json!({ "step": u.step, "note": r.note }),
                    Err(fault) => serde_json::json!({ "step": u.step, "fault": fault }),
                })
                .collect();
            serde_json::json!({ "run": id, "restored": steps })
        },
    );
    Ok(if failed > 0 { Exit::Stuck } else { Exit::Fine })
}

/// Why nothing is given back while another process writes to the journal. One-time passwords are for your eyes only, and `offboard serve`
/// has no way to hand them over that leaves no copy behind.
async fn held(house: &House, locked: JournalError) -> Result<Failure, Failure> {
    let serving = house.store().await?.serving().await?;
    if serving.is_none() || serving != crate::daemon::desk::holder(&locked) {
        return Ok(locked.into());
    }
    let fault = Fault::new(FaultKind::Busy, "access is not given back while offboard serve runs")
        .because("the one-time passwords must reach your file and nothing else, so this process has to write the journal itself")
        .hint("systemctl stop offboard; then this command again; then: systemctl start offboard. What comes due in between is caught up");
    Ok(Failure::new(Exit::Refused, fault))
}
