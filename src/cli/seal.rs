//! `offboard seal`.

use super::context::{Context, actor, clock};
use super::outcome::{Exit, Failure};
use super::render;
use crate::config::Config;
use crate::journal::{
    KeyFile, KeyFolder, KeyId, Recipient, RecoveryKey, SealedWith, key_files, recover, rotate_sealing_key, seal_status,
    set_recovery, unwrap_sealing_key, wrap_sealing_key,
};
use crate::model::{Fault, FaultKind, Keeper};
use crate::wire::guarded::{self, Access};
use crate::wiring::{keeper, key_folder, keys, public_key};
use secrecy::{ExposeSecret, SecretString};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The longest recovery key that is read, in bytes. One as it is printed has 89.
const LONGEST: u64 = 4096;

/// The keys that seal the journal's secrets: see them, change them, get them back.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The journal's folder; with --keys, offboard.yaml is not read. For a day on which it is lost, or cannot be read.
    #[arg(long, value_name = "FOLDER", global = true)]
    journal: Option<PathBuf>,
    /// The folder of keys, with --journal.
    #[arg(long, value_name = "FOLDER", global = true)]
    keys: Option<PathBuf>,
}

/// Where the journal and its keys are.
struct Folders {
    journal: PathBuf,
    keys: PathBuf,
    /// Who keeps the sealing key, by offboard.yaml.
    keeper: Option<Arc<dyn Keeper>>,
}

impl Folders {
    fn of_keys(&self) -> KeyFolder<'_> {
        key_folder(&self.keys, self.keeper.as_deref())
    }
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show which keys seal the journal, and whether a recovery key opens it. Exit status 20 if a key is missing, or being changed.
    Status,
    /// Let a Vault keep the sealing key, as `sealing` in offboard.yaml says: its file then opens nothing by itself. Killed at any moment, nothing is lost: call it again.
    Wrap,
    /// The way back: put the sealing key itself into its file. Take `sealing` out of offboard.yaml then.
    Unwrap,
    /// Change the sealing key: make a new one, seal everything anew, and drop the old one. Killed at any moment, nothing is lost: call it again.
    Rotate,
    /// Make a new recovery key and print it, this once. It opens the journal's keys if the folder `keys` is lost; earlier ones do not open the sealing key in use any more.
    Recovery,
    /// Get the folder `keys` back with the recovery key, which is read from standard input.
    Recover {
        /// Read the recovery key from this file instead.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Only try whether it would: write nothing.
        #[arg(long)]
        check: bool,
    },
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let folders = match (args.journal, args.keys) {
        (Some(journal), Some(keys)) => Folders { journal, keys, keeper: None },
        (None, None) => {
            let config = Config::load(&context.config)?;
            let keeper = keeper(&config)?;
            Folders { journal: config.journal, keys: config.keys, keeper }
        }
        _ => {
            return Err(Fault::new(FaultKind::Misconfigured, "--journal and --keys go together")
                .hint("name both folders, or neither: then offboard.yaml does")
                .into());
        }
    };
    let folders = &folders;
    match args.command {
        Command::Status => status(context, folders).await,
        Command::Rotate => rotate(context, folders).await,
        Command::Wrap => wrap(context, folders).await,
        Command::Unwrap => unwrap(context, folders).await,
        Command::Recovery => {
            let made = recovery(context, &folders.journal, &folders.of_keys(), Recovery::json).await?;
            if !context.json {
                context.write(&made.said());
            }
            Ok(Exit::Fine)
        }
        Command::Recover { key, check } => get_back(context, folders, key.as_deref(), check).await,
    }
}

async fn status(context: &Context, folders: &Folders) -> Result<Exit, Failure> {
    let status = seal_status(&folders.journal).await?;
    let (keys, fault) = match keys(&folders.keys, folders.keeper.as_deref()).await {
        Ok(keys) => (Some(keys), None),
        Err(fault) => (None, Some(fault)),
    };
    // What stands there is told also when nobody unwraps it.
    let files = key_files(&folders.keys, folders.of_keys().read).unwrap_or_default();
    let keeper = folders.keeper.as_ref().map(|keeper| keeper.name());
    let current = keys.as_ref().map(|keys| keys.sealing_id());
    let former = keys.as_ref().and_then(|keys| keys.former_id());
    let at_hand = |key: &KeyId| Some(key) == current.as_ref() || Some(key) == former.as_ref();
    let newest = status.keys.last().filter(|key| key.noted.is_some()).map(|key| key.key.clone());
    let missing: Vec<&KeyId> = status
        .keys
        .iter()
        .filter(|key| (key.values > 0 || Some(&key.key) == newest.as_ref()) && !at_hand(&key.key))
        .map(|key| &key.key)
        .collect();
    let opener = status.keys.iter().rev().find(|key| key.recovery.is_some());
    let recovery = opener.and_then(|key| key.recovery.clone());
    // Keys in use that the recovery key does not open.
    let mut unopened: Vec<&KeyId> = Vec::new();
    if recovery.is_some() {
        let in_use = |key: &&SealedWith| key.values > 0 || Some(&key.key) == current.as_ref();
        let known = status.keys.iter().filter(in_use).filter(|key| key.recovery != recovery).map(|key| &key.key);
        let unknown = current.iter().filter(|current| status.keys.iter().all(|key| key.key != **current));
        unopened.extend(known.chain(unknown));
    }
    context.print(
        |style| {
            let found = render::Sealing {
                status: &status,
                current: current.as_ref(),
                former: former.as_ref(),
                missing: &missing,
                unopened: &unopened,
                opener,
                unread: fault.as_ref(),
            };
            render::key_files(&files, keeper) + &render::seal(&found, style)
        },
        || {
            serde_json::json!({
                "current": current, "former": former, "keys": status.keys, "unnamed": status.unnamed, "missing": missing,
                "recovery": recovery, "recovery_set": opener.and_then(|key| key.recovery_set.as_ref()), "unopened": unopened,
                "fault": fault, "keeper": keeper, "files": files,
            })
        },
    );
    let plain = |file: &KeyFile| file.wrapped.is_none() && keeper.is_some();
    let well =
        !files.iter().any(plain) && fault.is_none() && former.is_none() && missing.is_empty() && unopened.is_empty();
    Ok(if well { Exit::Fine } else { Exit::Found })
}

async fn wrap(context: &Context, folders: &Folders) -> Result<Exit, Failure> {
    let done = wrap_sealing_key(&folders.of_keys()).await?;
    let keeper = folders.keeper.as_ref().map_or("", |keeper| keeper.name());
    context.print(
        |_| {
            let what = if done.changed { "now holds" } else { "holds already" };
            format!(
                "The file of the sealing key {} {what} only what {keeper} has wrapped; the plain one is wiped.\n\
                 Without that Vault nothing that is sealed opens: without a recovery key (offboard seal recovery), if it is gone for good, so is every sealed value.\n\
                 Copies of {} from before hold the plain key: destroy them, or offboard seal rotate. Make a new copy.\n",
                done.key,
                folders.keys.display(),
            )
        },
        || serde_json::json!({ "key": done.key, "changed": done.changed, "keeper": keeper }),
    );
    Ok(Exit::Fine)
}

async fn unwrap(context: &Context, folders: &Folders) -> Result<Exit, Failure> {
    let done = unwrap_sealing_key(&folders.of_keys()).await?;
    context.print(
        |_| {
            let what = if done.changed { "now holds" } else { "holds already" };
            format!(
                "The file of the sealing key {} {what} the key itself: whoever reads {} reads everything.\n\
                 Take `sealing` out of offboard.yaml: as long as it is there, the next key is wrapped again.\n",
                done.key,
                folders.keys.display(),
            )
        },
        || serde_json::json!({ "key": done.key, "changed": done.changed }),
    );
    Ok(Exit::Fine)
}

async fn rotate(context: &Context, folders: &Folders) -> Result<Exit, Failure> {
    let done = rotate_sealing_key(&folders.journal, &folders.of_keys(), clock()(), &actor().name).await;
    let done = done.map_err(|fault| in_use(fault, "then: offboard seal rotate"))?;
    context.print(
        |style| {
            let goes_on = if done.continued { ", going on where it was left" } else { "" };
            let recovery = match &done.recovery {
                Some(recipient) => format!(
                    "The recovery key {}{} opens the new key, too. If somebody has left who may know it: offboard seal recovery, and then \
                     offboard seal rotate again.\n",
                    recipient.id(),
                    render::set(done.recovery_set.as_ref(), style),
                ),
                None => "No recovery key opens it: offboard seal recovery makes one.\n".into(),
            };
            format!(
                "The sealing key is {} now; {} is gone. Sealed anew: {}{goes_on}.\n{recovery}\
                 Make a new copy of {} apart from the journal. Keep the old copy only as long as copies of the journal from \
                 before: nothing else opens with it.\n\
                 Other journals that were sealed with the keys in this folder cannot be opened with them any more.\n",
                done.to,
                done.from,
                render::values(done.values),
                folders.keys.display(),
            )
        },
        || {
            serde_json::json!({
                "from": done.from, "to": done.to, "values": done.values, "continued": done.continued,
                "recovery": done.recovery.as_ref().map(Recipient::id), "recovery_set": done.recovery_set,
            })
        },
    );
    Ok(Exit::Fine)
}

/// A recovery key that was just made. Its private half is kept nowhere: it is in here, and then with whoever reads it.
pub struct Recovery {
    text: SecretString,
    recipient: Recipient,
}

impl Recovery {
    /// What has been done, after the key itself was shown.
    pub fn said(&self) -> String {
        format!(
            "The recovery key {} opens the journal's keys from now on, and no earlier one does. If somebody has left who may know an earlier \
             one:\noffboard seal rotate, now.\n",
            self.recipient.id()
        )
    }

    /// With the key itself.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "recovery": self.recipient.id(), "recovery_key": self.text.expose_secret() })
    }
}

/// Makes a recovery key for a journal and its keys. It is shown first: one that nobody has read must not be the one that counts. `json` is all
/// that is shown as JSON.
pub async fn recovery(
    context: &Context,
    journal: &Path,
    keys: &KeyFolder<'_>,
    json: impl FnOnce(&Recovery) -> serde_json::Value,
) -> Result<Recovery, Failure> {
    let (key, recipient) = RecoveryKey::generate()?;
    let made = Recovery { text: key.to_text(), recipient };
    let show = || {
        if context.json {
            return context.write_once(&format!("{:#}\n", json(&made)));
        }
        context.write_once(&format!(
            "The recovery key {}. It is shown this once, and kept nowhere:\n\n    {}\n\n\
             Write it down and keep it away from this machine, where only those get it who may read every secret in the journal\n\
             and sign for it: whoever has this key and a copy of the journal can do both. offboard seal recover --check tries it.\n\n",
            made.recipient.id(),
            made.text.expose_secret(),
        ))
    };
    set_recovery(journal, keys, &made.recipient, clock()(), &actor().name, show)
        .await
        .map_err(|fault| in_use(fault, "then: offboard seal recovery"))?;
    Ok(made)
}

async fn get_back(context: &Context, folders: &Folders, file: Option<&Path>, check: bool) -> Result<Exit, Failure> {
    let text = match file {
        Some(file) => Zeroizing::new(guarded::read(file, Access::OwnerReads)?),
        None => typed()?,
    };
    let text = std::str::from_utf8(&text)
        .map_err(|_| Fault::new(FaultKind::Misconfigured, "this is no recovery key: it is not UTF-8"))?;
    let key = RecoveryKey::from_text(text)?;
    let recovered = recover(&folders.journal, &key).await?;
    // Whose it is, where that is still known.
    if folders.keys.join(crate::journal::PUBLIC_KEY).exists() && public_key(&folders.keys)? != recovered.keys().public()
    {
        return Err(Fault::new(FaultKind::Protected, "what this recovery key opens are not the keys of this journal")
            .because("their public half is not the one in signing.pub")
            .hint("somebody may have put another journal in its place: compare it with a copy")
            .into());
    }
    if !check {
        recovered.write(&folders.keys)?;
    }
    let found = recovered.keys();
    let (sealing, fingerprint) = (found.sealing_id(), found.fingerprint());
    context.print(
        |_| {
            let what = match check {
                true => "Nothing was written: this recovery key opens the journal's keys".to_string(),
                false => format!("The keys are back in {}", folders.keys.display()),
            };
            let unopened = match recovered.unopened {
                0 => String::new(),
                left => format!("Not with them: {} open with other keys.\n", render::values(left)),
            };
            let rest = if check {
                ""
            } else {
                "The recovery key has been used: offboard seal recovery makes another, and offboard seal rotate then changes the \
                 sealing key.\n"
            };
            format!(
                "{what}.\nThe sealing key is {sealing}; {} open with it. The signing key's fingerprint, to compare with a report:\n\
                 {fingerprint}\n{unopened}{rest}",
                render::values(recovered.opened),
            )
        },
        || {
            serde_json::json!({
                "written": !check, "sealing": sealing, "former": found.former_id(), "signer": fingerprint,
                "opened": recovered.opened, "unopened": recovered.unopened,
            })
        },
    );
    Ok(if recovered.unopened == 0 { Exit::Fine } else { Exit::Found })
}

/// One line from standard input; on a terminal it is asked for, and not shown.
fn typed() -> Result<Zeroizing<Vec<u8>>, Fault> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let fault = |e: &dyn std::fmt::Display| Fault::new(FaultKind::Misconfigured, "no recovery key was read").because(e);
    let stdin = std::io::stdin();
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    if !stdin.is_terminal() {
        stdin.lock().take(LONGEST + 1).read_to_end(&mut text).map_err(|e| fault(&e))?;
        return if text.len() as u64 > LONGEST { Err(fault(&"it is too long")) } else { Ok(text) };
    }
    eprint!("Recovery key: ");
    let shown = tcgetattr(&stdin).map_err(|e| fault(&e))?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden).map_err(|e| fault(&e))?;
    let read = std::io::BufRead::read_until(&mut stdin.lock(), b'\n', &mut text);
    let restored = tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown);
    eprintln!();
    read.map_err(|e| fault(&e))?;
    restored.map_err(|e| fault(&e))?;
    Ok(text)
}

/// The hint for a journal that another process works on: this is nothing that it could be asked to do.
fn in_use(fault: Fault, then: &str) -> Failure {
    match fault.kind {
        FaultKind::Busy => fault.hint(format!("stop it (systemctl stop offboard), {then}")).into(),
        _ => fault.into(),
    }
}
