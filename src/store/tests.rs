//! The store, on real files. What is counted here is what must never be done twice or lost.

use super::*;
use crate::model::{PersonId, RunId, SecretName};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn due(run: &str, kind: Kind, seconds: i64) -> Due {
    Due { subject: run.into(), kind, at: at(seconds) }
}

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    (folder, store)
}

#[tokio::test]
async fn what_is_due_is_claimed_once_in_order_and_by_kind() {
    let (folder, store) = store().await;
    for n in 0..50 {
        store.settle(&format!("R{n:03}"), &[due(&format!("R{n:03}"), Kind::Start, 100 - n)], None).await.unwrap();
    }
    store.settle("LOOK", &[due("LOOK", Kind::Look, 0)], None).await.unwrap();
    assert_eq!(store.waiting().await.unwrap().due, [(Kind::Start, at(51)), (Kind::Look, at(0))].into());
    assert!(store.claim(&[Kind::Start], at(50), 10).await.unwrap().is_empty(), "nothing is early");
    // Several claim at the same time, on connections of their own.
    let other = Store::open(folder.path()).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..5 {
        let now = at(200);
        let (a, b) = tokio::join!(store.claim(&[Kind::Start], now, 7), other.claim(&[Kind::Start], now, 7));
        all.extend(a.unwrap());
        all.extend(b.unwrap());
    }
    assert_eq!(all.len(), 50);
    let mut names: Vec<_> = all.iter().map(|c| c.due.subject.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 50, "a claim was made twice");
    assert!(all.iter().all(|c| c.attempt == 1 && c.due.kind == Kind::Start));
    assert_eq!(store.claim(&Kind::ALL, at(200), 10).await.unwrap().len(), 1, "the look is left");
}

#[tokio::test]
async fn settling_moves_deletes_and_leaves_alone_what_is_claimed() {
    let (_folder, store) = store().await;
    store.settle("A", &[due("A", Kind::Start, 10), due("A", Kind::Prepare, 5)], None).await.unwrap();
    store.settle("A", &[due("A", Kind::Start, 20)], None).await.unwrap();
    assert_eq!(store.due_of(Kind::Start).await.unwrap(), [due("A", Kind::Start, 20)]);
    assert_eq!(store.due_of(Kind::Prepare).await.unwrap(), []);
    let claims = store.claim(&[Kind::Start], at(20), 10).await.unwrap();
    // Somebody moves it, or cancels it, in the very second: the claim stands until its worker has looked.
    store.settle("A", &[due("A", Kind::Start, 99)], None).await.unwrap();
    store.settle("A", &[], None).await.unwrap();
    assert_eq!(store.due_of(Kind::Start).await.unwrap(), [due("A", Kind::Start, 20)]);
    store.settle("A", &[due("A", Kind::Start, 99)], Some(Kind::Start)).await.unwrap();
    assert_eq!(store.due_of(Kind::Start).await.unwrap(), [due("A", Kind::Start, 99)]);
    assert_eq!(claims.len(), 1);
    assert_eq!(store.waiting().await.unwrap().due, [(Kind::Start, at(99))].into());
}

#[tokio::test]
async fn what_fails_is_put_off_and_keeps_its_count() {
    let (_folder, store) = store().await;
    store.settle("A", &[due("A", Kind::Retry, 0)], None).await.unwrap();
    for attempt in 1..=3 {
        let now = at(i64::from(attempt) * 100);
        let claim = store.claim(&[Kind::Retry], now, 1).await.unwrap().pop().unwrap();
        assert_eq!(claim.attempt, attempt);
        store.put_off(&claim, at(i64::from(attempt + 1) * 100)).await.unwrap();
        assert!(store.claim(&[Kind::Retry], now, 1).await.unwrap().is_empty());
        // What the journal says has not changed: the pause holds.
        store.settle("A", &[due("A", Kind::Retry, 0)], None).await.unwrap();
        assert!(store.claim(&[Kind::Retry], now, 1).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_was_put_off_is_due_when_the_journal_says_another_hour() {
    let (_folder, store) = store().await;
    store.settle("A", &[due("A", Kind::Start, 10)], None).await.unwrap();
    let claim = store.claim(&[Kind::Start], at(10), 1).await.unwrap().pop().unwrap();
    store.put_off(&claim, at(3600)).await.unwrap();
    // Somebody moves it, to an hour that comes sooner than the next try, or later.
    store.settle("A", &[due("A", Kind::Start, 20)], None).await.unwrap();
    let claim = store.claim(&[Kind::Start], at(20), 1).await.unwrap().pop().unwrap();
    assert_eq!(claim, Claim { due: due("A", Kind::Start, 20), attempt: 1 });
    store.put_off(&claim, at(30)).await.unwrap();
    store.settle("A", &[due("A", Kind::Start, 7200)], None).await.unwrap();
    assert!(store.claim(&[Kind::Start], at(7199), 1).await.unwrap().is_empty());
    // Moved while it is in somebody's hands: then when it is put off, and settled, as every worker does.
    let claim = store.claim(&[Kind::Start], at(7200), 1).await.unwrap().pop().unwrap();
    store.settle("A", &[due("A", Kind::Start, 8000)], None).await.unwrap();
    store.put_off(&claim, at(9000)).await.unwrap();
    store.settle("A", &[due("A", Kind::Start, 8000)], None).await.unwrap();
    assert_eq!(store.claim(&[Kind::Start], at(8000), 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_from_before_hours_were_kept_goes_on() {
    let (folder, store) = store().await;
    store.settle("A", &[due("A", Kind::Start, 10)], None).await.unwrap();
    sqlx::query("ALTER TABLE due DROP COLUMN hour").execute(&store.writing).await.unwrap();
    store.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.due_of(Kind::Start).await.unwrap(), [due("A", Kind::Start, 10)]);
    store.settle("A", &[due("A", Kind::Start, 20)], None).await.unwrap();
    assert_eq!(store.due_of(Kind::Start).await.unwrap(), [due("A", Kind::Start, 20)]);
}

#[tokio::test]
async fn a_store_from_before_rotations_were_kept_reads_every_run_again() {
    let (folder, store) = store().await;
    let known = Known {
        run: RunId("7F3K".into()),
        records: 3,
        person: PersonId("e1042".into()),
        phase: Phase::Begun,
        by_roster: false,
        ends: None,
        due: None,
        started: Some(at(5)),
        rotated: vec![(SecretName("portal".into()), Some(at(6))), (SecretName("other".into()), None)],
    };
    store.learn(&[(known.clone(), vec![])], None).await.unwrap();
    assert_eq!(store.rotations().await.unwrap(), [known]);
    sqlx::query("ALTER TABLE known DROP COLUMN rotated").execute(&store.writing).await.unwrap();
    store.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.known_lengths().await.unwrap()[&RunId("7F3K".into())], 0);
    assert_eq!(store.rotations().await.unwrap(), []);
}

#[tokio::test]
async fn only_what_is_made_again_may_be_lost_with_the_power() {
    let (_folder, store) = store().await;
    let synced =
        async |tx: &mut SqliteConnection| sqlx::query_scalar::<_, i64>("PRAGMA synchronous").fetch_one(tx).await;
    for (keep, expected) in [(Keep::Synced, 2), (Keep::Remade, 1), (Keep::Synced, 2)] {
        assert_eq!(store.change(keep, synced).await.unwrap(), expected, "{keep:?}");
    }
}

#[tokio::test]
async fn a_dead_servers_claims_are_free_again() {
    let (folder, store) = store().await;
    store.settle("A", &[due("A", Kind::Start, 0)], None).await.unwrap();
    assert_eq!(store.claim(&Kind::ALL, at(0), 9).await.unwrap().len(), 1);
    store.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    assert!(store.claim(&Kind::ALL, at(0), 9).await.unwrap().is_empty());
    assert_eq!(store.free_claims().await.unwrap(), 1);
    assert_eq!(store.claim(&Kind::ALL, at(0), 9).await.unwrap()[0].attempt, 2);
    assert_eq!(store.overdue(at(60), &["A".into()]).await.unwrap(), 0, "what is being done is not overdue");
    assert_eq!(store.overdue(at(60), &["B".into()]).await.unwrap(), 1, "what was claimed and is not being done is");
    assert_eq!(store.overdue(at(0), &[]).await.unwrap(), 0, "not before its hour");
}

#[tokio::test]
async fn an_order_is_carried_out_once_or_taken_back() {
    let (_folder, store) = store().await;
    let first = store.put("one", at(0)).await.unwrap();
    let second = store.put("two", at(1)).await.unwrap();
    assert_eq!(store.order(first).await.unwrap(), Some(Standing::Ready));
    assert!(store.withdraw(second).await.unwrap());
    let claimed = store.claim_orders().await.unwrap();
    assert_eq!(claimed.iter().map(|o| o.body.as_str()).collect::<Vec<_>>(), ["one"]);
    assert!(!store.withdraw(first).await.unwrap(), "it is being carried out");
    assert!(store.claim_orders().await.unwrap().is_empty());
    store.works_on(first, &RunId("7F3K".into())).await.unwrap();
    assert_eq!(store.order(first).await.unwrap(), Some(Standing::Claimed(Some(RunId("7F3K".into())))));
    // The server dies: the next one knows on which run it was.
    assert_eq!(store.tidy_orders(at(1000)).await.unwrap(), 0);
    assert_eq!(store.claim_orders().await.unwrap()[0].run, Some(RunId("7F3K".into())));
    store.answer(first, "done").await.unwrap();
    assert_eq!(store.order(first).await.unwrap(), Some(Standing::Answered("done".into())));
    // An old order that nobody took is dropped: whoever put it is long gone.
    let old = store.put("old", at(2)).await.unwrap();
    assert_eq!(store.tidy_orders(at(1000)).await.unwrap(), 1);
    assert_eq!(store.order(old).await.unwrap(), None);
}

#[tokio::test]
async fn runs_are_known_by_person_without_regard_to_case() {
    let (_folder, store) = store().await;
    let known = Known {
        run: RunId("7F3K".into()),
        records: 3,
        person: PersonId("E1042".into()),
        phase: Phase::Waiting,
        by_roster: true,
        ends: Some(at(5)),
        due: None,
        started: None,
        rotated: vec![(SecretName("portal".into()), None)],
    };
    store.learn(&[(known.clone(), vec![])], None).await.unwrap();
    let withdrawn = Known { records: 4, phase: Phase::Withdrawn, ..known.clone() };
    store.learn(&[(withdrawn, vec![])], None).await.unwrap();
    let found = store.runs_of(&PersonId("e1042".into())).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].records, found[0].phase, found[0].ends), (4, Phase::Withdrawn, Some(at(5))));
    assert_eq!(store.known_lengths().await.unwrap()[&known.run], 4);
}

#[tokio::test]
async fn who_worked_here_is_remembered_until_their_run_is_on_record() {
    let (_folder, store) = store().await;
    let ids = |names: &[&str]| names.iter().map(|n| PersonId((*n).into())).collect::<Vec<_>>();
    assert!(store.employed(&ids(&["E1", "E2"])).await.unwrap().is_empty(), "the first time nobody is known");
    assert_eq!(store.employed(&ids(&["E1"])).await.unwrap(), ids(&["e1", "e2"]));
    store.has_left(&PersonId("E2".into())).await.unwrap();
    assert_eq!(store.employed(&ids(&["E1"])).await.unwrap(), ids(&["e1"]));
}
