//! A program on this machine that is asked something: arguments as a list, no shell, the question on its standard input and the answer on its standard
//! output, for a limited time and of a limited length. Nothing secret is among its arguments or in its environment.

use crate::model::{Fault, FaultKind};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use zeroize::Zeroizing;

/// The longest answer, in bytes.
pub const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// So much of what it complains is kept, in bytes.
const MAX_WORDS: u64 = 16 * 1024;
/// Of our own environment a program gets these and no others.
const ENVIRONMENT: [&str; 6] = ["PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR"];

/// How a program ended.
pub struct Ran {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub answer: Zeroizing<Vec<u8>>,
    /// What it wrote to its standard error, cut off.
    pub words: Zeroizing<Vec<u8>>,
}

/// Everything that the program started, ended when this is dropped: a child that lives on would go on with what nobody waits for.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Runs `command` in `folder` with `question` as its standard input.
///
/// # Errors
/// `Misconfigured` if it cannot be started; `Unreachable` if it is not done in time; `Unexpected` if it says too much. Nothing of what it said, and nothing that
/// it was asked, is in one.
pub async fn ask(command: &[String], folder: &Path, question: &[u8], limit: Duration) -> Result<Ran, Fault> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Fault::new(FaultKind::Misconfigured, "a command is an empty list"));
    };
    let fault = |kind| Fault::new(kind, format!("the command {program} failed"));
    // A relative path means one beside the configuration; a bare name is not looked for anywhere.
    let folder = std::path::absolute(folder).map_err(|e| fault(FaultKind::Misconfigured).because(e))?;
    let mut command = Command::new(folder.join(program));
    command.args(arguments).current_dir(&folder).env_clear().env("LC_ALL", "C.UTF-8");
    command.envs(ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| fault(FaultKind::Misconfigured).because(e))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(|id| Group(Pid::from_raw(id)));
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(fault(FaultKind::Unexpected).because("it has no standard input and output"));
    };
    let asking = async {
        // Whoever does not read the question to its end may still answer it.
        let _ = stdin.write_all(question).await;
        drop(stdin);
    };
    let running = async {
        let (answer, words, ()) = tokio::join!(read(stdout, MAX_ANSWER), read(stderr, MAX_WORDS), asking);
        Ok::<_, std::io::Error>((answer?, words?, child.wait().await?))
    };
    let ended = tokio::time::timeout(limit, running).await;
    if ended.is_ok() {
        // Its name may be another's from now on.
        if let Some(group) = group {
            std::mem::forget(group);
        }
    }
    let (answer, words, status) = ended
        .map_err(|_| fault(FaultKind::Unreachable).because(format!("no answer within {} s", limit.as_secs())))?
        .map_err(|e| fault(FaultKind::Unexpected).because(e))?;
    if answer.len() as u64 > MAX_ANSWER {
        return Err(fault(FaultKind::Unexpected).because(format!("it printed more than {MAX_ANSWER} bytes")));
    }
    Ok(Ran { status, answer, words })
}

/// All of it; of what is longer, one byte more than `most`.
async fn read(mut from: impl AsyncRead + Unpin, most: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    (&mut from).take(most + 1).read_to_end(&mut bytes).await?;
    // The rest is thrown away, so that the program does not wait for a reader for ever.
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    async fn sh(script: &str, question: &[u8], limit: u64) -> Result<Ran, Fault> {
        let command = ["/bin/sh", "-c", script].map(str::to_string);
        ask(&command, Path::new("/"), question, Duration::from_secs(limit)).await
    }

    #[tokio::test]
    async fn it_is_asked_and_answers() {
        let long = vec![b'x'; 300_000];
        let ran = sh("cat; echo no >&2; exit 3", &long, 20).await.unwrap();
        assert_eq!((&*ran.answer, &**ran.words, ran.status.code()), (&long, &b"no\n"[..], Some(3)));
        // Whoever does not read is no error of ours.
        let ran = sh("echo early", &long, 20).await.unwrap();
        assert_eq!(&**ran.answer, b"early\n");
    }

    #[tokio::test]
    async fn it_gets_no_environment_and_no_shell() {
        let command = ["/usr/bin/printf", "%s|", "$HOME; x", "a b"].map(str::to_string);
        let ran = ask(&command, Path::new("/"), b"", Duration::from_secs(20)).await.unwrap();
        assert_eq!(&**ran.answer, b"$HOME; x|a b|");
        let ran = sh("env | cut -d= -f1 | sort | tr '\\n' ' '", b"", 20).await.unwrap();
        let names = String::from_utf8(ran.answer.to_vec()).unwrap();
        for name in names.split_whitespace() {
            assert!(ENVIRONMENT.contains(&name) || ["LC_ALL", "PWD", "_", "OLDPWD", "SHLVL"].contains(&name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_relative_program_stands_in_the_folder_also_if_that_is_relative() {
        let folder = tempfile::tempdir_in(".").unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        let path = folder.path().join("bin/it");
        std::fs::write(&path, "#!/bin/sh\necho here\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let relative = Path::new(folder.path().file_name().unwrap());
        let ran = ask(&["bin/it".to_string()], relative, b"", Duration::from_secs(20)).await.unwrap();
        assert_eq!(&**ran.answer, b"here\n");
    }

    #[tokio::test]
    async fn it_ends_in_time_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let begun = Instant::now();
        let script = format!("(sleep 3; touch {}) & sleep 60", mark.display());
        let fault = sh(&script, b"", 1).await.map(|_| ()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unreachable, "{fault:?}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!mark.exists(), "its child lives on");
    }

    #[tokio::test]
    async fn too_much_is_refused_and_no_fault_holds_what_was_said() {
        let mut faults = Vec::new();
        faults.push(sh("yes hunter2 | head -c 17000000", b"", 60).await.map(|_| ()).unwrap_err());
        faults.push(sh("echo hunter2; echo hunter2 >&2; exec sleep 30", b"hunter2", 1).await.map(|_| ()).unwrap_err());
        for words in [&["/does/not/exist"][..], &[]] {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            faults.push(ask(&words, Path::new("/"), b"hunter2", Duration::from_secs(1)).await.map(|_| ()).unwrap_err());
        }
        for fault in faults {
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
        let ran = sh("yes hunter2 >&2 & sleep 0.5; kill $!; wait 2>/dev/null; echo done", b"", 20).await.unwrap();
        assert_eq!((&**ran.answer, ran.words.len() as u64), (&b"done\n"[..], MAX_WORDS + 1));
    }
}
