//! The house as its files describe it now. When a file changes, all of them are read anew; while one is broken (half written, a typing
//! error), the last good house goes on, and that is said.

use super::Clock;
use crate::wiring::House;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is compared to see whether a file has changed: its time, its size, and which file it is.
type Stamp = Option<(i64, i64, u64, u64)>;

/// The house and the files that it was built from.
pub struct Premises {
    config: PathBuf,
    clock: Clock,
    /// The last good one.
    house: Arc<House>,
    stamps: BTreeMap<PathBuf, Stamp>,
    /// Why the files as they are now cannot be used.
    pub broken: Option<String>,
}

impl Premises {
    /// The house as the files describe it at the start; then they must be good.
    pub fn new(config: &Path, house: Arc<House>, clock: Clock) -> Self {
        let stamps = stamps(config, &house);
        Self { config: config.to_path_buf(), clock, house, stamps, broken: None }
    }

    /// The last good house.
    pub fn house(&self) -> Arc<House> {
        Arc::clone(&self.house)
    }

    /// Looks whether a file has changed, and if so reads all of them anew. Says whether the house is a new one.
    pub fn look(&mut self) -> bool {
        let stamps = stamps(&self.config, &self.house);
        if stamps == self.stamps {
            return false;
        }
        // Whatever comes of it: the same files are not read twice.
        self.stamps = stamps;
        match House::build(&self.config, Arc::clone(&self.clock)) {
            Err(mistakes) => self.break_with(mistakes.render(false)),
            Ok(house) => {
                if (&house.config.journal, &house.config.keys) != (&self.house.config.journal, &self.house.config.keys)
                {
                    self.break_with("`journal` or `keys` has changed: restart offboard serve".into());
                    return false;
                }
                if let Err(mistakes) = house.playbooks() {
                    self.break_with(mistakes.render(false));
                    return false;
                }
                house.warnings.iter().for_each(|w| tracing::warn!("{}", w.render(false)));
                self.house = Arc::new(house.in_slots_of(&self.house));
                // It may name other files.
                self.stamps = self::stamps(&self.config, &self.house);
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

fn stamps(config: &Path, house: &House) -> BTreeMap<PathBuf, Stamp> {
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
