//! A clock that jumps. The server runs in this process, with a clock that the test sets.

use crate::server::in_seconds;
use jiff::{SignedDuration, Timestamp};
use offboard::daemon::{Serving, serve};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const CONFIG: &str = "\
company: Example
roster: { csv: roster.csv }
systems:
  nowhere:
    postgres: { hosts: [\"127.0.0.1:1\"], user: offboard, password: { file: password }, tls: \"off\" }
serve: { health: \"127.0.0.1:0\", leavers: false }
";
const PLAYBOOK: &str = "\
playbook: at-once
summary: Whatever there is.
deadline: 1s
limits: { people: 1, accounts: 9 }
stages: [ { stage: contain, steps: [ { do: disable, to: accounts } ] } ]
verify: { until: 1s }
";

fn offboard(folder: &Path, args: &[&str]) -> serde_json::Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_offboard")).current_dir(folder).arg("--json").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn ended(folder: &Path) -> usize {
    let list = offboard(folder, &["list"]);
    list["runs"].as_array().unwrap().iter().filter(|r| r["ended"] == true).count()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: never");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_clock_that_jumps_begins_nothing_early_and_nothing_twice() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    offboard(folder, &["init", "."]);
    write(&folder.join("offboard.yaml"), CONFIG);
    write(&folder.join("password"), "nobody");
    write(&folder.join("roster.csv"), "id,name,status\nE1,Jill Roe,terminated\nE2,Jack Roe,terminated\n");
    write(&folder.join("playbooks/at-once.yaml"), PLAYBOOK);
    offboard(folder, &["run", "E1", "-p", "at-once", "--yes", "--at", &in_seconds(3600)]);
    let ahead = Arc::new(AtomicI64::new(0));
    let shown = Arc::clone(&ahead);
    let clock = Arc::new(move || Timestamp::now() + SignedDuration::from_secs(shown.load(Ordering::SeqCst)));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let serving = Serving { config: folder.join("offboard.yaml"), clock, stop: stopped, ready: Some(ready) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.spawn(async move { serve(serving).await.map_err(|failure| failure.plain()) });
    runtime.block_on(is_ready).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    // Two hours ahead, for some seconds: the hour of the run never came.
    ahead.store(7200, Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(5));
    ahead.store(0, Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ended(folder), 0, "begun early");
    // It is believed again: what is due now begins.
    offboard(folder, &["run", "E2", "-p", "at-once", "--yes", "--at", &in_seconds(2)]);
    wait_for("the second run ends", || ended(folder) == 1);
    // Back by two hours: what has begun does not begin again.
    ahead.store(-7200, Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(3));
    ahead.store(0, Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ended(folder), 1);
    let list = offboard(folder, &["list"]);
    let done = list["runs"].as_array().unwrap().iter().find(|r| r["ended"] == true).unwrap()["run"].clone();
    let output = Command::new(env!("CARGO_BIN_EXE_offboard"))
        .current_dir(folder)
        .args(["--json", "status", done.as_str().unwrap()])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["started_by"].as_array().unwrap().len(), 1);
    stop.send(true).unwrap();
    runtime.block_on(server).unwrap().unwrap();
}
