//! `offboard.yaml`: which systems there are, who works here, what is protected. Put together from the settings that each room
//! defines for itself.
//!
//! Whoever can write these files decides what is done, so every file that is read is refused if anybody else may write it, and its
//! digest goes into the run.

mod check;
mod file;
mod limits;
mod secrets;

use crate::connector::Connector;
use crate::connectors::SystemSettings;
use crate::model::{Digest, Fault, FaultKind, InputDigest, Keeper, SecretName, SharedSecret, SystemName};
use crate::roster::{KeyOf, Mapping, Protected, Roster};
use crate::source::{Mistake, Mistakes, yaml};
use crate::wire::guarded::{self, Access};
use file::File;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroize;

pub use file::Serve;
pub use limits::{Clock, Limit, Preset};

/// The configuration, read and checked. Folders and files are found from any working directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// Your organisation.
    pub company: String,
    /// The folder of the journal.
    pub journal: PathBuf,
    /// The folder of the sealing and signing keys.
    pub keys: PathBuf,
    /// The folder of the playbooks.
    pub playbooks: PathBuf,
    /// What the report measures against.
    pub limits: Vec<Limit>,
    /// The mail server, and who is told.
    pub mail: Option<crate::notify::Settings>,
    /// Every system, by name.
    pub systems: BTreeMap<SystemName, SystemSettings>,
    /// Accounts that are mapped to people.
    pub accounts: Vec<Mapping>,
    /// SSH keys that are declared for people.
    pub keys_of: Vec<KeyOf>,
    /// Accounts that are never disabled.
    pub protected: Vec<Protected>,
    /// How `offboard serve` works.
    pub serve: Serve,
    /// Passwords that programs share, by name.
    pub secrets: BTreeMap<SecretName, SharedSecret>,
    /// The folder of `offboard.yaml`; relative paths start here.
    pub base: PathBuf,
    /// `offboard.yaml` and every file that systems name, but for passwords.
    pub digests: Vec<InputDigest>,
    file: File,
    document: yaml::Document,
}

impl Config {
    /// Reads `path` and every file that its systems name: certificates, known_hosts, keys. Passwords are checked for who may read
    /// them, and not kept.
    ///
    /// # Errors
    /// Every mistake, with the place; files that others may write.
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        let shown = path.display().to_string();
        let bytes = guarded::read(path, Access::OwnerWrites)?;
        let document = yaml::Document::read("config", &shown, &bytes)?;
        let file: File = document.parse(&[])?;
        let (keys_of, mut mistakes) = check::check(&file, &document);
        let base = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let mut digests = vec![InputDigest { file: shown, sha256: Digest::of(&bytes) }];
        let of_systems = file.systems.iter().flat_map(|(name, settings)| {
            let path: Vec<yaml::Node> = vec!["systems".into(), name.0.as_str().into()];
            settings.files().into_iter().map(move |file| (path.clone(), "named by this system", file))
        });
        let of_mail = file.mail.iter().flat_map(crate::notify::Settings::files);
        let of_mail = of_mail.map(|file| (vec!["mail".into()], "named here", file));
        let of_secrets =
            secrets::files(&file).into_iter().map(|(path, ca)| (path, "named here", (ca, Access::OwnerWrites)));
        for (path, label, (named, access)) in of_systems.chain(of_mail).chain(of_secrets) {
            match digest(&base.join(&named), access) {
                Ok(Some(sha256)) => digests.push(InputDigest { file: named.display().to_string(), sha256 }),
                Ok(None) => {}
                Err(fault) => {
                    let mut mistake = Mistake::error("config", fault.what).spot(document.key_spot(&path, label));
                    mistake.notes.extend(fault.because);
                    mistake.help.extend(fault.hint);
                    mistakes.push(mistake);
                }
            }
        }
        // The same certificate may serve several systems.
        digests.sort_by(|a, b| a.file.cmp(&b.file));
        digests.dedup();
        Mistakes::unless_usable(mistakes)?;
        Ok(Self {
            company: file.company.trim().to_string(),
            journal: base.join(&file.journal),
            keys: base.join(&file.keys),
            playbooks: base.join(&file.playbooks),
            limits: limits::limits(file.preset, &file.limits),
            mail: file.mail.clone(),
            systems: file.systems.clone(),
            accounts: file.mappings(),
            keys_of,
            protected: file.protected.clone(),
            serve: file.serve,
            secrets: secrets::with_files_at(&base, &file),
            base,
            digests,
            file,
            document,
        })
    }

    /// Who keeps the sealing key; nothing if it stands in a plain file. Opens no connection.
    ///
    /// # Errors
    /// The system that is named cannot, with its place in the file.
    pub fn keeper(&self, timeout: Duration) -> Result<Option<Arc<dyn Keeper>>, Mistakes> {
        let Some(transit) = self.file.sealing.as_ref().map(|sealing| &sealing.transit) else { return Ok(None) };
        let name = &transit.system;
        let kept = match self.systems.get(name) {
            Some(settings) => settings
                .build(name, &self.base)
                .and_then(|system| system.keeper(transit.place.as_deref(), &transit.mount, &transit.key, timeout)),
            None => Err(Fault::new(FaultKind::Misconfigured, format!("there is no system {name:?}", name = name.0))
                .hint("name one of `systems`, of the kind vault")),
        };
        kept.map(Some).map_err(|fault| {
            let spot = self.document.key_spot(&["sealing".into(), "transit".into()], "keeps the sealing key");
            let mut mistake = Mistake::error("config", fault.what).spot(spot);
            mistake.notes.extend(fault.because);
            mistake.help.extend(fault.hint);
            mistake.into()
        })
    }

    /// Reads the roster, notes the declared keys in it, and checks that everybody whom the configuration names is there.
    ///
    /// # Errors
    /// Every mistake of the roster; or every person of the configuration who is not in it.
    pub fn roster(&self) -> Result<Roster, Mistakes> {
        let named = &self.file.roster.csv;
        let bytes = guarded::read(&self.base.join(named), Access::OwnerWrites)?;
        let zone = self.file.roster.zone.as_deref();
        let roster = Roster::from_csv(&bytes, &named.display().to_string(), zone)?;
        Mistakes::unless_usable(check::people(&self.file, &self.document, &roster))?;
        Ok(roster.with_keys(&self.keys_of))
    }

    /// Where the roster is.
    pub fn roster_file(&self) -> PathBuf {
        self.file.roster.csv.clone()
    }

    /// The connectors of all systems, in the order of their names. Opens no connection.
    ///
    /// # Errors
    /// Every system whose settings cannot be used, with its place in the file.
    pub fn connectors(&self) -> Result<Vec<Arc<dyn Connector>>, Mistakes> {
        let mut connectors = Vec::new();
        let mut mistakes = Vec::new();
        for (name, settings) in &self.systems {
            match settings.build(name, &self.base) {
                Ok(connector) => connectors.push(connector),
                Err(fault) => {
                    let mut mistake = Mistake::error("config", fault.what).spot(self.at(name, "this system"));
                    mistake.notes.extend(fault.because);
                    mistake.help.extend(fault.hint);
                    mistakes.push(mistake);
                }
            }
        }
        mistakes.extend(secrets::places(&self.file, &self.document, &connectors));
        Mistakes::unless_usable(mistakes)?;
        Ok(connectors)
    }

    /// What somebody should look at, though the configuration can be used: one address in two systems of one kind, whose accounts
    /// would be worked on twice.
    pub fn warnings(&self, connectors: &[Arc<dyn Connector>]) -> Vec<Mistake> {
        let mut warnings = Vec::new();
        let mut seen: HashMap<(&str, String), SystemName> = HashMap::new();
        for connector in connectors {
            for place in connector.places() {
                let key = (connector.manifest().name, place.address.to_ascii_lowercase());
                if let Some(first) = seen.get(&key).filter(|first| **first != place.system) {
                    warnings.push(
                        Mistake::warning("config", format!("two systems have the same place: {}", place.address))
                            .spot(self.at(&place.system, "here"))
                            .spot(self.at(first, "and here"))
                            .help("name it in one of them: its accounts are worked on twice, and reported twice"),
                    );
                }
                seen.entry(key).or_insert(place.system);
            }
        }
        warnings
    }

    /// What somebody should look at in what the configuration says of people.
    pub fn warnings_about_people(&self, roster: &Roster) -> Vec<Mistake> {
        let mut warnings = check::departments(&self.file, &self.document, roster);
        warnings.extend(check::widely_known(&self.file, &self.document, roster));
        warnings
    }

    fn at(&self, system: &SystemName, label: &str) -> crate::source::Spot {
        self.document.key_spot(&["systems".into(), system.0.as_str().into()], label)
    }
}

/// The digest of a file, once it is known that nobody else has more than `access` to it. None of a password: whoever has the journal
/// could try passwords against it.
fn digest(path: &Path, access: Access) -> Result<Option<Digest>, crate::model::Fault> {
    let mut bytes = guarded::read(path, access)?;
    let may_be_known = access == Access::OwnerWrites || bytes.starts_with(b"-----BEGIN ");
    let digest = may_be_known.then(|| Digest::of(&bytes));
    bytes.zeroize();
    Ok(digest)
}

/// A commented `offboard.yaml` to begin with.
pub fn template() -> &'static str {
    include_str!("template.yaml")
}

/// The JSON Schema of `offboard.yaml`, for editors.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(File);
    schema.insert("title".into(), "offboard.yaml".into());
    schema.to_value()
}
