//! What the journal keeps, and whom it lets write.

use crate::{Room, append, at, found, load, request, started};
use offboard::journal::{FILE, Journal, JournalError, Keys, PublicKey, RunLog, verify_with};
use offboard::model::{Event, FaultKind, RunId, SealedId};
use secrecy::{ExposeSecret, SecretSlice};
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn what_was_appended_is_read_back_in_order_and_verifies() {
    let room = Room::make();
    let journal = room.create().await;
    let (log, first) = journal.start(at(1), request("E1042")).await.unwrap();
    let more = log.append(at(2), vec![started("a"), started("b")]).await.unwrap();
    assert_eq!(first.seq, 1);
    assert_eq!(more.iter().map(|r| r.seq).collect::<Vec<_>>(), [2, 3]);
    let expected: Vec<_> = [first].into_iter().chain(more).collect();
    assert_eq!(journal.records(log.run()).await.unwrap(), expected);

    let head = journal.head().await.unwrap();
    journal.close().await;
    let journal = room.open().await.unwrap();
    assert_eq!(journal.records(log.run()).await.unwrap(), expected);
    let log = journal.continue_run(log.run()).await.unwrap();
    assert_eq!(append(&log, 3, started("c")).await.seq, 4);

    let found = journal.verify(Some(&head)).await.unwrap();
    assert_eq!(found.problems, []);
    assert_eq!((found.records, found.runs, found.checkpoints, found.sealed), (4, 1, 4, 1));
    assert_eq!(found.last, Some(at(3)));
    assert_eq!(found.head, Some(journal.head().await.unwrap()));
    assert_ne!(found.head, Some(head));
}

#[tokio::test]
async fn what_a_run_starts_with_is_one_commit() {
    let room = Room::make();
    let journal = room.create().await;
    let (log, first) = journal.start_with(at(1), request("E1042"), Some(started("a"))).await.unwrap();
    let records = journal.records(log.run()).await.unwrap();
    assert_eq!((records.len(), &records[0]), (2, &first[0]));
    assert_eq!(append(&log, 2, started("b")).await.seq, 3);
    let found = journal.verify(None).await.unwrap();
    assert_eq!(found.problems, []);
    // One for the empty journal, one for both records, one for the third.
    assert_eq!((found.records, found.checkpoints), (3, 3));
}

#[tokio::test]
async fn runs_are_named_by_four_characters_and_listed_newest_first() {
    let room = Room::make();
    let journal = room.create().await;
    let mut names = Vec::new();
    for n in 0..50 {
        let (log, _) = journal.start(at(n), request("E1042")).await.unwrap();
        assert_eq!(log.run().0.len(), 4);
        assert!(log.run().0.bytes().all(|c| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&c)), "{}", log.run());
        names.insert(0, log.run().clone());
    }
    assert_eq!(journal.runs().await.unwrap(), names);
}

#[tokio::test]
async fn many_places_append_at_once_and_share_commits() {
    let room = Room::make();
    let journal = room.create().await;
    let (one, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let (other, _) = journal.start(at(0), request("E1043")).await.unwrap();
    let places = (0..32).map(|place| {
        let log = if place % 2 == 0 { one.clone() } else { other.clone() };
        tokio::spawn(async move {
            for step in 0..20 {
                append(&log, step, started(&format!("{place}-{step}"))).await;
            }
        })
    });
    for place in futures::future::join_all(places).await {
        place.unwrap();
    }
    for log in [&one, &other] {
        let records = journal.records(log.run()).await.unwrap();
        assert_eq!(records.len(), 1 + 16 * 20);
        // Each place's own steps stay in the order in which it appended them.
        for place in 0..32 {
            let of_place: Vec<String> = records
                .iter()
                .filter_map(|r| match &r.event {
                    Event::StepStarted { step, .. } if step.0.starts_with(&format!("{place}-")) => Some(step.0.clone()),
                    _ => None,
                })
                .collect();
            let expected: Vec<String> = (0..of_place.len()).map(|step| format!("{place}-{step}")).collect();
            assert_eq!(of_place, expected);
        }
    }
    let verification = journal.verify(None).await.unwrap();
    assert_eq!(verification.problems, []);
    assert!(verification.checkpoints < 3 + 32 * 20 / 4, "{} commits", verification.checkpoints);
}

#[tokio::test]
async fn a_second_writer_is_locked_out_and_a_reader_is_not() {
    let room = Room::make();
    let journal = room.create().await;
    let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let error = room.open().await.unwrap_err();
    assert_eq!(error, JournalError::Locked { folder: room.journal(), pid: Some(std::process::id()) });
    assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");

    let reader = Journal::open_read_only(&room.journal(), journal.public_key().clone()).await.unwrap();
    append(&log, 1, started("a")).await;
    assert_eq!(reader.records(log.run()).await.unwrap().len(), 2);
    append(&log, 2, started("b")).await;
    assert_eq!(reader.records(log.run()).await.unwrap().len(), 3);
    assert!(reader.verify(None).await.unwrap().is_sound());
    assert!(matches!(reader.start(at(0), request("E1042")).await, Err(JournalError::ReadOnly { .. })));
    assert!(matches!(reader.continue_run(log.run()).await, Err(JournalError::ReadOnly { .. })));

    journal.close().await;
    assert!(matches!(log.append(at(3), vec![started("c")]).await, Err(JournalError::Closed { .. })));
    room.open().await.unwrap();
}

#[tokio::test]
async fn a_writer_that_was_overtaken_is_fenced_and_writes_nothing() {
    let room = Room::make();
    let journal = room.create().await;
    let (stale, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let current = journal.continue_run(stale.run()).await.unwrap();
    append(&current, 1, started("a")).await;
    let run = stale.run().clone();
    for _ in 0..2 {
        assert_eq!(stale.append(at(2), vec![started("b")]).await, Err(JournalError::Fenced { run: run.clone() }));
    }
    // Both in one group: the one that comes first stays, the other is fenced, and neither disturbs another run.
    let again = journal.continue_run(&run).await.unwrap();
    let (other, _) = journal.start(at(0), request("E1043")).await.unwrap();
    let (a, b, c) = tokio::join!(
        current.append(at(3), vec![started("c")]),
        again.append(at(3), vec![started("d")]),
        other.append(at(3), vec![started("e")])
    );
    assert_eq!([a.is_ok(), b.is_ok(), c.is_ok()], [true, false, true]);
    assert_eq!(journal.records(&run).await.unwrap().len(), 3);
    assert!(journal.verify(None).await.unwrap().is_sound());
}

/// On a file system without locks two processes may write. The lock is taken away here to have the same.
#[tokio::test]
async fn without_a_lock_the_journal_itself_fences_off_the_stale_writer() {
    let room = Room::make();
    let stale = room.create().await;
    let (one, _) = stale.start(at(0), request("E1042")).await.unwrap();
    let (two, _) = stale.start(at(0), request("E1043")).await.unwrap();
    std::fs::remove_file(room.journal().join("journal.lock")).unwrap();
    let other = room.open().await.unwrap();
    append(&other.continue_run(one.run()).await.unwrap(), 1, started("a")).await;
    other.start(at(1), request("E1044")).await.unwrap();

    let (a, b) = tokio::join!(one.append(at(2), vec![started("b")]), two.append(at(2), vec![started("c")]));
    assert_eq!(a, Err(JournalError::Fenced { run: one.run().clone() }));
    assert_eq!(b.unwrap()[0].seq, 2, "a run that nobody else touched goes on");
    assert_eq!(stale.records(one.run()).await.unwrap().len(), 2);
    let found = other.verify(None).await.unwrap();
    assert_eq!((found.problems, found.records, found.runs), (vec![], 5, 3));
}

#[tokio::test]
async fn a_before_image_is_sealed_with_its_account_and_nothing_secret_reaches_the_disk() {
    let room = Room::make();
    let journal = room.create().await;
    let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let facts = serde_json::json!({ "hash": "TOP-SECRET-HASH-0123456789" });
    let record = append(&log, 1, found("jroe", facts.clone())).await;
    let Event::Found { account, facts: Some(id) } = &record.event else { panic!("{record:?}") };
    assert!(account.facts.is_null());
    assert_eq!(log.facts(id).await.unwrap(), facts);
    // An account without one has none sealed.
    let bare = append(&log, 2, found("other", serde_json::Value::Null)).await;
    assert!(matches!(bare.event, Event::Found { facts: None, .. }));

    let secret = SecretSlice::from(b"TOP-SECRET-VALUE-0123456789".to_vec());
    let id = log.seal("handed-over", &secret).await.unwrap();
    assert_eq!(log.unseal(&id).await.unwrap().unwrap().expose_secret(), secret.expose_secret());
    assert_eq!(log.seed().await.unwrap().expose_secret().len(), 32);
    let seed = log.seed().await.unwrap().expose_secret().to_vec();
    journal.close().await;
    for entry in std::fs::read_dir(room.journal()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!contains(&bytes, b"TOP-SECRET"));
        assert!(!contains(&bytes, &seed));
    }
}

#[tokio::test]
async fn seeds_differ_from_run_to_run_and_outlive_the_process() {
    let room = Room::make();
    let journal = room.create().await;
    let (one, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let (other, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let seed = one.seed().await.unwrap();
    assert_ne!(seed.expose_secret(), other.seed().await.unwrap().expose_secret());
    journal.close().await;
    let journal = room.open().await.unwrap();
    let again = journal.continue_run(one.run()).await.unwrap();
    assert_eq!(seed.expose_secret(), again.seed().await.unwrap().expose_secret());
}

#[tokio::test]
async fn a_destroyed_value_is_gone_from_the_file_and_its_end_is_on_record() {
    let room = Room::make();
    let journal = room.create().await;
    let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let id = log.seal("facts", &SecretSlice::from(vec![7; 9000])).await.unwrap();
    let ciphertext = ciphertext_of(&room, &id);
    assert!(on_disk(&room, &ciphertext));
    let record = log.destroy(at(1), &id).await.unwrap().unwrap();
    assert_eq!(record.event, Event::Destroyed { sealed: id.clone() });
    assert!(log.unseal(&id).await.unwrap().is_none());
    assert!(!on_disk(&room, &ciphertext), "a part of the destroyed value is still in the folder");
    // Done twice, it does nothing.
    assert_eq!(log.destroy(at(2), &id).await.unwrap(), None);
    log.destroy(at(2), &RunLog::seed_id()).await.unwrap().unwrap();
    assert!(matches!(log.seed().await, Err(JournalError::Tampered { .. })));
    assert!(journal.verify(None).await.unwrap().is_sound());
}

fn ciphertext_of(room: &Room, id: &SealedId) -> Vec<u8> {
    let output = std::process::Command::new("sqlite3")
        .arg(room.journal().join(FILE))
        .arg(format!("SELECT hex(value) FROM sealed WHERE id = '{}'", id.0))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let bytes: Vec<u8> = text
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    assert!(bytes.len() > 9000);
    bytes
}

fn on_disk(room: &Room, value: &[u8]) -> bool {
    std::fs::read_dir(room.journal()).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        // Pages split a long value: look for pieces of it.
        value.chunks_exact(64).any(|piece| contains(&bytes, piece))
    })
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

#[tokio::test]
async fn what_is_not_there_is_missing_and_what_is_there_is_not_replaced() {
    let room = Room::make();
    let keys = Keys::generate(&room.keys()).unwrap();
    let error = Journal::open(&room.journal(), keys).await.unwrap_err();
    assert_eq!(error, JournalError::Missing { folder: room.journal() });
    assert!(error.fault_hint().contains("offboard init"));
    assert!(!room.journal().exists());
    let journal = Journal::create(&room.journal(), load(&room.keys())).await.unwrap();
    journal.close().await;
    let again = Journal::create(&room.journal(), load(&room.keys())).await.unwrap_err();
    assert_eq!(again, JournalError::Exists { folder: room.journal() });
    let journal = room.open().await.unwrap();
    let run = RunId("0000".into());
    assert_eq!(journal.records(&run).await.unwrap_err(), JournalError::NoSuchRun { run: run.clone() });
    assert!(matches!(journal.continue_run(&run).await, Err(JournalError::NoSuchRun { .. })));
    assert_eq!(journal.runs().await.unwrap(), []);
    assert!(journal.verify(None).await.unwrap().is_sound());
}

#[tokio::test]
async fn files_are_for_their_owner_alone_and_an_exposed_folder_is_refused() {
    let room = Room::make();
    let journal = room.create().await;
    journal.start(at(0), request("E1042")).await.unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&room.journal()), 0o700);
    for entry in std::fs::read_dir(room.journal()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(mode(&room.keys()), 0o700);
    assert_eq!(mode(&room.keys().join("sealing.key")), 0o600);
    assert_eq!(mode(&room.keys().join("signing.key")), 0o600);
    journal.close().await;
    std::fs::set_permissions(room.journal(), PermissionsExt::from_mode(0o770)).unwrap();
    let error = room.open().await.unwrap_err();
    assert_eq!(error, JournalError::Exposed { path: room.journal(), mode: 0o770 });
    assert!(error.fault_hint().contains("chmod go-w"));
}

#[tokio::test]
async fn keys_are_never_overwritten_and_never_shown() {
    let room = Room::make();
    let keys = Keys::generate(&room.keys()).unwrap();
    let fault = Keys::generate(&room.keys()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Protected);
    let sealing = std::fs::read_to_string(room.keys().join("sealing.key")).unwrap();
    let signing = std::fs::read_to_string(room.keys().join("signing.key")).unwrap();
    let shown = format!("{keys:?}");
    assert!(!shown.contains(sealing.trim()) && !shown.contains(signing.lines().nth(1).unwrap()), "{shown}");
    let public = PublicKey::from_pem(&std::fs::read_to_string(room.keys().join("signing.pub")).unwrap()).unwrap();
    assert_eq!(public, load(&room.keys()).public());
    assert_eq!(public.fingerprint(), keys.fingerprint());
    for (name, text) in [("sealing.key", "aGVsbG8="), ("sealing.key", "c2VjcmV0!"), ("signing.key", "hello")] {
        let before = std::fs::read(room.keys().join(name)).unwrap();
        std::fs::write(room.keys().join(name), text).unwrap();
        let fault = Keys::load(&room.keys(), |path| Ok(std::fs::read(path).unwrap())).unwrap_err();
        assert!(fault.what.contains(name) && !fault.to_string().contains(text), "{fault}");
        std::fs::write(room.keys().join(name), before).unwrap();
    }
    let refused = offboard::model::Fault::new(FaultKind::Misconfigured, "may be read by others");
    assert_eq!(Keys::load(&room.keys(), |_| Err(refused.clone())).unwrap_err(), refused);
}

/// An auditor needs neither offboard nor its keys: `openssl` verifies a checkpoint, and prints the same fingerprint.
#[tokio::test]
async fn openssl_agrees() {
    let room = Room::make();
    let journal = room.create().await;
    journal.start(at(0), request("E1042")).await.unwrap();
    let fingerprint = journal.public_key().fingerprint();
    journal.close().await;
    let script = r#"
        set -eu
        sqlite3 "$J" "SELECT writefile('$W/body', body), writefile('$W/signature', signature) FROM checkpoint WHERE number = 1" >/dev/null
        { printf 'offboard checkpoint 1\n'; cat "$W/body"; } > "$W/message"
        openssl pkeyutl -verify -pubin -inkey "$K/signing.pub" -rawin -in "$W/message" -sigfile "$W/signature"
        openssl pkey -in "$K/signing.key" -noout
        openssl pkey -pubin -in "$K/signing.pub" -outform DER | sha256sum
        sha256sum < "$W/message"
    "#;
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .env("J", room.journal().join(FILE))
        .env("K", room.keys())
        .env("W", room.journal())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Signature Verified Successfully"), "{said}");
    assert!(said.contains(&fingerprint.0), "{said}");
    assert!(said.contains(&room.open().await.unwrap().head().await.unwrap().0), "{said}");
}

#[tokio::test]
async fn another_key_neither_opens_nor_verifies_it() {
    let room = Room::make();
    let journal = room.create().await;
    let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
    journal.close().await;
    let other = Room::make();
    let stranger = Keys::generate(&other.keys()).unwrap();
    let public = stranger.public();
    assert!(matches!(Journal::open(&room.journal(), stranger).await, Err(JournalError::OtherKey { .. })));
    let found = verify_with(&room.journal(), &public, None).await.unwrap();
    assert!(!found.is_sound());
    let reader = Journal::open_read_only(&room.journal(), public).await.unwrap();
    assert!(matches!(reader.records(log.run()).await, Err(JournalError::Tampered { .. })));
}
