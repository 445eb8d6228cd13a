//! How late scheduled runs begin, and what a server costs while it waits: `cargo bench --bench schedule`.
//!
//! `RUNS` runs are put on record, each for a moment of its own in the same `SPREAD` seconds. The lateness of a run is the time from its hour to
//! the record that says that work began; the one system there is refuses every connection, so what is measured is the schedule and the
//! journal. Before that the server has nothing to do for `IDLE` seconds: its memory and its share of a core. `BENCH_DIR` names a folder on the disk
//! that matters (default: the build folder). Needs no lab.

#![allow(clippy::disallowed_methods, reason = "a bench is an edge at which time comes in")]

use jiff::{SignedDuration, Timestamp};
use offboard::journal::{Journal, Keys};
use offboard::model::{Actor, Event, RunState};
use offboard::wiring::House;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Error = Box<dyn std::error::Error>;

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

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() -> Result<(), Error> {
    let (runs, spread, idle) = (setting("RUNS", 10_000), setting("SPREAD", 300), setting("IDLE", 60));
    let base = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::Builder::new().prefix("schedule-").tempdir_in(base)?;
    let folder = folder.path();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let begun = Instant::now();
    // The first hour comes when all of it is on record, the server is up, and it has idled.
    let lead = Duration::from_secs(idle + setting("LEAD", 60) + runs / 250);
    let first = Timestamp::now() + SignedDuration::try_from(lead)?;
    runtime.block_on(prepare(folder, runs, first, Duration::from_secs(spread)))?;
    println!("{runs} runs scheduled over {spread} s, on record in {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let mut server = serve(folder)?;
    println!("served {:.1} s after its start", begun.elapsed().as_secs_f64());
    std::thread::sleep(Duration::from_secs(5));
    let (before, since) = (cpu(server.id())?, Instant::now());
    std::thread::sleep(Duration::from_secs(idle));
    let share = (cpu(server.id())? - before) / since.elapsed().as_secs_f64();
    println!("idle for {idle} s: {:.3} % of a core, {:.1} MB", share * 100.0, memory(server.id())?);
    let wait = first.duration_since(Timestamp::now()) + SignedDuration::from_secs(spread.cast_signed() + 30);
    std::thread::sleep(Duration::try_from(wait).unwrap_or_default());
    println!("at work: {:.1} MB at most", peak(server.id())?);
    server.kill()?;
    server.wait()?;
    let mut late = runtime.block_on(lateness(folder))?;
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late.get(((late.len() as f64 * share) as usize).min(late.len().saturating_sub(1))).copied();
    println!(
        "{} of {runs} begun; late by p50 {:.3} s, p99 {:.3} s, at most {:.3} s",
        late.len(),
        at(0.5).unwrap_or_default(),
        at(0.99).unwrap_or_default(),
        at(1.0).unwrap_or_default()
    );
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

/// A house with one system that refuses, and so many runs that wait.
async fn prepare(folder: &Path, runs: u64, first: Timestamp, spread: Duration) -> Result<(), Error> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    std::fs::create_dir(folder.join("keys"))?;
    std::fs::create_dir(folder.join("playbooks"))?;
    write(&folder.join("offboard.yaml"), CONFIG)?;
    write(&folder.join("password"), "nobody")?;
    write(&folder.join("playbooks/at-once.yaml"), PLAYBOOK)?;
    let rows: String = (0..runs).map(|n| format!("E{n},Person {n},terminated\n")).collect();
    write(&folder.join("roster.csv"), &format!("id,name,status\n{rows}"))?;
    let keys = Keys::generate(&folder.join("keys"))?;
    let journal = Journal::create(&folder.join("journal"), keys).await?;
    let house = House::build(&folder.join("offboard.yaml"), Arc::new(Timestamp::now)).map_err(|e| e.render(false))?;
    let by = Actor { name: "bench".into(), asserted_by: "operating system".into() };
    let gap = spread / u32::try_from(runs)?;
    let mut at = first;
    for batch in house.roster.people().chunks(100) {
        let mut starts = Vec::new();
        for person in batch {
            let (playbook, digest) = house.playbook(Some("at-once"), person).map_err(|e| e.render(false))?;
            let request = offboard::model::RunRequest {
                subject: offboard::model::Subject::Person(Box::new(person.clone())),
                playbook: playbook.playbook.clone(),
                playbook_body: serde_json::to_value(&playbook)?,
                requested_by: by.clone(),
                requested_at: Timestamp::now(),
                inputs: house.inputs(digest),
                places: house.engine.places().into_iter().map(|(_, place)| place).collect(),
                limits: Vec::new(),
                version: env!("CARGO_PKG_VERSION").into(),
            };
            let (journal, by, hour) = (journal.clone(), by.clone(), at);
            at += SignedDuration::try_from(gap)?;
            starts.push(async move {
                let (log, _) = journal.start(Timestamp::now(), request).await?;
                // Prepared already: the looks beforehand are not what is measured.
                log.append(Timestamp::now(), vec![Event::Scheduled { at: hour, by }, Event::Prepared]).await
            });
        }
        futures::future::try_join_all(starts).await?;
    }
    journal.close().await;
    Ok(())
}

/// The server, when it serves.
fn serve(folder: &Path) -> Result<Child, Error> {
    let log = folder.join("serve.log");
    let server = Command::new(env!("CARGO_BIN_EXE_offboard"))
        .args(["-c", "offboard.yaml", "serve"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .spawn()?;
    while !std::fs::read_to_string(&log)?.contains("\"serving\"") {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(server)
}

/// Seconds of processor time so far (proc_pid_stat(5)).
fn cpu(pid: u32) -> Result<f64, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks: f64 =
        fields.get(11).ok_or("no utime")?.parse::<f64>()? + fields.get(12).ok_or("no stime")?.parse::<f64>()?;
    // USER_HZ is 100 on every architecture that we run on.
    Ok(ticks / 100.0)
}

fn status(pid: u32, key: &str) -> Result<f64, Error> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(key)).ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse::<f64>()? / 1024.0)
}

/// Megabytes in memory now.
fn memory(pid: u32) -> Result<f64, Error> {
    status(pid, "VmRSS")
}

/// Megabytes in memory at most.
fn peak(pid: u32) -> Result<f64, Error> {
    status(pid, "VmHWM")
}

/// How late each run began, in seconds.
async fn lateness(folder: &Path) -> Result<Vec<f64>, Error> {
    let house = House::build(&folder.join("offboard.yaml"), Arc::new(Timestamp::now)).map_err(|e| e.render(false))?;
    let journal = house.journal_to_read().await.map_err(|e| e.plain())?;
    let mut late = Vec::new();
    for run in journal.runs().await? {
        let state = RunState::fold(&journal.records(&run).await?).ok_or("no run")?;
        let due = state.scheduled.last().map(|(at, _)| *at);
        late.extend(due.zip(state.started).map(|(due, began)| began.duration_since(due).as_secs_f64()));
    }
    Ok(late)
}
