//! A journal from before sealing keys had names: its values open, beside new ones, and a rotation seals them anew.

use super::*;
use crate::journal::Journal;
use crate::journal::writer::{Message, Request, Standing};
use crate::model::{PersonId, RunRequest};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretSlice};
use std::sync::{Arc, Mutex};

/// As the first format of a sealed value was: a nonce and the ciphertext, bound to run and name.
fn sealed_before(key: &[u8; 32], run: &RunId, id: &SealedId, plaintext: &[u8]) -> Vec<u8> {
    let mut bound_to = b"offboard sealed value 1\n".to_vec();
    for part in [&run.0, &id.0] {
        bound_to.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bound_to.extend_from_slice(part.as_bytes());
    }
    let nonce = [9; 24];
    let payload = Payload { msg: plaintext, aad: &bound_to };
    let ciphertext = XChaCha20Poly1305::new(&Key::from(*key)).encrypt(&XNonce::from(nonce), payload).unwrap();
    [&nonce[..], &ciphertext].concat()
}

fn request() -> RunRequest {
    serde_json::from_value(serde_json::json!({
        "person": { "id": PersonId("E1042".into()), "name": "Jane Roe", "status": "terminated", "keys": [] },
        "playbook": "p", "playbook_body": {}, "requested_by": { "name": "ops", "asserted_by": "operating system" },
        "requested_at": "2026-01-01T00:00:00Z", "inputs": [], "places": [], "limits": [], "version": "0.0.0",
    }))
    .unwrap()
}

#[tokio::test]
async fn values_from_before_keys_had_names_open_and_are_sealed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (journal_folder, keys_folder) = (folder.path().join("journal"), folder.path().join("keys"));
    let read = |path: &Path| Ok(std::fs::read(path).unwrap());
    let folder_of_keys = KeyFolder { path: &keys_folder, read: &read, keeper: None };
    let keys = Keys::generate(&keys_folder).unwrap();
    let old_key = *keys.sealing().bytes();
    let journal = Journal::create(&journal_folder, keys).await.unwrap();
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let (log, _) = journal.start(now, request()).await.unwrap();
    let run = log.run().clone();
    let id = SealedId("facts-0000000000000001".into());
    let (_, head) = journal.read(&run).await.unwrap();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let before = Request {
        standing: Arc::new(Standing { run: run.clone(), head: Mutex::new(Some(head)) }),
        events: Vec::new(),
        sealed: vec![(id.clone(), sealed_before(&old_key, &run, &id, b"hunter2"))],
        destroy: None,
        answer,
    };
    journal.inner.writer().unwrap().send(Message::Append(Box::new(before))).await.unwrap();
    answered.await.unwrap().unwrap();
    let new = log.seal("facts", &SecretSlice::from(b"new".to_vec())).await.unwrap();
    journal.close().await;
    assert_eq!(crate::journal::seal_status(&journal_folder).await.unwrap().unnamed, 1);

    for rotations in 0..3 {
        let journal = Journal::open(&journal_folder, Keys::load(&keys_folder, read).unwrap()).await.unwrap();
        let log = journal.continue_run(&run).await.unwrap();
        for (id, value) in [(&id, &b"hunter2"[..]), (&new, b"new")] {
            assert_eq!(log.unseal(id).await.unwrap().unwrap().expose_secret(), value, "after {rotations}");
        }
        assert!(journal.verify(None).await.unwrap().is_sound());
        journal.close().await;
        rotate_sealing_key(&journal_folder, &folder_of_keys, now, "ops").await.unwrap();
        assert_eq!(crate::journal::seal_status(&journal_folder).await.unwrap().unnamed, 0);
    }
}
