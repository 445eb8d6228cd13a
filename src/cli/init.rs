//! `offboard init`.

use super::context::Context;
use super::outcome::{Exit, Failure};
use crate::config::Config;
use crate::journal::{Journal, Keys};
use crate::model::{Fault, FaultKind};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Playbooks that are ready to use.
const READY_TO_USE: [(&str, &str); 3] = [
    ("involuntary-termination.yaml", include_str!("../../playbooks/involuntary-termination.yaml")),
    ("quarterly-stale-sweep.yaml", include_str!("../../playbooks/quarterly-stale-sweep.yaml")),
    ("voluntary-departure.yaml", include_str!("../../playbooks/voluntary-departure.yaml")),
];

/// Make a commented offboard.yaml, sealing and signing keys, and an empty journal. What is there already is kept.
#[derive(clap::Args)]
pub struct Args {
    /// The folder to make it in.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Make a recovery key, too, and print it, this once: with it the folder `keys` can be got back if it is lost.
    #[arg(long)]
    recovery: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut made = Vec::new();
    let mut kept = Vec::new();
    folder(&args.folder)?;
    let config = args.folder.join("offboard.yaml");
    let configured = config.exists();
    if write_new(&config, crate::config::template().as_bytes())? { &mut made } else { &mut kept }.push(config.clone());
    folder(&args.folder.join("playbooks"))?;
    for (name, text) in READY_TO_USE {
        let path = args.folder.join("playbooks").join(name);
        if write_new(&path, text.as_bytes())? { &mut made } else { &mut kept }.push(path);
    }
    let keys_folder = args.folder.join("keys");
    folder(&keys_folder)?;
    // Who is to keep the sealing key can only be known from an offboard.yaml that was there before.
    let keeper = match configured {
        true => crate::wiring::keeper(&Config::load(&config)?)?,
        false => None,
    };
    let of_keys = crate::wiring::key_folder(&keys_folder, keeper.as_deref());
    let keys = if keys_folder.join("sealing.key").exists() {
        kept.push(keys_folder.clone());
        Keys::load_kept(&of_keys).await?
    } else {
        made.push(keys_folder.clone());
        Keys::generate_kept(&of_keys).await?
    };
    let journal_folder = args.folder.join("journal");
    let has_journal = crate::wiring::has_journal(&journal_folder);
    if has_journal && args.recovery {
        return Err(Fault::new(
            FaultKind::Protected,
            format!("{}: there is a journal already", journal_folder.display()),
        )
        .hint("make a recovery key for it with: offboard seal recovery")
        .into());
    }
    let paths = |list: &[PathBuf]| list.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    let json = |made: &[PathBuf], kept: &[PathBuf]| serde_json::json!({ "made": paths(made), "kept": paths(kept) });
    let mut recovery = None;
    if has_journal {
        kept.push(journal_folder);
    } else {
        folder(&journal_folder)?;
        Journal::create(&journal_folder, keys).await?.close().await;
        made.push(journal_folder.clone());
        if args.recovery {
            let all = |recovery: &super::seal::Recovery| {
                let mut all = json(&made, &kept);
                if let (Some(all), serde_json::Value::Object(recovery)) = (all.as_object_mut(), recovery.json()) {
                    all.extend(recovery);
                }
                all
            };
            recovery = Some(super::seal::recovery(context, &journal_folder, &of_keys, all).await?);
            if context.json {
                return Ok(Exit::Fine);
            }
        }
    }
    context.print(
        |_| {
            let mut text = String::new();
            for path in paths(&made) {
                text.push_str(&format!("made  {path}\n"));
            }
            for path in paths(&kept) {
                text.push_str(&format!("kept  {path}\n"));
            }
            text.push_str(&format!("\nNext: edit {}, then: offboard check\n", config.display()));
            text.push_str(
                "Keep a copy of keys/ apart from the journal. Without sealing.key nobody can read what is sealed, we neither: the old and new\n\
                 values of a rotation that was not ended, the state of accounts before, the witness passwords. Without signing.key the\n\
                 journal can be verified, but not continued.\n",
            );
            if let Some(keeper) = &keeper {
                text.push_str(&format!(
                    "{} keeps the sealing key: its file opens nothing by itself. If that Vault is gone for good, only a recovery key opens what is sealed.\n",
                    keeper.name()
                ));
            }
            match &recovery {
                Some(made) => text.push_str(&made.said()),
                None => text.push_str("A second way to them, on paper, is made by: offboard seal recovery\n"),
            }
            text
        },
        || json(&made, &kept),
    );
    Ok(Exit::Fine)
}

fn folder(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| {
        Fault::new(FaultKind::Misconfigured, format!("{}: cannot be made", path.display())).because(e).into()
    })
}

/// Says whether it was written; a file that is there is never overwritten.
fn write_new(path: &Path, bytes: &[u8]) -> Result<bool, Failure> {
    let fault = |e: std::io::Error| {
        Fault::new(FaultKind::Misconfigured, format!("{}: cannot be written", path.display())).because(e)
    };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(bytes).and_then(|()| file.sync_all()).map(|()| true).map_err(|e| fault(e).into())
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(fault(e).into()),
    }
}
