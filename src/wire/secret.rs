//! Resolves references to secrets at the moment they are needed.

use super::guarded::{self, Access};
use crate::model::{Fault, FaultKind, SecretRef};
use secrecy::SecretString;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroize;

/// How long a command that prints a secret may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The value that `secret` refers to. Relative files are looked up in `base`, the folder of `offboard.yaml`.
///
/// # Errors
/// `Misconfigured`; the value is never in it, nor is anything that a command printed.
pub async fn resolve(secret: &SecretRef, base: &Path) -> Result<SecretString, Fault> {
    let misconfigured = |what: String| Fault::new(FaultKind::Misconfigured, what);
    let bytes = match (&secret.file, &secret.env, &secret.command) {
        (Some(file), None, None) => guarded::read(&base.join(file), Access::OwnerReads)?,
        (None, Some(name), None) => std::env::var(name)
            .map_err(|_| misconfigured(format!("the environment variable {name} is not set, or is not UTF-8")))?
            .into_bytes(),
        (None, None, Some(command)) => output_of(command, base).await?,
        _ => return Err(misconfigured("a secret needs exactly one of file, env, command".into())),
    };
    let mut text = String::from_utf8(bytes).map_err(|e| {
        e.into_bytes().zeroize();
        misconfigured("the secret is not UTF-8".into())
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(misconfigured("the secret is empty".into()));
    }
    Ok(SecretString::from(text))
}

async fn output_of(command: &[String], base: &Path) -> Result<Vec<u8>, Fault> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Fault::new(FaultKind::Misconfigured, "a secret's command is an empty list"));
    };
    let fault = || Fault::new(FaultKind::Misconfigured, format!("the command {program} for a secret failed"));
    let running = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(base)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(COMMAND_TIMEOUT, running)
        .await
        .map_err(|_| fault().because(format!("no answer within {} s", COMMAND_TIMEOUT.as_secs())))?
        .map_err(|e| fault().because(e))?;
    if !output.status.success() {
        return Err(fault().because(output.status).hint("run it by hand to see why"));
    }
    Ok(output.stdout)
}
