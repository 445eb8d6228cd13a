//! The sealing key is changed, killed in the middle of it at every moment, lost, and got back with the recovery key.

use crate::{Room, append, at, load, read_file, request, started};
use offboard::journal::{
    Journal, JournalError, KeyFolder, Keys, NEXT_SEALING_KEY, PublicKey, RecoveryKey, Rotated, RunLog, SEALING_KEY,
    recover, rotate_sealing_key, seal_status, set_recovery, verify_with,
};
use offboard::model::{Event, Fault, FaultKind, RunId, SealedId};
use secrecy::{ExposeSecret, SecretSlice};
use std::path::Path;
use std::process::Command;

/// More than one transaction of a rotation seals anew.
const MANY: usize = 1100;

fn folder_of(keys: &Path) -> KeyFolder<'_> {
    KeyFolder { path: keys, read: &read_file, keeper: None }
}

async fn rotate(room: &Path) -> Result<Rotated, Fault> {
    rotate_sealing_key(&room.join("journal"), &folder_of(&room.join("keys")), at(50), "ops").await
}

fn public(room: &Room) -> PublicKey {
    load(&room.keys()).public()
}

async fn is_sound(room: &Room) {
    let verification = verify_with(&room.journal(), &public(room), None).await.unwrap();
    assert_eq!(verification.problems, [], "the journal does not verify");
}

/// A journal of one run with that many values, `value 0` and so on; closed.
async fn filled(room: &Room, values: usize) -> (RunId, Vec<SealedId>) {
    let journal = room.create().await;
    let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let ids = fill(&log, values).await;
    let run = log.run().clone();
    journal.close().await;
    (run, ids)
}

async fn fill(log: &RunLog, values: usize) -> Vec<SealedId> {
    let plain: Vec<_> = (0..values).map(|n| SecretSlice::from(format!("value {n}").into_bytes())).collect();
    let mut ids = Vec::new();
    let made = |names: &[SealedId]| {
        ids = names.to_vec();
        vec![started("sealed")]
    };
    log.seal_with(at(1), "facts", &plain, made).await.unwrap();
    ids
}

async fn opens(journal: &Journal, run: &RunId, ids: &[SealedId]) {
    let log = journal.continue_run(run).await.unwrap();
    for (n, id) in ids.iter().enumerate() {
        let value = log.unseal(id).await.unwrap().expect("a value that was sealed");
        assert_eq!(value.expose_secret(), format!("value {n}").as_bytes(), "{}", id.0);
    }
    assert_eq!(log.seed().await.unwrap().expose_secret().len(), 32);
}

fn sqlite(room: &Room, statement: &str) -> String {
    let output = Command::new("sqlite3").arg(room.journal().join("journal.sqlite")).arg(statement).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn holds(room: &Room, needle: &[u8]) -> bool {
    std::fs::read_dir(room.journal()).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn after_a_rotation_everything_opens_with_the_new_key_and_nothing_with_the_old_one() {
    let room = Room::make();
    let (run, ids) = filled(&room, 20).await;
    let records = sqlite(&room, "SELECT group_concat(hex(hash)) FROM (SELECT hash FROM record ORDER BY run, seq)");
    let old_text = std::fs::read_to_string(room.keys().join(SEALING_KEY)).unwrap();
    let ciphertext = sqlite(&room, &format!("SELECT hex(value) FROM sealed WHERE id = '{}'", ids[7].0));
    let ciphertext: Vec<u8> =
        (0..ciphertext.len()).step_by(2).map(|i| u8::from_str_radix(&ciphertext[i..i + 2], 16).unwrap()).collect();
    assert!(holds(&room, &ciphertext));
    let stale = load(&room.keys());

    let done = rotate(room.keys().parent().unwrap()).await.unwrap();
    assert_eq!((done.values, done.continued, done.recovery), (21, false, None));
    assert_eq!((&done.from, &done.to), (&stale.sealing_id(), &load(&room.keys()).sealing_id()));
    assert_ne!(std::fs::read_to_string(room.keys().join(SEALING_KEY)).unwrap(), old_text);
    assert_eq!(std::fs::read_dir(room.keys()).unwrap().count(), 3, "only the three files of before");
    is_sound(&room).await;
    let after = sqlite(&room, "SELECT group_concat(hex(hash)) FROM (SELECT hash FROM record ORDER BY run, seq)");
    assert_eq!(after, records, "no record was rewritten");
    assert!(!holds(&room, &ciphertext), "what the old key has sealed is still in the files");

    // A process that had read the old key may not seal with it what nobody could open.
    let error = Journal::open(&room.journal(), stale).await.unwrap_err();
    assert_eq!(error, JournalError::OtherSealingKey { folder: room.journal(), key: done.to.0.clone() });
    assert!(error.fault_hint().contains("offboard seal recover"));

    let journal = room.open().await.unwrap();
    opens(&journal, &run, &ids).await;
    let log = journal.continue_run(&run).await.unwrap();
    let late = log.seal("facts", &SecretSlice::from(b"value 20".to_vec())).await.unwrap();
    log.destroy(at(9), &ids[3]).await.unwrap();
    append(&log, 10, started("later")).await;
    journal.close().await;

    // And once more.
    assert_eq!(rotate(room.keys().parent().unwrap()).await.unwrap().values, 21);
    is_sound(&room).await;
    let journal = room.open().await.unwrap();
    let log = journal.continue_run(&run).await.unwrap();
    assert_eq!(log.unseal(&late).await.unwrap().unwrap().expose_secret(), b"value 20");
    assert!(log.unseal(&ids[3]).await.unwrap().is_none(), "a destroyed value came back");
    let status = seal_status(&room.journal()).await.unwrap();
    assert_eq!(status.keys.iter().map(|key| key.values).collect::<Vec<_>>(), [0, 0, 21]);
    assert_eq!(status.unnamed, 0);
}

#[tokio::test]
async fn nobody_rotates_under_a_writer_or_in_a_journal_that_was_tampered_with() {
    let room = Room::make();
    let (_, ids) = filled(&room, 3).await;
    let folder = room.keys().parent().unwrap().to_path_buf();
    let journal = room.open().await.unwrap();
    assert_eq!(rotate(&folder).await.unwrap_err().kind, FaultKind::Busy);
    journal.close().await;

    let before = std::fs::read(room.keys().join(SEALING_KEY)).unwrap();
    // A value that somebody put in must not get a signature.
    sqlite(&room, &format!("INSERT INTO sealed SELECT run, 'facts-1', value FROM sealed WHERE id = '{}'", ids[0].0));
    assert_eq!(rotate(&folder).await.unwrap_err().kind, FaultKind::Protected);
    sqlite(&room, "DELETE FROM sealed WHERE id = 'facts-1'");
    // Nor what the journal is said to know of its keys.
    rotate(&folder).await.unwrap();
    assert_ne!(std::fs::read(room.keys().join(SEALING_KEY)).unwrap(), before);
    let before = std::fs::read(room.keys().join(SEALING_KEY)).unwrap();
    sqlite(
        &room,
        "UPDATE sealed SET value = CAST(replace(CAST(value AS TEXT), 'ops', 'eve') AS BLOB) WHERE run = 'sealing'",
    );
    let fault = rotate(&folder).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Protected, "{fault}");
    assert_eq!(std::fs::read(room.keys().join(SEALING_KEY)).unwrap(), before);
    assert!(!room.keys().join(NEXT_SEALING_KEY).exists(), "nothing may have been begun");
}

#[tokio::test]
async fn the_value_of_before_a_rotation_cannot_be_put_back() {
    let room = Room::make();
    let (_, ids) = filled(&room, 3).await;
    let old = sqlite(&room, &format!("SELECT hex(value) FROM sealed WHERE id = '{}'", ids[1].0));
    rotate(room.keys().parent().unwrap()).await.unwrap();
    is_sound(&room).await;
    sqlite(&room, &format!("UPDATE sealed SET value = x'{old}' WHERE id = '{}'", ids[1].0));
    let verification = verify_with(&room.journal(), &public(&room), None).await.unwrap();
    assert_eq!(verification.problems.len(), 1);
    assert!(verification.problems[0].to_string().contains("was changed"), "{:?}", verification.problems);
}

/// Calls this test again in a process of its own, which rotates and is killed at that moment.
#[cfg(feature = "failpoints")]
fn die(room: &Room, moment: &str, test: &str) {
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("sealing::{test}"), "--test-threads", "1"])
        .env("OFFBOARD_SEAL_ROOM", room.keys().parent().unwrap())
        .env("OFFBOARD_SEAL_DIE", moment)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert_eq!(again.status.code(), None, "{moment}: it was not killed: {said}");
}

/// Whether this process is the one that is to be killed; then it has been unless the moment never came.
#[cfg(feature = "failpoints")]
async fn dies() -> bool {
    let Some(room) = std::env::var_os("OFFBOARD_SEAL_ROOM") else { return false };
    let die_at = std::env::var("OFFBOARD_SEAL_DIE").unwrap();
    let (name, nth) = die_at.split_once('/').unwrap();
    let (passed, nth) = (std::sync::atomic::AtomicUsize::new(0), nth.parse::<usize>().unwrap());
    fail::cfg_callback(name, move || {
        if passed.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == nth {
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        }
    })
    .unwrap();
    rotate(Path::new(&room)).await.unwrap();
    true
}

/// Killed at every failpoint: every value opens, new ones can be sealed, keys and journal are enough, and the next call ends it.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn killed_at_any_moment_of_a_rotation_every_value_opens() {
    if dies().await {
        return;
    }
    let first = Room::make();
    let (run, ids) = filled(&first, MANY).await;
    let folder = first.keys().parent().unwrap().to_path_buf();
    let (key, recipient) = RecoveryKey::generate().unwrap();
    set_recovery(&first.journal(), &folder_of(&first.keys()), &recipient, at(2), "ops", || Ok(())).await.unwrap();

    let moments = [
        "seal::wrapped/1",
        "seal::made/1",
        "seal::noted/1",
        "seal::resealed/1",
        "seal::resealed/2",
        "seal::resealed/3",
        "seal::retired/1",
        "seal::replaced/1",
    ];
    for moment in moments {
        let room = Room::make();
        copy(&folder.join("journal"), &room.journal());
        copy(&folder.join("keys"), &room.keys());
        die(&room, moment, "killed_at_any_moment_of_a_rotation_every_value_opens");
        let ended = moment.starts_with("seal::replaced");
        let begun = !ended && !moment.starts_with("seal::wrapped");
        assert_eq!(room.keys().join(NEXT_SEALING_KEY).exists(), begun, "{moment}");
        is_sound(&room).await;

        // The folder keys is lost at just that moment: the recovery key brings back what is needed.
        let back = recover(&room.journal(), &key).await.unwrap();
        assert_eq!((back.opened, back.unopened), (MANY as u64 + 1, 0), "{moment}");

        // Somebody goes on with a run before the rotation is ended.
        let journal = room.open().await.unwrap();
        opens(&journal, &run, &ids).await;
        let log = journal.continue_run(&run).await.unwrap();
        let late = log.seal("facts", &SecretSlice::from(b"late".to_vec())).await.unwrap();
        journal.close().await;

        let done = rotate(room.keys().parent().unwrap()).await.unwrap();
        assert_eq!(done.continued, begun, "{moment}");
        assert_eq!(done.recovery.map(|r| r.id()), Some(recipient.id()), "{moment}");
        is_sound(&room).await;
        assert!(!room.keys().join(NEXT_SEALING_KEY).exists(), "{moment}");
        let journal = room.open().await.unwrap();
        opens(&journal, &run, &ids).await;
        let log = journal.continue_run(&run).await.unwrap();
        assert_eq!(log.unseal(&late).await.unwrap().unwrap().expose_secret(), b"late", "{moment}");
        let status = seal_status(&room.journal()).await.unwrap();
        let (last, before) = status.keys.split_last().unwrap();
        assert!(last.values == MANY as u64 + 2 && before.iter().all(|key| key.values == 0), "{moment}: {status:?}");
    }
}

/// The first change of the key is killed, and only then a recovery key is made: the newest key stays the newest.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_recovery_key_that_is_made_within_a_rotation_opens_what_comes_of_it() {
    if dies().await {
        return;
    }
    for moment in ["seal::wrapped/1", "seal::made/1", "seal::noted/1", "seal::resealed/1", "seal::retired/1"] {
        let room = Room::make();
        let (run, ids) = filled(&room, 3).await;
        die(&room, moment, "a_recovery_key_that_is_made_within_a_rotation_opens_what_comes_of_it");
        let (key, recipient) = RecoveryKey::generate().unwrap();
        set_recovery(&room.journal(), &folder_of(&room.keys()), &recipient, at(2), "ops", || Ok(())).await.unwrap();
        let back = recover(&room.journal(), &key).await.unwrap();
        assert_eq!((back.opened, back.unopened), (4, 0), "{moment}");
        rotate(room.keys().parent().unwrap()).await.unwrap();
        let status = seal_status(&room.journal()).await.unwrap();
        let newest = status.keys.last().unwrap();
        assert_eq!((&newest.key, newest.values), (&load(&room.keys()).sealing_id(), 4), "{moment}");
        assert_eq!(newest.recovery, Some(recipient.id()), "{moment}");
        assert_eq!(newest.recovery_set.as_ref().map(|set| (set.at, set.by.as_str())), Some((at(2), "ops")), "{moment}");
        assert_eq!(status.keys.iter().filter(|key| key.recovery.is_some()).count(), 1, "{moment}: {status:?}");
        let back = recover(&room.journal(), &key).await.unwrap();
        assert_eq!(back.keys().sealing_id(), newest.key, "{moment}");
        let journal = room.open().await.unwrap();
        opens(&journal, &run, &ids).await;
        journal.close().await;
        is_sound(&room).await;
    }
}

/// Whoever may write the database, and waits for the moment after it was verified, gets neither the keys nor a signature.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn what_is_put_in_after_the_journal_was_verified_is_not_used() {
    const TEST: &str = "sealing::what_is_put_in_after_the_journal_was_verified_is_not_used";
    if let Some(room) = std::env::var_os("OFFBOARD_SEAL_ROOM") {
        let file = Path::new(&room).join("journal/journal.sqlite");
        let statement = std::env::var("OFFBOARD_SEAL_PUT").unwrap();
        fail::cfg_callback(std::env::var("OFFBOARD_SEAL_WHEN").unwrap(), move || {
            let _ = Command::new("sqlite3").arg(&file).arg(&statement).output();
        })
        .unwrap();
        match rotate(Path::new(&room)).await {
            Ok(_) => println!("it rotated"),
            Err(fault) => println!("refused: {:?}", fault.kind),
        }
        return;
    }
    let (key, recipient) = RecoveryKey::generate().unwrap();
    let (theirs, their_recipient) = RecoveryKey::generate().unwrap();
    let text = |recipient| serde_json::to_string(recipient).unwrap();
    let attack = |room: &Room, when: &str, statement: &str| {
        let again = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--test-threads", "1", "--nocapture"])
            .env("OFFBOARD_SEAL_ROOM", room.keys().parent().unwrap())
            .env("OFFBOARD_SEAL_WHEN", when)
            .env("OFFBOARD_SEAL_PUT", statement)
            .output()
            .unwrap();
        String::from_utf8_lossy(&again.stdout).into_owned()
    };

    let swap = format!(
        "UPDATE sealed SET value = CAST(replace(CAST(value AS TEXT), '{}', '{}') AS BLOB) WHERE run = 'sealing'",
        text(&recipient),
        text(&their_recipient)
    );
    for when in ["seal::verified", "seal::wrapped", "seal::made", "seal::noted"] {
        let room = Room::make();
        filled(&room, 3).await;
        set_recovery(&room.journal(), &folder_of(&room.keys()), &recipient, at(2), "ops", || Ok(())).await.unwrap();
        let said = attack(&room, when, &swap);
        assert!(said.contains("it rotated") || said.contains("refused: Protected"), "{when}: {said}");
        if when == "seal::verified" {
            // Nobody else can write at that moment.
            assert!(said.contains("it rotated"), "{said}");
            is_sound(&room).await;
            recover(&room.journal(), &key).await.unwrap();
        }
        let ring = sqlite(&room, "SELECT group_concat(CAST(value AS TEXT)) FROM sealed WHERE run = 'sealing'");
        let ours = ring.contains(&text(&recipient)) || !ring.contains(&text(&their_recipient));
        assert!(ours || when != "seal::verified", "{when}: {ring}");
        assert!(recover(&room.journal(), &theirs).await.is_err(), "{when}");
    }

    // Nor is a destroyed value, put back between two transactions, sealed anew and signed.
    let room = Room::make();
    let (run, ids) = filled(&room, MANY).await;
    let last = ids.iter().max_by_key(|id| &id.0).unwrap();
    let row = sqlite(
        &room,
        &format!("SELECT quote(run) || ',' || quote(id) || ',' || quote(value) FROM sealed WHERE id = '{}'", last.0),
    );
    let journal = room.open().await.unwrap();
    journal.continue_run(&run).await.unwrap().destroy(at(9), last).await.unwrap();
    journal.close().await;
    let said = attack(&room, "seal::resealed", &format!("INSERT OR IGNORE INTO sealed VALUES ({row})"));
    assert!(said.contains("refused: Protected"), "{said}");
}

/// One recovery key takes the place of another: what the former opened, it opens no more, and nothing that is put back makes it so.
#[tokio::test]
async fn a_former_recovery_key_opens_nothing_any_more() {
    let room = Room::make();
    let folder = room.keys().parent().unwrap().to_path_buf();
    filled(&room, 3).await;
    let (first, first_recipient) = RecoveryKey::generate().unwrap();
    let (second, second_recipient) = RecoveryKey::generate().unwrap();
    let set = async |recipient| {
        set_recovery(&room.journal(), &folder_of(&room.keys()), recipient, at(2), "ops", || Ok(())).await.unwrap();
    };
    set(&first_recipient).await;
    let ring =
        sqlite(&room, "SELECT quote(run) || ',' || quote(id) || ',' || quote(value) FROM sealed WHERE run = 'sealing'");
    rotate(&folder).await.unwrap();
    set(&second_recipient).await;
    rotate(&folder).await.unwrap();
    let text = serde_json::to_string(&first_recipient).unwrap();
    assert!(!sqlite(&room, "SELECT CAST(value AS TEXT) FROM sealed WHERE run = 'sealing'").contains(&text));
    let fault = recover(&room.journal(), &first).await.unwrap_err();
    assert!(fault.what.contains("does not open its newest key"), "{fault}");
    recover(&room.journal(), &second).await.unwrap();

    // What the journal knew of its keys before is put back: that key is not what anybody should get.
    sqlite(&room, &format!("DELETE FROM sealed WHERE run = 'sealing'; INSERT INTO sealed VALUES ({ring})"));
    let fault = recover(&room.journal(), &first).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Protected, "{fault}");
    assert!(fault.to_string().contains("does not verify"), "{fault}");
}

#[tokio::test]
async fn a_recovery_key_that_nobody_could_read_does_not_count() {
    let room = Room::make();
    filled(&room, 1).await;
    let (_, recipient) = RecoveryKey::generate().unwrap();
    let show = || Err(Fault::new(FaultKind::Unexpected, "cannot write the result"));
    set_recovery(&room.journal(), &folder_of(&room.keys()), &recipient, at(2), "ops", show).await.unwrap_err();
    assert_eq!(seal_status(&room.journal()).await.unwrap().keys.iter().filter(|k| k.recovery.is_some()).count(), 0);
    is_sound(&room).await;
}

#[tokio::test]
async fn what_a_reader_holds_in_the_log_and_a_key_behind_a_link_keep_a_rotation_from_its_end() {
    let room = Room::make();
    let folder = room.keys().parent().unwrap().to_path_buf();
    filled(&room, 3).await;
    let mut reader = reading(&room);
    let fault = rotate(&folder).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy, "{fault}");
    assert!(room.keys().join(NEXT_SEALING_KEY).exists(), "it is to be gone on with");
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(rotate(&folder).await.unwrap().continued);

    let real = folder.join("real.key");
    std::fs::rename(room.keys().join(SEALING_KEY), &real).unwrap();
    std::os::unix::fs::symlink(&real, room.keys().join(SEALING_KEY)).unwrap();
    let fault = rotate(&folder).await.unwrap_err();
    assert!(fault.what.contains("symbolic link"), "{fault}");
    assert!(room.keys().join(SEALING_KEY).symlink_metadata().unwrap().is_symlink());
}

/// A process that has begun to read the journal, and does not end.
fn reading(room: &Room) -> std::process::Child {
    use std::io::{BufRead, Write};
    let mut reader = Command::new("sqlite3")
        .arg(room.journal().join("journal.sqlite"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    reader
        .stdin
        .as_mut()
        .unwrap()
        .write_all(
            b"BEGIN;
SELECT count(*) FROM sealed;
",
        )
        .unwrap();
    let mut said = String::new();
    std::io::BufReader::new(reader.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    reader
}

#[tokio::test]
async fn lost_keys_come_back_with_the_recovery_key_and_with_no_other() {
    let room = Room::make();
    let (run, ids) = filled(&room, 5).await;
    let (key, recipient) = RecoveryKey::generate().unwrap();
    let fault = recover(&room.journal(), &key).await.unwrap_err();
    assert!(fault.what.contains("no recovery key was ever set"), "{fault}");
    let (before, _) = RecoveryKey::generate().unwrap();
    let (old, old_recipient) = RecoveryKey::generate().unwrap();
    for recipient in [&old_recipient, &recipient] {
        set_recovery(&room.journal(), &folder_of(&room.keys()), recipient, at(2), "ops", || Ok(())).await.unwrap();
        is_sound(&room).await;
    }
    for other in [&before, &old] {
        let fault = recover(&room.journal(), other).await.unwrap_err();
        assert!(fault.what.contains("does not open its newest key"), "{fault}");
    }
    let kept = ["sealing.key", "signing.key", "signing.pub"].map(|f| std::fs::read(room.keys().join(f)).unwrap());
    let written = RecoveryKey::from_text(&key.to_text().expose_secret().to_lowercase()).unwrap();
    let back = recover(&room.journal(), &written).await.unwrap();
    for file in ["sealing.key", "signing.key", "signing.pub"] {
        let path = room.keys().join(file);
        let was = std::fs::read(&path).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(back.write(&room.keys()).unwrap_err().kind, FaultKind::Protected, "keys are never overwritten");
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
        // What is there already, and right, stays; what is missing is written.
        std::fs::remove_file(&path).unwrap();
        back.write(&room.keys()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), was, "{file}");
    }

    std::fs::remove_dir_all(room.keys()).unwrap();
    back.write(&room.keys()).unwrap();
    let again = ["sealing.key", "signing.key", "signing.pub"].map(|f| std::fs::read(room.keys().join(f)).unwrap());
    assert_eq!(again, kept, "byte for byte the keys of before");
    let journal = room.open().await.unwrap();
    opens(&journal, &run, &ids).await;
    append(&journal.continue_run(&run).await.unwrap(), 9, started("later")).await;
    journal.close().await;

    // A rotation wraps the new key to the same recovery key.
    rotate(room.keys().parent().unwrap()).await.unwrap();
    std::fs::remove_dir_all(room.keys()).unwrap();
    recover(&room.journal(), &key).await.unwrap().write(&room.keys()).unwrap();
    let journal = room.open().await.unwrap();
    opens(&journal, &run, &ids).await;
    journal.close().await;
    is_sound(&room).await;

    // Neither half of it, nor a key, is in the journal as it is.
    for needle in [key.to_text().expose_secret().as_bytes(), kept[0].trim_ascii()] {
        assert!(!holds(&room, needle));
    }
}

/// Whoever may write the file puts keys of their own in, encrypted to the recovery key, which is no secret.
#[tokio::test]
async fn keys_that_somebody_put_into_the_journal_are_not_recovered() {
    let (room, theirs) = (Room::make(), Room::make());
    let (key, recipient) = RecoveryKey::generate().unwrap();
    for room in [&room, &theirs] {
        filled(room, 2).await;
        set_recovery(&room.journal(), &folder_of(&room.keys()), &recipient, at(2), "ops", || Ok(())).await.unwrap();
    }
    let row = sqlite(
        &theirs,
        "SELECT quote(run) || ',' || quote(id) || ',' || quote(value) FROM sealed WHERE run = 'sealing'",
    );
    sqlite(&room, &format!("DELETE FROM sealed WHERE run = 'sealing'; INSERT INTO sealed VALUES ({row})"));
    let fault = recover(&room.journal(), &key).await.unwrap_err();
    assert!(fault.what.contains("signed by another key"), "{fault}");
    let verification = verify_with(&room.journal(), &public(&room), None).await.unwrap();
    assert_eq!(verification.problems.len(), 2, "{:?}", verification.problems);
}

#[tokio::test]
async fn half_a_key_that_was_left_behind_locks_nobody_out() {
    let room = Room::make();
    let (run, ids) = filled(&room, 2).await;
    std::fs::write(room.keys().join(format!("{NEXT_SEALING_KEY}.unfinished")), "aGFsZg").unwrap();
    let journal = room.open().await.unwrap();
    opens(&journal, &run, &ids).await;
    let log = journal.continue_run(&run).await.unwrap();
    let events = vec![Event::Destroyed { sealed: SealedId("none".into()) }];
    log.append(at(3), events).await.unwrap();
    journal.close().await;
    rotate(room.keys().parent().unwrap()).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(room.keys()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(Keys::load(&room.keys(), read_file).is_ok());
}
