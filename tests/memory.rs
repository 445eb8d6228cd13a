//! What others can see of a running offboard: no core file, and nothing of its memory or environment for processes of the same user.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nobody in particular: root may look at everything, so as root the test goes on as somebody else.
const NOBODY: u32 = 65534;

const CONFIG: &str = "\
company: Example
roster: { csv: roster.csv }
systems:
  nowhere:
    postgres: { hosts: [\"127.0.0.1:1\"], user: offboard, password: { command: [cat, waiting] }, tls: \"off\" }
";

fn as_somebody(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nobody_of_the_same_user_sees_its_memory_and_it_leaves_no_core() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let inside = |name: &str| folder.path().join(name);
    let program = inside("offboard");
    std::fs::copy(env!("CARGO_BIN_EXE_offboard"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    write(&inside("roster.csv"), "id,name,email,status\nE1,Jane Roe,jane.roe@example.com,active\n", 0o600);
    write(&inside("offboard.yaml"), CONFIG, 0o600);
    nix::unistd::mkfifo(&inside("waiting"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    if nix::unistd::geteuid().is_root() {
        for path in [folder.path().to_path_buf(), inside("roster.csv"), inside("offboard.yaml"), inside("waiting")] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let made = as_somebody(&program).current_dir(&folder).args(["init", "."]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    // It waits for a secret that a command prints, and the command waits for us.
    let mut command = as_somebody(&program);
    command.current_dir(&folder).arg("check").env("A_SECRET", "hunter2");
    let mut offboard = Running(command.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(60);
    let opened =
        || OpenOptions::new().write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(inside("waiting"));
    let pipe = loop {
        if let Ok(pipe) = opened() {
            break pipe;
        }
        let ended = offboard.0.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < end, "it does not ask for its secret: {ended:?}");
        std::thread::sleep(Duration::from_millis(10));
    };
    let other = Running(as_somebody("sleep").arg("60").env("A_SECRET", "hunter2").spawn().unwrap());

    let of = |child: &Running, file: &str| format!("/proc/{}/{file}", child.0.id());
    let limits = std::fs::read_to_string(of(&offboard, "limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // proc(5): of a process that is not dumpable, these belong to root.
    assert_eq!(std::fs::metadata(of(&offboard, "environ")).unwrap().uid(), 0);
    let read = |child: &Running, file: &str| as_somebody("cat").arg(of(child, file)).output().unwrap();
    // What this machine lets a user see of their other processes, so that the refusals below say something.
    let seen = read(&other, "environ");
    assert!(String::from_utf8_lossy(&seen.stdout).contains("A_SECRET=hunter2"), "{seen:?}");
    for file in ["environ", "mem", "maps", "auxv", "syscall"] {
        let seen = read(&offboard, file);
        let said = String::from_utf8_lossy(&seen.stderr).into_owned();
        assert!(said.contains("Permission denied") && seen.stdout.is_empty(), "{file}: {said}");
    }
    let pid = nix::unistd::Pid::from_raw(offboard.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGABRT).unwrap();
    let status = offboard.0.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    drop(pipe);
}
