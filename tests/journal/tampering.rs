//! A journal that was tampered with, by somebody who may write the file but has no signing key: `verify` sees every change, and
//! says what was done in the right words.

use crate::{Room, append, at, found, request, started};
use offboard::journal::{FILE, Journal, JournalError, Problem, PublicKey, Verification, verify_with};
use offboard::model::{Digest, Event, RunId, SealedId};
use proptest::prelude::*;
use secrecy::SecretSlice;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A finished journal that tests copy and then tamper with: two runs side by side, single and shared commits, sealed and
/// destroyed values.
struct Original {
    room: Room,
    key: PublicKey,
    runs: [RunId; 2],
    /// A sealed value of the first run, and one that was destroyed.
    kept: SealedId,
    destroyed: SealedId,
    /// The head half way through.
    earlier: Digest,
    sound: Verification,
}

static ORIGINAL: LazyLock<Original> = LazyLock::new(|| {
    // Its own thread: the test that comes first is in a runtime already.
    let made = std::thread::spawn(|| runtime().block_on(make()));
    made.join().expect("the journal that tests tamper with")
});

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn make() -> Original {
    let room = Room::make();
    let journal = room.create().await;
    let (one, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let (two, _) = journal.start(at(0), request("E1043")).await.unwrap();
    let record = append(&one, 1, found("jroe", serde_json::json!({ "shell": "/bin/bash" }))).await;
    let Event::Found { facts: Some(kept), .. } = record.event else { panic!("{record:?}") };
    let destroyed = two.seal("facts", &SecretSlice::from(vec![1; 100])).await.unwrap();
    let earlier = journal.head().await.unwrap();
    let steps: Vec<Event> = (0..4).map(|n| started(&format!("{n:08x}"))).collect();
    one.append(at(2), steps.clone()).await.unwrap();
    two.append(at(3), steps).await.unwrap();
    two.destroy(at(4), &destroyed).await.unwrap().unwrap();
    append(&one, 5, started("aaaaaaaa")).await;
    append(&two, 6, started("bbbbbbbb")).await;
    let key = journal.public_key().clone();
    journal.close().await;
    let sound = verify_with(&room.journal(), &key, Some(&earlier)).await.unwrap();
    assert_eq!(sound.problems, []);
    // Record numbers: 1 requested, 2 found, 3–6 steps in one commit, 7 a step; and 1, 2–5, 6 destroyed, 7.
    assert_eq!((sound.records, sound.runs), (14, 2));
    Original { room, key, runs: [one.run().clone(), two.run().clone()], kept, destroyed, earlier, sound }
}

/// A copy that may be tampered with.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(ORIGINAL.room.journal().join(FILE), folder.path().join(FILE)).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn connect(&self) -> SqliteConnection {
        connect(self.path().join(FILE)).await
    }

    async fn with(sql: &[&str]) -> Self {
        let copy = Self::new();
        copy.sql(sql).await;
        copy
    }

    async fn sql(&self, sql: &[&str]) {
        let mut connection = self.connect().await;
        for statement in sql {
            // `{1}` and `{2}` are the two runs.
            let [one, two] = &ORIGINAL.runs;
            let statement = statement.replace("{1}", &one.0).replace("{2}", &two.0);
            let done = connection.execute(AssertSqlSafe(statement.clone())).await;
            let done = done.unwrap_or_else(|e| panic!("{statement}: {e}"));
            let writes = !statement.starts_with("CREATE") && !statement.starts_with("PRAGMA");
            assert!(!writes || done.rows_affected() > 0, "{statement} changed nothing");
        }
        connection.close().await.unwrap();
    }

    async fn problems(&self) -> Vec<Problem> {
        verify_with(self.path(), &ORIGINAL.key, None).await.unwrap().problems
    }
}

async fn connect(file: PathBuf) -> SqliteConnection {
    SqliteConnectOptions::new().filename(file).connect().await.unwrap()
}

fn one() -> RunId {
    ORIGINAL.runs[0].clone()
}

fn two() -> RunId {
    ORIGINAL.runs[1].clone()
}

async fn expect(sql: &[&str], problems: &[Problem]) {
    let copy = Copy::with(sql).await;
    assert_eq!(copy.problems().await, problems, "after {sql:?}");
}

#[tokio::test]
async fn a_changed_record_is_named() {
    for (sql, seq) in [
        ("UPDATE record SET body = replace(body, 'Jane', 'John') WHERE run = '{1}' AND seq = 1", 1),
        ("UPDATE record SET body = body || ' ' WHERE run = '{1}' AND seq = 4", 4),
        ("UPDATE record SET hash = zeroblob(32) WHERE run = '{1}' AND seq = 5", 5),
        ("UPDATE record SET hash = x'00' WHERE run = '{1}' AND seq = 6", 6),
        ("UPDATE record SET hash = zeroblob(32) WHERE run = '{1}' AND seq = 6", 6),
        ("UPDATE record SET body = '' WHERE run = '{1}' AND seq = 7", 7),
    ] {
        expect(&[sql], &[Problem::RecordChanged { run: one(), seq }]).await;
    }
}

#[tokio::test]
async fn removed_records_are_named_as_such_and_a_cut_tail_as_such() {
    let removed = |from, to| Problem::RecordsRemoved { run: one(), from, to };
    expect(&["DELETE FROM record WHERE run = '{1}' AND seq = 1"], &[removed(1, 1)]).await;
    expect(&["DELETE FROM record WHERE run = '{1}' AND seq IN (3, 4)"], &[removed(3, 4)]).await;
    expect(&["DELETE FROM record WHERE run = '{1}' AND seq IN (2, 6)"], &[removed(2, 2), removed(6, 6)]).await;
    let cut = |from, to| Problem::TailCut { run: one(), from, to };
    expect(&["DELETE FROM record WHERE run = '{1}' AND seq = 7"], &[cut(7, 7)]).await;
    expect(&["DELETE FROM record WHERE run = '{1}' AND seq >= 3"], &[cut(3, 7)]).await;
    expect(&["DELETE FROM record WHERE run = '{1}'"], &[Problem::RunMissing { run: one(), records: 7 }]).await;
}

#[tokio::test]
async fn reordered_and_copied_records_are_named_as_such() {
    let moved = |seq, from_run: RunId, from_seq| Problem::RecordMoved { run: one(), seq, from_run, from_seq };
    let swap = [
        "UPDATE record SET seq = 99 WHERE run = '{1}' AND seq = 3",
        "UPDATE record SET seq = 3 WHERE run = '{1}' AND seq = 4",
        "UPDATE record SET seq = 4 WHERE run = '{1}' AND seq = 99",
    ];
    expect(&swap, &[moved(3, one(), 4), moved(4, one(), 3)]).await;
    let other = [
        "DELETE FROM record WHERE run = '{1}' AND seq = 5",
        "INSERT INTO record SELECT '{1}', 5, body, hash FROM record WHERE run = '{2}' AND seq = 4",
    ];
    expect(&other, &[moved(5, two(), 4)]).await;
}

#[tokio::test]
async fn inserted_records_are_named_as_such() {
    let inserted = |run: &str, seq| Problem::RecordInserted { run: RunId(run.into()), seq };
    let [one, _] = &ORIGINAL.runs;
    expect(
        &["INSERT INTO record SELECT run, 8, replace(body, '\"seq\":7', '\"seq\":8'), hash FROM record WHERE run = '{1}' AND seq = 7"],
        &[inserted(&one.0, 8)],
    )
    .await;
    expect(
        &["INSERT INTO record SELECT 'ZZZZ', seq, body, hash FROM record WHERE run = '{1}' AND seq = 1"],
        &[inserted("ZZZZ", 1)],
    )
    .await;
    expect(
        &["INSERT INTO record SELECT run, -1, body, hash FROM record WHERE run = '{1}' AND seq = 1"],
        &[inserted(&one.0, u64::MAX)],
    )
    .await;
}

/// Whoever can write the file can also compute hashes anew; only the signing key is out of reach.
#[tokio::test]
async fn records_with_new_hashes_are_named_as_rewritten() {
    let copy = Copy::new();
    rewrite(&copy, 4, "00000001", "deadbeef").await;
    let rewritten = |from, to| Problem::RecordsRewritten { run: one(), from, to };
    // The commit of 3 to 6 and everything after it.
    assert_eq!(copy.problems().await, [rewritten(3, 6), rewritten(7, 7)]);
    let journal = Journal::open_read_only(copy.path(), ORIGINAL.key.clone()).await.unwrap();
    let error = journal.records(&one()).await.unwrap_err();
    assert!(matches!(error, JournalError::Tampered { .. }), "{error}");
    assert!(journal.records(&two()).await.is_ok(), "the other run is as it was");
}

/// Changes record `seq` of the first run and makes all hashes after it agree.
async fn rewrite(copy: &Copy, seq: i64, from: &str, to: &str) {
    use sha2::{Digest as _, Sha256};
    let mut connection = copy.connect().await;
    let rows = sqlx::query("SELECT seq, body, hash FROM record WHERE run = $1 ORDER BY seq")
        .bind(&one().0)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let mut previous = vec![0; 32];
    for row in rows {
        let (number, mut body, hash): (i64, String, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
        if number == seq {
            assert!(body.contains(from), "{body}");
            body = body.replace(from, to);
        }
        let mut new = Sha256::new();
        new.update(b"offboard record 1\n");
        new.update(&previous);
        new.update(&body);
        previous = new.finalize().to_vec();
        assert!(number >= seq || previous == hash, "the format is the documented one");
        sqlx::query("UPDATE record SET body = $1, hash = $2 WHERE run = $3 AND seq = $4")
            .bind(&body)
            .bind(&previous)
            .bind(&one().0)
            .bind(number)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn checkpoints_are_checked_one_by_one() {
    let forged = |number| Problem::CheckpointForged { number };
    let last = i64::try_from(ORIGINAL.sound.checkpoints).unwrap() - 1;
    expect(&["UPDATE checkpoint SET signature = zeroblob(64) WHERE number = 5"], &[forged(5)]).await;
    expect(&["UPDATE checkpoint SET body = replace(body, '\"seq\":6', '\"seq\":5') WHERE number = 5"], &[forged(5)])
        .await;
    expect(
        &[&format!("INSERT INTO checkpoint SELECT {}, body, signature FROM checkpoint WHERE number = 2", last + 1)],
        &[Problem::CheckpointMoved { number: last + 1, is: 2 }],
    )
    .await;
    expect(&["DELETE FROM checkpoint WHERE number = 0"], &[Problem::CheckpointsRemoved { from: 0, to: 0 }]).await;
    expect(&["DELETE FROM checkpoint WHERE number IN (5, 6)"], &[Problem::CheckpointsRemoved { from: 5, to: 6 }]).await;
    let (from, to) = (ORIGINAL.sound.checkpoints - 2, ORIGINAL.sound.checkpoints - 1);
    expect(&[&format!("DELETE FROM checkpoint WHERE number >= {from}")], &[Problem::CheckpointsCut { from, to }]).await;
    let none = Copy::with(&["DELETE FROM checkpoint"]).await.problems().await;
    assert_eq!(none[0], Problem::CheckpointsRemoved { from: 0, to: 0 });
}

/// Two copies that went on apart, with the very same keys, cannot be put together.
#[tokio::test]
async fn two_histories_cannot_be_mixed() {
    let copies = [Copy::new(), Copy::new()];
    for (n, copy) in copies.iter().enumerate() {
        let journal = Journal::open(copy.path(), crate::load(&ORIGINAL.room.keys())).await.unwrap();
        let log = journal.continue_run(&two()).await.unwrap();
        append(&log, 10, started(&format!("{n:08x}"))).await;
        let log = journal.continue_run(&one()).await.unwrap();
        append(&log, 11, started(&format!("{n:08x}"))).await;
        journal.close().await;
        assert_eq!(copy.problems().await, []);
    }
    let (first, second) = (ORIGINAL.sound.checkpoints, ORIGINAL.sound.checkpoints + 1);
    let other = copies[1].path().join(FILE);
    copies[0]
        .sql(&[
            &format!("ATTACH '{}' AS other", other.display()).replace("ATTACH", "PRAGMA user_version; ATTACH"),
            &format!("DELETE FROM checkpoint WHERE number = {second}"),
            &format!("INSERT INTO checkpoint SELECT * FROM other.checkpoint WHERE number = {second}"),
            "DELETE FROM record WHERE run = '{1}' AND seq = 8",
            "INSERT INTO record SELECT * FROM other.record WHERE run = '{1}' AND seq = 8",
        ])
        .await;
    assert_eq!(copies[0].problems().await, [Problem::CheckpointMixed { number: first + 1 }]);
}

#[tokio::test]
async fn a_rollback_of_everything_shows_against_a_head_that_was_kept() {
    let copy = Copy::new();
    let journal = Journal::open(copy.path(), crate::load(&ORIGINAL.room.keys())).await.unwrap();
    let log = journal.continue_run(&one()).await.unwrap();
    append(&log, 20, started("cccccccc")).await;
    let kept = journal.head().await.unwrap();
    journal.close().await;
    let found = verify_with(copy.path(), &ORIGINAL.key, Some(&kept)).await.unwrap();
    assert!(found.is_sound() && found.head == Some(kept.clone()));
    // An earlier head is contained as well; and the earlier journal verifies, but does not contain the later head.
    assert!(verify_with(copy.path(), &ORIGINAL.key, Some(&ORIGINAL.earlier)).await.unwrap().is_sound());
    let rolled_back = verify_with(&ORIGINAL.room.journal(), &ORIGINAL.key, Some(&kept)).await.unwrap();
    assert_eq!(rolled_back.problems, [Problem::RolledBack { head: kept.clone() }]);
    // Another journal with the same keys.
    let other = Room::make();
    Journal::create(&other.journal(), crate::load(&ORIGINAL.room.keys())).await.unwrap().close().await;
    let another = verify_with(&other.journal(), &ORIGINAL.key, Some(&kept)).await.unwrap();
    assert_eq!(another.problems, [Problem::RolledBack { head: kept }]);
}

#[tokio::test]
async fn sealed_values_are_covered_too() {
    let kept = || ORIGINAL.kept.clone();
    let of_kept = format!("run = '{{1}}' AND id = '{}'", ORIGINAL.kept.0);
    let changed = Problem::SealedChanged { run: one(), id: kept() };
    expect(&[&format!("UPDATE sealed SET value = zeroblob(60) WHERE {of_kept}")], std::slice::from_ref(&changed)).await;
    let removed = Problem::SealedRemoved { run: one(), id: kept() };
    expect(&[&format!("DELETE FROM sealed WHERE {of_kept}")], &[removed]).await;
    let inserted = Problem::SealedInserted { run: two(), id: kept() };
    expect(&[&format!("INSERT INTO sealed SELECT '{{2}}', id, value FROM sealed WHERE {of_kept}")], &[inserted]).await;
    let returned = Problem::SealedReturned { run: two(), id: ORIGINAL.destroyed.clone() };
    let insert = format!("INSERT INTO sealed VALUES ('{{2}}', '{}', x'00')", ORIGINAL.destroyed.0);
    expect(&[&insert], &[returned]).await;
    // A swapped value does not open, even before anybody verifies.
    let swap = format!(
        "UPDATE sealed SET value = (SELECT value FROM sealed WHERE run = '{{2}}' AND id = 'seed') WHERE {of_kept}"
    );
    let copy = Copy::with(&[&swap]).await;
    assert_eq!(copy.problems().await, [changed]);
    let journal = Journal::open(copy.path(), crate::load(&ORIGINAL.room.keys())).await.unwrap();
    let log = journal.continue_run(&one()).await.unwrap();
    assert!(matches!(log.unseal(&kept()).await, Err(JournalError::Tampered { .. })));
    assert!(log.seed().await.is_ok());
}

/// Values whose names are as long as each other's, of one run and of two, do not open in each other's place.
#[tokio::test]
async fn swapped_values_do_not_open() {
    let room = Room::make();
    let journal = room.create().await;
    let (one, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let (two, _) = journal.start(at(0), request("E1043")).await.unwrap();
    let a = one.seal("facts", &SecretSlice::from(vec![1; 32])).await.unwrap();
    let b = one.seal("facts", &SecretSlice::from(vec![2; 32])).await.unwrap();
    let mut connection = connect(room.journal().join(FILE)).await;
    for (run, id, of) in
        [(one.run(), &a.0, (one.run(), &b.0)), (one.run(), &"seed".to_string(), (two.run(), &"seed".into()))]
    {
        sqlx::query("UPDATE sealed SET value = (SELECT value FROM sealed WHERE run = $3 AND id = $4) WHERE run = $1 AND id = $2")
            .bind(&run.0)
            .bind(id)
            .bind(&of.0.0)
            .bind(of.1)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    assert!(matches!(one.unseal(&a).await, Err(JournalError::Tampered { .. })));
    assert!(matches!(one.seed().await, Err(JournalError::Tampered { .. })));
    assert!(one.unseal(&b).await.unwrap().is_some() && two.seed().await.is_ok());
}

/// The file is put back to an earlier state while a writer has it open: its next append does not leave a hole in the checkpoints.
#[tokio::test]
async fn a_writer_does_not_go_on_where_its_last_commit_is_gone() {
    let room = Room::make();
    let journal = room.create().await;
    let (log, _) = journal.start(at(0), request("E1042")).await.unwrap();
    append(&log, 1, started("a")).await;
    let mut connection = connect(room.journal().join(FILE)).await;
    for statement in ["DELETE FROM record WHERE seq = 2", "DELETE FROM checkpoint WHERE number = 2"] {
        connection.execute(statement).await.unwrap();
    }
    let error = log.append(at(2), vec![started("b")]).await.unwrap_err();
    assert_eq!(error, JournalError::Fenced { run: log.run().clone() });
    let (_, other) = journal.start(at(3), request("E1043")).await.unwrap();
    assert_eq!(other.seq, 1);
    assert_eq!(journal.verify(None).await.unwrap().problems, []);
}

#[tokio::test]
async fn a_trigger_is_found_before_it_can_act() {
    let trigger = "CREATE TRIGGER quiet AFTER INSERT ON record BEGIN DELETE FROM record WHERE seq = new.seq; END";
    let copy = Copy::with(&[trigger]).await;
    assert_eq!(copy.problems().await, [Problem::OtherTables]);
    let opened = Journal::open(copy.path(), crate::load(&ORIGINAL.room.keys())).await;
    assert!(matches!(opened, Err(JournalError::Tampered { .. })));
}

#[tokio::test]
async fn a_tampered_run_is_neither_read_nor_continued() {
    for sql in [
        "UPDATE record SET body = replace(body, 'Jane', 'John') WHERE run = '{1}' AND seq = 1",
        "DELETE FROM record WHERE run = '{1}' AND seq = 3",
        "DELETE FROM record WHERE run = '{1}' AND seq = 6",
        "DELETE FROM record WHERE run = '{1}' AND seq BETWEEN 6 AND 7",
        "UPDATE checkpoint SET signature = zeroblob(64) WHERE number = 8",
        "DELETE FROM record WHERE run = '{1}' AND seq = 7",
    ] {
        let copy = Copy::with(&[sql]).await;
        let journal = Journal::open(copy.path(), crate::load(&ORIGINAL.room.keys())).await.unwrap();
        let error = journal.records(&one()).await.unwrap_err();
        assert!(matches!(error, JournalError::Tampered { .. }), "{sql}: {error}");
        assert_eq!(journal.continue_run(&one()).await.unwrap_err(), error);
        assert!(error.fault_hint().contains("offboard journal verify"));
    }
}

/// What an open journal remembers of the ends of runs is never taken from a checkpoint that was tampered with, nor taken back by one.
#[tokio::test]
async fn a_cut_tail_is_found_whatever_was_done_to_the_checkpoints() {
    let cut = "DELETE FROM record WHERE run = '{1}' AND seq = 7";
    let forget = "UPDATE checkpoint SET body = replace(body, '{1}', 'ZZZZ') WHERE number = 8";
    let remember = "UPDATE checkpoint SET body = replace(body, 'ZZZZ', '{1}') WHERE number = 8";
    for (before, after) in [
        // All was well when it was read.
        (vec![], vec![cut]),
        (vec![], vec![cut, forget]),
        // What it could have learned was wrong then; now the checkpoint says the truth again.
        (vec![forget], vec![cut, remember]),
        (vec!["UPDATE checkpoint SET number = 1000 WHERE number = 9"], vec![cut]),
        (vec!["INSERT INTO checkpoint SELECT number + 1, body, signature FROM checkpoint WHERE number = 9"], vec![cut]),
        (vec!["DELETE FROM checkpoint WHERE number = 4"], vec![cut]),
    ] {
        let copy = Copy::with(&before).await;
        let journal = Journal::open_read_only(copy.path(), ORIGINAL.key.clone()).await.unwrap();
        for run in &ORIGINAL.runs {
            let _ = journal.records(run).await;
        }
        copy.sql(&after).await;
        let read = journal.records(&one()).await;
        assert!(matches!(read, Err(JournalError::Tampered { .. })), "{before:?} {after:?}: {read:?}");
    }
}

/// A last checkpoint that was replaced by another one that is signed, too, is not taken for the one that was read.
#[tokio::test]
async fn a_history_that_was_exchanged_is_read_anew() {
    let room = Room::make();
    let journal = room.create().await;
    let (one, _) = journal.start(at(0), request("E1042")).await.unwrap();
    let (two, _) = journal.start(at(0), request("E1043")).await.unwrap();
    let mut connection = connect(room.journal().join(FILE)).await;
    append(&one, 1, started("a")).await;
    assert_eq!(journal.records(one.run()).await.unwrap().len(), 2);
    for statement in ["DELETE FROM record WHERE seq = 2", "DELETE FROM checkpoint WHERE number = 3"] {
        connection.execute(statement).await.unwrap();
    }
    append(&two, 2, started("b")).await;
    assert_eq!(journal.records(two.run()).await.unwrap().len(), 2);
    connection.execute("DELETE FROM record WHERE seq = 2").await.unwrap();
    for run in [one.run(), two.run()] {
        assert!(matches!(journal.records(run).await, Err(JournalError::Tampered { .. })) == (run == two.run()));
    }
}

#[tokio::test]
async fn problems_are_said_in_whole_words() {
    let said: Vec<String> = [
        Problem::RecordChanged { run: RunId("7F3K".into()), seq: 3 },
        Problem::RecordsRemoved { run: RunId("7F3K".into()), from: 3, to: 3 },
        Problem::RecordsRemoved { run: RunId("7F3K".into()), from: 3, to: 5 },
        Problem::TailCut { run: RunId("7F3K".into()), from: 6, to: 7 },
        Problem::RecordsRewritten { run: RunId("7F3K".into()), from: 6, to: 6 },
        Problem::CheckpointsCut { from: 8, to: 9 },
        Problem::SealedRemoved { run: RunId("7F3K".into()), id: SealedId("seed".into()) },
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    assert_eq!(
        said,
        [
            "run 7F3K: record 3 was changed",
            "run 7F3K: record 3 is missing from the middle",
            "run 7F3K: records 3 to 5 are missing from the middle",
            "run 7F3K: its end was cut off: records 6 to 7 are missing",
            "run 7F3K: record 6 was rewritten: the hashes agree with each other, but not with the signed head",
            "the end of the checkpoints was cut off: checkpoints 8 to 9 are missing, but records name them",
            "run 7F3K: the sealed value seed is missing, and no record says that it was destroyed",
        ]
    );
}

/// Every column of every table: name, key columns, and whether it is a number.
const COLUMNS: [(&str, &str, &str); 10] = [
    ("record", "run", "text"),
    ("record", "seq", "integer"),
    ("record", "body", "text"),
    ("record", "hash", "blob"),
    ("checkpoint", "number", "integer"),
    ("checkpoint", "body", "text"),
    ("checkpoint", "signature", "blob"),
    ("sealed", "run", "text"),
    ("sealed", "id", "text"),
    ("sealed", "value", "blob"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any change of a single byte of any column of any row is detected.
    #[test]
    fn a_changed_byte_is_detected(
        column in 0..COLUMNS.len(),
        row in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        change in 1_u8..,
    ) {
        let problems = runtime().block_on(async {
            let (table, column, kind) = COLUMNS[column];
            let copy = Copy::new();
            let mut connection = copy.connect().await;
            let keys = match table { "record" => "run, seq", "checkpoint" => "number", _ => "run, id" };
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
                .fetch_one(&mut connection).await.unwrap();
            let offset = row.index(usize::try_from(count).unwrap());
            let one = format!("({keys}) = (SELECT {keys} FROM {table} ORDER BY {keys} LIMIT 1 OFFSET {offset})");
            let update = if kind == "integer" {
                // The key's eight bytes.
                let bit = u64::from(change) << (8 * byte.index(8));
                format!("UPDATE OR REPLACE {table} SET {column} = ({column} | {bit}) - ({column} & {bit}) WHERE {one}", bit = bit.cast_signed())
            } else {
                let mut bytes: Vec<u8> = sqlx::query_scalar(AssertSqlSafe(format!("SELECT CAST({column} AS BLOB) FROM {table} WHERE {one}")))
                    .fetch_one(&mut connection).await.unwrap();
                let at = byte.index(bytes.len());
                bytes[at] ^= change;
                let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                format!("UPDATE OR REPLACE {table} SET {column} = CAST(x'{hex}' AS {kind}) WHERE {one}")
            };
            assert_eq!(connection.execute(AssertSqlSafe(update)).await.unwrap().rows_affected(), 1);
            connection.close().await.unwrap();
            copy.problems().await
        });
        prop_assert!(!problems.is_empty());
    }

    /// Bytes changed in the file itself, past SQLite: found, or without any effect on what the journal says. It never panics.
    #[test]
    fn a_damaged_file_never_verifies_as_another(places in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..20)) {
        runtime().block_on(async {
            let copy = Copy::new();
            let file = copy.path().join(FILE);
            let mut bytes = std::fs::read(&file).unwrap();
            for (at, change) in places {
                let at = at.index(bytes.len());
                bytes[at] ^= change;
            }
            std::fs::write(&file, bytes).unwrap();
            if let Ok(found) = verify_with(copy.path(), &ORIGINAL.key, None).await
                && found.is_sound()
            {
                let journal = Journal::open_read_only(copy.path(), ORIGINAL.key.clone()).await.unwrap();
                let original = Journal::open_read_only(&ORIGINAL.room.journal(), ORIGINAL.key.clone()).await.unwrap();
                for run in &ORIGINAL.runs {
                    assert_eq!(journal.records(run).await, original.records(run).await);
                }
                assert_eq!(journal.head().await, original.head().await);
            }
        });
    }
}
