//! Redis and Valkey: the leaver's ACL users are switched off with a witness as their only password, their connections are cut, and the users
//! are saved, so that a restart does not bring them back.
//!
//! It touches ACL users (`ACL SETUSER`, `ACL SAVE` or `CONFIG REWRITE`) and connections (`CLIENT KILL USER`), nothing else: no key. Users are
//! not replicated, so every server is a place of its own.
//!
//! - [`settings`]: what `offboard.yaml` says; [`link`]: one login on one server
//! - [`user`]: what the server says of a user, and the account that it is to us; [`clients`]: who is connected
//! - [`discover`]: the inventory; [`findings`]: what to look at besides; [`planted`]: what changed during the run
//! - [`rotate`]: a program's password, as the source of a shared secret
//! - [`apply`]: disable, end sessions, keep over a restart; [`look`]: proof; [`restore`]: the way back; [`check`]: our own standing

mod apply;
mod check;
mod clients;
mod discover;
mod findings;
mod link;
mod look;
mod planted;
mod restore;
mod rotate;
mod settings;
mod user;

use crate::connector::{Connector, Cx, Entry, Link, Manifest};
use crate::connectors::database::{self, Control};
use crate::model::{
    Account, Action, Chain, DoorKind, Family, Fault, FaultKind, PartKind, PersonId, Place, Proof, SystemName,
};
use crate::wire::address::{self, TlsMode};
use crate::wire::resp::{Server, Session};
use crate::wire::secret;
use crate::wire::tls::Trust;
use async_trait::async_trait;
use link::RedisLink;
pub use settings::Settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "redis",
    family: Family::Database,
    doors: &[
        (DoorKind::Password, Proof::Refused),
        (DoorKind::Login, Proof::ReadBack),
        (DoorKind::Session, Proof::ReadBack),
        (DoorKind::SharedSecret, Proof::Refused),
    ],
    rotates: &[PartKind::Source],
    privileges: &[
        "ACL LIST, ACL GETUSER, ACL SETUSER and ACL SAVE; CONFIG REWRITE where users stand in the configuration file (SENTINEL FLUSHCONFIG on a Sentinel)",
        "CLIENT LIST, CLIENT KILL and CLIENT ID, to see and to end connections",
        "INFO and ROLE, to see which other servers belong to this one; CONFIG GET, to see where users are kept",
    ],
    not_covered: &[
        "the user `default`: it is everybody's, and never disabled; declare its password as a shared secret",
        "servers before Redis 6, which have no users but one",
        "keys, scripts and functions that the leaver left: nobody runs them with the leaver's rights any more",
        "what a managed service keeps outside the server: where ACL commands are disabled, use the vendor's own",
        "modules that let people in by other means, and TLS certificates that name a user (Valkey 8.1 and later): the user is off all the same",
        "requirepass and masterauth of other servers that use a rotated password: their connections are found, not changed",
    ],
};

/// Where Redis listens unless told otherwise.
const PORT: u16 = 6379;

/// The user that every server has; nobody's own.
const EVERYBODY: &str = "default";

/// The connector of one system. Relative files are looked up in `base`.
///
/// # Errors
/// `Misconfigured`: no host, a host twice, a port that is none, TLS off where it must be on, or no `ca`.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    let what = format!("redis {system}");
    let servers = address::servers(&what, &settings.hosts, PORT, settings.tls, settings.ca.as_deref())?;
    Ok(Arc::new(Redis { system: system.clone(), settings, base: base.to_path_buf(), servers }))
}

struct Redis {
    system: SystemName,
    settings: Settings,
    base: PathBuf,
    /// As written in `hosts`: host and port.
    servers: BTreeMap<String, (String, u16)>,
}

#[async_trait]
impl Connector for Redis {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        self.settings.hosts.iter().map(|host| Place::new(&self.system, host)).collect()
    }

    fn plan(&self, account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
        if self.is_untouchable(&account.native_id) {
            return Vec::new();
        }
        database::plan(account, leaver, action, &[DoorKind::Session])
    }

    fn entry(&self, account: &Account) -> Entry {
        match (account.native_id.as_str(), account.enabled) {
            (EVERYBODY, true) => Entry::Machine,
            (_, true) => Entry::Open,
            (_, false) => Entry::Shut,
        }
    }

    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let what = format!("redis {}: cannot log in as {:?} at {}", self.system, self.settings.user, place.address);
        let trust = match (self.settings.tls, &self.settings.ca) {
            (TlsMode::VerifyFull, Some(ca)) => Some(Trust::from_file(&self.base.join(ca))?),
            (TlsMode::VerifyFull, None) => {
                return Err(Fault::new(FaultKind::Misconfigured, what).because("ca is missing"));
            }
            (TlsMode::Off, _) => None,
        };
        let server = |(host, port): &(String, u16)| Server { host: host.clone(), port: *port, tls: trust.clone() };
        let here = self.servers.get(&place.address).map(server).ok_or_else(|| database::no_host(&what))?;
        let password = secret::resolve(&self.settings.password, &self.base).await?;
        let control = Control::resolve(self.settings.control.as_ref(), &self.base).await?;
        let session = Session::new(here, &self.settings.user, password, cx.timeout);
        let hosts = self.settings.hosts.iter().filter_map(|host| Some((host.clone(), server(self.servers.get(host)?))));
        let link = RedisLink::open(self.system.clone(), place.clone(), session, hosts.collect(), control, cx).await;
        Ok(Box::new(link.map_err(|failure| failure.into_fault(what))?))
    }
}

impl Redis {
    fn is_untouchable(&self, user: &str) -> bool {
        user == EVERYBODY
            || user == self.settings.user
            || self.settings.control.as_ref().is_some_and(|control| control.user == user)
    }
}
