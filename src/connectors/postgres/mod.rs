//! PostgreSQL: the leaver's roles get NOLOGIN and a witness password in one statement, their sessions end, their memberships
//! go, and the server itself says why it refuses them.
//!
//! It touches roles (`ALTER ROLE`, `REVOKE`, `GRANT` on restore) and sessions (`pg_terminate_backend`), nothing else: no object, no row.
//! Everything it knows comes from the system catalogues of the one database that it connects to; roles, memberships and sessions
//! are the same from every database of a cluster.
//!
//! - [`settings`]: what `offboard.yaml` says; [`link`]: one login on one server
//! - [`role`]: what the catalogues say of a role, and the account that it is to us
//! - [`comment`]: whose a role is, as its comment says
//! - [`discover`]: the inventory, page by page; [`findings`]: what to look at besides; [`planted`]: roles that may be the
//!   leaver's under another name
//! - [`borrowed`]: sessions of others that have taken the role on with SET ROLE
//! - [`rotate`]: a service's password, as the source of a shared secret
//! - [`apply`]: disable, end sessions, remove; [`look`]: proof; [`restore`]: the way back; [`check`]: our own standing

mod apply;
mod borrowed;
mod check;
mod comment;
mod discover;
mod findings;
mod link;
mod look;
mod planted;
mod restore;
mod role;
mod rotate;
mod settings;
mod stored;

use crate::connector::{Connector, Cx, Link, Manifest};
use crate::connectors::database::{self, Control};
use crate::model::{
    Account, Action, Chain, DoorKind, Family, Fault, PartKind, PersonId, Place, Proof, SystemName,
};
use crate::wire::address;
use crate::wire::secret;
use crate::wire::sql::{Server, Session};
use async_trait::async_trait;
use link::PgLink;
pub use settings::Settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What this connector is.
pub static MANIFEST: Manifest = Manifest {
    name: "postgres",
    family: Family::Database,
    doors: &[
        (DoorKind::Password, Proof::Refused),
        (DoorKind::Login, Proof::ReadBack),
        (DoorKind::Session, Proof::ReadBack),
        (DoorKind::Membership, Proof::ReadBack),
        (DoorKind::SharedSecret, Proof::Refused),
    ],
    rotates: &[PartKind::Source, PartKind::Former, PartKind::Checked],
    privileges: &[
        "SUPERUSER; or CREATEROLE (from PostgreSQL 16 on also ADMIN OPTION on every role that is to be disabled or revoked) and membership in pg_signal_backend",
        "membership in pg_read_all_stats, to see where sessions come from and which of them came in by SET ROLE",
        "SELECT on pg_authid (oid, rolpassword), to see whether a role has a local password; without it a refused login is not tried, and proof is by read-back",
    ],
    not_covered: &[
        "objects, default privileges and large objects that the leaver owns, and privileges granted to the role itself: NOLOGIN keeps the leaver from using them; ownership stays",
        "SECURITY DEFINER functions and event triggers are looked for in the connected database only; pg_cron jobs, foreign user mappings, subscriptions and replication slots in none",
        "connections that a pooler keeps open: end them at the pooler",
        "a session of another role that took the leaver's role on with SET ROLE, unless the statement is still the last one that the server shows: PostgreSQL does not show a session's current role. Roles that could have are a finding",
        "a login that a leaver with CREATEROLE made before the run and let into no other role: before PostgreSQL 16 nothing shows who made a role",
        "pg_hba.conf and identity maps: reported, not changed",
    ],
};

/// Where PostgreSQL listens unless told otherwise.
const PORT: u16 = 5432;

/// The connector of one system. Relative files are looked up in `base`.
///
/// # Errors
/// `Misconfigured`: no host, a host twice, a port that is none, TLS off where it must be on, or no `ca`.
pub fn build(system: &SystemName, settings: Settings, base: &Path) -> Result<Arc<dyn Connector>, Fault> {
    let what = format!("postgres {system}");
    let places = address::servers(&what, &settings.hosts, PORT, settings.tls, settings.ca.as_deref())?;
    Ok(Arc::new(Postgres { system: system.clone(), settings, base: base.to_path_buf(), places }))
}

struct Postgres {
    system: SystemName,
    settings: Settings,
    base: PathBuf,
    /// As written in `hosts`: host and port.
    places: BTreeMap<String, (String, u16)>,
}

#[async_trait]
impl Connector for Postgres {
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
        database::plan(account, leaver, action, &[DoorKind::Session])
    }

    fn shows_logins(&self) -> bool {
        true
    }

    async fn open(&self, place: &Place, cx: &Cx) -> Result<Box<dyn Link>, Fault> {
        let what = format!("postgres {}: cannot log in as {:?} at {}", self.system, self.settings.user, place.address);
        let (host, port) = self.places.get(&place.address).cloned().ok_or_else(|| database::no_host(&what))?;
        let tls = database::tls(self.settings.tls, self.settings.ca.as_ref(), &self.base, &what)?;
        let password = secret::resolve(&self.settings.password, &self.base).await?;
        let control = Control::resolve(self.settings.control.as_ref(), &self.base).await?;
        let server = Server { host, port, database: self.settings.database.clone(), tls };
        let session = Session::new(server, &self.settings.user, password, cx.timeout);
        let baseline = cx.baseline.clone().and_then(|seen| serde_json::from_value(seen).ok());
        let link = PgLink::open(self.system.clone(), place.clone(), session, control, baseline).await;
        Ok(Box::new(link.map_err(|failure| failure.into_fault(what))?))
    }
}

impl Postgres {
    fn is_ours(&self, role: &str) -> bool {
        role == self.settings.user || self.settings.control.as_ref().is_some_and(|c| c.user == role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_honoured_are_refused() {
        let build_of = |yaml: &str| {
            let settings: Settings = serde_yaml::from_str(yaml).unwrap();
            build(&SystemName("billing".into()), settings, Path::new(".")).map(|_| ()).unwrap_err().to_string()
        };
        let login = "user: offboard\npassword: { file: p }\n";
        assert!(build_of(&format!("{login}hosts: []")).contains("hosts is empty"));
        assert!(build_of(&format!("{login}hosts: [db1.example.com]")).contains("ca is missing"));
        assert!(build_of(&format!("{login}hosts: [db1.example.com]\ntls: off")).contains("not a loopback address"));
        assert!(build_of(&format!("{login}hosts: [\"127.0.0.1\", \"127.0.0.1\"]\nca: ca.pem")).contains("twice"));
        assert!(serde_yaml::from_str::<Settings>(&format!("{login}hosts: [a]\nsslmode: disable")).is_err());
    }
}
