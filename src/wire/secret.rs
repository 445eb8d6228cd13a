//! Resolves references to secrets at the moment they are needed.

use super::guarded::{self, Access};
use crate::model::{Fault, FaultKind, SecretRef};
use secrecy::SecretString;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use zeroize::Zeroize;

/// How long a command that prints a secret may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest secret that a command may print, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The value that `secret` refers to. Relative files are looked up in `base`, the folder of `offboard.yaml`.
///
/// # Errors
/// `Misconfigured`; the value is never in it, nor is anything that a command printed.
pub async fn resolve(secret: &SecretRef, base: &Path) -> Result<SecretString, Fault> {
    let misconfigured = |what: String| Fault::new(FaultKind::Misconfigured, what);
    let bytes = match (&secret.file, &secret.env, &secret.command, &secret.credential) {
        (Some(file), None, None, None) => guarded::read(&base.join(file), Access::OwnerReads)?,
        (None, Some(name), None, None) => std::env::var(name)
            .map_err(|_| misconfigured(format!("the environment variable {name} is not set, or is not UTF-8")))?
            .into_bytes(),
        (None, None, Some(command), None) => output_of(command, base).await?,
        (None, None, None, Some(name)) => credential(name, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref())?,
        _ => return Err(misconfigured("a secret needs exactly one of file, env, command, credential".into())),
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

/// A credential that systemd has given to the service, in the folder that only this service sees (systemd.exec(5), "Credentials").
fn credential(name: &str, folder: Option<&OsStr>) -> Result<Vec<u8>, Fault> {
    let fault = |what: &str| Fault::new(FaultKind::Misconfigured, format!("the credential {name:?} {what}"));
    if name.is_empty() || name.len() > 255 || [".", ".."].contains(&name) || name.contains(['/', '\0']) {
        return Err(fault("has no name of a credential").hint("a name as in LoadCredential=NAME:PATH, without folders"));
    }
    let hint =
        || format!("the unit that runs offboard needs LoadCredentialEncrypted={name} or LoadCredential={name}:PATH");
    let folder = folder
        .map(Path::new)
        .filter(|folder| folder.is_absolute())
        .ok_or_else(|| fault("is only there in a service of systemd: CREDENTIALS_DIRECTORY is not set").hint(hint()))?;
    let path = folder.join(name);
    if path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Err(fault("was not given to this service").hint(hint()));
    }
    guarded::read(&path, Access::GroupReads)
}

async fn output_of(command: &[String], base: &Path) -> Result<Vec<u8>, Fault> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Fault::new(FaultKind::Misconfigured, "a secret's command is an empty list"));
    };
    let fault = || Fault::new(FaultKind::Misconfigured, format!("the command {program} for a secret failed"));
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(if base.as_os_str().is_empty() { Path::new(".") } else { base })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| fault().because(e).hint("the program is looked up in PATH; there is no shell"))?;
    let mut printed = Vec::new();
    let running = async {
        if let Some(output) = child.stdout.take() {
            output.take(MAX_BYTES + 1).read_to_end(&mut printed).await?;
        }
        if printed.len() as u64 > MAX_BYTES { Ok(None) } else { child.wait().await.map(Some) }
    };
    let ended = tokio::time::timeout(COMMAND_TIMEOUT, running).await;
    let result = match ended {
        Err(_) => Err(fault().because(format!("no answer within {} s", COMMAND_TIMEOUT.as_secs()))),
        Ok(Err(error)) => Err(fault().because(error)),
        Ok(Ok(None)) => Err(fault().because(format!("it printed more than {MAX_BYTES} bytes"))),
        Ok(Ok(Some(status))) if !status.success() => Err(fault().because(status).hint("run it by hand to see why")),
        Ok(Ok(Some(_))) => return Ok(printed),
    };
    printed.zeroize();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str) -> (tempfile::TempDir, SecretRef) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (folder, SecretRef { file: Some("secret".into()), ..SecretRef::default() })
    }

    fn command(words: &[&str]) -> SecretRef {
        SecretRef { command: Some(words.iter().map(ToString::to_string).collect()), ..SecretRef::default() }
    }

    #[tokio::test]
    async fn one_line_feed_is_dropped_and_no_more() {
        for (text, value) in
            [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), (" s \n\n", " s \n")]
        {
            let (folder, secret) = file(text);
            assert_eq!(resolve(&secret, folder.path()).await.unwrap().expose_secret(), value);
        }
        let echoed = resolve(&command(&["echo", "$HOME; x"]), Path::new("/")).await.unwrap();
        assert_eq!(echoed.expose_secret(), "$HOME; x");
    }

    #[tokio::test]
    async fn a_fault_never_holds_what_was_read() {
        let (folder, secret) = file("\n");
        let mut faults = vec![resolve(&secret, folder.path()).await.unwrap_err()];
        for words in [
            &["sh", "-c", "echo hunter2; echo hunter2 >&2; exit 3"][..],
            &["sh", "-c", "printf 'hunter2\\377'"],
            &["sh", "-c", "yes hunter2"],
            &["/does/not/exist"],
            &[],
        ] {
            faults.push(resolve(&command(words), folder.path()).await.unwrap_err());
        }
        faults.push(resolve(&SecretRef::default(), folder.path()).await.unwrap_err());
        for fault in faults {
            assert_eq!(fault.kind, FaultKind::Misconfigured);
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
    }

    /// systemd makes them for a service of another user with an access list: `-r--r-----+ root root`.
    #[test]
    fn a_credential_is_read_from_the_folder_of_the_service_and_from_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ldap");
        std::fs::write(&path, "hunter2\n").unwrap();
        let mode = |bits| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
        let of = |name: &str| credential(name, Some(folder.path().as_os_str()));
        for bits in [0o400, 0o440, 0o600] {
            mode(bits);
            assert_eq!(of("ldap").unwrap(), b"hunter2\n", "{bits:o}");
        }
        for bits in [0o444, 0o460, 0o644, 0o604] {
            mode(bits);
            assert!(of("ldap").is_err(), "{bits:o}");
        }
        mode(0o440);
        let inside = folder.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let from = |name: &str| credential(name, Some(inside.as_os_str()));
        for name in ["../ldap", "/etc/shadow", "", ".", "..", "missing", "a\0b"] {
            let fault = from(name).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Misconfigured, "{name:?}");
        }
        for folder in [None, Some(OsStr::new("")), Some(OsStr::new("relative"))] {
            let fault = credential("ldap", folder).unwrap_err();
            assert!(fault.what.contains("CREDENTIALS_DIRECTORY") && fault.hint.unwrap().contains("LoadCredential"));
        }
    }
}
