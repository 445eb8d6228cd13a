//! The house as its files describe it now. When a file changes, all of them are read anew; while one is broken (half written, a typing
//! error), the last good house goes on, and that is said.

use super::Clock;
use crate::source::Mistakes;
use crate::wiring::House;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A change is read when the files have been the same for so long: what is still being written is not.
const STILL: Duration = Duration::from_secs(1);

/// What is compared to see whether a file has changed: its time, its size, and which file it is.
type Stamp = Option<(i64, i64, u64, u64)>;
type Stamps = BTreeMap<PathBuf, Stamp>;

/// The house and the files that it was built from.
pub struct Premises {
    config: PathBuf,
    clock: Clock,
    /// The last good one.
    house: Arc<House>,
    /// As the files were before they were read: what changes while they are is seen by the next look.
    stamps: Stamps,
    changing: Changing,
    /// Why the files as they are now cannot be used.
    pub broken: Option<String>,
}

impl Premises {
    /// The house as the files describe it at the start; then they must be good.
    ///
    /// # Errors
    /// They are not.
    pub fn open(config: &Path, clock: Clock) -> Result<Self, Mistakes> {
        // Which files there are is known when they have been read once.
        let stamps = stamps(config, &House::build(config, Arc::clone(&clock))?);
        let house = House::build(config, Arc::clone(&clock))?.verifying_every(super::service::VERIFY);
        let (config, house, changing) = (config.to_path_buf(), Arc::new(house), Changing::default());
        Ok(Self { config, clock, house, stamps, changing, broken: None })
    }

    /// The last good house.
    pub fn house(&self) -> Arc<House> {
        Arc::clone(&self.house)
    }

    /// Looks whether a file has changed, and if so reads all of them anew. Says whether the house is a new one.
    pub fn look(&mut self) -> bool {
        let stamps = stamps(&self.config, &self.house);
        if stamps == self.stamps || !self.changing.stands_still(&stamps, Instant::now()) {
            return false;
        }
        let read = House::build(&self.config, Arc::clone(&self.clock));
        if self::stamps(&self.config, &self.house) != stamps {
            // Somebody writes: what was read may be half of it.
            return false;
        }
        // Whatever comes of it: the same files are not read twice.
        self.stamps = stamps;
        match read {
            Err(mistakes) => self.break_with(mistakes.render(false)),
            Ok(house) => {
                if (&house.config.journal, &house.config.keys) != (&self.house.config.journal, &self.house.config.keys)
                {
                    self.break_with("`journal` or `keys` has changed: restart offboard serve".into());
                    return false;
                }
                if let Err(mistakes) = house.books() {
                    self.break_with(mistakes.render(false));
                    return false;
                }
                house.warnings.iter().for_each(|w| tracing::warn!("{}", w.render(false)));
                // It may name other files; then the next look sees that, and reads once more.
                self.house = Arc::new(house.in_place_of(&self.house).verifying_every(super::service::VERIFY));
                self.broken = None;
                tracing::info!("the configuration was read anew");
                return true;
            }
        }
        false
    }

    fn break_with(&mut self, why: String) {
        tracing::error!(why, "the files as they are now cannot be used; the last good ones hold");
        self.broken = Some(why);
    }
}

/// Files that have changed, and how long they have been as they are.
#[derive(Default)]
struct Changing {
    seen: Option<(Stamps, Instant)>,
}

impl Changing {
    /// Whether the files were the same [`STILL`] ago.
    fn stands_still(&mut self, stamps: &Stamps, now: Instant) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == stamps => now.duration_since(*since) >= STILL,
            _ => {
                self.seen = Some((stamps.clone(), now));
                false
            }
        }
    }
}

fn stamps(config: &Path, house: &House) -> Stamps {
    let mut files = house.files();
    files.push(config.to_path_buf());
    if let Ok(folder) = std::fs::read_dir(&house.config.playbooks) {
        files.extend(folder.filter_map(|entry| Some(entry.ok()?.path())));
    }
    let stamp = |path: &Path| {
        let meta = path.metadata().ok()?;
        Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
    };
    files.into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_being_written_is_not_read() {
        let file = |size| Stamps::from([(PathBuf::from("roster.csv"), Some((1, 1, size, 1)))]);
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut changing = Changing::default();
        assert!(!changing.stands_still(&file(10), start), "just seen");
        assert!(!changing.stands_still(&file(10), after(300)), "the loop comes round sooner");
        assert!(!changing.stands_still(&file(20), after(1100)), "it grows");
        assert!(!changing.stands_still(&file(20), after(1500)));
        assert!(changing.stands_still(&file(20), after(2100)));
    }
}
