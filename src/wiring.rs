//! From configuration to a working house: roster, connectors, journal, engine. Nothing here decides anything.

mod mail;
mod sweep;

pub use sweep::sweep;

use crate::config::Config;
use crate::engine::{Engine, Run};
use crate::journal::{
    FILE, Journal, JournalError, KeyFile, KeyFolder, Keys, PUBLIC_KEY, PublicKey, RunLog, Verification, key_files,
    try_keeping, verify_with,
};
use crate::model::{Digest, Event, Fault, FaultKind, InputDigest, Keeper, Person, Record, RunId, RunState, SystemName};
use crate::playbook::{self, Book, Playbook};
use crate::report::{self, Report};
use crate::roster::{Matcher, Roster};
use crate::source::{Mistake, Mistakes};
use crate::store::Store;
use crate::wire::guarded::{self, Access};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// The longest that one network operation may take.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Everything that one `offboard.yaml` describes.
pub struct House {
    /// The configuration.
    pub config: Config,
    /// Who works here.
    pub roster: Arc<Roster>,
    /// Who keeps the sealing key; nothing if it stands in a plain file.
    pub keeper: Option<Arc<dyn Keeper>>,
    /// The systems, ready to be walked.
    pub engine: Engine,
    /// What somebody should look at, though it can be used.
    pub warnings: Vec<Mistake>,
    /// When the whole journal was last verified, and how many problems it had.
    verified: std::sync::Mutex<Option<(Instant, u64)>>,
    /// Held by whoever verifies it.
    verifying: Mutex<()>,
    verify_every: Duration,
}

impl House {
    /// Reads the configuration and the roster, and builds the connectors. Opens no connection.
    ///
    /// # Errors
    /// What is wrong with the files, with line and column.
    pub fn build(path: &Path, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Result<Self, Mistakes> {
        let config = Config::load(path)?;
        let roster = Arc::new(config.roster()?);
        let connectors = config.connectors()?;
        let keeper = keeper(&config)?;
        let mut warnings = config.warnings(&connectors);
        warnings.extend(config.warnings_about_people(&roster));
        warnings.extend(roster.warnings().iter().cloned());
        let own: Vec<_> = connectors.iter().flat_map(|c| c.own_keys()).collect();
        let matcher = Matcher::new(Arc::clone(&roster), &config.accounts, &config.keys_of, &config.protected, own);
        let engine = Engine::new(connectors, matcher, clock, TIMEOUT).with_secrets(config.secrets.clone());
        let (verified, verifying) = (std::sync::Mutex::default(), Mutex::default());
        Ok(Self { config, roster, keeper, engine, warnings, verified, verifying, verify_every: Duration::ZERO })
    }

    /// This house in the place of an older one with the same journal: their runs share their slots at every system, and what was seen of the
    /// whole journal holds.
    #[must_use]
    pub fn in_place_of(mut self, older: &Self) -> Self {
        self.engine = self.engine.in_slots_of(&older.engine);
        let seen = *older.verified.lock().unwrap_or_else(PoisonError::into_inner);
        self.verified = std::sync::Mutex::new(seen);
        self
    }

    /// Every file besides `offboard.yaml` and the playbooks that it is built from.
    pub fn files(&self) -> Vec<PathBuf> {
        let named = self.config.systems.values().flat_map(|system| system.files().into_iter().map(|(file, _)| file));
        named.chain([self.config.roster_file()]).map(|file| self.config.base.join(file)).collect()
    }

    /// The person of that employee number, mail address or user name.
    ///
    /// # Errors
    /// Nobody is, or more than one: the candidates.
    pub fn person(&self, wanted: &str) -> Result<Person, Mistakes> {
        self.roster.find(wanted).cloned()
    }

    /// Every playbook for leavers of the configuration's folder.
    ///
    /// # Errors
    /// What is wrong with any playbook, also with a sweep.
    pub fn playbooks(&self) -> Result<Vec<Playbook>, Mistakes> {
        let leavers = |(book, _)| if let Book::Leaver(book) = book { Some(*book) } else { None };
        Ok(self.books()?.into_iter().filter_map(leavers).collect())
    }

    /// Every playbook of the configuration's folder, of both kinds, and the digest of its file.
    ///
    /// # Errors
    /// What is wrong with any of them.
    pub fn books(&self) -> Result<Vec<(Book, InputDigest)>, Mistakes> {
        let folder = &self.config.playbooks;
        let unreadable = |e: std::io::Error| {
            Fault::new(FaultKind::Misconfigured, format!("{}: cannot be read", folder.display()))
                .because(e)
                .hint("check `playbooks` in offboard.yaml, or make the folder with: offboard init")
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| read_playbook(path)).collect()
    }

    /// The playbook of that name, or the one whose trigger fits the person; and the digest of its file.
    ///
    /// # Errors
    /// There is none, or more than one: the names.
    pub fn playbook(&self, name: Option<&str>, person: &Person) -> Result<(Playbook, InputDigest), Mistakes> {
        let files = self.books()?;
        if let Some((Book::Sweep(sweep), _)) = files.iter().find(|(book, _)| Some(book.name()) == name) {
            return Err(Fault::new(FaultKind::Misconfigured, format!("the playbook {:?} is a sweep", sweep.playbook))
                .hint(format!("offboard sweep -p {}; or name a playbook for leavers", sweep.playbook))
                .into());
        }
        let files: Vec<(Playbook, InputDigest)> = files
            .into_iter()
            .filter_map(|(book, digest)| if let Book::Leaver(book) = book { Some((*book, digest)) } else { None })
            .collect();
        let books: Vec<Playbook> = files.iter().map(|(playbook, _)| playbook.clone()).collect();
        let wanted = match name {
            Some(name) => books.iter().find(|b| b.playbook == name).ok_or_else(|| {
                let names: Vec<&str> = books.iter().map(|b| b.playbook.as_str()).collect();
                Fault::new(FaultKind::Misconfigured, format!("there is no playbook {name:?}")).hint(format!(
                    "the playbooks in {} are: {}",
                    self.config.playbooks.display(),
                    names.join(", ")
                ))
            })?,
            None => playbook::select(&books, person)?,
        };
        let digest = files.iter().find(|(book, _)| book == wanted).map(|(_, digest)| digest.clone());
        digest.map(|digest| (wanted.clone(), digest)).ok_or_else(|| {
            Fault::new(FaultKind::Unexpected, format!("the playbook {:?} has no file", wanted.playbook)).into()
        })
    }

    /// The playbook that a run was started with, from its own record.
    ///
    /// # Errors
    /// This version cannot read it.
    fn playbook_of(&self, records: &[Record]) -> Result<Playbook, Fault> {
        let body = match records.first().map(|record| &record.event) {
            Some(Event::SweepRequested { request }) => {
                return Err(Fault::new(FaultKind::Misconfigured, "that run is a sweep: it changed nothing")
                    .hint(format!("make it again: offboard sweep -p {}", request.playbook)));
            }
            Some(Event::Requested { request }) => request.playbook_body.clone(),
            _ => serde_json::Value::Null,
        };
        serde_json::from_value(body).map_err(|e| {
            Fault::new(FaultKind::Misconfigured, "the playbook of that run cannot be read by this version")
                .because(e)
                .hint("start a new run: what is done stays done")
        })
    }

    /// The digests of everything that a run is started with.
    pub fn inputs(&self, playbook: InputDigest) -> Vec<InputDigest> {
        let mut inputs = self.config.digests.clone();
        inputs.push(self.roster.input().clone());
        inputs.push(playbook);
        inputs
    }

    /// What the report measures against: name and seconds.
    pub fn limits(&self) -> Vec<(String, i64)> {
        self.config.limits.iter().map(|l| (format!("{} ({})", l.clock, l.source), l.within.as_seconds())).collect()
    }

    /// The sealing and signing keys; whoever keeps the sealing key is asked for it.
    ///
    /// # Errors
    /// As [`keys`].
    pub async fn keys(&self) -> Result<Keys, Fault> {
        keys(&self.config.keys, self.keeper.as_deref()).await
    }

    /// Opens the journal for writing.
    ///
    /// # Errors
    /// It is missing, in use, damaged, or signed by another key.
    pub async fn journal(&self) -> Result<Journal, crate::cli::Failure> {
        let keys = self.keys().await?;
        Ok(Journal::open(&self.config.journal, keys).await?)
    }

    /// Opens the journal for writing, or says that another process writes to it, and which if it is known.
    ///
    /// # Errors
    /// As [`House::journal`], but for a journal that is in use.
    pub async fn journal_unless_held(&self) -> Result<Result<Journal, JournalError>, crate::cli::Failure> {
        // A Vault is not asked for a key that could not be used.
        if self.keeper.is_some() {
            match Journal::is_free(&self.config.journal) {
                Err(error @ JournalError::Locked { .. }) => return Ok(Err(error)),
                other => other?,
            }
        }
        match Journal::open(&self.config.journal, self.keys().await?).await {
            Ok(journal) => Ok(Ok(journal)),
            Err(error @ JournalError::Locked { .. }) => Ok(Err(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the store beside the journal: what is still to be done.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn store(&self) -> Result<Store, Fault> {
        Store::open(&self.config.journal).await
    }

    /// Opens the journal for reading; somebody else may be writing.
    ///
    /// # Errors
    /// As [`House::journal`].
    pub async fn journal_to_read(&self) -> Result<Journal, crate::cli::Failure> {
        let key = public_key(&self.config.keys)?;
        Ok(Journal::open_read_only(&self.config.journal, key).await?)
    }

    /// Checks the whole journal, with the public key only.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn verify_journal(&self, head: Option<&Digest>) -> Result<Verification, crate::cli::Failure> {
        Ok(verify_with(&self.config.journal, &public_key(&self.config.keys)?, head).await?)
    }

    /// The records of the run of that name; upper and lower case are the same.
    ///
    /// # Errors
    /// There is no such run.
    pub async fn records(&self, journal: &Journal, run: &str) -> Result<(RunId, Vec<Record>), crate::cli::Failure> {
        let id = RunId(run.trim().to_ascii_uppercase());
        let records = journal.records(&id).await?;
        Ok((id, records))
    }

    /// Takes up the run of that name where its record ends. `watch` gets what is recorded from then on.
    ///
    /// # Errors
    /// There is no such run, its record does not verify, or this version cannot read its playbook.
    pub async fn take_up(
        &self,
        journal: &Journal,
        run: &str,
        watch: Option<UnboundedSender<Record>>,
    ) -> Result<(Run<'_>, Vec<Record>), crate::cli::Failure> {
        let (log, records) = journal.take_up(&RunId(run.trim().to_ascii_uppercase())).await?;
        Ok((self.go_on(log, &records, watch).await?, records))
    }

    /// Goes on with a run from these records, which are all that it has.
    ///
    /// # Errors
    /// This version cannot read its playbook, or the journal cannot be read.
    pub async fn go_on(
        &self,
        log: RunLog,
        records: &[Record],
        watch: Option<UnboundedSender<Record>>,
    ) -> Result<Run<'_>, crate::cli::Failure> {
        let playbook = self.playbook_of(records)?;
        Ok(Run::take_up(&self.engine, log, records, playbook, watch).await?)
    }

    /// The report of a run as the journal has it now.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn report(
        &self,
        journal: &Journal,
        run: &RunId,
        made_at: Timestamp,
        zone: &TimeZone,
    ) -> Result<Report, crate::cli::Failure> {
        self.report_of(journal, run, &journal.records(run).await?, made_at, zone).await
    }

    /// [`House::report`] of these records, which the journal has just given.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn report_of(
        &self,
        journal: &Journal,
        run: &RunId,
        records: &[Record],
        made_at: Timestamp,
        zone: &TimeZone,
    ) -> Result<Report, crate::cli::Failure> {
        let state = RunState::fold(records).ok_or_else(|| {
            Fault::new(FaultKind::Misconfigured, format!("run {run} does not begin with a request"))
                .hint("offboard journal verify")
        })?;
        let not_covered: Vec<(SystemName, String)> = self
            .config
            .systems
            .iter()
            .flat_map(|(name, settings)| {
                settings.manifest().not_covered.iter().map(|text| (name.clone(), (*text).to_string()))
            })
            .collect();
        let journal = report::Journal {
            problems: self.problems(journal).await?,
            head: journal.head().await?,
            records: records.len() as u64,
            key: Some(journal.public_key().fingerprint().0),
            signature: None,
        };
        Ok(Report::new(&report::Sources {
            run,
            records,
            state: &state,
            journal: &journal,
            not_covered: &not_covered,
            company: &self.config.company,
            made_at,
            zone,
        }))
    }

    /// Verifies the whole journal ahead, so that the first report does not have to.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn verify_ahead(&self, journal: &Journal) -> Result<(), crate::cli::Failure> {
        self.problems(journal).await.map(|_| ())
    }

    /// How many problems the whole journal has. What is on record must not be believed unseen: the records of one run are checked whenever they
    /// are read; this checks all the others, too, at most as often as [`House::verifying_every`] says. Meanwhile the answer before it holds, for
    /// as long again.
    async fn problems(&self, journal: &Journal) -> Result<u64, crate::cli::Failure> {
        let seen = |within: Duration| {
            let last = *self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            last.filter(|(at, _)| at.elapsed() < within).map(|(_, problems)| problems)
        };
        let _turn = match self.verifying.try_lock() {
            Ok(turn) => turn,
            Err(_) => match seen(self.verify_every * 2) {
                Some(problems) => return Ok(problems),
                None => self.verifying.lock().await,
            },
        };
        if let Some(problems) = seen(self.verify_every) {
            return Ok(problems);
        }
        let verified = journal.verify(None).await?;
        let problems = verified.problems.len() as u64 + verified.more;
        *self.verified.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), problems));
        Ok(problems)
    }

    /// This house, whose reports do not each verify the whole journal, but take what was seen up to `pause` ago: where one run ends after the
    /// other, the journal would otherwise be read all the time.
    #[must_use]
    pub fn verifying_every(mut self, pause: Duration) -> Self {
        self.verify_every = pause;
        self
    }

    /// Where reports are written unless said otherwise.
    pub fn reports_folder(&self) -> PathBuf {
        self.config.journal.join("reports")
    }
}

/// The sealing and signing keys.
///
/// # Errors
/// They are missing, readable by others, or no keys; who keeps the sealing key does not give it.
pub async fn keys(folder: &Path, keeper: Option<&dyn Keeper>) -> Result<Keys, Fault> {
    Keys::load_kept(&key_folder(folder, keeper)).await
}

/// The folder of keys, whose files nobody else may read.
pub fn key_folder<'a>(path: &'a Path, keeper: Option<&'a dyn Keeper>) -> KeyFolder<'a> {
    KeyFolder { path, read: &|path| guarded::read(path, Access::OwnerReads), keeper }
}

/// Who keeps the sealing key, by the configuration; nothing if it stands in a plain file.
///
/// # Errors
/// The system that is named cannot.
pub fn keeper(config: &Config) -> Result<Option<Arc<dyn Keeper>>, Mistakes> {
    config.keeper(TIMEOUT)
}

/// Tries whether the keeper wraps and unwraps keys, and unwraps the one that there is. Says how the key stands in its file.
///
/// # Errors
/// What the keeper says.
pub async fn try_keeper(keeper: &dyn Keeper, folder: &Path) -> Result<Vec<KeyFile>, Fault> {
    try_keeping(keeper).await?;
    let folder = key_folder(folder, Some(keeper));
    let files = key_files(folder.path, folder.read)?;
    if !files.is_empty() {
        Keys::load_kept(&folder).await?;
    }
    Ok(files)
}

/// The key that everybody may have, and checks the journal with.
///
/// # Errors
/// It is missing, may be written by others, or no key.
pub fn public_key(folder: &Path) -> Result<PublicKey, Fault> {
    let path = folder.join(PUBLIC_KEY);
    let pem = guarded::read(&path, Access::OwnerWrites)?;
    let pem =
        String::from_utf8(pem).map_err(|e| Fault::new(FaultKind::Misconfigured, format!("{}: {e}", path.display())))?;
    PublicKey::from_pem(&pem)
}

/// Reads and checks one playbook.
///
/// # Errors
/// Every mistake, with line and column.
pub fn read_playbook(path: &Path) -> Result<(Book, InputDigest), Mistakes> {
    let shown = path.display().to_string();
    let bytes = guarded::read(path, Access::OwnerWrites)?;
    let playbook = Book::from_yaml(&shown, &bytes)?;
    Ok((playbook, InputDigest { file: shown, sha256: Digest::of(&bytes) }))
}

/// Whether there is a journal in the folder.
pub fn has_journal(folder: &Path) -> bool {
    folder.join(FILE).exists()
}
