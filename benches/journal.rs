//! The journal against what the disk itself can do: `cargo bench --bench journal`.
//!
//! A step is two durable writes, one before it is applied and one after. The floor appends 300 bytes and calls `fdatasync` for each,
//! or for each group; the journal hashes, signs and commits. Both take turns, so that a disk with moods is fair to both. Medians of
//! `ROUNDS` rounds. `BENCH_DIR` names a folder on the disk that matters (default: the build folder).

use jiff::Timestamp;
use offboard::journal::{Journal, Keys, RunLog};
use offboard::model::{Actor, Event, Outcome, Person, PersonId, RunRequest, StepId, Subject, WorkerStatus};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

const STEPS: usize = 400;
const ROUNDS: usize = 5;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let base = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    println!("{STEPS} steps, two durable writes each; medians of {ROUNDS} rounds");
    for places in [1, 16] {
        let (mut raw, mut ours) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let folder = tempfile::Builder::new().prefix(&format!("journal-{places}-{round}-")).tempdir_in(&base)?;
            raw.push(floor(folder.path(), places)?);
            ours.push(runtime.block_on(journal(folder.path(), places))?);
        }
        let (raw, ours) = (median(&mut raw), median(&mut ours));
        println!("{places:>3} places: raw {raw:>7.0} steps/s, journal {ours:>7.0} steps/s, {:.2} of raw", ours / raw);
    }
    let folder = tempfile::tempdir_in(&base)?;
    runtime.block_on(verify(folder.path()))
}

/// Steps a second of plain appends; as many writes share a sync as there are places.
fn floor(folder: &Path, places: usize) -> Result<f64, Error> {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join("raw"))?;
    let line = [b'x'; 300];
    let begun = Instant::now();
    for _ in 0..STEPS * 2 / places {
        for _ in 0..places {
            file.write_all(&line)?;
        }
        file.sync_data()?;
    }
    Ok(STEPS as f64 / begun.elapsed().as_secs_f64())
}

/// Steps a second of the journal, with `places` appending at once.
async fn journal(folder: &Path, places: usize) -> Result<f64, Error> {
    let journal = create(folder).await?;
    let (log, _) = journal.start(Timestamp::UNIX_EPOCH, request()).await?;
    let begun = Instant::now();
    work(&log, places, STEPS / places).await?;
    let rate = STEPS as f64 / begun.elapsed().as_secs_f64();
    journal.close().await;
    Ok(rate)
}

/// How long it takes to check a whole journal.
async fn verify(folder: &Path) -> Result<(), Error> {
    let journal = create(folder).await?;
    for _ in 0..10 {
        let (log, _) = journal.start(Timestamp::UNIX_EPOCH, request()).await?;
        work(&log, 16, 125).await?;
    }
    let begun = Instant::now();
    let found = journal.verify(None).await?;
    let took = begun.elapsed();
    if !found.is_sound() {
        return Err(format!("{:?}", found.problems).into());
    }
    println!("verify: {} records, {} checkpoints in {} ms", found.records, found.checkpoints, took.as_millis());
    journal.close().await;
    Ok(())
}

async fn create(folder: &Path) -> Result<Journal, Error> {
    let keys = Keys::generate(&folder.join("keys"))?;
    Ok(Journal::create(&folder.join("journal"), keys).await?)
}

async fn work(log: &RunLog, places: usize, steps: usize) -> Result<(), Error> {
    let places = (0..places).map(|place| {
        let log = log.clone();
        tokio::spawn(async move {
            for step in 0..steps {
                let step = StepId(format!("{place:04x}{step:04x}"));
                let at = Timestamp::UNIX_EPOCH;
                log.append(at, vec![Event::StepStarted { step: step.clone(), attempt: 1 }]).await?;
                let outcome = Outcome::Done { note: "x".repeat(150) };
                log.append(at, vec![Event::StepDone { step, outcome }]).await?;
            }
            Ok::<(), offboard::journal::JournalError>(())
        })
    });
    for place in futures::future::join_all(places).await {
        place??;
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn request() -> RunRequest {
    let person = Person {
        id: PersonId("E1042".into()),
        name: "Jane Roe".into(),
        email: None,
        user_name: None,
        manager: None,
        department: None,
        worker_type: None,
        status: WorkerStatus::Terminated,
        reason: None,
        ends: None,
        zone: None,
        keys: Vec::new(),
    };
    RunRequest {
        subject: Subject::Person(Box::new(person)),
        playbook: "involuntary-termination".into(),
        playbook_body: serde_json::Value::Null,
        requested_by: Actor { name: "ops".into(), asserted_by: "operating system".into() },
        requested_at: Timestamp::UNIX_EPOCH,
        inputs: Vec::new(),
        places: Vec::new(),
        limits: Vec::new(),
        version: "0.0.0".into(),
    }
}
