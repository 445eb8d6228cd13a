//! MariaDB and MySQL: every `user@host` row of the leaver is locked with a witness as its only password, their connections are cut, their events
//! switched off, their roles revoked, and the server itself says why it refuses them.
//!
//! It touches users (`ALTER USER`, `REVOKE` of roles), connections (`KILL`) and events (`ALTER EVENT … DISABLE`), nothing else: no table, no row,
//! no routine. No user is dropped: that would end no session, and leave what the user has defined without a definer.
//!
//! - [`settings`]: what `offboard.yaml` says; [`link`]: one login on one server
//! - [`user`]: what the server says of a user, and the account that it is to us; [`sessions`]: who is connected
//! - [`discover`]: the inventory; [`findings`]: what to look at besides; [`planted`]: what changed during the run
//! - [`rotate`]: a program's password, as the source of a shared secret
//! - [`apply`]: disable, end sessions, remove; [`look`]: proof; [`restore`]: the way back; [`check`]: our own standing

mod apply;
mod check;
mod discover;
mod findings;
mod link;
mod look;
mod planted;
mod restore;
mod rotate;
mod sessions;
mod settings;
mod user;

use crate::connector::{Connector, Cx, Link, Manifest};
use crate::connectors::database::{self, Control};
use crate::model::{
    Account, Action, Chain, DoorKind, Family, Fault, PartKind, PersonId, Place, Proof, SystemName,
};
use crate::wire::address;
use crate::wire::mysql::{Server, Session};
use crate::wire::secret;
use async_trait::async_trait;
use link::MysqlLink;
pub use settings::Settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "mysql",
    family: Family::Database,
    doors: &[
        (DoorKind::Password, Proof::Refused),
        (DoorKind::Login, Proof::ReadBack),
        (DoorKind::Session, Proof::ReadBack),
        (DoorKind::Job, Proof::ReadBack),
        (DoorKind::Membership, Proof::ReadBack),
        (DoorKind::SharedSecret, Proof::Refused),
    ],
    rotates: &[PartKind::Source],
    privileges: &[
        "CREATE USER, to lock users and set passwords; SELECT on the database mysql, to see them",
        "PROCESS and CONNECTION ADMIN, to see and to end connections",
        "EVENT and SET USER, to switch off events and leave them their definer",
        "WITH ADMIN OPTION on every role that is to be revoked",
        "SHOW VIEW and TRIGGER, to find views and triggers that run with the leaver's rights",
    ],
    not_covered: &[
        "routines, views and triggers that run with the leaver's rights: others still call them; they are listed, not changed",
        "views and triggers where our user has no right to see them (SHOW VIEW, TRIGGER)",
        "rights that were granted to the user itself: a locked user cannot use them",
        "connections that a pooler (ProxySQL, MaxScale) keeps open, and its own list of users: end and change them there",
        "MySQL 8 is written from its manual and was not tried; there a second password is discarded, and a witness needs mysql_native_password",
    ],
};

/// Where the server listens unless told otherwise.
const PORT: u16 = 3306;

/// The connector of one system. Relative files are looked up in `base`.
///
/// # Errors
/// `Misconfigured`: no host, a host twice, a port that is none, TLS off where it must be on, or no `ca`.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    let what = format!("mysql {system}");
    let places = address::servers(&what, &settings.hosts, PORT, settings.tls, settings.ca.as_deref())?;
    Ok(Arc::new(Mysql { system: system.clone(), settings, base: base.to_path_buf(), places }))
}

struct Mysql {
    system: SystemName,
    settings: Settings,
    base: PathBuf,
    /// As written in `hosts`: host and port.
    places: BTreeMap<String, (String, u16)>,
}

#[async_trait]
impl Connector for Mysql {
    fn manifest(&self) -> &'static Manifest {
        &MANIFEST
    }

    fn places(&self) -> Vec<Place> {
        self.settings.hosts.iter().map(|host| Place::new(&self.system, host)).collect()
    }

    fn plan(&self, account: &Account, leaver: &PersonId, action: Action) -> Vec<Chain> {
        if self.is_ours(&account.native_id) {
            return Vec::new();
        }
        database::plan(account, leaver, action, &[DoorKind::Session, DoorKind::Job])
    }

    fn shows_logins(&self) -> bool {
        true
    }

    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let what = format!("mysql {}: cannot log in as {:?} at {}", self.system, self.settings.user, place.address);
        let (host, port) = self.places.get(&place.address).cloned().ok_or_else(|| database::no_host(&what))?;
        let tls = database::tls(self.settings.tls, self.settings.ca.as_ref(), &self.base, &what)?;
        let password = secret::resolve(&self.settings.password, &self.base).await?;
        let control = Control::resolve(self.settings.control.as_ref(), &self.base).await?;
        let session = Session::new(Server { host, port, tls }, &self.settings.user, password, cx.timeout);
        let link = MysqlLink::open(self.system.clone(), place.clone(), session, control, cx).await;
        Ok(Box::new(link.map_err(|failure| failure.into_fault(what))?))
    }
}

impl Mysql {
    fn is_ours(&self, user: &str) -> bool {
        user == self.settings.user || self.settings.control.as_ref().is_some_and(|c| c.user == user)
    }
}
