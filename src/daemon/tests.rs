//! The desk, the lanes and the roster on a house of their own, whose one system refuses every connection. What is counted here is what must
//! not be done twice, and what a start costs.

use super::after;
use super::desk::{Clock, Desk};
use super::lanes::{InLane, Shared, TELLING, work};
use super::order::{Answer, Order};
use super::pickup::{self, Decision};
use super::premises::Premises;
use super::watching::Log;
use crate::journal::{Journal, Keys};
use crate::model::{Actor, Event, Person, PersonId, RunId};
use crate::store::{Due, Kind, Phase};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

const CONFIG: &str = "\
company: Example
roster: { csv: roster.csv, zone: UTC }
systems:
  nowhere:
    postgres: { hosts: [\"127.0.0.1:1\"], user: offboard, password: { file: password }, tls: \"off\" }
serve: { health: \"127.0.0.1:0\" }
";
const PLAYBOOK: &str = "\
playbook: at-once
summary: Whatever there is.
trigger: { event: leaver }
deadline: 1s
limits: { people: 1, accounts: 9 }
stages: [ { stage: contain, steps: [ { do: disable, to: accounts } ] } ]
verify: { until: 1s }
";
/// At midnight of every 16th; and finds nothing, for there is no host.
const SWEEP: &str = "\
playbook: monthly
summary: Whatever there is.
trigger: { schedule: \"0 0 16 * *\", zone: UTC }
limits: { accounts: 9, share: 50% }
find: [ { finding: orphan, in: [host] } ]
report: { formats: [json] }
";
/// The first midnight of a 16th, from the beginning.
const SWEPT: i64 = 57_600;
/// The seconds at which every test begins: 2027-01-15.
const BEGIN: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + seconds).unwrap()
}

/// A house, its journal and its store.
struct Place {
    folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
    shared: Arc<Shared>,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["keys", "playbooks"] {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        for (file, text) in [
            ("offboard.yaml", CONFIG),
            ("password", "nobody"),
            ("playbooks/at-once.yaml", PLAYBOOK),
            ("roster.csv", "id,name,status,end_date\nE1,Jill Roe,terminated,2027-01-10\n"),
        ] {
            write(&path.join(file), text);
        }
        let keys = Keys::generate(&path.join("keys")).unwrap();
        let journal = Journal::create(&path.join("journal"), keys).await.unwrap();
        let now = Arc::new(AtomicI64::new(0));
        let (clock, seconds): (Clock, _) = (
            Arc::new({
                let now = Arc::clone(&now);
                move || at(now.load(Ordering::SeqCst))
            }),
            now,
        );
        let premises = Premises::open(&path.join("offboard.yaml"), Arc::clone(&clock))
            .unwrap_or_else(|e| panic!("{}", e.render(false)));
        let store = premises.house().store().await.unwrap();
        let shared = Arc::new(Shared::new(clock, journal, store, premises));
        Self { folder, now: seconds, shared }
    }

    /// A run of Jill's, as a command asks for it.
    fn order(&self, seconds: Option<i64>) -> Order {
        Order::Run {
            person: "E1".into(),
            playbook: Some("at-once".into()),
            at: seconds.map(at),
            although_active: false,
            anew: false,
            report_to: None,
            by: Actor { name: "hr".into(), asserted_by: "operating system".into() },
        }
    }

    fn desk(&self) -> Desk {
        self.shared.desk()
    }

    async fn give(&self, order: Order) -> Answer {
        let log = Log { order: None };
        self.desk().carry_out(order, &log).await.unwrap_or_else(|e| panic!("{}", e.plain()))
    }

    /// Does everything of these kinds that is due now; how much that was.
    async fn work(&self, kinds: &[Kind]) -> usize {
        let claims = self.shared.store.claim(kinds, (self.shared.clock)(), 64).await.unwrap();
        let count = claims.len();
        for claim in claims {
            work(Arc::clone(&self.shared), claim, InLane::new(Arc::clone(&self.shared), 0)).await;
        }
        count
    }

    /// How many files were reported of a run, each time counting.
    async fn reported(&self, run: &RunId) -> usize {
        let records = self.shared.journal.records(run).await.unwrap();
        records.iter().filter(|r| matches!(r.event, Event::Reported { .. })).count()
    }

    async fn runs(&self) -> Vec<RunId> {
        self.shared.journal.runs().await.unwrap()
    }

    /// Makes the store refuse every change of what is due, or takes that back.
    async fn refuse(&self, refuses: bool) {
        let file = format!("sqlite://{}", self.folder.path().join("journal/store.sqlite").display());
        let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&file).await.unwrap();
        let change = match refuses {
            true => "CREATE TRIGGER refuse BEFORE INSERT ON due BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
            false => "DROP TRIGGER refuse",
        };
        sqlx::query(change).execute(&mut connection).await.unwrap();
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Counts what our own rooms say they do, by their words.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, usize>>>);

impl<S: tracing::Subscriber> Layer<S> for Counts {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Words(String);
        impl tracing::field::Visit for Words {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut words = Words(String::new());
        event.record(&mut words);
        *self.0.lock().unwrap().entry(words.0).or_default() += 1;
    }
}

#[tokio::test]
async fn a_start_reads_its_run_twice_and_writes_no_more_than_it_must() {
    let place = Place::new().await;
    let run = place.give(place.order(Some(100))).await.run.unwrap();
    place.now.store(100, Ordering::SeqCst);
    let counts = Counts::default();
    {
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(counts.clone()));
        // As long as there is only one, tracing does not ask it about what another test's thread comes upon first.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        assert_eq!(place.work(&[Kind::Start]).await, 1);
    }
    let of = |what: &str| counts.0.lock().unwrap().get(what).copied().unwrap_or_default();
    // Once to begin, and once more for the report, which tells what the journal has and not what we think that we have written.
    assert_eq!(of("a run is read"), 2);
    // It begins; its one place is not reached; it ends; its report.
    assert_eq!(of("the journal is written"), 4);
    // It is claimed; it has begun; what is due next.
    assert_eq!(of("the store is changed"), 3);
    let records = place.shared.journal.records(&run).await.unwrap();
    let known = &place.shared.store.runs_of(&PersonId("E1".into())).await.unwrap()[0];
    assert_eq!((known.records, known.phase), (records.len() as u64, Phase::Begun));
    assert_eq!(place.shared.store.due_of(Kind::Retry).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_run_that_is_cancelled_after_it_was_claimed_does_not_begin() {
    let place = Place::new().await;
    let run = place.give(place.order(Some(100))).await.run.unwrap();
    place.now.store(100, Ordering::SeqCst);
    let claims = place.shared.store.claim(&[Kind::Start], at(100), 9).await.unwrap();
    let by = Actor { name: "hr".into(), asserted_by: "operating system".into() };
    place.give(Order::Cancel { run: run.clone(), why: "stays".into(), by }).await;
    for claim in claims {
        work(Arc::clone(&place.shared), claim, InLane::new(Arc::clone(&place.shared), 0)).await;
    }
    let records = place.shared.journal.records(&run).await.unwrap();
    assert!(records.iter().all(|r| !matches!(r.event, crate::model::Event::Started { .. })));
    assert_eq!(place.shared.store.due_of(Kind::Start).await.unwrap(), []);
}

#[tokio::test]
async fn a_start_that_was_put_off_begins_at_once_when_it_is_moved_to_now() {
    let place = Place::new().await;
    let run = place.give(place.order(Some(100))).await.run.unwrap();
    place.now.store(100, Ordering::SeqCst);
    let claim = place.shared.store.claim(&[Kind::Start], at(100), 1).await.unwrap().pop().unwrap();
    place.shared.store.put_off(&claim, at(3600)).await.unwrap();
    place.now.store(200, Ordering::SeqCst);
    assert_eq!(place.work(&[Kind::Start]).await, 0);
    let by = Actor { name: "hr".into(), asserted_by: "operating system".into() };
    place.give(Order::Reschedule { run: run.clone(), at: at(200), although_active: false, by }).await;
    assert_eq!(place.work(&[Kind::Start]).await, 1);
    assert_eq!(place.shared.store.due_of(Kind::Start).await.unwrap(), []);
}

#[tokio::test]
async fn a_run_that_is_on_record_is_told_although_what_is_due_could_not_be_noted() {
    let place = Place::new().await;
    place.refuse(true).await;
    let answer = place.give(place.order(Some(100))).await;
    let (run, trouble) = (answer.run.unwrap(), answer.trouble.unwrap());
    assert_eq!((answer.exit, answer.carried_out), (0, true));
    assert!(trouble.contains(&format!("run {run} is on record")) && trouble.contains("the disk is full"), "{trouble}");
    assert_eq!(place.runs().await, [run]);
    place.refuse(false).await;
    let (settled, _) = super::after::settle_all(&place.shared.journal, &place.shared.store).await.unwrap();
    assert_eq!((settled, place.shared.store.due_of(Kind::Start).await.unwrap().len()), (1, 1));
}

#[tokio::test]
async fn whoever_got_a_run_since_the_roster_was_read_gets_no_second_one() {
    let place = Place::new().await;
    let person: Person = place.shared.house().roster.get("E1").unwrap().clone();
    let ends = person.ends.unwrap();
    // The pick-up has decided; then a command asks, and gets its run.
    let run = place.give(place.order(Some(100))).await.run.unwrap();
    pickup::obey(&place.shared, &person, Decision::Ask(ends), true).await.unwrap();
    assert_eq!(place.runs().await, [run]);
}

#[tokio::test]
async fn a_sweep_that_was_put_off_keeps_its_hour() {
    let place = Place::new().await;
    write(&place.folder.path().join("playbooks/monthly.yaml"), SWEEP);
    let (shared, store) = (&place.shared, &place.shared.store);
    after::settle_sweeps(&shared.house(), store, at(0), None).await.unwrap();
    let hour = [Due { subject: "monthly".into(), kind: Kind::Sweep, at: at(SWEPT) }];
    assert_eq!(store.due_of(Kind::Sweep).await.unwrap(), hour);
    let claim = store.claim(&[Kind::Sweep], at(SWEPT), 1).await.unwrap().pop().unwrap();
    store.put_off(&claim, at(SWEPT + 60)).await.unwrap();
    // The roster's next round comes before the next try.
    after::settle_sweeps(&shared.house(), store, at(SWEPT + 30), None).await.unwrap();
    assert_eq!(store.due_of(Kind::Sweep).await.unwrap(), hour);
    assert_eq!(store.claim(&[Kind::Sweep], at(SWEPT + 59), 1).await.unwrap(), []);
    assert_eq!(store.claim(&[Kind::Sweep], at(SWEPT + 60), 1).await.unwrap()[0].attempt, 2);
}

#[tokio::test]
async fn a_sweep_that_is_on_record_is_not_made_again_although_its_report_cannot_be_written() {
    let place = Place::new().await;
    write(&place.folder.path().join("playbooks/monthly.yaml"), SWEEP);
    write(&place.folder.path().join("journal/reports"), "no folder");
    after::settle_sweeps(&place.shared.house(), &place.shared.store, at(0), None).await.unwrap();
    place.now.store(SWEPT, Ordering::SeqCst);
    assert_eq!(place.work(&[Kind::Sweep]).await, 1);
    assert_eq!(place.runs().await.len(), 1);
    place.now.store(SWEPT + 3600, Ordering::SeqCst);
    assert_eq!(place.work(&[Kind::Sweep]).await, 0);
    assert_eq!(place.shared.store.due_of(Kind::Sweep).await.unwrap().len(), 1, "the next one");
}

#[tokio::test]
async fn a_run_that_has_ended_makes_room_for_the_next_before_its_report_is_made() {
    let place = Place::new().await;
    let run = place.give(place.order(Some(100))).await.run.unwrap();
    place.now.store(100, Ordering::SeqCst);
    let shared = &place.shared;
    // No report is made now, as while somebody verifies the whole journal.
    let turns = shared.telling.acquire_many(u32::try_from(TELLING).unwrap()).await.unwrap();
    let claim = shared.store.claim(&[Kind::Start], at(100), 1).await.unwrap().pop().unwrap();
    let task = tokio::spawn(work(Arc::clone(shared), claim, InLane::new(Arc::clone(shared), 0)));
    let room = async {
        while shared.busy[0].load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), room).await.unwrap();
    let last = async || shared.journal.records(&run).await.unwrap().pop().unwrap().event;
    assert!(matches!(last().await, Event::Ended { .. }));
    assert_eq!(shared.store.overdue(at(1000), &shared.taken()).await.unwrap(), 0, "it was taken up");
    drop(turns);
    task.await.unwrap();
    assert!(matches!(last().await, Event::Reported { .. }));
}

#[tokio::test]
async fn a_run_that_was_cut_off_before_its_report_gets_it() {
    let place = Place::new().await;
    let run = place.give(place.order(Some(100))).await.run.unwrap();
    place.now.store(100, Ordering::SeqCst);
    let (shared, desk, by) = (&place.shared, place.desk(), Actor { name: "hr".into(), asserted_by: "test".into() });
    // It is walked, and whoever walked it dies.
    desk.walk(desk.take(&run).await.unwrap(), by, false, &Log { order: None }).await.unwrap();
    after::settle_all(&shared.journal, &shared.store).await.unwrap();
    assert_eq!(place.work(&[Kind::Report]).await, 1);
    assert_eq!(place.reported(&run).await, 2);
    assert_eq!((place.work(&[Kind::Report]).await, place.reported(&run).await), (0, 2));
}

#[tokio::test]
async fn a_report_that_could_not_be_written_is_tried_again_and_nothing_else() {
    let place = Place::new().await;
    let folder = place.folder.path().join("journal/reports");
    write(&folder, "no folder");
    let run = place.give(place.order(Some(100))).await.run.unwrap();
    place.now.store(100, Ordering::SeqCst);
    assert_eq!(place.work(&[Kind::Start]).await, 1);
    assert_eq!(place.work(&[Kind::Start, Kind::Resume, Kind::Report]).await, 1, "the report");
    assert_eq!((place.work(&[Kind::Report]).await, place.reported(&run).await), (0, 0), "it is put off");
    std::fs::remove_file(folder).unwrap();
    place.now.store(105, Ordering::SeqCst);
    assert_eq!((place.work(&[Kind::Report]).await, place.reported(&run).await), (1, 2));
    place.now.store(9999, Ordering::SeqCst);
    assert_eq!(place.work(&[Kind::Start, Kind::Resume, Kind::Report]).await, 0);
}
