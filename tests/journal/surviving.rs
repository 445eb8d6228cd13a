//! What the journal survives: `kill -9` at any moment, a full disk, a file system that became read-only. And what it costs:
//! syncs are counted, not timed.
//!
//! Each test starts this very test binary again as the process that is killed or traced; `OFFBOARD_JOURNAL_ROOM` tells it so.

use crate::{at, load, request, started};
use offboard::journal::{Journal, JournalError, Keys, RunLog, verify_with};
use offboard::model::{Digest, Event, StepId};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROOM: &str = "OFFBOARD_JOURNAL_ROOM";

/// The folder to work in, if this process is the one that was started again.
fn child() -> Option<PathBuf> {
    std::env::var_os(ROOM).map(PathBuf::from)
}

/// This test binary again, for one test. `before` is what it is run under.
fn again(before: &[&str], test: &str, room: &Path) -> Command {
    let this = std::env::current_exe().expect("the path of this test binary");
    let mut command = match before.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
        None => Command::new(this),
    };
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(ROOM, room);
    command
}

async fn make(room: &Path) -> Journal {
    let keys = Keys::generate(&room.join("keys")).unwrap();
    Journal::create(&room.join("journal"), keys).await.unwrap()
}

async fn open(room: &Path) -> Journal {
    Journal::open(&room.join("journal"), load(&room.join("keys"))).await.unwrap()
}

/// Sixteen places that append two records a step, one after the other, as the engine does: before it acts, and after.
async fn work(log: &RunLog, steps: usize, done: impl Fn(&str) + Clone) {
    let places = (0..16).map(|place| {
        let (log, done) = (log.clone(), done.clone());
        async move {
            for step in 0..steps {
                let name = format!("{place}-{step}");
                log.append(at(1), vec![started(&name)]).await?;
                done(&name);
                let outcome = offboard::model::Outcome::AlreadyDone;
                log.append(at(2), vec![Event::StepDone { step: StepId(name), outcome }]).await?;
            }
            Ok::<(), JournalError>(())
        }
    });
    for place in futures::future::join_all(places).await {
        place.unwrap();
    }
}

/// A process is killed at 25 random moments, at the beginning of its life as well as later. Whatever `append` said was durable is
/// there, the journal verifies, the head that was known before is still in it, and the next process goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_leaves_a_journal_that_verifies_and_goes_on() {
    if let Some(room) = child() {
        let journal = open(&room).await;
        let log = match journal.runs().await.unwrap().first() {
            Some(run) => journal.continue_run(run).await.unwrap(),
            None => journal.start(at(0), request("E1042")).await.unwrap().0,
        };
        println!("ready");
        let process = std::process::id();
        return work(&log, 100_000, move |step| println!("durable {process}-{step}")).await;
    }
    let room = tempfile::tempdir().unwrap();
    let journal = make(room.path()).await;
    let key = journal.public_key().clone();
    let mut head: Digest = journal.head().await.unwrap();
    journal.close().await;
    let mut records = 0;
    for round in 0..25 {
        let test = "surviving::kill_nine_leaves_a_journal_that_verifies_and_goes_on";
        let mut process = again(&[], test, room.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // Between no and some thousand durable steps, at no moment of its own choosing.
        let enough = usize::from(rand::random::<u8>()) * (round % 3);
        let mut durable = 0;
        let mut ready = false;
        while !(ready && durable >= enough) {
            let line = lines.next().expect("the process died by itself").unwrap();
            ready |= line.ends_with("ready");
            durable += usize::from(line.starts_with("durable"));
        }
        std::thread::sleep(std::time::Duration::from_micros(u64::from(rand::random::<u16>())));
        process.kill().unwrap();
        process.wait().unwrap();
        durable += lines.map_while(Result::ok).filter(|line| line.starts_with("durable")).count();

        let found = verify_with(&room.path().join("journal"), &key, Some(&head)).await.unwrap();
        assert_eq!(found.problems, [], "after kill {round}");
        assert!(
            found.records >= records + durable as u64,
            "{durable} records were durable, {} are there",
            found.records - records
        );
        records = found.records;
        head = found.head.unwrap();
    }
    let journal = open(room.path()).await;
    let run = journal.runs().await.unwrap().remove(0);
    assert_eq!(journal.records(&run).await.unwrap().len() as u64, records);
    let log = journal.continue_run(&run).await.unwrap();
    log.append(at(9), vec![started("last")]).await.unwrap();
    assert!(journal.verify(Some(&head)).await.unwrap().is_sound());
}

/// A process that dies right before a commit leaves nothing of it; one that dies right after it, all of it, although nobody was told.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn dying_around_a_commit_leaves_all_of_it_or_nothing() {
    let test = "surviving::dying_around_a_commit_leaves_all_of_it_or_nothing";
    if let Some(room) = child() {
        let journal = open(&room).await;
        let run = journal.runs().await.unwrap().remove(0);
        let log = journal.continue_run(&run).await.unwrap();
        let point = std::env::var("OFFBOARD_JOURNAL_POINT").unwrap();
        fail::cfg_callback(point, || std::process::abort()).unwrap();
        let answered = log.append(at(1), vec![started("a"), started("b")]).await;
        panic!("it did not die: {answered:?}");
    }
    for (point, kept) in [("journal::before-commit", 1), ("journal::after-commit", 3)] {
        let room = tempfile::tempdir().unwrap();
        let journal = make(room.path()).await;
        let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
        journal.close().await;
        let output = again(&[], test, room.path()).env("OFFBOARD_JOURNAL_POINT", point).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(std::os::unix::process::ExitStatusExt::signal(&output.status).is_some(), "{point}: {said}");
        let journal = open(room.path()).await;
        assert_eq!(journal.records(log.run()).await.unwrap().len(), kept, "{point}");
        assert!(journal.verify(None).await.unwrap().is_sound(), "{point}");
        let log = journal.continue_run(log.run()).await.unwrap();
        log.append(at(2), vec![started("c")]).await.unwrap();
    }
}

/// 400 steps by 16 places: at most two syncs a step would be allowed, and grouping needs far fewer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syncs_are_shared() {
    if let Some(room) = child() {
        let journal = make(&room).await;
        let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
        work(&log, 25, |_| ()).await;
        return journal.close().await;
    }
    let room = tempfile::tempdir().unwrap();
    let trace = room.path().join("trace");
    let strace = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", trace.to_str().unwrap()];
    let output = again(&strace, "surviving::syncs_are_shared", room.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = std::fs::read_to_string(&trace).unwrap();
    let syncs = trace.lines().filter(|line| line.contains("sync(") && !line.contains("resumed")).count();
    // Every one of the 50 appends that a place makes one after the other waits for a sync of its own.
    assert!((50..=400).contains(&syncs), "{syncs} syncs for 400 steps\n{trace}");
}

/// The disk fills up in the middle of a run: the append says so and nothing of it is kept; with room again, the same process
/// goes on.
#[tokio::test]
async fn a_full_disk_is_said_and_nothing_is_lost() {
    if let Some(room) = child() {
        return fill_the_disk(&room).await;
    }
    let room = tempfile::tempdir().unwrap();
    // A small file system of its own. Somebody who is not root gets a user namespace to mount it in.
    let root = if nix::unistd::geteuid().is_root() { "--mount" } else { "--map-root-user" };
    let mount = r#"mount -t tmpfs -o size=2m tmpfs "$OFFBOARD_JOURNAL_ROOM" && exec "$0" "$@""#;
    let under = ["unshare", root, "--mount", "sh", "-c", mount];
    let output = again(&under, "surviving::a_full_disk_is_said_and_nothing_is_lost", room.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("the disk was full"), "the test did not run where it should: {said}");
}

async fn fill_the_disk(room: &Path) {
    let journal = make(room).await;
    let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let ballast = room.join("ballast");
    std::fs::write(&ballast, vec![0; 512 * 1024]).unwrap();
    let mut kept = 1;
    let error = loop {
        match log.append(at(1), vec![started(&"x".repeat(5000))]).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 10_000, "the disk never filled up");
    };
    println!("the disk was full: {error}; {}", error.fault_hint());
    assert!(matches!(error, JournalError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("no space is left"), "{error}");
    assert!(error.fault_hint().contains("offboard resume"));
    // A new run is refused as well, before anything is done.
    assert!(matches!(journal.start(at(2), request(&"x".repeat(50_000))).await, Err(JournalError::Full { .. })));
    assert_eq!(journal.records(log.run()).await.unwrap().len(), kept);
    std::fs::remove_file(&ballast).unwrap();
    log.append(at(3), vec![started("y")]).await.unwrap();
    assert_eq!(journal.records(log.run()).await.unwrap().len(), kept + 1);
    assert!(journal.verify(None).await.unwrap().is_sound());
    journal.close().await;
    assert!(open(room).await.verify(None).await.unwrap().is_sound());
}

/// A journal on a medium that cannot be written verifies there, and does not pretend to be writable.
#[tokio::test]
async fn a_read_only_file_system_can_be_verified_but_not_written() {
    if let Some(room) = child() {
        let folder = room.join("journal");
        let key = load(&room.join("keys")).public();
        assert!(verify_with(&folder, &key, None).await.unwrap().is_sound());
        let reader = Journal::open_read_only(&folder, key).await.unwrap();
        assert_eq!(reader.runs().await.unwrap().len(), 1);
        let error = Journal::open(&folder, load(&room.join("keys"))).await.unwrap_err();
        assert!(matches!(error, JournalError::ReadOnly { .. }), "{error:?}");
        return println!("it was read-only: {error}");
    }
    let room = tempfile::tempdir().unwrap();
    let journal = make(room.path()).await;
    journal.start(at(0), request("E1042")).await.unwrap();
    journal.close().await;
    let root = if nix::unistd::geteuid().is_root() { "--mount" } else { "--map-root-user" };
    let mount = r#"mount --bind "$OFFBOARD_JOURNAL_ROOM" "$OFFBOARD_JOURNAL_ROOM" &&
        mount -o remount,bind,ro "$OFFBOARD_JOURNAL_ROOM" && exec "$0" "$@""#;
    let under = ["unshare", root, "--mount", "sh", "-c", mount];
    let test = "surviving::a_read_only_file_system_can_be_verified_but_not_written";
    let output = again(&under, test, room.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("it was read-only"), "the test did not run where it should: {said}");
}
